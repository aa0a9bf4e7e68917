"""build: the Parquet shards of a release, media embedded, one config for each subset and `metadata` for all of them.

The rows, their columns and their order are those of `homologous_deepfake`. The writer is our own because row groups
decide what a reader has to fetch and hold: the libraries' writers aim at 100 MB, or store paths instead of media.
Rows pass through one row group at a time, so memory does not grow with the number of files.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, count, pairwise
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Features

from homologous_deepfake import CROSSING, METADATA, SPLIT_FOLDS, SUBSETS, complete_row, make_features, read_rows
from tooling.errors import InputError, WorkspaceError
from tooling.release.folder import CHECKSUMS, Release, arrow_schema, read_release
from tooling.settings import ShardSettings
from tooling.work.engine import Progress, no_progress
from tooling.workspace.files import file_sha256, naming_full_disk, sync_file, sync_folder, write_text
from tooling.workspace.layout import Workspace

# What the Hub's own uploads use; equal values let it store equal chunks of two releases once.
CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
FRAME_COLUMNS_BYTES = 60  # of one frame's box, landmarks and flag
CARD_NAMES = ("README.md", "pictures")  # they describe the shards that are replaced
SCRIPT_NAMES = ("homologous_deepfake.py", "__init__.py")

Row = dict[str, Any]
Element = TypeVar("Element")


@dataclass(frozen=True)
class _Part:
    """One split of one config: its rows, the bytes of each, and how a row becomes all columns of its config."""

    config: str
    split: str
    rows: Sequence[Row]
    sizes: Sequence[int]
    complete: Callable[[Row], Row]


def build_release(workspace: Workspace, out: Path, *, progress: Progress = no_progress) -> Release:
    """Writes the shards of everything the workspace holds, and only then puts them in the place of older ones.

    The card of an older release goes with its shards: write it anew with `tooling card`.

    Args:
        workspace: held by the caller's lock.
        out: the release's folder: new, empty, or a release of before.
        progress: told of each embedded file.

    Raises:
        InputError: `out` is another kind of folder.
        WorkspaceError: nothing to build, or a record, identity, fold, track or file is missing, damaged or changed.
    """
    out = out.resolve()
    staging = staging_folder(out)
    _recover(out, staging)
    _check_out(out)
    parts = _parts(workspace)
    with naming_full_disk(out.parent):
        try:
            _write_all(parts, staging / "data", workspace.settings.shards, progress)
            _swap_in(out, staging)
        finally:
            _recover(out, staging)
    return read_release(out)


def rewrite_shard(path: Path, staged: Path, removed: Collection[str], settings: ShardSettings) -> None:
    """Writes a shard anew without some of its rows; with nothing to remove, the same bytes.

    Args:
        path: the shard, in its config's folder.
        staged: where to write; synced, but not put in the shard's place.
        removed: sample_ids of the rows to leave out.
    """
    staged.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetFile(path) as file:
        schema = arrow_schema(Features.from_arrow_schema(file.schema_arrow))
        groups = _grouped(_rows_left(file, removed), settings.row_group_bytes, is_one_fold=path.parent.name != METADATA)
        with _open_writer(staged, schema) as writer:
            for group in groups:
                # Parquet names the elements of lists in its own way: the cast gives them Arrow's names again.
                table = pa.concat_tables(group).combine_chunks().cast(schema)
                writer.write_table(table, row_group_size=len(group))
    sync_file(staged)


def read_checksums(out: Path) -> dict[str, str]:
    """Digests of a release's shards, named as in `Shard.path`, in the order of the configs."""
    lines = (out / "data" / CHECKSUMS).read_text("utf-8").splitlines()
    return {f"data/{name}": digest for digest, _, name in (line.partition("  ") for line in lines)}


def rewrite_checksums(out: Path, changed: Mapping[str, str | None]) -> None:
    """Puts new digests of some shards into a release's SHA256SUMS; None drops the line."""
    old = read_checksums(out)
    kept = {name: digest for name, digest in (old | dict(changed)).items() if digest}
    if kept != old:
        text = "".join(f"{digest}  {name.removeprefix('data/')}\n" for name, digest in kept.items())
        write_text(out / "data" / CHECKSUMS, text)


def staging_folder(out: Path) -> Path:
    """Where a build or rewrite of a release writes first: beside it, on the same file system."""
    return out.with_name(f".{out.name}.building")


def recover(out: Path) -> None:
    """Removes what a killed build or rewrite left beside a release."""
    _recover(out, staging_folder(out))


def _recover(out: Path, staging: Path) -> None:
    """Removes what was staged; older shards that were moved aside, with no new ones in their place, go back first."""
    if (staging / "old").exists() and not (out / "data").exists():
        (staging / "old").rename(out / "data")
    shutil.rmtree(staging, ignore_errors=True)


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; name a folder for the release")
    for name in SCRIPT_NAMES:
        if (out / name).exists():
            raise InputError(f"{out}: holds {name}, with which datasets refuses the folder; name a new one")
    if out.exists() and any(out.iterdir()) and not (out / "data" / CHECKSUMS).is_file():
        raise InputError(f"{out}: is not empty and no release; name a new folder")


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
            parts.append(_Part(METADATA, split, rows, [0] * len(rows), _common_columns))
    return parts


