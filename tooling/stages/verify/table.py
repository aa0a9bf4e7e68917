"""verification.parquet: what was found of each file, and what of it still holds at the next verification.

Columns: path, sha256, is_ok, findings (as text) and measurements (JSON) are for readers; `checked` is a digest of all
that the check of one file depends on, and `facts` what it left, so that an unchanged file is not decoded again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tooling.stages.verify.contract import CHECK_VERSION, Contract, FileFacts, Finding
from tooling.workspace.files import write_bytes
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord, format_record

COLUMNS = pa.schema(
    {
        "path": pa.string(),
        "sha256": pa.string(),
        "is_ok": pa.bool_(),
        "findings": pa.list_(pa.string()),
        "measurements": pa.string(),
        "checked": pa.string(),
        "facts": pa.string(),
    }
)
UNFINISHED = "was verified alone, the verification did not end; run `tooling verify` again"


def check_digest(record: FileRecord, contract: Contract, *circumstances: str) -> str:
    """Digest of all that the check of a file depends on.

    Args:
        record: of the file; its companions and inputs are named there.
        contract: of its subset.
        circumstances: digests of whatever else it is compared with.
    """
    parts = [CHECK_VERSION, format_record(record), dataclasses.asdict(contract), list(circumstances)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_known(workspace: Workspace, digests: Mapping[str, str]) -> dict[str, FileFacts]:
    """Facts of the files whose check would be the same as the last time, and that were found right.

    Args:
        workspace: whose last verification is read; none, or one that cannot be read, knows nothing.
        digests: path -> `check_digest` as it is now.
    """
    known: dict[str, FileFacts] = {}
    try:
        rows = pq.read_table(workspace.verification_path, columns=["path", "checked", "facts"]).to_pylist()
        for row in rows:
            if digests.get(row["path"]) == row["checked"] and row["facts"]:
                facts = FileFacts.from_json(json.loads(row["facts"]))
                if facts.is_ok:
                    known[row["path"]] = facts
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return {}
    return known


def write_table(
    workspace: Workspace,
    records: Iterable[FileRecord],
    findings: Sequence[Finding] | None,
    facts: Mapping[str, FileFacts],
    digests: Mapping[str, str],
) -> None:
    """Writes verification.parquet as a whole.

    Args:
        workspace: held by the caller's lock.
        records: of all files, in order.
        findings: all; None where the verification did not end, and no file counts as right.
        facts, digests: by path, of the files that were checked.
    """
    by_place: dict[str, list[str]] = {}
    for finding in findings or ():
        by_place.setdefault(finding.place, []).append(str(finding))
    failed = {finding.place for finding in findings or () if finding.severity == "error"}
    rows: list[dict[str, Any]] = []
    for record in records:
        found = facts.get(record.path)
        if findings is None:
            if found is None:
                continue
            told, is_ok = [str(Finding("error", record.path, UNFINISHED))], False
        else:
            told = by_place.get(record.path, [])
            is_ok = record.path not in failed and not failed & set(record.companions)
        measured = json.dumps(found.measurements) if found is not None and found.measurements else None
        rows.append(
            {
                "path": record.path,
                "sha256": record.sha256,
                "is_ok": is_ok,
                "findings": told,
                "measurements": measured,
                "checked": digests.get(record.path) if found is not None else None,
                "facts": json.dumps(found.to_json()) if found is not None else None,
            }
        )
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=COLUMNS), buffer, compression="zstd")
    write_bytes(workspace.verification_path, buffer.getvalue().to_pybytes())
