"""Masks of swapped crops drawn from the landmarks, for pipelines without a parsing network."""

from __future__ import annotations

import numpy as np

from generation.arrays import Landmarks, Mask
from generation.crops import blending
from generation.crops.align import AlignedFaces
from generation.smoothing import smoothstep

BROW_HEIGHT = 0.45  # above the eyes, in distances from eyes to mouth: brows are the source's
EDGE_SHARE = 0.05  # of the crop's side, within which a mask falls to 0


def outline_mask(landmarks: Landmarks, side_px: int) -> Mask:
    """The face from brows to chin, with a soft edge.

    Args:
        landmarks: (5, 2), px of the crop.
        side_px: of the crop.

    Returns:
        float32 (S, S), 0 to 1, 0 at the edge of the crop.
    """
    outline = blending.face_outline(landmarks / np.float32(side_px), BROW_HEIGHT)
    return np.asarray(inset(side_px) * blending.enlarge(outline, side_px), np.float32)


def inset(side_px: int) -> Mask:
    """1 within a crop, falling to 0 at its edge: float32 (S, S)."""
    steps = np.arange(side_px)
    share = np.minimum(steps, steps[::-1]) / (EDGE_SHARE * side_px)
    rise = np.asarray(smoothstep(0, 1, share.astype(np.float32)), np.float32)
    return rise[:, None] * rise


def is_seen(faces: AlignedFaces, number: int) -> bool:
    """Whether a crop of a batch shows the face."""
    return faces.is_seen is None or bool(faces.is_seen[number])
