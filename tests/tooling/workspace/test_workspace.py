"""Records survive kills; files are replaced whole; bad folders and tables are refused by name."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tooling.errors import InputError, ToolingError, WorkspaceError
from tooling.settings import CardSettings, ClipSettings, KeySettings, Settings
from tooling.takedown.receipt import Receipt, read_receipt, receipt_path
from tooling.work.tasks import finished_record, planned_record
from tooling.workspace import records as records_module
from tooling.workspace.audit_file import Audit, ProbeResult, read_audit, records_digest, write_audit
from tooling.workspace.decoding import read_json
from tooling.workspace.files import append_line, file_sha256, whole_lines, write_text
from tooling.workspace.identities import format_identities, read_identities
from tooling.workspace.layout import STAGING, Workspace, create_workspace, open_workspace
from tooling.workspace.plan_file import Plan, format_plan
from tooling.workspace.records import FileRecord, format_record, natural_key
from tooling.workspace.settings_file import format_settings, read_settings


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return create_workspace(tmp_path / "w", Settings())


def publish(place: Workspace, name: str, content: bytes = b"x", **changes: Any) -> FileRecord:
    wanted = planned_record(f"raw_video/{name}", f"raw_video/{name}.mp4", {}, "test", {})
    staged = place.staging_path(wanted.path)
    staged.write_bytes(content)
    record = finished_record(wanted, {wanted.path: staged}, width=2, height=2, fps=30.0, num_frames=1)
    record = replace(record, digital_source_type="digitalCapture", **changes)
    place.publish("raw_video", record, {wanted.path: staged})
    return record


def test_published_file_is_in_its_place_and_recorded(place: Workspace) -> None:
    record = publish(place, "1", b"content")
    assert place.path("raw_video/1.mp4").read_bytes() == b"content"
    assert place.records("raw_video") == {"raw_video/1": record}
    assert record.sha256 == file_sha256(place.path(record.path))
    assert record.num_bytes == 7


def test_order_of_work_does_not_show_in_the_end(place: Workspace) -> None:
    for name in ("10", "2", "1", "2"):
        publish(place, name)
    place.finish("raw_video")
    first = place.records_path("raw_video").read_bytes()
    assert [line["sample_id"] for line in map(json.loads, first.splitlines())] == [
        "raw_video/1",
        "raw_video/2",
        "raw_video/10",
    ]
    place.finish("raw_video")
    assert place.records_path("raw_video").read_bytes() == first
    assert not (place.root / ".staging").exists()


@pytest.mark.parametrize("torn", [b'{"sample_id": "raw_vi', b"\xff\xfe", b"{"])
def test_torn_last_line_is_forgotten_and_cut_off(place: Workspace, torn: bytes) -> None:
    record = publish(place, "1")
    with place.records_path("raw_video").open("ab") as file:
        file.write(torn)
    assert list(place.records("raw_video")) == ["raw_video/1"]
    publish(place, "2")
    assert list(place.records("raw_video")) == ["raw_video/1", "raw_video/2"]
    assert place.records("raw_video")["raw_video/1"] == record


def test_torn_line_longer_than_a_block_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"first\n" + b"y" * 200_000)
    append_line(path, "second")
    assert path.read_bytes() == b"first\nsecond\n"
    path.write_bytes(b"y" * 200_000)
    append_line(path, "only")
    assert path.read_bytes() == b"only\n"


def test_damaged_line_in_the_middle_is_an_error_that_names_the_file(place: Workspace) -> None:
    publish(place, "1")
    path = place.records_path("raw_video")
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(WorkspaceError, match=r"metadata.jsonl: damaged line 'nonsense'"):
        place.records("raw_video")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_bytes": "x"}, "num_bytes: expected int, got 'x'"),
        ({"fps": "30"}, r"fps: expected float \| null, got '30'"),
        ({"inputs": {"raw_video/1.mp4": 3}}, r"inputs\[\.\.\.\]: expected str, got int"),
        ({"origin": "stolen"}, "origin: invalid enum value 'stolen'"),
        ({"surplus": 1}, "surplus: unknown; known: sample_id, path"),
        ({"fps": 1e300}, "fps: expected 0 to 1000, got 1e.300"),
        ({"num_frames": -1}, "num_frames: expected 0 to 2147483648, got -1"),
        ({"path": None}, "path: expected str, got None"),
        ({"path": "../1.mp4"}, "'../1.mp4' is not a path in a workspace"),
        ({"companions": {"/etc/hosts": ""}}, "'/etc/hosts' is not a path in a workspace"),
        ({"parameters": {}, "results": "[" * 9}, "results: expected object"),
    ],
)
def test_record_of_another_type_is_refused_by_name(place: Workspace, changed: dict[str, Any], message: str) -> None:
    publish(place, "1")
    publish(place, "2")
    path = place.records_path("raw_video")
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{json.dumps(json.loads(second) | changed)}\n")
    with pytest.raises(
        WorkspaceError, match=rf"metadata\.jsonl: damaged line .*\(line 2: {message}.*; remove it and run"
    ):
        place.records("raw_video")


def test_files_that_are_damaged_newer_or_of_another_type_are_one_line(place: Workspace) -> None:
    result = ProbeResult("swap_video", "size", False, 0.5, 0.4, 0.6, 3, 3, 0.55, True)
    write_audit(place, Audit((result,), "note", records_digest(place)))
    write_text(place.plan_path, format_plan(Plan(0, {"1": 2}, {"swap_video": [("1", "2")]})))
    Receipt(receipt_path(place, "1"), "1", "2026-01-01", {"a": "b"}, pairs={"swap_video": [("1", "2")]}).save()
    wrong: dict[Path, tuple[Callable[[], Any], dict[str, Any], str]] = {
        place.audit_path: (
            lambda: read_audit(place),
            {"probes": [{"subset": 1}]},
            r"probes\[0\]\.subset: expected str",
        ),
        place.plan_path: (place.plan, {"folds": {"1": "2"}}, r"folds\[\.\.\.\]: expected int"),
        receipt_path(place, "1"): (lambda: read_receipt(place, "1"), {"date": 3}, "date: expected str, got 3"),
    }
    for path, (read, changed, what) in wrong.items():
        right = path.read_text()
        assert read() is not None
        for text, message in (
            (json.dumps(json.loads(right) | changed), rf"damaged \({what}"),
            (right[:-9], r"damaged \("),
            ("[" * 100_000, r"damaged \(nested too deeply\)"),
            ("[]", r"damaged \(no format version"),
            (right.replace('"format": 1', '"format": 99'), "format 99 is newer than this program's 1; upgrade"),
        ):
            path.write_text(text)
            with pytest.raises(WorkspaceError, match=rf"{re.escape(str(path))}: {message}") as caught:
                read()
            assert "\n" not in str(caught.value)
    place.tombstones_path.write_text('{"identity": 7, "date": "2026-01-01"}\n')
    with pytest.raises(WorkspaceError, match=r"line 1: identity: expected str, got 7\); restore it from a backup"):
        place.tombstones()


def test_current_looks_at_what_a_file_was_made_from(place: Workspace) -> None:
    record = publish(place, "1")
    records = place.records("raw_video")
    wanted = planned_record("raw_video/1", record.path, {}, "test", {})
    assert place.find_finished(wanted, records) == record
    assert place.find_finished(replace(wanted, inputs={"a": "b"}), records) is None
    assert place.find_finished(replace(wanted, parameters={"factor": 2.0}), records) is None
    assert place.find_finished(replace(wanted, seed=1), records) is None
    place.path(record.path).write_bytes(b"longer")
    assert place.find_finished(wanted, records) is None
    place.path(record.path).unlink()
    assert place.find_finished(wanted, records) is None


def test_forget_removes_record_and_files(place: Workspace) -> None:
    publish(place, "1")
    publish(place, "2")
    place.forget("raw_video", ["raw_video/1"])
    assert list(place.records("raw_video")) == ["raw_video/2"]
    assert not place.path("raw_video/1.mp4").exists()


def test_forget_goes_on_after_a_kill(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(place, "1")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", interrupt)
        with pytest.raises(KeyboardInterrupt):
            place.forget("raw_video", ["raw_video/1"])
    assert list(place.records("raw_video")) == ["raw_video/1"]  # else nobody would know whose file is left
    place.forget("raw_video", ["raw_video/1"])
    assert (list(place.records("raw_video")), place.path("raw_video/1.mp4").exists()) == ([], False)


def interrupt(*arguments: Any, **options: Any) -> None:
    raise KeyboardInterrupt


def test_toml_that_is_nested_too_deeply_is_one_line(place: Workspace) -> None:
    (place.root / "workspace.toml").write_text("x = " + "[" * 100_000)
    with pytest.raises(WorkspaceError, match=r"workspace\.toml: not readable as TOML"):
        open_workspace(place.root)


def test_lock_admits_one_writer(place: Workspace) -> None:
    with place.locked(), pytest.raises(WorkspaceError, match="another command is writing"), place.locked():
        pass
    with place.locked():
        pass


def test_disks_without_flock_are_locked_all_the_same(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fails)
    with place.locked():
        pass
    monkeypatch.setattr(fcntl, "lockf", fails)
    with (
        pytest.raises(WorkspaceError, match=r"\.lock: its disk has no file locks \(No locks available\); work on"),
        place.locked(),
    ):
        pass


def test_folder_that_is_a_link_to_another_disk_takes_files(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file = os.replace

    def across_disks(source: Path, target: Path) -> None:
        if STAGING in str(source):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", across_disks)
    publish(place, "1")
    assert place.path("raw_video/1.mp4").is_file()
    assert [name for name in place.files() if STAGING in name or name.endswith(".new")] == []


def test_lock_is_free_after_a_kill_and_what_is_left_of_it_does_not_block(place: Workspace) -> None:
    code = "import sys, time; from pathlib import Path; from tooling.workspace.layout import open_workspace\n"
    code += "with open_workspace(Path(sys.argv[1])).locked():\n    print('held', flush=True)\n    time.sleep(600)"
    other = subprocess.Popen([sys.executable, "-c", code, str(place.root)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(WorkspaceError, match="another command is writing here; wait until it ends"), place.locked():
        pass
    other.kill()
    other.wait()
    assert (place.root / ".lock").exists()
    with place.locked():
        pass


def test_full_disk_is_named_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    write_text(path, "old")

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ToolingError, match=f"{tmp_path}: the disk is full; free space and run the command again"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["plan.json"]


def test_missing_newer_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="no workspace here; start one with `tooling ingest"):
        open_workspace(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(WorkspaceError, match="is not empty and not a workspace"):
        create_workspace(tmp_path / "other", Settings())
    newer = create_workspace(tmp_path / "newer", Settings()).root / "workspace.toml"
    newer.write_text("format = 99\n[tables_of_the_future]\n")
    with pytest.raises(WorkspaceError, match="format 99 is newer than this program's 1; upgrade"):
        open_workspace(newer.parent)


def test_settings_survive_a_round_trip_and_bad_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "workspace.toml"
    card, keys = CardSettings(contact='a "b" c'), KeySettings(timestamp_server="https://stamps.invalid:3161/tsa")
    chosen = Settings(clip=ClipSettings(seconds=2.5, fps=25), card=card, keys=keys)
    path.write_text(format_settings(chosen))
    assert read_settings(path) == chosen
    for text, message in [
        ("format = 1\n[clip]\nlength = 3", "clip.length: unknown; known: seconds, fps, width_px, height_px; restore"),
        ("format = 1\n[clips]\n", "clips: unknown; known: clip, faces"),
        ("format = 1\n[clip]\nfps = 29.97", "clip.fps: expected int, got 29.97"),
        ("format = 1\n[clip]\nfps = -1", "clip.fps: expected int >= 1, got -1"),
        ("format = 1\n[clip]\nfps = 0", "clip.fps: expected int >= 1, got 0"),
        ("format = 1\n[clip]\nseconds = 0.0", "clip.seconds: expected float > 0"),
        ("format = 1\n[clip]\nseconds = nan", "clip.seconds: "),
        ("format = 1\n[clip]\nseconds = inf", "clip.seconds: expected float <= 86400.0, got inf"),
        ("format = 1\n[faces]\nmargin = nan", "faces.margin: "),
        ("format = 1\n[clip]\nwidth_px = 2", "clip.width_px: expected int >= 32, got 2"),
        ("format = 1\n[clip]\nheight_px = 721", "clip.height_px: expected int that's a multiple of 2, got 721"),
        ("format = 1\n[clip]\nheight_px = 100000000", "clip.height_px: expected int <= 8192, got 100000000"),
        ("format = 1\n[plan]\nseed = -1", "plan.seed: expected int >= 0, got -1"),
        ("format = 1\n[clip]\nfps = true", "clip.fps: expected int, got True"),
        ("format = 1\n[clip]\nseconds = '3'", "clip.seconds: expected float, got '3'"),
        ("format = 1\nclip = 3", "clip: expected object, got 3"),
        (
            "format = 1\n[keys]\ntimestamp_server = 'stamps.org'",
            "keys: timestamp_server is not an http:// or https:// address: 'stamps.org'; restore or correct it",
        ),
        ("clip = ", "not readable as TOML"),
        ("[clip]\nfps = 25", "no format version, as in format = 1; restore"),
    ]:
        path.write_text(text)
        with pytest.raises(WorkspaceError, match=message):
            read_settings(path)
    path.write_text("format = 1\n[clip]\nseconds = 3")
    assert read_settings(path).clip.seconds == 3.0


HEAD = "id,gender,consent_status,consent_date,consent_evidence\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "1,male,granted,,\n1,male,granted,,\n", r"csv:3: id '1' appears twice"),
        (HEAD + "1,man,granted,,\n", r"csv:2: gender 'man' of identity 1; use male, female"),
        (HEAD + "1,male,yes,,\n", "consent_status 'yes' of identity 1; use granted, refused, withdrawn, unknown"),
        (HEAD + "01,male,granted,,\n", "id '01' is not a number from 1 up"),
        (HEAD + ",male,granted,,\n", "id '' is not a number from 1 up"),
        ("id,gender\n1,male\n", "column 'consent_status' is missing, there are id, gender; needed"),
        ("ID,Geschlecht\n1,male\n", "column 'id' is missing, there are ID, Geschlecht; needed"),
        (
            "id;gender;consent_status\n1;male;granted\n",
            "first line is 'id;gender;consent_status'; separate .* by commas",
        ),
        ("id\tgender\tconsent_status\n", "separate the columns by commas"),
        ("sep=,\nid,gender,consent_status\n", "first line is 'sep=.*'; separate the columns by commas"),
        ("id,gender,consent_status,gender\n", "column 'gender' appears twice"),
        ("\n\n", "is empty; write the columns id"),
        ("", "is empty; write the columns id"),
        (HEAD + '3,male,granted,,"form 3\n4,female,withdrawn,,\n', r"csv:2: a quote is not closed"),
        (HEAD + '3,male,granted,,"form 3\n4,female,withdrawn,,"\n', r"csv:2: a quote is open until line 3; close it"),
        (
            HEAD + '3,male,granted,,"form 3\n4,female,withdrawn,,"x"\n',
            r"csv:2: a quote is not closed, or stands inside",
        ),
        (HEAD + "3,male,granted,,form 3, shelf 2\n", "csv:2: has 6 cells, the first line 5; put a cell .* in quotes"),
        (HEAD + "\n,,,,\n\n3,male,yes,,\n", r"csv:5: consent_status 'yes'"),
        ("id,gender,consent_status,start_seconds\n1,male,granted,soon\n", "start_seconds 'soon' is not a number"),
        (
            "id,gender,consent_status,glasses\n1,male,granted,maybe\n",
            "csv:2: glasses 'maybe' of identity 1; use yes, no,",
        ),
        ("id,gender,consent_status,glasses,glasses\n", "column 'glasses' appears twice"),
    ],
)
def test_bad_identities_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "identities.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_identities(path)


def test_identities_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "identities.csv"
    path.write_text("\ufeffid,gender,consent_status,consent_evidence,start_seconds\n10,female,refused,,\n"
                    '2,male,granted,"shelf 3, ""blue""",4.5\n', encoding="utf-8")  # fmt: skip
    found = read_identities(path)
    assert list(found) == ["2", "10"]
    assert found["2"].start_seconds == 4.5
    assert found["2"].consent_evidence == 'shelf 3, "blue"'
    path.write_text(format_identities(found), encoding="utf-8")
    assert read_identities(path) == found
    with pytest.raises(InputError, match=r"nobody\.csv: not found; write it with the columns id,gender"):
        read_identities(tmp_path / "b" / "nobody.csv")


