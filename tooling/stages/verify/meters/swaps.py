"""Where a swap's landmarks are, beside its target's, by `generation.quality.swap_quality`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from generation.crops.clip import FaceClip
from generation.faces.detector import load_detector
from generation.faces.track import FaceTrack
from generation.quality.swap_quality import SwapMeter, find_problems
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.meter import DecodedFrame, Meter

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN


class SwappedFaceMeter(Meter):
    """Measures the landmarks of a swap in a few frames beside its target's.

    Args:
        check: of the swap.
        target: the track of its target, whose landmarks can be compared (`crops.has_landmarks`).
        is_strict: whether what is wrong is an error; else a note.
    """

    def __init__(self, check: FileCheck, target: FaceTrack, *, is_strict: bool) -> None:
        self.check, self.is_strict = check, is_strict
        clip = FaceClip(check.path, lambda: iter(()), target.landmarks, target.is_detected)
        self._meter = SwapMeter(clip, detector=_detector())

    def wants(self, number: int) -> bool:
        """The few frames that `SwapMeter` takes."""
        return number in self._meter.requested

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes one of these frames of the swap and of its target."""
        if clip is not None and clip.luma.shape == frame.luma.shape:  # another size is a finding already
            self._meter.add(frame.number, clip.rgb, frame.rgb)

    def finish(self) -> None:
        """Leaves the findings."""
        for problem in find_problems(self._meter.results()):
            (self.check.error if self.is_strict else self.check.note)("content", f"{problem}; make it again")


@cache
def _detector() -> MTCNN:
    return load_detector(min_face_px=40)
