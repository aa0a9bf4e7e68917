"""What examples of faces consist of and how they fit together: fringes, glasses, hair, clothes, background, seams."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame, Grey
from generation.crops import blending
from generation.crops.align import transform
from generation.generators.weightfree.portrait.reference import (
    FINE_PX,
    grid_places,
    light_of,
    logit,
    region_masks,
    sample,
    skin_of,
)
from generation.generators.weightfree.portrait.space import GRID_PX, MATTE_PX, REFERENCE, REGIONS, TO_CROP
from generation.motion.expression import ANALYSIS_PX, are_brows_hidden

RIM_PX = 9  # of FINE_PX; a wider dark line is no rim of glasses
RIM_DARKNESS = 0.2  # of the skin's lightness; skin alone has up to 0.08, black rims have 0.5 and more
WIRE_PX, WIRE_CONTRAST = 5, 0.1  # rims of metal: over the nose and below the eyes together; skin has up to 0.09
TURN_COST = 8.0  # logits for a difference in turn by the reference face's side
LIGHT_COST = 0.3  # logits for a logit by which the light differs
RIM_SHARE = 0.8  # quantile over a person's examples
GRABCUT_ROUNDS = 4
MATTE_SOFTNESS_PX = 1.2
SMALLEST_HAIR_PX = 60  # of a matte
HAIR_SPREAD = np.array([14.0, 6.0, 6.0], np.float32)  # of Lab
Crops = NDArray[np.uint8]


def is_fringed(grey: Grey) -> bool:
    return are_brows_hidden(
        np.asarray(cv2.resize(grey, (ANALYSIS_PX, ANALYSIS_PX), interpolation=cv2.INTER_AREA)), REFERENCE
    )


def has_glasses(greys: Sequence[Grey], owners: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whose examples show rims around the eyes: bool (E,). Motion hides thin ones in most frames of a clip.

    Args:
        greys: uint8 (FINE_PX, FINE_PX), in the shape of the reference face.
        owners: int64 (E,), whose example each is.
    """
    strengths = np.array([_rims(grey) for grey in greys])
    return np.array([float(np.quantile(strengths[owners == owner], RIM_SHARE)) > 1 for owner in owners])


def _rims(grey: Grey) -> float:
    """How distinct a thin line over the nose's root and below both eyes is, dark or bright; above 1 it is a rim."""
    unit, (x, y) = float(REFERENCE[1, 0] - REFERENCE[0, 0]), REFERENCE[:2].mean(0)

    def box(image: Grey, left: float, right: float, top: float, bottom: float) -> Grey:
        columns, rows = (
            (np.array(ends) * FINE_PX).astype(int)
            for ends in ((x + left * unit, x + right * unit), (y + top * unit, y + bottom * unit))
        )
        return image[slice(*rows), slice(*columns)]

    skin = max(float(np.median(box(grey, -0.6, 0.6, 0.3, 0.75))), 1.0)

    def lines(operation: int, width_px: int) -> list[float]:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px))
        thin = np.asarray(cv2.morphologyEx(grey, operation, disc), np.uint8)
        return [float(np.median(box(thin, *place).max(0))) / skin for place in _RIM_PLACES]

    bridge, below, other = lines(cv2.MORPH_BLACKHAT, RIM_PX)
    broad = max(bridge, min(below, other)) / RIM_DARKNESS
    either = np.maximum(lines(cv2.MORPH_BLACKHAT, WIRE_PX), lines(cv2.MORPH_TOPHAT, WIRE_PX))
    return max(broad, float(either[0] + either[1:].min()) / WIRE_CONTRAST)


def seams(textures: Floats, offsets: Floats) -> Floats:
    """How badly examples fit together: float32 (R, E, E).

    The mean difference along a region's edge where both are skin, logits, once the light is the same; that of the
    heads' turns; and that of the light, as what is relit far is not what it was.
    """
    eyes, nose = (np.stack([sample(own, where[None], is_grid=True)[0] for own in offsets]) for where in _TURN_POINTS)
    turns = (nose - eyes.mean(1, keepdims=True))[:, 0] / TO_CROP[0, 0]
    unlike = TURN_COST * np.abs(turns[:, None] - turns).sum(-1)
    lights = [light_of(texture) for texture in textures]
    even = np.stack([logit(texture) - logit(light) for texture, light in zip(textures, lights, strict=True)])
    skins = np.stack([blending.fill_thin(skin_of(texture)) for texture in textures])
    means = np.stack([logit(light)[_MIDDLE].mean((0, 1)) for light in lights])
    unlike += LIGHT_COST * np.abs(means[:, None] - means).mean(-1)
    result = np.zeros((len(REGIONS), len(textures), len(textures)), np.float32)
    for region, mask in enumerate(region_masks()):
        for first, own in enumerate(even):
            edge = 4 * mask * (1 - mask) * np.minimum(skins, skins[first]) + 1e-4
            result[region, first] = (np.abs(even - own).mean(-1) * edge).sum((1, 2)) / edge.sum((1, 2))
    return result + np.asarray(unlike, np.float32)


