"""Which file came from what: the lines of metadata.jsonl, and what a stage reports."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from generation.json_text import parse_json
from homologous_deepfake import METHODS, SUBSETS, people_of
from tooling.workspace.decoding import decode

Origin = Literal["made", "imported", "pulled"]
MOST = {"num_bytes": 2**53, "width": 2**16, "height": 2**16, "fps": 1000, "num_frames": 2**31}  # none is negative

NUMBERS = re.compile("([0-9]+)")
GLASSES = "glasses"  # parameter: who of target and source is stated to wear any; missing where nobody is


@dataclass(frozen=True)
class FileRecord:
    """One line of a subset's metadata.jsonl: one media file and what it was made from.

    Attributes:
        sample_id: unique over all subsets, the path without its extension: "edit_video/age/1".
        path: relative to the workspace, with forward slashes.
        sha256: hex digest of the file.
        num_bytes: size of the file.
        inputs: path (or, for a source video, name) -> sha256 of everything the file was made from.
        generator: name of the implementation that made the file ("ingest", "mtcnn", "weightfree-swap", ...).
        parameters: what the generator was called with; JSON values only.
        seed: seed of the generator, None where it draws nothing.
        width, height: pixels.
        fps: frames per second; None for images.
        num_frames: 1 for images.
        companions: further files written with it, path -> sha256 (a face crop's track, a fake's masks).
        results: what the generator found or measured; JSON values only; no part of the comparison that decides
            whether a finished file still fits.
        unmarked_sha256: hex digest of the file before it was marked. A signature is never the same twice, so this is
            what `inputs` of later files name and what reproduces; empty where it is not known.
        digital_source_type: IPTC's word in the file's signed manifest, "digitalCapture" for a real file; empty where
            the file carries no mark.
        origin: whether this tooling made the pixels, or they were imported from an archive or pulled from a Hub.
    """

    sample_id: str
    path: str
    sha256: str
    num_bytes: int
    inputs: dict[str, str]
    generator: str
    parameters: dict[str, Any]
    seed: int | None
    width: int
    height: int
    fps: float | None
    num_frames: int
    companions: dict[str, str] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    unmarked_sha256: str = ""
    digital_source_type: str = ""
    origin: Origin = "made"

    @property
    def subset(self) -> str:
        """Name of the subset that the file belongs to."""
        return self.path.partition("/")[0]

    @property
    def has_glasses(self) -> bool:
        """Whether it was made knowing that the target or the source wears glasses."""
        return bool(self.parameters.get(GLASSES))

    @property
    def bar_shares(self) -> tuple[float, float]:
        """Shares of a clip's width and height that ingest filled with black bars, 0 to 1; 0 where that is unknown."""
        found = self.results.get("bars", {})
        return found.get("width", 0.0), found.get("height", 0.0)

    @property
    def input_sha256(self) -> str:
        """Digest by which files made from this one name it in their `inputs`."""
        return self.unmarked_sha256 or self.sha256


def command_for(subset: str) -> str:
    """The command that makes the files of a subset, for messages."""
    commands = {"raw_video": "`tooling ingest SOURCES`", "face_video": "`tooling faces`"}
    return commands.get(subset, f"`tooling generate {subset}`")


def shown_identities(record: FileRecord) -> tuple[str, ...]:
    """Whose faces the excerpts of a file are cut around: one for each; "" for the whole picture."""
    if SUBSETS[record.subset].method != METHODS[0]:
        return people_of(record.sample_id)[:1]
    return ("", *people_of(record.sample_id)) if record.subset == "raw_video" else ("",)


def natural_key(text: str) -> tuple[int | str, ...]:
    """Sort key that puts "2" before "10", and digits before all other characters."""
    parts: list[int | str] = [*NUMBERS.split(text + "\0")]
    parts[1::2] = map(int, parts[1::2])
    return tuple(parts)


def format_record(record: FileRecord) -> str:
    """One JSON line without its newline; the same record gives the same bytes."""
    return json.dumps(vars(record), ensure_ascii=False, sort_keys=True)


def parse_record(line: str) -> FileRecord:
    """Reads one line of metadata.jsonl.

    Raises:
        ValueError: the line is not such a record; names the field that is not.
    """
    content = parse_json(line)
    record = decode(content, FileRecord)
    for name, most in MOST.items():
        value = getattr(record, name)
        if value is not None and not 0 <= value <= most:
            raise ValueError(f"{name}: expected 0 to {most}, got {value:.10g}")
    for name in (record.path, *record.companions):
        if name.startswith("/") or {"", ".", ".."} & {*name.split("/")} or "\0" in name:
            raise ValueError(f"{name!r} is not a path in a workspace")
    if "origin" in content:
        return record
    # Records from before there was an origin.
    is_pulled, is_imported = "repository" in record.results, bool(record.parameters.get("imported"))
    return dataclasses.replace(record, origin="pulled" if is_pulled else "imported" if is_imported else "made")


def format_bars(record: FileRecord) -> str:
    """How much of a clip is black bars, as "44 % of the width"; empty if it has none."""
    sides = zip(record.bar_shares, ("width", "height"), strict=True)
    return " and ".join(f"{100 * share:.0f} % of the {side}" for share, side in sides if share)


@dataclass
class StageResult:
    """What one run of a stage did.

    Attributes:
        made: files newly made, by sample_id.
        kept: files that were finished before and still fit.
        refused: name -> one line that says why it was not made.
        notes: what a maintainer should know of the others, one line each.
    """

    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
