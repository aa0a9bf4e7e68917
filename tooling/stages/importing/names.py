"""Names in an archive made by hand -> samples of the dataset: "Raw Video/０1.MP4" is raw_video/1.mp4.

Accepted are other letter case, leading zeros, spaces, "1-2" for 1_2, full-width characters, other decimal digits, and
folders above that of the subset. Nothing is guessed: an ambiguous or meaningless name is refused.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from homologous_deepfake import ATTRIBUTES, SUBSETS
from tooling.workspace.clutter import CLUTTER, clutter_of

MEDIA_OF_SUFFIX = {
    **dict.fromkeys(["mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "wmv", "flv", "ts"], "video"),
    **dict.fromkeys(["png", "jpg", "jpeg", "bmp", "webp", "tif", "tiff"], "image"),
}
ARCHIVES = frozenset(["zip", "tar", "gz", "tgz", "bz2", "xz", "zst", "rar", "7z", "iso"])
IDENTITIES = "identities.csv"
MAX_DIGITS = 9


@dataclass(frozen=True)
class Sample:
    """What a member's name means.

    Attributes:
        subset: one of SUBSETS.
        path: as the workspace names it: "edit_video/age/1.mp4".
        people: identities in it: (target, source), (identity,), or () for an image.
        attribute: of an edited clip, else None.
    """

    subset: str
    path: str
    people: tuple[str, ...]
    attribute: str | None = None

    @property
    def sample_id(self) -> str:
        return self.path.rpartition(".")[0]


@dataclass(frozen=True)
class Unread:
    """A member that is not a sample: ignored as the usual clutter, or refused."""

    reason: str
    is_ignored: bool = False


def read_name(parts: tuple[str, ...], only: str | None = None) -> Sample | Unread:
    """What a member's name means.

    Args:
        parts: components of the name.
        only: the requested subset; its files need no folder of its name. None takes all, by their folders.
    """
    plain = tuple(_plain(part) for part in parts)
    if any(part in ("", ".", "..") or "/" in part or "\\" in part for part in plain):
        return Unread("has a name that leads elsewhere once it is normalised")
    if clutter := clutter_of(plain):
        return Unread(CLUTTER[clutter], is_ignored=True)
    suffix = plain[-1].rpartition(".")[2].casefold() if "." in plain[-1] else ""
    if suffix in ARCHIVES:
        return Unread("is an archive inside the archive, which is not opened; unpack it yourself and import the folder")
    if suffix not in MEDIA_OF_SUFFIX:
        return Unread("is not a video or image", is_ignored=True)
    at = next((at for at, part in enumerate(plain[:-1]) if _subset_of(part)), None)
    subset = only if at is None else _subset_of(plain[at])
    if subset is None:
        return Unread(f"is not in the folder of a subset ({', '.join(SUBSETS)}); move it, or give --subset")
    if only is not None and subset != only:
        return Unread(f"belongs to {subset}; only {only} is imported", is_ignored=True)
    below = plain[at + 1 :] if at is not None else _tail(plain, subset)
    if MEDIA_OF_SUFFIX[suffix] != SUBSETS[subset].media:
        return Unread(f"is a {MEDIA_OF_SUFFIX[suffix]}; {subset} contains {SUBSETS[subset].media}s")
    return _read_below(subset, (*below[:-1], below[-1].rpartition(".")[0]))


def is_identities(parts: tuple[str, ...]) -> bool:
    """Whether a member is the table of identities: identities.csv outside the subsets' folders."""
    plain = [_plain(part).casefold() for part in parts]
    return plain[-1] == IDENTITIES and not clutter_of(plain) and not any(_subset_of(part) for part in plain[:-1])


def _read_below(subset: str, below: tuple[str, ...]) -> Sample | Unread:
    """Reads what follows the subset's folder, without the extension."""
    pattern = SUBSETS[subset].pattern
    attribute = None
    if "{attribute}" in pattern:
        attribute = below[0].casefold() if len(below) == 2 else None
        if attribute not in ATTRIBUTES:
            return Unread(f"is not in the folder of an attribute ({', '.join(ATTRIBUTES)}) of {subset}")
        below = below[1:]
    if len(below) != 1:
        return Unread(f"is in an unknown folder of {subset}; move it to match {pattern}")
    numbers = _numbers(below[0])
    if len(numbers) != (2 if "{source}" in pattern else 1):
        return Unread(f"is not named like {pattern}; rename it")
    if "{number}" in pattern:
        return Sample(subset, pattern.format(number=f"{int(numbers[0]):06d}"), ())
    if "0" in numbers:
        return Unread("names identity 0; identities count from 1")
    if SUBSETS[subset].method == "face_swap" and numbers[0] == numbers[1]:
        return Unread(f"has identity {numbers[0]} as both target and source; that is not a swap")
    names = {"target": numbers[0], "source": numbers[-1], "identity": numbers[0], "attribute": attribute}
    return Sample(subset, pattern.format(**names), tuple(numbers), attribute)


def _tail(plain: tuple[str, ...], subset: str) -> tuple[str, ...]:
    """The last components of a name, as many as the subset's pattern has, for a member outside a subset's folder."""
    return plain[-SUBSETS[subset].pattern.count("/") :]


def _numbers(stem: str) -> list[str]:
    """The one or two numbers that a stem consists of, without leading zeros; [] if it is anything else."""
    found = re.fullmatch(r"\s*([0-9]+)(?:\s*[-_~+&,\s\u2010-\u2015]\s*([0-9]+))?\s*", stem)
    if found is None or any(len(digits or "") > MAX_DIGITS for digits in found.groups()):
        return []
    return [str(int(digits)) for digits in found.groups() if digits is not None]


def _subset_of(folder: str) -> str | None:
    return next((name for name in SUBSETS if _key(name) == _key(folder)), None)


def _key(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.casefold())


def _plain(text: str) -> str:
    """Decimal digits of every script, full-width characters and spaces as ASCII; everything else unchanged.

    This is not NFKC, which also turns superscript and circled digits into plain ones.
    """
    return "".join(_plain_character(character) for character in text).strip()


def _plain_character(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    if "\uff01" <= character <= "\uff5e":  # full-width forms of ! to ~
        return chr(ord(character) - 0xFEE0)
    return " " if character.isspace() else character
