"""Patterns of .gitignore and .gitattributes, matched in linear time (RE2) whatever they are.

The lines come from whoever may write to a repository; a backtracking expression made of them could stop the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import re2
from dulwich.attrs import parse_git_attributes
from dulwich.ignore import read_ignore_patterns, translate

from tooling.hub.responses import HubError

MOST_PATTERNS = 2000  # of one file
OPTIONS = re2.Options()
OPTIONS.log_errors = False


@dataclass(frozen=True)
class Rule:
    """One line: the paths that it is about, and what it says of them."""

    expression: Any
    value: bool

    def fits(self, path: str) -> bool:
        return self.expression.fullmatch(path.encode()) is not None


class Rules:
    """Rules of which the last that fits decides."""

    def __init__(self, lines: list[tuple[bytes, bool]], name: str) -> None:
        if len(lines) > MOST_PATTERNS:
            raise HubError(422, f"{name} has {len(lines)} patterns: {MOST_PATTERNS} at most")
        self._rules = [Rule(expression, value) for line, value in lines if (expression := _compile(line)) is not None]

    def decide(self, path: str) -> bool:
        """What the last rule says that fits; false if none does."""
        return next((rule.value for rule in reversed(self._rules) if rule.fits(path)), False)


def read_large_rules(content: bytes) -> Rules:
    """Which files a .gitattributes has stored as large ones.

    Raises:
        HubError: 422, too many patterns.
    """
    rules = [
        (pattern, attributes[b"filter"] == b"lfs")
        for pattern, attributes in parse_git_attributes(BytesIO(content))
        if b"filter" in attributes
    ]
    return Rules(rules, ".gitattributes")


def read_ignore_rules(content: bytes) -> Rules:
    """Which paths a .gitignore leaves out; those of folders end in a slash.

    Raises:
        HubError: 422, too many patterns.
    """
    rules = []
    for line in read_ignore_patterns(BytesIO(content)):
        is_kept = line.startswith(b"!")
        rules.append((line.removeprefix(b"!") if is_kept else line.removeprefix(b"\\"), not is_kept))
    return Rules(rules, ".gitignore")


def is_ignored(rules: Rules, path: str) -> bool:
    """Whether a .gitignore leaves out a file, or a folder that it lies in."""
    names = path.split("/")
    folders = ("/".join(names[:count]) + "/" for count in range(1, len(names)))
    return any(rules.decide(candidate) for candidate in (*folders, path))


def _compile(pattern: bytes) -> Any:
    """The expression of a pattern; None of one that is none, or not UTF-8: it fits no path."""
    try:
        return re2.compile(translate(pattern).removesuffix(b"\\Z"), OPTIONS)
    except (re2.error, ValueError):
        return None
