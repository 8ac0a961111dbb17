"""The simulation's own thread: physics ticks at absolute deadlines or in lock-step. Messages: see publishers.py."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from difftop_ros.errors import UserError
from difftop_ros.nodes.simulation.bridge.cameras import CameraThread
from difftop_ros.nodes.simulation.bridge.commands import CommandTracker
from difftop_ros.nodes.simulation.state import STATE_HZ
from difftop_ros.sim.interface import SimWorld

# Simulation time starts here: nodes with use_sim_time take 0 for 'no clock yet'.
START_NS = 1_000_000_000
_SLOW_REPORT_HZ = 10.0  # of success and episode status
_COMMAND_WAIT_S = 2.0
MOST_STEPS = 100_000  # of one request


@dataclass(frozen=True)
class Moment:
    """What is published after a tick. `position`, `velocity`, `effort` float64 (n,) of the world's joints."""

    time_ns: int
    position: Any
    velocity: Any
    effort: Any


@dataclass(frozen=True)
class EpisodeMoment:
    """The episode's state. `success` is the condition now, `succeeded` whether it ever held since the reset."""

    time_ns: int
    task: str
    seed: int
    step: int
    elapsed_s: float
    success: bool
    succeeded: bool
    done: bool


@dataclass(frozen=True)
class Pace:
    """How the loop does: achieved real-time factor, share of ticks that were late, pictures drawn per wall second."""

    asked: float
    achieved: float
    late_share: float
    frames_per_s: float


class Outlet(Protocol):
    """Where the loop's results go; all methods are called in the loop's thread, `frame` in the cameras'."""

    def tick(self, moment: Moment) -> None: ...

    def state(self, time_ns: int, world: SimWorld) -> None: ...

    def reward(self, world: SimWorld) -> None: ...

    def episode(self, episode: EpisodeMoment) -> None: ...

    def wanted(self, tick: int, force: bool) -> tuple[str, ...]: ...

    def frame(self, camera: str, colour: Any, depth: Any, pose: Any, time_ns: int) -> None: ...

    def pace(self, pace: Pace | None, world: SimWorld) -> None: ...


class Driver(Protocol):
    """Who commands the robot from within the bridge's process, such as expert.ExpertDriver."""

    def begin(self, world: SimWorld) -> None: ...

    def __call__(self, time_ns: int) -> None: ...


@dataclass(frozen=True)
class LoopSettings:
    """tick_ns: physics tick [ns]; step_ticks: ticks of one policy step; max_seconds: longest episode [s]."""

    tick_ns: int
    step_ticks: int
    max_seconds: float
    lockstep: bool


