"""One crop of a face without expression, and how it takes on another's: what moves, what parts, what closes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from generation.arrays import Floats, Frame
from generation.crops import blending
from generation.generators.weightfree.driving.driving_clip import DrivingClip, DrivingFrame
from generation.generators.weightfree.driving.eyelids import SMALLEST_CLOSURE, Eyes, draw_lid, lid_of, raised
from generation.generators.weightfree.driving.mouth import COLUMNS, Seam, logistic
from generation.motion.expression import MotionMeter, Neutral, displacement, small_crop
from generation.motion.fields import GRID, pixels, sample_at, sample_sharp
from generation.motion.rigid import face_area
from generation.smoothing import smoothstep

LIP_EDGE_PX = 0.8
SMALLEST_GAP_PX = 1.0  # between the lips; from three times that what lies between them is seen in full
LIP_SHADOW, LIP_SHADOW_REACH = 0.35, 0.02  # share of the light, share of the crop's side
CORNER_SHADOW = 0.45  # of the light, at the mouth's corners
BRIGHTEST_TEETH = 1.1  # as a multiple of the skin's light; they lie behind the lips
MOUTH_REACH = 0.85  # of the box in which lips part, in distances between the mouth's corners
_NO_SKIN: Floats = np.zeros((1, 1), np.float32)


@dataclass(frozen=True)
class TargetKeyFrame:
    """One crop of the target without expression.

    Attributes:
        crop: RGB uint8 (S, S, 3).
        landmarks: float32 (5, 2), shares of the side.
        meter: measures from and to this crop.
        seam, eyes: where lips and lids meet.
        moved: float32 (GRID_PX, GRID_PX), 1 where the source's motion moves it, 0 outside the face.
        to_source: float32 (GRID_PX, GRID_PX, 2), the place of the source's neutral crop for each place of this one.
        mouth_ratio: width of the source's mouth, as a multiple of this one's.
    """

    crop: Frame
    landmarks: Floats
    meter: MotionMeter
    seam: Seam
    eyes: Eyes
    moved: Floats
    to_source: Floats
    mouth_ratio: float

    @classmethod
    def of(cls, crop: Frame, landmarks: Floats, neutral: Neutral, driving: DrivingClip) -> Self:
        """Takes a crop for a key frame.

        Args:
            crop: RGB uint8 (S, S, 3) of the target, mouth closed and eyes open.
            landmarks: float32 (5, 2), shares of the side.
            neutral: of the target.
            driving: the source.
        """
        still = Neutral(small_crop(crop), landmarks, neutral.eye_contrast)
        seam = Seam.find(still.grey, landmarks).below_teeth(crop)
        return cls(
            crop=crop,
            landmarks=landmarks,
            meter=MotionMeter(still),
            seam=seam,
            eyes=Eyes.find(crop, landmarks),
            moved=face_area(landmarks, neutral.brow_height, 0.86, 1.12),
            to_source=GRID + displacement(landmarks, driving.neutral.landmarks, GRID),
            mouth_ratio=driving.seam.half_width / seam.half_width,
        )


@dataclass(frozen=True)
class KeyPlaces:
    """Where in a key frame each grid place of the result is seen: (GRID_PX, GRID_PX, 2), for the whole and each lip."""

    whole: Floats
    above: Floats
    below: Floats


def animate(
    key: TargetKeyFrame, places: KeyPlaces, landmarks: Floats, driving: DrivingFrame, closures: Floats
) -> Frame:
    """The key frame where the target's head is, with the source's expression.

    Args:
        key: of the target.
        places: where its pixels are seen.
        landmarks: float32 (5, 2), of the target at this time, as shares of the side.
        driving: the source's frame.
        closures: (2,), of the source's lids, 0 to 1; below 0 they are opened wider, by this share of the opening.

    Returns:
        RGB uint8 (S, S, 3).
    """
    whole = _full(places.whole, len(key.crop))
    result = _seen(key.crop, whole)
    _move_lids(result, key, whole, landmarks, closures)
    _part_lips(result, key, places, landmarks, driving)
    return result


def _full(places: Floats, side: int) -> Floats:
    """Grid places -> places of every pixel, shares of the side: float32 (S, S, 2)."""
    return np.asarray(blending.enlarge(places - GRID, side) + (pixels(side) + np.float32(0.5)) / side, np.float32)


def _seen(crop: Frame, places: Floats) -> Frame:
    return sample_sharp(crop, np.asarray(places * len(crop) - 0.5, np.float32))


def _move_lids(result: Frame, key: TargetKeyFrame, whole: Floats, landmarks: Floats, closures: Floats) -> None:
    side = len(result)
    for at, eye in enumerate((key.eyes.left, key.eyes.right)):
        closure = float(closures[at])
        if abs(closure) <= SMALLEST_CLOSURE:
            continue
        low, high = eye.box + landmarks[at] - key.landmarks[at]
        box = _box(low - 0.02, high + 0.02, side)
        if closure < 0:
            result[box] = _seen(key.crop, raised(eye, whole[box], -closure))
            continue
        result[box] = draw_lid(key.crop, result[box], eye, lid_of(eye, whole[box], closure, side))


def _part_lips(result: Frame, key: TargetKeyFrame, places: KeyPlaces, landmarks: Floats, driving: DrivingFrame) -> None:
    side = len(result)
    gap = float(landmarks[4, 0] - landmarks[3, 0])
    middle = landmarks[3:].mean(0) + np.array([0, 0.2 * gap], np.float32)
    box = _box(middle - MOUTH_REACH * gap, middle + MOUTH_REACH * gap, side)
    above, below = (_full(part, side)[box] for part in (places.above, places.below))
    (along_above, past_above), (along_below, past_below) = key.seam.local(above), key.seam.local(below)
    # Lips that are pressed together meet half way.
    share = logistic(-(past_above + past_below) * side / LIP_EDGE_PX)[..., None]
    lips = share * _seen(key.crop, above) + (1 - share) * _seen(key.crop, below)
    opening = np.maximum(past_above - past_below, 0)
    seen = np.clip((opening * side / SMALLEST_GAP_PX - 1) / 2, 0, 1)
    seen *= logistic(past_above * side / LIP_EDGE_PX) * logistic(-past_below * side / LIP_EDGE_PX)
    if seen.max() > 0:
        inside = _between_lips(key, driving, np.asarray((along_above + along_below) / 2), past_above)
        skin = float(sample_at(blending.shrink_to_grid(key.crop), _beside_mouth(key.landmarks)).mean())
        inside = np.float32(255) * dimmed(inside, seen, BRIGHTEST_TEETH * skin)
        lips += seen[..., None] * (inside - lips)
    lips = np.where(key.seam.parting(above)[..., None] > 0, lips, result[box])
    # float32 [0, 255] -> uint8
    result[box] = np.clip(np.rint(lips), 0, 255).astype(np.uint8)


def _between_lips(key: TargetKeyFrame, driving: DrivingFrame, along: Floats, depth: Floats) -> Floats:
    """What is seen between the source's lips, in the target's light: float32 [0, 1] (h, w, 3)."""
    upper, lower = (
        np.stack([np.interp(along, COLUMNS, edge[:, axis]) for axis in (0, 1)], -1)
        for edge in (driving.upper_edge, driving.lower_edge)
    )
    # Teeth keep their size; from the tongue on it is what is nearest to the lower lip.
    room = np.linalg.norm(lower - upper, axis=-1)
    share = np.clip(key.mouth_ratio * depth / np.maximum(room, 1e-5), 0, 1)[..., None]
    # uint8 [0, 255] -> float32 [0, 1]
    inside = np.asarray(_seen(driving.crop, np.asarray(upper + share * (lower - upper))) / np.float32(255), np.float32)
    # Lips cast their shadow on what lies behind them.
    shade = 1 - LIP_SHADOW * np.exp(-np.maximum(depth, 0) / LIP_SHADOW_REACH)
    shade = shade * (1 - CORNER_SHADOW * smoothstep(0.35, 1, np.abs(along)))
    inside = np.asarray(inside * shade[..., None], np.float32)
    here, requested = (
        sample_at(blending.shrink_to_grid(crop), _beside_mouth(points)).mean(0)[None, None]
        for crop, points in ((driving.crop, driving.landmarks), (key.crop, key.landmarks))
    )
    change = blending.light_change(here, requested, _NO_SKIN)
    return blending.apply_odds(inside, np.asarray(np.exp(change), np.float32))


def dimmed(inside: Floats, seen: Floats, lightest: float) -> Floats:
    """As dark as its light parts must be to be no lighter than a limit, with its contrast: float32 [0, 1] (h, w, 3).

    Args:
        inside: RGB float32 [0, 1] (h, w, 3).
        seen: (h, w), above 0 where it is seen.
        lightest: mean of the channels, 0 to 1.
    """
    light = float(np.quantile(inside[seen > 0].mean(-1), 0.9))
    return inside * np.float32(min(lightest / max(light, 1e-3), 1))


def _beside_mouth(landmarks: Floats) -> Floats:
    """Places of skin about the mouth: beside the corners and on the chin, (3, 2)."""
    left, right = landmarks[3:]
    gap = right - left
    down = np.array([-gap[1], gap[0]], np.float32)
    return np.stack([left - 0.25 * gap, right + 0.25 * gap, (left + right) / 2 + 0.6 * down])


def _box(low: Floats, high: Floats, side: int) -> tuple[slice, slice]:
    left, top = np.clip(np.floor(low * side), 0, side).astype(int)
    right, bottom = np.clip(np.ceil(high * side), 0, side).astype(int)
    return slice(top, bottom), slice(left, right)
