"""Other people's demonstrations to a dataset under a contract, as ingest makes it from bags. Their files: sources.py.

Frames go through the observation pipeline's own crop, resize and sampling. What cannot be used of an episode is left
out, counted and named; memory holds some steps at a time.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.contract import CloudObs, Contract, ImageObs, Observation
from difftop_ros.data.episodes.lerobot.read import open_lerobot
from difftop_ros.data.episodes.report import BagResult, IngestReport
from difftop_ros.data.episodes.sources import RawEpisode, Source, open_robomimic, open_zarr
from difftop_ros.data.episodes.store import ACTION, EpisodeWriter, prepare
from difftop_ros.data.errors import DatasetError
from difftop_ros.files import whole
from difftop_ros.messages.clouds import process_cloud
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.images import process_image
from difftop_ros.messages.pipeline import ObservationPipeline
from difftop_ros.messages.points import Points

# What the files call things, where the user does not say: by modality, the first that is there.
USUAL = {
    "vector": ("state", "agent_pos", "robot0_joint_pos"),
    "image": ("img", "image", "agentview_image"),
    "cloud": ("point_cloud",),
}
SOURCES: dict[str, Callable[[Path], Source]] = {
    "robomimic": open_robomimic, "dp3": open_zarr, "lerobot": open_lerobot,
}  # fmt: skip
READ = 64  # steps read from the file at a time
Progress = Callable[[int, int, BagResult], None]


def convert(
    file: str | Path,
    kind: str,
    contract: Contract,
    out_dir: str | Path,
    *,
    keys: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Make (or bring up to date) the dataset in `out_dir` from a file of `kind` 'robomimic', 'dp3' or 'lerobot'.

    keys: observation -> key in the file, several joined by '+' along the last axis; what is left out is found by name.
    An episode converted before is taken from the cache. Raises DatasetError when the file cannot be read, an
    observation has no key, or no episode could be used.
    """
    if kind not in SOURCES:
        raise DatasetError(f"datasets of kind '{kind}' are unknown; choose one of {sorted(SOURCES)}")
    unknown = sorted(set(keys or {}) - set(contract.observations))
    if unknown:
        raise DatasetError(
            f"keys are given for {unknown}; the contract's observations are {list(contract.observations)}"
        )
    began, path, out = time.monotonic(), Path(file).absolute(), Path(out_dir)
    with SOURCES[kind](path) as source:
        chosen = _choose_keys(source, contract, dict(keys or {}))
        prepare(out, contract)
        report = IngestReport(str(out))
        mark = _fingerprint(path, chosen)
        first = 0
        for done, name in enumerate(source.names, 1):
            result = _convert_cached(source, name, contract, chosen, out, mark, first)
            first += max(result.steps, 1) + result.gaps + result.trailing
            report.bags.append(result)
            if progress:
                progress(done, len(source.names), result)
    report.seconds = time.monotonic() - began
    report.save(out / "report.json")
    if not report.episodes:
        raise DatasetError(f"none of the {len(report.bags)} episodes could be used: {report.bags[0].reason}")
    return report


def _choose_keys(source: Source, contract: Contract, given: dict[str, str]) -> dict[str, list[str]]:
    """For each observation its keys in the file, all there in the first readable episode."""
    episode = _first_readable(source)
    chosen = {}
    for name, obs in contract.observations.items():
        usual = USUAL[obs.modality]
        words = (
            given[name].split("+") if name in given else [next((k for k in (name, *usual) if k in episode.arrays), "")]
        )
        lacking = [word for word in words if word not in episode.arrays]
        if lacking:
            raise DatasetError(
                f"'{source.path}', episode '{episode.name}' has no {lacking if lacking != [''] else list(usual)} for "
                f"observation '{name}'; it has {sorted(episode.arrays)}: name one by --key {name}=…"
            )
        chosen[name] = words
    return chosen


