"""Video in and out: the same bytes for the same frames, exact frames, constant rate, nothing half-written."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from generation.errors import VideoError
from generation.media.reader import EXACT, pick_frames, probe_video, read_clip, read_frames, read_image, to_rgb
from generation.media.writer import to_picture, write_clip


def moving(num_frames: int, width: int = 94, height: int = 62) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    waves = [[np.sin((x * (c + 1) + y + 5 * t) / 9) * 100 + 128 for c in range(3)] for t in range(num_frames)]
    return np.moveaxis(np.array(waves), 1, -1).astype(np.uint8)


def test_image_that_claims_to_be_huge_is_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    content = bytearray((tmp_path / "1.png").read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(VideoError, match=r"1\.png: cannot be read as a picture \(Image size .*\); make it again$"):
        read_image(tmp_path / "1.png")


def test_frames_come_back_in_order_and_nearly_equal(tmp_path: Path) -> None:
    frames = moving(40)
    assert write_clip(tmp_path / "a.mp4", frames) == 40
    info = probe_video(tmp_path / "a.mp4")
    assert (info.width, info.height, info.fps, info.num_frames) == (94, 62, Fraction(30), 40)
    assert (info.codec, info.pixel_format, info.has_audio) == ("h264", "yuv420p", False)
    decoded = read_clip(tmp_path / "a.mp4")
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 8  # colour at half size
    np.testing.assert_array_equal(read_clip(tmp_path / "a.mp4", 7, 9), decoded[7:9])


def test_colours_there_and_back_leave_luma_as_it_is(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", moving(8, 96, 64))
    with av.open(str(tmp_path / "a.mp4")) as container:
        for picture in container.decode(video=0):
            again = to_picture(to_rgb(picture))
            one, other = (np.asarray(p.to_ndarray(), int)[:64] for p in (picture, again))  # the plane of luma
            assert np.abs(one - other).mean() < 0.02
            assert abs((other - one).mean()) < 0.01
            fast = to_rgb(picture, is_exact=False)
            assert np.abs(fast.astype(int) - to_rgb(picture)).mean() < 10


def test_picked_frames_are_exact(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", moving(50))
    decoded = read_clip(tmp_path / "a.mp4")
    picked = pick_frames(tmp_path / "a.mp4", [49, 0, 14, 15, 31, 31])
    assert sorted(picked) == [0, 14, 15, 31, 49]
    for number, frame in picked.items():
        np.testing.assert_array_equal(frame, decoded[number])
    with pytest.raises(VideoError, match="ends before frame 50"):
        pick_frames(tmp_path / "a.mp4", [3, 50])


@pytest.mark.parametrize("size", [(94, 62), (93, 61)])
def test_colours_are_those_of_packed_conversion(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    picture = VideoFrame.from_ndarray(noise, format="rgb24").reformat(format="yuv420p")
    packed = picture.reformat(format="rgb24", interpolation=EXACT).to_ndarray()
    assert np.array_equal(to_rgb(picture), packed)


@pytest.mark.parametrize("size", [(94, 62), (350, 350), (348, 350), (160, 96)])
def test_same_frames_give_the_same_bytes_whatever_the_process_did_before(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = moving(24, *size)
    contents = set()
    for attempt in range(6):
        litter = [np.full(1000 * (n + 1) * (attempt + 1), n, np.uint8) for n in range(40)]
        list(read_frames(tmp_path / "a.mp4", 0, attempt)) if attempt else None
        del litter[::2]
        write_clip(tmp_path / "a.mp4", frames)
        contents.add((tmp_path / "a.mp4").read_bytes())
    assert len(contents) == 1


def test_rate_is_constant_and_key_frames_are_every_fifteen(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", moving(50), fps=25)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = list(container.decode(video=0))
        times = [frame.pts * frame.time_base for frame in frames if frame.pts is not None and frame.time_base]
        colour = container.streams.video[0].codec_context.colorspace
    assert times == [Fraction(number, 25) for number in range(50)]
    assert [number for number, frame in enumerate(frames) if frame.key_frame] == [0, 15, 30, 45]
    assert colour == 1  # BT.709


def test_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="size 93x62 is odd"):
        write_clip(tmp_path / "a.mp4", moving(2, 93))
    with pytest.raises(VideoError, match="no frames to write"):
        write_clip(tmp_path / "a.mp4", [])
    changing = [moving(1)[0], moving(1, 92)[0]]
    with pytest.raises(VideoError, match="expected uint8"):
        write_clip(tmp_path / "a.mp4", changing)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not found"),
        (b"", "is empty; copy it again"),
        (b"hello" * 100, "cannot be read as video"),
        (b"#EXTM3U\nhttp://example.org/a.ts\n", "is a list of videos"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS; run `git lfs pull`"),
        (b"<!DOCTYPE html><html><head><title>Google Drive", "is a web page, as file hosts"),
        (b"\n<html>", "is a web page, as file hosts"),
    ],
)
def test_unreadable_files_are_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=f"a.mp4: .*{message}") as caught:
        list(read_frames(path))
    assert "\n" not in str(caught.value)


def test_encrypted_film_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, moving(2))
    path.write_bytes(path.read_bytes().replace(b"avc1\0\0\0\0", b"encv\0\0\0\0"))
    with pytest.raises(VideoError, match=r"a\.mp4: is encrypted .* export it as H\.264"):
        list(read_frames(path))
