"""Puts faults into a running policy node, over DDS, and tells what it did. Robot, node and watcher are processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.nodes.children import free_domain
from difftop_ros.nodes.environment import prepare
from tools.faults.catalogue import DEACTIVATES, EITHER, ENDS, GOES_ON, HOLDS, Fault, Place
from tools.faults.robot import RobotDouble, contract_text, save_policy
from tools.faults.watcher import Judged

CONFIGURE, ACTIVATE = 1, 3
JERK = "acceleration: 30.0, jerk: 1500.0"
PATIENCE_S = 30.0  # for what a busy machine may delay
# Patient, so that a busy machine brings no hold of its own into the table.
SETTINGS = ("max_failures:=1000", "max_plan_age_ms:=3000.0", "max_overruns:=1000")
# Whatever started this, the node is not under nohup.
ENTRY = (
    "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL);"
    "from difftop_ros.nodes.policy.node import main; sys.exit(main())"
)


@dataclass(frozen=True)
class Outcome:
    """What came of a fault; `wrong` is '' where all was as it must be."""

    fault: Fault
    did: str
    reason: str
    judged: Judged
    wrong: str

    def row(self) -> str:
        """A line of the table."""
        said = "; ".join(words for words in (self.wrong, self.reason) if words)
        name, must, judged = self.fault.name, self.fault.must, self.judged
        return f"{name:44}{must:13}{self.did:13}{judged.commands:9}{judged.crossed:9}  {said[:110]}"

    @staticmethod
    def head() -> str:
        """The table's first line."""
        return f"{'fault':44}{'must':13}{'did':13}{'commands':>9}{'crossed':>9}  reason"


class Watcher:
    """The watcher's process, seen from here."""

    def __init__(self, contract: Path) -> None:
        command = [sys.executable, "-m", "tools.faults.watcher", str(contract)]
        self._popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, word: str = "") -> Judged:
        """What was judged since the last question; 'fresh' says that a run begins."""
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._popen.stdin.write(word + "\n")
        self._popen.stdin.flush()
        return Judged(**json.loads(self._popen.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._popen.communicate(timeout=10)


class Scene:
    """Robot double, watcher and node; the node is started anew after faults that end it."""

    def __init__(self, folder: Path, seed: int) -> None:
        import rclpy

        model = save_policy(folder / "model", contract_text().replace("acceleration: 30.0", JERK))
        self._model, self._rng = model, np.random.default_rng(seed)
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.robot = RobotDouble(self._context)
        self.watcher = Watcher(model / "contract.yaml")
        self._log = (folder / "node.log").open("w")
        self.node: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End everything that was started."""
        if self.node is not None and self.node.poll() is None:
            self.node.terminate()
            self.node.wait(15)
        self.watcher.close()
        self.robot.close()
        self._context.try_shutdown()
        self._log.close()

    def _active(self) -> bool:
        return self.robot.sentences()[-1:] == ["active"]

    def ready(self) -> Place:
        """A node that follows its plans; started if there is none."""
        robot = self.robot
        if self.node is None or self.node.poll() is not None:
            words = [word for setting in (f"model:={self._model}", *SETTINGS) for word in ("-p", setting)]
            self.node = subprocess.Popen(
                [sys.executable, "-c", ENTRY, "--ros-args", *words], stdout=self._log, stderr=self._log,
                start_new_session=True,
            )  # fmt: skip
            assert robot.transition(CONFIGURE), "the node does not configure"
            self.watcher.ask("fresh")
            robot.until(lambda: robot.transition(ACTIVATE), PATIENCE_S, "activation")
        robot.until(self._active, PATIENCE_S, "an active node")
        sent = len(robot.commands)
        robot.until(lambda: len(robot.commands) > sent + 25, PATIENCE_S, "commands")
        self.watcher.ask()
        return Place(robot, self.node.pid, self._rng)

    def _held(self, since: int) -> str:
        """Why it held, by its statuses from number `since` on; '' if it did not."""
        return next((s.hold_reason for s in list(self.robot.statuses)[since:] if s.holding), "")

    def carry_out(self, fault: Fault) -> Outcome:
        """Put one fault into the node and see what it does."""
        place, told = self.ready(), len(self.robot.statuses)
        did, wrong = "", ""
        try:
            with fault.put(place):
                if fault.must == HOLDS:
                    self.robot.until(lambda: self._held(told), PATIENCE_S, "a hold")
                time.sleep(fault.seconds)
            did = self._after(fault, told)
        except AssertionError as error:
            wrong = str(error) or "an assertion"
        judged, reason = self.watcher.ask(), self._held(told)
        did = did or self._seen(reason)
        wrong = wrong or self._wrong(fault, did, judged)
        if self.node is not None and (wrong or fault.must in (ENDS, DEACTIVATES)) and self.node.poll() is None:
            self.node.terminate()
            self.node.wait(15)
        return Outcome(fault, did, reason, judged, wrong)

    def _seen(self, reason: str) -> str:
        if self.node is not None and self.node.poll() is not None:
            return ENDS
        return HOLDS if reason else GOES_ON

    def _after(self, fault: Fault, told: int) -> str:
        """What the node does when the fault is over."""
        assert self.node is not None
        if fault.must == ENDS:
            code = self.node.wait(PATIENCE_S)
            time.sleep(0.3)  # what was acknowledged has arrived; the watcher's callback may still wait
            return ENDS if code == 0 else f"exit code {code}"
        if fault.must == DEACTIVATES:
            self.robot.until(lambda: self.robot.sentences()[-1].startswith("deactivated: "), PATIENCE_S, "deactivation")
            time.sleep(0.3)
            return DEACTIVATES
        self.robot.until(self._active, PATIENCE_S, "the end of the hold")
        return self._seen(self._held(told))

    @staticmethod
    def _wrong(fault: Fault, did: str, judged: Judged) -> str:
        if judged.crossed:
            return f"{judged.crossed} commands crossed a limit: {judged.first}"
        if did not in ((HOLDS, GOES_ON) if fault.must == EITHER else (fault.must,)):
            return f"it {did}, and must: {fault.must}"
        if fault.must in (ENDS, DEACTIVATES) and not judged.at_rest:
            return "the last commands move"
        return ""


@contextmanager
def scene(seed: int) -> Iterator[Scene]:
    """A scene in a ROS domain and a temporary folder of its own; the node's log is shown if it fails."""
    os.environ["ROS_DOMAIN_ID"] = str(free_domain())
    prepare(local_only=True)
    with tempfile.TemporaryDirectory() as folder:
        here = Scene(Path(folder), seed)
        try:
            yield here
        except BaseException:
            print((Path(folder) / "node.log").read_text()[-3000:], file=sys.stderr)
            raise
        finally:
            here.close()


def run(faults: Sequence[Fault], seed: int, tell: Any = print) -> list[Outcome]:
    """Carry out `faults` one after another; `tell` is given each line of the table."""
    outcomes = []
    tell(Outcome.head())
    with scene(seed) as here:
        for fault in faults:
            outcomes.append(here.carry_out(fault))
            tell(outcomes[-1].row())
    return outcomes
