"""What every section and every kind of observation has: words, names, lengths, and the base classes. No kinds here."""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

LONGEST_SIDE = 1 << 16  # a side of a picture
# Pixels of the largest picture that is decoded where a contract says nothing: above 4K.
MOST_PIXELS = 10_000_000
Modality = Literal["vector", "image", "cloud"]
AXES: dict[Modality, tuple[str, ...]] = {
    "vector": ("n",), "image": ("height", "width", "channels"), "cloud": ("points", "channels"),
}  # fmt: skip
# What a robot can be: a limit or a length beyond it is a mistake, or switches off the check that it is for.
FARTHEST = 1e4  # [m]
LONGEST_TOPIC = 247  # what ROS leaves of DDS's 256 characters
Length = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]
Vector3 = tuple[Length, Length, Length]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{text!r:.60} has characters that cannot be printed; write it anew")
    return text


# Free text, and what a robot calls its joints and frames.
Text = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
Name = Annotated[Text, Field(min_length=1)]
# What a person calls an observation: the name of files and of networks' parts.
Key = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
Size = tuple[Annotated[int, Field(ge=1, le=LONGEST_SIDE)], Annotated[int, Field(ge=1, le=LONGEST_SIDE)]]


def _topic_name(name: str, info: ValidationInfo) -> str:
    if not re.fullmatch(r"/?[A-Za-z][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*", name):
        raise ValueError(
            f"topic {name!r:.80} is no ROS name: letters, digits and '_' between single '/', such as 'joint_states' "
            "(in the node's namespace) or '/joint_states' (the same for every robot)"
        )
    namespace = (info.context or {}).get("namespace")
    name = name if namespace is None or name.startswith("/") else f"{namespace.rstrip('/')}/{name}"
    if len(name) > LONGEST_TOPIC:
        raise ValueError(f"topic {name!r:.40}… has {len(name)} characters; ROS takes at most {LONGEST_TOPIC}")
    return name


# Relative names live in the namespace of the node that uses them, see Contract.in_namespace.
Topic = Annotated[str, AfterValidator(_topic_name)]


class Section(BaseModel):
    """Frozen, and an unknown key is an error: a misspelt limit must never be a limit that is not there."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Place(NamedTuple):
    """A frame whose pose is wanted, and the topic whose messages' stamps say when.

    link: of the robot's description ('': its tool), in its base; or, with a `base`, a frame of TF in that frame of TF.
    """

    topic: str
    link: str = ""
    base: str = ""


class Observation(Section):
    """What every kind has: a topic of a ROS type, how old its messages may be, and what it is to a network.

    A kind sets `kind`, `type` and `shape`; the others where they differ from what stands here. modality: 'vector' (n,),
    'image' (height, width, 3) or 'cloud' (points, 3 or 6). header: whether messages begin with a std_msgs/Header; those
    that do not count from when they were received.
    """

    modality: ClassVar[Modality] = "vector"
    dtype: ClassVar[np.dtype] = np.dtype(np.float32)
    header: ClassVar[bool] = True
    # Fields that may differ between training and running: how a number comes here, not what it means.
    transport: ClassVar[frozenset[str]] = frozenset(
        {"kind", "type", "topic", "max_age_ms", "max_mb", "on_stale", "resample"}
    )

    kind: str
    type: str
    topic: Topic
    max_age_ms: float = Field(default=200.0, ge=0.1, le=600_000)
    max_mb: float = Field(default=64.0, ge=0.001, le=1024)
    on_stale: Literal["hold", "drop"] = "hold"
    resample: Literal["as_of", "hold"] = "as_of"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame."""

    @property
    def topics(self) -> dict[str, str]:
        """Topic -> ROS type of all a frame is made of, the stream first."""
        return {self.topic: self.type}

    @property
    def streams(self) -> tuple[str, ...]:
        """Those of `topics` whose age is judged; the others, such as a camera's description, may be sent once."""
        return (self.topic,)

    @property
    def places(self) -> tuple[Place, ...]:
        """What of the robot must be known beside the messages; the decoder is given base_from_link of each."""
        return ()

    @property
    def spatial(self) -> tuple[tuple[int, bool], ...]:
        """Where in a frame's last axis x, y, z in the base begin, and whether they are a place (or a direction)."""
        return ()

    @property
    def remark(self) -> str:
        """What the contract leaves to a convention, as a clause for `contract check`; '' for nothing."""
        return ""

    @property
    def positions(self) -> dict[str, int]:
        """Joint name -> where its measured position stands in the frame; empty for all but joint states."""
        return {}

    @model_validator(mode="after")
    def _shape_suits_modality(self) -> Observation:
        axes = AXES[self.modality]
        if len(self.shape) != len(axes):
            raise ValueError(f"kind '{self.kind}' has frames {self.shape}; a {self.modality} has ({', '.join(axes)})")
        return self


# joint of the contract -> the driver's joints that stand for it in messages, and how far each moves per unit
Coupling = dict[Name, Annotated[dict[Name, float], Field(min_length=1, max_length=16)]]


def require_coupled(coupling: Coupling | None, names: list[str], where: str) -> None:
    """Raises ValueError when a coupling is of other joints than `names`, or has a share of nothing."""
    unknown = sorted(set(coupling or ()) - set(names))
    if unknown:
        raise ValueError(f"{where} is of {unknown}, which are not among the joints {names}")
    idle = [part for parts in (coupling or {}).values() for part, share in parts.items() if abs(share) < 1e-6]
    if idle:
        raise ValueError(f"{where} moves {idle} by nothing; leave them out, or say how far they move per unit")
    parts = [part for name in names for part in (coupling or {}).get(name, {name: 1.0})]
    require_unique(parts, where)


def require_unique(names: list[str], where: str) -> None:
    """Raises ValueError when a name stands twice."""
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{where} names {twice} more than once")
