"""Errors of the generation side. Each message is one line: the file, what is wrong, what to do next."""

from __future__ import annotations


class GenerationError(Exception):
    """Base of everything that `generation` raises on purpose."""


class VideoError(GenerationError):
    """A video that cannot be read or written."""


class FaceError(GenerationError):
    """A clip in which the face that is needed cannot be found or followed."""
