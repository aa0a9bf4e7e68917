"""Text fields in the metadata of MP4 and PNG files, read and written without changing a pixel."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path

import av
from PIL import PngImagePlugin

from generation.errors import VideoError
from generation.media.reader import main_stream, open_video
from generation.media.writer import CONTAINER_OPTIONS

TEXT_CHUNKS = (b"tEXt", b"iTXt", b"zTXt", b"tIME", b"eXIf", b"caBX")  # metadata of a PNG
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def write_tags(source: Path, target: Path, tags: Mapping[str, str]) -> None:
    """Copies an MP4 or PNG with these text fields instead of its own, and syncs it to disk.

    MP4: packets are copied, not encoded again; fields become keyed metadata (`moov/meta/keys`).
    PNG: chunks are copied except text, time, Exif and an older C2PA manifest; fields become `iTXt` chunks.

    Raises:
        VideoError: the file cannot be read, or is neither.
    """
    if target.suffix == ".png":
        _write_png(source, target, tags)
    else:
        _write_mp4(source, target, tags)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def read_tags(path: Path) -> list[tuple[str, str]]:
    """The text fields of an MP4 or PNG, in their order; in a PNG one name may occur several times.

    Raises:
        VideoError: the file cannot be read.
    """
    if path.suffix == ".png":
        return [field for field in (_text_of(kind, body) for kind, body in _chunks(path)) if field]
    with open_video(path) as container:
        return list(container.metadata.items())


def _write_mp4(source: Path, target: Path, tags: Mapping[str, str]) -> None:
    options = {**CONTAINER_OPTIONS, "movflags": CONTAINER_OPTIONS["movflags"] + "+use_metadata_tags"}
    with open_video(source) as given, av.open(str(target), "w", format="mp4", options=options) as made:
        stream = main_stream(given)
        copied = made.add_stream_from_template(stream)
        made.metadata.update(tags)
        for packet in given.demux(stream):
            if packet.dts is None:
                continue
            packet.stream = copied
            made.mux(packet)


def _write_png(source: Path, target: Path, tags: Mapping[str, str]) -> None:
    with target.open("wb") as file:
        file.write(PNG_HEAD)
        for kind, body in _chunks(source):
            if kind in TEXT_CHUNKS:
                continue
            PngImagePlugin.putchunk(file, kind, body)
            if kind == b"IHDR":
                for name, text in tags.items():
                    content = name.encode("latin-1") + b"\0\0\0\0\0" + text.encode()
                    PngImagePlugin.putchunk(file, b"iTXt", content)


def _chunks(path: Path) -> list[tuple[bytes, bytes]]:
    content = path.read_bytes()
    if not content.startswith(PNG_HEAD):
        raise VideoError(f"{path}: is not a PNG; make it again")
    chunks, at = [], len(PNG_HEAD)
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks or chunks[-1][0] != b"IEND":
        raise VideoError(f"{path}: is truncated; make it again")
    return chunks


def _text_of(kind: bytes, body: bytes) -> tuple[str, str] | None:
    name, _, rest = body.partition(b"\0")
    if kind == b"tEXt":
        return name.decode("latin-1"), rest.decode("latin-1")
    if kind == b"iTXt" and rest[:1] == b"\0":  # not compressed
        return name.decode("latin-1"), rest[2:].split(b"\0", 2)[2].decode("utf-8", "replace")
    return None
