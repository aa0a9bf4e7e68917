"""Whether what a fake replaces lies at the head: one measure, before and after it is encoded."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

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
        x, y, width, height = cv2.boundingRect(mask)
        if not width:
            return
        # Only there is anything to weigh, a tenth of a picture.
        replaced = mask[y : y + height, x : x + width]
        away = _away(np.arange(y, y + height), np.arange(x, x + width), landmarks)
        self._shares.append(float((replaced * away).sum()) / float(replaced.sum()))

    @property
    def mean(self) -> float:
        """0 to 1; 0 if nothing was replaced."""
        return float(np.mean(self._shares)) if self._shares else 0.0


def _away(rows: NDArray[np.int64], columns: NDArray[np.int64], landmarks: Landmarks) -> Floats:
    template = TEMPLATES["head"]
    eyes, mouth = template[:2].mean(0), template[3:].mean(0)
    x, y = (np.asarray(numbers * CELL_PX + (CELL_PX - 1) / 2, np.float32) for numbers in (columns, rows))
    places = transform(similarity(landmarks, template), np.stack(np.meshgrid(x, y), -1))
    u, v = np.moveaxis((places - eyes) / (mouth[1] - eyes[1]), -1, 0)
    return away_from_head(u, v, MARGIN)
