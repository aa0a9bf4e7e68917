"""Every injected fault is found, named by its place, and ends the command with exit code 1."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from generation.media.writer import write_clip
from homologous_deepfake import SUBSETS
from tests.workspaces import add_file, reproducible_state
from tooling.errors import DiskFullError, VerificationError
from tooling.stages.audit import run as audit
from tooling.stages.verify import checking, group, state, video_pass
from tooling.stages.verify import run as verify
from tooling.stages.verify.table import read_known
from tooling.views import excerpts
from tooling.views.report.grids import lay_out, shots_of
from tooling.views.report.overview import read_overview
from tooling.views.report.posters import make_media
from tooling.work.engine import run_side_by_side
from tooling.workspace.audit_file import MEASURED
from tooling.workspace.files import file_sha256, write_text
from tooling.workspace.identities import format_identities
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord, format_record
from tooling.workspace.verification_file import read_verification


def errors_of(workspace: Workspace) -> list[str]:
    findings = verify.verify_files(workspace, num_workers=1)
    return [f"{finding.path}: {finding.message}" for finding in findings if finding.severity == "error"]


def rerecord(workspace: Workspace, path: str, **changes: object) -> None:
    """Replaces a file's record, with the digest of what lies there now."""
    subset = path.partition("/")[0]
    records = workspace.records(subset)
    record: FileRecord = records[path.rpartition(".")[0]]
    file = workspace.path(path)
    now = {"sha256": file_sha256(file), "num_bytes": file.stat().st_size, **changes}
    records[record.sample_id] = dataclasses.replace(record, **now)  # type: ignore[arg-type]
    lines = "".join(format_record(record) + "\n" for record in records.values())
    write_text(workspace.records_path(subset), lines)


