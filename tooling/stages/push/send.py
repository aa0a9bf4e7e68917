"""The part of a push that changes the Hub, in the order of the walk: create, upload, commit, tag."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from itertools import count

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete

from tooling.errors import InputError
from tooling.remote import MAX_TRIES, RemoteError, quiet_client
from tooling.stages.push.checks import file_state, first_names
from tooling.stages.push.comparison import MAIN, compare_files
from tooling.stages.push.prepare import PreparedPush, check_tag, make_plan, repository_info
from tooling.work.engine import Progress

NUM_UPLOADS = 4  # side by side


def create_repository(push: PreparedPush) -> PreparedPush:
    """Creates the repository and makes it private or gated where that was requested, before anything is sent.

    Returns:
        The push with the plan for the repository as it is now.

    Raises:
        RemoteError: the Hub refuses or cannot be reached.
    """
    remote, info, options = push.remote, push.info, push.options
    if info is not None and not options.private and not options.gated:
        return push
    if info is None:
        remote.create(private=options.access_after(info)[0])
    elif options.private and not info.private:
        remote.call("update_repo_settings", private=True)
    if options.gated is not None and (info is None or info.gated != options.gated):
        remote.call("update_repo_settings", gated=options.gated)
    info = repository_info(remote)
    return replace(push, info=info, plan=make_plan(remote, push.files, options, info))


def send_files(push: PreparedPush, progress: Progress) -> tuple[str, str]:
    """Uploads and commits what differs from the release.

    Returns:
        The commit with the release, and the address of the pull request, "" if none was requested.

    Raises:
        InputError: a file changed meanwhile.
        RemoteError: the Hub refuses, cannot be reached or was changed meanwhile.
    """
    plan, remote = push.plan, push.remote
    assert plan.head is not None
    if push.branch != MAIN and push.branch not in remote.branches():
        remote.call("create_branch", branch=push.branch, revision=plan.head, exist_ok=True)
    if plan.is_empty:
        return plan.head, ""
    if push.options.create_pr and (found := _find_pull_request(push)):
        return found
    with quiet_client():
        return commit_files(push, upload_files(push, progress))


def upload_files(push: PreparedPush, progress: Progress) -> list[CommitOperationAdd]:
    """Sends the large files among those added and changed; complete ones that the Hub has are not sent again."""
    names = [*push.plan.added, *push.plan.changed]
    total, done, additions = push.plan.num_bytes_to_send, 0, []
    progress(0, total, "")
    with ThreadPoolExecutor(NUM_UPLOADS) as pool:
        tasks = {pool.submit(_upload_file, push, name): name for name in names}
        try:
            for task in as_completed(tasks):
                additions.append(task.result())
                done += push.files[tasks[task]].num_bytes * (tasks[task] in push.plan.to_send)
                progress(done, total, tasks[task])
        finally:
            for task in tasks:
                task.cancel()
    return sorted(additions, key=lambda addition: addition.path_in_repo)


def _upload_file(push: PreparedPush, name: str) -> CommitOperationAdd:
    local, path = push.files[name], push.out / name
    problem = InputError(f"{path}: changed while it was being sent, nothing was published; run `tooling build` again")
    if local.blob_sha1 is not None:
        addition = CommitOperationAdd(name, path.read_bytes())
        if addition.upload_info.sha256.hex() != local.sha256:
            raise problem
    else:
        addition = CommitOperationAdd(name, str(path))
        addition.upload_info.sha256 = bytes.fromhex(local.sha256)  # known; spares the client another reading
    if file_state(path) != local.state:
        raise problem
    push.remote.call(
        "preupload_lfs_files",
        additions=[addition],
        revision=push.branch,
        create_pr=push.options.create_pr,
        num_threads=1,
        free_memory=False,
    )
    if file_state(path) != local.state:
        raise problem
    return addition


def commit_files(push: PreparedPush, additions: list[CommitOperationAdd]) -> tuple[str, str]:
    """Makes the one commit on the plan's head. After an answer that was lost, first checks whether it was made."""
    plan = push.plan
    counts = f"{len(plan.added)} added, {len(plan.changed)} changed, {len(plan.removed)} removed"
    for attempt in count(1):
        try:
            made: CommitInfo = push.remote.call(
                "create_commit",
                operations=[*additions, *(CommitOperationDelete(name) for name in plan.removed)],
                commit_message=push.title,
                commit_description="\n".join([counts, *push.notes]),
                revision=push.branch,
                create_pr=push.options.create_pr,
                parent_commit=plan.head,
            )
        except RemoteError as error:
            if error.kind != "changed" and not error.is_transient:
                raise
            if found := _find_made(push):
                return found
            if error.kind == "changed" or attempt == MAX_TRIES:
                raise
            error.wait(attempt)
        else:
            return made.oid, made.pr_url or ""
    raise AssertionError("the loop returns or raises")


def _find_made(push: PreparedPush) -> tuple[str, str] | None:
    """Commit and pull request with this very release; None while nothing has changed.

    Raises:
        RemoteError: someone else changed the branch after the plan was made.
    """
    if push.options.create_pr:
        return _find_pull_request(push)
    remote = push.remote
    head = remote.head(push.branch)
    if head == push.plan.head:
        return None
    now = remote.files(head)
    if compare_files(push.files, now, head).is_empty:
        return head, ""
    before = remote.files(push.plan.head)
    changed = [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
    names = first_names(changed) or "it"
    what = f"someone else changed {names} meanwhile (commit {head[:8]}), nothing of this push is visible"
    way_out = (
        "read that commit, then run the same command again: it shows the difference and sends only what is missing"
    )
    raise RemoteError(f"{remote.repo_id}: {what}; {way_out}", "changed")


def _find_pull_request(push: PreparedPush) -> tuple[str, str] | None:
    """Commit and address of an open pull request with this very release: of a push whose end was lost."""
    remote = push.remote
    opened = remote.call("get_repo_discussions", discussion_type="pull_request", discussion_status="open")
    for request in opened:
        if request.title != push.title or request.git_reference is None:
            continue
        head = remote.head(request.git_reference)
        if compare_files(push.files, remote.files(head), head).is_empty:
            return head, str(request.url)
    return None


def tag_release(push: PreparedPush, commit: str) -> None:
    """Tags the commit with the version; a tag that is there was checked to be this release.

    Raises:
        InputError: another push was faster and tagged another release.
        RemoteError: the Hub refuses or cannot be reached.
    """
    if push.version not in {tag.name for tag in push.remote.call("list_repo_refs").tags}:
        push.remote.call("create_tag", tag=push.version, revision=commit, exist_ok=True)
    check_tag(push)
