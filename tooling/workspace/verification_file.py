"""verification.parquet: what the last `tooling verify` found, one row for each recorded file.

This module alone reads and writes it. Columns: path, sha256 (the file as it was verified), is_ok, findings (of the file
and of its companions), measurements (name -> value), traces (for the audit, which then decodes nothing again). `digest`
and `check` are for the next verification, which takes an unchanged file's check from here; so are `state`, by which it
knows that a file was not touched, and what the table says of all files together (`Summary`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from generation.errors import one_line
from tooling.errors import VerificationError, WorkspaceError
from tooling.workspace.decoding import decode_json
from tooling.workspace.files import replacing
from tooling.workspace.layout import Workspace

VERSION = 7  # counts up when a check or this table changes; nothing in an older table counts as verified
ROWS_AT_ONCE = 32  # that are held: 30 kB each, most of it `check`

Severity = Literal["error", "note"]
Kind = Literal["record", "encoding", "marks", "content", "consent", "plan", "coverage", "unfinished"]
"""What a finding is about:

record: a file is missing, has changed, has no record, or was made from what has changed since
encoding: container, stream, encoder settings, decoding
marks: signed manifest and label
content: what the pictures show
consent: of a person
plan: rows of identities.csv, folds and pairs
coverage: files that the catalogue has beyond these, and what could not be measured
unfinished: the verification of the file did not end
"""
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error) or worth knowing (note).

    Attributes:
        severity: errors end the command with exit code 1 and stop a push.
        kind: what it is about.
        path: file or folder, relative to the workspace.
        message: what is wrong, and what to do.
    """

    severity: Severity
    kind: Kind
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.path}: {self.message}"


@dataclass(frozen=True)
class VerifiedFile:
    """One row.

    Attributes:
        path, sha256: of the file as it was verified.
        findings: about it and its companions.
        measurements: face_px, sharpness, brightness; source_distance and target_distance, from the faces of the people
            that it was made from; person_distance, of an image from the nearest face; those that were measured.
        digest: of everything that its check depends on; "" if it was not checked by itself.
        check: what its check found by itself, JSON; "" likewise.
        traces: groups of features of its pixels (`generation.quality.traces`), for the audit; empty likewise.
        state: of the file and its companions on disk when they were verified, see `table.state_of`; "" if they were
            written just before, and in tables of before.
    """

    path: str
    sha256: str
    findings: tuple[Finding, ...] = ()
    measurements: Mapping[str, float] = field(default_factory=dict)
    digest: str = ""
    check: str = ""
    traces: dict[str, dict[str, float]] = field(default_factory=dict)
    state: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether there is no error."""
        return all(finding.severity != "error" for finding in self.findings)


@dataclass(frozen=True)
class Summary:
    """What a verification that ended found in the files, other than in plan, people and folders.

    Attributes:
        digest: of everything that these findings depend on.
        findings: of each file by itself, and of files that were compared with each other.
    """

    digest: str
    findings: list[Finding]


_FINDING = pa.struct([(attribute.name, pa.string()) for attribute in dataclasses.fields(Finding)])
COLUMNS = pa.schema(
    {
        "path": pa.string(),
        "sha256": pa.string(),
        "is_ok": pa.bool_(),
        "findings": pa.list_(_FINDING),
        "measurements": pa.map_(pa.string(), pa.float64()),
        "traces": pa.map_(pa.string(), pa.map_(pa.string(), pa.float64())),
        "digest": pa.string(),
        "check": pa.string(),
        "state": pa.string(),
    },
    metadata={"version": f"{VERSION}"},
)


def read_verification(workspace: Workspace, columns: Collection[str] = COLUMNS.names) -> dict[str, VerifiedFile]:
    """Path -> what the last verification found.

    Args:
        workspace: whose table is read.
        columns: those that are needed; `check` and `traces` of a full release are large. Paths and digests always are.

    Raises:
        VerificationError: there is none, or one by another version of the checks.
        WorkspaceError: the table is damaged.
    """
    return {file.path: file for file in iterate_verification(workspace, columns)}


def read_faulty(workspace: Workspace) -> list[VerifiedFile]:
    """The rows with errors, with their findings; the others, of which there are many more, are not parsed.

    Raises:
        VerificationError, WorkspaceError: as `read_verification`.
    """
    return list(_iterate(workspace, ["findings"], has_error=True))


def iterate_verification(workspace: Workspace, columns: Collection[str]) -> Iterator[VerifiedFile]:
    """The rows of `read_verification` one after another; few are held at a time."""
    return _iterate(workspace, columns, has_error=False)


def _iterate(workspace: Workspace, columns: Collection[str], *, has_error: bool) -> Iterator[VerifiedFile]:
    """Those with an error alone, or all."""
    path = workspace.verification_path
    if not path.is_file():
        raise VerificationError(f"{workspace.root}: not verified; run `tooling verify`")
    needed = list(dict.fromkeys(("path", "sha256", *columns)))
    with _opened(path) as file:
        if (file.schema_arrow.metadata or {}).get(b"version") != COLUMNS.metadata[b"version"]:
            raise VerificationError(
                f"{workspace.root}: not verified any more, the checks have changed; run `tooling verify`"
            )
        if "state" not in file.schema_arrow.names:  # in tables of before
            needed = [name for name in needed if name != "state"]
        try:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[*needed, "is_ok"], use_threads=False):
                parts = [batch]
                if has_error:  # not batch.filter: making its mask would import pandas
                    parts = [batch.slice(at, 1) for at, is_ok in enumerate(batch["is_ok"].to_pylist()) if not is_ok]
                for part in parts:
                    found = dict(zip(part.schema.names, part.columns, strict=True))
                    rows = zip(*(found[name].to_pylist() for name in needed), strict=True)
                    yield from (_parse_row(dict(zip(needed, row, strict=True))) for row in rows)
        except (KeyError, TypeError, ValueError) as error:
            raise WorkspaceError(f"{path}: damaged ({one_line(error)}); run `tooling verify` again") from error


def read_summary(workspace: Workspace) -> Summary | None:
    """What the last verification says of all files together; None if it did not end, or rows were removed since.

    Raises:
        WorkspaceError: the table is damaged.
    """
    path = workspace.verification_path
    if not path.is_file():
        return None
    with _opened(path) as file:
        found = file.schema_arrow.metadata or {}
    if found.get(b"version") != COLUMNS.metadata[b"version"] or b"summary" not in found:
        return None
    try:
        return decode_json(found[b"summary"].decode(), Summary)
    except ValueError:
        return None


def write_states(workspace: Workspace, states: Mapping[str, str]) -> None:
    """Rewrites the table with the states of these files, by path, some rows at a time."""
    with _opened(workspace.verification_path) as file, replacing(workspace.verification_path) as path:
        schema = file.schema_arrow
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in file.iter_batches(ROWS_AT_ONCE, use_threads=False):
                table = pa.Table.from_batches([batch], schema)
                old = zip(table["path"].to_pylist(), table["state"].to_pylist(), strict=True)
                new = pa.array([states.get(name, state) for name, state in old], pa.string())
                writer.write_table(table.set_column(schema.get_field_index("state"), "state", new))


def write_verification(workspace: Workspace, files: Iterable[VerifiedFile], summary: Summary | None = None) -> None:
    """Writes the table as a whole, some rows at a time; the workspace is held by the caller's lock."""
    about = {} if summary is None else {"summary": json.dumps(dataclasses.asdict(summary))}
    schema = COLUMNS.with_metadata({"version": f"{VERSION}", **about})
    rows = (
        vars(file)
        | {
            "is_ok": file.is_ok,
            "findings": [vars(finding) for finding in file.findings],
            "measurements": list(file.measurements.items()),
            "traces": [(group, list(features.items())) for group, features in file.traces.items()],
        }
        for file in files
    )
    with (
        replacing(workspace.verification_path) as path,
        pq.ParquetWriter(path, schema, compression="zstd") as writer,
    ):
        while some := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))


