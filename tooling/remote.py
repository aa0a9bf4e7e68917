"""A dataset repository at a Hub: one way to call it, what its revisions hold, and its errors in one line each.

    remote = connect("lab/dataset")
    remote.call("create_branch", branch="next", revision=remote.head(), exist_ok=True)

Endpoint and token come from where huggingface_hub takes them (HF_ENDPOINT, HF_TOKEN, `hf auth login`). Neither the
token nor the signature of an upload address leaves this module in a message or a log, at any level.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, cast
from urllib.parse import urlsplit

from huggingface_hub import HfApi, HfFileSystem, constants, errors, get_session, get_token, set_client_factory
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import GitCommitInfo, RepoFile
from huggingface_hub.utils._validators import validate_repo_id
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from tooling import __version__
from tooling.errors import ToolingError, UsageError
from tooling.workspace.files import file_sha256

TIMEOUT_SECONDS = 300.0  # for one read or write on a connection, not for a whole file; the client's own has none
MAX_WAIT_SECONDS = 60  # of one Retry-After; the client's own waits as long as the Hub asks it to
MAX_TRIES = 5
# A second call after a lost answer would fail or do it twice; preupload_lfs_files repeats its own requests.
CALLED_ONCE = frozenset(
    {
        "accept_access_request",
        "change_discussion_status",
        "create_commit",
        "delete_branch",
        "delete_tag",
        "preupload_lfs_files",
        "reject_access_request",
    }
)
SIGNED = re.compile(r"(https?://[^\s?\"']+)\?[^\s\"'>,)]+")
# `(b'X-Xet-Access-Token', b'...')` is how the HTTP library logs a header.
SECRET_HEADER = re.compile(
    r"((?:authorization|set-cookie|x-xet-access-token)[\"']?\s*[:,]\s*b?[\"']?)[^\"'\r\n]+", re.I
)
ACCESS_TOKEN = re.compile(r"\bhf_[A-Za-z0-9_]{8,}")
CLIENT_LOGGERS = ("huggingface_hub", "httpx", "httpcore", "hf_xet", "datasets", "fsspec", "filelock")

_HTTPError: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]  # of the HTTP library the client uses
# What client and connection raise; JSONDecodeError is a busy proxy's page where the client expects JSON.
_CLIENT_ERRORS = (
    _HTTPError,
    OfflineModeIsEnabled,
    LocalTokenNotFoundError,
    HFValidationError,
    json.JSONDecodeError,
    ConnectionError,
    TimeoutError,
)

CONNECTION_NAMES = frozenset(
    {"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "SSL_CERT_DIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
)

Answer = TypeVar("Answer")
Kind = Literal[
    "bad_card",  # the Hub refuses the card's metadata
    "bad_name",  # not a repository id
    "busy",  # the Hub asks to come back later, also after MAX_TRIES
    "changed",  # someone else changed the branch after it was read
    "conflict",
    "damaged",  # the repository serves something else than what was pushed
    "denied",  # no token, or one that may not do this
    "full",  # no space left at the Hub
    "gated",
    "no_repository",  # there is none of that name, or it is hidden from this token
    "no_revision",
    "not_found",  # a file, a request
    "offline",  # HF_HUB_OFFLINE is set
    "refused",  # everything else
    "too_large",
    "unreachable",  # no answer, or one of something else than a Hub
]
_OF_STATUS: dict[int, tuple[Kind, str]] = {
    401: ("denied", "{endpoint} does not accept the token ({reason}); set another HF_TOKEN or run `hf auth login`"),
    403: ("denied", "this token may not do that ({reason}); use a token with write access to the repository"),
    404: ("not_found", "not found ({reason}); check the name and the revision"),
    407: ("denied", "the proxy of the environment asks for a password ({reason}); put it into the proxy's address"),
    408: ("busy", "the Hub waited too long for the request ({reason}); run the same command again, it goes on"),
    409: ("conflict", "exists already or is in the way ({reason}); open the repository, then run the command again"),
    412: ("changed", "someone else changed it meanwhile; run the same command again, it shows the difference first"),
    413: ("too_large", "the Hub finds a file too large ({reason}); build with smaller shards"),
    429: ("busy", "the Hub asks to slow down ({reason}); wait some minutes and run the same command again, it goes on"),
    507: ("full", "the Hub has no space left ({reason}); free space there and run the same command again, it goes on"),
}


class RemoteError(ToolingError):
    """A Hub refused or could not be reached; the message names the repository and the next step.

    Attributes:
        kind: what was wrong, for callers that go on from there.
        status: of the HTTP response; None if there was no response.
        retry_after_s: how long the Hub asks to wait; None if it does not say.
    """

    def __init__(
        self, message: str, kind: Kind = "refused", status: int | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.kind, self.status, self.retry_after_s = kind, status, retry_after_s

    @property
    def is_transient(self) -> bool:
        """Whether it may be gone at the next try: a busy Hub, a lost connection, an answer of a proxy in between."""
        return self.kind in ("busy", "unreachable")

    def wait(self, attempt: int) -> None:
        """Waits as long as the Hub asks for, or twice as long each time, up to MAX_WAIT_SECONDS."""
        asked_s = 2 ** (attempt - 1) if self.retry_after_s is None else self.retry_after_s
        time.sleep(min(asked_s, MAX_WAIT_SECONDS))


@dataclass(frozen=True)
class RemoteFile:
    """One file of a revision.

    Attributes:
        path: in the repository, with forward slashes.
        num_bytes: size of the content.
        sha256: of the content of a large file; None for a regular one.
        blob_sha1: git's digest of a regular file; None for a large one.
    """

    path: str
    num_bytes: int
    sha256: str | None
    blob_sha1: str | None


@dataclass(frozen=True)
class Remote:
    """A dataset repository: the client, with endpoint and token of the environment, and the repository's id.

    Every method raises RemoteError where the Hub refuses or cannot be reached.
    """

    api: HfApi
    repo_id: str

    def call(self, method: str, **arguments: Any) -> Any:
        """Calls a method of the client's HfApi on this repository and reads what it yields to its end.

        Methods that are not CALLED_ONCE are called again after a busy Hub or a lost connection.
        """
        function = getattr(self.api, method)

        def answer() -> Any:
            found = function(repo_id=self.repo_id, repo_type="dataset", **arguments)
            return list(found) if isinstance(found, Iterator) else found

        return self.attempt(answer, 1 if method in CALLED_ONCE else MAX_TRIES)

    def attempt(self, action: Callable[[], Answer], max_tries: int = MAX_TRIES) -> Answer:
        """Runs an action on the Hub, again where its error is transient; waits as long as the Hub asks for."""
        for attempt in count(1):
            try:
                return action()
            except (_HTTPError, OSError, ValueError, RuntimeError) as error:
                failure = self._failure(error)
                if failure is None:
                    raise
            if not failure.is_transient or attempt == max_tries:
                raise failure  # not inside `except`: the client's errors carry addresses and requests
            failure.wait(attempt)
        raise AssertionError("the loop returns or raises")

    def create(self, *, private: bool) -> None:
        """Creates the repository unless it is there."""
        self.call("create_repo", private=private, exist_ok=True)
        self.choose_transfer()

    def head(self, revision: str | None = None) -> str:
        """Commit id of a branch, tag or commit; None is the branch main."""
        return str(self.call("repo_info", revision=revision).sha)

    def branches(self) -> dict[str, str]:
        """Commit id of each branch by name."""
        return {branch.name: branch.target_commit for branch in self.call("list_repo_refs").branches}

    def history(self, revision: str | None = None) -> list[GitCommitInfo]:
        """The commits of a branch, tag or commit, newest first; None is the branch main."""
        return list(self.call("list_repo_commits", revision=revision))

    def files(self, revision: str | None = None) -> dict[str, RemoteFile]:
        """Every file of a branch, tag or commit by path, in order of the paths; None is the branch main."""
        tree = self.call("list_repo_tree", revision=revision, recursive=True)
        found = {}
        for entry in sorted((entry for entry in tree if isinstance(entry, RepoFile)), key=lambda entry: entry.path):
            large = entry.lfs.sha256 if entry.lfs else None
            found[entry.path] = RemoteFile(entry.path, entry.size, large, None if large else entry.blob_id)
        return found

    def download(self, path: str, commit: str, folder: Path | None = None) -> Path:
        """Fetches a file of a commit into a folder, or into the client's cache."""
        return Path(self.call("hf_hub_download", filename=path, revision=commit, local_dir=folder))

    def read(self, path: str, commit: str, read: Callable[[BinaryIO], Answer], *, block_bytes: int) -> Answer:
        """Gives a file of a commit to `read`; only the ranges that it reads are fetched, in blocks of `block_bytes`."""

        def open_and_read() -> Answer:
            with self._file_system.open(self.address(path, commit), "rb", block_size=block_bytes) as file:
                return read(cast(BinaryIO, file))

        return self.attempt(open_and_read)

    def address(self, path: str, commit: str) -> str:
        """A file of a commit as messages and the client's file system name it."""
        return f"datasets/{self.repo_id}@{commit}/{path}"

    def choose_transfer(self) -> None:
        """Turns the client's Xet on or off for this endpoint and repository.

        The client takes Xet wherever its package is installed and fails at an endpoint without it. A switch set in the
        environment is left alone.
        """
        if _is_switched_off:
            return
        url = f"{self.api.endpoint}/api/datasets/{self.repo_id}/xet-read-token/main"
        token = get_token()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = self.attempt(lambda: get_session().get(url, headers=headers))
        constants.HF_HUB_DISABLE_XET = answer.status_code != 200

    @cached_property
    def _file_system(self) -> HfFileSystem:
        """Reads ranges of the repository's files; remembers no listing of another Remote."""
        token: Any = self.api.token
        return HfFileSystem(endpoint=self.api.endpoint, token=token, skip_instance_cache=True)

    def _failure(self, error: BaseException) -> RemoteError | None:
        """The error of the client or the connection that `error` is or was raised from, in one line; None if none."""
        seen: BaseException | None = error
        while seen is not None and not isinstance(seen, _CLIENT_ERRORS):
            seen = seen.__cause__ or seen.__context__
        if seen is None:
            return None
        response = getattr(seen, "response", None)
        if response is None:
            kind, sentence = _explain(seen, self.api.endpoint)
            return RemoteError(f"{self.repo_id}: {sentence}", kind)
        kind, sentence = _explain_response(seen, response, self.api.endpoint)
        asked = response.headers.get("Retry-After", "")
        retry_after_s = int(asked) if asked.isdigit() else None
        return RemoteError(f"{self.repo_id}: {sentence}", kind, response.status_code, retry_after_s)


