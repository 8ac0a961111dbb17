"""Other people's datasets as they lie on disk: robomimic's HDF5 and the zarr of DP3 and Diffusion Policy, read lazily.

What becomes of them under a contract is convert.py's job.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.data.errors import DatasetError


@dataclass(frozen=True)
class RawEpisode:
    """One episode: key -> something to slice along time (T, ...). offset: its first step in arrays that hold all.

    steps: of the actions; success: as the file says, None if it does not.
    """

    name: str
    arrays: dict[str, Any]
    action: Any
    offset: int
    steps: int
    success: bool | None

    def read(self, array: Any, start: int, stop: int) -> np.ndarray:
        """Steps start .. stop - 1 of one of the arrays, from disk."""
        return np.asarray(array[self.offset + start : self.offset + stop])

    def length(self, array: Any) -> int:
        """How many steps of the episode the array has, at most those of the actions."""
        return max(0, min(self.steps, int(array.shape[0]) - self.offset))


class Source:
    """An open file with `names` of episodes; `episode(name)` raises DatasetError for one that cannot be used.

    finished: its arrays are frames as the contract makes them already, under the observations' names.
    """

    finished = False

    def __init__(self, path: Path, names: list[str], episode: Callable[[str], RawEpisode], close: Callable[[], None]):
        self.path, self.names, self.episode, self.close = path, names, episode, close

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_robomimic(path: Path) -> Source:
    """robomimic's layout: data/demo_0 with `actions` and a group `obs`; images are under it like the rest.

    Raises DatasetError when the file cannot be read, and where h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise DatasetError(f"'{path}' needs h5py ({error}): pip install -c constraints.txt -e '.[datasets]'") from error
    if not path.is_file():
        raise DatasetError(f"'{path}' does not exist; give robomimic's .hdf5 file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"'{path}' is no HDF5 file that can be read ({error}); fetch it again") from error
    found = file.get("data")
    if not isinstance(found, h5py.Group) or not len(found):
        file.close()
        raise DatasetError(f"'{path}' has no group 'data' with episodes; expected robomimic's data/demo_0/…")
    group = found

    def episode(name: str) -> RawEpisode:
        demo = group[name]
        lacking = [key for key in ("actions", "obs") if key not in demo]
        if lacking:
            raise DatasetError(f"'{path}', episode '{name}': lacks {lacking}; it has {sorted(demo)}")
        success = bool(np.max(demo["rewards"][:]) > 0) if "rewards" in demo and demo["rewards"].shape[0] else None
        return RawEpisode(name, dict(demo["obs"].items()), demo["actions"], 0, int(demo["actions"].shape[0]), success)

    return Source(path, sorted(group, key=_numbers), episode, file.close)


def open_zarr(path: Path) -> Source:
    """DP3's and Diffusion Policy's layout: data/{point_cloud, state, action, img} over all episodes, meta/episode_ends.

    A folder, or a .zip of one. Raises DatasetError when it cannot be read.
    """
    import zarr

    if not path.exists():
        raise DatasetError(f"'{path}' does not exist; give the .zarr folder, or its .zip")
    try:
        store: Any = zarr.storage.ZipStore(str(path), mode="r") if path.suffix == ".zip" else str(path)
        root: Any = zarr.open_group(store, mode="r")
        arrays = dict(root["data"].arrays())
        ends = np.asarray(root["meta"]["episode_ends"][:]).astype(np.int64)
    # zarr 2 and 3 raise different errors for what is missing or broken
    except Exception as error:
        raise DatasetError(
            f"'{path}' is no such zarr ({type(error).__name__}: {error}); expected data/… and meta/episode_ends"
        ) from error
    action = arrays.pop("action", None)
    if action is None:
        raise DatasetError(f"'{path}' has no data/action; it has {sorted(arrays)}")
    if not ends.size or ends[0] < 1 or (np.diff(ends) < 1).any() or ends[-1] > action.shape[0]:
        raise DatasetError(
            f"'{path}': meta/episode_ends must increase from 1 to the {action.shape[0]} steps of data/action; "
            f"it is {ends[:5].tolist()} … {ends[-1:].tolist()}"
        )
    starts = np.concatenate([[0], ends[:-1]])

    def episode(name: str) -> RawEpisode:
        index = int(name.rpartition("_")[2])
        return RawEpisode(name, arrays, action, int(starts[index]), int(ends[index] - starts[index]), None)

    return Source(path, [f"episode_{i}" for i in range(ends.size)], episode, lambda: None)


def _numbers(name: str) -> list[int | str]:
    """demo_10 after demo_9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
