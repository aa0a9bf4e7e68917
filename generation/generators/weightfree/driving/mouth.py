"""Opening a mouth: lips that part along their seam, and what is seen between them.

A motion field that is smooth everywhere cannot part two lips. So it is split along the seam into the motion of what
lies above and of what lies below, each carried on smoothly; they are one again beyond the corners.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame
from generation.motion.fields import GRID, sample_at
from generation.motion.rigid import InsideMean

AnyFloats = NDArray[np.floating[Any]]

COLUMNS: Floats = np.linspace(-1, 1, 33, dtype=np.float32)  # along the seam, from corner to corner
LIP_SMOOTHING, SKIN_SMOOTHING = 1.6, 5.0  # places of the grid
# In distances between the mouth's corners.
_PATCH_HALF_WIDTH = 0.30
_UPPER_PATCH, _LOWER_PATCH = (0.20, 0.14), (0.30, 0.20)  # middle from the seam, half height
_UPPER_SEARCH, _LOWER_SEARCH = (0.10, 0.15, 0.10), (0.12, 0.12, 0.50)  # sideways, up, down
_MIXED = 0.30  # in distances from the mouth's middle to its corners, beside the seam
_BESIDE_SEAM = 0.06
_OFFSETS, _DEPTHS = np.linspace(-0.08, 0.08, 9), np.linspace(-0.10, 0.18, 15)
_TEETH_REACH, _TEETH_CHROMA = 0.40, 0.6  # how far down teeth are looked for; their colour, as a share of lips'
_TEETH_BLUR = 0.005  # of the crop's side


@dataclass(frozen=True)
class Seam:
    """The line between the lips of a crop: a parabola through, or a little above or below, the mouth's corners.

    Attributes:
        middle: float32 (2,), between the corners, as shares of the crop's side.
        along: float32 (2,), unit vector from the left corner to the right one.
        half_width: between middle and corner, as a share of the side.
        offset, depth: how far the line lies below the corners, at them and how much more in the middle; shares.
    """

    middle: Floats
    along: Floats
    half_width: float
    offset: float
    depth: float

    @classmethod
    def find(cls, grey: NDArray[np.uint8], landmarks: Floats) -> Self:
        """The darkest such line near the corners' landmarks, darker than the lips on both of its sides.

        Args:
            grey: uint8 (S, S).
            landmarks: float32 (5, 2) as shares of the side.
        """
        left, right = landmarks[3:]
        width = float(np.linalg.norm(right - left))
        middle, along = (left + right) / 2, np.asarray((right - left) / width, np.float32)
        smooth = cv2.GaussianBlur(grey, (0, 0), 0.8).astype(np.float32)
        best, found = -np.inf, (0.0, 0.0)
        for offset in _OFFSETS:
            for depth in _DEPTHS:
                seam = cls(middle, along, width / 2, offset * width, depth * width)
                line = seam.points(COLUMNS[4:-4])
                beside = _BESIDE_SEAM * width * seam.down
                here, above, below = (sample_at(smooth, line + shift).mean() for shift in (0 * beside, -beside, beside))
                # Level lines through the corners are the most usual.
                usual = (offset / 0.04) ** 2 + ((depth - 0.03) / 0.08) ** 2
                score = float(0.5 * (above + below) - 2 * here) - 2 * usual
                if score > best:
                    best, found = score, (offset * width, depth * width)
        return cls(middle, along, width / 2, *found)

    def below_teeth(self, crop: Frame) -> Seam:
        """The upper edge of the lower lip, where this crop's mouth is open; else the same line.

        Teeth belong to the head, not to the jaw, and so to what lies above. They and the dark have less colour than the
        lip below them, which has at least that of skin.

        Args:
            crop: RGB uint8 (S, S, 3).
        """
        soft = cv2.GaussianBlur(crop, (0, 0), _TEETH_BLUR * len(crop))
        lab = cv2.cvtColor(soft, cv2.COLOR_RGB2LAB).astype(np.float32)
        chroma = np.hypot(lab[..., 1] - 128, lab[..., 2] - 128)
        steps = np.linspace(0, _TEETH_REACH, 41, dtype=np.float32) * 2 * self.half_width
        middle = self.points(np.linspace(-0.3, 0.3, 9, dtype=np.float32))
        profile = np.median([sample_at(chroma, middle + step * self.down) for step in steps], axis=1)
        skin = float(np.median(sample_at(chroma, self.points(np.array([-1.5, 1.5], np.float32)))))
        is_pale = profile < _TEETH_CHROMA * max(skin, float(profile.max()))
        pale = np.flatnonzero(is_pale)
        if len(pale) < 4 or pale[0] > 14:
            return self
        last = pale[0] + int(np.argmin(np.append(is_pale[pale[0] :], False))) - 1
        return replace(self, depth=self.depth + float(steps[last]))

    @property
    def down(self) -> Floats:
        """Unit vector (2,) from the upper lip to the lower one."""
        return np.array([-self.along[1], self.along[0]], np.float32)

    def points(self, columns: Floats) -> Floats:
        """Points (N, 2) of the line, for columns from -1 to 1."""
        height = self.offset + self.depth * (1 - np.square(columns))
        across = columns[:, None] * self.half_width * self.along
        return np.asarray(self.middle + across + height[:, None] * self.down, np.float32)

    def local(self, places: Floats) -> tuple[Floats, Floats]:
        """Places (..., 2) along the seam (-1 and 1 are the corners) and below it (shares of the side)."""
        from_middle = places - self.middle
        along = from_middle @ self.along / self.half_width
        line = self.offset + self.depth * np.maximum(1 - np.square(along), 0)
        return np.asarray(along, np.float32), np.asarray(from_middle @ self.down - line, np.float32)

    def parting(self, places: Floats) -> Floats:
        """How freely upper and lower lip part: 1 in the middle, 0 beyond the corners; (...)."""
        along, _ = self.local(places)
        return np.asarray(np.sqrt(np.maximum(1 - np.square(along), 0)), np.float32)


@dataclass(frozen=True)
class SplitMotion:
    """Motion of the whole (outside the mouth), of what is above and of what is below the seam: (G, G, 2) each."""

    whole: Floats
    above: Floats
    below: Floats

    @property
    def parts(self) -> tuple[Floats, Floats, Floats]:
        """Whole, above, below."""
        return self.whole, self.above, self.below


class MotionSplitter:
    """Splits motion fields on one crop along its seam.

    Args:
        seam: between the lips.
        trusted: float32 (GRID_PX, GRID_PX), where motion is known.
    """

    def __init__(self, seam: Seam, trusted: Floats) -> None:
        along, under = seam.local(GRID)
        # Flow near the seam is a mixture of both lips'.
        near = np.clip(2.2 - 1.2 * np.abs(along), 0, 1)
        lower = logistic((under / seam.half_width - _MIXED * near) / 0.06)
        upper = logistic((-under / seam.half_width - _MIXED * near) / 0.06)
        outside = logistic((np.abs(along) - 1.25) / 0.06)
        self._lips = logistic((2.2 - np.hypot(along, under / seam.half_width)) / 0.2)[..., None]
        self._means = [
            [InsideMean(trusted * np.maximum(side, outside), sigma) for sigma in (LIP_SMOOTHING, SKIN_SMOOTHING)]
            for side in (upper, lower)
        ]
        self._share = _share_below(seam)

    def __call__(self, motion: Floats) -> SplitMotion:
        """A motion field float32 (GRID_PX, GRID_PX, 2) on the crop that the seam belongs to, split."""
        above, below = (self._lips * lip(motion) + (1 - self._lips) * skin(motion) for lip, skin in self._means)
        return SplitMotion(_joined(above, below, self._share), above, below)


def _share_below(seam: Seam) -> Floats:
    """1 below the seam, 0 above it, smooth between: (GRID_PX, GRID_PX, 1)."""
    _, under = seam.local(GRID)
    return logistic(under / (0.10 * seam.half_width))[..., None]


def _joined(above: Floats, below: Floats, share: Floats) -> Floats:
    """One field of both, smooth across the seam; `share` is that of `_share_below`."""
    return np.asarray(share * below + (1 - share) * above, np.float32)


def logistic(values: AnyFloats) -> Floats:
    """1 / (1 + exp(-values)), without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))), np.float32)


