"""Reading an archive that nobody vouches for: zip, tar (plain, gz, bz2, xz, zst) or a folder.

Members are listed first, each with the reason why it may not be read, if there is one. Then wanted members are
unpacked, in the archive's order, to file names that the caller chooses: no name out of an archive ever becomes a
path. Links, devices and encrypted members are never read, archives inside the archive never opened, and the limits
hold for the bytes that are really read, not for those that the archive announces.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tarfile import EOFHeaderError, HeaderError  # type: ignore[attr-defined]
from typing import IO, Any, Self

import pyarrow as pa

from tooling.errors import InputError

BLOCK_BYTES = 1 << 20
MAX_NAME_CHARACTERS = 1024
MAX_HEADER_BYTES = 1 << 20  # of a long name or extended header inside a tar
SLACK_BYTES = 16 << 20  # small archives may be packed as tightly as they like
COMPRESSIONS = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError)


@dataclass(frozen=True)
class Limits:
    """What an archive may ask of this machine; ratio is unpacked to packed bytes."""

    num_members: int = 20_000
    total_bytes: int = 200_000_000_000
    file_bytes: int = 4_000_000_000
    ratio: int = 200


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
        members = [member for member in self.members if member.number in wanted]
        left = self.limits.total_bytes
        done, broken = 0, "it is not in the archive any more"
        try:
            for member, opened in _STREAMS[self.kind](self, members):
                unpacked = _copy(member, opened, folder / str(member.number), left)
                done, left = done + 1, left - unpacked.num_bytes
                yield unpacked
        except (*BROKEN, InputError) as error:
            broken = f"the archive broke off ({_reason(error)}); fetch it again"
        for member in members[done:]:
            yield Unpacked(member, folder / str(member.number), problem=broken)


def open_archive(path: Path, limits: Limits | None = None) -> Archive:
    """Lists an archive or folder.

    Raises:
        InputError: not there, no archive, damaged, truncated, or beyond the limits.
    """
    limits = limits or Limits()
    kind = _kind(path)
    members: list[Member] = []
    names: dict[str, int] = {}
    total = 0
    try:
        for name, num_bytes, problem, note in _LISTS[kind](path, limits):
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


def unsafe_name(name: str) -> str:
    """Why a member's name is not to be trusted, or "". Both slashes divide, as archives from Windows have them."""
    parts = name.replace("\\", "/").split("/")
    if not name.strip("/\\ "):
        return "has no name"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"has a name of more than {MAX_NAME_CHARACTERS} characters"
    if parts[0] == "" or (len(parts[0]) == 2 and parts[0][1] == ":"):
        return "has an absolute name"
    if ".." in (part.strip() for part in parts):
        return "leads out of the archive ('..' in its name)"
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in name):
        return "has invisible or control characters in its name"
    return ""


def decode_name(raw: bytes) -> tuple[str, str]:
    """A member's name as text, and how it was read where that was not as UTF-8."""
    for encoding, note in (("utf-8", ""), ("gb18030", "name read as GBK")):
        try:
            return raw.decode(encoding), note
        except UnicodeDecodeError:
            continue
    return raw.decode("cp437"), "name read as cp437"


def _kind(path: Path) -> str:
    if path.is_dir():
        return "folder"
    if not path.is_file():
        raise InputError(f"{path}: not found; name the archive or folder to import")
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        return "zip"
    for magic, name in COMPRESSIONS.items():
        if head.startswith(magic):
            return f"tar.{name}"
    if head[257:262] == b"ustar":
        return "tar"
    raise InputError(f"{path}: is no zip or tar archive and no folder; unpack it yourself and import the folder")


def _reason(error: BaseException) -> str:
    return printable(str(error)) or type(error).__name__


Opened = Callable[[], Any]
"""Opens one member for reading bytes."""


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


Listed = tuple[str, int, str, str]
"""Name, announced bytes, problem, note."""


def _list_zip(path: Path, limits: Limits) -> Iterator[Listed]:
    with zipfile.ZipFile(path) as file:
        entries = list(_zip_entries(file))
    announced = sum(info.file_size for info, _, _ in entries)
    if announced > limits.ratio * path.stat().st_size + SLACK_BYTES:
        raise InputError(f"{path}: unpacks to more than {limits.ratio} times its size; pack it anew")
    for info, name, note in entries:
        yield name, info.file_size, _zip_problem(info, limits), note


def _zip_entries(file: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, str, str]]:
    """Every entry but plain folders, with its name and how that was read."""
    for info in file.infolist():
        name, note = info.orig_filename, ""  # the library cuts `filename` at its first NUL
        if not info.flag_bits & 0x800:  # not said to be UTF-8: the library took it for cp437
            name, note = decode_name(name.encode("cp437", "replace"))
        if info.file_size or not name.endswith(("/", "\\")) or unsafe_name(name):
            yield info, name, note


def _zip_problem(info: zipfile.ZipInfo, limits: Limits) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG):
        return "is no regular file"
    if info.flag_bits & 0x1:
        return "is encrypted; pack it without a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed by another method than 'deflate'; pack it anew"
    if info.file_size > limits.ratio * info.compress_size + BLOCK_BYTES:
        return f"unpacks to more than {limits.ratio} times its packed size"
    return ""


