"""What a meter is, and the forms of a decoded frame that meters take."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np
from av.video.frame import VideoFrame

from generation.arrays import Frame
from generation.media.reader import to_rgb
from generation.quality.change import Cells, Luma, cells_of


class DecodedFrame:
    """One frame of a file; each form is computed when it is first asked for.

    Args:
        number: of the frame, from 0.
        frame: as decoded.
    """

    def __init__(self, number: int, frame: VideoFrame) -> None:
        self.number = number
        self._frame = frame

    @cached_property
    def luma(self) -> Luma:
        """The first plane, not copied."""
        plane = self._frame.planes[0]
        return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]  # type: ignore[call-overload,no-any-return]

    @cached_property
    def cells(self) -> Cells:
        """Luma in cells."""
        return cells_of(self.luma)

    @cached_property
    def rgb(self) -> Frame:
        """RGB uint8 (H, W, 3)."""
        return to_rgb(self._frame)


class Meter(Protocol):
    """Measures one file while it is decoded and leaves what it found in the file's `FileCheck`.

    Attributes:
        needs_whole_file: whether `finish` is left out if the file does not decode to its end.
    """

    needs_whole_file: ClassVar[bool] = True

    def wants(self, number: int) -> bool:
        """Whether it takes frame `number`; every frame unless a meter says otherwise."""
        return True

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes a frame, and the same frame of the target's clip; None if there is none, and for the clip itself."""

    def finish(self) -> None:
        """Leaves measurements and findings, after the last frame; nothing unless a meter says otherwise."""
        return
