"""What tests of every folder use.

`small_workspace` is made once for a whole run: read it, do not write to it. `workspace_copy` is a copy for one test to
change. `tests.workspaces` makes others.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when datasets is first imported: no test needs the network
if "PYTEST_XDIST_WORKER" in os.environ:  # threads beyond the processors would wait for each other
    for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

from huggingface_hub import constants

from tests.actor_clips import share_films
from tests.hub.served import REPO, Served, served_hub
from tests.once import made_once, shared_folder
from tests.workspaces import make_workspace
from tooling.workspace.layout import Workspace, open_workspace


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "also compare with the vectors in DIR: a folder for each network (mcnet, ...) and talking-head-50fps.mp4"
    parser.addoption("--vectors", metavar="DIR", help=text)
    text = "kill and break as often as `make soak` does, at the moments and in the ways of this seed"
    parser.addoption("--soak", metavar="SEED", type=int, help=text)


def pytest_configure(config: pytest.Config) -> None:
    given = config.getoption("--vectors")
    if given is not None and not (Path(given).is_dir() and any(Path(given).iterdir())):
        raise pytest.UsageError(f"--vectors {given}: nothing is there; give the folder that holds the vectors")


@pytest.fixture(scope="session")
def vectors(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Path of what is named below `--vectors`; the test is skipped without that, and fails if it is not there."""

    def find(name: str) -> Path:
        given = request.config.getoption("--vectors")
        if given is None:
            pytest.skip("needs --vectors DIR")
        path = Path(given) / name
        if not path.exists():
            pytest.fail(f"--vectors {given}: {name} is not there")
        return path

    return find


@pytest.fixture(scope="session", autouse=True)
def unsynced() -> Iterator[None]:
    """Nothing is forced to the disk: no test ends the machine, and processes that are killed lose no written byte."""

    def leave(descriptor: int) -> None:
        """Does nothing."""

    with mock.patch.object(os, "fsync", leave):
        yield


@pytest.fixture(scope="session", autouse=True)
def _films_are_shared(tmp_path_factory: pytest.TempPathFactory) -> None:
    share_films(shared_folder(tmp_path_factory))


@pytest.fixture(scope="session")
def small_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """6 men (1 to 6) and 6 women (7 to 12) in folds 2, 0 and 1, all subsets, 8 frames of 96x64, 5 images."""
    return open_workspace(made_once(tmp_path_factory, "small_workspace", make_workspace))


@pytest.fixture
def workspace_copy(small_workspace: Workspace, tmp_path: Path) -> Workspace:
    """A copy of `small_workspace` that a test may change."""
    shutil.copytree(small_workspace.root, tmp_path / "workspace")
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps what datasets caches inside the test's own folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets_cache"))
    return tmp_path / "datasets_cache"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A running Hub below tmp_path/hub; the client's Xet is off, its cache is below tmp_path."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # the other tests forbid the network
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with served_hub(tmp_path / "hub") as running:
        running.api().create_repo(REPO, repo_type="dataset")
        yield running
