"""A small release, as a folder and at a Hub whose answers are counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import constants

from tests.detection.counting import CountedHub, Sent
from tests.hub.served import OWNER, add_people, patch_endpoint
from tests.once import made_once
from tests.workspaces import write_card
from tooling.hub.root import Hub
from tooling.hub.server import serve
from tooling.settings import ShardSettings
from tooling.stages import build as shards
from tooling.workspace.layout import Workspace


@pytest.fixture(scope="session")
def release(small_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a release of `small_workspace`: a few rows in a row group, and 2 shards for training."""

    def make(root: Path) -> None:
        settings = ShardSettings(row_group_bytes=100_000, min_train_shards=2)
        workspace = Workspace(small_workspace.root, dataclasses.replace(small_workspace.settings, shards=settings))
        folder = root / "homologous_deepfake"
        write_card(folder, shards.build_release(workspace, folder))

    return made_once(tmp_path_factory, "detection_release", make) / "homologous_deepfake"


@pytest.fixture
def counted_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, datasets_cache: Path) -> Iterator[CountedHub]:
    """An empty Hub as the endpoint of huggingface_hub and datasets, with the owner's token."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # the other tests forbid the network
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", OWNER)
    opened, sent = Hub(tmp_path / "hub"), Sent()

    def wrap(app: Any) -> Any:
        sent.app = app
        return sent

    try:
        add_people(opened)
        with serve(opened, wrap=wrap) as endpoint:
            patch_endpoint(monkeypatch, endpoint)
            url = datasets.config.HUB_DATASETS_URL.removeprefix(datasets.config.HF_ENDPOINT)
            monkeypatch.setattr(datasets.config, "HUB_DATASETS_URL", endpoint + url)
            monkeypatch.setattr(datasets.config, "HF_ENDPOINT", endpoint)
            yield CountedHub(endpoint, sent)
    finally:
        opened.close()
