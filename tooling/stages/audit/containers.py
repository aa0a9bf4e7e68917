"""What a video file shows without being decoded: sizes, packets, key frames, codec fields, atoms, text fields.

Boxes ("atoms") follow ISO/IEC 14496-12, the H.264 units in them ISO/IEC 14496-15 and ITU-T H.264, section 7.3.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from generation.media.reader import main_stream, open_video
from generation.media.tags import read_tags
from tooling.marks.manifest import LABEL_FIELD, NOTE_FIELD
from tooling.stages.audit.probes import Measured

PARENTS = {"moov", "trak", "mdia", "minf", "stbl", "edts", "dinf", "udta", "meta", "ilst", "mvex", "moof", "traf"}
HEADERS = {"ftyp", "mvhd", "tkhd", "mdhd", "hdlr", "vmhd", "elst", "dref"}
MEDIA = {"mdat"}  # its size is the probes' of sizes
SEI, FILLER = 6, 12  # types of H.264 units without picture content
USER_DATA = 5  # SEI payload: an encoder's own text behind 16 bytes of identifier
MAX_TEXT = 4_000


@dataclass(frozen=True)
class Box:
    """One box: names from the top joined by "/", start and end of its content, its size in bytes with its header."""

    path: str
    start: int
    end: int
    size: int


@dataclass(frozen=True)
class Packet:
    """One coded frame: bytes of content and of padding, presentation and decoding time in ticks, types of its units."""

    num_bytes: int
    num_padding: int
    pts: int
    dts: int
    is_key: bool
    units: tuple[int, ...]
    texts: tuple[str, ...]


def measure_container(path: Path) -> dict[str, Measured]:
    """Measures an MP4 by every probe that needs no decoding: probe -> features.

    Raises:
        VideoError: the file cannot be read as video.
    """
    boxes = list(read_boxes(path))
    with open_video(path) as container:
        stream = main_stream(container)
        context = stream.codec_context
        packets = [
            _read_packet(bytes(packet), packet.pts or 0, packet.dts, packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.dts is not None
        ]
        ticks = float(stream.time_base or 1)
        seconds = float(stream.duration or 0) * ticks
        codec: Measured = {
            "name": context.name,
            "profile": str(context.profile),
            "pixel_format": str(context.pix_fmt),
            "colour": f"{context.color_range} {context.colorspace} {context.color_primaries} {context.color_trc}",
            "time_base": str(stream.time_base),
            "rate": f"{stream.average_rate} {stream.guessed_rate}",
            "parameter_sets": (context.extradata or b"").hex()[:MAX_TEXT],
            "units": " ".join(map(str, sorted({unit for packet in packets for unit in packet.units}))),
            "texts": " | ".join(text for packet in packets for text in packet.texts if text)[:MAX_TEXT],
            "num_streams": float(len(container.streams)),
        }
        duration: Measured = {
            "stream_seconds": seconds,
            "container_seconds": float(container.duration or 0) / 1e6,
            "start_seconds": float(stream.start_time or 0) * ticks,
        }
        dimensions: Measured = {"width": float(context.width), "height": float(context.height)}
        stream_texts = dict(stream.metadata)
    return {
        "file_size": {"log_bytes": math.log(max(path.stat().st_size, 1))},
        "bitrate": _bitrate(packets, seconds),
        "frame_sizes": _frame_sizes(packets),
        "gop": _gop(packets),
        "codec": codec,
        "atoms": _atoms(boxes),
        "headers": _headers(path, boxes),
        "metadata": _texts(dict(read_tags(path)), stream_texts),
        "duration": duration,
        "num_frames": {"num_packets": float(len(packets))},
        "dimensions": dimensions,
    }


def read_boxes(path: Path) -> Iterator[Box]:
    """Walks the boxes of an MP4 in their order, parents before children; stops at the first box that is not valid."""
    with path.open("rb") as file:
        open_parents = [("", 0, path.stat().st_size)]
        while open_parents:
            prefix, at, end = open_parents.pop()
            if at + 8 > end:
                continue
            file.seek(at)
            head = file.read(16)
            size, name = int.from_bytes(head[:4], "big"), head[4:8].decode("latin-1")
            head_size = 8
            if size == 1:
                size, head_size = int.from_bytes(head[8:16], "big"), 16
            size = size or end - at
            if size < head_size or at + size > end:
                continue
            open_parents.append((prefix, at + size, end))
            yield Box(prefix + name, at + head_size, at + size, size)
            if name in PARENTS:
                # `meta` of ISO has 4 bytes of version before its parts, QuickTime's has none.
                file.seek(at + head_size + 4)
                skipped = 4 if name == "meta" and file.read(4) != b"hdlr" else 0
                open_parents.append((f"{prefix}{name}/", at + head_size + skipped, at + size))


def _read_packet(content: bytes, pts: int, dts: int, is_key: bool) -> Packet:
    """Splits a packet into H.264 units, each preceded by its size in 4 bytes."""
    units, texts, num_padding, at = [], [], 0, 0
    while at + 5 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        unit = content[at + 4 : at + 4 + size]
        at += 4 + size
        if not unit:
            continue
        kind = unit[0] & 31
        units.append(kind)
        if kind in (FILLER, SEI):
            num_padding += 4 + len(unit)
        if kind == SEI and unit[1] == USER_DATA:
            texts.append(_user_text(unit))
    return Packet(len(content) - num_padding, num_padding, pts, dts, is_key, tuple(units), tuple(texts))


def _user_text(unit: bytes) -> str:
    """The readable characters of user data, after the coding of its length and 16 bytes of identifier."""
    at = 2
    while at < len(unit) and unit[at] == 255:
        at += 1
    return "".join(chr(byte) for byte in unit[at + 17 :] if 32 <= byte < 127)


def _bitrate(packets: list[Packet], seconds: float) -> Measured:
    """As any program shows it: all bytes of the stream, padding included."""
    num_bytes = sum(packet.num_bytes + packet.num_padding for packet in packets)
    return {"log_bits_per_second": math.log(max(8 * num_bytes / max(seconds, 1e-3), 1))}


def _frame_sizes(packets: list[Packet]) -> Measured:
    """Sizes of key frames, of frames shown in their coded order, and of frames between two that are coded earlier."""
    kinds: dict[str, list[float]] = {"key": [], "forward": [], "between": []}
    latest = -math.inf
    for packet in packets:
        kind = "key" if packet.is_key else "forward" if packet.pts > latest else "between"
        latest = max(latest, packet.pts)
        kinds[kind].append(math.log(packet.num_bytes + 1))
    measured: Measured = {}
    for kind, sizes in kinds.items():
        measured[f"{kind}_mean"] = float(np.mean(sizes)) if sizes else 0.0
        measured[f"{kind}_spread"] = float(np.std(sizes)) if sizes else 0.0
    return measured


def _gop(packets: list[Packet]) -> Measured:
    order = sorted(range(len(packets)), key=lambda number: packets[number].pts)
    keys = [place for place, number in enumerate(order) if packets[number].is_key]
    steps = np.diff(keys) if len(keys) > 1 else np.array([len(packets)])
    shown_late = sum(earlier.pts > later.pts for earlier, later in pairwise(packets))
    return {
        "key_frames": " ".join(map(str, keys))[:MAX_TEXT],
        "num_key_frames": float(len(keys)),
        "key_distance_mean": float(steps.mean()),
        "key_distance_spread": float(steps.std()),
        "reordered_share": shown_late / max(len(packets), 1),
    }


def _atoms(boxes: list[Box]) -> Measured:
    measured: Measured = {"order": " ".join(box.path for box in boxes)[:MAX_TEXT], "num_atoms": float(len(boxes))}
    for box in boxes:
        name = box.path.rpartition("/")[2]
        if name not in PARENTS | MEDIA:
            measured[f"bytes of {box.path}"] = float(measured.get(f"bytes of {box.path}", 0.0)) + box.size
    return measured


def _headers(path: Path, boxes: list[Box]) -> Measured:
    measured: Measured = {}
    with path.open("rb") as file:
        for box in boxes:
            if box.path.rpartition("/")[2] in HEADERS:
                file.seek(box.start)
                measured[box.path] = file.read(min(box.end - box.start, MAX_TEXT)).hex()
    return measured


def _texts(tags: dict[str, str], stream_tags: dict[str, str]) -> Measured:
    """Text fields by name. A mark's two names count as one: it states openly what the file is and is not a shortcut."""
    measured: Measured = {"num_fields": float(len(tags) + len(stream_tags))}
    for name, text in tags.items():
        if name in (LABEL_FIELD, NOTE_FIELD):
            measured["length of mark"] = float(len(text))
        else:
            measured[f"field {name}"] = text[:MAX_TEXT]
    return measured | {f"field of stream {name}": text[:MAX_TEXT] for name, text in stream_tags.items()}
