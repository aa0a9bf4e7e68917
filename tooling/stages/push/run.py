"""push: the built release to a dataset repository at a Hub, visible in one commit, then tagged and read back.

Large files go first, only those that the Hub lacks; nobody sees them until the one commit that names them all, made
on the very head that the plan was made against. Whatever stops a push, the same command goes on where it stopped.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete

from tooling.errors import InputError
from tooling.remote import (
    MAX_TRIES,
    HTTPError,
    NoJSONError,
    RemoteError,
    branch_heads,
    choose_transfer,
    explaining,
    is_passing,
    patiently,
    quiet_client,
    remote_files,
    remote_head,
    wait,
)
from tooling.stages.push.checks import file_state
from tooling.stages.push.comparison import MAIN, PushPlan, compare_files
from tooling.stages.push.prepare import (
    PreparedPush,
    PushOptions,
    check_tag,
    dataset_info,
    make_plan,
    prepare,
    will_be,
)
from tooling.stages.push.read_back import read_back
from tooling.stages.push.script_branch import push_script
from tooling.work.engine import Progress, no_progress
from tooling.workspace.layout import Workspace

__all__ = ["PreparedPush", "PushOptions", "PushResult", "prepare", "push_release", "send"]
NUM_UPLOADS = 4  # side by side
MAX_NAMES = 5


@dataclass(frozen=True)
class PushResult:
    """What a push did.

    Attributes:
        plan: what there was to change.
        commit: at the Hub that holds the release.
        is_committed: whether this push made that commit.
        tag: version that names the commit, "" if this push does not tag.
        pull_request: address of the pull request, "" if none was asked for.
    """

    plan: PushPlan
    commit: str
    is_committed: bool
    tag: str
    pull_request: str


def push_release(
    workspace: Workspace, out: Path, repo_id: str, options: PushOptions, *, progress: Progress = no_progress
) -> PushResult:
    """Checks and sends at once; see `prepare` and `send`."""
    return send(prepare(workspace, out, repo_id, options, progress=progress), progress=progress)


def send(prepared: PreparedPush, *, progress: Progress = no_progress) -> PushResult:
    """Carries out a prepared push.

    Args:
        prepared: of `prepare`, in the same process, under the same lock.
        progress: told of bytes of files that the Hub has now.

    Raises:
        InputError: a file changed meanwhile.
        RemoteError: the Hub refuses, cannot be reached, was changed meanwhile, or serves something else afterwards.
    """
    push, remote, options = prepared, prepared.remote, prepared.options
    was_private = push.info is not None and push.info.private
    if push.info is None or options.private or options.gated:
        push = _prepare_repository(push)
    commit, pull_request = push.plan.head, ""
    if not push.plan.is_empty:
        with quiet_client():
            commit, pull_request = _send(push, progress)
    assert commit is not None
    if push.branch != MAIN:
        _make_branch(push, commit)
    if push.is_release:
        _tag(push, commit)
        push_script(remote)
    read_back(remote, commit, push.files, push.release, push.out)
    if options.private is False and was_private:
        with explaining(remote):
            patiently(lambda: remote.api.update_repo_settings(**remote.arguments, private=False))
    tag = push.version if push.is_release else ""
    return PushResult(push.plan, commit, commit != push.plan.head, tag, pull_request)


def _prepare_repository(push: PreparedPush) -> PreparedPush:
    """Creates the repository and closes it as far as asked for, before anything can be seen in it; then plans anew."""
    remote, api, info, options = push.remote, push.remote.api, push.info, push.options
    is_private, _ = will_be(info, options)
    with explaining(remote):
        if info is None:
            patiently(lambda: api.create_repo(**remote.arguments, private=is_private, exist_ok=True))
        elif options.private and not info.private:
            patiently(lambda: api.update_repo_settings(**remote.arguments, private=True))
        if options.gated is not None and (info is None or info.gated != options.gated):
            patiently(lambda: api.update_repo_settings(**remote.arguments, gated=options.gated))
    choose_transfer(remote)
    info = dataset_info(remote)
    return replace(push, info=info, plan=make_plan(remote, push.files, options, info))


def _send(push: PreparedPush, progress: Progress) -> tuple[str, str]:
    """Uploads and commits; returns commit and address of the pull request."""
    plan = push.plan
    if push.options.create_pr and (found := _find_pull_request(push)):
        return found
    assert plan.head is not None
    _make_branch(push, plan.head)
    additions = _upload(push, progress)
    removals = [CommitOperationDelete(name) for name in plan.removed]
    lines = [f"{len(plan.added)} added, {len(plan.changed)} changed, {len(plan.removed)} removed", *push.notes]
    with explaining(push.remote):
        return _commit(push, [*additions, *removals], "\n".join(lines))


def _make_branch(push: PreparedPush, commit: str) -> None:
    """Lets the branch begin at a commit, where it is not there yet."""
    remote = push.remote
    if push.branch not in branch_heads(remote):
        create = remote.api.create_branch
        with explaining(remote):
            patiently(lambda: create(**remote.arguments, branch=push.branch, revision=commit, exist_ok=True))


def _upload(push: PreparedPush, progress: Progress) -> list[CommitOperationAdd]:
    """Sends the large files among those added and changed; complete ones that the Hub has are not sent again."""
    remote, names = push.remote, [*push.plan.added, *push.plan.changed]
    total, done, additions = push.plan.num_bytes_to_send, 0, []
    progress(0, total, "")
    with ThreadPoolExecutor(NUM_UPLOADS) as pool:
        tasks = {pool.submit(_upload_one, push, name): name for name in names}
        try:
            for task in as_completed(tasks):
                with explaining(remote):
                    additions.append(task.result())
                done += push.files[tasks[task]].num_bytes * (tasks[task] in push.plan.to_send)
                progress(done, total, tasks[task])
        finally:
            for task in tasks:
                task.cancel()
    return sorted(additions, key=lambda addition: addition.path_in_repo)


def _upload_one(push: PreparedPush, name: str) -> CommitOperationAdd:
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
    push.remote.api.preupload_lfs_files(
        **push.remote.arguments,
        additions=[addition],
        revision=push.branch,
        create_pr=push.options.create_pr,
        num_threads=1,
        free_memory=False,
    )
    if file_state(path) != local.state:
        raise problem
    return addition


def _commit(
    push: PreparedPush, operations: list[CommitOperationAdd | CommitOperationDelete], description: str
) -> tuple[str, str]:
    """Makes the one commit on the plan's head. After an answer that was lost, first looks whether it was made."""
    for attempt in range(1, MAX_TRIES + 1):
        try:
            made: CommitInfo = push.remote.api.create_commit(
                **push.remote.arguments,
                operations=operations,
                commit_message=_title(push),
                commit_description=description,
                revision=push.branch,
                create_pr=push.options.create_pr,
                parent_commit=push.plan.head,
            )
        except (HTTPError, NoJSONError) as error:
            is_moved = getattr(getattr(error, "response", None), "status_code", None) == 412
            if not is_moved and not is_passing(error):
                raise
            if found := _find_made(push):
                return found
            if is_moved or attempt == MAX_TRIES:
                raise
            wait(error, attempt)
        else:
            return made.oid, made.pr_url or ""
    raise AssertionError("the loop returns or raises")


