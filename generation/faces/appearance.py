"""How faces and pictures look, measured in one way for all who judge them: turn, sharpness, colours, cuts.

Ingest, tracking and the choice of frames for an identity share these measures; each sets limits of its own.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Boxes, Frame, Grey, Landmarks

CHANGE_PX = (160, 90)  # size of the grey pictures that are compared for cuts
CHANGE_BLOCKS = (32, 18)  # blocks that their difference is averaged in
CUT_LEVELS = 8.0  # a cut changes the picture by at least so much, 8-bit levels,
CUT_RATIO = 5.0  # and so much more than the pictures around it change,
CUT_STEP = 3.0  # and than all but one of the nearest ones that move: fast motion takes more than two pictures
STILL_LEVELS = 2  # a face none of whose blocks changes by more does not move: those of seven real people, by 6 or more,
STILL_SECONDS = 0.25  # in this time; of a still that is encoded at any quality, most by 0
FROZEN_SECONDS = 0.5  # shortest time without movement that counts
JOINED_SECONDS = 0.1  # between two such times; key frames change a still picture a little
REPEATED = 0.05  # of the change; pictures that change less are repeated, but for the noise of encoding them

Histograms = NDArray[np.float32]
"""float32 (3, N): square roots of the shares of N colours in hair, face and clothes; NaN for a zone out of view."""

_ZONES = ((0.0, -0.35, 1.0, 0.1), (0.15, 0.2, 0.85, 0.95), (-0.3, 1.25, 1.3, 2.0))  # x0, y0, x1, y1 in sides of the box
_BINS = (6, 12, 12)  # of L, a and b


def turn_of(landmarks: Landmarks) -> float:
    """How far a head is turned sideways, from landmarks (5, 2): the nose's distance from the middle of the eyes along
    their line, in eye distances; 0 is frontal."""
    left, right, nose = landmarks[:3]
    across = right - left
    return abs(float((nose - (left + right) / 2) @ across)) / max(float(across @ across), 1.0)


def sharpness_of(picture: Frame | Grey, side_px: int) -> float:
    """Standard deviation of a picture's Laplacian at one size, 8-bit levels; 0 for an empty picture.

    Args:
        picture: RGB uint8 (H, W, 3) or grey uint8 (H, W).
        side_px: of the square that it is scaled to; only values of one size can be compared.
    """
    if picture.size == 0:
        return 0.0
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    scaled = cv2.resize(grey, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(scaled, cv2.CV_64F).std())


def inside_box(picture: Frame, box: Boxes) -> Frame:
    """The part of a picture inside a box (4,) in its px; may be empty."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = np.clip(np.round(box), 0, [width, height, width, height]).astype(int)
    return picture[y0:y1, x0:x1]


def histograms_of(picture: Frame, box: Boxes) -> Histograms:
    """The Lab histograms of hair, face and clothes around a face's box (4,), px of the picture RGB uint8 (H, W, 3)."""
    from scipy.ndimage import gaussian_filter  # a third of a second, which a run with nothing to do need not take

    width, height = box[2:] - box[:2]
    rows = np.full((len(_ZONES), int(np.prod(_BINS))), np.nan, np.float32)
    for row, zone in zip(rows, _ZONES, strict=True):
        region = inside_box(picture, box[[0, 1, 0, 1]] + np.array(zone) * [width, height, width, height])
        if min(region.shape[:2]) >= 4:
            # RGB uint8 -> Lab uint8
            lab = cv2.cvtColor(region, cv2.COLOR_RGB2LAB)
            counts = cv2.calcHist([lab], [0, 1, 2], None, list(_BINS), [0, 256, 80, 176, 80, 176])
            soft = gaussian_filter(counts, 0.7, mode="nearest")  # a small change of light moves it only a little
            row[:] = np.sqrt(soft.ravel() / max(float(soft.sum()), 1e-9))
    return rows


def histogram_distance(one: Histograms, other: Histograms) -> float:
    """Hellinger distance of two faces' colours, 0 to 1, averaged over the zones that both show; 1 without any."""
    products = (one * other).sum(axis=1)
    known = products[np.isfinite(products)]
    return float(np.sqrt(np.clip(1 - known, 0, 1)).mean()) if len(known) else 1.0


