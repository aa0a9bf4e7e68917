"""Whether faces are shown upright: a camera or a program may turn a film without saying so in its tags.

MTCNN also finds turned faces, and names their landmarks as if they were upright; but it is less sure of them. On seven
real people and a rendered one, the log-odds of its probability are 8.5 to 14 on average in upright pictures, at most
5.3 in the same ones turned by a quarter or by half; of a face turned by a quarter, its landmarks are askew besides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from generation.arrays import Frame
from generation.faces.detector import DetectedFaces, detect_faces, load_detector, one_thread

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN

NUM_PICTURES = 3  # that suffice
DETECT_LINES = 360  # at most, of a picture in which faces are detected
SMALLEST_PX = 96  # MTCNN does not detect faces reliably in smaller pictures
SMALLEST_FACE_PX = 24
SURE_ODDS = 7.0  # mean log-odds from which faces are upright as they are,
TURNED_ODDS, MUCH_SURER = 5.0, 2.0  # and from which, and by how much more, they are in a turned picture
SMALLEST_SPAN = 0.22  # of a face's side, between the eyes and from them to the mouth; 0.3 to 0.4 of real faces
LARGEST_SLOPE = 0.35
TURNED = {
    1: "on its side; turn it by 90 degrees to the left",
    2: "upside down; turn it by 180 degrees",
    3: "on its side; turn it by 90 degrees to the right",
}


def is_upright(found: Sequence[DetectedFaces]) -> bool:
    """Whether the largest faces of a few pictures of one film are surely shown upright."""
    return _mean_odds(found, is_shape_required=True) >= SURE_ODDS


def turned_face(pictures: Sequence[Frame], found: Sequence[DetectedFaces] | None = None) -> str:
    """How the face lies in pictures and how to turn them, a value of TURNED; "" if it is upright or not clearly seen.

    Args:
        pictures: a few of one film and one size, RGB uint8 (H, W, 3).
        found: their faces, if they are known already.
    """
    if not pictures:
        return ""
    reduced = [_reduced(picture) for picture in pictures]
    with one_thread():
        shown = detect_faces(_detector(), reduced) if found is None else found
        if is_upright(shown):
            return ""
        scale = 1.0 if found is None else len(reduced[0]) / len(pictures[0])
        turned, sides_px = {}, (_least_side(shown) * scale, math.inf)
        for turn in TURNED:
            again = detect_faces(_detector(), [_turned(one, turn) for one in reduced], sides_px)
            turned[turn] = _mean_odds(again, is_shape_required=True)
    best = max(turned, key=lambda turn: turned[turn])
    is_turned = turned[best] >= max(TURNED_ODDS, _mean_odds(shown) + MUCH_SURER)
    return TURNED[best] if is_turned else ""


def _reduced(picture: Frame) -> Frame:
    scale = DETECT_LINES / min(picture.shape[:2])
    if scale >= 1:
        return picture
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _turned(picture: Frame, turn: int) -> Frame:
    return np.ascontiguousarray(np.rot90(picture, turn))


def _mean_odds(found: Sequence[DetectedFaces], *, is_shape_required: bool = False) -> float:
    """Mean log-odds of the largest face of each picture; 0 where none is found, or, if that is required, where its
    landmarks do not lie as those of an upright face."""
    odds = []
    for faces in found:
        is_face = len(faces) > 0 and (_is_shaped(faces) or not is_shape_required)
        probability = min(float(faces.probabilities[0]), 1 - 1e-7) if is_face else 0.5
        odds.append(float(np.log(probability / (1 - probability))))
    return float(np.mean(odds)) if odds else 0.0


def _least_side(found: Sequence[DetectedFaces]) -> float:
    """Of the largest faces of pictures, px; 0 if one shows none."""
    return min(float((one.boxes[0, 2:] - one.boxes[0, :2]).max()) if len(one) else 0.0 for one in found)


def _is_shaped(faces: DetectedFaces) -> bool:
    """Whether the eyes of the largest face are side by side and its mouth is below them."""
    left_eye, right_eye, _, left_mouth, right_mouth = faces.landmarks[0]
    side = float(max(faces.boxes[0, 2:] - faces.boxes[0, :2]))
    across, down = right_eye - left_eye, (left_mouth + right_mouth - left_eye - right_eye) / 2
    is_wide = bool(across[0] >= SMALLEST_SPAN * side and abs(across[1]) <= LARGEST_SLOPE * across[0])
    return is_wide and bool(down[1] >= SMALLEST_SPAN * side and abs(down[0]) <= LARGEST_SLOPE * down[1])


@cache
def _detector() -> MTCNN:
    return load_detector(min_face_px=SMALLEST_FACE_PX)
