"""An embedded Hub in this process that counts what passes; children of this process find it by their environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tooling.hub.rights import add_organisation, add_token, add_user
from tooling.hub.root import Hub
from tooling.hub.server import serve

REPO, TOKEN = "lab/homologous_deepfake", "hf_owner_write"


@dataclass
class Traffic:
    """What went over the wire since `start`: requests, bytes of uploads and commits, bytes of the answers' bodies."""

    requests: int = 0
    uploaded: int = 0
    sent: int = 0

    def start(self) -> None:
        self.requests = self.uploaded = self.sent = 0


class _Counter:
    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self.app, self.traffic = app, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_upload = scope["type"] == "http" and (scope["method"] == "PUT" or "/commit/" in scope["path"])

        async def receiving() -> Message:
            message = await receive()
            self.traffic.uploaded += len(message.get("body", b"")) if is_upload else 0
            return message

        async def sending(message: Message) -> None:
            self.traffic.sent += len(message.get("body", b""))
            await send(message)

        self.traffic.requests += scope["type"] == "http"
        await self.app(scope, receiving, sending)


@contextmanager
def counted_hub(root: Path) -> Iterator[Traffic]:
    """Serves a Hub below `root` whose organisation `lab` the token of the environment may write to."""
    hub, traffic = Hub(root / "hub"), Traffic()
    add_user(hub.database, "owner", "Owner", "owner@example.org")
    add_organisation(hub.database, "lab", ["owner"])
    add_token(hub.database, "owner", "write", token=TOKEN)
    before = dict(os.environ)
    try:
        with serve(hub, wrap=lambda app: _Counter(app, traffic)) as endpoint:
            os.environ |= {"HF_ENDPOINT": endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(root / "home")}
            os.environ |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
            yield traffic
    finally:
        os.environ.clear()
        os.environ.update(before)
        hub.close()
