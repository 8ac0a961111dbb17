"""Bags to a dataset on disk: one episode per bag (more where it is split), synchronised by the contract.

Each bag is passed over twice: once for the stamps, once for the messages the grid uses, so that memory holds a few
messages at a time however long the bag. What a step's observation is, is decided by ObservationPipeline.observe, the
same as in the live node. Layout: DIR/dataset.json, DIR/report.json, DIR/bags/<name>-<fingerprint>/part_000/…
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.data.bags.reader import Bag, fingerprint, open_bag
from difftop_ros.data.episodes.grid import Grid, actions_at, build_grid, check_monotonic, newest_at
from difftop_ros.data.episodes.report import BagResult, IngestReport
from difftop_ros.data.episodes.store import ACTION, EpisodeWriter
from difftop_ros.data.errors import BagError, DatasetError
from difftop_ros.files import whole, write_json
from difftop_ros.messages.commands import command_to_array
from difftop_ros.messages.errors import ObservationError, StaleObservation
from difftop_ros.messages.pipeline import Observation, ObservationPipeline
from difftop_ros.messages.types import header_stamp

FORMAT = 1  # of what is on disk; a dataset of another format is made anew
BOOL = "std_msgs/msg/Bool"
Progress = Callable[[int, int, BagResult], None]


def ingest(
    bags: Iterable[str | Path], contract: Contract, out_dir: str | Path, *, progress: Progress | None = None
) -> IngestReport:
    """Make (or bring up to date) the dataset in `out_dir` from exactly these bags; see bags.find_bags for folders.

    A bag ingested before, unchanged, under the same contract is taken from the cache. A bag that cannot be used is
    skipped and its reason reported. progress(done, total, result) is called after each bag. Raises DatasetError when
    `out_dir` holds a dataset of another contract, and when no bag gave an episode.
    """
    started = time.monotonic()
    paths = [Path(bag) for bag in bags]
    if not paths:
        raise DatasetError("no bags were given; name at least one rosbag2 folder")
    out = Path(out_dir)
    prepare(out, contract)
    report = IngestReport(str(out))
    for done, path in enumerate(paths, 1):
        report.bags.append(_ingest_cached(path, contract, out))
        if progress:
            progress(done, len(paths), report.bags[-1])
    report.seconds = time.monotonic() - started
    report.save(out / "report.json")
    if not report.episodes:
        reasons = "\n".join(f"  {Path(bag.bag).name}: {bag.reason}" for bag in report.skipped)
        raise DatasetError(f"none of the {len(paths)} bags gave an episode:\n{reasons}")
    return report


def prepare(out: Path, contract: Contract) -> None:
    """The folder of a dataset under `contract`, new or known; DatasetError when it holds something else."""
    head = out / "dataset.json"
    if head.is_file():
        known = json.loads(head.read_text(encoding="utf-8"))
        if known.get("format") != FORMAT or known.get("data_sha256") != contract.data_sha256():
            raise DatasetError(
                f"'{out}' holds a dataset made for another contract (rates, clock, command or observations differ); "
                "give another folder, or delete it"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise DatasetError(f"'{out}' is not empty and holds no dataset; give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, "data_sha256": contract.data_sha256(), "contract": contract.to_yaml()}
    write_json(head, content)


def _ingest_cached(path: Path, contract: Contract, out: Path) -> BagResult:
    try:
        mark = fingerprint(path)
    except OSError as error:
        return BagResult(str(path), "skipped", f"bag '{path}' cannot be read: {error.strerror}")
    folder = out / "bags" / f"{path.name}-{mark[:12]}"
    if known := BagResult.cached(folder):
        known.bag = str(path)
        return known
    result = BagResult(str(path))
    try:
        with whole(folder) as beside:
            with open_bag(path) as bag:
                if bag.salvaged:
                    result.notes.append(bag.salvaged)
                _BagIngest(bag, contract, beside, result).run()
            result.save(beside, folder)
    except (BagError, ObservationError) as error:
        return BagResult(str(path), "skipped", str(error), notes=result.notes)
    return result


@dataclass
class _Stream:
    """Stamps of one topic: sorted, and for each the ordinal of its message in the order recorded."""

    stamps: np.ndarray
    ordinals: np.ndarray


class _BagIngest:
    """One bag to one or more episode folders below `folder`; fills in `result`."""

    def __init__(self, bag: Bag, contract: Contract, folder: Path, result: BagResult) -> None:
        self.bag, self.folder, self.result = bag, folder, result
        self.contract = contract.as_recorded(bag.topics)
        self.pipeline = ObservationPipeline(self.contract)
        self._good: dict[str, tuple[int, Any]] = {}
        self._bad: set[tuple[str, int]] = set()

    def run(self) -> None:
        """Raises BagError or ObservationError when the bag gives no step."""
        contract = self.contract
        self.bag.require({**self.pipeline.topics, contract.command.topic: contract.command.type})
        streams, command_stamps, commands, success = self._scan()
        limits = {obs.topic: int(obs.max_age_ms * 1e6) if obs.resample == "as_of" else None
                  for obs in contract.observations.values()}  # fmt: skip
        limits = {topic: limits.get(topic) for topic in streams}
        grid = build_grid(contract, {t: s.stamps for t, s in streams.items()}, limits, command_stamps)
        mark = self.bag.mark()
        self.result.success = success if mark.get("success") is None else bool(mark["success"])
        if self.result.success is None and mark.get("interrupted"):
            self.result.success = False
            self.result.notes.append("the recording was interrupted, so it counts as a failure")
        self.result.leading, self.result.trailing = grid.leading, grid.trailing
        actions = actions_at(contract, command_stamps, commands, grid.times)
        self._write(grid, streams, actions, mark)

    def _scan(self) -> tuple[dict[str, _Stream], np.ndarray, np.ndarray, bool | None]:
        """First pass: stamps of every stream, all commands (m, A) with their stamps, and the last success mark."""
        command = self.contract.command
        unstamped = self.contract.unstamped
        stamps: dict[str, list[int]] = {topic: [] for topic in [*self.pipeline.topics, command.topic]}
        actions: list[np.ndarray] = []
        success: bool | None = None
        for topic in stamps:
            if topic not in unstamped and self.bag.lacks_header(topic):
                raise BagError(
                    f"messages on '{topic}' ({self.bag.topics[topic].type}) have no header to take their time from; "
                    "let their kind of observation say header = False, or set the contract's clock to 'receive'"
                )
        marks = self.contract.episode.success_topic
        if marks and self.bag.topics.get(marks) and self.bag.topics[marks].type != BOOL:
            raise BagError(f"success topic '{marks}' has type {self.bag.topics[marks].type}; expected {BOOL}")
        for topic, received, raw in self.bag.messages({*stamps, *([marks] if marks else [])}):
            if topic == marks:
                success = bool(self.bag.deserialize(raw, topic).data)
                continue
            stamp = received if topic in unstamped else header_stamp(raw)
            # A JointTrajectory with a zero stamp means 'on arrival'.
            stamps[topic].append(stamp or received)
            if topic == command.topic:
                actions.append(self._command(self.bag.deserialize(raw, topic), len(actions)))
        streams = {}
        for topic, values in stamps.items():
            array = np.array(values, np.int64)
            check_monotonic(topic, array)
            order = np.argsort(array, kind="stable")
            streams[topic] = _Stream(array[order], order)
        commanded = streams.pop(command.topic)
        return streams, commanded.stamps, np.stack(actions)[commanded.ordinals], success

    def _command(self, message: Any, number: int) -> np.ndarray:
        """The action (A,), NaN for a message that is none: counted, and the steps it would have moved are left out."""
        try:
            return command_to_array(self.contract, message)
        except ObservationError as error:
            if ACTION not in self.result.undecodable:
                self.result.notes.append(f"command {number}: {error}; the steps of such commands are left out")
            self.result.undecodable[ACTION] = self.result.undecodable.get(ACTION, 0) + 1
            return np.full(len(self.contract.command.joints), np.nan)

    def _write(self, grid: Grid, streams: dict[str, _Stream], actions: np.ndarray, mark: dict[str, Any]) -> None:
        spec = {**self.pipeline.spec, ACTION: ((actions.shape[1],), np.dtype(np.float64))}
        writer: EpisodeWriter | None = None
        first = 0
        for step, latest in self._steps(grid, streams):
            observation = self._observe(latest, int(grid.times[step]))
            if observation is None or not np.isfinite(actions[step]).all():
                self.result.gaps += 1
                if writer:
                    self._finish(writer, grid.times[first:step], mark)
                writer = None
                continue
            if writer is None:
                folder = self.folder / f"part_{len(list(self.folder.glob('part_*'))):03d}"
                writer, first = EpisodeWriter(folder, spec, grid.times.size - step), step
            for key in observation.stale:
                self.result.held[key] = self.result.held.get(key, 0) + 1
            writer.append({**observation.frames, ACTION: actions[step]})
        if writer:
            self._finish(writer, grid.times[first:], mark)
        if not self.result.steps:
            why = self.result.notes[-1] if self.result.notes else "every step lacks a fresh observation"
            raise BagError(f"bag '{self.bag.path}' gives no step: {why}")

    def _finish(self, writer: EpisodeWriter, times: np.ndarray, mark: dict[str, Any]) -> None:
        self.result.steps += writer.steps
        writer.close({
            "bag": str(self.bag.path), "success": self.result.success, "seed": mark.get("seed"),
            "task": mark.get("task"), "first_ns": int(times[0]), "last_ns": int(times[writer.steps - 1]),
        })  # fmt: skip

    def _steps(self, grid: Grid, streams: dict[str, _Stream]) -> Iterator[tuple[int, dict[str, tuple[int, Any]]]]:
        """Second pass: for each grid step, topic -> (stamp, message), as soon as its messages have been read."""
        chosen = {topic: newest_at(s.stamps, grid.times) for topic, s in streams.items()}
        used = {topic: streams[topic].ordinals[index] for topic, index in chosen.items()}
        last_use = {topic: dict(zip(u.tolist(), range(u.size), strict=True)) for topic, u in used.items()}
        loaded: dict[str, dict[int, Any]] = {topic: {} for topic in streams}
        seen = dict.fromkeys(streams, -1)
        source = self.bag.messages(streams)
        for step in range(grid.times.size):
            while any(int(used[topic][step]) not in loaded[topic] for topic in streams):
                topic, _, raw = next(source)
                seen[topic] += 1
                if seen[topic] in last_use[topic]:
                    loaded[topic][seen[topic]] = self.bag.deserialize(raw, topic)
            latest = {
                topic: (int(streams[topic].stamps[chosen[topic][step]]), loaded[topic][int(used[topic][step])])
                for topic in streams
            }
            yield step, latest
            for topic in streams:
                if last_use[topic][int(used[topic][step])] == step:
                    del loaded[topic][int(used[topic][step])]

    def _observe(self, latest: dict[str, tuple[int, Any]], now_ns: int) -> Observation | None:
        """The step's observation; a message that cannot be decoded counts as not received. None: nothing fresh."""
        for topic in list(latest):
            if (topic, latest[topic][0]) in self._bad and topic in self._good:
                latest[topic] = self._good[topic]
        while True:
            try:
                observation = self.pipeline.observe(latest, now_ns, hold=True)
            except StaleObservation:
                return None
            except ObservationError as error:
                if not self._set_aside(latest, error):
                    return None
                continue
            self._good.update(latest)
            return observation

    def _set_aside(self, latest: dict[str, tuple[int, Any]], error: ObservationError) -> bool:
        """Count the undecodable message and put the last good one in its place; False when there is none."""
        key = error.key
        topic = self.pipeline.inputs[key][0] if key else ""
        if not topic:
            raise error
        name = (topic, latest[topic][0])
        if name not in self._bad:
            self._bad.add(name)
            self.result.undecodable[key] = self.result.undecodable.get(key, 0) + 1
            if self.result.undecodable[key] == 1:
                self.result.notes.append(str(error))
        good = self._good.get(topic)
        if good is None or good[1] is latest[topic][1]:
            return False
        latest[topic] = good
        return True
