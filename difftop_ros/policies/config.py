"""The frozen configuration of a policy, checked at construction and saved beside its weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from difftop_ros.errors import UserError

# Those that ask nothing of the return but a gradient; `theseus` needs residuals, `ilqr` a rollout of latent dynamics.
CHUNK_SOLVERS = ("qn", "spg", "newton", "polyak", "mppi")
ROLLOUT_SOLVERS = (*CHUNK_SOLVERS, "ilqr")
POLICIES = ("difftop", "bc", "bc_rnn", "ibc", "diffusion", "residual")
BASES = ("bc", "bc_rnn", "ibc", "diffusion", "zero")
CHOOSING = ("bc_rnn", "ibc", "diffusion")  # bases that take one of several good ways by themselves
REFINING = ("difftop", "residual")  # policies that have a base


class PolicyError(UserError):
    """A policy folder, configuration or observation that does not fit."""


@dataclass(frozen=True)
class PolicyConfig:
    """What the policy is made of. docs/policies.md says when to take which.

    policy: one of POLICIES; only 'difftop' and 'residual' have a base.
    base: what 'difftop' and 'residual' start from, one of BASES. base_from: a model folder that brings the base's
        weights with its encoder and scales, '' for none; base_training: 'joint', or 'frozen' as they came.
    horizon: knots of a plan, at the contract's rate_hz.  obs_steps: frames of history encoded.
    action_frame: 'relative' plans offsets from the measured joint positions, 'absolute' plans the commands themselves;
        velocity and increment commands are always absolute.
    latent, code, hidden, cost_outputs, state, point_widths, image_widths, keypoints: sizes of the networks. Policies
        other than 'difftop' are as wide as makes their parameters as many as its. image_encoder: 'cnn' or 'resnet18'.
    image_sharpness: of the 'cnn', how narrowly its keypoints look before anything is learned (nets/encoders.py).
    cloud_origin: three joints, as 'hand_x,hand_y,hand_z', that read a hand's place in the clouds' frame: points are
        seen from there, so that what is learned of an object holds wherever it lies. '' sees them from a fixed place.
    proximal: weight rho of 1/2 rho ||a - a_base||^2, in scaled actions.
    dynamics: 'none' for a cost of the whole chunk, 'latent' for stage costs along a rollout of learned dynamics.
    solver, iterations, cg_iterations: the solve, in training and at run time alike.
    code_modes: 1 for a Gaussian prior over codes, more for a mixture of so many, which can tell several ways apart.
    code_samples: 1 plans with the prior's mean code (of its likeliest mode); more try that many codes, keep the plan of
        lowest cost, and train the cost to tell.
    kl_weight: beta of the conditional VAE.
    gmm_*, ibc_*, diffusion_*: of those policies, and of them as a base.
    """

    policy: str = "difftop"
    base: str = "bc"
    base_from: str = ""
    base_training: str = "joint"
    horizon: int = 16
    obs_steps: int = 1
    action_frame: str = "relative"
    latent: int = 128
    code: int = 8
    hidden: int = 256
    cost_outputs: int = 64
    state: int = 64
    point_widths: tuple[int, ...] = (64, 64, 128)
    image_widths: tuple[int, ...] = (16, 32, 64)
    keypoints: int = 16
    image_encoder: str = "cnn"
    image_sharpness: float = 10.0
    cloud_origin: str = ""
    proximal: float = 0.5
    dynamics: str = "none"
    solver: str = "qn"
    iterations: int = 8
    cg_iterations: int = 20
    code_modes: int = 1
    code_samples: int = 1
    kl_weight: float = 1e-2
    gmm_modes: int = 5
    gmm_act: str = "mode"
    ibc_negatives: int = 64
    ibc_candidates: int = 64
    ibc_sampler: str = "langevin"
    diffusion_steps: int = 100
    diffusion_inference_steps: int = 10
    diffusion_target: str = "sample"

    def __post_init__(self) -> None:
        rollout = self.dynamics == "latent"
        for name, known in (
            ("policy", POLICIES),
            ("base", BASES),
            ("base_training", ("joint", "frozen")),
            ("action_frame", ("relative", "absolute")),
            ("image_encoder", ("cnn", "resnet18")),
            ("dynamics", ("none", "latent")),
            ("solver", ROLLOUT_SOLVERS if rollout else CHUNK_SOLVERS),
            ("gmm_act", ("mode", "sample")),
            ("ibc_sampler", ("langevin", "dfo")),
            ("diffusion_target", ("epsilon", "sample")),
        ):
            _check(name, getattr(self, name), known)
        for name in ("horizon", "obs_steps", "latent", "code", "hidden", "cost_outputs", "state", "keypoints",
                     "cg_iterations", "code_modes", "code_samples", "gmm_modes", "diffusion_steps",
                     "diffusion_inference_steps"):  # fmt: skip
            if getattr(self, name) < 1:
                raise PolicyError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("ibc_negatives", "ibc_candidates"):
            if getattr(self, name) < 2:
                raise PolicyError(f"{name} is {getattr(self, name)}; expected at least 2")
        if self.diffusion_inference_steps > self.diffusion_steps:
            raise PolicyError(
                f"diffusion_inference_steps is {self.diffusion_inference_steps}; expected at most the "
                f"{self.diffusion_steps} diffusion_steps"
            )
        if self.cloud_origin and (len(self.cloud_origin_joints) != 3 or not all(self.cloud_origin_joints)):
            raise PolicyError(f"cloud_origin is {self.cloud_origin!r}; expected three, as 'hand_x,hand_y,hand_z'")
        self._check_base()
        if self.iterations < 0:
            raise PolicyError(f"iterations is {self.iterations}; expected 0 or more")
        if not self.point_widths or min(self.point_widths) < 1:
            raise PolicyError(f"point_widths are {list(self.point_widths)}; expected layer sizes of at least 1")
        if len(self.image_widths) != 3 or any(width < 4 or width % 4 for width in self.image_widths):
            raise PolicyError(f"image_widths are {list(self.image_widths)}; expected three multiples of 4")
        if self.image_sharpness <= 0:
            raise PolicyError(f"image_sharpness is {self.image_sharpness}; expected more than 0")
        if self.proximal <= 0 or self.kl_weight < 0:
            raise PolicyError("proximal must be above 0 and kl_weight at least 0")

    @property
    def refines(self) -> bool:
        """Whether the policy improves on a base of its own, which zero iterations leave as it is."""
        return self.policy in REFINING

    @property
    def cloud_origin_joints(self) -> list[str]:
        """The names in cloud_origin: of x, y, z."""
        return [name.strip() for name in self.cloud_origin.split(",")] if self.cloud_origin else []

    def _check_base(self) -> None:
        if self.policy not in REFINING and (self.base != "bc" or self.base_from):
            raise PolicyError(
                f"base is {self.base!r} and base_from {self.base_from!r}, but policy {self.policy!r} has no base; "
                f"leave them out, or take one of {list(REFINING)}"
            )
        if self.base == "zero" and self.base_from:
            raise PolicyError(
                f"base_from is {self.base_from!r}, but base 'zero' has no weights; name the folder's kind"
            )
        if self.base_training == "frozen" and not self.base_from:
            raise PolicyError(
                "base_training is 'frozen' without base_from; say which model folder's base is to be kept"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` reads back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Any, source: str = "config") -> PolicyConfig:
        """Build from plain data; unknown keys and wrong types raise PolicyError naming `source`."""
        if not isinstance(data, dict):
            raise PolicyError(f"{source}: expected a mapping of policy settings, got {data!r:.60}")
        fields = {f.name: f for f in dataclasses.fields(cls)}
        unknown = sorted(set(data) - set(fields))
        if unknown:
            raise PolicyError(f"{source}: unknown settings {unknown}; expected some of {sorted(fields)}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        values.setdefault("image_sharpness", 1.0)  # that of policies from before it could be set
        defaults = cls()
        for name, value in values.items():
            wanted = type(getattr(defaults, name))
            whole = isinstance(value, int) and not isinstance(value, bool)
            fits = whole if wanted is int else isinstance(value, wanted) or (wanted is float and whole)
            if not fits or (wanted is tuple and not all(type(item) is int for item in value)):
                kind = "a list of integers" if wanted is tuple else wanted.__name__
                raise PolicyError(f"{source}: {name} is {data[name]!r}; expected {kind}")
        try:
            return cls(**values)
        except PolicyError as error:
            raise PolicyError(f"{source}: {error}") from None


def _check(name: str, got: str, known: tuple[str, ...]) -> None:
    if got not in known:
        raise PolicyError(f"{name} is {got!r}; expected one of {list(known)}")