class LipMatcher:
    """Finds the neutral crop's lips again in other crops of the same person, however far the jaw has dropped.

    Flow loses lips that move by more than their own height; correlation of a patch (Lewis 1995, "Fast normalized
    cross-correlation") does not.
    """

    def __init__(self, grey: NDArray[np.uint8], seam: Seam) -> None:
        self.seam, self._side = seam, len(grey)
        self._patches, self._share = [], _share_below(seam)
        along, under = seam.local(GRID)
        for sign, (centre, half_height), search in (
            (-1, _UPPER_PATCH, _UPPER_SEARCH),
            (1, _LOWER_PATCH, _LOWER_SEARCH),
        ):
            width = 2 * seam.half_width
            middle = seam.points(np.zeros(1, np.float32))[0] + sign * centre * width * seam.down
            half = np.array([_PATCH_HALF_WIDTH, half_height]) * width
            low, high = (np.rint((middle + side * half) * self._side).astype(int) for side in (-1, 1))
            patch = grey[max(low[1], 0) : high[1], max(low[0], 0) : high[0]].copy()
            reach = np.rint(np.array(search) * width * self._side).astype(int)
            low = np.maximum(low, 0)
            # The parabola through three scores is a little lopsided, as the patch itself is.
            at, _ = _match(grey, patch, low, reach)
            self._patches.append((low, patch, reach, at - low))
        self._jaw = _jaw(along, under / seam.half_width)
        self._lip = _lip(along, under / seam.half_width)

    def opening(self, grey: NDArray[np.uint8], shift: Floats) -> tuple[float, float]:
        """How far the lips part more than in the neutral crop, a share of the side; and how sure that is, 0 to 1.

        Args:
            grey: uint8 (S, S).
            shift: (2,), of the mouth's middle from where it is in the neutral crop; shares of the side.
        """
        moved, trusts = [], []
        for low, patch, reach, lopsided in self._patches:
            found, trust = _match(grey, patch, low + shift * self._side, reach)
            moved.append((found - lopsided - low) / self._side)
            trusts.append(trust)
        return float((moved[1] - moved[0]) @ self.seam.down), min(trusts)

    def correct(self, motion: SplitMotion, head: Floats, grey: NDArray[np.uint8]) -> SplitMotion:
        """Adds what flow missed of both lips' movement.

        Args:
            motion: of the face without its head, from `MotionSplitter`.
            head: float32 (GRID_PX, GRID_PX, 2), the head's motion.
            grey: uint8 (S, S), the crop that the motion leads to.
        """
        parts = []
        for part, spread, (low, patch, reach, lopsided) in zip(
            (motion.above, motion.below), (self._lip, self._jaw), self._patches, strict=True
        ):
            middle = np.asarray((low + np.array(patch.shape[::-1]) / 2) / self._side, np.float32)
            expected = sample_at(head, middle[None])[0]
            found, trust = _match(grey, patch, low + expected * self._side, reach)
            missed = (found - lopsided - low) / self._side - expected - sample_at(part, middle[None])[0]
            parts.append(np.asarray(part + trust * spread[..., None] * missed, np.float32))
        above, below = parts
        return SplitMotion(_joined(above, below, self._share), above, below)

    def shut(self, motion: SplitMotion, limit: float) -> SplitMotion:
        """The same movement with lips that part by no more than a limit; a share of the side."""
        middle = self.seam.points(np.zeros(1, np.float32))
        parted = (sample_at(motion.below, middle) - sample_at(motion.above, middle))[0]
        more = max(float(parted @ self.seam.down) - limit, 0) * self.seam.down
        below = np.asarray(motion.below - self._jaw[..., None] * more, np.float32)
        return SplitMotion(_joined(motion.above, below, self._share), motion.above, below)


