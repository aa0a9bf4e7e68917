"""Each command's errors are one line on stderr, with exit code 1, or 2 for wrong usage."""

from __future__ import annotations

from pathlib import Path

import pytest

from tooling.cli import app as cli


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["tooling", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
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
def test_errors_are_told_in_one_line(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == code
    told = capsys.readouterr()
    assert message in told.err
    assert told.out == ""
    assert "Traceback" not in told.err
    if code == 1:
        assert len(told.err.strip().splitlines()) == 1


def test_every_command_has_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for command in cli.app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        assert run(monkeypatch, name, "--help") == 0
        assert "Usage: " in capsys.readouterr().out


def test_clip_length_of_a_workspace_cannot_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "identities.csv").write_text("id,gender,consent_status\n")
    run(monkeypatch, "ingest", "sources", "--clip-seconds", "3")
    assert run(monkeypatch, "ingest", "sources", "--clip-seconds", "4") == 2
    assert "its clips are 3 s long; --clip-seconds is for a new workspace" in capsys.readouterr().err
