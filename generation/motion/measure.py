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
    eye_contrast,
    mouth_gap,
    small_crop,
    small_grey,
)

NUM_NEUTRAL_CANDIDATES = 48
NEUTRAL_SPAN_FRAMES = 300  # at the beginning of the clip, that the neutral crop is chosen from


def measure_clip(
    clip: FaceClip,
    batching: Batching,
    meter_class: type[MotionMeter] = MotionMeter,
    watch: Callable[[Grey, Landmarks, Floats], None] | None = None,
) -> tuple[Neutral, Floats]:
    """The neutral crop, and `FEATURES` of every frame, float32 (T, F); NEUTRAL_SPAN_FRAMES small crops are in memory.

    Args:
        clip: to measure.
        batching: how it is read.
        meter_class: that measures the features.
        watch: is given every crop, in order: small and grey, its landmarks as shares of the side, its `eye_contrast`.

    Raises:
        FaceError, VideoError: the clip cannot be read, or does not fit its track.
    """
    span = min(len(clip), NEUTRAL_SPAN_FRAMES)
    # Allocated at once: small arrays between large short-lived ones would fragment the memory.
    greys, points = np.empty((span, ANALYSIS_PX, ANALYSIS_PX), np.uint8), np.empty((span, 5, 2), np.float32)
    eyes, gaps = np.empty((span, 2), np.float32), np.zeros(span, np.float32)
    candidates = _candidates(span, seen_frames(clip))
    offered: list[Frame] = []
    features = np.empty((len(clip), len(FEATURES)), np.float32)
    meter: MotionMeter | None = None
    for faces in aligned_batches(clip, batching):
        for number, (crop, landmarks) in enumerate(zip(faces.crops, faces.landmarks, strict=True), faces.start):
            grey, where = small_grey(crop), landmarks / np.float32(batching.crop_px)
            contrast = eye_contrast(grey, where)
            if watch is not None:
                watch(grey, where, contrast)
            if meter is not None:
                features[number] = meter.features(grey, where, contrast)
                continue
            greys[number], points[number], eyes[number] = grey, where, contrast
            if number in candidates:
                gaps[number] = mouth_gap(crop, where)
                offered.append(small_crop(crop))
            if number + 1 == span:
                meter = meter_class(choose_neutral(offered, points[candidates], gaps[candidates]))
                features[:span] = [meter.features(*known) for known in zip(greys, points, eyes, strict=True)]
    if meter is None:
        raise FaceError(f"{clip.name}: has no frames; make the clip again")
    return meter.neutral, features


def seen_frames(clip: FaceClip) -> NDArray[np.intp]:
    """Numbers of the frames in which the face is seen; all, where none is."""
    seen = np.flatnonzero(np.ones(len(clip)) if clip.is_detected is None else clip.is_detected)
    return seen if len(seen) else np.arange(len(clip))


def _candidates(span: int, seen: NDArray[np.intp]) -> NDArray[np.intp]:
    """Numbers of the frames that the neutral crop is chosen from."""
    offered = seen[seen < span] if seen[0] < span else np.arange(span)
    count = min(NUM_NEUTRAL_CANDIDATES, len(offered))
    return np.asarray(offered[np.linspace(0, len(offered) - 1, count).astype(int)], np.intp)
