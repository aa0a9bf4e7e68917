"""Predictions of a detector, checked strictly against the rows of a release.

A file of predictions is CSV, Parquet or JSON lines with the columns `sample_id`, `score` (higher means fake) and, if a
sample has several, `frame`. Of a release only the config `metadata` is read: rows, no media.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from huggingface_hub import HfFileSystem, errors
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled
from numpy.typing import ArrayLike, NDArray

from generation.errors import GenerationError, one_line
from generation.json_text import parse_json
from homologous_deepfake import GENDERS, LABELS, METADATA, METHODS, SPLIT_FOLDS, SUBSETS, subset_of

COLUMNS = ("sample_id", "score", "frame")
REQUIRED_COLUMNS = COLUMNS[:2]
REMOTE_NAME = re.compile(r"([\w.-]+/[\w.-]+?)(?:@(.+))?")
MAX_NAMES = 5
SETTINGS_KEY = b"homologous_deepfake"  # of a Parquet file: what it was written from, JSON

_HTTPError: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]  # of the HTTP library the client uses
READ_ERRORS = (_HTTPError, HFValidationError, OfflineModeIsEnabled, OSError, ValueError, pa.ArrowException)

Row = dict[str, Any]


class PredictionError(GenerationError):
    """Predictions that do not fit their release, or a release that cannot be read."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of one detector, each row of `rows` with at least one.

    Attributes:
        name: of the detector, or of what it was trained on.
        rows: the samples, in the order of the release, as `read_samples` returns them.
        sample: int (N,), the row that each prediction is of, ascending.
        frame: int (N,), its frame; -1 where none is given.
        score: float64 (N,), finite, higher means fake.
    """

    name: str
    rows: tuple[Row, ...]
    sample: NDArray[np.int64]
    frame: NDArray[np.int64]
    score: NDArray[np.float64]

    @cached_property
    def is_fake(self) -> NDArray[np.bool_]:
        """bool (len(rows),)."""
        return np.array([row["label"] == LABELS[1] for row in self.rows], bool)

    @cached_property
    def mean_score(self) -> NDArray[np.float64]:
        """float64 (len(rows),): the mean over the frames of each sample, whatever their order."""
        parts = np.split(self.score, np.flatnonzero(np.diff(self.sample)) + 1)
        return np.array([math.fsum(part) / len(part) for part in parts])

    def column(self, name: str) -> NDArray[Any]:
        """object (len(rows),): one column of the rows."""
        values = np.empty(len(self.rows), object)
        values[:] = [row[name] for row in self.rows]
        return values


def read_samples(release: str | Path) -> dict[str, Row]:
    """Rows of a release by sample_id, in its order, with `subset` and `split`; label, method and gender are names.

    Args:
        release: a folder, or `REPO_ID` or `REPO_ID@REVISION` of a dataset repository at the Hub.

    Raises:
        PredictionError: there is no release, it is damaged, or the Hub refuses or cannot be reached.
    """
    path, tables = str(release), []
    try:
        file_system, paths = config_shards(path, METADATA)
        for path in paths:
            tables.append((path, pq.read_table(path, filesystem=file_system)))
    except READ_ERRORS as error:
        raise PredictionError(f"{path}: cannot be read as a release ({one_line(error)}); correct that") from error
    if not tables:
        raise PredictionError(f"{release}: no release with a config `{METADATA}`; name a built release")
    rows: dict[str, Row] = {}
    order = [*SPLIT_FOLDS, *sorted({split_of_shard(path) for path, _ in tables} - set(SPLIT_FOLDS))]
    names = {"label": LABELS, "method": METHODS, "gender": GENDERS}
    for path, table in sorted(tables, key=lambda pair: (order.index(split_of_shard(pair[0])), pair[0])):
        for row in table.to_pylist():
            if wrong := _wrong_column(row):
                raise PredictionError(f"{path}: has a row without a usable {wrong}; build or fetch the release again")
            classes = {key: _class_name(row[key], values) for key, values in names.items()}
            rows[row["sample_id"]] = {**row, **classes, "subset": subset_of(row), "split": split_of_shard(path)}
    return rows


def config_shards(release: str, config: str) -> tuple[HfFileSystem | None, list[str]]:
    """The file system, None for the disk's, and the paths of the shards of a config, in reading order."""
    if Path(release).is_dir():
        return None, sorted(path.as_posix() for path in Path(release, "data", config).glob("*.parquet"))
    found = REMOTE_NAME.fullmatch(release)
    if found is None:
        raise FileNotFoundError("neither a folder nor REPO_ID@REVISION")
    revision = (found[2] or "main").replace("/", "%2F")
    file_system = HfFileSystem(skip_instance_cache=True)
    return file_system, sorted(file_system.glob(f"datasets/{found[1]}@{revision}/data/{config}/*.parquet"))


