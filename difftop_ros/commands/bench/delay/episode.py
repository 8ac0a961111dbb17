"""One start of `difftop bench delay`: the node's own plan buffer, continuation and shaper, in simulated time."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros import __version__
from difftop_ros.errors import UserError
from difftop_ros.messages import ObservationError
from difftop_ros.plan_result import WarmStart
from difftop_ros.policies import Policy, load_policy
from difftop_ros.runtime.plan import Continuation, PlanBuffer, TimedPlan
from difftop_ros.safety import MotionLimits, MotionShaper
from difftop_ros.sim.robot import SimulatedRobot

KEY = ("model", "task", "delay_ms", "arm", "seed")
RESULT = ("success", "seconds", "plans", "seam_mrad", "back_mrad", "acceleration", "jerk", "note", "policy", "version",
          "machine", "date")  # fmt: skip
COLUMNS = (*KEY, *RESULT)
BLEND_S = 0.1  # the node's default blend_ms
LOOK_TICKS = 5  # after a new plan took over, in which a step back counts


def key(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes two rows the same start."""
    return tuple(str(row[name]) for name in KEY)


def sentence(row: Mapping[str, Any]) -> str:
    """One line for a person."""
    done, why = "success" if row["success"] else "failed", f": {row['note']}" if row["note"] else ""
    return f"{row['delay_ms']} ms, {row['arm']}, {row['seed']}: {done} after {row['seconds']} s{why}"


