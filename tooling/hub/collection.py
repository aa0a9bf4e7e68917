"""The endpoints about collections: repositories and other collections, listed in an order and with notes.

A collection is found by the id at the end of its slug, whatever its title was when the slug was made. An item follows
its repository when that is renamed; who may not see the repository does not see the item.
"""

from __future__ import annotations

import re
import time
import uuid
from sqlite3 import Row
from typing import Any

from starlette.responses import JSONResponse, Response

from tooling.hub import rights as access
from tooling.hub.call import Call
from tooling.hub.responses import HubError, paged, timestamp
from tooling.hub.root import TYPES

THEMES = ("orange", "blue", "green", "purple", "pink", "indigo")
TITLE_LENGTH, TEXT_LENGTH = 60, 500


def listing(call: Call) -> Response:
    """GET /api/collections: filtered by owner and item; the last changed first, an owner's in the owner's order."""
    query = call.request.query_params
    rows = call.hub.database.rows("SELECT * FROM collections ORDER BY updated_at DESC, id")
    rows = [row for row in rows if _may_read(call, row)]
    if owners := [owner.lower() for owner in query.getlist("owner")]:
        rows = sorted((row for row in rows if row["namespace"].lower() in owners), key=lambda row: row["position"])
    if query.get("sort", "lastModified") not in ("lastModified", "trending", "upvotes"):
        raise HubError(400, f"Cannot sort collections by {query['sort']!r}")
    shown = [_show(call, row) for row in rows]
    for one in shown:
        del one["position"]  # the client counts them itself
    for wanted in query.getlist("item"):
        kind, _, name = wanted.partition("/")
        shown = [one for one in shown if any((f"{i['type']}s", i["id"]) == (kind, name) for i in one["items"])]
    return paged(call.request, shown, size=100)


def create(call: Call) -> Response:
    account = access.require_write_role(call.account)
    namespace = str(call.body.get("namespace") or account.user)
    _require_owner(call, namespace)
    name = call.hub.database.row("SELECT name FROM namespaces WHERE name = ?", (namespace,))
    if name is None:
        raise HubError(404, f"There is no user or organization {namespace}")
    title, description = _title(call.body), _text(call.body, "description")
    values = (uuid.uuid4().hex[:24], name["name"], title, description, bool(call.body.get("private")), time.time())
    sql = "INSERT INTO collections VALUES (?, ?, ?, ?, ?, 'blue', 0, ?)"
    call.hub.database.execute(sql, values)
    return JSONResponse(_show(call, _row(call, values[0])))


def show(call: Call) -> Response:
    return JSONResponse(_show(call, _find(call)))


def update(call: Call) -> Response:
    row, body = _find_own(call), call.body
    changed = {
        "title": _title(body) if "title" in body else row["title"],
        "description": _text(body, "description") if "description" in body else row["description"],
        "is_private": bool(body.get("private", row["is_private"])),
        "theme": body.get("theme", row["theme"]),
        "position": _position(body) if "position" in body else row["position"],
    }
    if changed["theme"] not in THEMES:
        raise HubError(400, f"theme must be one of {', '.join(THEMES)}, got {changed['theme']!r}")
    sql = "UPDATE collections SET title = ?, description = ?, is_private = ?, theme = ?, position = ?, updated_at = ?"
    call.hub.database.execute(f"{sql} WHERE id = ?", (*changed.values(), time.time(), row["id"]))
    return JSONResponse({"success": True, "data": _show(call, _row(call, row["id"]))})


def delete(call: Call) -> Response:
    row = _find_own(call)
    with call.hub.database.transaction():
        call.hub.database.execute("DELETE FROM collection_items WHERE target = ?", (row["id"],))
        call.hub.database.execute("DELETE FROM collections WHERE id = ?", (row["id"],))
    return JSONResponse({"success": True})


def add_item(call: Call) -> Response:
    row = _find_own(call)
    item = call.body.get("item")
    if not isinstance(item, dict):
        raise HubError(400, "item must be an object with type and id")
    kind, target = str(item.get("type")), _target(call, str(item.get("type")), str(item.get("id")))
    values = (uuid.uuid4().hex[:24], row["id"], kind, target, _text(call.body, "note"), row["id"])
    last = "SELECT ?, ?, ?, ?, ?, coalesce(max(position) + 1, 0) FROM collection_items WHERE collection = ?"
    if call.hub.database.execute(f"INSERT OR IGNORE INTO collection_items {last}", values) == 0:
        raise HubError(409, f"The {kind} {item.get('id')} is already in this collection")
    return JSONResponse(_touched(call, row))


def update_item(call: Call) -> Response:
    """PATCH items/{item}: its note, or its position among the others."""
    row, item = _find_own(call), call.part("item")
    ids = [one["id"] for one in _items(call, row)]
    if item not in ids:
        raise HubError(404, "There is no such item in this collection")
    database = call.hub.database
    with database.transaction():
        if "note" in call.body:
            values = (_text(call.body, "note"), item)
            database.execute("UPDATE collection_items SET note = ? WHERE id = ?", values)
        if "position" in call.body:
            ids.remove(item)
            ids.insert(_position(call.body), item)
            for position, one in enumerate(ids):
                database.execute("UPDATE collection_items SET position = ? WHERE id = ?", (position, one))
    return JSONResponse(_touched(call, row))