def connect(repo_id: str) -> Remote:
    """The repository at the endpoint of the environment; it need not exist yet.

    Raises:
        UsageError: HF_ENDPOINT is not an address, or a proxy or certificate of the environment cannot be used.
        RemoteError: `repo_id` is not a repository id, or the endpoint cannot be reached.
    """
    _prepare_client(constants.ENDPOINT)
    remote = Remote(HfApi(library_name="homologous-deepfake", library_version=__version__), repo_id)

    def check_id() -> None:
        validate_repo_id(repo_id)
        if "/" not in repo_id:
            raise HFValidationError("it has the form OWNER/NAME")

    remote.attempt(check_id)
    remote.choose_transfer()
    return remote


@contextmanager
def quiet_client() -> Iterator[None]:
    """Without the client's own progress bars: the caller shows one."""
    was_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not was_disabled:
            enable_progress_bars()


def file_matches(local: Path, remote_file: RemoteFile) -> bool:
    """Whether a local file has the content of a remote one, by size and digest."""
    if local.stat().st_size != remote_file.num_bytes:
        return False
    if remote_file.sha256 is not None:
        return file_sha256(local) == remote_file.sha256
    return blob_sha1(local.read_bytes()) == remote_file.blob_sha1


def blob_sha1(content: bytes) -> str:
    """git's digest of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def redact(text: str) -> str:
    """Text without tokens, secret headers and the signatures of addresses."""
    token = get_token()
    text = text.replace(token, "<token>") if token else text
    text = ACCESS_TOKEN.sub("<token>", SIGNED.sub(r"\1?<signature>", text))
    return SECRET_HEADER.sub(r"\1<secret>", text)


def _explain(error: BaseException, endpoint: str) -> tuple[Kind, str]:
    """Kind and sentence of an error without a response."""
    if isinstance(error, OfflineModeIsEnabled):
        return "offline", "the client is in offline mode; unset HF_HUB_OFFLINE"
    if isinstance(error, LocalTokenNotFoundError):
        return "denied", "no token; set HF_TOKEN or run `hf auth login`"
    if isinstance(error, HFValidationError):
        return "bad_name", f"is not a repository id ({_one_line(str(error))}); use OWNER/NAME"
    again = "run the same command again, it goes on"
    if isinstance(error, json.JSONDecodeError):
        return "unreachable", f"{endpoint} answers with something else than JSON, as busy proxies do; {again}"
    what = _one_line(str(error)) or type(error).__name__
    names = [] if is_on_this_machine(endpoint) else connection_settings()
    way_out = f"check {', '.join(names)}, then {again}" if names else again
    return "unreachable", f"{endpoint} cannot be reached or cut the connection ({what}); {way_out}"


def _explain_response(error: BaseException, response: Any, endpoint: str) -> tuple[Kind, str]:
    """Kind and sentence of an error with a response."""
    status = response.status_code
    reason = _one_line(getattr(error, "server_message", None) or f"status {status}")
    if response.request.url.path.endswith("/api/validate-yaml"):
        return "bad_card", f"the Hub refuses the card: {reason}; run `tooling card` again"
    if isinstance(error, GatedRepoError):
        return "gated", f"is gated and this token has no access ({reason}); ask for access on its page"
    if isinstance(error, RevisionNotFoundError):
        return "no_revision", f"has no such revision ({reason}); name a branch, tag or commit that it has"
    if isinstance(error, RepositoryNotFoundError) and status in (401, 404):
        kind: Kind = "no_repository" if status == 404 else "denied"
        if get_token() is None:
            return kind, f"{endpoint} shows no such dataset without a token; set HF_TOKEN or run `hf auth login`"
        return kind, f"{endpoint} has no such dataset, or hides it from this token; check name and HF_TOKEN"
    if status in _OF_STATUS:
        kind, sentence = _OF_STATUS[status]
        return kind, sentence.format(endpoint=endpoint, reason=reason)
    if status >= 500:
        kind = "busy" if status in (500, 502, 503, 504) else "refused"
        return kind, f"the Hub is in trouble ({reason}); run the same command again later, it goes on"
    return "refused", f"the Hub refuses ({reason}); check the repository and its settings there"


def _one_line(text: str) -> str:
    return redact(" ".join(text.split()))[:300].rstrip(" .")


def is_on_this_machine(endpoint: str) -> bool:
    """Whether an address leads back to this machine, where no proxy belongs in between."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def connection_settings() -> list[str]:
    """Variables of the environment that are set and change how a Hub is reached: proxies and certificates."""
    return [name for name in os.environ if name.upper() in CONNECTION_NAMES and os.environ[name]]


