"""Who is filmed, with consent: identities.csv."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tooling.errors import InputError
from tooling.workspace.records import natural_key

Gender = Literal["male", "female"]
ConsentStatus = Literal["granted", "refused", "withdrawn", "unknown"]
Glasses = Literal["yes", "no"]

SYNTHETIC_EVIDENCE = "synthetic actor, no person"  # consent evidence of whom `tooling actors` draws
IDENTITY_COLUMNS = ("id", "gender", "consent_status", "consent_date", "consent_evidence")
MEANT = re.compile(r"identit(y|ies)( \(\d+\))?\.(csv|xlsx?|ods|numbers|tsv|txt)(\.txt|\.csv)?", re.IGNORECASE)
PART_COLUMNS = ("start_seconds", "end_seconds")  # optional: which part of the source video becomes the clip
OPTIONAL_COLUMNS = (*PART_COLUMNS, "glasses")


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
        glasses: whether the person wears any in the clip; None where nobody said.
    """

    id: str
    gender: Gender
    consent_status: ConsentStatus
    consent_date: str = ""
    consent_evidence: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    glasses: Glasses | None = None

    @property
    def is_synthetic(self) -> bool:
        """Whether this is nobody, but an actor that `tooling actors` draws."""
        return self.consent_evidence == SYNTHETIC_EVIDENCE


def is_identity_id(text: str) -> bool:
    """Whether a file stem or table entry is an identity: a whole number from 1 without leading zeros."""
    return text.isascii() and text.isdigit() and text[0] != "0"


def find_identities(path: Path) -> bool:
    """Whether there is an identities.csv at a path.

    Raises:
        InputError: there is none, but a file beside it that was meant as one: Identities.csv, identities.csv.txt.
    """
    if path.is_file() and path.name in os.listdir(path.parent):  # some disks take any case
        return True
    beside = sorted(os.listdir(path.parent)) if path.parent.is_dir() else []
    meant = [name for name in beside if MEANT.fullmatch(name)]
    if meant:
        problem = f"not found, but there is {meant[0]}"
        raise InputError(f"{path}: {problem}; save it as CSV in UTF-8 under the name {path.name}")
    return False


def read_identities(path: Path) -> dict[str, Identity]:
    """Reads identities.csv, checked, in natural order of the ids.

    A row is one line: a quote that is not closed must not swallow the next person. Empty lines are left out.

    Raises:
        InputError: missing file or column, a row of more than one line, more cells than columns, duplicate id, unknown
            gender, consent status or value of glasses.
    """
    if not find_identities(path):
        raise InputError(f"{path}: not found; write it with the columns {','.join(IDENTITY_COLUMNS)}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = list(_read_rows(path, csv.reader(io.StringIO(text, newline=""), strict=True)))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not readable as UTF-8 ({error}); save it as CSV in UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); correct that") from error
    identities: dict[str, Identity] = {}
    for where, row in rows:
        identity = _parse_identity(where, row)
        if identity.id in identities:
            raise InputError(f"{where}: id '{identity.id}' appears twice; keep one of the two rows")
        identities[identity.id] = identity
    return dict(sorted(identities.items(), key=lambda item: natural_key(item[0])))


def _read_rows(path: Path, reader: Any) -> Iterator[tuple[str, dict[str, str]]]:
    """Place, and column -> cell, of each row that is not empty."""
    columns: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problem = f"a quote is not closed, or stands inside of a cell ({error})"
            raise InputError(f'{path}:{line}: {problem}; write a cell with quotes as "a ""b"" c"') from error
        if cells is None:
            break
        if reader.line_num > line:
            problem = f"a quote is open until line {reader.line_num}"
            raise InputError(f"{path}:{line}: {problem}; close it, a row must be one line")
        is_split_at_tabs = any("\t" in cell for cell in cells)
        cells = [" ".join(cell.split()) for cell in cells]  # also line separators that other readers would split at
        if not any(cells):
            continue
        if not columns:
            columns = _check_columns(path, cells, is_split_at_tabs=is_split_at_tabs)
        elif any(cells[len(columns) :]):
            problem = f"has {len(cells)} cells, the first line {len(columns)}"
            raise InputError(f"{path}:{line}: {problem}; put a cell that has a comma in quotes")
        else:
            yield f"{path}:{line}", dict(zip(columns, cells, strict=False))
    if not columns:
        raise InputError(f"{path}: is empty; write the columns {','.join(IDENTITY_COLUMNS)} and a row for each person")


def _check_columns(path: Path, columns: list[str], *, is_split_at_tabs: bool) -> list[str]:
    shown = ", ".join(columns)[:80]
    if is_split_at_tabs or ";" in columns[0] or columns[0].startswith("sep="):
        raise InputError(f"{path}: its first line is '{shown}'; separate the columns by commas (CSV in UTF-8)")
    missing = [name for name in IDENTITY_COLUMNS[:3] if name not in columns]
    if missing:
        needed = ", ".join(IDENTITY_COLUMNS)
        raise InputError(f"{path}: column '{missing[0]}' is missing, there are {shown}; needed: {needed}")
    twice = [name for name in (*IDENTITY_COLUMNS, *OPTIONAL_COLUMNS) if columns.count(name) > 1]
    if twice:
        raise InputError(f"{path}: column '{twice[0]}' appears twice; keep one of the two")
    return columns


def _parse_identity(where: str, row: dict[str, str]) -> Identity:
    values = {key: row.get(key, "") for key in (*IDENTITY_COLUMNS, *OPTIONAL_COLUMNS)}
    if not is_identity_id(values["id"]):
        raise InputError(f"{where}: id '{values['id']}' is not a number from 1 up without leading zeros; renumber it")
    for key, allowed in (("gender", get_args(Gender)), ("consent_status", get_args(ConsentStatus))):
        if values[key] not in allowed:
            raise InputError(f"{where}: {key} '{values[key]}' of identity {values['id']}; use {', '.join(allowed)}")
    if values["glasses"] not in ("", *get_args(Glasses)):
        way_out = f"use {', '.join(get_args(Glasses))}, or leave it empty"
        raise InputError(f"{where}: glasses '{values['glasses']}' of identity {values['id']}; {way_out}")
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
        glasses=values["glasses"] or None,  # type: ignore[arg-type]
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
    optional = [
        name
        for name in OPTIONAL_COLUMNS
        if name == "start_seconds" or any(getattr(person, name) is not None for person in identities.values())
    ]
    lines = [[*IDENTITY_COLUMNS, *optional]]
    for key in sorted(identities, key=natural_key):
        row = dataclasses.asdict(identities[key])
        lines.append(["" if row[name] is None else str(row[name]) for name in lines[0]])
    return "".join(",".join(_quote(cell) for cell in line) + "\n" for line in lines)


def _quote(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell
