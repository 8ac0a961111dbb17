"""What a training run is made of: one frozen, flat record, saved with the run as training.yaml."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from difftop_ros.errors import UserError
from difftop_ros.learning.defaults import AUGMENT_OPTIONS, POLICY_OPTIONS, TRAINING_OPTIONS
from difftop_ros.learning.imitation.augment import AugmentSettings
from difftop_ros.policies import PolicyConfig

RECORD = "training.yaml"


class TrainingError(UserError):
    """A training run that cannot start or go on as asked."""


@dataclass(frozen=True)
class TrainSettings:
    """steps: optimisation steps (the budget; never minutes). batch: windows per step. lr: peak learning rate.

    ema: decay of the averaged weights that are kept. validation: share of episodes held out for the loss curve.
    checkpoint_every: steps between checkpoints. threads: torch threads, 0 for torch's own choice.
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    steps: int = 3000
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4
    ema: float = 0.995
    seed: int = 0
    validation: float = 0.1
    checkpoint_every: int = 200
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.seed < 0:
            raise TrainingError(f"seed is {self.seed}; expected 0 or more")
        if not 0 < self.lr < 1 or not 0 <= self.ema < 1 or not 0 <= self.validation < 1 or self.threads < 0:
            raise TrainingError("expected 0 < lr < 1, 0 <= ema < 1, 0 <= validation < 1 and threads >= 0")

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> TrainSettings:
        """Settings of option values by name (see defaults.py); None keeps a default. Raises a UserError."""

        def given(names: Mapping[str, Any]) -> dict[str, Any]:
            return {name: values[name] for name in names if values.get(name) is not None}

        policy, augment = PolicyConfig(**given(POLICY_OPTIONS)), AugmentSettings(**given(AUGMENT_OPTIONS))
        return cls(policy=policy, augment=augment, **given(TRAINING_OPTIONS))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for YAML."""
        data = dataclasses.asdict(self)
        data["policy"] = self.policy.to_dict()
        return data

    def check_resumable(self, folder: Path, data: Mapping[str, str]) -> None:
        """Raise TrainingError if `folder` holds another run: mixing two would make both worthless.

        `data` says what is learned from (hashes by name). steps, checkpoint_every and threads may change.
        """
        path = folder / RECORD
        if not path.is_file():
            return
        before = yaml.safe_load(path.read_text())
        before["policy"] = PolicyConfig.from_dict(before["policy"], str(path)).to_dict()
        free = ("steps", "checkpoint_every", "threads")
        usual, now = _flat(TrainSettings().to_dict()), _flat({**self.to_dict(), **data})
        then = {**now, **usual, **_flat(before)}  # an option that did not exist yet is one at its default
        changed = [
            f"other {key}" if key in data else f"{key} was {then[key]!r}, is {value!r}"
            for key, value in now.items()
            if key not in free and then[key] != value
        ]
        if changed:
            raise TrainingError(
                f"{str(folder)!r} holds a run of other data or settings ({'; '.join(changed)}): give another out "
                "folder, or start over with fresh"
            )

    def record(self, folder: Path, data: Mapping[str, str]) -> None:
        """Write training.yaml, which `check_resumable` reads."""
        (folder / RECORD).write_text(yaml.safe_dump({**self.to_dict(), **data}, sort_keys=False))


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """{'policy': {'horizon': 8}} -> {'policy.horizon': 8}, as YAML gives it back."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = value.items() if isinstance(value, Mapping) else [(None, value)]
        flat.update({f"{key}.{name}" if name else key: list(v) if isinstance(v, tuple) else v for name, v in inner})
    return flat
