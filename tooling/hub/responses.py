"""Responses: errors with the headers by which huggingface_hub distinguishes them, JSON, and pages with a Link header.

The client's `hf_raise_for_status` reads the status and `X-Error-Code`; the text it shows is `X-Error-Message` and the
body's `error`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse

from tooling.errors import ToolingError

NOT_PRINTABLE = re.compile(r"[^ -~]+")
NUMBER = re.compile("[0-9]{1,16}")


class HubError(ToolingError):
    """A request that is refused: HTTP status, the message for the user, and the Hub's error code if it has one."""

    def __init__(self, status: int, message: str, code: str | None = None, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.extra = extra
        self.headers: dict[str, str] = {}


def error_response(error: HubError) -> JSONResponse:
    """The error as the client expects it; header values are reduced to printable ASCII."""
    plain = NOT_PRINTABLE.sub(" ", error.message.encode("ascii", "replace").decode())
    headers = {"X-Error-Message": plain, **error.headers}
    if error.code is not None:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": error.message, **error.extra}, status_code=error.status, headers=headers)


def repo_not_found(is_anonymous: bool) -> HubError:
    """Missing and hidden repositories get the same answer; an anonymous caller gets 401 as on the Hub."""
    return HubError(401 if is_anonymous else 404, "Repository not found", "RepoNotFound")


def only_datasets() -> HubError:
    return HubError(404, 'Repository not found: this Hub holds datasets only, use repo_type="dataset"', "RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def entry_not_found(path: str, commit_id: str | None = None) -> HubError:
    error = HubError(404, f"Entry not found: {path} does not exist at this revision", "EntryNotFound")
    if commit_id is not None:
        error.headers["X-Repo-Commit"] = commit_id
    return error


def out_of_space() -> HubError:
    return HubError(507, "The Hub's disk is full: nothing was stored; free space on the server and send it again")


def timestamp(seconds: float) -> str:
    """UTC time as the Hub writes it, with milliseconds and Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(seconds % 1 * 1000):03d}Z"


def paged(
    request: Request,
    items: Sequence[Any],
    show: Callable[[Any], Any] = lambda item: item,
    *,
    size: int = 1000,
) -> JSONResponse:
    """One page of `items`, shown by `show`; `limit` and `cursor` of the query choose it, Link names the next.

    The cursor is the offset. `limit` is the page size (at most `size`), not a limit of the whole listing.
    """
    limit = max(1, min(_whole_number(request, "limit", size), size))
    start = _read_cursor(request.query_params.get("cursor"))
    headers = {"X-Total-Count": str(len(items))}
    if start + limit < len(items):
        query = [(key, value) for key, value in request.query_params.multi_items() if key != "cursor"]
        cursor = base64.urlsafe_b64encode(str(start + limit).encode()).decode()
        address = f"{origin(request)}{request.scope['raw_path'].decode('ascii')}"
        headers["Link"] = f'<{address}?{urlencode([*query, ("cursor", cursor)])}>; rel="next"'
    return JSONResponse([show(item) for item in items[start : start + limit]], headers=headers)


def origin(request: Request) -> str:
    """Scheme and host under which the client reached this Hub, without a slash at the end."""
    return f"{request.url.scheme}://{request.headers.get('host') or request.url.netloc}"


def is_set(request: Request, name: str) -> bool:
    """Whether a flag of the query is on: `recursive=True`, `blobs=1`."""
    return request.query_params.get(name, "").lower() in ("1", "true")


def _whole_number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name)
    if value is None:
        return default
    number = read_number(value)
    if number is None:
        raise HubError(400, f"{name} must be a whole number, got {value!r}")
    return number


def read_number(text: str) -> int | None:
    """The number that a text is in decimal digits, 16 at most; None for any other text."""
    return int(text) if NUMBER.fullmatch(text) else None


def _read_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    try:
        return max(0, int(base64.urlsafe_b64decode(cursor)))
    except (ValueError, binascii.Error) as error:
        raise HubError(400, f"The cursor {cursor!r} is not one of this Hub") from error
