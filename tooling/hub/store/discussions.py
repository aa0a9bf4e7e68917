"""Pull requests: records and events in the database, the commits on refs/pr/N.

Discussions without commits, of a database that an earlier version wrote, keep their rows and numbers and are not shown.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from io import BytesIO
from sqlite3 import Row
from typing import Any

from dulwich.patch import write_tree_diff

from tooling.hub.fields import Fields
from tooling.hub.responses import HubError, read_number, timestamp
from tooling.hub.rights import Repo
from tooling.hub.store import graph, history
from tooling.hub.store.database import Database
from tooling.hub.store.repository import NewCommit, Repository

DIFF_BYTES = 1 << 20
PAGE_SIZE = 50


@dataclass(frozen=True)
class Board:
    """The pull requests of one repository."""

    database: Database
    repository: Repository
    repo: Repo


def pull_ref(number: int) -> str:
    return f"refs/pr/{number}"


@dataclass(frozen=True)
class Proposal:
    """A pull request to be opened: the branch (full ref name) that it is for, and its first commit on top of that."""

    base: str
    commit_id: str
    title: str
    description: str


def open_pull_request(board: Board, author: str, proposal: Proposal) -> int:
    """Adds a pull request and returns its number.

    Its ref is set before the record: one without the other is removed by the next start.
    """
    title = proposal.title.strip()
    if not title:
        raise HubError(400, "A pull request needs a title")
    with board.repository.writing():
        row = board.database.row("SELECT max(number) AS last FROM discussions WHERE repo = ?", (board.repo.key,))
        number = (row["last"] or 0) + 1 if row is not None else 1
        board.repository.set_ref(pull_ref(number), board.repository.head(pull_ref(number)), proposal.commit_id)
        values = (board.repo.key, number, title, author, time.time(), proposal.base)
        try:
            with board.database.transaction():
                board.database.execute("INSERT INTO discussions VALUES (?, ?, ?, ?, 'open', ?, ?, NULL)", values)
                _add_event(board, number, "comment", author, _comment(proposal.description))
                _add_event(board, number, "commit", author, {"subject": title, "oid": proposal.commit_id})
        except BaseException:
            board.repository.remove_ref(pull_ref(number))
            raise
    return number


def remove_unrecorded_pulls(board: Board) -> None:
    """Removes the refs of pull requests whose record a killed server did not write."""
    rows = board.database.rows("SELECT number FROM discussions WHERE repo = ?", (board.repo.key,))
    recorded = {pull_ref(row["number"]) for row in rows}
    for name in board.repository.heads():
        if name.startswith("refs/pr/") and name not in recorded:
            board.repository.remove_ref(name)


def note_commit(board: Board, number: int, author: str, commit_id: str, title: str) -> None:
    with board.database.transaction():
        _add_event(board, number, "commit", author, {"subject": title, "oid": commit_id})


def find(board: Board, number: int) -> Row:
    sql = "SELECT * FROM discussions WHERE repo = ? AND number = ? AND base IS NOT NULL"
    row = board.database.row(sql, (board.repo.key, number))
    if row is None:
        raise HubError(404, f"Pull request {number} does not exist in {board.repo.id}")
    return row


def list_page(board: Board, query: dict[str, str]) -> dict[str, Any]:
    """One page (`p`) of the pull requests, newest first, filtered by type, status and author."""
    sql = "SELECT * FROM discussions WHERE repo = ? AND base IS NOT NULL ORDER BY number DESC"
    kind, status, author = query.get("type", "all"), query.get("status", "all"), query.get("author")
    chosen = [
        row
        for row in board.database.rows(sql, (board.repo.key,))
        if kind in ("all", "pull_request")
        and (status == "all" or (status == "open") == (row["status"] in ("open", "draft")))
        and (author is None or row["author"] == author)
    ]
    page = read_number(query.get("p", "0")) or 0
    start = page * PAGE_SIZE
    shown = [_summary(board.repo, row) for row in chosen[start : start + PAGE_SIZE]]
    return {"discussions": shown, "count": len(chosen), "start": start}


def details(board: Board, number: int, *, with_diff: bool) -> dict[str, Any]:
    """A pull request with its events, base, conflicts and (on demand) diff."""
    row = find(board, number)
    sql = "SELECT * FROM events WHERE repo = ? AND number = ? ORDER BY position"
    events = [
        _event(event["id"], event["type"], event["author"], event["created_at"], json.loads(event["data"]))
        for event in board.database.rows(sql, (board.repo.key, number))
    ]
    shown = {**_summary(board.repo, row), "events": events}
    changes = {"base": row["base"]}
    if row["merge_commit"] is not None:
        changes["mergeCommitId"] = row["merge_commit"]
    shown |= {"changes": changes, "filesWithConflicts": []}
    head, base = board.repository.head(pull_ref(number)), board.repository.head(row["base"])
    if row["status"] == "merged" or head is None or base is None or not _has_common(board.repository, base, head):
        return shown
    shown["filesWithConflicts"] = history.conflicts(board.repository, base, head)
    if with_diff:
        shown["diff"] = _diff(board.repository, history.merge_base(board.repository, base, head), head)
    return shown


def change_status(board: Board, number: int, author: str, request: Fields) -> dict[str, Any]:
    """Opens or closes a pull request, with an optional comment."""
    status, comment = request.text("status"), request.text("comment")
    if status not in ("open", "closed"):
        raise HubError(400, f"status must be open or closed, got {status!r}")
    if find(board, number)["status"] == "merged":
        raise HubError(400, f"Pull request {number} is merged: its status cannot change")
    with board.database.transaction():
        if comment:
            _add_event(board, number, "comment", author, _comment(comment))
        return _set_status(board, number, author, status)


def merge(board: Board, number: int, author: str, text: str) -> str:
    """Merges a pull request into its base and returns the merge commit."""
    row = find(board, number)
    if row["status"] != "open":
        raise HubError(400, f"Pull request {number} is {row['status']}, not open")
    message = f"{row['title']} (#{number})\n\n{text}".strip()
    head = board.repository.resolve(pull_ref(number))
    merged = history.merge(board.repository, row["base"], head, NewCommit(author, message))
    with board.database.transaction():
        sql = "UPDATE discussions SET merge_commit = ? WHERE repo = ? AND number = ?"
        board.database.execute(sql, (merged, board.repo.key, number))
        _set_status(board, number, author, "merged")
    return merged


def _event(event_id: str, kind: str, author: str, created_at: float, data: dict[str, Any]) -> dict[str, Any]:
    shown = {"id": event_id, "type": kind, "createdAt": timestamp(created_at), "data": data}
    return {**shown, "author": {"name": author, "type": "user"}}


def _add_event(board: Board, number: int, kind: str, author: str, data: dict[str, Any]) -> dict[str, Any]:
    event_id, now = uuid.uuid4().hex[:24], time.time()
    sql = "INSERT INTO events SELECT ?, ?, ?, count(*), ?, ?, ?, ? FROM events WHERE repo = ? AND number = ?"
    board.database.execute(
        sql, (event_id, board.repo.key, number, kind, author, now, json.dumps(data), board.repo.key, number)
    )
    return _event(event_id, kind, author, now, data)


def _set_status(board: Board, number: int, author: str, status: str) -> dict[str, Any]:
    board.database.execute(
        "UPDATE discussions SET status = ? WHERE repo = ? AND number = ?", (status, board.repo.key, number)
    )
    return _add_event(board, number, "status-change", author, {"status": status})


def _comment(text: str) -> dict[str, Any]:
    return {"edited": False, "hidden": False, "latest": {"raw": text, "html": ""}}


def _summary(repo: Repo, row: Row) -> dict[str, Any]:
    return {
        "num": row["number"],
        "title": row["title"],
        "status": row["status"],
        "isPullRequest": True,
        "createdAt": timestamp(row["created_at"]),
        "author": {"name": row["author"], "type": "user"},
        "repo": {"name": repo.id, "type": "dataset"},
        "repoOwner": {"name": repo.namespace},
    }


def _has_common(repository: Repository, ours: str, theirs: str) -> bool:
    known = graph.reachable_from(repository.objects, ours)
    return not known.isdisjoint(graph.reachable_from(repository.objects, theirs))


def _diff(repository: Repository, old: str, new: str) -> str:
    text = BytesIO()
    write_tree_diff(text, repository.objects, repository.commit(old).tree, repository.commit(new).tree)
    return text.getvalue()[:DIFF_BYTES].decode(errors="replace")
