"""Whether a finished fake still shows a face: MTCNN on a few of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from generation.arrays import Frame, Landmarks
from generation.errors import RejectedOutputError
from generation.faces.detector import detect_faces, load_detector, one_thread

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN

NUM_CHECKED = 6  # frames of a clip
PATCH_PX = 192
REACH = 2.6  # half the side of a patch, in distances from the middle of the eyes to that of the mouth
SURE_SCORE = 0.9
LARGEST_MISSING_SHARE = 0.34


class FaceCheck:
    """Detects the face in a few frames of one fake, evenly spread.

    Args:
        landmarks: float32 (T, 5, 2) of the target, px: where the face must be.
        is_detected: bool (T,), frames in which the target's own face is seen; others are not checked.
    """

    def __init__(self, landmarks: Landmarks, is_detected: Sequence[bool]) -> None:
        seen = np.flatnonzero(np.asarray(is_detected))
        chosen = seen[np.unique(np.linspace(0, len(seen) - 1, NUM_CHECKED).round().astype(int))] if len(seen) else seen
        self._chosen = {int(number) for number in chosen}
        self._landmarks = landmarks
        self._patches: list[Frame] = []
        self._number = 0

    def add(self, frame: Frame) -> None:
        """Takes the next frame, RGB uint8 (H, W, 3); keeps a small patch of the chosen ones."""
        if self._number in self._chosen:
            self._patches.append(_patch_of(frame, self._landmarks[self._number]))
        self._number += 1

    def raise_if_missing(self, name: str) -> None:
        """Detects the face in the patches.

        Raises:
            RejectedOutputError: too many of them show no face.
        """
        if not self._patches:
            return
        with one_thread():
            found = detect_faces(_detector(), self._patches)
        missing = sum(not (len(faces) and float(faces.probabilities.max()) >= SURE_SCORE) for faces in found)
        if missing > LARGEST_MISSING_SHARE * len(self._patches):
            raise RejectedOutputError(f"{name}: rejected, no face is found in {missing} of {len(self._patches)} frames")


def check_image(name: str, image: Frame) -> None:
    """Checks that a generated image shows exactly one face.

    Args:
        name: for the message.
        image: RGB uint8 (S, S, 3).

    Raises:
        RejectedOutputError: it shows none, or several.
    """
    scale = PATCH_PX / max(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    with one_thread():
        (found,) = detect_faces(_detector(), [np.asarray(small, np.uint8)])
    num_faces = int((found.probabilities >= SURE_SCORE).sum())
    if num_faces != 1:
        raise RejectedOutputError(
            f"{name}: rejected, it shows {num_faces or 'no'} {'faces' if num_faces > 1 else 'face'}"
        )


def _patch_of(frame: Frame, landmarks: Landmarks) -> Frame:
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    middle, half = (eyes + mouth) / 2, REACH * max(float(np.linalg.norm(mouth - eyes)), 2.0)
    scale = PATCH_PX / (2 * half)
    matrix = np.array([[scale, 0, scale * (half - middle[0])], [0, scale, scale * (half - middle[1])]], np.float64)
    smooth = cv2.blur(frame, (round(1 / scale),) * 2) if scale < 0.5 else frame
    cut = cv2.warpAffine(smooth, matrix, (PATCH_PX, PATCH_PX), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cut, np.uint8)


@cache
def _detector() -> MTCNN:
    return load_detector(min_face_px=40)