def delete_item(call: Call) -> Response:
    row = _find_own(call)
    values = (call.part("item"), row["id"])
    if call.hub.database.execute("DELETE FROM collection_items WHERE id = ? AND collection = ?", values) == 0:
        raise HubError(404, "There is no such item in this collection")
    return JSONResponse(_touched(call, row))


def _row(call: Call, collection_id: str) -> Row:
    row = call.hub.database.row("SELECT * FROM collections WHERE id = ?", (collection_id,))
    if row is None or not _may_read(call, row):
        raise HubError(404, "Collection not found")
    return row


def _find(call: Call) -> Row:
    return _row(call, call.part("slug").rpartition("-")[2])


def _find_own(call: Call) -> Row:
    access.require_write_role(call.account)
    row = _find(call)
    _require_owner(call, row["namespace"])
    return row


def _require_owner(call: Call, namespace: str) -> None:
    account = access.require_write_role(call.account)
    is_in_scope = access.in_scope(account, f"collections/{namespace}")
    if not is_in_scope or not access.is_member(call.hub.database, account, namespace):
        raise HubError(403, f"You don't have the rights to change the collections of {namespace}")


def _may_read(call: Call, row: Row) -> bool:
    if not row["is_private"]:
        return True
    account, namespace = call.account, row["namespace"]
    is_in_scope = account is not None and access.in_scope(account, f"collections/{namespace}")
    return is_in_scope and access.is_member(call.hub.database, account, namespace)


def _touched(call: Call, row: Row) -> dict[str, Any]:
    call.hub.database.execute("UPDATE collections SET updated_at = ? WHERE id = ?", (time.time(), row["id"]))
    return _show(call, _row(call, row["id"]))


def _show(call: Call, row: Row) -> dict[str, Any]:
    items = [_show_item(call, item) for item in _items(call, row)]
    return {
        "slug": _slug(row),
        "title": row["title"],
        "description": row["description"],
        "owner": {"name": row["namespace"]},
        "items": [item for item in items if item is not None],
        "lastUpdated": timestamp(row["updated_at"]),
        "position": row["position"],
        "private": bool(row["is_private"]),
        "theme": row["theme"],
        "upvotes": 0,
    }


def _slug(row: Row) -> str:
    words = re.sub("[^a-z0-9]+", "-", row["title"].lower()).strip("-")
    return f"{row['namespace']}/{words}-{row['id']}" if words else f"{row['namespace']}/{row['id']}"


def _items(call: Call, row: Row) -> list[Row]:
    sql = "SELECT * FROM collection_items WHERE collection = ? ORDER BY position, id"
    return call.hub.database.rows(sql, (row["id"],))


def _show_item(call: Call, item: Row) -> dict[str, Any] | None:
    """The item; None if what it stands for is gone or hidden from the caller."""
    shown = {"_id": item["id"], "type": item["type"], "position": item["position"]}
    if item["note"] is not None:
        shown["note"] = {"text": item["note"]}
    if item["type"] == "collection":
        row = call.hub.database.row("SELECT * FROM collections WHERE id = ?", (item["target"],))
        if row is None or not _may_read(call, row):
            return None
        return {**shown, "id": row["id"], "slug": _slug(row), "title": row["title"]}
    row = call.hub.database.row("SELECT * FROM repos WHERE key = ?", (item["target"],))
    if row is None or not access.may_read(call.hub.database, call.account, access.repo_record(row)):
        return None
    return {**shown, "id": access.repo_record(row).id, "private": bool(row["is_private"])}


def _target(call: Call, kind: str, name: str) -> str:
    """What an item stands for: a repository's key, or a collection's id.

    Raises:
        HubError: 404, the caller sees nothing of that name; 400 for a kind that this Hub does not have.
    """
    if kind == "collection":
        return str(_row(call, name.rpartition("-")[2])["id"])
    if kind not in TYPES:
        raise HubError(400, f"An item must be a {', '.join(TYPES)} or collection, got {kind!r}")
    return call.hub.find(kind, name, call.account).key


def _title(body: dict[str, Any]) -> str:
    title = body.get("title")
    if not isinstance(title, str) or not 0 < len(title.strip()) <= TITLE_LENGTH:
        raise HubError(400, f"A collection needs a title of at most {TITLE_LENGTH} characters")
    return title.strip()


def _text(body: dict[str, Any], key: str) -> str | None:
    text = body.get(key)
    if text is not None and (not isinstance(text, str) or len(text) > TEXT_LENGTH):
        raise HubError(400, f"{key} must be a text of at most {TEXT_LENGTH} characters")
    return text


def _position(body: dict[str, Any]) -> int:
    position = body["position"]
    if not isinstance(position, int) or isinstance(position, bool) or position < 0:
        raise HubError(400, f"position must be a whole number from 0, got {position!r}")
    return position
