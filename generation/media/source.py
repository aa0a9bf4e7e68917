"""Source videos as cameras write them: format, completeness, and decoded pictures with their times.

Times are seconds from the source's first picture.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from generation.errors import VideoError
from generation.media.reader import film_streams, open_video

SEEK_MARGIN_SECONDS = 0.25  # decoded before the start, so that deinterlacing has neighbours
LENGTH_TOLERANCE_SECONDS = 0.25  # of the length that a container states
BACK_SECONDS, AHEAD_SECONDS = 0.5, 10.0  # a jump of the packets' times by more begins another run;
JOINABLE_CONTAINERS = ("mpegts", "mpeg", "flv")  # a jump ahead only where files can be joined end to end
JOINT_PACKETS = 3  # before a joint, which FFmpeg calls corrupt although they are whole
HONEST_CONTAINERS = ("mov", "matroska", "avi")  # whose headers state the length
DAMAGE_TOLERANCE_SECONDS = 0.001
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
        packets: numbers of its first packet in the file and of the one after its last: the longest run of those whose
            times go on, where files were joined and times begin again; None takes all.
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
    packets: tuple[int, int] | None
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
        stream, contents = _read_contents(path, container)
        _refuse_truncated(path, container, stream, contents)
        runs = contents.runs[stream.index]
        extent = max(runs, key=lambda run: run.end - run.first)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        # AVI stores no times: FFmpeg's "pts" counts packets as stored, its "dts" grows with the decoded pictures.
        clock: Literal["pts", "dts"] = "dts" if container.format.name == "avi" else "pts"
        blank = Source(
            path,
            stream.index,
            (extent.start, extent.start + extent.num_packets) if len(runs) > 1 else None,
            clock if contents.has_times else None,
            origin=Fraction(0),
            duration_seconds=0.0,
            last_seconds=0.0,
            max_key_seconds=extent.max_key_seconds,
            pixel_aspect=aspect or Fraction(1),
            description={"codec": stream.codec_context.name} | ({"num_runs": len(runs)} if len(runs) > 1 else {}),
        )
    first = next(decode_frames(blank, damage=[]), None)
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
class _Run:
    """Packets of one stream that follow each other, and the times that they state, seconds in the container."""

    start: int
    first: Fraction
    last: Fraction
    end: Fraction
    now: Fraction
    last_key: Fraction
    num_packets: int = 0
    max_key_seconds: float = 0.0

    def add(self, time: Fraction, end: Fraction, now: Fraction, *, is_key: bool) -> None:
        self.first, self.last, self.end, self.now = min(self.first, time), max(self.last, time), max(self.end, end), now
        self.num_packets += 1
        if is_key:
            self.last_key = time
        self.max_key_seconds = max(self.max_key_seconds, float(time - self.last_key))


@dataclass
class _Contents:
    """What the packets of a file say: the runs of each video stream, by its index."""

    runs: dict[int, list[_Run]] = field(default_factory=dict)
    has_times: bool = True
    end_of_all: Fraction = Fraction(0)

    def num_packets(self, stream: VideoStream) -> int:
        return sum(run.num_packets for run in self.runs.get(stream.index, ()))


def _read_contents(path: Path, container: InputContainer) -> tuple[VideoStream, _Contents]:
    """The film among a file's streams, and what the packets say."""
    streams = film_streams(container)
    if not container.streams.video or container.format.name == "tty":  # FFmpeg reads any .txt as a terminal's screen
        raise VideoError(f"{path}: has no video stream; hand in the video file")
    contents, steps = _Contents(), {stream.index: _step_of(stream) for stream in container.streams.video}
    is_joinable = container.format.name in JOINABLE_CONTAINERS
    for packet in container.demux():
        time = packet.pts if packet.pts is not None else packet.dts
        if packet.size == 0 or packet.is_discard:
            continue
        step, runs = steps.get(packet.stream_index), contents.runs.setdefault(packet.stream_index, [])
        if time is not None and packet.time_base is not None:
            seconds, duration = time * packet.time_base, (packet.duration or 0) * packet.time_base
            now = seconds if packet.dts is None else packet.dts * packet.time_base
        elif step is None:
            continue
        else:  # an elementary stream without times
            now = seconds = step * sum(run.num_packets for run in runs)
            duration, contents.has_times = step, False
        end = seconds + (duration or step or 0)
        contents.end_of_all = max(contents.end_of_all, seconds + duration)
        if step is None:
            continue
        jump = now - runs[-1].now if runs else Fraction(0)
        if not runs or jump < -BACK_SECONDS or (is_joinable and jump > AHEAD_SECONDS):
            start = sum(run.num_packets for run in runs)
            runs.append(_Run(start, seconds, seconds, end, now, last_key=seconds))
        runs[-1].add(seconds, end, now, is_key=packet.is_keyframe)
    films = [stream for stream in streams if contents.num_packets(stream) > 1]
    if not films:
        what = "is a single picture, not a video" if streams or _has_pictures(container) else "has no video stream"
        raise VideoError(f"{path}: {what}; hand in the video file")
    return films[0], contents


def _has_pictures(container: InputContainer) -> bool:
    """Whether there is a picture that is not the cover of something else."""
    return any(not stream.disposition for stream in container.streams.video)


