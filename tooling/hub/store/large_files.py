"""Large files: one content-addressed folder per repository, and uploads by signed, short-lived addresses.

Each repository has a folder of its own, so that naming a digest never opens another repository's content. A large
file is visible in its folder only complete, synced and checked against its SHA-256. An upload of up to `CHUNK_BYTES`
is one PUT; a longer one has a PUT per chunk into one file of `uploads/` and a final POST that checks the digest of the
whole.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tooling.hub.fields import Fields
from tooling.hub.responses import HubError
from tooling.workspace.files import sync_folder

CHUNK_BYTES = 16 << 20
LARGEST_BYTES = 64 << 30  # of one file; shards have half a gigabyte, and each part needs an address of 300 bytes
WRITER_BYTES = 256 << 30  # of all files of one request by somebody who may write
PROPOSAL_BYTES = 1 << 30  # and by somebody who may only propose a pull request
UPLOAD_SECONDS = 24 * 3600  # validity of an address, and how long an upload without a commit is kept
OID = re.compile(r"[0-9a-f]{64}")


class LargeFiles:
    """The large files of one repository, by SHA-256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, oid: str) -> Path:
        return self.folder / oid[:2] / oid[2:4] / oid

    def size(self, oid: str) -> int | None:
        """Size in bytes; None if the file is not here."""
        try:
            return self.path(oid).stat().st_size
        except FileNotFoundError:
            return None

    def touch(self, oid: str) -> bool:
        """Whether the file is here; if so it counts as uploaded just now."""
        try:
            os.utime(self.path(oid))
        except FileNotFoundError:
            return False
        return True

    def adopt(self, complete: Path, oid: str) -> None:
        """Moves a checked and synced file into this folder."""
        path = self.path(oid)
        path.parent.mkdir(parents=True, exist_ok=True)
        complete.replace(path)
        sync_folder(path.parent)

    def remove(self, oid: str) -> None:
        self.path(oid).unlink(missing_ok=True)

    def remove_unclaimed(self, claimed: set[str], now: float) -> None:
        """Removes files that no revision names and that were uploaded more than `UPLOAD_SECONDS` ago."""
        for path in self.folder.glob("??/??/*"):
            if path.name not in claimed and now - path.stat().st_mtime > UPLOAD_SECONDS:
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Ticket:
    """What one upload address allows. `part` is 0 for a file in one piece and for the completion of one in parts."""

    key: str
    oid: str
    size: int
    session: str
    part: int
    expires: int

    def address(self, base: str, secret: bytes) -> str:
        query = {"size": self.size, "session": self.session, "part": self.part, "expires": self.expires}
        return f"{base}/uploads/{self.key}/{self.oid}?{urlencode({**query, 'signature': self._sign(secret)})}"

    def _sign(self, secret: bytes) -> str:
        text = f"{self.key}/{self.oid}/{self.size}/{self.session}/{self.part}/{self.expires}"
        return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()

    @property
    def length(self) -> int:
        """Bytes of the body that belongs to this address."""
        return min(CHUNK_BYTES, self.size - CHUNK_BYTES * (self.part - 1)) if self.part else self.size


def read_ticket(key: str, oid: str, query: Mapping[str, str], secret: bytes) -> Ticket:
    """The ticket of an address.

    Raises:
        HubError: 403, the address was not made by this Hub or is too old.
    """
    try:
        numbers = {name: int(query[name]) for name in ("size", "part", "expires")}
        ticket = Ticket(key, oid, session=query["session"], **numbers)
        signature = query["signature"]
    except (KeyError, ValueError) as error:
        raise HubError(403, "This upload address is incomplete: ask for a new one") from error
    if not hmac.compare_digest(ticket._sign(secret), signature):
        raise HubError(403, "This upload address was not signed by this Hub: ask for a new one")
    if ticket.expires < time.time():
        raise HubError(403, "This upload address has expired: ask for a new one")
    return ticket