def _first_readable(source: Source) -> RawEpisode:
    reason: DatasetError | None = None
    for name in source.names:
        try:
            return source.episode(name)
        except DatasetError as error:
            reason = reason or error
    raise reason or DatasetError(f"'{source.path}' has no episodes")


def _convert_cached(
    source: Source, name: str, contract: Contract, keys: dict[str, list[str]], out: Path, mark: str, first: int
) -> BagResult:
    folder = out / "bags" / f"{source.path.stem}-{name}-{mark}"
    if known := BagResult.cached(folder):
        return known
    result = BagResult(f"{source.path}:{name}")
    try:
        with whole(folder) as beside:
            _Conversion(source, name, contract, keys, beside, result, first).run()
            result.save(beside, folder)
    except DatasetError as error:
        return BagResult(result.bag, "skipped", str(error), notes=result.notes)
    return result


class _Conversion:
    """One episode to one or more episode folders; steps with numbers that are not finite split it."""

    def __init__(
        self, source: Source, name: str, contract: Contract, keys: dict[str, list[str]], folder: Path,
        result: BagResult, first: int,
    ) -> None:  # fmt: skip
        self.episode, self.contract, self.keys = source.episode(name), contract, keys
        self.folder, self.result, self._finished = folder, result, source.finished
        self.where = f"'{source.path}', episode '{name}'"
        self._period_ns, self._first = 1e9 / contract.rate_hz, first
        self._spec = {
            **ObservationPipeline(contract).spec,
            ACTION: ((len(contract.command.joints),), np.dtype(np.float64)),
        }
        self._writer: EpisodeWriter | None = None
        self._begin = 0

    def run(self) -> None:
        """Raises DatasetError for an episode that gives no step."""
        episode, result = self.episode, self.result
        width = episode.action.shape[1:]
        names = self.contract.command.joint_names
        if tuple(width) != (len(names),):
            raise DatasetError(
                f"{self.where}, key 'action' has the shape {tuple(width)} per step; the contract commands {names}"
            )
        lacking = sorted({word for words in self.keys.values() for word in words} - set(episode.arrays))
        if lacking:
            raise DatasetError(f"{self.where} has no {lacking}; it has {sorted(episode.arrays)}")
        steps = min(episode.length(episode.arrays[k]) for words in self.keys.values() for k in words)
        result.trailing = episode.steps - steps
        result.success = True if episode.success is None else episode.success
        for start in range(0, steps, READ):
            self._block(start, min(start + READ, steps))
        self._end()
        if not result.steps:
            raise DatasetError(result.notes[0] if result.notes else f"{self.where} has no steps")

    def _block(self, start: int, stop: int) -> None:
        episode = self.episode
        actions = episode.read(episode.action, start, stop).astype(np.float64)
        raw = {
            name: [episode.read(episode.arrays[word], start, stop) for word in words]
            for name, words in self.keys.items()
        }
        for step in range(start, stop):
            frames, wrong = self._frames({n: [p[step - start] for p in parts] for n, parts in raw.items()}, step)
            if not np.isfinite(actions[step - start]).all():
                wrong = f"{self.where}, step {step}: 'action' has numbers that are not finite"
            if wrong:
                self._leave_out(wrong)
                continue
            if self._writer is None:
                folder = self.folder / f"part_{len(list(self.folder.glob('part_*'))):03d}"
                self._writer, self._begin = EpisodeWriter(folder, self._spec, episode.steps - step), step
            self._writer.append({**frames, ACTION: actions[step - start]})

    def _leave_out(self, why: str) -> None:
        if not self.result.gaps:
            self.result.notes.append(f"{why}; such steps are left out and the episode is split there")
        self.result.gaps += 1
        self._end()

    def _end(self) -> None:
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        self.result.steps += writer.steps
        stamps = [round((self._first + self._begin + i) * self._period_ns) for i in (0, writer.steps - 1)]
        writer.close({
            "bag": self.result.bag, "success": self.result.success, "seed": None, "task": None,
            "first_ns": stamps[0], "last_ns": stamps[1],
        })  # fmt: skip

    def _frames(self, raw: dict[str, list[np.ndarray]], step: int) -> tuple[dict[str, np.ndarray], str]:
        """A step's frames as the contract wants them, and '' or why they are of no use. DatasetError: a wrong shape."""
        frames, wrong = {}, ""
        for name, parts in raw.items():
            obs = self.contract.observations[name]
            words = "+".join(self.keys[name])
            try:
                made = parts[0] if self._finished else MAKERS.get(obs.kind, _numbers)(parts, obs)
                frames[name] = made.astype(obs.dtype, copy=False)
            except ObservationError as error:
                return {}, f"{self.where}, step {step}, key '{words}': {error}"
            expected = self._spec[name][0]
            if frames[name].shape != expected:
                raise DatasetError(
                    f"{self.where}, key '{words}' gives {frames[name].shape} for observation '{name}'; the contract "
                    f"expects {expected}"
                )
            if not np.isfinite(frames[name]).all():
                wrong = f"{self.where}, step {step}: '{words}' has numbers that are not finite"
        return frames, wrong


