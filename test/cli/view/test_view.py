"""`difftop view` without a display: the file that it writes is read back; layouts name what is published."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from mcap.reader import make_reader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from difftop_ros.commands.dispatch import main
from difftop_ros.commands.view.layouts import live_files, live_topics, seen_layout
from difftop_ros.contract import Contract, load_contract, parse_contract
from difftop_ros.data import EpisodeDataset, ingest
from difftop_ros.messages.images import image
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.points import point_cloud2
from difftop_ros.messages.types import rosbags_types as types
from difftop_ros.paths import share_path

STORE = get_typestore(Stores.ROS2_JAZZY)
PANDA = ["panda_joint1", "panda_joint2", "panda_joint3", "panda_joint4", "panda_joint5", "panda_joint6", "panda_joint7"]
HOME = np.array([0.0, -0.3, 0.0, -2.2, 0.0, 2.0, 0.8, 0.08])


def small_contract() -> Contract:
    data = yaml.safe_load(share_path("config/panda_table.yaml").read_text())
    seen = data["observations"]
    cloud = {"kind": "point_cloud", "topic": "points", "frame": "world", "points": 32, "color": True,
             "crop": {"min": [0, -1, -1], "max": [1, 1, 1]}}  # fmt: skip
    data["observations"] = {
        "joints": seen["joints"], "front": {"kind": "image", "topic": "front", "resize": [16, 24]}, "cloud": cloud,
        "hand": {**cloud, "color": False, "relative_to": "tool"},
        "tool": {"kind": "tool_pose", "topic": "joint_states"},
    }  # fmt: skip
    data["sim"] = {}
    return parse_contract(yaml.safe_dump(data, sort_keys=False))


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """1 s; the camera's picture is dark in its middle third."""
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-1, 1, (500, 3)).astype(np.float32)
    rgb = rng.integers(0, 256, (500, 3), dtype=np.uint8)
    picture = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        channels: dict[str, Any] = {}

        def write(topic: str, kind: str, stamp: float, message: Any) -> None:
            if topic not in channels:
                channels[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(channels[topic], round(stamp * 1e9), bytes(STORE.serialize_cdr(message, kind)))

        for step in range(51):
            now = 100 + step * 0.02
            wave = HOME + 0.2 * np.sin(now) * np.array([1, 1, 1, 1, 1, 1, 1, 0])
            names = [*PANDA, "panda_gripper"]
            write("/joint_states", "sensor_msgs/msg/JointState", now, joint_state(types, names, now, wave))
            write(
                "/joint_command", "sensor_msgs/msg/JointState", now + 1e-3, joint_state(types, names, now, wave + 0.01)
            )
            if step % 5 == 0:
                shown = picture // 255 if 15 <= step <= 30 else picture
                write("/front", "sensor_msgs/msg/Image", now, image(types, shown, now, "front"))
                write("/points", "sensor_msgs/msg/PointCloud2", now, point_cloud2(types, xyz, now, "world", rgb))
    return tmp_path / "bag"


def read(path: Path) -> tuple[dict[str, str], dict[str, list[tuple[int, Any]]]]:
    """Topic -> name of its schema; topic -> (time [ns], message decoded)."""
    schemas: dict[str, str] = {}
    found: dict[str, list[tuple[int, Any]]] = {}
    pool = descriptor_pool.DescriptorPool()
    known: set[str] = set()
    with path.open("rb") as stream:
        for schema, channel, message in make_reader(stream).iter_messages():
            schemas[channel.topic] = schema.name if schema else ""
            if channel.message_encoding == "json":
                decoded = json.loads(message.data)
            else:
                for file in descriptor_pb2.FileDescriptorSet.FromString(schema.data).file:
                    if file.name not in known:
                        known.add(file.name)
                        pool.Add(file)
                kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))
                decoded = kind.FromString(message.data)
            found.setdefault(channel.topic, []).append((message.log_time, decoded))
    return schemas, found


