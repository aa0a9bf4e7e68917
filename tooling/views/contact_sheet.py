"""The contact sheet: one JPEG of the fakes' frames, visibly labelled, beside the frames that they were made from.

A PNG of photographs takes 2 bytes for each of its pixels, 26 MB for sixteen rows of each subset; a JPEG of them has
MAX_BYTES at most.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from generation.arrays import Frame
from generation.faces.track import FaceTrack
from generation.media.reader import pick_frames, read_image
from homologous_deepfake import ATTRIBUTES, FAKES, SUBSETS
from tooling.errors import UsageError, WorkspaceError
from tooling.views.previews import draw_label
from tooling.work.engine import Progress, no_progress
from tooling.workspace.files import write_bytes
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord, natural_key

TILE_PX = 200
GAP_PX = 6
HEADING_PX = 26
MOMENTS = (0.15, 0.5, 0.85)  # of the clip's length
ROW_TILES = 3 * len(MOMENTS)
MAX_ROWS = 70  # of each subset; a JPEG has at most 65,535 lines
MAX_BYTES = 4_000_000
QUALITIES = (90, 85, 80, 75, 70, 60, 50, 40)  # of JPEG, until one fits
SUFFIXES = (".jpg", ".jpeg")
BACKGROUND, PLAIN, WARNING = (24, 26, 30), (200, 204, 210), (235, 90, 80)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Tile:
    """One picture with its heading: RGB uint8 (TILE_PX, TILE_PX, 3); that of a fake carries the visible label."""

    heading: str
    picture: Frame
    is_fake: bool = False


def write_contact_sheet(
    workspace: Workspace,
    path: Path,
    subsets: Sequence[str] = FAKES,
    *,
    max_rows: int = 8,
    progress: Progress = no_progress,
) -> None:
    """Writes a JPEG with rows of nine pictures, cropped to the target's face, at three moments of each fake.

    Face swap and expression driving: target, source, fake. Attribute editing: real, age, hair. Images: nine in a row.

    Args:
        workspace: with fakes, their clips and tracks.
        path: the JPEG to write.
        subsets: of fakes; those without files are left out.
        max_rows: of each subset, spread evenly over it; MAX_ROWS at most.
        progress: called for each row.

    Raises:
        UsageError: the path does not end as a JPEG's, or too many rows are requested.
        WorkspaceError: there are no fakes yet.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a contact sheet is a JPEG; name it {path.with_suffix(SUFFIXES[0]).name}")
    if max_rows > MAX_ROWS:
        raise UsageError(f"{max_rows} rows: are too many for one picture; request at most {MAX_ROWS}")
    found = [(subset, list(workspace.records(subset).values())) for subset in subsets]
    todo = [row for subset, records in found if records for row in _rows(workspace, subset, records, max_rows)]
    if not todo:
        names = " ".join(subsets) if len(subsets) == 1 else "all"
        raise WorkspaceError(f"{workspace.root}: no fakes yet; run `tooling generate {names}` first")
    progress(0, len(todo), "")
    rows = []
    for read_tiles in todo:
        rows.append(_draw_row(read_tiles()))
        progress(len(rows), len(todo), "")
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), BACKGROUND)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    write_bytes(path, _encode(sheet))


def _encode(sheet: Image.Image) -> bytes:
    """JPEG of the best of QUALITIES that takes at most MAX_BYTES, or of the last."""
    for quality in QUALITIES:
        content = io.BytesIO()
        sheet.save(content, format="JPEG", quality=quality, optimize=True)
        if content.tell() <= MAX_BYTES:
            break
    return content.getvalue()


def _rows(
    workspace: Workspace, subset: str, records: list[FileRecord], max_rows: int
) -> Sequence[Callable[[], list[Tile]]]:
    """What reads the tiles of each row."""
    pattern = SUBSETS[subset].pattern
    if "{source}" in pattern:
        return [partial(_pair_tiles, workspace, record) for record in _spread(records, max_rows)]
    if "{attribute}" in pattern:
        people = sorted({record.sample_id.rpartition("/")[2] for record in records}, key=natural_key)
        return [partial(_edit_tiles, workspace, subset, person) for person in _spread(people, max_rows)]
    chosen = _spread(records, max_rows * ROW_TILES)
    parts = [chosen[at : at + ROW_TILES] for at in range(0, len(chosen), ROW_TILES)]
    return [partial(_image_tiles, workspace, part) for part in parts]


