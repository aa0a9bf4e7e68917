"""Reading an archive that nobody vouches for: zip, tar (plain, gz, bz2, xz, zst) or a folder.

Members are listed first, each with the reason why it may not be read, if there is one. Then wanted members are
unpacked, in the archive's order, to file names that the caller chooses: no name out of an archive ever becomes a
path. Links, devices and encrypted members are never read, archives inside the archive never opened, and the limits
hold for the bytes that are really read, not for those that the archive announces.
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

from tooling.errors import InputError
from tooling.stages.importing.formats import BLOCK_BYTES, LISTS, STREAMS, Limits, Opened, container_kind, unsafe_name

__all__ = ["Archive", "Limits", "Member", "Unpacked", "open_archive", "printable"]
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError)


@dataclass(frozen=True)
class Member:
    """One entry of an archive that is not a folder.

    Attributes:
        number: its place in the archive, from 0.
        name: printable, and unlike that of any other member.
        parts: the components of its decoded name.
        num_bytes: as the archive announces it.
        problem: why it may not be read, or "".
        note: how an odd name was read, or "".
    """

    number: int
    name: str
    parts: tuple[str, ...]
    num_bytes: int
    problem: str = ""
    note: str = ""


@dataclass(frozen=True)
class Unpacked:
    """What became of one wanted member: its file, size and SHA-256, or the reason why it was not read."""

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

    def unpack(self, wanted: Collection[int], folder: Path) -> Iterator[Unpacked]:
        """Writes wanted members (numbers) below `folder`, each named by its number, one at a time.

        Yields:
            Each wanted member, in the archive's order. Where a stream breaks, the members behind it come with a
            problem too.
        """
        members = {member.number: member for member in self.members if member.number in wanted}
        left, broken = self.limits.total_bytes, "it is not in the archive any more"
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
        InputError: not there, no archive, damaged, truncated, or beyond the limits.
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
                raise InputError(f"{path}: holds more than {limits.num_members:,} members; split it")
            if total > limits.total_bytes:
                raise InputError(f"{path}: unpacks to more than {limits.total_bytes:,} bytes; split it")
            shown = printable(name)
            while shown in names:
                names[shown] += 1
                shown = f"{printable(name)} [{names[shown]}]"
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
    """Text for a terminal: what is not printable is escaped."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return "".join(escaped)


def _reason(error: BaseException) -> str:
    return printable(str(error)) or type(error).__name__


def _copy(member: Member, opened: Opened, target: Path, left: int) -> Unpacked:
    """Copies at most the announced bytes of one member; a member that breaks leaves no file."""
    digest, num_bytes = hashlib.sha256(), 0
    try:
        with opened() as stream, target.open("wb") as file:
            while block := stream.read(BLOCK_BYTES):
                num_bytes += len(block)
                if num_bytes > member.num_bytes:
                    raise InputError("holds more bytes than the archive announces")
                if num_bytes > left:
                    raise InputError("the archive unpacks to more bytes in all than the limit")
                digest.update(block)
                file.write(block)
            if num_bytes != member.num_bytes:
                raise InputError(f"holds {num_bytes:,} of the {member.num_bytes:,} bytes that the archive announces")
            file.flush()
            os.fsync(file.fileno())
    except (InputError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        target.unlink(missing_ok=True)
        return Unpacked(member, target, num_bytes, problem=f"cannot be unpacked ({_reason(error)})")
    return Unpacked(member, target, num_bytes, digest.hexdigest())
