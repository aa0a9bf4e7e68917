"""Aligned crops of a clip that is read several times, so that it is decoded once."""

from __future__ import annotations

import os
import tempfile
import weakref

import numpy as np

from generation.arrays import Floats, Frame, Landmarks
from generation.errors import VideoError


class KeptCrops:
    """Crops by the number of their frame, in a temporary file that is gone with this object; 0.3 MB each at 320 px.

    Args:
        crop_px: side of the crops.
        template: that they are cut by.
    """

    def __init__(self, crop_px: int, template: str = "face") -> None:
        self.crop_px, self.template = crop_px, template
        self._known: dict[int, tuple[Landmarks, Floats]] = {}
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  it is closed with this object
        weakref.finalize(self, self._file.close)

    def __contains__(self, number: int) -> bool:
        return number in self._known

    def add(self, number: int, crop: Frame, landmarks: Landmarks, matrix: Floats) -> None:
        """Keeps what `generation.crops.align.align` returned for a frame.

        Raises:
            VideoError: the disk is full.
        """
        try:
            os.pwrite(self._file.fileno(), np.ascontiguousarray(crop).data, number * crop.nbytes)
        except OSError as error:
            folder = tempfile.gettempdir()
            raise VideoError(f"{folder}: cannot be written ({error.strerror}); free space or set TMPDIR") from error
        self._known[number] = landmarks, matrix

    def get(self, number: int) -> tuple[Frame, Landmarks, Floats]:
        """The crop RGB uint8 (S, S, 3), its landmarks (5, 2) in px, and the map (2, 3) from frame to crop."""
        crop = np.empty((self.crop_px, self.crop_px, 3), np.uint8)
        os.preadv(self._file.fileno(), [crop.data], number * crop.nbytes)
        return crop, *self._known[number]
