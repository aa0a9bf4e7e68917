"""A face older or younger, in colour and light alone: what is drawn, deepened, smoothed and greyed.

Older: grey hair and brows; folds and hollows (`generation.generators.weightfree.editing.wrinkles`); the skin's own
lines deeper, its noise not; paler, less even and less red. Younger: lines and blotches fade while pores stay; warmer,
fresher skin, and grey hair turns brown. All are additions in CIE Lab in proportion to the strength, each bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from generation.arrays import Floats
from generation.crops.blending import per_channel
from generation.generators.weightfree.editing.hair import BROWN, GREY, exchanged, greying, hair_alone, recolour
from generation.head.analysis import EYE_PLACE, brows, from_lab
from generation.head.segmentation import HeadModel

FOLD_DEPTH = 0.25  # of the skin's lightness, in the deepest fold at full strength
HOLLOW_DEPTH = 0.085
PATCH_LIGHTNESS, PATCH_RED = 1.2, 1.5
DETAIL_GAIN = 0.7
NOISE = 0.7  # lightness; finer differences are grain and are not deepened
LARGEST_DETAIL = 4.0
STRONG_EDGE = 9.0  # lightness; what differs more is a feature, not a line
GREY_CHROMA = 9.0  # hair with less colour than this and more lightness than DARK_HAIR is grey
DARK_HAIR = 34.0


@dataclass(frozen=True)
class Head:
    """A part of an aligned head crop, and what is known of it.

    Attributes:
        rgb, lab: float32 (H, W, 3), RGB in [0, 1] and CIE Lab.
        landmarks: (5, 2), px of this part.
        across: float32 (1, W), columns as `segmentation.across_face` counts them.
        v: float32 (H, 1), rows in face units.
        unit_px: length of a face unit.
        hair, skin: float32 (H, W), 0 to 1.
        model: of its clip.
    """

    rgb: Floats
    lab: Floats
    landmarks: Floats
    across: Floats
    v: Floats
    unit_px: float
    hair: Floats
    skin: Floats
    model: HeadModel


def older(head: Head, layers: Floats, strength: float) -> tuple[Floats, Floats]:
    """What a head gains by age.

    Args:
        head: the crop.
        layers: folds, hollows, patches and spots as they lie on it, float32 (H, W, 4), from `AgeMap.laid_over`.
        strength: 0 to 1.

    Returns:
        What to add to RGB in [0, 1], float32 (H, W, 3), and where, float32 (H, W), 0 to 1.
    """
    lightness, red, yellow = (np.asarray(one, np.float32) for one in cv2.split(head.lab))
    folds, hollows, patches, spots = cv2.split(layers)
    mouth, brow = _mouth(head), _brows(head)
    bare = head.skin * (1 - _eyes(head)) * (1 - np.float32(0.8) * mouth)
    light = lightness * (FOLD_DEPTH * folds + HOLLOW_DEPTH * hollows) + _deepened(lightness)
    light = bare * (light + PATCH_LIGHTNESS * patches - 6 * spots - 2.0) + 9 * brow
    tinted = np.maximum(bare, 0.8 * mouth * head.skin)
    paler = -0.10 * (1 - spots) - 0.4 * brow
    reddish = paler * red + PATCH_RED * patches - 1.2 - 2.5 * np.minimum(folds, 0) - 3.0 * mouth
    yellowish = paler * yellow + 1.2 + 3 * spots
    change = cv2.merge([light, tinted * reddish, tinted * yellowish])
    face = from_lab(head.lab + np.float32(strength) * change) - head.rgb
    return _with_hair(head, face, GREY, strength)


def younger(head: Head, layers: Floats, strength: float) -> tuple[Floats, Floats]:
    """What a head loses of its age; arguments and result as `older`."""
    folds, hollows = layers[..., 0], layers[..., 1]
    mouth = _mouth(head)
    bare = head.skin * (1 - _eyes(head)) * (1 - mouth)
    # Lines are darker than the skin around them: valleys are filled more than bulges are flattened.
    middle = cv2.GaussianBlur(head.lab, (0, 0), 0.9) - _evened(head.lab)
    lines, red, yellow = cv2.split(middle)
    kept = np.exp(-np.square(lines / STRONG_EDGE))
    light = np.where(lines < 0, -0.9, -0.65) * lines * kept + 2.6
    light += head.lab[..., 0] * (0.06 * np.maximum(-folds, 0) - 0.05 * np.minimum(hollows, 0))
    reddish = bare * (1.4 - 0.7 * red * kept + 2.4 * _blush(head)) + 4.0 * mouth * head.skin
    yellowish = bare * (1.2 - 0.7 * yellow * kept)
    change = cv2.merge([np.float32(1) * one.astype(np.float32) for one in (bare * light, reddish, yellowish)])
    face = from_lab(head.lab + np.float32(strength) * change) - head.rgb
    usual = head.model.hair_colour
    is_grey = np.clip((GREY_CHROMA - np.hypot(*usual[1:])) / 4, 0, 1) * np.clip((usual[0] - DARK_HAIR) / 8, 0, 1)
    return _with_hair(head, face, BROWN, 0.9 * strength * float(is_grey))


def _with_hair(head: Head, face: Floats, colour: tuple[float, float, float], strength: float) -> tuple[Floats, Floats]:
    """Adds the change of the hair to that of the face, by its share of each pixel; and the mask of both."""
    if not head.model.has_hair or strength == 0:
        return face, _covered(head.skin)
    old = hair_alone(head.lab, head.hair, head.model.hair_colour)
    amount = greying(old, strength) if colour is GREY else np.full(old.shape[:2], strength, np.float32)
    new = old + per_channel(amount) * (recolour(old, head.model.hair_colour, colour) - old)
    hair = exchanged(head.rgb, old, new, head.hair)
    return face * per_channel(1 - head.hair) + hair, _covered(np.maximum(head.skin, head.hair))


def _covered(weight: Floats) -> Floats:
    """The mask: 1 wherever something changes, soft at the border."""
    return np.asarray(np.clip(4 * weight, 0, 1), np.float32)


def _deepened(lightness: Floats) -> Floats:
    """Lines and pores of the skin, without grain and without the features' strong edges; bounded."""
    band = cv2.GaussianBlur(lightness, (0, 0), 0.8) - cv2.GaussianBlur(lightness, (0, 0), 4.5)
    cored = np.sign(band) * np.maximum(np.abs(band) - NOISE, 0) * np.exp(-np.square(band / STRONG_EDGE))
    return np.asarray(np.clip(DETAIL_GAIN * cored, -LARGEST_DETAIL, 0.4 * LARGEST_DETAIL), np.float32)


