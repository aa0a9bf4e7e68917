"""What a workspace knows about itself, put together for the page: files, people, findings, audit, changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from homologous_deepfake import METADATA, SUBSETS, make_features, people_of, read_rows
from tooling.errors import WorkspaceError
from tooling.release import changes
from tooling.release.diff import ReleaseDiff, compare_rows, locate, rows_at
from tooling.workspace.audit_file import Audit, read_audit
from tooling.workspace.identities import Identity
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord, natural_key

Check = Literal["ok", "error", "stale", "unverified"]
BESIDE = "a file beside it, a track or masks, is wrong; `tooling verify` names it"
Rows = dict[str, dict[str, Any]]
"""sample_id -> columns of the dataset, without media."""


@dataclass(frozen=True)
class Finding:
    """A line of the last verification. Severity is "error" or "note"; place is a file or a subset."""

    severity: str
    place: str
    message: str


@dataclass(frozen=True)
class FileFacts:
    """One file and what is known of it.

    Attributes:
        record: its line of metadata.jsonl.
        row: its columns of the dataset; empty where the subset's rows cannot be read.
        split: where it is loaded, "" where unknown.
        check: outcome of the last verification; "stale" where the file changed since.
        findings: of that verification.
        measurements: by name, as verification.parquet holds them.
    """

    record: FileRecord
    row: Mapping[str, Any]
    split: str
    check: Check
    findings: tuple[Finding, ...] = ()
    measurements: Mapping[str, float] = field(default_factory=dict)

    @property
    def people(self) -> list[str]:
        """[target, source], [identity], or none for an image."""
        return list(people_of(self.record.sample_id))


@dataclass(frozen=True)
class Changes:
    """What differs from an earlier release; the earlier ones' own entries, newest first."""

    since: str
    diff: ReleaseDiff
    entries: changes.Entries


@dataclass(frozen=True)
class Facts:
    """Everything that the page says.

    Attributes:
        title: name of the workspace's folder.
        version: of the release that would be built.
        files: subset -> its files, in natural order.
        problems: subset -> why its rows cannot be read.
        people: rows of identities.csv; empty where there is none.
        folds: identity -> fold.
        is_verified: whether there is a verification at all.
        audit: None where there is none of these very files.
        has_old_audit: whether audit.json is of other files.
        changes: None where no earlier release was named.
    """

    title: str
    version: str
    files: dict[str, list[FileFacts]]
    problems: dict[str, str]
    people: dict[str, Identity]
    folds: dict[str, int]
    is_verified: bool
    audit: Audit | None
    has_old_audit: bool
    changes: Changes | None

    @property
    def findings(self) -> list[Finding]:
        """All of them, errors first, in natural order of their places."""
        found = [finding for files in self.files.values() for file in files for finding in file.findings]
        return sorted(found, key=lambda one: (one.severity != "error", natural_key(one.place), one.message))


def read_facts(workspace: Workspace, since: str | None) -> Facts:
    """Reads all of it; no media.

    Raises:
        WorkspaceError, InputError: a table is damaged; `since` is no release.
        RemoteError: the Hub refuses or cannot be reached.
    """
    verified = _read_verification(workspace)
    plan = workspace.plan()
    files, problems, rows = {}, {}, {}
    for subset in SUBSETS:
        splits: dict[str, str] = {}
        of_subset: Rows = {}
        try:
            for split, found in read_rows(str(workspace.root), subset).items():
                of_subset |= {row["sample_id"]: row for row in found}
                splits |= {row["sample_id"]: split for row in found}
        except ValueError as error:
            problems[subset] = str(error).replace(f"{workspace.root}/", "")
        rows[subset] = of_subset
        files[subset] = [
            _file_facts(record, of_subset.get(name, {}), splits.get(name, ""), verified)
            for name, record in workspace.records(subset).items()
        ]
    audit = read_audit(workspace)
    return Facts(
        title=workspace.root.name,
        version=workspace.settings.card.version,
        files=files,
        problems=problems,
        people=workspace.identities() if workspace.identities_path.is_file() else {},
        folds=plan.folds if plan else {},
        is_verified=verified is not None,
        audit=audit,
        has_old_audit=audit is None and workspace.audit_path.is_file(),
        changes=_read_changes(since, rows) if since else None,
    )


def _file_facts(record: FileRecord, row: dict[str, Any], split: str, verified: Rows | None) -> FileFacts:
    found = (verified or {}).get(record.path)
    if found is None:
        return FileFacts(record, row, split, "unverified")
    findings = tuple(_parse_finding(line, record.path) for line in found["findings"] or ())
    if found["sha256"] != record.sha256:
        return FileFacts(record, row, split, "stale", findings)
    check: Check = "ok" if found["is_ok"] else "error"
    if check == "error" and all(finding.severity != "error" for finding in findings):
        findings += (Finding("error", record.path, BESIDE),)
    return FileFacts(record, row, split, check, findings, _numbers(found.get("measurements")))


def _read_verification(workspace: Workspace) -> Rows | None:
    path = workspace.verification_path
    if not path.is_file():
        return None
    try:
        return {row["path"]: row for row in pq.read_table(path).to_pylist()}
    except (pa.ArrowInvalid, KeyError) as error:
        raise WorkspaceError(f"{path}: damaged ({error}); run `tooling verify` again") from error


def _numbers(text: str | None) -> dict[str, float]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(name): float(value) for name, value in found.items() if isinstance(value, int | float)}


def _parse_finding(line: str, path: str) -> Finding:
    """The parts of "error: PLACE: MESSAGE"; a place may hold colons itself."""
    severity, _, rest = line.partition(": ")
    if rest.startswith(f"{path}: "):
        return Finding(severity, path, rest.removeprefix(f"{path}: "))
    place, _, message = rest.partition(": ")
    return Finding(severity, place, message)


def _read_changes(since: str, rows: dict[str, Rows]) -> Changes:
    place = locate(since)
    features = make_features(METADATA)
    now = {
        name: features.encode_example({column: row.get(column) for column in features})
        for of_subset in rows.values()
        for name, row in of_subset.items()
    }
    name = place.resolve().name if isinstance(place, Path) else since
    return Changes(name, compare_rows(rows_at(place), now), changes.earlier_entries(place))
