"""Files on the embedded Hub, through the unmodified huggingface_hub: upload, listing, download, ranges."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfFileSystem, get_session
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError

from tests.hub.served import DATASET, OWNER, REPO, Served
from tooling.hub.store.large_files import CHUNK_BYTES

Operation = CommitOperationAdd | CommitOperationCopy | CommitOperationDelete


def get(served: Served, path: str, **headers: str) -> httpx2.Response:
    headers.setdefault("authorization", f"Bearer {OWNER}")
    return get_session().get(f"{served.endpoint}{path}", headers=headers)


def test_upload_folder_is_one_commit_and_comes_back_equal(served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    (folder / "data").mkdir(parents=True)
    contents = {
        "README.md": b"---\nlicense: mit\n---\n# Faces\n",
        "data/train.parquet": os.urandom(5000),
        "data/\u4eba\u8138 1.json": b'{"a": 1}',
        "large.bin": os.urandom(CHUNK_BYTES + 12345),  # in parts
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    api = served.api()
    before = len(api.list_repo_commits(**DATASET))
    api.upload_folder(folder_path=folder, **DATASET)
    assert len(api.list_repo_commits(**DATASET)) == before + 1
    path = Path(api.snapshot_download(**DATASET))
    assert {name: (path / name).read_bytes() for name in contents} == contents
    siblings = {one.rfilename: one for one in api.dataset_info(REPO, files_metadata=True).siblings or []}
    assert siblings["data/train.parquet"].lfs is not None
    assert siblings["README.md"].lfs is None
    assert siblings["large.bin"].size == len(contents["large.bin"])

    again = api.upload_folder(folder_path=folder, **DATASET)
    assert len(api.list_repo_commits(**DATASET)) == before + 1
    assert again.oid == api.dataset_info(REPO).sha


def test_commit_operations(served: Served) -> None:
    api = served.api()
    add = [CommitOperationAdd(path, path.encode()) for path in ("a.txt", "b/one.txt", "b/two.bin", "c.bin")]
    first = api.create_commit(operations=add, commit_message="add", **DATASET)
    change: list[Operation] = [
        CommitOperationDelete("b/", is_folder=True),
        CommitOperationCopy("c.bin", "d/c.bin"),
        CommitOperationCopy("a.txt", "d/a.txt"),
        CommitOperationDelete("a.txt"),
    ]
    api.create_commit(operations=change, commit_message="change", commit_description="why", **DATASET)
    assert sorted(api.list_repo_files(**DATASET)) == [".gitattributes", "c.bin", "d/a.txt", "d/c.bin"]
    assert sorted(api.list_repo_files(revision=first.oid, **DATASET)) == [
        ".gitattributes",
        *(one.path_in_repo for one in add),
    ]
    newest = api.list_repo_commits(**DATASET)[0]
    assert (newest.title, newest.message, newest.authors) == ("change", "why", ["owner"])
    with pytest.raises(EntryNotFoundError):
        api.create_commit(operations=[CommitOperationDelete("none.txt")], commit_message="x", **DATASET)
    with pytest.raises(HfHubHTTPError, match=r"d is a folder") as caught:
        api.create_commit(operations=[CommitOperationAdd("d", b"x")], commit_message="x", **DATASET)
    assert caught.value.response.status_code == 422


def test_server_side_copy(served: Served) -> None:
    served.api().upload_file(path_or_fileobj=b"content", path_in_repo="a.bin", **DATASET)
    lines = [
        {"key": "header", "value": {"summary": "copy"}},
        {"key": "copyFile", "value": {"path": "b.bin", "srcPath": "a.bin"}},
    ]
    headers = {"authorization": f"Bearer {OWNER}", "content-type": "application/x-ndjson"}
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    url = f"{served.endpoint}/api/datasets/{REPO}/commit/main"
    assert get_session().post(url, headers=headers, content=body).status_code == 200
    assert get(served, f"/datasets/{REPO}/resolve/main/b.bin").content == b"content"


@pytest.mark.parametrize("path", ["..\\x", "/x", "a/../b", "a//b", ".git/config", "a\nb", "C:\\x", "./a"])
def test_paths_that_leave_the_folder_are_refused(served: Served, path: str) -> None:
    body = json.dumps({"files": [{"path": path, "sample": "", "size": 1}]}).encode()
    url = f"{served.endpoint}/api/datasets/{REPO}/preupload/main"
    headers = {"authorization": f"Bearer {OWNER}"}
    assert get_session().post(url, headers=headers, content=body).status_code == 422


@pytest.mark.parametrize("name", ["regular.txt", "large.bin"])
def test_ranges_and_etags(served: Served, name: str) -> None:
    content = b"0123456789abcdef" * 64
    info = served.api().upload_file(path_or_fileobj=content, path_in_repo=name, **DATASET)
    path = f"/datasets/{REPO}/resolve/main/{name}"
    whole = get(served, path)
    assert (whole.status_code, whole.content, whole.headers["x-repo-commit"]) == (200, content, info.oid)
    assert ("x-linked-etag" in whole.headers) == (name == "large.bin")
    assert "x-xet-hash" not in whole.headers
    for limits, expected in (
        ("0-9", content[:10]),
        ("1000-", content[1000:]),
        ("-5", content[-5:]),
        ("10-9999", content[10:]),
    ):
        part = get(served, path, range=f"bytes={limits}")
        assert (part.status_code, part.content) == (206, expected)
        assert part.headers["content-range"].endswith(f"/{len(content)}")
    beyond = get(served, path, range="bytes=1024-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(content)}")
    assert get(served, path, **{"if-none-match": whole.headers["etag"]}).status_code == 304
    head = get_session().head(f"{served.endpoint}{path}", headers={"authorization": f"Bearer {OWNER}"})
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(content)), b"")


def test_tree_pages_and_expansion(served: Served) -> None:
    api = served.api()
    names = [f"f/{number:03d}.txt" for number in range(25)]
    api.create_commit(operations=[CommitOperationAdd(name, b"x") for name in names], commit_message="one", **DATASET)
    api.upload_file(path_or_fileobj=b"y", path_in_repo=names[7], commit_message="two", **DATASET)
    page = get(served, f"/api/datasets/{REPO}/tree/main/f?limit=10")
    found = [one["path"] for one in page.json()]
    while "next" in page.links:
        page = get(served, page.links["next"]["url"].removeprefix(served.endpoint))
        found += [one["path"] for one in page.json()]
    assert found == names
    expanded = {one.path: one for one in api.list_repo_tree(expand=True, recursive=True, **DATASET)}
    titles = {path: one.last_commit.title for path, one in expanded.items() if one.last_commit is not None}
    assert [titles[name] for name in names[6:9]] == ["one", "two", "one"]
    assert titles["f"] == "two"
    infos = api.get_paths_info(paths=["f", names[0], "none"], expand=True, **DATASET)
    assert [one.path for one in infos] == ["f", names[0]]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(path_in_repo="none", **DATASET))
    with pytest.raises(RevisionNotFoundError):
        api.list_repo_files(revision="none", **DATASET)


def test_preupload_decides_by_attributes_size_sample_and_gitignore(served: Served) -> None:
    import base64

    files = [
        ("a.parquet", 10, b"text"),
        ("a.txt", 10, b"text"),
        ("big.txt", (10 << 20) + 1, b"text"),
        ("raw.dat", 10, b"\x00\x01"),
        ("umlaut.txt", 600, ("\u00e4" * 255 + "xx").encode()[:511]),
        ("tmp/x.txt", 10, b"text"),
    ]
    described = [
        {"path": path, "size": size, "sample": base64.b64encode(sample).decode()} for path, size, sample in files
    ]
    url = f"{served.endpoint}/api/datasets/{REPO}/preupload/main"
    headers = {"authorization": f"Bearer {OWNER}"}
    answer = get_session().post(url, headers=headers, json={"files": described, "gitIgnore": "tmp/\n"}).json()["files"]
    assert [one["uploadMode"] for one in answer] == ["lfs", "regular", "lfs", "lfs", "regular", "regular"]
    assert [one["shouldIgnore"] for one in answer] == [False] * 5 + [True]


def test_of_two_racing_commits_one_is_refused(served: Served) -> None:
    parent = served.api().dataset_info(REPO).sha
    outcomes: list[int] = []
    barrier = threading.Barrier(2)

    def push(name: str) -> None:
        operation = CommitOperationAdd(f"{name}.txt", name.encode())
        barrier.wait()
        try:
            served.api().create_commit(operations=[operation], commit_message=name, parent_commit=parent, **DATASET)
            outcomes.append(200)
        except HfHubHTTPError as error:
            outcomes.append(error.response.status_code)

    threads = [threading.Thread(target=push, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [200, 412]
    assert len(served.api().list_repo_files(**DATASET)) == 2


@pytest.mark.parametrize(
    "revision", ["../../HEAD", "refs/../HEAD", "..%2F..%2Fx", "HEAD", "config", "a b", "refs/heads", ""]
)
def test_odd_revisions_are_not_found(served: Served, revision: str) -> None:
    quoted = quote(revision, safe="%")
    assert get(served, f"/datasets/{REPO}/resolve/{quoted}/.gitattributes").status_code == 404


def test_file_system(served: Served) -> None:
    served.api().upload_file(path_or_fileobj=b"0123456789" * 1000, path_in_repo="data/big.bin", **DATASET)
    files = HfFileSystem(endpoint=served.endpoint, token=OWNER, skip_instance_cache=True)
    assert [one.rpartition("/")[2] for one in files.glob(f"datasets/{REPO}/**/*.bin")] == ["big.bin"]
    with files.open(f"datasets/{REPO}/data/big.bin", block_size=1000) as stream:
        stream.seek(5000)
        assert stream.read(10) == b"0123456789"
    with files.open(f"datasets/{REPO}/new.txt", "w") as stream:
        stream.write("hello")
    assert files.read_text(f"datasets/{REPO}/new.txt") == "hello"


@pytest.mark.parametrize("kind", ["read", "write"])
def test_xet_is_declined_with_what_to_set(served: Served, kind: str) -> None:
    """hf_xet shows the status and the address of an answer alone."""
    answer = get(served, f"/api/datasets/{REPO}/xet-{kind}-token/main")
    assert answer.status_code == 404
    assert "HF_HUB_DISABLE_XET=1" in answer.headers["x-error-message"]
    assert "HF_HUB_DISABLE_XET=1" in str(answer.url)
