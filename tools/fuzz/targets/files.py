"""Files that a person writes or a program leaves: contracts, configurations, records, spheres, model folders, marks."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np

from tools.fuzz.mutate import PIECES, WORDS, changed_bytes, changed_data
from tools.fuzz.targets.base import CONTRACT, ROOT, Target, YamlFile, dumped, parsed


class ContractFile(YamlFile):
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


class ConfigFile(YamlFile):
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


class SpheresFile(YamlFile):
    """Collision spheres of a robot."""

    samples = ("link1: [[0.0, 0.0, 0.1, 0.05], [0.0, 0.1, 0.1, 0.05]]\nhand: [[0.0, 0.0, 0.0, 0.1]]\n",)

    def feed(self, raw: bytes) -> None:
        from difftop_ros.costs.kinematics import Spheres

        path = self.folder / "spheres.yaml"
        path.write_bytes(raw)
        assert np.isfinite(Spheres.load(path).centres).all()


class ModelFolder(Target):
    """A model folder with one file changed; three times in four the manifest is made to agree with the change."""

    searched = "body"

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
            raw = dumped(changed_data(rng, parsed(raw.decode())))
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
        (self.good / name).write_bytes(content)
        try:
            if name != "manifest.json" and signed == "1":
                sign(self.good)
            load_policy(self.good)
        finally:
            for changed in {name, "manifest.json"}:
                (self.good / changed).write_bytes(self.files[changed])


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
