"""A small verified, built release, and a Hub that the client's environment points at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from huggingface_hub import constants
from starlette.types import ASGIApp

from tests.hub.served import add_people
from tests.once import made_once
from tests.tooling.children import TILE_PX
from tests.tooling.pushing import Built, Traffic, Watched, Wire, build, opened_build, use_hub
from tooling.hub.root import Hub
from tooling.hub.server import serve
from tooling.stages.push import read_back
from tooling.views import contact_sheet


@pytest.fixture(scope="session", autouse=True)
def small_tiles() -> Iterator[None]:
    """Contact sheets of the usual size take longer than all else that a card needs."""
    with mock.patch.object(contact_sheet, "TILE_PX", TILE_PX):
        yield


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return opened_build(made_once(tmp_path_factory, "pristine", build))


@pytest.fixture
def built(pristine: Built, tmp_path: Path) -> Built:
    """A copy that the test may change."""
    return opened_build(Path(shutil.copytree(pristine.out.parent, tmp_path / "built")))


@pytest.fixture
def wire(hub: Watched, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Stands between the client and the Hub of the fixture `hub`."""
    opened = Wire(hub.endpoint)
    use_hub(monkeypatch, opened.endpoint)
    yield opened
    opened.close()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """An empty Hub as the client's endpoint, with the owner's token; the first row is not streamed (it takes 4 s)."""
    monkeypatch.setattr(read_back, "check_first_row", lambda *arguments: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # the other tests forbid the network
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    opened, traffic = Hub(tmp_path / "hub"), []

    def wrap(app: ASGIApp) -> ASGIApp:
        traffic.append(Traffic(app))
        return traffic[0]

    try:
        add_people(opened)
        with serve(opened, wrap=wrap) as endpoint:
            use_hub(monkeypatch, endpoint)
            yield Watched(opened, endpoint, traffic[0])
    finally:
        opened.close()
