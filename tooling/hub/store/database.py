"""Everything that is not a file: one sqlite3 database in write-ahead mode, one connection per thread.

Tokens are stored as SHA-256 digests only: the database alone lets nobody in.

A database of an earlier version also holds the tables likes, collections and collection_items, and repositories of
type model or space: rows and folders are kept as they are and nothing serves them. The column sdk was theirs.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS namespaces (
    name TEXT PRIMARY KEY COLLATE NOCASE, fullname TEXT NOT NULL, kind TEXT NOT NULL,
    email TEXT, is_private_default INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS members (
    org TEXT NOT NULL COLLATE NOCASE, user TEXT NOT NULL COLLATE NOCASE, PRIMARY KEY (org, user));
CREATE TABLE IF NOT EXISTS tokens (
    digest TEXT PRIMARY KEY, user TEXT NOT NULL COLLATE NOCASE, role TEXT NOT NULL, scope TEXT,
    name TEXT NOT NULL, created_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS repos (
    key TEXT PRIMARY KEY, type TEXT NOT NULL, namespace TEXT NOT NULL COLLATE NOCASE,
    name TEXT NOT NULL COLLATE NOCASE, is_private INTEGER NOT NULL, gated TEXT, is_disabled INTEGER NOT NULL DEFAULT 0,
    sdk TEXT, created_at REAL NOT NULL, UNIQUE (type, namespace, name));
CREATE TABLE IF NOT EXISTS former_names (
    type TEXT NOT NULL, namespace TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL COLLATE NOCASE,
    repo TEXT NOT NULL REFERENCES repos (key) ON DELETE CASCADE, PRIMARY KEY (type, namespace, name));
CREATE TABLE IF NOT EXISTS access_requests (
    id TEXT PRIMARY KEY, repo TEXT NOT NULL REFERENCES repos (key) ON DELETE CASCADE,
    user TEXT NOT NULL COLLATE NOCASE, status TEXT NOT NULL, requested_at REAL NOT NULL, fields TEXT,
    rejection_reason TEXT, handled_by TEXT, is_email_shared INTEGER NOT NULL, UNIQUE (repo, user));
CREATE TABLE IF NOT EXISTS discussions (
    repo TEXT NOT NULL REFERENCES repos (key) ON DELETE CASCADE, number INTEGER NOT NULL, title TEXT NOT NULL,
    author TEXT NOT NULL, status TEXT NOT NULL, created_at REAL NOT NULL, base TEXT, merge_commit TEXT,
    PRIMARY KEY (repo, number));
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, repo TEXT NOT NULL REFERENCES repos (key) ON DELETE CASCADE, number INTEGER NOT NULL,
    position INTEGER NOT NULL, type TEXT NOT NULL, author TEXT NOT NULL, created_at REAL NOT NULL, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""


class Database:
    """One open database file, usable from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._connections_lock = threading.Lock()
        self._connection().executescript(SCHEMA)

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            self._local.connection = connection
            with self._connections_lock:
                self._connections.append(connection)
        return connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements of the block together or none of them."""
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Runs one statement and returns the number of rows that it changed."""
        return self._connection().execute(statement, values).rowcount

    def row(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._connection().execute(statement, values).fetchone()
        return found

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        return self._connection().execute(statement, values).fetchall()

    def close(self) -> None:
        with self._connections_lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
