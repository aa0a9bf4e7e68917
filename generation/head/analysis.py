"""Positions and colours in head crops, for segmentation and edits.

Positions are in face units: from the middle of the eyes, as multiples of the distance between eyes and mouth, u to the
right and v downward.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import FloatImage, Floats, Frame, Landmarks

ANALYSIS_PX = 224  # side of the head crops that are segmented
FLOW_PX = 112  # side of the grey crops between which flow is measured
EYE_PLACE = 0.43  # distance of a frontal face's eyes from its middle, in face units
COLOUR_BITS = 5
NUM_COLOURS = 1 << 3 * COLOUR_BITS


def face_units(landmarks: Landmarks, side_px: int) -> tuple[Floats, Floats, float]:
    """Columns and rows of a crop in face units, u float32 (1, S) and v float32 (S, 1), and the unit's length in px.

    Args:
        landmarks: (5, 2), px of the crop.
        side_px: S.
    """
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    unit = max(float(np.linalg.norm(mouth - eyes)), 1.0)
    at = np.arange(side_px, dtype=np.float32)
    return ((at - eyes[0]) / unit)[None], ((at - eyes[1]) / unit)[:, None], unit


def across_face(landmarks: Landmarks, side_px: int) -> Floats:
    """u from the nose, float32 (1, S), with both eyes at EYE_PLACE however the head is turned.

    The side that faces away is narrower in the picture and is stretched.
    """
    unit = max(float(np.linalg.norm(landmarks[3:].mean(0) - landmarks[:2].mean(0))), 1.0)
    from_nose = (np.arange(side_px, dtype=np.float32) - landmarks[2, 0]) / unit
    left, right = np.clip(np.abs(landmarks[:2, 0] - landmarks[2, 0]) / unit, 0.2, 0.7)
    return np.asarray(EYE_PLACE * from_nose / np.where(from_nose < 0, left, right), np.float32)[None]


def brows(lightness: Floats, across: Floats, v: Floats, skin_lightness: float) -> Floats:
    """How much of each pixel is brow, float32 (H, W), 0 to 1: darker than the skin, above the eyes.

    Args:
        lightness: L of CIE Lab, (H, W).
        across: from `across_face`, (1, W).
        v: rows in face units, (H, 1).
        skin_lightness: L of the skin.
    """
    beside = (np.abs(across) - EYE_PLACE) / 0.36
    where = np.clip(3 * (1 - np.hypot(beside, (v + 0.36) / 0.17)), 0, 1)
    darker = np.clip((skin_lightness - lightness - 14) / 16, 0, 1)
    return np.asarray(where * darker, np.float32)


def to_lab(crop: Frame) -> Floats:
    """RGB uint8 (S, S, 3) -> CIE Lab float32 (S, S, 3): L 0 to 100, a and b about -100 to 100."""
    return np.asarray(cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def from_lab(lab: Floats) -> FloatImage:
    """CIE Lab float32 (S, S, 3) -> RGB float32 [0, 1]."""
    return np.asarray(cv2.cvtColor(np.asarray(lab, np.float32), cv2.COLOR_LAB2RGB), np.float32)


def disc(radius: float) -> NDArray[np.uint8]:
    """A disc of ones, for morphology."""
    size = 2 * max(round(radius), 1) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


# Dark hair and what is dark behind it differ by few levels: bins are narrow in the dark.
_LEVELS = np.floor(np.sqrt((np.arange(256) + 0.5) / 256) * (1 << COLOUR_BITS)).astype(np.uint8)


def colour_places(crop: Frame) -> NDArray[np.uint16]:
    """Indices of the colours of RGB uint8 (..., S, 3) in a table of NUM_COLOURS."""
    red, green, blue = cv2.split(cv2.LUT(crop.reshape(-1, crop.shape[-2], 3), _LEVELS))
    places = red.astype(np.uint16)
    for channel in (green, blue):
        places <<= COLOUR_BITS
        places |= np.asarray(channel, np.uint8)
    return places.reshape(crop.shape[:-1])


def histogram(places: NDArray[np.uint16], weights: Floats) -> NDArray[np.float64]:
    """Share of each colour among pixels, by places from `colour_places` and weights of their shape: (NUM_COLOURS,)."""
    counts = np.bincount(places.ravel(), weights.ravel(), NUM_COLOURS)
    return np.asarray(counts / max(float(counts.sum()), 1.0), np.float64)


def smoothed(frequencies: NDArray[np.float64], bins: float) -> NDArray[np.float64]:
    """Frequencies of colours (NUM_COLOURS,) in which similar colours share, by a Gaussian of this many bins."""
    size = 1 << COLOUR_BITS
    cube = frequencies.reshape(size, size, size)
    kernel = cv2.getGaussianKernel(2 * round(3 * bins) + 1, bins)
    for axis in range(3):
        first = np.ascontiguousarray(np.moveaxis(cube, axis, 0)).reshape(size, -1)
        spread = cv2.sepFilter2D(first, -1, np.ones(1), kernel, borderType=cv2.BORDER_CONSTANT)
        cube = np.moveaxis(np.asarray(spread, np.float64).reshape(size, size, size), 0, axis)
    return np.ascontiguousarray(cube).ravel()
