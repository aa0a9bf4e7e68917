"""Whether what a fake replaces lies at the head: one measure, before and after it is encoded."""

from __future__ import annotations

import numpy as np

from generation.arrays import Floats, Landmarks
from generation.crops.align import similarity, transform
from generation.crops.templates import TEMPLATES
from generation.head.anatomy import MARGIN, away_from_head
from generation.quality.change import CELL_PX, Cells


class ReachMeter:
    """Mean share of the replaced cells that is farther from the head than hair reaches, over all frames it takes."""

    def __init__(self) -> None:
        self._shares: list[float] = []

    def add(self, mask: Cells, landmarks: Landmarks) -> None:
        """Takes a frame; one in which nothing is replaced does not count.

        Args:
            mask: means of its squares of `CELL_PX`, 255 replaced.
            landmarks: (5, 2) of the target, px.
        """
        total = float(mask.sum())
        if total > 0:
            self._shares.append(float((mask * _away(mask.shape, landmarks)).sum()) / total)

    @property
    def mean(self) -> float:
        """0 to 1; 0 if nothing was replaced."""
        return float(np.mean(self._shares)) if self._shares else 0.0


def _away(shape: tuple[int, ...], landmarks: Landmarks) -> Floats:
    template = TEMPLATES["head"]
    eyes, mouth = template[:2].mean(0), template[3:].mean(0)
    rows, columns = (np.arange(size, dtype=np.float32) * CELL_PX + (CELL_PX - 1) / 2 for size in shape)
    places = transform(similarity(landmarks, template), np.stack(np.meshgrid(columns, rows), -1))
    u, v = np.moveaxis((places - eyes) / (mouth[1] - eyes[1]), -1, 0)
    return away_from_head(u, v, MARGIN)
