"""prepare(): search paths, DDS profile, discovery range, and its sentences when ROS 2 is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from difftop_ros.errors import UserError
from difftop_ros.nodes import environment as ros_env
from difftop_ros.paths import share_path

ROBOT = str(share_path("config/dds/fastdds.xml"))
LOCAL = str(share_path("config/dds/fastdds_localhost.xml"))
PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"


def test_profile_is_set_when_the_user_has_none() -> None:
    assert ros_env.ros_environment(base={})[PROFILE] == ROBOT
    env = ros_env.ros_environment(base={}, local_only=True)
    assert (env[PROFILE], env["ROS_AUTOMATIC_DISCOVERY_RANGE"]) == (LOCAL, "LOCALHOST")


def test_a_profile_of_the_user_is_kept() -> None:
    for name in ros_env.PROFILE_VARIABLES:
        env = ros_env.ros_environment(base={name: "/mine.xml"}, local_only=True)
        assert {n: env.get(n) for n in ros_env.PROFILE_VARIABLES if n in env} == {name: "/mine.xml"}


def test_local_only_narrows_and_is_never_widened_by_a_child() -> None:
    wide = ros_env.ros_environment(base={})
    narrow = ros_env.ros_environment(base=wide, local_only=True)
    assert narrow[PROFILE] == LOCAL
    child = ros_env.ros_environment(base=narrow)
    assert (child[PROFILE], child["ROS_AUTOMATIC_DISCOVERY_RANGE"]) == (LOCAL, "LOCALHOST")


def test_a_sourced_ros_installation_stays_first() -> None:
    env = ros_env.ros_environment(base={"AMENT_PREFIX_PATH": "/opt/ros/jazzy:/ws/install"})
    assert env["AMENT_PREFIX_PATH"].startswith("/opt/ros/jazzy:/ws/install")
    assert ros_env.ros_environment(base=env) == env


def test_missing_ros_is_one_sentence_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    monkeypatch.setattr("os.environ", dict(ros_env.os.environ))
    with pytest.raises(UserError, match=r"rclpy cannot be used .*make setup"):
        ros_env.prepare()


def test_missing_messages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed in this environment")
    monkeypatch.setitem(sys.modules, "difftop_ros.msg", None)
    monkeypatch.setattr("os.environ", dict(ros_env.os.environ))
    with pytest.raises(UserError, match=r"generated messages cannot be used .*(make setup|colcon build)"):
        ros_env.prepare()


def test_share_path_names_where_it_looked() -> None:
    with pytest.raises(UserError, match=r"no-such-file\.yaml.*searched .*difftop_ros"):
        share_path("config/no-such-file.yaml")


PROGRAM = """
import sys
from difftop_ros.nodes.environment import prepare
if __name__ == "__main__":
    prepare(local_only=True)
    import multiprocessing, rclpy
    from difftop_ros.msg import Plan
    rclpy.init()
    node = rclpy.create_node("probe")
    node.create_publisher(Plan, "plan", 1)
    print("READY", sys.argv[1:])
    if "child" in sys.argv:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print("CHILD", pool.apply(eval, ("__import__('rclpy').__name__",)))
    rclpy.shutdown()
"""


@pytest.mark.parametrize("inherit", [True, False], ids=["inherited environment", "bare environment"])
def test_any_start_of_python_works(ros_domain: int, spawn: Any, tmp_path: Path, inherit: bool) -> None:
    """The pip wheels re-execute Python once for LD_LIBRARY_PATH: arguments and child processes must survive it."""
    pytest.importorskip("rclpy", reason="rclpy is not installed in this environment")
    script = tmp_path / "probe.py"
    script.write_text(PROGRAM)
    lost = [] if inherit else ["LD_LIBRARY_PATH", "AMENT_PREFIX_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"]
    unset = [part for name in lost for part in ("-u", name)]
    if not inherit and not (Path(sys.prefix) / "share/ament_index/resource_index/packages/rclpy").is_file():
        pytest.skip("ROS 2 comes from a sourced installation here, which a bare environment cannot have")
    root = str(Path(__file__).resolve().parents[2])
    process = spawn(["env", *unset, f"PYTHONPATH={root}", sys.executable, str(script), "child", "a b"])
    assert process.wait(60) == 0, process.output()
    assert "READY ['child', 'a b']" in process.output()
    assert "CHILD rclpy" in process.output()


def test_lost_library_path_is_explained(spawn: Any) -> None:
    """A child with the wheels' marker but without LD_LIBRARY_PATH cannot load rclpy: the sentence says why."""
    if not (Path(sys.prefix) / "share/ament_index/resource_index/packages/rclpy").is_file():
        pytest.skip("ROS 2 does not come from pip wheels here")
    code = "from difftop_ros.nodes.environment import prepare; prepare()"
    root = str(Path(__file__).resolve().parents[2])
    env = {"_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1", "PYTHONPATH": root, "PATH": "/usr/bin:/bin"}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode != 0
    assert "LD_LIBRARY_PATH was lost on the way" in result.stderr
