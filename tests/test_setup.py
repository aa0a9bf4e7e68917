"""What `make` prints before anything is installed, with a stand-in for the Python of .venv and its pip."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
STAND_IN = """#!/bin/sh
case "$*" in
    "-c import pip"*) echo 3.11.7 ;;
    *"--upgrade pip") echo "WARNING: Location 'file:///nowhere/pip/' is ignored: it is no file." >&2 ;;
    *--editable*) . ./pip.sh ;;
    "-m pytest") echo "3 passed in 0.10s" ;;
    *) cat >/dev/null ;;  # the checks of the system libraries
esac
"""
INSTALLS = """
echo "WARNING: Location 'file:///nowhere/torch/' is ignored: it is no file." >&2
echo "Collecting torch"
echo "Installing collected packages: numpy, torch"
for name in numpy torch; do
    mkdir -p .venv/lib/python3.11/site-packages/$name-1.0.dist-info
    echo "$name/__init__.py,sha256=0,6000000" >.venv/lib/python3.11/site-packages/$name-1.0.dist-info/RECORD
done
"""
FAILS = """
echo "Collecting torch"
echo "WARNING: Location 'file:///nowhere/torch/' is ignored: it is no file." >&2
echo "ERROR: Could not find a version that satisfies the requirement torch>=2.6 (from versions: none)" >&2
echo "ERROR: No matching distribution found for torch>=2.6" >&2
echo "[notice] A new release of pip is available" >&2
exit 1
"""
SLEEPS = """
( while :; do echo . >>beats; sleep 0.05; done ) &
wait
"""


@pytest.fixture(scope="module")
def set_up() -> ModuleType:
    """scripts/set_up.py as a module."""
    spec = importlib.util.spec_from_file_location("set_up", ROOT / "scripts" / "set_up.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the Makefile, the scripts, and the stand-in as .venv/bin/python, which runs pip.sh as pip."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STAND_IN)
    python.chmod(0o755)
    (tmp_path / "pip.sh").write_text(INSTALLS)
    return tmp_path


def make(checkout: Path, target: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", f"PYTHON={python}", target]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


def test_first_run_prints_steps_and_the_second_goes_straight_to_the_tests(checkout: Path) -> None:
    first = make(checkout, "test")
    steps = first.stdout.splitlines()
    assert (first.returncode, first.stderr) == (0, "")
    assert [step[:5] for step in steps if step.startswith("[")] == ["[1/3]", "[2/3]", "[3/3]"]
    assert "      2 packages, 12 MB" in steps
    assert "      OpenCV and FFmpeg found" in steps
    assert steps[-2:] == [".venv/bin/python -m pytest", "3 passed in 0.10s"]
    assert "ignored" not in first.stdout
    assert "torch/' is ignored" in (checkout / ".venv" / "install.log").read_text()
    second = make(checkout, "test")
    assert second.stdout.splitlines() == steps[-2:]
    assert second.stderr == ""


def test_failure_shows_the_error_lines_and_the_next_run_goes_on(checkout: Path) -> None:
    (checkout / "pip.sh").write_text(FAILS)
    failed = make(checkout, "test")
    assert failed.returncode != 0
    assert "passed" not in failed.stdout
    assert failed.stderr.splitlines()[:3] == [
        "ERROR: Could not find a version that satisfies the requirement torch>=2.6 (from versions: none)",
        "ERROR: No matching distribution found for torch>=2.6",
        "error: .venv/install.log: the set-up failed as shown above; run make again to go on",
    ]
    (checkout / "pip.sh").write_text(INSTALLS)
    assert make(checkout, "test").returncode == 0


def test_missing_system_libraries_fail_with_the_command_to_run(checkout: Path) -> None:
    (checkout / "scripts" / "install_system_libraries.sh").write_text(
        "echo 'ImportError: libGL.so.1' >&2\necho 'error: run: sudo apt-get install libgl1' >&2\nexit 1\n"
    )
    failed = make(checkout, "install")
    assert failed.returncode != 0
    assert failed.stderr.splitlines()[0] == "error: run: sudo apt-get install libgl1"
    assert not (checkout / ".venv" / "installed").exists()


def test_half_installed_package_is_installed_again(checkout: Path) -> None:
    half = checkout / ".venv" / "lib" / "python3.11" / "site-packages" / "scipy-1.0.dist-info"
    half.mkdir(parents=True)
    (half / "METADATA").touch()  # an interrupted pip left no RECORD
    assert make(checkout, "install").returncode == 0
    assert not half.exists()


def test_unfit_python_gives_one_line(checkout: Path) -> None:
    old = checkout / "old"
    pretend = "import sys; sys.version_info = (3, 9, 2); exec(sys.argv[1])"
    old.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{pretend}' \"$2\"\n")
    old.chmod(0o755)
    failed = make(checkout, "install", str(old))
    assert failed.returncode != 0
    assert failed.stdout == ""
    assert failed.stderr.splitlines()[0] == (
        "error: Python 3.9: needs Python 3.11 to 3.13, for example: make PYTHON=python3.12"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_ends_pip_and_what_it_started(checkout: Path, number: signal.Signals) -> None:
    (checkout / "pip.sh").write_text(SLEEPS)
    beats = checkout / "beats"
    run = "runpy.run_path('scripts/set_up.py', run_name='__main__')"
    code = f"import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); {run}"
    command = [sys.executable, "-c", code]  # tests that run in the background may ignore SIGINT
    process = subprocess.Popen(command, cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not beats.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert stderr.strip() == "interrupted; run make again to go on"
    num_beats = beats.stat().st_size
    time.sleep(0.3)
    assert beats.stat().st_size == num_beats


def test_long_command_reports_lines(
    set_up: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(set_up, "LINE_SECONDS", 0.1)
    (tmp_path / ".venv").mkdir()
    lines = set_up.run(["sh", "-c", "echo one; sleep 0.5; echo two"], lambda lines: f"{len(lines)} lines")
    assert lines == ["one", "two"]
    assert capsys.readouterr().out.splitlines()[0] == "   0 s 1 lines"


@pytest.mark.parametrize(
    ("lines", "progress"),
    [
        ([], "0 packages found"),
        (
            [
                "Collecting a>=1 (from project==0.1)",
                "  Downloading a-1.whl.metadata (6.1 kB)",
                "Processing /wheels/b_b-1-py3-none-any.whl (from project==0.1)",
                "Requirement already satisfied: c in ./.venv/lib (from project==0.1) (1.0)",
                "Requirement already satisfied: c in ./.venv/lib (from a>=1) (1.0)",
            ],
            "3 packages found",
        ),
        (
            ["Collecting a", "  Downloading a-1.whl (1.2 GB)", "Collecting b", "  Downloading b-1.whl (300.0 MB)"],
            "2 packages found, 1.5 GB of downloads",
        ),
        (
            ["Collecting a", "WARNING: Retrying (Retry(total=4)) after connection broken"],
            "1 packages found, the network does not answer",
        ),
        (["Collecting a", "Installing collected packages: a, b, c"], "2 of 3 packages installed, 41 MB so far"),
    ],
)
def test_progress_of_pip(set_up: ModuleType, lines: list[str], progress: str) -> None:
    assert set_up.packages_progress(lines, 2, 41e6) == progress


def test_failed_build_is_shown_whole_up_to_a_limit(set_up: ModuleType) -> None:
    before = ["Collecting a", "WARNING: Retrying (Retry(total=0))", "DEPRECATION: legacy", "  Building wheel"]
    build = ["  error: subprocess-exited-with-error", "  × python setup.py did not run", "  ╰─> ModuleNotFoundError"]
    assert set_up.error_lines([*before, *build], 1) == [before[1], *build]
    shown = set_up.error_lines([build[0], *(f"line {number}" for number in range(99))], 1)
    assert shown[:2] == [build[0], "line 0"]
    assert shown[-1] == "line 98"
    assert len(shown) == set_up.MAX_ERROR_LINES + 1


def test_failure_without_an_error_line_shows_the_end(set_up: ModuleType) -> None:
    assert set_up.error_lines([f"line {number}" for number in range(30)], 1) == [f"line {n}" for n in range(10, 30)]
    assert set_up.error_lines([], -9) == ["exit status -9, and no message"]
