"""The Starlette application: routes, authentication, request ids, errors and the access log.

Revisions, branches and paths arrive quoted (`refs%2Fpr%2F1`), so routes are matched on the raw path. The access log
has method, path, status and time of a request, never its headers or query: those hold tokens and signatures.
"""

from __future__ import annotations

import errno
import logging
import re
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import parse_qs, quote, unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tooling.hub import gates, rights
from tooling.hub.call import Call
from tooling.hub.endpoints import community, repos, revisions
from tooling.hub.endpoints import content as files
from tooling.hub.fields import Fields, read_json
from tooling.hub.responses import HubError, error_response, only_datasets, out_of_space
from tooling.hub.root import Hub
from tooling.hub.store.large_files import CHUNK_BYTES

logger = logging.getLogger(__name__)

BODY_BYTES = 8 << 20
ASCII = "".join(map(chr, range(128)))
COMMIT_BYTES = 2 << 30


class _RepoConvertor(StringConvertor):
    regex = "[^/]+(?:/[^/]+)?"  # a name without namespace matches too, and is answered as a missing repository


register_url_convertor("hub_repo", _RepoConvertor())


@dataclass(frozen=True)
class Endpoint:
    """One route. `needs` is the right that the caller must have: nothing, read, content (past the gate) or write."""

    methods: str
    path: str
    answer: Callable[[Call], Response]
    needs: str = "read"
    body: str = "object"
    admit: Callable[[Hub, Request], None] = lambda hub, request: None  # before a large body is kept


API = "/api/datasets/{repo:hub_repo}"
WEB = "/datasets/{repo:hub_repo}"
# Addresses of models and Spaces.
OTHER_KINDS = re.compile(r"/api/(models|spaces)(/|$)|(/spaces)?/[^/]+(/[^/]+)?(\.git/info/lfs/|/resolve/)")
ENDPOINTS = (
    Endpoint("GET", "/api/whoami-v2", repos.whoami, "nothing"),
    Endpoint("POST", "/api/repos/create", repos.create, "nothing"),
    Endpoint("DELETE", "/api/repos/delete", repos.delete, "nothing"),
    Endpoint("POST", "/api/repos/move", repos.move, "nothing"),
    Endpoint("POST", "/api/validate-yaml", repos.validate_card, "nothing"),
    Endpoint("PUT", "/uploads/{key}/{oid}", files.upload, "nothing", "bytes", files.admit_upload),
    Endpoint("POST", "/uploads/{key}/{oid}", files.complete, "nothing"),
    Endpoint("POST", "/verify/{key}/{oid}", files.verify, "nothing"),
    Endpoint("GET", f"{API}/tree/{{revision}}", files.tree),
    Endpoint("GET", f"{API}/tree/{{revision}}/{{path:path}}", files.tree),
    Endpoint("POST", f"{API}/paths-info/{{revision}}", files.paths_info),
    Endpoint("POST", f"{API}/preupload/{{revision}}", files.preupload),
    Endpoint("POST", f"{API}/commit/{{revision}}", files.commit, "read", "file", files.admit_commit),
    Endpoint("POST", f"{API}/super-squash/{{branch}}", revisions.squash, "write"),
    Endpoint("POST", f"{API}/lfs-files/batch", files.delete_large_files, "write"),
    Endpoint("GET", f"{API}/lfs-files", files.list_large_files, "write"),
    Endpoint("GET", f"{API}/xet-read-token/{{revision}}", repos.decline_xet),
    Endpoint("GET", f"{API}/xet-write-token/{{revision}}", repos.decline_xet),
    Endpoint("GET", f"/{repos.NO_XET}", repos.no_xet, "nothing"),
    Endpoint("GET", f"{API}/revision/{{revision}}", repos.info),
    Endpoint("GET", f"{API}/commits/{{revision}}", revisions.commits),
    Endpoint("GET", f"{API}/refs", revisions.refs),
    Endpoint("POST", f"{API}/branch/{{branch}}", revisions.create_branch, "write"),
    Endpoint("DELETE", f"{API}/branch/{{branch}}", revisions.delete_branch, "write"),
    Endpoint("POST", f"{API}/tag/{{revision}}", revisions.create_tag, "write"),
    Endpoint("DELETE", f"{API}/tag/{{revision}}", revisions.delete_tag, "write"),
    Endpoint("PUT", f"{API}/settings", repos.settings, "write"),
    Endpoint("GET", f"{API}/auth-check", repos.auth_check, "content"),
    Endpoint("GET", f"{API}/auth-check/write", repos.auth_check, "write"),
    Endpoint("POST", f"{API}/user-access-request/handle", community.handle_access_request, "write"),
    Endpoint("POST", f"{API}/user-access-request/grant", community.grant_access, "write"),
    Endpoint("GET", f"{API}/user-access-request/{{status}}", community.list_access_requests, "write"),
    Endpoint("GET", f"{API}/discussions", community.list_pull_requests),
    Endpoint("GET", f"{API}/discussions/{{number}}", community.pull_request_details),
    Endpoint("POST", f"{API}/discussions/{{number}}/status", community.change_status),
    Endpoint("POST", f"{API}/discussions/{{number}}/merge", community.merge_pull_request, "write"),
    Endpoint("GET", "/api/datasets", repos.listing, "nothing"),
    Endpoint("GET", API, repos.info),
    Endpoint("POST", f"{WEB}.git/info/lfs/objects/batch", files.lfs_batch),
    Endpoint("GET", f"{WEB}/resolve/{{revision}}/{{path:path}}", files.resolve, "content"),
    Endpoint("POST", f"{WEB}/ask-access", community.ask_access),
)


