"""Pushing through trouble: cut connections, a busy or full Hub, tokens, two maintainers, kills at any moment."""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from tests.hub.served import OWNER, READER, check_store
from tests.tooling import children
from tests.tooling.pushing import (
    TARGET,
    Built,
    Cut,
    Watched,
    Wire,
    child_environment,
    local_files,
)
from tests.workspaces import add_file
from tooling.errors import InputError
from tooling.remote import MAX_WAIT_SECONDS, RemoteError
from tooling.stages.push import send
from tooling.stages.push.run import PushResult
from tooling.workspace.layout import Workspace

pytestmark = pytest.mark.thorough

COMMIT = f"/api/datasets/{TARGET}/commit/main"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; how long each would have."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def check_pushed(built: Built, hub: Watched, repo_id: str = TARGET, num_commits: int = 2) -> None:
    """The release is there as a whole, in one commit after those before, tagged."""
    api, named = hub.api(), {"repo_id": repo_id, "repo_type": "dataset"}
    tree = api.list_repo_tree(**named, recursive=True)  # type: ignore[arg-type]
    sizes = {entry.path: entry.size for entry in tree if hasattr(entry, "size")}
    assert {**sizes, ".gitattributes": 0} == {**local_files(built.out), ".gitattributes": 0}
    commits = api.list_repo_commits(**named)  # type: ignore[arg-type]
    assert len(commits) == num_commits
    tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(**named).tags}  # type: ignore[arg-type]
    assert tags["1.0.0"] == commits[0].commit_id
    assert api.file_exists(repo_id, "homologous_deepfake.py", repo_type="dataset", revision="script")
    check_store(hub.hub)


@pytest.mark.parametrize(
    "cut",
    [Cut(b"PUT ", 3000), Cut(f"POST {COMMIT}".encode(), 1500), Cut(f"POST {COMMIT}".encode(), None)],
    ids=["inside a file", "inside the commit", "before the commit's answer"],
)
def test_connection_cut_once_is_gone_on_with(
    cut: Cut, built: Built, hub: Watched, wire: Wire, waits: list[float]
) -> None:
    wire.cuts = [cut]
    result = built.push()
    assert wire.cuts == []
    assert result.commit == hub.tags()["1.0.0"]
    check_pushed(built, hub)


def test_connection_cut_again_and_again_is_an_error_and_finished_files_are_not_sent_again(
    built: Built, hub: Watched, wire: Wire, waits: list[float]
) -> None:
    wire.cuts = [Cut(f"POST {COMMIT}".encode(), 1500) for _ in range(5)]
    with pytest.raises(RemoteError) as caught:
        built.push()
    assert "cut the connection" in str(caught.value)
    assert str(caught.value).endswith("run the same command again, it goes on")
    assert "\n" not in str(caught.value)
    assert hub.files() == {".gitattributes"}
    assert hub.tags() == {}
    hub.traffic.requests.clear()
    built.push()
    assert hub.traffic.count("PUT", "") == 0  # every large file was there
    check_pushed(built, hub)


def test_file_cut_again_and_again_leaves_the_others_finished(
    built: Built, hub: Watched, wire: Wire, waits: list[float]
) -> None:
    wire.cuts = [Cut(b"PUT ", 3000) for _ in range(40)]
    with pytest.raises(RemoteError, match="cut the connection"):
        built.push()
    assert hub.files() == {".gitattributes"}
    wire.cuts.clear()
    built.push()
    check_pushed(built, hub)


def test_every_request_refused_once_is_sent_again_after_the_wait_that_the_hub_asks_for(
    built: Built, hub: Watched, waits: list[float]
) -> None:
    for status, asked in ((429, "7"), (500, "8"), (503, "100000")):
        seen: Counter[tuple[str, str]] = Counter()

        def refuse_once(
            method: str, path: str, seen: Counter[tuple[str, str]] = seen, status: int = status, asked: str = asked
        ) -> Response | None:
            seen[method, path] += 1
            return Response("later", status, {"Retry-After": asked}) if seen[method, path] == 1 else None

        hub.traffic.fault = refuse_once
        waits.clear()
        built.push(f"lab/busy{status}")
        assert min(int(asked), MAX_WAIT_SECONDS) in waits
        assert max(waits) <= MAX_WAIT_SECONDS + 1  # the client adds a second
        hub.traffic.fault = lambda method, path: None
        check_pushed(built, hub, f"lab/busy{status}")


