"""Source videos of every kind become clips of one kind; the best part of each is found; bad ones are refused by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from generation.errors import VideoError
from generation.normalise import ClipShape, fit_picture, write_clip_of
from generation.source_video import survey_source
from generation.video import Frame, probe_video, read_clip

SHAPE = ClipShape(num_frames=45, fps=30, width_px=320, height_px=180)
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
        value = 255 * (number >> bit & 1)
        canvas[y : y + round(10 * unit), x : x + round(10 * unit)] = value
    return canvas


def read_number(picture: Frame, unit: float) -> int:
    height, width = picture.shape[:2]
    number = 0
    for bit in range(NUM_BITS):
        x, y = width / 2 + ((bit - NUM_BITS / 2) * 10 + 5) * unit, height / 2 + 50 * unit
        number |= int(picture[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].mean() > 127) << bit
    return number


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
    images = (stored(picture, kind) for picture in pictures)
    if kind.is_interlaced:
        images = itertools.starmap(woven, zip(images, images, strict=True))
    first = next(images)
    with av.open(str(path), "w", options=kind.container) as container:
        stream = container.add_stream(kind.codec, rate=kind.rate, options=dict(kind.options))
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
            )
            picture.pts = kind.times[index] if kind.times else index
            picture.time_base = Fraction(1, 1000) if kind.times else 1 / kind.rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def woven(top: Frame, bottom: Frame) -> Frame:
    frame = top.copy()
    frame[1::2] = bottom[1::2]
    return frame


def normalised(path: Path, start_seconds: float = 0.0, shape: ClipShape = SHAPE) -> Frame:
    out = path.with_name("out.mp4")
    write_clip_of(survey_source(path), out, start_seconds, shape)
    info = probe_video(out)
    assert (info.width, info.height, info.fps, info.num_frames) == (shape.width_px, shape.height_px, 30, 45)
    assert (info.codec, info.pixel_format, info.has_audio) == ("h264", "yuv420p", False)
    clip = read_clip(out)
    assert len(clip) == shape.num_frames
    return clip
