"""What the generate stage begins with: two filmed people, planned."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.once import made_once
from tests.tooling.stages.generate.filmed import film_people
from tooling.workspace.layout import Workspace, open_workspace


@pytest.fixture(scope="session")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two men with clips and tracks, planned as 1_2 and 2_1, nothing generated. Only to be copied."""
    return open_workspace(made_once(tmp_path_factory, "filmed", film_people))


@pytest.fixture
def workspace(filmed: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(filmed.root, tmp_path / "workspace")
    return open_workspace(tmp_path / "workspace")
