"""The endpoints about people: access requests, discussions and pull requests."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from tooling.hub import gates
from tooling.hub import rights as access
from tooling.hub.call import Call
from tooling.hub.responses import HubError, is_set, paged
from tooling.hub.store import discussions


def list_access_requests(call: Call) -> Response:
    if call.part("status") not in ("pending", "accepted", "rejected"):
        raise HubError(404, f"There is no list of {call.part('status')} access requests")
    _require_gated(call)
    return paged(call.request, gates.list_access(call.hub.database, call.repo, call.part("status")))


def handle_access_request(call: Call) -> Response:
    _require_gated(call)
    gates.handle_access(call.hub.database, call.repo, call.body, call.user)
    return JSONResponse({})


def grant_access(call: Call) -> Response:
    _require_gated(call)
    gates.grant_access(call.hub.database, call.repo, call.body.get("user"), call.user)
    return JSONResponse({})


def ask_access(call: Call) -> Response:
    """POST {repo}/ask-access: files a request; the body's fields are shown to the authors."""
    fields = {key: value[0] if isinstance(value, list) else value for key, value in call.body.items()}
    return JSONResponse({"status": gates.ask_access(call.hub.database, call.account, call.repo, fields)})


def _require_gated(call: Call) -> None:
    if call.repo.gated is None:
        raise HubError(400, f"The {call.repo.type} {call.repo.id} is not gated")


def list_discussions(call: Call) -> Response:
    return JSONResponse(discussions.list_page(call.board, dict(call.request.query_params)))


def open_discussion(call: Call) -> Response:
    access.require_write_role(call.account)
    proposal = discussions.Proposal("refs/heads/main") if call.body.get("pullRequest") else None
    title, description = str(call.body.get("title") or ""), str(call.body.get("description") or "")
    number = discussions.open_discussion(call.board, call.user, title, description, proposal)
    address = f"/{call.repo.full_name}/discussions/{number}"
    return JSONResponse({"num": number, "pullRequest": bool(call.body.get("pullRequest")), "url": address})


def discussion_details(call: Call) -> Response:
    with_diff = is_set(call.request, "diff")
    try:
        gates.require_content(call.hub.database, call.account, call.repo)
    except HubError:
        with_diff = False  # a diff shows what the gate is for
    return JSONResponse(discussions.details(call.board, _number(call), with_diff=with_diff))


def change_discussion(call: Call) -> Response:
    """POST discussions/{number}/{change}: comment by anyone; title and status by the author too; merge by writers."""
    access.require_write_role(call.account)
    change, number = call.part("change"), _number(call)
    if change == "comment":
        return JSONResponse(
            {"newMessage": discussions.comment(call.board, number, call.user, call.body.get("comment"))}
        )
    is_author = discussions.find(call.board, number)["author"].lower() == call.user.lower()
    if change == "merge" or not is_author:
        access.require_write(call.hub.database, call.account, call.repo)
    if change == "merge":
        merged = discussions.merge(call.board, number, call.user, call.body.get("comment"))
        return JSONResponse({"mergeCommitId": merged})
    if change == "title":
        event = discussions.change_title(call.board, number, call.user, str(call.body.get("title") or "").strip())
        return JSONResponse({"newTitle": event})
    if change == "status":
        return JSONResponse({"newStatus": discussions.change_status(call.board, number, call.user, call.body)})
    raise HubError(404, f"There is no change {change!r} of a discussion")


def change_comment(call: Call) -> Response:
    """POST discussions/{number}/comment/{event}/{edit or hide}: by its author, or by writers of the repository."""
    access.require_write_role(call.account)
    text = str(call.body.get("content", "")) if call.part("change") == "edit" else None
    if not discussions.is_comment_of(call.board, call.part("event"), call.user):
        access.require_write(call.hub.database, call.account, call.repo)
    event = discussions.edit_comment(call.board, _number(call), call.part("event"), text)
    return JSONResponse({"updatedComment": event})


def _number(call: Call) -> int:
    number = call.part("number")
    if not number.isdigit():
        raise HubError(404, f"Discussion {number} does not exist in {call.repo.id}")
    return int(number)
