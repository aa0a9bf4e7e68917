"""The formats of archives: how to list the members of each and how to open them. Nothing here writes a file.

zip, tar (plain, gz, bz2, xz, zst) and folders have the same interface: a list of entries with name, declared bytes and
the reason why an entry may not be read; then openers of the chosen entries, numbered as they were listed.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tarfile import EOFHeaderError, HeaderError, ReadError  # type: ignore[attr-defined]
from typing import IO, Any, Self

import pyarrow as pa

from generation.media.reader import stand_in
from tooling.errors import InputError

BLOCK_BYTES = 1 << 20
DEFLATE64 = 9  # APPNOTE.TXT 4.4.5
FOLDER_ICONS = ("Icon\r", "._Icon\r")  # of macOS
MAX_NAME_CHARACTERS = 1024
MAX_HEADER_BYTES = 1 << 20  # of a long name or extended header inside a tar
SLACK_BYTES = 16 << 20  # small archives may be packed as tightly as they like
COMPRESSIONS = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}

Opened = Callable[[], Any]
"""Opens one member for reading bytes."""

Listed = tuple[str, int, str, str]
"""Name, declared bytes, problem, note."""


@dataclass(frozen=True)
class Limits:
    """How large an archive may be when unpacked; ratio is that of unpacked to packed bytes."""

    num_members: int = 20_000
    total_bytes: int = 200_000_000_000
    file_bytes: int = 4_000_000_000
    ratio: int = 200


def unsafe_name(name: str) -> str:
    """Why a member's name is not safe, or "". Both slashes separate, since archives from Windows use either."""
    parts = name.replace("\\", "/").split("/")
    if not name.strip("/\\ "):
        return "has no name"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"has a name of more than {MAX_NAME_CHARACTERS} characters"
    if parts[0] == "" or (len(parts[0]) == 2 and parts[0][1] == ":"):
        return "has an absolute name"
    if ".." in (part.strip() for part in parts):
        return "leads out of the archive ('..' in its name)"
    if parts[-1] in FOLDER_ICONS:
        return ""
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in name):
        return "has invisible or control characters in its name"
    return ""


def decode_name(raw: bytes) -> tuple[str, str]:
    """A member's name as text, and a note on its encoding if that is not UTF-8."""
    for encoding, note in (("utf-8", ""), ("gb18030", "name read as GBK")):
        try:
            return raw.decode(encoding), note
        except UnicodeDecodeError:
            continue
    return raw.decode("cp437"), "name read as cp437"


def container_kind(path: Path) -> str:
    """Key of LISTS and STREAMS for a path, by its first bytes.

    Raises:
        InputError: it is missing, or not an archive.
    """
    if path.is_dir():
        return "folder"
    if not path.is_file():
        raise InputError(f"{path}: not found; give the archive or folder to import")
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        return "zip"
    for magic, name in COMPRESSIONS.items():
        if head.startswith(magic):
            return f"tar.{name}"
    if head[257:262] == b"ustar":
        return "tar"
    if problem := stand_in(path):
        raise InputError(f"{path}: {problem}")
    raise InputError(f"{path}: is not a zip or tar archive, nor a folder; unpack it yourself and import the folder")


def _list_zip(path: Path, limits: Limits) -> Iterator[Listed]:
    with zipfile.ZipFile(path) as file:
        entries = list(_zip_entries(file))
    declared = sum(info.file_size for info, _, _ in entries)
    if declared > limits.ratio * path.stat().st_size + SLACK_BYTES:
        raise InputError(f"{path}: unpacks to more than {limits.ratio} times its size; pack it again")
    for info, name, note in entries:
        yield name, info.file_size, _zip_problem(info, limits), note


def _zip_entries(file: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, str, str]]:
    """Every entry except plain folders, with its name and the note on its encoding."""
    for info in file.infolist():
        name, note = info.orig_filename, ""  # the library cuts `filename` at its first NUL
        if not info.flag_bits & 0x800:  # not marked as UTF-8: the library reads it as cp437
            name, note = decode_name(name.encode("cp437", "replace"))
        if info.file_size or not name.endswith(("/", "\\")) or unsafe_name(name):
            yield info, name, note