def _title(push: PreparedPush) -> str:
    return f"Release {push.version}"


def _find_made(push: PreparedPush) -> tuple[str, str] | None:
    """Commit and pull request that hold this very release already; None while nothing has changed.

    Raises:
        RemoteError: someone else changed the branch after the plan was made.
    """
    if push.options.create_pr:
        return _find_pull_request(push)
    head = remote_head(push.remote, push.branch)
    if head == push.plan.head:
        return None
    now = remote_files(push.remote, head)
    if compare_files(push.files, now, head).is_empty:
        return head, ""
    before = remote_files(push.remote, push.plan.head)
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    names = ", ".join(changed[:MAX_NAMES]) + (
        f" and {len(changed) - MAX_NAMES} more" if len(changed) > MAX_NAMES else ""
    )
    what = f"someone else changed {names or 'it'} meanwhile (commit {head[:8]}), nothing of this push is visible"
    way_out = "look at it, then run the same command again: it shows the difference and sends only what is missing"
    raise RemoteError(f"{push.remote.repo_id}: {what}; {way_out}")


def _find_pull_request(push: PreparedPush) -> tuple[str, str] | None:
    """An open pull request with this very release: of a push whose end was lost."""
    remote = push.remote
    with explaining(remote):
        opened = patiently(
            lambda: list(
                remote.api.get_repo_discussions(
                    **remote.arguments, discussion_type="pull_request", discussion_status="open"
                )
            )
        )
    for request in opened:
        if request.title != _title(push) or request.git_reference is None:
            continue
        head = remote_head(remote, request.git_reference)
        if compare_files(push.files, remote_files(remote, head), head).is_empty:
            return head, request.url
    return None


def _tag(push: PreparedPush, commit: str) -> None:
    remote = push.remote
    with explaining(remote):
        refs = patiently(lambda: remote.api.list_repo_refs(**remote.arguments))
        if push.version not in {tag.name for tag in refs.tags}:  # else it was checked to be this release
            create = remote.api.create_tag
            patiently(lambda: create(**remote.arguments, tag=push.version, revision=commit, exist_ok=True))
    check_tag(push)  # another push may have been faster
