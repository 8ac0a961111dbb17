"""Units in, units out: normalised observations for the networks, scaled actions for the solver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from difftop_ros.contract import Contract
from difftop_ros.policies.config import PolicyConfig, PolicyError


def observation_spec(contract: Contract) -> dict[str, tuple[str, tuple[int, ...]]]:
    """key -> ('vector' | 'cloud' | 'image', frame shape), in the contract's order."""
    return {key: (obs.modality, obs.shape) for key, obs in contract.observations.items()}


def positions(contract: Contract) -> dict[str, tuple[str, int]]:
    """Joint -> the observation key and the index of its measured position in that frame."""
    return {joint: (key, index) for key, obs in contract.observations.items() for joint, index in obs.positions.items()}


def measured_positions(contract: Contract) -> list[tuple[str, int]]:
    """`positions` of the commanded joints, (A,). Raises PolicyError naming those that are not measured."""
    places = positions(contract)
    lacking = [name for name in contract.command.joint_names if name not in places]
    if lacking:
        raise PolicyError(f"joints {lacking} have no measured position in the contract; add 'position' to its fields")
    return [places[name] for name in contract.command.joint_names]


def cloud_origin(contract: Contract, config: PolicyConfig) -> list[tuple[str, int]]:
    """`positions` of config.cloud_origin's joints, (3,) or none. Raises PolicyError where that cannot be."""
    if not config.cloud_origin:
        return []
    places, names = positions(contract), config.cloud_origin_joints
    unknown = [name for name in names if name not in places]
    if unknown or all(kind != "cloud" for kind, _ in observation_spec(contract).values()):
        what = f"no measured position of {unknown}, only of {sorted(places)}" if unknown else "no point cloud"
        raise PolicyError(f"cloud_origin is {config.cloud_origin!r} but the contract '{contract.name}' has {what}")
    return [places[name] for name in names]


