"""Records a scripted expert's episodes through the topics: a lock-step simulation in its own process, a recorder here.

Every policy step: the simulation publishes its sensors at t_k, the expert's command for t_k goes over DDS, then time
moves on. So each bag is what a recorder beside a robot would have seen, at the speed the machine can draw. Which
simulation: simulations.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difftop_ros.contract import Contract
from difftop_ros.errors import UserError
from difftop_ros.nodes import environment as ros_env
from difftop_ros.nodes.recorder.recorder import Recorder
from difftop_ros.nodes.recorder.simulations import CALL_TIMEOUT_S, START_TIMEOUT_S, ExpertOptions, ExpertSimulation

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


class ExpertSession:
    """A simulation with an expert, and a recorder; use as a context manager and call `record` for each seed.

    Raises UserError when the simulation cannot start, with what it said.
    """

    def __init__(
        self, contract: Contract, out: Path, options: ExpertOptions, simulation: ExpertSimulation, *, name: str = ""
    ) -> None:
        self._contract, self._out, self._options, self._name = contract, out, options, name
        self._simulation = simulation

    def __enter__(self) -> ExpertSession:
        ros_env.prepare(local_only=True)
        try:
            self._simulation.start()
            self._start_node()
            self._wait_until_ready()
            self._simulation.reset(0)  # what it published before must not get into a recording
            self._let_arrive()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_node(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.parameter import Parameter

        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        by_simulation = [Parameter("use_sim_time", value=True)]
        self.node = rclpy.create_node("difftop_record", context=self._context, parameter_overrides=by_simulation)
        self.recorder = Recorder(self.node, self._contract, self._out, name=self._name)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._simulation.connect(self.node, self._call, self._wait)
        self._thread = threading.Thread(target=self._spin, name="recorder", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        from rclpy.executors import ExternalShutdownException

        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def _wait_until_ready(self) -> None:
        def lacking() -> str:
            return self._simulation.ready() or "; ".join(self.recorder.findings(without_command=False))

        def ready() -> bool:
            return not lacking() and set(self.recorder.required) <= set(self.recorder.topics.types)

        self._wait(ready, START_TIMEOUT_S, lambda: f"not ready after {START_TIMEOUT_S:g} s: {lacking()}")

    def _wait(self, condition: Callable[[], bool], timeout: float, why: Callable[[], str]) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if ended := self._simulation.ended():
                raise UserError(f"the simulation ended: {ended}")
            if time.monotonic() > deadline:
                raise UserError(f"the simulation: {why()}")
            time.sleep(0.005)

    def _call(self, client: Any, request: Any) -> Any:
        future = client.call_async(request)
        self._wait(future.done, CALL_TIMEOUT_S, lambda: f"{client.srv_name} does not answer")
        return future.result()

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
        simulation = self._simulation
        simulation.reset(seed)
        rate_hz, stay_steps = self._contract.rate_hz, self._options.stay_steps
        longest = round(self._contract.episode.max_seconds * rate_hz)
        stay = round(STAY_S * rate_hz) if stay_steps is None else stay_steps
        steps, stayed = 0, 0
        while steps < longest and (not stayed or stayed < stay):
            simulation.step()
            steps += 1
            stayed += bool(stayed or simulation.success(seed))
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
        """End simulation and node; bounded in time."""
        self._simulation.close()
        if hasattr(self, "_executor"):
            self._executor.shutdown(timeout_sec=2.0)
            self._context.try_shutdown()
            self._thread.join(2.0)
            self.node.destroy_node()
        ros_env.clean_shared_memory()
