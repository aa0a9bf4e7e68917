"""Source videos in, one clip per person out: the right part of each, refusals by name, resume."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from generation.arrays import Frame
from generation.faces.window import VERSION
from generation.media.reader import read_clip, read_frames
from generation.media.writer import write_clip
from tests.actor_clips import film_person
from tests.generation.media.sources import Kind, cut_short, write_audio, write_source
from tests.workspaces import reproducible_state
from tooling.actors import RenderSettings
from tooling.errors import InputError
from tooling.settings import ClipSettings, Settings
from tooling.stages import ingest
from tooling.workspace.files import file_sha256
from tooling.workspace.layout import Workspace, create_workspace
from tooling.workspace.records import StageResult

SIZE = (320, 180)
RATE = 12
CLIP = ClipSettings(seconds=1.5, fps=12, width_px=SIZE[0], height_px=SIZE[1])
HEADER = "id,gender,consent_status,consent_date,consent_evidence,start_seconds\n"
EMPTY = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)


class People:
    """Pictures of a man and of a woman, a second and a half each; shown forwards and backwards they go on for ever."""

    def __init__(self) -> None:
        settings = RenderSettings(num_frames=18, fps=RATE, width_px=SIZE[0], height_px=SIZE[1])
        self.man = film_person(1, "male", settings).frames
        self.woman = film_person(4, "female", settings).frames


@pytest.fixture(scope="session")
def people() -> People:
    return People()


def shown(pictures: Sequence[Frame], seconds: float) -> list[Frame]:
    there_and_back = [*pictures, *pictures[-2:0:-1]]
    return [there_and_back[number % len(there_and_back)] for number in range(round(seconds * RATE))]


def smaller(picture: Frame, part: int = 2) -> Frame:
    """The picture at a part of its size in a corner of an empty one."""
    small = picture[::part, ::part]
    canvas = EMPTY.copy()
    canvas[-small.shape[0] :, : small.shape[1]] = small
    return canvas


def side_by_side(one: Frame, other: Frame) -> Frame:
    quarter = SIZE[0] // 4
    return np.hstack([one[:, quarter : 3 * quarter], other[:, quarter : 3 * quarter]])


def put(folder: Path, name: str, pictures: Sequence[Frame]) -> Path:
    kind = Kind(name, size=SIZE, rate=Fraction(RATE), options={"g": str(RATE)})
    return write_source(folder, kind, pictures)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return create_workspace(tmp_path / "workspace", Settings(clip=CLIP))


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "identities.csv").write_text(HEADER + "1,male,granted,,,\n2,female,granted,,,\n3,male,granted,,,\n")
    return folder


def run(place: Workspace, sources: Path) -> StageResult:
    return ingest.ingest_clips(place, sources, num_workers=1)


def chosen(place: Workspace, name: str = "1") -> float:
    return float(place.records("raw_video")[f"raw_video/{name}"].results["window"]["start_seconds"])


def test_subject_is_chosen_not_the_interviewer_and_no_cut_is_inside(
    people: People, place: Workspace, sources: Path
) -> None:
    interviewer = [smaller(picture) for picture in people.woman]
    pictures = shown(interviewer, 2) + shown(people.man, 2.5) + shown(interviewer, 2) + [EMPTY] * RATE
    put(sources, "1.mp4", pictures)
    result = run(place, sources)
    assert result.made == ["raw_video/1"], result.refused
    start = chosen(place)
    assert 2.0 <= start <= 3.0
    clip = read_clip(place.path("raw_video/1.mp4"))
    expected = np.stack(pictures[round(start * RATE) : round(start * RATE) + 18])
    assert clip.shape == (18, SIZE[1], SIZE[0], 3)
    assert np.abs(clip.astype(int) - expected).mean() < 4
    record = place.records("raw_video")["raw_video/1"]
    assert (record.width, record.height, record.fps, record.num_frames) == (320, 180, 12.0, 18)
    assert record.parameters == {
        "clip": {"seconds": 1.5, "fps": 12, "width_px": 320, "height_px": 180},
        "start_seconds": None,
        "version": VERSION,
    }
    window = record.results["window"]
    assert (window["num_cuts"], window["num_people"], window["share_good"]) == (3, 2, 1.0)
    assert record.results["source"]["duration_seconds"] == 7.5


def test_a_fake_without_a_change_would_be_the_same_file_as_the_clip(
    people: People, place: Workspace, sources: Path, tmp_path: Path
) -> None:
    put(sources, "1.mp4", shown(people.man, 2))
    assert run(place, sources).made == ["raw_video/1"]
    record = place.records("raw_video")["raw_video/1"]
    assert list(record.companions) == ["masters/1.mp4"]
    write_clip(tmp_path / "unchanged.mp4", read_frames(place.path("masters/1.mp4")), fps=12)
    assert file_sha256(tmp_path / "unchanged.mp4") == record.unmarked_sha256
    place.path("masters/1.mp4").unlink()
    assert run(place, sources).made == ["raw_video/1"]


def test_sources_are_read_again_only_if_they_were_written(
    place: Workspace, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    videos = [sources / f"{number}.mp4" for number in (1, 2)]
    for number, video in enumerate(videos):
        video.write_bytes(b"no video %d" % number)

    def note(path: Path) -> str:
        read.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr(ingest, "file_sha256", note)

    def names_read() -> list[str]:
        read.clear()
        assert len(run(place, sources).refused) == 2
        return sorted(read)

    assert [names_read(), names_read()] == [["1.mp4", "2.mp4"], []]  # though they were written a moment before
    digests = (place.root / ingest.DIGESTS).read_bytes()
    other, state = sources / "other", videos[0].stat()
    other.write_bytes(b"no video 2")
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(videos[0])
    assert [names_read(), names_read()] == [["1.mp4"], []]
    assert (place.root / ingest.DIGESTS).read_bytes() != digests
    (place.root / ingest.DIGESTS).write_text("{")
    assert [names_read(), names_read()] == [["1.mp4", "2.mp4"], []]
    later_ns = time.time_ns() + 10**12  # the clock of another machine
    os.utime(videos[1], ns=(later_ns, later_ns))
    assert [names_read(), names_read()] == [["2.mp4"], ["2.mp4"]]


def test_stretch_without_a_jump_cut_is_chosen(people: People, place: Workspace, sources: Path) -> None:
    moved = [np.roll(picture, (4, 14), axis=(0, 1)) for picture in people.man]
    put(sources, "1.mp4", shown(people.man, 1.0) + shown(moved, 1.75))
    assert run(place, sources).made == ["raw_video/1"]
    assert 0.99 <= chosen(place) <= 1.26


def test_frozen_stretch_is_not_chosen(people: People, place: Workspace, sources: Path) -> None:
    frozen = shown(people.man, 1.0) + [people.man[11]] * 2 * RATE
    put(sources, "1.mp4", frozen + shown(people.man[11:0:-1], 1.75))
    assert run(place, sources).made == ["raw_video/1"]
    assert chosen(place) >= 2.9
    put(sources, "1.mp4", frozen)
    assert re.search(r"frozen for (1\.9|2\.\d) s", run(place, sources).refused["raw_video/1"])


@pytest.mark.parametrize(
    ("turn", "remedy"), [(2, "upside down; turn it by 180 degrees"), (1, "90 degrees to the right")]
)
def test_turned_film_is_refused(people: People, place: Workspace, sources: Path, turn: int, remedy: str) -> None:
    put(sources, "1.mp4", [np.ascontiguousarray(np.rot90(picture, turn)) for picture in shown(people.man, 2)])
    assert remedy in run(place, sources).refused["raw_video/1"]


def test_black_bars_are_told_with_their_share_and_what_to_do(people: People, place: Workspace, sources: Path) -> None:
    square = [np.ascontiguousarray(picture[:, 70:250]) for picture in shown(people.man, 2)]
    write_source(sources, Kind("1.mp4", size=(180, 180), rate=Fraction(RATE), options={"g": str(RATE)}), square)
    put(sources, "2.mp4", shown(people.woman, 2))
    result = run(place, sources)
    assert result.made == ["raw_video/1", "raw_video/2"], result.refused
    assert result.notes == [
        f"{(sources / '1.mp4').resolve()}: 44 % of the width of its clip is black bars; "
        "hand in a video of the shape 16:9, filmed across or cropped around head and shoulders"
    ]
    assert run(place, sources).notes == result.notes  # also when it is kept
    bars = [record.results["bars"] for record in place.records("raw_video").values()]
    assert bars == [{"width": 0.4375, "height": 0.0}, {"width": 0.0, "height": 0.0}]
    clip = read_clip(place.path("raw_video/1.mp4"))
    assert (clip[:, :, :68].max(), clip[:, :, -68:].max()) < (24, 24) < (clip[:, :, 72].max(), clip[:, :, -72].max())


REASONS: dict[str, Callable[[People], list[Frame]]] = {
    "no face in 100% of the pictures": lambda people: [EMPTY] * 24,
    "two faces of like size in": lambda people: [
        side_by_side(*pair) for pair in zip(shown(people.man, 2), shown(people.woman, 2), strict=True)
    ],
    "face too small in": lambda people: [smaller(picture, 5) for picture in shown(people.man, 2)],
    "face cut off by the border": lambda people: [
        np.vstack([picture[64:], np.repeat(picture[-1:], 64, axis=0)]) for picture in shown(people.man, 2)
    ],
    "2 cuts": lambda people: shown(people.man, 1) + [EMPTY] * 3 + shown(people.man, 1),
}


@pytest.mark.parametrize("reason", REASONS)
def test_source_without_a_usable_part_is_refused_with_the_measured_reason(
    people: People, place: Workspace, sources: Path, reason: str
) -> None:
    put(sources, "1.mp4", REASONS[reason](people))
    result = run(place, sources)
    message = result.refused["raw_video/1"]
    assert reason in message
    assert "1.mp4: no part of 1.5 s" in message
    assert "\n" not in message
    assert not list((place.root / "raw_video").glob("*"))


def test_with_an_end_the_best_part_between_is_chosen(people: People, place: Workspace, sources: Path) -> None:
    put(sources, "1.mp4", shown(people.man, 2) + [EMPTY] * 12 + shown(people.man, 4.5))
    put(sources, "2.mp4", shown(people.woman, 3))
    assert place.records("raw_video") == {}
    header = HEADER.replace("start_seconds", "start_seconds,end_seconds")
    (sources / "identities.csv").write_text(f"{header}1,male,granted,,,2.5,6.0\n2,female,granted,,,,1.4\n")
    result = run(place, sources)
    assert result.made == ["raw_video/1"]
    assert 2.99 <= chosen(place) <= 4.5
    assert "2.mp4: end_seconds 1.4 leaves less than 1.5 s after start_seconds" in result.refused["raw_video/2"]
    assert place.records("raw_video")["raw_video/1"].parameters["end_seconds"] == 6.0
    assert run(place, sources).kept == ["raw_video/1"]
    (sources / "identities.csv").write_text(f"{header}1,male,granted,,,2.5,2.5\n")
    with pytest.raises(InputError, match=r"csv:2: end_seconds 2\.5 is not after start_seconds 2\.5"):
        run(place, sources)


def test_given_start_is_used_and_refused_beyond_the_source(people: People, place: Workspace, sources: Path) -> None:
    put(sources, "1.mp4", pictures := shown(people.man, 3))
    put(sources, "2.mp4", pictures)
    rows = "1,male,granted,,,0.75\n2,female,granted,,,1.6\n"
    (sources / "identities.csv").write_text(HEADER + rows)
    result = run(place, sources)
    assert "2.mp4: start_seconds 1.6 leaves less than 1.5 s of its 3.00 s" in result.refused["raw_video/2"]
    assert "use 0 to 1.50" in result.refused["raw_video/2"]
    clip = read_clip(place.path("raw_video/1.mp4"))
    assert np.abs(clip.astype(int) - np.stack(pictures[9:27])).mean() < 4
    (sources / "identities.csv").write_text(HEADER + rows.replace("0.75", "0.25"))
    again = run(place, sources)
    assert again.made == ["raw_video/1"]
    clip = read_clip(place.path("raw_video/1.mp4"))
    assert np.abs(clip.astype(int) - np.stack(pictures[3:21])).mean() < 4
    assert run(place, sources).kept == ["raw_video/1"]


def test_every_bad_file_is_refused_by_name_and_the_others_are_made(
    people: People, place: Workspace, sources: Path
) -> None:
    good = put(sources, "1.MOV", shown(people.man, 2))
    rows = "".join(f"{number},male,granted,,,\n" for number in (1, 2, 4, 5, 6, 7, 8))
    (sources / "identities.csv").write_text(HEADER + rows + "9,female,refused,,,\n10,female,unknown,,,\n")
    for name in ("anna.mp4", "007.mp4", "3.mp4", "8.mp4", "8.mkv", "9.mp4", "10.mp4"):
        shutil.copy(good, sources / name)
    (sources / "2.mp4").write_bytes(b"")
    (sources / "4.mp4").write_text("not a video\n" * 100)
    write_audio(sources / "5.mp4")
    shutil.copy(good, sources / "6.mp4")
    cut_short(sources / "6.mp4", 0.5)
    put(sources, "7.mp4", shown(people.man, 1))
    (sources / "README.md").write_text("notes")
    for name in (".hidden", "Thumbs.db", "~$x.xlsx", "1.mp4:Zone.Identifier", "1.srt", "1.jpg", "11.mp4.part", "a.pdf"):
        (sources / name).write_text("notes")
    (sources / "12.mp4").symlink_to(sources / "nowhere.mp4")
    result = run(place, sources)
    assert result.made == ["raw_video/1"]
    expected = {
        "anna.mp4": "is not named after an identity",
        "007.mp4": "is not named after an identity",
        "3.mp4": "identity 3 has no row in identities.csv",
        "8.mp4": "identity 8 also has 8.mkv",
        "8.mkv": "identity 8 also has 8.mp4",
        "9.mp4": "consent of identity 9 is 'refused'",
        "10.mp4": "consent of identity 10 is 'unknown'",
        "12.mp4": "nowhere.mp4, which is not there",
        "raw_video/2": "2.mp4: is empty",
        "raw_video/4": "4.mp4: cannot be read as video",
        "raw_video/5": "5.mp4: has no video stream",
        "raw_video/6": "6.mp4: cannot be read as video",
        "raw_video/7": "7.mp4: is 1.00 s long, shorter than the clip length of 1.5 s",
    }
    assert result.refused.keys() == expected.keys()
    assert result.notes == [
        f"{sources / '11.mp4.part'}: is an unfinished download, left out; complete or delete it",
        f"{sources / 'a.pdf'}: is not a video; left out",
    ]
    for name, message in expected.items():
        assert message in result.refused[name]
        assert "\n" not in result.refused[name]
    assert "--clip-seconds" in result.refused["raw_video/7"]
    assert sorted(path.name for path in (place.root / "raw_video").iterdir()) == ["1.mp4", "metadata.jsonl"]


def test_whole_folder_is_refused_before_any_work(place: Workspace, sources: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no source videos"):
        run(place, sources)
    with pytest.raises(InputError, match="is not a folder"):
        run(place, tmp_path / "nowhere")
    (sources / "identities.csv").write_text(HEADER + "1,male,granted,,,\n1,male,granted,,,\n")
    with pytest.raises(InputError, match="appears twice"):
        run(place, sources)
    (sources / "identities.csv").unlink()
    place.identities_path.unlink()
    with pytest.raises(InputError, match=r"identities\.csv: not found"):
        run(place, sources)


def test_rows_of_the_folder_are_merged_into_the_workspace(people: People, place: Workspace, sources: Path) -> None:
    place.identities_path.write_text(HEADER + "1,female,unknown,,,\n12,female,granted,,,\n")
    put(sources, "1.mp4", shown(people.man, 2))
    result = run(place, sources)
    assert result.made == ["raw_video/1"]
    assert result.notes[0].endswith("has no row of identity 12; their rows in the workspace stay as they are")
    identities = place.identities()
    assert list(identities) == ["1", "2", "3", "12"]
    assert (identities["1"].gender, identities["1"].consent_status) == ("male", "granted")
    (sources / "identities.csv").rename(sources / "Identities.CSV.txt")
    with pytest.raises(InputError, match=r"identities\.csv: not found, but there is Identities\.CSV\.txt"):
        run(place, sources)
    (sources / "Identities.CSV.txt").unlink()
    assert run(place, sources).kept == ["raw_video/1"]


RUN = """
import sys
from pathlib import Path
from tooling.stages import ingest
from tooling.workspace.layout import open_workspace
if __name__ == "__main__":
    place = open_workspace(Path(sys.argv[1]))
    with place.locked():
        ingest.ingest_clips(place, Path(sys.argv[2]), num_workers=1)
