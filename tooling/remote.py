"""A dataset repository at a Hub: connecting, telling its trouble in one line, and what it holds.

Endpoint and token come from where huggingface_hub takes them (HF_ENDPOINT, HF_TOKEN, `hf auth login`). Neither the
token nor the signature of an upload address leaves this module in a message or a log, at any level.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import HfApi, constants, errors, get_session, get_token, set_client_factory
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._validators import validate_repo_id
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from tooling import __version__
from tooling.errors import ToolingError
from tooling.workspace.files import file_sha256

HTTPError: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]  # of the HTTP library the client uses
NoJSONError = json.JSONDecodeError  # what the client makes of a busy proxy's page where it expects JSON
TIMEOUT_SECONDS = 300.0  # for one read or write on a connection, not for a whole file; the client's own has none
MAX_WAIT_SECONDS = 60  # of one Retry-After; the client's own waits as long as it is told to
MAX_TRIES = 5
BUSY = (408, 429, 500, 502, 503, 504)
SIGNED = re.compile(r"(https?://[^\s?\"']+)\?[^\s\"'>,)]+")
# `(b'X-Xet-Access-Token', b'...')` is how the HTTP library logs a header.
SECRET_HEADER = re.compile(
    r"((?:authorization|set-cookie|x-xet-access-token)[\"']?\s*[:,]\s*b?[\"']?)[^\"'\r\n]+", re.I
)
ACCESS_TOKEN = re.compile(r"\bhf_[A-Za-z0-9_]{8,}")
CLIENT_LOGGERS = ("huggingface_hub", "httpx", "httpcore", "hf_xet", "datasets", "fsspec", "filelock")

Answer = TypeVar("Answer")


class RemoteError(ToolingError):
    """A Hub refused or could not be reached; the message names the repository and the next step."""


@dataclass(frozen=True)
class Remote:
    """A dataset repository: the client, with endpoint and token of the environment, and the repository's id."""

    api: HfApi
    repo_id: str

    @property
    def arguments(self) -> dict[str, Any]:
        """What nearly every call of the client takes."""
        return {"repo_id": self.repo_id, "repo_type": "dataset"}


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


def connect(repo_id: str) -> Remote:
    """The repository at the endpoint of the environment; it need not exist yet.

    Raises:
        RemoteError: `repo_id` cannot be one, or the endpoint cannot be reached.
    """
    _prepare_client()
    remote = Remote(HfApi(library_name="homologous-deepfake", library_version=__version__), repo_id)
    with explaining(remote):
        validate_repo_id(repo_id)
        if "/" not in repo_id:
            raise HFValidationError("it has the form OWNER/NAME")
    choose_transfer(remote)
    return remote


def choose_transfer(remote: Remote) -> None:
    """Turns the client's Xet on or off for this endpoint; call it again once a missing repository was created.

    The client takes Xet wherever its package is installed and fails at an endpoint without it. A switch set in the
    environment is left alone.
    """
    if _is_switched_off:
        return
    url = f"{remote.api.endpoint}/api/datasets/{remote.repo_id}/xet-read-token/main"
    token = get_token()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with explaining(remote):
        answer = patiently(lambda: get_session().get(url, headers=headers))
    constants.HF_HUB_DISABLE_XET = answer.status_code != 200


def patiently(call: Callable[[], Answer]) -> Answer:
    """Calls again after a busy Hub or a lost connection, a bounded number of times; only for what may happen twice.

    Most of the client's requests are sent once. The waits are those the Hub asks for, up to MAX_WAIT_SECONDS.
    """
    for attempt in range(1, MAX_TRIES):
        try:
            return call()
        except (HTTPError, NoJSONError) as error:
            if not is_passing(error):
                raise
            wait(error, attempt)
    return call()


def is_passing(error: Exception) -> bool:
    """Whether an error may be gone at the next try: a busy Hub, a lost connection, an answer of a proxy in between."""
    response = getattr(error, "response", None)
    return not isinstance(error, HfHubHTTPError) or (response is not None and response.status_code in BUSY)


