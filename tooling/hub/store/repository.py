"""One repository: a bare git repository (dulwich) whose large files are pointer blobs, and its folder of large files.

Objects are loose and synced before the ref that needs them is swapped, under a lock per repository; a commit exists
from the moment of that swap. A revision is served only while some branch, tag or pull request reaches it, and
`collect_garbage` removes the rest from the disk, large files included: `needs-collection` marks a repository whose
server was killed in between.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dulwich.lfs import LFSPointer
from dulwich.object_store import DiskObjectStore, commit_tree_changes
from dulwich.objects import Blob, Commit, ObjectID, Tag, Tree
from dulwich.refs import DiskRefsContainer, Ref, check_ref_format
from dulwich.repo import Repo as GitRepo

from tooling.hub.responses import HubError, entry_not_found, revision_not_found
from tooling.hub.store import graph
from tooling.hub.store.large_files import LargeFiles

FILE_MODE = 0o100644
POINTER_BYTES = 1024  # a pointer is smaller than this
REMEMBERED_BLOBS = 200_000
MARK = "needs-collection"


@dataclass(frozen=True)
class TreeEntry:
    """A file or folder of one revision. `size` is the content's, not the pointer's; 0 for a folder."""

    path: str
    is_folder: bool
    oid: str
    size: int = 0
    large_oid: str | None = None
    pointer_size: int = 0

    @property
    def etag(self) -> str:
        return self.large_oid or self.oid


@dataclass(frozen=True)
class NewCommit:
    """Author and message of a commit or an annotated tag."""

    user: str
    message: str


class Repository:
    """An open repository, usable from any thread. Writers are in `writing`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self.large_files = LargeFiles(folder / "lfs")
        self.objects = DiskObjectStore(str(folder / "objects"), loose_compression_level=1, fsync_object_files=True)
        self.refs = DiskRefsContainer(str(folder))
        self._blobs: dict[bytes, tuple[int, LFSPointer | None]] = {}
        self._reachable: tuple[frozenset[bytes], frozenset[bytes]] = (frozenset(), frozenset())

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Makes the block the only writer of this repository. Blocks nest."""
        with self._lock:
            try:
                yield
            except HubError:
                raise
            except BaseException:
                self._remove_locks()  # dulwich leaves the lock of a file that it could not sync
                raise

    # Refs and revisions

    def heads(self) -> dict[str, str]:
        """Every branch, tag and pull request: full ref name -> commit id (of a tag: the commit that it names)."""
        names = sorted(self.refs.allkeys())
        return {name.decode(): self._peel(self.refs[name]).decode() for name in names if name.startswith(b"refs/")}

    def head(self, name: str) -> str | None:
        """Commit id of a full ref name; None if the ref does not exist."""
        ref = Ref(name.encode())
        if not name.startswith("refs/") or not check_ref_format(ref):  # also what would lead out of the folder
            return None
        try:
            return self._peel(self.refs[ref]).decode()
        except (KeyError, NotADirectoryError, IsADirectoryError):
            return None

    def resolve(self, revision: str) -> str:
        """Commit id of a branch, tag, full ref name or (at least 7 digits of) a reachable commit id.

        Raises:
            HubError: 404 RevisionNotFound.
        """
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            head = self.head(name)
            if head is not None:
                return head
        if 7 <= len(revision) <= 40 and set(revision) <= set("0123456789abcdef"):
            found = [oid for oid in self.reachable_commits(self.heads().values()) if oid.startswith(revision.encode())]
            if len(found) == 1:
                return found[0].decode()
        raise revision_not_found(revision)

    def reachable_commits(self, heads: Iterable[str]) -> frozenset[bytes]:
        """Ids of all commits that the heads reach; remembered until a ref changes."""
        tips = frozenset(head.encode() for head in heads)
        known_tips, known = self._reachable
        if tips != known_tips:
            # Where refs were only added, the walk stops at what is known; where one moved or went, it starts again.
            seen = set(known) if known_tips <= tips else set()
            waiting = [tip for tip in tips if tip not in seen]
            while waiting:
                oid = waiting.pop()
                if oid not in seen:
                    seen.add(oid)
                    waiting.extend(self.commit(oid.decode()).parents)
            self._reachable = (tips, frozenset(seen))
        return self._reachable[1]

    def set_ref(self, name: str, old: str | None, new: str) -> None:
        """Moves a ref from `old` (None: it must not exist) to `new` in one step.

        Raises:
            HubError: 409 if it exists, 412 if it moved meanwhile, 400 if the name cannot be one.
        """
        ref = Ref(name.encode())
        if not check_ref_format(ref):
            raise HubError(400, f"Invalid reference name: {name}")
        try:
            if old is None:
                is_set = self.refs.add_if_new(ref, ObjectID(new.encode()))
            else:
                is_set = self.refs.set_if_equals(ref, ObjectID(old.encode()), ObjectID(new.encode()))
        except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
            raise HubError(409, f"Reference {name} cannot stand beside an existing one") from error
        if not is_set and old is None:
            raise HubError(409, f"Reference {name} already exists")
        if not is_set:
            raise branch_moved()

    def remove_ref(self, name: str) -> None:
        """Removes a ref and what only it reached."""
        with self.writing():
            self.mark()
            self.refs.remove_if_equals(Ref(name.encode()), None)
            self.collect_garbage()

    def add_tag(self, name: str, commit_id: str, new: NewCommit | None) -> None:
        """A tag: with a message an annotated one, else just the ref."""
        target = commit_id
        with self.writing():
            if new is not None:
                tag = Tag()
                tag.name, tag.message, tag.tagger = name.encode(), new.message.encode(), _author(new.user)
                tag.object = (Commit, ObjectID(commit_id.encode()))
                tag.tag_time, tag.tag_timezone = int(time.time()), 0
                self.objects.add_object(tag)
                target = tag.id.decode()
            self.set_ref(f"refs/tags/{name}", None, target)

    def _peel(self, oid: bytes) -> bytes:
        found = graph.read_object(self.objects, oid)
        while isinstance(found, Tag):
            found = graph.read_object(self.objects, found.object[1])
        return found.id

    # Reading

    def commit(self, commit_id: str) -> Commit:
        return graph.read_commit(self.objects, commit_id.encode())

    def tree(self, tree_id: bytes) -> Tree:
        return graph.read_tree(self.objects, tree_id)

    def entry(self, commit_id: str, path: str) -> TreeEntry | None:
        """The file or folder at a path, None if it does not exist. The empty path is the root."""
        oid, mode = self.commit(commit_id).tree, stat.S_IFDIR
        for name in path.encode().split(b"/") if path else ():
            if not stat.S_ISDIR(mode):
                return None
            try:
                mode, oid = self.tree(oid)[name]
            except KeyError:
                return None
        return self._entry(path, mode, oid)

    def entries(self, commit_id: str, path: str = "", *, is_recursive: bool = False) -> list[TreeEntry]:
        """The entries of a folder, each folder before its own entries.

        Raises:
            HubError: 404 EntryNotFound, the folder does not exist.
        """
        folder = self.entry(commit_id, path)
        if folder is None or not folder.is_folder:
            raise entry_not_found(path, commit_id)
        return list(self._walk_tree(folder.oid.encode(), f"{path}/" if path else "", is_recursive))

    def files(self, commit_id: str) -> list[TreeEntry]:
        """All files of a revision."""
        return [entry for entry in self.entries(commit_id, is_recursive=True) if not entry.is_folder]

    def _walk_tree(self, tree_id: bytes, prefix: str, is_recursive: bool) -> Iterator[TreeEntry]:
        for name, mode, oid in self.tree(tree_id).iteritems():
            entry = self._entry(prefix + name.decode(), mode, oid)
            yield entry
            if is_recursive and entry.is_folder:
                yield from self._walk_tree(oid, f"{entry.path}/", is_recursive)

    def _entry(self, path: str, mode: int, oid: bytes) -> TreeEntry:
        if stat.S_ISDIR(mode):
            return TreeEntry(path, True, oid.decode())
        size, pointer = self.blob_head(oid)
        if pointer is None:
            return TreeEntry(path, False, oid.decode(), size)
        return TreeEntry(path, False, oid.decode(), pointer.size, pointer.oid, size)

    def blob_head(self, oid: bytes) -> tuple[int, LFSPointer | None]:
        """Size of a blob and, if it is one, the pointer. Reads the beginning of the loose file only."""
        found = self._blobs.get(oid)
        if found is None:
            text = oid.decode()
            try:
                with (self.folder / "objects" / text[:2] / text[2:]).open("rb") as file:
                    head = zlib.decompressobj().decompress(file.read(2 * POINTER_BYTES), POINTER_BYTES)
            except FileNotFoundError as error:
                raise revision_not_found(text) from error
            if len(self._blobs) >= REMEMBERED_BLOBS:
                self._blobs.clear()
            header, _, content = head.partition(b"\0")
            kind, _, size = header.partition(b" ")
            is_whole = kind == b"blob" and int(size) == len(content)
            self._blobs[oid] = found = (int(size), parse_pointer(content) if is_whole else None)
        return found

    def read(self, entry: TreeEntry) -> bytes:
        """Content of a regular file."""
        return self.content(entry.oid)

    def content(self, oid: str) -> bytes:
        """Content of a blob."""
        found = graph.read_object(self.objects, oid.encode())
        if not isinstance(found, Blob):
            raise entry_not_found(oid)
        return bytes(found.data)

    # Writing: the caller is in `writing`

    def add_blob(self, content: bytes) -> str:
        blob = Blob.from_string(content)
        self.objects.add_object(blob)
        return blob.id.decode()

    def changed_tree(self, tree: bytes, changes: Mapping[str, str | None]) -> bytes:
        """A tree with files set (path -> blob id) and removed (path -> None). A removed file may be missing."""
        removed = [(path.encode(), None, None) for path, oid in changes.items() if oid is None]
        added = [(path.encode(), FILE_MODE, ObjectID(oid.encode())) for path, oid in changes.items() if oid is not None]
        result = commit_tree_changes(self.objects, ObjectID(tree), removed) if removed else ObjectID(tree)
        names = {path for path, _, _ in added}
        for path in names:
            self._check_room(result, path)
            for parent in _parents(path):
                if parent in names:
                    raise HubError(422, f"{path.decode()} cannot be a file: {parent.decode()} is one in this commit")
        return commit_tree_changes(self.objects, result, added) if added else result

    def _check_room(self, tree_id: bytes, path: bytes) -> None:
        names = path.split(b"/")
        for position, name in enumerate(names):
            tree = self.tree(tree_id)
            if name not in tree:
                return
            mode, tree_id = tree[name]
            if stat.S_ISDIR(mode) == (position == len(names) - 1):
                taken = b"/".join(names[: position + 1]).decode()
                kind = "folder" if stat.S_ISDIR(mode) else "file"
                raise HubError(422, f"{path.decode()} cannot be a file: {taken} is a {kind}")

    def add_commit(self, tree: bytes, parents: list[str], new: NewCommit) -> str:
        commit = Commit()
        commit.tree, commit.parents = ObjectID(tree), [ObjectID(parent.encode()) for parent in parents]
        commit.author = commit.committer = _author(new.user)
        commit.author_time = commit.commit_time = int(time.time())
        commit.author_timezone = commit.commit_timezone = 0
        commit.encoding, commit.message = b"UTF-8", new.message.encode()
        self.objects.add_object(commit)
        return commit.id.decode()

    # Removing

    def mark(self) -> None:
        """Records on disk that a ref is about to release objects: `recover` then collects them."""
        descriptor = os.open(self.folder / MARK, os.O_CREAT | os.O_WRONLY, 0o600)
        os.fsync(descriptor)
        os.close(descriptor)

    def recover(self) -> None:
        """After a killed server: removes its locks and finishes an interrupted `collect_garbage`."""
        self._remove_locks()
        if (self.folder / MARK).exists():
            self.collect_garbage()

    def _remove_locks(self) -> None:
        for pattern in ("*.lock", "refs/**/*.lock", "objects/??/*.lock"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def collect_garbage(self) -> None:
        """Removes every object that no ref reaches, and the large files that only those named."""
        with self.writing():
            kept, kept_large = self.reachable_objects()
            garbage = [oid for oid in self.objects if oid not in kept]
            for oid in garbage:
                pointer = self.blob_head(oid)[1]
                if pointer is not None and pointer.oid not in kept_large:
                    self.large_files.remove(pointer.oid)
            for oid in garbage:
                self.objects.delete_loose_object(oid)
                self._blobs.pop(oid, None)
            self._reachable = (frozenset(), frozenset())
            self.large_files.remove_unclaimed(kept_large, time.time())
            (self.folder / MARK).unlink(missing_ok=True)

    def reachable_objects(self) -> tuple[set[bytes], set[str]]:
        """Ids of all objects that some ref reaches, and the SHA-256 of the large files that they name."""
        targets = [self.refs[name] for name in self.refs.allkeys() if name.startswith(b"refs/")]
        tags = {oid for oid in targets if isinstance(self.objects[oid], Tag)}
        commits = graph.parents_first(self.objects, [self._peel(oid) for oid in targets])
        kept: set[bytes] = {*tags, *(commit.id for commit in commits)}
        large: set[str] = set()
        waiting: list[bytes] = [commit.tree for commit in commits]
        while waiting:
            tree_id = waiting.pop()
            if tree_id in kept:
                continue
            kept.add(tree_id)
            for _, mode, oid in self.tree(tree_id).iteritems():
                if stat.S_ISDIR(mode):
                    waiting.append(oid)
                    continue
                kept.add(oid)
                pointer = self.blob_head(oid)[1]
                if pointer is not None:
                    large.add(pointer.oid)
        return kept, large

    def close(self) -> None:
        self.objects.close()


def create_repository(folder: Path, files: Mapping[str, bytes], new: NewCommit) -> None:
    """Makes a bare repository with one commit on `main`. It is visible once its record is in the database."""
    GitRepo.init_bare(str(folder), mkdir=True, default_branch=b"main").close()
    shutil.rmtree(folder / "hooks", ignore_errors=True)
    repository = Repository(folder)
    empty = Tree()
    repository.objects.add_object(empty)
    tree = repository.changed_tree(empty.id, {path: repository.add_blob(content) for path, content in files.items()})
    repository.set_ref("refs/heads/main", None, repository.add_commit(tree, [], new))
    repository.close()


def _parents(path: bytes) -> Iterator[bytes]:
    """Paths of all folders that a file lies in."""
    parts = path.split(b"/")
    return (b"/".join(parts[:count]) for count in range(1, len(parts)))


def parse_pointer(content: bytes) -> LFSPointer | None:
    """The pointer that a blob contains; None for any other content."""
    pointer = LFSPointer.from_bytes(content) if len(content) < POINTER_BYTES else None
    return pointer if pointer is not None and pointer.is_valid_oid() and pointer.to_bytes() == content else None


def branch_moved() -> HubError:
    return HubError(412, "The branch was updated since you opened this page. Please refresh and try again.")


def _author(user: str) -> bytes:
    return f"{user} <{user}@users.noreply.invalid>".encode()
