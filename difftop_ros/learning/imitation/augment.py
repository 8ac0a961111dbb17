"""Training-time disturbances of observations, so that few demonstrations teach what matters. Never used at run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from difftop_ros.learning.settings import AugmentSettings
from difftop_ros.policies.normalisation import ActionScaler


def augment(obs: Mapping[str, Tensor], kinds: Mapping[str, str], settings: AugmentSettings) -> dict[str, Tensor]:
    """Disturbed copies of obs[key] (B, obs_steps, ...) raw frames; kinds[key] is 'vector', 'cloud' or 'image'."""
    out = {}
    for key, frames in obs.items():
        if kinds[key] == "vector":
            out[key] = frames + settings.joint_noise * torch.randn_like(frames)
        elif kinds[key] == "cloud":
            moved = move_cloud(frames, settings.cloud_shift_m, settings.cloud_turn_rad)
            if settings.colour_jitter and moved.shape[-1] == 6:
                moved = torch.cat([moved[..., :3], colour_jitter(moved[..., 3:], settings.colour_jitter, 1.0)], dim=-1)
            out[key] = jitter_cloud(
                add_box(moved, settings.cloud_clutter), settings.cloud_jitter_m, settings.cloud_drop
            )
        else:
            lit = colour_jitter(frames, settings.colour_jitter, 255.0) if settings.colour_jitter else frames
            out[key] = random_shift(lit, settings.image_shift_px)
    return out


@dataclass(frozen=True)
class Place:
    """Where a joint is: observation key and index of its position, and its column of the commands.

    command is None where commands are rates or increments, which moving the scene leaves as they are.
    """

    key: str
    index: int
    command: int | None


# observation -> where in its frames' last axis x, y, z begin, and whether they are a place or a direction
Spatial = Mapping[str, Sequence[tuple[int, bool]]]


def turned(
    obs: Mapping[str, Tensor], actions: Tensor, spatial: Spatial, joint: Place, largest_rad: float
) -> tuple[dict[str, Tensor], Tensor]:
    """Each sample's scene turned about z by a random angle, its joint reading and commands (B, H, A) with it."""
    angle = largest_rad * (2 * torch.rand(actions.shape[0], device=actions.device) - 1)
    out, actions = _moved_joints(obs, actions, [joint], angle[:, None])
    for name, frames in obs.items():
        cos, sin = (part.view(-1, *[1] * (frames.dim() - 2)) for part in (angle.cos(), angle.sin()))
        for x, _ in spatial[name]:
            moved = out[name] = out[name].clone()
            moved[..., x] = cos * frames[..., x] - sin * frames[..., x + 1]
            moved[..., x + 1] = sin * frames[..., x] + cos * frames[..., x + 1]
    return out, actions


def shifted(
    obs: Mapping[str, Tensor], actions: Tensor, spatial: Spatial, axes: Sequence[Place], largest_m: float
) -> tuple[dict[str, Tensor], Tensor]:
    """Each sample's scene moved along x, y, z (as many as `axes`) at random, with readings and commands (B, H, A)."""
    shift = largest_m * (2 * torch.rand(actions.shape[0], len(axes), device=actions.device) - 1)
    out, actions = _moved_joints(obs, actions, axes, shift)
    for name, frames in obs.items():
        for x in (x for x, place in spatial[name] if place):
            out[name] = frames.clone()
            out[name][..., x : x + len(axes)] += shift.view(len(shift), *[1] * (frames.dim() - 2), len(axes))
    return out, actions


