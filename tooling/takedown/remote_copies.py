"""The part of a takedown at the Hub: one commit that replaces the changed shards; on demand, no old revisions.

A person's rows are found by digest where a file is the local one, else by reading two columns of the remote file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.hf_api import LFSFileInfo

from tooling.errors import InputError
from tooling.release.folder import CHECKSUMS, PAPERS
from tooling.release.shards import read_checksums
from tooling.remote import Remote, RemoteError, RemoteFile, file_matches, quiet_client
from tooling.takedown.built_release import Person, rows_of, shard_rows
from tooling.takedown.receipt import Receipt
from tooling.takedown.recipients import list_requests
from tooling.workspace.files import file_sha256

MAIN = "refs/heads/main"
CARD_FILES = ("README.md", *PAPERS, f"data/{CHECKSUMS}")  # they state counts
PICTURES = "pictures/"
BLOCK_BYTES = 1 << 16  # fetched at once of a shard of which two columns are read
NO_DATE = "1970-01-01T00:00:00.000Z"  # the client asks for one that it does not send
Commits = dict[str, dict[str, str]]
"""Commit id -> path -> sha256 of the files with the person."""


@dataclass(frozen=True)
class Search:
    """Whose files are searched for, and what is known without the Hub.

    Attributes:
        person: whose rows are searched for.
        out: folder of the local release, if there is one.
        digests: sha256 of the person's media files.
        receipt: of an earlier run.
    """

    person: Person
    out: Path | None
    digests: frozenset[str]
    receipt: Receipt | None

    def known(self) -> dict[str, bool]:
        """Digest of a file -> whether the person is in it, without reading it."""
        known = dict.fromkeys(self.digests, True)
        if self.out is not None:
            rows = rows_of(self.out, self.person)
            known |= {digest: name in rows for name, digest in read_checksums(self.out).items()}
            if not rows:
                known |= {file_sha256(path): False for path in sorted((self.out / "pictures").glob("*"))}
        releases = self.receipt.releases.values() if self.receipt else ()
        for shard in (shard for release in releases for shard in release["shards"].values()):
            known[shard["before"]] = True
        return known


@dataclass(frozen=True)
class HubHoldings:
    """The files of a repository with a person.

    Attributes:
        repo_id: the repository.
        main_files: paths at the tip of main.
        refs: every other branch, tag and pull request -> paths at its tip.
        commits: ids of all commits, of whatever ref, with such files, and those files.
        histories: every ref -> ids of its commits, newest first.
        kept_digests: of the large files at the tips of refs without the person.
        unread: files that could not be searched: neither a shard of a release nor a known media file.
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
        """One line for each file at a tip, each commit, and each file that could not be searched."""
        lines = [f"{self.repo_id}, main: {path}" for path in self.main_files]
        lines += [f"{self.repo_id}, {ref}: {path}" for ref, paths in self.refs.items() for path in paths]
        lines += [f"{self.repo_id}, commit {commit[:12]}: {len(files)} files" for commit, files in self.commits.items()]
        return lines + [f"{self.repo_id}: could not be searched, check it yourself: {path}" for path in self.unread]


def find_holdings(remote: Remote, search: Search, to_change: set[str]) -> HubHoldings:
    """Searches every ref and its history.

    Args:
        remote: the repository.
        search: whose files.
        to_change: local shards with the person.

    Raises:
        InputError: main has other shards than `search.out`, or shards are missing there.
        RemoteError: the repository cannot be read.
    """
    if search.out is not None:
        _check_same_release(remote, search, to_change)
    found = remote.call("list_repo_refs", include_pull_requests=True)
    refs = {ref.ref: ref.target_commit for ref in (*found.branches, *found.converts, *found.tags)}
    refs |= {ref.ref: ref.target_commit for ref in found.pull_requests or ()}
    known, unread, commits, seen = search.known(), set[str](), Commits(), set[str]()
    histories: dict[str, tuple[str, ...]] = {}
    for name, head in refs.items():
        histories[name] = tuple(commit.commit_id for commit in remote.history(head))
        for commit in histories[name]:
            if commit not in seen:
                seen.add(commit)
                files = _files_with(remote, commit, search, known, unread)
                commits |= {commit: files} if files else {}
    tips = {name: tuple(commits[head]) for name, head in sorted(refs.items()) if head in commits}
    kept = {head for name, head in refs.items() if name not in tips}
    digests = {file.sha256 for head in sorted(kept) for file in remote.files(head).values() if file.sha256}
    return HubHoldings(
        remote.repo_id, tips.pop(MAIN, ()), tips, commits, histories, frozenset(digests), tuple(sorted(unread))
    )


