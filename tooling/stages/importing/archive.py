"""Reads an untrusted archive: zip, tar (plain, gz, bz2, xz, zst) or a folder.

Members are listed first, each with the reason why it may not be read, if there is one. The chosen members are then
unpacked in the archive's order, to files named by number: no name from an archive ever becomes a path. Links, devices
and encrypted members are never read, and archives inside the archive never opened. The limits apply to the bytes that
are actually read, not to the sizes that the archive declares.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from generation.errors import one_line
from tooling.errors import InputError
from tooling.stages.importing.formats import BLOCK_BYTES, LISTS, STREAMS, Limits, Opened, container_kind, unsafe_name

__all__ = ["Archive", "Limits", "Member", "Unpacked", "open_archive", "printable"]
SHOWN_CHARACTERS = 256  # of a name
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError)


@dataclass(frozen=True)
class Member:
    """One entry of an archive that is not a folder.

    Attributes:
        number: its position in the archive, from 0.
        name: printable and unique in the archive.
        parts: the components of its decoded name.
        num_bytes: as the archive declares it.
        problem: why it may not be read, or "".
        note: in which encoding its name was read if not in UTF-8, or "".
    """

    number: int
    name: str
    parts: tuple[str, ...]
    num_bytes: int
    problem: str = ""
    note: str = ""


@dataclass(frozen=True)
class Unpacked:
    """An unpacked member: its file, size and SHA-256, or the problem that prevented it."""

    member: Member
    path: Path
    num_bytes: int = 0
    sha256: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Archive:
    """A listed archive."""

    path: Path
    kind: str
    limits: Limits
    members: tuple[Member, ...]

    def unpack(self, chosen: Collection[Member], folder: Path) -> Iterator[Unpacked]:
        """Writes members to `folder`, one at a time, each to a file named by its number.

        Yields:
            Each chosen member, in the archive's order. If the stream breaks, all members after that have a problem.
        """
        members = {member.number: member for member in chosen}
        left, broken = self.limits.total_bytes, "is no longer in the archive"
        try:
            for number, opened in STREAMS[self.kind](self.path, self.limits, frozenset(members)):
                unpacked = _copy(members[number], opened, folder / str(number), left)
                left -= unpacked.num_bytes
                del members[number]
                yield unpacked
        except (*BROKEN, InputError) as error:
            broken = f"the archive broke off ({_reason(error)}); fetch it again"
        for member in members.values():
            yield Unpacked(member, folder / str(member.number), problem=broken)


def open_archive(path: Path, limits: Limits | None = None) -> Archive:
    """Lists an archive or folder.

    Raises:
        InputError: missing, not an archive, damaged, truncated, or beyond the limits.
    """
    limits = limits or Limits()
    kind = container_kind(path)
    members: list[Member] = []
    names: dict[str, int] = {}
    total = 0
    try:
        for name, num_bytes, problem, note in LISTS[kind](path, limits):
            total += num_bytes
            if len(members) >= limits.num_members:
                raise InputError(f"{path}: has more than {limits.num_members:,} members; split it")
            if total > limits.total_bytes:
                raise InputError(f"{path}: unpacks to more than {limits.total_bytes:,} bytes; split it")
            shown = own = printable(name[:SHOWN_CHARACTERS]) or f"{path.name}#{len(members) + 1}"
            while shown in names:
                names[shown] += 1
                shown = f"{own} [{names[shown]}]"
            names[shown] = 1
            parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
            reason = problem or unsafe_name(name)
            if not reason and num_bytes > limits.file_bytes:
                reason = f"is larger than {limits.file_bytes:,} bytes"
            members.append(Member(len(members), shown, parts, num_bytes, reason, note))
    except (*BROKEN, RecursionError) as error:
        raise InputError(f"{path}: damaged or truncated archive ({_reason(error)}); fetch it again") from error
    return Archive(path, kind, limits, tuple(members))


def printable(text: str) -> str:
    """Text for a terminal, with escapes for characters that are not printable."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return "".join(escaped)


def _reason(error: BaseException) -> str:
    return one_line(printable(str(error))) or type(error).__name__


def _copy(member: Member, opened: Opened, target: Path, left: int) -> Unpacked:
    """Copies at most the declared bytes of one member; if it breaks, no file is left."""
    digest, num_bytes = hashlib.sha256(), 0
    try:
        with opened() as stream, target.open("wb") as file:
            while block := stream.read(BLOCK_BYTES):
                num_bytes += len(block)
                if num_bytes > member.num_bytes:
                    raise InputError("has more bytes than the archive declares")
                if num_bytes > left:
                    raise InputError("the archive unpacks to more bytes than the limit allows")
                digest.update(block)
                file.write(block)
            if num_bytes != member.num_bytes:
                raise InputError(f"has {num_bytes:,} of the {member.num_bytes:,} bytes that the archive declares")
            file.flush()
            os.fsync(file.fileno())
    except (InputError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        target.unlink(missing_ok=True)
        return Unpacked(member, target, num_bytes, problem=f"cannot be unpacked ({_reason(error)})")
    return Unpacked(member, target, num_bytes, digest.hexdigest())
