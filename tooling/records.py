"""Typed rows of the workspace: who is filmed (identities.csv), which file came from what (metadata.jsonl), the plan."""

from __future__ import annotations

import csv
import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from tooling.errors import InputError, WorkspaceError

Gender = Literal["male", "female"]
ConsentStatus = Literal["granted", "refused", "withdrawn", "unknown"]

PLAN_FORMAT = 1
NUM_FOLDS = 5
Pair = tuple[str, str]
"""(target, source) of one planned fake."""

IDENTITY_COLUMNS = ("id", "gender", "consent_status", "consent_date", "consent_evidence")


@dataclass(frozen=True)
class Identity:
    """One filmed person.

    Attributes:
        id: "1" to "100" in the catalogue; file stem of the person's clips; never a personal name.
        gender: as stated by the person.
        consent_status: only "granted" allows generation and publication.
        consent_date: ISO 8601 date of that status, or empty.
        consent_evidence: where the signed form is kept, or empty.
        start_seconds: start of the clip in the source video; None lets ingest choose.
    """

    id: str
    gender: Gender
    consent_status: ConsentStatus
    consent_date: str = ""
    consent_evidence: str = ""
    start_seconds: float | None = None


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

    @property
    def input_sha256(self) -> str:
        """Digest by which files made from this one name it in their `inputs`."""
        return self.unmarked_sha256 or self.sha256


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts "2" before "10"."""
    parts: list[tuple[int, int | str]] = []
    digits = ""
    for character in text + "\0":
        if character.isascii() and character.isdigit():
            digits += character
            continue
        if digits:
            parts.append((0, int(digits)))
            digits = ""
        parts.append((1, character))
    return tuple(parts)


def is_identity_id(text: str) -> bool:
    """Whether a file stem or table entry is an identity: a whole number from 1 without leading zeros."""
    return text.isascii() and text.isdigit() and text[0] != "0"


def read_identities(path: Path) -> dict[str, Identity]:
    """Reads identities.csv, checked, in natural order of the ids.

    Raises:
        InputError: missing file or column, duplicate id, unknown gender or consent status.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in IDENTITY_COLUMNS[:3] if name not in (reader.fieldnames or [])]
            if missing:
                raise InputError(f"{path}: column '{missing[0]}' is missing; needed: {', '.join(IDENTITY_COLUMNS)}")
            rows = list(enumerate(reader, start=2))
    except FileNotFoundError as error:
        needed = ",".join(IDENTITY_COLUMNS)
        raise InputError(f"{path}: not found; write it with the columns {needed}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not readable as UTF-8 CSV ({error}); save it as UTF-8") from error
    identities: dict[str, Identity] = {}
    for line, row in rows:
        identity = _parse_identity(f"{path}:{line}", row)
        if identity.id in identities:
            raise InputError(f"{path}:{line}: id '{identity.id}' stands there twice; keep one of the two rows")
        identities[identity.id] = identity
    return dict(sorted(identities.items(), key=lambda item: natural_key(item[0])))


def _parse_identity(place: str, row: dict[str, Any]) -> Identity:
    values = {key: (row.get(key) or "").strip() for key in (*IDENTITY_COLUMNS, "start_seconds")}
    if not is_identity_id(values["id"]):
        raise InputError(f"{place}: id '{values['id']}' is not a number from 1 up without leading zeros; renumber it")
    for key, allowed in (("gender", get_args(Gender)), ("consent_status", get_args(ConsentStatus))):
        if values[key] not in allowed:
            raise InputError(f"{place}: {key} '{values[key]}' of identity {values['id']}; use {', '.join(allowed)}")
    try:
        start = float(values["start_seconds"]) if values["start_seconds"] else None
    except ValueError as error:
        raise InputError(f"{place}: start_seconds '{values['start_seconds']}' is not a number of seconds") from error
    return Identity(
        id=values["id"],
        gender=values["gender"],  # type: ignore[arg-type]
        consent_status=values["consent_status"],  # type: ignore[arg-type]
        consent_date=values["consent_date"],
        consent_evidence=values["consent_evidence"],
        start_seconds=start,
    )


def format_identities(identities: dict[str, Identity]) -> str:
    """The CSV text of identities, in natural order."""
    lines = [[*IDENTITY_COLUMNS, "start_seconds"]]
    for key in sorted(identities, key=natural_key):
        row = dataclasses.asdict(identities[key])
        lines.append(["" if row[name] is None else str(row[name]) for name in lines[0]])
    return "".join(",".join(_quote(cell) for cell in line) + "\n" for line in lines)


def _quote(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell


def format_record(record: FileRecord) -> str:
    """One JSON line without its newline; the same record gives the same bytes."""
    return json.dumps(dataclasses.asdict(record), ensure_ascii=False, sort_keys=True)


def parse_record(line: str) -> FileRecord:
    """Reads one line of metadata.jsonl.

    Raises:
        ValueError, TypeError: the line is no such record (a torn last line after a kill, for example).
    """
    return FileRecord(**json.loads(line))


@dataclass
class StageResult:
    """What one run of a stage did.

    Attributes:
        made: files newly made, by sample_id.
        kept: files that were finished before and still fit.
        refused: name -> one line that says why it was not made.
    """

    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What plan.json holds.

    Attributes:
        seed: of every draw.
        folds: identity -> fold, 0 to 4.
        pairs: subset -> (target, source) of each fake, in natural order.
    """

    seed: int
    folds: dict[str, int] = field(default_factory=dict)
    pairs: dict[str, list[Pair]] = field(default_factory=dict)


def format_plan(plan: Plan) -> str:
    """The text of plan.json: one person and one pair a line, so that a change reads well in a diff."""
    folds = ",\n".join(f"    {json.dumps(identity)}: {fold}" for identity, fold in plan.folds.items())
    pairs = ",\n".join(
        f"    {json.dumps(subset)}: [" + ",".join(f"\n      {json.dumps(pair)}" for pair in drawn) + "\n    ]"
        for subset, drawn in plan.pairs.items()
    )
    head = f'  "format": {PLAN_FORMAT},\n  "seed": {plan.seed},\n  "num_folds": {NUM_FOLDS},\n'
    return "{\n" + head + f'  "folds": {{\n{folds}\n  }},\n  "pairs": {{\n{pairs}\n  }}\n}}\n'


def read_plan(path: Path) -> Plan:
    """Reads plan.json.

    Raises:
        WorkspaceError: the file is damaged or of a newer format.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > PLAN_FORMAT:
            raise WorkspaceError(f"{path}: format {content['format']} is newer than this program; upgrade it")
        pairs = {subset: [(str(a), str(b)) for a, b in drawn] for subset, drawn in content["pairs"].items()}
        return Plan(content["seed"], dict(content["folds"]), pairs)
    except (ValueError, KeyError, TypeError) as error:
        raise WorkspaceError(f"{path}: damaged ({error}); delete it and run `tooling plan` again") from error
