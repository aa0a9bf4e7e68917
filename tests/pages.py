"""The pages of docs/, run as a reader would: the Python of a page as one program, then its commands, in one folder."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from tooling.cli.app import main

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESEARCHERS = ("load", "stream", "pair", "train", "score", "evaluate", "export")
MAINTAINERS = ("ingest", "regenerate", "verify", "push", "many_machines", "take_down")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = ("text", "csv")  # what a block is that is only shown


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def run_command(folder: Path, *arguments: str) -> Ended:
    """Runs `tooling` in this process, which has imported all that commands import."""
    out, err = io.StringIO(), io.StringIO()
    typed = mock.patch.object(sys, "argv", ["tooling", *arguments])
    with (
        contextlib.chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
        typed,
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def run_page(name: str, folder: Path) -> list[str]:
    """Runs every block of a page; fails where one fails.

    Returns:
        What the commands printed, one text each.
    """
    blocks = BLOCK.findall((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    for kind, _ in blocks:
        assert kind in ("python", "sh", *NOT_RUN), f"docs/{name}.md: a block of {kind} is neither run nor listed here"
    if program := "".join(text for kind, text in blocks if kind == "python"):
        ended = _run_python(folder, "-c", program)
        assert ended.code == 0, ended.err
    lines = [line for kind, text in blocks if kind == "sh" for line in text.replace("\\\n", " ").splitlines()]
    return [_run_line(line, folder) for line in lines]


def _run_python(folder: Path, *arguments: str) -> Ended:
    own = {"HF_HOME": str(folder / ".hf"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT)}
    command, environment = [sys.executable, *arguments], os.environ | own
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def _run_line(line: str, folder: Path) -> str:
    program, *arguments = shlex.split(line, comments=True)
    if program == "tooling":
        ended = run_command(folder, *arguments)
    elif program == "python":
        script = ROOT / arguments[0] if arguments[0].startswith("examples/") else arguments[0]
        ended = _run_python(folder, str(script), *arguments[1:])
    else:
        assert program == "pip", f"{line}: docs/ has no such command"  # pyproject.toml's dependencies are installed
        return ""
    assert ended.code == 0, f"{line}: {ended.err}"
    return ended.out
