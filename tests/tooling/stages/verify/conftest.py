"""Workspaces that verify without an error, and copies to spoil: only what is spoiled is decoded again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.once import made_once
from tests.tooling.stages.verify.verified import make_verified
from tests.workspaces import make_workspace
from tooling.stages.verify import run
from tooling.stages.verify.run import verify_files
from tooling.workspace.layout import Workspace, open_workspace


@pytest.fixture(scope="session", autouse=True)
def without_dlib() -> Iterator[None]:
    """Its network takes time; what it says of actors has a test of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "installed_weights", lambda: None)
        yield


@pytest.fixture(scope="session")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Only to be copied."""
    return open_workspace(made_once(tmp_path_factory, "verified", make_verified))


@pytest.fixture
def verified_copy(verified: Workspace, tmp_path: Path) -> Workspace:
    """A copy, verified already, for one test to spoil."""
    shutil.copytree(verified.root, tmp_path / "workspace")
    return open_workspace(tmp_path / "workspace")


@pytest.fixture(scope="session")
def verified_pair(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two men with everything, as `small_workspace` has it, verified by two processes. Only to be copied."""

    def make(root: Path) -> None:
        findings = verify_files(make_workspace(root, num_men=2, num_women=0, num_images=2), num_workers=2)
        assert [str(found) for found in findings if found.severity != "note"] == []

    return open_workspace(made_once(tmp_path_factory, "verified_pair", make))


@pytest.fixture
def pair_copy(verified_pair: Workspace, tmp_path: Path) -> Workspace:
    """A copy of `verified_pair`, verified already, for one test to spoil."""
    shutil.copytree(verified_pair.root, tmp_path / "workspace")
    return open_workspace(tmp_path / "workspace")
