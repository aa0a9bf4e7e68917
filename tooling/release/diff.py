"""diff: which rows two releases differ in, subset by subset, from their `metadata` configs alone.

A release is a folder, or `REPO_ID` or `REPO_ID@REVISION` at the Hub (branch, tag or commit). No media are read: a row
carries the digest of its file.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from generation.errors import one_line
from homologous_deepfake import METADATA, SUBSETS
from tooling.errors import InputError
from tooling.remote import Remote, connect
from tooling.workspace.records import natural_key

REMOTE_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@(.+))?")
MAX_NAMES = 10

Row = dict[str, Any]


@dataclass(frozen=True)
class ChangedRow:
    """A row that both releases have, and the columns in which they differ; `sha256` means the file itself."""

    sample_id: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class SubsetDiff:
    """Sample ids only in the new release, only in the old one, and rows in both that differ, in natural order."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[ChangedRow, ...]


@dataclass(frozen=True)
class ReleaseDiff:
    """The differences of the subsets that have any, in the order of the catalogue."""

    subsets: dict[str, SubsetDiff]


def compare(a: str, b: str) -> ReleaseDiff:
    """Rows that differ between the releases `a` and `b`; see `locate` for their names.

    Raises:
        InputError: one of them is not a release.
        RemoteError: the Hub refuses or cannot be reached.
    """
    return compare_rows(rows_at(locate(a)), rows_at(locate(b)))


def compare_rows(old: dict[str, Row], new: dict[str, Row]) -> ReleaseDiff:
    """The difference of two releases' rows by sample_id."""
    subsets = {}
    for subset in SUBSETS:
        before, after = _of_subset(old, subset), _of_subset(new, subset)
        changed = ((name, _changed_columns(before[name], after[name])) for name in before.keys() & after.keys())
        found = SubsetDiff(
            tuple(sorted(after.keys() - before.keys(), key=natural_key)),
            tuple(sorted(before.keys() - after.keys(), key=natural_key)),
            tuple(ChangedRow(*row) for row in sorted(changed, key=lambda row: natural_key(row[0])) if row[1]),
        )
        if found.added or found.removed or found.changed:
            subsets[subset] = found
    return ReleaseDiff(subsets)


def locate(name: str) -> Path | tuple[Remote, str]:
    """The folder, or repository and commit, that a release's name stands for.

    Args:
        name: a folder, `REPO_ID` or `REPO_ID@REVISION`.

    Raises:
        InputError: no such folder.
        RemoteError: the Hub refuses or cannot be reached.
    """
    folder, remote_name = Path(name), REMOTE_NAME.fullmatch(name)
    if folder.is_dir():
        return folder
    if remote_name is None:
        raise InputError(f"{name}: neither a folder nor REPO_ID@REVISION; name one of the two")
    remote = connect(remote_name[1])
    return remote, remote.head(remote_name[2])


def rows_at(release: Path | tuple[Remote, str]) -> dict[str, Row]:
    """Rows of a release's config `metadata` by sample_id; label, method and gender are their class numbers.

    Args:
        release: as `locate` returns it.

    Raises:
        InputError: no release there.
        RemoteError: the Hub refuses or cannot be reached.
    """
    return folder_rows(release) if isinstance(release, Path) else remote_rows(*release)


def folder_rows(out: Path) -> dict[str, Row]:
    """Rows of a release on disk; see `rows_at`."""
    paths = sorted((out / "data" / METADATA).glob("*.parquet"))
    if not paths:
        raise InputError(f"{out}: no release with a config `{METADATA}`; run `tooling build --out {out}`")
    rows: dict[str, Row] = {}
    for path in paths:
        with path.open("rb") as file:
            rows |= _read(file, str(path))
    return rows


def remote_rows(remote: Remote, commit: str) -> dict[str, Row]:
    """Rows of a release at a commit at the Hub; only the shards of `metadata` are fetched."""
    found = remote.files(commit)
    names = [name for name in found if name.startswith(f"data/{METADATA}/") and name.endswith(".parquet")]
    if not names:
        raise InputError(f"{remote.repo_id}@{commit[:8]}: no release with a config `{METADATA}`; name another revision")
    rows: dict[str, Row] = {}
    for name in names:
        address, num_bytes = remote.address(name, commit), max(found[name].num_bytes, 1)
        rows |= remote.read(name, commit, partial(_read, name=address), block_bytes=num_bytes)
    return rows


def format_diff(diff: ReleaseDiff) -> str:
    """The difference as text: counts of each subset, then the first names of each kind."""
    if not diff.subsets:
        return "no row differs"
    lines = []
    for subset, found in diff.subsets.items():
        lines.append(f"{subset}: {_counts(found)}")
        changed = tuple(f"{row.sample_id} ({', '.join(row.columns)})" for row in found.changed)
        for sign, names in (("+", found.added), ("-", found.removed), ("~", changed)):
            lines += [f"  {sign} {name}" for name in names[:MAX_NAMES]]
            lines += [f"  {sign} and {len(names) - MAX_NAMES} more"] if len(names) > MAX_NAMES else []
    return "\n".join(lines)


def changelog_entry(diff: ReleaseDiff) -> str:
    """A version's entry for the card's list of changes: a Markdown list with the counts of each subset."""
    lines = []
    for subset, found in diff.subsets.items():
        columns = Counter(column for row in found.changed for column in row.columns)
        where = ", ".join(f"`{column}` of {count}" for column, count in sorted(columns.items()))
        lines.append(f"- `{subset}`: {_counts(found)}" + (f" ({where})" if where else ""))
    if not diff.subsets:
        lines.append("- No row differs from the version before.")
    return "\n".join(lines)


def _counts(found: SubsetDiff) -> str:
    kinds = (("added", found.added), ("removed", found.removed), ("changed", found.changed))
    return ", ".join(f"{len(rows)} {kind}" for kind, rows in kinds if rows)


def _of_subset(rows: dict[str, Row], subset: str) -> dict[str, Row]:
    return {name: row for name, row in rows.items() if row["path"].partition("/")[0] == subset}


def _changed_columns(before: Row, after: Row) -> tuple[str, ...]:
    names = (*before, *(name for name in after if name not in before))
    return tuple(name for name in names if before.get(name) != after.get(name))


def _read(file: BinaryIO, name: str) -> dict[str, Row]:
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{name}: damaged or of another dataset ({one_line(error)}); build or push it again"
        ) from error
    rows = [row for row in table.to_pylist() if row.get("path")]
    if not all(isinstance(row.get(column), str) for row in rows for column in ("path", "sample_id")):
        raise InputError(
            f"{name}: damaged or of another dataset (paths or sample_ids are no texts); build or push it again"
        )
    return {row["sample_id"]: row for row in rows}
