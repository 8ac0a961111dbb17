"""From observation frames to one vector of features: clouds, images and joint readings, fused by concatenation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from difftop_ros.nets.batched import few_at_once
from difftop_ros.nets.point_tokens import PointTokenEncoder
from difftop_ros.nets.resnet import ResNet18Encoder


class PointCloudEncoder(nn.Module):
    """Shared perceptron over points, max-pooled, plus attention keypoints.

    A max over points tells what is there; a keypoint, the softmax-weighted mean of the points' own coordinates, tells
    where to the millimetre, which few demonstrations would not teach a max alone.

    in_bfloat16: whether training runs the perceptron in bfloat16, in two thirds of the time on a CPU that has it. What
    adds up places stays in float32, and so does all of it in evaluation.
    """

    in_bfloat16 = False

    def __init__(self, channels: int, widths: Sequence[int], keypoints: int, out: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip([channels, *widths[:-1]], widths, strict=True):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.points = nn.Sequential(*layers)
        self.attention = nn.Linear(widths[-1], keypoints)
        self.project = nn.Sequential(nn.Linear(widths[-1] + 3 * keypoints, out), nn.LayerNorm(out), nn.SiLU())

    def forward(self, cloud: Tensor) -> Tensor:
        """cloud (B, N, channels), xyz first and normalised -> (B, out)."""
        return self.project(few_at_once(self.pooled, cloud))

    def pooled(self, cloud: Tensor) -> Tensor:
        """cloud (B, N, channels) -> the maxima and keypoints over its points, (B, widths[-1] + 3 keypoints)."""
        with torch.autocast(cloud.device.type, torch.bfloat16, enabled=self.in_bfloat16 and self.training):
            features = self.points(cloud)
            scores = self.attention(features)
        features, weights = features.to(cloud.dtype), scores.to(cloud.dtype).softmax(dim=1)
        keypoints = torch.einsum("bnk,bnc->bkc", weights, cloud[..., :3]).flatten(1)
        return torch.cat([features.amax(dim=1), keypoints], dim=1)


class ImageEncoder(nn.Module):
    """Four convolutions with group norm and a spatial softmax: each channel says where in the picture it fires.

    sharpness: factor of the maps in that softmax. At 1 an untrained channel looks everywhere, and hundreds of steps
    pass before it looks somewhere.
    """

    def __init__(self, channels: int, widths: Sequence[int], keypoints: int, out: int, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness
        first, second, third = widths
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, first, 5, stride=2, padding=2),
            nn.GroupNorm(4, first),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.GroupNorm(4, second),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, padding=1),
            nn.GroupNorm(4, third),
            nn.ReLU(),
            nn.Conv2d(third, keypoints, 3, padding=1),
        )
        self.project = nn.Sequential(nn.Linear(3 * keypoints, out), nn.LayerNorm(out), nn.SiLU())

    def forward(self, image: Tensor) -> Tensor:
        """image (B, channels, height, width) around 0 -> (B, out)."""
        return self.project(few_at_once(self.pooled, image))

    def pooled(self, image: Tensor) -> Tensor:
        """image (B, channels, height, width) -> where each map fires and how much, (B, 3 keypoints)."""
        maps = self.convolutions(image)
        height, width = maps.shape[-2:]
        weights = (self.sharpness * maps).flatten(2).softmax(dim=2)
        rows = torch.linspace(-1, 1, height, device=image.device, dtype=image.dtype)
        columns = torch.linspace(-1, 1, width, device=image.device, dtype=image.dtype)
        grid = weights.unflatten(2, (height, width))
        y, x = (grid.sum(3) * rows).sum(2), (grid.sum(2) * columns).sum(2)
        strength = maps.flatten(2).amax(2).tanh()
        return torch.cat([x, y, strength], dim=1)


class JointEncoder(nn.Module):
    """A perceptron over normalised joint readings."""

    def __init__(self, inputs: int, out: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, out), nn.SiLU(), nn.Linear(out, out), nn.SiLU())

    def forward(self, joints: Tensor) -> Tensor:
        """joints (B, inputs) -> (B, out)."""
        return self.net(joints)


def _part(key: str) -> str:
    """Name of the encoder of an observation; nn.ModuleDict refuses the names of its own methods, such as 'values'."""
    return f"{key}:" if hasattr(nn.ModuleDict(), key) else key  # no key has a colon


class ObservationEncoder(nn.Module):
    """One encoder per observation key, applied to each of the `obs_steps` frames, concatenated, then projected.

    spec: key -> ('vector' | 'cloud' | 'image', frame shape). image: 'cnn' (small, spatial softmax) or 'resnet18'; every
    camera has its own. tokens: (groups, neighbours) of a PointTokenEncoder, None for one global vector. fused=False
    leaves the projection out, for policies that fuse the frames in their own way.
    """

    def __init__(
        self,
        spec: Mapping[str, tuple[str, tuple[int, ...]]],
        obs_steps: int,
        features: int,
        point_widths: Sequence[int],
        image_widths: Sequence[int],
        keypoints: int,
        image: str,
        image_sharpness: float,
        tokens: tuple[int, int] | None = None,
        fused: bool = True,
        feature: int = 64,
    ) -> None:
        super().__init__()
        self.kinds = {key: kind for key, (kind, _) in spec.items()}
        self.frame_size = feature * len(spec)
        self.encoders = nn.ModuleDict()
        for key, (kind, shape) in spec.items():
            if kind == "vector":
                self.encoders[_part(key)] = JointEncoder(shape[0], feature)
            elif kind == "cloud" and tokens:
                self.encoders[_part(key)] = PointTokenEncoder(shape[1], point_widths, *tokens, keypoints, feature)
            elif kind == "cloud":
                self.encoders[_part(key)] = PointCloudEncoder(shape[1], point_widths, keypoints, feature)
            elif image == "resnet18":
                self.encoders[_part(key)] = ResNet18Encoder(shape[2], feature)
            else:
                self.encoders[_part(key)] = ImageEncoder(
                    shape[2], image_widths, 2 * keypoints, feature, image_sharpness
                )
        if fused:
            self.fuse = nn.Sequential(
                nn.Linear(self.frame_size * obs_steps, features), nn.LayerNorm(features), nn.SiLU()
            )

    def streams(self, obs: Mapping[str, Tensor]) -> list[Tensor]:
        """obs[key] (B, obs_steps, ...) normalised float -> per key (B, obs_steps, feature)."""
        features = []
        for key in self.kinds:
            encoder, frames = self.encoders[_part(key)], obs[key]
            batch, steps = frames.shape[:2]
            flat = frames.flatten(0, 1)
            if self.kinds[key] == "image":
                flat = flat.permute(0, 3, 1, 2)
            features.append(encoder(flat).view(batch, steps, -1))
        return features

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """obs[key] (B, obs_steps, ...) normalised float -> features (B, features)."""
        return self.fused(self.streams(obs))

    def fused(self, streams: Sequence[Tensor]) -> Tensor:
        """What `streams` gave -> features (B, features)."""
        return self.fuse(torch.cat([stream.flatten(1) for stream in streams], dim=1))
