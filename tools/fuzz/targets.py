"""What is fuzzed: for each target how an input is made of a random number, and what it is fed to.

A target is made once in a process (its samples, its folders), then `make(rng)` gives the bytes of an input and
`feed(bytes)` hands them over. The product may refuse by UserError alone.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tools.fuzz.mutate import PIECES, WORDS, changed_bytes, changed_data

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = """\
name: arm
rate_hz: 20
control_rate_hz: 50
command:
  topic: command
  type: sensor_msgs/msg/JointState
  joints:
  - {name: a, position: [-2.0, 2.0], velocity: 4.0, acceleration: 60.0, step: 0.2}
  - {name: b, position: [-2.0, 2.0], velocity: 4.0}
observations:
  joints: {kind: joint_state, topic: joint_states, joints: [a, b], fields: [position, velocity], max_age_ms: 100}
  cloud: {kind: point_cloud, topic: points, frame: base, points: 16, color: true, voxel_m: 0.01,
    crop: {min: [-1, -1, -1], max: [1, 1, 1]}, outliers: {neighbours: 4, std_ratio: 2.0},
    transform: {from_frame: camera, xyz: [0.1, 0, 0], quat_xyzw: [0, 0, 0, 1]}}
  picture: {kind: image, topic: picture, crop: [0, 0, 16, 16], resize: [8, 8]}
  small: {kind: image, topic: small, type: sensor_msgs/msg/CompressedImage, resize: [8, 8]}
  depth: {kind: depth_cloud, topic: depth, camera_info: info, frame: camera, points: 16}
episode: {max_seconds: 5, success_topic: success}
sim: {task: lift, cameras: {picture: front}}
"""


class Target:
    """One thing that takes input from outside."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the process's own, to write into."""
        self.folder = folder

    def make(self, rng: random.Random) -> bytes:
        """An input."""
        raise NotImplementedError

    def feed(self, raw: bytes) -> None:
        """Hand it to the product."""
        raise NotImplementedError


class _Yaml(Target):
    """A YAML text, changed as text or as data."""

    samples: tuple[str, ...] = ()

    def make(self, rng: random.Random) -> bytes:
        text = rng.choice(self.samples)
        if rng.random() < 0.5:
            return changed_bytes(rng, text.encode(), PIECES)
        data = changed_data(rng, yaml.safe_load(text))
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode(errors="replace")


class ContractFile(_Yaml):
    """`difftop contract check`: load, print, hash, compare, put into a namespace."""

    samples = (CONTRACT, *(path.read_text() for path in sorted((ROOT / "config").glob("panda*.yaml"))))

    def feed(self, raw: bytes) -> None:
        from difftop_ros.commands.contract import describe
        from difftop_ros.contract import load_contract, parse_contract

        path = self.folder / "contract.yaml"
        path.write_bytes(raw)
        contract = load_contract(path)
        assert parse_contract(contract.to_yaml()) == contract
        assert describe(contract) and contract.sha256 and contract.data_sha256()
        contract.incompatibilities(parse_contract(CONTRACT))
        contract.in_namespace("/left").as_recorded(["/right/command"])


class ConfigFile(_Yaml):
    """The config.yaml of a model folder, and all options of a training."""

    samples = (
        (ROOT / "models/panda_lift/config.yaml").read_text(),
        "policy: diffusion\nhorizon: 8\n",
        "policy: bc_rnn\ngmm_modes: 3\n",
        "policy: residual\nbase: ibc\n",
        "policy: difftop\ndynamics: latent\nsolver: ilqr\nlatent_modes: 2\nimage_encoder: resnet18\n",
    )

    def feed(self, raw: bytes) -> None:
        from difftop_ros.plain_yaml import read_yaml
        from difftop_ros.policies.config import PolicyConfig, PolicyError

        path = self.folder / "config.yaml"
        path.write_bytes(raw)
        document = read_yaml(path, "configuration", PolicyError)
        config = PolicyConfig.from_dict(document.data, str(path), document.line)
        assert PolicyConfig.from_dict(config.to_dict()) == config


class TrainingRecord(_Yaml):
    """training.yaml of a run that is to go on."""

    samples = ((ROOT / "models/panda_lift/training.yaml").read_text(),)

    def feed(self, raw: bytes) -> None:
        from difftop_ros.learning.settings import RECORD, TrainSettings

        (self.folder / RECORD).write_bytes(raw)
        TrainSettings().check_resumable(self.folder, {"contract": "x", "episodes": "y"})


class SpheresFile(_Yaml):
    """Collision spheres of a robot."""

    samples = ("link1: [[0.0, 0.0, 0.1, 0.05], [0.0, 0.1, 0.1, 0.05]]\nhand: [[0.0, 0.0, 0.0, 0.1]]\n",)

    def feed(self, raw: bytes) -> None:
        from difftop_ros.space import Spheres

        path = self.folder / "spheres.yaml"
        path.write_bytes(raw)
        assert np.isfinite(Spheres.load(path).centres).all()


