"""build: the Parquet shards of a release, media embedded, one config for each subset and `metadata` for all of them.

The rows, their columns and their order are those of `homologous_deepfake`. The writer is our own because row groups
decide what a reader has to fetch and hold: the libraries' writers aim at 100 MB, or store paths instead of media.
Rows pass through one row group at a time, so memory does not grow with the number of files.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import struct
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, count, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Features

from homologous_deepfake import (
    CROSSING,
    MEDIA_COLUMNS,
    METADATA,
    SPLIT_FOLDS,
    SUBSETS,
    complete_row,
    make_features,
    mask_path,
    read_rows,
    subset_of,
)
from tooling.errors import InputError, WorkspaceError
from tooling.release.folder import CHECKSUMS, Release, arrow_schema, read_release
from tooling.release.shards import FRAME_COLUMNS_BYTES, grouped_rows, open_writer, recover, staging_folder, write_group
from tooling.settings import ShardSettings
from tooling.work.engine import Progress, no_progress
from tooling.workspace.files import file_sha256, naming_full_disk, sync_file, sync_folder, write_text
from tooling.workspace.layout import Workspace
from tooling.workspace.records import command_for

MOST_AT_ONCE = 8  # shards; each holds a row group
CARD_NAMES = ("README.md", "pictures")  # they describe the shards that are replaced
SCRIPT_NAMES = ("homologous_deepfake.py", "__init__.py")

Row = dict[str, Any]


@dataclass(frozen=True)
class _Part:
    """One split of one config: its rows, the bytes of each, and how a row becomes all columns of its config."""

    config: str
    split: str
    rows: Sequence[Row]
    sizes: Sequence[int]
    complete: Callable[[Row], Row]


def build_release(workspace: Workspace, out: Path, *, progress: Progress = no_progress) -> Release:
    """Writes the shards of everything in the workspace, and only then replaces older ones by them.

    The card of an older release goes with its shards: write it again with `tooling card`.

    Args:
        workspace: held by the caller's lock.
        out: the release's folder: new, empty, or a release of before.
        progress: called for each embedded file.

    Raises:
        InputError: `out` is another kind of folder.
        WorkspaceError: nothing to build, or a record, identity, fold, track or file is missing, damaged or changed.
    """
    out = out.resolve()
    staging = staging_folder(out)
    recover(out)
    _check_out(out)
    parts = _parts(workspace)
    with naming_full_disk(out.parent):
        try:
            _write_all(workspace, parts, staging / "data", progress)
            _swap_in(out, staging)
        finally:
            recover(out)
    return read_release(out)


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; name a folder for the release")
    for name in SCRIPT_NAMES:
        if (out / name).exists():
            raise InputError(f"{out}: contains {name}, with which datasets refuses the folder; name a new one")
    if out.exists() and any(out.iterdir()) and not (out / "data" / CHECKSUMS).is_file():
        raise InputError(f"{out}: is not empty and not a release; name a new folder")


def _parts(workspace: Workspace) -> list[_Part]:
    """Every split of every config, in the order of the catalogue; `metadata` is the last."""
    root, parts = str(workspace.root), []
    everything: dict[str, list[Row]] = {split: [] for split in (*SPLIT_FOLDS, CROSSING)}
    for subset in SUBSETS:
        with _naming_problem(f"{root}/{subset}"):
            by_split = read_rows(root, subset)
        for split, rows in by_split.items():
            sizes = [_num_bytes(workspace, row) for row in rows]
            parts.append(_Part(subset, split, rows, sizes, partial(_embed, root, subset)))
            everything[split] += rows
    if not parts:
        raise WorkspaceError(f"{workspace.root}: no finished files to build from; run `tooling ingest SOURCES` first")
    for split, rows in everything.items():
        if rows:
            complete = partial(_encoded, make_features(METADATA), root=root)
            parts.append(_Part(METADATA, split, rows, [0] * len(rows), complete))
    return parts


def _num_bytes(workspace: Workspace, row: Row) -> int:
    media = sum(workspace.path(path).stat().st_size for path, _ in _media_of(row).values())
    return media + FRAME_COLUMNS_BYTES * int(row["num_frames"])


def _media_of(row: Row) -> dict[str, tuple[str, str]]:
    """Path and sha256 of the file in each media column of a row of `read_rows`."""
    files = {SUBSETS[subset_of(row)].media: (row["path"], row["sha256"])}
    if row["mask_sha256"]:
        files["mask"] = (mask_path(row["path"]), row["mask_sha256"])
    return files


def _embed(root: str, subset: str, row: Row) -> Row:
    """All columns of a row, encoded for Arrow, with the files' bytes in place of their paths."""
    with _naming_problem(f"{root}/{row['path']}"):
        complete = complete_row(root, row)
    # Media columns are filled in by hand: encoding them would load torch, and drop bytes whose path exists.
    features = {name: feature for name, feature in make_features(subset).items() if name not in MEDIA_COLUMNS}
    encoded = _encoded(Features(features), complete, root)
    for column, (name, digest) in _media_of(row).items():
        path = Path(root, name)
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise WorkspaceError(f"{path}: differs from its record (sha256); delete it and run {command_for(subset)}")
        encoded[column] = {"bytes": content, "path": path.name}
    return encoded