def direct_environment() -> dict[str, str]:
    """The environment without `connection_settings`, for a process that reaches a Hub on this machine."""
    left_out = connection_settings()
    return {name: value for name, value in os.environ.items() if name not in left_out}


@contextmanager
def _without(names: Iterable[str]) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(kept)


def _failing(make_client: Callable[[], Any], without: str = "") -> str:
    """Why a client cannot be made, also without one variable of the environment; "" if it can."""
    with _without([without] if without else []):
        try:
            make_client().close()
        except Exception as error:  # whatever the HTTP library has for it
            return _one_line(str(error)) or type(error).__name__
    return ""


_is_switched_off = bool(constants.HF_HUB_DISABLE_XET)
_prepared_for = ""


def _prepare_client(endpoint: str) -> None:
    """Once per process and endpoint: time limits and bounded waits for the client's connections, redacted logs."""
    global _prepared_for
    if not re.match(r"https?://[^/]", endpoint):
        raise UsageError(f"HF_ENDPOINT={endpoint}: is not an address; write it with http:// or https:// in front")
    if _prepared_for == endpoint:
        return
    if not _prepared_for:
        _redact_logs()
    with _without(connection_settings()):
        first = get_session()
    hooks, client_class = first.event_hooks, type(first)
    is_local = is_on_this_machine(endpoint)

    def bound_wait(response: Any) -> None:
        asked = response.headers.get("Retry-After", "")
        if asked.isdigit() and int(asked) > MAX_WAIT_SECONDS:
            response.headers["Retry-After"] = str(MAX_WAIT_SECONDS)

    bounded = {**hooks, "response": [*hooks.get("response", []), bound_wait]}

    def make_client() -> Any:
        return client_class(event_hooks=bounded, follow_redirects=True, timeout=TIMEOUT_SECONDS, trust_env=not is_local)

    if reason := _failing(make_client):
        names = [name for name in connection_settings() if not _failing(make_client, name)] or connection_settings()
        raise UsageError(f"{', '.join(names)}: cannot be used to reach {endpoint} ({reason}); correct or unset it")
    set_client_factory(make_client)
    _prepared_for = endpoint


def _redact_logs() -> None:
    make_record = logging.getLogRecordFactory()

    def make_redacted(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = make_record(*arguments, **named)
        if record.name.startswith(CLIENT_LOGGERS):
            record.msg, record.args = redact(record.getMessage()), ()
            if record.exc_info:
                record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return record

    logging.setLogRecordFactory(make_redacted)
