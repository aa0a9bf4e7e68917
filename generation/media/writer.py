"""Writing video with PyAV, from RGB uint8 (H, W, 3) frames.

Every video of the dataset, real or fake, is written by `VideoWriter` with the same fixed settings and padded to the
same size, so that codec, bitrate, size, GOP and container say nothing about the label. The bytes depend on frames and
settings only: one encoder thread (libx264's output differs between thread counts) and a container without times or
versions.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias, cast

import av
import numpy as np
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from generation.arrays import Frame
from generation.errors import VideoError
from generation.media.padding import bits_per_second, padded_size, padding, rate_options, stored_size

Packet: TypeAlias = "av.Packet[av.VideoStream]"

X264_OPTIONS = {
    "preset": "veryfast",
    "g": "15",  # a random frame costs at most 15 decodes
    "keyint_min": "15",
    "sc_threshold": "0",  # one GOP for every content
    "bf": "2",
    "b_strategy": "0",  # and B frames at the same positions in it
    "mbtree": "0",  # with it, the bytes depend on what the process encoded before
}
# 3 to 6 times the size. Every fake is made by decoding masters: without arithmetic coding, in half the time.
MASTER_OPTIONS = {**X264_OPTIONS, "crf": "8", "coder": "vlc"}
CONTAINER_OPTIONS = {"movflags": "+faststart", "fflags": "+bitexact"}


def to_picture(frame: Frame) -> VideoFrame:
    """RGB uint8 (H, W, 3) -> YUV 4:2:0, as the encoder takes it."""
    # RGB full range -> YUV 4:2:0 limited range BT.709
    return VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
        format="yuv420p",
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        dst_colorspace=Colorspace.ITU709,
        threads=1,
    )


class StreamWriter:
    """One encoded stream in a file of its own; use as a context manager.

    The file is removed if the block ends with an exception, else it is complete and synced to disk. A subclass sets the
    stream up and puts pictures in.
    """

    def __init__(self, path: Path, *, fps: int | Fraction, options: Mapping[str, str]) -> None:
        self.path = path
        self.num_frames = 0
        self._container = av.open(str(path), "w", format="mp4", options=CONTAINER_OPTIONS)
        self._stream = self._container.add_stream("libx264", rate=fps, options=dict(options))
        self._stream.codec_context.thread_count = 1

    def _put(self, picture: VideoFrame) -> None:
        """Encodes one picture; its time is set here."""
        picture.pts = self.num_frames
        picture.time_base = 1 / self._stream.codec_context.framerate
        self.num_frames += 1
        self._mux(self._stream.encode(picture))

    def _mux(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            self._container.mux(packet)

    def _finish(self) -> None:
        """Writes the packets that are left in the encoder."""
        self._mux(self._stream.encode(None))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            self._container.close()
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise
        if kind is not None:
            self.path.unlink(missing_ok=True)
            return
        with self.path.open("rb") as file:
            os.fsync(file.fileno())


class VideoWriter(StreamWriter):
    """Writes a constant-rate H.264 MP4, yuv420p, BT.709, no audio; use as a context manager.

    Args:
        path: target, ending in .mp4, in an existing folder.
        width, height: even numbers of pixels.
        fps: constant frames per second.
        options: of the encoder; the default for every file of the dataset, others for masters and previews. Unless they
            name a quality ("crf"), the rate is constant, and the file is padded to a size that depends on picture size
            and length alone.

    Raises:
        VideoError: odd size, or a frame of another shape or type.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        fps: int | Fraction = 30,
        options: Mapping[str, str] = X264_OPTIONS,
    ) -> None:
        if width % 2 or height % 2:
            raise VideoError(f"{path}: size {width}x{height} is odd, which 4:2:0 video cannot be; use even numbers")
        self._rate = None if "crf" in options else bits_per_second(width, height, fps)
        self._last: Packet | None = None  # not written yet, since the last one takes the padding
        self._num_bytes = 0
        super().__init__(path, fps=fps, options={**options, **(rate_options(self._rate) if self._rate else {})})
        self._shape = (height, width, 3)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        context = self._stream.codec_context
        context.color_range = ColorRange.MPEG
        context.colorspace = Colorspace.ITU709
        context.color_primaries = 1  # BT.709
        context.color_trc = 1  # BT.709

    def write(self, frame: Frame) -> None:
        """Appends one frame, RGB uint8 (H, W, 3)."""
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise VideoError(f"{self.path}: frame is {frame.dtype} {frame.shape}, expected uint8 {self._shape}")
        self.write_picture(to_picture(frame))

    def write_picture(self, picture: VideoFrame) -> None:
        """Appends one decoded frame that is already yuv420p, BT.709, limited range; its time is set here."""
        picture.pict_type = PictureType.NONE  # else the encoder repeats the picture types of the file it came from
        self._put(picture)

    def _mux(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            if self._last is not None:
                super()._mux([self._last])
            self._last = packet
            self._num_bytes += stored_size(bytes(packet))

    def _finish(self) -> None:
        super()._finish()
        last = self._last
        if last is None:
            return
        if self._rate:
            seconds = self.num_frames / Fraction(self._stream.codec_context.framerate)
            missing = padded_size(self._num_bytes, self._rate, seconds) - self._num_bytes
            padded = cast("Packet", av.Packet(padding(missing) + bytes(last)))
            for name in ("pts", "dts", "duration", "time_base", "is_keyframe", "stream"):
                setattr(padded, name, getattr(last, name))
            last = padded
        super()._mux([last])


def write_clip(path: Path, frames: Iterable[Frame], *, fps: int | Fraction = 30) -> int:
    """Writes frames, RGB uint8 (H, W, 3) each, as one video; returns how many.

    Raises:
        VideoError: no frames, odd or changing size.
    """
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise VideoError(f"{path}: no frames to write")
    with VideoWriter(path, width=first.shape[1], height=first.shape[0], fps=fps) as writer:
        writer.write(first)
        for frame in iterator:
            writer.write(frame)
    return writer.num_frames
