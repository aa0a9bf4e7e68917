"""Small copies of files that may be shown to anyone: marked, and fakes with a visible label.

GB 45438-2025 requires a visible label on generated content: text with "AI" and "生成", in pictures at an edge or in a
corner, in videos from the first frame on and for at least 2 s, at least 5 % of the shorter side high. Here the label
stays for the whole length, lower left on a plate of its own, so that it is legible on any background.

Previews of real files have no label: a printed "real" would vouch for a picture, and anyone can print it on a fake.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from generation.arrays import Frame
from generation.faces.track import FaceTrack
from generation.media.reader import read_frames, read_image
from generation.media.writer import VideoWriter
from homologous_deepfake import SUBSETS
from tooling.errors import InputError, UsageError
from tooling.marks.manifest import Ingredient, Mark, mark_file
from tooling.work.engine import Progress, no_progress, run_side_by_side
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord
from tooling.workspace.signing_keys import read_signing_keys

LABELS = ("AI生成 AI-generated", "AI生成")  # the longest that fits is used
LABEL_SHARE = 0.05  # of the shorter side, at least, from the baseline to the top of a capital letter
CAPITAL_SHARE = 0.68  # of the font's size
MIN_FONT_PX = 14  # below, strokes of 生 and 成 run together
ENCODER_OPTIONS = {"preset": "medium", "crf": "24", "g": "60", "mbtree": "0"}
INK, PLATE = (255, 255, 255), (12, 12, 14)


@dataclass(frozen=True)
class PreviewSettings:
    """Size of a preview.

    Attributes:
        seconds: length of a clip, at least 2 (the shortest label that the standard allows); a shorter file is shown
            in full.
        side_px: longest the longer side may be; nothing is enlarged.
    """

    seconds: float = 3.0
    side_px: int = 480


def write_previews(
    workspace: Workspace,
    subsets: Sequence[str],
    out: Path,
    settings: PreviewSettings | None = None,
    *,
    num_workers: int = 0,
    progress: Progress = no_progress,
) -> list[Path]:
    """Writes a marked, labelled preview of each file: a clip and its poster, or a picture.

    `out` mirrors the workspace: swap_video/1_3.mp4, swap_video/1_3.png, GAN_images/000001.png.

    Raises:
        UsageError: no such subset, or a length below 2 s.
        InputError: `out` is in the workspace, the keys cannot be used, or an image cannot be read.
        WorkspaceError: there are no keys to sign marks with.
        VideoError: a video cannot be read.
    """
    settings = settings or PreviewSettings()
    unknown = [subset for subset in subsets if subset not in SUBSETS]
    if unknown:
        raise UsageError(f"{unknown[0]}: no such subset; use {', '.join(SUBSETS)}")
    if settings.seconds < 2:
        raise UsageError(f"{settings.seconds:g} s: a visible label must stay for 2 s or more; make the clips longer")
    if out.resolve().is_relative_to(workspace.root):
        raise InputError(f"{out}: is in the workspace; name a folder outside of it")
    read_signing_keys(workspace.keys_path)  # an error once, before any work
    records = [record for subset in subsets for record in workspace.records(subset).values()]
    items = [(workspace, record, out, settings) for record in records]
    progress(0, len(items), "")
    written: dict[str, list[Path]] = {}
    for done, outcome in enumerate(run_side_by_side(_write_preview, items, num_workers=num_workers), start=1):
        if outcome.error:
            raise outcome.error
        name = outcome.item[1].sample_id
        written[name] = outcome.value
        progress(done, len(items), name)
    return [path for record in records for path in written[record.sample_id]]


def draw_label(frame: Frame) -> Frame:
    """A copy of a picture with the visible label in its lower left corner.

    Args:
        frame: RGB uint8 (H, W, 3).

    Raises:
        InputError: the picture is too small for a legible label.
    """
    height, width = frame.shape[:2]
    plate = _label_plate(width, height)
    labelled = frame.copy()
    labelled[height - plate.shape[0] :, : plate.shape[1]] = plate
    return labelled


@lru_cache(maxsize=16)
def _label_plate(width: int, height: int) -> Frame:
    """The label for pictures of a size, on its plate: RGB uint8."""
    font_px = max(math.ceil(LABEL_SHARE / CAPITAL_SHARE * min(width, height)), MIN_FONT_PX)
    pad = font_px // 3
    face = cv2.FontFace("uni")  # OpenCV's own, with Chinese glyphs
    for text in LABELS:
        _, _, text_px, _ = cv2.getTextSize((width, height), text, (0, 0), face, font_px, 500)
        size = (round(1.25 * font_px) + pad, text_px + 2 * pad)
        if size[0] <= height // 2 and size[1] <= width:
            plate = np.full((*size, 3), PLATE, np.uint8)
            cv2.putText(plate, text, (pad, font_px + pad // 2), INK, face, font_px, 500)
            return plate
    raise InputError(f"a picture of {width}x{height} px: too small for a legible label; make it larger")


def read_track(workspace: Workspace, identity: str) -> FaceTrack | None:
    """The track of a person's clip; None if there is none.

    Raises:
        FaceError: it is damaged.
    """
    path = workspace.path(workspace.track_name(identity))
    return FaceTrack.from_json(path.read_bytes(), name=str(path)) if path.is_file() else None


def face_square(track: FaceTrack, frames: range, *, zoom: float = 1.3) -> tuple[int, int, int]:
    """Square around a person's face in a clip: x, y, side in px.

    It is the same for all frames, so that what moves in a preview is the person, and lies within the picture.

    Args:
        track: of the clip.
        frames: numbers of the frames that will be shown.
        zoom: side of the square divided by the side of the crop.
    """
    x, y, side = (float(value) for value in track.crop[frames.start : frames.stop].mean(axis=0))
    larger = min(round(zoom * side), track.width, track.height)
    left, top = (round(corner + side / 2 - larger / 2) for corner in (x, y))
    return min(max(left, 0), track.width - larger), min(max(top, 0), track.height - larger), larger


def shown_frames(record: FileRecord, seconds: float) -> range:
    """Numbers of the frames that a preview shows: `seconds` from the middle of a clip, or all of a shorter one."""
    num_frames = min(math.ceil(seconds * (record.fps or 1)), record.num_frames)
    start = (record.num_frames - num_frames) // 2
    return range(start, start + num_frames)


def shrink(picture: Frame, subset: str, size: tuple[int, int], square: tuple[int, int, int] | None = None) -> Frame:
    """A small copy of a picture; that of a fake has the visible label.

    Args:
        picture: RGB uint8 (H, W, 3).
        subset: that it belongs to.
        size: width and height of the result, px.
        square: x, y, side of the part that is shown, px; None shows the whole picture.

    Returns:
        RGB uint8 (height, width, 3).

    Raises:
        InputError: the size is too small for a legible label.
    """
    if square:
        x, y, side = square
        picture = picture[y : y + side, x : x + side]
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small if SUBSETS[subset].method == "real" else draw_label(small)


def _write_preview(item: tuple[Workspace, FileRecord, Path, PreviewSettings]) -> list[Path]:
    """Preview of one file; runs in a worker. No unmarked file is in the folder at any time."""
    workspace, record, out, settings = item
    scale = min(1.0, settings.side_px / max(record.width, record.height))
    width, height = (max(2, round(side * scale / 2) * 2) for side in (record.width, record.height))
    path, shown, is_video = workspace.path(record.path), shown_frames(record, settings.seconds), record.fps is not None
    whole = read_frames(path, shown.start, shown.stop) if is_video else iter([read_image(path)])
    pictures = (shrink(picture, record.subset, (width, height)) for picture in whole)
    first = next(pictures, None)
    if first is None:
        problem = f"ends before frame {shown.start}, which its preview begins with; run `tooling verify`"
        raise InputError(f"{path}: {problem}")
    made = []
    with tempfile.TemporaryDirectory() as folder:
        poster = Path(folder, "poster.png")
        Image.fromarray(first).save(poster)
        if is_video:
            clip = Path(folder, "clip.mp4")
            fps = Fraction(record.fps or 30).limit_denominator(1001)
            with VideoWriter(clip, width=width, height=height, fps=fps, options=ENCODER_OPTIONS) as writer:
                for picture in chain([first], pictures):
                    writer.write(picture)
            made.append(_mark_preview(workspace, record, clip, out))
        made.append(_mark_preview(workspace, record, poster, out))
    return made


def _mark_preview(workspace: Workspace, record: FileRecord, path: Path, out: Path) -> Path:
    """Writes a marked copy of a finished file to its path below `out`."""
    name = Path(record.path).with_suffix(path.suffix)
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    parent = Ingredient(record.path, record.sha256, "parentOf")
    method = SUBSETS[record.path.partition("/")[0]].method
    mark = Mark(f"previews/{name.as_posix()}", method, record.generator, (parent,))
    keys = read_signing_keys(workspace.keys_path, workspace.settings.keys.timestamp_server)
    mark_file(path, mark, keys, target=out / name)
    return out / name
