"""A crop beside its clip: it shows what its track cuts out, in step, and one face in the middle that does not jump.

Measured on six rendered people: a crop differs from what is cut out again by 1.2 to 1.8 levels on average; the box's
middle is within 0.9 % of the square's, as a share of its side, and the square's speed changes by up to 0.05 % of its
side a frame. MTCNN sees the face within 3 % of the crop's middle, with a side of 66 to 79 %.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Frame
from generation.faces.detector import DetectedFaces, detect_faces, load_detector, one_thread
from generation.faces.track import FaceTrack
from generation.faces.upright import SMALLEST_PX, turned_face
from generation.quality.change import Cells, Luma
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.in_step import StepMeter, Window
from tooling.stages.verify.meters.meter import DecodedFrame, Meter

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN

SIDE_CELLS = 64  # cells of a crop's side in which it is compared with its clip
DETECT_PX = 192  # longer side of the picture in which faces are detected
NUM_DETECTED = 4  # frames of a crop in which they are
SMALLEST_EYES_PX = 12.0  # distance of the eyes, below which its landmarks are too inaccurate
SURE = 0.9


@dataclass(frozen=True)
class CropLimits:
    """Limits of a crop; lengths in shares of its side.

    Attributes:
        largest_difference: mean over the picture and time, levels, from what the track cuts out.
        largest_offcentre: of the tracked box, smoothed, in any frame.
        largest_jerk: change of the square's speed from frame to frame.
        largest_seen_offcentre: of the face as MTCNN detects it in a frame, not smoothed.
        smallest_face, largest_face: its side.
        smallest_other: side of another face, in sides of the first, from which it counts as a second one.
        smallest_seen: share of the measured frames in which a face must be detected.
    """

    largest_difference: float = 5.0
    largest_offcentre: float = 0.08
    largest_jerk: float = 0.01
    largest_seen_offcentre: float = 0.15
    smallest_face: float = 0.35
    largest_face: float = 1.1
    smallest_other: float = 0.5
    smallest_seen: float = 0.5


class CropMeter(Meter):
    """Compares a crop with what its track cuts out of its clip.

    Args:
        check: of the crop.
        clip: name of its clip, for messages.
        track: by which it was cut out.
        limits: of the crop.
    """

    def __init__(self, check: FileCheck, clip: str, track: FaceTrack, limits: CropLimits | None = None) -> None:
        self.check, self.clip, self.track, self.limits = check, clip, track, limits or CropLimits()
        self._window = Window()
        self._steps = StepMeter(self._window)
        self._all = np.ones((SIDE_CELLS, SIDE_CELLS), bool)
        self._sum, self._num = 0.0, 0
        self._worst = (0.0, 0)

    def wants(self, number: int) -> bool:
        """Every frame that is tracked."""
        return number < len(self.track)

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes a frame of the crop and of its clip."""
        if clip is None:
            return
        number = frame.number
        expected = cut_cells(clip.luma, self.track.crop[number])
        found = np.asarray(cv2.resize(frame.luma, (SIDE_CELLS, SIDE_CELLS), interpolation=cv2.INTER_AREA), np.uint8)
        difference = float(cv2.absdiff(expected, found).mean())
        self._sum, self._num = self._sum + difference, self._num + 1
        self._worst = max(self._worst, (difference, number))
        self._window.append(expected)
        self._steps.add(number, found, self._all)

    def finish(self) -> None:
        """Leaves the findings."""
        self._steps.finish()
        step = self._steps.problem()
        mean = self._sum / max(self._num, 1)
        if step and mean < 3 * self.limits.largest_difference:
            self.check.error("content", f"is out of step: {step} {self.clip}; run `tooling faces` again")
        elif mean > self.limits.largest_difference or self._worst[0] > 3 * self.limits.largest_difference:
            levels, number = self._worst
            self.check.error(
                "content",
                f"does not show what its track cuts out of {self.clip} ({mean:.1f} levels from it on average, "
                f"{levels:.1f} in frame {number}); run `tooling faces` again",
            )
        for problem in track_problems(self.track, self.limits):
            way_out = "choose another part of the source by start_seconds in identities.csv"
            self.check.error("content", f"{problem}; {way_out}, then run `tooling ingest SOURCES` and `tooling faces`")


def cut_cells(clip: Luma, square: NDArray[np.float32]) -> Cells:
    """A square of the track cut out of a frame, in SIDE_CELLS x SIDE_CELLS cells; only its side is rounded to whole px.

    The place is not: small steps of it would pass for motion.
    """
    x, y, side = (float(value) for value in square)
    length = max(round(side), 1)
    # Edges -> pixel centres; beyond the frame its border is repeated.
    region = cv2.getRectSubPix(clip, (length, length), (x + side / 2 - 0.5, y + side / 2 - 0.5))
    return np.asarray(cv2.resize(region, (SIDE_CELLS, SIDE_CELLS), interpolation=cv2.INTER_AREA), np.uint8)


def has_landmarks(track: FaceTrack) -> bool:
    """Whether the face is large enough for MTCNN's landmarks to be compared."""
    eyes = np.linalg.norm(track.landmarks[:, 1] - track.landmarks[:, 0], axis=1)
    return float(np.median(eyes)) >= SMALLEST_EYES_PX


