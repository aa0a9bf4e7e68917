"""Any source video as pictures of one kind: upright, square pixels, one size, progressive, BT.709, at a constant rate.

FFmpeg's filters do the work on pixels; this module decides which of them a source needs. Times are seconds from the
source's first picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from generation.errors import VideoError
from generation.media.source import (
    HDR_TRANSFERS,
    LENGTH_TOLERANCE_SECONDS,
    UNSPECIFIED,
    Source,
    decode_frames,
    display_matrix,
    picture_time,
)
from generation.media.writer import X264_OPTIONS, VideoWriter

MAX_CROP = 0.125  # share of one side that may be cropped to fill the picture; beyond it bars are added
TIME_TOLERANCE = Fraction(1, 1000)  # Matroska rounds times to whole milliseconds
HD_LINES = 576  # untagged pictures with more lines are BT.709, else BT.601
BT2020_PRIMARIES = 9  # number of ITU-T H.273


@dataclass(frozen=True)
class ClipShape:
    """Number of frames, frames per second, and size in px of a clip."""

    num_frames: int
    fps: int
    width_px: int
    height_px: int


class Normaliser:
    """Turns decoded pictures of one source into pictures of one size and kind.

    Args:
        source: from `survey_source`.
        width_px, height_px: of the result.
        pixel_format: "yuv420p" (BT.709, limited range), "rgb24" or "gray" (full range).
        is_deinterlaced: whether interlaced pictures become two, one for each field; if not, they stay as they are.
    """

    def __init__(
        self, source: Source, width_px: int, height_px: int, pixel_format: str, *, is_deinterlaced: bool = True
    ) -> None:
        self.source = source
        self.width_px, self.height_px, self.pixel_format = width_px, height_px, pixel_format
        self._is_deinterlaced = is_deinterlaced
        self._is_interlaced = False
        self._graph: Graph | None = None
        self._kind: tuple[object, ...] = ()

    def push(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """Takes a decoded picture; yields those that are ready, with pts and time base."""
        # Once a source has shown an interlaced picture, the deinterlacer stays; it passes progressive ones through.
        self._is_interlaced |= self._is_deinterlaced and bool(frame.interlaced_frame)
        kind = (
            *(frame.width, frame.height, frame.format.name, self._is_interlaced, frame.rotation),
            *(frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc),
        )
        if kind != self._kind:
            yield from self.flush()
            self._graph, self._kind = self._build(frame), kind
        assert self._graph is not None
        self._graph.vpush(frame)
        yield from self._pull()

    def flush(self) -> Iterator[VideoFrame]:
        """Yields the pictures that are left after the last one went in."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._pull()
            self._graph, self._kind = None, ()

    def _pull(self) -> Iterator[VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                yield self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    def _build(self, frame: VideoFrame) -> Graph:
        steps = [("bwdif", "mode=send_field:deint=interlaced")] if self._is_interlaced else []
        matrix = display_matrix(frame)
        stored, target = (frame.width, frame.height), (self.width_px, self.height_px)
        geometry = _fit_turned(stored, matrix, self.source.pixel_aspect, target)
        steps += _turn_filters(matrix)
        steps += [("scale", self._scale_arguments(frame, geometry)), ("format", self.pixel_format)]
        box = f"{self.width_px}:{self.height_px}:{geometry.x_px}:{geometry.y_px}"
        steps.append(("crop", f"{box}:exact=1") if geometry.is_cropped else ("pad", box))
        steps += [("setsar", "1"), ("sidedata", "mode=delete"), ("buffersink", "")]
        graph = Graph()
        graph.threads = 1
        time_base = frame.time_base or Fraction(1, 1000)
        size = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base={time_base}"
        colours = f"colorspace={frame.colorspace}:range={frame.color_range}"
        filters = [graph.add("buffer", f"{size}:pixel_aspect=1/1:{colours}")]
        filters += [graph.add(name, arguments or None) for name, arguments in steps]
        graph.link_nodes(*filters).configure()
        return graph

    def _scale_arguments(self, frame: VideoFrame, geometry: Geometry) -> str:
        arguments = [f"{geometry.scaled_width_px}:{geometry.scaled_height_px}"]
        arguments.append("flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact")
        if frame.colorspace == UNSPECIFIED and not frame.format.is_rgb:
            arguments.append(f"in_color_matrix={'bt709' if frame.height > HD_LINES else 'smpte170m'}")
        arguments.append("out_color_matrix=bt709:out_range=" + ("tv" if self.pixel_format == "yuv420p" else "pc"))
        # The primaries of BT.601 differ too little from BT.709's to be worth a conversion; wide gamut and HDR do not.
        # Light above HDR's reference white (203 cd/m2, ITU-R BT.2408) becomes white.
        if frame.color_trc in HDR_TRANSFERS or frame.color_primaries == BT2020_PRIMARIES:
            arguments.append("out_primaries=bt709:out_transfer=bt709:intent=relative_colorimetric")
        return ":".join(arguments)


@dataclass(frozen=True)
class Geometry:
    """How a picture fills another: scaled to one size, then cropped or padded at an offset, all in px and even."""

    scaled_width_px: int
    scaled_height_px: int
    x_px: int
    y_px: int
    is_cropped: bool


def fit_picture(size_px: tuple[int, int], pixel_aspect: Fraction, target_px: tuple[int, int]) -> Geometry:
    """Scales without stretching: cropped a little to fill the target if the shapes are alike, else with black bars.

    Args:
        size_px: width and height as stored, after turning.
        pixel_aspect: width of a pixel over its height.
        target_px: width and height of the result.
    """
    width, height = size_px[0] * pixel_aspect, Fraction(size_px[1])
    ratios = (target_px[0] / width, target_px[1] / height)
    is_cropped = min(ratios) / max(ratios) >= 1 - MAX_CROP
    ratio = max(ratios) if is_cropped else min(ratios)
    scaled = [max(2, 2 * round(side * ratio / 2)) for side in (width, height)]
    offsets = [abs(side - goal) // 4 * 2 for side, goal in zip(scaled, target_px, strict=True)]
    return Geometry(scaled[0], scaled[1], offsets[0], offsets[1], is_cropped)


def bar_shares(source: Source, width_px: int, height_px: int) -> tuple[float, float]:
    """Shares of a clip's width and height that are black bars, 0 to 1, as the first picture of its source is shaped.

    Args:
        source: from `survey_source`.
        width_px, height_px: of the clip.
    """
    size, matrix = (source.description["width"], source.description["height"]), source.description["display_matrix"]
    fit = _fit_turned(size, matrix, source.pixel_aspect, (width_px, height_px))
    return max(0.0, 1 - fit.scaled_width_px / width_px), max(0.0, 1 - fit.scaled_height_px / height_px)


def _fit_turned(
    size_px: tuple[int, int], matrix: Sequence[int], pixel_aspect: Fraction, target_px: tuple[int, int]
) -> Geometry:
    """`fit_picture` of a picture that is stored as `size_px` and shown as its display matrix says."""
    if matrix[0] == 0:  # on its side
        return fit_picture(size_px[::-1], 1 / pixel_aspect, target_px)
    return fit_picture(size_px, pixel_aspect, target_px)


def _turn_filters(matrix: tuple[int, ...]) -> list[tuple[str, str]]:
    a, b, c, d = matrix
    if a == 0:
        direction = {(1, 1): "cclock_flip", (1, -1): "clock", (-1, 1): "cclock", (-1, -1): "clock_flip"}[b, c]
        return [("transpose", direction)]
    return [("hflip", "")] * (a < 0) + [("vflip", "")] * (d < 0)


def write_clip_of(
    source: Source,
    target: Path,
    start_seconds: float,
    shape: ClipShape,
    options: Mapping[str, str] = X264_OPTIONS,
) -> None:
    """Writes a part of a source at a constant rate: each frame is the last picture at or before its time.

    Args:
        source: from `survey_source`.
        target: ending in .mp4, in an existing folder.
        start_seconds: of the part.
        shape: of the clip.
        options: of the encoder, see `VideoWriter`.

    Raises:
        VideoError: the part reaches beyond the source, or is damaged.
    """
    start = Fraction(start_seconds)
    current: VideoFrame | None = None
    width, height = shape.width_px, shape.height_px
    with VideoWriter(target, width=width, height=height, fps=shape.fps, options=options) as writer:
        for at, picture in _normalised(source, start_seconds, shape):
            while current and writer.num_frames < shape.num_frames:
                if at <= start + Fraction(writer.num_frames, shape.fps) + TIME_TOLERANCE:
                    break
                writer.write_picture(current)
            current, last = picture, at
            if writer.num_frames == shape.num_frames:
                return
        if current is None or last < source.last_seconds - LENGTH_TOLERANCE_SECONDS:
            raise VideoError(f"{source.path}: cannot be decoded to its end; copy or export it again")
        while writer.num_frames < shape.num_frames:
            writer.write_picture(current)


def _normalised(source: Source, start_seconds: float, shape: ClipShape) -> Iterator[tuple[Fraction, VideoFrame]]:
    normaliser = Normaliser(source, shape.width_px, shape.height_px, "yuv420p")

    def timed(pictures: Iterator[VideoFrame]) -> Iterator[tuple[Fraction, VideoFrame]]:
        for picture in pictures:
            yield picture_time(picture) - source.origin, picture

    for _, frame in decode_frames(source, start_seconds):
        yield from timed(normaliser.push(frame))
    yield from timed(normaliser.flush())
