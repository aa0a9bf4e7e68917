"""One request on its way to an endpoint: the caller, the repository and the body, already read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request

from tooling.hub.responses import HubError
from tooling.hub.rights import Account, Repo
from tooling.hub.root import Hub
from tooling.hub.store.discussions import Board
from tooling.hub.store.repository import Repository


@dataclass(frozen=True)
class Call:
    """The argument of an endpoint. `body` is what a JSON object or form has (`Fields`), bytes, or a spooled file."""

    hub: Hub
    request: Request
    account: Account | None
    body: Any
    named: Repo | None = None

    @property
    def repo(self) -> Repo:
        if self.named is None:
            raise RuntimeError(f"{self.request.scope['path']}: this endpoint has no repository")
        return self.named

    @property
    def repository(self) -> Repository:
        return self.hub.repository(self.repo)

    @property
    def board(self) -> Board:
        return Board(self.hub.database, self.repository, self.repo)

    @property
    def user(self) -> str:
        """Name of the caller.

        Raises:
            HubError: 401 without a token.
        """
        if self.account is None:
            raise HubError(401, "Invalid username or password.")
        return self.account.user

    def part(self, name: str) -> str:
        """A named part of the path, unquoted: paths and revisions arrive with %2F."""
        return unquote(self.request.path_params[name])
