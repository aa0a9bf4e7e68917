"""A served Hub with four users, for the tests of tooling.hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from tooling.hub.rights import add_organisation, add_token, add_user
from tooling.hub.root import Hub
from tooling.hub.server import serve

OWNER, READER, OTHER, ADMIN = "hf_owner_write", "hf_owner_read", "hf_other_write", "hf_admin_write"
REPO = "lab/faces"
DATASET: dict[str, Any] = {"repo_id": REPO, "repo_type": "dataset"}


@dataclass(frozen=True)
class Served:
    hub: Hub
    endpoint: str

    def api(self, token: str | bool = OWNER) -> HfApi:
        return HfApi(endpoint=self.endpoint, token=token)


def add_people(hub: Hub) -> None:
    """`owner` and `admin` belong to the organisation lab, `other` does not."""
    for user in ("owner", "other", "admin"):
        add_user(hub.database, user, user.title(), f"{user}@example.org")
    add_organisation(hub.database, "lab", ["owner", "admin"])
    for user, role, token in (
        ("owner", "write", OWNER),
        ("owner", "read", READER),
        ("other", "write", OTHER),
        ("admin", "write", ADMIN),
    ):
        add_token(hub.database, user, role, token=token)


def patch_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Points the client, which reads HF_ENDPOINT when it is imported, to another Hub for one test."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + template)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)


@contextmanager
def served_hub(root: Path) -> Iterator[Served]:
    hub = Hub(root)
    try:
        add_people(hub)
        with serve(hub) as endpoint:
            yield Served(hub, endpoint)
    finally:
        hub.close()


def check_store(hub: Hub) -> None:
    """Every ref resolves, every object that one reaches is there, every large file has its size and digest."""
    for repo in hub.visible(None):
        repository = hub.repository(repo)
        assert "refs/heads/main" in repository.heads()
        for head in repository.heads().values():
            for entry in repository.files(head):
                if entry.large_oid is None:
                    assert len(repository.read(entry)) == entry.size
                    continue
                content = repository.large_files.path(entry.large_oid).read_bytes()
                assert len(content) == entry.size
                assert hashlib.sha256(content).hexdigest() == entry.large_oid
        repository.reachable_objects()
