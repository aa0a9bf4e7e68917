"""The part of a takedown at the Hub: one commit that replaces the changed shards; on demand, no old revisions.

A person's rows are found by digest where a file is the local one, else by reading two columns of the remote file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfFileSystem
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import LFSFileInfo

from tooling.errors import InputError
from tooling.release.folder import CHECKSUMS
from tooling.release.shards import read_checksums
from tooling.remote import (
    Remote,
    RemoteError,
    RemoteFile,
    explaining,
    file_matches,
    patiently,
    quiet_client,
    remote_files,
    remote_head,
)
from tooling.takedown import recipients as access
from tooling.takedown.built_release import Person, rows_of, shard_rows
from tooling.takedown.receipt import Receipt
from tooling.workspace.files import file_sha256

MAIN = "refs/heads/main"
CARD_FILES = ("README.md", f"data/{CHECKSUMS}")
PICTURES = "pictures/"
READ_AHEAD_BYTES = 1 << 16
NO_DATE = "1970-01-01T00:00:00.000Z"  # the client asks for one that it does not send
Commits = dict[str, dict[str, str]]
"""Commit id -> path -> sha256 of the files that hold the person."""


@dataclass(frozen=True)
class Look:
    """What is looked for, and what is known beforehand.

    Attributes:
        person: whose rows are looked for.
        out: folder of the local release, if there is one.
        digests: sha256 of the person's media files.
        receipt: of an earlier run.
    """

    person: Person
    out: Path | None
    digests: frozenset[str]
    receipt: Receipt | None

    def known(self) -> dict[str, bool]:
        """Digest of a file -> whether it holds the person, without reading it."""
        known = dict.fromkeys(self.digests, True)
        if self.out is not None:
            held = rows_of(self.out, self.person)
            known |= {digest: name in held for name, digest in read_checksums(self.out).items()}
            if not held:
                known |= {file_sha256(path): False for path in sorted((self.out / "pictures").glob("*"))}
        releases = self.receipt.releases.values() if self.receipt else ()
        for shard in (shard for release in releases for shard in release["shards"].values()):
            known[shard["before"]] = True
        return known


@dataclass(frozen=True)
class HubHoldings:
    """What a repository holds of a person.

    Attributes:
        repo_id: the repository.
        main_files: paths at the tip of main.
        refs: every other branch, tag and pull request -> paths at its tip.
        commits: ids of all commits, of whatever ref, with such files, and those files.
        histories: every ref -> ids of its commits, newest first.
        kept_digests: of the large files at the tips of refs without the person.
        unread: files that could not be searched: no Parquet file of a release, no known medium.
    """

    repo_id: str
    main_files: tuple[str, ...]
    refs: dict[str, tuple[str, ...]]
    commits: Commits
    histories: dict[str, tuple[str, ...]] = field(repr=False)
    kept_digests: frozenset[str] = field(repr=False)
    unread: tuple[str, ...] = ()

    @property
    def needs_purge(self) -> bool:
        """Whether old revisions serve the person."""
        return bool(self.refs) or any(self.commits)

    def lines(self) -> list[str]:
        lines = [f"{self.repo_id}, main: {path}" for path in self.main_files]
        lines += [f"{self.repo_id}, {ref}: {path}" for ref, paths in self.refs.items() for path in paths]
        lines += [f"{self.repo_id}, commit {commit[:12]}: {len(files)} files" for commit, files in self.commits.items()]
        return lines + [f"{self.repo_id}: could not be searched, look at it yourself: {path}" for path in self.unread]


def find_holdings(remote: Remote, look: Look, to_change: set[str]) -> HubHoldings:
    """Looks through every ref and its history.

    Args:
        remote: the repository.
        look: what is looked for.
        to_change: local shards that hold the person.

    Raises:
        InputError: main has other shards than `look.out`.
        RemoteError: the repository cannot be read.
    """
    if look.out is not None:
        _check_same_release(remote, look, to_change)
    with explaining(remote):
        found = patiently(lambda: remote.api.list_repo_refs(**remote.arguments, include_pull_requests=True))
    refs = {ref.ref: ref.target_commit for ref in (*found.branches, *found.converts, *found.tags)}
    refs |= {ref.ref: ref.target_commit for ref in found.pull_requests or ()}
    known, unread, commits, seen = look.known(), set[str](), Commits(), set[str]()
    histories: dict[str, tuple[str, ...]] = {}
    for name, head in refs.items():
        histories[name] = _history(remote, head)
        for commit in histories[name]:
            if commit not in seen:
                seen.add(commit)
                files = _files_with(remote, commit, look, known, unread)
                commits |= {commit: files} if files else {}
    tips = {name: tuple(commits[head]) for name, head in sorted(refs.items()) if head in commits}
    kept = {head for name, head in refs.items() if name not in tips}
    digests = {file.sha256 for head in sorted(kept) for file in remote_files(remote, head).values() if file.sha256}
    return HubHoldings(
        remote.repo_id, tips.pop(MAIN, ()), tips, commits, histories, frozenset(digests), tuple(sorted(unread))
    )


def clear_main(remote: Remote, out: Path | None, receipt: Receipt) -> None:
    """Sends the shards that changed, checksums and card, as one commit on main; nothing where main has them.

    Raises:
        RemoteError: main moved meanwhile, or the Hub refuses.
    """
    entry = receipt.hub(remote.repo_id)
    with explaining(remote):
        is_gated = bool(patiently(lambda: remote.api.dataset_info(remote.repo_id)).gated)
    if is_gated:
        users = [request.user for request in access.list_requests(remote, "accepted")]
        receipt.recipients = dict(sorted({**dict.fromkeys(users, remote.repo_id), **receipt.recipients}.items()))
    title = f"Take down identity {receipt.identity}"
    if out is not None:
        head = remote_head(remote)
        operations = _operations(out, receipt, remote_files(remote, head))
        if operations:
            with explaining(remote), quiet_client():
                made = remote.api.create_commit(
                    operations=operations, commit_message=title, parent_commit=head, **remote.arguments
                )
            entry["commit"] = made.oid
    if entry["commit"] is None:  # a run that was killed right after its commit, or nothing to send
        entry["commit"] = _commit_titled(remote, title)
    receipt.save()


def _operations(
    out: Path, receipt: Receipt, present: dict[str, RemoteFile]
) -> list[CommitOperationAdd | CommitOperationDelete]:
    shards = receipt.release(out)["shards"]
    if not shards:
        return []
    local = {path.relative_to(out).as_posix() for path in (out / PICTURES).glob("*")}
    wanted = [*shards, *CARD_FILES, *sorted(local | {path for path in present if path.startswith(PICTURES)})]
    operations: list[CommitOperationAdd | CommitOperationDelete] = []
    for name in wanted:
        path = out / name
        if path.is_file() and not (name in present and file_matches(path, present[name])):
            operations.append(CommitOperationAdd(name, path))
        elif name in present and not path.is_file():
            operations.append(CommitOperationDelete(name))
    return operations


def purge_history(remote: Remote, look: Look, receipt: Receipt) -> None:
    """Makes the Hub forget every revision that holds the person; main keeps its content as one commit.

    Tags and branches whose tip holds the person are deleted, such pull requests closed. Main, and other branches whose
    past holds the person, are squashed. What is then still reached (pull requests, whose refs cannot be deleted) is
    rewritten without the files, and the files themselves are deleted.

    Raises:
        RemoteError: main still holds the person, the Hub refuses, or still serves an old revision afterwards.
    """
    before = find_holdings(remote, look, set())
    if before.main_files:
        raise RemoteError(
            f"{remote.repo_id}: main still holds {before.main_files[0]}; run the takedown again with --out"
        )
    entry = receipt.hub(remote.repo_id)
    purge = entry["purge"] = entry["purge"] or {"refs": [], "commits": [], "files": [], "is_done": False}
    purge["refs"] = sorted({*purge["refs"], *before.refs})
    purge["commits"] = sorted({*purge["commits"], *before.commits})
    purge["files"] = sorted(
        {*purge["files"], *(digest for files in before.commits.values() for digest in files.values())}
    )
    receipt.save()
    with explaining(remote):
        for name in before.refs:
            _drop_ref(remote, name)
        past = {name for name, history in before.histories.items() if set(history) & before.commits.keys()}
        for name in sorted(past - before.refs.keys()):
            if name.startswith("refs/heads/"):
                branch = name.removeprefix("refs/heads/")
                remote.api.super_squash_history(branch=branch, commit_message="Current state", **remote.arguments)
        _delete_files(remote, _stored(before, receipt, purge["files"]))
    _check_purged(remote, look, purge["commits"])
    purge["is_done"] = True
    receipt.save()


def _stored(before: HubHoldings, receipt: Receipt, files: list[str]) -> list[str]:
    """Digests to delete: what revisions held, and what a killed push may have sent without a commit.

    A picture that main or another ref still shows stays.
    """
    shards = (shard for release in receipt.releases.values() for shard in release["shards"].values())
    return sorted({*files, *(shard["before"] for shard in shards)} - before.kept_digests)


def _drop_ref(remote: Remote, name: str) -> None:
    short = name.removeprefix("refs/heads/").removeprefix("refs/tags/")
    if name.startswith("refs/tags/"):
        remote.api.delete_tag(tag=short, **remote.arguments)
    elif name.startswith("refs/pr/"):
        number = int(name.rpartition("/")[2])
        if remote.api.get_discussion_details(discussion_num=number, **remote.arguments).status in ("open", "draft"):
            comment = "Closed: it holds data of a person who was taken down."
            remote.api.change_discussion_status(
                discussion_num=number, new_status="closed", comment=comment, **remote.arguments
            )
    else:
        remote.api.delete_branch(branch=short, **remote.arguments)


def _delete_files(remote: Remote, digests: list[str]) -> None:
    """Deletes large files from storage and from every history that still names them."""
    files = [LFSFileInfo(fileOid=digest, filename="", oid=digest, pushedAt=NO_DATE, size=0) for digest in digests]
    if files:
        remote.api.permanently_delete_lfs_files(lfs_files=files, rewrite_history=True, **remote.arguments)


def _check_purged(remote: Remote, look: Look, old_commits: list[str]) -> None:
    left = find_holdings(remote, look, set())
    served = [*left.main_files, *left.refs, *left.commits]
    for commit in old_commits:
        try:
            remote.api.dataset_info(remote.repo_id, revision=commit)
        except RepositoryNotFoundError as error:
            with explaining(remote):
                raise error
        except RevisionNotFoundError:
            continue
        served.append(f"commit {commit}")
    if served:
        raise RemoteError(f"{remote.repo_id}: the Hub still serves {served[0]}; run it again, or ask the Hub's support")


def _check_same_release(remote: Remote, look: Look, to_change: set[str]) -> None:
    """The commit replaces a few shards by name: that is right only if all others are those of the local release."""
    assert look.out is not None
    local, present = read_checksums(look.out), remote_files(remote)
    earlier = look.receipt.release(look.out)["shards"] if look.receipt else {}
    shards = {name: file.sha256 for name, file in present.items() if name.startswith("data/") and file.sha256}
    for name, digest in shards.items():
        allowed = {local.get(name), earlier.get(name, {}).get("before")}
        if digest not in allowed:
            raise InputError(
                f"{look.out / name}: main of {remote.repo_id} has another file there; "
                "run `tooling push`, or `tooling pull` into a new folder, first"
            )
    missing = sorted(to_change - shards.keys()) if shards else []
    if missing:
        raise InputError(f"{look.out / missing[0]}: main of {remote.repo_id} lacks it; run `tooling push` first")


def _history(remote: Remote, head: str) -> tuple[str, ...]:
    with explaining(remote):
        commits = patiently(lambda: list(remote.api.list_repo_commits(**remote.arguments, revision=head)))
    return tuple(commit.commit_id for commit in commits)


def _commit_titled(remote: Remote, title: str) -> str | None:
    with explaining(remote):
        commits = patiently(lambda: list(remote.api.list_repo_commits(**remote.arguments)))
    return next((commit.commit_id for commit in commits if commit.title == title), None)


def _files_with(remote: Remote, commit: str, look: Look, known: dict[str, bool], unread: set[str]) -> dict[str, str]:
    """Path -> sha256 of a commit's files with the person; `known` learns."""
    found: dict[str, str] = {}
    pictures: dict[str, str] = {}
    for path, file in remote_files(remote, commit).items():
        if file.sha256 is None:  # text: the card, checksums, scripts
            unread |= {f"{path} ({commit[:12]})"} if path.endswith(".parquet") else set()
            continue
        if file.sha256 not in known and path.endswith(".parquet"):
            known[file.sha256] = _holds(remote, commit, path, look.person, unread)
        if known.get(file.sha256):
            found[path] = file.sha256
        elif file.sha256 not in known and path.startswith(PICTURES):
            pictures[path] = file.sha256
        elif file.sha256 not in known:
            unread.add(f"{path} ({commit[:12]})")
    # A picture beside shards with the person may show the person.
    return {**found, **pictures} if found else {}


def _holds(remote: Remote, commit: str, path: str, person: Person, unread: set[str]) -> bool:
    token: Any = remote.api.token
    place = f"datasets/{remote.repo_id}@{commit}/{path}"
    with explaining(remote):
        system = HfFileSystem(endpoint=remote.api.endpoint, token=token, skip_instance_cache=True)
        with system.open(place, block_size=READ_AHEAD_BYTES) as file:
            try:
                return bool(shard_rows(cast(BinaryIO, file), person, place))
            except InputError:
                unread.add(f"{path} ({commit[:12]})")
                return False
