"""Discussions and pull requests: records and events in the database; the commits of a pull request on refs/pr/N."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from io import BytesIO
from sqlite3 import Row
from typing import Any

from dulwich.patch import write_tree_diff

from tooling.hub.responses import HubError, timestamp
from tooling.hub.rights import Repo
from tooling.hub.store import graph, history
from tooling.hub.store.database import Database
from tooling.hub.store.repository import NewCommit, Repository

DIFF_BYTES = 1 << 20
PAGE_SIZE = 50


@dataclass(frozen=True)
class Board:
    """The discussions of one repository."""

    database: Database
    repository: Repository
    repo: Repo


def pull_ref(number: int) -> str:
    return f"refs/pr/{number}"


@dataclass(frozen=True)
class Proposal:
    """What makes a discussion a pull request: the branch (full ref name) it is for, and where it starts.

    Without a commit of its own it is a draft at the branch's head.
    """

    base: str
    commit_id: str | None = None


def open_discussion(
    board: Board, author: str, title: str, description: str = "", proposal: Proposal | None = None
) -> int:
    """Adds a discussion or pull request and returns its number.

    The ref of a pull request is set before the record: one without the other is removed by the next start.
    """
    title = title.strip()
    if not title:
        raise HubError(400, "A discussion needs a title")
    with board.repository.writing():
        row = board.database.row("SELECT max(number) AS last FROM discussions WHERE repo = ?", (board.repo.key,))
        number = (row["last"] or 0) + 1 if row is not None else 1
        base = proposal.base if proposal is not None else None
        is_draft = proposal is not None and proposal.commit_id is None
        if proposal is not None:
            head = proposal.commit_id or board.repository.resolve(proposal.base)
            board.repository.set_ref(pull_ref(number), board.repository.head(pull_ref(number)), head)
        values = (board.repo.key, number, title, author, "draft" if is_draft else "open", time.time(), base)
        events = [("comment", _comment(description))]
        if proposal is not None and proposal.commit_id is not None:
            events.append(("commit", {"subject": title, "oid": proposal.commit_id}))
        try:
            _record(board, values, events)
        except BaseException:
            if proposal is not None:
                board.repository.remove_ref(pull_ref(number))
            raise
    return number


def _record(board: Board, values: tuple[Any, ...], events: list[tuple[str, dict[str, Any]]]) -> None:
    _, number, _, author, *_ = values
    with board.database.transaction():
        board.database.execute("INSERT INTO discussions VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", values)
        for kind, data in events:
            _add_event(board, number, kind, author, data)


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
    row = board.database.row("SELECT * FROM discussions WHERE repo = ? AND number = ?", (board.repo.key, number))
    if row is None:
        raise HubError(404, f"Discussion {number} does not exist in {board.repo.id}")
    return row


def list_page(board: Board, wanted: dict[str, str]) -> dict[str, Any]:
    """One page (`p`) of the discussions, newest first, filtered by type, status and author."""
    rows = board.database.rows("SELECT * FROM discussions WHERE repo = ? ORDER BY number DESC", (board.repo.key,))
    kind, status, author = wanted.get("type", "all"), wanted.get("status", "all"), wanted.get("author")
    chosen = [
        row
        for row in rows
        if (kind == "all" or (kind == "pull_request") == (row["base"] is not None))
        and (status == "all" or (status == "open") == (row["status"] in ("open", "draft")))
        and (author is None or row["author"] == author)
    ]
    page = int(wanted.get("p", "0")) if wanted.get("p", "0").isdigit() else 0
    start = page * PAGE_SIZE
    shown = [_summary(board.repo, row) for row in chosen[start : start + PAGE_SIZE]]
    return {"discussions": shown, "count": len(chosen), "start": start}


def details(board: Board, number: int, *, with_diff: bool) -> dict[str, Any]:
    """A discussion with its events; of a pull request also its base, conflicts and (on demand) diff."""
    row = find(board, number)
    events = board.database.rows(
        "SELECT * FROM events WHERE repo = ? AND number = ? ORDER BY position", (board.repo.key, number)
    )
    shown = {**_summary(board.repo, row), "events": [show_event(event) for event in events]}
    if row["base"] is None:
        return shown
    changes = {"base": row["base"]}
    if row["merge_commit"] is not None:
        changes["mergeCommitId"] = row["merge_commit"]
    head, base = board.repository.head(pull_ref(number)), board.repository.head(row["base"])
    clashes: list[str] = []
    if head is not None and base is not None and row["status"] != "merged":
        clashes = history.conflicts(board.repository, base, head) if _has_common(board.repository, base, head) else []
        if with_diff and _has_common(board.repository, base, head):
            shown["diff"] = _diff(board.repository, history.merge_base(board.repository, base, head), head)
    return {**shown, "changes": changes, "filesWithConflicts": clashes}


def comment(board: Board, number: int, author: str, text: Any) -> dict[str, Any]:
    find(board, number)
    if not isinstance(text, str) or not text.strip():
        raise HubError(400, "A comment needs some text")
    with board.database.transaction():
        return _add_event(board, number, "comment", author, _comment(text))


def edit_comment(board: Board, number: int, event_id: str, text: str | None) -> dict[str, Any]:
    """Replaces the text of a comment; None hides it."""
    values = (event_id, board.repo.key, number)
    row = board.database.row(
        "SELECT * FROM events WHERE id = ? AND repo = ? AND number = ? AND type = 'comment'", values
    )
    if row is None:
        raise HubError(404, f"There is no such comment in discussion {number} of {board.repo.id}")
    data = {**_comment("" if text is None else text), "edited": True, "hidden": text is None}
    board.database.execute("UPDATE events SET data = ? WHERE id = ?", (json.dumps(data), event_id))
    return {**show_event(row), "data": data}


def is_comment_of(board: Board, event_id: str, user: str) -> bool:
    row = board.database.row("SELECT author FROM events WHERE id = ? AND repo = ?", (event_id, board.repo.key))
    return row is not None and str(row["author"]).lower() == user.lower()


def change_title(board: Board, number: int, author: str, title: str) -> dict[str, Any]:
    old = find(board, number)["title"]
    with board.database.transaction():
        board.database.execute(
            "UPDATE discussions SET title = ? WHERE repo = ? AND number = ?", (title, board.repo.key, number)
        )
        return _add_event(board, number, "title-change", author, {"from": old, "to": title})


def change_status(board: Board, number: int, author: str, request: dict[str, Any]) -> dict[str, Any]:
    """Opens or closes a discussion, with an optional comment."""
    status = request.get("status")
    if status not in ("open", "closed"):
        raise HubError(400, f"status must be open or closed, got {status!r}")
    if find(board, number)["status"] == "merged":
        raise HubError(400, f"Pull request {number} is merged: its status cannot change")
    with board.database.transaction():
        if request.get("comment"):
            _add_event(board, number, "comment", author, _comment(str(request["comment"])))
        return _set_status(board, number, author, status)


def merge(board: Board, number: int, author: str, text: str | None) -> str:
    """Merges a pull request into its base and returns the merge commit."""
    row = find(board, number)
    if row["base"] is None or row["status"] not in ("open", "draft"):
        raise HubError(400, f"Discussion {number} is not an open pull request")
    if row["status"] == "draft":
        raise HubError(400, f"Pull request {number} is a draft: set its status to open first")
    message = f"{row['title']} (#{number})\n\n{text or ''}".strip()
    head = board.repository.resolve(pull_ref(number))
    merged = history.merge(board.repository, row["base"], head, NewCommit(author, message))
    with board.database.transaction():
        sql = "UPDATE discussions SET merge_commit = ? WHERE repo = ? AND number = ?"
        board.database.execute(sql, (merged, board.repo.key, number))
        _set_status(board, number, author, "merged")
    return merged


def show_event(row: Row) -> dict[str, Any]:
    return _event(row["id"], row["type"], row["author"], row["created_at"], json.loads(row["data"]))


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
        "isPullRequest": row["base"] is not None,
        "createdAt": timestamp(row["created_at"]),
        "author": {"name": row["author"], "type": "user"},
        "repo": {"name": repo.id, "type": repo.type},
        "repoOwner": {"name": repo.namespace},
    }


def _has_common(repository: Repository, ours: str, theirs: str) -> bool:
    known = graph.reachable_from(repository.objects, ours)
    return not known.isdisjoint(graph.reachable_from(repository.objects, theirs))


def _diff(repository: Repository, old: str, new: str) -> str:
    text = BytesIO()
    write_tree_diff(text, repository.objects, repository.commit(old).tree, repository.commit(new).tree)
    return text.getvalue()[:DIFF_BYTES].decode(errors="replace")
