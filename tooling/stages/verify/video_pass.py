"""One pass over a video file: container, encoder settings, and every frame decoded.

Files of this tooling are written by `generation.media.writer.VideoWriter` alone, so the settings that x264 writes
into its stream must be those of a clip of the same size that is written here and now; nothing is listed twice.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image, UnidentifiedImageError

from generation.arrays import Frame
from generation.errors import VideoError
from generation.media.reader import open_video
from generation.media.writer import X264_OPTIONS, write_clip
from tooling.marks.manifest import LABEL_FIELD, NOTE_FIELD
from tooling.stages.verify.file_check import Contract, FileCheck, is_imported
from tooling.stages.verify.meters.meter import DecodedFrame
from tooling.workspace.records import FileRecord

KEY_FRAME_DISTANCE = int(X264_OPTIONS["g"])
SETTINGS = re.compile(rb"x264 - core [^\0]*? - options: ([ -~]+)")
SETTINGS_BYTES = 4096  # of the first packet, in which they stand
ATOMS = ("ftyp", "uuid", "moov", "free", "mdat")  # at the top of a file, in this order where they occur
CONTAINER_TAGS = frozenset(("major_brand", "minor_version", "compatible_brands", LABEL_FIELD, NOTE_FIELD))
STREAM_TAGS = frozenset(("language", "handler_name", "vendor_id"))


@dataclass
class VideoPass:
    """A file while it is decoded, one frame at a time; what is wrong goes to `check`.

    Attributes:
        path, record, contract: of the file.
        check: takes the findings.
    """

    path: Path
    record: FileRecord
    contract: Contract
    check: FileCheck

    def __post_init__(self) -> None:
        self._frames = self._decoded()
        self._num_frames = 0
        self._is_constant, self._is_regular, self._is_ended = True, True, False
        self.is_whole = False  # decoded to its end

    def step(self) -> DecodedFrame | None:
        """The next frame; None at the end, and if it does not decode, which is then an error in `check`."""
        if self._is_ended:
            return None
        try:
            frame = next(self._frames, None)
        except VideoError as error:
            self.check.error("encoding", f"does not decode ({_reason(error, self.path)}); make it again")
            self._is_ended = True
            return None
        if frame is None:
            self._is_ended = self.is_whole = True
            self._finish()
            return None
        self._time(frame)
        self._num_frames += 1
        return DecodedFrame(self._num_frames - 1, frame)

    def close(self) -> None:
        """Ends the pass early."""
        self._frames.close()

    def _decoded(self) -> Generator[VideoFrame, None, None]:
        with open_video(self.path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"err_detect": "explode"}  # damage is an error, not patched up
            problems = {**_stream_problems(container, stream, self.contract), **_atom_problems(self.path)}
            for name, (got, must) in problems.items():
                if got != must:
                    self.check.error("encoding", f"{name}: {got}, must be {must}")
            self._compare_settings()
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise VideoError(f"frame {self._num_frames} is damaged")
                yield frame

    def _compare_settings(self) -> None:
        size, fps = self.contract.size, self.contract.fps
        assert size is not None
        assert fps is not None
        found, wanted = encoder_settings(self.path), _own_settings(size, fps)
        if found == wanted:
            return
        if is_imported(self.record):
            self.check.is_other_settings = True
            return
        got, must = set(found.split()) - set(wanted.split()), set(wanted.split()) - set(found.split())
        told = [", ".join(sorted(some)[:4]) or "nothing told" for some in (got, must)]
        self.check.error("encoding", f"encoder settings: {told[0]}, must be {told[1]}; make it again")

    def _time(self, frame: VideoFrame) -> None:
        base, fps = Fraction(frame.time_base or 0), self.contract.fps or 0
        self._is_constant &= (frame.pts or 0) * base.numerator * fps == self._num_frames * base.denominator
        self._is_regular &= frame.key_frame == (self._num_frames % KEY_FRAME_DISTANCE == 0)

    def _finish(self) -> None:
        wanted = {
            "frames": (self._num_frames, self.contract.num_frames),
            "frames in its record": (self.record.num_frames, self.contract.num_frames),
            "frame times": ("constant" if self._is_constant else "uneven", "constant"),
            "key frames": (f"{'' if self._is_regular else 'not '}every 15th", "every 15th"),
        }
        for name, (got, must) in wanted.items():
            if got != must:
                self.check.error("encoding", f"{name}: {got}, must be {must}")


def _stream_problems(container: Any, stream: Any, contract: Contract) -> dict[str, tuple[Any, Any]]:
    context = stream.codec_context
    tags = sorted(set(container.metadata) - CONTAINER_TAGS | set(stream.metadata) - STREAM_TAGS)
    return {
        "size": ((context.width, context.height), contract.size),
        "frames per second": (f"{float(stream.average_rate or 0):.4g}", f"{contract.fps}"),
        "codec": (context.name, "h264"),
        "profile": (context.profile, "High"),
        "pixel format": (context.pix_fmt, "yuv420p"),
        "colours": ((int(context.colorspace), int(context.color_range)), (1, 1)),
        "audio": ("yes" if container.streams.audio else "no", "no"),
        "streams": (len(container.streams) - len(container.streams.audio), 1),
        "metadata": (", ".join(tags) or "none", "none"),
    }


def _atom_problems(path: Path) -> dict[str, tuple[Any, Any]]:
    """The boxes at the top of the file: none but the usual, the index before the pictures (ISO/IEC 14496-12)."""
    names = top_atoms(path)
    unusual = [name for name in names if name not in ATOMS]
    is_ordered = "moov" in names and "mdat" in names and names.index("moov") < names.index("mdat")
    return {
        "container atoms": (", ".join(unusual) or "usual", "usual"),
        "index": ("first" if is_ordered else "after the pictures", "first"),
    }


def top_atoms(path: Path) -> list[str]:
    """Types of the boxes at the top of an MP4, in their order.

    Raises:
        VideoError: the file is no sequence of boxes, or ends inside of one.
    """
    names, at, size = [], 0, path.stat().st_size
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            elif length == 0:
                length = size - at
            if length < 8 or at + length > size:
                raise VideoError(f"{path}: ends inside of a box; it is truncated")
            names.append(head[4:8].decode("latin-1"))
            at += length
    return names


def encoder_settings(path: Path) -> str:
    """The options that x264 wrote into the first packet; empty where there are none.

    Raises:
        VideoError: see `open_video`.
    """
    with open_video(path) as container:
        packet = next(iter(container.demux(container.streams.video[0])), None)
        content = bytes(packet)[:SETTINGS_BYTES] if packet is not None and packet.size else b""
    found = SETTINGS.search(content)
    return found.group(1).decode() if found else ""


@lru_cache(maxsize=8)
def _own_settings(size: tuple[int, int], fps: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.mp4"
        write_clip(path, [np.zeros((size[1], size[0], 3), np.uint8)] * 4, fps=fps)  # the last packet is filled up
        return encoder_settings(path)


def read_still(path: Path, record: FileRecord, check: FileCheck) -> Frame | None:
    """Decodes an image fully: RGB uint8 (H, W, 3); None, and an error in `check`, where it does not."""
    try:
        with Image.open(path) as image:
            kind, mode, picture = image.format, image.mode, np.asarray(image.convert("RGB"), np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        check.error("encoding", f"does not decode ({_reason(error, path)}); make it again")
        return None
    height, width = picture.shape[:2]
    wanted = {"format": (kind, "PNG"), "mode": (mode, "RGB")}
    wanted["size"] = ((width, height), (record.width, record.height))  # type: ignore[assignment]
    for name, (got, must) in wanted.items():
        if got != must:
            check.error("encoding", f"{name}: {got}, must be {must}")
    return picture


def _reason(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ").partition(";")[0]
