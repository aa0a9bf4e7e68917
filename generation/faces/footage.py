"""What a source video shows: its faces, twice a second or less often, where the picture is cut, frozen or damaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from av.video.frame import VideoFrame

from generation.arrays import Boxes, Floats, Grey
from generation.faces.appearance import (
    CHANGE_PX,
    CUT_LEVELS,
    FreezeFinder,
    Histograms,
    blocks_of,
    change_between,
    histograms_of,
    inside_box,
    is_cut,
    sharpness_of,
    turn_of,
)
from generation.faces.detector import DetectedFaces, detect_faces, load_detector
from generation.faces.upright import NUM_PICTURES, is_upright, turned_face
from generation.media.normalise import Normaliser
from generation.media.source import Damage, Source, decode_frames

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN

DETECT_LINES = 360  # lines of the picture in which faces are detected
MIN_PROBABILITY = 0.9
SMALLEST_FACE = 0.08  # of the picture's height
SHARPNESS_PX = 64
CUT_NEIGHBOURS = 12  # pictures before and after a cut that it is compared with
NEIGHBOUR_SECONDS = 0.5  # the time that they take, about


@dataclass(eq=False)
class SeenFace:
    """One detected face.

    Attributes:
        box: float64 (4,), x0, y0, x1, y1 in units of the picture's height.
        turn: see `turn_of`.
        sharpness: see `sharpness_of`.
        colours: see `histograms_of`.
        person: number of the person; -1 until people are numbered.
    """

    box: Boxes
    turn: float
    sharpness: float
    colours: Histograms
    person: int = -1

    @property
    def side(self) -> float:
        return float(max(self.box[2:] - self.box[:2]))

    @property
    def centre(self) -> Boxes:
        return np.asarray((self.box[:2] + self.box[2:]) / 2)

    @property
    def frontality(self) -> float:
        return max(0.0, 1 - self.turn)


@dataclass
class Footage:
    """What is known of a source, times in seconds from its first picture.

    Attributes:
        faces: by time, in order.
        detected: all that was found there, px of a picture that is not kept.
        cuts: times of the first pictures after them.
        frozen, damaged: begin and end of stretches that no clip may have a part of.
        stretches: begin and end of those that were decoded in full.
    """

    faces: dict[float, list[SeenFace]] = field(default_factory=dict)
    detected: dict[float, DetectedFaces] = field(default_factory=dict)
    cuts: set[float] = field(default_factory=set)
    frozen: list[tuple[float, float]] = field(default_factory=list)
    damaged: list[tuple[float, float]] = field(default_factory=list)
    stretches: list[tuple[float, float]] = field(default_factory=list)

    def is_known(self, start: float, stop: float) -> bool:
        """Whether a stretch was decoded in full."""
        return any(first <= start and stop <= last for first, last in self.stretches)


class Viewer:
    """Finds faces and cuts in parts of one source, in pictures of the shape of the clip.

    Args:
        source: from `survey_source`.
        width_px, height_px: of the clip.
        sample_seconds: between two pictures in which faces are detected, where a stretch is decoded in full.
    """

    def __init__(self, source: Source, width_px: int, height_px: int, *, sample_seconds: float = 0.5) -> None:
        lines = min(DETECT_LINES, height_px)
        width = 2 * round(width_px / height_px * lines / 2)
        self.source = source
        self.sample_seconds = sample_seconds
        self.height_over_width = lines / width
        self._detector = _detector(max(12, round(SMALLEST_FACE * lines)))
        self._pictures = Normaliser(source, width, lines, "rgb24", is_deinterlaced=False)
        self._small = Normaliser(source, *CHANGE_PX, "gray", is_deinterlaced=False)

    def sample(self, footage: Footage, step_seconds: float, *, only_keys: bool) -> None:
        """Detects faces in the whole source, at most once a step; finds no cuts, and only long frozen stretches.

        Args:
            footage: takes the faces.
            step_seconds: between two pictures.
            only_keys: only in pictures that can be decoded alone; much faster.
        """
        due = 0.0
        damage: list[Damage] = []
        freezes = FreezeFinder(self.height_over_width, is_complete=False)
        for time, frame in decode_frames(self.source, only_keys=only_keys, damage=damage):
            if time >= due:
                due = float(time) + step_seconds
                at = round(float(time), 3)
                footage.faces[at] = self._faces(frame, footage, at)
                freezes.add(float(time), self._shrunk(frame))
        self._note_spoilt(footage, freezes, footage.faces, damage)

    def decode_in_full(self, footage: Footage, start: float, stop: float) -> None:
        """Detects faces in samples, and finds cuts between all pictures, from start to stop in seconds."""
        times: list[float] = []
        changes: list[Grey] = []
        sampled: dict[float, list[SeenFace]] = {}
        before: Grey | None = None
        due = start
        damage: list[Damage] = []
        freezes = FreezeFinder(self.height_over_width)
        for time, frame in decode_frames(self.source, start, damage=damage):
            if time >= stop:
                break
            if time < start - self.sample_seconds / 4:
                continue
            picture = self._shrunk(frame)
            freezes.add(float(time), picture)
            if before is not None:
                times.append(float(time))
                changes.append(change_between(before, picture))
            before = picture
            if time >= due:
                due += self.sample_seconds
                at = round(float(time), 3)
                sampled[at] = self._faces(frame, footage, at)
        kept = {at: found for at, found in footage.faces.items() if not start <= at < stop}
        footage.faces = dict(sorted((kept | sampled).items()))
        footage.cuts |= set(find_cuts(times, changes, sampled, self.height_over_width))
        footage.stretches.append((start, stop))
        self._note_spoilt(footage, freezes, sampled, damage)

    def turned(self, footage: Footage, start: float, stop: float) -> str:
        """How the face lies between start and stop in seconds, see `turned_face`; "" if it is upright."""
        times = [start + (number + 0.5) * (stop - start) / NUM_PICTURES for number in range(NUM_PICTURES)]
        known = [at for at in footage.detected if start <= at <= stop]
        if known and is_upright([footage.detected[min(known, key=lambda at: abs(at - time))] for time in times]):
            return ""
        pictures = []
        for at in times:
            found = (frame for time, frame in decode_frames(self.source, at, damage=[]) if time >= at)
            if (frame := next(found, None)) is not None:
                pictures.append(np.asarray(next(self._pictures.push(frame)).to_ndarray(), np.uint8))
        return turned_face(pictures)

    def _shrunk(self, frame: VideoFrame) -> Grey:
        return np.asarray(next(self._small.push(frame)).to_ndarray(), np.uint8)

    def _note_spoilt(
        self, footage: Footage, freezes: FreezeFinder, faces: dict[float, list[SeenFace]], damage: Sequence[Damage]
    ) -> None:
        boxes = {time: max(found, key=lambda face: face.side).box for time, found in faces.items() if found}
        footage.frozen += freezes.stretches(boxes)
        end = self.source.duration_seconds
        footage.damaged += [(float(one.begin), end if one.end is None else float(one.end)) for one in damage]

    def _faces(self, frame: VideoFrame, footage: Footage, at: float) -> list[SeenFace]:
        picture = np.asarray(next(self._pictures.push(frame)).to_ndarray(), np.uint8)
        found = footage.detected[at] = detect_faces(self._detector, [picture])[0]
        lines, boxes = picture.shape[0], found.boxes.astype(np.float64)
        faces = []
        for box, probability, points in zip(boxes, found.probabilities, found.landmarks, strict=True):
            if probability >= MIN_PROBABILITY and (box[2:] - box[:2]).min() > 4:
                sharpness = sharpness_of(inside_box(picture, box), SHARPNESS_PX)
                faces.append(SeenFace(box / lines, turn_of(points), sharpness, histograms_of(picture, box)))
        return faces


@cache
def _detector(min_face_px: int) -> MTCNN:
    return load_detector(min_face_px=min_face_px)


def find_cuts(
    times: Sequence[float],
    changes: Sequence[Grey],
    faces: dict[float, list[SeenFace]],
    height_over_width: float,
) -> list[float]:
    """Times of the pictures that differ far more from the one before than their neighbours do.

    The whole picture counts, and so does the box of each face, where a jump cut in front of a still background shows.

    Args:
        times: of the pictures, seconds.
        changes: from the picture before, see `change_between`.
        faces: by time.
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
            rows, columns = blocks_of(face.box, height_over_width)
            peaks = _peaks(stack[begin:end, rows, columns].mean(axis=(1, 2)))
            suspects |= {begin + peak for peak in peaks if first <= times[begin + peak] <= last}
    return sorted(times[suspect] for suspect in suspects)


def _peaks(series: Floats) -> list[int]:
    return [
        int(at)
        for at in np.flatnonzero(series >= CUT_LEVELS)
        if is_cut(series[at], series[max(0, at - CUT_NEIGHBOURS) : at], series[at + 1 : at + 1 + CUT_NEIGHBOURS])
    ]