def frames(num_frames: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    return [np.full((height, width, 3), 20 * number, np.uint8) for number in range(num_frames)]


def set_plan(workspace: Workspace, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    plan = json.loads(workspace.plan_path.read_text())
    change(plan)
    workspace.plan_path.write_text(json.dumps(plan))


def withdraw(workspace: Workspace) -> None:
    people = workspace.identities()
    people["2"] = dataclasses.replace(people["2"], consent_status="withdrawn")
    write_text(workspace.identities_path, format_identities(people))


def replace_clip(workspace: Workspace, num_frames: int = 8, fps: int = 30, width: int = 96) -> None:
    write_clip(workspace.path("raw_video/2.mp4"), frames(num_frames, width), fps=fps)
    rerecord(workspace, "raw_video/2.mp4")


def truncate(workspace: Workspace) -> None:
    path = workspace.path("raw_video/2.mp4")
    path.write_bytes(path.read_bytes()[:-400])
    rerecord(workspace, "raw_video/2.mp4")


def hide_frames(workspace: Workspace) -> None:
    path = workspace.path("raw_video/2.mp4")
    path.write_bytes(path.read_bytes().replace(b"stsz", b"free"))
    rerecord(workspace, "raw_video/2.mp4")


def spoil_image(workspace: Workspace) -> None:
    path = workspace.path("GAN_images/000001.png")
    path.write_bytes(path.read_bytes()[:200])
    rerecord(workspace, "GAN_images/000001.png")


def remake_input(workspace: Workspace) -> None:
    first = next(iter(workspace.records("swap_video").values()))
    rerecord(workspace, first.path, inputs={"raw_video/1.mp4": "0" * 64})


def remake_two_inputs(workspace: Workspace) -> None:
    add_file(workspace, "raw_video/10.mp4", "ingest", {})
    first = next(iter(workspace.records("swap_video").values()))
    rerecord(workspace, first.path, inputs={f"raw_video/{person}.mp4": "0" * 64 for person in (10, 2)})


def add_stray(workspace: Workspace) -> None:
    shutil.copy(workspace.path("raw_video/1.mp4"), workspace.path("swap_video/98_99.mp4"))


def flip_byte(workspace: Workspace) -> None:
    path = workspace.path("raw_video/2.mp4")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


FAULTS: dict[str, tuple[Callable[[Workspace], object], str]] = {
    "missing file": (
        lambda w: w.path("raw_video/2.mp4").unlink(),
        "raw_video/2.mp4: is missing; run `tooling ingest SOURCES` again",
    ),
    "missing track": (lambda w: w.path("tracks/2.json").unlink(), "tracks/2.json: is missing"),
    "one bit": (flip_byte, "raw_video/2.mp4: differs from its record (sha256)"),
    "truncated": (truncate, "raw_video/2.mp4: does not decode"),
    "no frames": (hide_frames, "raw_video/2.mp4: frames: 0, must be 8"),
    "too few frames": (lambda w: replace_clip(w, 7), "raw_video/2.mp4: frames: 7, must be 8"),
    "wrong rate": (lambda w: replace_clip(w, fps=25), "raw_video/2.mp4: frames per second: 25, must be 30"),
    "wrong size": (lambda w: replace_clip(w, width=98), "raw_video/2.mp4: size: 98x64, must be 96x64"),
    "image": (spoil_image, "GAN_images/000001.png: does not decode"),
    "stale input": (remake_input, "was made from an older raw_video/1.mp4; run `tooling generate swap_video` again"),
    "stale inputs": (
        remake_two_inputs,
        "was made from an older raw_video/2.mp4 and 1 more; run `tooling generate swap_video` again",
    ),
    "stray file": (add_stray, "swap_video/98_99.mp4: has no record; remove it or import it"),
    "no consent": (withdraw, "raw_video/2.mp4: consent of identity 2 is 'withdrawn'; take the person out"),
    "crossing folds": (
        lambda w: set_plan(w, lambda plan: plan["folds"].update({"1": 4})),
        "lie in different folds",
    ),
    "no fold": (
        lambda w: set_plan(w, lambda plan: plan["folds"].pop("2")),
        "identity 2 has no fold; run `tooling plan`",
    ),
    "not planned": (
        lambda w: set_plan(w, lambda plan: plan["pairs"]["swap_video"].pop()),
        "is not in plan.json; `tooling plan --prune` removes it",
    ),
    "missing pair": (
        lambda w: w.forget("swap_video", [next(iter(w.records("swap_video")))]),
        "is planned, not there; run `tooling generate swap_video`",
    ),
    "no crop": (
        lambda w: w.forget("face_video", ["face_video/2"]),
        "raw_video/2.mp4: has no crop; run `tooling faces`",
    ),
    "no clip": (lambda w: w.forget("raw_video", ["raw_video/2"]), "face_video/2.mp4: has no clip in raw_video"),
}


def test_sound_workspace_has_no_errors_and_its_files_are_listed(pair_copy: Workspace) -> None:
    findings = verify.verify_files(pair_copy, num_workers=1)
    assert {finding.severity for finding in findings} == {"note"}
    verify.raise_for_errors(findings)
    table = read_verification(pair_copy)
    records = [record for subset in SUBSETS for record in pair_copy.records(subset).values()]
    assert {path: row.sha256 for path, row in table.items()} == {record.path: record.sha256 for record in records}
    assert all(row.is_ok for row in table.values())


@pytest.mark.parametrize("fault", FAULTS)
def test_injected_fault_is_found(fault: str, pair_copy: Workspace) -> None:
    inject, message = FAULTS[fault]
    inject(pair_copy)
    findings = verify.verify_files(pair_copy, num_workers=1)
    found = [str(finding) for finding in findings if finding.severity == "error"]
    assert any(message in line for line in found), found
    with pytest.raises(VerificationError, match="correct that and verify again"):
        verify.raise_for_errors(findings)


def test_verification_table_names_the_file_that_failed(pair_copy: Workspace, tmp_path: Path) -> None:
    truncate(pair_copy)
    errors_of(pair_copy)
    rows = read_verification(pair_copy)
    finding = rows["raw_video/2.mp4"].findings[0]
    assert (finding.severity, finding.kind) == ("error", "encoding")
    assert "does not decode" in finding.message
    assert rows["raw_video/1.mp4"].is_ok


def test_error_of_a_companion_is_in_the_row_of_its_file(pair_copy: Workspace) -> None:
    pair_copy.path("tracks/2.json").unlink()
    errors_of(pair_copy)
    rows = read_verification(pair_copy)
    assert [str(found) for found in rows["face_video/2.mp4"].findings] == [
        "error: tracks/2.json: is missing; run `tooling faces` again"
    ]
    table = pq.read_table(pair_copy.verification_path).to_pylist()
    assert [row["path"] for row in table if not row["is_ok"]] == ["face_video/2.mp4"]


def test_table_of_an_older_format_is_verified_again(pair_copy: Workspace) -> None:
    errors_of(pair_copy)
    table = pq.read_table(pair_copy.verification_path)
    old = table.set_column(3, "findings", pa.array([["note: x: y"]] * len(table))).replace_schema_metadata(None)
    pq.write_table(old, pair_copy.verification_path)
    with pytest.raises(VerificationError, match=r": not verified any more, .*; run `tooling verify`$"):
        read_verification(pair_copy)
    digests = dict(zip(*(table[name].to_pylist() for name in ("path", "digest")), strict=True))
    assert list(read_known(pair_copy, digests)) == []
    assert errors_of(pair_copy) == []
    assert len(read_verification(pair_copy)) == len(table)


# --- what is not looked at again ---


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    opened: list[str] = []
    original = group.choose_meters

    def watch(item, record, *others):  # type: ignore[no-untyped-def]
        opened.append(record.path)
        return original(item, record, *others)

    monkeypatch.setattr(group, "choose_meters", watch)
    return opened


def test_unchanged_files_are_not_decoded_again(pair_copy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = count_decoded(monkeypatch)
    before = verify.verify_files(pair_copy, num_workers=1)
    table = pq.read_table(pair_copy.verification_path)
    assert opened == []
    add_file(pair_copy, "swap_video/1_2.mp4", "another", {})
    pair_copy.finish("swap_video")
    assert verify.verify_files(pair_copy, num_workers=1) == before
    assert sorted(opened) == ["raw_video/1.mp4", "swap_video/1_2.mp4"]
    again = pq.read_table(pair_copy.verification_path)
    assert again.column_names == table.column_names
    assert again["path"].to_pylist() == table["path"].to_pylist()
    pair_copy.path("swap_video/2_1.mp4").write_bytes(b"other")
    assert "swap_video/2_1.mp4: differs from its record (sha256); run `tooling generate swap_video` again" in errors_of(
        pair_copy
    )
    opened.clear()
    verify.verify_files(pair_copy, verify.VerifyOptions(recheck_all=True), num_workers=1)
    assert len(opened) == 2 * 6 - 1


def test_files_that_were_not_written_are_neither_read_nor_compared(
    pair_copy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = verify.verify_files(pair_copy, num_workers=1)  # a moment after the files were copied
    table = pair_copy.verification_path.stat()

    def refuse(*_: object) -> None:
        raise AssertionError("there is nothing to do")

    with monkeypatch.context() as patch:
        for module, name in ((group, "check_group"), (checking, "check_all"), (verify, "read_known")):
            patch.setattr(module, name, refuse)
        assert verify.verify_files(pair_copy, num_workers=1) == before
    assert pair_copy.verification_path.stat() == table  # nor is the table written
    identities = pair_copy.identities()
    identities["2"] = dataclasses.replace(identities["2"], consent_status="withdrawn")
    write_text(pair_copy.identities_path, format_identities(identities))
    assert any("consent of identity 2 is 'withdrawn'" in line for line in errors_of(pair_copy))
    assert not read_verification(pair_copy)["raw_video/2.mp4"].is_ok
    path = pair_copy.path("swap_video/2_1.mp4")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert any("swap_video/2_1.mp4: differs from its record (sha256)" in line for line in errors_of(pair_copy))


def test_the_table_is_the_same_whichever_file_is_checked_first(
    pair_copy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = reproducible_state(pair_copy)

    def reverse(*arguments: Any, **options: Any) -> Any:
        return reversed(list(run_side_by_side(*arguments, **options)))

    monkeypatch.setattr(checking, "run_side_by_side", reverse)
    verify.verify_files(pair_copy, verify.VerifyOptions(recheck_all=True), num_workers=1)
    assert reproducible_state(pair_copy) == before


def test_other_rules_are_applied_to_the_same_checks(pair_copy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    before, opened, compared = verify.verify_files(pair_copy, num_workers=1), count_decoded(monkeypatch), []
    original = checking.check_all

    def watch(*arguments: Any) -> Any:
        compared.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(checking, "check_all", watch)
    verify.verify_files(pair_copy, num_workers=1)
    assert not compared
    monkeypatch.setattr(state, "RULES", state.RULES + 1)
    assert verify.verify_files(pair_copy, num_workers=1) == before
    assert (len(compared), opened) == (1, [])


def test_interrupted_run_keeps_what_it_checked(pair_copy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    pair_copy.verification_path.unlink()

    def interrupt(done: int, total: int, name: str) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify.verify_files(pair_copy, num_workers=1, progress=interrupt)
    rows = read_verification(pair_copy)
    assert [path for path in rows if path.startswith("raw_video")] == ["raw_video/1.mp4"]
    assert {finding.kind for row in rows.values() for finding in row.findings} == {"unfinished"}
    assert not any(row.is_ok for row in rows.values())
    opened = count_decoded(monkeypatch)
    assert errors_of(pair_copy) == []
    assert "raw_video/1.mp4" not in opened
    assert "raw_video/2.mp4" in opened


def test_audit_decodes_no_verified_file(pair_copy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    verify.verify_files(pair_copy, num_workers=1)
    kept = pair_copy.root / MEASURED
    with monkeypatch.context() as patch:
        for name in ("pick_frames", "read_image"):
            patch.delattr(audit, name)
        audit.audit_files(pair_copy, num_workers=1)
    without_decoding = kept.read_bytes()
    kept.unlink()
    pair_copy.audit_path.unlink()
    pair_copy.verification_path.unlink()
    audit.audit_files(pair_copy, num_workers=1)
    assert kept.read_bytes() == without_decoding


def test_full_folder_for_temporary_files_is_not_needed(pair_copy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    video_pass._own_settings.cache_clear()
    found = verify.verify_files(pair_copy, verify.VerifyOptions(recheck_all=True), num_workers=1)
    assert [finding for finding in found if finding.severity == "error"] == []
    assert not pair_copy.staging_folder.exists()


def test_full_disk_ends_the_run_and_blames_no_file(pair_copy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    video_pass._own_settings.cache_clear()
    monkeypatch.setattr(video_pass, "write_clip", fails)
    with pytest.raises(DiskFullError, match="the disk is full; free space"):
        verify.verify_files(pair_copy, verify.VerifyOptions(recheck_all=True), num_workers=1)


def test_report_decodes_no_verified_video(
    pair_copy: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(pair_copy.root / "excerpts", ignore_errors=True)
    shots = shots_of(lay_out(read_overview(pair_copy, None)))
    made = make_media(pair_copy, shots, num_workers=1)
    verify.verify_files(pair_copy, verify.VerifyOptions(recheck_all=True), num_workers=1)
    with monkeypatch.context() as patch:
        patch.setattr(excerpts, "read_track", None)  # of a file that is cut and decoded
        kept = make_media(pair_copy, shots, num_workers=1)
    assert kept.clips
    assert (kept.clips, kept.sheets, kept.errors) == (made.clips, made.sheets, {})


def test_excerpts_of_files_that_are_gone_go(pair_copy: Workspace) -> None:
    verify.verify_files(pair_copy, verify.VerifyOptions(recheck_all=True), num_workers=1)
    before = set(pair_copy.excerpts())
    record = pair_copy.records("swap_video")["swap_video/1_2"]
    assert pair_copy.excerpt_name(record, "1") in before
    pair_copy.forget("swap_video", ["swap_video/1_2"])
    assert not [line for line in errors_of(pair_copy) if "excerpts" in line]
    assert before - set(pair_copy.excerpts()) == {pair_copy.excerpt_name(record, "1")}
