"""Posters and short clips for the page, within a number of bytes.

Posters go into sheets by subset and shape: a browser decodes few pictures, and memory holds one of them. A clip is the
excerpt of its file (`tooling.views.excerpts`), or that in the best quality that fits into its share; if none does, the
poster stands alone.
"""

from __future__ import annotations

import base64
import io
import math
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from generation.arrays import Frame
from generation.media.reader import read_image
from tooling.views.excerpts import SIDE_PX, decode, encode, fps_of, read_excerpt, size_of
from tooling.views.previews import shrink
from tooling.views.report.grids import Shot
from tooling.work.engine import Progress, no_progress, run_side_by_side
from tooling.workspace.layout import Workspace

MEDIA_BYTES = 18_000_000  # of the page, for posters and clips, base64 and all
TEXT_RATIO = 4 / 3  # base64
IMAGE_SIDES_PX = (192, 128, 96)
MAX_CLIP_BYTES = 90_000
POSTER_BYTES_PER_PX = 0.16
QUALITIES = (82, 72, 60, 48, 36, 24, 12)
RATE_FACTORS = (25, 28, 31, 35, 39, 44)
SHEET_COLUMNS, SHEET_ROWS = 10, 3  # of a full sheet, a picture of about 2000x600 px


@dataclass(frozen=True)
class Sizes:
    """Sizes that fit into the page.

    Attributes:
        image_px: side of an image.
        clip_bytes: of one clip.
    """

    image_px: int
    clip_bytes: int


@dataclass(frozen=True)
class Poster:
    """Position of a poster: number of its sheet, column and row in it."""

    sheet: int
    column: int
    row: int


@dataclass(frozen=True)
class Sheet:
    """Many posters in one WebP picture, all of one size."""

    content: bytes
    columns: int
    rows: int
    width: int
    height: int

    @property
    def url(self) -> str:
        return f"data:image/webp;base64,{base64.b64encode(self.content).decode()}"


@dataclass
class Media:
    """Posters and clips by the numbers of their shots; `errors` says why a shot has none."""

    sheets: list[Sheet] = field(default_factory=list)
    posters: dict[int, Poster] = field(default_factory=dict)
    clips: dict[int, bytes] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)


def make_media(
    workspace: Workspace, shots: Sequence[Shot], *, num_workers: int = 0, progress: Progress = no_progress
) -> Media:
    """Posters and clips of all shots; a file that cannot be read becomes an error of that shot alone."""
    shares = share_out(shots)
    sizes = [_size(shot, shares) for shot in shots]
    items = [
        (workspace, shot, size, shares.clip_bytes, number)
        for number, (shot, size) in enumerate(zip(shots, sizes, strict=True))
    ]
    media = Media()
    progress(0, len(items), "")
    with closing(_Sheets(shots, sizes)) as pictures:
        for done, outcome in enumerate(run_side_by_side(_make, items, num_workers=num_workers), start=1):
            number = outcome.item[4]
            if outcome.error:
                media.errors[number] = str(outcome.error).replace(f"{workspace.root}/", "")
            else:
                poster, clip = outcome.value
                media.posters[number] = pictures.put(number, poster)
                if clip:
                    media.clips[number] = clip
            progress(done, len(items), outcome.item[1].record.sample_id)
        left = MEDIA_BYTES / TEXT_RATIO - sum(map(len, media.clips.values()))
        media.sheets = pictures.encode(int(left))
    return media


def share_out(shots: Sequence[Shot]) -> Sizes:
    """Divides the page's bytes: large pictures where there are few, smaller ones for a full release."""
    num_clips = sum(shot.record.fps is not None for shot in shots)
    num_images = len(shots) - num_clips
    image_px = next((px for px in IMAGE_SIDES_PX if num_images * px**2 < 6_000_000), IMAGE_SIDES_PX[-1])
    room = MEDIA_BYTES / TEXT_RATIO - num_images * image_px**2 * POSTER_BYTES_PER_PX
    clip_bytes = int(room / max(num_clips, 1) - SIDE_PX**2 * POSTER_BYTES_PER_PX)
    return Sizes(image_px, max(0, min(clip_bytes, MAX_CLIP_BYTES)))