def track_problems(track: FaceTrack, limits: CropLimits) -> list[str]:
    """Where a track's square does not keep its face in the middle, or jumps."""
    sides = track.crop[:, 2]
    middles = track.crop[:, :2] + sides[:, None] / 2
    away = np.abs((track.boxes[:, :2] + track.boxes[:, 2:]) / 2 - middles).max(1) / sides
    problems = []
    if away.max() > limits.largest_offcentre:
        worst = int(away.argmax())
        problems.append(f"the face is {away[worst]:.0%} of the crop's side off its centre in frame {worst}")
    if len(track) > 2:
        jerks = np.abs(np.diff(middles, 2, axis=0)).max(1) / sides[1:-1]
        if jerks.max() > limits.largest_jerk:
            problems.append(f"the crop jumps at frame {int(jerks.argmax()) + 1}")
    return problems


@dataclass
class FaceMeter(Meter):
    """Detects faces in a few frames of a crop, or in a still.

    Attributes:
        check: takes the findings.
        num_frames: of the crop; 1 for a still.
        limits: see `CropLimits`.
    """

    check: FileCheck
    num_frames: int
    limits: CropLimits = field(default_factory=CropLimits)

    def __post_init__(self) -> None:
        places = (np.arange(NUM_DETECTED) + 0.5) * self.num_frames / NUM_DETECTED
        self._numbers = frozenset(places.astype(int).tolist())
        self._pictures: list[Frame] = []
        # (4,) and (5, 2), of the last picture in which a face is seen, px
        self.box: NDArray[np.float32] | None = None
        self.landmarks: NDArray[np.float32] | None = None

    def wants(self, number: int) -> bool:
        """A few frames, evenly spread."""
        return number in self._numbers

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes one of these frames."""
        self.add_picture(frame.rgb)

    def add_picture(self, picture: Frame) -> None:
        """Takes a picture, RGB uint8 (H, W, 3); keeps a small copy."""
        if min(picture.shape[:2]) >= SMALLEST_PX:
            scale = min(DETECT_PX / max(picture.shape[:2]), 1.0)
            small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            self._pictures.append(np.asarray(small, np.uint8))
            self._scale = scale

    def finish(self) -> None:
        """Detects the faces and leaves the findings."""
        if not self._pictures:
            self.check.unmeasured.append("faces")
            return
        with one_thread():
            detected = detect_faces(_detector(), self._pictures)
        found = [self._seen(faces, picture) for faces, picture in zip(detected, self._pictures, strict=True)]
        seen = [(number, faces) for number, faces in enumerate(found) if len(faces)]
        if len(seen) < self.limits.smallest_seen * len(found):
            in_frames = "" if len(found) == 1 else f" in {len(found) - len(seen)} of {len(found)} measured frames"
            self.check.error("content", f"no face is found{in_frames}; make it again")
        if len(found) > 1 and (turned := turned_face(self._pictures, found)):  # one picture alone is no evidence
            self.check.error("content", f"shows its face {turned}, or make it again from a source that is upright")
        problems = [problem for number, faces in seen if (problem := self._problem(faces, self._pictures[number]))]
        if len(problems) > (len(found) > 1):  # a single frame of a clip may be a hand or a blur
            self.check.error("content", f"{problems[0]}; make it again")
        if seen:
            faces = seen[-1][1]
            self.box = np.asarray(faces.boxes[0] / self._scale, np.float32)
            self.landmarks = np.asarray(faces.landmarks[0] / self._scale, np.float32)

    def _seen(self, faces: DetectedFaces, picture: Frame) -> DetectedFaces:
        """Faces of a probability of at least SURE, the largest first; without one, a face that is where it should be.

        A fringe over the brows can take a face below SURE.
        """
        order = np.argsort(-(faces.boxes[:, 2:] - faces.boxes[:, :2]).max(1), kind="stable")
        sure = _chosen(faces, order[faces.probabilities[order] >= SURE])
        single = (_chosen(faces, order[at : at + 1]) for at in range(len(order)))
        return sure if len(sure) else next((face for face in single if not self._problem(face, picture)), sure)

    def _problem(self, faces: DetectedFaces, picture: Frame) -> str:
        height, width = picture.shape[:2]
        sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(1)
        num_faces = int((sides >= self.limits.smallest_other * sides[0]).sum())
        if num_faces > 1:
            return f"shows {num_faces} faces"
        middle = (faces.boxes[0, :2] + faces.boxes[0, 2:]) / 2 / (width, height)
        away, side = float(np.abs(middle - 0.5).max()), float(sides[0]) / max(width, height)
        if away > self.limits.largest_seen_offcentre:
            return f"its face is off the centre by {away:.0%} of the side"
        if not self.limits.smallest_face <= side <= self.limits.largest_face:
            return f"its face has {side:.0%} of the side"
        return ""


def _chosen(faces: DetectedFaces, numbers: NDArray[np.int64]) -> DetectedFaces:
    return DetectedFaces(faces.boxes[numbers], faces.probabilities[numbers], faces.landmarks[numbers])


@cache
def _detector() -> MTCNN:
    return load_detector(min_face_px=40)
