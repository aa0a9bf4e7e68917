"""Which film of a file is taken, and which part of it is sound: streams, tags, joined and damaged files."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from generation.errors import VideoError
from generation.media.reader import probe_video
from generation.media.source import Damage, decode_frames, survey_source
from tests.generation.media.sources import Kind, chart, write_source

GBK = "采访".encode("gbk")
TS_BYTES = 188


def write_streams(path: Path, sizes: Sequence[tuple[int, int]], default: int | None = None) -> Path:
    """A file of several video streams, 12 frames each; one of them may be the default one."""
    with av.open(str(path), "w") as container:
        streams: list[VideoStream] = []
        for number, (width, height) in enumerate(sizes):
            stream = container.add_stream("mpeg4", rate=12)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.disposition = Disposition.default if number == default else Disposition(0)
            streams.append(stream)
        for number in range(12):
            for stream in streams:
                picture = VideoFrame.from_ndarray(chart(number, (stream.width, stream.height)), format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1, 12)
                container.mux(stream.encode(picture))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def write_stream(path: Path, num_frames: int, **options: str) -> bytes:
    """The bytes of a transport stream of 12 pictures a second."""
    kind = Kind(path.name, size=(64, 48), rate=Fraction(12), num_frames=num_frames, options={"g": "6", **options})
    return write_source(path.parent, kind).read_bytes()


@pytest.mark.parametrize("name", ["1.mp4", "1.mov", "1.avi", "1.mkv"])
def test_tags_that_are_not_utf8_are_no_obstacle(tmp_path: Path, name: str) -> None:
    kind = Kind(name, size=(64, 48), num_frames=4, options={"bf": "0"})
    path = write_source(tmp_path, kind)
    with av.open(str(path)) as given, av.open(str(tmp_path / f"tagged-{name}"), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        made.metadata["title"] = "TITLE"[: len(GBK)].ljust(len(GBK), "E")
        stream.metadata["handler_name"] = "HAND"
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    content = (tmp_path / f"tagged-{name}").read_bytes()
    assert b"TITL" in content
    path.write_bytes(content.replace(b"TITL", GBK).replace(b"HAND", GBK))
    assert len(list(decode_frames(survey_source(path)))) == 4
    assert probe_video(path).width == 64


@pytest.mark.parametrize("name", ["1.mp4", "1.mov", "1.mkv", "1.ts"])
def test_film_is_chosen_among_streams(tmp_path: Path, name: str) -> None:
    small, large = (48, 32), (192, 128)
    assert survey_source(write_streams(tmp_path / name, [small, large], default=1)).description["width"] == 192
    assert survey_source(write_streams(tmp_path / name, [small, large])).description["width"] == 192
    assert survey_source(write_streams(tmp_path / name, [small, large], default=0)).description["width"] == 192
    assert probe_video(tmp_path / name).width == 192


def test_default_stream_is_preferred_to_a_larger_one(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "1.mkv", [(192, 128), (128, 96)], default=1)
    assert survey_source(path).description["width"] == 128


@pytest.mark.parametrize(("lengths", "longest"), [((24, 12), 24), ((12, 24), 24), ((12, 12, 12), 12)])
def test_joined_streams_count_by_their_longest_run(tmp_path: Path, lengths: Sequence[int], longest: int) -> None:
    path = tmp_path / "1.ts"
    path.write_bytes(b"".join(write_stream(tmp_path / "part.ts", length) for length in lengths))
    source = survey_source(path)
    assert source.duration_seconds == pytest.approx(longest / 12)
    assert source.description["num_runs"] == len(lengths)
    times = [float(time) for time, _ in decode_frames(source)]
    assert times == pytest.approx([number / 12 for number in range(longest)])
    assert len(list(decode_frames(source, 0.5))) >= longest - 6


def test_damage_counts_from_the_key_frame_before_the_start(tmp_path: Path) -> None:
    content = write_stream(tmp_path / "1.ts", 36)
    packets = [content[at : at + TS_BYTES] for at in range(0, len(content), TS_BYTES)]
    lost = range(len(packets) // 4, len(packets) // 4 + 3)
    path = tmp_path / "1.ts"
    path.write_bytes(b"".join(packet for number, packet in enumerate(packets) if number not in lost))
    source, damage = survey_source(path), list[Damage]()
    assert len(list(decode_frames(source, damage=damage))) >= 30
    assert len(damage) == 1
    assert damage[0].end is not None
    assert damage[0].begin < damage[0].end < 1.5
    assert len(list(decode_frames(source, float(damage[0].end)))) >= 18
    for start in (0.0, float(damage[0].end) - 0.1):
        with pytest.raises(VideoError, match="is damaged at"):
            list(decode_frames(source, start))
