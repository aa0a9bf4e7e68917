"""A face while it is followed: where it was seen, how it looks, how much it is the subject of its frames.

A face's 14 numbers are its box (x0, y0, x1, y1) and its five landmarks (x, y each), in px.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Frame
from generation.faces.detector import DetectedFaces

Values = NDArray[np.float64]

VELOCITY_FRAMES = 5
GALLERY_SIZE = 12
GALLERY_STEP = 4.0  # a look that differs more from all that are kept is kept too
LOOK_CELLS = 12  # cells of an appearance's side
LOOK_REACH = 2.0  # eye-mouth distances from its middle to its border
LOOK_SHARE = 0.75  # of its cells, those most alike, that are compared: the others may be covered or moving


@dataclass(frozen=True)
class Candidates:
    """The faces found in one frame.

    Attributes:
        faces: N as detected.
        values: float64 (N, 14).
        looks: N appearances, see `look_of`.
    """

    faces: DetectedFaces
    values: Values  # (N, 14)
    looks: list[Values]

    @classmethod
    def of(cls, faces: DetectedFaces, frame: Frame) -> Candidates:
        values = as_values(faces)
        return cls(faces, values, [look_of(frame, row[4:]) for row in values])


@dataclass
class Tracklet:
    """One face as far as it has been followed. Measurements are 14 numbers: box and landmarks.

    Attributes:
        seen: frame -> what the last network measured there.
        offsets: sampled frame -> the whole cascade's measurement minus the last network's.
        looks: different appearances.
        weights: side, frontality and nearness to the middle, multiplied, of each sampled frame.
    """

    seen: dict[int, Values] = field(default_factory=dict)
    offsets: dict[int, Values] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    looks: deque[Values] = field(default_factory=lambda: deque(maxlen=GALLERY_SIZE))
    weights: list[float] = field(default_factory=list)
    last: int = -1

    @property
    def offset(self) -> Values:
        return next(reversed(self.offsets.values()))

    def at(self, number: int) -> Values:
        """Where the face was on a frame on which it was seen, with the offset taken out."""
        return self.seen[number] + self.offset

    def expected(self, number: int) -> Values:
        """Where the face should be on a later frame, moving on as it did for a short time."""
        here = self.at(self.last)
        before = self.last - VELOCITY_FRAMES
        if before not in self.seen or number - self.last > 2 * VELOCITY_FRAMES:
            return here
        centre_step = (centre_of(here) - centre_of(self.at(before))) * (number - self.last) / (self.last - before)
        return here + np.tile(centre_step, 7)

    def add_look(self, look: Values) -> None:
        if not self.looks or unlikeness(look, self.looks) > GALLERY_STEP:
            self.looks.append(look)


def as_values(faces: DetectedFaces) -> Values:
    """Boxes and landmarks as float64 (N, 14)."""
    return np.concatenate([faces.boxes, faces.landmarks.reshape(-1, 10)], axis=1).astype(np.float64)


def centre_of(values: Values) -> Values:
    """Middle of the box."""
    return np.asarray((values[:2] + values[2:4]) / 2)


def side_of(values: Values) -> float:
    """Longer side of the box, at least 1 px."""
    return max(1.0, float(max(values[2] - values[0], values[3] - values[1])))


def overlap(one: Values, other: Values) -> float:
    """Intersection over union of two boxes."""
    sizes = np.minimum(one[2:4], other[2:4]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.clip(sizes, 0, None)))
    areas = [float(np.prod(np.clip(box[2:4] - box[:2], 0, None))) for box in (one, other)]
    return common / max(sum(areas) - common, 1e-9)


def look_of(frame: Frame, points: Values) -> Values:
    """Appearance: a small Lab picture of face, hair and collar, upright and of one size.

    Args:
        frame: RGB uint8 (H, W, 3).
        points: float64 (10,), the landmarks, px.

    Returns:
        float64 (144, 3), 12 rows of 12 cells, in OpenCV's 8-bit Lab levels.
    """
    eyes, mouth = (points[0:2] + points[2:4]) / 2, (points[6:8] + points[8:10]) / 2
    middle, length = (eyes + mouth) / 2, max(float(np.linalg.norm(mouth - eyes)), 1.0)
    step = (mouth - eyes) * 2 * LOOK_REACH / LOOK_CELLS  # one cell, along the face's own down
    across = np.array([step[1], -step[0]])
    start = middle - (across + step) * (LOOK_CELLS / 2 - 0.5)
    radius = max(1, round(float(np.linalg.norm(step)) / 2))
    reach = np.full(2, 1.5 * LOOK_REACH * length + radius)
    limits = np.array([frame.shape[1], frame.shape[0]]) - 1
    x0, y0 = np.clip(np.floor(middle - reach), 0, limits).astype(int)
    x1, y1 = np.clip(np.ceil(middle + reach), 0, limits).astype(int) + 1
    region = cv2.blur(frame[y0:y1, x0:x1], (2 * radius + 1, 2 * radius + 1))
    matrix = np.column_stack([across, step, start - (x0, y0)])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    small = cv2.warpAffine(region, matrix, (LOOK_CELLS, LOOK_CELLS), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), np.float64).reshape(-1, 3)


def unlikeness(look: Values, known: Iterable[Values]) -> float:
    """Root of the mean squared difference to the most similar of known appearances, in 8-bit levels.

    Measured on one real and thirteen synthetic persons: one person differs by up to 9 from a few looks known before,
    two persons by 5 to 40, half of the pairs by more than 20.
    """
    kept = int(LOOK_SHARE * len(look))
    squares = (np.sort(((look - other) ** 2).mean(axis=1))[:kept] for other in known)
    return min(float(np.sqrt(square.mean())) for square in squares)


def subject_weight(values: Values, shape: tuple[int, int]) -> float:
    """How much a face is the subject of a frame: its side, less if turned away, less if near the border."""
    left, right, nose = values[4], values[6], values[8]
    turn = abs(2 * nose - left - right) / max(abs(right - left), 1.0)
    offcentre_of = abs(float(centre_of(values)[0]) / shape[1] * 2 - 1)
    return side_of(values) * (1 - 0.7 * min(1.0, float(turn))) * (1 - 0.5 * min(1.0, offcentre_of))
