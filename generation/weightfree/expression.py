"""Pose, expression and dense motion of a face, measured within one clip and without weights.

Everything is relative to the clip's own neutral crop: two people are never compared pixel by pixel, only their
movements are. Motion is dense inverse search optical flow (Kroeger et al. 2016, "Fast Optical Flow using Dense
Inverse Search") between crops of one person, which share skin, light and features, so it is reliable.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.video import Frame
from generation.warp import TEMPLATE, AlignedFaces, Floats

ANALYSIS_PX = 128  # side of the grey crops that are compared
FLOW_SMOOTHING_PX = 2.0
SMALLEST_BLINK = 0.25  # eye closure; a clip whose eyes close less does not blink
LARGEST_MOTION = 0.12  # of the crop's side; more is a mismatch

# Weights of the features when two frames are compared: what a viewer notices first weighs most.
FEATURES = ("yaw", "pitch", "mouth_opening", "mouth_width", "eye_closure")
FEATURE_WEIGHTS: Floats = np.array([12.0, 5.0, 18.0, 6.0, 1.0], np.float32)

Grey = NDArray[np.uint8]


@dataclass(frozen=True)
class Neutral:
    """The crop that a clip's motion is measured from.

    Attributes:
        grey: uint8 (ANALYSIS_PX, ANALYSIS_PX).
        landmarks: float32 (5, 2) as shares of the crop's side.
        eye_darkness: float32 (2,), see `eye_darkness`.
    """

    grey: Grey
    landmarks: Floats
    eye_darkness: Floats


def small_grey(crop: Frame) -> Grey:
    """RGB uint8 (S, S, 3) -> grey uint8 (ANALYSIS_PX, ANALYSIS_PX)."""
    small = cv2.resize(crop, (ANALYSIS_PX, ANALYSIS_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def choose_neutral(greys: list[Grey], landmarks: Floats) -> Neutral:
    """Picks the crop with usual pose, open eyes and the mouth most closed.

    Args:
        greys: candidates from `small_grey`.
        landmarks: float32 (N, 5, 2) of the candidates, as shares of the crop's side.
    """
    shapes = landmarks.reshape(len(greys), -1)
    darkness = np.stack([eye_darkness(grey, points) for grey, points in zip(greys, landmarks, strict=True)])
    open_eyes = np.quantile(darkness, 0.8, axis=0).astype(np.float32)
    pose = np.abs(shapes - np.median(shapes, 0)).mean(1)
    closure = 1 - darkness.mean(1) / max(float(open_eyes.mean()), 1e-3)
    # Mouths can only be compared by motion, which needs a first choice to be measured from.
    first = int(np.argmin(20 * pose + np.maximum(closure - 0.05, 0)))
    meter = MotionMeter(Neutral(greys[first], landmarks[first], open_eyes))
    measured = np.stack([meter.features(grey, points) for grey, points in zip(greys, landmarks, strict=True)])
    opening = measured[:, FEATURES.index("mouth_opening")]
    opening = np.maximum(opening - np.quantile(opening, 0.15), 0)
    best = int(np.argmin(20 * pose + np.maximum(closure - 0.05, 0) + 10 * opening))
    return Neutral(greys[best], landmarks[best], open_eyes)


def eye_darkness(grey: Grey, landmarks: Floats) -> Floats:
    """How much of each eye's opening is darker than the skin around it: float32 (2,), falls when the lid closes."""
    values = []
    for x, y in landmarks[:2] * ANALYSIS_PX:
        left, top = round(float(x)) - 9, round(float(y)) - 5
        patch = grey[max(top, 0) : top + 12, max(left, 0) : left + 19].astype(np.float32)
        skin = max(float(np.quantile(patch, 0.8)), 1.0) if patch.size else 1.0
        values.append(float(np.maximum(1 - patch / skin - 0.15, 0).mean()) if patch.size else 0.0)
    return np.array(values, np.float32)


