"""KINDS: every path of a workspace, what the file is, and whose data it contains.

A takedown clears a workspace by this list, and verification reports files that are not on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from homologous_deepfake import MASKED_SUBSETS, SUBSETS, Subset, mask_path
from tooling.workspace.layout import IMPORTING, PULLING, STAGING, Workspace

Owner = Literal["nobody", "named", "rows", "fitted", "leftover"]


@dataclass(frozen=True)
class PathKind:
    """One kind of file in a workspace.

    Attributes:
        pattern: relative path; names in braces stand for one part each, `**` for everything below.
        about: what the file is.
        owner: whose data it contains, which decides what a takedown does with it:
            "nobody": no person's, but for the number by which one stays refused; the file stays;
            "named": the people in its name, or in the inputs of its record; the file goes with any of them;
            "rows": many people's, in a table; the person's rows go;
            "fitted": the people whose files the folder's inputs.json names; the folder goes with any of them;
            "leftover": anybody's, left by a killed command or made again when needed; the file always goes.
    """

    pattern: str
    about: str
    owner: Owner

    @property
    def folder(self) -> str:
        """The part of the pattern that is the same for all files, "masks/swap_video"; empty for a file of the root."""
        return self.pattern.partition("{")[0].rpartition("/")[0]

    def matches(self, name: str) -> bool:
        """Whether a relative path is of this kind."""
        return _regex(self.pattern).fullmatch(name) is not None


_VIDEOS = [subset for subset in SUBSETS.values() if subset.media == "video"]


def _excerpt(subset: Subset) -> str:
    return f"excerpts/{subset.pattern}".replace(".mp4", ".{version}.mp4")


KINDS = (
    PathKind("workspace.toml", "format version and settings", "nobody"),
    PathKind(".lock", "held by the one command that writes", "nobody"),
    PathKind("keys/{name}", "the certificate that marks are signed with; never leaves this machine", "nobody"),
    PathKind("identities.csv", "who is filmed, with consent", "rows"),
    PathKind("plan.json", "folds, splits, pairs", "rows"),
    PathKind("verification.parquet", "findings and measurements of the last verification", "rows"),
    PathKind("rejects.jsonl", "fakes that failed their own checks, with seed and reason of each try", "rows"),
    PathKind("audit.json", "how well simple probes tell real from fake, over all people", "nobody"),
    PathKind("audit_measured.jsonl", "what the audit measured of each file, by digest", "leftover"),
    PathKind("answers.toml", "what only the maintainers can say, for the papers of a release", "nobody"),
    PathKind("recipients.jsonl", "who was given the data, or refused it", "nobody"),
    PathKind("tombstones.jsonl", "who was taken down, and when; such a person is refused from then on", "nobody"),
    PathKind("takedowns/{identity}.json", "receipt of a takedown: digests and numbers", "nobody"),
    PathKind("masters/{identity}.mp4", "a clip in higher quality, from which it and its fakes are encoded", "named"),
    PathKind("tracks/{identity}.json", "boxes and landmarks of a clip, frame by frame", "named"),
    *(PathKind(subset.pattern, subset.description, "named") for subset in SUBSETS.values()),
    *(PathKind(mask_path(SUBSETS[name].pattern), "where a fake replaces pixels", "named") for name in MASKED_SUBSETS),
    *(PathKind(_excerpt(subset), "two seconds of a video, small, for the report", "named") for subset in _VIDEOS),
    *(PathKind(f"{subset}/metadata.jsonl", "the record of each file", "rows") for subset in SUBSETS),
    PathKind("sources.json", "digests of the source videos that were read last, by path and state", "leftover"),
    PathKind("GAN_images/compared.txt", "digest of the images that were found to be different", "leftover"),
    PathKind("models/described.json", "what generators said of their settings and weights", "leftover"),
    PathKind("models/identity/**", "the network by which verification tells people apart", "nobody"),
    PathKind("models/{generator}/fold{fold}/**", "a generator that was fitted to the faces of a fold", "fitted"),
    PathKind("models/{generator}/.fold{fold}/**", "a fitting that was killed", "leftover"),
    PathKind(f"{STAGING}/**", "files on their way to their path", "leftover"),
    PathKind(f"{PULLING}/**", "shards, columns and journal of a pull under way", "leftover"),
    PathKind(f"{IMPORTING}/**", "members of an archive under way", "leftover"),
    PathKind("**/.{name}.new", "a file whose writing was killed", "leftover"),
)
_PARTS = {
    **dict.fromkeys(("identity", "target", "source"), "[1-9][0-9]*"),
    "attribute": "[a-z]+",
    "fold": "[0-9]",
    "number": "[0-9]{6,}",
    "**/": "(?:.+/)?",
    "**": ".+",
}


@lru_cache(maxsize=64)
def _regex(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}|(\*\*/?)", pattern)
    texts = (re.escape(text) for text in parts[::3])
    names = (_PARTS.get(name or stars, "[^/]+") for name, stars in zip(parts[1::3], parts[2::3], strict=True))
    return re.compile("".join(part for pair in zip(texts, (*names, ""), strict=True) for part in pair))


def kind_of(name: str) -> PathKind | None:
    """The kind of file that a relative path names; None where no kind of a workspace has such a path."""
    return next((kind for kind in KINDS if kind.matches(name)), None)


def unknown_paths(workspace: Workspace, names: Iterable[str] | None = None) -> list[str]:
    """Relative paths of no kind, in order; a folder of which no file can be known is one path, ending in a slash.

    Args:
        workspace: whose files are looked at.
        names: of some of them, in order; None takes all.
    """
    tops = {kind.pattern.partition("/")[0] for kind in KINDS}
    names = (name for name in (workspace.files() if names is None else names) if kind_of(name) is None)
    parts = ((name, *name.partition("/")) for name in names)
    return list(dict.fromkeys(name if top in tops else top + slash for name, top, slash, _ in parts))


def people_in(name: str) -> tuple[str, ...]:
    """Identities in the name of a file that lies where files are named by people.

    Its suffix does not matter: a copy or torn file shows them too.
    """
    kinds = (kind for kind in KINDS if kind.owner == "named" and re.search("{(target|identity)}", kind.pattern))
    if not any(name.startswith(f"{kind.folder}/") for kind in kinds):
        return ()
    stem = name.rpartition("/")[2].lstrip(".").partition(".")[0]
    return tuple(part for part in stem.split("_") if part.isdigit())
