"""What one verification knows and hands to its workers. Loads no decoder and no network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tooling.stages.verify.check_store import CheckStore
from tooling.stages.verify.people import Records
from tooling.stages.verify.table import write_table
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord
from tooling.workspace.verification_file import Finding, Summary

IMAGES_AT_ONCE = 32
RULES = 1  # counts up when the same checks of files give other findings

EncoderChoice = Path | Literal["dlib"]
"""An ArcFace network in ONNX, or that of dlib."""


@dataclass(frozen=True)
class CheckContext:
    """What the check of a file depends on beside the file itself.

    Attributes:
        clips: names of the workspace's clips.
        has_keys: whether there is a certificate to check marks by.
        encoder: of identities; None leaves them out.
    """

    clips: frozenset[str]
    has_keys: bool
    encoder: EncoderChoice | None


@dataclass(frozen=True)
class CheckItem:
    """Files that one worker checks together.

    Attributes:
        workspace: to read in.
        context: the same for all items.
        checked: files to check: of one person, or images.
        unchanged: files without an error in the last verification: their digests are compared, nothing is decoded.
        clip: the person's clip, with which the others are compared; None if there is none, and for images.
    """

    workspace: Workspace
    context: CheckContext
    checked: tuple[FileRecord, ...]
    unchanged: tuple[FileRecord, ...] = ()
    clip: FileRecord | None = None

    @property
    def paths(self) -> list[str]:
        """Paths of all its files."""
        return [record.path for record in (*self.checked, *self.unchanged)]


@dataclass
class Verification:
    """One run, and what is known of each file by path.

    Attributes:
        workspace: that is verified.
        records: of all files.
        context: the same for all of them.
        digests: of everything that the check of a file depends on.
        checks: of the files that were checked.
        splits: that the files are loaded in.
        began_ns: what was written since cannot be told by its state, see `file_state`.
        broken: errors of files that could not be checked.
    """

    workspace: Workspace
    records: Records
    context: CheckContext
    digests: Mapping[str, str]
    checks: CheckStore
    splits: Mapping[str, str]
    began_ns: int
    broken: list[Finding] = field(default_factory=list)

    @property
    def all_records(self) -> list[FileRecord]:
        """Of all subsets."""
        return [record for found in self.records.values() for record in found.values()]

    @property
    def is_sound(self) -> bool:
        """Whether every file was checked, and none has an error by itself: such a file is checked again."""
        return len(self.checks) == len(self.all_records) and all(check.is_ok for check in self.checks.values())

    @property
    def digest(self) -> str:
        """Of everything that the findings of all files depend on."""
        parts = [RULES, sorted(self.digests.items()), sorted(self.splits.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def write(self, findings: Sequence[Finding] | None, summary: Summary | None = None) -> None:
        """See `write_table`."""
        given = self.workspace, self.all_records, findings, self.checks, self.digests
        write_table(*given, before_ns=self.began_ns, summary=summary)