@pytest.mark.parametrize(
    ("status", "message"), [(429, "asks to slow down"), (500, "is in trouble"), (503, "is in trouble")]
)
def test_hub_that_stays_busy_is_one_line(
    status: int, message: str, built: Built, hub: Watched, waits: list[float]
) -> None:
    for part in ("/commit/", "/batch", "/preupload/", "/refs"):
        hub.traffic.fault = lambda method, path, part=part: (  # type: ignore[misc]
            Response("x", status, {"Retry-After": "1"}) if part in path else None
        )
        with pytest.raises(RemoteError, match=message) as caught:
            built.push()
        assert "run the same command again" in str(caught.value)
        assert "\n" not in str(caught.value)
    hub.traffic.fault = lambda method, path: None
    built.push()
    check_pushed(built, hub)


@pytest.mark.parametrize("is_there", [True, False])
def test_token_that_may_only_read_is_refused_and_never_shown(
    is_there: bool, built: Built, hub: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if is_there:
        hub.api().create_repo(TARGET, repo_type="dataset", private=True)
    caplog.set_level(logging.DEBUG)
    for name in ("huggingface_hub", "httpx2", "httpcore2", "httpx", "httpcore", "fsspec"):
        caplog.set_level(logging.DEBUG, logger=name)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    monkeypatch.setenv("HF_TOKEN", READER)
    with pytest.raises(RemoteError, match="use a token with write access") as caught:
        built.push()
    assert "\n" not in str(caught.value)
    assert "send_request_headers" in caplog.text  # so much is logged
    for text in (caplog.text, str(caught.value), repr(caught.value.__dict__)):
        assert READER not in text
    assert caught.value.__cause__ is None
    monkeypatch.setenv("HF_TOKEN", "hf_nobodyknowsthisone")
    with pytest.raises(RemoteError, match="HF_TOKEN") as caught:
        built.push()
    assert "hf_nobody" not in caplog.text + str(caught.value)


def test_command_at_the_loudest_shows_no_token(built: Built, hub: Watched, tmp_path: Path) -> None:
    code = "import logging; logging.basicConfig(level=logging.DEBUG); from tooling.cli.app import main; main()"
    loud = {"HF_HUB_VERBOSITY": "debug", "HF_DEBUG": "1", "DATASETS_VERBOSITY": "debug"}
    command = [sys.executable, "-c", code, "push", TARGET, "-w", str(built.workspace.root), "-o", str(built.out)]
    environment = child_environment(hub.endpoint, tmp_path / "home", OWNER) | loud
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "DEBUG" in done.stderr
    assert OWNER not in done.stdout + done.stderr
    assert "X-Amz-Signature" not in done.stdout + done.stderr
    assert "pushed and read back, tag 1.0.0" in done.stdout  # the first row was streamed as well
    check_pushed(built, hub)


def other_release(built: Built, tmp_path: Path, number: int) -> Built:
    """A second maintainer's release: the same with one image more, as 1.1.0 and so on."""
    root = tmp_path / f"maintainer{number}"
    shutil.copytree(built.out.parent, root)
    other = Built(Workspace(root / "workspace", built.workspace.settings), root / "release")
    name = f"GAN_images/{100 + number:06d}.png"
    add_file(other.workspace, name, "weightfree-face", {"prompt": name}, seed=number)
    return other.renewed(f"1.{number}.0")


def push_together(monkeypatch: pytest.MonkeyPatch, *both: Built) -> list[PushResult | Exception]:
    """Both make their commit at the same moment."""
    gate, results = threading.Barrier(2, timeout=300), list[PushResult | Exception]()
    real = send.commit_files

    def commit(*arguments: Any) -> Any:
        gate.wait()
        return real(*arguments)

    def run(built: Built) -> None:
        try:
            results.append(built.push())
        except Exception as error:
            results.append(error)

    with monkeypatch.context() as patch:
        patch.setattr(send, "commit_files", commit)
        threads = [threading.Thread(target=run, args=(built,)) for built in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return results


def test_of_two_maintainers_one_wins_and_the_other_learns_what_changed(
    built: Built, hub: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.push()
    both = {f"1.{number}.0": other_release(built, tmp_path, number) for number in (1, 2)}
    results = push_together(monkeypatch, *both.values())
    (won,) = (found for found in results if isinstance(found, PushResult))
    (lost,) = (found for found in results if isinstance(found, RemoteError))
    assert "someone else changed CITATION.cff, DATASHEET.md, README.md" in str(lost)
    assert "nothing of this push is visible" in str(lost)
    assert hub.num_commits() == 3
    assert hub.tags()[won.tag] == won.commit
    (later,) = (found for version, found in both.items() if version != won.tag)
    with pytest.raises(InputError, match=rf"does not go on from {won.tag} .*tooling card --since {TARGET}@main"):
        later.prepare()
    later.write_card(f"{TARGET}@main")
    shown = later.prepare().plan  # reads the difference, as the error said
    assert {name.split("/")[1] for name in shown.changed if "/" in name} >= {"GAN_images", "metadata"}
    hub.traffic.requests.clear()
    last = later.push()
    assert hub.traffic.count("PUT", "") == 0  # its shards had been sent
    assert hub.num_commits() == 4
    winner = both[won.tag]
    for tag, release in ((won.tag, winner), (last.tag, later)):  # nothing is lost
        assert hub.files(tag) == {*local_files(release.out), ".gitattributes"}
        text = hub.api().hf_hub_download(TARGET, "data/SHA256SUMS", repo_type="dataset", revision=tag)
        assert Path(text).read_bytes() == (release.out / "data/SHA256SUMS").read_bytes()
    check_store(hub.hub)


def test_same_release_pushed_by_two_at_once_is_one_commit(
    built: Built, hub: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.api().create_repo(TARGET, repo_type="dataset", private=True)
    results = push_together(monkeypatch, built, built)
    assert {found.commit for found in results if isinstance(found, PushResult)} == {hub.tags()["1.0.0"]}, results
    assert all(isinstance(found, PushResult) for found in results), results
    check_pushed(built, hub)


@pytest.mark.parametrize("part", ["/uploads/", "/commit/"])
def test_full_disk_at_the_hub_is_an_error_and_gone_on_with(
    part: str, built: Built, hub: Watched, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    real, is_full = os.fsync, threading.Event()

    def fsync(descriptor: int) -> None:
        if is_full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    def fill(method: str, path: str) -> None:
        if part in path:
            is_full.set()

    monkeypatch.setattr(os, "fsync", fsync)
    hub.traffic.fault = fill
    with pytest.raises(RemoteError, match=r"no space left .*free space there and run the same command again"):
        built.push()
    assert is_full.is_set()
    assert hub.files() == {".gitattributes"}
    assert hub.tags() == {}
    hub.traffic.fault = lambda method, path: None
    is_full.clear()
    built.push()
    check_pushed(built, hub)


def check_kills(built: Built, hub: Watched, wire: Wire, seed: int, rounds: int) -> None:
    """Pushes to a new repository each round, and kills once so many bytes went over the wire."""
    context, chance, total = children.forking_context(), random.Random(seed), 0
    places = (str(built.workspace.root), str(built.out))
    for number in range(rounds + 1):
        repo_id, before = f"lab/kills-{seed}-{number}", wire.num_bytes
        kill_at = before + chance.randint(1, total * 95 // 100) if number else None
        child = context.Process(target=children.push_in_child, args=(*places, repo_id, wire.endpoint, OWNER))

        def watch(num_bytes: int, kill_at: int | None = kill_at, child: Any = child) -> None:
            if kill_at is not None and num_bytes >= kill_at:
                os.kill(child.pid, signal.SIGKILL)

        wire.watch = watch
        child.start()
        child.join()
        wire.watch = lambda num_bytes: None
        if number == 0:
            assert child.exitcode == 0
            total = wire.num_bytes - before
        else:
            assert child.exitcode == -signal.SIGKILL, f"{kill_at} of {total}"
            check_whole(built, hub, repo_id)
        built.push(repo_id)
        check_pushed(built, hub, repo_id)


def check_whole(built: Built, hub: Watched, repo_id: str) -> None:
    """After a kill main has all of the release or nothing."""
    if hub.api().repo_exists(repo_id, repo_type="dataset"):
        found = set(hub.api().list_repo_files(repo_id, repo_type="dataset")) - {".gitattributes"}
        assert found in (set(), set(local_files(built.out)))


def test_killed_push_goes_on(built: Built, hub: Watched, wire: Wire) -> None:
    check_kills(built, hub, wire, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_push_killed_at_many_moments(built: Built, hub: Watched, wire: Wire, seed: int) -> None:
    check_kills(built, hub, wire, seed, 15)
