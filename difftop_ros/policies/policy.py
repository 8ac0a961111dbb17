"""A policy ready to act: networks plus contract, from a model folder, on a device. Training lives in learning/."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from difftop_ros.contract import Contract, load_contract
from difftop_ros.costs import CostTerm, InUnits
from difftop_ros.files import whole, write_whole
from difftop_ros.manifest import sign, verify
from difftop_ros.novelty import PLAN, Novelty, Score
from difftop_ros.plain_yaml import read_yaml
from difftop_ros.plan_result import PlanResult
from difftop_ros.policies.config import PolicyConfig, PolicyError
from difftop_ros.policies.decoder import Added, Noise
from difftop_ros.policies.net import ActingNet, make_acting_net
from difftop_ros.policies.normalisation import observation_spec
from difftop_ros.trajopt import Status

WEIGHTS, CONFIG, CONTRACT, NOVELTY = "model.safetensors", "config.yaml", "contract.yaml", "novelty.safetensors"
ROUNDING = 1e-6  # share of a joint's range
UNKNOWN = Score(-1.0, "")
_DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "I32": torch.int32, "BOOL": torch.bool}


class Policy:
    """Acts on one robot's observations. Not thread-safe: one planner owns it. noise_seed: see `act`.

    novelty: scores each newest observation; None leaves its novelty unknown.
    """

    noise_seed = 0
    prepared = "none"  # the backend of the last `prepare`

    def __init__(
        self, net: ActingNet, contract: Contract, device: torch.device, novelty: Novelty | None = None
    ) -> None:
        self.novelty = novelty
        self.net = net.to(device).eval().requires_grad_(False)
        self.contract = contract
        self.config = net.config
        self.device = device
        self.obs_steps, self.horizon = net.config.obs_steps, net.config.horizon
        self._spec = observation_spec(contract)
        self._prepared_for: tuple[CostTerm, ...] | None = None

    def act(
        self,
        obs: Mapping[str, np.ndarray],
        *,
        warm_start: np.ndarray | None = None,
        deadline_ms: float | None = None,
        iterations: int | None = None,
        terms: Sequence[CostTerm] = (),
        committed: int = 0,
    ) -> PlanResult:
        """Plan from obs[key] (obs_steps, ...) raw frames as the observation pipeline makes them.

        warm_start: the previous plan's actions (H, A) in contract units, already shifted to this observation's time.
        committed: so many of its steps will have been executed, and stay; policies that optimise nothing pass it over.
        deadline_ms bounds the solve. iterations overrides the configured number; 0 gives the base policy's chunk.
        Policies that draw random numbers draw the same ones each time, from `noise_seed`: equal observations get equal
        plans, and a policy that must choose between equally good ways does not waver.
        terms are added to the cost that is optimised; they see commands (1, H, A) in contract units. After `prepare`
        they are the ones prepared with, their data as they are now.
        Raises PolicyError if a frame is missing, misshapen or not finite, and for terms that cannot be added.
        """
        start = time.perf_counter()
        with torch.no_grad():
            tensors = {key: self._tensor(key, obs) for key in self._spec}
            origin = self.net.scaler.origin(tensors)
            added = self._added(terms, origin)
            encoding = self.net.encode(tensors)
            encoded = time.perf_counter()
            warm = None if warm_start is None else self._scaled(warm_start, origin)
            noise = Noise(self.noise_seed)
            continues = warm is not None and self.net.continues
            more = {"committed": committed} if continues else {}
            solution = self.net.plan(encoding, origin, warm, iterations, deadline_ms, noise, added, **more)
            status = solution.statuses()[0]
            actions = self.net.scaler.unscale(solution.actions, origin)[0].double().cpu().numpy()
            if continues and warm_start is not None:
                actions[:committed] = warm_start[:committed]  # as they were: scaled they may have left the box
            outside = self._outside(origin)
        seen = {key: obs[key][-1] for key in self._spec}
        ended = status not in (Status.DEADLINE, Status.NONFINITE)
        if self.net.solves and ended and not terms and iterations is None:  # as the costs of training's plans are
            seen[PLAN] = solution.final_cost.double().cpu().numpy()
        novelty = self.novelty.score(seen) if self.novelty else UNKNOWN
        low, high = (np.asarray(bound) for bound in self.contract.command.bounds())
        done = time.perf_counter()
        return PlanResult(
            # the solver's box is in float32: rounding may leave a bound by one unit in the last place
            actions=np.clip(actions, low, high),
            outside=outside,
            status=status.name,
            message=status.sentence,
            iterations=int(solution.iterations[0]),
            initial_cost=float(solution.initial_cost[0]),
            final_cost=float(solution.final_cost[0]),
            gradient_norm=float(solution.gradient_norm[0]),
            encode_ms=1e3 * (encoded - start),
            solve_ms=1e3 * (done - encoded),
            novelty=novelty.value,
            novelty_of=novelty.of,
        )

    def plan_costs(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        """What the plans for obs[key] (B, obs_steps, ...) cost by the learned cost (B,), where the policy has one.

        Raises PolicyError as `act` does, and for a policy that optimises nothing.
        """
        if not self.net.solves:
            raise PolicyError(f"policy {self.config.policy!r} optimises nothing, so its plans have no costs")
        with torch.no_grad():
            tensors = {key: torch.as_tensor(obs[key], device=self.device) for key in self._spec}
            origin = self.net.scaler.origin(tensors)
            solution = self.net.plan(self.net.encode(tensors), origin, noise=Noise(self.noise_seed))
        return solution.final_cost.double().cpu().numpy()

    def _outside(self, origin: Tensor) -> float:
        """How far what the networks asked for lies outside the contract's bounds: largest share of a joint's range."""
        assert self.net.asked is not None  # every plan begins with the base's chunk
        asked = self.net.scaler.unscale(self.net.asked, origin)[0].double().cpu().numpy()
        low, high = (np.asarray(bound) for bound in self.contract.command.bounds())
        outside = float((np.maximum(asked - high, low - asked) / (high - low)).max())
        return outside if outside > ROUNDING else 0.0

    def _added(self, terms: Sequence[CostTerm], origin: Tensor) -> list[Added]:
        """The terms as costs of scaled actions, with the scale among their data."""
        if terms and not self.net.solves:
            raise PolicyError(f"policy {self.config.policy!r} optimises nothing that terms could be added to; use none")
        if self._prepared_for is not None and [*map(id, terms)] != [*map(id, self._prepared_for)]:
            raise PolicyError(
                f"the solve was prepared for {len(self._prepared_for)} terms, and {len(terms)} or others are given; "
                "prepare it with these"
            )
        scale, offset = self.net.scaler.affine(origin)
        found: list[Added] = []
        for term in terms:
            data = (tensor.to(scale).expand(len(origin), *tensor.shape) for tensor in term.data)
            found.append((InUnits(term), (scale, offset, *data)))
        return found

    def _scaled(self, actions: np.ndarray, origin: Tensor) -> Tensor:
        if actions.shape != self.net.shape or not np.isfinite(actions).all():
            raise PolicyError(f"warm start has shape {actions.shape}; expected finite {self.net.shape}")
        tensor = torch.as_tensor(actions, dtype=torch.float32, device=self.device)[None]
        return self.net.scaler.scale(tensor, origin)

    def _tensor(self, key: str, obs: Mapping[str, np.ndarray]) -> Tensor:
        expected = (self.obs_steps, *self._spec[key][1])
        if key not in obs:
            raise PolicyError(f"observation '{key}' is missing; the policy expects {sorted(self._spec)}")
        frame = np.asarray(obs[key])
        if frame.shape != expected:
            raise PolicyError(f"observation '{key}' has shape {frame.shape}; the policy expects {expected}")
        if frame.dtype != np.uint8 and not np.isfinite(frame).all():
            raise PolicyError(f"observation '{key}' has values that are not finite; check its sensor")
        return torch.as_tensor(frame, device=self.device)[None]

    def _blank(self) -> dict[str, np.ndarray]:
        """Frames of zeros."""
        return {
            key: np.zeros((self.obs_steps, *shape), np.uint8 if kind == "image" else np.float32)
            for key, (kind, shape) in self._spec.items()
        }

    def warm_up(self) -> float:
        """Run one plan on blank frames so that the first real one is not slow; returns its time [ms]."""
        start = time.perf_counter()
        for _ in range(2):
            self.act(self._blank())
        return 1e3 * (time.perf_counter() - start)

    def prepare(self, backend: str, terms: Sequence[CostTerm] = ()) -> None:
        """Compile the solve ('compile', half a minute), capture it ('cuda_graph'), both, or neither ('none').

        Plans are the same to rounding, and sooner there. terms: those that `act` will be given. Raises PolicyError for
        a policy that solves nothing, and TrajoptError for a solver, device or cost that does not allow it.
        """
        if not self.net.solves:
            raise PolicyError(
                f"policy {self.config.policy!r} solves nothing that could be prepared; leave it at 'none'"
            )
        blank, self._prepared_for = self._blank(), None
        with torch.no_grad():
            tensors = {key: self._tensor(key, blank) for key in self._spec}
            origin = self.net.scaler.origin(tensors)
            self.net.prepare(self.net.encode(tensors), origin, backend, self._added(terms, origin))
        self._prepared_for, self.prepared = None if backend == "none" else tuple(terms), backend

    def reset(self) -> None:
        """Forget the past episode. No policy here keeps state between calls: what it remembers is in its frames."""

    def card(self) -> str:
        """One line for a person: the policy, its base, and the parameters of each part."""
        parts = self.net.parts()
        base = f" on base {self.config.decoder.name}" if self.config.refines else ""
        sizes = ", ".join(f"{name} {size:,}" for name, size in parts.items())
        return f"{self.config.policy}{base}: {sum(parts.values()):,} parameters ({sizes})"

    def save(self, folder: str | Path) -> Path:
        """Write weights, configuration, contract, novelty and manifest into `folder`; each file is replaced whole."""
        folder = Path(folder)
        with whole(folder / WEIGHTS) as beside:
            save_file({k: v.contiguous().cpu() for k, v in self.net.state_dict().items()}, beside)
        write_whole(folder / CONFIG, yaml.safe_dump(self.config.to_dict(), sort_keys=False))
        write_whole(folder / CONTRACT, self.contract.to_yaml())
        if self.novelty:
            self.novelty.save(folder / NOVELTY)
        else:
            (folder / NOVELTY).unlink(missing_ok=True)  # of an earlier policy
        sign(folder)
        return folder


def resolve_device(name: str) -> torch.device:
    """'cpu', 'cuda', 'cuda:1' or 'auto' (CUDA if there is one). Raises PolicyError if the device is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise PolicyError(f"device is {name!r}; expected 'cpu', 'cuda', 'cuda:0', … or 'auto'") from None
    if device.type not in ("cpu", "cuda"):
        raise PolicyError(f"device is {name!r}; expected 'cpu', 'cuda', 'cuda:0', … or 'auto'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise PolicyError(
            f"device {name!r} was asked for but torch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            "devices; use device 'cpu', or install a CUDA build of torch and its driver"
        )
    return device


