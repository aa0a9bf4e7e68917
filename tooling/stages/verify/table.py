"""From checks to rows of verification.parquet, and from its rows to the checks of unchanged files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from generation.media.contract import VideoContract
from tooling.errors import VerificationError, WorkspaceError
from tooling.stages.verify.file_check import FileCheck
from tooling.workspace.decoding import decode_json
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord, format_record
from tooling.workspace.verification_file import (
    VERSION,
    Finding,
    VerifiedFile,
    iterate_verification,
    write_verification,
)

UNFINISHED = "was verified alone, the verification did not end; run `tooling verify` again"


def check_digest(record: FileRecord, contract: VideoContract | None, *context: str) -> str:
    """Digest of everything that the check of a file depends on.

    Args:
        record: of the file; its companions and inputs are named there.
        contract: of its subset; None for images.
        context: digests of everything else that it is compared with.
    """
    parts = [VERSION, format_record(record), contract and dataclasses.asdict(contract), list(context)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


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


def write_table(
    workspace: Workspace,
    records: Iterable[FileRecord],
    findings: Sequence[Finding] | None,
    checks: Mapping[str, FileCheck],
    digests: Mapping[str, str],
) -> None:
    """Writes verification.parquet as a whole.

    Args:
        workspace: held by the caller's lock.
        records: of all files, in order.
        findings: all; None if the verification did not end: then only checked files are listed, each with an error.
        checks, digests: by path, of the files that were checked.
    """
    by_path: dict[str, list[Finding]] = {}
    for finding in findings or ():
        by_path.setdefault(finding.path, []).append(finding)

    def rows() -> Iterator[VerifiedFile]:
        for record in records:
            check = checks.get(record.path)
            if findings is None and check is None:
                continue
            found = [finding for path in (record.path, *record.companions) for finding in by_path.get(path, ())]
            if findings is None:
                found = [Finding("error", "unfinished", record.path, UNFINISHED)]
            row = VerifiedFile(record.path, record.sha256, tuple(found))
            if check is not None:
                text = json.dumps(dataclasses.asdict(check))
                row = dataclasses.replace(
                    row, measurements=check.measurements, traces=check.traces, digest=digests[record.path], check=text
                )
            yield row

    write_verification(workspace, rows())
