"""From checks to rows of verification.parquet, and from its rows to the checks of unchanged files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import msgspec

from tooling.errors import VerificationError, WorkspaceError
from tooling.settings import Settings
from tooling.stages.verify.file_check import FileCheck, is_image
from tooling.workspace.decoding import decode_json
from tooling.workspace.files import file_state
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord
from tooling.workspace.verification_file import (
    VERSION,
    Finding,
    Summary,
    VerifiedFile,
    iterate_verification,
    write_verification,
)

UNFINISHED = "was verified alone, the verification did not end; run `tooling verify` again"


def check_digest(record: FileRecord, settings: Settings, *context: str) -> str:
    """Digest of everything that the check of a file depends on.

    Args:
        record: of the file; its companions and inputs are named there.
        settings: of the workspace, which say what videos must be.
        context: digests of everything else that it is compared with.
    """
    shape = None if is_image(record) else settings.video_shape(record.subset)
    parts = [VERSION, record, shape, context]
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def read_known(workspace: Workspace, digests: Mapping[str, str]) -> Iterator[FileCheck]:
    """Checks without an error from the last verification that would be the same today.

    Args:
        workspace: whose table is read; without a table of this version that can be read, nothing is known.
        digests: path -> `check_digest` as it is now.
    """
    with suppress(VerificationError, WorkspaceError, ValueError):
        for row in iterate_verification(workspace, ["digest", "check"]):
            if row.check and digests.get(row.path) == row.digest:
                check = decode_json(row.check, FileCheck)
                if check.is_ok:
                    yield check


def state_of(workspace: Workspace, record: FileRecord, before_ns: int) -> str:
    """The states of the file and its companions on disk; "" if one of them cannot be told.

    Args:
        workspace: with the files.
        record: of the file.
        before_ns: see `file_state`.
    """
    names = (record.path, *record.companions)
    parts = [file_state(f"{workspace.root}/{name}", before_ns) for name in names]  # text: thousands of times
    return ", ".join(parts) if all(parts) else ""


def read_states(workspace: Workspace, digests: Mapping[str, str]) -> dict[str, str] | None:
    """Path -> state in which a file was verified, if all files would be checked as in the last verification.

    Args:
        workspace: whose table is read.
        digests: path -> `check_digest` as it is now, of all files; None is returned unless the table's are the same.
    """
    with suppress(VerificationError, WorkspaceError, ValueError):
        rows = list(iterate_verification(workspace, ["digest", "state"]))
        if {row.path: row.digest for row in rows} == digests:
            return {row.path: row.state for row in rows}
    return None


def is_listed(workspace: Workspace, records: Iterable[FileRecord], findings: Iterable[Finding]) -> bool:
    """Whether the table has these findings already, each with its file."""
    listed = {row.path: row.findings for row in iterate_verification(workspace, ["findings"])}
    by_path = _by_path(findings)
    return all(_of_file(record, by_path) == listed.get(record.path) for record in records)


def _by_path(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.path, []).append(finding)
    return found


def _of_file(record: FileRecord, by_path: Mapping[str, Sequence[Finding]]) -> tuple[Finding, ...]:
    return tuple(finding for path in (record.path, *record.companions) for finding in by_path.get(path, ()))


def write_table(
    workspace: Workspace,
    records: Iterable[FileRecord],
    findings: Sequence[Finding] | None,
    checks: Mapping[str, FileCheck],
    digests: Mapping[str, str],
    *,
    before_ns: int = 0,
    summary: Summary | None = None,
) -> None:
    """Writes verification.parquet as a whole.

    Args:
        workspace: held by the caller's lock.
        records: of all files, in order.
        findings: all; None if the verification did not end: then only checked files are listed, each with an error.
        checks, digests: by path, of the files that were checked.
        before_ns: of the states of files, see `file_state`.
        summary: of a verification that ended.
    """
    by_path = _by_path(findings or ())

    def rows() -> Iterator[VerifiedFile]:
        for record in records:
            check = checks.get(record.path)
            if findings is None and check is None:
                continue
            found = _of_file(record, by_path)
            if findings is None:
                found = (Finding("error", "unfinished", record.path, UNFINISHED),)
            row = VerifiedFile(record.path, record.sha256, found)
            if check is not None:
                row = dataclasses.replace(
                    row,
                    measurements=check.measurements,
                    traces=check.traces,
                    digest=digests[record.path],
                    check=msgspec.json.encode(check).decode(),
                    state=state_of(workspace, record, before_ns) if check.is_ok else "",
                )
            yield row

    write_verification(workspace, rows(), summary)
