"""Doing the items of a stage side by side, with resume. Results come in the order in which they end."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from generation.errors import GenerationError, RejectedOutputError
from tooling.errors import DiskFullError, ToolingError, UsageError, WorkerError
from tooling.keys import read_keys
from tooling.records import FileRecord, StageResult
from tooling.workspace.files import file_sha256, naming_full_disk
from tooling.workspace.layout import Workspace

ENGINES = ("local", "ray")

Progress = Callable[[int, int, str], None]
"""Called with items done, items in all, and the name of the item that ended last ("" at the start)."""


def no_progress(done: int, total: int, name: str) -> None:
    """Shows nothing."""


@dataclass(frozen=True)
class Task:
    """One file to make.

    Attributes:
        wanted: what is known of the record beforehand: sample_id, path, inputs, generator, parameters, seed.
        work: whatever else the stage's function needs; it travels to another process, so keep it small.
    """

    wanted: FileRecord
    work: Any = None


@dataclass(frozen=True)
class Made:
    """What a stage's function returns: the complete record, and where the files lie now (relative name -> staged).

    It is marked afterwards, by the engine.
    """

    record: FileRecord
    staged: dict[str, Path]


@dataclass(frozen=True)
class Outcome:
    """One ended item: its value, or the error that ended it."""

    item: Any
    value: Any = None
    error: Exception | None = None


def wanted_record(
    sample_id: str,
    path: str,
    inputs: dict[str, str],
    generator: str,
    parameters: dict[str, Any],
    seed: int | None = None,
) -> FileRecord:
    """A record with what is known before the file is made; sizes and digests are filled in by `finished_record`."""
    return FileRecord(sample_id, path, "", 0, inputs, generator, parameters, seed, 0, 0, None, 0)


def finished_record(
    wanted: FileRecord,
    staged: dict[str, Path],
    *,
    width: int,
    height: int,
    fps: float | None,
    num_frames: int,
    results: dict[str, Any] | None = None,
) -> FileRecord:
    """Completes a wanted record from its staged files; those beside `wanted.path` become companions."""
    digests = {relative: file_sha256(path) for relative, path in staged.items()}
    return replace(
        wanted,
        sha256=digests.pop(wanted.path),
        num_bytes=staged[wanted.path].stat().st_size,
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
    engine: str = "local",
    progress: Progress = no_progress,
) -> StageResult:
    """Makes the files of a subset that are not there yet, marking and publishing each as soon as it is complete.

    Args:
        workspace: held by the caller's lock.
        subset: folder whose records are kept.
        tasks: every file that the stage is about, finished or not.
        function: module-level function that makes one file under `workspace.staging_path` and syncs it.
        num_workers: processes; 0 takes one for each processor, 1 works in this process.
        engine: see `run_side_by_side`.
        progress: told of each ended item.

    Returns:
        What was made, kept and refused. An item that fails does not stop the others.

    Raises:
        WorkspaceError, InputError: there are no keys to sign marks with, or they cannot be used.
        DiskFullError: no space is left; what was finished before is kept.
    """
    result = StageResult()
    records = workspace.records(subset)
    todo = []
    for task in tasks:
        if workspace.current(task.wanted, records):
            result.kept.append(task.wanted.sample_id)
        else:
            todo.append((function, workspace, task))
    if todo:
        read_keys(workspace.keys_path)  # told once, before any work
    progress(0, len(todo), "")
    outcomes = run_side_by_side(_make_one, todo, num_workers=num_workers, engine=engine)
    for done, outcome in enumerate(outcomes, start=1):
        wanted = outcome.item[2].wanted
        settle(workspace, subset, wanted, outcome, result)
        progress(done, len(todo), wanted.sample_id)
    workspace.finish(subset)
    return result


def settle(workspace: Workspace, subset: str, wanted: FileRecord, outcome: Outcome, result: StageResult) -> None:
    """Publishes the file that an item made and notes in `result` what became of it; None as value: it was kept.

    Raises:
        Exception: the item's error, where it is none about this file alone.
    """
    error, name = outcome.error, wanted.sample_id
    if isinstance(error, (ToolingError, GenerationError)) and not isinstance(error, DiskFullError):
        result.refused[name] = str(error)
        if isinstance(error, RejectedOutputError):
            workspace.note_rejects(wanted, error.attempts)
    elif error is not None:
        raise error
    elif outcome.value is None:
        result.kept.append(name)
    else:
        workspace.publish(subset, outcome.value.record, outcome.value.staged)
        result.made.append(name)


def _make_one(item: tuple[Callable[[Workspace, Task], Made], Workspace, Task]) -> Made:
    from tooling.marking import mark_made

    function, workspace, task = item
    with naming_full_disk(workspace.root):
        made = function(workspace, task)
        record, marked = mark_made(workspace, made.record, made.staged)
        return Made(record, {**made.staged, record.path: marked})


def run_side_by_side(
    function: Callable[[Any], Any], items: Iterable[Any], *, num_workers: int = 0, engine: str = "local"
) -> Iterator[Outcome]:
    """Calls a module-level function on every item in worker processes; yields outcomes as they end.

    Only a few items are in flight at a time, so memory does not grow with their number. If a worker dies (killed,
    out of memory), the items that were in flight are tried again, each alone; one that kills its worker twice
    then ends with a WorkerError.

    Args:
        function: importable in another process.
        items: picklable.
        num_workers: processes; 0 takes one for each processor, 1 works in this process.
        engine: "local", or "ray", a cluster that sees the workspace at the same path.

    Raises:
        UsageError: no such engine, or Ray is not installed.
    """
    items = list(items)
    if engine not in ENGINES:
        raise UsageError(f"{engine}: no such engine; use {' or '.join(ENGINES)}")
    if engine == "ray":
        from tooling.engines_ray import run_on_ray

        yield from (Outcome(*ended) for ended in run_on_ray(function, items, num_workers))
        return
    num_workers = min(num_workers or len(os.sched_getaffinity(0)), len(items))
    if num_workers <= 1:
        yield from (_call(function, item) for item in items)
        return
    waiting: deque[Any] = deque(items)
    while waiting:
        lost = yield from _run_pool(function, waiting, num_workers)
        for item in lost:
            tries = 0
            while tries < 2 and (yield from _run_pool(function, deque([item]), 1)):
                tries += 1
            if tries == 2:
                error = WorkerError("its worker process died twice (killed or out of memory); try fewer --workers")
                yield Outcome(item, error=error)


def _run_pool(
    function: Callable[[Any], Any], waiting: deque[Any], num_workers: int
) -> Generator[Outcome, None, list[Any]]:  # returns the items lost with a dead worker
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_prepare_worker)
    running: dict[Future[Outcome], Any] = {}
    lost: list[Any] = []
    try:
        while (waiting or running) and not lost:
            while waiting and len(running) < num_workers + 1:
                item = waiting.popleft()
                with _interrupts_held():
                    running[pool.submit(_call, function, item)] = item
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    lost.append(item)
                else:
                    yield future.result()
        lost += running.values()
        if not lost:
            pool.shutdown()  # workers end by themselves and give back what they hold
    finally:
        _stop(pool)
    return lost


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds Ctrl-C back for a moment. Workers that are started meanwhile inherit that and never see one: a terminal
    sends it to all processes, and this one ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _call(function: Callable[[Any], Any], item: Any) -> Outcome:
    try:
        return Outcome(item, value=function(item))
    except Exception as error:
        return Outcome(item, error=error)


def _stop(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def _prepare_worker() -> None:
    # One thread for each process: libraries read this when they are first imported, which happens after it.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
