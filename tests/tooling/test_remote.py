"""tooling.remote against the embedded Hub: what is called again, and what callers learn from an error."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, close_session, constants
from starlette.responses import JSONResponse, Response

from tests.hub.served import READER
from tests.tooling.pushing import TARGET, Watched, use_hub
from tooling import remote as client
from tooling.errors import UsageError
from tooling.remote import CALLED_ONCE, MAX_TRIES, Kind, Remote, RemoteError, connect


@pytest.fixture
def remote(hub: Watched, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A private repository without a release; nobody waits."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    opened = connect(TARGET)
    opened.create(private=True)
    return opened


def failure(remote: Remote, method: str, **arguments: object) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        remote.call(method, **arguments)
    assert str(caught.value).startswith(f"{remote.repo_id}: ")
    assert caught.value.__context__ is None  # the client's errors carry addresses and requests
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "is_transient"),
    [
        (403, "denied", False),
        (404, "not_found", False),
        (409, "conflict", False),
        (412, "changed", False),
        (413, "too_large", False),
        (418, "refused", False),
        (429, "busy", True),
        (503, "busy", True),
        (507, "full", False),
    ],
)
def test_status_says_what_kind_of_error(
    status: int, kind: Kind, is_transient: bool, hub: Watched, remote: Remote
) -> None:
    hub.traffic.fault = lambda method, path: Response("x", status) if path.endswith("/refs") else None
    hub.traffic.requests.clear()
    error = failure(remote, "list_repo_refs")
    assert (error.kind, error.status, error.is_transient) == (kind, status, is_transient)
    assert hub.traffic.count("GET", "/refs") == (MAX_TRIES if is_transient else 1)


def test_what_is_not_there_and_what_is_not_allowed_differ(
    hub: Watched, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert failure(connect("lab/nothing"), "repo_info").kind == "no_repository"
    assert failure(remote, "repo_info", revision="2.0.0").kind == "no_revision"
    with pytest.raises(RemoteError, match=r"not a repository id .*; use OWNER/NAME") as caught:
        connect("nothing")
    assert caught.value.kind == "bad_name"
    hub.api().update_repo_settings(TARGET, repo_type="dataset", private=False, gated="manual")
    use_hub(monkeypatch, hub.endpoint, READER)
    assert failure(connect(TARGET), "create_branch", branch="mine").kind == "denied"
    use_hub(monkeypatch, "http://127.0.0.1:9", READER)
    with pytest.raises(RemoteError, match="run the same command again") as caught:
        connect(TARGET)
    assert (caught.value.kind, caught.value.status) == ("unreachable", None)


def test_refused_card_is_told_from_other_bad_requests(hub: Watched, remote: Remote) -> None:
    answer = JSONResponse({"errors": [{"message": "license: not a known one"}], "warnings": []}, 400)
    hub.traffic.fault = lambda method, path: answer if path == "/api/validate-yaml" else None
    card = [CommitOperationAdd("README.md", b"---\nlicense: mine\n---\n")]
    error = failure(remote, "create_commit", operations=card, commit_message="card")
    assert error.kind == "bad_card"
    assert "license: not a known one" in str(error)
    assert hub.num_commits() == 1


def test_what_may_not_happen_twice_is_called_once(hub: Watched, remote: Remote) -> None:
    assert "delete_branch" in CALLED_ONCE
    hub.api().create_branch(TARGET, repo_type="dataset", branch="old")
    seen: list[str] = []

    def fault(method: str, path: str) -> Response | None:
        seen.extend([path] if method == "DELETE" else [])
        return Response("x", 503) if method == "DELETE" else None

    hub.traffic.fault = fault
    assert failure(remote, "delete_branch", branch="old").kind == "busy"
    assert len(seen) == 1


def test_errors_of_this_machine_pass_as_they_are(remote: Remote) -> None:
    def fill() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        remote.attempt(fill)


def test_file_is_read_in_ranges(remote: Remote, tmp_path: Path, hub: Watched) -> None:
    content = bytes(range(256)) * 4096
    hub.api().upload_file(path_or_fileobj=content, path_in_repo="a.bin", repo_id=TARGET, repo_type="dataset")
    commit = remote.head()
    assert remote.read("a.bin", commit, lambda file: (file.seek(-4, 2), file.read())[1], block_bytes=64) == content[-4:]
    assert remote.download("a.bin", commit, tmp_path).read_bytes() == content


@pytest.fixture
def unprepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has not reached for a Hub yet; the client is made anew afterwards."""
    monkeypatch.setattr(client, "_prepared_for", "")
    close_session()
    yield
    client._prepared_for = ""
    close_session()


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "HTTP_PROXY"])
def test_hub_on_this_machine_is_reached_without_a_proxy(
    hub: Watched, monkeypatch: pytest.MonkeyPatch, unprepared: None, name: str
) -> None:
    monkeypatch.setenv(name, "socks5://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    opened = connect(TARGET)
    opened.create(private=True)
    assert opened.files().keys() == {".gitattributes"}


@pytest.mark.parametrize(("name", "value"), [("ALL_PROXY", "socks5://[::1"), ("SSL_CERT_FILE", "/nowhere.pem")])
def test_setting_of_the_environment_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, unprepared: None, name: str, value: str
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example")
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"^{name}: cannot be used to reach https://hub.example .*; correct or unset"):
        connect(TARGET)


def test_endpoint_without_a_scheme_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "localhost:8900")
    with pytest.raises(UsageError, match="HF_ENDPOINT=localhost:8900: is not an address; write it with http://"):
        connect(TARGET)
