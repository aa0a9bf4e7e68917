"""One command at a time: a lock on a file, released by the system even after a kill."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tooling.errors import WorkspaceError

TAKEN = (errno.EACCES, errno.EAGAIN)


class LockedError(WorkspaceError):
    """Another process holds the lock."""


@contextmanager
def hold_lock(path: Path, taken: str) -> Iterator[None]:
    """Holds a lock for the block: flock, or lockf on a disk (NFS, some cluster file systems) that has no flock.

    Args:
        path: of the lock's file; made if it is missing, and left.
        taken: message where another process holds it.

    Raises:
        LockedError: another process holds it.
        WorkspaceError: the disk has neither kind of lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(descriptor, path, taken)
        yield
    finally:
        os.close(descriptor)


def hold_output(out: Path, taken: str) -> AbstractContextManager[None]:
    """Holds a file or folder that a command writes; its folder is made, and the lock's file lies beside it.

    Args and errors: see `hold_lock`.
    """
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    return hold_lock(out.with_name(f".{out.name}.lock"), taken)


def _lock(descriptor: int, path: Path, taken: str) -> None:
    reason = ""
    for lock in (fcntl.flock, fcntl.lockf):
        try:
            lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in TAKEN:
                raise LockedError(taken) from error
            reason = error.strerror or str(error)
        else:
            return
    raise WorkspaceError(f"{path}: its disk has no file locks ({reason}); work on a disk that has them")
