"""A LeRobotDataset v3.0 as a source of episodes, ours or other people's, for difftop_ros.data.episodes.convert."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.data.episodes.lerobot import layout
from difftop_ros.data.episodes.lerobot.video import VideoReader
from difftop_ros.data.episodes.sources import RawEpisode, Source
from difftop_ros.data.errors import DatasetError


def contract_of(root: Path) -> Contract | None:
    """The contract of a dataset that `export` wrote; None for others'."""
    file = root / layout.OURS
    return parse_contract(json.loads(file.read_text())["contract"], str(file)) if file.is_file() else None


def open_lerobot(path: Path) -> Source:
    """Episodes with what LeRobot calls features as arrays, each also under its last word ('front' for a picture).

    Those that `export` wrote have our names, and frames that need no further work. Raises DatasetError for a folder
    that is no v3 dataset, or lacks a file.
    """
    info, pa = layout.read_info(path), layout.arrow()
    rows = [row for file in sorted(path.glob("meta/episodes/*/*.parquet")) for row in _rows(pa, file)]
    if not rows:
        raise DatasetError(f"'{path}' has no meta/episodes; it is not complete: fetch it again")
    rows.sort(key=lambda row: row["episode_index"])
    ours = path / layout.OURS
    names = json.loads(ours.read_text())["names"] if ours.is_file() else {}
    files = _Files(path, info)

    def episode(name: str) -> RawEpisode:
        row = rows[int(name.rpartition("_")[2])]
        arrays: dict[str, Any] = {}
        for feature, about in info["features"].items():
            if feature in layout.DEFAULTS or feature == layout.ACTION:
                continue
            array = _Pictures(files, row, feature) if about["dtype"] == "video" else _Numbers(files, row, feature)
            arrays[feature] = arrays[feature.rpartition(".")[2]] = array
        arrays |= {key: arrays[feature] for key, feature in names.items()}
        action = _Numbers(files, row, layout.ACTION)
        return RawEpisode(name, arrays, action, 0, int(row["length"]), row.get("difftop/success"))

    source = Source(path, [f"episode_{i}" for i in range(len(rows))], episode, files.close)
    source.finished = bool(names)
    return source


def _rows(pa: Any, file: Path) -> list[dict[str, Any]]:
    """Rows of a file of episodes, without their statistics. Raises DatasetError."""
    try:
        table = pa.parquet.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"'{file}' cannot be read ({error}); fetch it again") from error
    return table.select([n for n in table.column_names if not n.startswith("stats/")]).to_pylist()


class _Files:
    """The data set's large files, the last one of each kind kept."""

    def __init__(self, root: Path, info: dict[str, Any]) -> None:
        self.root, self.info, self.fps = root, info, float(info["fps"])
        self.table = lru_cache(maxsize=2)(self._table)
        self._videos: dict[str, tuple[Path, VideoReader]] = {}

    def _table(self, chunk: int, file: int) -> Any:
        pa = layout.arrow()
        path = self.root / self.info["data_path"].format(chunk_index=chunk, file_index=file)
        try:
            return pa.parquet.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"'{path}' cannot be read ({error}); fetch it again") from error

    def video(self, row: dict[str, Any], feature: str) -> VideoReader:
        place = {k: row[f"videos/{feature}/{k}"] for k in ("chunk_index", "file_index")}
        path = self.root / self.info["video_path"].format(video_key=feature, **place)
        if not path.is_file():
            raise DatasetError(f"'{path}' is missing; fetch it again")
        known = self._videos.get(feature)
        if known is None or known[0] != path:
            if known is not None:
                known[1].close()
            self._videos[feature] = known = (path, VideoReader(path))
        return known[1]

    def close(self) -> None:
        for _, reader in self._videos.values():
            reader.close()


class _Numbers:
    """A feature's numbers of one episode (T, *shape), read when sliced."""

    def __init__(self, files: _Files, row: dict[str, Any], feature: str) -> None:
        about = files.info["features"][feature]
        self._files, self._row, self._feature, self._dtype = files, row, feature, about["dtype"]
        self.shape = (int(row["length"]), *(int(size) for size in about["shape"]))

    def __getitem__(self, part: slice) -> np.ndarray:
        row = self._row
        table = self._files.table(row["data/chunk_index"], row["data/file_index"])
        begin = row["dataset_from_index"] - int(table.column("index")[0].as_py())
        start, stop, _ = part.indices(self.shape[0])
        return layout.values(table.slice(begin + start, stop - start), self._feature, self.shape[1:], self._dtype)


class _Pictures:
    """A camera's pictures of one episode, uint8 (T, h, w, 3), decoded when sliced."""

    def __init__(self, files: _Files, row: dict[str, Any], feature: str) -> None:
        shape = files.info["features"][feature]["shape"]
        self._files, self._row, self._feature = files, row, feature
        self.shape = (int(row["length"]), *((shape[1], shape[2], shape[0]) if shape[0] == 3 else shape))

    def __getitem__(self, part: slice) -> np.ndarray:
        first = round(self._row[f"videos/{self._feature}/from_timestamp"] * self._files.fps)
        start, stop, _ = part.indices(self.shape[0])
        reader = self._files.video(self._row, self._feature)
        return np.stack(list(reader.frames(first + start, first + stop)))
