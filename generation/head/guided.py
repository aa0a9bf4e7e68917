"""A guided filter in colour: masks fitted to the edges of a picture."""

from __future__ import annotations

import cv2
import numpy as np

from generation.arrays import Floats, Frame

RADIUS_PX = 5
TOLERANCE = 0.015  # of white: smaller differences are not an edge
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


class GuidedFilter:
    """Writes masks as local linear functions of a picture's colours (He et al. 2013, "Guided image filtering").

    Args:
        picture: RGB uint8 (S, S, 3).
        tolerance: of white; smaller differences are not an edge.
    """

    def __init__(self, picture: Frame, tolerance: float = TOLERANCE) -> None:
        # uint8 [0, 255] -> three of float32 [0, 1]
        self._guide = [np.asarray(one / np.float32(255), np.float32) for one in cv2.split(picture)]
        self._means = [_box(one) for one in self._guide]
        spread = [_box(self._guide[i] * self._guide[j]) - self._means[i] * self._means[j] for i, j in _PAIRS]
        self._inverse = _inverse(spread, np.float32(tolerance**2))

    def __call__(self, mask: Floats) -> Floats:
        """The fitted mask, float32 (S, S); a little beyond the range of the mask (S, S)."""
        slopes, offset = self._fit(mask)
        return sum((slope * one for slope, one in zip(slopes, self._guide, strict=True)), offset)

    def enlarged(self, mask: Floats, picture: Frame) -> Floats:
        """The mask fitted to the same picture in larger, RGB uint8 (T, T, 3): float32 (T, T).

        Solved on the small picture and applied to the large one (He and Sun 2015, "Fast guided filter").
        """
        slopes, offset = self._fit(mask)
        size = picture.shape[1::-1]
        fitted = np.asarray(cv2.resize(offset, size), np.float32)
        for slope, channel in zip(slopes, cv2.split(picture), strict=True):
            fitted += cv2.resize(slope, size) * (channel * np.float32(1 / 255))
        return fitted

    def _fit(self, mask: Floats) -> tuple[list[Floats], Floats]:
        middle = _box(mask)
        joint = [_box(one * mask) - mean * middle for one, mean in zip(self._guide, self._means, strict=True)]
        slopes = [row[0] * joint[0] + row[1] * joint[1] + row[2] * joint[2] for row in self._inverse]
        offset = middle - sum(slope * mean for slope, mean in zip(slopes, self._means, strict=True))
        return [_box(slope) for slope in slopes], _box(offset)


def _inverse(spread: list[Floats], tolerance: np.float32) -> list[tuple[Floats, Floats, Floats]]:
    """Rows of the inverse of a symmetric 3 x 3 matrix in each pixel; `spread` are its upper entries by `_PAIRS`."""
    xx, yy, zz = (spread[at] + tolerance for at in (0, 3, 5))
    xy, xz, yz = (spread[at] for at in (1, 2, 4))
    first = (yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy)
    second = (first[1], xx * zz - xz * xz, xy * xz - xx * yz)
    third = (first[2], second[2], xx * yy - xy * xy)
    scale = 1 / (xx * first[0] + xy * first[1] + xz * first[2])
    return [(scale * row[0], scale * row[1], scale * row[2]) for row in (first, second, third)]


def _box(values: Floats) -> Floats:
    size = 2 * RADIUS_PX + 1
    return np.asarray(cv2.blur(values, (size, size)), np.float32)