def _encoded(features: Features, row: Row, root: str) -> Row:
    try:
        encoded: Row = features.encode_example({name: row[name] for name in features})
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise _damaged_record(row, root, error) from error
    return encoded


def _damaged_record(row: Row, root: str, error: Exception) -> WorkspaceError:
    way_out = f"delete it and run {command_for(subset_of(row))}"
    return WorkspaceError(f"{root}/{row['path']}: its record is damaged ({error!r:.200}); {way_out}")


@contextmanager
def _naming_problem(path: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise WorkspaceError(str(error)) from error
    except (KeyError, TypeError, IndexError) as error:
        message = f"{path}: its record, fold or track is damaged ({error!r:.200}); run `tooling verify`"
        raise WorkspaceError(message) from error


def _write_all(workspace: Workspace, parts: Sequence[_Part], data: Path, progress: Progress) -> None:
    """Writes all shards, several at a time, and then their checksums."""
    settings, root = workspace.settings.shards, str(workspace.root)
    of_training = {part.config: sum(part.sizes) for part in parts if part.split == "train"}
    shards = {
        f"{part.config}/{part.split}-{number:05d}-of-{len(cut):05d}.parquet": (part, rows)
        for part in parts
        for cut in [_cut(part, of_training.get(part.config, 0), settings)]
        for number, rows in enumerate(cut)
    }
    total, done, lock = sum(len(part.rows) for part in parts), count(1), threading.Lock()
    progress(0, total, "")

    def write(name: str) -> str:
        part, rows = shards[name]
        schema = arrow_schema(make_features(part.config))
        with open_writer(data / name, schema) as writer:
            for group in _row_groups(part, rows, settings.row_group_bytes):
                completed = []
                for row in group:
                    completed.append(part.complete(row))
                    with lock:
                        progress(next(done), total, row["sample_id"])
                write_group(writer, _as_table(completed, schema, root))
        sync_file(data / name)
        return file_sha256(data / name)

    folders = [data / config for config in dict.fromkeys(part.config for part in parts)]
    for folder in folders:
        folder.mkdir(parents=True)
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), MOST_AT_ONCE)) as pool:
        digests = list(pool.map(write, shards))  # after an error, those not begun are cancelled
    for folder in folders:
        sync_folder(folder)
    write_text(data / CHECKSUMS, "".join(f"{digest}  {name}\n" for name, digest in zip(shards, digests, strict=True)))


def _as_table(rows: Sequence[Row], schema: pa.Schema, root: str) -> pa.Table:
    """Rows as Arrow holds them; the bytes of media are not copied."""
    others = pa.schema([field for field in schema if field.name not in MEDIA_COLUMNS])
    try:
        table = pa.Table.from_pylist([{name: row[name] for name in others.names} for row in rows], schema=others)
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        for row in rows if len(rows) > 1 else ():
            _as_table([row], schema, root)  # finds the one
        raise _damaged_record(rows[0], root, error) from error
    columns = [
        _media_column([row.get(field.name) for row in rows], field.type)
        if field.name in MEDIA_COLUMNS
        else table.column(field.name)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _media_column(values: Sequence[Row | None], kind: pa.StructType) -> pa.ChunkedArray:
    chunks = []
    for value in values:
        if value is None:
            chunks.append(pa.array([None], kind))
            continue
        content = value["bytes"]
        offsets = pa.py_buffer(struct.pack("=2i", 0, len(content)))
        stored = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(content)])
        chunks.append(pa.StructArray.from_arrays([stored, pa.array([value["path"]])], fields=list(kind)))
    return pa.chunked_array(chunks, kind)


def _cut(part: _Part, train_bytes: int, settings: ShardSettings) -> list[range]:
    """Rows of each shard: about equal bytes in all splits of a config, none above the limit."""
    num_rows, limit = len(part.rows), settings.max_shard_bytes * 0.98  # the rest is for the footer
    num_shards = math.ceil(sum(part.sizes) / limit) or 1
    if train_bytes:
        wanted = round(settings.min_train_shards * sum(part.sizes) / train_bytes)
        num_shards = max(num_shards, min(wanted, num_rows))
    while True:
        shards = _even_ranges(part.sizes, num_shards)
        if num_shards == num_rows or all(sum(part.sizes[at] for at in shard) <= limit for shard in shards):
            return shards
        num_shards += 1


def _even_ranges(sizes: Sequence[int], num_ranges: int) -> list[range]:
    sums, cuts = list(accumulate(sizes)), [0]
    for number in range(1, num_ranges):
        nearest = bisect_right(sums, sums[-1] * number / num_ranges)
        cuts.append(max(cuts[-1] + 1, min(nearest, len(sizes) - num_ranges + number)))
    return [range(start, stop) for start, stop in pairwise([*cuts, len(sizes)])]


def _row_groups(part: _Part, shard: range, max_bytes: int) -> Iterator[list[Row]]:
    rows = ((part.rows[at], part.rows[at]["fold"], part.sizes[at]) for at in shard)
    return grouped_rows(rows, max_bytes, is_one_fold=part.config != METADATA)


def _swap_in(out: Path, staging: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in CARD_NAMES:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if (out / "data").exists():
        (out / "data").rename(staging / "old")
    (staging / "data").rename(out / "data")
    sync_folder(out)
