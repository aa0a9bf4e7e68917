"""A workspace that verifies without an error, and copies to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.once import made_once
from tests.tooling.stages.verify.verified import make_verified
from tooling.workspace.layout import Workspace, open_workspace


@pytest.fixture(scope="session")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Only to be copied."""
    return open_workspace(made_once(tmp_path_factory, "verified", make_verified))


@pytest.fixture
def verified_copy(verified: Workspace, tmp_path: Path) -> Workspace:
    """A copy, verified already, for one test to spoil."""
    shutil.copytree(verified.root, tmp_path / "workspace")
    return open_workspace(tmp_path / "workspace")
