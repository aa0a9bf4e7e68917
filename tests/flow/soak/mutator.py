"""Breaks files by their formats: containers whose boxes lie, values of another type, members that point elsewhere.

Everything is drawn from one `random.Random`: the same seed breaks a file in the same way.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq

Break = Callable[[bytes, random.Random], bytes]

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    2**63,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "1",
    "../../outside",
    "/etc/passwd",
    "\0",
    "\ud800",
    "é" * 300,
    "a\nb",
    [],
    {},
    [None],
    [[]],
    {"x": {}},
    [1] * 1000,
)
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0)
BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"meta", b"ilst")
NAMES = (
    "../outside.mp4",
    "/tmp/outside.mp4",
    "raw_video/../../outside.mp4",
    "C:\\outside.mp4",
    "raw_video/\x00.mp4",
    "",
)


def break_file(content: bytes, kind: str, random: random.Random) -> tuple[bytes, str]:
    """A broken copy of a file, and what was done to it.

    Args:
        content: of a sound file.
        kind: a key of FORMATS.
        random: what is drawn from.
    """
    ways = [*FORMATS[kind], *FORMATS[kind], *ANY]
    for _ in range(20):
        way = random.choice(ways)
        try:
            broken = way(content, random)
        except Exception:  # what no longer fits the format is broken enough by other ways
            continue
        if broken != content:
            return broken, way.__name__.strip("_")
    return content[: len(content) // 2], "cut_off"


# Any file


def _cut_off(content: bytes, random: random.Random) -> bytes:
    return content[: random.choice([0, 1, 7, random.randrange(len(content)), len(content) - 1])]


def _flip_bits(content: bytes, random: random.Random) -> bytes:
    broken = bytearray(content)
    for _ in range(random.choice([1, 4, 40])):
        broken[random.randrange(len(broken))] ^= 1 << random.randrange(8)
    return bytes(broken)


def _overwrite(content: bytes, random: random.Random) -> bytes:
    start, size = random.randrange(len(content)), random.choice([4, 64, 4096])
    filler = random.choice([b"\0" * size, b"\xff" * size, random.randbytes(size)])
    return content[:start] + filler + content[start + size :]


def _take_out(content: bytes, random: random.Random) -> bytes:
    start = random.randrange(len(content))
    return content[:start] + content[start + random.choice([1, 16, 1000]) :]


def _repeat_part(content: bytes, random: random.Random) -> bytes:
    start = random.randrange(len(content))
    return content[:start] + content[max(0, start - random.choice([1, 16, 1000])) : start] + content[start:]


def _replace_by_another_kind(content: bytes, random: random.Random) -> bytes:
    return (
        random.choice([b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"PAR1", b"\0\0\0\x20ftypisom", b"{}", b"<html>"]) + b"\n"
    )


# MP4 and H.264


def _boxes(content: bytes, start: int, end: int) -> list[tuple[int, int]]:
    """Start and size of all boxes, those inside others too."""
    found = []
    while start + 8 <= end:
        size = int.from_bytes(content[start : start + 4], "big")
        if size < 8 or start + size > end:
            break
        found.append((start, size))
        if content[start + 4 : start + 8] in BOXES:
            found += _boxes(content, start + 8, start + size)
        start += size
    return found


def _box(content: bytes, random: random.Random) -> tuple[int, int]:
    boxes = _boxes(content, 0, len(content))
    return random.choice([box for box in boxes if content[box[0] + 4 : box[0] + 8] != b"mdat"] or boxes)


def _number_in_box(content: bytes, random: random.Random) -> bytes:
    start, size = _box(content, random)
    at = start + 8 + 4 * random.randrange(max(1, (size - 8) // 4))
    return content[:at] + struct.pack(">I", random.choice(NUMBERS)) + content[at + 4 :]


def _size_of_box(content: bytes, random: random.Random) -> bytes:
    start, size = _box(content, random)
    wrong = random.choice([0, 1, 7, size - 1, size + 1, size + 8, 0x7FFFFFFF, 0xFFFFFFFF])
    return content[:start] + struct.pack(">I", wrong) + content[start + 4 :]


def _name_of_box(content: bytes, random: random.Random) -> bytes:
    start, _ = _box(content, random)
    name = random.choice([b"free", b"moov", b"mdat", b"\0\0\0\0", b"uuid", b"stsd"])
    return content[: start + 4] + name + content[start + 8 :]


def _without_box(content: bytes, random: random.Random) -> bytes:
    start, size = _box(content, random)
    return (
        content[: start + 4] + b"free" + content[start + 8 :] if size < 8 else content[:start] + content[start + size :]
    )


def _box_twice(content: bytes, random: random.Random) -> bytes:
    start, size = _box(content, random)
    return content[: start + size] + content[start : start + size] + content[start + size :]


def _payload(content: bytes, random: random.Random) -> bytes:
    """Bits of the coded pictures."""
    at = content.index(b"mdat") + 4
    broken = bytearray(content)
    for _ in range(random.choice([1, 10, 200])):
        broken[random.randrange(at, len(broken))] ^= 1 << random.randrange(8)
    return bytes(broken)


def _unit_size(content: bytes, random: random.Random) -> bytes:
    """The length before a unit of H.264."""
    at = content.index(b"mdat") + 4
    for _ in range(random.randrange(6)):
        size = int.from_bytes(content[at : at + 4], "big")
        if at + 8 + size > len(content):
            break
        at += 4 + size
    return content[:at] + struct.pack(">I", random.choice(NUMBERS)) + content[at + 4 :]


def _parameters(content: bytes, random: random.Random) -> bytes:
    """A byte of the sequence's parameters: profile, size, number of reference frames."""
    at = content.index(b"avcC") + 4 + random.randrange(40)
    return content[:at] + random.randbytes(1) + content[at + 1 :]


