"""Makes .venv ready and says how far it is. `make` runs it before anything is installed: standard library only.

Everything that pip and the system's package manager print goes into .venv/install.log. The reader gets the steps, a
line every 30 seconds (on a terminal, one line that changes every second) and, if a step fails, its error lines.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

PYTHON = ".venv/bin/python"
LOG = Path(".venv/install.log")
PIP = [PYTHON, "-m", "pip", "install", "--no-input", "--no-color", "--progress-bar=off"]
LIBRARIES = "system libraries: "  # begins the lines of install_system_libraries.sh that are for the reader
LINE_SECONDS, CHANGE_SECONDS = 30.0, 1.0  # between reports: without a terminal, and on one
END_SECONDS = 10.0  # for an interrupted pip to remove its temporary files
MAX_ERROR_LINES = 40
UNITS = {"bytes": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}

ERROR = re.compile(r"\s*(ERROR|error|E): ")
FOUND = re.compile(r"(?:Collecting |Processing .*/|Requirement already satisfied: )([\w.-]+)")
DOWNLOAD = re.compile(r"\s*Downloading .*\((\d+(?:\.\d+)?) (bytes|kB|MB|GB)\)")
HARMLESS = re.compile(
    r"\s*(WARNING: (Location .* is ignored|Running pip as the 'root' user)|DEPRECATION: |\[notice\]|debconf: |$)"
)


class StepError(Exception):
    """A command failed; the text is what the reader needs of its output."""


def main() -> int:
    """Returns the exit status: 0, 1 after a failure, 130 after an interruption."""
    os.chdir(Path(__file__).resolve().parent.parent)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # pip draws with characters that some terminals lack
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks for
            signal.signal(number, _interrupt)
    started = time.monotonic()
    try:
        make_environment()
        install_packages()
        find_system_libraries()
    except StepError as error:
        sys.stderr.write(f"{error}\nerror: {LOG}: the set-up failed as shown above; run make again to go on\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run make again to go on\n")
        return 130
    say(f"ready after {time.monotonic() - started:.0f} s")
    return 0


def make_environment() -> None:
    """Creates .venv with a current pip; keeps one that has Python and pip."""
    LOG.parent.mkdir(exist_ok=True)
    LOG.unlink(missing_ok=True)
    wanted, there = platform.python_version(), environment_version()
    if not there:
        say(f"[1/3] Python {wanted}: creating .venv")
        run([sys.executable, "-m", "venv", ".venv"])
    elif there.split(".")[:2] == wanted.split(".")[:2]:
        say(f"[1/3] Python {there}: .venv exists")
    else:
        say(f"[1/3] Python {there}: .venv exists; to use Python {wanted}, run make clean first")
    run([*PIP, "--upgrade", "pip"])


def environment_version() -> str:
    """The version of the Python in .venv; "" unless it runs and has pip."""
    ask = [PYTHON, "-c", "import pip, platform; print(platform.python_version())"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def install_packages() -> None:
    """Installs the project in place, with what development, tests and the recognition of faces need."""
    say(f"[2/3] packages: a few minutes and about 7 GB the first time; all of pip's output: {LOG}")
    for folder in Path(".venv").glob("lib/python*/site-packages/*.dist-info"):
        if not (folder / "RECORD").exists():  # pip was interrupted here, and would take the package for installed
            shutil.rmtree(folder)
    started, sizes = time.time(), dict[Path, float]()

    def describe(lines: list[str]) -> str:
        measure_packages(sizes)
        num_installed = sum(path.stat().st_mtime >= started for path in sizes)
        return packages_progress(lines, num_installed, sum(sizes.values()))

    # Without a finder of setuptools' own, a release folder named like the module hides nothing.
    run([*PIP, "--config-settings", "editable_mode=compat", "--editable", ".[dev,identity]"], describe)
    measure_packages(sizes)
    say(f"      {len(sizes)} packages, {amount(sum(sizes.values()))}")


def measure_packages(sizes: dict[Path, float]) -> None:
    """Brings `sizes` up to date: the RECORD of each installed package -> bytes of the package's files."""
    records = set(Path(".venv").glob("lib/python*/site-packages/*.dist-info/RECORD"))
    for path in sizes.keys() - records:
        del sizes[path]
    for path in records - sizes.keys():
        with path.open(newline="", encoding="utf-8") as rows:
            sizes[path] = sum(float(row[2]) for row in csv.reader(rows) if len(row) == 3 and row[2])


