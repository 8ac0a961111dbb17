"""The policy node in a process of its own, over real DDS, beside a robot double: what it refuses, holds and sends."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from policy_process import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, NODE, activate_when_ready, positions, stamp, start

from difftop_ros.manifest import sign
from difftop_ros.signals import ENDING


def assert_first_command_after(robot: Any, since: float) -> None:
    """Sentinel: commands of one publisher arrive in order, so the first one after `since` proves none came before."""
    robot.until(lambda: robot.commands, 10, "a first command")
    assert stamp(robot.commands[0][1]) >= since


def test_runs_reports_and_leaves_a_robot_at_rest(small_model: Path, robot: Any, spawn: Any) -> None:
    process = start(spawn, robot, small_model)
    since = activate_when_ready(robot)
    robot.until(lambda: len(robot.commands) > 100, 20, "100 commands")
    assert_first_command_after(robot, since)
    path = positions(robot)
    assert np.abs(path[0] - [0.3, -0.2]).max() <= 2.0 / 50 + 1e-6
    assert np.abs(np.diff(path, axis=0)).max() <= 2.0 / 50 + 1e-6
    assert np.abs(np.diff(path, 2, axis=0)).max() <= 30.0 / 50**2 + 1e-6
    plan, status = robot.plans[-1], robot.statuses[-1]
    assert (plan.horizon, list(plan.joint_names), plan.mode) == (8, ["shoulder", "elbow"], "position")
    assert len(plan.targets) == 16
    assert plan.step.nanosec == 50_000_000
    assert (status.state, status.holding) == ("active", False)
    assert status.solve_ms > 0
    assert status.commands_published > 0
    assert status.status in ("CONVERGED", "MAX_ITERATIONS", "NO_DECREASE", "DEADLINE")

    for number in (ACTIVATE, CONFIGURE, CLEANUP, 0, 42, 255):  # what an active node cannot do ends nothing
        assert not robot.transition(number)
    sent = len(robot.commands)
    robot.until(lambda: len(robot.commands) > sent + 20, 20, "commands after what was refused")

    assert robot.transition(DEACTIVATE)
    robot.until(lambda: time.monotonic() - robot.commands[-1][0] > 0.5, 5, "the last command")
    rest = positions(robot)[-3:]
    np.testing.assert_allclose(np.diff(rest, axis=0), 0.0, atol=1e-6)
    sent = len(robot.commands)
    robot.position = np.array([0.5, 0.5])
    since = activate_when_ready(robot)  # the sentinel: what follows is the next command of this publisher
    robot.until(lambda: len(robot.commands) > sent, 10, "a command after the second activation")
    assert stamp(robot.commands[sent][1]) >= since
    assert np.abs(positions(robot)[sent] - [0.5, 0.5]).max() <= 2.0 / 50 + 1e-6, "starts from the measured pose"
    assert process.interrupt() == 0


def test_missing_then_poisoned_streams_refuse_activation_and_nothing_is_sent(
    small_model: Path, robot: Any, spawn: Any
) -> None:
    robot.cloud = False
    process = start(spawn, robot, small_model)
    robot.until(lambda: not robot.transition(ACTIVATE) and "joint_states" not in robot.sentences()[-1], 10, "joints")
    robot.says("'/arm/points' is announced, but no message was received")
    robot.poison = robot.cloud = True
    robot.until(lambda: not robot.transition(ACTIVATE) and "finite" in robot.sentences()[-1], 10, "a NaN refusal")
    assert "cloud" in robot.sentences()[-1] or "/arm/points" in robot.sentences()[-1]
    robot.names = ["shoulder"]
    robot.poison = False
    robot.until(lambda: not robot.transition(ACTIVATE) and "'elbow'" in robot.sentences()[-1], 10, "a joint refusal")
    robot.names = ["shoulder", "elbow"]
    since = activate_when_ready(robot)
    assert_first_command_after(robot, since)
    assert "cannot activate" in process.output()


def test_a_topic_without_publisher_and_one_of_another_type_are_named(
    small_model: Path, robot: Any, spawn: Any, ros_context: object
) -> None:
    from std_msgs.msg import String

    text = (small_model / "contract.yaml").read_text()
    contract = small_model.parent / "moved.yaml"
    contract.write_text(text.replace("/arm/points", "/nobody/points").replace("/arm/joint_states", "/arm/words"))
    robot.node.create_publisher(String, "/arm/words", 1)
    start(spawn, robot, small_model, f"contract:={contract}")
    assert not robot.transition(ACTIVATE)
    robot.says("nothing publishes '/nobody/points' (sensor_msgs/msg/PointCloud2)")
    robot.until(
        lambda: (
            not robot.transition(ACTIVATE)
            and "'/arm/words' carries std_msgs/msg/String, the contract expects sensor_msgs/msg/JointState"
            in robot.sentences()[-1]
        ),
        10,
        "the sentence on the type",
    )


def test_nan_cloud_and_dead_streams_hold_with_the_reason_and_end_by_themselves(
    small_model: Path, robot: Any, spawn: Any
) -> None:
    # A patient plan age, so that a busy machine does not bring its own reason to hold before the stream's.
    start(spawn, robot, small_model, "max_failures:=20", "max_plan_age_ms:=3000.0")
    activate_when_ready(robot)
    robot.until(lambda: len(robot.commands) > 20, 20, "commands")
    for stop, words in (("poison", "finite"), ("cloud", "stale"), ("joints", "joint")):
        setattr(robot, stop, stop == "poison")
        robot.says("holding: ", 15)
        robot.says(words, 5)
        seen = len(robot.commands)
        robot.until(lambda n=seen: len(robot.commands) > n + 15, 10, "commands of the hold")
        held = positions(robot)[-5:]
        np.testing.assert_allclose(held, np.broadcast_to(held[0], held.shape), atol=1e-9)
        assert robot.statuses[-1].holding
        assert words in robot.statuses[-1].hold_reason
        setattr(robot, stop, stop != "poison")
        robot.until(lambda: robot.sentences()[-1] == "active", 15, "the end of the hold")


def test_repeated_holds_deactivate_the_node(small_model: Path, robot: Any, spawn: Any) -> None:
    process = spawn(NODE, "--ros-args", "-p", f"model:={small_model}", "-p", "autostart:=true", "-p",
                    "max_failures:=2", "-p", "failure_window_s:=60.0")  # fmt: skip
    robot.until(lambda: len(robot.commands) > 20, 60, "commands")
    robot.poison = True
    robot.says("holding: ", 15)
    robot.poison = False
    robot.until(lambda: robot.sentences()[-1] == "active", 15, "the end of the hold")
    robot.poison = True
    assert process.wait(20) == 3
    assert "deactivating: held 2 times within 60 s" in process.output()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("weights", "does not fit"),
        ("contract", "was trained with"),
        ("device", "CUDA"),
    ],
)
def test_what_does_not_fit_refuses_to_configure_and_exits(
    change: str, words: str, small_model: Path, tmp_path: Path, spawn: Any, robot: Any
) -> None:
    import shutil

    if change == "device":
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU, so asking for one is not refused")
    model = shutil.copytree(small_model, tmp_path / "model")
    extra = []
    if change == "weights":
        config = yaml.safe_load((model / "config.yaml").read_text())
        (model / "config.yaml").write_text(yaml.safe_dump({**config, "bc_width": 24}))
        sign(model)
    elif change == "contract":
        other = tmp_path / "other.yaml"
        other.write_text((model / "contract.yaml").read_text().replace("points: 64", "points: 32"))
        extra = ["-p", f"contract:={other}"]
    else:
        extra = ["-p", "device:=cuda"]
    process = spawn(NODE, "--ros-args", "-p", f"model:={model}", "-p", "autostart:=true", *extra)
    assert process.wait(60) == 2
    assert "cannot configure" in process.output()
    assert words in process.output()
    assert "Traceback" not in process.output()
    assert robot.commands == []  # its publisher never existed: configure ended before making it


@pytest.mark.parametrize("setting", ["deadline_ms:=20", "torch_threads:=100", "device:=tpu"])
def test_a_parameter_of_wrong_type_or_value_is_a_sentence(setting: str, spawn: Any) -> None:
    process = spawn(NODE, "--ros-args", "-p", setting)
    assert process.wait(30) == 2
    assert setting.split(":")[0] in process.output()
    assert "Traceback" not in process.output()


def test_autostart_gives_up_in_time_with_the_reason(small_model: Path, robot: Any, spawn: Any) -> None:
    robot.cloud = False
    process = spawn(NODE, "--ros-args", "-p", f"model:={small_model}", "-p", "autostart:=true", "-p",
                    "start_timeout_s:=2.0")  # fmt: skip
    assert process.wait(60) == 2
    assert "not active after 2 s: '/arm/points' is announced" in process.output()


def test_a_planner_process_that_dies_holds_and_deactivates(small_model: Path, robot: Any, spawn: Any) -> None:
    process = start(spawn, robot, small_model)
    activate_when_ready(robot)
    robot.until(lambda: len(robot.commands) > 20, 20, "commands")
    for child in children(process.pid):
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
            os.kill(child, 9)
    robot.says("deactivated: the planner stopped: the planner's process", 15)
    rest = positions(robot)[-3:]
    np.testing.assert_allclose(np.diff(rest, axis=0), 0.0, atol=1e-6)
    assert not robot.transition(ACTIVATE)
    robot.says("clean up and configure again")
    assert robot.transition(CLEANUP)
    assert robot.transition(CONFIGURE)
    activate_when_ready(robot)
    assert process.interrupt() == 0


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(part) for part in (task / "children").read_text().split()]
    return found


NEVER = """
class Never:
    kind = "never"
    def __init__(self, settings):
        assert settings.max_plan_age_ms == 500.0
    def fault(self, proposal, last):
        return "" if proposal.holds else "no motion today; come again tomorrow"
