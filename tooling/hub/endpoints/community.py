"""The endpoints about people: access requests and pull requests."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from tooling.hub import gates, rights
from tooling.hub.call import Call
from tooling.hub.responses import HubError, is_set, paged, read_number
from tooling.hub.store import discussions


def list_access_requests(call: Call) -> Response:
    if call.part("status") not in ("pending", "accepted", "rejected"):
        raise HubError(
            404, f"There are no {call.part('status')} access requests: ask for pending, accepted or rejected"
        )
    _require_gated(call)
    return paged(call.request, gates.list_access(call.hub.database, call.repo, call.part("status")))


def handle_access_request(call: Call) -> Response:
    _require_gated(call)
    gates.handle_access(call.hub.database, call.repo, call.body, call.user)
    return JSONResponse({})


def grant_access(call: Call) -> Response:
    _require_gated(call)
    gates.grant_access(call.hub.database, call.repo, call.body.text("user"), call.user)
    return JSONResponse({})


def ask_access(call: Call) -> Response:
    """POST {repo}/ask-access: files a request; the body's fields are shown to the authors."""
    fields = {key: value[0] if isinstance(value, list) and value else value for key, value in call.body.values.items()}
    return JSONResponse({"status": gates.ask_access(call.hub.database, call.account, call.repo, fields)})


def _require_gated(call: Call) -> None:
    if call.repo.gated is None:
        raise HubError(400, f"The dataset {call.repo.id} is not gated")


def list_pull_requests(call: Call) -> Response:
    return JSONResponse(discussions.list_page(call.board, dict(call.request.query_params)))


def pull_request_details(call: Call) -> Response:
    with_diff = is_set(call.request, "diff")
    try:
        gates.require_content(call.hub.database, call.account, call.repo)
    except HubError:
        with_diff = False  # a diff shows what the gate is for
    return JSONResponse(discussions.details(call.board, _number(call), with_diff=with_diff))


def change_status(call: Call) -> Response:
    """POST discussions/{number}/status: by its author, or by writers of the repository."""
    rights.require_write_role(call.account)
    if discussions.find(call.board, _number(call))["author"].lower() != call.user.lower():
        rights.require_write(call.hub.database, call.account, call.repo)
    return JSONResponse({"newStatus": discussions.change_status(call.board, _number(call), call.user, call.body)})


def merge_pull_request(call: Call) -> Response:
    merged = discussions.merge(call.board, _number(call), call.user, call.body.text("comment"))
    return JSONResponse({"mergeCommitId": merged})


def _number(call: Call) -> int:
    number = read_number(call.part("number"))
    if number is None:
        raise HubError(404, f"Pull request {call.part('number')} does not exist in {call.repo.id}")
    return number
