"""Which frames of a clip become examples of a person, and which part of a frame is filmed and no black bar."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame, Landmarks
from generation.crops.align import align, smooth_landmarks
from generation.crops.clip import FaceClip
from generation.errors import FaceError
from generation.faces.appearance import turn_of
from generation.motion.expression import ANALYSIS_PX, comparable_gaps, eye_contrast, eye_darkness, mouth_gap, small_grey

CANDIDATES_PER_EXAMPLE = 4
USUALLY_OPEN = 0.15  # closure of an eye that is open
LARGEST_BADNESS = 0.15  # beyond that of the person's best frame
GAP_WEIGHT, TURN_WEIGHT, TILT_WEIGHT, WIDTH_WEIGHT = 0.6, 1.5, 4.0, 2.0
NUM_BAR_FRAMES = 5  # in which bars are looked for
DARKEST_BAR, BAR_NOISE = 24.0, 3.0  # 8-bit levels: bars are black, and alike from end to end
SMALLEST_STEP = 4.0  # levels from a bar to the picture, in most of its length; a black backdrop has no such edge
EDGE_PX = 2  # beside a bar, which an encoder has blurred

Crops = NDArray[np.uint8]


@dataclass(frozen=True)
class Examples:
    """The examples of one person.

    Attributes:
        crops: RGB uint8 (K, P, P, 3), of the template "portrait"; beyond what is filmed, its edge goes on.
        points: float32 (K, 5, 2), landmarks as shares of the side.
        to_picture: float32 (K, 2, 3), from shares of the crop's side to shares of what is filmed, 0 to 1 inside.
    """

    crops: Crops
    points: Floats
    to_picture: Floats


def choose_examples(clip: FaceClip, most: int, crop_px: int) -> Examples:
    """The frames with both eyes open, the mouth closed and the face to the front, in the order of the clip.

    Args:
        clip: of one person.
        most: examples; fewer where fewer frames are good.
        crop_px: side of the crops.

    Raises:
        FaceError, VideoError: the clip cannot be read, or has fewer frames than its track.
    """
    offered = np.arange(len(clip)) if clip.is_detected is None else np.flatnonzero(clip.is_detected)
    offered = offered if len(offered) else np.arange(len(clip))
    spread = np.linspace(0, len(offered) - 1, most * CANDIDATES_PER_EXAMPLE).round().astype(int)
    numbers = offered[np.unique(spread)]
    frames = list(clip.frames_at(numbers.tolist()).values())
    if len(frames) < len(numbers):
        raise FaceError(f"{clip.name}: has fewer frames than its track; delete its track and run `tooling faces`")
    landmarks = smooth_landmarks(clip.landmarks)[numbers]
    badness = _badness(frames, landmarks)
    best = np.argsort(badness, kind="stable")[:most]
    kept = sorted(best[badness[best] <= badness.min() + LARGEST_BADNESS].tolist())
    rows, columns = filmed_part(frames[:: max(len(frames) // NUM_BAR_FRAMES, 1)])
    corner = np.array([columns.start, rows.start], np.float32)
    size = np.array([columns.stop, rows.stop], np.float32) - corner
    cut = [align(frames[number][rows, columns], landmarks[number] - corner, crop_px, "portrait") for number in kept]
    back = np.stack([cv2.invertAffineTransform(matrix) for _, _, matrix in cut])
    scale = np.array([[crop_px, crop_px, 1]], np.float32)
    return Examples(
        np.stack([crop for crop, _, _ in cut]),
        np.stack([points for _, points, _ in cut]) / np.float32(crop_px),
        np.asarray(back * scale / size[:, None], np.float32),
    )


def filmed_part(frames: list[Frame]) -> tuple[slice, slice]:
    """Rows and columns of what is filmed: frames RGB uint8 (H, W, 3) of one clip without black bars at their edges."""
    brightest = np.max([frame.max(2) for frame in frames], axis=0).astype(np.float32)
    darkest = np.min([frame.min(2) for frame in frames], axis=0).astype(np.float32)
    columns = _without_bars(brightest.T, darkest.T)
    return _without_bars(brightest[:, columns], darkest[:, columns]), columns


def _without_bars(brightest: Floats, darkest: Floats) -> slice:
    """The lines (L, N) between two bars; all where there is none."""
    is_black = (brightest.mean(1) <= DARKEST_BAR) & (np.quantile(brightest, 0.98, 1) <= DARKEST_BAR + BAR_NOISE)
    is_black &= (brightest - np.median(brightest, 1, keepdims=True)).std(1) <= BAR_NOISE
    is_black &= (brightest - darkest).mean(1) <= 2 * BAR_NOISE
    count = len(is_black)
    ends = [len(list(itertools.takewhile(bool, lines))) for lines in (is_black, is_black[::-1])]
    if sum(ends) > 0.75 * count:
        return slice(0, count)
    for side, (number, lines) in enumerate(zip(ends, (brightest, brightest[::-1]), strict=True)):
        beside = lines[min(number + EDGE_PX, count - 1)]
        if number and float((beside > lines[:number].mean() + SMALLEST_STEP).mean()) < 0.5:
            ends[side] = 0
    first, last = (number + EDGE_PX if number else 0 for number in ends)
    return slice(first, count - last)


def _badness(frames: list[Frame], landmarks: Landmarks) -> Floats:
    """How far each frame is from an open look to the front with the mouth closed: float32 (N,)."""
    faces = [align(frame, points, 2 * ANALYSIS_PX) for frame, points in zip(frames, landmarks, strict=True)]
    shares = [points / np.float32(2 * ANALYSIS_PX) for _, points, _ in faces]
    greys = [small_grey(face) for face, _, _ in faces]
    closures = []
    for measure in (eye_darkness, eye_contrast):
        opened = np.stack([measure(grey, points) for grey, points in zip(greys, shares, strict=True)])
        closures.append(1 - (opened / np.maximum(np.quantile(opened, 0.8, axis=0), 1e-3)).min(1))
    gaps = np.array([mouth_gap(face, points) for (face, _, _), points in zip(faces, shares, strict=True)])
    widths, tilts = np.array([_mouth_shape(points) for points in shares]).T
    badness = np.maximum(np.max(closures, axis=0) - USUALLY_OPEN, 0) + GAP_WEIGHT * comparable_gaps(gaps)
    badness += TURN_WEIGHT * np.array([turn_of(points) for points in landmarks]) + TILT_WEIGHT * np.abs(tilts)
    return np.asarray(badness + WIDTH_WEIGHT * np.abs(widths - np.median(widths)), np.float32)


def _mouth_shape(points: Floats) -> tuple[float, float]:
    """Width of a mouth and how much its line is tilted against that of the eyes, in eye distances."""
    eyes, mouth = points[1] - points[0], points[4] - points[3]
    unit = float(np.linalg.norm(eyes))
    return float(np.linalg.norm(mouth)) / unit, float(mouth[1] * eyes[0] - mouth[0] * eyes[1]) / unit**2
