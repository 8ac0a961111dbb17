"""Records a scripted expert's episodes through the topics: a lock-step bridge in its own process, a recorder here.

Every policy step: the bridge publishes its sensors at t_k, the expert's command for t_k goes over DDS, then time moves
on. So each bag is what a recorder beside a robot would have seen, at the speed the machine can draw.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difftop_ros.contract import Contract
from difftop_ros.errors import UserError
from difftop_ros.nodes import environment as ros_env
from difftop_ros.nodes.children import free_domain
from difftop_ros.nodes.recorder.recorder import EPISODE_TOPIC, Recorder

START_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 30.0
STAY_S = 1.25


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode. steps: policy steps; seconds: wall time it took."""

    bag: Path
    seed: int
    success: bool
    steps: int
    seconds: float
    messages: int


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


class ExpertSession:
    """A running bridge with expert and a recorder; use as a context manager and call `record` for each seed.

    Raises UserError when the bridge cannot start, with what it said.
    """

    def __init__(self, contract: Contract, contract_path: Path, out: Path, options: ExpertOptions, *, name: str = ""):
        self._contract, self._path, self._out = contract, contract_path, out
        self._options, self._name = options, name
        self._status: Any = None
        self._bridge: subprocess.Popen[str] | None = None
        self._said: list[str] = []

    def __enter__(self) -> ExpertSession:
        ros_env.prepare(local_only=True)
        if "ROS_DOMAIN_ID" not in os.environ:
            # Two recordings on one machine must not hear each other.
            os.environ["ROS_DOMAIN_ID"] = str(free_domain())
        try:
            self._start_bridge()
            self._start_node()
            self._wait_until_ready()
            self._let_first_episode_pass()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_bridge(self) -> None:
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

    def _start_node(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.parameter import Parameter
        from rclpy.qos import DurabilityPolicy, QoSProfile

        from difftop_ros.msg import EpisodeStatus
        from difftop_ros.srv import ResetEpisode, StepSimulation

        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        by_simulation = [Parameter("use_sim_time", value=True)]
        self.node = rclpy.create_node("difftop_record", context=self._context, parameter_overrides=by_simulation)
        self.recorder = Recorder(self.node, self._contract, self._out, name=self._name)
        qos = QoSProfile(depth=50, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(EpisodeStatus, EPISODE_TOPIC, self._on_status, qos)
        self._reset = self.node.create_client(ResetEpisode, "sim/reset")
        self._step = self.node.create_client(StepSimulation, "sim/step")
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name="recorder", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        from rclpy.executors import ExternalShutdownException

        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def _on_status(self, status: Any) -> None:
        self._status = status

    def _wait_until_ready(self) -> None:
        def ready() -> bool:
            services = self._reset.service_is_ready() and self._step.service_is_ready()
            return services and not self.recorder.findings(without_command=False) and self._subscribed()

        self._wait(ready, START_TIMEOUT_S, lambda: "; ".join(self.recorder.findings()) or "its services do not answer")

    def _let_first_episode_pass(self) -> None:
        """The bridge begins an episode of its own when it starts; its first frames must not get into a recording."""
        from difftop_ros.srv import ResetEpisode

        self._call(self._reset, ResetEpisode.Request(seed=0, task=self._options.task))
        self._let_arrive()

    def _subscribed(self) -> bool:
        return set(self.recorder.required) <= set(self.recorder.topics.types)

    def _wait(self, condition: Callable[[], bool], timeout: float, why: Callable[[], str]) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if self._bridge is None or self._bridge.poll() is not None:
                said = [line for line in self._said if line.startswith("error:")] or self._said[-1:]
                raise UserError(f"the simulation ended: {' '.join(said).removeprefix('error: ') or 'it said nothing'}")
            if time.monotonic() > deadline:
                raise UserError(f"the simulation is not ready after {timeout:.0f} s: {why()}")
            time.sleep(0.02)

    def _call(self, client: Any, request: Any) -> Any:
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        self._wait(lambda: done.wait(0.5), CALL_TIMEOUT_S, lambda: f"{client.srv_name} does not answer")
        response = future.result()
        if not response.success:
            raise UserError(f"{client.srv_name}: {response.message}")
        return response

    def record(self, seed: int) -> Demonstration:
        """One episode from `seed` to a bag, ended some steps after success or at the contract's longest duration."""
        options, began = self._options, time.monotonic()
        self.recorder.start(seed=seed, task=options.task or self._contract.sim.task, expert=True, noise=options.noise)
        try:
            success, steps = self._run_episode(seed)
            self._let_arrive()
        except BaseException:
            self.recorder.stop(None, interrupted=True)
            raise
        bag = self.recorder.stop(success, steps=steps)
        return Demonstration(bag.folder, seed, success, steps, time.monotonic() - began, sum(bag.counts.values()))

    def _run_episode(self, seed: int) -> tuple[bool, int]:
        from difftop_ros.srv import ResetEpisode, StepSimulation

        self._call(self._reset, ResetEpisode.Request(seed=seed, task=self._options.task))
        self._status = None
        rate_hz, stay_steps = self._contract.rate_hz, self._options.stay_steps
        longest = round(self._contract.episode.max_seconds * rate_hz)
        stay = round(STAY_S * rate_hz) if stay_steps is None else stay_steps
        steps, stayed = 0, 0
        while steps < longest and (not stayed or stayed < stay):
            self._call(self._step, StepSimulation.Request(steps=1, wait_for_command=True))
            steps += 1
            status = self._status
            stayed += bool(stayed or (status is not None and status.seed == seed and status.success))
        return stayed > 0, steps

    def _let_arrive(self, quiet_s: float = 0.15) -> None:
        """Wait until nothing more comes in: services and topics travel separately."""

        def count() -> int:
            return sum(self.recorder.topics.received(topic)[0] for topic in self.recorder.topics.types)

        before, since, deadline = count(), time.monotonic(), time.monotonic() + 3.0
        while time.monotonic() - since < quiet_s and time.monotonic() < deadline:
            time.sleep(0.02)
            if count() != before:
                before, since = count(), time.monotonic()

    def close(self) -> None:
        """End bridge and node; bounded in time."""
        if self._bridge is not None and self._bridge.poll() is None:
            self._bridge.terminate()
            try:
                self._bridge.wait(5.0)
            except subprocess.TimeoutExpired:
                self._bridge.kill()
                self._bridge.wait()
        if hasattr(self, "_executor"):
            self._executor.shutdown(timeout_sec=2.0)
            self._context.try_shutdown()
            self._thread.join(2.0)
            self.node.destroy_node()
        ros_env.clean_shared_memory()
