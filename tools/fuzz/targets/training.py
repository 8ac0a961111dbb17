"""What a training goes on from: its record, its checkpoints."""

from __future__ import annotations

import random
import re
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

from tools.fuzz.mutate import TEXTS, changed_bytes, changed_data
from tools.fuzz.targets.bags import Ingested
from tools.fuzz.targets.base import ROOT, YamlFile

TINY = {"policy": "bc", "horizon": 2, "features": 4, "bc_width": 4}


class TrainingRecord(YamlFile):
    """training.yaml of a run that is to go on: of one with the settings and data of now, and of another."""

    samples = (
        "policy: {policy: difftop}\nsteps: 200\nlr: 0.001\naugment: {}\ncontract: x\nepisodes: y\n",
        (ROOT / "models/panda_lift/training.yaml").read_text(),
    )

    def feed(self, raw: bytes) -> None:
        from difftop_ros.learning.settings import RECORD, TrainSettings

        (self.folder / RECORD).write_bytes(raw)
        TrainSettings().check_resumable(self.folder, {"contract": "x", "episodes": "y"})


class Checkpoints(Ingested):
    """The newest checkpoint of a run, changed in its bytes, its content or its name: the run goes on from it."""

    searched = "body"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from difftop_ros.data import EpisodeDataset
        from difftop_ros.data.episodes.ingest import ingest
        from difftop_ros.learning.imitation.train import train

        ingest([self.bag], self.contract, folder / "data")
        self.episodes = EpisodeDataset(folder / "data", include_failures=True)
        self.run = folder / "run"
        train(self.episodes, self._settings(1), self.run)
        (self.checkpoint,) = (self.run / "checkpoints").iterdir()
        self.good = self.checkpoint.read_bytes()
        shutil.copytree(self.run, folder / "kept")

    def _settings(self, steps: int) -> Any:
        from difftop_ros.learning.settings import TrainSettings
        from difftop_ros.policies.config import PolicyConfig

        policy = PolicyConfig.from_dict(TINY)
        return TrainSettings(policy=policy, batch=4, steps=steps, validation=0.0, threads=1)

    def make(self, rng: random.Random) -> bytes:
        name = self.checkpoint.name
        if rng.random() < 0.2:
            stem = rng.choice((*TEXTS, "step=", "step=x", "step=-1", "step=2-v1-v1"))[:100]
            name = re.sub("[^ -~]|/", "x", stem) + ".ckpt"
        if rng.random() < 0.5:
            return f"{name}\n".encode() + changed_bytes(rng, self.good)
        import torch

        stream = BytesIO()
        torch.save(changed_data(rng, torch.load(BytesIO(self.good), weights_only=True)), stream)
        return f"{name}\n".encode() + stream.getvalue()

    def feed(self, raw: bytes) -> None:
        from difftop_ros.learning.imitation.train import train, training_seconds

        name, _, content = raw.partition(b"\n")
        shutil.rmtree(self.run)
        shutil.copytree(self.folder / "kept", self.run)
        self.checkpoint.unlink()
        (self.checkpoint.parent / name.decode()).write_bytes(content)
        training_seconds(self.run)
        train(self.episodes, self._settings(2), self.run)
