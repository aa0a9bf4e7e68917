"""Each command's errors are one line on stderr, with exit code 1, or 2 for wrong usage."""

from __future__ import annotations

import ast
import importlib.util
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import tooling.cli
from generation.errors import VideoError
from tooling.cli import exits
from tooling.cli.app import app, main
from tooling.errors import ConsentError, UsageError
from tooling.remote import RemoteError


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["tooling", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["plan"], 1, "error: workspace: no workspace here; start one with `tooling ingest SOURCES"),
        (["faces", "-w", "nowhere"], 1, "error: nowhere: no workspace here"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["ingest"], 2, "Missing argument"),
        (["ingest", "sources", "--clip-seconds", "0"], 2, "Invalid value for '--clip-seconds'"),
        (["build", "--workers", "x"], 2, "No such option"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""
    assert "Traceback" not in printed.err
    if code == 1:
        assert len(printed.err.strip().splitlines()) == 1


def commands(group: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Every command below a group, and the group itself, as one types it."""
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *path, name)


def test_every_command_and_group_has_help() -> None:
    paths = list(commands(typer.main.get_command(app)))
    assert {("push",), ("access", "prune"), ("hub", "serve")} <= set(paths)
    for path in paths:
        done = CliRunner().invoke(app, [*path, "--help"])
        assert done.exit_code == 0, path
        assert re.search(r"Usage: .*\n\n +[A-Z]", done.stdout), f"{path}: says nothing of what it does"


def test_commands_are_listed_in_the_order_of_the_flow() -> None:
    names = [path[0] for path in commands(typer.main.get_command(app)) if len(path) == 1]
    flow = ("actors", "ingest", "faces", "plan", "generate", "verify", "audit", "build", "card", "push", "pull", "keys")
    assert [name for name in names if name in flow] == list(flow)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("--x: no; use y"), 2, "--x: no; use y"),
        (ConsentError("3: withdrawn; leave it out"), 1, "3: withdrawn; leave it out"),
        (RemoteError("lab/a: busy; run it again", "busy", 503), 1, "lab/a: busy; run it again"),
        (VideoError("1.mp4: cut off; replace it"), 1, "1.mp4: cut off; replace it"),
        (
            FileNotFoundError(2, "No such file", "a.csv"),
            1,
            "a.csv: No such file; correct that and run the same command",
        ),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again, it goes on where it stopped"),
    ],
)
def test_type_of_an_exception_decides_how_a_command_ends(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing = typer.Typer()

    @failing.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["tooling"])
    with pytest.raises(SystemExit) as ended:
        exits.run(failing)
    assert ended.value.code == code
    assert {signal.getsignal(number) for number in exits.ENDINGS} == {signal.SIG_DFL}
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {line}")
    assert (printed.out, printed.err.count("\n")) == ("", 1)


def test_defect_is_not_taken_for_a_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = typer.Typer(pretty_exceptions_enable=False)

    @failing.command()
    def fail() -> None:
        raise KeyError("subset")

    monkeypatch.setattr("sys.argv", ["tooling"])
    with pytest.raises(KeyError):
        exits.run(failing)


@pytest.mark.parametrize("path", sorted(Path(tooling.cli.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_command_imports_the_functions_that_it_calls(path: Path) -> None:
    """No module under an alias: grep and editors follow a command to what it runs."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("tooling", "generation")):
            for alias in node.names:
                spec = importlib.util.find_spec(node.module or "")
                is_module = spec is not None and spec.submodule_search_locations is not None
                found = is_module and importlib.util.find_spec(f"{node.module}.{alias.name}") is not None
                assert not found or alias.name == "console", f"{path.name}: imports the module {alias.name}"


def test_clip_length_of_a_workspace_cannot_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "identities.csv").write_text("id,gender,consent_status\n")
    run(monkeypatch, "ingest", "sources", "--clip-seconds", "3")
    assert run(monkeypatch, "ingest", "sources", "--clip-seconds", "4") == 2
    assert "its clips are 3 s long; --clip-seconds is for a new workspace" in capsys.readouterr().err