def clear_main(remote: Remote, out: Path | None, receipt: Receipt) -> None:
    """Sends the shards that changed, checksums and card, as one commit on main; nothing if main has them already.

    Raises:
        RemoteError: main moved meanwhile, or the Hub refuses.
    """
    entry = receipt.hub(remote.repo_id)
    title = f"Take down identity {receipt.identity}"
    if out is not None:
        head = remote.head()
        operations = _operations(out, receipt, remote.files(head))
        if operations:
            with quiet_client():
                made = remote.call("create_commit", operations=operations, commit_message=title, parent_commit=head)
            entry["commit"] = made.oid
    if entry["commit"] is None:  # a run that was killed right after its commit, or nothing to send
        titled = (commit.commit_id for commit in remote.history() if commit.title == title)
        entry["commit"] = next(titled, None)
    receipt.save()


def check_write_access(remote: Remote) -> None:
    """Raises RemoteError if the token may not commit to the repository: asks how a file would be sent, sends none."""
    with quiet_client():
        remote.call("preupload_lfs_files", additions=[CommitOperationAdd("README.md", b"-")])


def note_recipients(remote: Remote, receipt: Receipt) -> None:
    """Adds to the receipt who was let in to a gated repository.

    Raises:
        RemoteError: the token may not see that, or the Hub cannot be reached.
    """
    if remote.call("repo_info").gated:
        users = [request.user for request in list_requests(remote, "accepted")]
        receipt.recipients = dict(sorted({**dict.fromkeys(users, remote.repo_id), **receipt.recipients}.items()))


def _operations(
    out: Path, receipt: Receipt, present: dict[str, RemoteFile]
) -> list[CommitOperationAdd | CommitOperationDelete]:
    shards = receipt.release(out)["shards"]
    if not shards:
        return []
    local = {path.relative_to(out).as_posix() for path in (out / PICTURES).glob("*")}
    names = [*shards, *CARD_FILES, *sorted(local | {path for path in present if path.startswith(PICTURES)})]
    operations: list[CommitOperationAdd | CommitOperationDelete] = []
    for name in names:
        path = out / name
        if path.is_file() and not (name in present and file_matches(path, present[name])):
            operations.append(CommitOperationAdd(name, path))
        elif name in present and not path.is_file():
            operations.append(CommitOperationDelete(name))
    return operations


def purge_history(remote: Remote, search: Search, receipt: Receipt) -> None:
    """Makes the Hub forget every revision with the person; main keeps its content as one commit.

    Tags and branches with the person at their tip are deleted, such pull requests closed. Main, and other branches with
    the person in their past, are squashed. What is then still reached (pull requests, whose refs cannot be deleted) is
    rewritten without the files, and the files themselves are deleted.

    Raises:
        RemoteError: the person is still on main, the Hub refuses, or it still serves an old revision afterwards.
    """
    before = find_holdings(remote, search, set())
    if before.main_files:
        problem = f"main still has {before.main_files[0]}"
        raise RemoteError(f"{remote.repo_id}: {problem}; run the takedown again with --out", "conflict")
    entry = receipt.hub(remote.repo_id)
    purge = entry["purge"] = entry["purge"] or {"refs": [], "commits": [], "files": [], "is_done": False}
    purge["refs"] = sorted({*purge["refs"], *before.refs})
    purge["commits"] = sorted({*purge["commits"], *before.commits})
    purge["files"] = sorted(
        {*purge["files"], *(digest for files in before.commits.values() for digest in files.values())}
    )
    receipt.save()
    for name in before.refs:
        _drop_ref(remote, name)
    past = {name for name, history in before.histories.items() if set(history) & before.commits.keys()}
    for name in sorted(past - before.refs.keys()):
        if name.startswith("refs/heads/"):
            branch = name.removeprefix("refs/heads/")
            remote.call("super_squash_history", branch=branch, commit_message="Current state")
    _delete_files(remote, _stored(before, receipt, purge["files"]))
    _check_purged(remote, search, purge["commits"])
    purge["is_done"] = True
    receipt.save()


