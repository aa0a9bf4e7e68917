"""verification.parquet comes back as it was written; damaged tables and those of another format end in one line."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tooling.errors import VerificationError, WorkspaceError
from tooling.settings import Settings
from tooling.workspace.layout import Workspace, create_workspace
from tooling.workspace.verification_file import (
    KINDS,
    VERSION,
    Finding,
    VerifiedFile,
    read_faulty,
    read_verification,
    remove_rows,
    verified_paths,
    write_verification,
)

FILES = (
    VerifiedFile("raw_video/1.mp4", "0" * 64, (), {"face_px": 104.5, "brightness": 90.0}, "d", '{"path": "x"}'),
    VerifiedFile(
        "raw_video/2.mp4", "1" * 64, tuple(Finding("note", kind, "raw_video/2.mp4", f"about {kind}") for kind in KINDS)
    ),
    VerifiedFile("raw_video/3.mp4", "2" * 64, (Finding("error", "record", "tracks/3.json", "is missing"),)),
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return create_workspace(tmp_path / "workspace", Settings())


def test_rows_come_back_as_written(workspace: Workspace) -> None:
    write_verification(workspace, FILES)
    assert read_verification(workspace) == {file.path: file for file in FILES}
    assert pq.read_table(workspace.verification_path)["is_ok"].to_pylist() == [True, True, False]
    assert read_faulty(workspace) == [FILES[2]]
    first = read_verification(workspace, ["findings"])["raw_video/2.mp4"], read_verification(workspace, ["check"])
    assert first[0] == FILES[1]
    assert first[1]["raw_video/1.mp4"] == VerifiedFile("raw_video/1.mp4", "0" * 64, check='{"path": "x"}')


def test_no_table_is_not_verified(workspace: Workspace) -> None:
    with pytest.raises(VerificationError, match=r": not verified; run `tooling verify`$"):
        read_verification(workspace)
    assert verified_paths(workspace) == []


def test_another_version_is_not_verified_any_more(workspace: Workspace) -> None:
    write_verification(workspace, FILES)
    table = pq.read_table(workspace.verification_path)
    for metadata in (None, {"version": f"{VERSION - 1}"}, {"version": f"{VERSION + 1}"}):
        pq.write_table(table.replace_schema_metadata(metadata), workspace.verification_path)
        with pytest.raises(VerificationError, match=r": not verified any more, [^\n]*; run `tooling verify`$"):
            read_verification(workspace)


def test_damaged_table_is_named(workspace: Workspace) -> None:
    write_verification(workspace, FILES)
    table = pq.read_table(workspace.verification_path)
    pq.write_table(table.drop_columns(["findings"]), workspace.verification_path)
    with pytest.raises(
        WorkspaceError, match=r"verification.parquet: damaged \('findings'\); run `tooling verify` again"
    ):
        read_verification(workspace)
    for content in (b"no table", b"PAR1", b""):
        workspace.verification_path.write_bytes(content)
        for read in (read_verification, verified_paths):
            with pytest.raises(WorkspaceError, match=r"verification.parquet: damaged .*; run `tooling verify` again"):
                read(workspace)


def test_rows_are_removed_from_a_table_of_any_version(workspace: Workspace) -> None:
    write_verification(workspace, FILES)
    remove_rows(workspace, ["raw_video/2.mp4"])
    assert list(read_verification(workspace)) == ["raw_video/1.mp4", "raw_video/3.mp4"]
    pq.write_table(pa.table({"path": ["raw_video/1.mp4", "raw_video/2.mp4"]}), workspace.verification_path)
    remove_rows(workspace, ["raw_video/1.mp4"])
    assert verified_paths(workspace) == ["raw_video/2.mp4"]
