"""The part of a face's motion in a crop that is the head's, so that the rest is expression.

Seen from afar, a turning head displaces each point by an affine function of its position and its depth (the
factorisation of Tomasi and Kanade 1992, "Shape and motion from image streams under orthography"). With the depth of a
usual face four numbers for x and four for y describe every pose; they are fitted where no muscle moves the skin much,
and are valid for the chin too, whether the jaw is open or not.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Landmarks
from generation.crops import blending
from generation.motion.fields import GRID
from generation.smoothing import smoothstep

FITTED_STEP = 2  # points of the grid
NUM_ROUNDS = 4
USUAL_RESIDUAL = 0.004  # of the crop's side; farther from the fit a point counts less
STIFFNESS = 2.0  # points of evidence against tilting and stretching
# Half axes of the head's ellipsoid and the size of its nose, in distances from eyes to mouth.
_BESIDE_EYE, _ABOVE_BROWS, _TO_CHIN = 0.98, 0.25, 1.62
_HALF_WIDTH, _HALF_HEIGHT, _NOSE_RADIUS, _NOSE_DEPTH = 1.0, 1.4, 0.30, 0.35


def rigid_basis(landmarks: Landmarks) -> Floats:
    """1, x, y and depth of each point of the grid: float32 (GRID_PX, GRID_PX, 4), from the middle of the face.

    Args:
        landmarks: (5, 2) as shares of the crop's side.
    """
    middle = (landmarks[:2].mean(0) + landmarks[3:].mean(0)) / 2
    length = float(np.linalg.norm(landmarks[3:].mean(0) - landmarks[:2].mean(0)))
    x, y = np.moveaxis((GRID - middle) / length, -1, 0)
    round_part = np.sqrt(np.maximum(1 - (x / _HALF_WIDTH) ** 2 - (y / _HALF_HEIGHT) ** 2, 0))
    squared = np.square((GRID - landmarks[2]) / length).sum(-1)
    depth = round_part + _NOSE_DEPTH * np.exp(-squared / (2 * _NOSE_RADIUS**2))
    return np.stack([np.ones_like(x), x, y, depth], -1).astype(np.float32)


def rigid_places(landmarks: Landmarks, brow_height: float) -> Floats:
    """How little expression moves each point: float32 (GRID_PX, GRID_PX), 1 about nose, temples and upper cheeks."""
    face = blending.face_outline(landmarks, brow_height + 0.1)
    moving = np.maximum(blending.eye_areas(landmarks), blending.mouth_area(landmarks))
    eyes, mouth = float(landmarks[:2, 1].mean()), float(landmarks[3:, 1].mean())
    height = (GRID[..., 1] - eyes) / (mouth - eyes)
    upper = 1 / (1 + np.exp((height - 0.72) / 0.07))
    brows = 1 - 0.7 / (1 + np.exp((height + 0.15) / 0.05))
    return np.asarray(face * (1 - moving) * upper * brows, np.float32)


def fit_rigid(motion: Floats, basis: Floats, weight: Floats) -> Floats:
    """The head's share of a motion field, robustly: coefficients float32 (4, 2) of the basis.

    Args:
        motion: float32 (GRID_PX, GRID_PX, 2).
        basis: from `rigid_basis`.
        weight: from `rigid_places`.
    """
    thin = slice(FITTED_STEP // 2, None, FITTED_STEP)
    columns = basis[thin, thin].reshape(-1, 4).astype(np.float64)
    values = motion[thin, thin].reshape(-1, 2).astype(np.float64)
    trust = weight[thin, thin].ravel().astype(np.float64)
    prior = np.diag([1e-6, STIFFNESS, STIFFNESS, STIFFNESS]) * 0.05
    fit: NDArray[np.floating[Any]] = np.zeros((4, 2))
    share = trust
    for _ in range(NUM_ROUNDS):
        weighted = columns * share[:, None]
        fit = np.linalg.solve(weighted.T @ columns + prior, weighted.T @ values)
        left = np.square(values - columns @ fit).sum(1)
        share = trust / (1 + left / USUAL_RESIDUAL**2)
    return fit.astype(np.float32)


class InsideMean:
    """Averages fields (G, G, C) where they are trusted and extends them to where they are not.

    Args:
        weight: float32 (G, G), trust, 0 to 1.
        sigma: in points of the grid.
    """

    def __init__(self, weight: Floats, sigma: float) -> None:
        near = np.asarray(cv2.GaussianBlur(weight, (0, 0), sigma), np.float32)
        far = np.asarray(cv2.GaussianBlur(weight, (0, 0), 4 * sigma), np.float32)
        self._weight, self._sigma = weight[..., None], sigma
        self._near, self._far = near[..., None] + 1e-4, (far + 1e-4)[..., None]
        self._trust = (near / (near + 0.05))[..., None]

    def __call__(self, field: Floats) -> Floats:
        """The averaged field."""
        weighted = field * self._weight
        wide = cv2.GaussianBlur(weighted, (0, 0), 4 * self._sigma) / self._far
        fine = self._trust * cv2.GaussianBlur(weighted, (0, 0), self._sigma) / self._near
        return np.asarray(fine + (1 - self._trust) * wide)


def smooth_inside(field: Floats, weight: Floats, sigma: float) -> Floats:
    """A single field averaged where it is trusted; see `InsideMean`."""
    return InsideMean(weight, sigma)(field)


def face_area(landmarks: Landmarks, brow_height: float, inner: float, outer: float) -> Floats:
    """From above the brows to below the chin: float32 (GRID_PX, GRID_PX), 1 inside, 0 outside, smooth between.

    Args:
        landmarks: (5, 2) as shares of the crop's side.
        brow_height: of the brows above the eyes, in distances from eyes to mouth.
        inner, outer: where the fall from 1 to 0 begins and ends, as shares of the way from the middle to the edge.
    """
    eyes, mouth = float(landmarks[:2, 1].mean()), float(landmarks[3:, 1].mean())
    length, nose = mouth - eyes, float(landmarks[2, 0])
    left, right = (float(eye + _BESIDE_EYE * (eye - nose)) for eye in landmarks[:2, 0])
    top, bottom, middle = eyes - (brow_height + _ABOVE_BROWS) * length, eyes + _TO_CHIN * length, eyes + 0.45 * length
    # The lower face follows the mouth, which lies beside the eyes' middle in a turned or tilted head.
    lean = float(landmarks[3:, 0].mean() - landmarks[:2, 0].mean()) * np.clip((GRID[..., 1] - eyes) / length, 0, 1.5)
    x = (GRID[..., 0] - (left + right) / 2 - lean) / ((right - left) / 2)
    y = GRID[..., 1] - middle
    y = np.where(y < 0, y / (middle - top), y / (bottom - middle))
    # Between a circle and a square: a face is broader at brows and jaw than an ellipse.
    distance = (np.abs(x) ** 2.2 + np.abs(y) ** 2.2) ** (1 / 2.2)
    # Lids belong to it even where a fringe comes down to them, and so do lips in a turned head.
    features = np.maximum(blending.eye_areas(landmarks), blending.mouth_area(landmarks))
    features = np.minimum(1.7 * features, 1)  # soft throughout, as small as they are
    return np.asarray(np.maximum(smoothstep(outer, inner, distance), features), np.float32)
