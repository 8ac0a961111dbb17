"""One run of a policy on the robot, from activation to rest, and the tasks in it. No ROS here.

Planner and control go on beside each other.
What the node gives are messages (streams), a worker, and where commands go; what it gets are figures and why it ended.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.contract.run_limits import RunLimits
from difftop_ros.errors import UserError
from difftop_ros.plan_result import PlanResult, WarmStart
from difftop_ros.runtime.clock import Pacer, TimeSource
from difftop_ros.runtime.control import STEPS, ControlLoop, Record
from difftop_ros.runtime.course import Course, CourseKeeper
from difftop_ros.runtime.joints import JointReader, JointReading
from difftop_ros.runtime.plan import Continuation, PlanBuffer, TimedPlan
from difftop_ros.runtime.planner import ObserveAndSolve, PlannerLoop
from difftop_ros.runtime.streams import Renewed, StreamBuffers
from difftop_ros.runtime.worker import PolicyWorker, ProcessWorker
from difftop_ros.safety import (
    Belief,
    Check,
    CommandGate,
    GateSettings,
    HoldSupervisor,
    MotionLimits,
    MotionShaper,
    make_checks,
)
from difftop_ros.safety.guard import SAMPLES, Guard
from difftop_ros.safety.handover import HandOver

NO_TASK = "waiting for a task: send a goal to the action run_policy"
SUCCESS, CANCELED, TIMEOUT, STOPPED = "SUCCESS", "CANCELED", "TIMEOUT", "STOPPED"  # outcomes of a task
STAGE_RECORD = 2048  # newest plans whose stages are remembered
OnResult = Callable[[PlanResult, TimedPlan | None], None]


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run; each is the policy node's parameter of the same name, where unit and meaning stand."""

    deadline_ms: float
    planner_rate_hz: float
    sync_ms: float
    blend_ms: float
    realtime_chunking: bool
    delay_quantile: float
    max_delay_steps: float
    lookahead_ms: float
    checks: Sequence[str]
    max_plan_age_ms: float
    max_plan_excess: float
    max_novelty: float
    max_outside: float
    tracking_s: float
    resume_after_frames: int
    max_failures: int
    failure_window_s: float
    max_overruns: int
    wait_for_task: bool = False

    def make_checks(self, max_measured_age_ms: float, guard: Guard | None = None) -> list[Check]:
        """The gate's checks. Raises UserError for names that cannot be had."""
        settings = GateSettings(self.max_plan_age_ms, max_measured_age_ms, self.tracking_s, guard)
        return make_checks(settings, self.checks)


class CommandOutlet(Protocol):
    """Where commands (A,) go, in the contract's joint order and the mode's unit."""

    def send(self, values: np.ndarray) -> None:
        """Publish one command; called at the control rate."""

    def send_course(self, course: Course) -> None:
        """Publish the coming commands at once, where the contract asks for that."""

    def beside(self, values: np.ndarray, holding: bool) -> None:
        """Called with each command, for what does not leave with the others; holding: the robot is to stand."""

    def farewell(self, values: np.ndarray) -> str:
        """Publish the last command and wait, bounded, until it has arrived; a sentence if it did not, else ''."""
        ...


