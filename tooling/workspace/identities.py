"""Who is filmed, with consent: identities.csv."""

from __future__ import annotations

import csv
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tooling.errors import InputError
from tooling.workspace.records import natural_key

Gender = Literal["male", "female"]
ConsentStatus = Literal["granted", "refused", "withdrawn", "unknown"]

SYNTHETIC_EVIDENCE = "synthetic actor, no person"  # consent evidence of whom `tooling actors` draws
IDENTITY_COLUMNS = ("id", "gender", "consent_status", "consent_date", "consent_evidence")
PART_COLUMNS = ("start_seconds", "end_seconds")  # optional: which part of the source video becomes the clip


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
        end_seconds: with it, ingest chooses a part between start_seconds (or the source's start) and this; None leaves
            start_seconds as it says.
    """

    id: str
    gender: Gender
    consent_status: ConsentStatus
    consent_date: str = ""
    consent_evidence: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None

    @property
    def is_synthetic(self) -> bool:
        """Whether this is nobody, but an actor that `tooling actors` draws."""
        return self.consent_evidence == SYNTHETIC_EVIDENCE


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
            raise InputError(f"{path}:{line}: id '{identity.id}' appears twice; keep one of the two rows")
        identities[identity.id] = identity
    return dict(sorted(identities.items(), key=lambda item: natural_key(item[0])))


def _parse_identity(where: str, row: dict[str, Any]) -> Identity:
    values = {key: (row.get(key) or "").strip() for key in (*IDENTITY_COLUMNS, *PART_COLUMNS)}
    if not is_identity_id(values["id"]):
        raise InputError(f"{where}: id '{values['id']}' is not a number from 1 up without leading zeros; renumber it")
    for key, allowed in (("gender", get_args(Gender)), ("consent_status", get_args(ConsentStatus))):
        if values[key] not in allowed:
            raise InputError(f"{where}: {key} '{values[key]}' of identity {values['id']}; use {', '.join(allowed)}")
    start, end = (_parse_seconds(where, name, values[name]) for name in PART_COLUMNS)
    if end is not None and end <= (start or 0.0):
        raise InputError(f"{where}: end_seconds {end:g} is not after start_seconds {start or 0.0:g}; correct it")
    return Identity(
        id=values["id"],
        gender=values["gender"],  # type: ignore[arg-type]
        consent_status=values["consent_status"],  # type: ignore[arg-type]
        consent_date=values["consent_date"],
        consent_evidence=values["consent_evidence"],
        start_seconds=start,
        end_seconds=end,
    )


def _parse_seconds(where: str, name: str, text: str) -> float | None:
    try:
        seconds = float(text) if text else None
    except ValueError as error:
        raise InputError(
            f"{where}: {name} '{text}' is not a number of seconds; correct it or leave it empty"
        ) from error
    if seconds is not None and not math.isfinite(seconds):
        raise InputError(f"{where}: {name} '{text}' is not a number of seconds; correct it or leave it empty")
    return seconds


def format_identities(identities: dict[str, Identity]) -> str:
    """The CSV text of identities, in natural order."""
    has_ends = any(person.end_seconds is not None for person in identities.values())
    lines = [[*IDENTITY_COLUMNS, *(PART_COLUMNS if has_ends else PART_COLUMNS[:1])]]
    for key in sorted(identities, key=natural_key):
        row = dataclasses.asdict(identities[key])
        lines.append(["" if row[name] is None else str(row[name]) for name in lines[0]])
    return "".join(",".join(_quote(cell) for cell in line) + "\n" for line in lines)


def _quote(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell
