"""Small copies for anyone: the visible label, its size and position, the marks, and what is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from generation.media.reader import read_clip
from tests.workspaces import add_file
from tooling.errors import InputError, UsageError
from tooling.marks.manifest import read_marks
from tooling.views import contact_sheet
from tooling.views.contact_sheet import write_contact_sheet
from tooling.views.previews import (
    INK,
    LABEL_SHARE,
    PreviewSettings,
    draw_label,
    face_square,
    read_track,
    shown_frames,
    write_previews,
)
from tooling.workspace.layout import Workspace
from tooling.workspace.signing_keys import read_keys

SIZES = ((160, 160), (256, 256), (350, 350), (480, 270), (1280, 720), (270, 480))
SUBSETS = ("raw_video", "swap_video", "GAN_images")


@pytest.fixture(scope="module")
def previews(small_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Previews of three subsets of `small_workspace`."""
    out = tmp_path_factory.mktemp("previews") / "out"
    write_previews(small_workspace, SUBSETS, out, num_workers=1)
    return out


def plate_of(width: int, height: int) -> NDArray[np.uint8]:
    """What the label covers: the largest corner in which black and white pictures become equal."""
    dark, light = (draw_label(np.full((height, width, 3), level, np.uint8)) for level in (0, 255))
    rows, columns = np.nonzero((dark == light).all(axis=-1))
    plate = dark[rows.min() :, : columns.max() + 1]
    assert (rows.max(), columns.min()) == (height - 1, 0)
    assert len(rows) == plate.shape[0] * plate.shape[1], "something shows through the plate"
    return plate


def luminance(colour: NDArray[np.float64]) -> float:
    """Relative luminance of WCAG 2, of RGB 0 to 255."""
    parts = np.where(colour / 255 <= 0.04045, colour / 255 / 12.92, ((colour / 255 + 0.055) / 1.055) ** 2.4)
    return float(parts @ np.array([0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_label_is_high_enough_and_legible_on_any_background(width: int, height: int) -> None:
    plate = plate_of(width, height)
    is_ink = plate.astype(int).sum(axis=-1) > sum(INK) * 0.6
    columns = np.flatnonzero(is_ink.any(axis=0))
    first_letter = is_ink[:, columns[0] : columns[np.flatnonzero(np.diff(columns) > 1)[0]] + 1]  # the "A"
    letter_px = np.ptp(np.flatnonzero(first_letter.any(axis=1))) + 1
    assert letter_px >= LABEL_SHARE * min(width, height)
    ground, ink = luminance(plate[0, 0].astype(float)), luminance(np.array(INK, float))
    assert (ink + 0.05) / (ground + 0.05) > 7  # WCAG 2 AAA
    assert plate.shape[0] * plate.shape[1] < 0.2 * width * height, "the label hides the picture"
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    labelled = draw_label(noise)
    assert np.array_equal(labelled[-plate.shape[0] :, : plate.shape[1]], plate)
    assert np.array_equal(labelled[: -plate.shape[0]], noise[: -plate.shape[0]])


def test_label_has_chinese_glyphs() -> None:
    """A font without them draws boxes, all of one shape."""
    plate = plate_of(600, 600)
    is_ink = plate.astype(int).sum(axis=-1) > 380
    columns = is_ink.any(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], columns, [0]]).astype(int)))
    shapes = {is_ink[:, a:b].tobytes() for a, b in zip(edges[::2], edges[1::2], strict=True)}
    assert len(shapes) > 8


def test_picture_too_small_for_a_label_is_refused() -> None:
    with pytest.raises(InputError, match="40x40 px: too small for a legible label"):
        draw_label(np.zeros((40, 40, 3), np.uint8))


def test_fakes_carry_the_label_in_every_frame_and_real_files_none(previews: Path, small_workspace: Workspace) -> None:
    fake = next(previews.glob("swap_video/*.mp4"))
    frames = read_clip(fake)
    assert len(frames) == small_workspace.records("swap_video")[f"swap_video/{fake.stem}"].num_frames
    plate = plate_of(frames.shape[2], frames.shape[1]).astype(int)
    corners = frames[:, -plate.shape[0] :, : plate.shape[1]].astype(int)
    assert np.abs(corners - plate).mean(axis=(1, 2, 3)).max() < 12  # of 255, after coding
    real = read_clip(previews / f"raw_video/{fake.stem.partition('_')[0]}.mp4")
    assert np.abs(real[:, -plate.shape[0] :, : plate.shape[1]].astype(int) - plate).mean() > 40
    for poster in (fake.with_suffix(".png"), previews / "GAN_images/000001.png"):
        picture = np.asarray(Image.open(poster))
        assert np.array_equal(picture[-plate.shape[0] :, : plate.shape[1]], plate)