class Run:
    """Begins at rest in the measured pose; `start` starts both threads, `stop` brings the robot to rest and ends them.

    intervened: whether a person has taken over. Raises UserError when no observation can be made now, or when the robot
    stands where it must not be moved from.
    """

    def __init__(
        self, contract: Contract, worker: PolicyWorker | ProcessWorker, source: TimeSource, streams: StreamBuffers,
        joints: JointReader, settings: RunSettings, outlet: CommandOutlet, on_result: OnResult,
        guard: Guard | None = None, run_limits: RunLimits | None = None,
        intervened: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._source, self._streams, self._outlet, self._on_result = source, streams, outlet, on_result
        self._sync_ns = round(settings.sync_ms * 1e6)
        facts, step_s = worker.facts, 1.0 / contract.rate_hz
        worker.reset()
        worker.observe(streams.request(source.now_ns(), facts.obs_steps, step_s))
        robot_limits = MotionLimits.of(contract.command, contract.control_rate_hz)
        limits = robot_limits if run_limits is None else robot_limits.within(run_limits)
        gate = CommandGate(limits, settings.make_checks(joints.max_age_ms, guard))
        self._guard = guard
        self._joints, self._belief, self.objection = joints, Belief(robot_limits), ""
        self._window_ns = round((facts.obs_steps - 1) * step_s * 1e9)
        joints.believe(self._belief)
        reading = joints.read(source.now_ns())
        start, why = gate.start_position(reading.position)
        if reading.fault or start is None:
            raise UserError(reading.fault or why)
        if guard is not None and (inside := guard.contained(start)):
            raise UserError(inside)
        plans = PlanBuffer(settings.blend_ms / 1e3, limits)
        self._continuation = continuation = Continuation(
            plans, facts.horizon, step_s, quantile=settings.delay_quantile, most_steps=settings.max_delay_steps,
            settles=settings.realtime_chunking,
        )  # fmt: skip
        self.result: PlanResult | None = None
        self._stages: dict[str, Record] = {}
        self.supervisor = HoldSupervisor(settings.resume_after_frames, settings.max_failures, settings.failure_window_s)
        if settings.wait_for_task:
            self.supervisor.wait(NO_TASK, time.monotonic())
        self._work = ObserveAndSolve(
            worker, streams, contract, source, most_ns=self._sync_ns, steps=facts.obs_steps,
            deadline_ms=settings.deadline_ms, turns=joints.turns,
        )  # fmt: skip
        self.planner = PlannerLoop(
            work=self._plan, plans=plans, continuation=continuation, supervisor=self.supervisor, limits=limits,
            source=source, step_s=step_s, period_s=1.0 / (settings.planner_rate_hz or contract.rate_hz),
            horizon=facts.horizon, on_result=self._take, max_plan_excess=settings.max_plan_excess,
            max_novelty=settings.max_novelty, max_outside=settings.max_outside, streams_ready=Renewed(streams),
            objection=self._object,
        )  # fmt: skip
        shaper, lookahead_s = MotionShaper(limits), settings.lookahead_ms / 1e3
        seconds = contract.command.trajectory_s
        self._courses = None if seconds is None else CourseKeeper(
            seconds, plans, gate, shaper, round(lookahead_s * 1e9), outlet.send_course
        )  # fmt: skip
        self.control = ControlLoop(
            gate=gate, shaper=shaper, supervisor=self.supervisor, plans=plans, continuation=continuation,
            pacer=Pacer(source, limits.dt), read_joints=self._read, publish=self._send,
            lookahead_s=lookahead_s, on_jump=self._forget, max_overruns=settings.max_overruns, courses=self._courses,
            handover=HandOver(limits, intervened),
        )  # fmt: skip

    def start(self) -> None:
        """Start planner and control, each on a thread of its own."""
        # Torch and callbacks hold the interpreter lock in short turns: let the control thread have it within 1 ms.
        sys.setswitchinterval(0.001)
        # What lives now lives on: the collector need not walk through it, for tens of milliseconds, at some tick.
        gc.collect()
        gc.freeze()
        self._streams.listener = self._offer
        self.planner.start()
        self.control.start()

    def stop(self) -> list[str]:
        """Stop following, decelerate, leave the safe command behind, end both threads; sentences on what went wrong."""
        wrong = []
        self._streams.listener = None
        self.planner.stop(0.0)  # no plan is accepted from here on; its thread is joined below
        if not self.control.stop():
            wrong.append("the control thread did not end in time; sending the safe command beside it")
        safe = self.control.safe_command()
        if safe is not None and self.control.started:
            wrong += [sentence for sentence in [self._outlet.farewell(safe)] if sentence]
        if not self.planner.stop(2.0):
            wrong.append("the planner is still in its solve; its plan will be ignored")
        return wrong

    @property
    def ended(self) -> bool:
        """False while a thread of it still works."""
        return self.planner.stop(0.0)

    def hold(self, reason: str) -> None:
        """Decelerate and stand until `go`, because of `reason`; that is no failure."""
        self.supervisor.wait(reason, time.monotonic())

    def go(self) -> None:
        """Follow the coming plans; they end the hold that was asked for."""
        self.supervisor.go(time.monotonic())

    @property
    def failure(self) -> str:
        """Why it cannot go on, '' while it can."""
        return self.control.failure or self.planner.failure or self.supervisor.exhausted

    def _read(self, time_ns: int) -> JointReading:
        """Control thread: where the robot is; `objection`, which the node may set, is a fault like any other."""
        reading = self._joints.read(time_ns)
        objection = self.objection
        return replace(reading, fault=objection, kind="publishers") if objection and not reading.fault else reading

    def _send(self, values: np.ndarray) -> None:
        if self._courses is None:
            self._outlet.send(values)
        self._outlet.beside(values, self.supervisor.holding)
        self._belief.commanded(values)

    def _forget(self) -> None:
        self._streams.clear()
        self._joints.forget()

    def _plan(self, warm_start: Callable[[int], WarmStart | None]) -> PlanResult:
        """Planner thread: a plan from an observation without joint positions that were not believed."""
        result = self._work(warm_start)
        doubt = self._joints.last_doubt
        if self._joints.doubted_ns >= result.stamp_ns - self._window_ns and not doubt.ok:
            raise UserError(f"the observation has joint positions that are not believed: {doubt.reason}")
        if self._guard is not None and result.in_the_way is not None:
            self._guard.see(result.in_the_way)
        return result

    def _object(self, plan: TimedPlan) -> str:
        """Planner thread: why a plan's next moments must not be gone, '' if they may."""
        if self._guard is None or plan.mode != "position":
            return ""
        now, ahead_ns = self._source.now_ns(), 1e9 * self._guard.options.look_ahead_s
        start = self._joints.read(now).position if self.control.last is None else self.control.last
        ahead = [plan.at(now + round(share * ahead_ns)) for share in np.linspace(0.0, 1.0, SAMPLES + 1)]
        return self._guard.along(np.array([start, *ahead]))

    def _offer(self, now_ns: int) -> None:
        self.planner.offer(self._streams.synchronised_ns(now_ns, self._sync_ns))

    def _take(self, result: PlanResult, plan: TimedPlan | None) -> None:
        self.result = result
        for name, took_ms in result.stage_ms.items():
            self._stages.setdefault(name, Record(STAGE_RECORD)).add(took_ms)
        self._on_result(result, plan)

    def figures(self) -> dict[str, Any]:
        """What /diagnostics and `difftop run` show of it, by name; units are in the names."""
        control, report = self.control, self.control.report
        p50, p99, worst = control.lateness_ms.percentiles(50, 99, 100)
        shown: dict[str, Any] = {
            "hold_reason": self.supervisor.reason, "held_s": self.supervisor.held_s(time.monotonic()),
            "hold_began_by": self.supervisor.began_by, "ticks": report.ticks, "ticks_lost": report.ticks_lost,
            "commands_published": report.published, "lateness_p50_ms": p50, "lateness_p99_ms": p99,
            "lateness_max_ms": worst, "hold_kind": self.supervisor.kind, "readings_doubted": self._joints.doubts,
            "last_doubt": self._joints.last_doubt.reason, "plan_age_ms": report.plan_age_ms,
            "behind_plan_s": report.lag,
        }  # fmt: skip
        shown |= {f"{step}_ms": report.step_ms[step] for step in STEPS}
        shown |= {f"{step}_max_ms": report.worst_ms[step] for step in STEPS}
        shown |= {"plans": self.planner.accepted, "plan_attempts": self.planner.sequence}
        shown |= _percentiles("first_command", control.first_command_ms)
        shown |= {"usual_delay_ms": 1e3 * self._continuation.delays.usual_s, "pace": 1 / self._continuation.stretch}
        for name in list(self._stages):
            shown |= _percentiles(name, self._stages[name])
        nearest = self.planner.verdict.worst
        shown |= {"plans_refused": self.planner.refused, "plans_slowed": self.planner.slowed,
                  "plans_clipped": self.planner.clipped, "outside_worst": self.planner.outside,
                  "plan_worst": "" if nearest is None else str(nearest)}  # fmt: skip
        result = self.result
        if result is not None and result.status:
            shown |= {"solver_status": result.status, "observe_ms": result.observe_ms,
                      "encode_ms": result.encode_ms, "solve_ms": result.solve_ms, "novelty": result.novelty,
                      "novelty_of": result.novelty_of}  # fmt: skip
        return shown


def _percentiles(name: str, record: Record) -> dict[str, float]:
    p50, p99 = record.percentiles(50, 99)
    return {f"{name}_p50_ms": p50, f"{name}_p99_ms": p99}


@dataclass(frozen=True)
class Ending:
    """How a task ended: one of the outcomes above, and a sentence."""

    outcome: str
    reason: str


@dataclass(frozen=True)
class Progress:
    """What is told while it runs; seconds and remaining [s] by the robot's clock, `result` the newest plan's."""

    holding: bool
    hold_reason: str
    seconds: float
    remaining: float
    result: PlanResult | None


class Task:
    """Begins at `now_ns` and lets `run` move; `end` makes it hold again. Times [ns] are of the robot's clock."""

    def __init__(self, run: Run, now_ns: int, longest_s: float, words: str = "") -> None:
        self._run, self._begun_ns, self._longest_s = run, now_ns, longest_s
        self.words = words
        self._plans, self._holds = run.planner.accepted, run.supervisor.begun
        run.go()

    def seconds(self, now_ns: int) -> float:
        """Since its beginning [s]."""
        return (now_ns - self._begun_ns) / 1e9

    def due(self, now_ns: int, success_ns: int | None) -> Ending | None:
        """How it is to end now, None while it goes on. success_ns: when success was last told, None for never."""
        if success_ns is not None and success_ns >= self._begun_ns:
            return Ending(SUCCESS, f"success was told after {self.seconds(success_ns):.1f} s")
        if self.seconds(now_ns) >= self._longest_s:
            return Ending(TIMEOUT, f"the longest duration of {self._longest_s:g} s is over")
        return None

    def progress(self, now_ns: int) -> Progress:
        """What is to be told now."""
        supervisor, seconds = self._run.supervisor, self.seconds(now_ns)
        return Progress(
            supervisor.holding, supervisor.reason, seconds, max(self._longest_s - seconds, 0.0), self._run.result
        )

    def end(self, why: str) -> tuple[int, int]:
        """Let the robot hold until the next task; plans accepted and holds begun while this one went on."""
        self._run.hold(f"{why}; waiting for the next task")
        return self._run.planner.accepted - self._plans, self._run.supervisor.begun - self._holds
