"""One pass over a clip: its neutral crop, and pose and expression of every frame."""

from __future__ import annotations

import numpy as np

from generation.arrays import Floats
from generation.crops.align import Batching, aligned_batches
from generation.crops.clip import FaceClip
from generation.errors import FaceError
from generation.motion.expression import ANALYSIS_PX, FEATURES, Grey, MotionMeter, Neutral, choose_neutral, small_grey

NUM_NEUTRAL_CANDIDATES = 48
NEUTRAL_SPAN_FRAMES = 300  # the neutral crop is looked for at the clip's beginning


def measure_clip(clip: FaceClip, batching: Batching) -> tuple[Neutral, Floats]:
    """The neutral crop, and `FEATURES` of every frame, float32 (T, F); holds NEUTRAL_SPAN_FRAMES small crops.

    Raises:
        FaceError, VideoError: the clip cannot be read, or does not fit its track.
    """
    span = min(len(clip), NEUTRAL_SPAN_FRAMES)
    # In one piece: small arrays kept between large short-lived ones would leave the memory in holes.
    greys, points = np.empty((span, ANALYSIS_PX, ANALYSIS_PX), np.uint8), np.empty((span, 5, 2), np.float32)
    features = np.empty((len(clip), len(FEATURES)), np.float32)
    meter: MotionMeter | None = None
    for faces in aligned_batches(clip, batching):
        for number, (crop, landmarks) in enumerate(zip(faces.crops, faces.landmarks, strict=True), faces.start):
            grey, where = small_grey(crop), landmarks / np.float32(batching.crop_px)
            if meter is not None:
                features[number] = meter.features(grey, where)
                continue
            greys[number], points[number] = grey, where
            if number + 1 == span:
                meter = MotionMeter(_neutral_of(greys, points))
                features[:span] = [meter.features(*known) for known in zip(greys, points, strict=True)]
    if meter is None:
        raise FaceError(f"{clip.name}: holds no frame; make the clip again")
    return meter.neutral, features


def _neutral_of(greys: Grey, points: Floats) -> Neutral:
    chosen = np.linspace(0, len(greys) - 1, min(NUM_NEUTRAL_CANDIDATES, len(greys))).astype(int)
    return choose_neutral([greys[number].copy() for number in chosen], points[chosen])
