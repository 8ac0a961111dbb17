"""A simulation that somebody else runs, by simulation_interfaces' services and the contract's topics alone.

Services are found by their types, whatever the simulator calls them (/gzserver/reset_simulation, /reset_simulation,
...). What it cannot do is told in a sentence. Import after environment.prepare().
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from simulation_interfaces import srv
from simulation_interfaces.msg import EntityState, SimulationState, SimulatorFeatures

from difftop_ros.contract import Contract
from difftop_ros.errors import UserError
from difftop_ros.messages.types import ros_types
from difftop_ros.nodes.simulation.poses import pose_array, pose_message

PACKAGE = "simulation_interfaces"
FIND_S = 10.0
CLOCK_S = 5.0
HELD_S = 0.25  # that a condition on a body must hold to count
POLL_S = 0.1
_CONDITION = re.compile(r"\s*([\w:./-]+)\.([xyz])\s*([<>])\s*([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)\s*")
Call = Callable[[Any, Any], Any]
Wait = Callable[[Callable[[], bool], float, Callable[[], str]], None]


@dataclass(frozen=True)
class Condition:
    """'cube.z > 0.12': success is when a body's coordinate [m], in the simulation's world frame, is beyond a number."""

    entity: str
    axis: str
    above: bool
    bound: float

    @staticmethod
    def parse(text: str) -> Condition:
        """Raises UserError for another form."""
        found = _CONDITION.fullmatch(text)
        if not found:
            raise UserError(f"the condition is {text!r}; write ENTITY.AXIS > NUMBER, such as 'cube.z > 0.12'")
        return Condition(found[1], found[2], found[3] == ">", float(found[4]))

    def holds(self, pose: np.ndarray) -> bool:
        """Whether it does for the body's pose (7,)."""
        value = float(pose["xyz".index(self.axis)])
        return value > self.bound if self.above else value < self.bound


