"""A small verified, built release and a Hub that the client's environment points at, for the tests of push and diff.

Traffic stands before the Hub's application and answers for it; Wire stands between client and Hub and cuts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.hub.served import OWNER, patch_endpoint
from tests.workspaces import make_workspace
from tooling.hub.root import Hub
from tooling.settings import CardSettings, ShardSettings
from tooling.stages import build as shards
from tooling.stages.card import run as card
from tooling.stages.push.prepare import PreparedPush, PushOptions, prepare_push
from tooling.stages.push.run import PushResult, publish
from tooling.stages.verify import run as verify
from tooling.workspace.layout import Workspace, open_workspace

TARGET = "lab/homologous_deepfake"


@dataclass(frozen=True)
class Built:
    """A workspace and the release built from it."""

    workspace: Workspace
    out: Path

    def prepare(self, repo_id: str = TARGET, **options: object) -> PreparedPush:
        return prepare_push(self.workspace, self.out, repo_id, PushOptions(**options))  # type: ignore[arg-type]

    def push(self, repo_id: str = TARGET, **options: object) -> PushResult:
        return publish(self.prepare(repo_id, **options))

    def with_version(self, version: str) -> Built:
        settings = dataclasses.replace(self.workspace.settings, card=CardSettings(version=version))
        return Built(Workspace(self.workspace.root, settings), self.out)

    def rebuild(self, since: str | None = None) -> None:
        """What a maintainer does after a change of the workspace."""
        verify.verify_files(self.workspace, num_workers=1)
        shards.build_release(self.workspace, self.out)
        self.write_card(since)

    def write_card(self, since: str | None = None) -> None:
        card.make_card(self.workspace, self.out, since=since)

    def renewed(self, version: str) -> Built:
        """Built again as another version, whose card goes on from what TARGET has."""
        newer = self.with_version(version)
        newer.rebuild(TARGET)
        return newer


def build(root: Path) -> None:
    """A workspace of 8 people, verified, and the release built from it."""
    make_workspace(root / "workspace", 4, 4, 2)
    opened_build(root).rebuild()


def opened_build(root: Path) -> Built:
    """What `build` has made there, with few shards for so few rows."""
    workspace = open_workspace(root / "workspace")
    settings = dataclasses.replace(workspace.settings, shards=ShardSettings(min_train_shards=1))
    return Built(Workspace(workspace.root, settings), root / "release")


class Traffic:
    """Stands before the Hub: keeps what came in, and lets a test answer for the Hub or cut the connection.

    Attributes:
        requests: (method, path, bytes of the body) in the order of their ends.
        fault: given method and path; an answer to send instead, None to let it pass.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.requests: list[tuple[str, str, int]] = []
        self.fault: Callable[[str, str], Response | None] = lambda method, path: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path, received = scope["method"], scope["path"], [0]

        async def counting() -> Message:
            message = await receive()
            received[0] += len(message.get("body", b""))
            return message

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                note()  # before the client has the answer: a test may count at once
            await send(message)

        def note() -> None:
            if not is_noted:
                is_noted.append(True)
                self.requests.append((method, path, received[0]))

        is_noted: list[bool] = []
        fault = self.fault(method, path)
        try:
            await (self.app if fault is None else fault)(scope, counting, noting)
        finally:
            note()

    @property
    def num_bytes_received(self) -> int:
        return sum(num_bytes for _, _, num_bytes in self.requests)

    def count(self, method: str, part: str) -> int:
        return sum(part in path for found, path, _ in self.requests if found == method)


@dataclass(eq=False)
class Cut:
    """Where to cut: after so many bytes of a request that begins with this; None: once the answer comes, unsent."""

    request: bytes
    num_bytes: int | None


class Wire:
    """A TCP connection to the Hub that a test can cut.

    Attributes:
        endpoint: what the client is given.
        cuts: each is used once.
        num_bytes: that clients sent so far.
        watch: called with num_bytes before each block is passed on.
    """

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("http://").split(":")
        self._hub = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts: list[Cut] = []
        self.num_bytes = 0
        self.watch: Callable[[int], None] = lambda num_bytes: None
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._hub) as hub, contextlib.suppress(OSError):
            cut: Cut | None = None
            sent = 0
            while True:
                ready, _, _ = select.select([client, hub], [], [])
                block = ready[0].recv(1 << 16)
                if not block or (ready[0] is hub and cut is not None):
                    break
                if ready[0] is hub:
                    client.sendall(block)
                    continue
                self.num_bytes += len(block)
                self.watch(self.num_bytes)
                cut = cut or next((cut for cut in self.cuts if block.startswith(cut.request)), None)
                if cut in self.cuts:
                    self.cuts.remove(cut)
                left = len(block) if cut is None or cut.num_bytes is None else max(0, cut.num_bytes - sent)
                hub.sendall(block[:left])
                sent += len(block) if cut is not None else 0
                if left < len(block):
                    break
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass(frozen=True)
class Watched:
    """A served Hub and what comes in."""

    hub: Hub
    endpoint: str
    traffic: Traffic

    def api(self, token: str = OWNER) -> HfApi:
        return HfApi(endpoint=self.endpoint, token=token)

    def files(self, revision: str | None = None) -> set[str]:
        return set(self.api().list_repo_files(TARGET, repo_type="dataset", revision=revision))

    def num_commits(self, revision: str | None = None) -> int:
        return len(self.api().list_repo_commits(TARGET, repo_type="dataset", revision=revision))

    def tags(self) -> dict[str, str]:
        return {tag.name: tag.target_commit for tag in self.api().list_repo_refs(TARGET, repo_type="dataset").tags}


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str, token: str = OWNER) -> None:
    patch_endpoint(monkeypatch, endpoint)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)  # push has to find out
    monkeypatch.setenv("HF_TOKEN", token)


def child_environment(endpoint: str, home: Path, token: str = OWNER) -> dict[str, str]:
    own = {"HF_ENDPOINT": endpoint, "HF_TOKEN": token, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    return {**{name: value for name, value in os.environ.items() if not name.startswith("HF_")}, **own}


def local_files(out: Path) -> dict[str, int]:
    """Path -> size of everything that a push sends."""
    return {path.relative_to(out).as_posix(): path.stat().st_size for path in out.rglob("*") if path.is_file()}
