"""Gated repositories: permission to read the files, and the requests for access that their authors handle."""

from __future__ import annotations

import json
import time
import uuid
from sqlite3 import Row
from typing import Any

from tooling.hub.fields import Fields
from tooling.hub.responses import HubError, timestamp
from tooling.hub.rights import Account, Repo, is_member
from tooling.hub.store.database import Database


def require_content(database: Database, account: Account | None, repo: Repo) -> None:
    """Checks that the account may read the repository's files: the gate, and whether it is disabled.

    Raises:
        HubError: 403 (401 without a token) GatedRepo, or 403 of a disabled repository.
    """
    if repo.is_disabled:
        raise HubError(403, "Access to this resource is disabled.")
    if repo.gated is None or is_member(database, account, repo.namespace):
        return
    if account is None:
        text = f"Access to dataset {repo.id} is restricted. You must have access to it and be authenticated."
        raise HubError(401, f"{text} Please log in.", "GatedRepo")
    row = database.row("SELECT status FROM access_requests WHERE repo = ? AND user = ?", (repo.key, account.user))
    status = row["status"] if row is not None else None
    if status == "accepted":
        return
    text = f"Access to dataset {repo.id} is restricted and you are not in the authorized list."
    if status == "pending":
        text = f"Your request to access dataset {repo.id} is awaiting a review from the repo authors."
    elif status == "rejected":
        text = f"Your request to access dataset {repo.id} has been rejected by the repo's authors."
    raise HubError(403, f"{text} Ask for access with POST /{repo.full_name}/ask-access.", "GatedRepo")


def ask_access(database: Database, account: Account | None, repo: Repo, fields: dict[str, Any]) -> str:
    """Files a request for a gated repository and returns its status: accepted at once where the gate is automatic."""
    if account is None:
        raise HubError(401, "Invalid username or password.")
    if repo.gated is None:
        raise HubError(400, f"The dataset {repo.id} is not gated")
    status = "accepted" if repo.gated == "auto" else "pending"
    values = (
        uuid.uuid4().hex[:24],
        repo.key,
        account.user,
        status,
        time.time(),
        json.dumps(fields) if fields else None,
    )
    database.execute("INSERT OR IGNORE INTO access_requests VALUES (?, ?, ?, ?, ?, ?, NULL, NULL, 1)", values)
    row = database.row("SELECT status FROM access_requests WHERE repo = ? AND user = ?", (repo.key, account.user))
    return str(row["status"]) if row is not None else status


def list_access(database: Database, repo: Repo, status: str) -> list[dict[str, Any]]:
    """The requests with one status, oldest first, as HfApi reads them."""
    rows = database.rows(
        "SELECT a.*, n.fullname, n.email FROM access_requests a JOIN namespaces n ON n.name = a.user"
        " WHERE a.repo = ? AND a.status = ? ORDER BY a.requested_at, a.id",
        (repo.key, status),
    )
    return [_show_request(row) for row in rows]


def grant_access(database: Database, repo: Repo, user: str, granted_by: str) -> None:
    """Gives access to a user who has not asked; the e-mail address of such a user is not shown to the authors."""
    if database.row("SELECT 1 FROM namespaces WHERE name = ? AND kind = 'user'", (user,)) is None:
        raise HubError(404, f"User {user} does not exist")
    values = (uuid.uuid4().hex[:24], repo.key, user, time.time(), granted_by)
    sql = "INSERT OR IGNORE INTO access_requests VALUES (?, ?, ?, 'accepted', ?, NULL, NULL, ?, 0)"
    if database.execute(sql, values) == 1:
        return
    sql = "UPDATE access_requests SET status = 'accepted', handled_by = ? WHERE repo = ? AND user = ? AND status != ?"
    if database.execute(sql, (granted_by, repo.key, user, "accepted")) == 0:
        raise HubError(400, f"User {user} already has access to {repo.id}")


def handle_access(database: Database, repo: Repo, request: Fields, handled_by: str) -> None:
    """Sets the status of one request, named by its user or by its id."""
    status, reason = request.text("status"), request.text("rejectionReason") or None
    if status not in ("accepted", "rejected", "pending"):
        raise HubError(400, f"status must be accepted, rejected or pending, got {status!r}")
    user = request.text("user")
    column, value = ("user", user) if user else ("id", request.text("requestId"))
    row = database.row(f"SELECT * FROM access_requests WHERE repo = ? AND {column} = ?", (repo.key, value))  # noqa: S608
    if row is None:
        raise HubError(404, f"{repo.id} has no access request of {value}")
    sql = "UPDATE access_requests SET status = ?, rejection_reason = ?, handled_by = ? WHERE id = ? AND status != ?"
    if database.execute(sql, (status, reason, handled_by, row["id"], status)) == 0:
        raise HubError(400, f"The access request of {row['user']} is already {status}")


def _show_request(row: Row) -> dict[str, Any]:
    user = {"user": row["user"], "fullname": row["fullname"]}
    if row["is_email_shared"] and row["email"]:
        user["email"] = row["email"]
    shown = {"requestId": row["id"], "status": row["status"], "timestamp": timestamp(row["requested_at"]), "user": user}
    if row["fields"]:
        shown["fields"] = json.loads(row["fields"])
    if row["rejection_reason"]:
        shown["rejectionReason"] = row["rejection_reason"]
    return shown