def change_between(before: Grey, after: Grey) -> Grey:
    """Mean absolute difference of two grey pictures of CHANGE_PX in CHANGE_BLOCKS: uint8 (18, 32), 8-bit levels."""
    difference = cv2.absdiff(before, after)
    return np.asarray(cv2.resize(difference, CHANGE_BLOCKS, interpolation=cv2.INTER_AREA), np.uint8)


def is_cut(
    change: float,
    before: NDArray[np.floating[Any]],
    after: NDArray[np.floating[Any]] | None = None,
    levels: float = CUT_LEVELS,
) -> bool:
    """Whether a picture differs from the one before by far more than the pictures around it do.

    Footage of low cadence repeats each picture, then all moves at once; what is repeated does not count.

    Args:
        change: mean over the blocks, or some of them, of `change_between`.
        before, after: the same for the pictures before and after it, in order; None where none are known.
        levels: least change of a cut.
    """
    if change < levels:
        return False
    sides = [side[side > REPEATED * change] for side in (before, np.zeros(0) if after is None else after)]
    nearest, moving = np.concatenate([sides[0][-2:], sides[1][:2]]), np.concatenate(sides)
    alike = nearest[change < CUT_STEP * nearest]
    if len(alike) >= 2:
        return False
    if len(alike) == 1:  # it may be the cut back from an insert
        moving = np.delete(moving, int(np.flatnonzero(moving == alike[0])[0]))
    return not len(moving) or bool(change >= CUT_RATIO * float(np.median(moving)))


def blocks_of(box: Boxes, height_over_width: float) -> tuple[slice, slice]:
    """Rows and columns of CHANGE_BLOCKS that a box (4,) covers, in units of the picture's height; at least one."""
    unit = np.array([CHANGE_BLOCKS[0] * height_over_width, CHANGE_BLOCKS[1]] * 2)
    x0, y0, x1, y1 = np.round(box * unit).astype(int)
    columns = slice(min(max(x0, 0), CHANGE_BLOCKS[0] - 1), max(x1, 1))
    return slice(min(max(y0, 0), CHANGE_BLOCKS[1] - 1), max(y1, 1)), columns


class FreezeFinder:
    """Finds the stretches of a film in which nothing moves: pictures that are equal, but for the noise of encoding.

    Args:
        height_over_width: of the picture.
        is_complete: whether it is given every picture, so that one that stays for long is frozen.
    """

    def __init__(self, height_over_width: float, *, is_complete: bool = True) -> None:
        self._height_over_width, self._is_complete = height_over_width, is_complete
        self._recent: deque[tuple[float, Grey]] = deque()
        self._changes: list[tuple[float, float, Grey]] = []
        self._gaps: list[tuple[float, float]] = []

    def add(self, time: float, picture: Grey) -> None:
        """Takes the next picture, grey, of CHANGE_PX, and its time in seconds."""
        recent = self._recent
        if self._is_complete and recent and time - recent[-1][0] >= FROZEN_SECONDS:
            self._gaps.append((recent[-1][0], time))
        while len(recent) > 1 and recent[1][0] <= time - STILL_SECONDS:
            recent.popleft()
        if recent and recent[0][0] <= time - STILL_SECONDS:
            self._changes.append((recent[0][0], time, change_between(recent[0][1], picture)))
        recent.append((time, picture))

    def stretches(self, boxes: Mapping[float, Boxes]) -> list[tuple[float, float]]:
        """Begin and end of each stretch of at least FROZEN_SECONDS, in order.

        Args:
            boxes: (4,) of the face by time, in units of the picture's height, each until the next; without any, the
                whole picture counts.
        """
        times, found = sorted(boxes), list(self._gaps)
        for begin, end, change in self._changes:
            region = change
            if times:
                box = boxes[times[max(bisect.bisect_right(times, end) - 1, 0)]]
                region = change[blocks_of(box, self._height_over_width)]
            if region.max() <= STILL_LEVELS:
                found.append((begin, end))
        joined: list[tuple[float, float]] = []
        for begin, end in sorted(found):
            if joined and begin - joined[-1][1] <= JOINED_SECONDS:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((begin, end))
        return [(begin, end) for begin, end in joined if end - begin >= FROZEN_SECONDS - 1e-6]
