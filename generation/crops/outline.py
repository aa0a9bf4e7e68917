"""Masks of swapped crops where no parsing network draws them."""

from __future__ import annotations

import numpy as np

from generation.arrays import Floats
from generation.crops import blending
from generation.crops.align import AlignedFaces

BROW_HEIGHT = 0.45  # above the eyes, in distances from eyes to mouth: brows are the source's
EDGE_SHARE = 0.05  # of the crop's side, within which a mask falls to 0


def outline_mask(landmarks: Floats, side_px: int) -> Floats:
    """The face from brows to chin, with a soft edge.

    Args:
        landmarks: (5, 2), px of the crop.
        side_px: of the crop.

    Returns:
        float32 (S, S), 0 to 1, 0 at the crop's edge.
    """
    outline = blending.face_outline(landmarks / np.float32(side_px), BROW_HEIGHT)
    return np.asarray(inset(side_px) * blending.enlarge(outline, side_px), np.float32)


def inset(side_px: int) -> Floats:
    """1 within a crop, falling to 0 at its very edge: float32 (S, S)."""
    steps = np.arange(side_px)
    share = np.minimum(steps, steps[::-1]) / (EDGE_SHARE * side_px)
    rise = np.clip(share, 0, 1).astype(np.float32)
    rise = rise * rise * (3 - 2 * rise)
    return rise[:, None] * rise


def is_seen(faces: AlignedFaces, number: int) -> bool:
    """Whether the face is seen in a crop of a batch."""
    return faces.is_seen is None or bool(faces.is_seen[number])
