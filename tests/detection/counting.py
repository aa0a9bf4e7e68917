"""A served Hub that counts what it sends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.hub.served import OWNER


class Sent:
    """Stands before the Hub's application and counts the bytes of its answers.

    Attributes:
        num_bytes: of all bodies sent.
        requests: (method, path) of each request.
    """

    app: ASGIApp

    def __init__(self) -> None:
        self.num_bytes = 0
        self.requests: list[tuple[str, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            self.num_bytes += len(message.get("body", b""))
            await send(message)

        if scope["type"] == "http":
            self.requests.append((scope["method"], scope["path"]))
        await self.app(scope, receive, counting)


@dataclass(frozen=True)
class CountedHub:
    endpoint: str
    sent: Sent

    def publish(self, release: Path, repo_id: str) -> str:
        """Uploads a release's folder and returns the repository's name."""
        api = HfApi(endpoint=self.endpoint, token=OWNER)
        api.create_repo(repo_id, repo_type="dataset", exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=release, repo_type="dataset")
        return repo_id
