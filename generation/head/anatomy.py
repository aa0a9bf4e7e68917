"""Where heads have hair and skin, whoever it is: usual shares by place, among which colours then decide.

Places are in face units (`generation.head.analysis`), u from the middle of the skull. The numbers were set on filmed
and photographed people and hold for heads that are not in profile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats

HAIR, SKIN, OTHER = range(3)
SKULL_HALF_WIDTH, SKULL_MIDDLE, SKULL_TOP, CHIN = 1.15, -0.25, -1.71, 1.70
HAIR_REACH = 0.55  # above the skull, of hair that stands up
HAIR_HALF_WIDTH = 2.4  # of long hair on shoulders
MARGIN = 0.25  # by which hair may reach farther than is usual; what is beyond it is none
_FEWEST = 1e-4


def beyond_head(u: Floats, v: Floats) -> Floats:
    """Distance from the bare head, negative inside: float32 (H, W)."""
    height = np.where(v < SKULL_MIDDLE, SKULL_MIDDLE - SKULL_TOP, CHIN - SKULL_MIDDLE)
    return np.asarray(1.25 * (np.hypot(u / SKULL_HALF_WIDTH, (v - SKULL_MIDDLE) / height) - 1), np.float32)


def away_from_head(u: Floats, v: Floats, margin: float = 0.0) -> Floats:
    """1 where no hair reaches, however long it is, 0 elsewhere, soft: float32 (H, W).

    Args:
        u, v: places, of shapes that fit each other.
        margin: by which hair may reach farther than is usual.
    """
    above = _below(HAIR_REACH + margin - beyond_head(u, v), 0.05) * _below(v + 0.3, 0.1)
    return np.asarray(np.maximum(above, _below(HAIR_HALF_WIDTH + margin - np.abs(u), 0.05)), np.float32)


def usual_areas(u: Floats, v: Floats, across: Floats) -> Floats:
    """How usual hair, skin and everything else are: float32 (H, W, 3), in this order, in sum 1.

    Args:
        u, v: (H, W).
        across: (H, W), columns as `generation.head.analysis.across_face` counts them.
    """
    beyond = beyond_head(u, v)
    head = _below(beyond - 0.08, 0.09)
    outside = np.maximum(beyond, 0)
    side = np.abs(across)
    oval = np.hypot(side / 0.92, (v - 0.45) / np.where(v < 0.45, 1.40, 1.30)) - 1
    below_brows = _below(np.hypot(side / 0.85, v - 0.5) - 1, 0.05) * _below(-0.28 - v, 0.04)
    skin = 0.06 + 0.92 * _below(oval, 0.07)
    skin += (0.995 - skin) * below_brows
    skin = np.where((v > 0.1) & (v < 0.9), np.maximum(skin, 0.65), skin)  # ears
    neck = _below(np.abs(u) - 0.85, 0.08) * _below(1.2 - v, 0.15) * _below(v - 2.6, 0.2)
    skin = np.maximum(skin, 0.85 * neck)
    hair = head * (1 - skin) * (1 - 0.8 * _below(1.1 - v, 0.15))
    standing = 0.45 * np.exp(-np.square(outside / 0.32)) + 0.12 * np.exp(-np.square(outside / 0.75))
    hair = np.maximum(hair, (1 - head) * standing * _below(v - 0.5, 0.2))
    beside = _below(np.abs(u) - 2.1, 0.15) * _below(-0.2 - v, 0.1) * (1 - 0.9 * neck)
    hair = np.maximum(hair, (1 - head) * beside * (0.08 + 0.10 * _below(v - 2.2, 0.25)))
    skin = np.maximum(head * skin, 0.8 * neck)
    areas = np.stack([hair + _FEWEST, skin + _FEWEST, np.maximum(1 - hair - skin, 40 * _FEWEST)], -1)
    return np.asarray(areas / areas.sum(-1, keepdims=True), np.float32)


def _below(values: NDArray[np.floating[Any]], width: float) -> Floats:
    """1 where values are well below 0, 0 where they are well above, a soft step between."""
    return np.asarray(1 / (1 + np.exp(np.clip(values / width, -30, 30))), np.float32)
