"""Weight-free editing on synthetic actors: where it changes, how much, that it is smooth, and that it says no."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from generation.arrays import Floats, Frame
from generation.crops.align import align
from generation.crops.clip import FaceClip, PastedFrame
from generation.crops.templates import TEMPLATES
from generation.errors import GenerationError, RejectedOutputError
from generation.generators.base import Attribute
from generation.generators.loading import load_generator
from generation.generators.registry import generators_of
from generation.generators.weightfree.edit import WeightfreeEdit
from generation.generators.weightfree.editing.hair import COLOURS, choose_colour, hair_alone, recolour
from generation.generators.weightfree.editing.wrinkles import draw_age_map
from generation.head.analysis import ANALYSIS_PX
from generation.head.cutting import KeyCrop, cut_out
from generation.head.matting import matte
from generation.head.segmentation import key_numbers, learn_head
from generation.quality.output import OutputMeter, limits_of
from tests.actor_clips import TALK, film_person, film_talk
from tooling.actors import render_clip, sample_actor

NUM_FRAMES = 12
HAIR_COLOUR = "copper"


def first(clip: FaceClip, num_frames: int) -> FaceClip:
    return FaceClip("short", lambda: islice(clip.frames(), num_frames), clip.landmarks[:num_frames])


@pytest.fixture(scope="module")
def clip() -> FaceClip:
    return film_talk(4, NUM_FRAMES)


@pytest.fixture(scope="module")
def is_hair(clip: FaceClip) -> NDArray[np.bool_]:
    """The truth for the first frame: pixels that look different when the same actor has red hair; brows included."""
    ginger = dataclasses.replace(sample_actor(4, "male"), hair_color=(0.6, 0.05, 0.02))
    red = next(render_clip(ginger, dataclasses.replace(TALK, motion_seed=4)))
    change = np.abs(red.image.astype(int) - next(clip.frames())).max(2)
    return np.asarray(change > 60)


def edit(clip: FaceClip, attribute: Attribute, factor: float, seed: int = 0) -> list[PastedFrame]:
    pipeline = WeightfreeEdit(hair_colour=HAIR_COLOUR)
    return list(
        pipeline.stream(clip, attribute=attribute, factor=factor, generator=torch.Generator().manual_seed(seed))
    )


@pytest.fixture(scope="module")
def dyed(clip: FaceClip) -> list[PastedFrame]:
    return edit(clip, "hair", 2.0)


@pytest.fixture(scope="module")
def old(clip: FaceClip) -> list[PastedFrame]:
    return edit(clip, "age", 2.0)


def weight_of(pasted: PastedFrame) -> Floats:
    weight = np.zeros(pasted.frame.shape[:2], np.float32)
    weight[pasted.region] = pasted.mask
    return weight


def change_of(pasted: PastedFrame) -> NDArray[np.int64]:
    return np.asarray(np.abs(pasted.frame.astype(np.int64) - pasted.original).max(2), np.int64)


def cheek(clip: FaceClip, number: int) -> tuple[slice, slice]:
    """A patch between an eye and the corner of the mouth below it."""
    eye, corner = clip.landmarks[number][1], clip.landmarks[number][4]
    x, y = 0.5 * (eye + corner) + [2, 0]
    return slice(round(y - 4), round(y + 5)), slice(round(x - 4), round(x + 5))


def as_lab(image: Frame) -> Floats:
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def test_it_is_the_family_s_default() -> None:
    assert generators_of("attribute_editing")[0] == "weightfree-edit"
    assert isinstance(load_generator("weightfree-edit"), WeightfreeEdit)


@pytest.mark.parametrize("attribute", ["age", "hair"])
def test_factor_0_changes_nothing(clip: FaceClip, attribute: Attribute) -> None:
    for pasted, frame in zip(edit(clip, attribute, 0.0), clip.frames(), strict=True):
        assert np.array_equal(pasted.frame, frame)
        assert not pasted.mask.any()


@pytest.mark.parametrize(("attribute", "sign"), [("hair", 1), ("age", 1), ("age", -1)])
def test_the_change_grows_with_the_factor(clip: FaceClip, attribute: Attribute, sign: int) -> None:
    amounts = [change_of(edit(first(clip, 1), attribute, sign * factor)[0]).mean() for factor in (0.25, 1.0, 2.0)]
    assert 0 < amounts[0] < 0.6 * amounts[1]
    assert amounts[2] > 1.4 * amounts[1]


@pytest.mark.parametrize("result", ["dyed", "old"])
def test_only_pixels_under_the_mask_change(result: str, request: pytest.FixtureRequest) -> None:
    for pasted in request.getfixturevalue(result):
        weight = weight_of(pasted)
        assert np.array_equal(pasted.frame[weight == 0], pasted.original[weight == 0])
        assert 0.01 < weight.mean() < 0.3


def test_hair_changes_and_skin_and_background_do_not(
    clip: FaceClip, is_hair: NDArray[np.bool_], dyed: list[PastedFrame]
) -> None:
    change = change_of(dyed[0])
    assert 0.02 < is_hair.mean() < 0.2
    inside = cv2.erode(is_hair.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    far = ~cv2.dilate(is_hair.astype(np.uint8), np.ones((13, 13), np.uint8)).astype(bool)
    assert np.median(change[inside]) > 40
    assert change[cheek(clip, 0)].max() <= 1
    assert change[far].mean() < 0.3
    found = weight_of(dyed[0]) > 0.5
    assert (found & is_hair).sum() / (found | is_hair).sum() > 0.75


def test_dark_hair_gets_the_colour(is_hair: NDArray[np.bool_], dyed: list[PastedFrame]) -> None:
    inside = cv2.erode(is_hair.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    before, after = (np.median(as_lab(image)[inside], 0) for image in (dyed[0].original, dyed[0].frame))
    wanted = COLOURS[HAIR_COLOUR]
    assert np.linalg.norm(before - wanted) > 35
    assert np.linalg.norm(after - wanted) < 12


def test_strands_keep_their_texture(is_hair: NDArray[np.bool_], dyed: list[PastedFrame]) -> None:
    inside = cv2.erode(is_hair.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    strands = []
    for image in (dyed[0].original, dyed[0].frame):
        lightness = as_lab(image)[..., 0]
        strands.append((lightness - cv2.GaussianBlur(lightness, (0, 0), 2))[inside])
    assert np.corrcoef(*strands)[0, 1] > 0.85
    assert 0.8 < strands[1].std() / strands[0].std() < 2.2


def lines(image: Frame, where: tuple[slice, slice]) -> float:
    lightness = as_lab(image)[..., 0]
    return float(
        np.abs(cv2.GaussianBlur(lightness, (0, 0), 0.8) - cv2.GaussianBlur(lightness, (0, 0), 5))[where].mean()
    )


def test_age_draws_lines_and_greys_hair(clip: FaceClip, is_hair: NDArray[np.bool_], old: list[PastedFrame]) -> None:
    left, right = clip.landmarks[0][:2]
    middle, gap = (left + right) / 2, float(right[0] - left[0])
    folds = (
        slice(round(middle[1] + 0.1 * gap), round(middle[1] + 1.3 * gap)),
        slice(round(left[0]), round(right[0]) + 1),
    )
    assert lines(old[0].frame, folds) > 1.1 * lines(old[0].original, folds)
    hair = [np.median(as_lab(image)[is_hair], 0) for image in (old[0].original, old[0].frame)]
    assert hair[1][0] > hair[0][0] + 20
    assert np.hypot(*hair[1][1:]) < 8


def test_younger_skin_is_smoother_and_warmer_but_not_flat(clip: FaceClip) -> None:
    where = cheek(clip, 0)
    noise = np.random.default_rng(0).normal(0, 1, (TALK.height_px, TALK.width_px, 1))
    blotches = 40 * cv2.GaussianBlur(noise, (0, 0), 1.3)[..., None] + 1.5 * noise
    uneven = [np.clip(frame + blotches, 0, 255).astype(np.uint8) for frame in first(clip, 2).frames()]
    rough = FaceClip("rough", lambda: iter(uneven), clip.landmarks[:2])
    pasted = edit(rough, "age", -2.0)[0]
    assert lines(pasted.frame, where) < 0.75 * lines(pasted.original, where)
    before, after = (as_lab(image)[where] for image in (pasted.original, pasted.frame))
    assert after[..., 1:].mean() > before[..., 1:].mean() + 1
    grain = [np.abs(np.diff(values[..., 0], axis=1)).mean() for values in (before, after)]
    assert grain[1] > 0.5 * grain[0]


def test_younger_makes_grey_hair_brown() -> None:
    grey = film_person(1, "female", dataclasses.replace(TALK, num_frames=2, motion_seed=4)).face_clip("1.mp4")
    pasted = edit(grey, "age", -2.0)[0]
    hair = weight_of(edit(grey, "hair", 2.0)[0]) > 0.95
    assert hair.mean() > 0.02
    before, after = (np.median(as_lab(image)[hair], 0)[0] for image in (pasted.original, pasted.frame))
    assert after < before - 15


@pytest.mark.parametrize("result", ["dyed", "old"])
def test_it_does_not_flicker_and_stays_at_the_head(result: str, request: pytest.FixtureRequest, clip: FaceClip) -> None:
    meter = OutputMeter(limits_of("attribute_editing", 2.0), landmarks=clip.landmarks)
    for pasted in request.getfixturevalue(result):
        meter.add(pasted)
    meter.raise_if_rejected(result, NUM_FRAMES)
    measured = meter.results()
    assert measured["flicker"] < 1.4 * measured["target_flicker"] + 0.5
    assert measured["away"] < 0.01


def test_a_background_dyed_with_the_hair_is_rejected(clip: FaceClip, dyed: list[PastedFrame]) -> None:
    meter = OutputMeter(limits_of("attribute_editing", 2.0), landmarks=clip.landmarks)
    for pasted in dyed:
        frame, mask = pasted.frame.copy(), weight_of(pasted)
        frame[60:, :30] = frame[60:, :30] // 2 + 60
        mask[60:, :30] = 1
        meter.add(PastedFrame(pasted.original, frame, tuple(slice(0, size) for size in mask.shape), mask))  # type: ignore[arg-type]
    with pytest.raises(RejectedOutputError, match=r"rejected, \d+% of what is replaced lies away from the head"):
        meter.raise_if_rejected("4.mp4", len(dyed))


@pytest.mark.parametrize(("attribute", "batch_frames"), [("age", 1), ("hair", 7), ("age", 50)])
def test_the_batch_size_changes_nothing(
    clip: FaceClip, attribute: Attribute, batch_frames: int, dyed: list[PastedFrame], old: list[PastedFrame]
) -> None:
    pipeline = WeightfreeEdit(batch_frames=batch_frames, hair_colour=HAIR_COLOUR)
    wanted = old if attribute == "age" else dyed
    for number, pasted in enumerate(pipeline.stream(clip, attribute=attribute, factor=2.0)):
        assert np.array_equal(pasted.frame, wanted[number].frame), number
        if number == 4:
            return


def test_a_saved_pipeline_gives_the_same_pixels(clip: FaceClip, dyed: list[PastedFrame], tmp_path: Path) -> None:
    WeightfreeEdit(hair_colour=HAIR_COLOUR).save_pretrained(tmp_path)
    again = WeightfreeEdit.from_pretrained(tmp_path)
    # The key frames depend on the clip's length: the whole of it is looked at.
    assert again.parameters["hair_colour"] == HAIR_COLOUR
    assert "batch_frames" not in again.parameters
    pasted = next(iter(again.stream(clip, attribute="hair", factor=2.0)))
    assert np.array_equal(pasted.frame, dyed[0].frame)


def test_the_seed_draws_spots_and_colour(clip: FaceClip) -> None:
    assert np.array_equal(draw_age_map(1).canvas, draw_age_map(1).canvas)
    assert not np.array_equal(draw_age_map(1).canvas, draw_age_map(2).canvas)
    dark = np.array([12, 1, 2], np.float32)
    drawn = {choose_colour("auto", dark, seed) for seed in range(12)}
    assert len(drawn) >= 3
    assert COLOURS["black"] not in drawn
    model = learn_head(clip)
    assert np.array_equal(model.colours, learn_head(clip).colours)


@pytest.mark.parametrize("wanted", COLOURS.values(), ids=COLOURS)
def test_recolouring_keeps_black_and_white_and_order(wanted: tuple[float, float, float]) -> None:
    usual = np.array([15, 1, 2], np.float32)
    ramp = np.zeros((40, 400, 3), np.float32)
    ramp[..., 0] = np.linspace(0, 100, 400)
    new = recolour(ramp, usual, wanted)[20, :, 0]
    assert new[0] < 4
    assert new[-1] > 96
    assert np.all(np.diff(new) > -1e-3)
    flat = np.broadcast_to(usual, (40, 40, 3)).copy()
    np.testing.assert_allclose(recolour(flat, usual, wanted)[20, 20], wanted, atol=0.5)


def test_thin_hair_takes_its_colour_from_the_hair_beside_it() -> None:
    lab = np.zeros((80, 80, 3), np.float32)
    lab[:, :40, 0], lab[:, 40:, 0] = 12, 90
    share = np.tile(np.clip((44 - np.arange(80, dtype=np.float32)) / 8, 0, 1).astype(np.float32), (80, 1))
    alone = hair_alone(lab, share, np.array([12, 0, 0], np.float32))
    assert np.abs(alone[:, :46, 0] - 12).max() < 6


def test_the_matte_follows_edges() -> None:
    picture = np.full((ANALYSIS_PX, ANALYSIS_PX, 3), 220, np.uint8)
    picture[60:150, 70:160] = 30
    rough = np.zeros((ANALYSIS_PX, ANALYSIS_PX), np.float32)
    rough[58:148, 72:162] = 1
    fine = picture.repeat(2, 0).repeat(2, 1)
    found = matte(fine, picture, rough)
    truth = fine[..., 0] < 100
    assert ((found > 0.5) & truth).sum() / ((found > 0.5) | truth).sum() > 0.97


def head(has_hair: bool = False, has_brows: bool = False) -> FaceClip:
    """A drawn head, bald or not."""
    picture = np.full((400, 400, 3), (90, 110, 140), np.uint8)
    points = TEMPLATES["head"] * 400
    eyes = points[:2].mean(0)
    unit = float(points[3:, 1].mean() - eyes[1])
    centre = (round(eyes[0]), round(eyes[1] + 0.2 * unit))
    if has_hair:
        cv2.ellipse(picture, (centre[0], round(eyes[1] - 0.2 * unit)), (60, 75), 0, 0, 360, (35, 25, 20), -1)
    cv2.ellipse(picture, centre, (round(1.05 * unit), round(1.5 * unit)), 0, 0, 360, (205, 160, 135), -1)
    for x, y in points[:2]:
        cv2.ellipse(picture, (round(x), round(y)), (7, 4), 0, 0, 360, (50, 40, 35), -1)
        if has_brows:
            cv2.ellipse(picture, (round(x), round(y - 0.36 * unit)), (12, 3), 0, 0, 360, (70, 50, 40), -1)
    noise = np.random.default_rng(0).normal(0, 2, picture.shape)
    return FaceClip.still("bald.mp4", np.clip(picture + noise, 0, 255).astype(np.uint8), points, 2)


def test_a_bald_head_s_brows_are_dyed() -> None:
    bald = head(has_brows=True)
    model = learn_head(bald)
    assert not model.has_hair
    change = change_of(edit(bald, "hair", 2.0)[0])
    rows = np.flatnonzero(change.max(1) > 25)
    assert len(rows) > 3
    assert rows.max() < bald.landmarks[0, 0, 1] - 2
    assert learn_head(head(has_hair=True, has_brows=True)).has_hair


def test_a_head_without_any_hair_is_refused() -> None:
    with pytest.raises(GenerationError, match=r"bald\.mp4: rejected, it shows neither hair nor brows"):
        edit(head(), "hair", 2.0)
    assert change_of(edit(head(), "age", 2.0)[0]).max() > 10


@pytest.mark.parametrize(
    ("attribute", "factor", "message"),
    [("beard", 1.0, "no such attribute"), ("hair", -1.0, "factor -1.0 does not suit"), ("age", np.nan, "factor nan")],
)
def test_what_cannot_be_done_is_refused(clip: FaceClip, attribute: Attribute, factor: float, message: str) -> None:
    with pytest.raises(GenerationError, match=message):
        edit(clip, attribute, factor)


def test_an_unknown_hair_colour_is_refused() -> None:
    with pytest.raises(GenerationError, match="green: no such hair colour"):
        WeightfreeEdit(hair_colour="green")


def test_key_frames_are_few_however_long_the_clip() -> None:
    assert key_numbers(1) == [0]
    assert len(key_numbers(450)) == len(key_numbers(100_000)) == 12
    assert key_numbers(450)[-1] == 449


def test_cutting_out_is_deterministic(clip: FaceClip) -> None:
    frame = next(clip.frames())
    key = KeyCrop(*align(frame, clip.landmarks[0], ANALYSIS_PX, "head"), frame.shape[1::-1])
    once = cut_out([key])
    cv2.setRNGSeed(99)
    assert np.array_equal(once, cut_out([key]))
