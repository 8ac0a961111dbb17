"""A policy's configuration: the part all policies share, and the registry of those with options of their own.

Checked at construction, saved beside the weights as config.yaml. No torch here: `difftop train --help` reads it. The
options of the policies that come with the package are in builtin.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, SerializeAsAny, field_validator, model_validator
from typing_extensions import Self

from difftop_ros.errors import UserError
from difftop_ros.options import OneOf, Options

WIDEST = 4096  # a layer of an encoder
GROUP = "difftop_ros.policies"  # entry points: modules that register policies when they are imported


class PolicyError(UserError):
    """A policy folder, configuration or observation that does not fit."""


class OwnOptions(Options):
    """A policy's own options, beside the shared ones; subclass one of the two below, and `register` it.

    name: what --policy and config.yaml call it. network: the class it configures, or where that is, 'module:Class'.
    learns: by 'imitation' of demonstrations, or by 'trying' (then a subclass of TryingOptions).
    """

    error = PolicyError
    name: ClassVar[str]
    network: ClassVar[Any]
    learns: ClassVar[str] = "imitation"

    @classmethod
    def network_class(cls) -> Any:
        """The class of `network`, imported now."""
        if not isinstance(cls.network, str):
            return cls.network
        module, _, name = cls.network.partition(":")
        return getattr(importlib.import_module(module), name)

    @classmethod
    def config_class(cls) -> type[PolicyConfig]:
        """The class of the whole configuration of which these options are the own part."""
        return PolicyConfig


class DecoderOptions(OwnOptions):
    """Of a policy that makes a chunk from features: network is a Decoder, made as network(sizes, options).

    alone: whether it is a policy by itself; all may be a base. chooses: whether it takes one of several good ways.
    width: the field that says how wide it is, by which `difftop bench` gives all policies equally many parameters.
    """

    alone: ClassVar[bool] = True
    chooses: ClassVar[bool] = False
    width: ClassVar[str] = ""


class RefiningOptions(OwnOptions):
    """Of a policy that improves on a base: network is a PolicyNet, made as network(contract, config)."""

    base: Annotated[str, OneOf(lambda: base_names())] = Field("bc", description="what it starts from")
    base_from: str = Field("", description="model folder that brings the base, trained, with its encoder")
    base_training: Literal["joint", "frozen"] = Field(
        "joint", description="train the base along, or keep the one of base_from as it is"
    )

    @model_validator(mode="after")
    def _check_base(self) -> Self:
        if self.base == "zero" and self.base_from:
            raise ValueError(
                f"base_from is {self.base_from!r}, but base 'zero' has no weights; name the folder's policy as base"
            )
        if self.base_training == "frozen" and not self.base_from:
            raise ValueError("base_training is 'frozen' without base_from; say which model folder's base is to be kept")
        return self


Kind = TypeVar("Kind", bound=OwnOptions)
_REGISTERED: dict[str, type[OwnOptions]] = {}


def register(kind: type[Kind]) -> type[Kind]:
    """Make a policy known under `kind.name`; a decorator. Raises PolicyError if another has the name, or an option."""
    taken = {name: other for other in _REGISTERED.values() for name in other.model_fields}
    fields: dict[str, Any] = kind.model_fields
    for name in fields.keys() - RefiningOptions.model_fields.keys():
        if name in PolicyConfig.model_fields or taken.get(name, kind).name != kind.name:
            raise PolicyError(f"policy {kind.name!r} has an option {name!r}, which there is already; rename it")
    if _REGISTERED.setdefault(kind.name, kind) is not kind:
        raise PolicyError(f"there is a policy {kind.name!r} already; give another name")
    return kind


@cache
def _load() -> None:
    for module in ("builtin", "latent_planning.options"):
        importlib.import_module(f"difftop_ros.policies.{module}")
    for point in entry_points(group=GROUP):
        point.load()


def registered(learns: str | None = None) -> dict[str, type[OwnOptions]]:
    """All policies and bases by name: ours, those of entry points, those registered in this process.

    learns: those alone that learn so, 'imitation' or 'trying'.
    """
    _load()
    return {name: kind for name, kind in _REGISTERED.items() if learns in (None, kind.learns)}


def policy_names(learns: str = "imitation") -> list[str]:
    """What `policy` may be."""
    kinds = registered(learns).items()
    return [name for name, kind in kinds if not issubclass(kind, DecoderOptions) or kind.alone]


def base_names() -> list[str]:
    """What `base` may be."""
    return [name for name, kind in registered().items() if issubclass(kind, DecoderOptions)]


class PolicyConfig(Options):
    """What a policy is made of: PolicyConfig(policy='difftop', horizon=8, base='diffusion', diffusion_steps=50).

    Values of the shared options and of the policy's and its base's own are given side by side, and config.yaml has them
    so; here the own ones are apart in `own` and `of_base` (None for a policy without one). Raises PolicyError.
    """

    error = PolicyError
    learns: ClassVar[str] = "imitation"

    policy: Annotated[str, OneOf(policy_names)] = Field(
        "difftop",
        description="difftop: the optimiser refines a base; the others: baselines (docs/reference/policies.md)",
    )
    horizon: int = Field(16, ge=1, le=1000, description="steps of a plan, at the contract's rate_hz")
    obs_steps: int = Field(1, ge=1, le=100, description="frames of history the policy sees")
    action_frame: Literal["relative", "absolute"] = Field(
        "relative", description="plan offsets from the measured joint positions, or the positions themselves; "
        "velocity and increment commands are always absolute"
    )  # fmt: skip
    features: int = Field(128, ge=1, le=8192, description="size of the encoded observation")
    point_widths: tuple[int, ...] = Field(
        (64, 64, 128), min_length=1, max_length=16, description="layers of the point encoder"
    )
    point_encoder: Literal["global", "tokens"] = Field(
        "global", description="a cloud as one vector, or neighbourhoods of points as tokens that attend to each other, "
        "which takes about twice the time"
    )  # fmt: skip
    point_groups: int = Field(32, ge=1, le=1024, description="tokens of a cloud")
    point_neighbours: int = Field(16, ge=1, le=1024, description="points of a token")
    image_widths: tuple[int, ...] = Field((16, 32, 64), description="channels of the small image encoder, three")
    keypoints: int = Field(16, ge=1, le=1024, description="places that each encoder of points or images looks for")
    image_encoder: Literal["cnn", "resnet18"] = Field(
        "cnn", description="small and quick, or ResNet-18 with group norm; each camera has its own"
    )
    image_sharpness: float = Field(
        10.0, gt=0, le=1e6, description="how narrowly the keypoints of cnn look before anything is learned"
    )
    cloud_origin: str = Field(
        "", description="joints that read a hand's place in the clouds' frame, to see points from there: "
        "hand_x,hand_y,hand_z"
    )  # fmt: skip
    own: SerializeAsAny[OwnOptions] = Field(default_factory=lambda: registered()["difftop"]())
    of_base: SerializeAsAny[DecoderOptions] | None = None

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The own options of the policy and of its base, put into objects."""
        if "own" in values:
            return values
        rest = dict(values)
        name = rest.get("policy", cls.model_fields["policy"].default)
        _check("policy", name, policy_names(cls.learns))
        own = _taken(registered()[name], rest)
        base = None
        if isinstance(own, RefiningOptions):
            base = _taken(registered()[own.base], rest)
        strange = sorted(rest.keys() - cls.model_fields.keys())
        if strange:
            raise PolicyError(_unknown(strange, own, base, cls), strange[0])
        return {**rest, "own": own, "of_base": base}

    @field_validator("image_widths")
    @classmethod
    def _check_images(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if len(widths) != 3 or any(not 4 <= width <= WIDEST or width % 4 for width in widths):
            raise ValueError(f"expected three multiples of 4, at most {WIDEST}")
        return widths

    @field_validator("point_widths")
    @classmethod
    def _check_points(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= min(widths) <= max(widths) <= WIDEST:
            raise ValueError(f"expected layer sizes of 1 to {WIDEST}")
        return widths

    @model_validator(mode="after")
    def _check_tokens(self) -> Self:
        if self.point_encoder == "tokens" and self.point_widths[-1] % 4:
            raise ValueError(f"point_widths is {self.point_widths}; expected a multiple of 4 as the last, with tokens")
        return self

    @property
    def tokens(self) -> tuple[int, int] | None:
        """How many groups of how many points a cloud's tokens are; None for one global vector."""
        return (self.point_groups, self.point_neighbours) if self.point_encoder == "tokens" else None

    @field_validator("cloud_origin")
    @classmethod
    def _check_origin(cls, names: str) -> str:
        if names and (len(_words(names)) != 3 or not all(_words(names))):
            raise ValueError("expected three, as 'hand_x,hand_y,hand_z'")
        return names

    @property
    def refines(self) -> bool:
        """Whether the policy improves on a base of its own, which zero iterations leave as it is."""
        return self.of_base is not None

    @property
    def decoder(self) -> DecoderOptions:
        """Options of what makes a chunk from features: the base, or the policy itself."""
        if self.of_base is None:
            assert isinstance(self.own, DecoderOptions)
            return self.own
        return self.of_base

    @property
    def cloud_origin_joints(self) -> list[str]:
        """The names in cloud_origin: of x, y, z."""
        return _words(self.cloud_origin) if self.cloud_origin else []

    def replace(self, **changes: Any) -> Self:
        """The same with some options changed, shared or own, checked anew."""
        return type(self)(**{**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """Plain data, shared and own options side by side, that `from_dict` reads back."""
        data = super().to_dict()
        own, base = data.pop("own"), data.pop("of_base")
        return {**data, **own, **(base or {})}

    @classmethod
    def from_dict(cls, data: Any, source: str = "config", line: Callable[[str], int] | None = None) -> PolicyConfig:
        """Build from plain data; unknown keys and wrong types raise PolicyError naming `source`, and the key's line."""
        if not isinstance(data, dict):
            raise PolicyError(f"{source}: expected a mapping of policy settings, got {data!r:.60}")
        owner = registered().get(str(data.get("policy")))
        kind = owner.config_class() if owner and owner.learns != cls.learns else cls
        # the two that the objects have apart are no settings of a file
        strange = sorted(data.keys() & {"own", "of_base"})
        try:
            if strange:
                raise PolicyError(f"there are no settings {strange}; remove them", strange[0])
            return kind(**data)
        except PolicyError as error:
            where = f"{source}:{line(error.key)}" if line and error.key else source
            raise PolicyError(f"{where}: {error}") from None


def _taken(kind: type[OwnOptions], values: dict[str, Any]) -> OwnOptions:
    """An instance of `kind` from its share of the values, which are taken out."""
    return kind(**{name: values.pop(name) for name in list(kind.model_fields) if name in values})


def _unknown(strange: list[str], own: OwnOptions, base: OwnOptions | None, model: type[PolicyConfig]) -> str:
    """The sentence about settings that this policy does not have, saying which policies have them."""
    owners = [kind.name for kind in registered().values() if not kind.model_fields.keys().isdisjoint(strange)]
    hint = f", which belong to {owners}" if owners else ""
    where = own.name if base is None else f"{own.name} on base {base.name}"
    known = {*model.model_fields, *type(own).model_fields, *(type(base).model_fields if base else ())}
    known -= {"own", "of_base"}
    return f"policy {where} has no settings {strange}{hint}; expected some of {sorted(known)}"


def _check(key: str, got: Any, known: list[str]) -> None:
    if got not in known:
        raise PolicyError(f"{key} is {got!r:.60}; expected one of {known}", key)


def _words(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")]
