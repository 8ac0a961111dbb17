"""One target in a process of its own: each input under a limit of time and memory, what it raises counted by line."""

from __future__ import annotations

import collections
import logging
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

HANG_S = 2.0  # of processor time, so that a busy machine is not one
STILL_S = 120.0  # of wall time without an answer, on a busy machine
MOST_BYTES = 500 * 1024**2
BATCH = 200
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where files cost no disk


@dataclass
class Found:
    """How often, and the first input."""

    count: int
    file: Path


@dataclass
class Tally:
    """What a target's inputs came to: taken, refused in our words, found."""

    target: str
    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    most_mb: float = 0.0
    found: dict[str, Found] = field(default_factory=dict)

    @staticmethod
    def head() -> str:
        """Of the table."""
        return "target        inputs   refused  other  hangs  memory  died  slowest [s]  grown [MB]  time [s]"

    def line(self) -> str:
        """Its row."""
        kinds: collections.Counter[str] = collections.Counter()
        for what, found in self.found.items():
            kinds[what.split()[0] if what.split()[0] in ("hang", "memory", "died") else "other"] += found.count
        mb = self.most_mb
        return (
            f"{self.target:11s} {self.inputs:8d}  {self.refused:8d}  {kinds['other']:5d}  {kinds['hang']:5d}  "
            f"{kinds['memory']:6d}  {kinds['died']:4d}  {self.slowest_s:11.2f}  {mb:10.0f}  {self.seconds:8.0f}"
        )


class _Hang(BaseException):
    """Not an Exception, so that nobody takes it for one of theirs."""


def made(target: Any, name: str, seed: int, number: int) -> bytes:
    """The input of that number."""
    return target.make(random.Random(f"{name} {seed} {number}"))


def run_target(name: str, seed: int, inputs: int, out: Path, guided: bool = False) -> Tally:
    """Feed a target; what found something is kept in `out`. `guided`: inputs grow from those that reached new lines."""
    tally, begin = Tally(name), time.monotonic()
    context = multiprocessing.get_context("spawn")
    done = 0
    while done < inputs:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, name, seed, done, inputs, str(out), guided), daemon=True)
        process.start()
        theirs.close()
        before = done
        done = _listen(ours, process, tally, done)
        process.join(5)
        if done < inputs:
            if done == before and not tally.inputs and process.exitcode == 1:
                raise RuntimeError(f"the target {name!r} cannot be made; see above")
            why = "died at once" if process.exitcode not in (0, None) else f"hang: no answer within {STILL_S:g} s"
            process.kill()
            out.mkdir(parents=True, exist_ok=True)
            _add(tally, why, _kept_number(out, name, seed, done, guided))
            done += 1
            tally.inputs = done
    tally.seconds = time.monotonic() - begin
    return tally


def _listen(pipe: Connection, process: Any, tally: Tally, done: int) -> int:
    """Take in the worker's words until it is silent; how many inputs are behind it."""
    while True:
        try:
            if not pipe.poll(STILL_S + (60 if not done else 0)):
                process.kill()
                return done
            kind, value = pipe.recv()
        except (EOFError, OSError):
            return done
        if kind == "found":
            _add(tally, *value)
        elif kind == "start":
            done = value
        else:
            done, refused, slowest, grown = value
            tally.inputs, tally.refused = done, tally.refused + refused
            tally.slowest_s, tally.most_mb = max(tally.slowest_s, slowest), max(tally.most_mb, grown)


def _add(tally: Tally, what: str, file: Path) -> None:
    known = tally.found.setdefault(what, Found(0, file))
    known.count += 1


def _kept_number(out: Path, name: str, seed: int, number: int, guided: bool) -> Path:
    """The file that tells which input a process died of: its number, or what was fed last."""
    if guided:
        return (out / f"{name}-last.bin").rename(out / f"{name}-{seed}-{number}.bin")
    file = out / f"{name}-{seed}-{number}.number"
    file.write_text(f"{name} {seed} {number}\n")
    return file