"""


@pytest.mark.parametrize("asked", ["never", "nevr"])
def test_a_check_of_another_package_is_asked_and_a_misspelt_one_refused(
    asked: str, small_model: Path, robot: Any, spawn: Any, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    info = package / "my_robot-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "my_robot_checks.py").write_text(NEVER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-robot\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[difftop_ros.checks]\nnever = my_robot_checks:Never\n")
    path = os.pathsep.join(part for part in (str(package), os.environ.get("PYTHONPATH", "")) if part)
    checks = f"[finite, joint names, plan age, velocity, acceleration, {asked}]"
    settings = (f"model:={small_model}", "autostart:=true", "max_failures:=1000", f"checks:={checks}")
    process = spawn(NODE, "--ros-args", *(word for p in settings for word in ("-p", p)), env={"PYTHONPATH": path})
    if asked == "nevr":
        assert process.wait(60) == 2
        assert "cannot configure: checks names 'nevr', which no installed package offers" in process.output()
        return
    robot.until(lambda: any(status.holding for status in list(robot.statuses)), 60, "a hold")
    held = next(status for status in list(robot.statuses) if status.holding)
    assert held.hold_reason == "no motion today; come again tomorrow"
    assert held.commands_published == 0
    assert "does without its checks ['measurement', 'position', 'jerk', 'tracking', 'clearance']" in process.output()
    assert process.interrupt() == 0
    assert robot.commands == []


@pytest.mark.parametrize("number", ENDING, ids=lambda number: signal.Signals(number).name)
def test_an_ending_signal_in_motion_decelerates_and_leaves_the_robot_at_rest(
    number: int, small_model: Path, robot: Any, spawn: Any
) -> None:
    entry = (  # whatever started the tests, the node is not under nohup
        f"import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); from {NODE} import main; sys.exit(main())"
    )
    process = spawn([sys.executable, "-c", entry], "--ros-args", "-p", f"model:={small_model}", "-p", "autostart:=true")
    robot.until(lambda: len(robot.commands) > 40, 60, "commands")
    process.popen.send_signal(number)
    assert process.wait(15) == 0
    time.sleep(0.2)  # what was acknowledged has arrived; its callback may still wait in this process
    path = positions(robot)
    assert np.abs(np.diff(path, axis=0)).max() <= 2.0 / 50 + 1e-6
    assert np.abs(np.diff(path, 2, axis=0)).max() <= 30.0 / 50**2 + 1e-6
    np.testing.assert_allclose(np.diff(path[-2:], axis=0), 0.0, atol=1e-6)


def test_a_false_reading_never_moves_the_arm(small_model: Path, robot: Any, spawn: Any) -> None:
    robot.position = np.array([1.2, -1.1])
    start(spawn, robot, small_model, "max_failures:=20", "max_plan_age_ms:=3000.0")
    activate_when_ready(robot)
    for false in ([0.0, 0.0], [1e308, 0.0], [-1.9, 1.9]):
        seen = len(robot.commands)
        robot.until(lambda n=seen: len(robot.commands) > n + 40, 20, "commands")
        robot.frozen, robot.position = True, np.array(false)
        robot.says("holding", 10.0)
        held = positions(robot)[-1]
        robot.until(lambda: time.monotonic() - robot.commands[-1][0] < 0.1, 2, "commands while holding")
        sent, until = len(robot.commands), time.monotonic() + 2.0
        robot.until(lambda t=until: time.monotonic() > t, 5, "two seconds of false readings")
        path = positions(robot)
        assert len(path) > sent + 50  # it goes on commanding where it stands
        assert np.abs(path[sent:] - held).max() < 0.1  # what it takes to stop, and nothing towards the false pose
        assert np.abs(np.diff(path, 2, axis=0)).max() <= 30.0 / 50**2 + 1e-6
        assert robot.sentences()[-1].startswith("holding")
        robot.frozen, robot.position = False, positions(robot)[-1]
        robot.until(lambda: robot.sentences()[-1] == "active", 20, "the end of the hold")
