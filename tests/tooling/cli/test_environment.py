"""What the environment of a command may be: encodings, closed outputs, settings, addresses of repositories."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.workspaces import make_workspace
from tooling.cli import exits
from tooling.cli.app import app
from tooling.cli.options import read_repo, repo_alone
from tooling.errors import UsageError
from tooling.release.shards import locked_release

pytestmark = pytest.mark.thorough

TOOLING = [sys.executable, "-c", "from tooling.cli.app import main; main()"]


def shell(script: str, *arguments: str) -> tuple[int, str]:
    """Exit code and stderr of a line of sh in which "$@" is the command."""
    done = subprocess.run(["sh", "-c", script, "sh", *TOOLING, *arguments], capture_output=True, check=False)
    return done.returncode, done.stderr.decode("latin-1")


@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        ('PYTHONIOENCODING=latin-1 "$@"', 0, ""),
        ('"$@" >&-', 0, ""),
        ('"$@" | true', 0, ""),
        ('"$@" > /dev/full', 1, "No space left on device"),
    ],
)
def test_output_that_is_not_taken_is_no_traceback(script: str, code: int, message: str, tmp_path: Path) -> None:
    make_workspace(tmp_path / "w", 1, 0, 0)
    found, errors = shell(script, "plan", "--workspace", str(tmp_path / "w"))
    assert (found, "Traceback" in errors) == (code, False), errors
    assert message in errors


def test_numbers_of_the_environment_are_checked_before_anything_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "abc")
    with pytest.raises(SystemExit) as ended:
        exits.run(app)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: HF_HUB_DOWNLOAD_TIMEOUT=abc: is not a number; correct or unset it\n"


def test_name_that_is_not_utf8_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnicodeEncodeError) as caught:
        (tmp_path / "\udcc4\udce3").as_posix().encode()
    assert exits.print_error(caught.value) == 1
    assert capsys.readouterr().err.endswith("\\udcc4\\udce3: a name that is not UTF-8; rename it\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lab/faces", ("lab/faces", "")),
        (" lab/faces@1.0.0 ", ("lab/faces", "1.0.0")),
        ("datasets/lab/faces", ("lab/faces", "")),
        ("hf://datasets/lab/faces@refs/pr/1", ("lab/faces", "refs/pr/1")),
        ("https://huggingface.co/datasets/lab/faces", ("lab/faces", "")),
        ("https://huggingface.co/datasets/lab/faces/", ("lab/faces", "")),
        ("https://huggingface.co/datasets/lab/faces/tree/v1", ("lab/faces", "v1")),
        ("faces", ("faces", "")),
        ("a/b/c", ("a/b/c", "")),
    ],
)
def test_addresses_of_repositories_are_read(
    text: str, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert read_repo(text) == expected
    if expected[1]:
        with pytest.raises(UsageError, match="name the repository alone, lab/faces"):
            repo_alone(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://huggingface.co/lab/faces", "is not the address of a dataset"),
        ("hf://lab/faces", "is not the address of a dataset"),
        (
            "https://hub.example/datasets/lab/faces",
            "is at another Hub than .*; set HF_ENDPOINT=https",
        ),
    ],
)
def test_addresses_of_something_else_are_refused(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    with pytest.raises(UsageError, match=message):
        read_repo(text)


def test_release_that_another_command_writes_is_left_alone(tmp_path: Path) -> None:
    make_workspace(tmp_path / "w", 1, 0, 0)
    with locked_release(tmp_path / "rel"):
        for command in ("build", "card"):
            code, errors = shell('"$@"', command, "-w", str(tmp_path / "w"), "-o", str(tmp_path / "rel"))
            assert code == 1
            assert "rel: another command is writing or sending this release; wait until it ends" in errors
    assert not (tmp_path / "rel").exists()


def test_release_folder_named_like_the_module_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "homologous_deepfake").mkdir()
    code = "from homologous_deepfake import SUBSETS"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
