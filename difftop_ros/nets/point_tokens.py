"""A cloud as tokens: neighbourhoods of points that attend to each other, beside encoders.py's one global vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from difftop_ros.nets.batched import few_at_once

HEADS, LAYERS = 4, 1  # a second layer of attention takes half as long again as all the rest


class PointTokenEncoder(nn.Module):
    """Groups of neighbours around spread centres, each a token told its place; tokens attend to each other.

    A group's token is the maximum of a shared perceptron over its points, seen from its centre: what a small part of
    the scene looks like, wherever it is. Attention then relates the parts, as one maximum over all points cannot.
    Layers are normalised per token. As in PointCloudEncoder, keypoints (softmax-weighted means of the centres) say
    where, and `in_bfloat16` holds for the perceptron in training. The order of points does not matter, but for ties.
    """

    in_bfloat16 = False

    def __init__(
        self, channels: int, widths: Sequence[int], groups: int, neighbours: int, keypoints: int, out: int
    ) -> None:
        """groups, neighbours: how many groups of how many points, at most as many as the cloud has."""
        super().__init__()
        self.groups, self.neighbours, size = groups, neighbours, widths[-1]
        layers: list[nn.Module] = []
        for inputs, outputs in zip([channels, *widths[:-1]], widths, strict=True):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.points = nn.Sequential(*layers)
        self.place = nn.Sequential(nn.Linear(3, size), nn.SiLU(), nn.Linear(size, size))
        layer = nn.TransformerEncoderLayer(
            size, HEADS, 2 * size, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.attend = nn.TransformerEncoder(layer, LAYERS, norm=nn.LayerNorm(size), enable_nested_tensor=False)
        self.attention = nn.Linear(size, keypoints)
        self.project = nn.Sequential(nn.Linear(size + 3 * keypoints, out), nn.LayerNorm(out), nn.SiLU())

    def forward(self, cloud: Tensor) -> Tensor:
        """cloud (B, N, channels), xyz first and normalised -> (B, out)."""
        groups, centres = self.grouped(cloud)
        tokens = self.attend(few_at_once(self.described, groups) + self.place(centres))
        weights = self.attention(tokens).softmax(dim=1)
        keypoints = torch.einsum("bgk,bgc->bkc", weights, centres).flatten(1)
        return self.project(torch.cat([tokens.amax(dim=1), keypoints], dim=1))

    def described(self, groups: Tensor) -> Tensor:
        """Points by group (B, G, K, channels) -> what each group looks like, (B, G, widths[-1])."""
        with torch.autocast(groups.device.type, torch.bfloat16, enabled=self.in_bfloat16 and self.training):
            found = self.points(groups).amax(2)
        return found.to(groups.dtype)

    def grouped(self, cloud: Tensor) -> tuple[Tensor, Tensor]:
        """Points by group (B, G, K, channels), places seen from the group's centre, and the centres (B, G, 3)."""
        places = cloud[..., :3]
        with torch.no_grad():
            centre = spread(places, min(self.groups, cloud.shape[1]))
            centres = places.gather(1, centre[..., None].expand(-1, -1, 3))
            nearest = torch.cdist(centres, places).topk(min(self.neighbours, cloud.shape[1]), largest=False).indices
        rows = torch.arange(len(cloud), device=cloud.device)[:, None]
        centres = places[rows, centre]
        groups = cloud[rows[..., None], nearest]
        return torch.cat([groups[..., :3] - centres[:, :, None], groups[..., 3:]], dim=3), centres


def spread(places: Tensor, count: int) -> Tensor:
    """Indices (B, count) of points of (B, N, 3) far apart: the farthest from the middle, then from those taken."""
    rows = torch.arange(len(places), device=places.device)
    taken = [(places - places.mean(1, keepdim=True)).square().sum(2).argmax(1)]
    nearest = places.new_full(places.shape[:2], torch.inf)
    for _ in range(count - 1):
        from_last = (places - places[rows, taken[-1]][:, None]).square().sum(2)
        nearest = torch.minimum(nearest, from_last)
        taken.append(nearest.argmax(1))
    return torch.stack(taken, dim=1)
