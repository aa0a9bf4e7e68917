"""The neutral crop of a clip and the features of every frame, in one pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame, Grey, Landmarks
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


def measure_clip(
    clip: FaceClip,
    batching: Batching,
    meter_class: type[MotionMeter] = MotionMeter,
    watch: Callable[[Frame, Grey, Landmarks], None] | None = None,
) -> tuple[Neutral, Floats]:
    """The neutral crop, and `FEATURES` of every frame, float32 (T, F); NEUTRAL_SPAN_FRAMES small crops are in memory.

    Args:
        clip: to measure.
        batching: how it is read.
        meter_class: that measures the features.
        watch: is given every crop, in order, as it is and small and grey, with its landmarks as shares of the side.

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
            if watch is not None:
                watch(crop, grey, where)
            if meter is not None:
                features[number] = meter.features(grey, where)
                continue
            greys[number], points[number], gaps[number] = grey, where, mouth_gap(crop, where)
            if number + 1 == span:
                meter = meter_class(_neutral_of(greys, points, gaps, seen_frames(clip)))
                features[:span] = [meter.features(*known) for known in zip(greys, points, strict=True)]
    if meter is None:
        raise FaceError(f"{clip.name}: has no frames; make the clip again")
    return meter.neutral, features


def seen_frames(clip: FaceClip) -> NDArray[np.intp]:
    """Numbers of the frames in which the face is seen; all, where none is."""
    seen = np.flatnonzero(np.ones(len(clip)) if clip.is_detected is None else clip.is_detected)
    return seen if len(seen) else np.arange(len(clip))


def _neutral_of(greys: Grey, points: Landmarks, gaps: Floats, seen: NDArray[np.intp]) -> Neutral:
    offered = seen[seen < len(greys)] if seen[0] < len(greys) else np.arange(len(greys))
    chosen = offered[np.linspace(0, len(offered) - 1, min(NUM_NEUTRAL_CANDIDATES, len(offered))).astype(int)]
    return choose_neutral([greys[number].copy() for number in chosen], points[chosen], gaps[chosen])
