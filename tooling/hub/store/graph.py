"""The graph of commits in an object store: ancestors, differences of trees, and the last commit that changed a path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dulwich.diff_tree import tree_changes
from dulwich.object_store import DiskObjectStore
from dulwich.objects import Commit, ObjectID, ShaFile, Tree

from tooling.hub.responses import revision_not_found


def read_object(objects: DiskObjectStore, oid: bytes) -> ShaFile:
    """The object with an id.

    Raises:
        HubError: 404, the object is gone: its revision was squashed away while it was being read.
    """
    try:
        return objects[ObjectID(oid)]
    except KeyError as error:
        raise revision_not_found(oid.decode()) from error


def read_commit(objects: DiskObjectStore, commit_id: bytes) -> Commit:
    found = read_object(objects, commit_id)
    if not isinstance(found, Commit):
        raise TypeError(f"{objects.path}: object {commit_id.decode()} is not a commit")
    return found


def read_tree(objects: DiskObjectStore, tree_id: bytes) -> Tree:
    found = read_object(objects, tree_id)
    if not isinstance(found, Tree):
        raise TypeError(f"{objects.path}: object {tree_id.decode()} is not a tree")
    return found


def history(objects: DiskObjectStore, commit_id: str) -> list[Commit]:
    """The commit and its ancestors, children before parents."""
    return list(reversed(parents_first(objects, [commit_id.encode()])))


def reachable_from(objects: DiskObjectStore, commit_id: str) -> set[bytes]:
    """Ids of a commit and of all its ancestors."""
    return {commit.id for commit in parents_first(objects, [commit_id.encode()])}


def parents_first(objects: DiskObjectStore, tips: Iterable[bytes]) -> list[Commit]:
    """The commits and all their ancestors, parents before children."""
    done: set[bytes] = set()
    ordered: list[Commit] = []
    waiting = [(tip, False) for tip in tips]
    while waiting:
        oid, has_parents = waiting.pop()
        if oid in done:
            continue
        commit = read_commit(objects, oid)
        if has_parents or not commit.parents:
            done.add(oid)
            ordered.append(commit)
        else:
            waiting.append((oid, True))
            waiting.extend((parent, False) for parent in commit.parents)
    return ordered


def last_commits(objects: DiskObjectStore, commit_id: str, paths: Iterable[str]) -> dict[str, Commit]:
    """For each file or folder: the last commit on the first-parent line that changed it."""
    missing = set(paths)
    found: dict[str, Commit] = {}
    commit = read_commit(objects, commit_id.encode())
    while missing:
        parent = read_commit(objects, commit.parents[0]) if commit.parents else None
        for path in changes(objects, parent.tree if parent else None, commit.tree):
            parts = path.split("/")
            for prefix in missing.intersection("/".join(parts[: count + 1]) for count in range(len(parts))):
                found[prefix] = commit
                missing.discard(prefix)
        if parent is None:
            break
        commit = parent
    return found


def changes(objects: DiskObjectStore, old_tree: bytes | None, new_tree: bytes) -> dict[str, str | None]:
    """Files that differ between two trees: path -> new blob id, None for a removed one."""
    changed: dict[str, str | None] = {}
    for change in tree_changes(objects, ObjectID(old_tree) if old_tree else None, ObjectID(new_tree)):
        if change.old is not None and change.old.path is not None:
            changed[change.old.path.decode()] = None
        if change.new is not None and change.new.path is not None and change.new.sha is not None:
            changed[change.new.path.decode()] = change.new.sha.decode()
    return changed


def commit_texts(commit: Commit) -> dict[str, Any]:
    """Title, message, user and time of a commit."""
    title, _, rest = commit.message.decode(errors="replace").partition("\n")
    user = commit.author.decode(errors="replace").rpartition(" <")[0]
    return {"title": title, "message": rest.strip(), "user": user, "time": commit.commit_time}
