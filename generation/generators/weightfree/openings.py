"""How far lids and lips are open, frame by frame, by what is seen between the lids and by patches of the lips."""

from __future__ import annotations

import cv2
import numpy as np

from generation.arrays import Floats, Grey, Landmarks
from generation.crops.align import Batching
from generation.crops.clip import FaceClip
from generation.generators.weightfree.driving.mouth import LipMatcher, Seam
from generation.motion.expression import FEATURES, MotionMeter, Neutral, eye_darkness
from generation.motion.fields import hann_mean
from generation.motion.measure import measure_clip
from generation.smoothing import smoothstep

SHUT_FALL, FLUTTER = 0.55, 0.15  # shares by which an eye's measure falls where lids are shut, and flutter
CONTRAST_SHARE, DARK_SHARE = 0.65, 0.6  # of the falls of both measures; a gaze that turns changes the second more
OPEN_QUANTILE = 0.8  # of a clip's values, that of open eyes
HASTY, TOO_HASTY = 0.06, 0.10  # a face that moves so far from frame to frame is blurred, and its landmarks lag
HASTE_FRAMES = 2  # on either side
FLOW_GAIN = 2.0  # flow sees about half of the way that lips move


def measure_lids(
    clip: FaceClip, batching: Batching, meter_class: type[MotionMeter] = MotionMeter
) -> tuple[Neutral, Floats, Floats]:
    """As `measure_clip`, in the same pass with `lid_closures`: float32 (T, 2)."""
    contrast: list[Floats] = []
    darkness: list[Floats] = []

    def watch(grey: Grey, landmarks: Landmarks, eyes: Floats) -> None:
        contrast.append(eyes)
        darkness.append(eye_darkness(grey, landmarks))

    neutral, features = measure_clip(clip, batching, meter_class, watch)
    return neutral, features, lid_closures(np.stack(contrast), np.stack(darkness), haste(clip))


def lid_closures(contrast: Floats, darkness: Floats, quickness: Floats | None = None) -> Floats:
    """How far each lid is closed in each frame of a clip: float32 (T, 2), 0 open to 1 shut, smoothed a little.

    Each eye is compared with itself, open: people wink. In quick motion of the head eyes are taken for open.

    Args:
        contrast: float32 (T, 2), from `eye_contrast`.
        darkness: float32 (T, 2), from `eye_darkness`.
        quickness: float32 (T,), from `haste`; None where the head is still.
    """
    fall, pale = _fall(contrast), _fall(darkness)
    fall = CONTRAST_SHARE * fall + DARK_SHARE * np.clip(pale, 0, np.maximum(fall, 0))
    closure = np.clip(fall / SHUT_FALL, 0, 1) * smoothstep(0, FLUTTER, fall)
    if quickness is not None:
        window = np.ones(2 * HASTE_FRAMES + 1, np.uint8)
        quick = cv2.dilate(np.asarray(quickness, np.float32)[:, None], window[:, None])[:, 0]
        closure *= smoothstep(TOO_HASTY, HASTY, quick)[:, None]
    return np.asarray(closure, np.float32)


def _fall(values: Floats) -> Floats:
    """By how much values (T, 2) are below those of open eyes, as a share of them, averaged over three frames."""
    fall = np.asarray(1 - values / np.maximum(np.quantile(values, OPEN_QUANTILE, axis=0), 1e-3), np.float32)
    return np.stack([hann_mean(fall, number, 1) for number in range(len(fall))])


def haste(clip: FaceClip) -> Floats:
    """How far the face moves from frame to frame: float32 (T,), in distances between the eyes."""
    gap = float(np.median(np.linalg.norm(clip.landmarks[:, 1] - clip.landmarks[:, 0], axis=1)))
    steps = np.linalg.norm(np.diff(clip.landmarks.mean(1), axis=0), axis=1) / max(gap, 1.0)
    return np.asarray(np.maximum(np.append(steps, 0), np.insert(steps, 0, 0)), np.float32)


class LipMeter(MotionMeter):
    """Measures `mouth_opening` by patches of both lips where they are found again, and by flow where they are not."""

    def __init__(self, neutral: Neutral) -> None:
        super().__init__(neutral)
        self._lips = LipMatcher(neutral.grey, Seam.find(neutral.grey, neutral.landmarks).below_teeth(neutral.crop))

    def features(self, grey: Grey, landmarks: Landmarks, contrast: Floats | None = None) -> Floats:
        """As `MotionMeter`'s, except for `mouth_opening`."""
        result = super().features(grey, landmarks, contrast)
        at = FEATURES.index("mouth_opening")
        opening, trust = self._lips.opening(grey, landmarks[3:].mean(0) - self.neutral.landmarks[3:].mean(0))
        result[at] = trust * opening + (1 - trust) * FLOW_GAIN * result[at]
        return result
