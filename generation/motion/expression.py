"""Pose, expression and dense motion of a face, measured within one clip and without weights.

Everything is relative to the clip's own neutral crop: two people are never compared pixel by pixel, only their
movements are. Motion is dense inverse search optical flow (Kroeger et al. 2016, "Fast Optical Flow using Dense
Inverse Search") between crops of one person, which share skin, light and features, so it is reliable.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame, Grey, Landmarks
from generation.crops.templates import TEMPLATE

ANALYSIS_PX = 128  # side of the grey crops that are compared
FLOW_SMOOTHING_PX = 2.0
SMALLEST_BLINK = 0.5  # eye closure; in a clip with less the eyes are never shut
OPEN_ENOUGH = 0.15  # eye closure; eyes that are open for a neutral crop
SMALLEST_GAPE = 0.10  # growth of the dark between the lips; in a clip with less the mouth stays shut
USUAL_BROW_HEIGHT = 0.35
LID_HEIGHT = 0.05
EYE_REACH, EYE_HEIGHT = (0.20, 0.24), 0.08  # sideways and upwards; of the opening, in distances between the eyes
MOST_COMPARED_FRAMES = 512  # of either clip, for the choice of source frames
LARGEST_MOTION = 0.12  # of the crop's side; more is a mismatch
SMALLEST_GAP = 0.06  # see `mouth_gap`; in a clip with less lips hardly part
# Of a mouth, in its widths from its middle; shares of the skin's colour and lightness.
_GAP_COLUMNS, _GAP_ROWS = np.linspace(-0.75, 0.75, 51, dtype=np.float32), np.linspace(-0.35, 0.75, 45, dtype=np.float32)
_PALE, _DARK = 0.75, 0.45
_LIP_SHARE, _MORE_COLOUR = 0.75, 1.1

# Weights of the features in the comparison of two frames: what a viewer notices first weighs most.
FEATURES = ("yaw", "pitch", "mouth_opening", "mouth_width", "mouth_gap", "eye_closure")
GAP_WEIGHT = 1.5
FEATURE_WEIGHTS: Floats = np.array([12.0, 3.0, 40.0, 6.0, 1.5, 1.2], np.float32)


@dataclass(frozen=True)
class Neutral:
    """The crop that a clip's motion is measured from.

    Attributes:
        crop: RGB uint8 (ANALYSIS_PX, ANALYSIS_PX, 3).
        landmarks: float32 (5, 2) as shares of the crop's side.
        eye_contrast: float32 (2,), see `eye_contrast`, of open eyes.
    """

    crop: Frame
    landmarks: Landmarks
    eye_contrast: Floats

    @cached_property
    def grey(self) -> Grey:
        """Uint8 (ANALYSIS_PX, ANALYSIS_PX)."""
        return small_grey(self.crop)

    @property
    def brow_height(self) -> float:
        """Height above the eyes of the part of the face that can be exchanged, in distances from eyes to mouth.

        Up to the brows or, if a fringe hides them, the lids.
        """
        if are_brows_hidden(self.grey, self.landmarks):
            return LID_HEIGHT
        return brow_height(self.grey, self.landmarks)


def small_crop(crop: Frame, side_px: int = ANALYSIS_PX) -> Frame:
    """RGB uint8 (S, S, 3) -> RGB uint8 (side_px, side_px, 3)."""
    return np.asarray(cv2.resize(crop, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)


def small_grey(crop: Frame, side_px: int = ANALYSIS_PX) -> Grey:
    """RGB uint8 (S, S, 3) -> grey uint8 (side_px, side_px)."""
    return np.asarray(cv2.cvtColor(small_crop(crop, side_px), cv2.COLOR_RGB2GRAY), np.uint8)


def choose_neutral(crops: list[Frame], landmarks: Landmarks, gaps: Floats) -> Neutral:
    """The candidate with usual pose, open eyes and the mouth most closed.

    Args:
        crops: candidates from `small_crop`.
        landmarks: float32 (N, 5, 2) of the candidates, as shares of the crop's side.
        gaps: float32 (N,), from `mouth_gap`.
    """
    greys = [small_grey(crop) for crop in crops]
    shapes = landmarks.reshape(len(greys), -1)
    contrast = np.stack([eye_contrast(grey, points) for grey, points in zip(greys, landmarks, strict=True)])
    open_eyes = np.quantile(contrast, 0.8, axis=0).astype(np.float32)
    pose = np.abs(shapes - np.median(shapes, 0)).mean(1)
    closure = 1 - contrast.mean(1) / max(float(open_eyes.mean()), 1e-3)
    cost = 20 * pose + np.maximum(closure - OPEN_ENOUGH, 0) + GAP_WEIGHT * comparable_gaps(gaps)
    # Lips are compared by motion too, and that is measured from a first choice.
    first = int(cost.argmin())
    meter = MotionMeter(Neutral(crops[first], landmarks[first], open_eyes))
    measured = np.stack([meter.features(*known) for known in zip(greys, landmarks, contrast, strict=True)])
    opening = measured[:, FEATURES.index("mouth_opening")]
    opening = np.maximum(opening - np.quantile(opening, 0.15), 0)
    best = int((cost + 10 * opening).argmin())
    return Neutral(crops[best], landmarks[best], open_eyes)


def eye_contrast(grey: Grey, landmarks: Landmarks) -> Floats:
    """How much lightness changes sideways in each eye, as a share of its skin's: float32 (2,), falls as the lid closes.

    Iris and white differ wherever the eye looks, and of the edge between them as much is seen as the lids leave open;
    lashes and the lids themselves lie level.
    """
    gap = ANALYSIS_PX * float(landmarks[1, 0] - landmarks[0, 0])
    return np.array([_contrast(grey, eye * ANALYSIS_PX - 0.5, max(gap, 8.0)) for eye in landmarks[:2]], np.float32)


def _contrast(grey: Grey, eye: Floats, gap: float) -> float:
    """Of one eye; its place and the distance between both in px."""
    patch = _patch(grey, eye, (EYE_REACH[0] * gap, EYE_REACH[1] * gap))
    if min(patch.shape) < 2:
        return 0.0
    skin = _skin_level(patch)
    top = max(round(float(eye[1]) - EYE_REACH[1] * gap), 0)
    heights = ((top + np.arange(len(patch))) - eye[1]) / gap
    # The landmark may be off: the dark of iris and lashes says where the eye is.
    dark = np.maximum(1 - patch / skin - 0.15, 0).mean(1) + 1e-6
    level = 0.0
    for _ in range(3):
        near = dark * np.exp(-0.5 * np.square((heights - level) / EYE_HEIGHT))
        level = float((near * heights).sum() / near.sum())
    near = np.exp(-0.5 * np.square((heights - level) / EYE_HEIGHT))
    return float((np.abs(np.diff(patch, axis=1)).mean(1) * near).sum() / near.sum()) * gap / skin


def eye_darkness(grey: Grey, landmarks: Landmarks) -> Floats:
    """How much of each eye's opening is darker than the skin around it: float32 (2,), falls when the lid closes.

    It changes with gaze too: see `eye_contrast`.
    """
    return np.array([_darkness(grey, eye, (0.074, 0.043), 0.15) for eye in landmarks[:2]], np.float32)


def mouth_darkness(grey: Grey, landmarks: Landmarks) -> float:
    """How much between the mouth's corners is much darker than skin and lips; grows as the mouth opens."""
    gap = float(landmarks[4, 0] - landmarks[3, 0])
    below = landmarks[3:].mean(0) + np.array([0, 0.12 * gap], np.float32)
    return _darkness(grey, below, (0.42 * gap, 0.36 * gap), 0.35)


