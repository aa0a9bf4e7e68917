"""What a person sees: data on stdout, progress and trouble on stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tooling.work import engine as engines
from tooling.workspace.records import StageResult

_stderr = Console(stderr=True, highlight=False)


@contextmanager
def progress_bar(title: str, *, is_bytes: bool = False) -> Iterator[engines.Progress]:
    """A bar on stderr, of items or of bytes; without a terminal, one line when work begins and one when it ends."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn() if is_bytes else MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[name]}", markup=False),
    )
    with Progress(*columns, console=_stderr, disable=not _stderr.is_terminal) as bar:
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
    """The outcome of a stage on stdout; each refusal also as an error line on stderr."""
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