class ModelFolder(Target):
    """A model folder with one file changed; three times in four the manifest is made to agree with the change."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import torch

        from difftop_ros.contract import parse_contract
        from difftop_ros.policies import Policy, PolicyConfig, make_net

        contract = parse_contract(CONTRACT)
        config = PolicyConfig.from_dict({
            "horizon": 4, "features": 8, "point_widths": [4, 4], "image_widths": [4, 4, 4], "keypoints": 2, "latent": 2,
            "bc_width": 4, "prior_width": 4, "posterior_width": 4, "cost_width": 4, "cost_outputs": 4,
        })  # fmt: skip
        self.good = folder / "good"
        Policy(make_net(contract, config), contract, torch.device("cpu")).save(self.good)
        self.files = {path.name: path.read_bytes() for path in sorted(self.good.iterdir())}

    def make(self, rng: random.Random) -> bytes:
        name = rng.choice(sorted(self.files))
        raw = self.files[name]
        if name.endswith(".yaml") and rng.random() < 0.5:
            raw = yaml.safe_dump(changed_data(rng, yaml.safe_load(raw))).encode(errors="replace")
        elif name == "model.safetensors" and rng.random() < 0.7:  # its header is where sizes and types stand
            head = 8 + int.from_bytes(raw[:8], "little")
            raw = changed_bytes(rng, raw[:head]) + raw[head:]
        else:
            raw = changed_bytes(rng, raw, PIECES if name.endswith(".yaml") else WORDS)
        return f"{name} {int(rng.random() < 0.75)}\n".encode() + raw

    def feed(self, raw: bytes) -> None:
        from difftop_ros.manifest import sign
        from difftop_ros.policies import load_policy

        head, _, content = raw.partition(b"\n")
        name, signed = head.decode().split()
        for known, original in self.files.items():
            (self.good / known).write_bytes(content if known == name else original)
        if name != "manifest.json" and signed == "1":
            sign(self.good)
        load_policy(self.good)


class Messages(Target):
    """A message of any type under a contract: its bytes changed, then deserialised and decoded as the node does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from rosbags.typesys import Stores, get_typestore

        from difftop_ros.contract import parse_contract

        self.store = get_typestore(Stores.ROS2_JAZZY)
        self.contract = parse_contract(CONTRACT)
        self.samples = samples(self.store)

    def make(self, rng: random.Random) -> bytes:
        key = rng.choice(sorted(self.contract.observations))
        section = {} if rng.random() < 0.7 else {"change": rng.getrandbits(32)}
        topics = self.contract.observations[key].topics
        spoiled = rng.choice(list(topics))
        raws = []
        for topic in topics:
            raw = rng.choice(self.samples[topic])
            raws.append(changed_bytes(rng, raw) if topic == spoiled else raw)
        head = {"key": key, **section, "sizes": [len(raw) for raw in raws]}
        return json.dumps(head).encode() + b"\n" + b"".join(raws)

    def feed(self, raw: bytes) -> None:
        from difftop_ros.contract import ContractError, parse_contract
        from difftop_ros.messages import ObservationError, ObservationPipeline

        head, _, body = raw.partition(b"\n")
        facts = json.loads(head)
        key, contract = facts["key"], self.contract
        if "change" in facts:
            data = contract.to_dict()
            rng = random.Random(facts["change"])
            data["observations"][key] = changed_data(rng, data["observations"][key])
            contract = parse_contract(yaml.safe_dump(data))
        obs = contract.observations.get(key)
        if obs is None or len(obs.topics) != len(facts["sizes"]):
            raise ContractError("no such observation")
        messages: dict[str, Any] = {}
        for (topic, kind), size in zip(obs.topics.items(), facts["sizes"], strict=True):
            part, body = body[:size], body[size:]
            messages[topic] = self._deserialised(part, kind)
        if any(message is None for message in messages.values()):
            raise ObservationError("no message")  # the deserialiser's refusal, not ours
        frame = ObservationPipeline(contract).decode(key, messages)
        assert np.isfinite(frame).all()

    def _deserialised(self, raw: bytes, kind: str) -> Any:
        try:
            return self.store.deserialize_cdr(raw, kind)
        except Exception:
            return None


def samples(store: Any) -> dict[str, list[bytes]]:
    """Valid messages by topic of CONTRACT, serialised."""
    from difftop_ros.messages.images import camera_info, compressed_image, depth_image, image
    from difftop_ros.messages.joints import joint_state
    from difftop_ros.messages.points import point_cloud2
    from difftop_ros.messages.types import rosbags_types as types

    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (16, 16, 3), np.uint8)
    points = rng.normal(0, 0.3, (40, 3)).astype(np.float32)
    colour = rng.random((40, 3)).astype(np.float32)
    k = np.array([[20.0, 0, 8], [0, 20, 8], [0, 0, 1]])
    depth = rng.uniform(0.2, 2, (16, 16)).astype(np.float32)
    found = {
        "joint_states": [joint_state(types, ["a", "b"], 1.0, np.zeros(2), np.ones(2), np.ones(2))],
        "points": [point_cloud2(types, points, 1.0, "camera", colour)],
        "picture": [image(types, picture, 1.0, "camera", encoding) for encoding in ("rgb8", "bgr8")],
        "small": [compressed_image(types, picture, 1.0, "camera", form) for form in ("jpeg", "png")],
        "depth": [depth_image(types, depth, 1.0, "camera", encoding) for encoding in ("32FC1", "16UC1")],
        "info": [camera_info(types, k, 16, 16, 1.0, "camera")],
    }
    return {
        topic: [bytes(store.serialize_cdr(message, message.__msgtype__)) for message in messages]
        for topic, messages in found.items()
    }


