"""The reference face of `generation.generators.weightfree.portrait.space`: how crops are brought to it, its light,
tone and regions."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame, Grey
from generation.crops import blending
from generation.crops.align import transform
from generation.generators.weightfree.portrait.space import GRID_PX, REFERENCE, REGIONS, TO_CROP
from generation.motion.expression import displacement
from generation.smoothing import smoothstep

FINE_PX = 4 * GRID_PX
TONE_SCALE = 0.02  # finer than this is detail, coarser than blending.LIGHT_SCALE is light


def grid_places(side_px: int = GRID_PX) -> Floats:
    """The middle of each cell of a square grid, as shares of its side: float32 (G, G, 2)."""
    centres = (np.arange(side_px, dtype=np.float32) + 0.5) / side_px
    return np.stack(np.meshgrid(centres, centres), -1)


def sample(image: NDArray[Any], places: Floats, *, is_grid: bool) -> Floats:
    """Bilinear values of an image (S, S, ...) at places (..., 2) given as shares of its side.

    Args:
        is_grid: whether the image is a grid, whose cells have their middles at half cells; a crop counts from the
            centre of its first pixel.
    """
    at = np.ascontiguousarray(places * image.shape[0] - (0.5 if is_grid else 0.0), np.float32)
    return np.asarray(
        cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def texture_of(crop: Frame, offset: Floats) -> Floats:
    """A crop, RGB uint8 (P, P, 3), in the shape of the reference face: RGB float32 [0, 1] (G, G, 3)."""
    # float32 levels [0, 255] -> float32 [0, 1]
    fine = _to_reference(crop, offset) / 255
    return np.asarray(cv2.resize(fine, (GRID_PX, GRID_PX), interpolation=cv2.INTER_AREA), np.float32)


def _to_reference(crop: Frame, offset: Floats) -> Floats:
    places = transform(TO_CROP, grid_places(FINE_PX)) + blending.enlarge(offset, FINE_PX)
    return sample(crop, places, is_grid=False)


def fine_grey(crop: Frame, offset: Floats) -> Grey:
    # float32 levels -> uint8
    levels = np.clip(np.rint(_to_reference(crop, offset)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(levels, cv2.COLOR_RGB2GRAY), np.uint8)


def edge_window() -> Floats:
    """1 on the face, 0 at the border of the reference face, where offsets end: float32 (G, G, 1)."""
    away = np.minimum(np.abs(grid_places() - 0.5) * 2, 1)
    return np.asarray(smoothstep(0, 1, (1 - away) / 0.3).prod(-1, keepdims=True), np.float32)


def offsets_of(points: Floats) -> Floats:
    """Offset of a crop with these landmarks (5, 2), shares of its side: float32 (G, G, 2)."""
    found = (points - TO_CROP[:, 2]) / TO_CROP[0, 0]
    return np.asarray(TO_CROP[0, 0] * edge_window() * displacement(REFERENCE, found, grid_places()), np.float32)


def light_of(texture: Floats) -> Floats:
    """Light and complexion of a reference-shaped face (G, G, 3), without its features; of the same shape."""
    return blending.low_band(texture, skin_of(texture) * _bare_skin())


def skin_of(texture: Floats) -> Floats:
    """How much each place of a reference-shaped face is skin: float32 (G, G)."""
    return blending.skin(np.ascontiguousarray(texture), REFERENCE)


def _bare_skin() -> Floats:
    outline = blending.face_outline(REFERENCE, 0.55)
    return np.asarray((1 - blending.feature_areas(REFERENCE)) * (outline > 0.3), np.float32)


def logit(values: Floats) -> Floats:
    """Logarithm of odds of values in [0, 1]."""
    clipped = np.clip(values, 0.02, 0.98)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float32)


def tone(texture: Floats) -> Floats:
    """Shading of a face besides its light and its detail, logits: float32 (G, G, 3)."""
    smooth = cv2.GaussianBlur(texture, (0, 0), TONE_SCALE * GRID_PX)
    return logit(np.asarray(smooth, np.float32)) - logit(light_of(texture))


def region_masks() -> Floats:
    """Where each of `REGIONS` lies on the reference face: float32 (R, G, G), 0 to 1, soft."""
    return np.stack([_soft_ellipse(*_ellipse(_REACHES[name]), 0.75, 1.25) for name in REGIONS])


def core_masks() -> Floats:
    """What of each of `REGIONS` is its features, brows, eyes and lips: float32 (R, G, G), 0 to 1, soft."""
    return np.stack([_soft_ellipse(*_ellipse(_CORES[name]), 0.9, 1.15) for name in REGIONS])


# Middle and radii, sideways and down, in distances between the eyes, from the middle of the eyes.
_REACHES = {
    "eyes": ((0.0, -0.14), (1.00, 0.52)),
    "eyes_below_fringe": ((0.0, 0.06), (0.84, 0.24)),
    "nose": ((0.0, 0.50), (0.34, 0.38)),
    "mouth": ((0.0, 1.20), (0.66, 0.42)),
}
_CORES = {
    "eyes": ((0.0, -0.12), (0.80, 0.38)),
    "eyes_below_fringe": ((0.0, 0.04), (0.80, 0.18)),
    "nose": ((0.0, 0.52), (0.30, 0.30)),
    "mouth": ((0.0, 1.18), (0.56, 0.33)),
}


def _ellipse(reach: tuple[tuple[float, float], tuple[float, float]]) -> tuple[Floats, Floats]:
    middle, unit = REFERENCE[:2].mean(0), float(REFERENCE[1, 0] - REFERENCE[0, 0])
    return np.asarray(middle + unit * np.array(reach[0]), np.float32), np.asarray(unit * np.array(reach[1]), np.float32)


def _soft_ellipse(centre: Floats, radii: Floats, inner: float, outer: float) -> Floats:
    away = np.sqrt(np.square((grid_places() - centre) / radii).sum(-1))
    return np.asarray(smoothstep(0, 1, (outer - away) / (outer - inner)), np.float32)
