"""A robot as a gymnasium environment: observed by its streams, commanded through shaper and gate. No ROS here.

An episode is one life of the control loop that the policy node runs: it begins at rest in the measured pose, follows
each step's command at the control rate, holds when the gate refuses one, and ends at rest. Between episodes, while a
learner computes and the scene is reset, nothing is commanded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.errors import UserError
from difftop_ros.messages import ObservationError, ObservationPipeline
from difftop_ros.runtime.clock import Pacer, TimeSource
from difftop_ros.runtime.control import ControlLoop
from difftop_ros.runtime.joints import JointReader
from difftop_ros.runtime.plan import PlanBuffer, TimedPlan
from difftop_ros.runtime.run import CommandOutlet
from difftop_ros.runtime.streams import Deserialize, Renewed, StreamBuffers
from difftop_ros.safety import (
    Belief,
    CommandGate,
    GateSettings,
    HoldSupervisor,
    MotionLimits,
    MotionShaper,
    make_checks,
)
from difftop_ros.sim.env import space_of

SYNC_NS = 150_000_000  # observations are of the newest moment for which every stream has delivered, this far back
PATIENCE_S = 10.0  # of wall time, for messages after a reset and for the clock to go on
MOMENT_S = 2.0  # for the reward of a step, and for an observation that cannot be made at once
RESUME, HOLDS, WINDOW_S, OVERRUNS = 3, 5, 10.0, 5  # as the policy node's parameters have them
PLAN_AGE_MS, TRACKING_S = 500.0, 0.5
HELD = 3  # episodes in a row that the gate has ended before they were half over

Frames = dict[str, np.ndarray]


@dataclass
class Told:
    """What the robot's side says of the present moment; written by whoever hears it.

    reward: the newest, of `rewards` so far; success: whether the task is done, None while nobody has said so.
    """

    reward: float = 0.0
    rewards: int = 0
    success: bool | None = None

    def earn(self, reward: float) -> None:
        """Hear a reward."""
        self.reward = reward
        self.rewards += 1


@dataclass(frozen=True)
class Wiring:
    """What an environment needs of the robot: time, messages, where commands go, what is told, how to begin anew.

    reset(seed) returns when the scene is ready for an episode and raises UserError when it cannot be; objection() says
    why the robot must not be commanded now, '' if it may; rewarded: the topic of rewards, '' if none are waited for.
    """

    source: TimeSource
    streams: StreamBuffers
    decode: Deserialize
    outlet: CommandOutlet
    told: Told
    reset: Callable[[int], None]
    objection: Callable[[], str]
    rewarded: str = ""


class RobotEnv(gymnasium.Env[Any, np.ndarray]):
    """Observations and actions as ContractEnv's: frames by key, commands (A,) within their bounds, a step per period.

    An episode is truncated at the contract's max_seconds, and where the robot holds again and again. `info`: success if
    anybody tells it, note. Raises UserError where the robot's side does not answer: what was learned is the caller's.
    """

    def __init__(self, contract: Contract, wiring: Wiring) -> None:
        """Raises UserError for increments, which the control loop counts differently from a step."""
        if contract.command.mode == "delta_position":
            raise UserError(
                "a robot is tried with command.mode position or velocity; the contract has delta_position: change it"
            )
        self.contract, self._wiring = contract, wiring
        self._limits = MotionLimits.of(contract.command, contract.control_rate_hz)
        self._pipeline = ObservationPipeline(contract, lambda message: wiring.decode(message.raw, message.kind), 4)
        self._joints = JointReader(contract, wiring.streams, wiring.decode)
        self._low, self._high = (np.asarray(side, np.float32) for side in contract.command.bounds())
        spaces: dict[str, gymnasium.Space[Any]] = {
            key: space_of(shape, dtype) for key, (shape, dtype) in self._pipeline.spec.items()
        }
        self.observation_space = gymnasium.spaces.Dict(spaces)
        self.action_space = gymnasium.spaces.Box(self._low, self._high, dtype=np.float32)
        self._period_ns = round(1e9 / contract.rate_hz)
        self.max_steps = round(contract.episode.max_seconds * contract.rate_hz)
        self._loop: ControlLoop | None = None
        self._plans, self._supervisor = PlanBuffer(self._limits.dt), HoldSupervisor(RESUME, HOLDS, WINDOW_S)
        self._frames: Frames = {}
        self._goal = np.zeros(self._limits.size)
        self._steps = self._held = 0
        self._due_ns = 0  # when the next step begins

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frames, dict[str, Any]]:
        """Bring the robot to rest, have the scene reset, and begin at the measured pose."""
        super().reset(seed=seed)
        self._end()
        wiring = self._wiring
        wiring.reset(int(self.np_random.integers(2**31)) if seed is None else seed)
        renewed = Renewed(wiring.streams)
        self._wait(renewed, lambda: f"no message on {renewed.waiting()} since the reset")
        if reason := wiring.objection():
            raise UserError(reason)
        self._begin()
        self._frames = self._observe()
        self._due_ns = wiring.source.now_ns()
        return dict(self._frames), self._info("")

    def step(self, action: np.ndarray) -> tuple[Frames, float, bool, bool, dict[str, Any]]:
        """Go to `action` (A,) within one period of the contract, or hold that velocity for it."""
        assert self._loop is not None, "reset first"
        wiring, before = self._wiring, self._wiring.told.rewards
        now = wiring.source.now_ns()
        begin = self._due_ns if abs(now - self._due_ns) < self._period_ns // 2 else now
        self._due_ns = begin + self._period_ns
        goal = np.clip(np.asarray(action, np.float64), self._low, self._high)
        rows = np.stack([self._goal, goal]) if self._limits.mode == "position" else goal[None]
        self._follow(rows, now, begin)
        self._goal = goal
        self._wait(lambda: wiring.source.now_ns() >= self._due_ns, lambda: "the clock stands still")
        self._steps += 1
        note = self._seen() or wiring.objection() or self._supervisor.exhausted
        if self._loop.failure:
            raise UserError(self._loop.failure)
        if wiring.rewarded and not note:
            missing = f"no reward came on '{wiring.rewarded}' (std_msgs/msg/Float64) in a step"
            self._wait(lambda: wiring.told.rewards > before, lambda: missing, MOMENT_S)
        self._count_held(note)
        return (
            dict(self._frames),
            wiring.told.reward,
            False,
            bool(note) or self._steps >= self.max_steps,
            self._info(note),
        )

    def close(self) -> None:
        """Bring the robot to rest; may be called twice."""
        self._end()

    def _begin(self) -> None:
        """A control loop that begins at rest where the robot is measured to be."""
        wiring, limits = self._wiring, self._limits
        age_ms = max(PLAN_AGE_MS, 3e3 / self.contract.rate_hz)
        gate = CommandGate(limits, make_checks(GateSettings(age_ms, self._joints.max_age_ms, TRACKING_S)))
        self._joints.believe(Belief(limits))
        reading = self._joints.read(wiring.source.now_ns())
        start, why = gate.start_position(reading.position)
        if reading.fault or start is None:
            raise UserError(reading.fault or why)
        self._plans, self._supervisor = PlanBuffer(limits.dt), HoldSupervisor(RESUME, HOLDS, WINDOW_S)
        self._goal, self._steps = start, 0
        self._loop = ControlLoop(
            gate=gate, shaper=MotionShaper(limits), supervisor=self._supervisor, plans=self._plans,
            pacer=Pacer(wiring.source, limits.dt), read_joints=self._joints.read, publish=wiring.outlet.send,
            max_overruns=OVERRUNS,
        )  # fmt: skip
        self._loop.start()

    def _end(self) -> None:
        """Decelerate and leave the safe command behind, if a loop runs."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        ended = loop.stop()
        safe = loop.safe_command()
        if safe is not None and loop.started:
            self._wiring.outlet.farewell(safe)
        if not ended:
            raise UserError("the control thread did not end in time; look at the robot, and free the machine")

    def _follow(self, rows: np.ndarray, seen_ns: int, begin_ns: int) -> None:
        limits, step_s = self._limits, self._period_ns / 1e9
        plan = TimedPlan(
            seen_ns, step_s, rows, limits.names, limits.mode, self._steps, began_s=time.monotonic(), begin_ns=begin_ns
        )
        self._plans.push(plan, seen_ns)
        self._supervisor.good_plan()

    def _observe(self) -> Frames:
        """Frames of the newest moment for which every stream has delivered. Raises ObservationError."""
        streams, now = self._wiring.streams, self._wiring.source.now_ns()
        streams.refuse_stale(self.contract, now)
        request = streams.request(streams.synchronised_ns(now, SYNC_NS), 1, self._period_ns / 1e9)
        latest = {topic: (message.stamp_ns, message) for topic, message in request.picks[0].items()}
        self._pipeline.turns.last.update(self._joints.turns())
        return self._pipeline.observe(latest, request.times_ns[0]).frames

    def _seen(self) -> str:
        """Observe into `_frames`; why that could not be for a moment, '' if it could: then the last ones stand."""
        end = time.monotonic() + MOMENT_S
        while True:
            try:
                self._frames = self._observe()
                return ""
            except ObservationError as error:
                if time.monotonic() > end:
                    return str(error)
                time.sleep(0.01)

    def _wait(self, until: Callable[[], bool], what: Callable[[], str], patience_s: float = PATIENCE_S) -> None:
        end = time.monotonic() + patience_s
        while not until():
            if time.monotonic() > end:
                raise UserError(
                    f"the robot does not answer: {what()}, for {patience_s:g} s; start its drivers (or the simulation) "
                    "and run the same command again: it goes on from the last checkpoint"
                )
            time.sleep(0.001)

    def _count_held(self, note: str) -> None:
        """Raises UserError where the gate lets hardly anything pass: that is no learning."""
        if note and self._steps < self.max_steps / 2:
            self._held += 1
            if self._held >= HELD:
                raise UserError(f"{HELD} episodes in a row ended early, the last because {note}")
        elif self._steps >= self.max_steps / 2:
            self._held = 0

    def _info(self, note: str) -> dict[str, Any]:
        told = self._wiring.told
        return {"note": note} if told.success is None else {"note": note, "success": told.success}
