"""One root folder with everything a Hub holds: opens it, and creates, finds, moves and deletes repositories.

A repository's folder is complete before its record is written, and the record goes before the folder: a server killed
in between leaves a folder without a record, which the next start removes.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import threading
import time
import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from sqlite3 import Row

from tooling.errors import InputError
from tooling.hub import rights
from tooling.hub.fields import Fields
from tooling.hub.responses import HubError, repo_not_found
from tooling.hub.rights import Account, Repo, repo_record
from tooling.hub.store import discussions
from tooling.hub.store.commits import default_attributes
from tooling.hub.store.database import Database
from tooling.hub.store.large_files import remove_stale_uploads
from tooling.hub.store.repository import NewCommit, Repository, create_repository
from tooling.workspace.locks import hold_lock

DATASETS = "SELECT * FROM repos WHERE type = 'dataset'"
FORGET_NAME = "DELETE FROM former_names WHERE type = 'dataset' AND namespace = ? AND name = ?"
REPO_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")


class Hub:
    """An open root folder. Only one process at a time may have it open."""

    def __init__(self, root: Path) -> None:
        """Opens the folder, makes it if it is missing, and removes what a killed server left.

        Raises:
            WorkspaceError: another process serves this folder, or the disk has no locks.
        """
        self.root = root
        make_root(root)
        for folder in ("repos", "uploads", "trash"):
            (root / folder).mkdir(exist_ok=True)
        taken = f"{root}: another process serves this Hub; stop it or choose another --root"
        self._lock = ExitStack()
        self._lock.enter_context(hold_lock(root / "lock", taken))
        self.database = open_database(root)
        self.secret = self._secret()
        self._open: dict[str, Repository] = {}
        self._open_lock = threading.Lock()
        self._recover()

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    def close(self) -> None:
        for repository in self._open.values():
            repository.close()
        self.database.close()
        self._lock.close()

    def _secret(self) -> bytes:
        self.database.execute("INSERT OR IGNORE INTO secrets VALUES ('uploads', ?)", (secrets.token_bytes(32),))
        row = self.database.row("SELECT value FROM secrets WHERE name = 'uploads'")
        if row is None:
            raise InputError(f"{self.root}: the database has lost its secrets table")
        return bytes(row["value"])

    def _recover(self) -> None:
        known = {row["key"] for row in self.database.rows("SELECT key FROM repos")}
        for folder in (self.root / "repos").iterdir():
            if folder.name not in known:
                shutil.rmtree(folder)
        for folder in (self.root / "trash").iterdir():
            shutil.rmtree(folder)
        remove_stale_uploads(self.uploads, time.time())
        for repo in map(repo_record, self.database.rows(f"{DATASETS} ORDER BY key")):
            self.repository(repo).recover()
            discussions.remove_unrecorded_pulls(discussions.Board(self.database, self.repository(repo), repo))

    def repository(self, repo: Repo) -> Repository:
        return self._repository(repo.key)

    def repository_by_key(self, key: str) -> Repository:
        """The repository that a signed upload address names.

        Raises:
            HubError: 404, the repository was deleted meanwhile.
        """
        if self.database.row(f"{DATASETS} AND key = ?", (key,)) is None:
            raise repo_not_found(is_anonymous=False)
        return self._repository(key)

    def _repository(self, key: str) -> Repository:
        with self._open_lock:
            if key not in self._open:
                self._open[key] = Repository(self.root / "repos" / key)
            return self._open[key]

    def find(self, name: str, account: Account | None) -> Repo:
        """The repository of that name, or of that former name, if the account may see it.

        Raises:
            HubError: RepoNotFound, 404 or 401 without a token.
        """
        repo = self._lookup(name)
        if repo is None or not rights.may_read(self.database, account, repo):
            raise repo_not_found(is_anonymous=account is None)
        return repo

    def _lookup(self, full_name: str) -> Repo | None:
        namespace, _, name = full_name.partition("/")
        row = self.database.row(f"{DATASETS} AND namespace = ? AND name = ?", (namespace, name))
        if row is None:
            sql = "SELECT r.* FROM former_names f JOIN repos r ON r.key = f.repo"
            sql = f"{sql} WHERE f.type = 'dataset' AND f.namespace = ? AND f.name = ?"
            row = self.database.row(sql, (namespace, name))
        return repo_record(row) if row is not None else None

    def visible(self, account: Account | None) -> list[Repo]:
        """All repositories that the account may see, newest first."""
        rows = self.database.rows(f"{DATASETS} ORDER BY created_at DESC, key")
        return [repo for repo in map(repo_record, rows) if rights.may_read(self.database, account, repo)]

    def create(self, account: Account, request: Fields) -> Repo:
        """Creates a repository with its first commit.

        Raises:
            HubError: 400 for a type other than dataset and for an invalid name, 403 in a foreign namespace, 409 if it
                exists.
        """
        repo = self._requested(account, request)
        existing = self._lookup(repo.id)
        if existing is not None and existing.id.lower() == repo.id.lower():
            raise HubError(409, f"You already created this dataset repo: {existing.id}", None, existing=existing)
        folder = self.root / "repos" / repo.key
        first_files = {".gitattributes": default_attributes()}
        create_repository(folder, first_files, NewCommit(account.user, "initial commit"))
        self._insert(repo, folder)
        return repo

    def _requested(self, account: Account, request: Fields) -> Repo:
        if request.text("type") != "dataset":
            raise HubError(400, 'This Hub holds datasets only: create it with repo_type="dataset"')
        namespace, name = request.text("organization") or account.user, request.text("name")
        if "/" in name:
            namespace, _, name = name.partition("/")
        check_name(name)
        row = self._own_namespace(account, namespace, name)
        visibility = request.text("visibility") or ("private" if request.flag("private") else "")
        is_private = bool(row["is_private_default"]) if not visibility else check_visibility(visibility)
        return Repo(uuid.uuid4().hex, row["name"], name, is_private, None, False, time.time())

    def _own_namespace(self, account: Account, namespace: str, name: str) -> Row:
        row = self.database.row("SELECT * FROM namespaces WHERE name = ?", (namespace,))
        is_in_scope = rights.in_scope(account, f"datasets/{namespace}/{name}")
        is_own = rights.is_member(self.database, account, namespace) and is_in_scope
        if row is None or not is_own:
            raise HubError(403, f'You don\'t have the rights to create a dataset under the namespace "{namespace}"')
        return row

    def _insert(self, repo: Repo, folder: Path) -> None:
        values = (repo.key, repo.namespace, repo.name, repo.is_private, repo.created_at)
        columns = "(key, type, namespace, name, is_private, created_at)"
        sql = f"INSERT OR IGNORE INTO repos {columns} VALUES (?, 'dataset', ?, ?, ?, ?)"  # noqa: S608  a constant
        try:
            with self.database.transaction():
                is_new = self.database.execute(sql, values)
                self.database.execute(FORGET_NAME, (repo.namespace, repo.name))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if is_new == 0:
            shutil.rmtree(folder, ignore_errors=True)
            raise HubError(409, f"You already created this dataset repo: {repo.id}", None, existing=repo)

    def move(self, source: Repo, target: str, account: Account) -> Repo:
        """Renames a repository; the former name leads to it until another repository takes that name."""
        namespace, _, name = target.partition("/")
        check_name(name)
        namespace = self._own_namespace(account, namespace, name)["name"]
        existing = self._lookup(target)
        if existing is not None and existing.key != source.key and existing.id.lower() == target.lower():
            raise HubError(409, f"A dataset repository called {target} already exists")
        with self.database.transaction():
            self.database.execute(FORGET_NAME, (namespace, name))
            values = (source.namespace, source.name, source.key)
            self.database.execute("INSERT OR REPLACE INTO former_names VALUES ('dataset', ?, ?, ?)", values)
            self.database.execute(
                "UPDATE repos SET namespace = ?, name = ? WHERE key = ?", (namespace, name, source.key)
            )
        return replace(source, namespace=namespace, name=name)

    def delete(self, repo: Repo) -> None:
        with self.repository(repo).writing():
            self.database.execute("DELETE FROM repos WHERE key = ?", (repo.key,))
            with self._open_lock:
                repository = self._open.pop(repo.key)
            doomed = self.root / "trash" / repo.key
            repository.folder.rename(doomed)
        repository.close()
        shutil.rmtree(doomed)

    def update(self, repo: Repo, request: Fields) -> Repo:
        """Settings: `visibility` (or the older `private`) and `gated`."""
        is_private, gated = repo.is_private, repo.gated
        if "private" in request:
            is_private = request.flag("private")
        if request.text("visibility"):
            is_private = check_visibility(request.text("visibility"))
        if "gated" in request:
            gated = request.values["gated"] or None
            if gated not in ("auto", "manual", None):
                request.refuse("gated", '"auto", "manual" or false')
        sql = "UPDATE repos SET is_private = ?, gated = ? WHERE key = ?"
        self.database.execute(sql, (is_private, gated, repo.key))
        return replace(repo, is_private=is_private, gated=gated)


def make_root(root: Path) -> None:
    """Makes the folder if it is missing; only its owner may enter it."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chmod(root, 0o700)


def open_database(root: Path) -> Database:
    """The database of a root folder, made if it is missing; only its owner may read it."""
    make_root(root)
    path = root / "hub.sqlite3"
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # its journals get the same mode
    os.chmod(path, 0o600)
    return Database(path)


def check_name(name: str) -> None:
    if not REPO_NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git"):
        raise HubError(400, f"Invalid repository name {name!r}: letters, digits, '-', '_' and '.' only, at most 96")


def check_visibility(visibility: str) -> bool:
    """Whether a visibility means private."""
    if visibility not in ("public", "private"):
        raise HubError(400, f"visibility must be public or private, got {visibility!r}")
    return bool(visibility == "private")
