"""The endpoints about users and organisations: what a page about them shows, members, and storage by repository."""

from __future__ import annotations

from sqlite3 import Row
from typing import Any

from starlette.responses import JSONResponse, Response

from tooling.hub import rights as access
from tooling.hub.call import Call
from tooling.hub.responses import HubError, paged, timestamp
from tooling.hub.rights import Repo

COUNTED = {"model": "numModels", "dataset": "numDatasets", "space": "numSpaces"}


def user_overview(call: Call) -> Response:
    """GET /api/users/{user}/overview"""
    user = _find(call, call.part("user"), "user")
    sql = "SELECT n.* FROM members m JOIN namespaces n ON n.name = m.org WHERE m.user = ? ORDER BY n.name"
    orgs = call.hub.database.rows(sql, (user["name"],))
    likes = call.hub.database.row("SELECT count(*) AS number FROM likes WHERE user = ?", (user["name"],))
    shown = {**_show_user(user), "isPro": False, "numLikes": likes["number"] if likes is not None else 0}
    return JSONResponse({**shown, **_counts(call, user["name"]), "orgs": [_show_organisation(org) for org in orgs]})


def organisation_overview(call: Call) -> Response:
    """GET /api/organizations/{organization}/overview"""
    organisation = _find(call, call.part("organization"), "org")
    name = organisation["name"]
    shown = {**_show_organisation(organisation), "numUsers": len(_members(call, name))}
    return JSONResponse({**shown, **_counts(call, name)})


def members(call: Call) -> Response:
    """GET /api/organizations/{organization}/members"""
    organisation = _find(call, call.part("organization"), "org")
    return paged(call.request, _members(call, organisation["name"]), _show_user)


def storage(call: Call) -> Response:
    """GET [/api/organizations/{organization}]/settings/repositories: bytes of large files, most first.

    Those of the whole history count, as they take the room; only the namespace's own users may see it.
    """
    params = call.request.path_params
    namespace = call.part("organization") if "organization" in params else call.user
    if not access.is_member(call.hub.database, call.account, namespace):
        raise HubError(403, f"You don't have the rights to see the storage of {namespace}")
    repos = [repo for repo_type in COUNTED for repo in _repos(call, repo_type, namespace)]
    sized = [(call.hub.repository(repo).large_files.total_bytes(), repo) for repo in repos]
    sized.sort(key=lambda one: (-one[0], one[1].full_name))
    total = sum(size for size, _ in sized)
    return paged(call.request, sized, lambda one: _show_storage(call, one[1], one[0], total))


def _show_storage(call: Call, repo: Repo, size: int, total: int) -> dict[str, Any]:
    repository = call.hub.repository(repo)
    return {
        "id": repo.id,
        "type": repo.type,
        "updatedAt": timestamp(repository.commit(repository.resolve("main")).commit_time),
        "visibility": "private" if repo.is_private else "public",
        "storage": size,
        "storagePercent": 100 * size / total if total else 0,
    }


def _find(call: Call, name: str, kind: str) -> Row:
    row = call.hub.database.row("SELECT * FROM namespaces WHERE name = ? AND kind = ?", (name, kind))
    if row is None:
        raise HubError(404, f"There is no {'user' if kind == 'user' else 'organization'} {name}")
    return row


def _members(call: Call, organisation: str) -> list[Row]:
    sql = "SELECT n.* FROM members m JOIN namespaces n ON n.name = m.user WHERE m.org = ? ORDER BY n.name"
    return call.hub.database.rows(sql, (organisation,))


def _repos(call: Call, repo_type: str, namespace: str) -> list[Repo]:
    visible = call.hub.visible(repo_type, call.account)
    return [repo for repo in visible if repo.namespace.lower() == namespace.lower()]


def _counts(call: Call, namespace: str) -> dict[str, int]:
    return {key: len(_repos(call, repo_type, namespace)) for repo_type, key in COUNTED.items()}


def _show_user(row: Row) -> dict[str, Any]:
    return {"user": row["name"], "fullname": row["fullname"], "avatarUrl": "", "type": "user"}


def _show_organisation(row: Row) -> dict[str, Any]:
    return {"name": row["name"], "fullname": row["fullname"], "avatarUrl": "", "type": "org"}