def load_policy(folder: str | Path, device: str = "cpu", *, verified: bool = True) -> Policy:
    """Load a model folder (weights, config.yaml, contract.yaml; novelty, if there). Raises UserError on what is wrong.

    verified: refuse files that are not those of the folder's manifest. Nothing is made in the sizes that the files ask
    for before it is known that they fit each other.
    """
    folder = Path(folder)
    target = resolve_device(device)
    missing = [name for name in (WEIGHTS, CONFIG, CONTRACT) if not (folder / name).is_file()]
    if missing:
        raise PolicyError(f"model folder {str(folder)!r} lacks {missing}; give a folder written by 'difftop train'")
    if verified:
        verify(folder, PolicyError)
    contract = load_contract(folder / CONTRACT)
    document = read_yaml(folder / CONFIG, "configuration", PolicyError)
    config = PolicyConfig.from_dict(document.data, str(folder / CONFIG), document.line)
    _check_shapes(folder / WEIGHTS, contract, config)
    net = make_acting_net(contract, config)
    weights = load_file(folder / WEIGHTS)
    broken = [name for name, tensor in weights.items() if not torch.isfinite(tensor.float()).all()]
    if broken:
        raise PolicyError(f"{folder / WEIGHTS} has values that are not finite in {broken[:3]}; train again")
    net.load_state_dict(weights)
    return Policy(net, contract, target, _load_novelty(folder / NOVELTY, contract))


