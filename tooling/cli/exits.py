"""How a command ends: what it prints of a stage's result, and the exit code of every type of exception."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from types import FrameType

import typer

from generation.errors import GenerationError
from tooling import console
from tooling.errors import ToolingError, UsageError
from tooling.workspace.records import StageResult


class Terminated(BaseException):
    """The process was asked to end: by a scheduler, systemd or docker (SIGTERM), or its terminal is gone (SIGHUP)."""


ENDINGS = (signal.SIGTERM, signal.SIGHUP)
PIPE_CLOSED = 128 + signal.SIGPIPE
# Variables that huggingface_hub and datasets read as numbers when they are imported.
NUMBERS = {"HF_HUB_DOWNLOAD_TIMEOUT": int, "HF_HUB_ETAG_TIMEOUT": int, "HF_DATASETS_IN_MEMORY_MAX_SIZE": float}
# Modules of the extra `tooling` that are not called like their distribution.
DISTRIBUTIONS = {"c2pa": "c2pa-python", "re2": "google-re2"}
GO_ON = "run the same command again, it goes on where it stopped"
# Type of exception -> exit code and what to do next, where the message itself does not end with that. The first type of
# an exception's ancestry counts; everything else is a defect and ends with a traceback.
EXITS: dict[type[BaseException], tuple[int, str]] = {
    ToolingError: (1, ""),
    UsageError: (2, ""),
    GenerationError: (1, ""),
    OSError: (1, "correct that and run the same command again"),
    ModuleNotFoundError: (1, "run `pip install 'homologous-deepfake[tooling]'`"),  # of that extra; others are defects
    UnicodeEncodeError: (1, "rename it"),  # of a path; what is printed is always encoded
    KeyboardInterrupt: (130, GO_ON),
    Terminated: (143, GO_ON),
}


def run(app: typer.Typer) -> None:
    """Runs the command line; an exception of EXITS becomes one line on stderr and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names in scripts that a terminal does not have
    warnings.filterwarnings("ignore", module="PIL")  # of odd pictures, which are judged here
    numbers = [number for number in ENDINGS if signal.getsignal(number) is signal.SIG_DFL]  # nohup ignores SIGHUP
    for number in numbers:
        signal.signal(number, _terminate)
    try:
        _check_environment()
        _run_and_flush(app)
    except tuple(EXITS) as error:
        if isinstance(error, ModuleNotFoundError) and not _is_maintainers_only(error):
            raise
        sys.exit(print_error(error))
    except SystemExit as error:
        if error.code == EXITS[KeyboardInterrupt][0]:  # typer catches the interrupt itself
            print_error(KeyboardInterrupt())
        raise
    finally:
        for number in numbers:  # else processes that this one forks later could not be ended
            signal.signal(number, signal.SIG_DFL)


def _is_maintainers_only(error: ModuleNotFoundError) -> bool:
    """Whether the missing module is of the extra `tooling`, which a researcher's installation leaves out."""
    import importlib.metadata

    from packaging.requirements import Requirement

    module = (error.name or "").partition(".")[0]
    name = DISTRIBUTIONS.get(module, module.replace("_", "-"))
    try:
        required = [Requirement(line) for line in importlib.metadata.requires("homologous-deepfake") or ()]
    except importlib.metadata.PackageNotFoundError:  # run from a folder of sources
        return False
    return any(each.name == name and each.marker and each.marker.evaluate({"extra": "tooling"}) for each in required)


def _check_environment() -> None:
    for name, kind in NUMBERS.items():
        try:
            kind(os.environ.get(name) or "0")
        except ValueError as error:
            raise UsageError(f"{name}={os.environ[name]}: is not a number; correct or unset it") from error


def _run_and_flush(app: typer.Typer) -> None:
    """What stdout does not take is an error of the command, not of the interpreter's end."""
    try:
        app()
    finally:
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
            if isinstance(error, BrokenPipeError):  # as after `| head`: the reader has what it wanted
                sys.exit(PIPE_CLOSED)
            raise OSError(error.errno, error.strerror, "stdout") from error


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def print_error(error: BaseException) -> int:
    """Prints an exception of EXITS as one line and returns its exit code."""
    code, next_step = next(EXITS[ancestor] for ancestor in type(error).__mro__ if ancestor in EXITS)
    what = str(error)
    if isinstance(error, (KeyboardInterrupt, Terminated)):
        what = "interrupted"
    elif isinstance(error, ModuleNotFoundError):
        what = f"{error.name}: is not installed"
    elif isinstance(error, UnicodeEncodeError):
        what = f"{error.object.encode('utf-8', 'backslashreplace').decode()}: a name that is not UTF-8"
    elif isinstance(error, OSError):
        what = f"{error.filename or 'input/output'}: {error.strerror or error}"
    console.fail(f"{what}; {next_step}" if next_step else what)
    return code


def finish(name: str, result: StageResult, *, as_json: bool) -> None:
    """Prints a stage's result; exit code 1 if it refused anything."""
    console.put_result(name, result, as_json=as_json)
    if result.refused:
        raise typer.Exit(1)
