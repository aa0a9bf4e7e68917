"""Changes of history: merge, squash, and the removal of large files from every revision."""

from __future__ import annotations

import stat
from collections.abc import Iterable

from dulwich.objects import ObjectID, Tree
from dulwich.refs import Ref

from tooling.hub.responses import HubError, revision_not_found
from tooling.hub.store import graph
from tooling.hub.store.repository import NewCommit, Repository, branch_moved


def merge_base(repository: Repository, ours: str, theirs: str) -> str:
    """The youngest commit of `theirs` that `ours` has too."""
    known = graph.reachable_from(repository.objects, ours)
    for commit in graph.history(repository.objects, theirs):
        if commit.id in known:
            return commit.id.decode()
    raise HubError(409, "The two branches have no common history")


def conflicts(repository: Repository, ours: str, theirs: str) -> list[str]:
    """Files that both sides changed, differently, since their merge base."""
    base = repository.commit(merge_base(repository, ours, theirs)).tree
    here = graph.changes(repository.objects, base, repository.commit(ours).tree)
    there = graph.changes(repository.objects, base, repository.commit(theirs).tree)
    return sorted(path for path in here.keys() & there.keys() if here[path] != there[path])


def merge(repository: Repository, branch: str, theirs: str, new: NewCommit) -> str:
    """Merges a commit into a branch (full ref name) and returns the merge commit; nothing to merge returns the head.

    Raises:
        HubError: 409, the two changed the same files; 404, the branch does not exist; 412, it moved meanwhile.
    """
    with repository.writing():
        ours = repository.head(branch)
        if ours is None:
            raise revision_not_found(branch)
        if theirs.encode() in graph.reachable_from(repository.objects, ours):
            return ours
        if clashes := conflicts(repository, ours, theirs):
            raise HubError(
                409, f"Both sides changed {', '.join(clashes[:5])}: solve the conflict in the pull request first"
            )
        base = repository.commit(merge_base(repository, ours, theirs)).tree
        changes = graph.changes(repository.objects, base, repository.commit(theirs).tree)
        tree = repository.changed_tree(repository.commit(ours).tree, changes)
        merged = repository.add_commit(tree, [ours, theirs], new)
        repository.set_ref(branch, ours, merged)
        return merged


def squash(repository: Repository, branch: str, new: NewCommit) -> str:
    """Replaces the history of a branch (or full ref name) by one commit, and removes what nothing else reaches."""
    with repository.writing():
        name = branch if repository.head(branch) is not None else f"refs/heads/{branch}"
        head = repository.head(name)
        if head is None or name.startswith("refs/tags/"):
            raise revision_not_found(branch)
        squashed = repository.add_commit(repository.commit(head).tree, [], new)
        repository.mark()
        repository.set_ref(name, head, squashed)
        repository.collect_garbage()
        return squashed


def remove_large_files(repository: Repository, oids: Iterable[str]) -> None:
    """Rewrites every branch, tag and pull request without the large files, and removes them from the disk.

    Commits keep author, time and message; a commit that only added such a file stays, empty. Annotated tags become
    plain ones.
    """
    unwanted = set(oids)
    with repository.writing():
        empty = Tree()
        repository.objects.add_object(empty)
        trees: dict[bytes, bytes | None] = {}
        rewritten: dict[bytes, bytes] = {}
        heads = repository.heads()
        for commit in graph.parents_first(repository.objects, [head.encode() for head in heads.values()]):
            old_id = commit.id
            commit.tree = ObjectID(_without(repository, commit.tree, unwanted, trees) or empty.id)
            commit.parents = [ObjectID(rewritten[parent]) for parent in commit.parents]
            repository.objects.add_object(commit)
            rewritten[old_id] = commit.id
        repository.mark()
        for name, head in heads.items():
            new_head = rewritten[head.encode()]
            if new_head != head.encode() and not repository.refs.set_if_equals(
                Ref(name.encode()), repository.refs[Ref(name.encode())], ObjectID(new_head)
            ):
                raise branch_moved()
        for oid in unwanted:
            repository.large_files.remove(oid)
        repository.collect_garbage()


def _without(
    repository: Repository, tree_id: bytes, unwanted: set[str], done: dict[bytes, bytes | None]
) -> bytes | None:
    """The tree without the large files; None if nothing is left."""
    if tree_id in done:
        return done[tree_id]
    kept = Tree()
    for name, mode, oid in repository.tree(tree_id).iteritems():
        new_oid: bytes | None = oid
        if stat.S_ISDIR(mode):
            new_oid = _without(repository, oid, unwanted, done)
        else:
            pointer = repository.blob_head(oid)[1]
            if pointer is not None and pointer.oid in unwanted:
                new_oid = None
        if new_oid is not None:
            kept.add(name, mode, ObjectID(new_oid))
    repository.objects.add_object(kept)
    done[tree_id] = kept.id if len(kept) else None
    return done[tree_id]
