"""The endpoints about revisions: refs, history, branches, tags and squash."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import JSONResponse, Response

from tooling.hub.call import Call
from tooling.hub.responses import HubError, is_set, paged, revision_not_found, timestamp
from tooling.hub.store import graph, history
from tooling.hub.store.repository import NewCommit


def refs(call: Call) -> Response:
    shown: dict[str, list[dict[str, str]]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    lists = {"refs/heads/": "branches", "refs/convert/": "converts", "refs/tags/": "tags", "refs/pr/": "pullRequests"}
    for name, commit_id in call.repository.heads().items():
        for prefix, key in lists.items():
            if name.startswith(prefix):
                shown[key].append({"name": name.removeprefix(prefix), "ref": name, "targetCommit": commit_id})
    shown["branches"].sort(key=lambda branch: branch["name"] != "main")
    if not is_set(call.request, "include_prs"):
        del shown["pullRequests"]
    return JSONResponse(shown)


def commits(call: Call) -> Response:
    """GET commits/{revision}: the history, newest first."""
    found = graph.history(call.repository.objects, call.repository.resolve(call.part("revision")))
    is_formatted = "formatted" in call.request.query_params.getlist("expand[]")

    def show(commit: Any) -> dict[str, Any]:
        texts = graph.commit_texts(commit)
        shown = {"id": commit.id.decode(), "title": texts["title"], "message": texts["message"]}
        shown |= {"date": timestamp(texts["time"]), "authors": [{"user": texts["user"]}]}
        if is_formatted:
            shown["formatted"] = {"title": texts["title"], "message": texts["message"]}
        return shown

    return paged(call.request, found, show, size=100)


def check_short_name(name: str) -> None:
    """Refuses names that would hide a commit id or a full reference."""
    if name.startswith("refs/") or re.fullmatch("[0-9a-f]{40}", name):
        raise HubError(400, f"Invalid reference for a branch or tag: {name}")


def create_branch(call: Call) -> Response:
    branch, start = call.part("branch"), call.body.text("startingPoint") or "main"
    with call.repository.writing():
        commit_id = call.repository.resolve(start)
        name = branch
        if not branch.startswith("refs/convert/"):
            check_short_name(branch)
            name = f"refs/heads/{branch}"
        call.repository.set_ref(name, None, commit_id)
    return JSONResponse({})


def delete_branch(call: Call) -> Response:
    branch = call.part("branch")
    if branch == "main":
        raise HubError(403, "Cannot delete refs/heads/main")
    name = branch if branch.startswith("refs/convert/") else f"refs/heads/{branch}"
    _remove_ref(call, name, branch)
    return JSONResponse({})


def create_tag(call: Call) -> Response:
    commit_id = call.repository.resolve(call.part("revision"))
    message, tag = call.body.text("message"), call.body.text("tag")
    new = NewCommit(call.user, message) if message else None
    check_short_name(tag)
    call.repository.add_tag(tag, commit_id, new)
    return JSONResponse({})


def delete_tag(call: Call) -> Response:
    _remove_ref(call, f"refs/tags/{call.part('revision')}", call.part("revision"))
    return JSONResponse({})


def _remove_ref(call: Call, name: str, shown: str) -> None:
    if call.repository.head(name) is None:
        raise revision_not_found(shown)
    call.repository.remove_ref(name)


def squash(call: Call) -> Response:
    """POST super-squash/{branch}: one commit instead of the history; what only the history held is deleted."""
    branch = call.part("branch")
    message = call.body.text("message") or f"Super-squash branch '{branch}' using huggingface_hub"
    return JSONResponse({"commitOid": history.squash(call.repository, branch, NewCommit(call.user, message))})
