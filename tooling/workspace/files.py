"""Files that appear whole or not at all, and their digests.

A file is written beside its path, synced and renamed; a line is appended and synced. After a kill at any moment a
reader finds the old content or the new one, and at most a torn last line, which `whole_lines` leaves out.

What has been read is known again by its state on disk, which every writing changes: `file_state`.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tooling.errors import DiskFullError, InputError

TICK_NS = 50_000_000  # what was written just now may be written again without a later time


def file_state(path: str | Path, before_ns: int | None = None) -> str:
    """The state of a file on disk: its size, times and number.

    Args:
        path: of the file.
        before_ns: from `wait_for_clock`; what was written later cannot be told from what is written next. None: that
            does not matter.

    Returns:
        "" if it was written later, or is not there.
    """
    try:
        found = os.stat(path)
    except OSError:
        return ""
    if before_ns is not None and max(found.st_ctime_ns, found.st_mtime_ns) > before_ns:
        return ""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def wait_for_clock(paths: Iterable[str | Path] = ()) -> int:
    """Waits a tick at most, until what is there can be told from what is written next.

    Args:
        paths: files; or folders, for all that was moved into them.

    Returns:
        The last moment that can be told from now, in nanoseconds of the clock.
    """
    newest_ns = 0
    for path in paths:
        with suppress(OSError):
            found = os.stat(path)
            newest_ns = max(newest_ns, found.st_ctime_ns, found.st_mtime_ns)
    left_ns = newest_ns + TICK_NS - time.time_ns()
    if left_ns > 0:
        time.sleep(min(left_ns, TICK_NS) / 1e9 + 0.001)
    return time.time_ns() - TICK_NS


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise InputError(f"{path}: not found") from error


def write_text(path: Path, text: str) -> None:
    """Replaces a text file as a whole: a reader sees the old text or the new, never a part."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file as a whole, synced to disk."""
    with replacing(path) as beside:
        beside.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what replaces a file as a whole, synced to disk, once the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = unfinished_path(path)
    with naming_full_disk(path.parent):
        try:
            yield beside
            sync_file(beside)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(path.parent)


def move_file(source: Path, target: Path) -> None:
    """Moves a synced file to its path, also to a folder that is a link to another disk; a reader sees it whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = unfinished_path(target)
        try:
            shutil.copyfile(source, beside)
            sync_file(beside)
            os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)
        source.unlink()
    sync_folder(target.parent)


def unfinished_path(path: Path) -> Path:
    """Where `replacing` lets a file be written first."""
    return path.with_name(f".{path.name}.new")


def append_line(path: Path, line: str) -> None:
    """Appends one line, synced; a torn line that an earlier kill left at the end is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        _cut_torn_line(file.fileno())
        file.write(line.encode("utf-8") + b"\n")
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Flushes a finished file to disk, so that its later rename cannot outrun its content."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flushes a rename in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Turns "no space left" into one line that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(f"{folder}: the disk is full; free space and run the command again, it goes on") from error


def whole_lines(path: Path) -> list[str]:
    """Lines of a file that `append_line` wrote, without a torn last one."""
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    return [line.decode("utf-8", "replace") for line in content[: content.rfind(b"\n") + 1].splitlines()]


def _cut_torn_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    keep, block = 0, 1 << 16
    for start in range(max(0, size - block), -block, -block):
        start = max(0, start)
        at = os.pread(descriptor, block, start).rfind(b"\n")
        if at >= 0:
            keep = start + at + 1
            break
    if keep != size:
        os.ftruncate(descriptor, keep)
