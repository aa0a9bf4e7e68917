"""The endpoints about repositories as a whole: create to delete, info and listing."""

from __future__ import annotations

import hashlib
from typing import Any, get_args

from huggingface_hub import hf_api
from starlette.responses import JSONResponse, RedirectResponse, Response

from tooling.hub import cards, rights
from tooling.hub.call import Call
from tooling.hub.responses import HubError, is_set, only_datasets, origin, paged, repo_not_found, timestamp
from tooling.hub.rights import Repo
from tooling.hub.store.repository import Repository

EXPANDABLE = get_args(hf_api.ExpandDatasetProperty_T)
NO_XET = "this-Hub-does-not-serve-Xet/set-HF_HUB_DISABLE_XET=1-for-the-client"
SUMMARY_KEYS = (
    "_id",
    "id",
    "author",
    "createdAt",
    "lastModified",
    "private",
    "gated",
    "disabled",
    "likes",
    "downloads",
)


def whoami(call: Call) -> Response:
    call.user  # noqa: B018  raises without a token
    assert call.account is not None
    return JSONResponse(rights.who_am_i(call.hub.database, call.account))


def create(call: Call) -> Response:
    account = rights.require_write_role(call.account)
    try:
        repo = call.hub.create(account, call.body)
    except HubError as error:
        existing = error.extra.pop("existing", None)
        if existing is not None:  # `exist_ok` reads the address of the repository in the way
            error.extra["url"] = _address(call, existing)
        raise
    return JSONResponse({"url": _address(call, repo), "name": repo.id, "id": _public_id(repo)})


def delete(call: Call) -> Response:
    name = call.body.text("name")
    if "/" not in name:
        name = f"{call.body.text('organization') or call.user}/{name}"
    repo = _named_in_body(call, name)
    rights.require_write(call.hub.database, call.account, repo)
    call.hub.delete(repo)
    return JSONResponse({})


def move(call: Call) -> Response:
    source, target = call.body.text("fromRepo"), call.body.text("toRepo")
    repo = _named_in_body(call, source)
    account = rights.require_write(call.hub.database, call.account, repo)
    moved = call.hub.move(repo, target, account)
    return JSONResponse({"url": _address(call, moved)})


def settings(call: Call) -> Response:
    repo = call.hub.update(call.repo, call.body)
    return JSONResponse({"private": repo.is_private, "gated": repo.gated or False})


def auth_check(call: Call) -> Response:
    return JSONResponse({})


def decline_xet(call: Call) -> Response:
    """GET xet-read-token, xet-write-token: sent to an address that says what to set.

    hf_xet shows nothing of an answer but its status and its address, so the words are in the address.
    """
    return RedirectResponse(f"{origin(call.request)}/{NO_XET}", status_code=307)


def no_xet(call: Call) -> Response:
    """The address that xet clients are sent to."""
    raise HubError(404, "This Hub does not serve Xet: set HF_HUB_DISABLE_XET=1 for the client")


def validate_card(call: Call) -> Response:
    if call.body.text("repoType") != "dataset":
        message = 'This Hub checks the cards of datasets only: use repo_type="dataset"'
        raise HubError(400, message, errors=[{"message": message}])
    result = cards.check_card(call.body.text("content"))
    return JSONResponse(result, status_code=400 if result["errors"] else 200)


def info(call: Call) -> Response:
    """GET [revision/{revision}]: everything about a repository, or only what `expand` names."""
    params = call.request.path_params
    commit_id = call.repository.resolve(call.part("revision") if "revision" in params else "main")
    expand = _expand(call)
    shown = describe(call, call.repo, commit_id, with_files=True)
    if is_set(call.request, "blobs"):
        for entry, sibling in zip(call.repository.files(commit_id), shown["siblings"], strict=True):
            sibling |= {"size": entry.size, "blobId": entry.oid}
            if entry.large_oid is not None:
                sibling["lfs"] = {"sha256": entry.large_oid, "size": entry.size, "pointerSize": entry.pointer_size}
    if is_set(call.request, "securityStatus"):
        shown["securityRepoStatus"] = {"scansDone": False, "filesWithIssues": []}
    if expand:
        shown = {key: value for key, value in shown.items() if key in expand or key in ("_id", "id")}
    return JSONResponse(shown)


