"""Convolutions with fixed weights, for inference: by torch, or 3x3 ones with a quarter of the multiplications on a CPU.

Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks": F(4x4, 3x3) works on tiles of 6x6 pixels, of
which each gives 4x4 results. The interpolation points are small fractions instead of the usual 0, +-1, +-2, which
halves the rounding error (Barabasz et al. 2020, "Error Analysis and Improving the Accuracy of Winograd Convolution for
Deep Neural Networks"). The transforms of tiles are products with small fixed matrices. A dilated convolution is an
ordinary one on each of the grids that its steps make.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

TILE_PX = 4  # a tile's results along either side
REACH_PX = TILE_PX + 2  # its inputs
TILES_AT_ONCE = 256  # of all pictures; what is between the steps stays in the cache
POINTS = (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2))


class Conv(nn.Module):
    """A convolution by torch, padded with zeros to keep the size (with stride 2 its ceil(n / 2)) by default."""

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, weight: Tensor, bias: Tensor | None, *, stride: int = 1, dilation: int = 1, padding: int | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self.stride, self.dilation = stride, dilation
        self.padding = dilation * (weight.shape[2] // 2) if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)


class TiledConv(nn.Module):
    """A 3x3 convolution of stride 1 by `convolve`, for float32 on a CPU; sides of any length.

    Args:
        weight, bias: (O, I, 3, 3) and (O,) or None.
        dilation: steps between the kernel's pixels.
        has_border: whether the input brings the border of `dilation` pixels with it; else it is padded with zeros.
        memory_format: of the result.
    """

    kernels: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        dilation: int = 1,
        has_border: bool = False,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        super().__init__()
        self.register_buffer("kernels", transform_kernels(weight))
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self.dilation, self.border = dilation, 0 if has_border else dilation
        self.memory_format = memory_format

    def forward(self, x: Tensor) -> Tensor:
        step, border = self.dilation, self.border
        height, width = (side + 2 * (border - step) for side in x.shape[2:])
        bottom, right = (border + -side % (TILE_PX * step) for side in (height, width))  # up to whole tiles
        padded = x.contiguous()
        if bottom or right:
            padded = functional.pad(padded, (border, right, border, bottom))
        made = _from_grids(convolve(_grids(padded, step), self.kernels), step)[..., :height, :width]
        if self.bias is not None:
            made = made.add_(self.bias[:, None, None])
        return made.contiguous(memory_format=self.memory_format)


def fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what the two do in evaluation; computed in float64."""
    parts = (conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    weight, bias, mean, variance, scale, shift = (None if part is None else part.double() for part in parts)
    folded = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)  # type: ignore[arg-type]
    return folded[0].to(conv.weight.dtype), folded[1].to(conv.weight.dtype)


