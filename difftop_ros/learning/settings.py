"""What a training run is made of: frozen records, saved with the run as training.yaml. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, model_validator
from typing_extensions import Self

from difftop_ros.errors import UserError
from difftop_ros.options import Options
from difftop_ros.plain_yaml import read_yaml
from difftop_ros.policies.config import PolicyConfig, registered

RECORD = "training.yaml"


class TrainingError(UserError):
    """A training run that cannot start or go on as asked."""


class AugmentSettings(Options):
    """Disturbances of training (learning/imitation/augment.py).

    cloud_shift_m, cloud_turn_rad: rigid motions of a sample's clouds about their middle, arm and commands staying where
    they are: what a camera whose place is known no better than this would see.

    cloud_clutter: things that are in no demonstration, so that one more thing on the table does not blind the policy.
    Of each sample, up to this share of the points become the surface of a box of 2 to 20 cm anywhere among the others.

    turn_joint: an arm whose first axis stands upright in the origin of the clouds' frame does the same from any
    heading, so a scene turned about that axis, with this joint's reading, is one more demonstration. Images must come
    from cameras that turn with the arm.

    shift_joints: where the joints are a hand's place along x, y (and z) of the clouds' frame, a scene moved along these
    axes, hand and all, is one more demonstration too: what matters is where the hand is from the object. Not where the
    task has to do with a place that no cloud shows.

    scene_turn_rad, scene_scale: with the same joints, a scene turned about the upright axis through the hand, or larger
    about it, with the commands, is one more demonstration of a policy that sees from the hand (cloud_origin). Turned,
    where the hand's own heading does not matter or is not commanded: a gripper that must line up with an object is
    shown what it cannot do. Larger, by little, and with all three axes: the gripper does not grow.
    """

    joint_noise: float = Field(0.01, ge=0, lt=100, description="noise on joint readings [rad or m]")
    cloud_jitter_m: float = Field(0.002, ge=0, lt=100, description="noise on points [m]")
    cloud_drop: float = Field(0.1, ge=0, lt=1, description="largest share of points left out")
    cloud_clutter: float = Field(0.0, ge=0, lt=1, description="largest share of points that become a box of 2 to 20 cm")
    cloud_shift_m: float = Field(0.0, ge=0, lt=100, description="largest shift of a whole cloud [m]")
    cloud_turn_rad: float = Field(0.0, ge=0, lt=100, description="largest turn of a whole cloud about any axis [rad]")
    image_shift_px: int = Field(2, ge=0, lt=100, description="largest random shift of images [px]")
    turn_joint: str = Field("", description="an arm's upright first joint, if scenes may be turned about its axis")
    turn_rad: float = Field(0.0, ge=0, lt=100, description="largest such turn [rad]")
    shift_joints: str = Field(
        "", description="joints that read a hand's place along x, y, z of the clouds' frame, if scenes may be moved "
        "along them: hand_x,hand_y"
    )  # fmt: skip
    shift_m: float = Field(0.0, ge=0, lt=100, description="largest such move [m]")
    scene_turn_rad: float = Field(
        0.0, ge=0, le=3.2, description="largest turn of scene and commands about the upright axis through the hand "
        "that shift_joints read [rad]"
    )  # fmt: skip
    scene_scale: float = Field(
        0.0, ge=0, lt=1, description="largest share by which scene and commands grow or shrink about that hand; "
        "shift_joints must name x, y and z"
    )  # fmt: skip
    colour_jitter: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="largest share by which light and contrast of pictures and coloured points change",
    )

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        moves = ("shift_m", "scene_turn_rad", "scene_scale")
        for names, sizes in (("turn_joint", ("turn_rad",)), ("shift_joints", moves)):
            if bool(getattr(self, names)) != any(getattr(self, size) for size in sizes):
                raise ValueError(f"{names} and {' or '.join(sizes)} belong together; give both or neither")
        if len(self.axes) < 2 + bool(self.scene_scale) and (self.scene_turn_rad or self.scene_scale):
            needed = "x, y and z for scene_scale" if self.scene_scale else "x and y for scene_turn_rad"
            raise ValueError(f"shift_joints is {self.shift_joints!r}; expected the joints of {needed}")
        if len(self.axes) > 3 or not all(self.axes):
            raise ValueError(f"shift_joints is {self.shift_joints!r}; expected up to three such as 'hand_x,hand_y'")
        return self

    @property
    def axes(self) -> tuple[str, ...]:
        """The names in shift_joints: of x, y, z."""
        return tuple(name.strip() for name in self.shift_joints.split(",")) if self.shift_joints else ()

    @property
    def about_hand(self) -> bool:
        """Whether scenes are turned or scaled about the hand."""
        return bool(self.scene_turn_rad or self.scene_scale)

    @property
    def reach(self) -> dict[str, float]:
        """By how much [rad | m] readings and commanded positions of joints move, by joint."""
        turn = {self.turn_joint: self.turn_rad} if self.turn_joint else {}
        return {**turn, **dict.fromkeys(self.axes, self.shift_m)}


class Recorded(Options):
    """Settings of a run that stand in its folder as training.yaml; `free` may be others when the run goes on."""

    error = TrainingError
    free: ClassVar[tuple[str, ...]] = ()

    policy: PolicyConfig = Field(default_factory=lambda: PolicyConfig())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for YAML."""
        return {**super().to_dict(), "policy": self.policy.to_dict()}

    def check_resumable(self, folder: Path, data: Mapping[str, str]) -> None:
        """Raise TrainingError if `folder` holds another run: mixing two would make both worthless.

        `data` says what is learned from (hashes by name). What is in `free` may change.
        """
        path = folder / RECORD
        if not path.is_file():
            return
        before = read_yaml(path, "record of the training", TrainingError).data
        if not isinstance(before, dict):
            raise TrainingError(f"{path}: expected the settings of a run, got {before!r:.60}; start over with fresh")
        then = {**_flat(type(self)().to_dict()), **_flat(before)}  # what is not stated is at its default
        now = _flat({**self.to_dict(), **data})
        changed = [
            f"other {key}" if key in data else f"{key} was {then.get(key)!r}, is {now.get(key)!r}"
            for key in {**now, **_flat(before)}
            if key not in self.free and then.get(key) != now.get(key)
        ]
        if changed:
            raise TrainingError(
                f"{str(folder)!r} holds a run of other data or settings ({_few(changed)}): give another out "
                "folder, or start over with fresh"
            )

    def record(self, folder: Path, data: Mapping[str, str]) -> None:
        """Write training.yaml, which `check_resumable` reads."""
        (folder / RECORD).write_text(yaml.safe_dump({**self.to_dict(), **data}, sort_keys=False))