def _num_bytes(workspace: Workspace, row: Row) -> int:
    return workspace.path(row["path"]).stat().st_size + FRAME_COLUMNS_BYTES * int(row["num_frames"])


def _embed(root: str, subset: str, row: Row) -> Row:
    """All columns of a row, encoded for Arrow, with the file's bytes in the place of its path."""
    features, media = make_features(subset), SUBSETS[subset].media
    # The media column is filled in by hand: encoding it would load torch, and drop bytes whose path exists.
    features.pop(media)
    with _naming_problem(f"{root}/{row['path']}"):
        encoded: Row = features.encode_example(complete_row(root, row))
    path = Path(root, row["path"])
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != row["sha256"]:
        raise WorkspaceError(f"{path}: differs from its record (sha256); delete it and run its stage again")
    return {media: {"bytes": content, "path": path.name}, **encoded}


def _common_columns(row: Row) -> Row:
    features = make_features(METADATA)
    encoded: Row = features.encode_example({name: row[name] for name in features})
    return encoded


@contextmanager
def _naming_problem(place: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise WorkspaceError(str(error)) from error
    except (KeyError, TypeError, IndexError) as error:
        message = f"{place}: its record, fold or track is damaged ({error!r}); run `tooling verify`"
        raise WorkspaceError(message) from error


def _write_all(parts: Sequence[_Part], data: Path, settings: ShardSettings, progress: Progress) -> None:
    total, done, checksums = sum(len(part.rows) for part in parts), count(1), []
    progress(0, total, "")
    for part in parts:
        schema = arrow_schema(make_features(part.config))
        shards = _cut(part, settings)
        for number, shard in enumerate(shards):
            name = f"{part.config}/{part.split}-{number:05d}-of-{len(shards):05d}.parquet"
            path = data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with _open_writer(path, schema) as writer:
                for group in _row_groups(part, shard, settings.row_group_bytes):
                    rows = []
                    for row in group:
                        rows.append(part.complete(row))
                        progress(next(done), total, row["sample_id"])
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=len(rows))
            sync_file(path)
            checksums.append(f"{file_sha256(path)}  {name}\n")
        sync_folder(data / part.config)
    write_text(data / CHECKSUMS, "".join(checksums))


def _cut(part: _Part, settings: ShardSettings) -> list[range]:
    """Rows of each shard: about equal bytes, none above the limit, several for training."""
    num_rows, limit = len(part.rows), settings.max_shard_bytes * 0.98  # the rest is for the footer
    num_shards = math.ceil(sum(part.sizes) / limit) or 1
    if part.split == "train" and part.config != METADATA:
        num_shards = max(num_shards, min(settings.min_train_shards, num_rows))
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
    return _grouped(rows, max_bytes, is_one_fold=part.config != METADATA)


def _grouped(
    rows: Iterator[tuple[Element, int | None, int]], max_bytes: int, *, is_one_fold: bool
) -> Iterator[list[Element]]:
    """Rows (each with its fold and bytes) fetched together: of one fold, so that a reader of some folds fetches these
    alone."""
    group: list[Element] = []
    group_bytes, group_fold = 0, None
    for row, fold, num_bytes in rows:
        is_other_fold = is_one_fold and fold != group_fold
        if group and (is_other_fold or group_bytes + num_bytes > max_bytes):
            yield group
            group, group_bytes = [], 0
        group.append(row)
        group_bytes, group_fold = group_bytes + num_bytes, fold
    if group:
        yield group


@contextmanager
def _open_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    with pq.ParquetWriter(path, schema, **_writer_options(schema)) as writer:
        writer.add_key_value_metadata({"content_defined_chunking": json.dumps(CHUNKING)})
        yield writer


def _rows_left(file: pq.ParquetFile, removed: Collection[str]) -> Iterator[tuple[pa.Table, int | None, int]]:
    """Each row as a table of its own, with its fold and bytes; one row group is held at a time."""
    for number in range(file.num_row_groups):
        table = file.read_row_group(number)
        sample_ids, folds = table["sample_id"].to_pylist(), table["fold"].to_pylist()
        sizes = [0] * table.num_rows
        media = next((name for name in ("video", "image") if name in table.column_names), None)
        if media is not None:
            lengths = pc.binary_length(pc.struct_field(table[media], "bytes")).to_pylist()
            num_frames = table["num_frames"].to_pylist()
            sizes = [length + FRAME_COLUMNS_BYTES * count for length, count in zip(lengths, num_frames, strict=True)]
        for at, sample_id in enumerate(sample_ids):
            if sample_id not in removed:
                yield table.slice(at, 1), folds[at], sizes[at]


def _writer_options(schema: pa.Schema) -> dict[str, Any]:
    """Media are compressed already: their columns are stored as they are, without dictionary and statistics."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    columns = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    leaves = [columns.column(at).path for at in range(len(columns))]
    others = [leaf for leaf in leaves if leaf.partition(".")[0] not in ("video", "image")]
    return {
        "compression": {leaf: "zstd" if leaf in others else "none" for leaf in leaves},
        "use_dictionary": others,
        "write_statistics": others,
        "write_page_index": True,
        "use_content_defined_chunking": CHUNKING,
    }


def _swap_in(out: Path, staging: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in CARD_NAMES:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if (out / "data").exists():
        (out / "data").rename(staging / "old")
    (staging / "data").rename(out / "data")
    sync_folder(out)
