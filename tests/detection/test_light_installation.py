"""What `pip install homologous-deepfake` brings is enough for a researcher; the rest says what to install."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tooling.cli.exits import DISTRIBUTIONS

ROOT = Path(__file__).resolve().parent.parent.parent
NOT_THERE = """
import importlib.machinery, sys
class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {modules!r} else super().find_spec(name, path, target)
sys.meta_path[:] = [Finder if each is importlib.machinery.PathFinder else each for each in sys.meta_path]
"""
DETECTOR = "def score(frames):\n    return frames.mean(axis=(1, 2, 3)) / 255\n"
SUBSETS = ["--subsets", "raw_video,swap_video"]
SCORE = ["--detector", "python:detector.py:score", "--frames", "2", *SUBSETS]
# Every command in one process: what they share is imported once.
COMMANDS = """
from tooling.cli.app import app
for command in {commands!r}:
    app(command, standalone_mode=False)
"""


def run_without(modules: set[str], code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a Python that does not find these modules."""
    code = NOT_THERE.format(modules=modules) + code
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def maintainers_modules() -> set[str]:
    """Modules of the distributions of the extra `tooling`."""
    required = [Requirement(line) for line in importlib.metadata.requires("homologous-deepfake") or ()]
    names = {each.name for each in required if each.marker and each.marker.evaluate({"extra": "tooling"})}
    modules = {distribution: module for module, distribution in DISTRIBUTIONS.items()}
    return {modules.get(name, name.replace("-", "_")) for name in names}


def test_maintainers_packages_have_the_modules_that_the_message_is_given_for() -> None:
    """Else a module that is not there would end in a traceback."""
    assert len(maintainers_modules()) > 10
    for module in maintainers_modules():
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize(("command", "module"), [("keys init", "cryptography"), ("actors new", "numba")])
def test_command_that_lacks_its_packages_names_the_one_command_to_install_them(
    command: str, module: str, tmp_path: Path
) -> None:
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "workspace.toml").write_text("")
    code = f"import sys\nfrom tooling.cli.app import main\nsys.argv[1:] = {command.split()}\nmain()"
    done = run_without(maintainers_modules(), code, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: {module}: is not installed; run `pip install 'homologous-deepfake[tooling]'`"
    )
    assert "Traceback" not in done.stderr


def test_other_missing_modules_are_defects(tmp_path: Path) -> None:
    done = run_without({"rich"}, "from tooling.cli.app import main\nmain()", tmp_path)
    assert "Traceback" in done.stderr


@pytest.mark.thorough
def test_researchers_commands_need_nothing_of_the_maintainers(release: Path, tmp_path: Path) -> None:
    (tmp_path / "detector.py").write_text(DETECTOR)
    commands = [
        ["score", str(release), *SCORE],
        ["evaluate", "predictions.parquet", "--release", str(release), *SUBSETS, "--out", "scores"],
        ["export", "deepfakebench", str(release), "exported", "--frames", "1"],
    ]
    uses = "import datasets, detection.frames, detection.pairs, detection.degradations\n"
    uses += f"next(iter(detection.pairs.load_pairs({str(release)!r}, 'swap_video', 'train', streaming=True)))\n"
    done = run_without(maintainers_modules(), uses + COMMANDS.format(commands=commands), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scores" / "evaluation.json").is_file()
    assert list((tmp_path / "exported").glob("**/*.png"))


@pytest.mark.slow
def test_base_installation_loads_and_evaluates(release: Path, tmp_path: Path) -> None:
    """A new environment with nothing but the base dependencies."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "environment"], check=True)
    scripts = tmp_path / "environment" / "bin"
    install = [str(scripts / "python"), "-m", "pip", "install", "--quiet", str(ROOT)]
    made = subprocess.run(install, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"the base dependencies could not be installed: {made.stderr.strip().splitlines()[-1]}")
    (tmp_path / "detector.py").write_text(DETECTOR)
    for command in (["score", release, *SCORE], ["evaluate", "predictions.parquet", "--release", release, *SUBSETS]):
        run = [str(scripts / "tooling"), *map(str, command)]
        done = subprocess.run(
            run, cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": ""}
        )
        assert done.returncode == 0, done.stderr
