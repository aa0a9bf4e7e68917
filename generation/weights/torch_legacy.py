"""The legacy format of `torch.save`: five pickles in a row, then the raw numbers of every storage.

The pickles are a magic number, a version, a description of the machine, the values, and the list of storages. Values
refer to storages by persistent ids; saved modules add their classes with source text, which stays unread.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from generation.errors import WeightsError
from generation.weights.mapped import ByteReader, printable
from generation.weights.pickle_stream import Name, Refused, Rules, kind_of, read_stream
from generation.weights.storages import STORAGE_NAMES, Storage, element_type, torch_rules

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
COUNT_BYTES = 8


def read_legacy(view: memoryview, place: str, bags: frozenset[str] = frozenset()) -> Any:
    """Reads a legacy file.

    Raises:
        WeightsError: another kind of file, damaged, or it contains a refused value, which is named.
    """
    return _read(ByteReader(view, place), torch_rules(bags))


def read_storage(view: memoryview, place: str) -> Storage:
    """Reads a legacy stream of one storage and nothing else, as `torch.storage` pickles it.

    Raises:
        WeightsError: it contains anything else, or is damaged.
    """
    value = _read(ByteReader(view, place), Rules(names=STORAGE_NAMES))
    if type(value) is not Storage:
        raise WeightsError(f"{place}: contains {kind_of(value)} where a storage is expected; do not use this file")
    return value


def _read(source: ByteReader, rules: Rules) -> Any:
    _check_head(source)
    start = source.position
    storages = _Storages()
    # The numbers come last, and their counts are in the values: the values are read once for the counts, then again.
    tensors = {name: lambda *_: None for name in rules.calls if name.startswith("torch._utils.")}
    read_stream(source, replace(rules, calls={**rules.calls, **tensors}, persistent=storages.announce))
    _take_storages(source, storages)
    if source.position != len(source.view):
        raise WeightsError(f"{source.place}: has bytes after its end; it is damaged, fetch it again")
    return read_stream(ByteReader(source.view, source.place, start), replace(rules, persistent=storages.find))


def _check_head(source: ByteReader) -> None:
    if read_stream(source, Rules()) != MAGIC:
        raise WeightsError(f"{source.place}: is a pickle, but not of torch.save; name a .pth, .pt or .tar of torch")
    version, machine = read_stream(source, Rules()), read_stream(source, Rules())
    if version != VERSION or type(machine) is not dict:
        raise WeightsError(f"{source.place}: has an unknown version of the legacy format; fetch it again")
    if machine.get("little_endian") is not True:
        raise WeightsError(f"{source.place}: was written on a big-endian machine; fetch the publisher's usual file")


class _Storages:
    """Storages by key: first announced by the values, then found in them."""

    def __init__(self) -> None:
        self.announced: dict[str, tuple[Any, int]] = {}
        self.found: dict[str, Storage] = {}

    def announce(self, number: Any) -> Any:
        """The first reading: notes dtype and size of each storage."""
        if _is_module(number):
            return number[1]
        kind, key, num_elements, _ = _parts(number)
        entry = (element_type(kind), num_elements)
        if self.announced.setdefault(key, entry) != entry:
            raise Refused(f"two storages of the name {printable(key)}")
        return None

    def find(self, number: Any) -> Any:
        """The second reading: the storage itself, or the part of it that a view metadata names."""
        if _is_module(number):
            return number[1]
        _, key, _, part = _parts(number)
        storage = self.found[key]
        if part is None:
            return storage
        _, offset, size = part
        if not all(type(n) is int and n >= 0 for n in (offset, size)) or offset + size > storage.num_elements:
            raise Refused(f"a view that reaches out of the storage {printable(key)}")
        item = storage.dtype.itemsize
        return Storage(storage.dtype, size, storage.view[offset * item : (offset + size) * item])


def _is_module(number: Any) -> bool:
    """Whether it is ("module", class, file, source) of a saved module; only an allowed class gets here."""
    is_module: bool = type(number) is tuple and len(number) == 4 and number[0] == "module" and type(number[1]) is Name
    return is_module


def _parts(number: Any) -> tuple[Any, str, int, Any]:
    """("storage", class, key, device, elements, view or None) -> class, key, elements, view."""
    if type(number) is not tuple or len(number) not in (5, 6) or number[0] != "storage":
        raise Refused("a persistent id of something else than a storage")
    key, num_elements = number[2], number[4]
    if type(key) is not str or type(num_elements) is not int or num_elements < 0:
        raise Refused("a persistent id without key or size")
    return number[1], key, num_elements, number[5] if len(number) == 6 else None


def _take_storages(source: ByteReader, storages: _Storages) -> None:
    keys = read_stream(source, Rules())
    is_list = type(keys) is list and all(type(key) is str for key in keys)
    if not is_list or len(set(keys)) != len(keys) or set(keys) != set(storages.announced):
        raise WeightsError(f"{source.place}: lists other storages than its values use; it is damaged, fetch it again")
    for key in keys:
        dtype, num_elements = storages.announced[key]
        counted = int.from_bytes(source.take(COUNT_BYTES), "little", signed=True)
        if counted != num_elements:
            raise WeightsError(
                f"{source.place}: storage {printable(key)} has {counted:,} elements, {num_elements:,} were announced; "
                "it is damaged, fetch it again"
            )
        storages.found[key] = Storage(dtype, counted, source.take(counted * dtype.itemsize))