def _darkness(grey: Grey, centre: Floats, reach: tuple[float, float], tolerance: float) -> float:
    """Mean shortfall below the brightest fifth in a patch, as a share of it, beyond a tolerance."""
    patch = _patch(grey, centre * ANALYSIS_PX, (reach[0] * ANALYSIS_PX, reach[1] * ANALYSIS_PX))
    if not patch.size:
        return 0.0
    skin = _skin_level(patch)
    return float(np.maximum(1 - patch / skin - tolerance, 0).mean())


def _skin_level(patch: Floats) -> float:
    """The 0.8 quantile, at least 1; NumPy's own takes ten times as long for so few values."""
    at = 0.8 * (patch.size - 1)
    low = int(at)
    part = np.partition(patch, (low, min(low + 1, patch.size - 1)), axis=None)
    first, last = float(part[low]), float(part[min(low + 1, patch.size - 1)])
    share = at - low  # counted from the nearer one, as NumPy does
    level = first + share * (last - first) if share < 0.5 else last - (1 - share) * (last - first)
    return max(float(np.float32(level)), 1.0)


def _patch(grey: Grey, centre: Floats, reach: tuple[float, float]) -> Floats:
    """The pixels within a reach sideways and up and down, px."""
    (x, y), (width, height) = centre, reach
    rows = slice(max(round(float(y - height)), 0), round(float(y + height)) + 2)
    columns = slice(max(round(float(x - width)), 0), round(float(x + width)) + 1)
    return np.asarray(grey[rows, columns], np.float32)


