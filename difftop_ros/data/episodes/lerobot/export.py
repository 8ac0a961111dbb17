"""A dataset of ours as a LeRobotDataset v3.0: `difftop bag export --lerobot`. The way back: read.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.data.episodes.dataset import Episode, EpisodeDataset
from difftop_ros.data.episodes.lerobot import layout
from difftop_ros.data.episodes.lerobot.video import CODEC, VideoWriter
from difftop_ros.data.episodes.store import ACTION as OUR_ACTION
from difftop_ros.data.errors import DatasetError
from difftop_ros.files import whole, write_json, write_whole

FILE_STEPS = 20_000  # of a file of data or video, at least
_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_PICTURES_LOOKED_AT = 100  # of an episode, for statistics


def feature_names(contract: Contract) -> dict[str, str]:
    """Observation -> LeRobot's name: the first vector is the state, pictures are images, others keep their keys."""
    names, state = {}, layout.STATE
    for key, obs in contract.observations.items():
        if obs.modality == "image":
            names[key] = f"{layout.PICTURES}{key}"
        elif obs.modality == "vector" and state:
            names[key], state = state, ""
        else:
            names[key] = f"observation.{key}"
    return names


def export(dataset: EpisodeDataset, out: Path, task: str) -> dict[str, Any]:
    """Writes `dataset` to the folder `out`; `task`: what is done, in words. Returns meta/info.json's content.

    Raises DatasetError when `out` is there, the rate is no whole number, or a package is missing.
    """
    fps = round(dataset.contract.rate_hz)
    if fps != dataset.contract.rate_hz:
        raise DatasetError(
            f"rate_hz is {dataset.contract.rate_hz:g}; LeRobot counts whole frames a second: ingest at another rate"
        )
    if out.exists():
        raise DatasetError(f"'{out}' is there already; give another folder")
    layout.arrow()
    with whole(out) as beside:
        beside.mkdir(parents=True)
        return _Export(dataset, beside, task, fps).run()


class _Export:
    def __init__(self, dataset: EpisodeDataset, root: Path, task: str, fps: int) -> None:
        self.dataset, self.root, self.task, self.fps = dataset, root, task, fps
        self.names = feature_names(dataset.contract)
        self.pictures = {k: n for k, n in self.names.items() if n.startswith(layout.PICTURES)}
        self.numbers = {k: n for k, n in {**self.names, OUR_ACTION: layout.ACTION}.items() if k not in self.pictures}
        self._file, self._in_file, self._total = 0, 0, 0
        self._tables: list[Any] = []
        self._rows: list[dict[str, Any]] = []
        self._stats: list[dict[str, dict[str, list[Any]]]] = []
        self._videos: dict[str, VideoWriter] = {}

    def run(self) -> dict[str, Any]:
        for number, episode in enumerate(self.dataset):
            self._episode(number, episode)
            if self._in_file >= FILE_STEPS:
                self._end_file()
        self._end_file()
        pa = layout.arrow()
        path = self.root / layout.EPISODES.format(chunk_index=0, file_index=0)
        path.parent.mkdir(parents=True)
        pa.parquet.write_table(pa.Table.from_pylist(self._rows), path)
        layout.write_tasks(self.root / layout.TASKS, [self.task])
        write_json(self.root / layout.STATS, _together(self._stats))
        info = self._info()
        write_json(self.root / layout.INFO, info)
        contract = self.dataset.contract
        write_json(self.root / layout.OURS, {"contract": contract.to_yaml(), "names": self.names})
        write_whole(self.root / "README.md", _card(info, contract, self.task))
        return info

    @property
    def _where(self) -> dict[str, int]:
        return dict(zip(("chunk_index", "file_index"), divmod(self._file, layout.CHUNK_FILES), strict=True))

    def _episode(self, number: int, episode: Episode) -> None:
        pa, steps = layout.arrow(), episode.steps
        stats: dict[str, dict[str, list[Any]]] = {}
        columns = {}
        for key, name in self.numbers.items():
            read = np.asarray(episode[key][:])
            columns[name], stats[name] = layout.column(read), _statistics(read)
        row = {
            "episode_index": number, "tasks": [self.task], "length": steps, "dataset_from_index": self._total,
            "dataset_to_index": self._total + steps, "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
            **{f"data/{k}": v for k, v in self._where.items()},
        }  # fmt: skip
        for key, name in self.pictures.items():
            stats[name] = self._film(key, name, episode)
            row |= {f"videos/{name}/{k}": v for k, v in self._where.items()}
            row[f"videos/{name}/from_timestamp"] = self._in_file / self.fps
            row[f"videos/{name}/to_timestamp"] = (self._in_file + steps) / self.fps
        index = np.arange(steps)
        columns |= {
            "timestamp": pa.array((index / self.fps).astype(np.float32)), "frame_index": pa.array(index),
            "episode_index": pa.array(np.full(steps, number)), "index": pa.array(self._total + index),
            "task_index": pa.array(np.zeros(steps, np.int64)),
        }  # fmt: skip
        self._tables.append(pa.table(columns))
        row |= {f"stats/{name}/{k}": v for name, found in stats.items() for k, v in found.items()}
        row |= {f"difftop/{k}": episode.attributes.get(k) for k in ("success", "seed", "bag")}
        self._rows.append(row)
        self._stats.append(stats)
        self._total, self._in_file = self._total + steps, self._in_file + steps

    def _film(self, key: str, name: str, episode: Episode) -> dict[str, list[Any]]:
        height, width, _ = self.dataset.spec[key][0]
        if key not in self._videos:
            path = self.root / layout.VIDEO.format(video_key=name, **self._where)
            self._videos[key] = VideoWriter(path, height, width, self.fps)
        every = max(1, episode.steps // _PICTURES_LOOKED_AT)
        seen = []
        for start in range(0, episode.steps, 64):
            for i, frame in enumerate(np.asarray(episode[key][start : start + 64]), start):
                self._videos[key].append(frame)
                if i % every == 0:
                    seen.append(frame.reshape(-1, 3))
        found = _statistics(np.concatenate(seen).astype(np.float64) / 255)
        found["count"] = [len(seen)]
        return {k: v if k == "count" else [[[x]] for x in v] for k, v in found.items()}

    def _end_file(self) -> None:
        if not self._tables:
            return
        pa = layout.arrow()
        path = self.root / layout.DATA.format(**self._where)
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.parquet.ParquetWriter(path, self._tables[0].schema) as writer:
            for table in self._tables:  # a row group for each episode
                writer.write_table(table)
        for video in self._videos.values():
            video.close()
        self._tables, self._videos, self._in_file = [], {}, 0
        self._file += 1

    def _info(self) -> dict[str, Any]:
        contract = self.dataset.contract
        features: dict[str, Any] = {}
        for key, name in self.numbers.items():
            shape, dtype = self.dataset.spec[key]
            names = contract.command.joint_names if key == OUR_ACTION else _names(contract, key)
            features[name] = {"dtype": str(dtype), "shape": list(shape), "names": names}
        for key, name in self.pictures.items():
            height, width, _ = self.dataset.spec[key][0]
            features[name] = {
                "dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"],
                "info": {
                    "video.height": height, "video.width": width, "video.channels": 3, "video.fps": self.fps,
                    "video.codec": CODEC.removeprefix("lib").replace("x264", "h264"), "video.is_depth_map": False,
                    "video.pix_fmt": "yuv444p" if height % 2 or width % 2 else "yuv420p", "has_audio": False,
                },
            }  # fmt: skip
        features |= {k: {"dtype": v, "shape": [1], "names": None} for k, v in layout.DEFAULTS.items()}
        return {
            "codebase_version": layout.VERSION, "robot_type": contract.name, "total_episodes": len(self._rows),
            "total_frames": self._total, "total_tasks": 1, "chunks_size": layout.CHUNK_FILES,
            "data_files_size_in_mb": 100, "video_files_size_in_mb": 200, "fps": self.fps,
            "splits": {"train": f"0:{len(self._rows)}"}, "data_path": layout.DATA,
            "video_path": layout.VIDEO if self.pictures else None, "features": features,
        }  # fmt: skip


