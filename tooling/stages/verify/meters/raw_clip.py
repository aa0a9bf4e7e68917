"""Whether a clip is footage that can be used: it moves throughout, and its face is upright."""

from __future__ import annotations

import cv2
import numpy as np

from generation.arrays import Boxes, Frame
from generation.faces.appearance import CHANGE_PX, FreezeFinder
from generation.faces.track import FaceTrack
from generation.faces.upright import NUM_PICTURES, SMALLEST_PX, turned_face
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.meter import DecodedFrame, Meter
from tooling.stages.verify.meters.views import spread

MAX_FROZEN_SECONDS = 1.0  # shorter ones are a stutter
OTHER_PART = (
    "choose another part of the source by start_seconds in identities.csv, or hand in another source, then run "
    "`tooling ingest SOURCES`"
)


class FreezeMeter(Meter):
    """Looks for stretches in which nothing moves: not the face, or without a track nothing in the picture.

    Args:
        check: takes the findings.
        fps: frames per second of the clip.
        track: of its face.
    """

    def __init__(self, check: FileCheck, fps: float, track: FaceTrack | None) -> None:
        self.check, self.fps = check, fps
        boxes: Boxes = np.zeros((0, 4)) if track is None else track.boxes.astype(np.float64) / track.height
        self._boxes = {number / fps: box for number, box in enumerate(boxes)}
        self._freezes: FreezeFinder | None = None

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes the next frame."""
        height, width = frame.luma.shape
        self._freezes = self._freezes or FreezeFinder(height / width)
        small = frame.cells  # of 720p they have this size
        if small.shape != CHANGE_PX[::-1]:
            small = np.asarray(cv2.resize(frame.luma, CHANGE_PX, interpolation=cv2.INTER_AREA), np.uint8)
        self._freezes.add(frame.number / self.fps, small)

    def finish(self) -> None:
        """Leaves the findings."""
        for begin, end in self._freezes.stretches(self._boxes) if self._freezes else ():
            if end - begin >= MAX_FROZEN_SECONDS:
                seconds, first = end - begin, round(begin * self.fps)
                self.check.error("content", f"is frozen for {seconds:.1f} s from frame {first}; {OTHER_PART}")


class UprightMeter(Meter):
    """Detects the face in a few frames, upright and turned.

    Args:
        check: takes the findings.
        num_frames: of the clip.
    """

    def __init__(self, check: FileCheck, num_frames: int) -> None:
        self.check = check
        self._numbers = frozenset(spread(num_frames, NUM_PICTURES))
        self._pictures: list[Frame] = []

    def wants(self, number: int) -> bool:
        """A few frames, evenly spread."""
        return number in self._numbers

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes one of these frames, unless it is too small."""
        if min(frame.luma.shape) >= SMALLEST_PX:
            self._pictures.append(frame.rgb)

    def finish(self) -> None:
        """Leaves the finding."""
        if turned := turned_face(self._pictures):
            self.check.error("content", f"shows its face {turned}, export it again and hand it in as a new source")