def mouth_gap(crop: Frame, landmarks: Floats) -> float:
    """How much of the mouth is paler, as teeth are, or darker than lips and skin: 0 to 1, grows as lips part.

    Args:
        crop: RGB uint8 (S, S, 3).
        landmarks: float32 (5, 2), shares of the side.
    """
    left, right = landmarks[3:]
    across = right - left
    down = np.array([-across[1], across[0]], np.float32)
    places = (left + right) / 2 + _GAP_COLUMNS[None, :, None] * across + _GAP_ROWS[:, None, None] * down
    at = np.asarray(places * len(crop) - 0.5, np.float32)
    seen = cv2.remap(crop, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    # uint8 [0, 255] -> float32 [0, 1]
    lab = cv2.GaussianBlur(cv2.cvtColor(seen.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), (0, 0), 1)
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    beside, within = np.abs(_GAP_COLUMNS) > 0.52, np.abs(_GAP_COLUMNS) <= 0.30
    about = np.abs(_GAP_ROWS) < 0.2
    light, colour = (max(float(np.median(part[about][:, beside])), 4.0) for part in (lab[..., 0], chroma))
    # Teeth may have as much colour as the skin where lips have more.
    lips = float(np.quantile(chroma[_GAP_ROWS > 0][:, within], 0.9))
    colour = np.clip(_LIP_SHARE * lips, colour, _MORE_COLOUR * colour)
    pale = np.clip((_PALE + 0.1 - chroma / colour) / 0.2, 0, 1)
    dark = np.clip((_DARK + 0.1 - lab[..., 0] / light) / 0.2, 0, 1)
    near = np.exp(-0.5 * np.square((_GAP_ROWS - 0.12) / 0.25))[:, None]
    return float((np.maximum(pale, dark) * near)[:, within].mean())


def brow_height(grey: Grey, landmarks: Landmarks) -> float:
    """How far the brows' middle lies above the eyes, in distances from eyes to mouth; about 0.35."""
    eyes, mouth = float(landmarks[:2, 1].mean()), float(landmarks[3:, 1].mean())
    length, gap = mouth - eyes, float(landmarks[1, 0] - landmarks[0, 0])
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0).astype(np.float32)
    # A brow is a dark stripe: darker than what lies a little above and below it.
    reach = max(round(0.14 * length * ANALYSIS_PX), 2)
    stripe = np.minimum(np.roll(smooth, reach, 0), np.roll(smooth, -reach, 0)) - smooth
    low, high = (round((eyes - share * length) * ANALYSIS_PX) for share in (0.24, 0.52))
    if high < reach or low - high < 3:
        return USUAL_BROW_HEIGHT
    found = []
    for x in landmarks[:2, 0]:
        columns = slice(max(round((x - 0.2 * gap) * ANALYSIS_PX), 0), round((x + 0.2 * gap) * ANALYSIS_PX))
        profile = stripe[high : low + 1, columns].mean(1)
        found.append(eyes - (high + int(profile.argmax())) / ANALYSIS_PX if profile.max() > 3 else np.nan)
    mean = float(np.nanmean(found)) / length if np.isfinite(found).any() else USUAL_BROW_HEIGHT
    return float(np.clip(mean, 0.28, 0.48))


def are_brows_hidden(grey: Grey, landmarks: Landmarks) -> bool:
    """Whether hair hangs between the brows: it is darker or more streaked than the cheeks."""
    eyes, mouth = float(landmarks[:2, 1].mean()), float(landmarks[3:, 1].mean())
    length, middle, gap = mouth - eyes, float(landmarks[:2, 0].mean()), float(landmarks[1, 0] - landmarks[0, 0])
    between = _box(grey, middle, 0.14 * gap, eyes - 0.5 * length, eyes - 0.2 * length)
    cheeks = _box(grey, middle, 0.6 * gap, eyes + 0.3 * length, eyes + 0.75 * length)
    if between.size < 12 or cheeks.size < 12:
        return False
    skin = max(float(np.median(cheeks)), 1.0)
    return float(np.median(between)) < 0.7 * skin or float(np.abs(np.diff(between, axis=1)).mean()) > 0.045 * skin


