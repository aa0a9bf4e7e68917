"""Source videos of every kind become clips of one kind; what is no whole video is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from generation.arrays import Frame
from generation.errors import VideoError
from generation.media.normalise import ClipShape, bar_shares, fit_picture, write_clip_of
from generation.media.reader import probe_video, read_clip
from generation.media.source import survey_source
from tests.generation.media.sources import (
    GREY,
    NUM_BITS,
    PATCHES,
    Kind,
    chart,
    cut_short,
    write_audio,
    write_source,
)

SHAPE = ClipShape(num_frames=45, fps=30, width_px=320, height_px=180)


def read_number(picture: Frame, unit: float) -> int:
    height, width = picture.shape[:2]
    code = 0
    for bit in range(NUM_BITS):
        x, y = width / 2 + ((bit - NUM_BITS / 2) * 10 + 5) * unit, height / 2 + 50 * unit
        code |= int(picture[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].mean() > 127) << bit
    number = 0
    while code:
        number, code = number ^ code, code >> 1
    return number


def normalised(path: Path, start_seconds: float = 0.0, shape: ClipShape = SHAPE) -> Frame:
    out = path.with_name("out.mp4")
    write_clip_of(survey_source(path), out, start_seconds, shape)
    info = probe_video(out)
    assert (info.width, info.height, info.num_frames) == (shape.width_px, shape.height_px, 45)
    assert info.fps == Fraction(shape.fps)
    assert (info.codec, info.pixel_format, info.has_audio) == ("h264", "yuv420p", False)
    clip = read_clip(out)
    assert len(clip) == shape.num_frames
    return clip


def disc_of(picture: Frame, unit: float) -> tuple[float, float, float, float]:
    """Width and height of the white disc, to a part of a pixel, and its centre."""
    weight = np.clip((picture.astype(float).min(axis=2) - GREY) / (235 - GREY), 0, 1)
    weight[round(picture.shape[0] / 2 + 30 * unit) :] = 0
    ys, xs = np.mgrid[: picture.shape[0], : picture.shape[1]]
    weight[np.abs(xs - picture.shape[1] / 2) > 55 * unit] = 0
    x, y = float((weight * xs).sum() / weight.sum()), float((weight * ys).sum() / weight.sum())
    spread_x = float(np.sqrt((weight * (xs - x) ** 2).sum() / weight.sum()))
    spread_y = float(np.sqrt((weight * (ys - y) ** 2).sum() / weight.sum()))
    return 4 * spread_x, 4 * spread_y, x + 0.5, y + 0.5


KINDS = {
    "plain": Kind(),
    "matroska": Kind(name="1.mkv"),
    "avi": Kind(name="1.avi", matrix=2),
    "elementary": Kind(name="1.h264", rate=Fraction(25)),
    "webm": Kind(name="1.webm", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
    "25": Kind(rate=Fraction(25)),
    "29.97": Kind(rate=Fraction(30000, 1001)),
    "50": Kind(rate=Fraction(50), num_frames=100),
    "60": Kind(rate=Fraction(60), num_frames=120),
    "variable": Kind(name="1.mkv", num_frames=45, times=[number * 40 + number % 3 * 11 for number in range(45)]),
    "turned 90": Kind(rotation=90),
    "turned 180": Kind(rotation=180),
    "turned 270": Kind(rotation=270),
    "mirrored": Kind(is_mirrored=True),
    "interlaced h264": Kind(is_interlaced=True, rate=Fraction(25), num_frames=50),
    "interlaced mpeg2": Kind(
        "1.ts", is_interlaced=True, rate=Fraction(30000, 1001), codec="mpeg2video", options={"b": "4M"}
    ),
    "wide pixels": Kind(pixel_aspect=Fraction(4, 3)),
    "narrow pixels": Kind(size=(320, 240), pixel_aspect=Fraction(8, 9)),
    "10 bit": Kind(pixel_format="yuv420p10le"),
    "4:2:2": Kind(pixel_format="yuv422p"),
    "4:4:4": Kind(pixel_format="yuv444p"),
    "prores": Kind("1.mov", codec="prores_ks", pixel_format="yuv422p10le"),
    "rgb": Kind("1.mov", codec="png", pixel_format="rgb24"),
    "full range": Kind(is_full_range=True),
    "bt601": Kind(matrix=6, primaries=6, transfer=6),
    "bt601 hd": Kind(size=(1280, 720), matrix=5, primaries=5, transfer=6),
    "bt2020 matrix": Kind(matrix=9, pixel_format="yuv420p10le"),
    "untagged sd": Kind(matrix=2, primaries=2, transfer=2),
    "odd": Kind("1.mkv", size=(321, 181), codec="ffv1", pixel_format="yuv444p"),
    "portrait": Kind(size=(180, 320)),
    "4:3": Kind(size=(240, 180)),
    "16:10": Kind(size=(320, 200)),
    "2.4:1": Kind(size=(480, 200)),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_source_becomes_the_same_kind_of_clip(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    source = write_source(tmp_path / "sources", kind)
    clip = normalised(source)
    is_black = clip[20].max(-1) < 24
    bars = (is_black.all(0).mean(), is_black.all(1).mean())
    assert bar_shares(survey_source(source), 320, 180) == pytest.approx(bars, abs=0.015)
    geometry = fit_picture(kind.size, Fraction(1), (320, 180))
    scale = geometry.scaled_height_px / kind.size[1]
    unit = min(kind.size) / 180 * scale
    width, height, x, y = disc_of(clip[20], unit)
    assert width == pytest.approx(height, rel=0.02)
    assert width == pytest.approx(80 * unit, rel=0.03)
    assert [x, y] == pytest.approx([160, 90 - 20 * unit], abs=1.5)
    offset_x, offset_y = (offset if geometry.is_cropped else -offset for offset in (geometry.x_px, geometry.y_px))
    inset = 15 * unit
    for (at_x, at_y), colour in zip(((0, 0), (1, 0), (0, 1), (1, 1)), PATCHES.values(), strict=True):
        x = inset + at_x * (geometry.scaled_width_px - 2 * inset) - offset_x
        y = inset + at_y * (geometry.scaled_height_px - 2 * inset) - offset_y
        assert clip[20][round(y) - 1, round(x) - 1].tolist() == pytest.approx(list(colour), abs=6), (at_x, at_y)
    if kind.times:
        times = [Fraction(time, 1000) for time in kind.times]
    else:
        rate = kind.rate * (1 + kind.is_interlaced)
        times = [number / rate for number in range(kind.num_frames * (1 + kind.is_interlaced))]
    # A frame shows the last picture at or before its time; Matroska's times are whole milliseconds.
    expected = [sum(time <= Fraction(frame, 30) + Fraction(1, 1000) for time in times) - 1 for frame in range(45)]
    assert [read_number(picture, unit) for picture in clip] == expected


def test_a_part_begins_at_its_time_in_containers_of_every_sort(tmp_path: Path) -> None:
    for name in ("1.mp4", "1.mkv", "1.ts", "1.avi"):
        path = write_source(tmp_path / "sources", Kind(name, num_frames=120, matrix=2, options={"g": "24"}))
        numbers = [read_number(picture, 1) for picture in normalised(path, 1.5)]
        assert numbers == list(range(45, 90)), name


def test_hdr_becomes_standard_brightness(tmp_path: Path) -> None:
    def pq(light: float) -> int:  # SMPTE ST 2084, cd/m2 -> 8-bit level
        power = (light / 10000) ** (2610 / 16384)
        signal: float = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
        return round(255 * signal)

    lights = (0.0, 20.0, 60.0, 203.0)
    columns = [np.full((180, 80, 3), pq(light), np.uint8) for light in lights]
    kind = Kind(codec="libx265", pixel_format="yuv420p10le", matrix=9, primaries=9, transfer=16)
    kind = dataclasses.replace(kind, options={"x265-params": "log-level=none", "preset": "ultrafast"})
    clip = normalised(write_source(tmp_path / "sources", kind, [np.hstack(columns)] * 60))
    found = [float(clip[10][90, 40 + 80 * column].mean()) for column in range(4)]
    # BT.1886 of the light relative to HDR's reference white
    assert found == pytest.approx([255 * (light / 203) ** (1 / 2.4) for light in lights], abs=8)


def test_interlaced_lines_are_gone(tmp_path: Path) -> None:
    fields = []
    for number in range(120):
        picture = np.full((180, 320, 3), 60, np.uint8)
        picture[:, 20 + 2 * number : 50 + 2 * number] = 220
        fields.append(picture)
    kind = Kind(is_interlaced=True)
    clip = normalised(write_source(tmp_path / "sources", kind, fields))
    edges = np.abs(np.diff(clip[5:40, 10:170].astype(int), axis=1)).max()
    assert edges < 60  # a comb has steps of 160 from line to line


def test_encoder_is_not_told_the_types_of_the_sources_pictures(tmp_path: Path) -> None:
    path = write_source(tmp_path / "sources", Kind(options={"g": "7"}))
    normalised(path)
    with av.open(str(path.with_name("out.mp4"))) as container:
        keys = [number for number, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert keys == [0, 15, 30]


def test_picture_is_cropped_a_little_or_padded() -> None:
    assert vars(fit_picture((1920, 1080), Fraction(1), (1280, 720))) == {
        "scaled_width_px": 1280, "scaled_height_px": 720, "x_px": 0, "y_px": 0, "is_cropped": True
    }  # fmt: skip
    portrait = fit_picture((1080, 1920), Fraction(1), (1280, 720))
    assert (portrait.scaled_width_px, portrait.x_px, portrait.is_cropped) == (404, 438, False)
    assert fit_picture((4096, 2160), Fraction(1), (1280, 720)).is_cropped
    assert not fit_picture((1440, 1080), Fraction(1), (1280, 720)).is_cropped
    assert fit_picture((1440, 1080), Fraction(4, 3), (1280, 720)).scaled_width_px == 1280


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("no video\n" * 500), "cannot be read as video"),
    "zeros": (lambda path: path.write_bytes(bytes(5000)), "cannot be read as video"),
    "audio": (write_audio, "has no video stream"),
    "picture": (lambda path: path.write_bytes(cv2.imencode(".png", chart(1, (320, 180)))[1].tobytes()), "not a video"),
    "playlist": (lambda path: path.write_text("#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n"), "list of videos"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_video_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "1.mp4"
    write, message = BAD[name]
    write(path)
    with pytest.raises(VideoError, match=message) as caught:
        survey_source(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("name", ["1.mp4", "1.mkv", "1.avi", "fast.mp4"])
def test_truncated_source_is_refused(tmp_path: Path, name: str, share: float) -> None:
    container = {"movflags": "faststart"} if name == "fast.mp4" else {}
    path = write_source(tmp_path / "sources", Kind(name, num_frames=120, options={"g": "10"}, container=container))
    cut_short(path, share)
    with pytest.raises(VideoError, match=r"truncated|cannot be read") as caught:
        survey_source(path)
    assert "\n" not in str(caught.value)


def test_damage_inside_the_part_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    path = write_source(
        tmp_path / "sources", Kind(num_frames=120, options={"g": "10"}, container={"movflags": "faststart"})
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(VideoError, match="is damaged at"):
        write_clip_of(survey_source(path), tmp_path / "out.mp4", 0.0, SHAPE)
    assert not (tmp_path / "out.mp4").exists()