def _numbers(parts: list[np.ndarray], obs: Observation) -> np.ndarray:
    """The numbers of all parts, one after the other."""
    return np.concatenate([np.ravel(p) for p in parts]).astype(obs.dtype)


def _image(parts: list[np.ndarray], obs: ImageObs) -> np.ndarray:
    return process_image(_picture(parts[0]), obs)


def _picture(frame: np.ndarray) -> np.ndarray:
    """RGB uint8 (h, w, 3) of (h, w, 3) or (3, h, w), of bytes or of numbers 0..1. Raises ObservationError."""
    if frame.ndim == 3 and frame.shape[2] != 3 and frame.shape[0] == 3:
        frame = np.moveaxis(frame, 0, 2)
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise ObservationError(f"expected a picture (height, width, 3) or (3, height, width); it has {frame.shape}")
    if frame.dtype == np.uint8:
        return np.ascontiguousarray(frame)
    top = float(np.max(frame)) if frame.size else 0.0
    if not np.isfinite(frame).all() or frame.min() < 0 or top > 255:
        raise ObservationError(f"a picture's numbers lie in 0..1 or 0..255; these reach from {frame.min()} to {top}")
    return np.ascontiguousarray(np.rint(frame * (255.0 if top <= 1.0 else 1.0)).astype(np.uint8))


def _cloud(parts: list[np.ndarray], obs: CloudObs) -> np.ndarray:
    """The contract's cloud of points (n, 3) or, with colour 0..1 or 0..255, (n, 6) in the contract's frame."""
    frame = parts[0]
    if obs.relative_to is not None:
        raise ObservationError(
            f"a cloud relative to {obs.relative_to} is made of readings in bags; leave relative_to out for other data"
        )
    if frame.ndim != 2 or frame.shape[1] < (6 if obs.color else 3):
        raise ObservationError(f"expected points (n, {6 if obs.color else 3}); it has {frame.shape}")
    axes = [np.ascontiguousarray(frame[:, i], dtype=np.float32) for i in range(3)]
    colours = frame[:, 3:6].astype(np.float32) if obs.color else None
    if colours is not None and colours.size and colours.max() > 1.0:
        colours = colours / np.float32(255)
    reader = None if colours is None else lambda index: colours[index]
    return process_cloud(Points(axes[0], axes[1], axes[2], obs.frame, reader), obs)


# kind of observation -> what makes its frame from the file's arrays of one step; other kinds: their numbers as they are
MAKERS: dict[str, Callable[[list[np.ndarray], Any], np.ndarray]] = {
    "image": _image,
    "point_cloud": _cloud,
    "depth_cloud": _cloud,
}


def _fingerprint(path: Path, keys: dict[str, list[str]]) -> str:
    """Changes with the file, by name, size and time, and with the keys."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256(json.dumps(keys, sort_keys=True).encode())
    for file in files:
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]
