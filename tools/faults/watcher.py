"""A process that hears every command and judges it against the limits, with arithmetic of its own, not the gate's.

Started by run.py as `python -m tools.faults.watcher CONTRACT`; writes a line of JSON to stdout whenever a line comes in
on stdin, with what it has judged since the last one.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from difftop_ros.safety import MotionLimits

ROUNDING = 1e-6  # of a limit


@dataclass
class Judged:
    """What was heard: how many commands, sentences on those that crossed a limit, and whether the last ones stand."""

    commands: int = 0
    crossed: int = 0
    first: str = ""
    at_rest: bool = True
    silent_s: float = float("inf")


class Judge:
    """Judges position commands one by one. `fresh()`: the next one begins a run, and follows none before it."""

    def __init__(self, limits: MotionLimits) -> None:
        self._limits = limits
        self._path: list[np.ndarray] = []  # the newest four
        self.judged = Judged()

    def fresh(self) -> None:
        """A run begins: its first command is at the robot's pose, at rest."""
        self._path.clear()

    def take(self, values: np.ndarray) -> None:
        """Judge one command (A,) [unit]."""
        limits, judged = self._limits, self.judged
        judged.commands += 1
        told = ""
        if values.shape != (limits.size,) or not np.isfinite(values).all():
            told = f"not {limits.size} finite numbers: {values}"
        else:
            self._path = [*self._path[-3:], values]
            told = self._beyond()
        if told:
            judged.crossed += 1
            judged.first = judged.first or told
        judged.at_rest = len(self._path) < 2 or bool(np.abs(self._path[-1] - self._path[-2]).max() <= 1e-6)

    def _beyond(self) -> str:
        limits, path = self._limits, np.array(self._path)
        slack = ROUNDING * (limits.upper - limits.lower)
        if ((path[-1] < limits.lower - slack) | (path[-1] > limits.upper + slack)).any():
            return f"position {path[-1]} outside its limits"
        names = (("velocity", limits.velocity), ("acceleration", limits.acceleration), ("jerk", limits.jerk))
        for order, (name, top) in enumerate(names, 1):
            if len(path) <= order:
                return ""
            got = np.abs(np.diff(path, order, axis=0)[-1]) / limits.dt**order
            rounding = 2**order * 1e-12 / limits.dt**order
            if (got > top * (1 + ROUNDING) + rounding).any():
                return f"{name} {got} above {top}"
        return ""


def main(words: list[str]) -> int:
    """Run until stdin ends."""
    from difftop_ros.nodes.environment import prepare

    prepare(local_only=True)
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from sensor_msgs.msg import JointState

    from difftop_ros.contract import load_contract

    contract = load_contract(words[0])
    judge, lock = Judge(MotionLimits.of(contract.command, contract.control_rate_hz)), threading.Lock()
    heard = [time.monotonic()]

    def on_command(message: Any) -> None:
        with lock:
            heard[0] = time.monotonic()
            judge.take(np.array(message.position))

    rclpy.init()
    node = rclpy.create_node("watcher")
    node.create_subscription(JointState, contract.command.topic, on_command, 1000)

    def spin() -> None:
        try:
            rclpy.spin(node)
        except ExternalShutdownException:
            return

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    for line in sys.stdin:
        with lock:
            if line.strip() == "fresh":
                judge.fresh()
            judge.judged.silent_s = time.monotonic() - heard[0]
            answer, judge.judged = judge.judged, Judged(at_rest=judge.judged.at_rest)
        print(json.dumps(asdict(answer)), flush=True)
    rclpy.try_shutdown()
    thread.join(5.0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
