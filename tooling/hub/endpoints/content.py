"""The endpoints that read and write files: tree, paths-info, resolve, preupload, commit, and those of large files."""

from __future__ import annotations

import mimetypes
import re
import time
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from tooling.hub import rights
from tooling.hub.call import Call
from tooling.hub.responses import HubError, entry_not_found, is_set, origin, paged, revision_not_found, timestamp
from tooling.hub.root import Hub
from tooling.hub.store import commits, discussions, graph, history
from tooling.hub.store import large_files as large
from tooling.hub.store.repository import NewCommit, Repository, TreeEntry

RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,16})-([0-9]{0,16})\s*")
SCAN = {"status": "unscanned", "message": "this Hub does not scan files"}


class _LargeFileResponse(FileResponse):
    chunk_size = 1 << 20


def admit_commit(hub: Hub, request: Request) -> None:
    """Refuses the body of a caller whose token cannot write at all."""
    rights.require_write_role(rights.authenticate(hub.database, request.headers.get("authorization")))


def admit_upload(hub: Hub, request: Request) -> None:
    """Refuses a body at an address that this Hub did not sign."""
    large.read_ticket(request.path_params["key"], request.path_params["oid"], request.query_params, hub.secret)


def tree(call: Call) -> Response:
    """GET tree/{revision}[/{path}]: the entries of a folder, a page at a time."""
    commit_id = call.repository.resolve(call.part("revision"))
    path = call.part("path").strip("/") if "path" in call.request.path_params else ""
    entries = call.repository.entries(commit_id, path, is_recursive=is_set(call.request, "recursive"))
    if not is_set(call.request, "expand"):
        return paged(call.request, entries, show_entry)
    expanded = _expanded(call.repository, commit_id, entries)
    return paged(call.request, expanded, size=1000)


def paths_info(call: Call) -> Response:
    """POST paths-info/{revision}: the entries of the given paths; those that do not exist are left out."""
    commit_id = call.repository.resolve(call.part("revision"))
    found = [call.repository.entry(commit_id, path.strip("/")) for path in call.body.texts("paths")]
    entries = [entry for entry in found if entry is not None]
    if call.body.flag("expand"):
        return JSONResponse(_expanded(call.repository, commit_id, entries))
    return JSONResponse([show_entry(entry) for entry in entries])


def show_entry(entry: TreeEntry) -> dict[str, Any]:
    """A file or folder as in tree and paths-info."""
    if entry.is_folder:
        return {"type": "directory", "oid": entry.oid, "size": 0, "path": entry.path}
    shown: dict[str, Any] = {"type": "file", "oid": entry.oid, "size": entry.size, "path": entry.path}
    if entry.large_oid is not None:
        shown["lfs"] = {"oid": entry.large_oid, "size": entry.size, "pointerSize": entry.pointer_size}
    return shown


def _expanded(repository: Repository, commit_id: str, entries: list[TreeEntry]) -> list[dict[str, Any]]:
    last = graph.last_commits(repository.objects, commit_id, [entry.path for entry in entries])
    shown: list[dict[str, Any]] = []
    for entry in entries:
        one = show_entry(entry)
        commit = last.get(entry.path)
        if commit is not None:
            texts = graph.commit_texts(commit)
            one["lastCommit"] = {"id": commit.id.decode(), "title": texts["title"], "date": timestamp(texts["time"])}
        if not entry.is_folder:
            one["securityFileStatus"] = {"status": "unscanned", "avScan": SCAN, "pickleImportScan": SCAN}
        shown.append(one)
    return shown


