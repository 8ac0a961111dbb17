"""ResNet-18 for pictures, with group norm: torchvision's architecture written out, as torchvision is not required.

He et al. 2015 (arXiv 1512.03385), table 1. Group norm in place of batch norm, as in Diffusion Policy (arXiv
2303.04137): batch statistics do not go with averaged weights (EMA), nor with a batch of one at run time.
"""

from __future__ import annotations

from torch import Tensor, nn


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // 16), channels)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            _norm(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            _norm(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), _norm(outputs))
        self.activation = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """maps (B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        return self.activation(self.body(maps) + self.shortcut(maps))


class ResNet18Encoder(nn.Module):
    """Stem, four stages of two blocks (`width`, 2, 4, 8 times `width` channels), mean over the picture, projection.

    With width 64 it is ResNet-18: 11.2 million parameters without its classifier.
    """

    def __init__(self, channels: int, out: int, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False),
            _norm(width),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        sizes = [width, width, 2 * width, 4 * width, 8 * width]
        blocks: list[nn.Module] = []
        for stage in range(4):
            inputs, outputs = sizes[stage : stage + 2]
            blocks += [BasicBlock(inputs, outputs, 1 if stage == 0 else 2), BasicBlock(outputs, outputs, 1)]
        self.stages = nn.Sequential(*blocks)
        self.project = nn.Sequential(nn.Linear(sizes[-1], out), nn.LayerNorm(out), nn.SiLU())

    def forward(self, image: Tensor) -> Tensor:
        """image (B, channels, height, width) around 0 -> (B, out)."""
        return self.project(self.stages(self.stem(image)).mean((2, 3)))