def create_app(hub: Hub) -> ASGIApp:
    """The application over an open Hub. The caller closes the Hub."""
    app = Starlette(
        routes=[_route(hub, endpoint) for endpoint in ENDPOINTS], exception_handlers={404: _no_route, 405: _no_route}
    )
    return _Envelope(app)


def _route(hub: Hub, endpoint: Endpoint) -> Route:
    async def handle(request: Request) -> Response:
        body: Any = None
        try:
            try:
                await run_in_threadpool(endpoint.admit, hub, request)
            except HubError:
                async for _ in request.stream():  # else the client would not read the error
                    pass
                raise
            body = await _read_body(request, endpoint.body, hub)
            return await run_in_threadpool(_answer, hub, endpoint, request, body)
        except HubError as error:
            return error_response(error)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                return error_response(out_of_space())
            raise
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                return error_response(out_of_space())
            if "locked" in str(error):
                busy = HubError(503, "The Hub's database is busy: try again")
                busy.headers["Retry-After"] = "1"
                return error_response(busy)
            raise
        finally:
            if endpoint.body == "file" and body is not None:
                body.close()

    return Route(endpoint.path, handle, methods=endpoint.methods.split())


def _answer(hub: Hub, endpoint: Endpoint, request: Request, body: Any) -> Response:
    account = rights.authenticate(hub.database, request.headers.get("authorization"))
    if "repo" not in request.path_params:
        return endpoint.answer(Call(hub, request, account, body))
    repo = hub.find(unquote(request.path_params["repo"]), account)
    if endpoint.needs == "write":
        rights.require_write(hub.database, account, repo)
    elif endpoint.needs == "content":
        gates.require_content(hub.database, account, repo)
    return endpoint.answer(Call(hub, request, account, body, repo))


async def _read_body(request: Request, kind: str, hub: Hub) -> Any:
    """Reads the whole body before anything is decided: a client that is still sending does not read the response."""
    if kind == "file":
        return await _spool(request, hub)
    body = bytearray()
    limit = CHUNK_BYTES if kind == "bytes" else BODY_BYTES
    async for chunk in request.stream():
        if len(body) <= limit:
            body += chunk
    if len(body) > limit:
        raise HubError(413, f"The body of this request has more than {limit >> 20} MiB")
    if kind == "bytes":
        return bytes(body)
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return Fields(parse_qs(body.decode(errors="replace"), keep_blank_values=True), is_form=True)
    parsed = read_json(bytes(body)) if body.strip() else {}
    if not isinstance(parsed, dict | None):
        raise HubError(400, "The body must be a JSON object")
    return Fields(parsed or {})


async def _spool(request: Request, hub: Hub) -> BinaryIO:
    """The body in a temporary file: a commit may hold many regular files."""
    spooled = tempfile.SpooledTemporaryFile(max_size=4 << 20, dir=str(hub.uploads))  # noqa: SIM115  closed by the route
    size, failure = 0, None
    async for chunk in request.stream():
        size += len(chunk)
        if failure is not None or size > COMMIT_BYTES:
            continue
        try:
            spooled.write(chunk)
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure
    if size > COMMIT_BYTES:
        raise HubError(413, f"A commit may have {COMMIT_BYTES >> 30} GiB of regular files: send fewer, or larger ones")
    spooled.seek(0)
    return spooled  # type: ignore[return-value]


async def _no_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    if status == 404 and OTHER_KINDS.match(request.scope["path"]):
        return error_response(only_datasets())
    return error_response(HubError(status, "This Hub does not serve that address"))


class _Envelope:
    """Around the application: raw paths for the router, a request id, 500 without a trace, and the access log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        raw_path = quote(scope["raw_path"], safe=ASCII)  # what is not ASCII is escaped
        headers = dict(scope["headers"])
        # huggingface_hub sends the second of the two.
        given = headers.get(b"x-request-id") or headers.get(b"x-amzn-trace-id") or b""
        request_id = given if 0 < len(given) <= 100 else uuid.uuid4().hex.encode()
        started, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        try:
            await self.app({**scope, "path": raw_path}, receive, send_with_id)
        except ClientDisconnect:
            logger.info("%s %s: the client went away", scope["method"], raw_path)
        except Exception:
            logger.exception("%s %s failed, request %s", scope["method"], raw_path, request_id.decode("latin-1"))
            if status == 0:
                error = HubError(500, f"Internal error; the server's log has it under {request_id.decode('latin-1')}")
                await error_response(error)(scope, receive, send_with_id)
        finally:
            milliseconds = (time.monotonic() - started) * 1000
            logger.info("%s %s %d %.0f ms", scope["method"], raw_path, status, milliseconds)
