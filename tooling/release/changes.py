"""The list of changes in a release's card: an entry for each version, newest first, with the rows that differ.

    ## Changes

    ### 1.1.0

    - `swap_video`: 2 added, 1 removed

A release's own card is where the list is kept: the next card takes over the entries of the release before it, found in
its folder or at the Hub, and puts its own in front.
"""

from __future__ import annotations

import re
from pathlib import Path

from tooling.errors import UsageError
from tooling.release.diff import changelog_entry, compare_rows, folder_rows, locate, rows_at
from tooling.remote import Remote

HEADING = "## Changes"
SECTION = re.compile(rf"^{HEADING}\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
FIRST = "The first release."
CARD = "README.md"

VERSION = re.compile(r"(?!.*\.\.)(?!.*\.lock$)(?![0-9a-f]{7,40}$)[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,62}[A-Za-z0-9])?")

Entries = dict[str, str]
"""Version -> Markdown of its entry without heading, newest first."""


def check_version(version: str) -> None:
    """Refuses a version that the Hub would not take as a tag, before anything is sent.

    Raises:
        UsageError: it has other signs than a tag may have, or looks like a commit.
    """
    if not VERSION.fullmatch(version):
        problem = f"'{version}' cannot be a tag at the Hub"
        raise UsageError(
            f"workspace.toml: [card] version {problem}; use letters, digits, '.', '-' and '+', as in 1.0.0"
        )


def read_entries(card: str) -> Entries:
    """The entries in a card's text; none if it has no such list."""
    section = re.search(SECTION, card)
    parts = re.split(r"^### (.+)\n", section[1], flags=re.MULTILINE) if section else [""]
    return {version.strip(): body.strip() for version, body in zip(parts[1::2], parts[2::2], strict=True)}


def format_entries(entries: Entries) -> str:
    """Markdown of the entries, for below the heading; ends with a newline."""
    return "\n".join(f"### {version}\n\n{body}\n" for version, body in entries.items())


def entries_since(since: str, out: Path, version: str) -> Entries:
    """The entries of the release before, behind that of the release in `out`.

    Args:
        since: the release before: a folder, `REPO_ID` or `REPO_ID@REVISION`.
        out: the built release.
        version: of the release in `out`.

    Raises:
        UsageError: `since` is this version itself.
        InputError: one of them is not a release.
        RemoteError: the Hub refuses or cannot be reached.
    """
    release = locate(since)
    earlier = earlier_entries(release)
    if version in earlier:
        way_out = f"raise [card] version in workspace.toml, or name a release before {version}"
        raise UsageError(f"{since}: its list of changes has version {version} already; {way_out}")
    found = compare_rows(rows_at(release), folder_rows(out))
    return {version: changelog_entry(found), **earlier}


def earlier_entries(release: Path | tuple[Remote, str]) -> Entries:
    """The entries in the card of a release, given as `diff.locate` returns it.

    Raises:
        RemoteError: the Hub refuses or cannot be reached.
    """
    return read_entries(_folder_card(release) if isinstance(release, Path) else remote_card(*release))


def own_entries(out: Path, version: str) -> Entries:
    """The entries of the release's card if that is of this version; else those of a first release."""
    entries = read_entries(_folder_card(out))
    return entries if next(iter(entries), None) == version else {version: FIRST}


def with_notice(entries: Entries, notice: str) -> Entries:
    """Adds a line to the newest entry, once."""
    newest, body = next(iter(entries.items()))
    if notice in body.splitlines():
        return entries
    gap = "\n" if body.startswith("- ") else "\n\n"  # the line continues a list, or begins one after a sentence
    return {**entries, newest: f"{body}{gap}{notice}"}


def add_notice(card: str, notice: str) -> str:
    """The text of a card with a line in the newest entry of its list, where it has a list."""
    entries = read_entries(card)
    if not entries:
        return card
    body = format_entries(with_notice(entries, notice))
    return re.sub(SECTION, lambda _: f"{HEADING}\n\n{body}\n", card, count=1)


def remote_card(remote: Remote, commit: str) -> str:
    """The card's text at a commit, "" if there is none.

    Raises:
        RemoteError: the Hub refuses or cannot be reached.
    """
    if not remote.call("file_exists", filename=CARD, revision=commit):
        return ""
    return remote.download(CARD, commit).read_text(encoding="utf-8", errors="replace")


def _folder_card(folder: Path) -> str:
    path = folder / CARD
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
