"""How a command ends: what it prints of a stage's result, and the exit code of every type of exception."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import typer

from generation.errors import GenerationError
from tooling import console
from tooling.errors import ToolingError, UsageError
from tooling.workspace.records import StageResult


class Terminated(BaseException):
    """The process was asked to end: by a scheduler, systemd or docker (SIGTERM), or its terminal is gone (SIGHUP)."""


# Type of exception -> exit code and what to do next, where the message itself does not end with that. The first type of
# an exception's ancestry counts; everything else is a defect and ends with a traceback.
GO_ON = "run the same command again, it goes on where it stopped"
EXITS: dict[type[BaseException], tuple[int, str]] = {
    ToolingError: (1, ""),
    UsageError: (2, ""),
    GenerationError: (1, ""),
    OSError: (1, "correct that and run the same command again"),
    KeyboardInterrupt: (130, GO_ON),
    Terminated: (143, GO_ON),
}


def run(app: typer.Typer) -> None:
    """Runs the command line; an exception of EXITS becomes one line on stderr and its exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _terminate)
    try:
        app()
    except tuple(EXITS) as error:
        sys.exit(print_error(error))
    except SystemExit as error:
        if error.code == EXITS[KeyboardInterrupt][0]:  # typer catches the interrupt itself
            print_error(KeyboardInterrupt())
        raise


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def print_error(error: BaseException) -> int:
    """Prints an exception of EXITS as one line and returns its exit code."""
    code, next_step = next(EXITS[ancestor] for ancestor in type(error).__mro__ if ancestor in EXITS)
    what = str(error)
    if isinstance(error, (KeyboardInterrupt, Terminated)):
        what = "interrupted"
    elif isinstance(error, OSError):
        what = f"{error.filename or 'input/output'}: {error.strerror or error}"
    console.fail(f"{what}; {next_step}" if next_step else what)
    return code


def finish(name: str, result: StageResult, *, as_json: bool) -> None:
    """Prints a stage's result; exit code 1 if it refused anything."""
    console.put_result(name, result, as_json=as_json)
    if result.refused:
        raise typer.Exit(1)
