"""The embedded Hub holds datasets only: what clients of other kinds read, and roots of earlier versions."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError

from tests.hub.served import DATASET, OTHER, REPO, Served, served_hub

EARLIER = """
CREATE TABLE likes (repo TEXT NOT NULL REFERENCES repos (key) ON DELETE CASCADE, user TEXT NOT NULL);
CREATE TABLE collections (id TEXT PRIMARY KEY, title TEXT NOT NULL);
INSERT INTO repos (key, type, namespace, name, is_private, sdk, created_at)
    VALUES ('net', 'model', 'lab', 'faces', 0, NULL, 1.0), ('page', 'space', 'lab', 'faces', 0, 'static', 1.0);
INSERT INTO likes VALUES ('net', 'owner');
INSERT INTO collections VALUES ('c', 'Faces');
INSERT INTO former_names VALUES ('model', 'lab', 'former', 'net');
"""


@pytest.mark.parametrize("repo_type", ["model", "space"])
def test_other_kinds_are_not_found(served: Served, repo_type: str) -> None:
    api = served.api()
    assert not api.repo_exists(REPO, repo_type=repo_type)
    for attempt in (
        lambda: api.repo_info(REPO, repo_type=repo_type),
        lambda: api.list_repo_files(REPO, repo_type=repo_type),
        lambda: api.hf_hub_download(REPO, ".gitattributes", repo_type=repo_type),
        lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=REPO, repo_type=repo_type),
        lambda: api.delete_repo(REPO, repo_type=repo_type),
        lambda: api.move_repo(REPO, "lab/other", repo_type=repo_type),
    ):
        with pytest.raises(RepositoryNotFoundError, match="holds datasets only"):
            attempt()
    with pytest.raises(BadRequestError, match='create it with repo_type="dataset"'):
        api.create_repo("lab/other", repo_type=repo_type, space_sdk="static" if repo_type == "space" else None)
    assert api.list_repo_files(**DATASET) == [".gitattributes"]


def test_listings_and_cards_of_other_kinds_say_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for listing in (served.api().list_models, served.api().list_spaces):
        with pytest.raises(HfHubHTTPError, match="holds datasets only"):
            list(listing())
    monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
    with pytest.raises(ValueError, match="cards of datasets only"):
        ModelCard("---\nlicense: mit\n---\n").validate()


def test_root_of_an_earlier_version_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    root = tmp_path / "hub"
    with served_hub(root) as running:
        running.api().create_repo(REPO, repo_type="dataset")
        running.api().upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", **DATASET)
    with sqlite3.connect(root / "hub.sqlite3") as database:
        database.executescript(EARLIER)
        values = ("owner", "open", 1.0)
        database.execute("INSERT INTO discussions SELECT key, 1, 'A question', ?, ?, ?, NULL, NULL FROM repos", values)
    for name in ("net", "page"):
        (root / "repos" / name / "lfs").mkdir(parents=True)
        (root / "repos" / name / "lfs" / "weights").write_bytes(b"weights")
    with served_hub(root) as running:
        api = running.api()
        assert [one.id for one in api.list_datasets()] == [REPO]
        assert sorted(api.list_repo_files(**DATASET)) == [".gitattributes", "a.txt"]
        assert not api.repo_exists(REPO)
        assert not api.repo_exists("lab/former", repo_type="dataset")
        assert list(api.get_repo_discussions(**DATASET)) == []
        with pytest.raises(HfHubHTTPError, match="Pull request 1 does not exist"):
            api.get_discussion_details(discussion_num=1, **DATASET)
        proposed = running.api(OTHER).upload_file(path_or_fileobj=b"y", path_in_repo="b.txt", create_pr=True, **DATASET)
        assert proposed.pr_num == 2  # the number of the hidden discussion stays taken
        api.delete_repo(**DATASET)
    with sqlite3.connect(root / "hub.sqlite3") as database:
        assert database.execute("SELECT key FROM repos ORDER BY key").fetchall() == [("net",), ("page",)]
        assert database.execute("SELECT title FROM collections").fetchall() == [("Faces",)]
        assert database.execute("SELECT repo FROM likes").fetchall() == [("net",)]
    assert [path.read_bytes() for path in root.glob("repos/*/lfs/weights")] == [b"weights"] * 2
