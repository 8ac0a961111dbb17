"""Training-time disturbances of observations, so that few demonstrations teach what matters. Never used at run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from difftop_ros.errors import UserError


@dataclass(frozen=True)
class AugmentSettings:
    """Sizes: joint_noise [rad | m], cloud_jitter_m [m] per point, cloud_drop share of points, image_shift_px [px].

    cloud_shift_m [m], cloud_turn_rad [rad]: largest rigid motion of a sample's clouds about their middle, arm and
    commands staying where they are: what a camera whose place is known no better than this would see.

    turn_joint, turn_rad: an arm whose first axis stands upright in the origin of the clouds' frame does the same from
    any heading, so a scene turned about that axis by up to turn_rad [rad], with this joint's reading, is one more
    demonstration. Pictures must come from cameras that turn with the arm.

    shift_joints, shift_m: where 'joints' are a hand's place along x, y (and z) of the clouds' frame, such as
    'hand_x,hand_y', a scene moved along these axes by up to shift_m [m], hand and all, is one more demonstration too:
    what matters is where the hand is from the object. Not where the task has to do with a place that no cloud shows.
    """

    joint_noise: float = 0.01
    cloud_jitter_m: float = 0.002
    cloud_drop: float = 0.1
    cloud_shift_m: float = 0.0
    cloud_turn_rad: float = 0.0
    image_shift_px: int = 2
    turn_joint: str = ""
    turn_rad: float = 0.0
    shift_joints: str = ""
    shift_m: float = 0.0

    def __post_init__(self) -> None:
        sizes = (self.joint_noise, self.cloud_jitter_m, self.cloud_drop, self.cloud_shift_m, self.cloud_turn_rad,
                 self.image_shift_px, self.turn_rad, self.shift_m)  # fmt: skip
        if not all(0 <= size < 100 for size in sizes) or self.cloud_drop >= 1:
            raise UserError(f"augmentation sizes are {sizes}; expected numbers of 0 or more, and cloud_drop below 1")
        if bool(self.turn_joint) != bool(self.turn_rad):
            raise UserError("turn_joint and turn_rad belong together; give both or neither")
        if bool(self.shift_joints) != bool(self.shift_m):
            raise UserError("shift_joints and shift_m belong together; give both or neither")
        if len(self.axes) > 3 or not all(self.axes):
            raise UserError(f"shift_joints are {self.shift_joints!r}; expected up to three such as 'hand_x,hand_y'")

    @property
    def axes(self) -> tuple[str, ...]:
        """The names in shift_joints: of x, y, z."""
        return tuple(name.strip() for name in self.shift_joints.split(",")) if self.shift_joints else ()

    @property
    def reach(self) -> dict[str, float]:
        """By how much [rad | m] readings and commanded positions of joints move, by joint."""
        turn = {self.turn_joint: self.turn_rad} if self.turn_joint else {}
        return {**turn, **dict.fromkeys(self.axes, self.shift_m)}


def augment(obs: Mapping[str, Tensor], kinds: Mapping[str, str], settings: AugmentSettings) -> dict[str, Tensor]:
    """Disturbed copies of obs[key] (B, obs_steps, ...) raw frames; kinds[key] is 'vector', 'cloud' or 'image'."""
    out = {}
    for key, frames in obs.items():
        if kinds[key] == "vector":
            out[key] = frames + settings.joint_noise * torch.randn_like(frames)
        elif kinds[key] == "cloud":
            moved = move_cloud(frames, settings.cloud_shift_m, settings.cloud_turn_rad)
            out[key] = jitter_cloud(moved, settings.cloud_jitter_m, settings.cloud_drop)
        else:
            out[key] = random_shift(frames, settings.image_shift_px)
    return out


@dataclass(frozen=True)
class Place:
    """Where a joint is: observation key and index of its position, and its column of the commands.

    command is None where commands are rates or increments, which moving the scene leaves as they are.
    """

    key: str
    index: int
    command: int | None


def turned(
    obs: Mapping[str, Tensor], actions: Tensor, kinds: Mapping[str, str], joint: Place, largest_rad: float
) -> tuple[dict[str, Tensor], Tensor]:
    """Each sample's clouds turned about z by a random angle, its joint reading and commands (B, H, A) with them."""
    angle = largest_rad * (2 * torch.rand(actions.shape[0], device=actions.device) - 1)
    out, actions = _moved_joints(obs, actions, [joint], angle[:, None])
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    for name, frames in obs.items():
        if kinds[name] == "cloud":
            out[name] = frames.clone()
            out[name][..., 0] = cos * frames[..., 0] - sin * frames[..., 1]
            out[name][..., 1] = sin * frames[..., 0] + cos * frames[..., 1]
    return out, actions


def shifted(
    obs: Mapping[str, Tensor], actions: Tensor, kinds: Mapping[str, str], axes: Sequence[Place], largest_m: float
) -> tuple[dict[str, Tensor], Tensor]:
    """Each sample's clouds moved along x, y, z (as many as `axes`) at random, with readings and commands (B, H, A)."""
    shift = largest_m * (2 * torch.rand(actions.shape[0], len(axes), device=actions.device) - 1)
    out, actions = _moved_joints(obs, actions, axes, shift)
    for name, frames in obs.items():
        if kinds[name] == "cloud":
            out[name] = frames.clone()
            out[name][..., : len(axes)] += shift[:, None, None]
    return out, actions


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
