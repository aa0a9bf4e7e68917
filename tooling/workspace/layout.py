"""A workspace: what opens, reads and writes it. `path_kinds` lists every path in it, and whose data is there.

A file is written under `.staging`, synced and renamed to its path, and only then is its record appended: after
a kill at any moment every record names a complete file, and a rerun makes what has no record.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tooling.errors import ConsentError, UsageError, WorkspaceError
from tooling.settings import ClipSettings, Settings
from tooling.workspace.decoding import decode_json, read_json_lines
from tooling.workspace.files import (
    append_line,
    file_sha256,
    file_state,
    move_file,
    naming_full_disk,
    unfinished_path,
    wait_for_clock,
    write_text,
)
from tooling.workspace.identities import Identity, read_identities
from tooling.workspace.locks import hold_lock
from tooling.workspace.plan_file import Plan, read_plan
from tooling.workspace.records import FileRecord, format_record, natural_key, parse_record, shown_identities
from tooling.workspace.settings_file import format_settings, read_settings

# The records of each file that was read, by the state of the file, which every writing changes: a command asks again
# and again, and those of a whole release take a second.
_READ: dict[Path, tuple[str, dict[str, FileRecord]]] = {}
STAGING, PULLING, IMPORTING = ".staging", ".pulling", ".importing"


@dataclass(frozen=True)
class Tombstone:
    """One line of tombstones.jsonl: who was taken down, and the ISO 8601 day of it."""

    identity: str
    date: str


@dataclass(frozen=True)
class Workspace:
    """An open workspace. Use `open_workspace` or `create_workspace`."""

    root: Path
    settings: Settings

    def path(self, relative: str) -> Path:
        """Absolute path of a file named as in the records."""
        return self.root / relative

    @property
    def identities_path(self) -> Path:
        return self.root / "identities.csv"

    @property
    def plan_path(self) -> Path:
        return self.root / "plan.json"

    @property
    def verification_path(self) -> Path:
        return self.root / "verification.parquet"

    @property
    def keys_path(self) -> Path:
        """Signing certificate, private key and root; see `tooling.workspace.signing_keys`."""
        return self.root / "keys"

    @property
    def audit_path(self) -> Path:
        return self.root / "audit.json"

    @property
    def tombstones_path(self) -> Path:
        return self.root / "tombstones.jsonl"

    @property
    def rejects_path(self) -> Path:
        return self.root / "rejects.jsonl"

    @property
    def models_path(self) -> Path:
        """Generators fitted to this workspace's own faces; they contain pictures of people and never leave it."""
        return self.root / "models"

    def records_path(self, subset: str) -> Path:
        return self.root / subset / "metadata.jsonl"

    def track_name(self, identity: str) -> str:
        """Relative name of the face track of an identity's clip."""
        return f"tracks/{identity}.json"

    def master_name(self, identity: str) -> str:
        """Relative name of what an identity's clip and its fakes are encoded from."""
        return f"masters/{identity}.mp4"

    def excerpt_name(self, record: FileRecord, identity: str) -> str:
        """Relative name of a small excerpt of a video, cut around an identity's face, or whole where that is ""."""
        view = ".face" if identity else ""
        return f"excerpts/{record.sample_id}{view}.{record.sha256[:16]}.mp4"

    def excerpts(self) -> list[str]:
        """Relative names of all excerpts."""
        return [path.relative_to(self.root).as_posix() for path in (self.root / "excerpts").rglob("*.mp4")]

    def drop_excerpts(self, records: Iterable[FileRecord]) -> None:
        """Removes the excerpts of all files but those recorded."""
        kept = {self.excerpt_name(record, identity) for record in records for identity in shown_identities(record)}
        for name in self.excerpts():
            if name not in kept:
                self.path(name).unlink()

    def identities(self) -> dict[str, Identity]:
        """The checked rows of identities.csv."""
        return read_identities(self.identities_path)

    def plan(self) -> Plan | None:
        """Folds and pairs of plan.json; None where nothing is planned yet."""
        return read_plan(self.plan_path) if self.plan_path.exists() else None

    def tombstones(self) -> dict[str, str]:
        """Identities that were taken down -> ISO 8601 date of it.

        Raises:
            WorkspaceError: a line other than a torn last one is damaged.
        """
        # No advice to remove a line: that would let a person back in.
        parse = partial(decode_json, kind=Tombstone, ignores_unknown=True)
        found: dict[str, str] = {}
        for line in read_json_lines(self.tombstones_path, parse, "restore it from a backup"):
            found.setdefault(line.identity, line.date)
        return found

    def refuse_taken_down(self, path: str, identity: str) -> None:
        """Raises ConsentError if the identity has been taken down.

        Args:
            path: of the file that names the person, for the message.

        Raises:
            ConsentError: the identity has a tombstone.
        """
        date = self.tombstones().get(identity)
        if date is not None:
            raise ConsentError(f"{path}: identity {identity} was taken down on {date}; take it out, it stays out")

    def files(self) -> Iterator[str]:
        """Relative paths of all files, in order."""
        names = []
        for top in os.listdir(self.root):  # each by itself, as it may be a link to another disk
            root = os.path.join(self.root, top)
            for folder, _, files in os.walk(root) if os.path.isdir(root) else ((str(self.root), (), (top,)),):
                names += [os.path.join(folder, name) for name in files]
        start = len(os.path.join(self.root, ""))
        parts = sorted(name[start:].split(os.sep) for name in names if os.path.isfile(name))
        yield from ("/".join(some) for some in parts)

    @property
    def staging_folder(self) -> Path:
        """Where files lie that are on their way to their paths, and what is needed for a moment."""
        return self.root / STAGING

    def staging_path(self, relative: str) -> Path:
        """Where a worker writes a file before `publish` moves it to its path; same suffix."""
        staged = self.staging_folder / relative
        staged.parent.mkdir(parents=True, exist_ok=True)
        return staged

    def records(self, subset: str) -> dict[str, FileRecord]:
        """Finished files of a subset by sample_id, in natural order; the last record of a sample counts.

        Raises:
            WorkspaceError: a line other than a torn last one is damaged.
        """
        path = self.records_path(subset)
        state = file_state(path, wait_for_clock())
        known, found = _READ.get(path, ("", {}))
        if not state or state != known:
            if not path.exists():
                return {}
            lines = read_json_lines(path, parse_record, "remove it and run the stage again")
            found = {record.sample_id: record for record in lines}
            found = dict(sorted(found.items(), key=lambda item: natural_key(item[0])))
            if state:
                _READ[path] = state, found
        return dict(found)

    def find_finished(self, planned: FileRecord, records: Mapping[str, FileRecord]) -> FileRecord | None:
        """The record of a sample if its file exists, is marked, and was made from the same inputs in the same way.

        Of `planned`, only sample_id, inputs, generator, parameters and seed are compared.
        """
        record = records.get(planned.sample_id)
        if record is None:
            return None
        names = ("inputs", "generator", "parameters", "seed")
        made_alike = bool(record.digital_source_type) and all(
            getattr(record, name) == getattr(planned, name) for name in names
        )
        path = self.path(record.path)
        is_there = path.is_file() and path.stat().st_size == record.num_bytes
        is_there = is_there and all(self.path(companion).is_file() for companion in record.companions)
        return record if made_alike and is_there else None

    def matches_record(self, relative: str, input_sha256: str) -> bool:
        """Whether a file is as recorded, and the one that `inputs` name by that digest."""
        subset, path = relative.partition("/")[0], self.path(relative)
        record = next((r for r in self.records(subset).values() if r.path == relative), None)
        if record is None:  # a track, or another file that carries no mark
            return file_sha256(path) == input_sha256
        return record.input_sha256 == input_sha256 and file_sha256(path) == record.sha256

    def publish(self, subset: str, record: FileRecord, staged: Mapping[str, Path]) -> None:
        """Moves staged, synced files (relative name -> staged path) to their paths, then appends the record.

        Raises:
            WorkspaceError: the record is of a file that is not marked.
        """
        if not record.digital_source_type:
            raise WorkspaceError(f"{record.path}: carries no mark and stays out of the workspace; mark it first")
        with naming_full_disk(self.root):
            for relative, source in staged.items():
                move_file(source, self.path(relative))
            append_line(self.records_path(subset), format_record(record))

    def note_rejects(self, planned: FileRecord, attempts: Iterable[tuple[int, str]]) -> None:
        """Keeps why a fake was not accepted: seed and reason of each try."""
        for seed, reason in attempts:
            entry = {"sample_id": planned.sample_id, "generator": planned.generator, "seed": seed, "reason": reason}
            append_line(self.rejects_path, json.dumps(entry, ensure_ascii=False))

    def finish(self, subset: str) -> None:
        """Rewrites the subset's records sorted and without superseded lines, so that every order of work ends alike."""
        path, records = self.records_path(subset), self.records(subset)
        text = "".join(format_record(record) + "\n" for record in records.values())
        if records and path.read_bytes() != text.encode("utf-8"):
            write_text(path, text)
        self.clear_staging()

    def clear_staging(self) -> None:
        """Removes what was staged and not published."""
        shutil.rmtree(self.staging_folder, ignore_errors=True)

    def forget(self, subset: str, sample_ids: Iterable[str]) -> None:
        """Removes the files of some samples, then their records, by which a rerun after a kill finds what is left."""
        records = self.records(subset)
        gone = [records.pop(sample_id) for sample_id in sample_ids if sample_id in records]
        for record in gone:
            for relative in (record.path, *record.companions):
                self.path(relative).unlink(missing_ok=True)
        write_text(self.records_path(subset), "".join(format_record(r) + "\n" for r in records.values()))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the workspace for one writing command; released by the system even after a kill.

        Raises:
            WorkspaceError: another command is writing, or the disk has no locks.
        """
        with hold_lock(self.root / ".lock", f"{self.root}: another command is writing here; wait until it ends"):
            yield


def open_workspace(root: Path) -> Workspace:
    """Opens an existing workspace.

    Raises:
        WorkspaceError: there is none, or it was written by a newer version of this program.
    """
    path = root / "workspace.toml"
    if not path.is_file():
        raise WorkspaceError(f"{root}: no workspace here; start one with `tooling ingest SOURCES --workspace {root}`")
    return Workspace(root.resolve(), read_settings(path))


def create_workspace(root: Path, settings: Settings) -> Workspace:
    """Starts a workspace in a new or empty folder, with a test certificate to sign marks.

    Raises:
        WorkspaceError: the folder is not empty.
    """
    from tooling.workspace.signing_keys import init_keys  # cryptography, which reading a workspace does not need

    path = root / "workspace.toml"
    unfinished = {unfinished_path(path)}  # what a kill during an earlier start left
    if root.exists() and (not root.is_dir() or set(root.iterdir()) - unfinished):
        raise WorkspaceError(f"{root}: is not empty and not a workspace; name a new folder")
    root.mkdir(parents=True, exist_ok=True)
    write_text(path, format_settings(settings))
    workspace = Workspace(root.resolve(), settings)
    init_keys(workspace.keys_path)
    return workspace


def open_or_create_workspace(root: Path, clip_seconds: float | None = None) -> Workspace:
    """Opens a workspace, or starts one with clips of that length.

    Raises:
        UsageError: the workspace has clips of another length.
        WorkspaceError: see `open_workspace` and `create_workspace`.
    """
    if not (root / "workspace.toml").exists():
        clip = ClipSettings(seconds=clip_seconds) if clip_seconds else ClipSettings()
        return create_workspace(root, Settings(clip=clip))
    workspace = open_workspace(root)
    if clip_seconds and clip_seconds != workspace.settings.clip.seconds:
        length = workspace.settings.clip.seconds
        raise UsageError(f"{root}: its clips are {length:g} s long; --clip-seconds is for a new workspace")
    return workspace
