"""The part of a push that changes nothing: the release checked, and what the Hub has compared with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import DatasetInfo

from tooling.errors import InputError, UsageError
from tooling.release.changes import CARD, check_version, read_entries, remote_card
from tooling.release.folder import CHECKSUMS, Release
from tooling.remote import Remote, RemoteError, connect
from tooling.stages.push.checks import LocalFile, check_release, read_files
from tooling.stages.push.comparison import MAIN, PushPlan, compare_files
from tooling.work.engine import Progress, no_progress
from tooling.workspace.layout import Workspace

Gated = Literal["auto", "manual"]


@dataclass(frozen=True)
class PushOptions:
    """How to push.

    Attributes:
        create_pr: open a pull request instead of changing the branch; no tag, no script branch.
        private: True makes the repository private, False public; None leaves it, and a new one is private.
        gated: "auto" or "manual" makes people ask for access; None leaves it.
        revision: branch to push to, made from main if missing; None is main. Only main is tagged.
        allow_unconsented: identities without granted consent that may be in a private and gated repository.
    """

    create_pr: bool = False
    private: bool | None = None
    gated: Gated | None = None
    revision: str | None = None
    allow_unconsented: tuple[str, ...] = ()

    def access_after(self, info: DatasetInfo | None) -> tuple[bool, bool]:
        """Whether the repository is private and whether it is gated, once everything has been pushed."""
        was_private = info.private if info is not None else True
        is_private = was_private if self.private is None else self.private
        return bool(is_private), bool(self.gated or (info is not None and info.gated))


@dataclass(frozen=True)
class PreparedPush:
    """A push that was checked; nothing has been sent.

    Attributes:
        remote: the repository.
        out: folder of the release.
        release: what its shards hold.
        files: all that belongs to it, by path.
        options: how to push.
        version: of the release.
        info: of the repository; None if there is none yet.
        plan: what there is to change.
        notes: one line each for the one who pushes.
    """

    remote: Remote
    out: Path
    release: Release
    files: dict[str, LocalFile]
    options: PushOptions
    version: str
    info: DatasetInfo | None
    plan: PushPlan
    notes: tuple[str, ...]

    @property
    def branch(self) -> str:
        return self.options.revision or MAIN

    @property
    def title(self) -> str:
        """Of its commit and its pull request; tells a push's own pull request from others."""
        return f"Release {self.version}"

    @property
    def is_release(self) -> bool:
        """Whether it is tagged and has a script branch."""
        return self.branch == MAIN and not self.options.create_pr


def prepare_push(
    workspace: Workspace, out: Path, repo_id: str, options: PushOptions, *, progress: Progress = no_progress
) -> PreparedPush:
    """Checks a release and compares it with what the Hub has; writes nothing.

    Args:
        workspace: locked by the caller.
        out: the built release, with its card.
        repo_id: OWNER/NAME.
        options: how to push.
        progress: called with the bytes of which the digests were taken.

    Raises:
        UsageError: [card] version cannot be a tag.
        InputError: the release is missing, incomplete, changed on disk, or does not fit the repository.
        ConsentError, VerificationError, WorkspaceError: the release may not be pushed there.
        RemoteError: the Hub refuses or cannot be reached.
    """
    check_version(workspace.settings.card.version)
    remote = connect(repo_id)
    info = repository_info(remote)
    is_private, is_gated = options.access_after(info)
    release, files = read_files(out, progress)
    notes = check_release(
        workspace,
        out,
        is_public=not (is_private or is_gated),
        is_closed=is_private and is_gated,
        allow_unconsented=options.allow_unconsented,
    )
    plan = make_plan(remote, files, options, info)
    version = workspace.settings.card.version
    push = PreparedPush(remote, out, release, files, options, version, info, plan, tuple(notes))
    if push.is_release and info is not None:
        check_tag(push)
    _check_changes(push)
    return push


def repository_info(remote: Remote) -> DatasetInfo | None:
    """What the Hub says of the repository; None if there is none yet."""
    try:
        info: DatasetInfo = remote.call("repo_info")
    except RemoteError as error:
        if error.kind == "no_repository":
            return None
        raise
    return info


def make_plan(remote: Remote, files: dict[str, LocalFile], options: PushOptions, info: DatasetInfo | None) -> PushPlan:
    """What turns the repository's branch into the release.

    Raises:
        InputError: a pull request to nothing, or a repository of something else.
        RemoteError: the Hub refuses or cannot be reached.
    """
    if info is None:
        if options.create_pr:
            problem = "there is no such repository, and a pull request needs a repository"
            raise InputError(f"{remote.repo_id}: {problem}; push without --create-pr first")
        return compare_files(files, {}, None)
    head = remote.branches().get(options.revision or MAIN) or (None if options.revision else info.sha)
    head = head or remote.head(MAIN)  # a new branch starts there
    found = remote.files(head)
    plan = compare_files(files, found, head)
    if plan.removed and f"data/{CHECKSUMS}" not in found:
        other = f"has files of another kind ({plan.removed[0]}), which a push would remove"
        raise InputError(f"{remote.repo_id}: {other}; name another repository, or remove them there first")
    return plan


def check_tag(push: PreparedPush) -> None:
    """A version names one release for good.

    Raises:
        UsageError: a branch has that name.
        InputError: the tag names another release.
    """
    remote = push.remote
    refs = remote.call("list_repo_refs")
    if push.version in {branch.name for branch in refs.branches}:
        raise UsageError(f"{push.version}: {remote.repo_id} has a branch of that name; choose another [card] version")
    if push.version not in {tag.name for tag in refs.tags}:
        return
    if not compare_files(push.files, remote.files(push.version), None).is_empty:
        card = f"`tooling card --since {remote.repo_id}@{push.branch}`"
        way_out = f"raise [card] version in workspace.toml and run {card}"
        raise InputError(f"{remote.repo_id}: version {push.version} is already another release there; {way_out}")


def _check_changes(push: PreparedPush) -> None:
    """The card says what is new in this version, and goes on from the version that it replaces."""
    remote, plan, card, version = push.remote, push.plan, push.out / CARD, push.version
    entries = list(read_entries(card.read_text(encoding="utf-8", errors="replace")))
    if entries[:1] != [version]:
        problem = f"its list of changes ends with {entries[0] if entries else 'nothing'}, [card] version is {version}"
        raise InputError(f"{card}: {problem}; run `tooling card`, with --since and the release before if there is one")
    if plan.head is None or plan.is_empty:
        return
    replaced = next(iter(read_entries(remote_card(remote, plan.head))), version)
    if replaced not in entries:
        way_out = f"run `tooling card --since {remote.repo_id}@{push.branch}`"
        raise InputError(f"{card}: its list of changes does not go on from {replaced} at {remote.repo_id}; {way_out}")