def listing(call: Call) -> Response:
    """GET /api/datasets: filtered by author, search, filter, gated; sorted, limited."""
    query = call.request.query_params
    expand = _expand(call)
    searched = [word.lower() for word in query.getlist("search")]
    author, gated = query.get("author", "").lower(), query.get("gated", "").lower()
    chosen = [
        repo
        for repo in call.hub.visible(call.account)
        if (not author or repo.namespace.lower() == author)
        and all(word in repo.id.lower() for word in searched)
        and (not gated or (gated == "true") == (repo.gated is not None))
    ]
    with_files = is_set(call.request, "full") or "siblings" in expand
    shown = [describe(call, repo, call.hub.repository(repo).resolve("main"), with_files=with_files) for repo in chosen]
    tags = set(query.getlist("filter"))
    shown = [one for one in shown if tags <= set(one["tags"])]
    key = query.get("sort", "createdAt")
    if key not in ("createdAt", "lastModified", "likes", "downloads", "trendingScore"):
        raise HubError(400, f"Cannot sort by {key!r}")
    shown.sort(key=lambda one: (one.get(key, 0), one["id"]), reverse=query.get("direction") != "1")
    if expand:
        shown = [{name: one[name] for name in one if name in expand or name in ("_id", "id")} for one in shown]
    elif not is_set(call.request, "full"):
        kept = {*SUMMARY_KEYS, "tags", *(("cardData",) if is_set(call.request, "cardData") else ())}
        shown = [{name: one[name] for name in one if name in kept} for one in shown]
    return paged(call.request, shown)


def describe(call: Call, repo: Repo, commit_id: str, *, with_files: bool) -> dict[str, Any]:
    """The record of a repository at a revision, with every key that `expand` may name."""
    repository = call.hub.repository(repo)
    files = repository.files(commit_id) if with_files else []
    metadata = _metadata(repository, commit_id)
    return {
        "_id": _public_id(repo),
        "id": repo.id,
        "author": repo.namespace,
        "sha": commit_id,
        "createdAt": timestamp(repo.created_at),
        "lastModified": timestamp(repository.commit(commit_id).commit_time),
        "private": repo.is_private,
        "gated": repo.gated or False,
        "disabled": repo.is_disabled,
        "downloads": 0,
        "downloadsAllTime": 0,
        "likes": 0,
        "trendingScore": 0,
        "tags": cards.card_tags(metadata),
        "cardData": metadata,
        "usedStorage": sum({entry.large_oid: entry.size for entry in files if entry.large_oid}.values()),
        "mainSize": sum(entry.size for entry in files),
        "siblings": [{"rfilename": entry.path} for entry in files],
    }


def _expand(call: Call) -> list[str]:
    keys = call.request.query_params.getlist("expand")
    for key in keys:
        if key not in EXPANDABLE:
            raise HubError(400, f'"expand" must be one of [{", ".join(EXPANDABLE)}], got {key!r}')
    return keys


def _metadata(repository: Repository, commit_id: str) -> dict[str, Any]:
    card = repository.entry(commit_id, "README.md")
    if card is None or card.is_folder or card.large_oid is not None:
        return {}
    try:
        return cards.read_metadata(repository.read(card).decode(errors="replace")) or {}
    except ValueError:
        return {}


def _named_in_body(call: Call, name: str) -> Repo:
    rights.require_write_role(call.account)
    if call.body.text("type") != "dataset":
        raise only_datasets()
    repo = call.hub.find(name, call.account)
    if repo.id.lower() != name.lower():  # a former name reads, but neither deletes nor moves
        raise repo_not_found(is_anonymous=False)
    return repo


def _address(call: Call, repo: Repo) -> str:
    return f"{origin(call.request)}/{repo.full_name}"


def _public_id(repo: Repo) -> str:
    return hashlib.sha1(repo.key.encode(), usedforsecurity=False).hexdigest()[:24]
