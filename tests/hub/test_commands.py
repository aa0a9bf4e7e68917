"""`tooling hub`: tokens and organisations from the command line, and what serve refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import uvicorn
from typer.testing import CliRunner

from tooling.cli.hub import hub_app
from tooling.errors import InputError, ToolingError, UsageError
from tooling.hub.rights import authenticate, is_member, who_am_i
from tooling.hub.root import Hub
from tooling.hub.server import is_loopback, run, serve


def invoke(*arguments: str | Path) -> str:
    result = CliRunner().invoke(hub_app, [str(argument) for argument in arguments], catch_exceptions=False)
    return result.stdout.strip()


def test_token_and_organisation_while_the_hub_is_open(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    token = invoke("token", "alice", "--root", tmp_path, "--role", "read", "--email", "a@example.org")
    invoke("organisation", "lab", "alice", "--root", tmp_path, "--fullname", "The Lab")
    account = authenticate(hub.database, f"Bearer {token}")
    assert account is not None
    assert is_member(hub.database, account, "lab")
    me = who_am_i(hub.database, account)
    assert (me["name"], me["email"], me["orgs"][0]["name"]) == ("alice", "a@example.org", "lab")
    assert me["orgs"][0]["fullname"] == "The Lab"
    assert me["auth"]["accessToken"]["role"] == "read"
    hub.close()


def test_first_start_says_how_to_get_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: None)  # returns as after Ctrl-C
    outputs: list[str] = []
    for _ in range(2):
        outputs.append(CliRunner().invoke(hub_app, ["serve", "--root", str(tmp_path), "--port", "0"]).stderr)
        invoke("token", "alice", "--root", tmp_path)
    assert ["tooling hub token NAME" in text for text in outputs] == [True, False]


def test_other_hosts_need_a_flag(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--allow-remote"):
        invoke("serve", "--root", tmp_path, "--host", "0.0.0.0")
    assert not list(tmp_path.iterdir())
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1", "example.org")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_taken_port_and_taken_folder(tmp_path: Path) -> None:
    with serve(tmp_path / "one") as endpoint:
        port = int(endpoint.rpartition(":")[2])
        with pytest.raises(InputError, match="choose another --port"):
            run(tmp_path / "two", port)
        with pytest.raises(ToolingError, match="another process"):
            run(tmp_path / "one", 0)
