"""Masks of a fake as a video of their own: grey, lossless H.264, 0 for a pixel of the target, 255 for a replaced one.

The bytes depend on the masks only. FFmpeg, torchcodec, torchvision and Chromium decode them to equal R, G and B, with
the very values. Motion is searched in whole pixels, and of whole blocks: a 720p mask of a swap takes 9 kB, that of an
edit 10 kB, 30 % and 11 % more than with x264's own preset "medium", which takes three times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from generation.arrays import Grey
from generation.crops.clip import PastedFrame
from generation.media.reader import main_stream, open_video
from generation.media.writer import StreamWriter

LOSSLESS_OPTIONS = {
    "preset": "superfast",
    "qp": "0",
    "g": "15",
    "mbtree": "0",
    "bf": "0",
    "rc-lookahead": "0",
    "x264-params": "subme=0:partitions=none:weightp=0:scenecut=0",
}


class MaskWriter(StreamWriter):
    """Writes the masks of a clip; use as a context manager.

    Args:
        path: ending in .mp4, in an existing folder.
        width, height: of the frames, px, even.
        fps: constant frames per second.
    """

    def __init__(self, path: Path, *, width: int, height: int, fps: int | Fraction = 30) -> None:
        super().__init__(path, fps=fps, options=LOSSLESS_OPTIONS)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "gray"
        self._stream.codec_context.color_range = ColorRange.JPEG

    def write(self, pasted: PastedFrame) -> None:
        """Appends the mask of one frame."""
        picture = VideoFrame.from_ndarray(pasted.stored_mask, format="gray")
        picture.color_range = ColorRange.JPEG
        self._put(picture)


def read_masks(path: Path) -> Iterator[Grey]:
    """Decodes masks one by one: uint8 (H, W), 0 kept, 255 replaced.

    Raises:
        VideoError: the file cannot be read.
    """
    with open_video(path) as container:
        stream = main_stream(container)
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            # x264 keeps grey in the first plane, full range; the other two are empty
            plane = frame.planes[0]
            rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[call-overload]
            yield np.ascontiguousarray(rows[:, : plane.width])