@dataclass(frozen=True)
class Hand:
    """A hand whose place along x, y (and z) of the clouds' frame commanded joints read and are commanded in.

    readings: observation key and index of each axis; columns: of the commands; positions: whether those are places, or
    rates and increments.
    """

    readings: Sequence[tuple[str, int]]
    columns: Sequence[int]
    positions: bool

    def turned(
        self, obs: Mapping[str, Tensor], actions: Tensor, spatial: Spatial, angle: Tensor, factor: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Each sample's scene turned by angle (B,) [rad] about the upright axis through the hand, and as much larger.

        The hand stays where it was measured last: what it did before, what lies around and what is commanded turn and
        grow about it. factor (B,) is 1 where a hand of two axes leaves heights as they are.
        """
        count, out, actions = len(self.readings), dict(obs), actions.clone()
        here = torch.stack([obs[key][:, -1, index] for key, index in self.readings], dim=1)
        cos, sin, none, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
        turn = torch.stack([cos, -sin, none, sin, cos, none, none, none, one], dim=1).view(-1, 3, 3)[:, :count, :count]

        def moved(values: Tensor, about: Tensor, matrix: Tensor) -> Tensor:
            flat = values.flatten(1, -2) - about[:, None]
            return (torch.einsum("bij,bnj->bni", matrix, flat) + about[:, None]).view_as(values)

        for key in {key for key, _ in self.readings}:
            out[key] = obs[key].clone()
        before = torch.stack([obs[key][..., index] for key, index in self.readings], dim=2)
        grown = turn * factor[:, None, None]
        for axis, (key, index) in enumerate(self.readings):
            out[key][..., index] = moved(before, here, grown)[..., axis]
        nowhere = torch.zeros_like(here)
        for name, frames in obs.items():
            for x, place in spatial[name]:
                values = frames[..., x : x + count]
                out[name] = out[name].clone()
                out[name][..., x : x + count] = moved(values, here, grown) if place else moved(values, nowhere, turn)
        columns = list(self.columns)
        actions[..., columns] = moved(actions[..., columns], here if self.positions else nowhere, grown)
        return out, actions


def hand_of(scaler: ActionScaler, joints: Sequence[str]) -> Hand:
    """The hand whose place these commanded joints are."""
    columns = [scaler.joints.index(joint) for joint in joints]
    return Hand([scaler.places[column] for column in columns], columns, scaler.positions)


def colour_jitter(colours: Tensor, share: float, top: float) -> Tensor:
    """Colours (B, ..., 3) of 0 to `top`: each sample's light and contrast more or less by up to `share`."""
    size = (len(colours), *[1] * (colours.dim() - 1))
    contrast, light = (1 + share * (2 * torch.rand(2, *size, device=colours.device) - 1)).unbind()
    middle = colours.float().flatten(1).mean(1).view(size)
    return ((colours - middle) * contrast + middle * light).clamp(0, top).to(colours.dtype)


def _moved_joints(
    obs: Mapping[str, Tensor], actions: Tensor, joints: Sequence[Place], by: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Copies in which the joints' readings, and their commands where those are positions, are more by `by` (B, J)."""
    out, actions = {**obs, **{joint.key: obs[joint.key].clone() for joint in joints}}, actions.clone()
    for joint, more in zip(joints, by.T, strict=True):
        out[joint.key][..., joint.index] += more[:, None]
        if joint.command is not None:
            actions[..., joint.command] += more[:, None]
    return out, actions


def move_cloud(cloud: Tensor, shift_m: float, turn_rad: float) -> Tensor:
    """Move each sample of (B, T, N, C) rigidly: along and about random axes, about the middle of its newest frame."""
    if not shift_m and not turn_rad:
        return cloud
    axes = torch.nn.functional.normalize(torch.randn(2, len(cloud), 3, dtype=cloud.dtype, device=cloud.device), dim=2)
    size = torch.rand(2, len(cloud), 1, dtype=cloud.dtype, device=cloud.device)
    shift, turn = shift_m * size[0] * axes[0], turn_rad * size[1] * axes[1]
    cross = torch.zeros(len(cloud), 3, 3, dtype=cloud.dtype, device=cloud.device)
    for row, column, entry in ((2, 1, 0), (0, 2, 1), (1, 0, 2)):
        cross[:, row, column], cross[:, column, row] = turn[:, entry], -turn[:, entry]
    rotation = torch.linalg.matrix_exp(cross)  # Rodrigues' formula
    middle = cloud[:, -1, :, :3].mean(1)[:, None, None]
    moved = cloud.clone()
    turned = torch.einsum("bij,btnj->btni", rotation, cloud[..., :3] - middle)
    moved[..., :3] = turned + middle + shift[:, None, None]
    return moved


def add_box(cloud: Tensor, share: float, sides_m: tuple[float, float] = (0.02, 0.2)) -> Tensor:
    """Put a box, the same in all its frames, into each sample of (B, T, N, C): random points of it become the box's.

    Up to `share` of the points lie on it, uniformly on its surface. Its sides, upright, are `sides_m` long; its middle
    lies anywhere between the sample's outermost points. Other channels (colours) are those of one of its points.
    """
    if not share:
        return cloud
    batch, steps, count, _ = cloud.shape

    def random(*shape: int) -> Tensor:
        return torch.rand(batch, *shape, dtype=cloud.dtype, device=cloud.device)

    places = cloud[..., :3].flatten(1, 2)
    low, high = places.amin(1), places.amax(1)
    middle = low + (high - low) * random(3)
    sides = sides_m[0] + (sides_m[1] - sides_m[0]) * random(3)
    areas = sides[:, [1, 2, 0]] * sides[:, [2, 0, 1]]  # of the faces across x, y, z
    across = torch.multinomial(areas, steps * count, replacement=True).view(batch, steps, count, 1)
    on = random(steps, count, 3) - 0.5
    on.scatter_(-1, across, torch.where(random(steps, count, 1) < 0.5, -0.5, 0.5).to(cloud.dtype))
    box = cloud[:, :1, :1].expand_as(cloud).clone()
    box[..., :3] = middle[:, None, None] + on * sides[:, None, None]
    return torch.where(random(steps, count, 1) < share * random(1, 1, 1), box, cloud)


def jitter_cloud(cloud: Tensor, jitter_m: float, drop: float) -> Tensor:
    """Move every point of (B, T, N, C) a little and replace a share of them by each cloud's first point."""
    moved = cloud.clone()
    moved[..., :3] += jitter_m * torch.randn_like(moved[..., :3])
    share = drop * torch.rand(cloud.shape[0], 1, 1, device=cloud.device)
    gone = torch.rand(cloud.shape[:-1], device=cloud.device) < share
    return torch.where(gone.unsqueeze(-1), moved[..., :1, :], moved)


def random_shift(image: Tensor, pixels: int) -> Tensor:
    """Shift each sample of uint8 (B, T, H, W, 3) by up to `pixels` with the border repeated (as in DrQ)."""
    if pixels == 0:
        return image
    batch, steps, height, width, channels = image.shape
    flat = image.permute(0, 1, 4, 2, 3).reshape(batch, steps * channels, height, width).float()
    padded = functional.pad(flat, [pixels] * 4, mode="replicate")
    offsets = torch.randint(0, 2 * pixels + 1, (2, batch), device=image.device)
    rows = offsets[0, :, None] + torch.arange(height, device=image.device)
    columns = offsets[1, :, None] + torch.arange(width, device=image.device)
    index = torch.arange(batch, device=image.device)[:, None, None]
    shifted = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    return shifted.view(batch, height, width, steps, channels).permute(0, 3, 1, 2, 4).to(image.dtype)
