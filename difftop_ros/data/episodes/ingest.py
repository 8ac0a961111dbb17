"""Bags to a dataset on disk: one episode per bag (more where it is split), synchronised by the contract.

Each bag is passed over twice: once for the stamps, once for the messages the grid uses, so that memory holds a few
messages at a time however long the bag. What a step's observation is, is decided by ObservationPipeline.observe, the
same as in the live node. Layout: DIR/dataset.json, DIR/report.json, DIR/bags/<name>-<fingerprint>/part_000/…
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.data.bags.interventions import BOOL, Interventions
from difftop_ros.data.bags.liveness import stopped_before
from difftop_ros.data.bags.reader import Bag, fingerprint, open_bag
from difftop_ros.data.episodes.grid import Grid, actions_at, build_grid, check_monotonic, limits_ns, newest_at
from difftop_ros.data.episodes.report import BagResult, IngestReport
from difftop_ros.data.episodes.sanity import check_clocks, check_degrees, check_wrap_around, refuse_empty, remarks
from difftop_ros.data.episodes.store import ACTION, EpisodeWriter, prepare
from difftop_ros.data.episodes.trajectories import WayPoints, set_points
from difftop_ros.data.errors import BagError, DatasetError
from difftop_ros.files import whole
from difftop_ros.messages.commands import TRAJECTORY, command_to_array, way_points
from difftop_ros.messages.errors import ObservationError, StaleObservation
from difftop_ros.messages.joints import next_to, shared_topics, slot
from difftop_ros.messages.pipeline import Observation, ObservationPipeline
from difftop_ros.messages.places.whereabouts import transforms_followed
from difftop_ros.messages.types import HEADER_BYTES, header_stamp

DAY_S = 86_400  # a longer silence is a clock that stepped, not steps that were left out
Progress = Callable[[int, int, BagResult], None]


def ingest(
    bags: Iterable[str | Path],
    contract: Contract,
    out_dir: str | Path,
    *,
    strict: bool = False,
    progress: Progress | None = None,
) -> IngestReport:
    """Make (or bring up to date) the dataset in `out_dir` from exactly these bags; see bags.find_bags for folders.

    A bag ingested before, unchanged, under the same contract is taken from the cache. A bag that cannot be used is
    skipped and its reason reported. progress(done, total, result) is called after each bag. Raises DatasetError when
    `out_dir` holds a dataset of another contract, when no bag gave an episode, and, if `strict`, when anything was left
    out; what was ingested is kept then.
    """
    started = time.monotonic()
    paths = [Path(bag) for bag in bags]
    if not paths:
        raise DatasetError("no bags were given; name at least one rosbag2 folder")
    out = Path(out_dir)
    ObservationPipeline(contract).where.require()
    prepare(out, contract)
    report = IngestReport(str(out))
    known: dict[str, str] = {}
    for done, path in enumerate(paths, 1):
        result = ingest_bag(path, contract, out)
        report.bags.append(result)
        if result.content and known.setdefault(result.content, result.bag) != result.bag:
            result.note_copy(known[result.content])
        if progress:
            progress(done, len(paths), report.bags[-1])
    report.seconds = time.monotonic() - started
    report.save(out / "report.json")
    if not report.episodes:
        reasons = "\n".join(f"  {Path(bag.bag).name}: {bag.reason}" for bag in report.skipped)
        raise DatasetError(f"none of the {len(paths)} bags gave an episode:\n{reasons}")
    objections = report.objections() if strict else []
    if objections:
        told = "\n".join(f"  {line}" for line in objections)
        raise DatasetError(
            f"strict: {len(objections)} things were left out; mend or move these bags, or go without strict:\n{told}"
        )
    return report


def ingest_bag(path: Path, contract: Contract, out: Path) -> BagResult:
    """A bag into the dataset folder `out`, or from its cache; status 'skipped' with the reason if there is none."""
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
        self.pipeline = ObservationPipeline(self.contract, readings_kept=None)
        self._good: dict[str, tuple[int, Any]] = {}
        self._bad: set[tuple[str, int]] = set()
        self._reasons: dict[str, str] = {}  # topic -> why its first message that is of no use is none
        self._positions: dict[str, dict[str, list[tuple[int, float]]]] = {}  # topic -> joint -> (stamp, reading)
        self._readings: dict[str, dict[str, np.ndarray]] = {}  # topic -> joint -> (n, 2) of stamp and reading
        self._counted: dict[str, np.ndarray] = {}  # continuous joint -> (n, 2) of stamp and angle, whole turns counted
        shared = shared_topics(self.contract.observations)
        self._slots = {slot(topic, key): topic for topic, by_key in shared.items() for key in by_key}
        self._stale = ""  # why the last step that lacks a fresh observation does
        self._begin: dict[str, int] = {}  # topic -> when its first message was received [ns]

    def _name(self, key: str, topic: str) -> str:
        """Under which name the messages for observation `key` on `topic` are counted."""
        return slot(topic, key) if slot(topic, key) in self._slots else topic

    def run(self) -> None:
        """Raises BagError or ObservationError when the bag gives no step."""
        contract = self.contract
        self.bag.require({**self.pipeline.topics, contract.command.topic: contract.command.type})
        streams, command_stamps, commands, success = self._scan()
        limits = limits_ns(contract, self._name)
        # What goes with a stream, such as a camera info, may be sent once, long before or late: it limits nothing.
        grid = build_grid(contract, {name: streams[name].stamps for name in limits}, limits, command_stamps)
        self.result.gaps = grid.gaps if grid.gaps < DAY_S * contract.rate_hz else 0
        begin = int(grid.times[0])
        for silent, again in grid.splits:
            self.result.notes.append(
                f"streams were silent, or a clock stepped, for {(again - silent) / 1e9:.1f} s at "
                f"{(silent - begin) / 1e9:.1f} s; the episode is split there"
            )
        self._interventions = Interventions(self.bag, contract.command.topic)
        self.result.notes += self._interventions.notes
        mark = self.bag.mark()
        self.result.success = success if mark.get("success") is None else bool(mark["success"])
        cut = self.bag.cut or mark.get("complete") is False
        if cut or (self.result.success is None and mark.get("interrupted")):
            self.result.success = False
            why = stopped_before(mark.get("stopped")) or "the recording was interrupted"
            self.result.notes.append(f"{why}, so it counts as a failure")
        self.result.leading, self.result.trailing = grid.leading, grid.trailing
        actions = actions_at(contract, command_stamps, commands, grid.times)
        self._write(grid, streams, actions, mark)

    def _scan(self) -> tuple[dict[str, _Stream], np.ndarray, np.ndarray, bool | None]:
        """First pass: stamps of every stream, all commands (m, A) with their stamps, and the last success mark.

        Streams go by topic, or by slot where observations need messages of their own on one topic.
        """
        command = self.contract.command
        unstamped = self.contract.unstamped
        stamps: dict[str, list[int]] = {topic: [] for topic in [*self.pipeline.topics, command.topic]}
        actions: list[WayPoints] = []
        success: bool | None = None
        self.bag.require_headers(stamps.keys() - unstamped)
        marks = self.contract.episode.success_topic
        if marks and self.bag.topics.get(marks) and self.bag.topics[marks].type != BOOL:
            raise BagError(f"success topic '{marks}' has type {self.bag.topics[marks].type}; expected {BOOL}")
        seen, zeros = dict.fromkeys(stamps, -1), dict.fromkeys(stamps, 0)
        transforms = transforms_followed(self.contract)
        source = self.bag.messages({*stamps, *transforms, *([marks] if marks else [])})
        stamps |= {name: [] for name in self._slots}
        took: dict[str, list[int]] = {name: [] for name in stamps}
        ordinals: dict[str, list[int]] = {name: [] for name in stamps}
        for topic, received, raw in source:
            if topic == marks:
                success = self._mark(raw, topic, success)
                continue
            if topic in transforms:
                with suppress(BagError):  # what it ought to have told is missed where it is needed
                    self.pipeline.follow(topic, received, self.bag.deserialize(raw, topic))
                continue
            seen[topic] += 1
            at = f"(at {(received - self._begin.setdefault(topic, received)) / 1e9:.1f} s)"
            commanded, stamp = topic == command.topic, received
            if topic not in unstamped:
                if len(raw) >= HEADER_BYTES:
                    stamp = header_stamp(raw)
                elif not commanded:
                    why = f"a message on '{topic}' has {len(raw)} bytes and no header; check its driver {at}"
                    self._undecodable(topic, why)
                    continue
                zeros[topic] += not stamp
            served = {topic} if commanded else self._serves(topic, raw, stamp, at) if stamp else set()
            if not served:
                continue
            for name in {topic, *served & self._slots.keys()}:
                # A command with a zero stamp means 'on arrival'.
                stamps[name].append(stamp or received)
                took[name].append(received)
                ordinals[name].append(seen[topic])
            if commanded:
                actions.append(self._command(raw, at))
        streams = {}
        for name, values in stamps.items():
            topic = self._slots.get(name, name)
            if not values:
                why = self._reasons.get(topic, "every message was left out")
                refuse_empty(str(self.bag.path), topic, zeros[topic], seen[topic] + 1, why)
            if zeros[topic] and name not in (*self._slots, command.topic):
                self.result.notes.append(f"{zeros[topic]} messages on '{topic}' have a zero stamp and are left out")
            array = np.array(values, np.int64)
            check_monotonic(topic, array)
            order = np.argsort(array, kind="stable")
            numbers = np.arange(array.size) if topic == command.topic else np.array(ordinals[name], np.int64)
            streams[name] = _Stream(array[order], numbers[order])
        counted = {command.topic, *(obs.topic for obs in self.contract.observations.values())}
        longest = max((int(min(times[-1], 1e9) * 1e9) for times, _ in actions if times.size > 1), default=0)
        check_clocks(self.contract, {t: np.array(took[t], np.int64) for t in counted},
                     {t: np.array(stamps[t], np.int64) for t in counted}, longest)  # fmt: skip
        self._check_positions()
        commanded_at = streams.pop(command.topic)
        sent = [actions[number] for number in commanded_at.ordinals]
        # The last step, when the newest observation may be old, is told what is to be reached at its end.
        held_s = max(obs.max_age_ms for obs in self.contract.observations.values()) / 1e3 + 1 / self.contract.rate_hz
        last = max(int(stream.stamps[-1]) for stream in streams.values()) + round(held_s * 1e9)
        period = round(1e9 / self.contract.control_rate_hz)
        told_at, told = set_points(commanded_at.stamps, sent, last, period)
        told = self._next_to_measured(told_at, told)
        self.result.notes += remarks(self.contract, told_at, told, self._readings)
        return streams, told_at, told, success

    def _next_to_measured(self, stamps: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Positions (m, A) commanded at `stamps` (m,): those of continuous joints by the turns that were measured."""
        if self.contract.command.mode == "position":
            for i, name in enumerate(self.contract.command.joint_names):
                if name in self._counted:
                    actions[:, i] = next_to(actions[:, i], self._angles(name, stamps))
        return actions

    def _angles(self, name: str, stamps: Any) -> Any:
        """The newest angle of a continuous joint at each of `stamps`, the first one before that."""
        known = self._counted[name]
        return known[np.maximum(newest_at(known[:, 0], stamps), 0), 1]

    def _mark(self, raw: bytes, topic: str, before: bool | None) -> bool | None:
        try:
            return bool(self.bag.deserialize(raw, topic).data)
        except BagError as error:
            self.result.notes.append(f"{error}; this success mark is passed over")
            return before

    def _undecodable(self, topic: str, why: str) -> None:
        """Count a message that cannot be used, for the first observation (or the action) made of its topic."""
        key = next((k for k, topics in self.pipeline.inputs.items() if topic in topics), ACTION)
        self._reasons.setdefault(topic, why)
        if key not in self.result.undecodable:
            self.result.notes.append(why)
        self.result.undecodable[key] = self.result.undecodable.get(key, 0) + 1

    def _serves(self, topic: str, raw: bytes, stamp: int, at: str) -> set[str]:
        """What the message serves, by topic or slot, if anything; pictures and clouds are decoded when used.

        Several drivers may share a topic: what the contract's joints are not in is another driver's, and not counted
        unless it is the only thing there is.
        """
        keys = [k for k, obs in self.contract.observations.items()
                if obs.modality == "vector" and self.pipeline.inputs[k] == (topic,) and not obs.places]  # fmt: skip
        if not keys:
            return {topic}
        try:
            message = self.bag.deserialize(raw, topic)
        except BagError as error:
            self._undecodable(topic, f"{error} {at}")
            return set()
        self.pipeline.follow(topic, stamp, message)
        served: set[str] = set()
        for key in keys:
            obs = self.contract.observations[key]
            try:
                frame = self.pipeline.turns.frame(obs, self.pipeline.decode(key, {topic: message}))
            except ObservationError as error:
                self._reasons.setdefault(topic, f"{error} {at}")
                others = obs.positions and not set(obs.positions) & set(message.name)
                if not others:
                    self._undecodable(topic, f"{error} {at}")
                continue
            served.add(self._name(key, topic))
            for name, index in obs.positions.items():
                self._positions.setdefault(topic, {}).setdefault(name, []).append((stamp, float(frame[index])))
        return served

    def _check_positions(self) -> None:
        metres = [joint.name for joint in self.contract.command.joints if joint.unit == "m"]
        for topic, found in self._positions.items():
            readings = self._readings[topic] = {name: np.array(sorted(pairs)) for name, pairs in found.items()}
            check_degrees(self.contract, topic, readings)
            check_wrap_around(topic, readings, metres)
            for name in self.contract.continuous & readings.keys():
                parts = [self._counted[name]] if name in self._counted else []
                joined = np.concatenate([*parts, readings[name]])
                self._counted[name] = joined[np.argsort(joined[:, 0], kind="stable")]

    def _command(self, raw: bytes, at: str) -> WayPoints:
        """What is commanded, NaN for a message that is none: counted, and its steps are left out."""
        try:
            message = self.bag.deserialize(raw, self.contract.command.topic)
            if self.contract.command.type == TRAJECTORY:
                return way_points(self.contract, message)
            return np.zeros(1), command_to_array(self.contract, message)[None]
        except (BagError, ObservationError) as error:
            if ACTION not in self.result.undecodable:
                self.result.notes.append(f"{error} {at}; the steps of such commands are left out")
            self.result.undecodable[ACTION] = self.result.undecodable.get(ACTION, 0) + 1
            return np.zeros(1), np.full((1, len(self.contract.command.joints)), np.nan)

    def _write(self, grid: Grid, streams: dict[str, _Stream], actions: np.ndarray, mark: dict[str, Any]) -> None:
        spec = {**self.pipeline.spec, ACTION: ((actions.shape[1],), np.dtype(np.float64))}
        writer: EpisodeWriter | None = None
        first = 0
        period = 1e9 / self.contract.rate_hz
        for step, latest in self._steps(grid, streams):
            if writer and grid.times[step] - grid.times[step - 1] > 1.5 * period:
                self._finish(writer, grid.times[first:step], mark)
                writer = None
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
            why = self.result.notes[-1] if self.result.notes else self._stale or "every step lacks a fresh observation"
            raise BagError(f"bag '{self.bag.path}' gives no step: {why}")

    def _finish(self, writer: EpisodeWriter, times: np.ndarray, mark: dict[str, Any]) -> None:
        self.result.steps += writer.steps
        writer.close({
            "bag": str(self.bag.path), "success": self.result.success, "seed": mark.get("seed"),
            "task": mark.get("task"), "first_ns": int(times[0]), "last_ns": int(times[writer.steps - 1]),
            "interventions": self._interventions.spans(times[: writer.steps]),
        })  # fmt: skip

    def _steps(self, grid: Grid, streams: dict[str, _Stream]) -> Iterator[tuple[int, dict[str, tuple[int, Any]]]]:
        """Second pass: for each step, stream -> (stamp, message), as soon as its messages have been read."""
        self._first = {name: int(s.stamps[0]) for name, s in streams.items()}
        chosen = {name: np.maximum(newest_at(s.stamps, grid.times), 0) for name, s in streams.items()}
        used = {name: streams[name].ordinals[index] for name, index in chosen.items()}
        last_use = {name: dict(zip(u.tolist(), range(u.size), strict=True)) for name, u in used.items()}
        loaded: dict[str, dict[int, Any]] = {name: {} for name in streams}
        by_topic: dict[str, list[str]] = {}
        for name in streams:
            by_topic.setdefault(self._slots.get(name, name), []).append(name)
        seen = dict.fromkeys(by_topic, -1)
        source = self.bag.messages(by_topic)
        for step in range(grid.times.size):
            while any(int(used[name][step]) not in loaded[name] for name in streams):
                topic, _, raw = next(source)
                seen[topic] += 1
                wanted = [name for name in by_topic[topic] if seen[topic] in last_use[name]]
                if wanted:
                    try:
                        message = self.bag.deserialize(raw, topic)
                    except BagError as error:
                        message = error
                    for name in wanted:
                        loaded[name][seen[topic]] = message
            yield (
                step,
                {
                    name: (int(streams[name].stamps[chosen[name][step]]), loaded[name][int(used[name][step])])
                    for name in streams
                },
            )
            for name in streams:
                if last_use[name][int(used[name][step])] == step:
                    del loaded[name][int(used[name][step])]

    def _observe(self, latest: dict[str, tuple[int, Any]], now_ns: int) -> Observation | None:
        """The step's observation; a message that cannot be decoded counts as not received. None: nothing fresh."""
        for name in list(latest):
            if (name, latest[name][0]) in self._bad and name in self._good:
                latest[name] = self._good[name]
        self.pipeline.turns.last.update({name: float(self._angles(name, now_ns)) for name in self._counted})
        while True:
            try:
                self._refuse_broken(latest)
                observation = self.pipeline.observe(latest, now_ns, hold=True)
            except StaleObservation as error:
                self._stale = str(error)
                return None
            except ObservationError as error:
                if not self._set_aside(latest, error):
                    return None
                continue
            self._good.update(latest)
            return observation

    def _refuse_broken(self, latest: dict[str, tuple[int, Any]]) -> None:
        """Raises ObservationError for a message whose bytes are none."""
        for key, topics in self.pipeline.inputs.items():
            for topic in topics:
                message = latest[self._name(key, topic)][1]
                if isinstance(message, BagError):
                    error = ObservationError(str(message))
                    error.key = key
                    raise error

    def _set_aside(self, latest: dict[str, tuple[int, Any]], error: ObservationError) -> bool:
        """Count the undecodable message and put the last good one in its place; False when there is none."""
        key = error.key
        if not key:
            raise error
        topic = self._name(key, self.pipeline.inputs[key][0])
        name = (topic, latest[topic][0])
        if name not in self._bad:
            self._bad.add(name)
            self.result.undecodable[key] = self.result.undecodable.get(key, 0) + 1
            if self.result.undecodable[key] == 1:
                age_s = (latest[topic][0] - self._first[topic]) / 1e9
                self.result.notes.append(f"{error} (at {age_s:.1f} s)")
        good = self._good.get(topic)
        if good is None or good[1] is latest[topic][1]:
            return False
        latest[topic] = good
        return True
