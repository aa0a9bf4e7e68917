"""How a file differs from what a video of the dataset must be: each fault by its name."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from generation.errors import VideoError
from generation.media.contract import VideoContract, differences
from generation.media.writer import X264_OPTIONS, VideoWriter

WIDTH, HEIGHT, NUM_FRAMES = 96, 64, 8
CONTRACT = VideoContract((WIDTH, HEIGHT), NUM_FRAMES, 30)


def pictures(num_frames: int = NUM_FRAMES, width: int = WIDTH) -> list[NDArray[np.uint8]]:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, width, 3), np.uint8)
    return [np.roll(noise, 2 * number, 1) for number in range(num_frames)]


def write(
    path: Path, num_frames: int = NUM_FRAMES, width: int = WIDTH, fps: int | Fraction = 30, **options: str
) -> Path:
    with VideoWriter(path, width=width, height=HEIGHT, fps=fps, options=X264_OPTIONS | options) as writer:
        for picture in pictures(num_frames, width):
            writer.write(picture)
    return path


FAULTS = {
    "frames": ({"num_frames": 7}, "frames", "7, must be 8", True),
    "many frames": ({"num_frames": 2 * NUM_FRAMES + 3}, "frames", "over 16, must be 8", True),
    "size": ({"width": WIDTH + 2}, "size", "98x64, must be 96x64", True),
    "rate": ({"fps": 25}, "frames per second", "25, must be 30", True),
    "nearly the rate": ({"fps": Fraction(30000, 1001)}, "frames per second", "29.97, must be 30", False),
    "key frames": ({"g": "5", "keyint_min": "5"}, "key frames", "not every 15th, must be every 15th", False),
    "profile": ({"profile": "main"}, "profile", "Main, must be High", False),
}


def test_clip_of_the_writer_has_no_differences(tmp_path: Path) -> None:
    assert differences(write(tmp_path / "a.mp4"), CONTRACT) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_difference_is_named(fault: str, tmp_path: Path) -> None:
    options, name, words, is_lasting = FAULTS[fault]
    found = {one.name: one for one in differences(write(tmp_path / "a.mp4", **options), CONTRACT)}  # type: ignore[arg-type]
    assert (str(found[name]), found[name].is_lasting) == (words, is_lasting)
    assert found.keys() <= {name, "frame times"}  # another rate has other times


def test_damaged_clip_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", num_frames=NUM_FRAMES)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 1500
    content[start : start + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.mp4: "):
        differences(path, CONTRACT)
