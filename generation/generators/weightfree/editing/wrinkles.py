"""What age draws into a face: folds, hollows and uneven pigment, on a canvas that is laid over every frame.

The canvas is in shares of the template "face" and a little wider. It is drawn once; each frame's landmarks bend it to
the face, so that its folds move with eyes, nose and mouth and never swim.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats
from generation.crops.templates import TEMPLATE, TEMPLATES
from generation.motion.expression import displacement

CANVAS_PX = 512
CANVAS_LOW, CANVAS_SPAN = -0.2, 1.4  # of the template's side
HEAD_ZOOM = float((TEMPLATE[1, 0] - TEMPLATE[0, 0]) / (TEMPLATES["head"][1, 0] - TEMPLATES["head"][0, 0]))
GRID_PX = 64
NUM_SPOTS = 26
JITTER = 0.004
_NO_MAP: Any = None  # the map has both coordinates in one array


@dataclass(frozen=True)
class Fold:
    """A fold of the image's left half; its mirror image is drawn too.

    Attributes:
        points: shares of the template's side, along the fold.
        depth: darkness of its valley, 1 for the deepest.
        width: standard deviation of the valley, as a share of the side.
        bulge: direction in which the skin bulges and is lighter, in multiples of the width.
    """

    points: tuple[tuple[float, float], ...]
    depth: float
    width: float
    bulge: tuple[float, float]


FOLDS = (
    Fold(((0.428, 0.565), (0.392, 0.605), (0.362, 0.660), (0.345, 0.715), (0.338, 0.765)), 1.0, 0.0100, (-1.8, -0.6)),
    Fold(((0.352, 0.765), (0.341, 0.800), (0.338, 0.840), (0.346, 0.880)), 0.55, 0.0085, (-1.8, 0.0)),
    Fold(((0.436, 0.420), (0.412, 0.446), (0.372, 0.460), (0.326, 0.452), (0.292, 0.432)), 0.75, 0.0080, (0.0, -1.9)),
    Fold(((0.424, 0.462), (0.392, 0.497), (0.345, 0.510), (0.300, 0.497)), 0.30, 0.0120, (0.0, -1.6)),
    Fold(((0.268, 0.372), (0.238, 0.352), (0.208, 0.338)), 0.50, 0.0045, (0.0, 2.0)),
    Fold(((0.262, 0.390), (0.232, 0.390), (0.198, 0.385)), 0.55, 0.0045, (0.0, 2.0)),
    Fold(((0.268, 0.408), (0.240, 0.422), (0.212, 0.442)), 0.50, 0.0045, (0.0, 2.0)),
    Fold(((0.276, 0.424), (0.252, 0.446), (0.232, 0.474)), 0.30, 0.0045, (0.0, 2.0)),
    Fold(((0.500, 0.212), (0.440, 0.206), (0.370, 0.196), (0.310, 0.206), (0.275, 0.222)), 0.65, 0.0065, (0.0, 2.0)),
    Fold(((0.500, 0.166), (0.430, 0.158), (0.360, 0.152), (0.300, 0.166)), 0.70, 0.0070, (0.0, 2.0)),
    Fold(((0.500, 0.122), (0.430, 0.116), (0.370, 0.114), (0.325, 0.124)), 0.45, 0.0070, (0.0, 2.0)),
    Fold(((0.474, 0.262), (0.469, 0.290), (0.474, 0.322)), 0.38, 0.0060, (-1.8, 0.0)),
    Fold(((0.462, 0.655), (0.460, 0.672), (0.461, 0.690)), 0.20, 0.0040, (1.8, 0.0)),
    Fold(((0.430, 0.662), (0.426, 0.678), (0.425, 0.695)), 0.22, 0.0040, (1.8, 0.0)),
    Fold(((0.500, 0.838), (0.455, 0.842), (0.415, 0.858)), 0.35, 0.0100, (0.0, 2.0)),
)

# Where flesh sinks (negative) or stands out: place, radii and strength.
HOLLOWS = (
    ((0.235, 0.670), (0.060, 0.100), -1.0),
    ((0.200, 0.285), (0.045, 0.080), -0.7),
    ((0.365, 0.425), (0.070, 0.028), -0.8),
    ((0.290, 0.545), (0.070, 0.035), 0.5),
    ((0.285, 0.860), (0.045, 0.060), 0.4),
    ((0.355, 0.905), (0.045, 0.040), -0.6),
)


@dataclass(frozen=True)
class AgeMap:
    """The canvas: float32 (CANVAS_PX, CANVAS_PX, 4).

    folds: about -1 in the deepest valley to 0.5 on a bulge; hollows: -1 to 1; patches: uneven pigment without sharp
    edges, about -1 to 1; spots: 0 to 1.
    """

    canvas: Floats

    def laid_over(self, landmarks: Floats, side_px: int, window: tuple[slice, slice]) -> Floats:
        """The canvas as it lies on a part of a head crop: float32 (H, W, 4).

        Args:
            landmarks: (5, 2), px of a crop in the template "head".
            side_px: of the crop.
            window: rows and columns of the result.
        """
        points = _face_shares(np.asarray(landmarks / side_px, np.float32))
        centres = (np.arange(GRID_PX, dtype=np.float32) + 0.5) / GRID_PX
        grid = _face_shares(np.stack(np.meshgrid(centres, centres), -1))
        places = grid + displacement(points, TEMPLATE, grid)
        at = ((places - CANVAS_LOW) / CANVAS_SPAN * CANVAS_PX - 0.5).astype(np.float32)
        at = np.ascontiguousarray(cv2.resize(at, (side_px, side_px), interpolation=cv2.INTER_LINEAR)[window])
        return np.asarray(
            cv2.remap(self.canvas, at, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.float32
        )


def _face_shares(points: Floats) -> Floats:
    """Shares of a head crop's side -> shares of the template "face"."""
    centre, wide = TEMPLATE.mean(0), TEMPLATES["head"].mean(0)
    return np.asarray(centre + (points - wide) * HEAD_ZOOM, np.float32)


