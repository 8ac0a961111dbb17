"""The robot that a trainer tries, over topics: its streams, its command, its reward, its resets. Wiring alone.

Import after environment.prepare(). The node must be spun by another thread than the one that tries.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from difftop_ros.contract import Contract
from difftop_ros.errors import UserError
from difftop_ros.learning.reinforcement.environments import Trial
from difftop_ros.learning.reinforcement.rewards import Rewarding
from difftop_ros.nodes.policy.connections import LATCHED_QOS, Connections
from difftop_ros.nodes.policy.readiness import not_ready
from difftop_ros.nodes.topics import deserialize
from difftop_ros.runtime.clock import SimTime, SystemTime
from difftop_ros.runtime.trying.robot import RobotEnv, Told, Wiring

READY_S = 60.0  # for streams to appear
ANSWER_S = 30.0  # for a reset to be answered
HAND, SIMULATION = "hand", "sim/reset"


class TriedRobot:
    """The robot of a contract on an rclpy node as a Trial of the learner; `close` ends what it subscribed to.

    Raises UserError where the streams do not come, or where somebody else commands the robot.
    """

    def __init__(
        self, node: Any, contract: Contract, reset: str, reward_from: str, stopped: Callable[[], bool]
    ) -> None:
        """reset: the service that begins anew (ResetEpisode for the simulation's, else std_srvs/Trigger), or 'hand'."""
        self._node, self._contract, self._stopped = node, contract.in_namespace(node.get_namespace()), stopped
        self._told, self._service = Told(), reset
        sim_time = bool(node.get_parameter("use_sim_time").value)
        self._source: SystemTime | SimTime = SimTime() if sim_time else SystemTime()
        self._connections = Connections(node, self._contract, self._source, 1)
        rewarded = self._listen(Rewarding(reward_from, contract).task)
        self._prepared = threading.Event()
        self._client: Any = self._make_reset(reset)
        try:
            self._wait_for_streams()
            wiring = Wiring(
                self._source, self._connections.streams, deserialize, self._connections.open_command(), self._told,
                self._reset, self._connections.crowded, rewarded,
            )  # fmt: skip
            env = RobotEnv(self._contract, wiring)
        except UserError:
            self._connections.close()
            raise
        self._trial = Trial("ros", env, 1, env.max_steps, self._contract, reward_from)

    def trial(self) -> Trial:
        """The robot as something to try: there is one, also where several are asked for."""
        return self._trial

    def close(self) -> None:
        """Bring the robot to rest and end every subscription and publisher."""
        try:
            self._trial.close()
        finally:
            self._connections.close()

    def _listen(self, rewarded: bool) -> str:
        """Subscribe to reward and success; the topic of rewards, '' if none is wanted."""
        from std_msgs.msg import Bool, Float64

        episode, told = self._contract.episode, self._told
        if rewarded:
            self._node.create_subscription(Float64, episode.rewarded_on, lambda message: told.earn(message.data), 10)
        if episode.success_topic is not None:

            def hear(message: Any) -> None:
                told.success = bool(message.data)

            self._node.create_subscription(Bool, episode.success_topic, hear, LATCHED_QOS)
        return self._node.resolve_topic_name(episode.rewarded_on) if rewarded else ""

    def _make_reset(self, reset: str) -> Any:
        from std_srvs.srv import Trigger

        from difftop_ros.srv import ResetEpisode

        if reset != HAND:
            return self._node.create_client(ResetEpisode if reset == SIMULATION else Trigger, reset)

        def on_ready(request: Any, response: Any) -> Any:
            self._prepared.set()
            response.success, response.message = True, "the next episode begins"
            return response

        return self._node.create_service(Trigger, "~/ready", on_ready)

    def _wait_for_streams(self) -> None:
        end, streams = time.monotonic() + READY_S, self._connections.streams
        while (reason := not_ready(self._node, streams, self._source) or self._connections.crowded()) != "":
            if time.monotonic() > end or self._stopped():
                raise UserError(reason)
            time.sleep(0.05)

    def _reset(self, seed: int) -> None:
        """As Wiring.reset."""
        if self._service == HAND:
            self._prepared.clear()
            self._node.get_logger().info(
                "set the scene up for an episode, then: ros2 service call "
                f"{self._node.get_fully_qualified_name()}/ready std_srvs/srv/Trigger"
            )
            while not self._prepared.wait(0.1):
                if self._stopped():
                    raise UserError("stopped while the scene was being set up; the same command goes on from there")
            return
        request = self._client.srv_type.Request()
        if self._service == SIMULATION:
            request.seed = seed
        done = threading.Event()
        if not self._client.wait_for_service(ANSWER_S):
            raise UserError(
                f"nobody offers the service '{self._service}'; start the simulation, or set reset to 'hand'"
            )
        future = self._client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(ANSWER_S):
            raise UserError(f"the service '{self._service}' did not answer within {ANSWER_S:g} s; see its log")
        answer = future.result()
        if not answer.success:
            raise UserError(f"the service '{self._service}' refused: {answer.message}")
