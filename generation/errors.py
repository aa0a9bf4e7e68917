"""Errors of the generation side. Each message is one line: the file, what is wrong, what to do next.

Imports nothing heavy, so that anyone may catch them.
"""

from __future__ import annotations

from collections.abc import Sequence


def one_line(error: object, most: int = 200) -> str:
    """The text of a foreign error as a part of a line: white space becomes single spaces, at most `most` characters."""
    return " ".join(str(error).split())[:most]


class GenerationError(Exception):
    """Base of everything that `generation` raises on purpose."""


class VideoError(GenerationError):
    """A video that cannot be read or written."""


class FaceError(GenerationError):
    """A video, clip or track without the one face that is needed."""


class RejectedOutputError(GenerationError):
    """A fake that fails its own checks and must not enter the dataset.

    Attributes:
        attempts: seed and reason of each try.
    """

    def __init__(self, message: str, attempts: Sequence[tuple[int, str]] = ()) -> None:
        super().__init__(message, attempts)
        self.message = message
        self.attempts = list(attempts)

    def __str__(self) -> str:
        return self.message


class WeightsError(GenerationError):
    """A file of weights that is damaged, contains what no weights need, or does not fit its network."""
