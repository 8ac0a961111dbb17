"""The recorder beside a running simulation: by the simulator's episodes, by keys; and `contract check --live`."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from difftop_ros.contract import load_contract
from difftop_ros.data import find_bags, ingest, open_bag
from tools.patience import patience

ROOT = Path(__file__).parents[3]
CONTRACT = ROOT / "config" / "panda_table.yaml"
CHECK = """
import argparse, sys
from difftop_ros.commands import contract
parser = argparse.ArgumentParser()
contract.add_arguments(parser)
sys.exit(contract.run(parser.parse_args()))
"""


@pytest.fixture
def simulation(spawn: Any) -> Any:
    """A bridge whose expert reaches for the ball, twice as fast as real time, small pictures."""
    settings = ["task:=reach", "expert:=true", "realtime_factor:=2.0", "width:=64", "height:=48", "seed:=3"]
    arguments = [word for setting in settings for word in ("-p", setting)]
    bridge = spawn("difftop_ros.nodes.simulation.bridge.node", "--ros-args", *arguments)
    bridge.wait_for("ready", 60)
    return bridge


def reset(context: Any, seed: int) -> None:
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from difftop_ros.srv import ResetEpisode

    node = rclpy.create_node("resetter", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    client = node.create_client(ResetEpisode, "/sim/reset")
    assert client.wait_for_service(10.0)
    future = client.call_async(ResetEpisode.Request(seed=seed))
    executor.spin_until_future_complete(future, 10.0)
    assert future.result().success, future.result().message
    executor.shutdown()
    node.destroy_node()


def marks(folder: Path) -> dict[int | None, tuple[bool | None, Path]]:
    """The success mark and path of each finished bag, by the seed of its episode."""
    found = {}
    for metadata in folder.glob("*/metadata.yaml"):
        with open_bag(metadata.parent) as bag:
            found[bag.mark().get("seed")] = (bag.mark().get("success"), metadata.parent)
    return found


def test_a_bag_for_each_episode_of_the_simulation(
    simulation: Any, spawn: Any, ros_context: object, tmp_path: Path
) -> None:
    settings = [f"out:={tmp_path / 'bags'}", "automatic:=true", "use_sim_time:=true", "name:=reach", "stay_s:=0.2"]
    arguments = [word for setting in settings for word in ("-p", setting)]
    recorder = spawn("difftop_ros.nodes.recorder.node", "--ros-args", *arguments)
    recorder.wait_for("all observed topics are there")
    deadline = time.monotonic() + patience(40)
    for seed in (11, 12):
        reset(ros_context, seed)
        # By the bag's own mark: episodes of other seeds succeed as well, before and between the two that are asked for.
        while marks(tmp_path / "bags").get(seed, (None,))[0] is None:
            assert time.monotonic() < deadline, recorder.output()
            time.sleep(0.05)
    recorder.interrupt()
    found = marks(tmp_path / "bags")
    assert found[11][0] is True and found[12][0] is True
    report = ingest([found[12][1]], load_contract(CONTRACT), tmp_path / "data")
    assert report.steps > 10 and not report.bags[0].undecodable


def test_contract_check_on_a_running_robot(simulation: Any, spawn: Any) -> None:
    good = spawn([sys.executable, "-c", CHECK, "check", str(CONTRACT), "--live", "--local", "--seconds", "1"])
    assert good.wait(40) == 0, good.output()
    assert re.search("ok +joints +'/joint_states' at", good.output())
    assert re.search("ok +command +'/joint_command' at", good.output())
    other = ROOT / "config" / "ur_like_example.yaml"
    bad = spawn([sys.executable, "-c", CHECK, "check", str(other), "--live", "--local", "--seconds", "0.2"])
    assert bad.wait(40) == 1, bad.output()
    assert re.search("error +state +topic '/arm/joint_states' is missing", bad.output())
    assert "did you mean '/joint_states'?" in bad.output()
    assert "Traceback" not in bad.output()


def test_keys_start_and_end_episodes(simulation: Any, ros_context: object, tmp_path: Path) -> None:
    import threading

    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from difftop_ros.commands.record import status_line
    from difftop_ros.errors import UserError
    from difftop_ros.nodes.recorder.recorder import Recorder
    from difftop_ros.nodes.recorder.services import KeyboardControl

    node = rclpy.create_node("by_hand", context=ros_context)
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    recorder = Recorder(node, load_contract(CONTRACT), tmp_path / "bags")
    spinning = threading.Thread(target=executor.spin, daemon=True)
    spinning.start()
    read, write = os.pipe()
    typed, sys.stdin = sys.stdin, os.fdopen(read)
    try:
        keys = KeyboardControl(recorder)
        deadline = time.monotonic() + patience(20)
        while recorder.findings() or set(recorder.topics.types) < set(recorder.required):
            assert time.monotonic() < deadline, recorder.findings()
            time.sleep(0.05)
        with pytest.raises(UserError, match="nothing is being recorded"):
            keys.obey("s")
        with pytest.raises(UserError, match="no episode of this recorder is left"):
            keys.obey("d")
        os.write(write, b"\n")  # Enter
        while recorder.recording is None or recorder.topics.received("/joint_states")[0] < 20:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        line = status_line(recorder)
        assert f"recording {recorder.recording}" in line
        assert re.search(r"/joint_states [1-9]\d* Hz", line)
        assert keys.obey("i") == "you have taken over"
        while recorder.topics.received("/difftop/intervention")[0] < 2:  # it is told again and again
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert keys.obey("i") == "given back to the policy"
        os.write(write, b"f\n")
        while recorder.recording is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        kept = recorder.start()
        recorder.stop(True)
        spoilt = recorder.start()
        assert re.search(r"recording \S+ for \d+ s", status_line(recorder))
        assert keys.obey("r") == f"deleted {spoilt}; recording {spoilt}" and spoilt.is_dir()
        assert keys.obey("d") == f"deleted {spoilt}" and not spoilt.exists() and recorder.recording is None
        assert keys.obey("d") == f"deleted {kept}" and not kept.exists()
        assert keys.obey("help") == KeyboardControl.HELP
    finally:
        os.close(write)
        keys.thread.join(5)
        sys.stdin.close()
        sys.stdin = typed
        executor.shutdown()
        spinning.join(5)
        node.destroy_node()
    (path,) = find_bags([tmp_path / "bags"])
    # The key was taken when `recording` became None; the writer's thread may still be at the last chunk.
    while not (path / "metadata.yaml").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with open_bag(path) as bag:
        while bag.mark()["success"] is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert bag.mark()["success"] is False and bag.topics["/joint_states"].count > 0
        assert bag.topics["/difftop/intervention"].count >= 2
