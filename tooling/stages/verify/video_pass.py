"""One pass over a video file: container, encoder settings, and every frame decoded.

Files of this tooling are written by `generation.media.writer.VideoWriter` alone, so the settings that x264 writes into
its stream must equal those of a clip of the same size that is written here and now; they are not listed anywhere.
"""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Generator
from functools import lru_cache
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, UnidentifiedImageError

from generation.arrays import Frame
from generation.errors import VideoError
from generation.media.contract import (
    Difference,
    FrameOrder,
    VideoContract,
    decode_strictly,
    stream_differences,
    strict_packets,
)
from generation.media.reader import main_stream, open_video
from generation.media.writer import write_clip
from tooling.marks.manifest import LABEL_FIELD, NOTE_FIELD
from tooling.stages.verify.file_check import FileCheck, is_imported
from tooling.stages.verify.meters.meter import DecodedFrame
from tooling.workspace.files import naming_full_disk
from tooling.workspace.records import FileRecord

SETTINGS = re.compile(rb"x264 - core [^\0]*? - options: ([ -~]+)")
SETTINGS_BYTES = 4096  # of the first packet, which has them
ATOMS = ("ftyp", "uuid", "moov", "free", "mdat")  # that may be at the top of a file
CONTAINER_TAGS = frozenset(("major_brand", "minor_version", "compatible_brands", LABEL_FIELD, NOTE_FIELD))
STREAM_TAGS = frozenset(("language", "handler_name", "vendor_id"))


class VideoPass:
    """A file while it is decoded, one frame at a time; what is wrong goes to `check`.

    Args:
        path, record, contract: of the file.
        check: takes the findings.
        scratch: folder for a small film that the file's encoder settings are compared with.
    """

    def __init__(
        self, path: Path, record: FileRecord, contract: VideoContract, check: FileCheck, scratch: Path
    ) -> None:
        self.path, self.record, self.contract, self.check, self._scratch = path, record, contract, check, scratch
        self.is_whole = False  # decoded to its end
        self._order = FrameOrder(contract)
        self._frames = self._decoded()

    def step(self) -> DecodedFrame | None:
        """The next frame; None at the end, and if it does not decode, which is then an error in `check`."""
        try:
            frame = next(self._frames, None)
        except VideoError as error:
            self.check.error("encoding", f"does not decode ({_reason(error, self.path)}); make it again")
            return None
        if frame is None:
            return None
        self._order.add(frame)
        return DecodedFrame(self._order.num_frames - 1, frame)

    def close(self) -> None:
        """Ends the pass early."""
        self._frames.close()

    def _decoded(self) -> Generator[VideoFrame, None, None]:
        with open_video(self.path) as container:
            differences = stream_differences(container, self.contract)
            self._report([*differences, *container_differences(self.path, container)])
            packets = strict_packets(container)
            first = next(packets)  # an empty one, if there is no other
            self._compare_settings(encoder_settings(first))
            yield from decode_strictly(self.path, itertools.chain([first], packets))
        self.is_whole = True
        self._report(self._order.differences())
        recorded, required = self.record.num_frames, self.contract.num_frames
        if recorded != required:
            self._report([Difference("frames in its record", f"{recorded}", f"{required}")])

    def _report(self, differences: list[Difference]) -> None:
        for difference in differences:
            self.check.error("encoding", f"{difference.name}: {difference}")

    def _compare_settings(self, found: str) -> None:
        expected = _own_settings(self.contract.size, self.contract.fps, self._scratch)
        if found == expected:
            return
        if is_imported(self.record):
            self.check.is_other_settings = True
            return
        first, second = set(found.split()), set(expected.split())
        got, must = (", ".join(sorted(some)[:4]) or "none" for some in (first - second, second - first))
        self.check.error("encoding", f"encoder settings: {got}, must be {must}; make it again")


def container_differences(path: Path, container: InputContainer) -> list[Difference]:
    """Differences in what marking a file writes: tags, and the boxes at the top of the file (ISO/IEC 14496-12).

    Raises:
        VideoError: the file is truncated.
    """
    tags = set(container.metadata) - CONTAINER_TAGS | set(main_stream(container).metadata) - STREAM_TAGS
    names = top_atoms(path)
    unusual = [name for name in names if name not in ATOMS]
    is_first = "moov" in names and "mdat" in names and names.index("moov") < names.index("mdat")
    found = (
        Difference("metadata", ", ".join(sorted(tags)) or "none", "none"),
        Difference("container atoms", ", ".join(unusual) or "usual", "usual"),
        Difference("index", "first" if is_first else "after the pictures", "first"),
    )
    return [one for one in found if one.found != one.required]


def top_atoms(path: Path) -> list[str]:
    """Types of the boxes at the top of an MP4, in their order.

    Raises:
        VideoError: the file is not a sequence of boxes, or ends inside of one.
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


def encoder_settings(first: Packet[VideoStream]) -> str:
    """The options that x264 wrote into the first packet; "" if there are none."""
    found = SETTINGS.search(bytes(first)[:SETTINGS_BYTES] if first.size else b"")
    return found.group(1).decode() if found else ""


@lru_cache(maxsize=8)
def _own_settings(size: tuple[int, int], fps: int, scratch: Path) -> str:
    scratch.mkdir(parents=True, exist_ok=True)
    with naming_full_disk(scratch), tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / "settings.mp4"
        write_clip(path, [np.zeros((size[1], size[0], 3), np.uint8)] * 4, fps=fps)  # the last packet is padded
        with open_video(path) as container:
            return encoder_settings(next(container.demux(video=0)))


def read_still(path: Path, record: FileRecord, check: FileCheck) -> Frame | None:
    """An image, fully decoded: RGB uint8 (H, W, 3); None, and an error in `check`, if it does not decode."""
    try:
        with Image.open(path) as image:
            kind, mode, picture = image.format, image.mode, np.asarray(image.convert("RGB"), np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        check.error("encoding", f"does not decode ({_reason(error, path)}); make it again")
        return None
    height, width = picture.shape[:2]
    found = (
        Difference("format", f"{kind}", "PNG"),
        Difference("mode", mode, "RGB"),
        Difference("size", f"{width}x{height}", f"{record.width}x{record.height}"),
    )
    for difference in found:
        if difference.found != difference.required:
            check.error("encoding", f"{difference.name}: {difference}")
    return picture


def _reason(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ").partition(";")[0]
