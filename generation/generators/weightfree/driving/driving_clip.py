"""The driving clip of an expression: its frames in order, each with the expression's share of its motion."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from generation.arrays import Floats, Frame
from generation.crops import blending
from generation.crops.align import Batching, aligned_batches
from generation.crops.clip import FaceClip
from generation.generators.weightfree.driving.mouth import COLUMNS, LipMatcher, MotionSplitter, Seam, SplitMotion
from generation.motion.expression import MotionMeter, Neutral, mouth_gap, small_grey
from generation.motion.fields import GRID, hann_mean, sample, sample_at, to_grid
from generation.motion.rigid import face_area, fit_rigid, rigid_basis, rigid_places

REACH_FRAMES = 1  # neighbours on either side over which motion is averaged; speech is quick
READ_FRAMES = 8
ASYMMETRY = 0.3  # that is kept
PARTED, PARTED_OF_GAP = 0.012, 2.0  # shares of the side: lips that show no gap may part so far, and the more they show
MORE_OPENING = 0.40  # lips part farther at their edges than in their middle, where their motion is measured


@dataclass(frozen=True)
class DrivingFrame:
    """One frame of the source.

    Attributes:
        crop: RGB uint8 (S, S, 3).
        landmarks: float32 (5, 2), shares of the side.
        motion: of the face without its head, on the grid of the source's neutral crop, shares of the side.
        upper_edge, lower_edge: float32 (len(COLUMNS), 2), where the lips' inner edges lie in this crop.
    """

    crop: Frame
    landmarks: Floats
    motion: SplitMotion
    upper_edge: Floats
    lower_edge: Floats

    @property
    def opening(self) -> float:
        """How far apart they are in their middle; a share of the side."""
        return float((self.lower_edge - self.upper_edge)[len(COLUMNS) // 2, 1])


class DrivingClip:
    """Reads the source once, in step with the target; keeps a few frames. For an earlier frame it starts again."""

    def __init__(self, clip: FaceClip, neutral: Neutral, crop_px: int) -> None:
        self.clip, self.neutral, self.crop_px = clip, neutral, crop_px
        # Where the neutral crop shows teeth, the two edges are apart in it already.
        upper = Seam.find(neutral.grey, neutral.landmarks)
        self.seam = upper.below_teeth(neutral.crop)
        self._edges = upper.points(COLUMNS), self.seam.points(COLUMNS)
        self._meter, self._lips = MotionMeter(neutral), LipMatcher(neutral.grey, self.seam)
        self._basis = rigid_basis(neutral.landmarks)
        self._rigid = rigid_places(neutral.landmarks, neutral.brow_height)
        known = face_area(neutral.landmarks, neutral.brow_height, 0.75, 0.98)
        self._split = MotionSplitter(self.seam, known * (1 - blending.eye_areas(neutral.landmarks)))
        eyes, mouth = neutral.landmarks[:2].mean(0), neutral.landmarks[3:].mean(0)
        axis = eyes[0] + (mouth[0] - eyes[0]) * (GRID[..., 1] - eyes[1]) / (mouth[1] - eyes[1])
        self._mirror = np.stack([2 * axis - GRID[..., 0], GRID[..., 1]], -1).astype(np.float32)
        self._restart()

    def read(self, start: int, stop: int) -> list[DrivingFrame]:
        """Frames start to stop, not included, with motion averaged over their neighbours.

        Raises:
            FaceError, VideoError: the clip cannot be read, or does not fit its track.
        """
        first, last = max(start - REACH_FRAMES, 0), min(stop + REACH_FRAMES, len(self.clip))
        if first < self._first:
            self._restart()
        while self._first + len(self._held) < last:
            self._held.append(next(self._measured))
            self._drop(first)
        self._drop(first)
        held = list(self._held)
        fields = np.stack([np.stack(frame.motion.parts) for frame in held])
        smooth = [hann_mean(fields, number - first, REACH_FRAMES) for number in range(start, stop)]
        return [
            DrivingFrame(frame.crop, frame.landmarks, SplitMotion(*motion), frame.upper_edge, frame.lower_edge)
            for frame, motion in zip(held[start - first :], smooth, strict=False)
        ]

    def openings_and_gaps(self) -> tuple[Floats, Floats]:
        """How far the lips part in each frame, and its `mouth_gap`: float32 (T,) each.

        One pass over the clip.
        """
        lips = [(frame.opening, mouth_gap(frame.crop, frame.landmarks)) for frame in self._measure()]
        openings, gaps = np.array(lips, np.float32).T
        return openings, gaps

    def _restart(self) -> None:
        self._measured = self._measure()
        self._held: deque[DrivingFrame] = deque()
        self._first = 0

    def _drop(self, first: int) -> None:
        while self._held and self._first < first:
            self._held.popleft()
            self._first += 1

    def _measure(self) -> Iterator[DrivingFrame]:
        for faces in aligned_batches(self.clip, Batching(self.crop_px, READ_FRAMES)):
            for crop, landmarks in zip(faces.crops, faces.landmarks, strict=True):
                yield self._frame(crop, landmarks / np.float32(self.crop_px))

    def _symmetric(self, motion: Floats) -> Floats:
        """Takes back most of what differs between left and right: it is nearly always what is left of a turned head."""
        mirrored = sample(motion, self._mirror) * np.array([-1, 1], np.float32)
        return np.asarray(motion + (1 - ASYMMETRY) * (mirrored - motion) / 2, np.float32)

    def _frame(self, crop: Frame, landmarks: Floats) -> DrivingFrame:
        grey = small_grey(crop)
        motion = to_grid(self._meter.from_neutral(grey))
        head = self._basis @ fit_rigid(motion, self._basis, self._rigid)
        parts = self._lips.correct(self._split(motion - head), head, grey)
        parts = SplitMotion(*(self._symmetric(part) for part in parts.parts))
        # A chin that drops while lips stay shut, or a patch that was found elsewhere, opens no mouth.
        parts = self._lips.shut(parts, PARTED + PARTED_OF_GAP * mouth_gap(crop, landmarks))
        parting = np.sqrt(1 - np.square(COLUMNS))[:, None]
        moved = [
            sample_at(head, edge) + (1 - parting) * sample_at(parts.whole, edge) + parting * sample_at(part, edge)
            for edge, part in zip(self._edges, (parts.above, parts.below), strict=True)
        ]
        upper, lower = (edge + motion for edge, motion in zip(self._edges, moved, strict=True))
        beyond = MORE_OPENING * (moved[1] - moved[0])
        return DrivingFrame(crop, landmarks, parts, upper - 0.2 * beyond, lower + 0.8 * beyond)
