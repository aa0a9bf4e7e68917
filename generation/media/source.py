"""Source videos as cameras write them: format, completeness, and decoded pictures with their times.

Times are seconds from the source's first picture.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from generation.errors import VideoError
from generation.media.reader import open_video

SEEK_MARGIN_SECONDS = 0.25  # decoded before the start, so that deinterlacing has neighbours
LENGTH_TOLERANCE_SECONDS = 0.25  # of the length that a container states
HONEST_CONTAINERS = ("mov", "matroska", "avi")  # whose headers state the length
MAX_ASPECT = 8.0

# Numbers of ITU-T H.273.
UNSPECIFIED = 2
MATRICES = (1, 4, 5, 6, 7, 9)  # BT.709, FCC, BT.470, SMPTE 170M and 240M, BT.2020
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class Source:
    """A source video, as its packets and its first picture describe it.

    Attributes:
        path: the file.
        stream: index of its video stream.
        clock: which of the container's times of a picture counts; None if it has none, and pictures are counted.
        origin: time of the first picture in the container, seconds.
        duration_seconds: from the first picture to the end of the last.
        last_seconds: time of the last picture.
        max_key_seconds: longest time between two key frames.
        pixel_aspect: width of a pixel over its height.
        description: codec, size, rate and the like, for the record: JSON values only.
    """

    path: Path
    stream: int
    clock: Literal["pts", "dts"] | None
    origin: Fraction
    duration_seconds: float
    last_seconds: float
    max_key_seconds: float
    pixel_aspect: Fraction
    description: dict[str, Any]


def survey_source(path: Path) -> Source:
    """Reads all packets of a source, which takes no decoding, and its first picture.

    Raises:
        VideoError: not a video, a single picture, truncated, or not supported; see also `open_video`.
    """
    with open_video(path) as container:
        stream = _video_stream(path, container)
        extent = _read_extent(container, stream)
        if stream.frames < 2 and extent.num_packets < 2:
            raise VideoError(f"{path}: is a single picture, not a video; hand in the video file")
        _refuse_truncated(path, container, stream, extent)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        # AVI stores no times: FFmpeg's "pts" counts packets as stored, its "dts" grows with the decoded pictures.
        clock: Literal["pts", "dts"] = "dts" if container.format.name == "avi" else "pts"
        blank = Source(
            path,
            stream.index,
            clock if extent.has_times else None,
            origin=Fraction(0),
            duration_seconds=0.0,
            last_seconds=0.0,
            max_key_seconds=extent.max_key_seconds,
            pixel_aspect=aspect or Fraction(1),
            description={"codec": stream.codec_context.name},
        )
    first = next(decode_frames(blank, is_strict=False), None)
    if first is None:
        raise VideoError(f"{path}: no picture in it can be decoded; copy or export it again")
    origin, frame = first
    _refuse_unsupported(path, frame, blank.pixel_aspect)
    description = blank.description | {
        "pixel_format": frame.format.name,
        "width": frame.width,
        "height": frame.height,
        "fps": round(float(rate), 3),
        "pixel_aspect": str(blank.pixel_aspect),
        "display_matrix": list(display_matrix(frame)),
        "is_interlaced": bool(frame.interlaced_frame),
        "transfer": HDR_TRANSFERS.get(frame.color_trc, "SDR"),
    }
    begin = extent.first if blank.clock == "dts" else origin
    end, last = float(extent.end - begin), float(extent.last - begin)
    description["duration_seconds"] = round(end, 3)
    return replace(blank, origin=origin, duration_seconds=end, last_seconds=last, description=description)


@dataclass
class _Extent:
    """Times that the packets of a file state, seconds in the container."""

    num_packets: int = 0
    has_times: bool = True
    first: Fraction = Fraction(0)
    last: Fraction = Fraction(0)
    end: Fraction = Fraction(0)
    end_of_all: Fraction = Fraction(0)
    last_key: Fraction | None = None
    max_key_seconds: float = 0.0

    def add(self, time: Fraction, duration: Fraction, *, is_key: bool) -> None:
        if self.num_packets == 0:
            self.first, self.last, self.end = time, time, time + duration
        self.first, self.last = min(self.first, time), max(self.last, time)
        self.end = max(self.end, time + duration)
        self.num_packets += 1
        if is_key or self.last_key is None:
            self.last_key = time
        self.max_key_seconds = max(self.max_key_seconds, float(time - self.last_key))


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    cover = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams or container.format.name == "tty":  # FFmpeg reads any .txt as a terminal's screen
        raise VideoError(f"{path}: has no video stream; hand in the video file")
    return streams[0]


def _read_extent(container: InputContainer, stream: VideoStream) -> _Extent:
    extent = _Extent()
    rate = stream.average_rate or stream.guessed_rate
    step = 1 / rate if rate else Fraction(1, 25)
    for packet in container.demux():
        time = packet.pts if packet.pts is not None else packet.dts
        if packet.size == 0 or packet.is_discard:
            continue
        if time is None or packet.time_base is None:  # an elementary stream without times
            seconds, duration, extent.has_times = extent.num_packets * step, step, False
        else:
            seconds, duration = time * packet.time_base, (packet.duration or 0) * packet.time_base
        extent.end_of_all = max(extent.end_of_all, seconds + duration)
        if packet.stream_index == stream.index:
            extent.add(seconds, duration or step, is_key=packet.is_keyframe)
    return extent


def _refuse_truncated(path: Path, container: InputContainer, stream: VideoStream, extent: _Extent) -> None:
    if not container.format.name.startswith(HONEST_CONTAINERS):
        return
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == b"RIFF" and int.from_bytes(head[4:], "little") + 8 > path.stat().st_size:
        raise VideoError(f"{path}: is truncated; copy it again")
    if stream.duration and stream.time_base:
        stated, found = stream.duration * stream.time_base + (stream.start_time or 0) * stream.time_base, extent.end
    elif container.duration:
        stated, found = Fraction(container.duration + (container.start_time or 0), av.time_base), extent.end_of_all
    else:
        return
    if stated - found > LENGTH_TOLERANCE_SECONDS:
        lengths = f"it states {float(stated):.2f} s and has {float(found):.2f} s"
        raise VideoError(f"{path}: is truncated, {lengths}; copy it again")


def _refuse_unsupported(path: Path, frame: VideoFrame, pixel_aspect: Fraction) -> None:
    aspect = frame.width * pixel_aspect / frame.height
    if not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        raise VideoError(f"{path}: is {float(aspect):.2f} times as wide as high; export it with its right pixel aspect")
    if not frame.format.is_rgb and frame.colorspace not in (0, UNSPECIFIED, *MATRICES):
        raise VideoError(f"{path}: colour matrix {frame.colorspace} is not supported; export it as BT.709")


def decode_frames(
    source: Source, start_seconds: float = 0.0, *, only_keys: bool = False, is_strict: bool = True
) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Decodes pictures in order of time, beginning with the last one at or before a time, or a little earlier.

    Args:
        source: from `survey_source`.
        start_seconds: where to begin.
        only_keys: only key frames; much faster.
        is_strict: whether damage is an error; if not, damaged pictures are left out.

    Yields:
        Time in seconds from the first picture, and the decoded picture.

    Raises:
        VideoError: damaged data.
    """
    seek_seconds = max(0.0, start_seconds - SEEK_MARGIN_SECONDS)
    if seek_seconds > 0 and source.clock is not None:
        frames = _decode(source, seek_seconds, only_keys=only_keys, is_strict=is_strict)
        first = next(frames, None)
        if first is not None and first[0] <= start_seconds:
            yield first
            yield from frames
            return
        frames.close()  # some containers cannot be entered at any time
    yield from _decode(source, None, only_keys=only_keys, is_strict=is_strict)


