"""One episode on disk: a folder with a zarr array per observation, the actions, and episode.json; a dataset's head.

Written beside its final place and renamed when whole, so that a folder that is there is complete. Which episodes make a
dataset is dataset.py's job.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from difftop_ros.contract import Contract
from difftop_ros.data.errors import DatasetError
from difftop_ros.files import write_json

BLOCK = 16  # steps in one zarr chunk: a window of history and horizon touches one or two
ACTION = "action"
EPISODE_FILE = "episode.json"
HEAD = "dataset.json"
# Of what is on disk and of the rules by which bags become it: one more whenever a bag would give other numbers.
FORMAT = 2


def read_json(path: Path) -> dict[str, Any]:
    """The object in one of a dataset's JSON files. Raises DatasetError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"'{path.parent}' is not a complete dataset: {path.name} is missing; ingest bags") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"'{path}' cannot be read ({error}); delete the dataset and ingest again") from None
    if not isinstance(content, dict):
        raise DatasetError(f"'{path}' holds {content!r:.60}, not an object; delete the dataset and ingest again")
    return content


def read_head(folder: Path) -> dict[str, Any]:
    """dataset.json in `folder`. Raises DatasetError, also for a dataset that was made by other rules."""
    head = read_json(folder / HEAD)
    if not isinstance(head.get("contract", ""), str):
        raise DatasetError(f"'{folder / HEAD}' holds no contract; delete the dataset and ingest again")
    if head.get("format") != FORMAT:
        raise DatasetError(
            f"'{folder}' was made by other rules (format {head.get('format')}, now {FORMAT}): the same bags give other "
            "numbers today; delete it, and the same command makes it anew"
        )
    return head


def prepare(out: Path, contract: Contract) -> None:
    """The folder of a dataset under `contract`, new or known; DatasetError when it holds something else."""
    if (out / HEAD).is_file():
        if read_head(out).get("data_sha256") != contract.data_sha256():
            raise DatasetError(
                f"'{out}' holds a dataset made for another contract (rates, clock, command or observations differ); "
                "give another folder, or delete it"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise DatasetError(f"'{out}' is not empty and holds no dataset; give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, "data_sha256": contract.data_sha256(), "contract": contract.to_yaml()}
    write_json(out / HEAD, content)


class EpisodeWriter:
    """Appends steps to a new episode folder; memory holds at most BLOCK steps."""

    def __init__(self, folder: Path, spec: dict[str, tuple[tuple[int, ...], np.dtype]], capacity: int) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.steps = 0
        self._capacity = capacity
        self._pending: dict[str, list[np.ndarray]] = {key: [] for key in spec}
        self._arrays = {
            key: zarr.open_array(
                str(folder / key), mode="w", shape=(capacity, *shape), chunks=(BLOCK, *shape), dtype=dtype
            )
            for key, (shape, dtype) in spec.items()
        }

    def append(self, frames: dict[str, np.ndarray]) -> None:
        """Add one step: key -> frame of the shape and dtype announced."""
        for key, frame in frames.items():
            self._pending[key].append(frame)
        self.steps += 1
        if self.steps % BLOCK == 0:
            self._flush()

    def _flush(self) -> None:
        for key, frames in self._pending.items():
            if frames:
                self._arrays[key][self.steps - len(frames) : self.steps] = np.stack(frames)
                frames.clear()

    def close(self, attributes: dict[str, Any]) -> None:
        """Write what is pending and episode.json; the arrays are cut to the steps appended."""
        self._flush()
        for array in self._arrays.values():
            if self.steps < self._capacity:
                array.resize((self.steps, *array.shape[1:]))
        write_json(self.folder / EPISODE_FILE, {**attributes, "steps": self.steps})


class StoredArray:
    """An array (T, ...) of an episode; slicing reads only the blocks touched. Raises DatasetError for broken ones."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        try:
            self._array = zarr.open_array(str(folder / key), mode="r")
            self.shape, self.dtype = tuple(self._array.shape), np.dtype(self._array.dtype)
        # zarr 2 and 3 raise different errors for a missing or broken array; all mean the same here.
        except Exception as error:
            raise self._broken(error) from error

    def __getitem__(self, index: Any) -> np.ndarray:
        try:
            return np.asarray(self._array[index])
        except IndexError:
            raise
        except Exception as error:  # of the decompressor, or of a file that has gone
            raise self._broken(error) from error

    def __len__(self) -> int:
        return int(self.shape[0])

    def _broken(self, error: Exception) -> DatasetError:
        return DatasetError(
            f"episode '{self._folder}' has no readable '{self._key}' ({' '.join(str(error).split())[:200]}); delete "
            f"'{self._folder.parent}', and the same command ingests it again"
        )


class StoredEpisode:
    """A complete episode folder, read lazily. attributes: success, bag, stamps of first and last step, …"""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.attributes = read_json(folder / EPISODE_FILE)
        steps, success = self.attributes.get("steps"), self.attributes.setdefault("success", None)
        if not isinstance(steps, int) or steps < 1 or success not in (True, False, None):
            raise DatasetError(
                f"'{folder / EPISODE_FILE}' says steps {steps!r:.60} and success {success!r:.60}; delete "
                f"'{folder.parent}', and the same command ingests it again"
            )
        self.steps = steps
        self._arrays: dict[str, StoredArray] = {}

    def array(self, key: str) -> StoredArray:
        """The array of `key`. Raises DatasetError if it cannot be opened."""
        if key not in self._arrays:
            self._arrays[key] = StoredArray(self.folder, key)
        return self._arrays[key]