class Bench:
    """A trained policy in its contract's task."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self._policy: Policy = load_policy(model)
        contract = self._policy.contract
        if contract.command.mode != "position":
            raise UserError(
                f"{model} commands in mode {contract.command.mode!r}; delays are measured in position mode alone"
            )
        self._policy.warm_up()
        self._robot = SimulatedRobot(contract)

    def key(self, delay_ms: float, arm: str, seed: int) -> tuple[str, ...]:
        """As the function of that name, of a row that is to be made."""
        return (self.model.name, self._robot.task, f"{delay_ms:g}", arm, str(seed))

    def run(self, delay_ms: float, arm: str, seed: int) -> dict[str, Any]:
        """One episode; its row.

        seam_mrad: largest distance of a new plan to what was in force when it took over, of any turning joint;
        back_mrad: farthest that commands then went against the motion before; acceleration, jerk: of the commands,
        largest multiple of a joint's limit.
        """
        episode = _Episode(self._policy, self._robot, delay_ms / 1e3, arm)
        note = ""
        try:
            episode.run(seed)
        except ObservationError as error:
            note = str(error)
        return {
            **dict(zip(KEY, self.key(delay_ms, arm, seed), strict=True)),
            "success": int(self._robot.success() and not note),
            "seconds": round(episode.time_ns / 1e9, 2),
            "plans": episode.plans,
            **episode.smoothness(),
            "note": note,
            "policy": self._policy.config.policy,
            "version": __version__,
            "machine": platform.machine(),
            "date": date.today().isoformat(),
        }

    def close(self) -> None:
        """Frees the renderer."""
        self._robot.close()


class _Episode:
    def __init__(self, policy: Policy, robot: SimulatedRobot, delay_s: float, arm: str) -> None:
        contract = policy.contract
        self._policy, self._robot = policy, robot
        self._limits = MotionLimits.of(contract.command, contract.control_rate_hz)
        self._tick_ns, self._step_ns = round(1e9 / contract.control_rate_hz), round(1e9 / contract.rate_hz)
        self._delay_ns = round(delay_s * 1e9)
        self._buffer = PlanBuffer(BLEND_S, self._limits)
        self._continuation = Continuation(
            self._buffer, policy.horizon, 1 / contract.rate_hz, settles=arm == "chunking",
            most_steps=0.0 if arm == "full speed" else 4.0,
        )  # fmt: skip
        self._shaper = MotionShaper(self._limits)
        self._seen: list[tuple[int, dict[str, np.ndarray]]] = []
        self._commands: list[np.ndarray] = []
        self._seams: list[tuple[int, float]] = []  # number of the command before, distance of the plans [rad]
        self._coming: tuple[int, TimedPlan] | None = None
        self._turning = np.array([unit == "rad" for unit in self._limits.units])
        self.time_ns = self.plans = 0

    def run(self, seed: int) -> None:
        """Until success or the end of time."""
        self._robot.reset(seed)
        self._policy.reset()
        start = self._measured()
        self._shaper.reset(start)
        next_plan_ns = 0
        while self.time_ns < self._robot.max_steps * self._step_ns and not self._robot.success():
            if self._coming is None and self.time_ns >= next_plan_ns:
                next_plan_ns = max(next_plan_ns + self._step_ns, self.time_ns)
                self._begin_plan()
            if self._coming is not None and self.time_ns >= self._coming[0]:
                self._take_over(self._coming[1])
                self._coming = None
            self._robot.apply(self._command(start), self._tick_ns / 1e9)
            self.time_ns += self._tick_ns

    def _measured(self) -> np.ndarray:
        names = list(self._robot.world.joint_names)
        return self._robot.world.joint_state()[0][[names.index(name) for name in self._limits.names]]

    def _begin_plan(self) -> None:
        """Observe and solve now; the plan comes when the delay is over."""
        policy, now = self._policy, self.time_ns
        self._seen = [*self._seen, (now, self._robot.observe())][-8 * policy.obs_steps :]
        window = []
        for back in reversed(range(policy.obs_steps)):
            past = [frames for then, frames in self._seen if then <= now - back * self._step_ns]
            window.append(past[-1] if past else self._seen[0][1])
        warm = self._continuation.warm_start(now) or WarmStart()
        frames = {name: np.stack([seen[name] for seen in window]) for name in policy.contract.observations}
        result = policy.act(frames, warm_start=warm.actions, committed=warm.committed)
        plan = TimedPlan(now, self._step_ns / 1e9, result.actions, self._limits.names, self._limits.mode)
        self._coming = (now + self._delay_ns, plan)

    def _take_over(self, plan: TimedPlan) -> None:
        plan = self._continuation.timed(plan, self.time_ns)
        before = self._buffer.select(self.time_ns, self.time_ns)
        if before is not None:
            apart = np.abs(plan.at(self.time_ns) - before)[self._turning]
            self._seams.append((len(self._commands) - 1, float(apart.max(initial=0.0))))
        self._buffer.push(plan, self.time_ns)
        self.plans += 1

    def _command(self, rest: np.ndarray) -> np.ndarray:
        """The next command (A,): `rest` before the first plan."""
        now, plan = self.time_ns, self._buffer.newest
        before, target = self._buffer.select(now - self._tick_ns, now), self._buffer.select(now, now)
        if plan is None or before is None or target is None:
            command = rest
        else:
            command = self._shaper.propose(before, target, self._measured())
            lag_s = float(np.max(np.abs(command - target) / self._limits.velocity))
            self._continuation.commanded(plan, now, command, lag_s)
        self._shaper.commit(command)
        self._commands.append(command)
        return command

    def smoothness(self) -> dict[str, Any]:
        """See Bench.run."""
        path = np.array(self._commands)
        dt, limits = self._tick_ns / 1e9, self._limits
        bends, jerks = np.diff(path, 2, axis=0) / dt**2, np.diff(path, 3, axis=0) / dt**3
        back = 0.0
        for last, _ in self._seams:
            if last < 1:
                continue
            direction = np.sign(path[last] - path[last - 1])
            gone = (path[last + 1 : last + 1 + LOOK_TICKS] - path[last]) * direction
            back = max(back, float(-gone[:, self._turning].min(initial=0.0)))
        return {
            "seam_mrad": round(1e3 * max((apart for _, apart in self._seams), default=0.0), 1),
            "back_mrad": round(1e3 * back, 2),
            "acceleration": round(float((np.abs(bends) / limits.acceleration).max(initial=0.0)), 3),
            "jerk": round(float((np.abs(jerks) / limits.jerk).max(initial=0.0)), 3),
        }
