"""Areas and light of aligned crops, without weights: which pixels of a face are replaced, and in whose light.

All functions work on small grids over the crop (GRID_PX a side) and return smooth values, which are then scaled up.
Landmarks are shares of the crop's side.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import FloatImage, Floats, Frame, Grey, Landmarks
from generation.smoothing import smoothstep

GRID_PX = 64
OUTLINE_SOFTNESS = 0.030  # standard deviation of the mask's edge, as a share of the side
LIGHT_SCALE = 0.085  # details larger than this share of the side are light, smaller ones are the face
LARGEST_ODDS = 8.0
DARKENING = (1.1, 1.7)  # logarithms of the odds, negative: from where colours are multiplied, and wholly
HUE_OF_OTHERS = 0.25  # of the skin's change of hue
_THIN = np.ones((5, 5), np.uint8)

# The outline, down one side: how far beyond the eye or mouth corner (in distances from it to the nose) and how far
# below the eyes (in distances from eyes to mouth). Brows are inside, forehead, ears and jaw line are not.
_BESIDE_EYE = ((1.15, -0.05), (1.12, 0.25), (0.90, 0.68))
_BESIDE_MOUTH = ((1.00, 1.02), (0.55, 1.30))
_BELOW_MOUTH = 1.45


def face_outline(landmarks: Landmarks, brow_height: float, *, shrink: float = 1.0, brow_shrink: float = 1.0) -> Floats:
    """The part of a face that carries its identity: brows to chin, between the cheeks' edges.

    The side of a turned head that faces away is narrower, in proportion to its eye's distance from the nose.

    Args:
        landmarks: (5, 2) as shares of the crop's side.
        brow_height: of the higher brows of the two people, above the eyes, in distances from eyes to mouth.
        shrink: scale about the middle of the outline, except for the brows.
        brow_shrink: scale of the width at the brows, beside which there may be hair.

    Returns:
        float32 (GRID_PX, GRID_PX), 0 to 1 with a soft edge.
    """
    points = _outline(landmarks, brow_height)
    middle = points.mean(0)
    scaled = middle + shrink * (points - middle)
    # The brows stay inside however much the rest shrinks.
    beside = np.stack([middle[0] + brow_shrink * (points[:, 0] - middle[0]), points[:, 1]], -1)
    points = np.where(points[:, 1:] < landmarks[:2, 1].mean(), beside, scaled)
    fine = 2 * GRID_PX
    drawn = np.zeros((fine, fine), np.uint8)
    cv2.fillPoly(drawn, [np.rint(points * fine * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    small = np.asarray(cv2.resize(drawn, (GRID_PX, GRID_PX), interpolation=cv2.INTER_AREA), np.uint8)
    return _soften(small, OUTLINE_SOFTNESS * GRID_PX)


def _soften(drawn: Grey, sigma: float) -> Floats:
    # uint8 [0, 255] -> float32 [0, 1]
    return np.asarray(cv2.GaussianBlur(drawn.astype(np.float32) / 255, (0, 0), sigma), np.float32)


def _outline(landmarks: Landmarks, brow_height: float) -> Floats:
    eyes_y, mouth_y, nose_x = landmarks[:2, 1].mean(), landmarks[3:, 1].mean(), landmarks[2, 0]
    length = mouth_y - eyes_y
    sides = []
    above = ((0.0, brow_height + 0.16), (0.72, brow_height + 0.08), (1.05, 0.6 * brow_height))
    for eye, corner in ((landmarks[0], landmarks[3]), (landmarks[1], landmarks[4])):
        top = [(eye[0] + out * (eye[0] - nose_x), eyes_y - up * length) for out, up in above]
        side = [(eye[0] + out * (eye[0] - nose_x), eyes_y + down * length) for out, down in _BESIDE_EYE]
        side += [(corner[0] + out * (corner[0] - nose_x), eyes_y + down * length) for out, down in _BESIDE_MOUTH]
        sides.append(top + side)
    bottom = [(landmarks[3:, 0].mean(), eyes_y + _BELOW_MOUTH * length)]
    return np.array([*sides[0], *bottom, *sides[1][::-1]], np.float32)


def feature_areas(landmarks: Landmarks) -> Floats:
    """Eyes with brows, nostrils and mouth: float32 (GRID_PX, GRID_PX), 1 inside, soft."""
    left, right, nose, corner, other = landmarks
    eye_gap, mouth_gap = right[0] - left[0], other[0] - corner[0]
    mouth = (corner + other) / 2
    drawn = np.zeros((GRID_PX, GRID_PX), np.uint8)
    for centre, size in (
        (_shift(left, -0.10 * eye_gap), (0.36 * eye_gap, 0.32 * eye_gap)),
        (_shift(right, -0.10 * eye_gap), (0.36 * eye_gap, 0.32 * eye_gap)),
        (_shift(nose, 0.12 * eye_gap), (0.22 * eye_gap, 0.14 * eye_gap)),
        (mouth, (0.68 * mouth_gap, 0.34 * mouth_gap)),
    ):
        _fill_ellipse(drawn, centre, size)
    return _soften(drawn, 1.0)


def eye_areas(landmarks: Landmarks) -> Floats:
    """Both eyes with their lids, without the brows: float32 (GRID_PX, GRID_PX), soft."""
    gap = landmarks[1, 0] - landmarks[0, 0]
    drawn = np.zeros((GRID_PX, GRID_PX), np.uint8)
    for eye in landmarks[:2]:
        _fill_ellipse(drawn, _shift(eye, 0.03 * gap), (0.27 * gap, 0.15 * gap))
    return _soften(drawn, 1.6)


def mouth_area(landmarks: Landmarks) -> Floats:
    """The lips and what is between them: float32 (GRID_PX, GRID_PX), soft."""
    middle, gap = landmarks[3:].mean(0), landmarks[4, 0] - landmarks[3, 0]
    drawn = np.zeros((GRID_PX, GRID_PX), np.uint8)
    _fill_ellipse(drawn, _shift(middle, 0.08 * gap), (0.55 * gap, 0.42 * gap))
    return _soften(drawn, 2.0)


def _shift(point: Floats, down: float) -> Floats:
    return np.array([point[0], point[1] + down], np.float32)


def _fill_ellipse(drawn: Grey, centre: Floats, size: tuple[float, float]) -> None:
    whole = tuple(round(float(value) * GRID_PX) for value in centre)
    axes = tuple(max(round(float(value) * GRID_PX), 1) for value in size)
    cv2.ellipse(drawn, whole, axes, 0, 0, 360, 255, -1)


def shrink_to_grid(crop: Frame) -> FloatImage:
    """RGB uint8 (S, S, 3) -> RGB float32 [0, 1] (GRID_PX, GRID_PX, 3)."""
    small = cv2.resize(crop, (GRID_PX, GRID_PX), interpolation=cv2.INTER_AREA)
    # uint8 [0, 255] -> float32 [0, 1]
    return np.asarray(small.astype(np.float32) / 255, np.float32)


def skin(small: FloatImage, landmarks: Landmarks) -> Floats:
    """How likely each point of the grid is this face's skin, not hair, the rim of glasses or background.

    The colour is learnt between eyes and mouth, where every face shows skin. Lightness may vary with the shading, hue
    hardly.

    Args:
        small: from `shrink_to_grid`.
        landmarks: (5, 2) as shares of the crop's side.

    Returns:
        float32 (GRID_PX, GRID_PX), 0 to 1.
    """
    lab = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), (0, 0), 0.8)
    known = _cheeks(landmarks)
    sample = lab[known] if known.any() else lab.reshape(-1, 3)
    usual = np.median(sample, 0)
    spread = 1.48 * np.median(np.abs(sample - usual), 0)
    tolerance = np.clip(2.5 * spread, [10, 4.5, 5], [17, 8, 9])
    distance = np.square((lab - usual) / tolerance).sum(-1)
    return np.asarray(1 / (1 + np.exp(2.0 * (distance - 4.0))), np.float32)


def fill_thin(likely: Floats) -> Floats:
    """Adds thin lines, such as rims of glasses and wrinkles, to the skin; hair and background stay: (G, G), 0 to 1."""
    return np.asarray(cv2.morphologyEx(likely, cv2.MORPH_CLOSE, _THIN), np.float32)


def _cheeks(landmarks: Landmarks) -> NDArray[np.bool_]:
    left, right, _, corner, other = landmarks
    shares = ((left, corner, 0.35), (right, other, 0.35), (right, other, 0.8), (left, corner, 0.8))
    quad = [top + share * (bottom - top) for top, bottom, share in shares]
    drawn = np.zeros((GRID_PX, GRID_PX), np.uint8)
    cv2.fillPoly(drawn, [np.rint(np.array(quad) * GRID_PX).astype(np.int32)], 1)
    return drawn.astype(bool)


def grain(crop: FloatImage, landmarks: Landmarks) -> float:
    """Standard deviation of the finest detail on the cheeks of a crop; robust against edges."""
    left, right, top, bottom = _cheek_box(landmarks, len(crop))
    green = np.ascontiguousarray(crop[top:bottom, left:right, 1])
    if green.size < 64:
        return 0.0
    fine = green - cv2.GaussianBlur(green, (0, 0), 1.2)
    return float(1.48 * np.median(np.abs(fine)))


def _cheek_box(landmarks: Landmarks, side_px: int) -> tuple[int, int, int, int]:
    left, right = landmarks[0, 0], landmarks[1, 0]
    top, bottom = (landmarks[:2, 1].mean() * (1 - share) + landmarks[3:, 1].mean() * share for share in (0.3, 0.8))
    edges = (left, right, top, bottom)
    return tuple(int(np.clip(edge, 0, 1) * side_px) for edge in edges)  # type: ignore[return-value]


def low_band(small: FloatImage, weight: Floats) -> Floats:
    """Light and skin tone without the features: a local average of (G, G, 3), weighted by (G, G)."""
    sigma = LIGHT_SCALE * GRID_PX
    weight = weight + 1e-4
    total = cv2.GaussianBlur(small * weight[..., None], (0, 0), sigma)
    share = cv2.GaussianBlur(weight, (0, 0), sigma)
    mean = (small * weight[..., None]).sum((0, 1)) / weight.sum()
    # Far from any skin the average of the whole face is the better guess.
    trust = (share / (share + 0.05))[..., None]
    return np.asarray(trust * total / share[..., None] + (1 - trust) * mean, np.float32)


def relight(crop: FloatImage, here: FloatImage, target: FloatImage, skin_share: Floats) -> FloatImage:
    """Brings a crop from the light that it has to a target light, keeping black black and white white.

    Every colour value x becomes a x / (1 + (a - 1) x): the one family of tone curves through (0, 0), (1, 1) and
    (here, target) that rises everywhere, so that pupils and teeth stay what they are while skin takes the new tone.
    The hue of what is not skin changes less: the white of an eye has no complexion. No such curve darkens skin that
    is almost white without reddening it: far down, colours are multiplied instead, and white darkens with the skin.

    Args:
        crop: (S, S, 3).
        here, target: (GRID_PX, GRID_PX, 3), from `low_band`.
        skin_share: float32 (GRID_PX, GRID_PX), from `skin`.
    """
    change = light_change(here, target, skin_share)
    odds = enlarge(np.asarray(np.exp(change), np.float32), len(crop))
    result = apply_odds(crop, odds)
    dark = np.asarray(smoothstep(*DARKENING, -change.mean(2)), np.float32)
    if not dark.any():
        return result
    gain = enlarge(np.asarray(target / np.maximum(here, 0.02), np.float32), len(crop))
    return np.asarray(result + per_channel(enlarge(dark, len(crop))) * (gain * crop - result), np.float32)


def light_change(here: FloatImage, target: FloatImage, skin_share: Floats) -> Floats:
    """Logarithms of the odds a of `relight`: float32 (GRID_PX, GRID_PX, 3), 0 changes nothing."""
    here, target = np.clip(here, 0.02, 0.98), np.clip(target, 0.02, 0.98)
    bounds = np.log(LARGEST_ODDS)
    change = np.clip(np.log(target * (1 - here) / (here * (1 - target))), -bounds, bounds)
    grey = change.mean(2, keepdims=True)
    hue = (HUE_OF_OTHERS + (1 - HUE_OF_OTHERS) * skin_share)[..., None]
    return np.asarray(grey + hue * (change - grey), np.float32)


def apply_odds(crop: FloatImage, odds: Floats) -> FloatImage:
    """The tone curve of `relight`, with odds of the shape of the crop; 1 changes nothing."""
    return np.asarray(odds * crop / (1 + (odds - 1) * crop), np.float32)


def shrink(crop: FloatImage) -> FloatImage:
    """Averages a crop down to (GRID_PX, GRID_PX, 3)."""
    return np.asarray(cv2.resize(crop, (GRID_PX, GRID_PX), interpolation=cv2.INTER_AREA), np.float32)


def per_channel(weight: Floats) -> Floats:
    """float32 (H, W) -> (H, W, 3), the same in each channel; five times as fast to multiply as `weight[..., None]`."""
    return np.asarray(cv2.merge([weight, weight, weight]), np.float32)


def enlarge(small: Floats, side_px: int) -> Floats:
    """Scales a grid (G, G, ...) up to (side_px, side_px, ...)."""
    return np.asarray(cv2.resize(small, (side_px, side_px), interpolation=cv2.INTER_LINEAR), np.float32)
