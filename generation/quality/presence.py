"""Whether a finished fake still shows a face: MTCNN on a few of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from generation.arrays import Floats, Frame
from generation.errors import RejectedOutputError
from generation.faces.detector import detect_faces, load_detector, one_thread

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN

NUM_LOOKS = 6  # frames of a clip that are looked at
LOOK_PX = 192
REACH = 2.6  # half the side of what is looked at, in distances from the eyes' middle to the mouth's
SURE = 0.9
LARGEST_MISSING_SHARE = 0.34


class FaceCheck:
    """Looks at evenly spread frames of one fake.

    Args:
        landmarks: float32 (T, 5, 2) of the target, px: where the face must be.
        is_detected: bool (T,), frames in which the target's own face is seen; only these are looked at.
    """

    def __init__(self, landmarks: Floats, is_detected: Sequence[bool]) -> None:
        seen = np.flatnonzero(np.asarray(is_detected))
        chosen = seen[np.unique(np.linspace(0, len(seen) - 1, NUM_LOOKS).round().astype(int))] if len(seen) else seen
        self._wanted = {int(number) for number in chosen}
        self._landmarks = landmarks
        self._looks: list[Frame] = []
        self._number = 0

    def add(self, frame: Frame) -> None:
        """Takes the next frame, RGB uint8 (H, W, 3); keeps a small cut-out of the chosen ones."""
        if self._number in self._wanted:
            self._looks.append(_cut_out(frame, self._landmarks[self._number]))
        self._number += 1

    def raise_if_missing(self, name: str) -> None:
        """Detects the face in what was kept.

        Raises:
            RejectedOutputError: too many of the frames show no face.
        """
        if not self._looks:
            return
        with one_thread():
            found = detect_faces(_detector(), self._looks)
        missing = sum(not (len(faces) and float(faces.probabilities.max()) >= SURE) for faces in found)
        if missing > LARGEST_MISSING_SHARE * len(self._looks):
            raise RejectedOutputError(f"{name}: rejected, no face is found in {missing} of {len(self._looks)} frames")


def check_image(name: str, image: Frame) -> None:
    """A generated image shows exactly one face.

    Args:
        name: for the message.
        image: RGB uint8 (S, S, 3).

    Raises:
        RejectedOutputError: there is no face, or more than one.
    """
    scale = LOOK_PX / max(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    with one_thread():
        (found,) = detect_faces(_detector(), [np.asarray(small, np.uint8)])
    num_faces = int((found.probabilities >= SURE).sum())
    if num_faces != 1:
        raise RejectedOutputError(
            f"{name}: rejected, it shows {num_faces or 'no'} {'faces' if num_faces > 1 else 'face'}"
        )


def _cut_out(frame: Frame, landmarks: Floats) -> Frame:
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    middle, half = (eyes + mouth) / 2, REACH * max(float(np.linalg.norm(mouth - eyes)), 2.0)
    scale = LOOK_PX / (2 * half)
    matrix = np.array([[scale, 0, scale * (half - middle[0])], [0, scale, scale * (half - middle[1])]], np.float64)
    smooth = cv2.blur(frame, (round(1 / scale),) * 2) if scale < 0.5 else frame
    cut = cv2.warpAffine(smooth, matrix, (LOOK_PX, LOOK_PX), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cut, np.uint8)


_loaded: list[MTCNN] = []


def _detector() -> MTCNN:
    if not _loaded:
        _loaded.append(load_detector(min_face_px=40))
    return _loaded[0]