class SimLoop:
    """Owns the world. Other threads only offer commands to the tracker and `call` functions into the loop."""

    def __init__(
        self,
        make: Callable[[str | None], SimWorld],
        tracker: CommandTracker,
        outlet: Outlet,
        settings: LoopSettings,
        realtime_factor: float,
    ) -> None:
        """make(task) builds a world for a task, None for the first one; realtime_factor 0 is as fast as possible."""
        self._make, self._tracker, self._outlet, self._settings = make, tracker, outlet, settings
        self.realtime_factor = realtime_factor
        self.world = make(None)
        self.cameras = CameraThread(outlet.frame)
        self.failure: BaseException | None = None
        self.driver: Driver | None = None  # publishes a command at the beginning of every policy step
        self._paused = settings.lockstep
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._tick = 0
        self._dt = settings.tick_ns * 1e-9
        self._seed, self._start_tick = 0, 0
        self._succeeded = self._reported_success = False
        self._thread = threading.Thread(target=self._run, name="simulation", daemon=True)

    @property
    def time_ns(self) -> int:
        """Simulation time [ns]; it never goes back, not even over a reset."""
        return START_NS + self._tick * self._settings.tick_ns

    @property
    def alive(self) -> bool:
        """False once the loop has ended, by `stop` or by a failure (see `failure`)."""
        return self._thread.is_alive()

    @property
    def paused(self) -> bool:
        """Whether time moves by `advance` and `tick` alone; always so in lock-step."""
        return self._paused

    @property
    def seed(self) -> int:
        """Of the present episode."""
        return self._seed

    def pause(self, paused: bool) -> None:
        """In the loop's thread: stop time, or let it go on. Raises UserError in lock-step, where it cannot."""
        if self._settings.lockstep and not paused:
            raise UserError("the simulation is in lock-step; start the bridge without lockstep:=true to let it run")
        self._paused = paused

    def prepare_cameras(self) -> None:
        """Before `start`: opens the renderer now rather than at the first picture. SimError where nothing can draw."""
        self.cameras.submit(self.world, (), self.time_ns)
        self.cameras.flush()

    def start(self, seed: int) -> None:
        """Begins the first episode and then the loop's thread."""
        self._begin(seed)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, waits for it a bounded time and closes the world."""
        self._stop.set()
        self._requests.put(lambda: None)
        self.cameras.stop()
        if self._thread.ident is not None:
            self._thread.join(5.0)
        self.world.close()

    def call(self, function: Callable[[], Any], timeout: float = 30.0) -> Any:
        """Runs `function` in the loop's thread between two ticks and returns its result, or raises what it raised."""
        done = threading.Event()
        result: list[tuple[Any, UserError | None]] = []

        def request() -> None:
            try:
                result.append((function(), None))
            except UserError as error:
                result.append((None, error))
            finally:
                done.set()

        self._requests.put(request)
        if not done.wait(timeout) or not result:
            raise UserError(
                f"the simulation did not answer within {timeout} s; see the bridge's log for why it stopped"
            )
        value, error = result[0]
        if error is not None:
            raise error
        return value

    def reset(self, seed: int, task: str = "", rebuild: bool = False) -> int:
        """In the loop's thread: a new episode, with another task if one is named. Returns its first time [ns].

        rebuild: in a world that is made anew.

        Raises UserError, and changes nothing, for a task that is unknown or that the model cannot serve.
        """
        if seed < 0:
            raise UserError(f"seed is {seed}; it must be zero or more")
        self.cameras.flush()
        task = task or self.world.task.name
        if rebuild or task != self.world.task.name:
            fresh = self._make(task)
            if (fresh.joint_names, fresh.cameras) != (self.world.joint_names, self.world.cameras):
                fresh.close()
                raise UserError(
                    f"task '{task}' has another robot than '{self.world.task.name}'; start a bridge with that task"
                )
            self.world.close()
            self.world = fresh
        # onto the grid of policy steps, so that the streams' periods fall on it and a step's frames are fresh
        self._tick += self._settings.step_ticks - self._tick % self._settings.step_ticks
        self._begin(seed)
        if self._paused:
            self.cameras.flush()
        return self.time_ns

    def advance(self, steps: int, wait_for_command: bool) -> int:
        """In the loop's thread: `steps` policy steps while paused; returns the time after them [ns], all published."""
        self._require_steps(steps)
        for _ in range(steps):
            if wait_for_command and not self._tracker.new_command.wait(_COMMAND_WAIT_S):
                raise UserError(
                    f"no command came within {_COMMAND_WAIT_S} s; publish one, or step without wait_for_command"
                )
            for _ in range(self._settings.step_ticks):
                self._advance_tick()
        return self._all_published()

    def tick(self, ticks: int) -> int:
        """In the loop's thread: as `advance`, by ticks of physics."""
        self._require_steps(ticks)
        for _ in range(ticks):
            self._advance_tick()
        return self._all_published()

    def _require_steps(self, steps: int) -> None:
        if not self._paused:
            raise UserError(
                "the simulation runs by itself; pause it, or start the bridge with lockstep:=true to step it"
            )
        if not 1 <= steps <= MOST_STEPS:
            raise UserError(f"steps is {steps}; ask for 1 to {MOST_STEPS}")

    def _all_published(self) -> int:
        self.cameras.flush()
        self._outlet.pace(None, self.world)
        return self.time_ns

    def _begin(self, seed: int) -> None:
        self.world.reset(seed)
        self._seed, self._start_tick, self._succeeded = seed, self._tick, False
        self._tracker.begin(self.world.joint_state()[0], self.time_ns)
        self._publish(first=True)
        if self.driver is not None:
            self.driver.begin(self.world)
            self.driver(self.time_ns)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if self._paused:
                    self._requests.get()()
                else:
                    self._run_paced()
        except BaseException as error:  # kept for the main thread, which ends the process with it
            self.failure = error

    def _run_paced(self) -> None:
        """Until it is stopped or paused."""
        deadline = since = time.monotonic()
        late, start_tick, start_frames = 0, self._tick, self.cameras.frames
        while not self._stop.is_set():
            while not self._requests.empty():
                self._requests.get()()
            if self._paused:
                return
            self._advance_tick()
            factor = self.realtime_factor
            period = self._dt / factor if factor > 0 else 0.0
            deadline += period
            now = time.monotonic()
            if now < deadline:
                self._stop.wait(deadline - now)
            elif now - deadline > 2 * period:
                # Too late to make up for: time slips, rather than running in bursts.
                deadline = now
                late += factor > 0
            if now - since >= 1.0:
                ticks, frames = self._tick - start_tick, self.cameras.frames - start_frames
                span = now - since
                self._outlet.pace(
                    Pace(factor, ticks * self._dt / span, late / max(ticks, 1), frames / span), self.world
                )
                late, start_tick, start_frames, since = 0, self._tick, self.cameras.frames, now

    def _advance_tick(self) -> None:
        measured = self.world.joint_state()[0]
        self.world.step(self._tracker.targets(self._dt, measured), self._dt)
        self._tick += 1
        self._publish(first=False)
        if self.driver is not None and (self._tick - self._start_tick) % self._settings.step_ticks == 0:
            self.driver(self.time_ns)

    def _publish(self, first: bool) -> None:
        self._outlet.tick(Moment(self.time_ns, *self.world.joint_state()))
        if first or self._due(STATE_HZ):
            self._outlet.state(self.time_ns, self.world)
        if (self._tick - self._start_tick) % self._settings.step_ticks == 0:
            self._outlet.reward(self.world)
        success = self.world.success()
        self._succeeded |= success
        if first or success != self._reported_success or self._due(_SLOW_REPORT_HZ):
            self._outlet.episode(self._episode(success))
            self._reported_success = success
        cameras = self._outlet.wanted(self._tick, first)
        if cameras:
            self.cameras.submit(self.world, cameras, self.time_ns)

    def _episode(self, success: bool) -> EpisodeMoment:
        ticks = self._tick - self._start_tick
        elapsed = ticks * self._dt
        done = self._succeeded or elapsed >= self._settings.max_seconds
        step = ticks // self._settings.step_ticks
        task = self.world.task.name
        return EpisodeMoment(self.time_ns, task, self._seed, step, elapsed, success, self._succeeded, done)

    def _due(self, rate_hz: float) -> bool:
        return is_due(self._tick, self._settings.tick_ns, rate_hz)


def is_due(tick: int, tick_ns: int, rate_hz: float) -> bool:
    """Whether something of `rate_hz` falls due at this tick: when a whole period has passed since the tick before."""
    period_ns = 1e9 / rate_hz
    return int((tick * tick_ns + 1) // period_ns) != int(((tick - 1) * tick_ns + 1) // period_ns)
