"""Random and adversarial measurements and plans through belief, shaper, gate and hold: does any command break a limit?

    python -m benchmarks.safety_steps --steps 1000000 --seed 0

Real parts but for time and threads: plans are judged by `plan_fault`, readings by `Belief`, each tick is the control
loop's. Every published command is judged by an oracle of its own, from the sequence of commands alone: finite; within
position, velocity, acceleration and jerk limits; at rest soon after readings became implausible, and until they are
plausible again. Exit code 1 and the first findings if there are any.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field

import numpy as np

from difftop_ros.contract import Command
from difftop_ros.runtime.clock import Pacer, SystemTime, Tick
from difftop_ros.runtime.control import ControlLoop
from difftop_ros.runtime.joints import JointReading
from difftop_ros.runtime.plan import PlanBuffer, TimedPlan, plan_fault
from difftop_ros.safety import (
    Belief,
    CommandGate,
    GateSettings,
    HoldSupervisor,
    MotionLimits,
    MotionShaper,
    make_checks,
)

MODES = ("position", "velocity", "delta_position")
EPISODE = 250  # ticks of one robot, mode and rate
WILD = (np.nan, np.inf, -np.inf, 1e308, -1e308, 0.0, 1e6)


def random_limits(random: np.random.Generator) -> MotionLimits:
    """Three joints with or without each optional limit, at a random rate and mode."""
    mode = str(random.choice(MODES))
    joints = []
    for name in "abc":
        low = float(random.uniform(-3, 0))
        joint = {"name": name, "position": [low, low + float(random.choice([0.05, 1.0, 5.0]))],
                 "velocity": float(random.choice([0.1, 1.0, 3.0]))}  # fmt: skip
        if random.random() < 0.8:
            joint["acceleration"] = float(random.choice([0.5, 7.5, 60.0]))
        if random.random() < 0.8:
            joint["jerk"] = float(random.choice([5.0, 300.0, 7500.0]))
        if mode == "delta_position" or random.random() < 0.3:
            joint["step"] = float(random.choice([0.005, 0.05]))
        joints.append(joint)
    kind = "std_msgs/msg/Float64MultiArray"
    command = Command.model_validate({"topic": "/c", "type": kind, "mode": mode, "joints": joints})
    return MotionLimits.of(command, float(random.choice([20.0, 50.0, 100.0, 500.0])))


@dataclass
class Oracle:
    """Judges each published command by those before it, in plain differences."""

    limits: MotionLimits
    start: np.ndarray
    findings: list[str] = field(default_factory=list)
    moving: int = 0

    def __post_init__(self) -> None:
        self.place, self.speed, self.acceleration = self.start.copy(), np.zeros(3), np.zeros(3)
        speed, change, ramp = self.limits.per_tick
        self._stop_ticks = int(np.ceil((speed / change + 2 * change / ramp).max())) + 4
        self._doubtful = 0

    def see(self, values: np.ndarray | None, plausible: bool) -> None:
        """One tick: what was published, if anything, and whether the tick's reading could be true."""
        self._doubtful = 0 if plausible else self._doubtful + 1
        if values is None:
            return
        limits, dt = self.limits, self.limits.dt
        if not np.isfinite(values).all():
            self.findings.append(f"not finite: {values}")
            return
        speed = (values - self.place) / dt if limits.mode == "position" else values / (
            1.0 if limits.mode == "velocity" else dt)  # fmt: skip
        if limits.mode == "position":
            self.place = values.copy()
            beyond = np.maximum(limits.lower - values, values - limits.upper)
            self._judge("position", beyond, np.zeros(3), 1e-6 * (limits.upper - limits.lower))
        acceleration = (speed - self.speed) / dt
        jerk = (acceleration - self.acceleration) / dt
        self._judge("velocity", np.abs(speed), limits.velocity, 1e-12 / dt)
        self._judge("acceleration", np.abs(acceleration), limits.acceleration, 1e-12 / dt**2)
        self._judge("jerk", np.abs(jerk), limits.jerk, 1e-12 / dt**3)
        if self._doubtful > self._stop_ticks:
            self._judge("speed on a false reading", np.abs(speed), np.zeros(3), 1e-9)
        self.moving += bool(np.any(speed != 0))
        self.speed, self.acceleration = speed, acceleration

    def _judge(self, what: str, got: np.ndarray, most: np.ndarray, rounding: np.ndarray | float) -> None:
        if (got > most * (1 + 2e-6) + rounding).any():
            self.findings.append(f"{what} {got} beyond {most} in mode {self.limits.mode} at {1 / self.limits.dt:g} Hz")