def batch_answer(
    files: LargeFiles, key: str, requested: list[Fields], base: str, secret: bytes, most: int
) -> dict[str, Any]:
    """The answer of the LFS batch endpoint: no actions for present files, signed addresses for the others."""
    objects: list[dict[str, Any]] = []
    is_multipart, total = False, 0
    for entry in requested:
        oid, size = entry.text("oid"), entry.whole_number("size")
        if not OID.fullmatch(oid) or "size" not in entry:
            raise HubError(422, "Each object needs an oid (SHA-256, lower case) and a size in bytes")
        if size > LARGEST_BYTES:
            raise HubError(422, f"{oid} has {size} bytes; a file may have {LARGEST_BYTES >> 30} GiB: split it")
        if files.size(oid) == size and files.touch(oid):
            objects.append({"oid": oid, "size": size})
            continue
        total += size
        if total > most:
            text = f"These files have more than {most >> 30} GiB together, as much as you may send at a time"
            raise HubError(413, f"{text}: send fewer, or have somebody send them who may write")
        actions = _actions(
            Ticket(key, oid, size, secrets.token_hex(16), 0, int(time.time()) + UPLOAD_SECONDS), base, secret
        )
        is_multipart = is_multipart or "header" in actions["upload"]
        objects.append({"oid": oid, "size": size, "authenticated": True, "actions": actions})
    return {"transfer": "multipart" if is_multipart else "basic", "objects": objects, "hash_algo": "sha256"}


def _actions(whole: Ticket, base: str, secret: bytes) -> dict[str, Any]:
    upload: dict[str, Any] = {"href": whole.address(base, secret)}
    if whole.size > CHUNK_BYTES:
        numbers = range(1, -(-whole.size // CHUNK_BYTES) + 1)
        parts = {n: Ticket(whole.key, whole.oid, whole.size, whole.session, n, whole.expires) for n in numbers}
        addresses = {f"{number:05d}": part.address(base, secret) for number, part in parts.items()}
        upload["header"] = {"chunk_size": str(CHUNK_BYTES), **addresses}
    return {"upload": upload, "verify": {"href": whole.address(base, secret).replace("/uploads/", "/verify/", 1)}}


def store_whole(files: LargeFiles, uploads: Path, ticket: Ticket, body: bytes) -> None:
    """Stores a file that came in one piece.

    Raises:
        HubError: 400, the bytes do not have the size and digest of the address.
    """
    if len(body) != ticket.size or hashlib.sha256(body).hexdigest() != ticket.oid:
        raise HubError(400, f"The upload does not match its SHA-256 {ticket.oid}: send it again")
    temporary = uploads / f"{ticket.session}-{secrets.token_hex(8)}"  # the same file may be sent twice at the same time
    try:
        with temporary.open("xb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        files.adopt(temporary, ticket.oid)
    finally:
        temporary.unlink(missing_ok=True)


def store_part(uploads: Path, ticket: Ticket, body: bytes) -> str:
    """Stores one chunk at its offset in the upload's file and returns its ETag."""
    if len(body) != ticket.length:
        raise HubError(400, f"Part {ticket.part} of {ticket.oid} has {len(body)} bytes, expected {ticket.length}")
    descriptor = os.open(uploads / ticket.session, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        written = 0
        while written < len(body):
            written += os.pwrite(descriptor, body[written:], CHUNK_BYTES * (ticket.part - 1) + written)
        os.fsync(descriptor)
    except OSError:
        (uploads / ticket.session).unlink(missing_ok=True)  # a full disk: the client abandons the whole file
        raise
    finally:
        os.close(descriptor)
    return f'"{hashlib.sha256(body).hexdigest()}"'


def complete_parts(files: LargeFiles, uploads: Path, ticket: Ticket) -> None:
    """Checks the parts together and makes them one large file. May be called again.

    Raises:
        HubError: 400, a part is missing or the digest of the whole differs; the parts are removed.
    """
    temporary = uploads / ticket.session
    if not temporary.exists():
        if files.size(ticket.oid) == ticket.size:
            return
        raise HubError(400, f"No part of {ticket.oid} has arrived: send it again")
    with temporary.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if temporary.stat().st_size != ticket.size or digest != ticket.oid:
        temporary.unlink(missing_ok=True)
        raise HubError(400, f"The parts do not match their SHA-256 {ticket.oid}: send them again")
    files.adopt(temporary, ticket.oid)


def remove_stale_uploads(uploads: Path, now: float) -> None:
    for path in uploads.iterdir():
        with suppress(FileNotFoundError):  # completed meanwhile
            if now - path.stat().st_mtime > UPLOAD_SECONDS:
                path.unlink()