"""


def processes(place: Workspace, sources: Path, script: Path) -> Iterator[subprocess.Popen[bytes]]:
    script.write_text(RUN)
    path = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    while True:
        command = [sys.executable, str(script), str(place.root), str(sources)]
        yield subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, start_new_session=True)


@pytest.mark.slow
def test_killed_run_continues_and_ends_with_the_same_bytes(
    people: People, place: Workspace, sources: Path, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        put(sources, f"{number}.mp4", shown(people.man if number % 2 else people.woman, 2 + number / 4))
    text = (sources / "identities.csv").read_text()
    (sources / "identities.csv").write_text(text.replace("granted,,,", "granted,,,0"))  # no face is looked for
    undisturbed = create_workspace(tmp_path / "undisturbed", Settings(clip=CLIP))
    assert len(ingest.ingest_clips(undisturbed, sources, num_workers=2).made) == 3  # the killed ones have one worker
    started = processes(place, sources, tmp_path / "run.py")
    for watched in (".staging/raw_video/1.mp4", ".staging/raw_video/3.mp4"):
        process = next(started)
        deadline = time.monotonic() + 300
        while not place.path(watched).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for record in place.records("raw_video").values():
            assert len(place.path(record.path).read_bytes()) == record.num_bytes
    assert len(place.records("raw_video")) < 3
    result = run(place, sources)
    assert len(result.made) + len(result.kept) == 3
    assert reproducible_state(place) == reproducible_state(undisturbed)
    assert json.loads(place.records_path("raw_video").read_text().splitlines()[0])["sample_id"] == "raw_video/1"