# PNG


def _png_parts(content: bytes) -> list[tuple[bytes, bytes]]:
    parts, at = [], 8
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        parts.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    return parts


def _png(parts: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )


def _png_header(content: bytes, random: random.Random) -> bytes:
    """Size, depth, colours or interlacing of another picture, with sound checksums."""
    parts = _png_parts(content)
    header = bytearray(parts[0][1])
    if random.random() < 0.5:
        at = random.choice([0, 4])
        header[at : at + 4] = struct.pack(">I", random.choice([0, 1, 60000, 0x7FFFFFFF, *NUMBERS]))
    else:
        header[random.randrange(8, 13)] = random.choice([0, 1, 3, 4, 6, 16, 255])
    return _png([(b"IHDR", bytes(header)), *parts[1:]])


def _png_chunk(content: bytes, random: random.Random) -> bytes:
    parts = _png_parts(content)
    number = random.randrange(len(parts))
    name, body = parts[number]
    extra = [(b"iCCP", b"x\0\0" + zlib.compress(random.randbytes(50))), (b"tEXt", b"x\0" + b"y" * 10_000)]
    extra += [(b"zTXt", b"x\0\0" + zlib.compress(b"\0" * 80_000_000, 9)), (b"PLTE", b"\0"), (b"acTL", b"\0" * 8)]
    parts[number : number + 1] = random.choice(
        [[], [(name, body)] * 2, [(name, body[::-1])], [random.choice(extra), (name, body)]]
    )
    return _png(parts)


def _png_pixels(content: bytes, random: random.Random) -> bytes:
    parts = [part for part in _png_parts(content) if part[0] != b"IDAT"]
    data = random.choice([b"", zlib.compress(b"\0" * 10), zlib.compress(b"\x07" * 200_000), random.randbytes(100)])
    return _png([*parts[:-1], (b"IDAT", data), parts[-1]])


# JSON, JSON lines, TOML, CSV


def _another_value(value: Any, random: random.Random) -> Any:
    """A JSON value in which one value is of another kind, or a key is missing or new."""
    inner = value if isinstance(value, (dict, list)) and value and random.random() < 0.85 else None
    if inner is None:
        return random.choice(VALUES)
    if isinstance(inner, dict):
        key = random.choice(list(inner))
        way = random.random()
        if way < 0.1:
            return {name: part for name, part in inner.items() if name != key}
        if way < 0.2:
            return {**inner, random.choice(["", "x", "../x", "format"]): inner[key]}
        return {**inner, key: _another_value(inner[key], random)}
    number = random.randrange(len(inner))
    way = random.random()
    if way < 0.2:
        return random.choice([inner[:number], inner + inner, inner[::-1]])
    return [*inner[:number], _another_value(inner[number], random), *inner[number + 1 :]]


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _json_value(content: bytes, random: random.Random) -> bytes:
    value = json.loads(content)
    for _ in range(random.choice([1, 1, 3])):
        value = _another_value(value, random)
    return _dump(value)


