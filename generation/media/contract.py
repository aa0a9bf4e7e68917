"""What a video of the dataset must be, and how a file differs from it: the one statement of these rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from generation.errors import VideoError
from generation.media.reader import main_stream, open_video
from generation.media.writer import X264_OPTIONS

KEY_FRAME_DISTANCE = int(X264_OPTIONS["g"])
BT709_LIMITED = (1, 1)  # FFmpeg's numbers of the colour space and of the range
MAX_RATE_ERROR = 0.01  # of the frame rate; beyond it, equal frame numbers do not show equal moments


@dataclass(frozen=True)
class VideoContract:
    """What the videos of a subset must be: width and height in pixels, frames, frames per second."""

    size: tuple[int, int]
    num_frames: int
    fps: int


@dataclass(frozen=True)
class Difference:
    """One property in which a file differs; `is_lasting` if encoding its frames again does not remove it."""

    name: str
    found: str
    required: str
    is_lasting: bool = False

    def __str__(self) -> str:
        return f"{self.found}, must be {self.required}"


def differences(path: Path, contract: VideoContract) -> list[Difference]:
    """All differences; empty if the file is as it must be. Decodes the file, unless its size is wrong.

    Raises:
        VideoError: the file cannot be read as video, or a frame is damaged.
    """
    with open_video(path) as container:
        found = stream_differences(container, contract)
        if wrong_size := [one for one in found if one.name == "size"]:  # a huge frame may fill the memory
            return wrong_size
        order = FrameOrder(contract)
        for frame in decode_strictly(path, strict_packets(container)):
            order.add(frame)
            if order.is_much_too_long:
                break
    return found + order.differences()


def stream_differences(container: InputContainer, contract: VideoContract) -> list[Difference]:
    """Differences that an open file and its stream show without decoding."""
    stream, num_audio = main_stream(container), len(container.streams.audio)
    context: Any = stream.codec_context
    formats = container.format.name.split(",")
    rate = stream.average_rate or Fraction(0)
    is_other_rate = abs(rate - contract.fps) > contract.fps * Fraction(MAX_RATE_ERROR)
    found = (
        Difference("size", f"{context.width}x{context.height}", "{}x{}".format(*contract.size), is_lasting=True),
        Difference("container", "mp4" if "mp4" in formats else container.format.name, "mp4"),
        Difference("streams", f"{len(container.streams) - num_audio}", "1"),
        Difference("audio", "yes" if num_audio else "no", "no"),
        Difference("frames per second", f"{float(rate):.4g}", f"{contract.fps}", is_lasting=is_other_rate),
        Difference("codec", context.name, "h264"),
        Difference("profile", f"{context.profile}", "High"),
        Difference("pixel format", f"{context.pix_fmt}", "yuv420p"),
        Difference("colours", f"{(int(context.colorspace), int(context.color_range))}", f"{BT709_LIMITED}"),
    )
    return [one for one in found if one.found != one.required]


class FrameOrder:
    """Number, times, key frames and rotation of the frames of one file, taken one by one."""

    def __init__(self, contract: VideoContract) -> None:
        self.contract = contract
        self.num_frames = 0
        self._is_constant, self._is_regular, self._rotation = True, True, 0

    def add(self, frame: VideoFrame) -> None:
        """Takes the next frame."""
        time = (frame.pts or 0) * Fraction(frame.time_base or 0)
        self._is_constant &= time == Fraction(self.num_frames, self.contract.fps)
        self._is_regular &= frame.key_frame == (self.num_frames % KEY_FRAME_DISTANCE == 0)
        self._rotation = self._rotation or frame.rotation
        self.num_frames += 1

    @property
    def is_much_too_long(self) -> bool:
        """Whether there are more than twice the frames."""
        return self.num_frames > 2 * self.contract.num_frames

    def differences(self) -> list[Difference]:
        """Differences that the frames show."""
        every = f"every {KEY_FRAME_DISTANCE}th"
        num_frames = f"over {2 * self.contract.num_frames}" if self.is_much_too_long else f"{self.num_frames}"
        found = (
            Difference("frames", num_frames, f"{self.contract.num_frames}", is_lasting=True),
            Difference("rotation", f"{self._rotation}", "0", is_lasting=True),
            Difference("frame times", "constant" if self._is_constant else "uneven", "constant"),
            Difference("key frames", every if self._is_regular else f"not {every}", every),
        )
        return [one for one in found if one.found != one.required]


def strict_packets(container: InputContainer) -> Iterator[Packet[VideoStream]]:
    """Packets of an open file for `decode_strictly`, by one thread; to be called before anything of it is decoded."""
    stream = main_stream(container)
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"err_detect": "explode"}
    return container.demux(stream)


def decode_strictly(path: Path, packets: Iterable[Packet[VideoStream]]) -> Iterator[VideoFrame]:
    """Decodes every frame; damage is an error and is not patched up.

    Args:
        path: of the file, for messages.
        packets: all of them, from `strict_packets`, while the file is open.

    Raises:
        VideoError: a frame is damaged or of another size than the stream's.
        FFmpegError: it does not decode; `open_video` makes it a VideoError.
    """
    size: tuple[int, int] | None = None
    number = 0
    for packet in packets:
        size = size or (packet.stream.codec_context.width, packet.stream.codec_context.height)
        for frame in packet.decode():
            if frame.is_corrupt or (frame.width, frame.height) != size:
                raise VideoError(f"{path}: frame {number} is damaged or of another size; copy or export it again")
            number += 1
            yield frame
