"""push: the built release to a dataset repository at a Hub, visible in one commit, then tagged and read back.

Large files go first, only those that the Hub lacks; nobody sees them until the one commit that names them all, made
on the very head that the plan was made against. Whatever stops a push, the same command goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, DatasetInfo
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from tooling.changes import CARD, read_entries, remote_card
from tooling.engines import Progress, no_progress
from tooling.errors import InputError, UsageError
from tooling.push_checks import LocalFile, check_release, file_state, read_files
from tooling.push_plan import MAIN, PushPlan, compare_files
from tooling.read_back import read_back
from tooling.release import CHECKSUMS
from tooling.remote import (
    MAX_TRIES,
    HTTPError,
    NoJSONError,
    Remote,
    RemoteError,
    branch_heads,
    choose_transfer,
    connect,
    explaining,
    is_passing,
    patiently,
    quiet_client,
    remote_files,
    remote_head,
    wait,
)
from tooling.script_branch import push_script
from tooling.workspace import Workspace

NUM_UPLOADS = 4  # side by side
MAX_NAMES = 5

Gated = Literal["auto", "manual"]


@dataclass(frozen=True)
class PushOptions:
    """How to push.

    Attributes:
        dry_run: check and plan only; nothing is written.
        create_pr: open a pull request instead of changing the branch; no tag, no script branch.
        private: True makes the repository private, False public; None leaves it, and a new one is private.
        gated: "auto" or "manual" makes people ask for access; None leaves it.
        revision: branch to push to, made from main if missing; None is main. Only main is tagged.
        allow_unconsented: identities without granted consent that may be in a private and gated repository.
    """

    dry_run: bool = False
    create_pr: bool = False
    private: bool | None = None
    gated: Gated | None = None
    revision: str | None = None
    allow_unconsented: tuple[str, ...] = ()


@dataclass(frozen=True)
class PushResult:
    """What a push did.

    Attributes:
        plan: what there was to change.
        commit: at the Hub that holds the release; None after a dry run.
        is_committed: whether this push made that commit.
        tag: version that names the commit, "" if this push does not tag.
        pull_request: address of the pull request, "" if none was asked for.
        notes: one line each for the one who pushes.
    """

    repo_id: str
    plan: PushPlan
    commit: str | None
    is_committed: bool
    tag: str
    pull_request: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Push:
    """One push under way."""

    remote: Remote
    out: Path
    files: dict[str, LocalFile]
    options: PushOptions
    version: str

    @property
    def branch(self) -> str:
        return self.options.revision or MAIN

    @property
    def is_release(self) -> bool:
        return self.branch == MAIN and not self.options.create_pr


def run(
    workspace: Workspace, out: Path, repo_id: str, options: PushOptions, *, progress: Progress = no_progress
) -> PushResult:
    """Pushes the release in `out`; a dry run checks everything and only plans.

    Args:
        workspace: held by the caller's lock.
        out: the built release, with its card.
        repo_id: OWNER/NAME.
        options: see there.
        progress: told of bytes: of the digests first, then of the files sent.

    Raises:
        InputError: the release is missing, incomplete, changed on disk, or does not fit the repository.
        ConsentError, VerificationError, WorkspaceError: the release may not be pushed there.
        RemoteError: the Hub refuses, cannot be reached, was changed meanwhile, or serves something else afterwards.
    """
    remote = connect(repo_id)
    info = _dataset_info(remote)
    is_private, gated = _access(info, options)
    release, files = read_files(out, progress)
    notes = check_release(
        workspace,
        out,
        is_public=not (is_private or gated),
        is_closed=is_private and bool(gated),
        allow_unconsented=options.allow_unconsented,
    )
    push = _Push(remote, out, files, options, workspace.settings.card.version)
    plan = _plan(push, info)
    if push.is_release and info is not None:
        _check_tag(push)
    _check_changes(push, plan)
    if options.dry_run:
        return PushResult(repo_id, plan, None, False, "", "", tuple(notes))
    if info is None or options.private or options.gated:
        _prepare_repository(push, info, is_private)
        plan = _plan(push, _dataset_info(remote))
    commit, pull_request = plan.head, ""
    if not plan.is_empty:
        with quiet_client():
            commit, pull_request = _send(push, plan, notes, progress)
    assert commit is not None
    if push.is_release:
        _tag(push, commit)
        push_script(remote)
    read_back(remote, commit, files, release, out)
    if options.private is False and info is not None and info.private:
        with explaining(remote):
            patiently(lambda: remote.api.update_repo_settings(**remote.arguments, private=False))
    tag = push.version if push.is_release else ""
    return PushResult(repo_id, plan, commit, commit != plan.head, tag, pull_request, tuple(notes))


def _dataset_info(remote: Remote) -> DatasetInfo | None:
    """Of the repository; None where there is none."""
    with explaining(remote):
        try:
            return patiently(lambda: remote.api.dataset_info(remote.repo_id))
        except RepositoryNotFoundError as error:
            if isinstance(error, GatedRepoError) or error.response.status_code == 401:
                raise
            return None


def _access(info: DatasetInfo | None, options: PushOptions) -> tuple[bool, bool]:
    """Whether the repository is private and whether it is gated, once everything has been pushed."""
    was_private = info.private if info is not None else True
    is_private = was_private if options.private is None else options.private
    return bool(is_private), bool(options.gated or (info is not None and info.gated))


def _plan(push: _Push, info: DatasetInfo | None) -> PushPlan:
    if info is None:
        if push.options.create_pr:
            raise InputError(
                f"{push.remote.repo_id}: not there; a pull request needs a repository, push without it first"
            )
        return compare_files(push.files, {}, None)
    head = branch_heads(push.remote).get(push.branch) or (None if push.options.revision else info.sha)
    head = head or remote_head(push.remote, MAIN)  # a new branch starts there
    found = remote_files(push.remote, head)
    plan = compare_files(push.files, found, head)
    if plan.removed and f"data/{CHECKSUMS}" not in found:
        other = f"holds files of another kind ({plan.removed[0]}), which a push would remove"
        raise InputError(f"{push.remote.repo_id}: {other}; name another repository, or remove them there first")
    return plan


def _check_tag(push: _Push) -> None:
    """Before anything is sent: a version names one release for good."""
    remote = push.remote
    with explaining(remote):
        refs = patiently(lambda: remote.api.list_repo_refs(**remote.arguments))
    if push.version in {branch.name for branch in refs.branches}:
        raise UsageError(f"{push.version}: {remote.repo_id} has a branch of that name; choose another [card] version")
    if push.version not in {tag.name for tag in refs.tags}:
        return
    if not compare_files(push.files, remote_files(remote, push.version), None).is_empty:
        way_out = "raise [card] version in workspace.toml and run `tooling card`"
        raise InputError(f"{remote.repo_id}: version {push.version} is already another release there; {way_out}")


def _check_changes(push: _Push, plan: PushPlan) -> None:
    """The card tells what is new in this version, and goes on from the version that it replaces."""
    remote, card, version = push.remote, push.out / CARD, push.version
    entries = list(read_entries(card.read_text(encoding="utf-8", errors="replace")))
    if entries[:1] != [version]:
        problem = f"its list of changes ends with {entries[0] if entries else 'nothing'}, [card] version is {version}"
        raise InputError(f"{card}: {problem}; run `tooling card`, with --since for what is there already")
    if plan.head is None or plan.is_empty:
        return
    there = next(iter(read_entries(remote_card(remote, plan.head))), version)
    if there not in entries:
        way_out = f"run `tooling card --since {remote.repo_id}@{push.branch}`"
        raise InputError(f"{card}: its list of changes does not go on from {there} at {remote.repo_id}; {way_out}")


def _prepare_repository(push: _Push, info: DatasetInfo | None, is_private: bool) -> None:
    """Creates the repository and closes it as far as asked for, before anything can be seen in it."""
    remote, api, gated = push.remote, push.remote.api, push.options.gated
    with explaining(remote):
        if info is None:
            patiently(lambda: api.create_repo(**remote.arguments, private=is_private, exist_ok=True))
        elif push.options.private and not info.private:
            patiently(lambda: api.update_repo_settings(**remote.arguments, private=True))
        if gated is not None and (info is None or info.gated != gated):
            patiently(lambda: api.update_repo_settings(**remote.arguments, gated=gated))
    choose_transfer(remote)


def _send(push: _Push, plan: PushPlan, notes: Iterable[str], progress: Progress) -> tuple[str, str]:
    """Uploads and commits; returns commit and address of the pull request."""
    remote, branch = push.remote, push.branch
    if push.options.create_pr and (found := _find_pull_request(push)):
        return found
    if branch not in branch_heads(remote):
        with explaining(remote):
            patiently(
                lambda: remote.api.create_branch(**remote.arguments, branch=branch, revision=plan.head, exist_ok=True)
            )
    additions = _upload(push, plan, progress)
    removals = [CommitOperationDelete(name) for name in plan.removed]
    lines = [f"{len(plan.added)} added, {len(plan.changed)} changed, {len(plan.removed)} removed", *notes]
    with explaining(remote):
        return _commit(push, plan, [*additions, *removals], "\n".join(lines))


def _upload(push: _Push, plan: PushPlan, progress: Progress) -> list[CommitOperationAdd]:
    """Sends the large files among those added and changed; complete ones that the Hub has are not sent again."""
    remote, names = push.remote, [*plan.added, *plan.changed]
    total, done, additions = sum(push.files[name].num_bytes for name in names), 0, []
    progress(0, total, "")
    with ThreadPoolExecutor(NUM_UPLOADS) as pool:
        tasks = {pool.submit(_upload_one, push, name): name for name in names}
        try:
            for task in as_completed(tasks):
                with explaining(remote):
                    additions.append(task.result())
                done += push.files[tasks[task]].num_bytes
                progress(done, total, tasks[task])
        finally:
            for task in tasks:
                task.cancel()
    return sorted(additions, key=lambda addition: addition.path_in_repo)


def _upload_one(push: _Push, name: str) -> CommitOperationAdd:
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
    push: _Push, plan: PushPlan, operations: list[CommitOperationAdd | CommitOperationDelete], description: str
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
                parent_commit=plan.head,
            )
        except (HTTPError, NoJSONError) as error:
            is_moved = getattr(getattr(error, "response", None), "status_code", None) == 412
            if not is_moved and not is_passing(error):
                raise
            if found := _find_made(push, plan):
                return found
            if is_moved or attempt == MAX_TRIES:
                raise
            wait(error, attempt)
        else:
            return made.oid, made.pr_url or ""
    raise AssertionError("the loop returns or raises")


def _title(push: _Push) -> str:
    return f"Release {push.version}"


def _find_made(push: _Push, plan: PushPlan) -> tuple[str, str] | None:
    """Commit and pull request that hold this very release already; None while nothing has changed.

    Raises:
        RemoteError: someone else changed the branch after the plan was made.
    """
    if push.options.create_pr:
        return _find_pull_request(push)
    head = remote_head(push.remote, push.branch)
    if head == plan.head:
        return None
    now = remote_files(push.remote, head)
    if compare_files(push.files, now, head).is_empty:
        return head, ""
    before = remote_files(push.remote, plan.head)
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    names = ", ".join(changed[:MAX_NAMES]) + (
        f" and {len(changed) - MAX_NAMES} more" if len(changed) > MAX_NAMES else ""
    )
    what = f"someone else changed {names or 'it'} meanwhile (commit {head[:8]}), nothing of this push is visible"
    way_out = "look at it, then run the same command again: it shows the difference and sends only what is missing"
    raise RemoteError(f"{push.remote.repo_id}: {what}; {way_out}")


def _find_pull_request(push: _Push) -> tuple[str, str] | None:
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


def _tag(push: _Push, commit: str) -> None:
    remote = push.remote
    with explaining(remote):
        refs = patiently(lambda: remote.api.list_repo_refs(**remote.arguments))
        if push.version not in {tag.name for tag in refs.tags}:  # else it was checked to be this release
            create = remote.api.create_tag
            patiently(lambda: create(**remote.arguments, tag=push.version, revision=commit, exist_ok=True))
    _check_tag(push)  # another push may have been faster