def _names(contract: Contract, key: str) -> list[str] | None:
    obs = contract.observations[key]
    fields, joints = getattr(obs, "fields", ()), getattr(obs, "joints", ())
    return [f"{joint}.{field}" for field in fields for joint in joints] or None


def _statistics(read: np.ndarray) -> dict[str, list[Any]]:
    """min, max, mean, std, quantiles and count over the first axis of (T, ...)."""
    plain = read.astype(np.float64)
    found = {"min": plain.min(0), "max": plain.max(0), "mean": plain.mean(0), "std": plain.std(0)}
    found |= {name: np.quantile(plain, share, axis=0) for name, share in _QUANTILES.items()}
    return {**{k: np.atleast_1d(v).tolist() for k, v in found.items()}, "count": [len(read)]}


def _together(stats: list[dict[str, dict[str, list[Any]]]]) -> dict[str, Any]:
    """Statistics of all episodes out of each one's; quantiles are their means, weighted by steps."""
    found: dict[str, Any] = {}
    for name in stats[0]:
        parts = [{k: np.array(v) for k, v in episode[name].items()} for episode in stats]
        weights = np.array([float(part["count"][0]) for part in parts])
        share = (weights / weights.sum()).reshape(-1, *[1] * parts[0]["mean"].ndim)
        mean = (share * np.stack([part["mean"] for part in parts])).sum(0)
        spread = np.stack([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts])
        merged = {
            "min": np.min([part["min"] for part in parts], 0), "max": np.max([part["max"] for part in parts], 0),
            "mean": mean, "std": np.sqrt((share * spread).sum(0)), "count": np.array([int(weights.sum())]),
        }  # fmt: skip
        merged |= {q: (share * np.stack([part[q] for part in parts])).sum(0) for q in _QUANTILES}
        found[name] = {k: v.tolist() for k, v in merged.items()}
    return found


def _card(info: dict[str, Any], contract: Contract, task: str) -> str:
    """README.md as a hub takes it."""
    head = "---\ntask_categories:\n- robotics\ntags:\n- LeRobot\n- difftop_ros\nconfigs:\n- config_name: default\n"
    rows = "\n".join(f"| `{k}` | {v['dtype']} | {v['shape']} |" for k, v in info["features"].items())
    return (
        f"{head}  data_files: data/*/*.parquet\n---\n\n# {contract.name}: {task}\n\n{info['total_episodes']} episodes, "
        f"{info['total_frames']} steps at {info['fps']} Hz, in LeRobot's layout {layout.VERSION}, by difftop_ros. "
        f"The robot contract is in `{layout.OURS}`.\n\n| feature | type | shape |\n|---|---|---|\n{rows}\n"
    )