@lru_cache(maxsize=2)
def draw_age_map(seed: int) -> AgeMap:
    """Draws the canvas; the seed moves folds a little and places patches and spots."""
    random = np.random.default_rng([seed, 1])
    folds = np.zeros((CANVAS_PX, CANVAS_PX), np.float32)
    for fold in FOLDS:
        for is_mirrored in (False, True):
            folds += _drawn_fold(fold, is_mirrored, random)
    hollows = np.zeros_like(folds)
    y, x = (np.mgrid[:CANVAS_PX, :CANVAS_PX].astype(np.float32) + 0.5) / CANVAS_PX * CANVAS_SPAN + CANVAS_LOW
    for (across, down), (width, height), strength in HOLLOWS:
        for centre in (across, 1 - across):
            hollows += strength * np.exp(-0.5 * (((x - centre) / width) ** 2 + ((y - down) / height) ** 2))
    canvas = np.dstack([np.clip(folds, -1.1, 0.6), np.clip(hollows, -1, 1), _patches(random), _spots(random)])
    return AgeMap(canvas.astype(np.float32))


def _pixels(share: float) -> float:
    return share / CANVAS_SPAN * CANVAS_PX


def _drawn_fold(fold: Fold, is_mirrored: bool, random: np.random.Generator) -> Floats:
    """A valley that fades out at both ends, with a light bulge at its side."""
    points = np.array(fold.points) + random.normal(0, JITTER / 2, (len(fold.points), 2))
    bulge = np.array(fold.bulge) * fold.width
    if is_mirrored:
        points, bulge = points * [-1, 1] + [1, 0], bulge * [-1, 1]
    along = np.linspace(0, 1, len(points))
    fine = np.linspace(0, 1, 160)
    # A polynomial through few points bends smoothly.
    curve = np.stack([np.polyval(np.polyfit(along, axis, min(3, len(points) - 1)), fine) for axis in points.T], -1)
    # Folds that meet in the middle of the forehead are as deep there as elsewhere.
    is_joined = abs(fold.points[0][0] - 0.5) < 1e-6
    taper = np.sin(np.pi * (0.5 + 0.5 * fine if is_joined else fine)) ** 0.8
    taper *= 1 + 0.25 * np.sin(2 * np.pi * (3 * fine + random.random()))
    size = fold.width
    valley = _stroke(curve, taper, size)
    light = _stroke(curve + bulge, taper, 1.4 * size)
    return np.asarray(fold.depth * (0.5 * light - valley), np.float32)


def _stroke(curve: NDArray[np.float64], weights: NDArray[np.float64], width: float) -> Floats:
    """A line with a Gaussian profile of this width and height 1, by its weights along the curve."""
    drawn = np.zeros((CANVAS_PX, CANVAS_PX), np.float32)
    at = _pixels(1.0) * (curve - CANVAS_LOW) - 0.5
    steps = np.linalg.norm(np.diff(at, axis=0), axis=1)
    for (x, y), weight, step in zip(at, weights, np.append(steps, steps[-1]), strict=True):
        column, row = int(np.floor(x)), int(np.floor(y))
        dx, dy = x - column, y - row
        shares = np.outer([1 - dy, dy], [1 - dx, dx]) * weight * step
        drawn[row : row + 2, column : column + 2] += shares
    sigma = _pixels(width)
    blurred = cv2.GaussianBlur(drawn, (0, 0), sigma)
    return np.asarray(blurred * np.float32(sigma * np.sqrt(2 * np.pi)), np.float32)


def _patches(random: np.random.Generator) -> Floats:
    noise = random.standard_normal((CANVAS_PX, CANVAS_PX)).astype(np.float32)
    bands = [cv2.GaussianBlur(noise, (0, 0), _pixels(sigma)) for sigma in (0.012, 0.022, 0.06)]
    soft = (bands[0] - bands[1]) / (bands[0] - bands[1]).std() + (bands[1] - bands[2]) / (bands[1] - bands[2]).std()
    return np.asarray(np.clip(soft / 3, -1, 1), np.float32)


def _spots(random: np.random.Generator) -> Floats:
    """Age spots, on forehead, temples and the outer cheeks."""
    drawn = np.zeros((CANVAS_PX, CANVAS_PX), np.float32)
    for _ in range(NUM_SPOTS):
        side = random.choice([-1, 1])
        centre = (
            0.5 + side * random.uniform(0.16, 0.36),
            random.choice([random.uniform(0.1, 0.3), random.uniform(0.45, 0.8)]),
        )
        axes = _pixels(random.uniform(0.004, 0.010)) * np.array([1, random.uniform(0.6, 1)])
        at = [round(_pixels(value - CANVAS_LOW)) for value in centre]
        size = [max(round(float(axis)), 1) for axis in axes]
        cv2.ellipse(drawn, at, size, random.uniform(0, 180), 0, 360, random.uniform(0.4, 1), -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), _pixels(0.003)), np.float32)
