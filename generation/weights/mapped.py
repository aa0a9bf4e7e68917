"""The bytes of a file of weights: mapped, never all in memory, and never read beyond their end."""

from __future__ import annotations

import mmap
import stat
from pathlib import Path

from generation.errors import WeightsError

MAX_LINE_BYTES = 4096
NUM_SHOWN = 120


class ByteReader:
    """Bytes with a position, as `pickletools.genops` reads them; a length in the stream allocates no memory.

    Attributes:
        view: the bytes.
        place: the file, for error lines.
        position: of the next byte.
    """

    def __init__(self, view: memoryview, place: str, position: int = 0) -> None:
        self.view, self.place, self.position = view, place, position

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        start = self.position
        self.position = min(start + max(size, 0), len(self.view))
        return bytes(self.view[start : self.position])

    def readline(self) -> bytes:
        """A line with its line break; a line that is too long has none, which genops takes for damage."""
        chunk = bytes(self.view[self.position : self.position + MAX_LINE_BYTES])
        line = chunk[: chunk.find(b"\n") + 1] or chunk
        self.position += len(line)
        return line

    def tell(self) -> int:
        """Position of the next byte."""
        return self.position

    def take(self, size: int) -> memoryview:
        """Exactly `size` bytes, not copied.

        Raises:
            WeightsError: there are fewer.
        """
        left = len(self.view) - self.position
        if not 0 <= size <= left:
            raise WeightsError(
                f"{self.place}: is cut short or damaged ({size:,} bytes announced at byte {self.position:,}, "
                f"{left:,} are there); fetch it again"
            )
        self.position += size
        return self.view[self.position - size : self.position]


def map_file(path: Path) -> memoryview:
    """The bytes of a file, read from disk when they are used. Writing to them does not change the file.

    Raises:
        WeightsError: missing, empty, or not a regular file.
    """
    try:
        with path.open("rb") as file:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
                raise WeightsError(f"{path}: is empty or not a regular file; fetch it again")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); name the downloaded file") from error


def printable(text: str) -> str:
    """A foreign text as a part of an error line: short, and without control characters."""
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return escaped if len(escaped) <= NUM_SHOWN else escaped[: NUM_SHOWN - 3] + "..."
