"""sign: signs the files of a workspace again after its keys were replaced; nothing is generated or encoded again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from homologous_deepfake import SUBSETS
from tooling.errors import InputError
from tooling.marks.manifest import read_marks
from tooling.marks.mark import mark_made
from tooling.work.engine import Progress, no_progress, run_side_by_side
from tooling.work.tasks import Made, settle
from tooling.workspace.files import file_sha256, naming_full_disk
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord, StageResult, command_for
from tooling.workspace.signing_keys import read_signing_keys


def sign_files(workspace: Workspace, *, num_workers: int = 0, progress: Progress = no_progress) -> StageResult:
    """Signs every file again that was not signed with the present keys, or has no time stamp although a server is set.

    Pulled files keep their own marks.

    Real files come first: the marks of fakes name them by digest. A rerun goes on where it stopped.

    Args:
        workspace: held by the caller's lock.
        num_workers: processes; 0 takes one for each processor.
        progress: called for each file.

    Returns:
        What was signed, kept and refused, by sample_id.

    Raises:
        WorkspaceError, InputError: there are no keys, or they cannot be used.
        DiskFullError: no space is left; what was signed before is kept.
    """
    read_signing_keys(workspace.keys_path)
    result, order = StageResult(), sorted(SUBSETS, key=lambda subset: SUBSETS[subset].method != "real")
    records = {subset: list(workspace.records(subset).values()) for subset in order}
    total, done = sum(map(len, records.values())), 0
    progress(0, total, "")
    for subset in order:
        todo = [(workspace, record) for record in records[subset]]
        for outcome in run_side_by_side(_sign, todo, num_workers=num_workers):
            record = outcome.item[1]
            settle(workspace, subset, record, outcome, result)
            done += 1
            progress(done, total, record.sample_id)
        workspace.finish(subset)
    return result


def _sign(item: tuple[Workspace, FileRecord]) -> Made | None:
    """The file signed again; None where its marks stay."""
    workspace, record = item
    path = workspace.path(record.path)
    if file_sha256(path) != record.sha256:
        raise InputError(
            f"{record.path}: differs from its record (sha256); delete it and run {command_for(record.subset)}"
        )
    if record.digital_source_type and (record.origin == "pulled" or _is_signed(workspace, path)):
        return None
    with naming_full_disk(workspace.root):
        marked, staged = mark_made(workspace, record, {record.path: path})
    return Made(replace(marked, unmarked_sha256=record.input_sha256), {record.path: staged})


def _is_signed(workspace: Workspace, path: Path) -> bool:
    found = read_marks(path, read_signing_keys(workspace.keys_path))
    is_stamped = found.has_time_stamp or not workspace.settings.keys.timestamp_server
    return found.state == "trusted" and not found.is_expired and is_stamped
