"""The scene, made once, and a Hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.flow.soak.scene import make_scene
from tests.hub.served import Served, served_hub
from tests.once import made_once
from tests.tooling.stages.generate.filmed import film_people


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make_scene` makes. Only to be copied."""
    filmed = made_once(tmp_path_factory, "filmed", film_people)
    return made_once(tmp_path_factory, "soak_scene", lambda root: make_scene(root, filmed))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running Hub for all tests of a module."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patched.setattr(constants, "HF_HUB_OFFLINE", False)
        with served_hub(tmp_path_factory.mktemp("hub")) as running:
            yield running