class ForeignSimulation:
    """Reset, pause, step and look; time from /clock, success from the contract's topic or a condition on a body.

    call(client, request) and wait(condition, timeout_s, why) are the caller's: its node's executor must spin meanwhile.
    starts(seed) tells where bodies lie at a start, (7,) by name; what it does not name is the simulator's matter.
    """

    def __init__(
        self, node: Any, contract: Contract, call: Call, wait: Wait, success_when: str = "",
        starts: Callable[[int], Mapping[str, np.ndarray]] = lambda seed: {},
    ) -> None:  # fmt: skip
        self._node, self._call, self._wait, self._starts = node, call, wait, starts
        self._condition = Condition.parse(success_when) if success_when else None
        self._topic = contract.episode.success_topic
        if self._condition is None and not self._topic:
            raise UserError(
                "nothing tells success: name a std_msgs/Bool topic as episode.success_topic in the contract, or give "
                "a condition on a body, --success-when 'cube.z > 0.12'"
            )
        self._clients: dict[str, Any] = {}
        self.time_s, self._clocks = 0.0, 0
        self._told, self._held_since, self._polled = False, -1.0, 0.0
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        node.create_subscription(ros_types("rosgraph_msgs/msg/Clock"), "/clock", self._on_clock, newest)
        if self._topic:
            node.create_subscription(ros_types("std_msgs/msg/Bool"), self._topic, self._on_success, newest)

    def _on_clock(self, message: Any) -> None:
        self.time_s = message.clock.sec + message.clock.nanosec * 1e-9
        self._clocks += 1

    def _on_success(self, message: Any) -> None:
        self._told = message.data

    # ---------------------------------------------------------------- services

    def ready(self) -> str:
        """What is missing, '' if nothing is: its clock and the service to reset it."""
        if not self._service("ResetSimulation"):
            return f"no service of type {PACKAGE}/srv/ResetSimulation is in the graph; start the simulator"
        return "" if self.time_s else "nothing was received on /clock; start the simulator, and its bridge to ROS"

    def _service(self, kind: str) -> str:
        """Name of the one service of that type, '' if there is none. Raises UserError for several."""
        wanted = f"{PACKAGE}/srv/{kind}"
        found = sorted(name for name, kinds in self._node.get_service_names_and_types() if wanted in kinds)
        if len(found) > 1:
            raise UserError(f"{len(found)} simulators serve {wanted}: {found}; end the others, or use another domain")
        return found[0] if found else ""

    def ask(self, kind: str, **fields: Any) -> Any:
        """The response of the service of that type. Raises UserError if nobody serves it or it says no."""
        response = self.try_to(kind, **fields)
        result = getattr(response, "result", None)
        if result is not None and result.result != 1:
            what = result.error_message or f"result {result.result}"
            raise UserError(f"{self._service(kind)} said: {what}")
        return response

    def try_to(self, kind: str, **fields: Any) -> Any:
        """As `ask`, whatever the result says."""
        service = getattr(srv, kind)
        if kind not in self._clients:
            self._wait(lambda: bool(self._service(kind)), FIND_S, lambda: f"nobody serves {PACKAGE}/srv/{kind}")
            client = self._clients[kind] = self._node.create_client(service, self._service(kind))
            self._wait(client.service_is_ready, FIND_S, lambda: f"{client.srv_name} does not answer")
        return self._call(self._clients[kind], service.Request(**fields))

    def features(self) -> frozenset[str]:
        """Names of what it says it can do."""
        named = {
            getattr(SimulatorFeatures, name): name
            for name in dir(SimulatorFeatures)
            if name.isupper() and isinstance(getattr(SimulatorFeatures, name), int)
        }
        told = self.ask("GetSimulatorFeatures").features.features
        return frozenset(named[number] for number in told if number in named)

    def require(self, *features: str) -> None:
        """Raises UserError naming those of `features` that it does not have."""
        lacking = sorted(set(features) - self.features())
        if lacking:
            raise UserError(f"the simulator does not offer {', '.join(lacking)}, without which this cannot be done")

    def play(self, on: bool = True) -> None:
        """Let time go on, or pause it."""
        wanted = SimulationState(state=SimulationState.STATE_PLAYING if on else SimulationState.STATE_PAUSED)
        result = self.try_to("SetSimulationState", state=wanted).result
        if result.result not in (1, srv.SetSimulationState.Response.ALREADY_IN_TARGET_STATE):
            raise UserError(f"the simulator does not {'play' if on else 'pause'}: {result.error_message}")

    def reset(self, seed: int, task: str = "") -> float:
        """Begin again, with the start's bodies laid out where it knows them; the time after that [s]."""
        bodies, features = self._starts(seed), self.features()
        pauses = "SIMULATION_STATE_PAUSE" in features
        if pauses:
            self.play(False)
        self.ask("ResetSimulation")
        if bodies and "ENTITY_STATE_SETTING" in features:
            known = set(self.ask("GetEntities").entities)
            for name in known & set(bodies):
                state = EntityState(pose=pose_message(bodies[name]))
                self.ask("SetEntityState", entity=name, state=state, set_pose=True)
        if pauses:
            self.play()
        seen = self._clocks  # a clock that was reset may be behind what was heard before
        self._wait(lambda: self._clocks > seen + 1, CLOCK_S, lambda: "/clock stands still after the reset")
        self._told, self._held_since = False, -1.0
        return self.time_s

    def step(self, steps: int) -> None:
        """So many steps of physics, while paused; returns when the clock has told of it."""
        before = self.time_s
        self.ask("StepSimulation", steps=steps)
        self._wait(lambda: self.time_s != before, CLOCK_S, lambda: "/clock stands still although steps were made")

    def bodies(self, names: Mapping[str, Any] | list[str]) -> dict[str, np.ndarray]:
        """Where bodies are, (7,) each: x, y, z [m], quaternion x, y, z, w in its world's frame."""
        return {name: pose_array(self.ask("GetEntityState", entity=name).state.pose) for name in names}

    # ---------------------------------------------------------------- episodes

    def success(self, seed: int = 0) -> bool:
        """Whether it is there now, whatever the seed; a body is asked for ten times a second at most."""
        if self._condition is None:
            return self._told
        if time.monotonic() - self._polled >= POLL_S:
            self._polled = time.monotonic()
            held = self._condition.holds(self.bodies([self._condition.entity])[self._condition.entity])
            self._held_since = -1.0 if not held else self.time_s if self._held_since < 0 else self._held_since
        return 0 <= self._held_since <= self.time_s - HELD_S