def matte(crop: Frame, offset: Floats) -> Crops:
    """Background, hair and clothes of a crop: uint8 (MATTE_PX, MATTE_PX, 3)."""
    small = np.asarray(cv2.resize(crop, (MATTE_PX, MATTE_PX), interpolation=cv2.INTER_AREA), np.uint8)
    labels = _first_guess()
    models = np.zeros((2, 1, 65), np.float64)
    cv2.setRNGSeed(0)  # GrabCut draws
    cv2.grabCut(small, labels, (0, 0, 0, 0), models[0], models[1], GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    person = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    # Smaller by a cell: the outermost hairs mix with the background, and a rim of its old colour would show.
    person = cv2.erode(cv2.morphologyEx(person, cv2.MORPH_OPEN, _CELLS), _CELLS).astype(np.float32)
    places = (grid_places(MATTE_PX) - TO_CROP[:, 2]) / TO_CROP[0, 0]
    chin = float(REFERENCE[3:, 1].mean() + 0.85 * (REFERENCE[1, 0] - REFERENCE[0, 0]))
    below = np.clip((places[..., 1] - chin) / 0.12 + 0.5, 0, 1)
    bare = person * (1 - _skin_of_crop(small, offset))
    hair = np.maximum(1 - below, below * _like_hair(small, bare * (1 - below) > 0.9))
    parts = np.stack([1 - person, bare * hair, bare * (1 - hair)], -1)
    soft = np.clip(cv2.GaussianBlur(parts, (0, 0), MATTE_SOFTNESS_PX), 0, 1)
    return np.rint(soft * 255).astype(np.uint8)


def _like_hair(small: Frame, known: NDArray[np.bool_]) -> Floats:
    """How much each place has the colour of the known hair, which may hang over the shoulders: float32 (M, M)."""
    if known.sum() < SMALLEST_HAIR_PX:
        return np.zeros(known.shape, np.float32)
    # RGB uint8 -> Lab float32
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    away = np.square((lab - np.median(lab[known], 0)) / HAIR_SPREAD).sum(-1)
    return np.asarray(1 / (1 + np.exp(np.minimum(2 * (away - 2), 30))), np.float32)


def _first_guess() -> Crops:
    """Where a head and shoulders are in a portrait, in GrabCut's labels."""
    labels = np.full((MATTE_PX, MATTE_PX), cv2.GC_PR_BGD, np.uint8)
    middle, eyes, unit = 0.5, 0.44, 0.30 / 1.8
    at = [round(value * MATTE_PX) for value in (middle, eyes, unit)]
    cv2.ellipse(labels, (at[0], at[1]), (round(1.5 * at[2]), round(2.0 * at[2])), 0, 0, 360, cv2.GC_PR_FGD, -1)
    cv2.rectangle(
        labels,
        (at[0] - round(2.4 * at[2]), at[1] + round(2.6 * at[2])),
        (at[0] + round(2.4 * at[2]), MATTE_PX),
        cv2.GC_PR_FGD,
        -1,
    )
    cv2.ellipse(
        labels, (at[0], at[1] + round(0.4 * at[2])), (round(0.9 * at[2]), round(1.4 * at[2])), 0, 0, 360, cv2.GC_FGD, -1
    )
    labels[: MATTE_PX // 40] = cv2.GC_BGD
    labels[: MATTE_PX // 2, : MATTE_PX // 16] = cv2.GC_BGD
    labels[: MATTE_PX // 2, -MATTE_PX // 16 :] = cv2.GC_BGD
    return labels


def _skin_of_crop(small: Frame, offset: Floats) -> Floats:
    """How much each place of a whole crop is skin, by the colour of the cheeks: float32 (MATTE_PX, MATTE_PX)."""
    grid = cv2.resize(small, (GRID_PX, GRID_PX), interpolation=cv2.INTER_AREA)
    landmarks = transform(TO_CROP, REFERENCE) + sample(offset, REFERENCE[None], is_grid=True)[0]
    # uint8 [0, 255] -> float32 [0, 1]
    likely = blending.fill_thin(blending.skin(np.asarray(grid.astype(np.float32) / 255), landmarks))
    outline = blending.face_outline(REFERENCE, 0.5)
    places = (grid_places() - TO_CROP[:, 2]) / TO_CROP[0, 0]
    inside = sample(outline, places, is_grid=True) * np.all((places > 0) & (places < 1), -1)
    return blending.enlarge(np.asarray(np.maximum(likely, inside), np.float32), MATTE_PX)


_TURN_POINTS = (REFERENCE[:2], REFERENCE[2:3])
_MIDDLE = slice(GRID_PX // 4, 3 * GRID_PX // 4), slice(GRID_PX // 4, 3 * GRID_PX // 4)
_CELLS = np.ones((3, 3), np.uint8)
# From the middle of the eyes, in eye distances: left, right, top, bottom of the nose's root and below each eye.
_RIM_PLACES = ((-0.12, 0.12, -0.2, 0.25), (-0.78, -0.32, 0.17, 0.6), (0.32, 0.78, 0.17, 0.6))