def _stored(before: HubHoldings, receipt: Receipt, files: list[str]) -> list[str]:
    """Digests to delete: of files in revisions, and of what a killed push may have sent without a commit.

    A picture that main or another ref still shows stays.
    """
    shards = (shard for release in receipt.releases.values() for shard in release["shards"].values())
    return sorted({*files, *(shard["before"] for shard in shards)} - before.kept_digests)


def _drop_ref(remote: Remote, name: str) -> None:
    """Deletes a branch or tag; closes a pull request, whose ref cannot be deleted."""
    short = name.removeprefix("refs/heads/").removeprefix("refs/tags/")
    if name.startswith("refs/tags/"):
        remote.call("delete_tag", tag=short)
    elif name.startswith("refs/pr/"):
        number = int(name.rpartition("/")[2])
        if remote.call("get_discussion_details", discussion_num=number).status in ("open", "draft"):
            comment = "Closed: it has data of a person who was taken down."
            remote.call("change_discussion_status", discussion_num=number, new_status="closed", comment=comment)
    else:
        remote.call("delete_branch", branch=short)


def _delete_files(remote: Remote, digests: list[str]) -> None:
    """Deletes large files from storage and from every history that still names them."""
    files = [LFSFileInfo(fileOid=digest, filename="", oid=digest, pushedAt=NO_DATE, size=0) for digest in digests]
    if files:
        remote.call("permanently_delete_lfs_files", lfs_files=files, rewrite_history=True)


def _check_purged(remote: Remote, search: Search, old_commits: list[str]) -> None:
    left = find_holdings(remote, search, set())
    served = [*left.main_files, *left.refs, *left.commits]
    for commit in old_commits:
        try:
            remote.head(commit)
            served.append(f"commit {commit}")
        except RemoteError as error:
            if error.kind != "no_revision":
                raise
    if served:
        way_out = "run the same command again, or ask the Hub's support"
        raise RemoteError(f"{remote.repo_id}: the Hub still serves {served[0]}; {way_out}", "conflict")


def _check_same_release(remote: Remote, search: Search, to_change: set[str]) -> None:
    """The commit replaces a few shards by name: that is right only if all others are those of the local release."""
    assert search.out is not None
    local, present = read_checksums(search.out), remote.files()
    earlier = search.receipt.release(search.out)["shards"] if search.receipt else {}
    shards = {name: file.sha256 for name, file in present.items() if name.startswith("data/") and file.sha256}
    for name, digest in shards.items():
        allowed = {local.get(name), earlier.get(name, {}).get("before")}
        if digest not in allowed:
            raise InputError(
                f"{search.out / name}: main of {remote.repo_id} has another file of that name; "
                "run `tooling push REPO_ID`, or `tooling pull REPO_ID` into a new folder, first"
            )
    missing = sorted(to_change - shards.keys()) if shards else []
    if missing:
        raise InputError(
            f"{search.out / missing[0]}: it is missing from main of {remote.repo_id}; run `tooling push REPO_ID` first"
        )


def _files_with(
    remote: Remote, commit: str, search: Search, known: dict[str, bool], unread: set[str]
) -> dict[str, str]:
    """Path -> sha256 of a commit's files with the person; `known` learns."""
    found: dict[str, str] = {}
    pictures: dict[str, str] = {}
    for path, file in remote.files(commit).items():
        if file.sha256 is None:  # text: the card, checksums, scripts
            unread |= {f"{path} ({commit[:12]})"} if path.endswith(".parquet") else set()
            continue
        if file.sha256 not in known and path.endswith(".parquet"):
            known[file.sha256] = _has_person(remote, commit, path, search.person, unread)
        if known.get(file.sha256):
            found[path] = file.sha256
        elif file.sha256 not in known and path.startswith(PICTURES):
            pictures[path] = file.sha256
        elif file.sha256 not in known:
            unread.add(f"{path} ({commit[:12]})")
    # A picture beside shards with the person may show the person.
    return {**found, **pictures} if found else {}


def _has_person(remote: Remote, commit: str, path: str, person: Person, unread: set[str]) -> bool:
    address = remote.address(path, commit)
    try:
        return remote.read(path, commit, lambda file: bool(shard_rows(file, person, address)), block_bytes=BLOCK_BYTES)
    except InputError:
        unread.add(f"{path} ({commit[:12]})")
        return False
