"""The demo's course: simulation and policy node as processes, episodes one after another, everything ended afterwards.

Processes are nodes/children.py's, listening and services nodes/simulation/monitor.py's, figures report.py's. Pictures
are drawn from the recorded states when the episodes are over, so that they cannot disturb the control timing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.errors import UserError, require_package
from difftop_ros.nodes import environment as ros_env
from difftop_ros.nodes.children import Child, free_domain
from difftop_ros.nodes.simulation.monitor import (
    BRIDGE_NODE,
    CONFIGURE_TIMEOUT_S,
    POLICY_NODE,
    START_TIMEOUT_S,
    Heard,
    Monitor,
    OwnSimulation,
)
from difftop_ros.sim.placed import Placed

STAND_STILL_S = 15.0  # of wall time without progress of simulated time
SETTLE_S = 0.15  # simulated, beside the policy's history


@dataclass(frozen=True)
class DemoOptions:
    """model: policy folder; limit_s: longest episode from activation, in simulated time; network: beyond this machine;
    task: '' is the contract's; parameters: of the policy node, 'NAME:=VALUE'; contract: None is the policy's own.
    foreign: the simulation runs already and is somebody else's; success_when: see nodes/simulation/control.py.
    """

    model: Path
    out: Path
    limit_s: float
    realtime_factor: float = 1.0
    network: bool = False
    task: str = ""
    device: str = "cpu"
    parameters: tuple[str, ...] = ()
    contract: Path | None = None
    foreign: bool = False
    success_when: str = ""


@dataclass(frozen=True)
class Episode:
    """One episode: seconds of simulated time from activation to success or end; note says why it ended early.

    touched: what of the robot touched which obstacle, until then, and when [s since the reset]; nearest_mm: smallest
    distance to one [mm], None without any.
    """

    seed: int
    success: bool
    seconds: float
    note: str
    heard: Heard
    touched: tuple[tuple[str, float], ...] = ()
    nearest_mm: float | None = None


class Demo:
    """Simulation and policy node running: `start`, then `episode` for each seed, and `close` whatever happened.

    Raises UserError when a process cannot start or ends, with the last lines of its log.
    """

    def __init__(self, contract: Contract, obs_steps: int, options: DemoOptions) -> None:
        self._contract, self._options = contract, options
        self._settle_s = SETTLE_S + obs_steps / contract.rate_hz
        self._children: list[Child] = []
        self._monitor: Monitor | None = None
        self._simulation: Any = None
        self._placed: Placed | None = None

    def start(self) -> None:
        """Starts both processes and waits until the policy is configured. Call `close` whether or not this raises."""
        ros_env.prepare(local_only=not self._options.network)
        foreign = self._options.foreign
        shared = foreign or "ROS_DOMAIN_ID" in os.environ
        os.environ.setdefault("ROS_DOMAIN_ID", "0" if foreign else str(free_domain()))
        if shared:
            self._refuse_company()
        self._start_processes()
        self._monitor = Monitor(self._children)
        self._simulation = self._their_simulation() if foreign else OwnSimulation(self._monitor)
        self._wait_until_ready()

    def _their_simulation(self) -> Any:
        require_package("simulation_interfaces", "a simulator that somebody else runs")
        from difftop_ros.nodes.simulation.control import ForeignSimulation

        monitor, task = self.monitor, self._options.task or self._contract.sim.task or "none"
        return ForeignSimulation(
            monitor.node, self._contract, monitor.call, monitor.wait, self._options.success_when, starts_of(task)
        )

    @property
    def monitor(self) -> Monitor:
        """The demo's node; only after `start`."""
        if self._monitor is None:
            raise RuntimeError("the demo was not started")
        return self._monitor

    def _refuse_company(self) -> None:
        """In a domain that the user chose, two simulations would answer the same services."""
        monitor = Monitor([])
        try:
            found = monitor.others((POLICY_NODE,) if self._options.foreign else (POLICY_NODE, BRIDGE_NODE))
        finally:
            monitor.close()
        if found:
            raise UserError(
                f"ROS domain {os.environ['ROS_DOMAIN_ID']} already has the nodes {found}; stop them, or unset "
                "ROS_DOMAIN_ID and the demo chooses a free domain"
            )

    def _start_processes(self) -> None:
        options, env = self._options, ros_env.ros_environment(local_only=not self._options.network)
        contract = f"contract:={(options.contract or options.model / 'contract.yaml').absolute()}"
        simulation = [contract, f"realtime_factor:={float(options.realtime_factor)}"]
        simulation += [f"task:={options.task}"] if options.task else []
        policy = [contract, f"model:='{options.model.absolute()}'", "use_sim_time:=true", f"device:={options.device}"]
        policy += options.parameters
        ours = [] if options.foreign else [("simulation", "difftop_ros.nodes.simulation.bridge.node", simulation)]
        for name, module, settings in (*ours, ("policy node", "difftop_ros.nodes.policy.node", policy)):
            log = options.out / f"{name.replace(' ', '_')}.log"
            arguments = [part for setting in settings for part in ("-p", setting)]
            self._children.append(Child(name, module, arguments, log, env))

    def _wait_until_ready(self) -> None:
        monitor, simulation, policy = self.monitor, self._simulation, self._children[-1]

        def slow() -> str:
            words = "" if self._options.foreign else f"; {self._children[0].last_words()}"
            return f"the simulation is not ready after {START_TIMEOUT_S:g} s: {simulation.ready()}{words}"

        monitor.wait(lambda: not simulation.ready(), START_TIMEOUT_S, slow)
        words = f"the {policy.name} is not ready after {START_TIMEOUT_S:g} s; "
        monitor.wait(monitor.change_client.service_is_ready, START_TIMEOUT_S, lambda: words + policy.last_words())
        if not monitor.transition("configure", CONFIGURE_TIMEOUT_S):
            raise UserError(f"the policy node refused: {self._refusal()}")

    def _refusal(self) -> str:
        """Why the last transition was refused, from /diagnostics, else from the log."""
        try:
            self.monitor.wait(lambda: self.monitor.policy.get("level") == "2", 2.0, lambda: "no reason was given")
        except UserError:
            return self._children[-1].last_words()
        return self.monitor.policy["message"]

    def episode(self, seed: int, placed: Placed | None = None) -> Episode:
        """Resets to `seed`, lets the policy act until success or the time limit, stops it. placed: what is in its way.

        The world keeps an obstacle until another episode has another, or none.
        """
        monitor, simulation = self.monitor, self._simulation
        if placed != self._placed:
            monitor.set_obstacles([placed] if placed else [])
            self._placed = placed
        began = simulation.reset(seed, self._options.task)
        # The policy's observation history must not reach back beyond the reset.
        ready = began + self._settle_s
        self._progress(lambda: simulation.time_s >= ready and simulation.success(seed) is not None)
        monitor.forget()
        if not monitor.transition("activate"):
            raise UserError(f"the policy node did not start: {self._refusal()}")
        note, since, success = "", simulation.time_s, False

        def over() -> bool:
            nonlocal note, success
            note, success = self._gave_up(), bool(simulation.success(seed))
            return bool(note or success or simulation.time_s - since >= self._options.limit_s)

        self._progress(over)
        took, end_s = simulation.time_s - since, simulation.time_s - began
        if not note:
            monitor.transition("deactivate")
        self._last_figures()
        touched, nearest_mm = self._touched(end_s) if placed else ((), None)
        return Episode(seed, success and not touched, took, note, monitor.forget(), touched, nearest_mm)

    def _touched(self, end_s: float) -> tuple[tuple[tuple[str, float], ...], float]:
        """What touched until `end_s` after the reset, and the nearest distance [mm], of the next report."""
        pace = self.monitor.heard.pace
        known = len(pace)
        self.monitor.wait(lambda: len(pace) > known, 10.0, lambda: "the simulation reports nothing")
        pairs = [pair.rpartition(": ") for pair in pace[-1]["touched"].split("; ") if pair]
        touched = tuple((pair, float(when)) for pair, _, when in pairs if float(when) <= end_s)
        return touched, float(pace[-1]["nearest_mm"])

    def _gave_up(self) -> str:
        """Why the node stopped itself since it was activated, '' if it did not."""
        told = self.monitor.heard.diagnostics
        begun = any(d.get("state") == "active" for d in told)  # an older error may still be in the air before that
        ended = (
            begun and told[-1]["level"] == "2" and told[-1].get("state") != "active"
        )  # it may hold with an error too
        return told[-1]["message"] if ended else ""

    def _last_figures(self) -> None:
        """The policy node reports once more when it is inactive; without that the episode's figures are older."""
        try:
            self.monitor.wait(
                lambda: self.monitor.policy.get("state") == "inactive", 2.0, lambda: "no report after deactivation"
            )
        except UserError:
            for child in self._children:
                child.check()

    def _progress(self, condition: Callable[[], bool]) -> None:
        """Waits for `condition` for as long as simulated time goes on."""
        monitor, simulation = self.monitor, self._simulation
        last = (time.monotonic(), simulation.time_s)

        def done() -> bool:
            nonlocal last
            if simulation.time_s != last[1]:
                last = (time.monotonic(), simulation.time_s)
            if time.monotonic() - last[0] > STAND_STILL_S:
                raise UserError(f"simulated time stands still; {self._children[0].last_words()}")
            return condition()

        slowest = 50.0 * (self._options.limit_s + 10.0) / min(self._options.realtime_factor or 1.0, 1.0)
        monitor.wait(done, slowest, lambda: "the simulation is far too slow for this demo; free the machine's CPUs")

    def close(self) -> None:
        """Ends node and processes, the policy first so that it can leave its safe command; removes shared memory."""
        for child in reversed(self._children):
            child.stop()
        if self._monitor is not None:
            self._monitor.close()
        ros_env.clean_shared_memory(own_mappings=False)


def starts_of(task: str) -> Callable[[int], dict[str, np.ndarray]]:
    """Where the bodies of our own world with `task` lie at a seed's start, (7,) by name; none if it is not ours."""
    from difftop_ros.sim import make_world
    from difftop_ros.sim.interface import HasBodies

    try:
        world: Any = make_world(task)
    except UserError:
        return lambda seed: {}

    def starts(seed: int) -> dict[str, np.ndarray]:
        world.reset(seed)
        return world.bodies() if isinstance(world, HasBodies) else {}

    return starts


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import platform

    return {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
