"""Reading video and pictures: frames RGB uint8 (H, W, 3), one at a time, or a clip (T, H, W, 3)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from generation.arrays import Frame, Grey
from generation.errors import VideoError, one_line

# Rounding to RGB leaves luma as it is on the way there and back. FFmpeg's default cuts off: 4 ms a 720p frame faster,
# and one level darker each time.
EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
FAST = Interpolation.BILINEAR
STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
DEFAULT_WEIGHT = 10  # of a default stream's area: one that is smaller than a tenth of another is a preview of it
_LIST = "is a list of videos; hand in the video file itself"  # FFmpeg would open what it names
_PAGE = "is a web page, as file hosts (Google Drive) send in place of a large file; download the file itself"
STAND_INS = {
    b"version https://git-lfs.github.com/spec": "is a pointer of Git LFS; run `git lfs pull` for the file itself",
    b"<!doctype html": _PAGE,
    b"<html": _PAGE,
    **dict.fromkeys((b"#extm3u", b"ffconcat", b"<?xml", b"<mpd", b"v=0"), _LIST),
}


@dataclass(frozen=True)
class VideoInfo:
    """What a container says of its main video stream.

    Attributes:
        width, height: coded size in pixels.
        fps: average frames per second.
        num_frames: frames that the container counts; 0 if it does not say.
        duration_seconds: of the stream; 0.0 if unknown.
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


def stand_in(path: Path) -> str:
    """What lies there in place of a media file or archive, and what to do; "" if it may be one."""
    with path.open("rb") as file:
        head = file.read(64).lstrip(b"\xef\xbb\xbf \r\n").lower()
    return next((text for start, text in STAND_INS.items() if head.startswith(start)), "")


@contextmanager
def open_video(path: Path) -> Iterator[av.container.InputContainer]:
    """Opens a file that has a video stream. Tags and names are read whatever they are: what is not UTF-8 is replaced.

    Raises:
        VideoError: missing, empty, not a media file, or without a video stream; also for damage met while reading.
    """
    if not path.is_file():
        raise VideoError(f"{path}: not found")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: is empty; copy it again")
    if problem := stand_in(path):
        raise VideoError(f"{path}: {problem}")
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise VideoError(f"{path}: has no video stream; hand in the video file")
            if all(stream.codec_context is None for stream in container.streams.video):
                problem = "is encrypted (protected against copying), or of a codec that FFmpeg does not know"
                raise VideoError(f"{path}: {problem}; export it as H.264")
            yield container
    except av.error.FFmpegError as error:
        reason = error.strerror or error
        raise VideoError(f"{path}: cannot be read as video ({reason}); copy or export it again") from error


def film_streams(container: av.container.InputContainer) -> list[VideoStream]:
    """The video streams of an open file, the film first, as FFmpeg ranks them: default ones and large ones before
    others; covers, thumbnails and other single pictures are left out."""
    films = [one for one in container.streams.video if not one.disposition & STILLS and one.frames != 1]
    return sorted(films, key=_rank, reverse=True)


def main_stream(container: av.container.InputContainer) -> VideoStream:
    """The first of `film_streams`; the first video stream if all are single pictures."""
    return next(iter(film_streams(container)), container.streams.video[0])


def _rank(stream: VideoStream) -> int:
    context: Any = stream.codec_context  # None if FFmpeg does not know the codec
    weight = DEFAULT_WEIGHT if stream.disposition & Disposition.default else 1
    return int(context.width * context.height * weight) if context else 0


def probe_video(path: Path) -> VideoInfo:
    """Reads the container's own description, without decoding.

    Raises:
        VideoError: see `open_video`.
    """
    with open_video(path) as container:
        stream = main_stream(container)
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
        start, stop, step: frame numbers as in a slice, counted from the start of the file.
        is_exact: see `to_rgb`.

    Yields:
        RGB uint8 (H, W, 3).

    Raises:
        VideoError: see `open_video`.
    """
    with open_video(path) as container:
        stream = main_stream(container)
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if stop is not None and number >= stop:
                return
            if number >= start and (number - start) % step == 0:
                yield to_rgb(frame, is_exact=is_exact)


def pick_frames(path: Path, numbers: Collection[int]) -> dict[int, Frame]:
    """Decodes some frames of a constant-rate video: number -> RGB uint8 (H, W, 3).

    Raises:
        VideoError: see `open_video`; also if the video has fewer frames.
    """
    picked: dict[int, Frame] = {}
    with open_video(path) as container:
        stream = main_stream(container)
        step = 1 / (Fraction(stream.average_rate or 30) * Fraction(stream.time_base or 1))
        for number in sorted(set(numbers)):
            container.seek(int(number * step), stream=stream)  # the key frame before it
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= int(number * step):
                    picked[number] = to_rgb(frame)
                    break
    if len(picked) < len(set(numbers)):
        raise VideoError(f"{path}: ends before frame {max(numbers)}; it may be truncated")
    return picked


def read_clip(path: Path, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
    """Decodes a clip as a whole: RGB uint8 (T, H, W, 3). For short clips; for others use `read_frames`.

    Raises:
        VideoError: see `open_video`; also if there is no frame in the range.
    """
    frames = list(read_frames(path, start, stop))
    if not frames:
        raise VideoError(f"{path}: no frame between {start} and {stop}; it may be truncated")
    return np.stack(frames)


def to_rgb(frame: VideoFrame, *, is_exact: bool = True) -> Frame:
    """One decoded frame as RGB uint8 (H, W, 3), by the colour matrix that the file names.

    Without `is_exact` it is faster and about one level darker.
    """
    # Each process has one thread; FFmpeg would otherwise start others for every frame.
    is_even = frame.width % 2 == 0 and frame.height % 2 == 0
    if is_exact and is_even and frame.format.name == "yuv420p":
        # YUV -> planes of green, blue and red -> RGB: the same bytes as at once, in two thirds of the time
        planar = frame.reformat(format="gbrp", interpolation=EXACT, threads=1)
        green, blue, red = (_pixels(plane) for plane in planar.planes)
        return np.asarray(cv2.merge([red, green, blue]), np.uint8)
    flags = EXACT if is_exact else FAST
    return np.ascontiguousarray(frame.reformat(format="rgb24", interpolation=flags, threads=1).to_ndarray())


def _pixels(plane: VideoPlane) -> Grey:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def read_image(path: Path) -> Frame:
    """Decodes a still picture: RGB uint8 (H, W, 3).

    Raises:
        VideoError: the file is missing or not a picture.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f"{path}: cannot be read as a picture ({one_line(error)}); make it again") from error
