"""Smooth fields over a crop: points, motion and masks on a small grid, sampled anywhere in it.

A grid has GRID_PX points a side; points and motion are shares of the crop's side, x before y.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np

from generation.arrays import Floats, Frame
from generation.crops.blending import GRID_PX

# The map has both coordinates in one array. An empty second array is not as good: OpenCV 5 then misreads grey images.
_NO_MAP: Any = None
_CENTRES = (np.arange(GRID_PX, dtype=np.float32) + 0.5) / GRID_PX
GRID: Floats = np.stack(np.meshgrid(_CENTRES, _CENTRES), -1)  # float32 (GRID_PX, GRID_PX, 2)


def to_grid(field: Floats) -> Floats:
    """Averages a field (N, N, ...) down to the grid."""
    return np.asarray(cv2.resize(field, (GRID_PX, GRID_PX), interpolation=cv2.INTER_AREA), np.float32)


@cache
def pixels(side: int) -> Floats:
    """The pixels of a crop as points, px: float32 (side, side, 2); read only."""
    points = np.stack(np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32)), -1)
    points.flags.writeable = False
    return points


def sample(image: Floats, points: Floats) -> Floats:
    """Bilinear values of an image (G, G, ...) at points (H, W, 2) given as shares of its side: (H, W, ...)."""
    at = np.asarray(points * image.shape[0] - 0.5, np.float32)
    return np.asarray(cv2.remap(image, at, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def sample_at(image: Floats, points: Floats) -> Floats:
    """Bilinear values of an image (G, G, ...) at points (N, 2): float32 (N, ...)."""
    return np.asarray(sample(image, points[None])[0], np.float32)


def sample_sharp(crop: Frame, points: Floats) -> Frame:
    """Bicubic values of RGB uint8 (S, S, 3) at points (H, W, 2) given in its px: RGB uint8 (H, W, 3)."""
    sharp = cv2.remap(crop, points, _NO_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sharp, np.uint8)


def hann_mean(values: Floats, number: int, reach: int) -> Floats:
    """Hann-weighted mean of values (N, ...) over number `number` and `reach` neighbours on either side."""
    numbers = np.clip(np.arange(number - reach, number + reach + 1), 0, len(values) - 1)
    window = np.hanning(2 * reach + 3)[1:-1].astype(np.float32)
    mean = np.zeros(values.shape[1:], np.float32)
    for near, weight in zip(numbers, window / window.sum(), strict=True):
        mean += weight * values[near]
    return mean