def packages_progress(lines: Iterable[str], num_installed: int, num_bytes: float) -> str:
    """How far pip is: from its output, the packages it has installed, and the size of all that are there."""
    found, num_bytes_loaded, is_waiting = set[str](), 0.0, False
    for line in lines:
        if line.startswith("Installing collected packages: "):
            return f"{num_installed} of {line.count(',') + 1} packages installed, {amount(num_bytes)} so far"
        if package := FOUND.match(line):
            found.add(package[1])
        is_waiting = line.startswith("WARNING: Retrying ")
        if loaded := DOWNLOAD.match(line):
            num_bytes_loaded += float(loaded[1]) * UNITS[loaded[2]]
    downloads = f", {amount(num_bytes_loaded)} of downloads" if num_bytes_loaded >= UNITS["MB"] else ""
    return f"{len(found)} packages found{downloads}{', the network does not answer' * is_waiting}"


def amount(num_bytes: float) -> str:
    return f"{num_bytes / UNITS['GB']:.1f} GB" if num_bytes >= UNITS["GB"] else f"{num_bytes / UNITS['MB']:.0f} MB"


def find_system_libraries() -> None:
    """Checks that OpenCV and torchcodec find the system's libraries; installs what is missing."""
    say("[3/3] system libraries")
    say(f"      {libraries_progress(run(['sh', 'scripts/install_system_libraries.sh', PYTHON], libraries_progress))}")


def libraries_progress(lines: list[str]) -> str:
    """What install_system_libraries.sh said last."""
    said = [line.removeprefix(LIBRARIES) for line in lines if line.startswith(LIBRARIES)]
    return said[-1] if said else "looking for them"


def run(command: list[str], describe: Callable[[list[str]], str] | None = None) -> list[str]:
    """Runs a command into the log and reports what `describe` makes of its lines; returns the lines.

    An interruption ends the command and everything that it started.

    Raises:
        StepError: the command failed.
    """
    with LOG.open("ab") as log:
        log.write(f"$ {shlex.join(command)}\n".encode())
        log.flush()
        begin, started = log.tell(), time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while process.poll() is None:
            try:
                process.wait(timeout=CHANGE_SECONDS if is_terminal() else LINE_SECONDS)
            except subprocess.TimeoutExpired:
                text = describe(read_lines(begin)) if describe else ""
                say_passing(f"{time.monotonic() - started:4.0f} s {text}".rstrip())
    except KeyboardInterrupt:
        end(process)
        raise
    finally:
        say_passing("")
    if process.returncode:
        raise StepError("\n".join(error_lines(read_lines(begin), process.returncode)))
    return read_lines(begin)


def end(process: subprocess.Popen[bytes]) -> None:
    """Interrupts a command and what it started; kills what does not end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gone = (ProcessLookupError, PermissionError)
    with contextlib.suppress(*gone, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=END_SECONDS)
    with contextlib.suppress(*gone):
        os.killpg(process.pid, signal.SIGKILL)


def read_lines(begin: int) -> list[str]:
    """The lines of the log from a byte on."""
    with LOG.open("rb") as log:
        log.seek(begin)
        return log.read().decode(errors="replace").splitlines()


def error_lines(lines: list[str], exit_status: int) -> list[str]:
    """What a reader needs of a failed command's output: the last warning, and all from the first error on.

    Without an error line: the last 20 lines. Of more than MAX_ERROR_LINES, the first and the last.
    """
    lines = [line for line in lines if not HARMLESS.match(line)]
    first = next((index for index, line in enumerate(lines) if ERROR.match(line)), max(0, len(lines) - 20))
    shown = [line for line in lines[:first] if line.startswith("WARNING: ")][-1:] + lines[first:]
    if len(shown) > MAX_ERROR_LINES:
        half = MAX_ERROR_LINES // 2
        shown[half:-half] = [f"... ({len(shown) - 2 * half} lines more in {LOG})"]
    return shown or [f"exit status {exit_status}, and no message"]


def say(text: str) -> None:
    """One line for the reader."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def say_passing(text: str) -> None:
    """How far a step is: on a terminal, a line that gives way to the next ("": to nothing); else one more line."""
    if is_terminal():
        sys.stdout.write(f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}")
        sys.stdout.flush()
    elif text:
        say(text)


def is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
