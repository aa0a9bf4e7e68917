"""Face detection: MTCNN, returning plain arrays.

The detector is the MTCNN of facenet-pytorch (Zhang et al. 2016, "Joint Face Detection and Alignment Using Multitask
Cascaded Convolutional Networks"). Coordinates are px, x to the right, y down, from the picture's upper left corner.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from generation.arrays import Boxes, Floats, Frame, Landmarks
from generation.faces.cascade import LAST_PX, find_faces, run_network

if TYPE_CHECKING:  # torch takes seconds to import, and not every run detects
    from facenet_pytorch import MTCNN


@dataclass(frozen=True)
class DetectedFaces:
    """Faces, usually those of one frame with the largest first; N may be 0.

    Attributes:
        boxes: float32 (N, 4), x0, y0, x1, y1 in px of the frame; may reach beyond its border.
        probabilities: float32 (N,), 0 to 1.
        landmarks: float32 (N, 5, 2), px of the frame.
    """

    boxes: Boxes
    probabilities: Floats
    landmarks: Landmarks

    def __len__(self) -> int:
        return len(self.boxes)


def load_detector(device: str = "cpu", *, min_face_px: float = 20) -> MTCNN:
    """Loads MTCNN with its packaged weights.

    Args:
        device: any torch device.
        min_face_px: smallest face that it finds, in px of the frames; larger is faster.
    """
    import torch
    from facenet_pytorch import MTCNN

    return MTCNN(keep_all=True, min_face_size=min_face_px, device=torch.device(device)).eval()


def detect_faces(
    detector: MTCNN, frames: Sequence[Frame] | Frame, sides_px: tuple[float, float] = (0, math.inf)
) -> list[DetectedFaces]:
    """Finds all faces of frames of one size.

    Args:
        detector: from `load_detector`.
        frames: RGB uint8 (H, W, 3) each, or one array (T, H, W, 3).
        sides_px: of the smallest and largest face to look for, about; a narrow range is faster.

    Returns:
        One `DetectedFaces` a frame.
    """
    return [DetectedFaces(*find_faces(detector, frame, sides_px)) for frame in frames]


def refine_faces(detector: MTCNN, frames: Sequence[Frame], boxes: Boxes) -> DetectedFaces:
    """Runs the last network of MTCNN alone on one expected box in each frame: about 50 times faster than detecting.

    Its boxes differ from those of the whole cascade by a nearly constant offset, since its input is not the square that
    the second network would have proposed; `generation.faces.follow` measures that offset and removes it.

    Args:
        detector: from `load_detector`.
        frames: N of RGB uint8 (H, W, 3).
        boxes: float32 (N, 4), where the face is expected in each frame, px.

    Returns:
        N faces, one for each frame; the probability is 0 if the box lies outside the frame.
    """
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    corners = centres - sides / 2
    patches = [_patch(*square) for square in zip(frames, corners, sides[:, 0], strict=True)]
    is_inside = np.array([patch is not None for patch in patches])
    empty = np.zeros((LAST_PX, LAST_PX, 3), np.uint8)
    inputs = [empty if patch is None else patch for patch in patches]
    offsets, points, scores = run_network(detector.onet, inputs)
    sizes = sides + 1  # MTCNN's boxes include their last pixel
    refined = np.concatenate([corners, corners + sides], axis=1) + offsets * sizes
    landmarks = np.stack([points[:, :5] * sizes + corners[:, :1], points[:, 5:] * sizes + corners[:, 1:]], axis=2) - 1
    return DetectedFaces(
        refined.astype(np.float32), (scores[:, 1] * is_inside).astype(np.float32), landmarks.astype(np.float32)
    )


def _patch(frame: Frame, corner: Floats, side: float) -> Frame | None:
    height, width = frame.shape[:2]
    x0, y0 = (max(math.floor(start) - 1, 0) for start in corner)
    x1, y1 = min(math.floor(corner[0] + side), width), min(math.floor(corner[1] + side), height)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    shrunk = cv2.resize(frame[y0:y1, x0:x1], (LAST_PX, LAST_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.uint8)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch: with more, sums depend on the number of cores, and so would the bytes of a result."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
