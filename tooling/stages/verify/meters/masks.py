"""A fake's mask: one picture for each of its frames, as large as they are, and not black all through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from generation.crops.masks import read_masks
from generation.errors import VideoError
from generation.media.reader import probe_video
from generation.quality.change import Luma
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.meter import DecodedFrame, Meter
from tooling.workspace.records import FileRecord


@dataclass
class MaskMeter(Meter):
    """Decodes a mask in step with its fake.

    Attributes:
        record, check: of the fake.
        path: of the mask.
        name: of the mask, for findings.
        picture: of the frame that was added last, uint8 (H, W), 255 replaced; None from the first problem on.
    """

    record: FileRecord
    check: FileCheck
    path: Path
    name: str
    picture: Luma | None = None

    def __post_init__(self) -> None:
        self._pictures = read_masks(self.path)
        self._is_read = True
        self._is_empty = True

    def wants(self, number: int) -> bool:
        """Every frame, until there is a problem."""
        return self._is_read

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Decodes the next picture; that it is missing, damaged or of another size is a finding."""
        problem = "ends before its fake"
        try:
            self.picture = next(self._pictures, None)
        except VideoError as error:
            self.picture, problem = None, f"does not decode ({str(error).partition(';')[0]})"
        if self.picture is not None and self.picture.shape != frame.luma.shape:
            size, own = (f"{shape[1]}x{shape[0]}" for shape in (self.picture.shape, frame.luma.shape))
            self.picture, problem = None, f"is {size}, its fake {own}"
        if self.picture is None:
            self._stop(problem)
        elif self._is_empty:
            self._is_empty = not self.picture.any()

    def finish(self) -> None:
        """Finds pictures beyond the fake's last frame, and masks that say nothing."""
        if not self._is_read:
            return
        try:
            is_longer = next(self._pictures, None) is not None
        except VideoError:
            is_longer = True
        fps = probe_video(self.path).fps
        if is_longer:
            self._stop("goes on after the end of its fake")
        elif fps != self.record.fps:
            self._stop(f"has {float(fps):g} frames per second, its fake {self.record.fps:g}")
        elif self._is_empty and self.record.parameters.get("factor") != 0:
            self._stop("is black all through: nothing of its target was replaced")

    def _stop(self, problem: str) -> None:
        self._is_read = False
        self.check.error("encoding", f"{problem}; make its fake again", self.name)
