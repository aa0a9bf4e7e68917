"""Excerpts: two seconds of a video, small, around the face, fakes with their visible label: what a report plays.

A verification makes them while it decodes the files anyway and keeps them in the workspace, under names that hold the
file's digest, so that one of an older file is never shown. A takedown clears them like every file that is named by a
person. Where none is kept, it is made from the file, with the same bytes.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from generation.arrays import Frame
from generation.faces.track import FaceTrack
from generation.media.reader import read_frames
from generation.media.writer import VideoWriter
from tooling.views.previews import ENCODER_OPTIONS, face_square, read_track, shown_frames, shrink
from tooling.workspace.files import naming_full_disk, write_bytes
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord

SECONDS, FPS = 2.0, 15
SIDE_PX = 208  # of a square; other shapes have a third more pixels at most
RATE_FACTOR = 22
PRESET = "veryfast"  # in half the time of "medium", and as small at this size


class Excerpt:
    """One excerpt while its frames are taken.

    Args:
        record: of the video.
        identity: the person around whose face it is cut; "" shows the whole picture.
        track: of that person's clip; without one that fits the middle of the picture is shown. None for the whole.

    Attributes:
        numbers: of the frames to take, in order.
        fps: of the excerpt.
    """

    def __init__(self, record: FileRecord, identity: str, track: FaceTrack | None) -> None:
        shown = shown_frames(record, SECONDS)
        self.numbers, self.fps = range(shown.start, shown.stop, _step(record)), fps_of(record)
        self._subset, self._size, self._square = record.subset, size_of(record, identity), None
        if track is not None and _is_of(track, record):
            self._square = face_square(track, shown)
        elif identity:
            side = min(record.width, record.height)
            self._square = (record.width - side) // 2, (record.height - side) // 2, side
        self._frames: list[Frame] = []

    def add(self, picture: Frame) -> None:
        """Takes the next of `numbers`: RGB uint8 (H, W, 3)."""
        self._frames.append(shrink(picture, self._subset, self._size, self._square))

    def encode(self, scratch: Path | None = None) -> bytes:
        """MP4 (H.264) of the frames taken, written in a folder `scratch` first."""
        return encode(self._frames, self.fps, RATE_FACTOR, scratch)


def _is_of(track: FaceTrack, record: FileRecord) -> bool:
    found = track.width, track.height, len(track.crop)
    return found == (record.width, record.height, record.num_frames)


def fps_of(record: FileRecord) -> Fraction:
    """Frames per second of a video's excerpts."""
    return Fraction(record.fps or FPS).limit_denominator(1001) / _step(record)


def _step(record: FileRecord) -> int:
    return max(1, round((record.fps or FPS) / FPS))


def size_of(record: FileRecord, identity: str) -> tuple[int, int]:
    """Width and height of an excerpt, px."""
    ratio = 1.0 if identity else record.width / max(record.height, 1)
    width, height = SIDE_PX * max(ratio, 1), SIDE_PX / min(ratio, 1)
    smaller = min(1.0, math.sqrt(SIDE_PX**2 * 4 / 3 / (width * height)))
    return max(2, round(width * smaller / 2) * 2), max(2, round(height * smaller / 2) * 2)


def keep_excerpt(workspace: Workspace, record: FileRecord, identity: str, excerpt: Excerpt) -> None:
    """Writes an excerpt to its path in the workspace.

    Raises:
        DiskFullError: no space is left.
    """
    write_bytes(workspace.path(workspace.excerpt_name(record, identity)), excerpt.encode(workspace.staging_folder))


def read_excerpt(workspace: Workspace, record: FileRecord, identity: str) -> bytes:
    """The excerpt that is kept, or one made from the file.

    Raises:
        VideoError: the file cannot be decoded.
        FaceError: the track is damaged.
    """
    path = workspace.path(workspace.excerpt_name(record, identity))
    if path.is_file():
        return path.read_bytes()
    excerpt = Excerpt(record, identity, read_track(workspace, identity) if identity else None)
    numbers = excerpt.numbers
    for picture in read_frames(workspace.path(record.path), numbers.start, numbers.stop, numbers.step):
        excerpt.add(picture)
    return excerpt.encode()


def encode(frames: Sequence[Frame], fps: Fraction, rate_factor: int, scratch: Path | None = None) -> bytes:
    """Frames as MP4 (H.264).

    Args:
        frames: RGB uint8 (H, W, 3), one at least.
        fps: frames per second.
        rate_factor: of x264, 0 to 51.
        scratch: folder that it is written in first; None takes the system's for temporary files.

    Raises:
        DiskFullError: no space is left there.
    """
    height, width = frames[0].shape[:2]
    options = {**ENCODER_OPTIONS, "preset": PRESET, "crf": str(rate_factor)}
    place = scratch or Path(tempfile.gettempdir())
    place.mkdir(parents=True, exist_ok=True)
    with naming_full_disk(place), tempfile.TemporaryDirectory(dir=place) as folder:
        path = Path(folder, "excerpt.mp4")
        with VideoWriter(path, width=width, height=height, fps=fps, options=options) as writer:
            for frame in frames:
                writer.write(frame)
        return path.read_bytes()


def decode(content: bytes, most: int | None = None) -> list[Frame]:
    """Frames of an excerpt, `most` at most: RGB uint8 (H, W, 3)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "excerpt.mp4")
        path.write_bytes(content)
        return list(read_frames(path, 0, most))