def _step_of(stream: VideoStream) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate
    return 1 / rate if rate else Fraction(1, 25)


def _refuse_truncated(path: Path, container: InputContainer, stream: VideoStream, contents: _Contents) -> None:
    if not container.format.name.startswith(HONEST_CONTAINERS):
        return
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == b"RIFF" and int.from_bytes(head[4:], "little") + 8 > path.stat().st_size:
        raise VideoError(f"{path}: is truncated; copy it again")
    if stream.duration and stream.time_base:
        stated = stream.duration * stream.time_base + (stream.start_time or 0) * stream.time_base
        found = max(run.end for run in contents.runs[stream.index])
    elif container.duration:
        stated, found = Fraction(container.duration + (container.start_time or 0), av.time_base), contents.end_of_all
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


@dataclass
class Damage:
    """A stretch that does not decode: from the picture before it, or its packet, to the next whole key frame; seconds.
    `end` is None if there is no such frame."""

    begin: Fraction
    end: Fraction | None = None


def decode_frames(
    source: Source, start_seconds: float = 0.0, *, only_keys: bool = False, damage: list[Damage] | None = None
) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Decodes pictures in order of time, beginning with the last one at or before a time, or a little earlier.

    Args:
        source: from `survey_source`.
        start_seconds: where to begin.
        only_keys: only key frames; much faster.
        damage: takes what is damaged; the pictures of it are left out. None makes damage an error, but not damage that
            a key frame before the start has ended.

    Yields:
        Time in seconds from the first picture, and the decoded picture.

    Raises:
        VideoError: damaged data.
    """
    seek_seconds = max(0.0, start_seconds - SEEK_MARGIN_SECONDS)
    if seek_seconds > 0 and source.clock is not None and source.packets is None:
        frames = _decode(source, seek_seconds, start_seconds, only_keys=only_keys, damage=damage)
        first = next(frames, None)
        if first is not None and first[0] <= start_seconds:
            yield first
            yield from frames
            return
        frames.close()  # some containers cannot be entered at any time
    yield from _decode(source, None, start_seconds, only_keys=only_keys, damage=damage)


def _decode(
    source: Source, seek_seconds: float | None, start_seconds: float, *, only_keys: bool, damage: list[Damage] | None
) -> Generator[tuple[Fraction, VideoFrame]]:
    found: list[Damage] = [] if damage is None else damage
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
        step = _step_of(stream)
        last: Fraction | None = None
        for packet in _packets_of(source, container.demux(stream)):
            for frame in _decode_packet(source, packet, last, found):
                if source.clock == "dts":
                    frame.pts = frame.dts
                if source.clock is None or frame.pts is None:
                    counted = Fraction(0) if last is None else last + step
                    frame.time_base = stream.time_base
                    frame.pts = round((counted + source.origin) / stream.time_base)
                at = picture_time(frame) - source.origin
                if not _note_frame(found, at, frame):
                    continue
                if damage is None:
                    _refuse_damage(source, found, start_seconds, at)
                if last is None or at > last:
                    last = at
                    yield at, frame
        if damage is None:
            _refuse_damage(source, found, start_seconds, Fraction(source.last_seconds))


def _packets_of(source: Source, packets: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
    """Those of the source's run, and the empty one at the end, which makes the decoder give what it has left."""
    first, stop = source.packets or (0, sys.maxsize)
    number = -1
    for packet in packets:
        number += packet.size > 0 and not packet.is_discard
        if stop - JOINT_PACKETS <= number < stop:
            packet.is_corrupt = False  # the demuxer means only that what follows does not continue it
        if packet.size == 0 or first <= number < stop:
            yield packet


def _decode_packet(
    source: Source, packet: Packet[VideoStream], last: Fraction | None, found: list[Damage]
) -> list[VideoFrame]:
    """Pictures that are ready now; a damaged packet is noted. A decoder tells of damage when the picture is due."""
    time = packet.pts if packet.pts is not None else packet.dts
    if packet.is_corrupt and time is not None and packet.time_base:
        _open_damage(found, time * packet.time_base - source.origin)
    try:
        return packet.decode()
    except av.error.InvalidDataError:
        _open_damage(found, Fraction(-1) if last is None else last)
        return []


def _note_frame(found: list[Damage], at: Fraction, frame: VideoFrame) -> bool:
    """Whether a picture is whole; a damaged one opens a stretch of damage, a whole key frame after it ends it."""
    if frame.is_corrupt:
        _open_damage(found, at)
    elif found and found[-1].end is None and frame.key_frame and at > found[-1].begin:
        found[-1].end = at
    return not frame.is_corrupt


def _open_damage(found: list[Damage], begin: Fraction) -> None:
    if not found or found[-1].end is not None:
        found.append(Damage(begin))


def _refuse_damage(source: Source, found: list[Damage], start_seconds: float, now: Fraction) -> None:
    """Raises VideoError if damage reaches into what begins at `start_seconds` and is decoded up to `now`."""
    for one in found:
        if (now if one.end is None else one.end) > start_seconds + DAMAGE_TOLERANCE_SECONDS and one.begin <= now:
            at = max(0.0, float(one.begin))
            raise VideoError(f"{source.path}: is damaged at {at:.2f} s; copy or export it again")


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
