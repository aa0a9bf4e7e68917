"""The zip format of `torch.save`: a stored zip of one pickle (data.pkl) and one record for each storage (data/KEY).

The library reads the directory of the zip. Records are then mapped, so each must be stored uncompressed, lie inside the
file, occur once, overlap no other, have one name in both of its headers, and match its CRC.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any, cast

from generation.errors import WeightsError
from generation.weights.archive import unsafe_name
from generation.weights.mapped import ByteReader, printable
from generation.weights.pickle_stream import Refused, read_stream
from generation.weights.storages import Storage, element_type, torch_rules

MAX_RECORDS = 200_000
MAX_PICKLE_BYTES = 256 << 20
LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")


@dataclass(frozen=True)
class Record:
    """One file of the zip: begin and end of its bytes, and their CRC-32."""

    start: int
    end: int
    crc: int


def read_zip(view: memoryview, place: str, bags: frozenset[str] = frozenset()) -> Any:
    """Reads a zip file of `torch.save`.

    Raises:
        WeightsError: another kind of zip, damaged, or it contains a refused value, which is named.
    """
    try:
        with zipfile.ZipFile(cast(IO[bytes], _Mapped(view))) as file:
            entries = file.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        raise WeightsError(f"{place}: damaged or cut short ({printable(str(error))}); fetch it again") from error
    records = _records(view, place, entries)
    folder = _folder(place, records)
    order = _content(view, place, records, f"{folder}/byteorder", b"little")
    if bytes(order) != b"little":
        raise WeightsError(f"{place}: was written on a big-endian machine; fetch the publisher's usual file")
    storages: dict[str, Storage] = {}

    def find(number: Any) -> Storage:
        if type(number) is not tuple or len(number) != 5 or number[0] != "storage" or type(number[2]) is not str:
            raise Refused("a persistent id of something else than a storage")
        _, kind, key, _, num_elements = number
        dtype = element_type(kind)
        if type(num_elements) is not int or num_elements < 0:
            raise Refused("a storage of impossible size")
        if key not in storages:
            raw = _content(view, place, records, f"{folder}/data/{key}")
            storages[key] = Storage(dtype, num_elements, raw)
        if (storages[key].dtype, storages[key].num_elements) != (dtype, num_elements):
            raise Refused(f"two storages of the name {printable(key)}")
        return storages[key]

    pickle = _content(view, place, records, f"{folder}/data.pkl")
    source = ByteReader(pickle, place)
    value = read_stream(source, torch_rules(bags, find))
    if source.position != len(pickle):
        raise WeightsError(f"{place}: has bytes after its values; it is damaged, fetch it again")
    return value


class _Mapped(BytesIO):
    """A file object over a view, for the library that reads the directory; copies only what is read."""

    def __init__(self, view: memoryview) -> None:
        super().__init__()
        self._view, self._at = view, 0

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = max(offset + (0, self._at, len(self._view))[whence], 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        end = len(self._view) if size is None or size < 0 else self._at + size
        content = bytes(self._view[self._at : end])
        self._at += len(content)
        return content


def _records(view: memoryview, place: str, entries: list[zipfile.ZipInfo]) -> dict[str, Record]:
    if len(entries) > MAX_RECORDS:
        raise WeightsError(f"{place}: contains more than {MAX_RECORDS:,} records; do not use this file")
    records: dict[str, Record] = {}
    for entry in entries:
        name = entry.orig_filename
        problem = unsafe_name(name) or _problem(entry) or ("occurs twice" if name in records else "")
        if not problem:
            records[name] = record = _extent(view, entry)
            problem = "" if 0 <= record.start <= record.end <= len(view) else "lies outside the file"
        if problem:
            raise WeightsError(f"{place}: the record {printable(name)} {problem}; do not use this file")
    end = 0
    for name, record in sorted(records.items(), key=lambda item: (item[1].start, item[1].end)):
        if record.start < end:
            raise WeightsError(f"{place}: the record {printable(name)} overlaps another one; do not use this file")
        end = max(end, record.end)
    return records


def _problem(entry: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or not a regular file"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        return "is compressed, which torch.save never does"
    return ""


def _extent(view: memoryview, entry: zipfile.ZipInfo) -> Record:
    """Begin and end of the bytes, by the local header; start -1 if it is damaged, or names another file."""
    at = entry.header_offset
    header = bytes(view[at : at + LOCAL_HEADER.size]) if at >= 0 else b""
    if len(header) < LOCAL_HEADER.size:
        return Record(-1, -1, 0)
    magic, _, flags, method, *_, name_bytes, extra_bytes = LOCAL_HEADER.unpack(header)
    name_at = at + LOCAL_HEADER.size
    name = bytes(view[name_at : name_at + name_bytes])
    encoding = "utf-8" if flags & 0x800 else "cp437"
    if magic != b"PK\x03\x04" or method or name.decode(encoding, "replace") != entry.orig_filename:
        return Record(-1, -1, 0)
    start = name_at + name_bytes + extra_bytes
    return Record(start, start + entry.file_size, entry.CRC)


def _folder(place: str, records: dict[str, Record]) -> str:
    """The one folder of the zip; its name is the writer's choice."""
    folders = {name.partition("/")[0] for name in records}
    folder = next(iter(folders), "")
    if len(folders) != 1 or f"{folder}/data.pkl" not in records:
        raise WeightsError(f"{place}: is a zip, but not of torch.save; unpack it and name the file of weights in it")
    if f"{folder}/constants.pkl" in records:
        raise WeightsError(f"{place}: is a TorchScript program, not weights alone; fetch the publisher's checkpoint")
    return folder


def _content(
    view: memoryview, place: str, records: dict[str, Record], name: str, absent: bytes | None = None
) -> memoryview:
    """The bytes of a record, checked.

    Raises:
        WeightsError: it is missing or damaged.
    """
    record = records.get(name)
    if record is None and absent is not None:
        return memoryview(absent)
    if record is None:
        raise WeightsError(f"{place}: the record {printable(name)} is missing; fetch it again")
    if name.endswith(".pkl") and record.end - record.start > MAX_PICKLE_BYTES:
        raise WeightsError(
            f"{place}: {printable(name)} is larger than {MAX_PICKLE_BYTES:,} bytes; do not use this file"
        )
    content = view[record.start : record.end]
    if zlib.crc32(content) != record.crc:
        raise WeightsError(f"{place}: the record {printable(name)} is damaged (CRC); fetch it again")
    return content
