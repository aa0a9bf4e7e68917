"""Users, organisations, tokens, and their rights on a repository.

A read token reads what its user may read; a write token also writes where its user is a member; a token with a scope
(a pattern over `datasets/lab/name`) is valid only for the private repositories and the writing that the pattern names.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import itertools
import re
import secrets
import time
from dataclasses import dataclass
from sqlite3 import Row
from typing import Any

from tooling.errors import InputError
from tooling.hub.responses import HubError, repo_not_found, timestamp
from tooling.hub.store.database import Database

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?|_[A-Za-z0-9_]{1,94}")
ROLES = ("read", "write")


@dataclass(frozen=True)
class Account:
    """The caller of one request: the user, and what the token allows."""

    user: str
    role: str
    scope: str | None
    token_name: str
    token_created_at: float


@dataclass(frozen=True)
class Repo:
    """The record of one dataset. `key` names its folder and never changes, whatever the dataset is called."""

    key: str
    namespace: str
    name: str
    is_private: bool
    gated: str | None
    is_disabled: bool
    created_at: float

    @property
    def id(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def full_name(self) -> str:
        """As in web addresses: `datasets/lab/name`."""
        return f"datasets/{self.id}"


def repo_record(row: Row) -> Repo:
    values = {name: row[name] for name in ("key", "namespace", "name", "gated", "created_at")}
    return Repo(**values, is_private=bool(row["is_private"]), is_disabled=bool(row["is_disabled"]))


def add_user(database: Database, name: str, fullname: str | None = None, email: str | None = None) -> None:
    """Adds a user; an existing user of that name is left unchanged.

    Raises:
        InputError: the name is invalid.
    """
    _add_namespace(database, name, fullname, "user", email)


def add_organisation(
    database: Database, name: str, members: list[str], fullname: str | None = None, *, is_private_default: bool = False
) -> None:
    """Adds an organisation and its members; both may exist already."""
    _add_namespace(database, name, fullname, "org", None)
    with database.transaction():
        database.execute("UPDATE namespaces SET is_private_default = ? WHERE name = ?", (is_private_default, name))
        for user in members:
            database.execute("INSERT OR IGNORE INTO members VALUES (?, ?)", (name, user))


def add_token(
    database: Database,
    user: str,
    role: str,
    *,
    scope: str | None = None,
    name: str | None = None,
    token: str | None = None,
) -> str:
    """Makes a token for an existing user and returns it; it cannot be read again later.

    Args:
        name: under which a client keeps it, so no other token of this Hub has it; None makes one of user and role.

    Raises:
        InputError: the user or the role does not exist, or the name is taken.
    """
    if role not in ROLES:
        raise InputError(f"token role {role!r}: must be one of {', '.join(ROLES)}")
    if database.row("SELECT 1 FROM namespaces WHERE name = ? AND kind = 'user'", (user,)) is None:
        raise InputError(f"user {user!r} does not exist on this Hub: add it first")
    token = token or f"hf_{secrets.token_urlsafe(32)}"
    with database.transaction():
        taken = {row["name"] for row in database.rows("SELECT name FROM tokens")}
        if name in taken:
            raise InputError(f"token name {name!r}: there is one of that name; choose another")
        numbered = itertools.chain([""], (f"-{count}" for count in itertools.count(2)))
        name = name or next(one for number in numbered if (one := f"{user}-{role}{number}") not in taken)
        values = (_digest(token), user, role, scope, name, time.time())
        database.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?, ?)", values)
    return token


def authenticate(database: Database, authorization: str | None) -> Account | None:
    """The account of an Authorization header; None without one.

    Raises:
        HubError: 401, the header holds no valid token.
    """
    if not authorization:
        return None
    scheme, _, token = authorization.partition(" ")
    digest = _digest(token.strip())
    row = database.row("SELECT * FROM tokens WHERE digest = ?", (digest,)) if scheme.lower() == "bearer" else None
    if row is None or not hmac.compare_digest(row["digest"], digest):
        raise HubError(401, "Invalid credentials in Authorization header")
    return Account(row["user"], row["role"], row["scope"], row["name"], row["created_at"])


def who_am_i(database: Database, account: Account) -> dict[str, Any]:
    """The answer of whoami-v2."""
    me = database.row("SELECT * FROM namespaces WHERE name = ?", (account.user,))
    if me is None:
        raise HubError(401, "Invalid username or password.")
    orgs = database.rows(
        "SELECT n.* FROM members m JOIN namespaces n ON n.name = m.org WHERE m.user = ?", (me["name"],)
    )
    role = "fineGrained" if account.scope else account.role
    token = {"displayName": account.token_name, "role": role, "createdAt": timestamp(account.token_created_at)}
    return {
        "type": "user",
        "id": hashlib.sha1(me["name"].lower().encode(), usedforsecurity=False).hexdigest()[:24],
        "name": me["name"],
        "fullname": me["fullname"],
        "email": me["email"],
        "emailVerified": me["email"] is not None,
        "isPro": False,
        "canPay": False,
        "avatarUrl": "",
        "orgs": [{"type": "org", "name": org["name"], "fullname": org["fullname"], "avatarUrl": ""} for org in orgs],
        "auth": {"type": "access_token", "accessToken": token},
    }


def is_member(database: Database, account: Account | None, namespace: str) -> bool:
    """Whether the account's user owns the namespace or belongs to that organisation."""
    if account is None:
        return False
    if account.user.lower() == namespace.lower():
        return True
    return database.row("SELECT 1 FROM members WHERE org = ? AND user = ?", (namespace, account.user)) is not None


def may_read(database: Database, account: Account | None, repo: Repo) -> bool:
    if not repo.is_private:
        return True
    return account is not None and in_scope(account, repo.full_name) and is_member(database, account, repo.namespace)


def may_write(database: Database, account: Account | None, repo: Repo) -> bool:
    return (
        account is not None
        and account.role == "write"
        and in_scope(account, repo.full_name)
        and is_member(database, account, repo.namespace)
    )


def in_scope(account: Account, full_name: str) -> bool:
    return account.scope is None or fnmatch.fnmatchcase(full_name, account.scope)


def require_write_role(account: Account | None) -> Account:
    """The account, if its token may write at all.

    Raises:
        HubError: 401 without a token, 403 with one that only reads.
    """
    if account is None:
        raise HubError(401, "Invalid username or password.")
    if account.role != "write":
        raise HubError(403, "This token has the role read: use a token with the role write")
    return account


def require_write(database: Database, account: Account | None, repo: Repo) -> Account:
    """The account, if it may change the repository."""
    account = require_write_role(account)
    if not may_read(database, account, repo):
        raise repo_not_found(is_anonymous=False)
    if not may_write(database, account, repo):
        raise HubError(403, f"You don't have the rights to change the dataset {repo.id}")
    if repo.is_disabled:
        raise HubError(403, "Access to this resource is disabled.")
    return account


def _add_namespace(database: Database, name: str, fullname: str | None, kind: str, email: str | None) -> None:
    if not NAME.fullmatch(name):
        raise InputError(f"{kind} name {name!r}: use letters, digits, '-', '_' and '.' only, at most 96")
    sql = "INSERT OR IGNORE INTO namespaces VALUES (?, ?, ?, ?, 0)"
    database.execute(sql, (name, fullname or name, kind, email))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