class ObservationNormaliser(nn.Module):
    """Frames to numbers around 0: joints by mean and deviation, clouds centred and in one scale, pictures to +-0.5.

    With an origin a cloud's middle is where those joints are in the same frame, not the data's mean.
    """

    def __init__(self, spec: Mapping[str, tuple[str, tuple[int, ...]]], origin: Sequence[tuple[str, int]] = ()) -> None:
        """spec: as `observation_spec`; origin: where those joints are, as `cloud_origin`."""
        super().__init__()
        self.origin = list(origin)
        self.kinds = {key: kind for key, (kind, _) in spec.items()}
        for key, (kind, shape) in spec.items():
            if kind != "image":
                size = shape[0] if kind == "vector" else shape[1]
                self.register_buffer(f"mean_{key}", torch.zeros(size))
                self.register_buffer(f"scale_{key}", torch.ones(size))

    @property
    def fitted(self) -> list[str]:
        """The observations that `fit` needs statistics of."""
        return [key for key, kind in self.kinds.items() if kind != "image"]

    def fit(self, key: str, mean: np.ndarray, std: np.ndarray) -> None:
        """Set `key`'s statistics; for a cloud the colour channels are centred at 0.5 and xyz share one scale."""
        kind = self.kinds[key]
        mean, std = np.array(mean, dtype=np.float64), np.array(std, dtype=np.float64)
        if kind == "cloud":
            std[:3] = max(float(np.sqrt(np.square(std[:3]).mean())), 1e-3)
            mean[3:], std[3:] = 0.5, 0.5
        if kind == "vector":
            std = np.maximum(std, 1e-2)  # a joint that hardly moved in the data must not be blown up
        self.get_buffer(f"mean_{key}").copy_(torch.from_numpy(mean))
        self.get_buffer(f"scale_{key}").copy_(torch.from_numpy(std))

    def forward(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """obs[key] (B, obs_steps, ...) raw frames -> the same shapes, float, normalised."""
        out = {}
        for key, kind in self.kinds.items():
            if kind == "image":
                out[key] = obs[key].float() / 255 - 0.5
            else:
                middle = self.get_buffer(f"mean_{key}")
                if kind == "cloud" and self.origin:
                    hand = torch.stack([obs[place][..., index].float() for place, index in self.origin], dim=2)
                    middle = torch.cat([hand, middle[3:].expand(*hand.shape[:2], -1)], dim=2)[:, :, None]
                out[key] = (obs[key].float() - middle) / self.get_buffer(f"scale_{key}")
        return out


class ActionScaler(nn.Module):
    """Commands in contract units <-> scaled actions in [-1, 1], per step and joint.

    With action_frame 'relative' the scaled action is the offset from the position measured at the observation.
    """

    def __init__(self, contract: Contract, config: PolicyConfig) -> None:
        super().__init__()
        self.joints, self.positions = list(contract.command.joint_names), contract.command.mode == "position"
        self.relative = config.action_frame == "relative" and contract.command.mode == "position"
        self.places = measured_positions(contract)
        size = (config.horizon, len(contract.command.joints))
        low, high = contract.command.bounds()
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("half_range", torch.ones(size))
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32))
        self.register_buffer("high", torch.tensor(high, dtype=torch.float32))

    def origin(self, obs: Mapping[str, Tensor]) -> Tensor:
        """What actions are measured from, (B, 1, A): newest measured positions, or 0 for absolute actions."""
        measured = torch.stack([obs[key][:, -1, index] for key, index in self.places], dim=1)
        return measured[:, None] if self.relative else torch.zeros_like(measured)[:, None]

    def fit(self, low: np.ndarray, high: np.ndarray) -> None:
        """Set the scale from the smallest and largest seen command minus origin, (H, A) each, with 10 % to spare.

        A joint that never moved gets 1 % of its permitted range instead of a division by zero.
        """
        floor = 0.01 * (self.get_buffer("high") - self.get_buffer("low"))
        half = torch.maximum(0.55 * torch.from_numpy(np.asarray(high - low)).float(), 0.5 * floor)
        self.get_buffer("half_range").copy_(half)
        self.get_buffer("center").copy_(torch.from_numpy(0.5 * np.asarray(high + low)).float())

    def scale(self, actions: Tensor, origin: Tensor) -> Tensor:
        """Commands (B, H, A) -> scaled."""
        return (actions - origin - self.get_buffer("center")) / self.get_buffer("half_range")

    def unscale(self, scaled: Tensor, origin: Tensor) -> Tensor:
        """Scaled (B, H, A) -> commands in contract units."""
        return scaled * self.get_buffer("half_range") + self.get_buffer("center") + origin

    def affine(self, origin: Tensor) -> tuple[Tensor, Tensor]:
        """scale and offset (B, H, A) of `unscale`: commands are scaled * scale + offset."""
        scale, center = self.get_buffer("half_range"), self.get_buffer("center")
        return scale.expand(len(origin), *scale.shape), center + origin

    def bounds(self, origin: Tensor) -> tuple[Tensor, Tensor]:
        """The box of scaled actions (B, H, A): the range seen in the data, cut by the contract's limits."""
        shape = (origin.shape[0], *self.get_buffer("half_range").shape)
        low = self.scale(self.get_buffer("low").expand(shape), origin).clamp(-1, 1)
        high = self.scale(self.get_buffer("high").expand(shape), origin).clamp(-1, 1)
        return low, torch.maximum(low, high)


class NotFiniteError(PolicyError):
    """Data that are not finite: `key` is the observation, '' for the commands."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{f'observation {key!r} has' if key else 'commands have'} values that are not finite")
        self.key = key


def fit_scaling(
    normaliser: ObservationNormaliser,
    scaler: ActionScaler,
    statistics: Mapping[str, tuple[np.ndarray, np.ndarray]],
    windows: Iterable[tuple[Mapping[str, Tensor], Tensor]],
    reach: Mapping[str, float],
) -> None:
    """Set both from data.

    statistics: mean and deviation of each observation in normaliser.fitted, per channel. windows: batches of raw frames
    obs[key] (B, obs_steps, ...) with the measured positions, and commands (B, H, A) in contract units. reach: by how
    much [rad | m] training moves commanded positions beyond the data, by joint. Raises NotFiniteError.
    """
    for key in normaliser.fitted:
        mean, std = statistics[key]
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            raise NotFiniteError(key)
        normaliser.fit(key, mean, std)
    shape = tuple(scaler.get_buffer("half_range").shape)
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    for obs, actions in windows:
        offset = (actions - scaler.origin(obs)).double().numpy()
        low, high = np.minimum(low, offset.min(0)), np.maximum(high, offset.max(0))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise NotFiniteError("")
    if scaler.positions and not scaler.relative:
        more = np.array([reach.get(name, 0.0) for name in scaler.joints])
        low, high = low - more, high + more
    scaler.fit(low, high)
