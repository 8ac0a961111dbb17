"""Simulations that a scripted expert gives demonstrations in: our own bridge, or one that somebody else runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from difftop_ros.contract import Contract, JointStateObs
from difftop_ros.errors import UserError, require_package
from difftop_ros.messages.coupling import read
from difftop_ros.messages.types import ros_types
from difftop_ros.nodes import environment as ros_env
from difftop_ros.nodes.children import free_domain
from difftop_ros.nodes.recorder.recorder import EPISODE_TOPIC

START_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 30.0
STATE_S = 5.0  # that the joint states of a step are waited for
TAKEN_S = 0.02  # given to a command on its way; nothing tells that a foreign simulator has taken it
Call = Callable[[Any, Any], Any]
Wait = Callable[[Callable[[], bool], float, Callable[[], str]], None]


@dataclass(frozen=True)
class ExpertOptions:
    """task: '' is the contract's; noise: disturbance of the servos [rad]; stay_steps: policy steps recorded with
    success reached, at least the one that reaches it (None: STAY_S seconds, since a policy that never saw what comes
    after success does not finish); varied_starts: share of episodes that begin as after a failed grasp.
    """

    task: str = ""
    noise: float = 0.0
    stay_steps: int | None = None
    model: str = ""
    varied_starts: float = 0.0
    extra: tuple[str, ...] = ()  # further parameters of the bridge, 'name:=value'

    def __post_init__(self) -> None:
        if self.stay_steps is not None and self.stay_steps < 0:
            raise UserError(f"stay_steps is {self.stay_steps}; expected 0 or more policy steps after success")


class ExpertSimulation(Protocol):
    """What a session needs of one."""

    def start(self) -> None:
        """Start what is to be started; no ROS yet."""

    def ended(self) -> str:
        """What it said last, '' while it runs."""
        ...

    def connect(self, node: Any, call: Call, wait: Wait) -> None:
        """Make clients and subscriptions on `node`."""

    def ready(self) -> str:
        """What is missing, '' if nothing is."""
        ...

    def reset(self, seed: int) -> None:
        """Begin the episode of `seed`."""

    def step(self) -> None:
        """One policy step under the expert's command."""

    def success(self, seed: int) -> bool:
        """Whether the episode of `seed` has succeeded."""
        ...

    def close(self) -> None:
        """End what was started."""