def _load_novelty(path: Path, contract: Contract) -> Novelty | None:
    if not path.is_file():
        return None
    spec = observation_spec(contract)
    kinds = {key: kind for key, (kind, _) in spec.items()}
    return Novelty.load(path, kinds, {key: np.zeros(shape, np.float32) for key, (_, shape) in spec.items()})


def _check_shapes(path: Path, contract: Contract, config: PolicyConfig) -> None:
    """Raise PolicyError unless the weights' header announces the tensors that such networks have."""
    with torch.device("meta"):  # shapes without memory
        expected = {
            name: (tuple(t.shape), t.dtype) for name, t in make_acting_net(contract, config).state_dict().items()
        }
    try:
        with safe_open(path, "pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            found = {name: (tuple(part.get_shape()), _DTYPES.get(part.get_dtype())) for name, part in parts.items()}
    except (SafetensorError, OSError) as error:
        raise PolicyError(f"{path} cannot be read as safetensors: {error}") from None
    wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    if wrong:
        raise PolicyError(
            f"{path} does not fit {CONFIG} and {CONTRACT}: {wrong[0]} is {found.get(wrong[0], ('missing',))[0]}, "
            f"expected {expected.get(wrong[0], ('nothing',))[0]} ({len(wrong)} tensors differ); take all three from "
            "one run"
        )