def resolve(call: Call) -> Response:
    """HEAD and GET resolve/{revision}/{path}: the content, with ranges. Never a redirect, never an X-Xet-Hash."""
    commit_id = call.repository.resolve(call.part("revision"))
    path = call.part("path")
    entry = call.repository.entry(commit_id, path)
    if entry is None or entry.is_folder:
        raise entry_not_found(path, commit_id)
    name = path.rpartition("/")[2]
    headers = {
        "ETag": f'"{entry.etag}"',
        "X-Repo-Commit": commit_id,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if entry.large_oid is not None:
        headers |= {"X-Linked-Etag": f'"{entry.large_oid}"', "X-Linked-Size": str(entry.size)}
    if f'"{entry.etag}"' in call.request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if entry.large_oid is None:
        return _part_of(call.repository.read(entry), call.request, headers, kind)
    stored = call.repository.large_files.path(entry.large_oid)
    if not stored.exists():
        raise entry_not_found(path, commit_id)
    return _LargeFileResponse(stored, headers=headers, media_type=kind, stat_result=stored.stat())


def _part_of(content: bytes, request: Request, headers: dict[str, str], kind: str) -> Response:
    """A regular file, or the one requested range of it."""
    wanted = RANGE.fullmatch(request.headers.get("range", ""))
    first, last = wanted.groups() if wanted else ("", "")
    if not (first or last):
        return Response(content, headers=headers, media_type=kind)
    size = len(content)
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    headers = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return Response(content[start:stop], status_code=206, headers=headers, media_type=kind)


def preupload(call: Call) -> Response:
    """POST preupload/{revision}: how each file is to be sent."""
    _require_writer_or_proposal(call)
    commit_id = call.repository.resolve(call.part("revision"))
    return JSONResponse({"files": commits.upload_modes(call.repository, commit_id, call.body), "commitOid": commit_id})


def commit(call: Call) -> Response:
    """POST commit/{revision}: one commit on a branch or pull request; `create_pr=1` puts it on a new pull request."""
    _require_writer_or_proposal(call)
    operations = commits.read_operations(call.body)
    new = operations.new_commit(call.user)
    revision = call.part("revision")
    with call.repository.writing():
        name = revision if call.repository.head(revision) is not None else f"refs/heads/{revision}"
        head = call.repository.head(name)
        if head is None or name.startswith("refs/tags/"):
            raise revision_not_found(revision)
        if is_set(call.request, "create_pr"):
            return _commit_to_new_pull(call, operations, name, head)
        _require_own_pull(call, name)
        commit_id = _apply(call, head, operations, new)
        if commit_id != head:
            call.repository.set_ref(name, head, commit_id)
            if name.startswith("refs/pr/"):
                number = int(name.rpartition("/")[2])
                discussions.note_commit(call.board, number, call.user, commit_id, operations.summary)
    return JSONResponse(_commit_answer(call, commit_id))


def _commit_to_new_pull(call: Call, operations: commits.Operations, base: str, head: str) -> Response:
    if not base.startswith("refs/heads/"):
        raise revision_not_found(call.part("revision"))
    commit_id = _apply(call, head, operations, operations.new_commit(call.user))
    proposal = discussions.Proposal(base, commit_id, operations.summary, operations.description)
    number = discussions.open_pull_request(call.board, call.user, proposal)
    address = f"{origin(call.request)}/{call.repo.full_name}/discussions/{number}"
    return JSONResponse({**_commit_answer(call, commit_id), "pullRequestUrl": address})


def _apply(call: Call, head: str, operations: commits.Operations, new: NewCommit) -> str:
    try:
        return commits.apply_operations(call.repository, head, operations, new)
    except Exception as error:
        if not (isinstance(error, HubError) and error.status == 412):
            call.repository.collect_garbage()  # the objects of the refused commit
        raise


def _commit_answer(call: Call, commit_id: str) -> dict[str, Any]:
    address = f"{origin(call.request)}/{call.repo.full_name}/commit/{commit_id}"
    return {"success": True, "commitOid": commit_id, "commitUrl": address, "hookOutput": ""}


def _require_writer_or_proposal(call: Call) -> None:
    """Writers pass; others may only commit to a new pull request or to one of their own."""
    account = rights.require_write_role(call.account)
    is_proposal = is_set(call.request, "create_pr") or call.part("revision").startswith("refs/pr/")
    if not is_proposal or not rights.in_scope(account, call.repo.full_name):
        rights.require_write(call.hub.database, call.account, call.repo)
    if call.repo.is_disabled:
        raise HubError(403, "Access to this resource is disabled.")


def _require_own_pull(call: Call, name: str) -> None:
    if name.startswith("refs/pr/") and not rights.may_write(call.hub.database, call.account, call.repo):
        row = discussions.find(call.board, int(name.rpartition("/")[2]))
        if row["author"].lower() != call.user.lower():
            raise HubError(403, f"Pull request {row['number']} of {call.repo.id} belongs to {row['author']}")


def lfs_batch(call: Call) -> Response:
    """POST {repo}.git/info/lfs/objects/batch: upload addresses, also for whoever may propose a pull request."""
    is_writer = rights.may_write(call.hub.database, call.account, call.repo)
    if not is_writer and not rights.in_scope(rights.require_write_role(call.account), call.repo.full_name):
        rights.require_write(call.hub.database, call.account, call.repo)
    if call.body.text("operation") != "upload":
        raise HubError(422, "Only the operation upload is served: download with /resolve/")
    requested = call.body.records("objects")
    large.remove_stale_uploads(call.hub.uploads, time.time())
    base, most = origin(call.request), large.WRITER_BYTES if is_writer else large.PROPOSAL_BYTES
    answer = large.batch_answer(call.repository.large_files, call.repo.key, requested, base, call.hub.secret, most)
    return JSONResponse(answer, media_type="application/vnd.git-lfs+json")


def upload(call: Call) -> Response:
    """PUT uploads/{key}/{oid}: a file in one piece, or one part of it. The address is signed."""
    ticket = _ticket(call)
    if ticket.part:
        etag = large.store_part(call.hub.uploads, ticket, call.body)
        return Response(status_code=200, headers={"ETag": etag})
    large.store_whole(_files_of(call, ticket), call.hub.uploads, ticket, call.body)
    return Response(status_code=200, headers={"ETag": f'"{ticket.oid}"'})


def complete(call: Call) -> Response:
    """POST uploads/{key}/{oid}: the parts are all there."""
    ticket = _ticket(call)
    large.complete_parts(_files_of(call, ticket), call.hub.uploads, ticket)
    return JSONResponse({})


def verify(call: Call) -> Response:
    """POST verify/{key}/{oid}: whether the upload is complete."""
    ticket = _ticket(call)
    if _files_of(call, ticket).size(ticket.oid) != ticket.size:
        raise HubError(404, f"The large file {ticket.oid} is not complete: upload it again")
    return JSONResponse({})


def _ticket(call: Call) -> large.Ticket:
    return large.read_ticket(call.part("key"), call.part("oid"), call.request.query_params, call.hub.secret)


def _files_of(call: Call, ticket: large.Ticket) -> large.LargeFiles:
    return call.hub.repository_by_key(ticket.key).large_files


def list_large_files(call: Call) -> Response:
    """GET lfs-files: every large file that some branch, tag or pull request names."""
    found: dict[str, dict[str, Any]] = {}
    for name, head in call.repository.heads().items():
        entries = [entry for entry in call.repository.files(head) if entry.large_oid is not None]
        new = [entry for entry in entries if entry.large_oid not in found]
        pushed = graph.last_commits(call.repository.objects, head, [entry.path for entry in new])
        for entry in new:
            shown = {"fileOid": entry.large_oid, "oid": entry.large_oid, "filename": entry.path, "size": entry.size}
            when = timestamp(pushed[entry.path].commit_time)
            found[str(entry.large_oid)] = {**shown, "pushedAt": when, "ref": name}
    return paged(call.request, list(found.values()))


def delete_large_files(call: Call) -> Response:
    """POST lfs-files/batch: removes large files from every revision, rewriting the history."""
    deletions = call.body.fields("deletions")
    oids = deletions.texts("sha")
    if not all(large.OID.fullmatch(oid) for oid in oids):
        deletions.refuse("sha", "a list of SHA-256 digests")
    if not deletions.flag("rewriteHistory", default=True):
        raise HubError(400, "This Hub removes large files only together with the history that names them")
    history.remove_large_files(call.repository, oids)
    return JSONResponse({"success": True})
