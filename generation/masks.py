"""Masks of a fake as a video of their own: where, and how much, the target's pixels were replaced.

Grey, lossless H.264: 0 is a pixel of the target, 255 a replaced one. The bytes depend on the masks only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from generation.video import CONTAINER_OPTIONS, open_video
from generation.warp import PastedFrame

LOSSLESS_OPTIONS = {"preset": "ultrafast", "qp": "0", "g": "15", "mbtree": "0"}

Mask = NDArray[np.uint8]


class MaskWriter:
    """Writes the masks of a clip; use as a context manager. The file stays only if the block ends well, synced.

    Args:
        path: ending in .mp4, in an existing folder.
        width, height: of the frames, px, even.
        fps: constant frames per second.
    """

    def __init__(self, path: Path, *, width: int, height: int, fps: int | Fraction = 30) -> None:
        self.path = path
        self.num_frames = 0
        self._shape = (height, width)
        self._container = av.open(str(path), "w", format="mp4", options=CONTAINER_OPTIONS)
        stream = self._container.add_stream("libx264", rate=fps, options=LOSSLESS_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "gray"
        stream.codec_context.thread_count = 1
        stream.codec_context.color_range = ColorRange.JPEG
        self._stream = stream

    def write(self, pasted: PastedFrame) -> None:
        """Appends the mask of one frame."""
        mask = np.zeros(self._shape, np.uint8)
        # float32 [0, 1] -> uint8; whatever changes a pixel is at least 1
        mask[pasted.region] = np.ceil(pasted.mask * 255).astype(np.uint8)
        picture = VideoFrame.from_ndarray(mask, format="gray")
        picture.color_range = ColorRange.JPEG
        picture.pts, picture.time_base = self.num_frames, 1 / self._stream.codec_context.framerate
        self.num_frames += 1
        self._container.mux(self._stream.encode(picture))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise
        if kind is not None:
            self.path.unlink(missing_ok=True)
            return
        with self.path.open("rb") as file:
            os.fsync(file.fileno())


def read_masks(path: Path) -> Iterator[Mask]:
    """Decodes masks one by one: uint8 (H, W), 0 kept, 255 replaced.

    Raises:
        VideoError: the file cannot be read.
    """
    with open_video(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            yield np.ascontiguousarray(frame.to_ndarray(format="gray"))
