"""Finding faces: the MTCNN of facenet-pytorch (Zhang et al. 2016, "Joint Face Detection and Alignment Using
Multitask Cascaded Convolutional Networks") behind one function that returns clean float32 arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from facenet_pytorch import MTCNN
from numpy.typing import NDArray

from generation.video import Frame

Floats = NDArray[np.float32]

SMALLEST_INPUT_PX = 12  # the receptive field of MTCNN's first network


@dataclass(frozen=True)
class DetectedFaces:
    """The faces of one frame, the largest first; N may be 0.

    Attributes:
        boxes: float32 (N, 4), x0, y0, x1, y1 in px of the frame; may reach beyond its border.
        probabilities: float32 (N,), 0 to 1.
        landmarks: float32 (N, 5, 2), px: the eye, the other eye, nose tip, mouth corner, the other mouth corner, each
            pair from left to right as seen in the picture.
    """

    boxes: Floats
    probabilities: Floats
    landmarks: Floats

    def __len__(self) -> int:
        return len(self.boxes)


def load_detector(device: str = "cpu", *, min_face_px: int = 20) -> MTCNN:
    """Loads MTCNN with its packaged weights.

    Args:
        device: any torch device.
        min_face_px: smallest face looked for, in px of the frames that are handed in; larger is faster.
    """
    detector = MTCNN(keep_all=True, min_face_size=min_face_px, device=torch.device(device))
    return detector.eval()


def detect_faces(detector: MTCNN, frames: Sequence[Frame]) -> list[DetectedFaces]:
    """Finds all faces of frames of one size.

    Args:
        detector: from `load_detector`.
        frames: RGB uint8 (H, W, 3) each, of one size, or one array (T, H, W, 3).

    Returns:
        One `DetectedFaces` a frame. Coordinates count from the centre of the upper left pixel, as OpenCV's do.
    """
    if len(frames) == 0:
        return []
    height, width = frames[0].shape[:2]
    if min(height, width) < max(SMALLEST_INPUT_PX, detector.min_face_size):
        return [_as_faces(None, None, None)] * len(frames)
    boxes, probabilities, landmarks = detector.detect(np.stack(list(frames)), landmarks=True)
    return [_as_faces(*found) for found in zip(boxes, probabilities, landmarks, strict=True)]


def _as_faces(boxes: object, probabilities: object, landmarks: object) -> DetectedFaces:
    # facenet-pytorch returns object arrays, and None, [None], None for a frame without faces.
    if boxes is None:
        return DetectedFaces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))
    return DetectedFaces(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(probabilities, np.float32).reshape(-1),
        np.asarray(landmarks, np.float32).reshape(-1, 5, 2),
    )
