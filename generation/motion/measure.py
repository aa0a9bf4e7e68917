"""The neutral crop of a clip and the features of every frame, in one pass."""

from __future__ import annotations

import numpy as np

from generation.arrays import Floats, Grey, Landmarks
from generation.crops.align import Batching, aligned_batches
from generation.crops.clip import FaceClip
from generation.errors import FaceError
from generation.motion.expression import (
    ANALYSIS_PX,
    FEATURES,
    MotionMeter,
    Neutral,
    choose_neutral,
    mouth_gap,
    small_grey,
)

NUM_NEUTRAL_CANDIDATES = 48
NEUTRAL_SPAN_FRAMES = 300  # at the beginning of the clip, that the neutral crop is chosen from


def measure_clip(clip: FaceClip, batching: Batching) -> tuple[Neutral, Floats]:
    """The neutral crop, and `FEATURES` of every frame, float32 (T, F); NEUTRAL_SPAN_FRAMES small crops are in memory.

    Raises:
        FaceError, VideoError: the clip cannot be read, or does not fit its track.
    """
    span = min(len(clip), NEUTRAL_SPAN_FRAMES)
    # Allocated at once: small arrays between large short-lived ones would fragment the memory.
    greys, points = np.empty((span, ANALYSIS_PX, ANALYSIS_PX), np.uint8), np.empty((span, 5, 2), np.float32)
    gaps = np.empty(span, np.float32)
    features = np.empty((len(clip), len(FEATURES)), np.float32)
    meter: MotionMeter | None = None
    for faces in aligned_batches(clip, batching):
        for number, (crop, landmarks) in enumerate(zip(faces.crops, faces.landmarks, strict=True), faces.start):
            grey, where = small_grey(crop), landmarks / np.float32(batching.crop_px)
            if meter is not None:
                features[number] = meter.features(grey, where)
                continue
            greys[number], points[number], gaps[number] = grey, where, mouth_gap(crop, where)
            if number + 1 == span:
                meter = MotionMeter(_neutral_of(greys, points, gaps))
                features[:span] = [meter.features(*known) for known in zip(greys, points, strict=True)]
    if meter is None:
        raise FaceError(f"{clip.name}: has no frames; make the clip again")
    return meter.neutral, features


def _neutral_of(greys: Grey, points: Landmarks, gaps: Floats) -> Neutral:
    chosen = np.linspace(0, len(greys) - 1, min(NUM_NEUTRAL_CANDIDATES, len(greys))).astype(int)
    return choose_neutral([greys[number].copy() for number in chosen], points[chosen], gaps[chosen])
