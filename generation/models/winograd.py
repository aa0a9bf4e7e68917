"""The algorithm of `tiled_convolution` for pictures with the channels last, in strips that stay in the cache.

On large pictures with few channels the transforms, not the products, take the time; strip by strip they take half of
what they take for the whole picture at once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from torch import Tensor, nn

from generation.models.tiled_convolution import REACH_PX, TILE_PX, transform_kernels, transforms

STRIP_TILES = 256  # transformed at a time


class WinogradConv(nn.Module):
    """A `Conv2d` with 3x3 kernels and a border of 1, in float32, for pictures whose sides are multiples of 4.

    Attributes:
        weight: (36, num_in, num_out), transformed kernels.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        kernels = transform_kernels(weight).transpose(1, 2).contiguous()
        self.weight = nn.Parameter(kernels, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        matrices = transforms()
        self._inputs, self._results = matrices.inputs.tolist(), matrices.results.tolist()

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_out, H, W), channels last, of (B, num_in, H, W)."""
        height, width = x.shape[2:]
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        result = x.new_empty((len(x), height, width, self.weight.shape[2]))
        step = max(STRIP_TILES // (width // TILE_PX), 1) * TILE_PX
        for picture, out in zip(padded, result, strict=True):
            for top in range(0, height, step):
                self._convolve(picture[top : top + step + 2], out[top : top + step])
        return result.permute(0, 3, 1, 2)

    def _convolve(self, strip: Tensor, out: Tensor) -> None:
        """Writes rows of results (h, W, num_out) of rows with their border (h + 2, W + 2, num_in)."""
        rows, columns = out.shape[0] // TILE_PX, out.shape[1] // TILE_PX
        by_row = strip.new_empty((REACH_PX, rows, *strip.shape[1:]))
        _combine(self._inputs, [strip[at:][: TILE_PX * rows : TILE_PX] for at in range(REACH_PX)], list(by_row))
        tiles = strip.new_empty((REACH_PX, REACH_PX, rows, columns, strip.shape[2]))
        places = [by_row[:, :, at:][:, :, : TILE_PX * columns : TILE_PX] for at in range(REACH_PX)]
        _combine(self._inputs, places, list(tiles.unbind(1)))
        made = torch.bmm(tiles.view(len(self.weight), rows * columns, -1), self.weight)
        made = made.view(REACH_PX, REACH_PX, rows, columns, -1)
        down = made.new_empty((TILE_PX, *made.shape[1:]))
        _combine(self._results, list(made), list(down))
        grouped = out.view(rows, TILE_PX, columns, TILE_PX, -1).permute(1, 0, 2, 3, 4)
        _combine(self._results, list(down.unbind(1)), [grouped[:, :, :, at] for at in range(TILE_PX)])
        if self.bias is not None:
            out += self.bias


def _combine(matrix: list[list[float]], parts: list[Tensor], out: list[Tensor]) -> None:
    """Writes the matrix's rows times the parts."""
    for row, target in zip(matrix, out, strict=True):
        used = [(factor, part) for factor, part in zip(row, parts, strict=True) if factor]
        torch.mul(used[0][1], used[0][0], out=target)
        for factor, part in used[1:]:
            target.add_(part, alpha=factor)
