"""Every file of one picture size and length has one size, whatever it shows, and decodes as if nothing was added."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from generation.media.padding import IDENTIFIER, RESERVE, bits_per_second, padded_size, padding, stored_size
from generation.media.reader import read_clip
from generation.media.tags import write_tags
from generation.media.writer import MASTER_OPTIONS, VideoWriter, write_clip


def noisy(num_frames: int, strength: float, width: int = 160, height: int = 96) -> NDArray[np.uint8]:
    rng = np.random.default_rng(1)
    return np.clip(rng.normal(128, strength, (num_frames, height, width, 3)), 0, 255).astype(np.uint8)


def sizes_of_frames(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [packet.size for packet in container.demux(video=0) if packet.dts is not None]


@pytest.mark.parametrize("num_frames", [1, 8, 40])
def test_size_says_nothing_of_what_is_shown(tmp_path: Path, num_frames: int) -> None:
    sizes, totals = set(), set()
    for number, strength in enumerate((0, 2, 10)):
        path = tmp_path / f"{number}.mp4"
        write_clip(path, noisy(num_frames, strength))
        sizes.add(path.stat().st_size)
        totals.add(sum(sizes_of_frames(path)))
        assert len(read_clip(path)) == num_frames
    assert len(sizes) == len(totals) == 1
    assert totals.pop() == padded_size(0, bits_per_second(160, 96, 30), Fraction(num_frames, 30))


def test_what_does_not_fit_takes_whole_eighths_more(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", noisy(4, 90))
    usual = padded_size(0, bits_per_second(160, 96, 30), Fraction(4, 30))
    assert padded_size(usual, bits_per_second(160, 96, 30), Fraction(4, 30)) == usual + usual // 8
    assert (sum(sizes_of_frames(tmp_path / "a.mp4")) - usual) % (usual // 8) == 0


def test_padding_is_not_decoded_and_stays_in_copies(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", noisy(20, 4))
    assert IDENTIFIER in (tmp_path / "a.mp4").read_bytes()
    write_tags(tmp_path / "a.mp4", tmp_path / "b.mp4", {"comment": "x"})
    assert sizes_of_frames(tmp_path / "a.mp4") == sizes_of_frames(tmp_path / "b.mp4")
    bare = tmp_path / "bare.mp4"
    with av.open(str(tmp_path / "a.mp4")) as given, av.open(str(bare), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                content = _without_padding(bytes(packet))
                kept = av.Packet(content)
                kept.pts, kept.dts, kept.time_base, kept.stream = packet.pts, packet.dts, packet.time_base, stream
                kept.is_keyframe = packet.is_keyframe
                made.mux(kept)
    assert bare.stat().st_size < (tmp_path / "a.mp4").stat().st_size
    np.testing.assert_array_equal(read_clip(bare), read_clip(tmp_path / "a.mp4"))


def _without_padding(content: bytes) -> bytes:
    kept, at = b"", 0
    while at < len(content):
        size = 4 + int.from_bytes(content[at : at + 4], "big")
        kept += b"" if IDENTIFIER in content[at : at + size] else content[at : at + size]
        at += size
    return kept


def test_masters_are_of_one_quality_and_not_padded(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, width=160, height=96, options=MASTER_OPTIONS) as writer:
        for frame in noisy(8, 4):
            writer.write(frame)
    assert IDENTIFIER not in path.read_bytes()


def test_frames_of_each_kind_are_at_the_same_places_whatever_is_shown(tmp_path: Path) -> None:
    moving = np.stack([np.roll(noisy(1, 60)[0], 9 * at * (at > 12), axis=1) for at in range(32)])
    kinds = set()
    for number, frames in enumerate((noisy(32, 0), noisy(32, 40), moving)):
        path = tmp_path / f"{number}.mp4"
        write_clip(path, frames)
        with av.open(str(path)) as container:
            kinds.add("".join("?IPB"[frame.pict_type] for frame in container.decode(video=0)))
    assert kinds == {"IBBPBBPBBPBBPBPIBBPBBPBBPBBPBPIP"}


@pytest.mark.parametrize("num_bytes", [RESERVE, RESERVE + 1, 300, 301, 302, 303, 555, 556, 66_000, 250_001])
def test_padding_has_exactly_the_size_that_is_asked_for(num_bytes: int) -> None:
    made = padding(num_bytes)
    assert len(made) == stored_size(made) == num_bytes
    assert b"\0\0\1" not in made.replace(b"\0\0\0\1", b"")


def test_every_size_can_be_padded() -> None:
    assert all(len(padding(num_bytes)) == num_bytes for num_bytes in range(RESERVE, RESERVE + 1_200))
    with pytest.raises(ValueError, match="too few for padding"):
        padding(10)


def test_short_start_codes_grow_when_stored() -> None:
    assert stored_size(b"\0\0\0\1abc\0\0\1de") == 4 + 3 + 4 + 2


def test_rate_follows_size_and_rate_of_pictures() -> None:
    assert bits_per_second(1280, 720, 30) == 4_000_000
    assert bits_per_second(1280, 720, 15) == 2_000_000
    assert 850_000 < bits_per_second(350, 350, 30) < 900_000