def _size(shot: Shot, shares: Sizes) -> tuple[int, int]:
    is_image = shot.record.fps is None
    return (shares.image_px, shares.image_px) if is_image else size_of(shot.record, shot.identity)


def _make(item: tuple[Workspace, Shot, tuple[int, int], int, int]) -> tuple[Frame, bytes | None]:
    """Poster, RGB uint8 (H, W, 3), and clip of one shot; runs in a worker."""
    workspace, shot, size, clip_bytes, _ = item
    record = shot.record
    if record.fps is None:
        side = min(record.width, record.height)
        square = (record.width - side) // 2, (record.height - side) // 2, side
        return shrink(read_image(workspace.path(record.path)), record.subset, size, square), None
    excerpt = read_excerpt(workspace, record, shot.identity)
    return decode(excerpt, 1)[0], _fit(excerpt, fps_of(record), clip_bytes)


def _fit(excerpt: bytes, fps: Fraction, most: int) -> bytes | None:
    """An excerpt itself if it fits into `most` bytes, else again in the best quality that fits; None if none does."""
    if len(excerpt) <= most:
        return excerpt
    frames = decode(excerpt)
    best, low, high = None, 0, len(RATE_FACTORS)
    while low < high:  # sizes fall with the rate factor
        middle = (low + high) // 2
        content = encode(frames, fps, RATE_FACTORS[middle])
        if len(content) <= most:
            best, high = content, middle
        else:
            low = middle + 1
    return best


class _Sheets:
    """Collects posters in any order, each at the position of its number, on disk in a file without a name."""

    def __init__(self, shots: Sequence[Shot], sizes: Sequence[tuple[int, int]]) -> None:
        members: dict[tuple[str, tuple[int, int]], list[int]] = {}
        for number, (shot, size) in enumerate(zip(shots, sizes, strict=True)):
            subset = shot.record.subset
            members.setdefault((subset + "/" * bool(shot.identity), size), []).append(number)
        self._positions: dict[int, Poster] = {}
        self._shapes: list[tuple[int, ...]] = []  # (rows, columns, H, W, 3) of each sheet
        self._starts = [0]  # of each sheet in the file, and its end
        for (_, (width, height)), of_shape in members.items():
            for first in range(0, len(of_shape), SHEET_COLUMNS * SHEET_ROWS):
                numbers = of_shape[first : first + SHEET_COLUMNS * SHEET_ROWS]
                columns = min(SHEET_COLUMNS, len(numbers))
                for at, number in enumerate(numbers):
                    self._positions[number] = Poster(len(self._shapes), at % columns, at // columns)
                self._shapes.append((math.ceil(len(numbers) / columns), columns, height, width, 3))
                self._starts.append(self._starts[-1] + math.prod(self._shapes[-1]))
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  it is closed by `close`
        self._file.truncate(self._starts[-1])

    def close(self) -> None:
        """Gives the disk back."""
        self._file.close()

    def put(self, number: int, poster: Frame) -> Poster:
        """Takes the poster of a shot and returns its position."""
        position = self._positions[number]
        at = position.row * self._shapes[position.sheet][1] + position.column
        self._file.seek(self._starts[position.sheet] + at * poster.size)
        self._file.write(np.ascontiguousarray(poster).data)
        return position

    def encode(self, most: int) -> list[Sheet]:
        """The best quality at which all sheets together fit into `most` bytes, or the lowest."""
        sheets: list[Sheet] = []
        for quality in QUALITIES:
            sheets = [_encode_sheet(self._read(number), quality) for number in range(len(self._shapes))]
            if sum(len(sheet.content) for sheet in sheets) <= most:
                break
        return sheets

    def _read(self, number: int) -> NDArray[np.uint8]:
        shape = self._shapes[number]
        self._file.seek(self._starts[number])
        return np.frombuffer(self._file.read(math.prod(shape)), np.uint8).reshape(shape)


def _encode_sheet(pictures: NDArray[np.uint8], quality: int) -> Sheet:
    rows, columns, height, width = pictures.shape[:4]
    # (rows, columns, H, W, 3) -> (rows * H, columns * W, 3)
    whole = pictures.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    content = io.BytesIO()
    Image.fromarray(whole).save(content, format="WEBP", quality=quality, method=4)
    return Sheet(content.getvalue(), columns, rows, width, height)
