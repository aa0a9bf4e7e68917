"""How far lids and lips are open, frame by frame, by the edges of the lids and by patches of the lips."""

from __future__ import annotations

import cv2
import numpy as np

from generation.arrays import Floats, Frame, Grey, Landmarks
from generation.generators.weightfree.driving.eyelids import Eyes
from generation.generators.weightfree.driving.mouth import LipMatcher, Seam
from generation.motion.expression import FEATURES, MotionMeter, Neutral
from generation.motion.fields import hann_mean

MEASURED_PX = 160  # side of the crop in which lids are measured
FALL_OF_EDGES = (0.03, 0.22)  # shares by which the opening falls, where lids begin to close and where they are shut
FALL_OF_DARK = (0.20, 0.55)  # the same for what is dark in the eye
OPEN_QUANTILE = 0.8  # of a clip's values, that of open eyes
FLOW_GAIN = 2.0  # flow sees about half of the way that lips move


def lid_openings(crop: Frame, landmarks: Landmarks) -> Floats:
    """Distance between the edges found of each eye, open or not, in distances between the eyes: float32 (2,).

    Args:
        crop: RGB uint8 (S, S, 3).
        landmarks: float32 (5, 2) as shares of the side.
    """
    small = np.asarray(cv2.resize(crop, (MEASURED_PX, MEASURED_PX), interpolation=cv2.INTER_AREA), np.uint8)
    eyes = Eyes.find(small, landmarks)
    return np.array([(eye.upper + eye.lower) / eye.gap for eye in (eyes.left, eyes.right)], np.float32)


def lid_closures(openings: Floats, darkness: Floats) -> Floats:
    """How far each lid is closed in each frame of a clip: float32 (T, 2), 0 open to 1 shut, smoothed a little.

    The edges found of a shut eye are those of its lashes, so its opening falls by a quarter only, or less behind
    glasses. Where the dark of iris and pupil goes too it counts for up to twice as much.

    Args:
        openings: float32 (T, 2), from `lid_openings` of all frames.
        darkness: float32 (T, 2), from `eye_darkness`.
    """
    closed, pale = (
        np.clip((_fall(values) - low) / (high - low), 0, 1)
        for values, (low, high) in ((openings, FALL_OF_EDGES), (darkness, FALL_OF_DARK))
    )
    return np.asarray(np.minimum(closed * (1 + pale), 1), np.float32)


def _fall(values: Floats) -> Floats:
    """By how much values (T, 2) are below those of open eyes, as a share of them, averaged over three frames."""
    fall = np.asarray(1 - values / np.maximum(np.quantile(values, OPEN_QUANTILE, axis=0), 1e-3), np.float32)
    return np.stack([hann_mean(fall, number, 1) for number in range(len(fall))])


class LipMeter(MotionMeter):
    """Measures `mouth_opening` by patches of both lips where they are found again, and by flow where they are not."""

    def __init__(self, neutral: Neutral) -> None:
        super().__init__(neutral)
        self._lips = LipMatcher(neutral.grey, Seam.find(neutral.grey, neutral.landmarks))

    def features(self, grey: Grey, landmarks: Landmarks) -> Floats:
        """As `MotionMeter`'s, except for `mouth_opening`."""
        result = super().features(grey, landmarks)
        at = FEATURES.index("mouth_opening")
        opening, trust = self._lips.opening(grey, landmarks[3:].mean(0) - self.neutral.landmarks[3:].mean(0))
        result[at] = trust * opening + (1 - trust) * FLOW_GAIN * result[at]
        return result
