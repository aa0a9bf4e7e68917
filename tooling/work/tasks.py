"""Making the files of a subset: which are finished, marking and publishing each as soon as it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from generation.errors import GenerationError, RejectedOutputError
from tooling.errors import DiskFullError, ToolingError
from tooling.work.engine import LOCAL, Engine, Progress, no_progress, run_side_by_side
from tooling.work.outcome import Outcome
from tooling.workspace.files import file_sha256, naming_full_disk
from tooling.workspace.layout import Workspace
from tooling.workspace.readiness import files_to_make_again, way_out_of
from tooling.workspace.records import FileRecord, Origin, StageResult
from tooling.workspace.signing_keys import read_signing_keys


@dataclass(frozen=True)
class Task:
    """One file to make.

    Attributes:
        planned: what is known of the record beforehand: sample_id, path, inputs, generator, parameters, seed.
        work: whatever else the stage's function needs; it travels to another process, so keep it small.
    """

    planned: FileRecord
    work: Any = None


@dataclass(frozen=True)
class Made:
    """What a stage's function returns: the complete record, and where the files lie now (relative name -> staged).

    It is marked afterwards, by the engine.
    """

    record: FileRecord
    staged: dict[str, Path]


def planned_record(
    sample_id: str,
    path: str,
    inputs: dict[str, str],
    generator: str,
    parameters: dict[str, Any],
    seed: int | None = None,
    origin: Origin = "made",
) -> FileRecord:
    """A record with what is known before the file is made; sizes and digests are filled in by `finished_record`."""
    return FileRecord(sample_id, path, "", 0, inputs, generator, parameters, seed, 0, 0, None, 0, origin=origin)


def finished_record(
    planned: FileRecord,
    staged: dict[str, Path],
    *,
    width: int,
    height: int,
    fps: float | None,
    num_frames: int,
    results: dict[str, Any] | None = None,
) -> FileRecord:
    """Completes a record from its staged files; those beside `planned.path` become companions."""
    digests = {relative: file_sha256(path) for relative, path in staged.items()}
    return replace(
        planned,
        sha256=digests.pop(planned.path),
        num_bytes=staged[planned.path].stat().st_size,
        width=width,
        height=height,
        fps=fps,
        num_frames=num_frames,
        companions=digests,
        results=results or {},
    )


def make_files(
    workspace: Workspace,
    subset: str,
    tasks: Iterable[Task],
    function: Callable[[Workspace, Task], Made],
    *,
    num_workers: int = 0,
    engine: Engine = LOCAL,
    progress: Progress = no_progress,
) -> StageResult:
    """Makes the files of a subset that are not there yet, marking and publishing each as soon as it is complete.

    A file in which the last verification found an error is made again.

    Args:
        workspace: held by the caller's lock.
        subset: folder whose records are kept.
        tasks: every file that the stage is about, finished or not.
        function: module-level function that makes one file under `workspace.staging_path` and syncs it.
        num_workers: processes; 0 takes one for each processor, 1 works in this process.
        engine: where.
        progress: called for each finished item; those that are kept count as done.

    Returns:
        What was made, kept and refused. An item that fails does not stop the others.

    Raises:
        WorkspaceError, InputError: there are no keys to sign marks with, or they cannot be used.
        DiskFullError: no space is left; what was finished before is kept.
    """
    result = StageResult()
    records, wrong = workspace.records(subset), files_to_make_again(workspace)
    todo = []
    for task in tasks:
        finished = workspace.find_finished(task.planned, records)
        if finished and wrong.get(finished.path) != finished.sha256:
            result.kept.append(task.planned.sample_id)
        else:
            todo.append((function, workspace, task))
    if todo:
        read_signing_keys(workspace.keys_path)  # raises once, before any work
    num_kept = len(result.kept)
    total = num_kept + len(todo)
    progress(num_kept, total, "")
    outcomes = run_side_by_side(_make_one, todo, num_workers=num_workers, engine=engine, workspace=workspace)
    for done, outcome in enumerate(outcomes, start=num_kept + 1):
        planned = outcome.item[2].planned
        settle(workspace, subset, planned, outcome, result)
        progress(done, total, planned.sample_id)
    workspace.finish(subset)
    return result


def settle(workspace: Workspace, subset: str, planned: FileRecord, outcome: Outcome, result: StageResult) -> None:
    """Publishes the file that an item made and notes in `result` what became of it; None as value: it was kept.

    Raises:
        Exception: the item's error, if it concerns more than this file.
    """
    error, name = outcome.error, planned.sample_id
    if isinstance(error, (ToolingError, GenerationError)) and not isinstance(error, DiskFullError):
        result.refused[name] = str(error)
        if isinstance(error, RejectedOutputError):
            result.refused[name] += f"; {way_out_of(name)}"
            workspace.note_rejects(planned, error.attempts)
    elif error is not None:
        raise error
    elif outcome.value is None:
        result.kept.append(name)
    else:
        workspace.publish(subset, outcome.value.record, outcome.value.staged)
        result.made.append(name)


def _make_one(item: tuple[Callable[[Workspace, Task], Made], Workspace, Task]) -> Made:
    from tooling.marks.mark import mark_made

    function, workspace, task = item
    with naming_full_disk(workspace.root):
        made = function(workspace, task)
        record, marked = mark_made(workspace, made.record, made.staged)
        return Made(record, {**made.staged, record.path: marked})