def wait(error: Exception, attempt: int) -> None:
    """Waits as long as the Hub asks for, or twice as long each time, up to MAX_WAIT_SECONDS."""
    response = getattr(error, "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    time.sleep(min(int(asked) if asked.isdigit() else 2 ** (attempt - 1), MAX_WAIT_SECONDS))


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


def remote_files(remote: Remote, revision: str | None = None) -> dict[str, RemoteFile]:
    """Every file of a branch, tag or commit by path, in order of the paths; None is the branch main."""

    def listing() -> list[RepoFile]:
        tree = remote.api.list_repo_tree(**remote.arguments, revision=revision, recursive=True)
        return [entry for entry in tree if isinstance(entry, RepoFile)]

    with explaining(remote):
        entries = patiently(listing)
    found = {}
    for entry in sorted(entries, key=lambda entry: entry.path):
        large = entry.lfs.sha256 if entry.lfs else None
        found[entry.path] = RemoteFile(entry.path, entry.size, large, None if large else entry.blob_id)
    return found


def remote_head(remote: Remote, revision: str | None = None) -> str:
    """Commit id of a branch, tag or commit; None is the branch main."""
    with explaining(remote):
        head = patiently(lambda: remote.api.dataset_info(remote.repo_id, revision=revision)).sha
    assert head is not None
    return head


def branch_heads(remote: Remote) -> dict[str, str]:
    """Commit id of each branch by name."""
    with explaining(remote):
        refs = patiently(lambda: remote.api.list_repo_refs(**remote.arguments))
    return {branch.name: branch.target_commit for branch in refs.branches}


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


@contextmanager
def explaining(remote: Remote) -> Iterator[None]:
    """Turns what the client raises into one line that names the repository and the next step.

    Raises:
        RemoteError: in the place of any error of the client or the connection.
    """
    try:
        yield
    except ToolingError:
        raise
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        found = _client_error(error)
        if found is None:
            raise
        # `from None`: the client's exceptions carry addresses and requests.
        raise RemoteError(f"{remote.repo_id}: {_explain(found, remote)}") from None


def redact(text: str) -> str:
    """Text without tokens, secret headers and the signatures of addresses."""
    token = get_token()
    text = text.replace(token, "<token>") if token else text
    text = ACCESS_TOKEN.sub("<token>", SIGNED.sub(r"\1?<signature>", text))
    return SECRET_HEADER.sub(r"\1<secret>", text)


def _client_error(error: BaseException) -> Exception | None:
    """The error of the client or the connection that `error` is or was raised from; None where there is none."""
    refusals = (HTTPError, OfflineModeIsEnabled, LocalTokenNotFoundError, HFValidationError)
    known = (*refusals, NoJSONError, ConnectionError, TimeoutError)
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, known):
            return seen
        if type(seen) is ValueError and "Invalid metadata in README.md" in str(seen):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _explain(error: Exception, remote: Remote) -> str:
    endpoint = remote.api.endpoint
    if isinstance(error, OfflineModeIsEnabled):
        return "the client is in offline mode; unset HF_HUB_OFFLINE"
    if isinstance(error, LocalTokenNotFoundError):
        return "no token; set HF_TOKEN or run `hf auth login`"
    if isinstance(error, HFValidationError):
        return f"is no name of a repository ({_one_line(str(error))}); use OWNER/NAME"
    if isinstance(error, NoJSONError):
        return f"{endpoint} answers with something else than JSON, as busy proxies do; run the same command again"
    if type(error) is ValueError:
        return f"the Hub refuses the card: {_one_line(str(error))}; run `tooling card` again"
    response = getattr(error, "response", None)
    if response is None:
        what = _one_line(str(error)) or type(error).__name__
        return f"{endpoint} cannot be reached or cut the connection ({what}); run the same command again, it goes on"
    return _explain_status(error, response, remote)


def _explain_status(error: Exception, response: Any, remote: Remote) -> str:
    status, endpoint = response.status_code, remote.api.endpoint
    told = _one_line(getattr(error, "server_message", None) or f"status {status}")
    if isinstance(error, GatedRepoError):
        return f"is gated and this token has no access ({told}); ask for access on its page"
    if isinstance(error, RevisionNotFoundError):
        return f"has no such revision ({told}); name a branch, tag or commit that it has"
    if status == 401 and not isinstance(error, RepositoryNotFoundError):
        return f"{endpoint} does not accept the token ({told}); set another HF_TOKEN or run `hf auth login`"
    if status in (401, 404) and isinstance(error, RepositoryNotFoundError):
        if get_token() is None:
            return f"{endpoint} shows no such dataset without a token; set HF_TOKEN or run `hf auth login`"
        return f"{endpoint} has no such dataset, or hides it from this token; check name and HF_TOKEN"
    sentences = {
        403: f"this token may not do that ({told}); use a token with write access to the repository",
        404: f"not found ({told}); check the name and the revision",
        409: f"exists already or is in the way ({told}); look at the repository, then run the command again",
        412: "someone else changed it meanwhile; run the same command again, it shows the difference first",
        413: f"the Hub finds a file too large ({told}); build with smaller shards",
        429: f"the Hub asks to slow down ({told}); wait some minutes and run the same command again, it goes on",
        507: f"the Hub has no space left ({told}); free space there and run the same command again, it goes on",
    }
    if status in sentences:
        return sentences[status]
    if status >= 500:
        return f"the Hub is in trouble ({told}); run the same command again later, it goes on"
    return f"the Hub refuses ({told}); look at the repository and its settings there"


def _one_line(text: str) -> str:
    return redact(" ".join(text.split()))[:300].rstrip(" .")


_is_switched_off = bool(constants.HF_HUB_DISABLE_XET)
_is_prepared = False


def _prepare_client() -> None:
    """Once per process: time limits and bounded waits for the client's connections, redacted logs."""
    global _is_prepared
    if _is_prepared:
        return
    _is_prepared = True
    first = get_session()
    hooks, client_class = first.event_hooks, type(first)

    def bound_wait(response: Any) -> None:
        asked = response.headers.get("Retry-After", "")
        if asked.isdigit() and int(asked) > MAX_WAIT_SECONDS:
            response.headers["Retry-After"] = str(MAX_WAIT_SECONDS)

    bounded = {**hooks, "response": [*hooks.get("response", []), bound_wait]}
    set_client_factory(lambda: client_class(event_hooks=bounded, follow_redirects=True, timeout=TIMEOUT_SECONDS))
    make_record = logging.getLogRecordFactory()

    def make_redacted(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = make_record(*arguments, **named)
        if record.name.startswith(CLIENT_LOGGERS):
            record.msg, record.args = redact(record.getMessage()), ()
            if record.exc_info:
                record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return record

    logging.setLogRecordFactory(make_redacted)