def test_glasses_are_stated_or_left_open(tmp_path: Path) -> None:
    path = tmp_path / "identities.csv"
    path.write_text("id,gender,consent_status,glasses\n1,male,granted,yes\n2,male,granted,no\n3,male,granted,\n")
    found = read_identities(path)
    assert [person.glasses for person in found.values()] == ["yes", "no", None]
    path.write_text(format_identities(found), encoding="utf-8")
    assert read_identities(path) == found
    assert "glasses" not in format_identities({"3": found["3"]})


def test_cells_of_a_table_hold_no_line_separators(tmp_path: Path) -> None:
    path = tmp_path / "identities.csv"
    path.write_text(HEAD + "3,male,granted,,form\x0b3\u2028 shelf\x852,,\n,,,,\n", encoding="utf-8")
    found = read_identities(path)
    assert found["3"].consent_evidence == "form 3 shelf 2"
    assert len(format_identities(found).splitlines()) == 2


@pytest.mark.parametrize("name", ["Identities.csv", "identities.csv.txt", "identities.xlsx", "identities (1).csv"])
def test_table_of_another_name_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(HEAD)
    with pytest.raises(InputError, match=f"identities.csv: not found, but there is {re.escape(name)}; save it as CSV"):
        read_identities(tmp_path / "identities.csv")


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("\ufeffformat = 1\n[clip]\nseconds = 3", encoding="utf-8")
    assert read_settings(path).clip.seconds == 3.0
    path.write_text('\ufeff{"a": 1}\n', encoding="utf-8")
    assert read_json(path, dict[str, int], "") == {"a": 1}
    assert whole_lines(path) == ['{"a": 1}']


@pytest.mark.parametrize(
    ("parameters", "results", "origin"),
    [
        ({}, {}, "made"),
        ({"imported": True}, {"archive": "a.zip"}, "imported"),
        ({"imported": True}, {"repository": "lab/set"}, "pulled"),
    ],
)
def test_records_from_before_origins_are_read_right(
    parameters: dict[str, Any], results: dict[str, Any], origin: str
) -> None:
    record = replace(planned_record("a/1", "a/1.mp4", {}, "g", parameters), results=results)
    content = json.loads(format_record(record))
    assert content.pop("origin") == "made"
    assert records_module.parse_record(json.dumps(content)).origin == origin


def test_records_are_stable_text() -> None:
    record = planned_record("a/1", "a/1.mp4", {"b": "c"}, "g", {"z": 1, "a": [1, 2]}, seed=3)
    assert records_module.parse_record(format_record(record)) == record
    assert format_record(record) == format_record(records_module.parse_record(format_record(record)))
    assert sorted(["10", "2", "1_10", "1_2"], key=natural_key) == ["1_2", "1_10", "2", "10"]
