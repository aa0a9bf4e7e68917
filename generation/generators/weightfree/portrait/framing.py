"""The camera and the proportions of a drawn portrait: which place of an example is seen at each place of the picture.

Places are shares of the side, of the picture or of an example. An example's crop may reach beyond what was filmed; a
camera shows nothing of that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats
from generation.crops.align import transform
from generation.crops.templates import TEMPLATES

VIEW = 1 / 1.3  # of an example's side that a portrait shows; the rest is room for the camera
LARGEST_ROLL_DEGREES = 5.0
LARGEST_ZOOM = 0.13  # logarithm
CLOSEST_ZOOM = 0.34  # of an example that was filmed from near by
ZOOM_STEP = 0.03
LARGEST_SHIFT = 0.04  # of an example's side
FARTHEST_SHIFT = 0.10  # of the picture's side, of one that was filmed at the frame's edge
MARGIN = 0.015  # of what was filmed, that proportions may bring into the picture
# Changes of proportion: of the head's width, its jaw's and the length below the eyes, of the distance between the eyes,
# all as shares; of the brows' height, in eye distances; of the eyes' slant, radians; of widths and heights of eyes,
# nose and mouth, as shares.
LARGEST_PROPORTIONS: Floats = np.array(
    [0.07, 0.11, 0.08, 0.07, 0.05, 0.08, 0.08, 0.10, 0.12, 0.10, 0.09, 0.13], np.float32
)
UNBEND_ROUNDS = 5
SMALLEST_SHARE = 0.4  # of these; nobody keeps the proportions of an example

_EYES: Floats = TEMPLATES["portrait"][:2]
_UNIT = float(_EYES[1, 0] - _EYES[0, 0])
_CORNERS: Floats = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)


@dataclass(frozen=True)
class View:
    """How a camera looks at an example: turned by degrees, nearer by the logarithm `zoom`, moved by `shift` (2,)."""

    roll_degrees: float
    zoom: float
    shift: NDArray[np.float64]
    is_mirrored: bool

    @property
    def camera(self) -> Floats:
        """From shares of the picture's side to shares of an example's, about the middle: float32 (2, 3)."""
        angle, scale = np.deg2rad(self.roll_degrees), VIEW / np.exp(self.zoom)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turn[:, 0] *= -1 if self.is_mirrored else 1
        middle = np.array([0.5, 0.5])
        return np.hstack([turn, (middle + self.shift - turn @ middle)[:, None]]).astype(np.float32)


STILL = View(0.0, 0.0, np.zeros(2), is_mirrored=False)


def draw_view(random: np.random.Generator) -> View:
    """A view as a photographer might choose it."""
    return View(
        float(random.uniform(-LARGEST_ROLL_DEGREES, LARGEST_ROLL_DEGREES)),
        float(random.uniform(-LARGEST_ZOOM, LARGEST_ZOOM)),
        random.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, 2),
        is_mirrored=bool(random.random() < 0.5),
    )


def fit_view(view: View, to_picture: Floats) -> View | None:
    """The view nearest to this one that shows only what was filmed: closer, moved, then upright; None if there is none.

    Args:
        view: as drawn.
        to_picture: float32 (2, 3), from shares of the example's side to shares of what was filmed.
    """
    for roll in (view.roll_degrees, _upright_degrees(to_picture)):
        for zoom in np.arange(view.zoom, CLOSEST_ZOOM + ZOOM_STEP, ZOOM_STEP):
            found = _moved_inside(View(roll, float(zoom), view.shift, view.is_mirrored), to_picture)
            if found is not None:
                return found
    return None


def draw_proportions(random: np.random.Generator, strength: float = 1.0) -> Floats:
    """Changes of proportion, each by some of its largest either way, times `strength`: float32 (12,)."""
    count = len(LARGEST_PROPORTIONS)
    signs = np.where(random.random(count) < 0.5, -1, 1)
    return np.asarray(strength * signs * random.uniform(SMALLEST_SHARE, 1, count) * LARGEST_PROPORTIONS, np.float32)


def bend(places: Floats, proportions: Floats) -> Floats:
    """Where in an example the head with other proportions shows what it has at places (..., 2) of its crop."""
    width, jaw, length, distance, brows, slant, *sizes = (float(value) for value in proportions)
    x, y = (places[..., 0] - 0.5) / _UNIT, (places[..., 1] - _EYES[0, 1]) / _UNIT
    head = np.exp(-((x / 2.0) ** 4) - ((y - 0.1) / 2.6) ** 4)
    across = x * (1 - head * (width + jaw * np.tanh((y - 0.6) / 0.7)))
    across -= distance * 0.5 * np.tanh(x / 0.25) * np.exp(-((x / 1.1) ** 4) - (y / 0.45) ** 2)
    down = y - length * head * (y - 0.35) - brows * np.exp(-((x / 1.0) ** 4) - ((y + 0.38) / 0.22) ** 2)
    for (middle, below), reach, (wider, higher), slope in (
        ((-0.5, 0.0), (0.34, 0.24), sizes[0:2], slant),
        ((0.5, 0.0), (0.34, 0.24), sizes[0:2], -slant),
        ((0.0, 0.5), (0.36, 0.40), sizes[2:4], 0.0),
        ((0.0, 1.17), (0.60, 0.32), sizes[4:6], 0.0),
    ):
        aside, under = x - middle, y - below
        near = np.exp(-((aside / reach[0]) ** 2) - (under / reach[1]) ** 2)
        across, down = across - near * wider * aside, down - near * (higher * under + slope * aside)
    return np.asarray(np.stack([0.5 + across * _UNIT, _EYES[0, 1] + down * _UNIT], -1), np.float32)


def unbend(places: Floats, proportions: Floats) -> Floats:
    """The inverse of `bend`, by fixed-point iteration: float32 (..., 2)."""
    found = places
    for _ in range(UNBEND_ROUNDS):
        found = found + places - bend(found, proportions)
    return np.asarray(found, np.float32)


def _moved_inside(view: View, to_picture: Floats) -> View | None:
    """The view with the least shift that brings it inside of what was filmed; None if it does not fit or goes too far.

    Corners are moved in the filmed picture, whose axes are those of its edges.
    """
    corners = transform(to_picture, transform(view.camera, _CORNERS))
    low, high = corners.min(0) - MARGIN, corners.max(0) + MARGIN
    if np.any(high - low > 1):
        return None
    moved = np.maximum(-low, 0) - np.maximum(high - 1, 0)
    shift = view.shift + np.linalg.solve(to_picture[:, :2].astype(np.float64), moved)
    if np.abs(shift).max() * np.exp(view.zoom) / VIEW > FARTHEST_SHIFT:
        return None
    return View(view.roll_degrees, view.zoom, shift, view.is_mirrored)


def _upright_degrees(to_picture: Floats) -> float:
    """The roll by which a view is level with the edges of the filmed picture."""
    # The picture may be of any shape: lengths along its axes differ, but its x axis runs where y does not change.
    along = np.array([to_picture[1, 1], -to_picture[1, 0]])
    along *= np.sign(along[0]) if along[0] else 1
    return float(np.rad2deg(np.arctan2(along[1], along[0])))
