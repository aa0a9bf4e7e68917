"""access: who asks for a gated release, who is let in, and the log of these decisions.

    WORKSPACE/recipients.jsonl      one line for each decision: date, repo, user, action, reason, version

The log stays in the workspace: it names people who use the data, so neither a release nor a Hub gets it. A
takedown reads it to say who has to be asked for deletion.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from huggingface_hub.hf_api import AccessRequest

from tooling.errors import UsageError
from tooling.remote import Remote, RemoteError
from tooling.workspace.decoding import decode_json, read_json_lines
from tooling.workspace.files import append_line, sync_folder, write_text
from tooling.workspace.layout import Workspace

Status = Literal["pending", "accepted", "rejected"]
Action = Literal["accepted", "rejected"]

MIN_RETENTION_DAYS = 183  # half a year, the shortest time for which entries are kept


@dataclass(frozen=True)
class Request:
    """One request for access, as the Hub lists it.

    Attributes:
        user: name at the Hub.
        date: ISO 8601 day of the request.
        fields: answers to the questions of the card's `extra_gated_fields`.
    """

    user: str
    date: str
    status: str
    fullname: str
    email: str
    fields: dict[str, str]


@dataclass(frozen=True)
class LogEntry:
    """One line of recipients.jsonl.

    Attributes:
        date: ISO 8601 day of the decision.
        repo: id of the dataset repository.
        action: what was decided; "accepted" means that the user may have downloaded the data from then on.
        reason: why, for a rejection; "" otherwise.
        version: of the release that was then current.

    Raises:
        ValueError: the date is not a day.
    """

    date: str
    repo: str
    user: str
    action: Action
    reason: str
    version: str

    def __post_init__(self) -> None:
        date.fromisoformat(self.date)


def list_requests(remote: Remote, status: Status = "pending") -> list[Request]:
    """The requests with one status, in the Hub's order.

    Raises:
        UsageError: unknown status.
        RemoteError: the repository is not gated, or the token may not see its requests.
    """
    if status not in get_args(Status):
        raise UsageError(f"{status}: not a status of requests; use {', '.join(get_args(Status))}")
    return [_request(remote, found) for found in remote.call(f"list_{status}_access_requests")]


def accept_request(workspace: Workspace, remote: Remote, user: str, *, date: str) -> LogEntry:
    """Lets a user in and logs it. After a kill in between, a rerun adds the missing entry.

    Raises:
        UsageError: `date` is not an ISO 8601 day.
        RemoteError: the Hub has no request of that user, or the token may not decide.
    """
    check_date(date)
    if user not in {found.user for found in list_requests(remote, "accepted")}:
        remote.call("accept_access_request", user=user)
    return _log(workspace, LogEntry(date, remote.repo_id, user, "accepted", "", workspace.settings.card.version))


def reject_request(workspace: Workspace, remote: Remote, user: str, reason: str, *, date: str) -> LogEntry:
    """Refuses a user, or takes access back, with a reason that the user is shown, and logs it.

    Raises:
        UsageError: no reason, or `date` is not an ISO 8601 day.
        RemoteError: the Hub has no request of that user, or the token may not decide.
    """
    check_date(date)
    if not reason.strip():
        raise UsageError(f"{user}: a rejection needs a reason, which the user can read; give one with --reason")
    if user not in {found.user for found in list_requests(remote, "rejected")}:
        remote.call("reject_access_request", user=user, rejection_reason=reason)
    return _log(workspace, LogEntry(date, remote.repo_id, user, "rejected", reason, workspace.settings.card.version))


def log_path(workspace: Workspace) -> Path:
    """Path of recipients.jsonl."""
    return workspace.path("recipients.jsonl")


def read_log(workspace: Workspace) -> list[LogEntry]:
    """All entries, oldest line first; a last line that a kill tore does not count.

    Raises:
        WorkspaceError: another line is damaged.
    """
    return read_json_lines(log_path(workspace), partial(decode_json, kind=LogEntry), "restore it from a backup")


def recipients(workspace: Workspace) -> dict[str, LogEntry]:
    """Everyone who was ever let in -> the first entry that says so.

    Also who was rejected later: what was downloaded until then still exists.
    """
    found: dict[str, LogEntry] = {}
    for entry in read_log(workspace):
        if entry.action == "accepted":
            found.setdefault(entry.user, entry)
    return dict(sorted(found.items()))


def prune_log(workspace: Workspace, *, today: str, retention_days: int = MIN_RETENTION_DAYS) -> Sequence[LogEntry]:
    """Removes the entries that are older than the retention, and no younger ones.

    Raises:
        UsageError: the retention is shorter than half a year, or `today` is not an ISO 8601 day.
    """
    if retention_days < MIN_RETENTION_DAYS:
        raise UsageError(f"{retention_days} days: entries are kept for at least {MIN_RETENTION_DAYS}; give more")
    oldest = check_date(today) - timedelta(days=retention_days)
    entries = read_log(workspace)
    removed = [entry for entry in entries if date.fromisoformat(entry.date) < oldest]
    if removed:
        write_text(log_path(workspace), "".join(_line(entry) + "\n" for entry in entries if entry not in removed))
    return removed


def check_date(text: str) -> date:
    """The day that an ISO 8601 text names.

    Raises:
        UsageError: it is not one.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"'{text}': not a day; write it as 2026-01-31") from error


def _request(remote: Remote, found: AccessRequest) -> Request:
    if found.username is None:
        problem = "it hides who asks; allow usernames in its gate's settings, the log needs them"
        raise RemoteError(f"{remote.repo_id}: {problem}", "refused")
    fields = {name: str(value) for name, value in (found.fields or {}).items()}
    day = found.timestamp.date().isoformat()
    return Request(found.username, day, found.status, found.fullname or "", found.email or "", fields)


def _log(workspace: Workspace, entry: LogEntry) -> LogEntry:
    """Appends an entry unless the user's last one in that repository says the same."""
    earlier = [old for old in read_log(workspace) if (old.repo, old.user) == (entry.repo, entry.user)]
    if earlier and earlier[-1].action == entry.action:
        return earlier[-1]
    append_line(log_path(workspace), _line(entry))
    sync_folder(workspace.root)
    return entry


def _line(entry: LogEntry) -> str:
    return json.dumps(dataclasses.asdict(entry), ensure_ascii=False)
