"""Speed and accuracy of `follow_face` against the usual loop, `mtcnn(image)` on every frame, in one run.

    python -m benchmarks.speed.faces [CLIP] [--frames N] [--repeatability]

Boxes are compared with those of the usual loop after smoothing (9-tap Hann), since its raw boxes of one face jump by
several px from frame to frame. Times are processor seconds of one thread, so that other work on the machine matters
little. `--repeatability` shows how well they can agree at all: the usual loop, smoothed, on the same frames moved by 3
and 2 px. Without a clip, a synthetic actor is rendered, whose true landmarks are known.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from generation.arrays import Frame
from generation.faces.detector import detect_faces, load_detector
from generation.faces.follow import follow_face, load_detectors
from generation.media.reader import read_frames
from tooling.actors import RenderSettings, render_clip, sample_actor

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Boxes:
    """Boxes (T, 4) and landmarks (T, 5, 2) in px, and how long they took."""

    boxes: Values
    landmarks: Values
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--repeatability", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    truth = None
    if arguments.clip:
        frames = list(read_frames(arguments.clip, 0, arguments.frames))
    else:
        settings = RenderSettings(num_frames=arguments.frames, width_px=1280, height_px=720)
        rendered = list(render_clip(sample_actor(1, "male"), settings))
        frames = [frame.image for frame in rendered]
        truth = np.stack([frame.landmarks for frame in rendered]).astype(np.float64)
    height, width = frames[0].shape[:2]
    print(f"{arguments.clip or 'synthetic actor'}: {len(frames)} frames, {width}x{height}, one thread")

    usual_seconds = time_usual_loop(frames)
    every = every_frame(frames)
    reference = smooth(every)
    report("every frame", every, reference, truth, usual_seconds)
    report("every frame, smoothed", reference, reference, truth, usual_seconds)
    if arguments.repeatability:
        report("the same, frames moved", smooth(every_frame(frames, (3, 2))), reference, truth, usual_seconds)
    report("follow_face", followed(frames), reference, truth, usual_seconds)


def time_usual_loop(frames: Sequence[Frame]) -> float:
    """Processor seconds a frame of `mtcnn(image)`, on every tenth frame."""
    detector = load_detector()
    sample = [Image.fromarray(frame) for frame in frames[::10]]
    detector(sample[0])
    start = time.process_time()
    for image in sample:
        detector(image)
    return (time.process_time() - start) / len(sample)


def every_frame(frames: Sequence[Frame], moved_px: tuple[int, int] = (0, 0)) -> Boxes:
    """Largest face of every frame; of frames rolled by some px, and moved back."""
    detector = load_detector()
    start = time.process_time()
    boxes, landmarks = [], []
    for frame in frames:
        found = detect_faces(detector, [np.roll(frame, moved_px, axis=(1, 0))])[0]
        is_sure = found.probabilities > 0.9
        best = int(np.argmax(is_sure)) if is_sure.any() else None  # the largest comes first
        boxes.append(np.full(4, np.nan) if best is None else found.boxes[best] - np.tile(moved_px, 2))
        landmarks.append(np.full((5, 2), np.nan) if best is None else found.landmarks[best] - np.array(moved_px))
    seconds = (time.process_time() - start) / len(frames)
    return Boxes(np.array(boxes, np.float64), np.array(landmarks, np.float64), seconds)


def followed(frames: Sequence[Frame]) -> Boxes:
    """The track of `follow_face`."""
    detectors = load_detectors()
    start = time.process_time()
    track = follow_face(detectors, iter(frames))
    seconds = (time.process_time() - start) / len(frames)
    return Boxes(track.boxes.astype(np.float64), track.landmarks.astype(np.float64), seconds)


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
    return Boxes(smoothed[:, :4], smoothed[:, 4:].reshape(-1, 5, 2), found.seconds)


def report(name: str, found: Boxes, reference: Boxes, truth: Values | None, usual_seconds: float) -> None:
    agreement = intersection_over_union(found.boxes, reference.boxes)
    agreement = agreement[np.isfinite(agreement)]
    steps = np.abs(np.diff(found.boxes, 2, axis=0))
    eyes = np.linalg.norm(reference.landmarks[:, 0] - reference.landmarks[:, 1], axis=1)[:, None]
    apart = np.linalg.norm(found.landmarks - reference.landmarks, axis=2) / eyes
    line = (
        f"{name:24s} {found.seconds * 1e3:6.1f} ms a frame, {usual_seconds / found.seconds:5.1f} times the usual loop;"
        f" IoU median {np.median(agreement):.3f} min {agreement.min():.3f} above .95 {(agreement > 0.95).mean():4.0%};"
        f" jitter (mean second difference) {np.nanmean(steps):5.2f} px;"
        f" landmarks {np.nanmean(apart):.3f} of the eye distance apart"
    )
    if truth is not None:
        eyes = np.linalg.norm(truth[:, 0] - truth[:, 1], axis=1)[:, None]
        line += f", {np.nanmean(np.linalg.norm(found.landmarks - truth, axis=2) / eyes):.3f} from the truth"
    print(line, flush=True)


def intersection_over_union(one: Values, other: Values) -> Values:
    sizes = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    common = np.prod(np.clip(sizes, 0, None), axis=1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    return np.asarray(common / (areas[0] + areas[1] - common))


if __name__ == "__main__":
    main()
