"""A face while it is followed: where it was seen, its colours, and how much it is the subject of its frames.

The 14 numbers of a face are its box (x0, y0, x1, y1) and its five landmarks (x, y each), in px of the frame.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from generation.arrays import Frame
from generation.faces.appearance import Histograms, histogram_distance, histograms_of, turn_of
from generation.faces.detector import DetectedFaces

Values = NDArray[np.float64]

VELOCITY_FRAMES = 5
GALLERY_SIZE = 12
GALLERY_STEP = 0.07  # colours that differ more from all that are kept are kept too


@dataclass(frozen=True)
class Candidates:
    """The faces found in one frame.

    Attributes:
        faces: N as detected.
        values: float64 (N, 14).
        colours: N, see `histograms_of`.
    """

    faces: DetectedFaces
    values: Values
    colours: list[Histograms]

    @classmethod
    def of(cls, faces: DetectedFaces, frame: Frame) -> Candidates:
        values = as_values(faces)
        return cls(faces, values, [histograms_of(frame, row[:4]) for row in values])


@dataclass
class Tracklet:
    """One face as far as it has been followed.

    Attributes:
        seen: number of a frame -> what the last network measured there, float64 (14,).
        offsets: number of a sampled frame -> measurement of the whole cascade minus that of the last network.
        scores: probabilities of its detections.
        colours: different ones that it has shown, see `histograms_of`.
        weights: `subject_weight` of each sampled frame.
        last: number of the last frame in which it was seen.
    """

    seen: dict[int, Values] = field(default_factory=dict)
    offsets: dict[int, Values] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    colours: deque[Histograms] = field(default_factory=lambda: deque(maxlen=GALLERY_SIZE))
    weights: list[float] = field(default_factory=list)
    last: int = -1

    @property
    def offset(self) -> Values:
        return next(reversed(self.offsets.values()))

    def at(self, number: int) -> Values:
        """Where the face was in a frame in which it was seen, as the whole cascade would measure it."""
        return self.seen[number] + self.offset

    def expected(self, number: int) -> Values:
        """Where the face should be in a later frame, if for a short time it moves on as before."""
        here = self.at(self.last)
        before = self.last - VELOCITY_FRAMES
        if before not in self.seen or number - self.last > 2 * VELOCITY_FRAMES:
            return here
        centre_step = (centre_of(here) - centre_of(self.at(before))) * (number - self.last) / (self.last - before)
        return here + np.tile(centre_step, 7)

    def add_colours(self, colours: Histograms) -> None:
        if not self.colours or self.colour_distance(colours) > GALLERY_STEP:
            self.colours.append(colours)

    def colour_distance(self, colours: Histograms) -> float:
        """The `histogram_distance` to the most similar of the colours that it has shown."""
        return min(histogram_distance(colours, known) for known in self.colours)


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


def subject_weight(values: Values, shape: tuple[int, int]) -> float:
    """How much a face is the subject of a frame (H, W): its side in px, less if it is turned or off the middle."""
    off_centre = abs(float(centre_of(values)[0]) / shape[1] * 2 - 1)
    turn = turn_of(values[4:].reshape(5, 2).astype(np.float32))
    return side_of(values) * (1 - 1.4 * min(0.5, turn)) * (1 - 0.5 * min(1.0, off_centre))
