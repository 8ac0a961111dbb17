"""Whole courses of commands against a double of joint_trajectory_controller: no jump, the same way, a stop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from trajectory_controller import TrajectoryController

from difftop_ros.contract import ContractError, parse_contract
from difftop_ros.messages import array_to_command
from difftop_ros.messages.commands import command_to_array, trajectory, way_points
from difftop_ros.messages.types import rosbags_types
from difftop_ros.runtime.clock import Pacer, SystemTime, Tick
from difftop_ros.runtime.control import ControlLoop
from difftop_ros.runtime.course import Course, CourseKeeper
from difftop_ros.runtime.joints import JointReading
from difftop_ros.runtime.plan import PlanBuffer, TimedPlan
from difftop_ros.safety import CommandGate, GateSettings, HoldSupervisor, MotionLimits, MotionShaper, make_checks

S, DT = 1_000_000_000, 20_000_000
TEXT = """
name: arm
rate_hz: 20
control_rate_hz: 50
clock: {clock}
command:
  topic: jtc/joint_trajectory
  type: trajectory_msgs/msg/JointTrajectory
  trajectory_s: {seconds}
  joints:
    - {{name: a, position: [-2, 2], velocity: 1.5, acceleration: 8.0}}
    - {{name: b, position: [-2, 2], velocity: 1.5, acceleration: 8.0, jerk: 200.0}}
observations:
  joints: {{kind: joint_state, topic: joint_states, joints: [a, b]}}
