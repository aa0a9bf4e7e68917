"""Source videos of every kind, written for tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from generation.arrays import Frame

PATCHES = {"red": (200, 40, 40), "green": (40, 170, 60), "blue": (50, 60, 200), "yellow": (210, 190, 50)}
GREY = 120
NUM_BITS = 8


@dataclass(frozen=True)
class Kind:
    """How a test source is stored."""

    name: str = "1.mp4"
    size: tuple[int, int] = (320, 180)  # as shown
    rate: Fraction = Fraction(30)
    num_frames: int = 60
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    matrix: int = 1
    is_full_range: bool = False
    primaries: int = 1
    transfer: int = 1
    pixel_aspect: Fraction = Fraction(1)
    rotation: int = 0
    is_mirrored: bool = False
    is_interlaced: bool = False
    options: dict[str, str] = field(default_factory=dict)
    times: Sequence[int] | None = None  # of the frames, in milliseconds
    container: dict[str, str] = field(default_factory=dict)


def chart(number: int, size: tuple[int, int]) -> Frame:
    """A grey picture with a white disc in the middle, a coloured patch in each corner and its number in bits."""
    width, height = size
    unit = min(width, height) / 180
    canvas = np.full((height, width, 3), GREY, np.uint8)
    side = round(30 * unit)
    corners = ((0, 0), (width - side, 0), (0, height - side), (width - side, height - side))
    for (x, y), colour in zip(corners, PATCHES.values(), strict=True):
        canvas[y : y + side, x : x + side] = colour
    centre = (round(width / 2 * 16 - 8), round((height / 2 - 20 * unit) * 16 - 8))
    cv2.circle(canvas, centre, round(40 * unit * 16), (235, 235, 235), -1, cv2.LINE_AA, 4)
    for bit in range(NUM_BITS):
        x, y = round(width / 2 + (bit - NUM_BITS / 2) * 10 * unit), round(height / 2 + 45 * unit)
        value = 255 * ((number ^ number >> 1) >> bit & 1)  # Gray code: no bit flickers from field to field
        canvas[y : y + round(10 * unit), x : x + round(10 * unit)] = value
    return canvas


def stored(picture: Frame, kind: Kind) -> Frame:
    """A picture as it lies in the file: narrower where its pixels are wide, and turned."""
    width = round(picture.shape[1] / kind.pixel_aspect)
    if width != picture.shape[1]:
        picture = np.asarray(cv2.resize(picture, (width, picture.shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
    picture = picture[:, ::-1] if kind.is_mirrored else picture
    return np.ascontiguousarray(np.rot90(picture, -(kind.rotation // 90)))


def write_source(folder: Path, kind: Kind, pictures: Iterable[Frame] | None = None) -> Path:
    """Writes a test source; by default the chart, one number for each frame (two where they are interlaced)."""
    folder.mkdir(exist_ok=True)
    path = folder / kind.name
    if pictures is None:
        pictures = (chart(number, kind.size) for number in range(kind.num_frames * (1 + kind.is_interlaced)))
    images: Iterator[Frame] = (stored(picture, kind) for picture in pictures)
    if kind.is_interlaced:
        images = itertools.starmap(woven, zip(images, images, strict=True))
    first = next(images)
    with av.open(str(path), "w", options=kind.container) as container:
        stream = container.add_stream(kind.codec, rate=kind.rate, options=dict(kind.options))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = first.shape[1], first.shape[0], kind.pixel_format
        context = stream.codec_context
        context.thread_count = 1
        context.colorspace, context.color_primaries, context.color_trc = kind.matrix, kind.primaries, kind.transfer
        context.color_range = ColorRange.JPEG if kind.is_full_range else ColorRange.MPEG
        context.sample_aspect_ratio = kind.pixel_aspect
        if kind.is_interlaced:
            context.flags |= 0x40000 | 0x20000000  # interlaced DCT and motion estimation
        if kind.times:
            context.time_base = Fraction(1, 1000)
        if kind.rotation or kind.is_mirrored:
            stream.set_display_rotation(kind.rotation, hflip=kind.is_mirrored)
        for index, image in enumerate(itertools.chain([first], images)):
            picture = VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format=kind.pixel_format,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.JPEG if kind.is_full_range else ColorRange.MPEG,
                dst_colorspace=kind.matrix,
                threads=1,
            )
            picture.pts = kind.times[index] if kind.times else index
            picture.time_base = Fraction(1, 1000) if kind.times else 1 / kind.rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def woven(first: Frame, second: Frame) -> Frame:
    """One interlaced frame, bottom field first, which is what the encoders are told by default."""
    frame = second.copy()
    frame[1::2] = first[1::2]
    return frame


def cut_short(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def write_audio(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        assert isinstance(stream, AudioStream)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