def _json_line(content: bytes, random: random.Random) -> bytes:
    lines = content.splitlines()
    number = random.randrange(len(lines))
    lines[number] = _json_value(lines[number], random)
    return b"\n".join(lines) + b"\n"


def _line_order(content: bytes, random: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    number = random.randrange(len(lines))
    return b"".join(
        random.choice([lines[:number] + lines[number + 1 :], [*lines, lines[number]], lines[::-1], [b"\n", *lines]])
    )


def _text(content: bytes, random: random.Random) -> bytes:
    """Text as other programs write it, or no text at all."""
    depth = b"[" * 100_000
    at = random.randrange(len(content))
    ways = [b"\xef\xbb\xbf" + content, content.decode().encode("utf-16"), content.replace(b"\n", b"\r\n")]
    ways += [
        content.replace(b"\n", b"\r"),
        content[:at] + b"\xff\xfe" + content[at:],
        content[:at] + b"\0" + content[at:],
    ]
    ways += [depth + content, content[:at] + depth, b"9" * 5000 + content, b"\n" + content]
    return random.choice(ways)


def _toml_value(content: bytes, random: random.Random) -> bytes:
    lines = content.decode().splitlines()
    number = random.choice([number for number, line in enumerate(lines) if " = " in line])
    key = lines[number].partition(" = ")[0]
    texts = (
        "true",
        "-1",
        "0",
        "1.5",
        "1e999",
        "nan",
        "inf",
        '""',
        '"x"',
        '"../../outside"',
        "[]",
        "{}",
        "9" * 30,
        "0x1",
        "",
        "[",
    )
    lines[number] = f"{key} = {random.choice([*texts, 'null', '1979-05-27', lines[number]])}"
    if random.random() < 0.2:
        lines.insert(number, lines[number])
    return ("\n".join(lines) + "\n").encode()


def _toml_table(content: bytes, random: random.Random) -> bytes:
    lines = content.decode().splitlines()
    number = random.choice([number for number, line in enumerate(lines) if line.startswith("[")])
    lines[number : number + 1] = random.choice([[], [lines[number]] * 2, ["[x]"], ["[a.b.c]"], ["[["]])
    return ("\n".join(lines) + "\n").encode()


def _csv_cell(content: bytes, random: random.Random) -> bytes:
    rows = list(csv.reader(io.StringIO(content.decode())))
    row = random.choice(rows)
    texts = [
        "",
        "x",
        "-1",
        "nan",
        "inf",
        "1e999",
        "../1",
        "1_2",
        "01",
        "٣",
        "a\nb",
        '"',
        "granted",
        "y" * 200_000,
        "9" * 400,
    ]
    row[random.randrange(len(row))] = random.choice(texts)
    return _csv(rows)


def _csv_shape(content: bytes, random: random.Random) -> bytes:
    rows = list(csv.reader(io.StringIO(content.decode())))
    column, number = random.randrange(len(rows[0])), random.randrange(len(rows))
    ways = [[row[:column] + row[column + 1 :] for row in rows], rows[1:], rows[:1], [*rows, rows[number]]]
    ways += [[row + row[:1] for row in rows], [*rows[:number], rows[number][:column], *rows[number + 1 :]]]
    ways += [[*rows, [*rows[number], "x", "y"]], [rows[0], [], *rows[1:]]]
    return _csv(random.choice(ways))


def _csv(rows: list[list[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


# Parquet


def _table(content: bytes) -> Any:
    return pq.read_table(io.BytesIO(content))


def _parquet(table: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _parquet_column(content: bytes, random: random.Random) -> bytes:
    """A column that is missing, empty, of another type, or named twice."""
    table = _table(content)
    number = random.randrange(table.num_columns)
    name, num_rows = table.schema.names[number], table.num_rows
    field = table.schema.field(number)
    others = [pa.nulls(num_rows, field.type), pa.nulls(num_rows), pa.array(["x"] * num_rows), pa.array([-1] * num_rows)]
    others += [pa.array([float("nan")] * num_rows), pa.array([[1]] * num_rows), pa.array([b"\xff"] * num_rows)]
    if random.random() < 0.3:
        return _parquet(table.drop_columns([name]))
    return _parquet(table.set_column(number, name, random.choice(others)))


def _parquet_value(content: bytes, random: random.Random) -> bytes:
    """One value of another kind, in a column of the same type."""
    table = _table(content)
    rows = table.to_pylist()
    row = random.choice(rows)
    name = random.choice(table.schema.names)
    row[name] = _another_value(row[name], random) if isinstance(row[name], (dict, list)) else random.choice(VALUES)
    return _parquet(pa.Table.from_pylist(rows, table.schema))


def _parquet_rows(content: bytes, random: random.Random) -> bytes:
    table = _table(content)
    return _parquet(random.choice([table.slice(0, 0), pa.concat_tables([table, table]), table.slice(0, 1)]))


def _parquet_metadata(content: bytes, random: random.Random) -> bytes:
    """What other programs keep beside the schema."""
    table = _table(content)
    given = dict(table.schema.metadata or {})
    names = list(given) or [b"huggingface"]
    given[random.choice(names)] = random.choice([b"", b"{}", b"\xff", b"[1]", b'{"info": 1}', b'{"format": 99}'])
    return _parquet(table.replace_schema_metadata(given if random.random() < 0.7 else None))


def _parquet_footer(content: bytes, random: random.Random) -> bytes:
    size = int.from_bytes(content[-8:-4], "little")
    at = len(content) - 8 - random.randrange(size)
    ways = [content[:at] + random.randbytes(1) + content[at + 1 :]] * 3
    ways.append(content[:-8] + struct.pack("<I", random.choice(NUMBERS)) + content[-4:])
    return random.choice(ways)


def _parquet_media(content: bytes, random: random.Random) -> bytes:
    """A row whose film, image or track is broken, in a sound table."""
    table = _table(content)
    rows = table.to_pylist()
    row = random.choice(rows)
    media = [name for name, value in row.items() if isinstance(value, dict) and value.get("bytes")]
    name = random.choice(media)
    kind = "png" if row[name]["bytes"].startswith(b"\x89PNG") else "mp4"
    row[name] = {**row[name], "bytes": break_file(row[name]["bytes"], kind, random)[0]}
    return _parquet(pa.Table.from_pylist(rows, table.schema))


# Archives


def _zip_members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, body in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            archive.writestr(info, body)
    return buffer.getvalue()


def _zip_name(content: bytes, random: random.Random) -> bytes:
    """A member whose name leads elsewhere, or that is there twice, or is a link."""
    members = list(_zip_members(content).items())
    number = random.randrange(len(members))
    name, body = members[number]
    way = random.random()
    if way < 0.2:
        return _zip([*members, (name, body[::-1])])
    if way < 0.4:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            link = zipfile.ZipInfo(name)
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
            for other, content in members[:number]:
                archive.writestr(other, content)
        return buffer.getvalue()
    members[number] = (random.choice(NAMES), body)
    return _zip(members)


def _zip_field(content: bytes, random: random.Random) -> bytes:
    """A field of a member's header: flags, method, checksum, sizes, lengths."""
    mark, size = random.choice([(b"PK\x01\x02", 46), (b"PK\x03\x04", 30), (b"PK\x05\x06", 22)])
    places = [match.start() for match in re.finditer(re.escape(mark), content)]
    at = random.choice(places) + 4 + 2 * random.randrange((size - 4) // 2)
    return content[:at] + struct.pack("<H", random.choice([0, 1, 8, 9, 0x7FFF, 0xFFFF])) + content[at + 2 :]


def _zip_member(content: bytes, random: random.Random) -> bytes:
    """A member that is itself broken, in a sound archive."""
    members = _zip_members(content)
    name = random.choice(list(members))
    ending = name.rpartition(".")[2]
    members[name] = break_file(members[name], ending if ending in FORMATS else "pickle", random)[0]
    return _zip(list(members.items()), zipfile.ZIP_STORED)


def _zip_bomb(content: bytes, random: random.Random) -> bytes:
    members = list(_zip_members(content).items())
    return _zip([*members, (f"{random.choice(members)[0]}.more", b"\0" * 30_000_000)])


# Weights


def _in_zipped_pickle(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A zip of torch whose pickle is changed; its checksum is made to fit."""
    members = _zip_members(content)
    name = next(name for name in members if name.endswith("data.pkl"))
    members[name] = change(members[name])
    return _zip(list(members.items()), zipfile.ZIP_STORED)


def _pickle_instruction(content: bytes, random: random.Random) -> bytes:
    """One byte of the pickle's beginning, where the instructions are."""
    if content.startswith(b"PK"):
        return _in_zipped_pickle(content, partial(_pickle_instruction, random=random))
    at = random.randrange(min(len(content), 4000))
    new = random.choice(
        [random.randbytes(1), random.choice([b"c", b"R", b"i", b"o", b"b", b"\x81", b"\x93", b"Q", b"."])]
    )
    return content[:at] + new + content[at + 1 :]


def _pickle_name(content: bytes, random: random.Random) -> bytes:
    """Another class or function where one is named."""
    if content.startswith(b"PK"):
        return _in_zipped_pickle(content, partial(_pickle_name, random=random))
    old = random.choice(
        [b"FloatStorage", b"_rebuild_tensor_v2", b"OrderedDict", b"collections", b"torch._utils", b"cpu"]
    )
    new = random.choice([b"system", b"eval", b"os", b"HalfStorage", b"x"])
    return content.replace(old, new.ljust(len(old), b"_"), random.choice([1, -1]))


def _safetensors_header(content: bytes, random: random.Random) -> bytes:
    size = int.from_bytes(content[:8], "little")
    if random.random() < 0.2:
        return struct.pack("<Q", random.choice([0, 1, size + 8, 2**31, 2**63, 2**64 - 1])) + content[8:]
    header = _json_value(content[8 : 8 + size], random)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def _onnx_graph(content: bytes, random: random.Random) -> bytes:
    """A graph with another shape, another operator, a weight that is missing or lies in another file."""
    model = onnx.load_from_string(content)
    graph = model.graph
    way = random.randrange(8)
    if way == 0:
        random.choice(list(graph.input)).type.tensor_type.shape.dim[-1].dim_value = random.choice([0, -1, 3, 10**9])
    elif way == 1:
        del graph.node[random.randrange(len(graph.node))]
    elif way == 2:
        random.choice(list(graph.node)).op_type = random.choice(["", "Unknown", "MatMul", "Relu"])
    elif way == 3:
        del graph.initializer[random.randrange(len(graph.initializer))]
    elif way == 4:
        tensor = random.choice(list(graph.initializer))
        tensor.dims[:] = random.choice([[], [0], [2**40], [-1], [1, 1]])
    elif way == 5:
        tensor = random.choice(list(graph.initializer))
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=random.choice(["../../outside", "/etc/passwd", "x"]))
        tensor.ClearField("raw_data")
    elif way == 6:
        tensor = random.choice(list(graph.initializer))
        tensor.data_type = random.choice([0, 2, 7, 8, 99])
    else:
        model.opset_import[0].version = random.choice([0, 1, 999])
    return bytes(model.SerializeToString())


def _onnx_weight(content: bytes, random: random.Random) -> bytes:
    model = onnx.load_from_string(content)
    tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    factor = random.choice([float("nan"), float("inf"), 0.0, 1e30])
    with np.errstate(all="ignore"):
        values = np.frombuffer(tensor.raw_data, np.float32) * factor
    tensor.raw_data = values.astype(np.float32).tobytes()[: random.choice([-4, None])]
    return bytes(model.SerializeToString())


ANY: tuple[Break, ...] = (_cut_off, _flip_bits, _overwrite, _take_out, _repeat_part, _replace_by_another_kind)
FORMATS: dict[str, tuple[Break, ...]] = {
    "mp4": (
        _number_in_box,
        _number_in_box,
        _size_of_box,
        _name_of_box,
        _without_box,
        _box_twice,
        _payload,
        _unit_size,
        _parameters,
    ),
    "png": (_png_header, _png_chunk, _png_pixels),
    "json": (_json_value, _json_value, _text),
    "jsonl": (_json_line, _json_line, _line_order, _text),
    "toml": (_toml_value, _toml_value, _toml_table, _text),
    "csv": (_csv_cell, _csv_cell, _csv_shape, _text),
    "parquet": (
        _parquet_column,
        _parquet_value,
        _parquet_value,
        _parquet_rows,
        _parquet_metadata,
        _parquet_footer,
        _parquet_media,
    ),
    "zip": (_zip_name, _zip_field, _zip_field, _zip_member, _zip_bomb),
    "tar": (),
    "pem": (_line_order,),
    "pickle": (_pickle_instruction, _pickle_instruction, _pickle_name),
    "safetensors": (_safetensors_header, _safetensors_header, _safetensors_header),
    "onnx": (_onnx_graph, _onnx_graph, _onnx_weight),
}
