"""Reading and writing video with PyAV. Public frames are RGB uint8 (T, H, W, 3) or, one at a time, (H, W, 3).

Every video of the dataset, real or fake, is written by `VideoWriter` with the same fixed settings and filled up to the
same size, so that codec, bitrate, size, GOP and container tell nothing about the label. The bytes depend on frames and
settings only: one encoder thread (libx264's output differs between thread counts) and a container without times or
versions.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias, cast

import av
import numpy as np
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray
from PIL import Image

from generation.arrays import Frame
from generation.errors import VideoError
from generation.filling import bits_per_second, filling, full_size, rate_options, stored_size

Packet: TypeAlias = "av.Packet[av.VideoStream]"

X264_OPTIONS = {
    "preset": "veryfast",
    "g": "15",  # a random frame costs at most 15 decodes
    "keyint_min": "15",
    "sc_threshold": "0",  # the GOP is the same for every content
    "bf": "2",
    "b_strategy": "0",  # B frames are at the same places for every content
    "mbtree": "0",  # with it, equal frames give other bytes depending on what the process did before
}
# To RGB rounded, not cut off: there and back leaves luma as it is. The default is 4 ms a 720p frame faster, and darkens
# by one level each time.
EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
FAST = Interpolation.BILINEAR
MASTER_OPTIONS = {**X264_OPTIONS, "crf": "8"}  # 3 to 5 times the size; for what is decoded and encoded once more
PLAYLIST_HEADS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0")  # FFmpeg would open what they name
CONTAINER_OPTIONS = {"movflags": "+faststart", "fflags": "+bitexact"}


@dataclass(frozen=True)
class VideoInfo:
    """What a container says of its first video stream.

    Attributes:
        width, height: coded size in pixels.
        fps: average frames per second.
        num_frames: frames that the container counts; 0 where it does not say.
        duration_seconds: of the stream; 0.0 where unknown.
        codec, pixel_format: FFmpeg's names ("h264", "yuv420p").
        has_audio: whether there is an audio stream.
    """

    width: int
    height: int
    fps: Fraction
    num_frames: int
    duration_seconds: float
    codec: str
    pixel_format: str
    has_audio: bool


@contextmanager
def open_video(path: Path) -> Iterator[av.container.InputContainer]:
    """Opens a file that has a video stream.

    Raises:
        VideoError: missing, empty, not a media file, or without a video stream; also for faults met while reading.
    """
    if not path.is_file():
        raise VideoError(f"{path}: not found")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: is empty; copy it again")
    with path.open("rb") as file:
        if file.read(16).lstrip(b"\xef\xbb\xbf \r\n").startswith(PLAYLIST_HEADS):
            raise VideoError(f"{path}: is a list of videos; hand in the video file itself")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: has no video stream; hand in the video file")
            yield container
    except (av.error.FFmpegError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{path}: cannot be read as video ({reason}); copy or export it again") from error


def probe_video(path: Path) -> VideoInfo:
    """Reads the container's own description, without decoding.

    Raises:
        VideoError: see `open_video`.
    """
    with open_video(path) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        return VideoInfo(
            width=context.width,
            height=context.height,
            fps=stream.average_rate or Fraction(0),
            num_frames=stream.frames,
            duration_seconds=duration,
            codec=context.name,
            pixel_format=context.pix_fmt or "",
            has_audio=bool(container.streams.audio),
        )


def read_frames(
    path: Path, start: int = 0, stop: int | None = None, step: int = 1, *, is_exact: bool = True
) -> Iterator[Frame]:
    """Decodes frames one by one, in presentation order.

    Args:
        path: any video that FFmpeg decodes.
        start, stop, step: frame numbers as in a slice; decoding begins at the file's start, so it is exact.
        is_exact: of colours; see `to_rgb`.

    Yields:
        RGB uint8 (H, W, 3).

    Raises:
        VideoError: see `open_video`.
    """
    with open_video(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if stop is not None and number >= stop:
                return
            if number >= start and (number - start) % step == 0:
                yield to_rgb(frame, is_exact=is_exact)


def pick_frames(path: Path, numbers: Collection[int]) -> dict[int, Frame]:
    """Decodes some frames of a constant-rate video: number -> RGB uint8 (H, W, 3), exact.

    Raises:
        VideoError: see `open_video`; also when the video has fewer frames.
    """
    picked: dict[int, Frame] = {}
    with open_video(path) as container:
        stream = container.streams.video[0]
        step = 1 / (Fraction(stream.average_rate or 30) * Fraction(stream.time_base or 1))
        for number in sorted(set(numbers)):
            container.seek(int(number * step), stream=stream)  # to the key frame before
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= int(number * step):
                    picked[number] = to_rgb(frame)
                    break
    if len(picked) < len(set(numbers)):
        raise VideoError(f"{path}: ends before frame {max(numbers)}; it may be truncated")
    return picked


def read_clip(path: Path, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
    """Decodes a clip as a whole: RGB uint8 (T, H, W, 3). For short clips; else use `read_frames`.

    Raises:
        VideoError: see `open_video`; also when the range holds no frame.
    """
    frames = list(read_frames(path, start, stop))
    if not frames:
        raise VideoError(f"{path}: no frame between {start} and {stop}; it may be truncated")
    return np.stack(frames)


def to_rgb(frame: VideoFrame, *, is_exact: bool = True) -> Frame:
    """One decoded frame as RGB uint8 (H, W, 3), by the colour matrix that the file names.

    Where it is not to be exact, it comes faster and about one level darker.
    """
    flags = EXACT if is_exact else FAST
    return np.ascontiguousarray(frame.reformat(format="rgb24", interpolation=flags).to_ndarray())


def to_picture(frame: Frame) -> VideoFrame:
    """RGB uint8 (H, W, 3) as an encoder takes it."""
    # RGB full range -> YUV 4:2:0 limited range BT.709
    return VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
        format="yuv420p",
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        dst_colorspace=Colorspace.ITU709,
    )


def read_image(path: Path) -> Frame:
    """Decodes a still picture: RGB uint8 (H, W, 3).

    Raises:
        VideoError: the file is missing or no picture.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        raise VideoError(f"{path}: cannot be read as a picture ({error}); make it again") from error


class StreamWriter:
    """One encoded stream in a file of its own; use as a context manager.

    The file appears complete or not at all: it stays only if the block ends without an exception, and is removed
    otherwise. It is synced to disk on leaving. A subclass sets the stream up and puts pictures in.
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
        """Puts in what the encoder still holds."""
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
        options: of the encoder; others than the default for masters and previews, never for files of the dataset. Where
            they name no quality ("crf"), the rate is constant, and the file is filled up to a size that depends on
            picture size and length alone.

    Raises:
        VideoError: odd size, or a frame of another shape or type than announced.
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
        self._last: Packet | None = None  # held back, since the last one is filled up
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
            raise VideoError(f"{self.path}: frame is {frame.dtype} {frame.shape}, wanted uint8 {self._shape}")
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
            lacking = full_size(self._num_bytes, self._rate, seconds) - self._num_bytes
            filled = cast("Packet", av.Packet(filling(lacking) + bytes(last)))
            filled.pts, filled.dts, filled.duration, filled.time_base = (
                last.pts,
                last.dts,
                last.duration,
                last.time_base,
            )
            filled.is_keyframe, filled.stream = last.is_keyframe, last.stream
            last = filled
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
