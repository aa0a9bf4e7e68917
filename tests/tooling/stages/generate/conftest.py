"""What the generate stage begins with: two filmed people, planned."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.once import made_once
from tests.tooling.stages.generate.filmed import film_people
from tooling.stages.generate.request import GenerateRequest
from tooling.stages.generate.run import generate_fakes
from tooling.workspace.layout import Workspace, open_workspace


@pytest.fixture(scope="session")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two men with clips and tracks, planned as 1_2 and 2_1, nothing generated. Only to be copied."""
    return open_workspace(made_once(tmp_path_factory, "filmed", film_people))


@pytest.fixture(scope="session")
def fitted(filmed: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same, with a generator of images fitted to the two, and no image. Only to be copied."""

    def fit(root: Path) -> None:
        shutil.copytree(filmed.root, root)
        workspace = open_workspace(root)
        generate_fakes(workspace, "GAN_images", GenerateRequest(limit=1), num_workers=1)
        shutil.rmtree(workspace.path("GAN_images"))

    return open_workspace(made_once(tmp_path_factory, "fitted", fit))


@pytest.fixture
def fitted_copy(fitted: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(fitted.root, tmp_path / "workspace")
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def workspace(filmed: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(filmed.root, tmp_path / "workspace")
    return open_workspace(tmp_path / "workspace")
