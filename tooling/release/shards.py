"""Shards on disk: writing them row group by row group, rewriting them without some rows, and their checksums.

Row groups decide what a reader has to fetch and hold. A release is written beside its folder first, so that a killed
command leaves the old shards or the new ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Features

from generation.errors import one_line
from homologous_deepfake import MEDIA_COLUMNS, METADATA
from tooling.errors import InputError
from tooling.release.folder import CHECKSUMS, DAMAGE, arrow_schema, listed_shards
from tooling.settings import ShardSettings
from tooling.workspace.files import sync_file, write_text
from tooling.workspace.locks import hold_output

PAGE_BYTES = 64 * 1024  # about what the Hub's storage cuts a file into, to store equal pieces once
FRAME_COLUMNS_BYTES = 60  # of one frame's box, landmarks and flag

Element = TypeVar("Element")


@contextmanager
def open_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A Parquet writer for `write_group`; media columns are stored as they are."""
    with pq.ParquetWriter(path, schema, **_writer_options(schema)) as writer:
        yield writer


def write_group(writer: pq.ParquetWriter, table: pa.Table) -> None:
    """Writes a table of the writer's columns as one row group.

    A page of media ends with a file, however the table holds them: what a removed row leaves keeps its bytes, and the
    Hub, which stores equal bytes once, is not sent them again. Content-defined chunking of Arrow would cut them at the
    same places, since it cuts between values too, after hashing every byte, for twice the time.
    """
    columns = [
        pa.chunked_array([column.slice(row, 1).chunk(0) for row in range(len(column))], column.type)
        if name in MEDIA_COLUMNS
        else column.combine_chunks()
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    writer.write_table(pa.table(columns, schema=table.schema), row_group_size=len(table))


def grouped_rows(
    rows: Iterator[tuple[Element, int | None, int]], max_bytes: int, *, is_one_fold: bool
) -> Iterator[list[Element]]:
    """Groups of rows that a reader fetches together.

    Args:
        rows: each with its fold and size.
        max_bytes: of a group of several rows.
        is_one_fold: whether a group is of one fold, so that a reader of some folds fetches no others.
    """
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


def rewrite_shard(path: Path, staged: Path, removed: Collection[str], settings: ShardSettings) -> None:
    """Writes a shard again without some of its rows; with nothing to remove, the same bytes.

    Args:
        path: the shard, in its config's folder.
        staged: where to write; synced, but not moved to the shard's path.
        removed: sample_ids of the rows to leave out.

    Raises:
        InputError: the shard is damaged; nothing is staged.
    """
    staged.parent.mkdir(parents=True, exist_ok=True)
    try:
        with pq.ParquetFile(path) as file:
            schema = arrow_schema(Features.from_arrow_schema(file.schema_arrow))
            rows, is_one_fold = _rows_left(file, removed), path.parent.name != METADATA
            groups = grouped_rows(rows, settings.row_group_bytes, is_one_fold=is_one_fold)
            with open_writer(staged, schema) as writer:
                for group in groups:
                    # Parquet names the elements of lists in its own way: the cast gives them Arrow's names again.
                    write_group(writer, pa.concat_tables(group).cast(schema))
    except DAMAGE as error:
        staged.unlink(missing_ok=True)
        raise InputError(f"{path}: damaged ({one_line(error)}); run `tooling build` again") from error
    sync_file(staged)


def read_checksums(out: Path) -> dict[str, str]:
    """Digests of a release's shards, named as in `Shard.path`, in the order of the configs.

    Raises:
        InputError: the list is damaged.
    """
    return {f"data/{name}": digest for name, digest in listed_shards(out)}


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


def locked_release(out: Path) -> AbstractContextManager[None]:
    """Holds a release's folder for one command that writes or sends it; the lock's file lies beside it.

    Raises:
        WorkspaceError: another command has it, or the disk has no locks.
    """
    out = out.resolve()
    return hold_output(out, f"{out}: another command is writing or sending this release; wait until it ends")


def recover(out: Path) -> None:
    """Removes what a killed build or rewrite staged beside a release.

    Older shards that were moved aside, with no new ones at their path, go back first.
    """
    staging = staging_folder(out)
    if (staging / "old").exists() and not (out / "data").exists():
        (staging / "old").rename(out / "data")
    shutil.rmtree(staging, ignore_errors=True)


def _rows_left(file: pq.ParquetFile, removed: Collection[str]) -> Iterator[tuple[pa.Table, int | None, int]]:
    """Each row as a table of its own, with its fold and bytes; one row group is held at a time."""
    for number in range(file.num_row_groups):
        table = file.read_row_group(number)
        sample_ids, folds = table["sample_id"].to_pylist(), table["fold"].to_pylist()
        sizes = [0] * table.num_rows
        if media := [name for name in MEDIA_COLUMNS if name in table.column_names]:
            lengths = (pc.binary_length(pc.struct_field(table[name], "bytes")).to_pylist() for name in media)
            num_frames = table["num_frames"].to_pylist()
            sizes = [
                sum(length or 0 for length in of_row) + FRAME_COLUMNS_BYTES * count
                for *of_row, count in zip(*lengths, num_frames, strict=True)
            ]
        for at, sample_id in enumerate(sample_ids):
            if sample_id not in removed:
                yield table.slice(at, 1), folds[at], sizes[at]


def _writer_options(schema: pa.Schema) -> dict[str, Any]:
    """Media are compressed already: their columns are stored as they are, without dictionary and statistics."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    columns = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    leaves = [columns.column(at).path for at in range(len(columns))]
    others = [leaf for leaf in leaves if leaf.partition(".")[0] not in MEDIA_COLUMNS]
    return {
        "compression": {leaf: "zstd" if leaf in others else "none" for leaf in leaves},
        "use_dictionary": others,
        "write_statistics": others,
        "write_page_index": True,
        "data_page_size": PAGE_BYTES,
    }
