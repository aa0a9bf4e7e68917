"""Whether faces are shown upright: a camera or a program may turn a film without saying so in its tags.

MTCNN also finds turned faces, and names their landmarks as if they were upright; but it is less sure of them. On seven
real people and a rendered one, the log-odds of its probability are 8.5 to 14 on average in upright pictures, at most 5
in the same ones turned by a quarter or by half.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from generation.arrays import Frame
from generation.faces.detector import DetectedFaces, detect_faces

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN

NUM_PICTURES = 3  # that suffice
SURE_ODDS = 7.0  # mean log-odds from which faces are upright as they are,
TURNED_ODDS, MUCH_SURER = 6.0, 3.0  # and from which, and by how much more, they are in a turned picture
TURNED = {
    1: "on its side; turn it by 90 degrees to the left",
    2: "upside down; turn it by 180 degrees",
    3: "on its side; turn it by 90 degrees to the right",
}


def turned_face(detector: MTCNN, pictures: Sequence[Frame], found: Sequence[DetectedFaces] | None = None) -> str:
    """How the face lies in pictures and how to turn them, a value of TURNED; "" if it is upright or not clearly seen.

    Args:
        detector: from `load_detector`.
        pictures: a few of one film and one size, RGB uint8 (H, W, 3).
        found: their faces, if they are known already.
    """
    upright = _mean_odds(found if found is not None else detect_faces(detector, list(pictures)))
    if upright >= SURE_ODDS or not pictures:
        return ""
    turned = {
        turn: _mean_odds(detect_faces(detector, [np.ascontiguousarray(np.rot90(one, turn)) for one in pictures]))
        for turn in TURNED
    }
    best = max(turned, key=lambda turn: turned[turn])
    is_turned = turned[best] >= max(TURNED_ODDS, upright + MUCH_SURER)
    return TURNED[best] if is_turned else ""


def _mean_odds(found: Sequence[DetectedFaces]) -> float:
    """Mean log-odds of the largest face of each picture; 0 where none is found."""
    odds = []
    for faces in found:
        probability = min(float(faces.probabilities[0]), 1 - 1e-7) if len(faces) else 0.5
        odds.append(float(np.log(probability / (1 - probability))))
    return float(np.mean(odds)) if odds else 0.0
