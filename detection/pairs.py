"""The homologous view: each fake with the real clips that it was made from, each person with every fake.

    for pair in load_pairs("lab/homologous_deepfake", "swap_video", "train", streaming=True):
        pair["fake"], pair["real"], pair["source"]  # rows; frame k of all three shows the same moment

Rows have all columns of their config, fakes their mask only if it is asked for. `video` and `mask` are
{"bytes", "path"}, for `detection.frames` or a decoder of your own; `label`, `method` and `gender` are numbers, as
`datasets` gives them.

Streamed, rows are fetched by row groups, and each row group once for all pairs that are near each other: pairs are
divided into units that share no real clip, the units are the shards that workers and nodes take, and a row group waits
in an unnamed temporary file until the last pair of its unit that needs it. Memory holds one row group and the row that
is yielded, whatever the size of the release. Units are as small as they can be with at most 8 % more bytes fetched than
the yielded rows have, each counted once: in a release of full size, the people of one fold and gender. What was read
before a state was saved is not fetched again when it is resumed.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from huggingface_hub import HfFileSystem
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from generation.errors import one_line
from homologous_deepfake import CROSSING, MASKED_SUBSETS, people_of

MOST_BYTES = 1.08  # fetched, in bytes of the distinct rows that are yielded; footers come on top
MASK = "mask"
_REAL = "raw_video"
_LIGHT = ["sample_id", "fold", "gender"]
_READERS = 8

Item = dict[str, Any]  # what a yielded dict is made from: a _Place for each row


class _Place(NamedTuple):
    """Where a row lies: the number of its table, its row group there, its number in that. Prepared tables have one."""

    table: int
    group: int
    at: int


@dataclass(frozen=True)
class _Entry:
    """What is known of a row before it is fetched."""

    sample_id: str
    fold: int | None
    gender: int | None
    place: _Place

    @classmethod
    def read(cls, values: Sequence[Any], place: _Place) -> _Entry:
        """From the values of the columns _LIGHT."""
        sample_id, fold, gender = values
        return cls(sample_id, fold, gender, place)


def load_pairs(
    release: str,
    subset: str,
    split: str,
    *,
    streaming: bool = False,
    masks: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Any:
    """Each fake of a subset and split with its real clip and, if a second person took part, the source's clip.

    Frame k of all clips of a pair shows the same moment, and the face's box in it is the same in `fake` and `real`.

    Args:
        release: a release's folder, or OWNER/NAME of its repository.
        subset: swap_video, avatarify_video or edit_video.
        split: train, validation, test or crossing.
        streaming: fetch rows as they are iterated over, without keeping anything; else download and prepare the rows
            first, as `datasets.load_dataset` does.
        masks: whether fakes have the column mask, which is up to half as large as the video; else streaming does not
            fetch it. In releases from before there were masks, no fake has one.
        revision, token: see `datasets.load_dataset`.

    Returns:
        Of {"fake": row, "real": row, "source": row or None}: a `datasets.IterableDataset` if streamed, whose order is
        that of its units, not of the split, and whose num_shards is their number (nodes fetch only their own units if
        num_shards is a multiple of the number of nodes; else each fetches all, as `datasets` does it); else a
        `PreparedRows` in the order of the split. Both go into a DataLoader with `detection.frames.collate`.

    Raises:
        ValueError: no such release, subset or split, or a real clip is missing from it.
    """
    if subset not in MASKED_SUBSETS:
        raise ValueError(f"{subset}: its rows have no real clip; choose one of {', '.join(MASKED_SUBSETS)}")
    tables = (_Streamed if streaming else _Prepared)(str(release), revision, token, masks=masks)
    real = _by_id(tables.entries(_REAL, None if split == CROSSING else split))
    items, groups = [], []
    for fake in tables.entries(subset, split):
        target, source = (*people_of(fake.sample_id), None)[:2]
        clips = [_find(real, fake, person) for person in (target, source) if person is not None]
        items.append({"fake": fake.place, "real": clips[0].place, "source": clips[1].place if source else None})
        groups.append({(clip.fold, clip.gender) for clip in clips})
    return tables.dataset(items, groups)


def load_identities(
    release: str,
    split: str,
    *,
    subsets: Sequence[str] | None = None,
    streaming: bool = False,
    masks: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Any:
    """One row for each person of a split: the real clip and every fake made from it.

    Args:
        release, split, streaming, masks, revision, token: see `load_pairs`; fakes of the split crossing are in no row.
        subsets: of the fakes; None for all fake videos of the release.

    Returns:
        As `load_pairs`, of {"identity": the person's number, "real": row, "as_target": rows, "as_source": rows}.
        as_target: fakes of this clip, which show its moments and have its boxes, in the order of the subsets.
        as_source: fakes of other people's clips, with this person's face (swap_video) or motion (avatarify_video).

    Raises:
        ValueError: see `load_pairs`.
    """
    tables = (_Streamed if streaming else _Prepared)(str(release), revision, token, masks=masks)
    people = _by_id(tables.entries(_REAL, split))
    items: dict[str, Item] = {
        name: {"identity": people_of(name)[0], "real": entry.place, "as_target": [], "as_source": []}
        for name, entry in people.items()
    }
    for subset in subsets or [name for name in MASKED_SUBSETS if tables.has(name, split)]:
        if subset not in MASKED_SUBSETS:
            raise ValueError(f"{subset}: its rows have no real clip; choose from {', '.join(MASKED_SUBSETS)}")
        for fake in tables.entries(subset, split):
            for role, person in zip(("as_target", "as_source"), people_of(fake.sample_id), strict=False):
                items[_find(people, fake, person).sample_id][role].append(fake.place)
    return tables.dataset(list(items.values()), [{(entry.fold, entry.gender)} for entry in people.values()])


class PreparedRows(torch.utils.data.Dataset[dict[str, Any]]):
    """Pairs or identities of prepared rows: `len` and random access, so that a DataLoader can shuffle them."""

    def __init__(self, tables: Sequence[Any], items: Sequence[Item]) -> None:
        self._tables, self._items = tables, items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, at: int) -> dict[str, Any]:
        return _filled(self._items[at], lambda place: self._tables[place.table][place.at])


def _by_id(entries: Iterable[_Entry]) -> dict[str, _Entry]:
    return {entry.sample_id: entry for entry in entries}


def _find(real: Mapping[str, _Entry], fake: _Entry, person: str) -> _Entry:
    name = f"{_REAL}/{person}"
    if name not in real:
        raise ValueError(f"{fake.sample_id}: {name} is missing from the release; load it with all of its subsets")
    return real[name]


def _filled(item: Item, row_at: Callable[[_Place], dict[str, Any]]) -> dict[str, Any]:
    """An item with rows in place of their places."""

    def fill(value: Any) -> Any:
        if isinstance(value, _Place):
            return row_at(value)
        return [fill(one) for one in value] if isinstance(value, list) else value

    return {name: fill(value) for name, value in item.items()}


def _places(item: Item) -> Iterator[_Place]:
    for value in item.values():
        yield from [value] if isinstance(value, _Place) else value if isinstance(value, list) else []


class _Tables:
    """The configs of a release."""

    def __init__(self, release: str, revision: str | None, token: str | bool | None, *, masks: bool) -> None:
        self.release, self.options = release, {"revision": revision, "token": token}
        self.masks = masks
        self._builders: dict[str, Any] = {}

    def builder(self, name: str) -> Any:
        """The builder of a config, its files resolved.

        Raises:
            ValueError: no such release or config.
        """
        if name not in self._builders:
            try:
                self._builders[name] = datasets.load_dataset_builder(self.release, name, **self.options)
            except (ValueError, OSError) as error:
                problem = f"cannot load {name} ({one_line(error)})"
                raise ValueError(f"{self.release}: {problem}; name a release's folder or repository") from error
        return self._builders[name]

    def has(self, name: str, split: str) -> bool:
        """Whether the release has rows of a config in a split."""
        return name in self.builder(_REAL).builder_configs and split in self.builder(name).config.data_files

    def files(self, name: str, split: str | None) -> dict[str, list[str]]:
        """Split -> paths or addresses of a config's shards; only of one split, if it is given.

        Raises:
            ValueError: no such config or split.
        """
        files = {str(key): list(paths) for key, paths in (self.builder(name).config.data_files or {}).items()}
        if split is not None and split not in files:
            raise ValueError(f"{self.release}: {name} has no split {split}; choose one of {', '.join(files)}")
        return files if split is None else {split: files[split]}


class _Prepared(_Tables):
    """Configs that `datasets` downloads and prepares."""

    def __init__(self, *arguments: Any, masks: bool) -> None:
        super().__init__(*arguments, masks=masks)
        self._rows: list[Any] = []

    def entries(self, name: str, split: str | None) -> list[_Entry]:
        found, parts = [], list(self.files(name, split))
        self.builder(name).download_and_prepare()
        for part in parts:
            rows = self.builder(name).as_dataset(part)
            columns = (rows.select_columns(_LIGHT)[:][column] for column in _LIGHT)
            for at, values in enumerate(zip(*columns, strict=True)):
                found.append(_Entry.read(values, _Place(len(self._rows), 0, at)))
            self._rows.append(self._without_decoding(rows))
        return found

    def _without_decoding(self, rows: Any) -> Any:
        if MASK in rows.column_names:
            rows = rows.cast_column(MASK, datasets.Video(decode=False)) if self.masks else rows.remove_columns(MASK)
        return rows.cast_column("video", datasets.Video(decode=False))

    def dataset(self, items: Sequence[Item], groups: Sequence[Set[Hashable]]) -> PreparedRows:
        return PreparedRows(self._rows, items)


@dataclass(frozen=True)
class _Shard:
    """A Parquet file, its footer, and the columns of its rows."""

    path: str
    token: str | bool | None
    footer: pq.FileMetaData
    columns: tuple[str, ...]

    @classmethod
    def opened(cls, path: str, token: str | bool | None, *, masks: bool) -> tuple[_Shard, pa.Table]:
        """The shard, and its columns _LIGHT."""
        with _open(path, token) as file, pq.ParquetFile(file, pre_buffer=True) as parquet:
            columns = tuple(name for name in parquet.schema_arrow.names if masks or name != MASK)
            return cls(path, token, parquet.metadata, columns), parquet.read(columns=_LIGHT)

    def read(self, group: int) -> pa.Table:
        with (
            _open(self.path, self.token) as file,
            pq.ParquetFile(file, metadata=self.footer, pre_buffer=True) as opened,
        ):
            return opened.read_row_group(group, columns=list(self.columns))

    def num_bytes(self, group: int) -> int:
        """Of its columns."""
        described = (self.footer.row_group(group).column(at) for at in range(self.footer.num_columns))
        return sum(one.total_compressed_size for one in described if one.path_in_schema.split(".")[0] in self.columns)

    def num_rows(self, group: int) -> int:
        return int(self.footer.row_group(group).num_rows)


def _open(path: str, token: str | bool | None) -> BinaryIO:
    """A file that reads just the ranges that it is asked for."""
    if "://" not in path:
        return open(path, "rb")
    file: BinaryIO = HfFileSystem(endpoint=datasets.config.HF_ENDPOINT, token=token).open(path, cache_type="none")
    return file


class _Streamed(_Tables):
    """Configs whose row groups are fetched when they are needed."""

    def __init__(self, *arguments: Any, masks: bool) -> None:
        super().__init__(*arguments, masks=masks)
        self._shards: list[_Shard] = []

    def entries(self, name: str, split: str | None) -> list[_Entry]:
        paths = [path for part in self.files(name, split).values() for path in part]
        found = []
        with ThreadPoolExecutor(_READERS) as pool:
            opened = list(pool.map(lambda path: _Shard.opened(path, self.options["token"], masks=self.masks), paths))
        for shard, light in opened:
            rows = zip(*(light[column].to_pylist() for column in _LIGHT), strict=True)
            for group in range(shard.footer.num_row_groups):
                places = (_Place(len(self._shards), group, at) for at in range(shard.num_rows(group)))
                found += [_Entry.read(next(rows), place) for place in places]
            self._shards.append(shard)
        return found

    def dataset(self, items: Sequence[Item], groups: Sequence[Set[Hashable]]) -> Any:
        units = [_with_last_uses(number, unit) for number, unit in enumerate(self._units(items, groups))]
        rows = datasets.IterableDataset.from_generator(_generate_items, gen_kwargs={"units": units})
        return rows.map(_RowFetcher(self._shards), remove_columns=["unit", "item", "last"])

    def _units(self, items: Sequence[Item], groups: Sequence[Set[Hashable]]) -> list[list[Item]]:
        """Items that are fetched together: the smallest units that fetch little more than they yield.

        Each way links more items than the one before it: those with a common row, those of one fold and gender, those
        with a common row group. In the last way each row group is fetched once.
        """
        rows = [set(_places(item)) for item in items]
        row_groups = [{place[:2] for place in _places(item)} for item in items]
        num_yielded = sum(map(self._num_bytes, {place for item in items for place in _places(item)}))
        units: list[list[Item]] = []
        for ways in (rows,), (rows, groups), (rows, groups, row_groups):
            links = [frozenset[Hashable]().union(*keys) for keys in zip(*ways, strict=True)]
            units = [[items[at] for at in unit] for unit in _linked(links)]
            needed = [{place[:2] for item in unit for place in _places(item)} for unit in units]
            num_fetched = sum(self._shards[shard].num_bytes(group) for unit in needed for shard, group in unit)
            if num_fetched <= MOST_BYTES * num_yielded:
                break
        return units

    def _num_bytes(self, place: _Place) -> float:
        shard = self._shards[place.table]
        return shard.num_bytes(place.group) / shard.num_rows(place.group)


def _linked(links: Sequence[Set[Hashable]]) -> list[list[int]]:
    """Numbers of those that are linked, directly or by others; in ascending order."""
    keys = {key: number for number, key in enumerate(dict.fromkeys(key for one in links for key in one))}
    edges = [(at, len(links) + keys[key]) for at, one in enumerate(links) for key in one]
    size = len(links) + len(keys)
    graph = coo_array((np.ones(len(edges)), np.array(edges).reshape(-1, 2).T), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    units: dict[int, list[int]] = {}
    for at, label in enumerate(labels[: len(links)].tolist()):
        units.setdefault(label, []).append(at)
    return list(units.values())


def _with_last_uses(number: int, unit: Sequence[Item]) -> list[dict[str, Any]]:
    """Each item with the row groups that none after it needs."""
    later: set[tuple[int, ...]] = set()
    found = []
    for item in reversed(unit):
        needed = {place[:2] for place in _places(item)}
        found.append({"unit": number, "item": item, "last": sorted(needed - later)})
        later |= needed
    return found[::-1]


def _generate_items(units: Sequence[Sequence[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Places of rows; `datasets` divides the list of units over workers and nodes, and counts what was yielded."""
    for unit in units:
        yield from unit


class _RowFetcher:
    """Puts rows in place of their places. Row groups wait in temporary files that have no names, so none is left."""

    def __init__(self, shards: Sequence[_Shard]) -> None:
        self._shards = shards
        self._unit = -1
        self._groups: dict[tuple[int, int], pa.Table] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_shards": self._shards, "_unit": -1, "_groups": {}}

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        if example["unit"] != self._unit:  # the one before may have been left early
            self._unit, self._groups = example["unit"], {}
        row = _filled(example["item"], self._row)
        for shard, group in example["last"]:
            self._groups.pop((shard, group), None)
        return row

    def _row(self, place: _Place) -> dict[str, Any]:
        key = (place.table, place.group)
        if key not in self._groups:
            self._groups[key] = _on_disk(self._shards[place.table].read(place.group))
        row: dict[str, Any] = self._groups[key].slice(place.at, 1).to_pylist()[0]
        return row


def _on_disk(table: pa.Table) -> pa.Table:
    """The same table, its memory mapped from a temporary file that goes with it."""
    with tempfile.TemporaryFile() as file:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).read_all()