def _evened(lab: Floats) -> Floats:
    """Skin without lines and blotches, edges kept: a guided filter of each channel by lightness."""
    guide = lab[..., 0].copy()
    size, tolerance = (15, 15), 30.0
    mean = cv2.blur(guide, size)
    variance = cv2.blur(guide * guide, size) - mean * mean
    parts = []
    for channel in cv2.split(lab):
        average = cv2.blur(channel, size)
        slope = (cv2.blur(guide * channel, size) - mean * average) / (variance + tolerance)
        parts.append(cv2.blur(slope, size) * guide + cv2.blur(average - slope * mean, size))
    return np.asarray(cv2.merge(parts), np.float32)


def _ellipse(head: Head, centre: Floats, radii: tuple[float, float]) -> Floats:
    """1 inside an ellipse, soft; radii in face units."""
    height, width = head.skin.shape
    x, y = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
    across, down = (x - centre[0]) / (radii[0] * head.unit_px), (y - centre[1]) / (radii[1] * head.unit_px)
    return np.asarray(np.clip(2.5 * (1.2 - np.sqrt(across * across + down * down)), 0, 1), np.float32)


def _eyes(head: Head) -> Floats:
    return np.maximum(*(_ellipse(head, eye, (0.27, 0.13)) for eye in head.landmarks[:2]))


def _mouth(head: Head) -> Floats:
    left, right = head.landmarks[3:]
    width = float(np.linalg.norm(right - left)) / head.unit_px
    return _ellipse(head, (left + right) / 2, (0.56 * width, 0.18))


def _brows(head: Head) -> Floats:
    skin = float(head.model.skin_colour[0])
    return brows(head.lab[..., 0], head.across, head.v, skin) * (1 - head.hair)


def _blush(head: Head) -> Floats:
    beside = (np.abs(head.across) - 1.15 * EYE_PLACE) / 0.22
    return np.asarray(np.exp(-0.5 * np.square(beside)) * np.exp(-0.5 * np.square((head.v - 0.5) / 0.2)), np.float32)
