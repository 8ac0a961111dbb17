"""The demo's own node: hears the simulation and the policy node, calls their services. Import after ros_env.prepare().

Callbacks store messages and no more; one thread spins. What the numbers mean is demo_report.py's job.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from difftop_ros.errors import UserError
from difftop_ros.messages.types import ros_types
from difftop_ros.nodes.children import Child, wait_until
from difftop_ros.nodes.simulation.state import STATE_TOPIC, STATE_TYPE, snapshot_of
from difftop_ros.sim.interface import Snapshot
from difftop_ros.sim.placed import Placed

POLICY_NODE, BRIDGE_NODE = "difftop_policy", "sim_bridge"
START_TIMEOUT_S, CONFIGURE_TIMEOUT_S, CALL_TIMEOUT_S = 90.0, 150.0, 30.0


def seconds(stamp: Any) -> float:
    """A builtin_interfaces/Time as seconds."""
    return stamp.sec + stamp.nanosec * 1e-9


@dataclass
class Heard:
    """What came in since the last `Monitor.forget`; each list is in order of arrival.

    solver: SolverStatus messages;  diagnostics: the policy node's values as strings, with 'level' and 'message';
    pace: the simulation's values;  film: (simulated time [s], state).
    """

    solver: list[Any] = field(default_factory=list)
    diagnostics: list[dict[str, str]] = field(default_factory=list)
    pace: list[dict[str, str]] = field(default_factory=list)
    film: list[tuple[float, Snapshot]] = field(default_factory=list)


class OwnSimulation:
    """Our bridge, by its own services and topics, as the demo needs it of any simulation."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def ready(self) -> str:
        """What is missing, '' if nothing is."""
        return "" if self._monitor.reset_client.service_is_ready() else "its services do not answer"

    def reset(self, seed: int, task: str) -> float:
        """Begin the episode of `seed`; its first time [s]. UserError if the simulation refuses."""
        from difftop_ros.srv import ResetEpisode

        answer = self._monitor.call(self._monitor.reset_client, ResetEpisode.Request(seed=seed, task=task))
        if not answer.success:
            raise UserError(f"the simulation refused seed {seed}: {answer.message}")
        return seconds(answer.stamp)

    @property
    def time_s(self) -> float:
        """Simulated time [s] of the newest episode status, 0 before the first."""
        episode = self._monitor.episode
        return seconds(episode.header.stamp) if episode is not None else 0.0

    def success(self, seed: int) -> bool | None:
        """Whether the episode of `seed` has succeeded; None while it has not begun."""
        episode = self._monitor.episode
        return bool(episode.success) if episode is not None and episode.seed == seed else None


class Monitor:
    """Subscriptions and service clients on one node. `close` when done."""

    def __init__(self, children: list[Child]) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile

        self._children = children
        self.heard = Heard()
        self.episode: Any = None  # newest EpisodeStatus
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)  # the command line is difftop's, not ROS's
        self.node = rclpy.create_node("difftop_demo", context=self._context)
        latched = QoSProfile(depth=50, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._listen("difftop_ros/msg/EpisodeStatus", "sim/episode", self._on_episode, latched)
        self._listen("difftop_ros/msg/SolverStatus", "difftop/solver_status", self._on_solver, 100)
        self._listen("diagnostic_msgs/msg/DiagnosticArray", "/diagnostics", self._on_diagnostics, 50)
        self._listen(STATE_TYPE, STATE_TOPIC, self._on_state, 100)
        from lifecycle_msgs.srv import ChangeState
        from rcl_interfaces.srv import SetParameters

        from difftop_ros.srv import ResetEpisode

        self.parameter_client = self.node.create_client(SetParameters, f"/{BRIDGE_NODE}/set_parameters")
        self.reset_client = self.node.create_client(ResetEpisode, "sim/reset")
        self.change_client = self.node.create_client(ChangeState, f"/{POLICY_NODE}/change_state")
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="demo-monitor", daemon=True)
        self._thread.start()

    def _listen(self, kind: str, topic: str, callback: Callable[[Any], None], qos: Any) -> None:
        self.node.create_subscription(ros_types(kind), topic, callback, qos)

    def _spin(self) -> None:
        from rclpy.executors import ExternalShutdownException

        try:
            while not self._closing.is_set():
                self._executor.spin_once(timeout_sec=0.1)
        except ExternalShutdownException:
            return

    def _on_episode(self, message: Any) -> None:
        self.episode = message

    def _on_solver(self, message: Any) -> None:
        self.heard.solver.append(message)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            values |= {"level": str(int.from_bytes(status.level, "little")), "message": status.message}
            if status.name == POLICY_NODE:
                self.heard.diagnostics.append(values)
            elif status.name == f"{BRIDGE_NODE}: simulation":
                self.heard.pace.append(values)

    def _on_state(self, message: Any) -> None:
        self.heard.film.append(snapshot_of(message))

    def forget(self) -> Heard:
        """Hands over what was heard and begins anew."""
        heard, self.heard = self.heard, Heard()
        return heard

    @property
    def policy(self) -> dict[str, str]:
        """The policy node's newest diagnostics, empty before the first."""
        return self.heard.diagnostics[-1] if self.heard.diagnostics else {}

    def wait(self, condition: Callable[[], bool], timeout_s: float, why: Callable[[], str]) -> None:
        """Waits for `condition`; UserError when a process of the demo ends meanwhile, or with why() after the time."""
        wait_until(condition, timeout_s, self._children, why)

    def others(self, nodes: Collection[str], listen_s: float = 1.5) -> list[str]:
        """Which of `nodes` are in this domain, as heard within `listen_s` seconds."""
        deadline = time.monotonic() + listen_s
        while time.monotonic() < deadline:
            found = set(nodes) & set(self.node.get_node_names())
            if found:
                return sorted(found)
            time.sleep(0.05)
        return []

    def call(self, client: Any, request: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """The service's response. UserError when it does not answer in time or a process ends meanwhile."""
        future = client.call_async(request)
        self.wait(future.done, timeout_s, lambda: f"{client.srv_name} did not answer within {timeout_s:g} s")
        return future.result()

    def transition(self, name: str, timeout_s: float = CALL_TIMEOUT_S) -> bool:
        """Asks the policy node for the lifecycle transition 'configure', 'activate' or 'deactivate'; whether it did."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        wanted = Transition(id=getattr(Transition, f"TRANSITION_{name.upper()}"))
        return bool(self.call(self.change_client, ChangeState.Request(transition=wanted), timeout_s).success)

    def set_obstacles(self, placed: Sequence[Placed]) -> None:
        """What stands in the simulation's world from its next reset on. UserError if it refuses."""
        from rcl_interfaces.msg import Parameter
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import ParameterType

        parameter = Parameter(name="obstacles")
        parameter.value.type = ParameterType.PARAMETER_STRING
        parameter.value.string_value = json.dumps([each.model_dump(mode="json") for each in placed]) if placed else ""
        answer = self.call(self.parameter_client, SetParameters.Request(parameters=[parameter])).results[0]
        if not answer.successful:
            raise UserError(f"the simulation refused the obstacles: {answer.reason}")

    def close(self) -> None:
        """Ends node and thread, bounded in time."""
        self._closing.set()
        self._thread.join(2.0)
        self._executor.shutdown(timeout_sec=2.0)
        self._context.try_shutdown()
        self.node.destroy_node()
