"""One exception tree. Each message is one line: the file or name, what is wrong, what to do next."""

from __future__ import annotations

from collections.abc import Sequence


class ToolingError(Exception):
    """Anything that ends a command with one line on stderr and exit code 1."""


class UsageError(ToolingError):
    """The command was called wrongly: exit code 2."""


class InputError(ToolingError):
    """A given file, folder or table cannot be used."""


class ConsentError(ToolingError):
    """An identity whose consent record does not allow the requested use."""


class WorkspaceError(ToolingError):
    """The workspace is missing, newer than this program, locked, or disagrees with its own records."""


class DiskFullError(ToolingError):
    """No space is left; it ends the whole command, since no further file can be made either."""


class WorkerError(ToolingError):
    """A worker process died more than once on the same item."""


class VerificationError(ToolingError):
    """A file did not pass verification, or was not verified as it is now."""


def listed(names: Sequence[str], most: int) -> str:
    """The first names for a message, and how many there are beyond them: "a, b and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
