"""Faults that the embedded Hub survives: killed clients, a killed server, a full disk, cut connections."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_session
from huggingface_hub.errors import HfHubHTTPError
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.hub.served import DATASET, OWNER, REPO, Served, add_people, check_store, served_hub
from tooling.hub.root import Hub
from tooling.hub.server import serve
from tooling.hub.store import large_files
from tooling.hub.store.large_files import CHUNK_BYTES
from tooling.hub.store.repository import MARK

SERVER = """
import sys
from pathlib import Path
from tooling.hub.server import run
run(Path(sys.argv[1]), 0, ready=lambda address: print(address, flush=True))
"""
PUSH = """
import sys
from huggingface_hub import HfApi
api = HfApi(endpoint=sys.argv[1], token=sys.argv[2])
api.upload_folder(repo_id=sys.argv[3], repo_type="dataset", folder_path=sys.argv[4])
"""


def test_killed_client_resumes_without_resending(served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    for name in ("a.bin", "b.bin"):
        (folder / name).write_bytes(os.urandom(CHUNK_BYTES * 2 + 1))
    environment = {**os.environ, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", PUSH, served.endpoint, OWNER, REPO, str(folder)]
    large = served.hub.repository(served.hub.visible(None)[0]).large_files
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(large.folder.glob("??/??/*")) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    first.kill()
    first.wait()
    present = {path.name: path.stat().st_ino for path in large.folder.glob("??/??/*")}
    assert present
    assert served.api().list_repo_files(**DATASET) == [".gitattributes"]  # nothing of it is visible
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    after = {path.name: path.stat().st_ino for path in large.folder.glob("??/??/*")}
    assert len(after) == 2
    assert present.items() <= after.items()  # what was complete was not written again
    check_store(served.hub)


def start_server(root: Path) -> tuple[subprocess.Popen[str], HfApi]:
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address
    return process, HfApi(endpoint=address, token=OWNER)


def test_killed_server_keeps_every_answered_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # no backoff
    root, seed = tmp_path / "hub", random.Random(7)
    hub = Hub(root)
    add_people(hub)
    hub.close()
    answered: list[str] = []
    for attempt in range(3):
        process, api = start_server(root)
        if attempt == 0:
            api.create_repo(REPO, repo_type="dataset")
        stop = time.monotonic() + seed.uniform(0.2, 1.2)
        killer = subprocess.Popen(
            ["/bin/sh", "-c", f"sleep {max(0.0, stop - time.monotonic()):.3f}; kill -9 {process.pid}"]
        )
        number = 0
        try:
            while True:
                number += 1
                operations = [
                    CommitOperationAdd(f"d/{number % 3}.txt", f"{attempt} {number}".encode()),
                    CommitOperationAdd(f"d/{number % 3}.bin", f"large {attempt} {number}".encode()),
                ]
                answered.append(api.create_commit(operations=operations, commit_message=f"{number}", **DATASET).oid)
                if number % 4 == 0:
                    api.super_squash_history(**DATASET)
                    answered = [api.dataset_info(REPO).sha or ""]
        except Exception:
            pass
        killer.wait()
        process.wait()
        hub = Hub(root)
        check_store(hub)
        repository = hub.repository(hub.visible(None)[0])
        history = repository.reachable_commits(repository.heads().values())
        # The kill may fall between a squash and its answer: then the newest answered commit is squashed away.
        head = repository.commit(repository.resolve("main"))
        if answered and not head.message.startswith(b"Super-squash"):  # a busy machine may answer none before the kill
            assert answered[-1].encode() in history
        assert not (repository.folder / MARK).exists()
        assert set(repository.objects) >= repository.reachable_objects()[0]
        if git := shutil.which("git"):
            subprocess.run([git, "--git-dir", str(repository.folder), "fsck", "--full", "--strict"], check=True)
        hub.close()


def test_interrupted_squash_is_finished_by_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tooling.hub.store.repository import Repository

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with served_hub(tmp_path / "hub") as running:
        api = running.api()
        api.create_repo(REPO, repo_type="dataset")
        old = api.upload_file(path_or_fileobj=b"secret", path_in_repo="a.bin", **DATASET).oid
        api.delete_file("a.bin", **DATASET)
        with monkeypatch.context() as broken:
            broken.setattr(Repository, "collect_garbage", _die)
            with pytest.raises(HfHubHTTPError):
                api.super_squash_history(**DATASET)
        (large,) = running.hub.root.glob("repos/*/lfs/*/*/*")
        status = get_session().get(
            f"{running.endpoint}/datasets/{REPO}/resolve/{old}/a.bin", headers={"authorization": f"Bearer {OWNER}"}
        )
        assert status.status_code == 404  # already out of reach
    with served_hub(tmp_path / "hub"):
        assert not large.exists()


def _die(*arguments: object) -> None:
    raise RuntimeError("killed here")


@pytest.mark.parametrize("name", ["small.txt", "large.bin", "parts.bin"])
def test_full_disk_stores_nothing_and_says_so(served: Served, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    content = b"0" * (CHUNK_BYTES + 1) if name == "parts.bin" else b"some bytes"
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises((HfHubHTTPError, RuntimeError)) as caught:
        served.api().upload_file(path_or_fileobj=content, path_in_repo=name, **DATASET)
    refusal = caught.value.__cause__ if type(caught.value) is RuntimeError else caught.value
    assert isinstance(refusal, HfHubHTTPError)
    assert refusal.response.status_code == 507
    assert "disk is full" in str(refusal)
    monkeypatch.setattr(os, "fsync", real_fsync)
    assert served.api().list_repo_files(**DATASET) == [".gitattributes"]
    assert not list(served.hub.root.glob("repos/*/lfs/*/*/*"))
    assert not list(served.hub.root.glob("uploads/*"))
    assert not list(served.hub.root.glob("repos/**/*.lock"))
    served.api().upload_file(path_or_fileobj=content, path_in_repo=name, **DATASET)
    check_store(served.hub)


def test_connection_cut_inside_a_file_and_inside_a_commit(served: Served) -> None:
    batch = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 1000}]}
    url = f"{served.endpoint}/datasets/{REPO}.git/info/lfs/objects/batch"
    answer = get_session().post(url, headers={"authorization": f"Bearer {OWNER}"}, json=batch).json()
    href = urlsplit(answer["objects"][0]["actions"]["upload"]["href"])
    header = json.dumps({"key": "header", "value": {"summary": "cut"}}).encode()
    for method, target in (("PUT", f"{href.path}?{href.query}"), ("POST", f"/api/datasets/{REPO}/commit/main")):
        with socket.create_connection((href.hostname or "", href.port or 0)) as connection:
            lines = [f"{method} {target} HTTP/1.1", f"Host: {href.netloc}", f"Authorization: Bearer {OWNER}"]
            connection.sendall("\r\n".join([*lines, "Content-Length: 1000", "", ""]).encode() + header + b"\n")
            time.sleep(0.1)
    deadline = time.monotonic() + 60
    while list(served.hub.root.glob("uploads/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not list(served.hub.root.glob("uploads/*"))
    assert len(served.api().list_repo_commits(**DATASET)) == 1


class Unavailable:
    """Answers the first upload and the first batch request with 503, the second with 429, as a busy proxy does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.refused: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = "batch" if scope["path"].endswith("/batch") else scope["method"]
        if name in ("batch", "PUT") and self.refused.count(name) < 2:
            status = 429 if name in self.refused else 503
            self.refused.append(name)
            await PlainTextResponse("later", status, {"Retry-After": "0"})(scope, receive, send)
            return
        await self.app(scope, receive, send)


