"""`generation.models.winograd` for pictures of any size and for dilated convolutions.

A dilated convolution is an ordinary one on each of the grids that its steps make.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from generation.models.tiled_convolution import TILE_PX
from generation.models.winograd import WinogradConv

FEWEST_CHANNELS = 128  # with fewer the transforms take more than they save


def is_worth_tiling(weight: Tensor, stride: int) -> bool:
    """Whether a convolution can and should be done in tiles."""
    return weight.shape[2:] == (3, 3) and stride == 1 and min(weight.shape[:2]) >= FEWEST_CHANNELS


class TiledConv(nn.Module):
    """A 3x3 convolution with stride 1 that keeps the size, float32: (B, I, H, W) -> (B, O, H, W), channels last."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dilation: int = 1) -> None:
        super().__init__()
        self.conv, self.dilation = WinogradConv(weight, bias), dilation

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        unit = TILE_PX * self.dilation
        # Zeros up to whole tiles; a border of zeros follows anyway.
        bottom, right = -height % unit, -width % unit
        if bottom or right:
            x = functional.pad(x, (0, right, 0, bottom))
        made = self.conv(x) if self.dilation == 1 else _from_grids(self.conv(_grids(x, self.dilation)), self.dilation)
        return torch.as_tensor(made[..., :height, :width])


def _grids(x: Tensor, step: int) -> Tensor:
    """Every step-th pixel as a picture of its own: (B, C, H, W) -> (step^2 B, C, H / step, W / step)."""
    num, channels, height, width = x.shape
    split = x.reshape(num, channels, height // step, step, width // step, step)
    grids = split.permute(3, 5, 0, 2, 4, 1).reshape(-1, height // step, width // step, channels)
    return grids.permute(0, 3, 1, 2)


def _from_grids(grids: Tensor, step: int) -> Tensor:
    many, channels, height, width = grids.shape
    split = grids.permute(0, 2, 3, 1).reshape(step, step, many // step**2, height, width, channels)
    x = split.permute(2, 3, 0, 4, 1, 5).reshape(many // step**2, step * height, step * width, channels)
    return x.permute(0, 3, 1, 2)
