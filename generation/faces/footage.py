"""What a source video shows: its faces, twice a second or more seldom, and where the picture is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from generation.arrays import Frame
from generation.faces.detector import detect_faces, load_detector
from generation.media.normalise import Normaliser
from generation.media.source import Source, decode_frames

DETECT_LINES = 360  # lines of the picture in which faces are looked for
MIN_PROBABILITY = 0.9
SMALLEST_FACE = 0.08  # of the picture's height
GRID = (32, 18)  # blocks in which differences between pictures are kept
GRID_BLOCK_PX = 5
CUT_LEVELS = 8.0  # a cut changes the picture by at least so much, 8-bit levels,
CUT_RATIO = 5.0  # and so much more than the pictures around it change
CUT_NEIGHBOURS = 12
NEIGHBOUR_SECONDS = 0.5  # the time that they take, about
COLOUR_BINS = (6, 12, 12)  # of L, a and b

Values = NDArray[np.float64]


@dataclass(eq=False)
class SeenFace:
    """One detected face.

    Attributes:
        box: float64 (4,), x0, y0, x1, y1 in units of the picture's height.
        turn: distance of the nose from the middle of the eyes along their line, in eye distances; 0 is frontal.
        sharpness: spread of the Laplacian at a fixed size, 8-bit levels.
        look: float32 (3, N), see `_look`.
        person: number of the person; -1 until somebody has told them apart.
    """

    box: Values
    turn: float
    sharpness: float
    look: NDArray[np.float32]
    person: int = -1

    @property
    def side(self) -> float:
        return float(max(self.box[2:] - self.box[:2]))

    @property
    def centre(self) -> Values:
        return np.asarray((self.box[:2] + self.box[2:]) / 2)

    @property
    def frontality(self) -> float:
        return max(0.0, 1 - self.turn)


@dataclass
class Footage:
    """What is known of a source: faces by time in seconds, in order; times of cuts; stretches looked at in full."""

    faces: dict[float, list[SeenFace]] = field(default_factory=dict)
    cuts: set[float] = field(default_factory=set)
    stretches: list[tuple[float, float]] = field(default_factory=list)

    def is_known(self, start: float, stop: float) -> bool:
        """Whether a stretch was looked at in full."""
        return any(first <= start and stop <= last for first, last in self.stretches)


class Viewer:
    """Looks at parts of one source, in pictures of the shape of the clip.

    Args:
        source: from `survey_source`.
        width_px, height_px: of the clip.
        sample_seconds: between two pictures in which faces are looked for, where a stretch is looked at in full.
    """

    def __init__(self, source: Source, width_px: int, height_px: int, *, sample_seconds: float = 0.5) -> None:
        lines = min(DETECT_LINES, height_px)
        width = 2 * round(width_px / height_px * lines / 2)
        self.source = source
        self.sample_seconds = sample_seconds
        self.height_over_width = lines / width
        self._detector = load_detector(min_face_px=max(12, round(SMALLEST_FACE * lines)))
        self._pictures = Normaliser(source, width, lines, "rgb24", is_deinterlaced=False)
        self._small = Normaliser(
            source, GRID[0] * GRID_BLOCK_PX, GRID[1] * GRID_BLOCK_PX, "gray", is_deinterlaced=False
        )

    def look_at_samples(self, footage: Footage, step_seconds: float, *, only_keys: bool) -> None:
        """Looks for faces in the whole source, at most once a step; cuts are not looked for.

        Args:
            footage: takes what is seen.
            step_seconds: between two pictures.
            only_keys: only in pictures that can be decoded alone; much faster.
        """
        due = 0.0
        for time, frame in decode_frames(self.source, only_keys=only_keys, is_strict=False):
            if time >= due:
                due = float(time) + step_seconds
                footage.faces[round(float(time), 3)] = self._faces(frame)

    def look_in_full(self, footage: Footage, start: float, stop: float) -> None:
        """Looks for faces in samples, and for cuts between all pictures, from start to stop in seconds."""
        times: list[float] = []
        changes: list[NDArray[np.uint8]] = []
        sampled: dict[float, list[SeenFace]] = {}
        before: NDArray[np.uint8] | None = None
        due = start
        for time, frame in decode_frames(self.source, start, is_strict=False):
            if time >= stop:
                break
            if time < start - self.sample_seconds / 4:
                continue
            picture = np.asarray(next(self._small.push(frame)).to_ndarray(), np.uint8)
            if before is not None:
                difference = cv2.absdiff(picture, before)
                times.append(float(time))
                changes.append(np.asarray(cv2.resize(difference, GRID, interpolation=cv2.INTER_AREA), np.uint8))
            before = picture
            if time >= due:
                due += self.sample_seconds
                sampled[round(float(time), 3)] = self._faces(frame)
        kept = {at: found for at, found in footage.faces.items() if not start <= at < stop}
        footage.faces = dict(sorted((kept | sampled).items()))
        footage.cuts |= set(find_cuts(times, changes, sampled, self.height_over_width))
        footage.stretches.append((start, stop))

    def _faces(self, frame: VideoFrame) -> list[SeenFace]:
        picture = np.asarray(next(self._pictures.push(frame)).to_ndarray(), np.uint8)
        found = detect_faces(self._detector, [picture])[0]
        lines = picture.shape[0]
        faces = []
        for box, probability, points in zip(found.boxes, found.probabilities, found.landmarks, strict=True):
            if probability >= MIN_PROBABILITY and (box[2:] - box[:2]).min() > 4:
                place = box.astype(np.float64)
                face = SeenFace(place / lines, _turn(points), _sharpness(picture, place), _look(picture, place))
                faces.append(face)
        return faces


def _turn(points: NDArray[np.float32]) -> float:
    across = points[1] - points[0]
    distance = max(float(np.linalg.norm(across)), 1.0)
    return abs(float((points[2] - (points[0] + points[1]) / 2) @ across)) / distance**2


def _region(picture: Frame, box: Values) -> Frame:
    """Part of a picture inside a box; may be empty."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = np.clip(np.round(box), 0, [width, height, width, height]).astype(int)
    return picture[y0:y1, x0:x1]


