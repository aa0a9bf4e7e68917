"""Files that are sound, recorded and signed, and show the wrong thing: each fault is found and named by its place."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from generation.arrays import Frame
from generation.crops.align import align
from generation.crops.clip import PastedFrame
from generation.crops.paste import paste
from generation.faces.crop import crop_face
from generation.faces.detector import DetectedFaces
from generation.faces.identity import OnnxIdentity
from generation.media.reader import read_clip
from generation.media.writer import to_picture
from generation.quality.change import CELL_PX
from generation.quality.output import CHANGE, OutputMeter, limits_of
from tests.tooling.stages.verify.verified import (
    ALIGNED_PX,
    CROP_PX,
    NUM_FRAMES,
    aged,
    dyed,
    make_fake,
    make_image,
    move,
    portrait,
    publish,
    record_of,
    remake,
    render_still,
    replace_record,
    track_of,
)
from tests.workspaces import publish_marked
from tooling.errors import InputError
from tooling.stages.verify import group
from tooling.stages.verify import run as verify
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters import crops
from tooling.stages.verify.meters.in_step import Window
from tooling.stages.verify.meters.meter import DecodedFrame
from tooling.stages.verify.meters.raw_clip import FreezeMeter, UprightMeter
from tooling.stages.verify.state import CheckContext, CheckItem
from tooling.workspace.files import file_sha256
from tooling.workspace.layout import Workspace
from tooling.workspace.verification_file import read_verification


def errors_of(workspace: Workspace) -> list[str]:
    findings = verify.verify_files(workspace, num_workers=1)
    return [f"{finding.path}: {finding.message}" for finding in findings if finding.severity == "error"]


def frames_of(workspace: Workspace, path: str) -> list[Frame]:
    return list(read_clip(workspace.path(path)))


# --- faults ---


def exchange(workspace: Workspace, one: str, other: str) -> None:
    """Two fakes under each other's names, masks and all."""
    films = {path: frames_of(workspace, path) for path in (one, other)}
    masks = [workspace.path(f"masks/{path}") for path in (one, other)]
    aside = masks[0].with_suffix(".aside")
    for source, target in ((masks[0], aside), (masks[1], masks[0]), (aside, masks[1])):
        os.replace(source, target)
    for path, film in ((one, films[other]), (other, films[one])):
        mask = f"masks/{path}"
        record = record_of(workspace, path)
        replace_record(workspace, dataclasses.replace(record, companions={mask: file_sha256(workspace.path(mask))}))
        remake(workspace, path, film)


def shift(workspace: Workspace, path: str, num_frames: int, start: int = 0) -> None:
    """From a frame on, what belongs some frames later; the last frame stays for the rest."""
    film = frames_of(workspace, path)
    remake(workspace, path, film[:start] + [film[min(n + num_frames, len(film) - 1)] for n in range(start, len(film))])


def change_background(workspace: Workspace, path: str, frames: slice) -> None:
    film = frames_of(workspace, path)
    for frame in film[frames]:
        frame[200:232, 16:56] = frame[200:232, 16:56] // 2 + 90
    remake(workspace, path, film)


def dye_curtain(number: int, target: Frame, landmarks: NDArray[np.float32]) -> PastedFrame:
    """Hair, and as much of the background at the picture's side."""
    pasted = dyed(number, target, landmarks)
    mask, made = pasted.mask.copy(), pasted.frame.copy()
    mask[100:, :40] = 1
    made[100:, :40] = made[100:, :40] // 2 + 60
    return PastedFrame(target, made, pasted.region, mask)


def copy_as(workspace: Workspace, path: str, name: str) -> None:
    """The very film under another name, with that one's masks, marked as that one."""
    record, staged = record_of(workspace, name), workspace.staging_path(name)
    shutil.copy(workspace.path(path), staged)
    copied = dataclasses.replace(record, sha256=file_sha256(staged))
    publish_marked(workspace, copied, {name: staged})
    workspace.finish(name.partition("/")[0])


def copy_person(workspace: Workspace) -> None:
    """Person 3, in the test split, is person 1 a little brighter and cut; with the crop and fakes that follow."""
    still = cv2.resize(render_still("1")[3:237, 4:316], (320, 240), interpolation=cv2.INTER_CUBIC)
    remake(workspace, "raw_video/3.mp4", move(np.clip(still * 1.04 + 2, 0, 255).astype(np.uint8)))


