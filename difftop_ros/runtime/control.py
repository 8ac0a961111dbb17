"""The control loop: read, select, gate, publish, report, at the contract's control rate on a thread of its own.

It never waits for the planner and knows no ROS: reading joints and publishing are callables. What it publishes has
passed the gate; everything else becomes a hold, whose reason the supervisor keeps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from difftop_ros.runtime.clock import Pacer, Tick
from difftop_ros.runtime.course import CourseKeeper
from difftop_ros.runtime.joints import JointReading
from difftop_ros.runtime.plan import Continuation, PlanBuffer, TimedPlan
from difftop_ros.safety import CommandGate, HoldSupervisor, MotionShaper, Proposal
from difftop_ros.safety.handover import HandOver
from difftop_ros.safety.hold import PERSON

STOP_S = 1.0
SLOWLY = 0.1  # share of top velocity at which a robot that did not follow is gone back to
SURE = 25  # ticks in a row with a believed pose, before it is gone to
STEPS = ("read", "select", "gate", "publish", "report")


@dataclass(frozen=True)
class ControlReport:
    """What the last tick did; times are wall milliseconds per step, `worst_ms` the largest of each so far."""

    ticks: int = 0
    ticks_lost: int = 0
    published: int = 0
    late_ms: float = 0.0
    plan_age_ms: float = float("nan")
    lag: float = 0.0
    step_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    worst_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))


class Record:
    """The newest `size` numbers of one kind, for percentiles; written by one thread."""

    def __init__(self, size: int = 16384) -> None:
        self._values = np.zeros(size)
        self._count = 0

    def add(self, value: float) -> None:
        """Store one number."""
        self._values[self._count % len(self._values)] = value
        self._count += 1

    def percentiles(self, *ranks: float) -> list[float]:
        """The percentiles `ranks` of what is stored, zeros while nothing is."""
        kept = self._values[: min(self._count, len(self._values))]
        return [0.0 for _ in ranks] if not len(kept) else [float(v) for v in np.percentile(kept, ranks)]


class ControlLoop:
    """Runs between `start` and `stop`; `tick` is one pass and can be called alone.

    read_joints(time_ns) -> JointReading;  publish(values (A,)) sends one command;  lookahead_s is added to the time
    at which the plan is read, to make up for the delay between a command and the robot's motion;  max_overruns ticks in
    a row that lost others before them begin a hold;  handover: who says whether a person moves the robot.
    """

    def __init__(
        self,
        *,
        gate: CommandGate,
        shaper: MotionShaper,
        supervisor: HoldSupervisor,
        plans: PlanBuffer,
        continuation: Continuation | None = None,
        pacer: Pacer,
        read_joints: Callable[[int], JointReading],
        publish: Callable[[np.ndarray], None],
        lookahead_s: float = 0.0,
        on_jump: Callable[[], None] = lambda: None,
        max_overruns: int = 5,
        courses: CourseKeeper | None = None,
        handover: HandOver | None = None,
    ) -> None:
        self._handover = handover or HandOver(gate.limits, lambda: False)
        self._gate, self._shaper, self._supervisor = gate, shaper, supervisor
        self._plans, self._pacer = plans, pacer
        self._continuation = continuation or Continuation(plans, 1, gate.limits.dt)
        self._read_joints, self._publish, self._on_jump = read_joints, publish, on_jump
        self._lookahead_ns = round(lookahead_s * 1e9) + (courses.lead_ns if courses is not None else 0)
        self._courses = courses
        self._dt_ns = round(gate.limits.dt * 1e9)
        self._started = False
        self._due_ns = 0
        self._max_overruns, self._overruns = max_overruns, 0
        self._sure = 0  # ticks in a row with a believed pose
        self._way: np.ndarray | None = None  # where the way back to the robot has got to (A,)
        self._lag = 0.0
        self._person = ""  # why a person, not the policy, moves the robot at this tick
        self._following: TimedPlan | None = None  # whose target this tick's proposal is; None for a hold's
        self._stop_by = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.report = ControlReport()
        self.lateness_ms = Record()
        self.work_ms = Record()
        self.first_command_ms = Record()  # from the start of observing to the first command under that plan
        self.failure = ""
        self.last: np.ndarray | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="difftop-control", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = STOP_S + 1.0) -> bool:
        """Decelerate to rest (at most 1 s), end the thread; False if it did not end within `timeout_s` [s]."""
        self._stop_by = time.monotonic() + STOP_S
        self._stopping.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def started(self) -> bool:
        """True once a command has been published."""
        return self._started

    def safe_command(self) -> np.ndarray | None:
        """What to leave behind (A,): rest where the last command was, or no speed; None if nothing was ever sent."""
        limits = self._gate.limits
        if limits.mode != "position":
            return np.zeros(limits.size)
        return self.last

    def _run(self) -> None:
        try:
            # Before the first plan there is nothing to say: ticks, and ticks lost, count from then on.
            while self._plans.newest is None and not self._stopping.wait(0.005):
                pass
            self._pacer.start()
            while not (self._stopping.is_set() and (not self._started or self._shaper.at_rest or self._out_of_time())):
                tick = self._pacer.wait(self._out_of_time)
                if tick is not None:
                    self.tick(tick)
        except Exception as error:  # the node reads it and deactivates
            self.failure = f"the control thread stopped: {type(error).__name__}: {error}"
            self._supervisor.trip(self.failure, time.monotonic(), "control")
            self._come_to_rest()

    def _come_to_rest(self) -> None:
        """The thread's last act, whatever has failed: decelerate, asking neither plans, readings nor the clock."""
        end = time.monotonic() + STOP_S
        while self._started and not self._shaper.at_rest and time.monotonic() < end:
            time.sleep(self._gate.limits.dt)
            command = self._shaper.stop()
            self._due_ns += self._dt_ns
            try:
                self._send(command)
            except Exception as error:  # the next one may pass
                self.failure = f"{self.failure}; and stopping: {type(error).__name__}: {error}"[:500]

    def _send(self, command: np.ndarray) -> None:
        self._publish(command)
        self._commit(command)
        self._started = True
        if self._courses is not None:
            moving = not (self._stopping.is_set() or self._supervisor.holding)
            self._courses.follow(command, self._due_ns, moving)

    def _commit(self, command: np.ndarray) -> None:
        self._gate.commit(command)
        self._shaper.commit(command)
        self.last = command

    def _out_of_time(self) -> bool:
        """True when stopping and no command is out, or the time to decelerate is over (simulated time may stand)."""
        return self._stopping.is_set() and (not self._started or time.monotonic() >= self._stop_by)

    def tick(self, tick: Tick) -> None:
        """One control tick: five steps, each timed."""
        marks = [time.perf_counter()]
        self._due_ns = tick.due_ns
        if tick.jumped:
            self._plans.clear()
            self._continuation.interrupted()
            self._on_jump()

        if self._courses is not None:
            for row in self._courses.meanwhile(tick.due_ns):
                self._commit(row)
        reading = self._read(tick)
        marks.append(time.perf_counter())

        proposal = self._select(tick, reading)
        marks.append(time.perf_counter())

        command = self._check(proposal, reading)
        marks.append(time.perf_counter())

        if command is not None:
            self._send(command)
        self._tell(tick, command)
        marks.append(time.perf_counter())

        self._report(tick, marks, command is not None)

    def _read(self, tick: Tick) -> JointReading:
        reading = self._read_joints(tick.due_ns)
        self._sure = 0 if reading.fault else self._sure + 1
        before, self._person = self._person, self._handover.look(reading.position, reading.fault)
        if self._person:
            self._supervisor.wait(self._person, time.monotonic(), PERSON)
        elif before:
            self._supervisor.go(time.monotonic(), PERSON)
        elif reading.fault and self._active:
            self._supervisor.trip(reading.fault, time.monotonic(), reading.kind)
        self._overruns = self._overruns + 1 if tick.lost and not tick.jumped else 0
        if self._overruns >= self._max_overruns:
            reason = (
                f"{self._overruns} control ticks in a row came too late by whole periods of {self._dt_ns / 1e6:g} ms; "
                "free the machine of other programs, or allow realtime_priority"
            )
            self._supervisor.trip(reason, time.monotonic(), "overruns")
        return reading

    @property
    def _active(self) -> bool:
        """True when a plan is, or was, in force: before that nothing is sent and nothing can go wrong."""
        return self._started or self._plans.newest is not None

    def _select(self, tick: Tick, reading: JointReading) -> Proposal | None:
        """The command meant for this tick: along the plan, or of the hold; None when there is nothing to say."""
        plan, self._following = self._plans.newest, None
        if self._person:
            return self._hand_over(reading)
        if self._stopping.is_set() or self._supervisor.holding:
            return self._hold_proposal(reading)
        if plan is None:
            return None if not self._started else self._hold_proposal(reading)
        if not self._started and not self._start(reading):
            return None
        time_ns = tick.due_ns + self._lookahead_ns
        before = self._plans.select(time_ns - self._dt_ns, tick.due_ns)
        target = self._plans.select(time_ns, tick.due_ns)
        if before is None or target is None:
            return self._hold_proposal(reading) if self._started else None
        values = self._shaper.propose(before, target, reading.position)
        self._lag = float(np.max(np.abs(values - target) / self._gate.limits.velocity))
        self._following = plan
        return Proposal(plan.names, values, plan.age_ms(tick.due_ns), reading.position, reading.age_ms)

    def _start(self, reading: JointReading) -> bool:
        """Begin from the measured pose; a pose that cannot be started from is a hold with nothing published."""
        start, reason = self._gate.start_position(reading.position)
        if start is None:
            self._supervisor.trip(reason, time.monotonic(), "start")
            return False
        self._gate.reset(start)
        self._shaper.reset(start)
        if self._courses is not None:
            self._courses.begin(start)
        return True

    def _hand_over(self, reading: JointReading) -> Proposal | None:
        """Come to rest, then say nothing, not even at the end; what was planned before counts no more."""
        self._plans.clear()
        if self._started and self._shaper.at_rest:
            self._started, self.last = False, None
        if not self._started:
            return None
        return Proposal(self._gate.limits.names, self._shaper.stop(), None, reading.position, reading.age_ms)

    def _hold_proposal(self, reading: JointReading) -> Proposal | None:
        if not self._started:
            return None
        # Position mode rests at the last command, which keeps a grasp and does not sag. Only when the robot did not
        # follow is the last command the wrong place: then it goes back to where the robot is, slowly and only where
        # that has been believed for a while.
        back = self._supervisor.began_by == "tracking" and self._sure >= SURE and not self._stopping.is_set()
        values = self._towards(reading.position) if back else self._shaper.stop()
        self._way = self._way if back else None
        return Proposal(self._gate.limits.names, values, None, reading.position, reading.age_ms)

    def _towards(self, position: np.ndarray) -> np.ndarray:
        """The next command (A,) of a slow way from the last command to `position` (A,) [unit]; position mode."""
        limits = self._gate.limits
        before = self.last if self._way is None else self._way
        assert before is not None
        most = SLOWLY * limits.velocity * limits.dt
        goal = np.clip(position, limits.lower, limits.upper)
        self._way = before + np.clip(goal - before, -most, most)
        return self._shaper.propose(before, self._way, position)

    def _check(self, proposal: Proposal | None, reading: JointReading) -> np.ndarray | None:
        """The command that may be published: the proposal, the hold in its place, or none."""
        if proposal is None:
            return None
        verdict = self._gate.check(proposal)
        if verdict.ok:
            return proposal.values
        self._supervisor.trip(verdict.reason, time.monotonic(), verdict.kind)
        hold = self._hold_proposal(reading)
        if hold is None:
            return None
        # Where not even the stop passes (a check of another package refuses it), a robot under positions stands when it
        # is told nothing more. Under speeds it would go on, so it is slowed down all the same, within its limits.
        return hold.values if self._gate.check(hold).ok or self._gate.limits.mode != "position" else None

    def _tell(self, tick: Tick, command: np.ndarray | None) -> None:
        """Tell those who make the next plan what became of this one."""
        plan = self._following
        if plan is None or command is None or self._supervisor.holding:
            self._continuation.interrupted()
        elif self._continuation.commanded(plan, tick.due_ns + self._lookahead_ns, command, self._lag):
            self.first_command_ms.add((time.monotonic() - plan.began_s) * 1e3)

    def _report(self, tick: Tick, marks: list[float], published: bool) -> None:
        newest = self._plans.newest
        old = self.report
        self.lateness_ms.add(tick.late_s * 1e3)
        self.work_ms.add((marks[-1] - marks[0]) * 1e3)
        step_ms = {name: (b - a) * 1e3 for name, a, b in zip(STEPS, marks, marks[1:])}
        step_ms["report"] = (time.perf_counter() - marks[-1]) * 1e3
        self.report = ControlReport(
            ticks=old.ticks + 1,
            ticks_lost=old.ticks_lost + tick.lost,
            published=old.published + int(published),
            late_ms=tick.late_s * 1e3,
            plan_age_ms=newest.age_ms(tick.due_ns) if newest else float("nan"),
            lag=self._lag,
            step_ms=step_ms,
            worst_ms={name: max(old.worst_ms[name], ms) for name, ms in step_ms.items()},
        )