"""
TOP, MOST = 1.5, 8.0
CONTROLLERS = [
    pytest.param({"open_loop": o, "keeps": k}, id=f"{'open' if o else 'closed'} loop, {'new' if k else 'old'}")
    for o in (True, False)
    for k in (True, False)
]


class Rig:
    """A control loop, the messages on their way, a controller that is sampled every millisecond, a robot that lags."""

    def __init__(self, clock: str = "header", delay_s: float = 0.003, seconds: float = 0.6, **controller: Any) -> None:
        self.contract = parse_contract(TEXT.format(clock=clock, seconds=seconds))
        limits = MotionLimits.of(self.contract.command, 50)
        gate = CommandGate(limits, make_checks(GateSettings(5000, 100, 60.0)))
        shaper, self.plans = MotionShaper(limits), PlanBuffer(0.1)
        self.hold = HoldSupervisor(resume_after=2, max_failures=5, window_s=10.0)
        self.position = np.array([0.2, -0.3])
        controller = {"open_loop": True, "keeps": False, **controller}
        self.controller = TrajectoryController(["a", "b"], self.position, **controller)
        self.now_ns, self.delay_s = 10 * S, delay_s
        self.courses: list[Course] = []
        self.commands: list[np.ndarray] = []
        self.references: list[np.ndarray] = []
        self._underway: list[tuple[float, Any]] = []
        keeper = CourseKeeper(seconds, self.plans, gate, shaper, 0, self.publish)
        self.fault = ""
        self.loop = ControlLoop(
            gate=gate, shaper=shaper, supervisor=self.hold, plans=self.plans, pacer=Pacer(SystemTime(), 0.02),
            read_joints=lambda _: JointReading(self.position.copy(), 5.0, self.fault),
            publish=lambda values: self.commands.append(values.copy()), courses=keeper,
        )  # fmt: skip

    def publish(self, course: Course) -> None:
        self.courses.append(course)
        rows = (course.positions, course.velocities)
        message = trajectory(self.contract, *rows, course.step_s, course.stamp_ns, rosbags_types)
        self._underway.append((self.now_ns / 1e9 + self.delay_s, message))

    def plan(self, path: Any, steps: int = 16) -> None:
        """A plan of `steps` whose row k is path(time [s])."""
        times = self.now_ns / 1e9 + 0.05 * np.arange(steps)
        actions = np.array([path(t) for t in times])
        self.plans.push(TimedPlan(self.now_ns, 0.05, actions, ("a", "b"), "position"), self.now_ns)

    def run(self, ticks: int, lost: int = 0) -> None:
        for _ in range(ticks):
            self.now_ns += DT * (1 + lost)
            for ms in range(20 * lost):
                self._sample(self.now_ns / 1e9 - 0.02 * lost + ms * 1e-3)
            self.loop.tick(Tick(self.now_ns, 0.0, lost))
            self.coast(0.02, self.now_ns / 1e9)

    def coast(self, seconds: float, begin: float | None = None) -> None:
        begin = self.now_ns / 1e9 if begin is None else begin
        for ms in range(round(seconds * 1e3)):
            self._sample(begin + ms * 1e-3)

    def _sample(self, now: float) -> None:
        for entry in [e for e in self._underway if e[0] <= now]:
            self._underway.remove(entry)
            self.controller.receive(entry[1], now, self.position)
        reference = self.controller.sample(now)
        self.references.append(reference)
        self.position = self.position + (reference - self.position) * 0.05  # a lag of 20 ms

    @property
    def speeds(self) -> np.ndarray:
        return np.diff(np.array(self.references), axis=0) / 1e-3


def wave(t: float) -> tuple[float, float]:
    return 0.2 + 0.5 * np.sin(t - 10.0), -0.3 + 0.4 * np.sin(0.7 * (t - 10.0))


def smooth(rig: Rig, most: float = MOST) -> None:
    """The reference keeps the limits of speed and, but for what cubic pieces add, of acceleration: nothing jumps.

    A cubic piece between rows with accelerations a and b begins with 2 a - b, at a seam with somewhat more.
    """
    assert not rig.controller.refused
    assert np.abs(rig.speeds).max() <= TOP * 1.02
    assert np.abs(np.diff(rig.speeds, axis=0)).max() / 1e-3 <= 4 * most


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("delay_s", [0.0, 0.004, 0.018])
def test_one_course_replaces_another_without_a_jump(controller: dict[str, bool], delay_s: float) -> None:
    rig = Rig(delay_s=delay_s, **controller)
    for number in range(30):
        shift = 0.02 * np.sin(number)  # plans disagree
        rig.plan(lambda t, shift=shift: np.array(wave(t)) + shift)
        rig.run(3)
    smooth(rig)
    ways = np.array(rig.references)[300:]
    assert np.ptp(ways[:, 0]) > 0.3


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_without_stamps_a_course_starts_on_arrival_and_steps_back_by_no_more_than_the_delay(controller: Any) -> None:
    rig = Rig("receive", 0.002, **controller)
    for _ in range(30):
        rig.plan(wave)
        rig.run(3)
    assert not rig.controller.refused
    steps = np.abs(np.diff(np.array(rig.references), axis=0)).max(axis=0)
    assert steps.max() <= TOP * 0.002 + 1e-4


def test_the_controller_goes_where_single_commands_would_lead() -> None:
    rig = Rig(delay_s=0.0)
    for _ in range(20):
        rig.plan(wave)
        rig.run(4)
    reached = np.array(rig.references)[39::20]  # 1 ms before the end of the tick after: a tick of lead
    np.testing.assert_allclose(reached[2:], np.array(rig.commands)[2:-1], atol=2e-3)
    assert len(rig.courses) < len(rig.commands)


def test_the_robot_is_where_the_plan_says_a_control_period_later() -> None:
    """As with single commands, whose next is reached one period after its tick: the lead is made up for."""
    rig = Rig(delay_s=0.002)
    for _ in range(20):
        rig.plan(wave)
        rig.run(4)
    times = (10.02 + 1e-3 * np.arange(len(rig.references)))[600:]
    meant = np.array([wave(t - 0.02) for t in times])
    np.testing.assert_allclose(np.array(rig.references)[600:], meant, atol=2e-3)


def test_nothing_is_sent_while_the_robot_is_on_its_course() -> None:
    rig = Rig()
    rig.plan(lambda t: (0.5, -0.3), 40)
    rig.run(10)
    assert len(rig.courses) == 1
    rig.run(10)
    assert len(rig.courses) == 2  # it was half used up
    smooth(rig)


def test_a_commander_that_dies_leaves_a_stop_within_limits() -> None:
    rig = Rig()
    rig.plan(lambda t: (0.2 + 1.4 * (t - 10.0), -0.3), 40)
    rig.run(15)
    assert rig.speeds[-1, 0] > 0.9
    rig.coast(2.0, rig.now_ns / 1e9 + 0.02)
    smooth(rig)
    assert np.abs(rig.speeds[-100:]).max() == 0
    assert rig.references[-1][0] - rig.references[-2000][0] < 1.5 * (0.6 + 0.3)
    for course in rig.courses:
        assert not course.velocities[-1].any()


def test_a_hold_is_a_course_to_rest_at_once_and_the_next_plan_goes_on_from_there() -> None:
    rig = Rig()
    rig.plan(wave)
    rig.run(8)
    sent = len(rig.courses)
    rig.fault = "the joints lie"
    rig.run(1)
    assert len(rig.courses) == sent + 1 and rig.hold.holding
    rig.run(20)
    assert np.abs(rig.speeds[-50:]).max() == 0 and len(rig.courses) == sent + 1
    rig.fault = ""
    for _ in range(6):
        rig.plan(wave)
        rig.hold.good_plan()
        rig.run(3)
    assert not rig.hold.holding
    rig.run(5)
    smooth(rig)


@pytest.mark.parametrize("lost", [1, 4])
def test_lost_ticks_do_not_turn_the_robot_back(lost: int) -> None:
    rig = Rig()
    rig.plan(lambda t: (0.2 + 0.8 * (t - 10.0), -0.3), 40)
    rig.run(12)
    rig.run(1, lost=lost)
    rig.run(4)
    smooth(rig)
    assert np.diff(np.array(rig.references)[280:, 0]).min() > 0


def test_the_message_says_positions_velocities_and_times() -> None:
    rig = Rig(seconds=0.1)
    positions, velocities = np.arange(6.0).reshape(3, 2), np.ones((3, 2))
    message = trajectory(rig.contract, positions, velocities, 0.02, 12 * S + 5, rosbags_types)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 5)
    times, values = way_points(rig.contract, message)
    np.testing.assert_allclose(times, [0, 0.02, 0.04])
    np.testing.assert_allclose(values, positions)
    np.testing.assert_allclose([p.velocities for p in message.points], velocities)
    np.testing.assert_allclose(command_to_array(rig.contract, message), positions[1])  # what is to be reached next
    received = Rig("receive").contract
    assert trajectory(received, positions, velocities, 0.02, S, rosbags_types).header.stamp.sec == 0
    assert len(array_to_command(rig.contract, positions[0], 0, rosbags_types).points) == 1


def test_the_node_publishes_it_as_one_message() -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from types import SimpleNamespace

    from difftop_ros.nodes.policy.connections import CommandPublisher

    sent: list[Any] = []
    outlet = CommandPublisher.__new__(CommandPublisher)
    outlet.__dict__.update(_contract=Rig().contract, _columns=[0, 1], publisher=SimpleNamespace(publish=sent.append))
    outlet.send_course(Course(3 * S, 0.02, np.zeros((4, 2)), np.ones((4, 2))))
    (message,) = sent
    assert type(message).__module__.startswith("trajectory_msgs")
    assert (message.header.stamp.sec, message.joint_names, len(message.points)) == (3, ["a", "b"], 4)
    assert message.points[3].time_from_start.nanosec == 60_000_000


def test_it_is_for_trajectories_of_positions() -> None:
    text = TEXT.format(clock="header", seconds=0.5)
    for old, new in (
        ("trajectory_msgs/msg/JointTrajectory", "sensor_msgs/msg/JointState"),
        ("trajectory_s", "mode: velocity\n  trajectory_s"),
    ):
        with pytest.raises(ContractError, match="trajectory_s is for a JointTrajectory in mode position"):
            parse_contract(text.replace(old, new))