def _match(
    grey: NDArray[np.uint8], patch: NDArray[np.uint8], near: Floats, reach: NDArray[np.intp]
) -> tuple[Floats, float]:
    """Upper left corner, in px with fractions, of where a patch is seen again, and how sure that is, 0 to 1.

    Args:
        grey: uint8 (S, S).
        patch: uint8 (h, w).
        near: (2,), where it is expected, px.
        reach: how far to look sideways, upwards and downwards, px.
    """
    height, width = patch.shape
    start = np.rint(near).astype(int)
    left, right = max(start[0] - reach[0], 0), min(start[0] + reach[0], len(grey) - width)
    top, bottom = max(start[1] - reach[1], 0), min(start[1] + reach[2], len(grey) - height)
    if height < 4 or width < 4 or right <= left or bottom <= top or patch.std() < 1:
        return near, 0.0
    found = cv2.matchTemplate(grey[top : bottom + height, left : right + width], patch, cv2.TM_CCOEFF_NORMED)
    scores = np.asarray(found, np.float32)
    y, x = np.unravel_index(int(scores.argmax()), scores.shape)
    at = np.array([left + x + _peak(scores[y], int(x)), top + y + _peak(scores[:, x], int(y))], np.float32)
    return at, float(np.clip((scores[y, x] - 0.55) / 0.25, 0, 1))


def _peak(scores: AnyFloats, at: int) -> float:
    """Where between three scores their parabola is highest, from the middle one."""
    if not 0 < at < len(scores) - 1:
        return 0.0
    before, here, after = (float(value) for value in scores[at - 1 : at + 2])
    return float(np.clip(0.5 * (before - after) / min(before - 2 * here + after, -1e-6), -0.5, 0.5))


def _jaw(along: Floats, under: Floats) -> Floats:
    """How far each place moves with the lower lip: 1 on it and on the chin, less beside them, 0 in the cheeks."""
    width = 1.05 + 1.3 * np.clip(under / 1.2, 0, 1)
    return np.asarray(np.maximum(1 - np.square(along / width), 0) ** 0.7, np.float32)


def _lip(along: Floats, under: Floats) -> Floats:
    """How far each place moves with the upper lip: 1 on it, 0 under the nose."""
    height = np.clip(1 + under / 0.9, 0, 1)
    return np.asarray(
        np.maximum(1 - np.square(along / 1.05), 0) ** 0.7 * height * height * (3 - 2 * height), np.float32
    )