def _zip_problem(info: zipfile.ZipInfo, limits: Limits) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG):
        return "is not a regular file"
    if info.flag_bits & 0x1:
        return "is encrypted; pack it without a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        if info.compress_type == DEFLATE64:
            return "is packed with Deflate64, as Windows packs large files; unpack the archive and import the folder"
        return "is packed with a method other than 'deflate'; pack it again"
    if info.file_size > limits.ratio * info.compress_size + BLOCK_BYTES:
        return f"unpacks to more than {limits.ratio} times its packed size"
    return ""


def _zip_streams(path: Path, limits: Limits, chosen: Collection[int]) -> Iterator[tuple[int, Opened]]:
    with zipfile.ZipFile(path) as file:
        entries = list(_zip_entries(file))
        for number in sorted(chosen):
            yield number, partial(file.open, entries[number][0])


class _TarEntry(tarfile.TarInfo):
    """Stops at a damaged header, which the library takes for the end, and at headers made to fill the memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> Self:
        entry = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        if entry.type in (b"x", b"g", b"X", b"L", b"K") and entry.size > MAX_HEADER_BYTES:
            raise ReadError("a member's name takes more than 1 MB")
        return entry

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except EOFHeaderError:
            raise
        except HeaderError as error:
            raise ReadError(f"bad member header: {error}") from error


@contextmanager
def _open_tar(path: Path, limits: Limits) -> Iterator[tuple[tarfile.TarFile, _Bounded]]:
    with _OPENERS[container_kind(path)](str(path)) as stream:
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
    """A stream that raises InputError when it yields more than the limits allow."""

    def __init__(self, stream: Any, path: Path, limits: Limits) -> None:
        self._stream, self._path, self._limits = stream, path, limits
        self._most = limits.ratio * path.stat().st_size + SLACK_BYTES
        self._num_bytes = 0

    def read(self, size: int) -> bytes:
        block: bytes = self._stream.read(size)
        self._num_bytes += len(block)
        if self._num_bytes > self._most:
            raise InputError(f"{self._path}: unpacks to more than {self._limits.ratio} times its size; pack it again")
        return block


def _tar_entries(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, str, str]]:
    """Every entry except plain folders, with its name and the note on its encoding."""
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
                raise InputError(f"{path}: continues after its end mark; unpack it yourself and import the folder")
        while bounded.read(BLOCK_BYTES):  # reaches the checksum of the compressed stream
            pass


def _tar_problem(info: tarfile.TarInfo) -> str:
    if info.issym():
        return "is a symbolic link"
    if info.islnk():
        return "is a hard link"
    if not info.isreg() or info.issparse():
        return "is not a regular file"
    return ""


def _tar_streams(path: Path, limits: Limits, chosen: Collection[int]) -> Iterator[tuple[int, Opened]]:
    last = max(chosen, default=-1)  # what follows need not be unpacked
    with _open_tar(path, limits) as (tar, _):
        for number, (info, _, _) in enumerate(_tar_entries(tar)):
            if number in chosen:
                yield number, partial(tar.extractfile, info)
            if number >= last:
                return


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below a folder except folders, in a fixed order; links are not followed."""
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
            problem = "is not a regular file"
        elif status.st_nlink > 1:
            problem = "is a hard link; copy the folder without links"
        yield name, status.st_size if stat.S_ISREG(status.st_mode) else 0, problem, note


def _folder_streams(path: Path, limits: Limits, chosen: Collection[int]) -> Iterator[tuple[int, Opened]]:
    for number, (file, _) in enumerate(_walk(path)):
        if number in chosen:
            yield number, partial(_open_regular, file)


def _open_regular(path: Path) -> IO[bytes]:
    """Opens a file that may have become a link, device or pipe since it was listed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(error.strerror or str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("is no longer a regular file")
    return os.fdopen(descriptor, "rb")


LISTS: dict[str, Callable[[Path, Limits], Iterator[Listed]]] = {"folder": _list_folder, "zip": _list_zip}
LISTS |= dict.fromkeys(_OPENERS, _list_tar)
STREAMS: dict[str, Callable[[Path, Limits, Collection[int]], Iterator[tuple[int, Opened]]]] = {
    "folder": _folder_streams,
    "zip": _zip_streams,
    **dict.fromkeys(_OPENERS, _tar_streams),
}