def _zip_streams(archive: Archive, members: list[Member]) -> Iterator[tuple[Member, Opened]]:
    with zipfile.ZipFile(archive.path) as file:
        entries = list(_zip_entries(file))
        for member in members:
            yield member, partial(file.open, entries[member.number][0])


class _TarEntry(tarfile.TarInfo):
    """Stops at a damaged header, where the library would take it for the end, and at headers made to fill memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> Self:
        entry = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        if entry.type in (b"x", b"g", b"X", b"L", b"K") and entry.size > MAX_HEADER_BYTES:
            raise InputError("a member's name takes more than 1 MB")
        return entry

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except EOFHeaderError:
            raise
        except HeaderError as error:
            raise InputError(f"bad member header: {error}") from error


@contextmanager
def _open_tar(path: Path, limits: Limits) -> Iterator[tuple[tarfile.TarFile, _Bounded]]:
    with _OPENERS[_kind(path)](str(path)) as stream:
        bounded = _Bounded(stream, path, limits)
        options: Any = {"tarinfo": _TarEntry, "encoding": "utf-8", "errors": "surrogateescape"}
        with tarfile.open(fileobj=bounded, mode="r|", **options) as tar:  # type: ignore[call-overload]
            yield tar, bounded


_OPENERS: dict[str, Callable[[str], Any]] = {
    "tar": lambda path: open(path, "rb"),  # noqa: SIM115
    "tar.gz": gzip.open,
    "tar.bz2": bz2.open,
    "tar.xz": lzma.open,
    "tar.zst": lambda path: pa.CompressedInputStream(pa.OSFile(path), "zstd"),
}


class _Bounded:
    """A stream that ends in an error when it yields more than the limits allow."""

    def __init__(self, stream: Any, path: Path, limits: Limits) -> None:
        self._stream, self._path, self._limits = stream, path, limits
        self._most = limits.ratio * path.stat().st_size + SLACK_BYTES
        self._num_bytes = 0

    def read(self, size: int) -> bytes:
        block: bytes = self._stream.read(size)
        self._num_bytes += len(block)
        if self._num_bytes > self._most:
            raise InputError(f"{self._path}: unpacks to more than {self._limits.ratio} times its size; pack it anew")
        return block


def _tar_entries(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, str, str]]:
    """Every entry but plain folders, with its name and how that was read."""
    while (info := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # else the library keeps them all, once more
        name, note = decode_name(info.name.encode("utf-8", "surrogateescape"))
        if not info.isdir() or unsafe_name(name):
            yield info, name, note


def _list_tar(path: Path, limits: Limits) -> Iterator[Listed]:
    with _open_tar(path, limits) as (tar, bounded):
        for info, name, note in _tar_entries(tar):
            yield name, info.size if info.isreg() else 0, _tar_problem(info), note
        rest = tar.fileobj
        while rest is not None and (block := rest.read(BLOCK_BYTES)):
            if block.strip(b"\0"):
                raise InputError(f"{path}: goes on behind its end mark; unpack it yourself and import the folder")
        while bounded.read(BLOCK_BYTES):  # reaches the checksum of the compressed stream
            pass


def _tar_problem(info: tarfile.TarInfo) -> str:
    if info.issym():
        return "is a symbolic link"
    if info.islnk():
        return "is a hard link"
    if not info.isreg() or info.issparse():
        return "is no regular file"
    return ""


def _tar_streams(archive: Archive, members: list[Member]) -> Iterator[tuple[Member, Opened]]:
    by_number = {member.number: member for member in members}
    with _open_tar(archive.path, archive.limits) as (tar, _):
        for number, (info, _, _) in enumerate(_tar_entries(tar)):
            if number in by_number:
                yield by_number.pop(number), partial(tar.extractfile, info)
            if not by_number:
                return


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below a folder but folders, in a fixed order, links not followed."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    for entry in entries:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(Path(entry.path))
        else:
            yield Path(entry.path), status


def _list_folder(path: Path, limits: Limits) -> Iterator[Listed]:
    for file, status in _walk(path):
        name, note = decode_name(os.fsencode(file.relative_to(path)))
        problem = ""
        if stat.S_ISLNK(status.st_mode):
            problem = "is a symbolic link"
        elif not stat.S_ISREG(status.st_mode):
            problem = "is no regular file"
        elif status.st_nlink > 1:
            problem = "is a hard link; copy the folder without links"
        yield name, status.st_size if stat.S_ISREG(status.st_mode) else 0, problem, note


def _folder_streams(archive: Archive, members: list[Member]) -> Iterator[tuple[Member, Opened]]:
    by_number = {member.number: member for member in members}
    for number, (file, _) in enumerate(_walk(archive.path)):
        if number in by_number:
            yield by_number[number], partial(_open_regular, file)


def _open_regular(path: Path) -> IO[bytes]:
    """Opens a file that may have become a link, device or pipe since it was listed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(error.strerror or str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("is no regular file any more")
    return os.fdopen(descriptor, "rb")


_LISTS: dict[str, Callable[[Path, Limits], Iterator[Listed]]] = {"folder": _list_folder, "zip": _list_zip}
_LISTS |= dict.fromkeys(_OPENERS, _list_tar)
_STREAMS: dict[str, Callable[[Archive, list[Member]], Iterator[tuple[Member, Opened]]]] = {
    "folder": _folder_streams,
    "zip": _zip_streams,
    **dict.fromkeys(_OPENERS, _tar_streams),
}