class TrainSettings(Recorded):
    """A training run: the policy, the disturbances, the optimisation. The budget is steps, never minutes."""

    free = ("steps", "checkpoint_every", "keep_checkpoints", "threads")

    augment: AugmentSettings = Field(default_factory=AugmentSettings)
    steps: int = Field(3000, ge=1, description="optimisation steps")
    batch: int = Field(64, ge=1, description="windows per step")
    lr: float = Field(1e-3, gt=0, lt=1, description="peak learning rate of a one-cycle schedule")
    weight_decay: float = Field(1e-4, ge=0, description="pull of the weights to zero")
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights that are kept; 0 for no average")
    seed: int = Field(0, ge=0, description="of everything random")
    validation: float = Field(0.1, ge=0, lt=1, description="share of episodes held out for the loss curve")
    correction_share: float = Field(
        0.5, gt=0, lt=1, description="share of each batch that is steps at which a person had taken over, if any are "
        "in the data"
    )  # fmt: skip
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=2, le=1000, description="newest checkpoints that are kept")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the point encoder in training; bfloat16 takes two thirds of its time on a CPU that "
        "has it. Plans are made in float32 always"
    )  # fmt: skip
    threads: int = Field(0, ge=0, description="torch threads; 0: measured at the start, and said")

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Settings of option values by name; None keeps a default, other names are passed over. Raises a UserError."""
        given = {name: value for name, value in values.items() if value is not None}

        def of(*kinds: type[Options]) -> dict[str, Any]:
            names = {option.name for kind in kinds for option in kind.listed()}
            return {name: value for name, value in given.items() if name in names}

        policy = PolicyConfig(**of(PolicyConfig, *registered("imitation").values()))
        return cls(policy=policy, augment=AugmentSettings(**of(AugmentSettings)), **of(cls))


def _few(sentences: list[str]) -> str:
    """The first of them, and how many more."""
    more = f"; and {len(sentences) - 10} more" if len(sentences) > 10 else ""
    return "; ".join(f"{sentence:.200}" for sentence in sentences[:10]) + more


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """{'policy': {'horizon': 8}} -> {'policy.horizon': 8}, as YAML gives it back."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = value.items() if isinstance(value, Mapping) else [(None, value)]
        flat.update({f"{key}.{name}" if name else key: v for name, v in inner})
    return flat