class Robot:
    """Follows commands, with lag or not at all; its readings are true, or lies of many kinds."""

    def __init__(self, limits: MotionLimits, random: np.random.Generator) -> None:
        self.limits, self._random = limits, random
        self.position = random.uniform(limits.lower, limits.upper)
        self._lag = float(random.choice([1.0, 0.5, 0.1]))
        self._belief = Belief(limits)
        self._lie: str = ""
        self._lie_left = 0
        self.reading = JointReading(self.position.copy(), 0.0)

    def follow(self, values: np.ndarray) -> None:
        """Move under one command."""
        if self.limits.mode == "position":
            self.position = self.position + self._lag * (values - self.position)
        else:
            self.position = self.position + values * (self.limits.dt if self.limits.mode == "velocity" else 1.0)

    def measure(self, now_ns: int) -> None:
        """The reading of this tick."""
        random = self._random
        if self._lie_left == 0 and random.random() < 0.01:
            self._lie = str(random.choice(["zero", "wild", "offset", "other", "old"]))
            self._lie_left = int(random.integers(1, 120))
        seen, age_ms = self.position + 1e-4 * random.standard_normal(3) * (self.limits.upper - self.limits.lower), 1.0
        if self._lie_left:
            self._lie_left -= 1
            joint = int(random.integers(3))
            if self._lie == "zero":
                seen = np.zeros(3)
            elif self._lie == "wild":
                seen[joint] = random.choice(WILD)
            elif self._lie == "offset":
                seen = seen + 0.8
            elif self._lie == "other":
                seen = random.uniform(self.limits.lower, self.limits.upper)
            else:
                age_ms = 1e4
        doubt = self._belief.judge(seen, now_ns)
        believed = seen if self._belief.position is None else self._belief.position
        self.reading = JointReading(believed.copy(), age_ms, doubt.reason, doubt.kind or "measurement")


def random_plan(limits: MotionLimits, now_ns: int, random: np.random.Generator) -> TimedPlan:
    """Smooth, jumping between the bounds, beyond them, or not finite; of any age."""
    low, high = limits.action_bounds()
    kind = random.random()
    if kind < 0.4:
        actions = low + (high - low) * random.random(3) + np.cumsum(0.01 * random.standard_normal((8, 3)), 0)
        actions = np.clip(actions, low, high)
    elif kind < 0.8:
        actions = np.where(random.random((8, 3)) < 0.5, low, high)
    else:
        actions = random.uniform(1.5 * low - 0.5 * high, 1.5 * high - 0.5 * low, (8, 3))
        if kind < 0.9:
            actions[random.integers(8), random.integers(3)] = random.choice(WILD)
    stamp = now_ns - int(random.choice([0, 20, 300, 2000])) * 1_000_000
    return TimedPlan(stamp, float(random.choice([0.02, 0.1])), actions, limits.names, limits.mode)


def episode(random: np.random.Generator, ticks: int = EPISODE) -> tuple[int, list[str]]:
    """Commands that moved one random robot in `ticks` control ticks, and what went wrong."""
    limits = random_limits(random)
    robot = Robot(limits, random)
    gate = CommandGate(limits, make_checks(GateSettings(500.0, 100.0, 0.5)))
    hold, plans = HoldSupervisor(2, 10**9, 10.0), PlanBuffer(float(random.choice([0.0, 0.1])))
    sent: list[np.ndarray] = []
    loop = ControlLoop(
        gate=gate, shaper=MotionShaper(limits), supervisor=hold, plans=plans, pacer=Pacer(SystemTime(), limits.dt),
        read_joints=lambda _: robot.reading, publish=lambda values: sent.append(values.copy()),
    )  # fmt: skip
    now, oracle = 10**10, Oracle(limits, robot.position)
    for _ in range(ticks):
        now += round(limits.dt * 1e9)
        robot.measure(now)
        if random.random() < 0.2:
            plan = random_plan(limits, now, random)
            if not plan_fault(plan, limits):
                plans.push(plan, now)
                hold.good_plan()
        if not loop.started:  # it starts from the pose that it reads when the first command is due
            oracle.place = np.clip(robot.reading.position, limits.lower, limits.upper)
        sent.clear()
        loop.tick(Tick(now, 0.0, 0))
        oracle.see(sent[0] if sent else None, not robot.reading.fault)
        if sent:
            robot.follow(sent[0])
    return oracle.moving, oracle.findings


def run(steps: int, seed: int) -> tuple[int, int, list[str]]:
    """Ticks simulated, at least `steps`; commands among them that moved a robot; what was found."""
    random = np.random.default_rng(seed)
    done, moving = 0, 0
    found: list[str] = []
    with np.errstate(all="ignore"):  # 1e308 and NaN are among the readings
        while done < steps:
            moved, findings = episode(random)
            done, moving, found = done + EPISODE, moving + moved, found + findings
    return done, moving, found


def main() -> int:
    """Runs and prints; 1 if a command broke a limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    begin = time.monotonic()
    done, moving, found = run(args.steps, args.seed)
    seconds = time.monotonic() - begin
    print(f"{done} ticks of seed {args.seed} in {seconds:.0f} s, {moving} moved a robot: {len(found)} findings")
    for finding in found[:5]:
        print(f"  {finding}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
