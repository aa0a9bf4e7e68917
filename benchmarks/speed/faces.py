"""Speed and accuracy of `follow_face` against the usual loop, `mtcnn(image)` on every frame, same weights, in one run.

Boxes are compared with those of the usual loop after smoothing (9-tap Hann), since its raw boxes of one face jump by
several px from frame to frame. How well they can agree at all shows the usual loop, smoothed, on the same frames moved
by 3 and 2 px. The usual loop is timed on every tenth frame; decoding counts on neither side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measuring import Line, Setup, alternate, ratio_line
from benchmarks.speed.inputs import actor_clip
from generation.arrays import Frame
from generation.faces.detector import detect_faces, load_detector
from generation.faces.follow import follow_face, load_detectors
from generation.media.reader import read_frames

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Boxes:
    """Boxes (T, 4) and landmarks (T, 5, 2) in px."""

    boxes: Values
    landmarks: Values


def measure(setup: Setup) -> Iterator[Line]:
    """On an actor, whose true landmarks are known, and on the clips that are given."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    num_frames = 20 if setup.is_small else 90
    path, truth = actor_clip(setup.folder, num_frames)
    yield from _measure_clip("an actor", list(read_frames(path)), truth.astype(np.float64), setup.repeats)
    for number, clip in enumerate(setup.clips, start=1):
        yield from _measure_clip(f"real clip {number}", list(read_frames(clip, 0, num_frames)), None, setup.repeats)


def _measure_clip(name: str, frames: Sequence[Frame], truth: Values | None, repeats: int) -> Iterator[Line]:
    usual, detectors, sample = load_detector(), load_detectors(), [Image.fromarray(frame) for frame in frames[::10]]
    seconds, found = alternate(
        {
            "mtcnn(frame)": lambda: [usual(image) for image in sample] and None,
            "follow_face": lambda: follow_face(detectors, iter(frames)),
        },
        repeats,
    )
    track = found["follow_face"]
    assert track is not None
    per_frame = {
        way: [value / (len(sample) if way == "mtcnn(frame)" else len(frames)) for value in values]
        for way, values in seconds.items()
    }
    height, width = frames[0].shape[:2]
    where = f"faces of {name}, {len(frames)} frames of {width}x{height}"
    yield ratio_line(where, per_frame, 12, work=1, unit="frames/s of a processor")
    every = every_frame(frames)
    reference = smooth(every)
    own = Boxes(track.boxes.astype(np.float64), track.landmarks.astype(np.float64))
    ious = intersection_over_union(own.boxes, reference.boxes)
    ious = ious[np.isfinite(ious)]
    moved = smooth(every_frame(frames, (3, 2)))
    limit = float(np.nanmedian(intersection_over_union(moved.boxes, reference.boxes)))
    detail = f"least {ious.min():.3f}; mtcnn(frame) of the same frames moved by 3 and 2 px, smoothed: {limit:.3f}"
    if truth is not None:
        eyes = np.linalg.norm(truth[:, 0] - truth[:, 1], axis=1)[:, None]
        errors = [np.nanmean(np.linalg.norm(one.landmarks - truth, axis=2) / eyes) for one in (own, every, reference)]
        detail += "; landmarks off by {:.3f} of the eye distance, mtcnn(frame) {:.3f}, smoothed {:.3f}".format(*errors)
    yield Line(f"{name}: median IoU to the smoothed mtcnn(frame)", float(np.median(ious)), "", 0.96, detail=detail)
    jitters = [float(np.nanmean(np.abs(np.diff(one.boxes, 2, axis=0)))) for one in (own, every, reference)]
    detail = f"mean second difference {jitters[0]:.2f} px, {jitters[1]:.2f} px; smoothed {jitters[2]:.2f} px"
    yield Line(f"{name}: jitter", jitters[0] / jitters[1], "of that of mtcnn(frame)", at_most=1, detail=detail)


def every_frame(frames: Sequence[Frame], moved_px: tuple[int, int] = (0, 0)) -> Boxes:
    """Largest face of every frame; of frames rolled by some px, and moved back."""
    detector = load_detector()
    boxes, landmarks = [], []
    for frame in frames:
        found = detect_faces(detector, [np.roll(frame, moved_px, axis=(1, 0))])[0]
        is_sure = found.probabilities > 0.9
        best = int(np.argmax(is_sure)) if is_sure.any() else None  # the largest comes first
        boxes.append(np.full(4, np.nan) if best is None else found.boxes[best] - np.tile(moved_px, 2))
        landmarks.append(np.full((5, 2), np.nan) if best is None else found.landmarks[best] - np.array(moved_px))
    return Boxes(np.array(boxes, np.float64), np.array(landmarks, np.float64))


def smooth(found: Boxes) -> Boxes:
    """Missing frames interpolated, then a 9-tap Hann filter, mirrored at the ends."""
    values = np.concatenate([found.boxes, found.landmarks.reshape(-1, 10)], axis=1)
    times, known = np.arange(len(values)), np.flatnonzero(np.isfinite(values[:, 0]))
    weights = np.hanning(11)[1:-1] / np.hanning(11).sum()
    columns = []
    for column in values.T:
        filled = np.interp(times, known, column[known])
        padded = np.pad(filled, 4, mode="reflect", reflect_type="odd")
        columns.append(np.convolve(padded, weights, mode="valid"))
    smoothed = np.stack(columns, axis=1)
    return Boxes(smoothed[:, :4], smoothed[:, 4:].reshape(-1, 5, 2))


def intersection_over_union(one: Values, other: Values) -> Values:
    sizes = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    common = np.prod(np.clip(sizes, 0, None), axis=1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    return np.asarray(common / (areas[0] + areas[1] - common))
