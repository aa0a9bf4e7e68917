"""Aligned crops: squares of a frame in which eyes, nose and mouth lie where a template says, streamed in batches.

Every family of fakes gets `AlignedFaces`; `generation.crops.paste` lays what it returns back into the frame. Memory
does not grow with the length of the clip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame, Landmarks, Mask
from generation.crops.clip import FaceClip, PastedFrame
from generation.crops.kept import KeptCrops
from generation.crops.templates import TEMPLATE_GROUPS, TEMPLATES
from generation.errors import FaceError
from generation.smoothing import fill_short_gaps, smooth_over_time, smooth_points

SMOOTHING_FRAMES = 9  # of landmarks over time; odd
CHOICE_FRAMES = 31  # over which the choice among templates is averaged; odd
MISSED_FRAMES = 3  # so many missed in a row, between two with the face, count as seen


@dataclass(frozen=True)
class AlignedFaces:
    """A batch of consecutive aligned crops, with neighbours in time around it.

    Attributes:
        crops: RGB uint8 (N, S, S, 3).
        landmarks: float32 (N, 5, 2), px of the crop.
        matrices: float32 (N, 2, 3), affine map from px of the frame to px of the crop.
        start: number in the clip of the first frame that needs a result.
        num_before, num_after: crops at either end that are only context and need no result.
        is_seen: bool (N,), crops that show the face; None if all do. A detector misses single frames, in which the real
            face would flash up: up to `MISSED_FRAMES` in a row count as seen between two that were detected.
    """

    crops: Frame
    landmarks: Landmarks
    matrices: Floats
    start: int = 0
    num_before: int = 0
    num_after: int = 0
    is_seen: NDArray[np.bool_] | None = None

    @property
    def requested(self) -> slice:
        """The crops that need a result."""
        return slice(self.num_before, len(self.crops) - self.num_after)


@dataclass(frozen=True)
class Batching:
    """How a clip is cut into batches.

    Attributes:
        crop_px: side of the aligned crops.
        batch_frames: results for each batch.
        context_frames: neighbours on either side of each batch, fewer at the ends of the clip.
        template: one of `TEMPLATES`: where the landmarks lie in the crops; or one of `TEMPLATE_GROUPS`.
        keeps_detail: whether a result is an edit of its crop, so that detail of the frame that is too fine for the crop
            stays.
        paste: replaces `generation.crops.paste.paste`: takes frame, crop, mask and matrix.

    Raises:
        FaceError: there is no such template.
    """

    crop_px: int
    batch_frames: int = 8
    context_frames: int = 0
    template: str = "face"
    keeps_detail: bool = False
    paste: Callable[[Frame, Frame, Mask, Floats], PastedFrame] | None = None

    def cuts_as(self, kept: KeptCrops) -> bool:
        """Whether crops that are kept are those that it cuts."""
        return (self.crop_px, self.template) == (kept.crop_px, kept.template)

    def __post_init__(self) -> None:
        known = (*TEMPLATES, *TEMPLATE_GROUPS)
        if self.template not in known:
            raise FaceError(f"{self.template}: no such template of aligned crops; use one of {', '.join(known)}")


def smooth_landmarks(landmarks: Landmarks, num_frames: int = SMOOTHING_FRAMES) -> Landmarks:
    """Averages landmarks (T, 5, 2) over time with Hann weights, without delay; quick motion is followed as it is."""
    return smooth_points(landmarks, num_frames).astype(np.float32)


def similarity(points: Floats, targets: Floats) -> Floats:
    """The rotation, scale and shift that brings points (N, 2) nearest to their targets, in least squares.

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns", in two
    dimensions and without reflection. Returns float32 (2, 3).
    """
    centre, goal = points.mean(0), targets.mean(0)
    here = (points - centre) @ np.array([1, 1j])
    there = (targets - goal) @ np.array([1, 1j])
    turn = np.vdot(here, there) / max(np.vdot(here, here).real, 1e-12)
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.hstack([linear, (goal - linear @ centre)[:, None]]).astype(np.float32)


def transform(matrix: Floats, points: Floats) -> Floats:
    """Applies an affine map (2, 3) to points (..., 2)."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)


