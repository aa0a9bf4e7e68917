"""The square face crop of a frame: its path through a clip, and how it is cut out without aliasing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Boxes, Floats, Frame
from generation.smoothing import smooth_over_time

CENTRE_WINDOW = 31  # frames over which the centre of the crop is smoothed,
SIDE_WINDOW = 151  # and its side


def crop_squares(boxes: Boxes, margin: float) -> NDArray[np.float64]:
    """Squares around boxes, moving softly and hardly changing in size.

    Args:
        boxes: float64 (T, 4), px of the frame.
        margin: the side is the longer side of the box times 1 + margin.

    Returns:
        float64 (T, 3): x, y, side.
    """
    centres = smooth_over_time((boxes[:, :2] + boxes[:, 2:]) / 2, CENTRE_WINDOW)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) * (1 + margin)
    sides = smooth_over_time(sides, SIDE_WINDOW)
    return np.concatenate([centres - sides / 2, sides], axis=1)


def crop_face(frame: Frame, square: Sequence[float] | Floats, size_px: int) -> Frame:
    """Cuts a square out of a frame and scales it, without aliasing; beyond the frame its border is replicated.

    Args:
        frame: RGB uint8 (H, W, 3).
        square: x, y, side in px, not rounded: a row of `FaceTrack.crop`.
        size_px: side of the result.

    Returns:
        RGB uint8 (size_px, size_px, 3). Its point (u, v) is the frame's (x + u * scale, y + v * scale), where scale is
        side / size_px.
    """
    x, y, side = (float(value) for value in square)
    scale = side / size_px
    sigma = 0.5 * math.sqrt(max(scale * scale - 1, 0))  # a pixel's own blur, about 0.5, grows to 0.5 * scale
    reach = 3 + math.ceil(4 * sigma)
    left, top = math.floor(x) - reach, math.floor(y) - reach
    region = _region(frame, left, top, math.ceil(side) + 2 * reach + 1)
    if sigma > 0.1:
        region = cv2.GaussianBlur(region, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    # Pixel centres lie at half a pixel.
    matrix = np.array([[scale, 0, x + scale / 2 - 0.5 - left], [0, scale, y + scale / 2 - 0.5 - top]], dtype=np.float64)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(region, matrix, (size_px, size_px), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(crop, np.uint8)


def _region(frame: Frame, left: int, top: int, size: int) -> NDArray[Any]:
    height, width = frame.shape[:2]
    if min(left, top) >= 0 and left + size <= width and top + size <= height:
        return frame[top : top + size, left : left + size]
    rows = np.clip(np.arange(top, top + size), 0, height - 1)
    columns = np.clip(np.arange(left, left + size), 0, width - 1)
    return np.ascontiguousarray(frame[rows][:, columns])
