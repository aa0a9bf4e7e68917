"""How much a fake differs from its target where it was replaced: one measure, before and after it is encoded.

Both are compared in cells of 8 x 8 px, whose means the encoder hardly changes: grain and the encoder's own noise, which
a single pixel shows, do not count as a change. Numbers are 8-bit levels of luma as in the file, 16 black, 235 white.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Frame, Grey
from generation.crops.clip import PastedFrame

CELL_PX = 8
REPLACED = 200  # weight of the mask, of 255, from which a cell counts as replaced

Luma = NDArray[np.uint8]
"""(H, W), levels as in the file."""
Cells = NDArray[np.uint8]
"""(h, w), means of squares of CELL_PX."""

# RGB full range -> luma of BT.709, limited range
_TO_LUMA = np.array([[0.2126 * 219 / 255, 0.7152 * 219 / 255, 0.0722 * 219 / 255, 16.0]])


class ChangeMeter:
    """Mean difference of the replaced cells of all frames that it takes."""

    def __init__(self) -> None:
        self._sum, self._num = 0.0, 0

    def add(self, cells: Cells, target: Cells, mask: Cells) -> None:
        """Takes a frame.

        Args:
            cells: of the fake.
            target: of the same frame of its target.
            mask: of the same shape, 255 replaced.
        """
        is_replaced = mask >= REPLACED
        self._sum += float(cv2.absdiff(cells, target)[is_replaced].sum())
        self._num += int(is_replaced.sum())

    def add_pasted(self, pasted: PastedFrame) -> Cells:
        """Takes a frame as it is before it is encoded; returns the cells of its mask."""
        replaced = cells_of(pasted.stored_mask)
        part = _whole_cells(pasted.region, pasted.frame.shape)
        cells, target = (cells_of(luma_of(np.ascontiguousarray(one[part]))) for one in (pasted.frame, pasted.original))
        here = tuple(
            slice(one.start // CELL_PX, one.start // CELL_PX + size)
            for one, size in zip(part, cells.shape, strict=True)
        )
        self.add(cells, target, replaced[here])
        return replaced

    @property
    def mean(self) -> float | None:
        """Levels; None if nothing was replaced."""
        return self._sum / self._num if self._num else None


def _whole_cells(region: tuple[slice, slice], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows and columns of all cells that a region touches; of the whole frame where cells do not fit into it."""
    if shape[0] % CELL_PX or shape[1] % CELL_PX:
        return slice(0, shape[0]), slice(0, shape[1])
    rows, columns = (slice(one.start // CELL_PX * CELL_PX, -(-one.stop // CELL_PX) * CELL_PX) for one in region)
    return rows, columns


def luma_of(frame: Frame) -> Luma:
    """Luma of a frame RGB uint8 (H, W, 3), as the encoder sees it."""
    return np.asarray(cv2.transform(frame, _TO_LUMA), np.uint8)


def cells_of(luma: Luma | Grey) -> Cells:
    """Means of squares of CELL_PX."""
    height, width = luma.shape
    size = (max(width // CELL_PX, 1), max(height // CELL_PX, 1))
    while luma.shape[1] % (2 * size[0]) == 0 and luma.shape[0] % (2 * size[1]) == 0:  # halving is five times as fast
        luma = np.asarray(
            cv2.resize(luma, (luma.shape[1] // 2, luma.shape[0] // 2), interpolation=cv2.INTER_AREA), np.uint8
        )
    if luma.shape == size[::-1]:
        return luma
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), np.uint8)
