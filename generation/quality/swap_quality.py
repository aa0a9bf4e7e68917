"""Whether a face swap keeps its target's pose and expression.

Both show in where MTCNN sees the five landmarks, in the fake and in the same frame of the target, so that its own
errors are the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from generation.arrays import Frame, Landmarks
from generation.crops.align import align, smooth_landmarks
from generation.crops.clip import FaceClip
from generation.faces.detector import DetectedFaces, detect_faces, load_detector, one_thread

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN

NUM_CHECKED = 8  # frames of a clip in which landmarks are detected
PORTRAIT_PX = 192  # side of the crops in which they are detected
FARTHEST_FACE = 0.75  # distance of a face's landmarks from the track's, in those of the eyes; others are another's
# Limits that a swap must keep, in the units of `SwapQuality`.
LARGEST_LANDMARK_ERROR = 0.15
LARGEST_MISSED_SHARE = 0.34


@dataclass(frozen=True)
class SwapQuality:
    """Measurements of one fake.

    Attributes:
        landmark_error: distance of its landmarks from the target's, in distances of the eyes: median over the frames;
            None where the detector finds the face in no frame.
        num_missed: frames in which it finds the face in the target but not in the fake.
    """

    landmark_error: float | None
    num_missed: int


class SwapMeter:
    """Takes a few frames of one fake with its target's, and keeps crops of them.

    Args:
        target: for its landmarks; its frames are not read.
        detector: MTCNN; None loads it.

    Attributes:
        requested: numbers of the frames to hand in.
    """

    def __init__(self, target: FaceClip, detector: MTCNN | None = None) -> None:
        self._detector = detector
        self._landmarks = smooth_landmarks(target.landmarks)
        seen = target.is_detected
        numbers = np.arange(len(target)) if seen is None else np.flatnonzero(seen)
        chosen = np.linspace(0, len(numbers) - 1, NUM_CHECKED if len(numbers) else 0).round().astype(int)
        self.requested = frozenset(numbers[chosen].tolist())
        self._portraits: list[tuple[Frame, Frame]] = []
        self._expected: list[Landmarks] = []

    def add(self, number: int, target: Frame, fake: Frame) -> None:
        """Takes one of the frames in `requested`, RGB uint8 (H, W, 3) each."""
        points = self._landmarks[number]
        first, second = (align(frame, points, PORTRAIT_PX, "portrait") for frame in (target, fake))
        self._portraits.append((first[0], second[0]))
        self._expected.append(first[1])

    def results(self) -> SwapQuality:
        """The measurements of the frames so far."""
        if not self._portraits:
            return SwapQuality(None, 0)
        detector = self._detector or load_detector(min_face_px=40)
        with one_thread():
            found = [detect_faces(detector, portraits) for portraits in zip(*self._portraits, strict=True)]
        errors, missed = [], 0
        for *faces, expected in zip(*found, self._expected, strict=True):
            target, fake = (_tracked(some, expected) for some in faces)
            if target is not None and fake is not None:
                errors.append(_landmark_distance(target, fake))
            missed += target is not None and fake is None
        return SwapQuality(float(np.median(errors)) if errors else None, missed)


def _tracked(faces: DetectedFaces, expected: Landmarks) -> Landmarks | None:
    """Landmarks of the face that is tracked, whatever else is taken for a face; None if it is missed."""
    distances = [_landmark_distance(expected, points) for points in faces.landmarks]
    best = int(np.argmin(distances)) if distances else 0
    return faces.landmarks[best] if distances and distances[best] <= FARTHEST_FACE else None


def _landmark_distance(target: Landmarks, fake: Landmarks) -> float:
    """Mean distance of landmarks, in distances of the target's eyes."""
    eyes = max(float(np.linalg.norm(target[1] - target[0])), 1.0)
    return float(np.linalg.norm(fake - target, axis=1).mean()) / eyes


def find_problems(quality: SwapQuality) -> list[str]:
    """The limits that a swap breaks, one phrase each."""
    error, missed = quality.landmark_error, quality.num_missed
    problems = []
    if error is not None and error > LARGEST_LANDMARK_ERROR:
        problems.append(f"its landmarks are {error:.2f} eye distances from the target's")
    if missed > LARGEST_MISSED_SHARE * NUM_CHECKED:
        problems.append(f"no face is found in {missed} of the frames that were checked")
    return problems