def release_digest(samples: Mapping[str, Row]) -> str:
    """Hexadecimal; changes with any video or image of a release."""
    lines = "".join(f"{name} {row['sha256']}\n" for name, row in sorted(samples.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def split_of_shard(path: str) -> str:
    """The split that a shard's name says."""
    return path.rpartition("/")[2].partition("-")[0]


def _wrong_column(row: Row) -> str:
    """The first column that a row of `metadata` lacks, or has with a value that cannot be; "" if all is well."""
    texts = ("sample_id", "path")
    wrong = [name for name in texts if not isinstance(row.get(name), str)]
    wrong += [
        name for name, known in (("label", LABELS), ("method", METHODS)) if row.get(name) not in range(len(known))
    ]
    wrong += [] if row.get("gender") in (None, -1, *range(len(GENDERS))) else ["gender"]
    wrong += [] if isinstance(row.get("num_frames", 1), int) else ["num_frames"]
    wrong += [] if wrong or subset_of(row) in SUBSETS else ["path"]
    pair = row.get("identity_pair")
    if pair is not None and not (isinstance(pair, dict) and {*map(type, pair.values())} <= {str, type(None)}):
        wrong.append("identity_pair")
    wrong += [
        name
        for name in ("identity", "attribute", "real_path", "sha256")
        if not isinstance(row.get(name, ""), str | None)
    ]
    return wrong[0] if wrong else ""


def _class_name(number: int | None, names: Sequence[str]) -> str | None:
    return names[number] if number is not None and number >= 0 else None


def read_predictions(
    paths: Sequence[Path],
    samples: Mapping[str, Row],
    *,
    name: str,
    split: str | None = "test",
    subsets: Collection[str] = (),
) -> Predictions:
    """Reads predictions and checks them against the rows of their release.

    Args:
        paths: files of one detector, as of its folds; together they have each prediction once.
        samples: all rows of the release, from `read_samples`.
        name: see `Predictions`.
        split: every row of it must have a prediction, None for every split; so must every row of each other split of
            which any row has one.
        subsets: those that are expected; all if empty.

    Raises:
        PredictionError: a file that cannot be read; a column that is unknown or missing; a score that is not finite;
            a prediction that is missing, doubled, or of something else than an expected row of the release.
    """
    source = ", ".join(map(str, paths))
    known = {row["split"] for row in samples.values()}
    if split is not None and split not in known:
        raise PredictionError(f"{source}: the release has no split {split}; choose one of {', '.join(sorted(known))}")
    number_of = {sample_id: number for number, sample_id in enumerate(samples)}
    found: dict[tuple[int, int], float] = {}
    for path in paths:
        _check_origin(path, samples)
        for place, sample_id, score, frame in _checked_lines(path):
            if sample_id not in number_of:
                raise PredictionError(f"{place}: is not a sample of this release; score the release that you name")
            row = samples[sample_id]
            if subsets and row["subset"] not in subsets:
                raise PredictionError(f"{place}: is of {row['subset']}, which is not evaluated; leave it out or add it")
            if frame >= (row["num_frames"] or 1):
                raise PredictionError(f"{place}: frame {frame} of {row['num_frames']}; count frames from 0")
            key = number_of[sample_id], frame
            if key in found:
                raise PredictionError(f"{place}: has a second prediction{_of_frame(frame)}; leave one")
            found[key] = score
    _check_complete(source, samples, {number for number, _ in found}, split, subsets)
    keys = sorted(found)
    for (number, frame), (next_number, _) in pairwise(keys):
        if frame < 0 and number == next_number:  # -1 sorts first
            sample_id = list(samples)[number]
            raise PredictionError(f"{source}: {sample_id}: has predictions with a frame and without; leave one kind")
    rows = list(samples.values())
    used, sample = np.unique([number for number, _ in keys], return_inverse=True)
    frames = np.array([frame for _, frame in keys], np.int64)
    scores = np.array([found[key] for key in keys], np.float64)
    return Predictions(name, tuple(rows[number] for number in used), sample, frames, scores)


def write_predictions(
    out: Path, sample_ids: Sequence[str], frames: ArrayLike, scores: ArrayLike, described: Mapping[str, Any]
) -> None:
    """Writes a Parquet file of predictions, all at once, so that a file that is there is complete.

    Args:
        out: in an existing folder.
        sample_ids, frames, scores: one of each for every prediction.
        described: what it was made with, JSON; `release` is the `release_digest` of what was scored.
    """
    columns = {
        "sample_id": sample_ids,
        "frame": np.asarray(frames, np.int32),
        "score": np.asarray(scores, np.float64),
    }
    table = pa.table(columns).replace_schema_metadata({SETTINGS_KEY: json.dumps(described)})
    write_whole(out, lambda staged: pq.write_table(table, staged))


def read_settings(path: Path) -> dict[str, Any]:
    """What a Parquet file says it was written from; empty if that is not `write_predictions`' own.

    Raises:
        OSError, ValueError: the file cannot be read.
    """
    found: dict[str, Any] = parse_json((pq.read_schema(path).metadata or {}).get(SETTINGS_KEY, b"{}"))
    return found


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Lets a file appear as a whole or not at all: `write` fills one beside it, which is then renamed."""
    staged = path.with_name(f".{path.name}.unfinished")
    write(staged)
    staged.replace(path)


def read_whole_lines(path: Path) -> list[bytes]:
    """Lines of a file that a run appends to; a torn last line, of a run that was killed, is cut off. [] without one."""
    if not path.exists():
        return []
    lines, end, _ = path.read_bytes().rpartition(b"\n")
    os.truncate(path, len(lines + end))
    return lines.splitlines()


def _check_origin(path: Path, samples: Mapping[str, Row]) -> None:
    """Sample ids of two releases may be the same; what `write_predictions` wrote names its release."""
    if path.suffix.lower() != ".parquet":
        return
    try:
        digest = read_settings(path).get("release")
    except (OSError, ValueError, AttributeError):
        return  # damage is named where the file is read
    if digest is not None and digest != release_digest(samples):
        raise PredictionError(f"{path}: is of another release or version; name the one that was scored")


def _check_complete(
    source: str, samples: Mapping[str, Row], found: Collection[int], split: str | None, subsets: Collection[str]
) -> None:
    rows = list(samples.items())
    begun = {rows[number][1]["split"] for number in found}
    begun |= {split} if split is not None else {row["split"] for _, row in rows}
    missing = [
        sample_id
        for number, (sample_id, row) in enumerate(rows)
        if number not in found and row["split"] in begun and (not subsets or row["subset"] in subsets)
    ]
    if missing:
        more = f" and {len(missing) - MAX_NAMES} more" if len(missing) > MAX_NAMES else ""
        names = ", ".join(missing[:MAX_NAMES]) + more
        where = " and ".join(sorted({samples[sample_id]["split"] for sample_id in missing}))
        raise PredictionError(f"{source}: no prediction of {names}; score every row of {where}")


def _checked_lines(path: Path) -> Iterator[tuple[str, str, float, int]]:
    """Place for messages, sample_id, score and frame (-1 if none) of each prediction in a file."""
    table = _read_table(path)
    columns = [table.get(name, [None] * len(table["sample_id"])) for name in COLUMNS]
    for number, (sample_id, score, frame) in enumerate(zip(*columns, strict=True), 1):
        if not isinstance(sample_id, str) or not sample_id:
            raise PredictionError(f"{path}: row {number}: has no sample_id; name the sample")
        place = f"{path}: row {number}: {sample_id}"
        yield place, sample_id, _finite(place, score), _frame_number(place, frame)


def _finite(place: str, value: Any) -> float:
    try:
        score = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise PredictionError(f"{place}: score is {one_line(value) or 'empty'}; use a finite number")
    return score


def _frame_number(place: str, value: Any) -> int:
    if value in (None, "") or (isinstance(value, float) and math.isnan(value)):
        return -1
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if re.fullmatch(r"[0-9]{1,9}", text) is None:
        raise PredictionError(f"{place}: frame is {one_line(value)}; use a number from 0")
    return int(text)


def _of_frame(frame: int) -> str:
    return f" of frame {frame}" if frame >= 0 else ""


def _read_table(path: Path) -> dict[str, list[Any]]:
    """Columns of a file, of COLUMNS only."""
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".jsonl": _read_json}
    read = readers.get(path.suffix.lower())
    if read is None:
        raise PredictionError(f"{path}: not a file of predictions; use {', '.join(readers)}")
    try:
        names, columns = read(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise PredictionError(f"{path}: cannot be read ({one_line(error)}); write it again") from error
    for name in names:
        if name not in COLUMNS:
            raise PredictionError(f"{path}: unknown column {name!r}; use {', '.join(COLUMNS)} alone")
        if names.count(name) > 1:
            raise PredictionError(f"{path}: column {name!r} is there twice; leave one")
    for name in REQUIRED_COLUMNS:
        if name not in names:
            raise PredictionError(f"{path}: has no column {name!r}; add it")
    return dict(zip(names, columns, strict=True))


def _read_csv(path: Path) -> tuple[list[str], list[list[Any]]]:
    names = dict.fromkeys(COLUMNS, pa.string())
    options = pyarrow.csv.ConvertOptions(column_types=names, strings_can_be_null=False)
    table = pyarrow.csv.read_csv(path, convert_options=options)
    return table.column_names, [column.to_pylist() for column in table.columns]


def _read_parquet(path: Path) -> tuple[list[str], list[list[Any]]]:
    table = pq.ParquetFile(path).read()
    return table.column_names, [column.to_pylist() for column in table.columns]


def _read_json(path: Path) -> tuple[list[str], list[list[Any]]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            rows.append(parse_json(line, object_pairs_hook=list))
            if not isinstance(rows[-1], list) or not all(isinstance(pair, tuple) for pair in rows[-1]):
                raise ValueError(f"line {number} is not an object")
    names = list(dict.fromkeys(name for row in rows for name, _ in row))
    doubled = [name for row in rows if len(row) != len(dict(row)) for name, _ in row]
    if doubled:
        raise ValueError(f"a key is there twice in {', '.join(doubled)}")
    values = [dict(row) for row in rows]
    return names or list(REQUIRED_COLUMNS), [[row.get(name) for row in values] for name in names or REQUIRED_COLUMNS]
