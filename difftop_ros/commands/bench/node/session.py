"""One session of `difftop bench node`: processes started, watched, ended; a row of figures every few seconds.

The figures are the policy node's own, from its /diagnostics, and what the kernel says of its processes.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from difftop_ros import __version__
from difftop_ros.commands.bench.node import made_up
from difftop_ros.commands.bench.node.usage import largest_child, usage
from difftop_ros.errors import UserError
from difftop_ros.nodes import environment as ros_env
from difftop_ros.nodes.children import Child, free_domain
from difftop_ros.nodes.parameters import assignment
from difftop_ros.nodes.policy.parameters import PARAMETERS
from difftop_ros.nodes.simulation.monitor import CONFIGURE_TIMEOUT_S, Monitor
from difftop_ros.plan_result import STAGES

COUNTS = ("ticks", "ticks_lost", "commands_published", "plans", "plan_attempts", "plans_refused")
TIMES = ("lateness_p50_ms", "lateness_p99_ms", "lateness_max_ms", "first_command_p50_ms", "first_command_p99_ms",
         *(f"{stage}_{rank}_ms" for stage in STAGES for rank in ("p50", "p99")))  # fmt: skip
TAKEN = ("memory_mb", "threads", "descriptors", "cpu_s")
COLUMNS = ("setup", "session", "elapsed_s", "state", "hold_reason", *COUNTS, *TIMES,
           *(f"{who}_{what}" for who in ("node", "planner") for what in TAKEN), "load", "version",
           "machine")  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """What is measured. model: None is the made-up policy; size: width and height of pictures and clouds."""

    model: Path | None
    size: tuple[int, int]
    camera_hz: float
    joint_hz: float
    plan_hz: float
    parameters: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = [f"{self.model.name if self.model else 'made-up'}", "x".join(map(str, self.size))]
        words += [f"{self.camera_hz:g} Hz", f"joints {self.joint_hz:g} Hz", f"at most {self.plan_hz:g} plans/s"]
        return ", ".join([*words, *self.parameters])


def run(setup: Setup, seconds: float, every_s: float, keep: Callable[[dict[str, Any]], None]) -> None:
    """Measure for `seconds` [s], giving `keep` a row every `every_s` [s].

    Raises UserError when a process cannot start or ends.
    """
    ros_env.prepare(local_only=True)
    os.environ.setdefault("ROS_DOMAIN_ID", str(free_domain()))
    with tempfile.TemporaryDirectory(prefix="difftop_bench_") as name:
        folder = Path(name)
        model = setup.model or made_up.save_policy(folder / "model")
        children = _start(setup, model, folder)
        try:
            monitor = Monitor(children)
            try:
                _measure(setup, monitor, children, seconds, every_s, keep)
            finally:
                monitor.close()
        finally:
            for child in reversed(children):
                child.stop()
            ros_env.clean_shared_memory(own_mappings=False)


def _start(setup: Setup, model: Path, folder: Path) -> list[Child]:
    """The double and the policy node, which activates itself."""
    env = ros_env.ros_environment(local_only=True)
    width, height = setup.size
    double = {"contract": f"'{(model / 'contract.yaml').absolute()}'", "width": width, "height": height,
              "camera_rate": setup.camera_hz, "joint_rate": setup.joint_hz}  # fmt: skip
    node = {"model": f"'{model.absolute()}'", "autostart": "true", "planner_rate_hz": setup.plan_hz}
    own = [assignment(PARAMETERS, text) for text in setup.parameters]
    found = []
    for title, module, settings, more in (
        ("robot's double", "difftop_ros.nodes.simulation.double", double, []),
        ("policy node", "difftop_ros.nodes.policy.node", node, own),
    ):
        arguments = [f"{name}:={value}" for name, value in settings.items()] + more
        log = folder / f"{module.rsplit('.', 1)[-1]}.log"
        found.append(Child(title, module, [part for text in arguments for part in ("-p", text)], log, env))
    return found


def _measure(
    setup: Setup, monitor: Monitor, children: list[Child], seconds: float, every_s: float,
    keep: Callable[[dict[str, Any]], None],
) -> None:  # fmt: skip
    def silent() -> str:
        return f"the policy node is not active after {CONFIGURE_TIMEOUT_S:g} s; {children[-1].last_words()}"

    monitor.wait(lambda: int(monitor.policy.get("ticks", 0)) > 0, CONFIGURE_TIMEOUT_S, silent)
    begin, session = time.monotonic(), datetime.now().isoformat(timespec="seconds")
    node = children[-1].pid
    planner = largest_child(node)
    elapsed = 0.0
    while elapsed < seconds:
        due = begin + min(elapsed + every_s, seconds)
        while time.monotonic() < due:
            for child in children:
                child.check()
            time.sleep(0.2)
        elapsed = time.monotonic() - begin
        heard = monitor.policy
        if heard.get("state") != "active":
            raise UserError(f"the policy node stopped: {heard.get('message', '')}; {children[-1].last_words()}")
        keep(_row(setup, session, elapsed, heard, node, planner))
        monitor.forget()
        monitor.wait(lambda: bool(monitor.policy), 10.0, lambda: "the policy node's /diagnostics stopped")


def _row(
    setup: Setup, session: str, elapsed: float, heard: dict[str, str], node: int, planner: int | None
) -> dict[str, Any]:  # fmt: skip
    row: dict[str, Any] = {
        "setup": str(setup), "session": session, "elapsed_s": round(elapsed, 1), "state": heard["state"],
        "hold_reason": heard.get("hold_reason", ""), "load": round(os.getloadavg()[0], 2), "version": __version__,
        "machine": f"{os.cpu_count()} x {platform.machine()}",
    }  # fmt: skip
    row |= {name: heard.get(name, "") for name in (*COUNTS, *TIMES)}
    for who, pid in (("node", node), ("planner", planner)):
        taken = usage(pid) if pid is not None else None
        row |= {f"{who}_{what}": round(getattr(taken, what), 2) if taken else "" for what in TAKEN}
    return row
