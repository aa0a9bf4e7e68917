"""`generation.generators.convolution` for pictures of any size and for dilated convolutions.

A dilated convolution is an ordinary one on each of the grids that its steps make.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from generation.generators.convolution import TILE_PX, convolve, transform_kernels

FEWEST_CHANNELS = 128  # with fewer the transforms take more than they save


def is_worth_tiling(weight: Tensor, stride: int) -> bool:
    """Whether a convolution can and should be done in tiles."""
    return weight.shape[2:] == (3, 3) and stride == 1 and min(weight.shape[:2]) >= FEWEST_CHANNELS


class TiledConv(nn.Module):
    """A 3x3 convolution with stride 1 that keeps the size, float32: (B, I, H, W) -> (B, O, H, W), channels last."""

    kernels: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, dilation: int = 1) -> None:
        super().__init__()
        self.register_buffer("kernels", transform_kernels(weight))
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        step = self.dilation
        # Zeros up to whole tiles, and a border of zeros.
        bottom, right = (step - side % -(TILE_PX * step) for side in (height, width))
        padded = functional.pad(x.contiguous(), (step, right, step, bottom))
        made = convolve(_grids(padded, step), self.kernels)
        made = _from_grids(made, step)[..., :height, :width]
        made = made if self.bias is None else made + self.bias[:, None, None]
        return made.contiguous(memory_format=torch.channels_last)


def _grids(x: Tensor, step: int) -> Tensor:
    """Every step-th pixel as a picture of its own: (B, C, H, W) -> (step^2 B, C, H / step, W / step)."""
    num, channels, height, width = x.shape
    split = x.reshape(num, channels, height // step, step, width // step, step).permute(3, 5, 0, 1, 2, 4)
    return split.reshape(-1, channels, height // step, width // step)


def _from_grids(grids: Tensor, step: int) -> Tensor:
    many, channels, height, width = grids.shape
    split = grids.reshape(step, step, many // step**2, channels, height, width).permute(2, 3, 4, 0, 5, 1)
    return split.reshape(many // step**2, channels, step * height, step * width)