class OwnBridge:
    """Our bridge with its expert, in lock-step, as a process of its own; in a free domain unless one is set."""

    def __init__(self, contract_path: Path, options: ExpertOptions) -> None:
        self._path, self._options = contract_path, options
        self._bridge: subprocess.Popen[str] | None = None
        self._said: list[str] = []
        self._status: Any = None

    def start(self) -> None:
        """See ExpertSimulation."""
        if "ROS_DOMAIN_ID" not in os.environ:
            # Two recordings on one machine must not hear each other.
            os.environ["ROS_DOMAIN_ID"] = str(free_domain())
        options = self._options
        settings = [f"contract:={self._path}", "lockstep:=true", "expert:=true", "reliable_sensors:=true"]
        settings += [f"task:={options.task}"] if options.task else []
        settings += [f"model:={options.model}"] if options.model else []
        settings += [f"disturbance:={float(options.noise)}", f"varied_starts:={float(options.varied_starts)}"]
        settings += options.extra
        arguments = [part for setting in settings for part in ("-p", setting)]
        command = [sys.executable, "-m", "difftop_ros.nodes.simulation.bridge.node", "--ros-args", *arguments]
        self._bridge = subprocess.Popen(
            command, env=ros_env.ros_environment(local_only=True), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        threading.Thread(target=self._listen, args=(self._bridge.stderr,), daemon=True).start()

    def _listen(self, stream: Any) -> None:
        for line in stream:
            self._said = [*self._said[-20:], line.rstrip()]

    def ended(self) -> str:
        """See ExpertSimulation."""
        if self._bridge is not None and self._bridge.poll() is None:
            return ""
        said = [line for line in self._said if line.startswith("error:")] or self._said[-1:]
        return " ".join(said).removeprefix("error: ") or "it said nothing"

    def connect(self, node: Any, call: Call, wait: Wait) -> None:
        """See ExpertSimulation."""
        from rclpy.qos import DurabilityPolicy, QoSProfile

        from difftop_ros.msg import EpisodeStatus
        from difftop_ros.srv import ResetEpisode, StepSimulation

        self._call = call
        qos = QoSProfile(depth=50, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(EpisodeStatus, EPISODE_TOPIC, self._on_status, qos)
        self._reset = node.create_client(ResetEpisode, "sim/reset")
        self._step = node.create_client(StepSimulation, "sim/step")

    def _on_status(self, status: Any) -> None:
        self._status = status

    def ready(self) -> str:
        """See ExpertSimulation."""
        answers = self._reset.service_is_ready() and self._step.service_is_ready()
        return "" if answers else "its services do not answer"

    def _ask(self, client: Any, **fields: Any) -> None:
        response = self._call(client, client.srv_type.Request(**fields))
        if not response.success:
            raise UserError(f"{client.srv_name}: {response.message}")

    def reset(self, seed: int) -> None:
        """See ExpertSimulation."""
        self._ask(self._reset, seed=seed, task=self._options.task)
        self._status = None

    def step(self) -> None:
        """See ExpertSimulation."""
        self._ask(self._step, steps=1, wait_for_command=True)

    def success(self, seed: int) -> bool:
        """See ExpertSimulation."""
        status = self._status
        return bool(status is not None and status.seed == seed and status.success)

    def close(self) -> None:
        """See ExpertSimulation."""
        if self._bridge is not None and self._bridge.poll() is None:
            self._bridge.terminate()
            try:
                self._bridge.wait(5.0)
            except subprocess.TimeoutExpired:
                self._bridge.kill()
                self._bridge.wait()


class ForeignBridge:
    """A simulator that runs already, by simulation_interfaces; our expert watches a mirror of it in our own world.

    The mirror takes over joint states and bodies at every policy step. The simulator must pause, step and tell of
    bodies; how long its step is, is seen from the clock.
    """

    def __init__(self, contract: Contract, options: ExpertOptions, success_when: str = "") -> None:
        self._contract, self._success_when = contract, success_when
        self._task = options.task or contract.sim.task or "none"
        self._newest: dict[str, Any] = {}
        self._steps = 0

    def start(self) -> None:
        """See ExpertSimulation."""
        os.environ.setdefault("ROS_DOMAIN_ID", "0")
        require_package("simulation_interfaces", "a simulator that somebody else runs")
        from difftop_ros.sim import make_world
        from difftop_ros.sim.interface import HasBodies, Mirror

        world: Any = make_world(self._task)
        if not (isinstance(world, HasBodies) and isinstance(world, Mirror)):
            raise UserError(f"the world of task '{self._task}' cannot mirror another; its expert acts in it alone")
        if marker := getattr(getattr(world, "task", None), "marker", None):
            raise UserError(
                f"task '{self._task}' is told where to go by its '{marker}', which other simulators lack; record "
                "another task, or in our own simulation without --sim"
            )
        self._world: Any = world

    def ended(self) -> str:
        """See ExpertSimulation: it is somebody else's."""
        return ""

    def connect(self, node: Any, call: Call, wait: Wait) -> None:
        """See ExpertSimulation."""
        from rclpy.qos import QoSProfile, ReliabilityPolicy

        from difftop_ros.nodes.simulation.bridge.expert import ExpertDriver
        from difftop_ros.nodes.simulation.control import ForeignSimulation

        contract, names = self._contract, list(self._world.joint_names)
        lacking = [name for name in names if name not in contract.command.joint_names]
        if lacking:
            raise UserError(f"the contract commands no {lacking}, which the expert moves; add them to command.joints")
        self._wait = wait
        self._simulation = ForeignSimulation(node, contract, call, wait, self._success_when, self._start)
        columns = [names.index(name) for name in contract.command.joint_names]
        self._driver = ExpertDriver(node, contract, columns, self._world)
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._joints = [obs for obs in contract.observations.values() if isinstance(obs, JointStateObs)]
        for obs in self._joints:
            node.create_subscription(
                ros_types(obs.type), obs.topic, lambda m, topic=obs.topic: self._newest.update({topic: m}), newest
            )

    def _start(self, seed: int) -> dict[str, np.ndarray]:
        self._world.reset(seed)
        return dict(self._world.bodies())

    def ready(self) -> str:
        """See ExpertSimulation."""
        return self._simulation.ready()

    def reset(self, seed: int) -> None:
        """See ExpertSimulation. The first time, how many of the simulator's steps make one of the policy's."""
        simulation = self._simulation
        if not self._steps:
            simulation.require("SIMULATION_STATE_PAUSE", "STEP_SIMULATION_MULTIPLE", "ENTITY_STATE_GETTING")
            simulation.play(False)
            before = simulation.time_s
            simulation.step(1)
            step_s, period_s = simulation.time_s - before, 1.0 / self._contract.rate_hz
            self._steps = max(round(period_s / step_s), 1) if step_s > 0 else 0
            if abs(self._steps * step_s - period_s) > 1e-3 * period_s:
                raise UserError(
                    f"the simulator's step is {step_s:g} s, the contract's period {period_s:g} s no multiple of it; "
                    "set the simulator's step, or the contract's rate_hz"
                )
        simulation.reset(seed)
        simulation.play(False)
        simulation.step(self._steps)  # so that joint states of this start are there
        self._look()
        self._driver.begin(self._world)

    def _look(self) -> None:
        """Take the simulator's present state over into the mirror."""
        now = self._simulation.time_s

        def there() -> bool:
            found = [self._newest.get(obs.topic) for obs in self._joints]
            return all(m and m.header.stamp.sec + m.header.stamp.nanosec * 1e-9 > now - 1e-6 for m in found)

        self._wait(there, STATE_S, lambda: f"no joint states of {now:.3f} s came within {STATE_S:g} s")
        position, velocity = dict[str, float](), dict[str, float]()
        for obs in self._joints:
            message = read(self._newest[obs.topic], obs.coupling)
            position |= dict(zip(message.name, message.position, strict=False))
            velocity |= dict(zip(message.name, message.velocity, strict=False))
        world = self._world
        rows = [[values.get(name, 0.0) for name in world.joint_names] for values in (position, velocity)]
        world.mirror(np.array(rows[0]), np.array(rows[1]))
        for name, pose in self._simulation.bodies(list(world.bodies())).items():
            world.place(name, pose)

    def step(self) -> None:
        """See ExpertSimulation."""
        self._driver(round(self._simulation.time_s * 1e9))
        time.sleep(TAKEN_S)
        self._simulation.step(self._steps)
        self._look()

    def success(self, seed: int) -> bool:
        """See ExpertSimulation."""
        return self._simulation.success(seed)

    def close(self) -> None:
        """See ExpertSimulation: it is left as it is, playing."""
        if self._steps:
            try:
                self._simulation.play()
            except UserError:
                return  # it has ended