class Commands(Target):
    """A command of each type, its bytes changed: read back as training does, with its stamp."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from rosbags.typesys import Stores, get_typestore

        from difftop_ros.contract import parse_contract
        from difftop_ros.messages import array_to_command
        from difftop_ros.messages.types import rosbags_types

        self.store = get_typestore(Stores.ROS2_JAZZY)
        self.contracts, self.samples = {}, {}
        for kind in (
            "sensor_msgs/msg/JointState",
            "trajectory_msgs/msg/JointTrajectory",
            "std_msgs/msg/Float64MultiArray",
        ):
            contract = parse_contract(CONTRACT.replace("sensor_msgs/msg/JointState", kind, 1))
            message = array_to_command(contract, np.array([0.5, -0.5]), 1_000_000_000, rosbags_types)
            self.contracts[kind] = contract
            self.samples[kind] = bytes(self.store.serialize_cdr(message, kind))

    def make(self, rng: random.Random) -> bytes:
        kind = rng.choice(sorted(self.samples))
        return f"{kind}\n".encode() + changed_bytes(rng, self.samples[kind])

    def feed(self, raw: bytes) -> None:
        from difftop_ros.messages import ObservationError, command_to_array

        head, _, body = raw.partition(b"\n")
        kind = head.decode()
        try:
            message = self.store.deserialize_cdr(body, kind)
        except Exception:
            raise ObservationError("no message") from None  # the deserialiser's refusal, not ours
        assert np.isfinite(command_to_array(self.contracts[kind], message)).all()


class Bags(Target):
    """A bag folder with its storage file or its metadata changed: opened, all read and deserialised."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore

        store = get_typestore(Stores.ROS2_JAZZY)
        kinds = {"joint_states": "JointState", "picture": "Image", "points": "PointCloud2"}
        self.files: dict[str, dict[str, bytes]] = {}
        for name, plugin in (("mcap", StoragePlugin.MCAP), ("db3", StoragePlugin.SQLITE3)):
            path = folder / name
            with Writer(path, version=9, storage_plugin=plugin) as writer:
                for topic, kind in kinds.items():
                    connection = writer.add_connection(f"/{topic}", f"sensor_msgs/msg/{kind}", typestore=store)
                    for step in range(5):
                        writer.write(connection, 1_000_000_000 + step * 50_000_000, samples(store)[topic][0])
            self.files[name] = {file.name: file.read_bytes() for file in sorted(path.iterdir())}

    def make(self, rng: random.Random) -> bytes:
        kind = rng.choice(sorted(self.files))
        name = rng.choice(sorted(self.files[kind]))
        raw = changed_bytes(rng, self.files[kind][name], PIECES if name.endswith(".yaml") else WORDS)
        return f"{kind} {name}\n".encode() + raw

    def feed(self, raw: bytes) -> None:
        from difftop_ros.data.bags.reader import open_bag

        head, _, content = raw.partition(b"\n")
        kind, name = head.decode().split()
        bag_folder = self.folder / "bag"
        shutil.rmtree(bag_folder, ignore_errors=True)
        bag_folder.mkdir()
        for known, original in self.files[kind].items():
            (bag_folder / known).write_bytes(content if known == name else original)
        with open_bag(bag_folder) as bag:
            for topic, _, message in bag.messages():
                bag.deserialize(message, topic)


class Parameters(Target):
    """NAME:=VALUE of a command line, and launch arguments of a node's parameters."""

    def make(self, rng: random.Random) -> bytes:
        from difftop_ros.nodes.policy.parameters import PARAMETERS

        chosen = rng.choice(PARAMETERS)
        text = f"{chosen.name}:={json.dumps(chosen.default)}"
        return changed_bytes(rng, text.encode(), PIECES)

    def feed(self, raw: bytes) -> None:
        from types import SimpleNamespace

        from difftop_ros.nodes.launching import given
        from difftop_ros.nodes.parameters import assignment
        from difftop_ros.nodes.policy.parameters import PARAMETERS

        name, _, value = assignment(PARAMETERS, raw.decode(errors="surrogateescape")).partition(":=")
        given(SimpleNamespace(launch_configurations={name: value}), PARAMETERS)


TARGETS: dict[str, Callable[[Path], Target]] = {
    "contract": ContractFile,
    "config": ConfigFile,
    "training": TrainingRecord,
    "spheres": SpheresFile,
    "model": ModelFolder,
    "messages": Messages,
    "commands": Commands,
    "bags": Bags,
    "parameters": Parameters,
}