def move_crop(workspace: Workspace) -> None:
    """Crop and track agree, and are a quarter of the side beside the face."""
    track = track_of(workspace, "1")
    squares = track.crop + np.array([[0.25, 0, 0]], np.float32) * track.crop[:, 2:]
    name = workspace.track_name("1")
    workspace.path(name).write_text(dataclasses.replace(track, crop=squares).to_json())
    clip = frames_of(workspace, "raw_video/1.mp4")
    crops = [crop_face(frame, square, CROP_PX) for frame, square in zip(clip, squares, strict=True)]
    record = record_of(workspace, "face_video/1.mp4")
    replace_record(workspace, dataclasses.replace(record, companions={name: file_sha256(workspace.path(name))}))
    remake(workspace, "face_video/1.mp4", crops)


def cover_face(workspace: Workspace) -> None:
    """The clip and its crop show no face, where the track says that there is one."""
    for path in ("raw_video/3.mp4", "face_video/3.mp4"):
        remake(
            workspace, path, [np.asarray(cv2.blur(frame, (61, 61)), np.uint8) for frame in frames_of(workspace, path)]
        )


def two_faces() -> Frame:
    halves = [cv2.resize(portrait(person), (CROP_PX // 2, CROP_PX // 2)) for person in ("1", "3")]
    image = np.full((CROP_PX, CROP_PX, 3), 120, np.uint8)
    image[44:132, :88], image[44:132, 88:] = halves
    return image


def aside() -> Frame:
    image = np.full((CROP_PX, CROP_PX, 3), 120, np.uint8)
    image[:100, :100] = cv2.resize(portrait("2"), (100, 100))
    return image


Fault = tuple[Callable[[Workspace], object], str]

# Each in files of its own, so that one verification finds them all.
FAULTS: dict[str, list[Fault]] = {
    "out of step": [
        (
            lambda w: shift(w, "swap_video/1_2.mp4", 3),
            "swap_video/1_2.mp4: is out of step: from frame 0 to 19 it is 3 frames ahead of raw_video/1.mp4",
        ),
        (lambda w: shift(w, "edit_video/age/2.mp4", 1), "edit_video/age/2.mp4: is out of step: from frame 0 to"),
        (
            lambda w: shift(w, "avatarify_video/2_1.mp4", 3, start=5),
            "avatarify_video/2_1.mp4: is out of step: from frame",
        ),
        (lambda w: shift(w, "face_video/2.mp4", 3), "face_video/2.mp4: is out of step: from frame 0 to"),
        (
            lambda w: make_image(w, 1, cv2.blur(portrait("2"), (61, 61))),  # type: ignore[arg-type]
            "GAN_images/000001.png: no face is found",
        ),
    ],
    "exchanged": [
        (
            lambda w: exchange(w, "swap_video/1_2.mp4", "swap_video/2_1.mp4"),
            "swap_video/1_2.mp4: shows raw_video/2.mp4, not raw_video/1.mp4",
        ),
        (
            lambda w: exchange(w, "edit_video/age/1.mp4", "edit_video/hair/1.mp4"),
            f"edit_video/age/1.mp4: its mask lies on the face in 0 of {NUM_FRAMES} frames only",
        ),
        (
            lambda w: copy_as(w, "edit_video/age/3.mp4", "edit_video/hair/3.mp4"),
            "edit_video/hair/3.mp4: shows the same as edit_video/age/3.mp4",
        ),
        (
            lambda w: remake(w, "face_video/1.mp4", frames_of(w, "face_video/2.mp4")[::-1]),
            "face_video/1.mp4: does not show what its track cuts out of raw_video/1.mp4",
        ),
        (lambda w: make_image(w, 1, two_faces()), "GAN_images/000001.png: shows 2 faces"),
    ],
    "changed": [
        (
            lambda w: remake(w, "swap_video/1_2.mp4", frames_of(w, "swap_video/2_1.mp4")),
            "swap_video/1_2.mp4: its background is not that of raw_video/1.mp4",
        ),
        (
            lambda w: change_background(w, "avatarify_video/1_2.mp4", slice(None)),
            "avatarify_video/1_2.mp4: its background differs from raw_video/1.mp4 outside of the mask, near (",
        ),
        (
            lambda w: make_fake(w, "edit_video/hair/3.mp4", dye_curtain),
            "% of what its mask replaces lies away from the head of raw_video/3.mp4",
        ),
        (lambda w: change_background(w, "edit_video/age/1.mp4", slice(7, 8)), " levels in frame 7"),
        (
            lambda w: remake(w, "edit_video/hair/1.mp4", frames_of(w, "raw_video/1.mp4")),
            "edit_video/hair/1.mp4: does not differ from raw_video/1.mp4 inside of its mask",
        ),
        (lambda w: make_image(w, 1, aside()), "GAN_images/000001.png: its face is off the centre"),
    ],
    "twice": [
        (copy_person, "raw_video/3.mp4: shows the same film as raw_video/1.mp4 in the split train"),
        (
            lambda w: make_image(w, 2, np.clip(portrait("2") * 1.05, 0, 255).astype(np.uint8), fold=0),
            "GAN_images/000002.png: shows the same film as GAN_images/000001.png in the split train",
        ),
    ],
    "copied": [
        (
            lambda w: remake(w, "swap_video/1_2.mp4", frames_of(w, "avatarify_video/1_2.mp4")),
            "swap_video/1_2.mp4: shows the same film as avatarify_video/1_2.mp4; take the copy out, or make both again",
        ),
        (
            lambda w: remake(w, "edit_video/age/3.mp4", frames_of(w, "edit_video/hair/3.mp4")),
            "edit_video/age/3.mp4: shows the same film as edit_video/hair/3.mp4; take the copy out, or make both again",
        ),
    ],
    "crops": [
        (move_crop, "% of the crop's side off its centre in frame "),
        (cover_face, "face_video/3.mp4: no face is found in 4 of 4 measured frames"),
    ],
}


@pytest.mark.parametrize("together", FAULTS)
def test_what_a_file_shows(together: str, verified_copy: Workspace) -> None:
    for inject, _ in FAULTS[together]:
        inject(verified_copy)
    found = errors_of(verified_copy)
    assert [message for _, message in FAULTS[together] if not any(message in line for line in found)] == [], found


def test_clean_workspace_has_no_error_and_is_measured(verified: Workspace) -> None:
    rows = read_verification(verified)
    assert len(rows) == 3 * 4 + 2 * 2 + 2
    assert all(row.is_ok for row in rows.values())
    for path, row in rows.items():
        assert {"face_px", "sharpness", "brightness"} <= set(row.measurements), path
    clip, crop = (rows[f"{subset}/1.mp4"].measurements for subset in ("raw_video", "face_video"))
    assert 60 < clip["face_px"] < 140
    assert crop["face_px"] == pytest.approx(CROP_PX / 1.4, rel=0.1)
    assert crop["brightness"] == pytest.approx(clip["brightness"], abs=6)


def test_fake_of_a_missing_clip(verified_copy: Workspace) -> None:
    verified_copy.forget("raw_video", ["raw_video/2"])
    assert "swap_video/1_2.mp4: raw_video/2.mp4, which it was made from, is not there" in errors_of(verified_copy)


def test_masks_are_checked(verified_copy: Workspace) -> None:
    (verified_copy.root / "masks/swap_video/9_9.mp4").write_bytes(b"")
    assert "masks/swap_video/9_9.mp4: has no record; remove it or import it" in errors_of(verified_copy)
    path = verified_copy.path("masks/swap_video/1_2.mp4")
    path.write_bytes(path.read_bytes()[:-2000])
    record = record_of(verified_copy, "swap_video/1_2.mp4")
    replace_record(
        verified_copy, dataclasses.replace(record, companions={"masks/swap_video/1_2.mp4": file_sha256(path)})
    )
    assert any(line.startswith("masks/swap_video/1_2.mp4: ") for line in errors_of(verified_copy))


def test_imported_fakes_have_no_masks_and_are_beside_their_target_all_the_same(verified_copy: Workspace) -> None:
    """Fakes from elsewhere: what is around the head tells whose clip they are."""
    verified_copy.path("masks/swap_video/1_2.mp4").unlink()
    record = record_of(verified_copy, "swap_video/1_2.mp4")
    for film, message in (("swap_video/1_2.mp4", ""), ("swap_video/2_1.mp4", "its background is not that of")):
        frames = frames_of(verified_copy, film)
        imported = dataclasses.replace(record, companions={}, origin="imported")
        publish(verified_copy, "swap_video/1_2.mp4", frames, record=imported)
        found = [line for line in errors_of(verified_copy) if line.startswith("swap_video/1_2.mp4")]
        assert any(message in line for line in found) if message else not found, found


METERS = {
    "raw_video/1.mp4": [
        "ContentMeter",
        "TracesMeter",
        "ViewMeter",
        "ExcerptMeter",
        "ExcerptMeter",
        "MouthMeter",
        "IdentityMeter",
        "Window",
        "FreezeMeter",
        "UprightMeter",
    ],
    "face_video/1.mp4": [
        "ContentMeter",
        "TracesMeter",
        "ViewMeter",
        "ExcerptMeter",
        "IdentityMeter",
        "FaceMeter",
        "CropMeter",
    ],
    "swap_video/1_2.mp4": [
        "ContentMeter",
        "TracesMeter",
        "ViewMeter",
        "ExcerptMeter",
        "IdentityMeter",
        "MaskMeter",
        "TargetMeter",
        "SwappedFaceMeter",
    ],
    "avatarify_video/1_2.mp4": [
        "ContentMeter",
        "TracesMeter",
        "ViewMeter",
        "ExcerptMeter",
        "MouthMeter",
        "IdentityMeter",
        "MaskMeter",
        "TargetMeter",
    ],
    "edit_video/age/1.mp4": [
        "ContentMeter",
        "TracesMeter",
        "ViewMeter",
        "ExcerptMeter",
        "IdentityMeter",
        "MaskMeter",
        "TargetMeter",
    ],
}


@pytest.mark.parametrize("path", METERS)
def test_subset_decides_what_is_measured(path: str, verified: Workspace) -> None:
    record, clip = record_of(verified, path), record_of(verified, "raw_video/1.mp4")
    item = CheckItem(verified, CheckContext(frozenset(), False, "dlib"), (record,), clip=clip)
    target = group.TargetClip(clip, track_of(verified, "1"), Window())
    meters = group.choose_meters(item, record, FileCheck(path), target)
    assert [type(meter).__name__ for meter in meters] == METERS[path]
    alone = group.choose_meters(item, record, FileCheck(path), group.TargetClip(None, None, Window()))
    assert {type(meter).__name__ for meter in alone} <= {
        "ContentMeter",
        "TracesMeter",
        "ViewMeter",
        "ExcerptMeter",
        "FaceMeter",
        "Window",
        "FreezeMeter",
        "UprightMeter",
        "MaskMeter",
    }


def test_clip_that_is_frozen_or_upside_down_is_an_error() -> None:
    check, pictures = FileCheck("raw_video/1.mp4"), move(render_still("1"), 20)
    frozen = [*pictures, *[pictures[-1]] * 20]
    meters = [FreezeMeter(check, 15, None), UprightMeter(check, 40)]
    for number, picture in enumerate(frozen):
        frame = DecodedFrame(number, to_picture(np.ascontiguousarray(picture[::-1, ::-1])))
        for meter in meters:
            if meter.wants(number):
                meter.add(frame, None)
    for meter in meters:
        meter.finish()
    messages = [finding.message.partition(";")[0] for finding in check.findings]
    assert messages == ["is frozen for 1.3 s from frame 19", "shows its face upside down"]


# --- whose face a file shows ---


def write_encoder(path: Path) -> None:
    """Stands for an identity network: edges of the inner face on a coarse grid, as a network in ONNX."""
    laplacian = np.zeros((1, 3, 3, 3), np.float32)
    laplacian[0] = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    blur = np.full((1, 1, 7, 7), 1 / 49, np.float32)
    nodes = [
        helper.make_node("Conv", ["faces", "laplacian"], ["edges"], pads=[1, 1, 1, 1]),
        helper.make_node("Slice", ["edges", "starts", "ends", "axes"], ["inner"]),
        helper.make_node("Conv", ["inner", "blur"], ["grid"], strides=[3, 3]),
        helper.make_node("Flatten", ["grid"], ["embedding"]),
    ]
    values = {
        "laplacian": laplacian,
        "blur": blur,
        "starts": np.array([30, 22]),
        "ends": np.array([105, 90]),
        "axes": np.array([2, 3]),
    }
    given = helper.make_tensor_value_info("faces", TensorProto.FLOAT, [1, 3, 112, 112])
    made = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 23 * 21])
    tensors = [numpy_helper.from_array(value, name) for name, value in values.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "edges", [given], [made], tensors), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.save(model, path)


def test_identities_are_measured_with_an_encoder(
    verified_copy: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    alike = dataclasses.replace(OnnxIdentity.limits, smallest_invented=0.9)  # nearer people are not told apart
    monkeypatch.setattr(OnnxIdentity, "limits", alike)
    folder = tmp_path / "encoder"
    folder.mkdir()
    with pytest.raises(InputError, match="no identity encoder"):
        verify.verify_files(verified_copy, verify.VerifyOptions(identity_encoder=folder), num_workers=1)
    write_encoder(folder / "identity.onnx")
    make_fake(verified_copy, "swap_video/2_1.mp4", aged)  # the target's own face
    verified_copy.finish("swap_video")
    findings = verify.verify_files(verified_copy, verify.VerifyOptions(identity_encoder=folder), num_workers=1)
    texts = [str(found) for found in findings]  # to this encoder the two look alike, so it is no error
    assert any("note: swap_video/2_1.mp4: its face is nearer to that of its target " in line for line in texts), texts
    assert not any("swap_video/1_2.mp4" in line for line in texts), texts
    assert not any("was not measured" in found.message for found in findings)
    rows = read_verification(verified_copy)
    measured = rows["swap_video/1_2.mp4"].measurements
    assert measured["source_distance"] < measured["target_distance"]
    assert "source_distance" not in rows["edit_video/age/1.mp4"].measurements


def slightly(target: Frame, landmarks: NDArray[np.float32], levels: int) -> PastedFrame:
    """Three of four blocks of the face, lighter by some levels."""
    _, _, matrix = align(target, landmarks, ALIGNED_PX)
    mask = np.ones((ALIGNED_PX, ALIGNED_PX), np.float32)
    pasted = paste(target, align(target, landmarks, ALIGNED_PX)[0], mask, matrix)
    made = target.copy()
    rows, columns = np.indices(target.shape[:2]) // CELL_PX
    is_lit = np.asarray(rows % 2 + columns % 2 < 2)
    lighter = is_lit[pasted.region] & (pasted.mask > 0)
    made[pasted.region][lighter] = np.minimum(made[pasted.region][lighter], 255 - levels) + np.uint8(levels)
    return PastedFrame(target, made, pasted.region, pasted.mask)


@pytest.mark.parametrize(("levels", "is_accepted"), [(2, True), (1, False)])
def test_change_is_measured_alike_before_and_after_encoding(
    verified_copy: Workspace, levels: int, is_accepted: bool
) -> None:
    name, clip = "swap_video/1_2.mp4", verified_copy.path("raw_video/1.mp4")
    meter, track = OutputMeter(limits_of("face_swap")), track_of(verified_copy, "1")
    for number, frame in enumerate(read_clip(clip)):
        meter.add(slightly(frame, track.landmarks[number], levels))
    change = meter.results()[CHANGE]
    assert (change >= limits_of("face_swap").smallest_change) == is_accepted
    assert change < 1.5 * limits_of("face_swap").smallest_change
    make_fake(verified_copy, name, lambda number, frame, landmarks: slightly(frame, landmarks, levels))
    replace_record(verified_copy, dataclasses.replace(record_of(verified_copy, name), results={CHANGE: change}))
    too_little = [line for line in errors_of(verified_copy) if "does not differ from raw_video/1.mp4" in line]
    assert (not too_little) or not is_accepted


def test_a_copy_of_the_target_in_place_of_a_fake_that_differed_is_found(verified_copy: Workspace) -> None:
    name = "swap_video/1_2.mp4"
    make_fake(verified_copy, name, lambda number, frame, landmarks: slightly(frame, landmarks, 0))
    replace_record(verified_copy, dataclasses.replace(record_of(verified_copy, name), results={CHANGE: 6.0}))
    assert any(line.startswith(f"{name}: does not differ from raw_video/1.mp4") for line in errors_of(verified_copy))


@pytest.mark.parametrize(
    ("left_px", "probability", "message"),
    [(46, 0.75, ""), (46, 0.95, ""), (4, 0.75, "no face is found in 4 of 4"), (4, 0.95, "is off the centre by 22%")],
)
def test_a_face_that_is_less_sure_counts_where_it_has_to_be(
    monkeypatch: pytest.MonkeyPatch, left_px: int, probability: float, message: str
) -> None:
    """A fringe takes MTCNN's faces to .75 to .98 in frames of one clip."""
    box = np.array([[left_px, 46, left_px + 100, 146]], np.float32)  # in a picture of 192 px
    face = DetectedFaces(box, np.array([probability], np.float32), np.zeros((1, 5, 2), np.float32))
    monkeypatch.setattr(crops, "detect_faces", lambda detector, pictures: [face] * len(pictures))
    monkeypatch.setattr(crops, "turned_face", lambda pictures, found: "")
    meter = crops.FaceMeter(check := FileCheck("face_video/66.mp4"), 4)
    for _ in range(4):
        meter.add_picture(np.zeros((350, 350, 3), np.uint8))
    meter.finish()
    assert [message in found.message for found in check.findings] == [True] * bool(message)