def test_every_preview_is_marked_and_names_its_file(previews: Path, small_workspace: Workspace) -> None:
    keys = read_keys(small_workspace.keys_path)
    num_files = [len(small_workspace.records(subset)) for subset in SUBSETS]
    paths = sorted(path for path in previews.rglob("*") if path.is_file())
    assert len(paths) == 2 * num_files[0] + 2 * num_files[1] + num_files[2]
    for path in (paths[0], paths[-1], previews / "raw_video/1.mp4", previews / "raw_video/1.png"):
        name = path.relative_to(previews)
        is_fake = name.parts[0] != "raw_video"
        found = read_marks(path, keys)
        assert (found.state, len(found.labels)) == ("trusted", int(is_fake))
        shown = small_workspace.records(name.parts[0])[name.with_suffix("").as_posix()]
        assert found.ingredients == (shown.path,)
        assert ("digitalCapture" in found.source_types) == (not is_fake)


def test_long_clips_show_their_middle(small_workspace: Workspace) -> None:
    record = replace(next(iter(small_workspace.records("raw_video").values())), num_frames=450)
    assert shown_frames(record, 3.0) == range(180, 270)
    assert shown_frames(record, 60.0) == range(450)


def test_square_lies_in_the_picture_around_the_face(small_workspace: Workspace) -> None:
    track = read_track(small_workspace, "1")
    assert track is not None
    x, y, side = face_square(track, range(8))
    assert 0 <= x <= 30 < 50 <= x + side <= 96  # the track's face, in the picture
    assert 0 <= y <= 20 < 40 <= y + side <= 64
    assert read_track(small_workspace, "99") is None


def test_previews_have_the_requested_size(small_workspace: Workspace, tmp_path: Path) -> None:
    write_previews(small_workspace, ["raw_video"], tmp_path, PreviewSettings(side_px=64), num_workers=1)
    assert read_clip(tmp_path / "raw_video/1.mp4").shape[1:] == (42, 64, 3)


def test_wrong_calls_are_refused_before_any_work(small_workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="videos: no such subset; use raw_video"):
        write_previews(small_workspace, ["videos"], tmp_path)
    with pytest.raises(UsageError, match="1 s: a visible label must stay for 2 s"):
        write_previews(small_workspace, ["raw_video"], tmp_path, PreviewSettings(seconds=1))
    with pytest.raises(InputError, match="is in the workspace"):
        write_previews(small_workspace, ["raw_video"], small_workspace.root / "previews")
    assert not any(tmp_path.iterdir())


def test_unreadable_file_ends_the_command_and_leaves_nothing_unmarked(
    workspace_copy: Workspace, tmp_path: Path
) -> None:
    record = add_file(workspace_copy, "GAN_images/000099.png", "weightfree-face", {}, seed=99)
    workspace_copy.path(record.path).write_bytes(b"no picture")
    out = tmp_path / "out"
    with pytest.raises(Exception, match=r"000099.png: cannot be read as a picture"):
        write_previews(workspace_copy, ["GAN_images"], out, num_workers=1)
    keys = read_keys(workspace_copy.keys_path)
    assert all(read_marks(path, keys).state == "trusted" for path in out.rglob("*.*"))
    clip = workspace_copy.records("raw_video")["raw_video/1"]
    workspace_copy.publish("raw_video", replace(clip, num_frames=300), {})
    with pytest.raises(InputError, match=r"raw_video/1\.mp4: ends before frame \d+, .*run `tooling verify`"):
        write_previews(workspace_copy, ["raw_video"], out, num_workers=1)


def test_fakes_on_the_contact_sheet_carry_the_label(small_workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "sheet.jpg"
    write_contact_sheet(small_workspace, path, ("swap_video",), max_rows=1)
    sheet = np.asarray(Image.open(path))
    side, gap = contact_sheet.TILE_PX, contact_sheet.GAP_PX
    plate, is_labelled = plate_of(side, side), []
    for number in range(contact_sheet.ROW_TILES):
        left = 2 * gap + number * (side + gap) + number // len(contact_sheet.MOMENTS) * 2 * gap
        tile = sheet[contact_sheet.HEADING_PX : contact_sheet.HEADING_PX + side, left : left + side]
        corner = tile[-plate.shape[0] :, : plate.shape[1]]
        is_labelled.append(np.abs(corner.astype(float) - plate).mean() < 10)  # a JPEG is not the very same
    assert is_labelled == [False, False, True] * 3  # target, source, result


def test_a_contact_sheet_takes_no_more_than_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8))
    best = contact_sheet._encode(noise)
    monkeypatch.setattr(contact_sheet, "MAX_BYTES", len(best) // 2)
    assert len(best) // 4 < len(contact_sheet._encode(noise)) <= len(best) // 2
    monkeypatch.setattr(contact_sheet, "MAX_BYTES", 0)
    assert Image.open(io.BytesIO(contact_sheet._encode(noise))).size == (160, 120)  # it is written all the same


def test_a_contact_sheet_that_cannot_be_is_refused(small_workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"sheet.png: a contact sheet is a JPEG; name it sheet.jpg"):
        write_contact_sheet(small_workspace, tmp_path / "sheet.png")
    with pytest.raises(UsageError, match="71 rows: are too many for one picture; request at most 70"):
        write_contact_sheet(small_workspace, tmp_path / "sheet.jpg", max_rows=71)
    assert not any(tmp_path.iterdir())
