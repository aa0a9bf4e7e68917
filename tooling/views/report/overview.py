"""What a workspace knows about itself: files, people, findings, audit, changes; read once, for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from homologous_deepfake import METADATA, SUBSETS, make_features, people_of, read_rows
from tooling.errors import VerificationError
from tooling.release import changes
from tooling.release.diff import ReleaseDiff, compare_rows, locate, rows_at
from tooling.workspace.audit_file import Audit, read_audit
from tooling.workspace.identities import Identity
from tooling.workspace.layout import Workspace
from tooling.workspace.plan_file import Plan
from tooling.workspace.readiness import describe_left_out, describe_missing, find_missing
from tooling.workspace.records import FileRecord, natural_key
from tooling.workspace.verification_file import KINDS, Finding, VerifiedFile, read_verification

Outcome = Literal["ok", "error", "stale", "unverified"]
Rows = dict[str, dict[str, Any]]
"""sample_id -> columns of the dataset, without media."""


@dataclass(frozen=True)
class FileOverview:
    """One file and what is known about it.

    Attributes:
        record: its line of metadata.jsonl.
        row: its columns of the dataset; empty if the subset's rows cannot be read.
        split: in which it is loaded; "" if unknown.
        outcome: of the last verification; "stale" if the file has changed since.
        findings: of that verification, about the file and its companions.
        measurements: by name.
    """

    record: FileRecord
    row: Mapping[str, Any]
    split: str
    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    measurements: Mapping[str, float] = field(default_factory=dict)

    @property
    def people(self) -> list[str]:
        """[target, source], [identity], or none for an image."""
        return list(people_of(self.record.sample_id))


@dataclass(frozen=True)
class Changes:
    """Differences from an earlier release, and that release's own list of changes, the newest first."""

    since: str
    diff: ReleaseDiff
    entries: changes.Entries


@dataclass(frozen=True)
class Overview:
    """Everything that the page shows.

    Attributes:
        title: name of the workspace's folder.
        version: of the release that would be built.
        files: subset -> its files, in natural order.
        problems: subset -> why its rows cannot be read.
        people: rows of identities.csv; empty without that file.
        folds: identity -> fold.
        unverified: why nothing counts as verified, and what to do; "" after a verification.
        audit: of the files as they are now; None without one.
        has_old_audit: whether audit.json is of other files.
        changes: None if no earlier release was named.
        left_out: subset -> how many of its planned fakes are left out, and why.
        missing: sample_id -> why it is not there and what to do, of planned fakes that are missing.
    """

    title: str
    version: str
    files: dict[str, list[FileOverview]]
    problems: dict[str, str]
    people: dict[str, Identity]
    folds: dict[str, int]
    unverified: str
    audit: Audit | None
    has_old_audit: bool
    changes: Changes | None
    left_out: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        """All of them once: errors first, then by kind, in natural order of their paths."""
        found = {finding for files in self.files.values() for file in files for finding in file.findings}
        order = {kind: at for at, kind in enumerate(KINDS)}
        return sorted(
            found, key=lambda one: (one.severity != "error", order[one.kind], natural_key(one.path), one.message)
        )


def read_overview(workspace: Workspace, since: str | None) -> Overview:
    """Reads everything but media.

    Raises:
        WorkspaceError, InputError: a table is damaged; `since` is not a release.
        RemoteError: the Hub refuses or cannot be reached.
    """
    verified: dict[str, VerifiedFile] = {}
    unverified = ""
    try:
        verified = read_verification(workspace, ["findings", "measurements"])
    except VerificationError as error:
        unverified = str(error).removeprefix(f"{workspace.root}: ")
    plan = workspace.plan()
    records = {subset: workspace.records(subset) for subset in SUBSETS}
    missing = find_missing(workspace, plan or Plan(0), records)
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
            _read_file(record, of_subset.get(name, {}), splits.get(name, ""), verified.get(record.path))
            for name, record in records[subset].items()
        ]
    audit = read_audit(workspace)
    return Overview(
        title=workspace.root.name,
        version=workspace.settings.card.version,
        files=files,
        problems=problems,
        people=workspace.identities() if workspace.identities_path.is_file() else {},
        folds=plan.folds if plan else {},
        unverified=unverified,
        audit=audit,
        has_old_audit=audit is None and workspace.audit_path.is_file(),
        changes=_read_changes(since, rows) if since else None,
        left_out=describe_left_out(plan) if plan else {},
        missing={name: describe_missing(name, reason) for name, reason in missing.items()},
    )


def _read_file(record: FileRecord, row: dict[str, Any], split: str, verified: VerifiedFile | None) -> FileOverview:
    if verified is None:
        return FileOverview(record, row, split, "unverified")
    if verified.sha256 != record.sha256:
        return FileOverview(record, row, split, "stale", verified.findings)
    outcome: Outcome = "ok" if verified.is_ok else "error"
    return FileOverview(record, row, split, outcome, verified.findings, verified.measurements)


def _read_changes(since: str, rows: dict[str, Rows]) -> Changes:
    release = locate(since)
    features = make_features(METADATA)
    now = {
        name: features.encode_example({column: row.get(column) for column in features})
        for of_subset in rows.values()
        for name, row in of_subset.items()
    }
    name = release.resolve().name if isinstance(release, Path) else since
    return Changes(name, compare_rows(rows_at(release), now), changes.earlier_entries(release))