def _spread(items: list[Item], most: int) -> list[Item]:
    return [items[at] for at in np.unique(np.linspace(0, len(items) - 1, most).round().astype(int))]


def _pair_tiles(workspace: Workspace, record: FileRecord) -> list[Tile]:
    pair = record.sample_id.rpartition("/")[2]
    target, _, source = pair.partition("_")
    moments = _moments(record)
    columns = [
        _clip_tiles(workspace, f"raw_video/{target}.mp4", target, moments, f"target {target}: real"),
        _clip_tiles(workspace, f"raw_video/{source}.mp4", source, moments, f"source {source}: real"),
        _clip_tiles(workspace, record.path, target, moments, f"{_short(record)} {pair}: FAKE"),
    ]
    return [column[at] for at in range(len(moments)) for column in columns]


def _edit_tiles(workspace: Workspace, subset: str, person: str) -> list[Tile]:
    records = workspace.records(subset)
    edits = {attribute: records.get(f"{subset}/{attribute}/{person}") for attribute in ATTRIBUTES}
    moments = _moments(next(record for record in edits.values() if record is not None))
    columns = [_clip_tiles(workspace, f"raw_video/{person}.mp4", person, moments, f"target {person}: real")]
    for attribute, record in edits.items():
        if record is None:
            blank = np.full((TILE_PX, TILE_PX, 3), BACKGROUND, np.uint8)
            columns.append([Tile(f"{attribute} {person}: not made", blank)] * len(moments))
            continue
        columns.append(_clip_tiles(workspace, record.path, person, moments, f"{attribute} {person}: FAKE"))
    return [column[at] for at in range(len(moments)) for column in columns]


def _image_tiles(workspace: Workspace, records: Sequence[FileRecord]) -> list[Tile]:
    return [_image_tile(workspace, record) for record in records]


def _image_tile(workspace: Workspace, record: FileRecord) -> Tile:
    picture = cv2.resize(read_image(workspace.path(record.path)), (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA)
    heading = f"{record.sample_id.rpartition('/')[2]}: FAKE"
    return Tile(heading, draw_label(np.asarray(picture, np.uint8)), is_fake=True)


def _short(record: FileRecord) -> str:
    return {"face_swap": "swap", "expression_driven": "driven"}[SUBSETS[record.path.partition("/")[0]].method]


def _moments(record: FileRecord) -> list[int]:
    return [min(int(share * record.num_frames), record.num_frames - 1) for share in MOMENTS]


def _clip_tiles(workspace: Workspace, name: str, identity: str, moments: list[int], heading: str) -> list[Tile]:
    path = workspace.path(workspace.track_name(identity))
    track = FaceTrack.from_json(path.read_bytes(), name=str(path))
    frames = pick_frames(workspace.path(name), moments)
    pictures = [_cut(frames[number], track.crop[number]) for number in moments]
    if name.partition("/")[0] in FAKES:
        return [Tile(heading, draw_label(picture), is_fake=True) for picture in pictures]
    return [Tile(heading, picture) for picture in pictures]


def _draw_row(tiles: Sequence[Tile]) -> Image.Image:
    width = ROW_TILES * (TILE_PX + GAP_PX) + (len(MOMENTS) + 1) * 2 * GAP_PX
    row = Image.new("RGB", (width, TILE_PX + HEADING_PX + GAP_PX), BACKGROUND)
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(15)
    left = 2 * GAP_PX
    for number, tile in enumerate(tiles):
        draw.text((left, GAP_PX), tile.heading, font=font, fill=WARNING if tile.is_fake else PLAIN)
        row.paste(Image.fromarray(tile.picture), (left, HEADING_PX))
        left += TILE_PX + GAP_PX + (2 * GAP_PX if number % len(MOMENTS) == len(MOMENTS) - 1 else 0)
    return row


def _cut(frame: Frame, crop: NDArray[np.float32]) -> Frame:
    x, y, size = (float(value) for value in crop)
    side = 1.1 * size  # with a little of the surroundings
    left, top = x + size / 2 - side / 2, y + size / 2 - side / 2
    scale = TILE_PX / side
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    smooth = cv2.GaussianBlur(frame, (0, 0), max(0.3, 0.5 / scale - 0.5))  # against aliasing when shrunk
    return np.asarray(cv2.warpAffine(smooth, matrix, (TILE_PX, TILE_PX), borderMode=cv2.BORDER_REPLICATE), np.uint8)
