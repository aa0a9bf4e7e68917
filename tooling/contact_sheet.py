"""A picture to look at: frames of target, source and result side by side."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from generation.face_track import FaceTrack
from generation.video import pick_frames
from tooling.errors import WorkspaceError
from tooling.records import FileRecord
from tooling.workspace import Workspace, write_bytes

TILE_PX = 200
GAP_PX = 6
LABEL_PX = 26
MOMENTS = (0.15, 0.5, 0.85)  # of the clip's length
BACKGROUND = (24, 26, 30)


def write_contact_sheet(workspace: Workspace, subset: str, path: Path, *, max_rows: int = 8) -> None:
    """Writes a PNG: one row for each fake; at three moments target, source and result, cut around the target's face.

    Args:
        workspace: with the subset's fakes, their clips and tracks.
        subset: one whose fakes are named {target}_{source}.
        path: the PNG to write.
        max_rows: fakes shown, evenly spread over the subset.

    Raises:
        WorkspaceError: there are no fakes yet.
    """
    records = list(workspace.records(subset).values())
    if not records:
        raise WorkspaceError(f"{workspace.root}: no {subset} yet; run `tooling generate {subset}` first")
    chosen = [records[at] for at in np.unique(np.linspace(0, len(records) - 1, max_rows).round().astype(int))]
    rows = [_row(workspace, record) for record in chosen]
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), BACKGROUND)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    staged = path.with_name(f".{path.name}")
    sheet.save(staged, format="PNG")
    write_bytes(path, staged.read_bytes())
    staged.unlink()


def _row(workspace: Workspace, record: FileRecord) -> Image.Image:
    target, _, source = record.sample_id.rpartition("/")[2].partition("_")
    moments = [min(int(share * record.num_frames), record.num_frames - 1) for share in MOMENTS]
    columns = [
        _tiles(workspace, f"raw_video/{target}.mp4", target, moments),
        _tiles(workspace, f"raw_video/{source}.mp4", source, moments),
        _tiles(workspace, record.path, target, moments),
    ]
    labels = (f"target {target}: real", f"source {source}: real", f"result {target}_{source}: FAKE")
    width = len(moments) * (3 * TILE_PX + 2 * GAP_PX) + (len(moments) + 1) * 3 * GAP_PX
    row = Image.new("RGB", (width, TILE_PX + LABEL_PX + GAP_PX), BACKGROUND)
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(15)
    left = 3 * GAP_PX
    for moment in range(len(moments)):
        for label, tiles in zip(labels, columns, strict=True):
            draw.text((left, GAP_PX), label, font=font, fill=(235, 90, 80) if "FAKE" in label else (200, 204, 210))
            row.paste(Image.fromarray(tiles[moment]), (left, LABEL_PX))
            left += TILE_PX + GAP_PX
        left += 2 * GAP_PX
    return row


def _tiles(workspace: Workspace, name: str, identity: str, moments: list[int]) -> list[NDArray[np.uint8]]:
    track = FaceTrack.from_json(workspace.path(workspace.track_name(identity)).read_text(encoding="utf-8"))
    frames = pick_frames(workspace.path(name), moments)
    return [_cut(frames[number], track.crop[number]) for number in moments]


def _cut(frame: NDArray[np.uint8], crop: NDArray[np.float32]) -> NDArray[np.uint8]:
    x, y, size = (float(value) for value in crop)
    side = 1.1 * size  # with a little of what is around the crop
    left, top = x + size / 2 - side / 2, y + size / 2 - side / 2
    scale = TILE_PX / side
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    smooth = cv2.GaussianBlur(frame, (0, 0), max(0.3, 0.5 / scale - 0.5))  # against aliasing when shrunk
    return np.asarray(cv2.warpAffine(smooth, matrix, (TILE_PX, TILE_PX), borderMode=cv2.BORDER_REPLICATE), np.uint8)