def test_retries_after_503_and_429(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub = Hub(tmp_path / "hub")
    add_people(hub)
    busy: list[Unavailable] = []

    def wrap(app: ASGIApp) -> ASGIApp:
        busy.append(Unavailable(app))
        return busy[-1]

    with serve(hub, wrap=wrap) as endpoint:
        api = HfApi(endpoint=endpoint, token=OWNER)
        api.create_repo(REPO, repo_type="dataset")
        api.upload_file(path_or_fileobj=b"at last", path_in_repo="a.bin", **DATASET)
        assert sorted(busy[0].refused) == ["PUT", "PUT", "batch", "batch"]
        check_store(hub)
        assert len(api.list_repo_commits(**DATASET)) == 2
    hub.close()


def test_refused_commit_leaves_no_objects(served: Served) -> None:
    repository = served.hub.repository(served.hub.visible(None)[0])
    before = set(repository.objects)
    left_over, impossible = CommitOperationAdd("a.txt", b"left over"), CommitOperationDelete("none.txt")
    with pytest.raises(HfHubHTTPError):
        served.api().create_commit(operations=[left_over, impossible], commit_message="x", **DATASET)
    assert set(repository.objects) <= before


def test_body_of_a_stranger_is_not_kept(served: Served) -> None:
    lines = b'{"key": "header", "value": {"summary": "x"}}\n' + b" " * (6 << 20)
    url = f"{served.endpoint}/api/datasets/{REPO}/commit/main"
    assert get_session().post(url, content=lines).status_code == 401
    assert get_session().put(f"{served.endpoint}/uploads/x/y?size=1", content=lines).status_code == 403


def test_wrong_bytes_of_a_part_are_refused(served: Served) -> None:
    size = CHUNK_BYTES + 10
    batch = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": size}]}
    url = f"{served.endpoint}/datasets/{REPO}.git/info/lfs/objects/batch"
    answer = get_session().post(url, headers={"authorization": f"Bearer {OWNER}"}, json=batch).json()
    upload = answer["objects"][0]["actions"]["upload"]
    assert get_session().put(upload["header"]["00002"], content=b"short").status_code == 400
    assert get_session().put(upload["header"]["00001"], content=b"x" * CHUNK_BYTES).status_code == 200
    assert get_session().put(upload["header"]["00002"], content=b"x" * 10).status_code == 200
    assert get_session().post(upload["href"], json={}).status_code == 400
    assert not list(served.hub.root.glob("uploads/*"))


def test_uploads_without_commit_are_removed_after_a_day(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = CommitOperationAdd("a.bin", b"never committed")
    served.api().preupload_lfs_files(additions=[operation], **DATASET)
    repository = served.hub.repository(served.hub.visible(None)[0])
    assert len(list(repository.large_files.folder.glob("??/??/*"))) == 1
    repository.collect_garbage()
    assert len(list(repository.large_files.folder.glob("??/??/*"))) == 1
    monkeypatch.setattr(large_files, "UPLOAD_SECONDS", -10)
    repository.collect_garbage()
    assert not list(repository.large_files.folder.glob("??/??/*"))
    (served.hub.uploads / "abandoned").write_bytes(b"part")
    served.api().preupload_lfs_files(additions=[CommitOperationAdd("b.txt", b"x" * 9)], **DATASET)
    assert (served.hub.uploads / "abandoned").exists()  # a regular file asks for no address
    with pytest.raises(RuntimeError, match="uploading"):
        served.api().preupload_lfs_files(additions=[CommitOperationAdd("b.bin", b"x" * 9)], **DATASET)
    assert not (served.hub.uploads / "abandoned").exists()