def _grids(x: Tensor, step: int) -> Tensor:
    """Every step-th pixel as a picture of its own: (B, C, H, W) -> (step^2 B, C, H / step, W / step)."""
    num, channels, height, width = x.shape
    split = x.reshape(num, channels, height // step, step, width // step, step).permute(3, 5, 0, 1, 2, 4)
    return split.reshape(-1, channels, height // step, width // step)


def _from_grids(grids: Tensor, step: int) -> Tensor:
    many, channels, height, width = grids.shape
    split = grids.reshape(step, step, many // step**2, channels, height, width).permute(2, 3, 4, 0, 5, 1)
    return split.reshape(many // step**2, channels, step * height, step * width)


class Transforms(NamedTuple):
    """Matrices of the algorithm in one dimension, float64: results (4, 6), kernels (6, 3), inputs (6, 6)."""

    results: NDArray[np.float64]
    kernels: NDArray[np.float64]
    inputs: NDArray[np.float64]


def transforms(points: tuple[Fraction, ...] = POINTS) -> Transforms:
    """Toom and Cook's construction on these points and infinity: y = results @ ((kernels @ g) * (inputs @ d))."""
    num = len(points)
    results = [[p**row for p in points] + [Fraction(row == TILE_PX - 1)] for row in range(TILE_PX)]
    kernels = [[p**power / _distance(points, at) for power in range(3)] for at, p in enumerate(points)]
    kernels.append([Fraction(0), Fraction(0), Fraction(1)])
    others = [_coefficients(points[:at] + points[at + 1 :]) for at in range(num)]
    inputs = [[*row, Fraction(0)] for row in others] + [_coefficients(points)]
    return Transforms(*(np.array(rows, np.float64) for rows in (results, kernels, inputs)))


def _distance(points: tuple[Fraction, ...], at: int) -> Fraction:
    product = Fraction(1)
    for other in points[:at] + points[at + 1 :]:
        product *= points[at] - other
    return product


def _coefficients(roots: tuple[Fraction, ...]) -> list[Fraction]:
    """Of the product of all (x - root), the constant first."""
    found = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *found], [*(root * value for value in found), Fraction(0)]
        found = [one - other for one, other in zip(shifted, scaled, strict=True)]
    return found


_RESULTS, _KERNELS, _INPUTS = transforms()
_KERNELS_2D = torch.from_numpy(np.kron(_KERNELS, _KERNELS))
_RESULTS_2D = torch.from_numpy(np.kron(_RESULTS, _RESULTS)).float()
_INPUTS_2D = torch.from_numpy(np.kron(_INPUTS, _INPUTS)).float()


def transform_kernels(weight: Tensor) -> Tensor:
    """Kernels (O, I, 3, 3) -> float32 (36, O, I), once for a network."""
    num_out, num_in = weight.shape[:2]
    flat = weight.detach().double().reshape(-1, 9)
    return (_KERNELS_2D @ flat.T).view(REACH_PX**2, num_out, num_in).float().contiguous()


def convolve(padded: Tensor, kernels: Tensor) -> Tensor:
    """Convolves pictures.

    Args:
        padded: float32 (N, I, 4 h + 2, 4 w + 2), with its border.
        kernels: from `transform_kernels`.

    Returns:
        float32 (N, O, 4 h, 4 w).
    """
    num, _, height, width = padded.shape
    rows, columns = (height - 2) // TILE_PX, (width - 2) // TILE_PX
    result = padded.new_empty(num, kernels.shape[1], TILE_PX * rows, TILE_PX * columns)
    step = TILE_PX * max(TILES_AT_ONCE // (num * columns), 1)
    for top in range(0, TILE_PX * rows, step):
        _convolve_strip(padded[:, :, top : top + step + 2], kernels, result[:, :, top : top + step])
    return result


def _convolve_strip(padded: Tensor, kernels: Tensor, out: Tensor) -> None:
    num_points, num_in, num_out = kernels.shape[0], padded.shape[1], kernels.shape[1]
    tiles = _tiles(padded)
    places = tiles.shape[3:]
    transformed = (_INPUTS_2D @ tiles.reshape(num_points, -1)).view(num_points, num_in, -1)
    products = torch.bmm(kernels, transformed)
    results = (_RESULTS_2D @ products.view(num_points, -1)).view(TILE_PX, TILE_PX, num_out, *places)
    # by pixel in the tile, channel, sample and tile -> picture
    grouped = torch.unflatten(torch.unflatten(out, 3, (-1, TILE_PX)), 2, (-1, TILE_PX))
    grouped.copy_(results.permute(3, 2, 4, 0, 5, 1))


def _tiles(padded: Tensor) -> Tensor:
    """A view of overlapping tiles: (6, 6, I, N, h, w)."""
    num, channels, height, width = padded.shape
    sample, channel, row, column = padded.stride()
    shape = (REACH_PX, REACH_PX, channels, num, (height - 2) // TILE_PX, (width - 2) // TILE_PX)
    stride = (row, column, channel, sample, TILE_PX * row, TILE_PX * column)
    return padded.as_strided(shape, stride, padded.storage_offset())
