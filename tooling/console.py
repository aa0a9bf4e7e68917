"""Output for people and programs: data on stdout, progress, notes and errors on stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich import progress
from rich.console import Console

from tooling.work.engine import Progress
from tooling.workspace.records import StageResult

_stderr = Console(stderr=True, highlight=False)


@contextmanager
def progress_bar(title: str, *, is_bytes: bool = False) -> Iterator[Progress]:
    """A bar on stderr, of items or of bytes; without a terminal, a line at the start and one at the end."""
    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn() if is_bytes else progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[name]}", markup=False),
    )
    with progress.Progress(*columns, console=_stderr, disable=not _stderr.is_terminal) as bar:
        task, said = bar.add_task(f"{title:<22}", total=None, name=""), set[int]()

        def show(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, name=name)
            if not _stderr.is_terminal and total and done in {0, total} - said:
                said.add(done)
                say(f"{title}: {done:,} of {total:,}{' bytes' * is_bytes}")

        yield show
        bar.update(task, name="")


def say(line: str) -> None:
    """One line for a person, on stderr."""
    _stderr.print(line, markup=False, soft_wrap=True)


def fail(line: str) -> None:
    """One error line, on stderr."""
    _stderr.print(f"error: {line}", style="bold red", markup=False, soft_wrap=True)


def put(line: str) -> None:
    """One line of data, on stdout."""
    sys.stdout.write(line + "\n")


def put_result(subset: str, result: StageResult, *, as_json: bool) -> None:
    """A stage's result on stdout; each refusal also as an error line on stderr."""
    for name, reason in result.refused.items():
        fail(reason if name in reason else f"{name}: {reason}")
    if as_json:
        put(to_json({"subset": subset, **dataclasses.asdict(result)}))
        return
    counts = f"{len(result.made)} made, {len(result.kept)} kept, {len(result.refused)} refused"
    put(f"{subset}: {counts}")


def to_json(value: Any) -> str:
    """JSON for programs that read stdout."""
    return json.dumps(value, ensure_ascii=False, indent=2)