class MotionMeter:
    """Measures crops against their clip's neutral crop. Holds OpenCV's flow object, nothing else."""

    def __init__(self, neutral: Neutral) -> None:
        self.neutral = neutral
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def from_neutral(self, grey: Grey) -> Floats:
        """Where each place of the neutral crop went: float32 (ANALYSIS_PX, ANALYSIS_PX, 2), as shares of the side."""
        return self._measure(self.neutral.grey, grey)

    def to_neutral(self, grey: Grey) -> Floats:
        """Where each place of the crop comes from in the neutral crop; shape and unit as `from_neutral`."""
        return self._measure(grey, self.neutral.grey)

    def features(self, grey: Grey, landmarks: Floats) -> Floats:
        """Pose and expression: float32 (len(FEATURES),), shares of the crop's side; eye closure 0 open to 1 closed."""
        flow = self.from_neutral(grey)
        still, here = self.neutral.landmarks, landmarks
        mouth = still[3:].mean(0)
        gap = float(np.linalg.norm(still[4] - still[3]))
        upper = _mean_flow(flow, mouth, -0.25 * gap, 0.25 * gap)
        lower = _mean_flow(flow, mouth, 0.40 * gap, 0.30 * gap)
        width = float(np.linalg.norm(here[4] - here[3])) - gap
        closure = 1 - eye_darkness(grey, landmarks).mean() / max(float(self.neutral.eye_darkness.mean()), 1e-3)
        return np.array([_yaw(here), _pitch(here) - _pitch(still), lower[1] - upper[1], width, closure], np.float32)

    def _measure(self, first: Grey, second: Grey) -> Floats:
        flow = self._flow.calc(first, second, None)
        flow = cv2.GaussianBlur(flow, (0, 0), FLOW_SMOOTHING_PX) / ANALYSIS_PX
        return np.asarray(np.clip(flow, -LARGEST_MOTION, LARGEST_MOTION), np.float32)


def _mean_flow(flow: Floats, centre: Floats, below: float, radius: float) -> Floats:
    x, y = np.clip((centre[0], centre[1] + below), 0, 1) * (ANALYSIS_PX - 1)
    reach = max(radius * ANALYSIS_PX, 2)
    rows = slice(max(round(y - reach / 2), 0), round(y + reach / 2) + 1)
    columns = slice(max(round(x - reach), 0), round(x + reach) + 1)
    return np.asarray(flow[rows, columns].reshape(-1, 2).mean(0), np.float32)


def _yaw(landmarks: Floats) -> float:
    """Sideways place of the nose between the eyes' and the mouth's middle, as a share of the side; 0 is frontal."""
    return float(landmarks[2, 0] - 0.5 * (landmarks[:2, 0].mean() + landmarks[3:, 0].mean()))


def _pitch(landmarks: Floats) -> float:
    """Height of the nose between eyes (0) and mouth (1)."""
    eyes, mouth = float(landmarks[:2, 1].mean()), float(landmarks[3:, 1].mean())
    return (float(landmarks[2, 1]) - eyes) / max(mouth - eyes, 1e-3)


def comparable(features: Floats) -> Floats:
    """Makes the features (T, F) of two clips comparable: each clip's closed mouth, open eyes and usual pitch are 0.

    A full blink is 1 in every clip, however large the eyes are.
    """
    result = features.copy()
    pitch, opening, width, closure = (FEATURES.index(name) for name in FEATURES[1:])
    result[:, pitch] -= np.median(features[:, pitch])
    result[:, width] -= np.median(features[:, width])
    result[:, opening] -= np.quantile(features[:, opening], 0.1)
    closed = features[:, closure] - np.quantile(features[:, closure], 0.25)
    result[:, closure] = closed / max(float(closed.max()), SMALLEST_BLINK)
    return result


def measure_batch(meter: MotionMeter, faces: AlignedFaces) -> Floats:
    """Features of the wanted crops of a batch: float32 (B, len(FEATURES))."""
    side = faces.crops.shape[1]
    crops, landmarks = faces.crops[faces.wanted], faces.landmarks[faces.wanted] / side
    return np.stack([meter.features(small_grey(c), p) for c, p in zip(crops, landmarks, strict=True)])


def displacement(points: Floats, wanted: Floats, grid: Floats) -> Floats:
    """A smooth field that carries points (5, 2) exactly to those wanted.

    An affine map in least squares, plus Gaussian bumps around the points for what it leaves over. The affine map is
    held towards a shift by the template's spread, since five points determine it poorly.

    Args:
        points, wanted: shares of the crop's side.
        grid: float32 (G, G, 2), places where the field is asked for.

    Returns:
        float32 (G, G, 2): add it to the grid.
    """
    centre = points.mean(0)
    basis = points - centre
    offset = (wanted - points).astype(np.float64)
    ridge = 0.15 * float(np.square(TEMPLATE - TEMPLATE.mean(0)).sum() / 2)
    linear = np.linalg.solve(basis.T @ basis + ridge * np.eye(2), basis.T @ (offset - offset.mean(0)))
    left = offset - offset.mean(0) - basis @ linear
    bumps = np.linalg.solve(_bump(points, points) + 1e-3 * np.eye(5), left)
    field = offset.mean(0) + (grid - centre) @ linear + _bump(grid, points) @ bumps
    return np.asarray(field, np.float32)


def _bump(places: Floats, points: Floats) -> NDArray[np.float64]:
    """Gaussian of the distance between places (..., 2) and points (5, 2): (..., 5)."""
    squared = np.square(places[..., None, :].astype(np.float64) - points).sum(-1)
    return np.asarray(np.exp(-squared / (2 * 0.2**2)))