def points_of(cloud: Any) -> np.ndarray:
    return np.frombuffer(cloud.data, np.float32).reshape(-1, cloud.point_stride // 4)


def test_a_bag_is_shown_as_it_came_and_as_it_is_seen(bag: Path, tmp_path: Path, capsys: Any) -> None:
    contract = small_contract()
    (tmp_path / "c.yaml").write_text(contract.to_yaml())
    out = tmp_path / "view.mcap"
    words = ["view", "--bag", str(bag), "--contract", str(tmp_path / "c.yaml"), "--out", str(out), "--points", "300"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "20 steps" in told or "21 steps" in told
    schemas, found = read(out)
    assert {topic: name for topic, name in schemas.items() if name.startswith("foxglove.")} == {
        "/in/front": "foxglove.RawImage", "/seen/front": "foxglove.RawImage", "/in/cloud": "foxglove.PointCloud",
        "/seen/cloud": "foxglove.PointCloud", "/in/hand": "foxglove.PointCloud", "/seen/hand": "foxglove.PointCloud",
        "/tf": "foxglove.FrameTransform", "/body": "foxglove.SceneUpdate", "/log": "foxglove.Log",
    }  # fmt: skip
    assert {topic for topic, name in schemas.items() if not name.startswith("foxglove.")} == {
        "/in/joints", "/seen/joints", "/seen/tool", "/command", "/ages",
    }  # fmt: skip
    # What is seen is what a dataset has of the same moments.
    ingest([bag], contract, tmp_path / "data")
    episode = EpisodeDataset(tmp_path / "data", include_failures=True)[0]
    first = episode.attributes["first_ns"]
    clouds = {at: points_of(cloud) for at, cloud in found["/seen/cloud"]}
    joints, tools = dict(found["/seen/joints"]), dict(found["/seen/tool"])
    compared = 0
    for step in range(episode.steps):
        at = first + round(step * 1e9 / contract.rate_hz)
        if at in clouds:
            np.testing.assert_array_equal(clouds[at][:, :6], episode["cloud"][step])
            np.testing.assert_allclose(list(joints[at].values()), episode["joints"][step], atol=1e-6)
            np.testing.assert_allclose(list(tools[at].values()), episode["tool"][step], atol=1e-6)
            compared += 1
    assert compared > 5
    assert all(len(points_of(cloud)) == 250 for _, cloud in found["/in/cloud"])  # 500, every other one
    picture = found["/in/front"][0][1]
    assert (picture.height, picture.width, picture.encoding) == (48, 64, "rgb8")
    assert (found["/seen/front"][0][1].height, found["/seen/front"][0][1].width) == (16, 24)
    assert joints[min(joints)]["panda_joint4.position"] == pytest.approx(-2.2, abs=0.21)
    assert set(found["/command"][-1][1]) == {*PANDA, "panda_gripper"}
    # Where the picture is dark nothing is seen, and it says why; what came in is shown all the same.
    reasons = Counter(entry.message for _, entry in found["/log"])
    assert len(reasons) == 1 and "shows nothing" in next(iter(reasons)) and "shows nothing" in told
    assert len(found["/in/front"]) == len(found["/seen/front"]) + sum(reasons.values())
    spheres = found["/body"][0][1].entities[0].spheres
    assert len(spheres) == 60 and spheres[0].size.x > 0.02
    frames = {told.child_frame_id for _, told in found["/tf"]}
    assert frames == {"hand/tool", "tool"} and found["/seen/hand"][0][1].frame_id == "hand/tool"
    layout = json.loads(out.with_suffix(".layout.json").read_text())
    named = [panel["imageMode"]["imageTopic"] for panel in layout["configById"].values() if "imageMode" in panel]
    assert set(named) == {"/in/front", "/seen/front"}
    assert main(words) == 2 and "is there already" in capsys.readouterr().err


def test_what_cannot_be_shown_is_a_sentence(bag: Path, tmp_path: Path, capsys: Any) -> None:
    contract = small_contract()
    (tmp_path / "c.yaml").write_text(contract.to_yaml().replace("topic: front", "topic: side"))
    out = tmp_path / "view.mcap"
    assert main(["view", "--bag", str(bag), "--contract", str(tmp_path / "c.yaml"), "--out", str(out)]) == 2
    assert "topic '/side' is missing" in capsys.readouterr().err and not out.exists()
    assert main(["view", "--bag", str(bag), "--points", "0"]) == 2
    assert "--points is 0" in capsys.readouterr().err


def test_a_bag_is_played_at_its_pace(bag: Path, capsys: Any) -> None:
    from difftop_ros.commands.view.record import serve
    from difftop_ros.commands.view.steps import steps

    begin = time.monotonic()
    serve(steps(bag, small_contract()), 100, 0)
    assert time.monotonic() - begin > 0.9
    assert "ws://127.0.0.1:" in capsys.readouterr().out


def paths_of(layout: dict[str, Any]) -> list[str]:
    """Topics and message paths that a Foxglove layout names."""
    found: list[str] = []
    for panel in layout["configById"].values():
        found += panel.get("topics", {})
        found += [path["value"] for path in panel.get("paths", ())]
        found += [panel["imageMode"]["imageTopic"]] if "imageMode" in panel else []
        found += [panel["topicToRender"]] if "topicToRender" in panel else []
    return found


@pytest.mark.parametrize("name", ["panda_table.yaml", "panda_table_image.yaml", "ur_like_example.yaml"])
def test_layouts_name_topics_that_are_published_with_their_types(name: str, ros_context: Any) -> None:
    import rclpy

    from difftop_ros.nodes.policy.connections import Connections
    from difftop_ros.nodes.simulation.bridge.streams import MESSAGE_TYPES, plan_streams
    from difftop_ros.runtime.clock import SystemTime

    contract = load_contract(share_path(f"config/{name}")).in_namespace("/")
    node = rclpy.create_node("difftop_policy", context=ros_context)
    connections = Connections(node, contract, SystemTime(), 1)
    published = {topic: kinds[0] for topic, kinds in node.get_publisher_names_and_types_by_node("difftop_policy", "/")}
    published["/diagnostics"] = "diagnostic_msgs/msg/DiagnosticArray"  # of the node's reports: test_policy_node
    connections.close()
    node.destroy_node()
    if contract.sim.cameras:
        published |= {s.topic: s.type for s in plan_streams(contract, ("front", "wrist"), tuple(MESSAGE_TYPES))}
    published |= {topic: kind for obs in contract.observations.values() for topic, kind in obs.topics.items()}
    shown = live_topics(contract)
    assert {topic: published.get(topic) for topic in shown} == shown
    files = live_files(contract)
    fields = fields_of_reports()
    for path in paths_of(json.loads(files["foxglove.json"])):
        topic, _, field = path.partition(".")
        assert topic in shown, path
        if field:
            kind = shown[topic].rpartition("/")[2]
            assert field.partition("[")[0] in fields[kind], path
    types_of = {"MarkerArray": "visualization_msgs/msg/MarkerArray", "PointCloud2": "sensor_msgs/msg/PointCloud2",
                "Image": "sensor_msgs/msg/Image"}  # fmt: skip
    displays = yaml.safe_load(files["difftop.rviz"])["Visualization Manager"]["Displays"]
    named = {each["Topic"]["Value"]: types_of[each["Class"].rpartition("/")[2]] for each in displays if "Topic" in each}
    assert named.items() <= shown.items() and "/difftop/markers" in named


def fields_of_reports() -> dict[str, set[str]]:
    from difftop_ros.msg import Plan, SolverStatus

    return {kind.__name__: set(kind.get_fields_and_field_types()) for kind in (Plan, SolverStatus)}


def test_the_shipped_layouts_are_those_of_the_demo_and_show_all_that_is_told() -> None:
    contract = load_contract(share_path("config/panda_table.yaml")).in_namespace("/")
    for name, text in live_files(contract).items():
        assert share_path(f"config/view/{name}").read_text() == text, "difftop view --layouts config/view"
    named = " ".join(paths_of(json.loads(live_files(contract)["foxglove.json"])))
    for wanted in (
        "/difftop/markers", "/difftop/plan", "term_costs[0]", "holding", "hold_reason", "/camera/front/points",
        "/camera/front/color/image_raw",
    ):  # fmt: skip
        assert wanted in named
    assert json.loads(seen_layout(contract))["layout"]