def _decode(
    source: Source, seek_seconds: float | None, *, only_keys: bool, is_strict: bool
) -> Generator[tuple[Fraction, VideoFrame]]:
    with open_video(source.path) as container:
        stream = container.streams[source.stream]
        assert isinstance(stream, VideoStream)
        assert stream.time_base is not None
        stream.thread_type = "AUTO"
        if only_keys:
            stream.codec_context.skip_frame = "NONKEY"
        if seek_seconds is not None:
            time = (source.origin + Fraction(seek_seconds)) / stream.time_base
            container.seek(int(time), stream=stream, backward=True)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        last: Fraction | None = None
        for packet in container.demux(stream):
            for frame in _decode_packet(source, packet, is_strict=is_strict and last is not None):
                if source.clock == "dts":
                    frame.pts = frame.dts
                if source.clock is None or frame.pts is None:
                    counted = Fraction(0) if last is None else last + 1 / rate
                    frame.time_base = stream.time_base
                    frame.pts = round((counted + source.origin) / stream.time_base)
                at = picture_time(frame) - source.origin
                if last is None or at > last:
                    last = at
                    yield at, frame


def _decode_packet(source: Source, packet: av.Packet[VideoStream], *, is_strict: bool) -> list[VideoFrame]:
    try:
        frames, is_damaged = packet.decode(), packet.is_corrupt
    except av.error.InvalidDataError:
        frames, is_damaged = [], True
    if is_strict and (is_damaged or any(frame.is_corrupt for frame in frames)):
        when = "" if packet.pts is None else f" at {float(packet.pts * packet.time_base - source.origin):.2f} s"
        raise VideoError(f"{source.path}: is damaged{when}; copy or export it again")
    return [frame for frame in frames if not frame.is_corrupt]


def picture_time(frame: VideoFrame) -> Fraction:
    """Time of a picture in its container, seconds."""
    return Fraction(frame.pts or 0) * Fraction(frame.time_base or 0)


def display_matrix(frame: VideoFrame) -> tuple[int, ...]:
    """Signs of the part of the display matrix that turns and mirrors: x' = a x + c y, y' = b x + d y.

    Do not call it for every picture: reading `side_data` makes a cycle that keeps the picture until it is collected.
    """
    stored: Any = frame.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return (1, 0, 0, 1)
    entries = np.frombuffer(bytes(stored), np.int32)
    a, b, c, d = (int(entries[at]) for at in (0, 1, 3, 4))
    is_transposed = abs(b) + abs(c) > abs(a) + abs(d)
    kept = (0, b or 1, c or 1, 0) if is_transposed else (a or 1, 0, 0, d or 1)
    return tuple(int(np.sign(entry)) for entry in kept)