def _box(grey: Grey, middle: float, half_width: float, top: float, bottom: float) -> Floats:
    rows = slice(*(max(round(value * ANALYSIS_PX), 0) for value in (top, bottom)))
    columns = slice(max(round((middle - half_width) * ANALYSIS_PX), 0), round((middle + half_width) * ANALYSIS_PX) + 1)
    return np.asarray(grey[rows, columns], np.float32)


class MotionMeter:
    """Measures crops against their clip's neutral crop. Holds OpenCV's flow object, nothing else."""

    def __init__(self, neutral: Neutral) -> None:
        self.neutral = neutral
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def from_neutral(self, grey: Grey) -> Floats:
        """Where each point of the neutral crop went: float32 (ANALYSIS_PX, ANALYSIS_PX, 2), as shares of the side."""
        return self._measure(self.neutral.grey, grey)

    def to_neutral(self, grey: Grey) -> Floats:
        """Where each point of the crop comes from in the neutral crop; shape and unit as `from_neutral`."""
        return self._measure(grey, self.neutral.grey)

    def features(self, grey: Grey, landmarks: Landmarks, contrast: Floats | None = None) -> Floats:
        """Pose and expression: float32 (len(FEATURES),), shares of the crop's side, closure and gap without unit.

        Args:
            grey: uint8 (ANALYSIS_PX, ANALYSIS_PX).
            landmarks: (5, 2), shares of the side.
            contrast: its `eye_contrast`, where that is known.
        """
        if contrast is None:
            contrast = eye_contrast(grey, landmarks)
        flow = self.from_neutral(grey)
        still, here = self.neutral.landmarks, landmarks
        mouth = still[3:].mean(0)
        gap = float(np.linalg.norm(still[4] - still[3]))
        upper = _mean_flow(flow, mouth, -0.25 * gap, 0.25 * gap)
        lower = _mean_flow(flow, mouth, 0.40 * gap, 0.30 * gap)
        width = float(np.linalg.norm(here[4] - here[3])) - gap
        closure = 1 - contrast.mean() / max(float(self.neutral.eye_contrast.mean()), 1e-3)
        dark = mouth_darkness(grey, landmarks)
        values = [_yaw(here), _pitch(here) - _pitch(still), lower[1] - upper[1], width, dark, closure]
        return np.array(values, np.float32)

    def _measure(self, first: Grey, second: Grey) -> Floats:
        flow = self._flow.calc(first, second, np.zeros((ANALYSIS_PX, ANALYSIS_PX, 2), np.float32))
        flow = cv2.GaussianBlur(flow, (0, 0), FLOW_SMOOTHING_PX) / ANALYSIS_PX
        return np.asarray(np.clip(flow, -LARGEST_MOTION, LARGEST_MOTION), np.float32)


def _mean_flow(flow: Floats, centre: Floats, below: float, radius: float) -> Floats:
    x, y = np.clip((centre[0], centre[1] + below), 0, 1) * (ANALYSIS_PX - 1)
    reach = max(radius * ANALYSIS_PX, 2)
    rows = slice(max(round(y - reach / 2), 0), round(y + reach / 2) + 1)
    columns = slice(max(round(x - reach), 0), round(x + reach) + 1)
    return np.asarray(flow[rows, columns].reshape(-1, 2).mean(0), np.float32)


def _yaw(landmarks: Landmarks) -> float:
    """Sideways distance of the nose from the middle of eyes and mouth, as a share of the side; 0 is frontal."""
    return float(landmarks[2, 0] - 0.5 * (landmarks[:2, 0].mean() + landmarks[3:, 0].mean()))


def _pitch(landmarks: Landmarks) -> float:
    """Height of the nose between eyes (0) and mouth (1)."""
    eyes, mouth = float(landmarks[:2, 1].mean()), float(landmarks[3:, 1].mean())
    return (float(landmarks[2, 1]) - eyes) / max(mouth - eyes, 1e-3)


def comparable(features: Floats) -> Floats:
    """Makes the features (T, F) of two clips comparable: each clip's closed mouth, open eyes and usual pitch are 0.

    A full blink and a mouth wide open are 1 in every clip, however large eyes and mouth are.
    """
    result = features.copy()
    pitch, opening, width, gape, closure = (FEATURES.index(name) for name in FEATURES[1:])
    result[:, pitch] -= np.median(features[:, pitch])
    result[:, width] -= np.median(features[:, width])
    result[:, opening] -= np.quantile(features[:, opening], 0.1)
    dark = features[:, gape] - np.quantile(features[:, gape], 0.1)
    result[:, gape] = dark / max(float(dark.max()), SMALLEST_GAPE)
    closed = features[:, closure] - np.quantile(features[:, closure], 0.25)
    result[:, closure] = closed / max(float(closed.max()), SMALLEST_BLINK)
    return result