def _work(pipe: Connection, name: str, seed: int, first: int, last: int, out: str, guided: bool) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.simplefilter("ignore")
    logging.disable()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, _silent():
        if guided:
            from tools.fuzz.guided import feed_guided, instrumented

            with instrumented():
                worker = _Worker(pipe, name, seed, Path(folder), Path(out), (first, last))
            feed_guided(worker)
            return
        worker = _Worker(pipe, name, seed, Path(folder), Path(out), (first, last))
        while worker.number < last:
            worker.feed(made(worker.target, name, seed, worker.number))


class _Worker:
    """Feeds one target in this process and tells what came of it through a pipe.

    Args:
        pipe: to the process that counts.
        name: of the target; `seed`: of its inputs.
        folder: the process's own; `out`: where inputs are kept that found something.
        numbers: of the first input and behind the last.
    """

    def __init__(
        self, pipe: Connection, name: str, seed: int, folder: Path, out: Path, numbers: tuple[int, int]
    ) -> None:
        from difftop_ros.errors import UserError
        from tools.fuzz.targets import TARGETS

        self.pipe, self.name, self.seed, self.out, self._own = pipe, name, seed, out, UserError
        self.number, self.last = numbers
        self.target = TARGETS[name](folder)
        warm_up(self.target, name, 20)
        self._base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self._kept: collections.Counter[str] = collections.Counter()
        self._refused, self._slowest = 0, 0.0
        limit = _virtual() + 4 * MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def feed(self, raw: bytes) -> None:
        """The next input."""
        self.pipe.send(("start", self.number))
        begin = time.process_time()
        what = _guarded(self.target, raw, self._own)
        self._slowest = max(self._slowest, time.process_time() - begin)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - self._base
        if grown > MOST_BYTES and not what.startswith("hang"):
            what = "memory: more than 500 MB"
            self._base += grown
        if what not in ("", "refused"):
            file = self.out / f"{self.name}-{zlib.crc32(what.encode()):08x}.bin"
            if not self._kept[what]:
                keep(file, self.name, raw)
            self._kept[what] += 1
            self.pipe.send(("found", (what, file)))
        self._refused += what == "refused"
        self.number += 1
        if self.number % BATCH == 0 or self.number == self.last:
            self.pipe.send(("done", (self.number, self._refused, self._slowest, grown / 1024**2)))
            self._refused = 0


def keep(file: Path, name: str, raw: bytes) -> None:
    """Write an input so that `--replay` feeds it again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(f"{name}\n".encode() + raw)


def warm_up(target: Any, name: str, inputs: int) -> None:
    """Feed a few: imports and caches are not the inputs' time and memory, and an import must not be torn."""
    for number in range(inputs):
        with suppress(Exception):
            target.feed(made(target, name, -1, number))


def _guarded(target: Any, raw: bytes, own: type[Exception]) -> str:
    """'' for an input that was taken, 'refused', or what it did instead."""

    def expired(*_: Any) -> None:
        raise _Hang

    signal.signal(signal.SIGPROF, expired)
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    try:
        target.feed(raw)
        return ""
    except own:
        return "refused"
    except _Hang as error:
        return f"hang at {_place(error)}"
    except MemoryError as error:
        return f"memory at {_place(error)}"
    except Exception as error:
        return f"{type(error).__name__} at {_place(error)}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _place(error: BaseException) -> str:
    """The innermost line of the package that the error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame
        for frame in frames
        if "difftop_ros" in Path(frame.filename).parts[-4:] or "/difftop_ros/" in frame.filename
    ]
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _virtual() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


@contextmanager
def _silent() -> Iterator[None]:
    """What libraries in C say of broken files goes nowhere."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def replay(file: Path) -> int:
    """Feed one kept input, with its traceback."""
    from difftop_ros.errors import UserError
    from tools.fuzz.targets import TARGETS

    raw = file.read_bytes()
    name, _, content = raw.partition(b"\n")
    with tempfile.TemporaryDirectory() as folder:
        if file.suffix == ".number":  # of a process that died
            kind, seed, number = name.decode().split()
            target = TARGETS[kind](Path(folder))
            content = made(target, kind, int(seed), int(number))
        else:
            target = TARGETS[name.decode()](Path(folder))
        try:
            target.feed(content)
        except UserError as refusal:
            print(f"refused: {refusal}")
            return 0
    print("taken")
    return 0