def align(frame: Frame, landmarks: Landmarks, crop_px: int, template: str = "face") -> tuple[Frame, Landmarks, Floats]:
    """Cuts one aligned crop out of a frame: the crop, its landmarks (5, 2) and the map (2, 3) from frame to crop."""
    matrix = similarity(landmarks, TEMPLATES[template] * crop_px)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:  # a large face: average before taking fewer pixels
        frame = np.asarray(cv2.blur(frame, (round(1 / scale), round(1 / scale))), np.uint8)
    crop = cv2.warpAffine(frame, matrix, (crop_px, crop_px), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(crop, np.uint8), transform(matrix, landmarks), matrix


def choose_templates(landmarks: Landmarks, template: str) -> list[str]:
    """The template of each frame: `template` itself, or the one of the group that the landmarks fit best.

    The measure is the sum of the landmarks' distances from the template, averaged over a second, so that a head between
    two poses does not change its framing with every frame.

    Args:
        landmarks: float32 (T, 5, 2), px of the frame.
        template: one of `TEMPLATES` or `TEMPLATE_GROUPS`.
    """
    if template in TEMPLATES:
        return [template] * len(landmarks)
    names = TEMPLATE_GROUPS[template]
    distances = [[_misfit(points, TEMPLATES[name]) for name in names] for points in landmarks]
    chosen = smooth_over_time(np.array(distances), CHOICE_FRAMES).argmin(1)
    return [names[number] for number in chosen]


def _misfit(points: Landmarks, targets: Landmarks) -> float:
    return float(np.linalg.norm(transform(similarity(points, targets), points) - targets, axis=1).sum())


def aligned_crops(clip: FaceClip, numbers: Collection[int], crop_px: int) -> list[tuple[Frame, Landmarks]]:
    """The crops of some frames and their landmarks, px, in the order of the clip; see `align`.

    Raises:
        FaceError, VideoError: the clip cannot be read.
    """
    kept, wanted = _kept_for(Batching(crop_px), clip), sorted(set(numbers))
    if kept is not None and all(number in kept for number in wanted):
        return [kept.get(number)[:2] for number in wanted]
    landmarks = smooth_landmarks(clip.landmarks)
    return [align(frame, landmarks[number], crop_px)[:2] for number, frame in clip.frames_at(wanted).items()]


def aligned_batches(clip: FaceClip, batching: Batching) -> Iterator[AlignedFaces]:
    """Streams the aligned crops of a clip in batches, in order; the clip is not decoded where it has kept them all.

    Raises:
        FaceError: the clip has another number of frames than landmarks.
    """
    kept = _kept_for(batching, clip)
    if kept is not None and batching.context_frames == 0 and all(number in kept for number in range(len(clip))):
        yield from _kept_batches(clip, kept, batching.batch_frames)
        return
    for _, faces in framed_batches(clip, batching):
        yield faces


def _kept_for(batching: Batching, clip: FaceClip) -> KeptCrops | None:
    return clip.kept if clip.kept is not None and batching.cuts_as(clip.kept) else None


def _kept_batches(clip: FaceClip, kept: KeptCrops, batch_frames: int) -> Iterator[AlignedFaces]:
    is_seen = _seen_in(clip)
    for start in range(0, len(clip), batch_frames):
        numbers = range(start, min(start + batch_frames, len(clip)))
        crops, landmarks, matrices = (np.stack(part) for part in zip(*map(kept.get, numbers), strict=True))
        seen = None if is_seen is None else is_seen[numbers.start : numbers.stop]
        yield AlignedFaces(crops, landmarks, matrices, start, is_seen=seen)


def _seen_in(clip: FaceClip) -> NDArray[np.bool_] | None:
    return None if clip.is_detected is None else fill_short_gaps(clip.is_detected, MISSED_FRAMES)


@dataclass
class _Window:
    """The frames in flight; `first` is the number of the first crop that is kept."""

    batching: Batching
    is_seen: NDArray[np.bool_] | None = None
    kept: KeptCrops | None = None
    frames: deque[Frame] = field(default_factory=deque)
    crops: deque[tuple[Frame, Landmarks, Floats]] = field(default_factory=deque)
    first: int = 0
    done: int = 0

    def add(self, frame: Frame, landmarks: Landmarks, template: str) -> None:
        number = self.first + len(self.crops)
        self.frames.append(frame)
        if self.kept is not None and number in self.kept:
            self.crops.append(self.kept.get(number))
            return
        self.crops.append(align(frame, landmarks, self.batching.crop_px, template))
        if self.kept is not None:
            self.kept.add(number, *self.crops[-1])

    def take(self, num_frames: int) -> tuple[list[Frame], AlignedFaces]:
        frames = [self.frames.popleft() for _ in range(num_frames)]
        before = self.done - self.first
        used = list(self.crops)[: before + num_frames + self.batching.context_frames]
        crops, landmarks, matrices = (np.stack(part) for part in zip(*used, strict=True))
        after = len(used) - before - num_frames
        seen = None if self.is_seen is None else self.is_seen[self.first : self.first + len(used)]
        faces = AlignedFaces(crops, landmarks, matrices, self.done, before, after, seen)
        self.done += num_frames
        while self.first < self.done - self.batching.context_frames:
            self.crops.popleft()
            self.first += 1
        return frames, faces


def framed_batches(clip: FaceClip, batching: Batching) -> Iterator[tuple[list[Frame], AlignedFaces]]:
    """As `aligned_batches`, each with the frames that need a result."""
    window = _Window(batching, _seen_in(clip), _kept_for(batching, clip))
    landmarks = smooth_landmarks(clip.landmarks)
    templates = choose_templates(landmarks, batching.template)
    num_frames = 0
    for frame in clip.frames():
        if num_frames == len(landmarks):
            raise FaceError(
                f"{clip.name}: has more frames than its track ({num_frames}); delete its track and run `tooling faces`"
            )
        window.add(frame, landmarks[num_frames], templates[num_frames])
        num_frames += 1
        if len(window.frames) == batching.batch_frames + batching.context_frames:
            yield window.take(batching.batch_frames)
    if num_frames < len(landmarks):
        raise FaceError(
            f"{clip.name}: has {num_frames} frames and its track {len(landmarks)}; "
            "delete its track and run `tooling faces`"
        )
    while window.frames:
        yield window.take(min(batching.batch_frames, len(window.frames)))