def comparable_gaps(gaps: Floats) -> Floats:
    """Gaps (T,) of one clip, from `mouth_gap`: its closed mouth is 0, its most open one 1."""
    opened = gaps - np.quantile(gaps, 0.1)
    return np.asarray(opened / max(float(opened.max()), SMALLEST_GAP), np.float32)


def _distances(target: Floats, source: Floats) -> Floats:
    """Difference in pose and expression of every pair: float32 (T, K)."""
    return np.asarray(np.abs((target[:, None] - source[None]) * FEATURE_WEIGHTS).sum(-1), np.float32)


def choose_frames(target: Floats, source: Floats, most: int) -> list[int]:
    """Numbers of the source frames that together come nearest to all frames of the target.

    Greedy: each next frame is the one that lowers the summed distance most, until none lowers it enough.

    Args:
        target, source: features (T, F).
        most: upper bound of how many are chosen.
    """
    compared = np.unique(np.linspace(0, len(target) - 1, MOST_COMPARED_FRAMES).round().astype(int))
    offered = np.unique(np.linspace(0, len(source) - 1, MOST_COMPARED_FRAMES).round().astype(int))
    distances = _distances(target[compared], source[offered])
    chosen = [int(distances.sum(0).argmin())]
    best = distances[:, chosen[0]]
    while len(chosen) < min(most, len(offered)):
        totals = np.minimum(best[:, None], distances).sum(0)
        candidate = int(totals.argmin())
        if float(best.sum() - totals[candidate]) < 0.005 * len(compared) ** 0.5:
            break
        chosen.append(candidate)
        best = np.minimum(best, distances[:, candidate])
    return sorted(int(offered[number]) for number in chosen)


def choose_sequence(target: Floats, source: Floats, switch_cost: float) -> NDArray[np.intp]:
    """Number of the source frame for each target frame: near, with few switches (Viterbi).

    Args:
        target, source: features (T, F) and (K, F).
        switch_cost: of a change of frame, in the units of their distance.
    """
    distances = _distances(target, source)
    cost = distances[0].copy()
    came_from = np.zeros(distances.shape, np.intp)
    for at in range(1, len(distances)):
        cheapest = int(cost.argmin())
        stay = cost <= cost[cheapest] + switch_cost
        came_from[at] = np.where(stay, np.arange(len(cost)), cheapest)
        cost = np.where(stay, cost, cost[cheapest] + switch_cost) + distances[at]
    choice = np.zeros(len(distances), np.intp)
    choice[-1] = cost.argmin()
    for at in range(len(distances) - 1, 0, -1):
        choice[at - 1] = came_from[at, choice[at]]
    return choice


def displacement(points: Landmarks, targets: Landmarks, grid: Floats) -> Floats:
    """A smooth field that carries points (5, 2) exactly to their targets.

    An affine map in least squares, plus Gaussian bumps around the points for the rest. The affine map is drawn towards
    a shift, by the spread of the template, since five points determine it poorly.

    Args:
        points, targets: shares of the crop's side.
        grid: float32 (G, G, 2), points at which the field is evaluated.

    Returns:
        float32 (G, G, 2): add it to the grid.
    """
    centre = points.mean(0)
    basis = points - centre
    offset = (targets - points).astype(np.float64)
    ridge = 0.15 * float(np.square(TEMPLATE - TEMPLATE.mean(0)).sum() / 2)
    linear = np.linalg.solve(basis.T @ basis + ridge * np.eye(2), basis.T @ (offset - offset.mean(0)))
    left = offset - offset.mean(0) - basis @ linear
    bumps = np.linalg.solve(_bump(points, points) + 1e-3 * np.eye(5), left)
    field = offset.mean(0) + (grid - centre) @ linear + _bump(grid, points) @ bumps
    return np.asarray(field, np.float32)


def _bump(grid: Floats, points: Landmarks) -> NDArray[np.float64]:
    """Gaussian of the distance between a grid (..., 2) and points (5, 2): (..., 5)."""
    across, down = (grid[..., axis, None].astype(np.float64) - points[:, axis] for axis in (0, 1))
    return np.asarray(np.exp(-(across * across + down * down) / (2 * 0.2**2)))
