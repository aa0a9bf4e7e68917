"""Output for people and programs: data on stdout, progress, notes and errors on stderr."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich import progress
from rich.console import Console

from tooling.work.engine import Progress
from tooling.workspace.records import StageResult

LINE_SECONDS = 25.0  # a long command without a terminal is never silent for longer
_stderr = Console(stderr=True, highlight=False)


@contextmanager
def progress_bar(title: str, *, is_bytes: bool = False, line_seconds: float = LINE_SECONDS) -> Iterator[Progress]:
    """A bar on stderr, of items or of bytes; without a terminal, lines: see `ProgressLines`.

    Args:
        title: what is done, in a word or two.
        is_bytes: whether bytes are counted instead of items.
        line_seconds: without a terminal, the time between two lines while nothing else is printed.
    """
    if not _stderr.is_terminal:
        lines = ProgressLines(title, say, is_bytes=is_bytes)
        with _repeated(lines.say_now, line_seconds):
            yield lines.show
        lines.end()
        return
    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn() if is_bytes else progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[name]}", markup=False),
    )
    with progress.Progress(*columns, console=_stderr) as bar:
        task = bar.add_task(f"{title:<22}", total=None, name="")
        yield lambda done, total, name: bar.update(task, completed=done, total=total, name=name)
        bar.update(task, name="")
        if bar.tasks[0].total is None:  # nothing was counted
            bar.update(task, total=1, completed=1)


class ProgressLines:
    """Progress as lines, for logs: one at the start, one at the end, and what `say_now` is called for between them.

    Args:
        title: what is done, in a word or two.
        write: takes each line.
        is_bytes: whether bytes are counted instead of items.
        clock: seconds.
    """

    def __init__(
        self,
        title: str,
        write: Callable[[str], None],
        *,
        is_bytes: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._write, self._clock = title, write, clock
        self._unit = " bytes" if is_bytes else ""
        self._started = clock()
        self._state: tuple[int, int, str] | None = None
        self._kept, self._worked_since = 0, self._started  # what was done before the first item began, and when
        self._written = ""

    def show(self, done: int, total: int, name: str) -> None:
        """Takes the state, as `Progress` says; the first one is written."""
        if self._state is None or done <= self._kept:
            self._kept, self._worked_since = done, self._clock()
        self._state = (done, total, name)
        if total and not self._written:
            self._written = self._counts()
            self._write(self._written)

    def say_now(self) -> None:
        """Writes how far it is, for how long it has been at it, and how long the rest will take if it goes on so."""
        line = f"{self._counts()} after {_format_span(self._clock() - self._started)}"
        if self._state is not None:
            done, total, name = self._state
            if self._kept < done < total:
                left = (self._clock() - self._worked_since) * (total - done) / (done - self._kept)
                line += f", about {_format_span(left)} left"
            line += f"; {name}" if name else ""
        self._write(line)

    def end(self) -> None:
        """Writes the last state, unless there is nothing to count or the first line said the same."""
        if self._state is not None and self._state[1] and self._counts() != self._written:
            self._write(f"{self._counts()} in {_format_span(self._clock() - self._started)}")

    def _counts(self) -> str:
        if self._state is None:
            return self._title
        done, total, _ = self._state
        return f"{self._title}: {done:,} of {total:,}{self._unit}"


def _format_span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def _repeated(function: Callable[[], None], seconds: float) -> Iterator[None]:
    """Calls a function every so many seconds, in a thread, however long one step of the work takes."""
    ended = threading.Event()

    def run() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the thread that works
        while not ended.wait(seconds):
            function()

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def say(line: str) -> None:
    """One line for a person, on stderr."""
    _stderr.print(line, markup=False, soft_wrap=True)


def fail(line: str) -> None:
    """One error line, on stderr."""
    line = " ".join(line.splitlines())  # names and libraries' reasons may have several
    _stderr.print(f"error: {line}", style="bold red", markup=False, soft_wrap=True)


def put(line: str) -> None:
    """One line of data, on stdout; nowhere if it is closed."""
    if sys.stdout is not None:
        sys.stdout.write(line + "\n")


def put_result(subset: str, result: StageResult, *, as_json: bool) -> None:
    """A stage's result on stdout; its notes, and each refusal as an error, also as lines on stderr."""
    for note in result.notes:
        say(f"note: {note}")
    for name, reason in result.refused.items():
        place, colon, _ = reason.partition(": ")
        fail(reason if colon and name in place else f"{name}: {reason}")
    if as_json:
        put(to_json({"subset": subset, **dataclasses.asdict(result)}))
        return
    counts = f"{len(result.made)} made, {len(result.kept)} kept, {len(result.refused)} refused"
    put(f"{subset}: {counts}")


def to_json(value: Any) -> str:
    """JSON for programs that read stdout."""
    return json.dumps(value, ensure_ascii=False, indent=2)