def verified_paths(workspace: Workspace) -> list[str]:
    """Paths of all rows, also of a table by another version; empty if there is no table.

    Raises:
        WorkspaceError: the table is damaged.
    """
    if not workspace.verification_path.is_file():
        return []
    return [str(path) for path in _read_table(workspace, ["path"])["path"].to_pylist()]


def remove_rows(workspace: Workspace, paths: Collection[str]) -> None:
    """Rewrites the table without the rows of these files.

    Raises:
        WorkspaceError: the table is damaged.
    """
    if paths:
        table, gone = _read_table(workspace), {*paths}
        stays = pa.array([path not in gone for path in table["path"].to_pylist()], pa.bool_())
        with replacing(workspace.verification_path) as path:
            kept = table.filter(stays).replace_schema_metadata(_without_summary(table.schema.metadata))
            pq.write_table(kept, path, compression="zstd")


def _without_summary(metadata: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
    return {name: value for name, value in (metadata or {}).items() if name != b"summary"}


def _parse_row(row: dict[str, Any]) -> VerifiedFile:
    """A row of the table, or of some of its columns."""
    findings = tuple(Finding(**finding) for finding in row.get("findings", ()))
    traces = {group: dict(features) for group, features in row.get("traces", ())}
    texts = {name: row[name] for name in ("digest", "check", "state") if name in row}
    return VerifiedFile(row["path"], row["sha256"], findings, dict(row.get("measurements", ())), traces=traces, **texts)


def _read_table(workspace: Workspace, columns: Sequence[str] | None = None) -> pa.Table:
    with _opened(workspace.verification_path) as file:
        return file.read(columns)  # of another version's table, those that it has


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            file.schema_arrow.field("path")
            yield file
    except (OSError, pa.ArrowException, KeyError) as error:
        raise WorkspaceError(f"{path}: damaged ({one_line(error)}); run `tooling verify` again") from error