def _sharpness(picture: Frame, box: Values) -> float:
    region = _region(picture, box)
    if region.size == 0:
        return 0.0
    grey = cv2.resize(cv2.cvtColor(region, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_64F).std())


def _look(picture: Frame, box: Values) -> NDArray[np.float32]:
    """Appearance: square roots of the Lab histograms of hair, face and clothes, one row each; NaN where out of view."""
    width, height = box[2:] - box[:2]
    zones = ((0.0, -0.35, 1.0, 0.1), (0.15, 0.2, 0.85, 0.95), (-0.3, 1.25, 1.3, 2.0))
    rows = np.full((len(zones), int(np.prod(COLOUR_BINS))), np.nan, np.float32)
    for row, zone in zip(rows, zones, strict=True):
        region = _region(picture, box[[0, 1, 0, 1]] + np.array(zone) * [width, height, width, height])
        if min(region.shape[:2]) >= 4:
            # RGB uint8 -> Lab uint8
            lab = cv2.cvtColor(region, cv2.COLOR_RGB2LAB)
            counts = cv2.calcHist([lab], [0, 1, 2], None, list(COLOUR_BINS), [0, 256, 80, 176, 80, 176])
            soft = gaussian_filter(counts, 0.7, mode="nearest")  # a small change of light moves it only a little
            row[:] = np.sqrt(soft.ravel() / max(float(soft.sum()), 1e-9))
    return rows


def unlikeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Hellinger distance of two looks, 0 to 1, averaged over the zones that both show; 1 where there is none."""
    products = (one * other).sum(axis=1)
    known = products[np.isfinite(products)]
    return float(np.sqrt(np.clip(1 - known, 0, 1)).mean()) if len(known) else 1.0


def find_cuts(
    times: Sequence[float],
    changes: Sequence[NDArray[np.uint8]],
    faces: dict[float, list[SeenFace]],
    height_over_width: float,
) -> list[float]:
    """Times of the pictures that differ far more from the one before than their neighbours do.

    The whole picture is looked at, and the place of each face, where a jump cut in front of a still background shows.

    Args:
        times: of the pictures, seconds.
        changes: mean absolute difference from the picture before, uint8 GRID blocks each.
        faces: by time, where to look more closely.
        height_over_width: of the picture.
    """
    if not times:
        return []
    stack = np.stack(changes).astype(np.float32)
    suspects = set(_peaks(stack.mean(axis=(1, 2))))
    samples = sorted(faces)
    for first, last in zip(samples, [*samples[1:], times[-1] + 1], strict=True):
        # The neighbours of the first and last picture between two samples lie outside.
        begin, end = (int(np.searchsorted(times, at)) for at in (first - NEIGHBOUR_SECONDS, last + NEIGHBOUR_SECONDS))
        for face in faces[first]:
            rows, columns = _blocks(face.box, height_over_width)
            peaks = _peaks(stack[begin:end, rows, columns].mean(axis=(1, 2)))
            suspects |= {begin + peak for peak in peaks if first <= times[begin + peak] <= last}
    return sorted(times[suspect] for suspect in suspects)


def _blocks(box: Values, height_over_width: float) -> tuple[slice, slice]:
    unit = np.array([GRID[0] * height_over_width, GRID[1]] * 2)
    x0, y0, x1, y1 = np.round(box * unit).astype(int)
    columns = slice(min(max(x0, 0), GRID[0] - 1), max(x1, 1))
    return slice(min(max(y0, 0), GRID[1] - 1), max(y1, 1)), columns


def _peaks(series: NDArray[np.float32]) -> list[int]:
    peaks = []
    for at in np.flatnonzero(series >= CUT_LEVELS):
        around = np.delete(series, at)[max(0, at - CUT_NEIGHBOURS) : at + CUT_NEIGHBOURS]
        moving = around[around > 0]  # repeated pictures say nothing of how much the picture moves
        if not len(moving) or series[at] >= CUT_RATIO * float(np.median(moving)):
            peaks.append(int(at))
    return peaks
