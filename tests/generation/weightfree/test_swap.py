"""The weight-free swap on synthetic actors: whose face is seen, what it follows, no hard edge, no flicker."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from generation.arrays import Floats, Frame
from generation.crops import blending
from generation.crops.align import AlignedFaces, aligned_batches
from generation.crops.blending import GRID_PX
from generation.crops.clip import FaceClip, PastedFrame
from generation.errors import RejectedOutputError
from generation.generators.base import CropsOutput
from generation.generators.loading import load_generator
from generation.generators.weightfree.driving.eyelids import close_eyes
from generation.generators.weightfree.openings import lid_closures
from generation.generators.weightfree.swap import (
    PreparedSwap,
    SwapSettings,
    WeightfreeSwap,
    _Batch,
    _compared,
    lower_lip,
    stretch,
)
from generation.motion.expression import (
    FEATURES,
    Neutral,
    are_brows_hidden,
    choose_frames,
    choose_neutral,
    choose_sequence,
    comparable,
    displacement,
    eye_contrast,
    eye_darkness,
    mouth_darkness,
    small_grey,
)
from generation.motion.fields import pixels
from generation.quality.output import OutputMeter, limits_of
from tests.actor_clips import TALK, film_talk

NUM_FRAMES = TALK.num_frames
FACE = np.array([[0.35, 0.38], [0.65, 0.38], [0.5, 0.55], [0.38, 0.73], [0.62, 0.73]], np.float32)
BLINK, OPENING = FEATURES.index("eye_closure"), FEATURES.index("mouth_opening")


@pytest.fixture(scope="module")
def clips() -> tuple[FaceClip, FaceClip]:
    return film_talk(4), film_talk(1)


@pytest.fixture(scope="module")
def prepared(clips: tuple[FaceClip, FaceClip]) -> PreparedSwap:
    return WeightfreeSwap().prepare(*clips)


@pytest.fixture(scope="module")
def result(clips: tuple[FaceClip, FaceClip]) -> list[PastedFrame]:
    return list(load_generator("weightfree-swap").stream(*clips, generator=torch.Generator().manual_seed(1)))


@pytest.fixture(scope="module")
def faces(clips: tuple[FaceClip, FaceClip]) -> AlignedFaces:
    return all_crops(clips[0])


@pytest.fixture(scope="module")
def output(faces: AlignedFaces, prepared: PreparedSwap) -> CropsOutput:
    return WeightfreeSwap().replace(faces, prepared)


def all_crops(clip: FaceClip) -> AlignedFaces:
    return next(aligned_batches(clip, dataclasses.replace(WeightfreeSwap().batching, batch_frames=NUM_FRAMES)))


def edges(image: NDArray[np.uint8] | Floats) -> Floats:
    grey = cv2.GaussianBlur(np.asarray(image, np.float32).mean(2), (0, 0), 2)
    return np.stack([cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)], -1)


def likeness(first: Frame | Floats, second: Frame | Floats, inside: NDArray[np.bool_]) -> float:
    """Correlation of the gradients of two pictures."""
    return float(np.corrcoef(edges(first)[inside].ravel(), edges(second)[inside].ravel())[0, 1])


def test_only_pixels_under_the_mask_change(result: list[PastedFrame]) -> None:
    assert len(result) == NUM_FRAMES
    for pasted in result:
        weight = np.zeros(pasted.frame.shape[:2], np.float32)
        weight[pasted.region] = pasted.mask
        assert np.array_equal(pasted.frame[weight == 0], pasted.original[weight == 0])
        assert 0.02 < weight.mean() < 0.25
        changed = np.abs(pasted.frame[weight > 0.9].astype(int) - pasted.original[weight > 0.9])
        assert changed.mean() > 4


def test_the_face_is_the_source_s(faces: AlignedFaces, prepared: PreparedSwap, output: CropsOutput) -> None:
    batch = _Batch(faces, prepared, SwapSettings())
    for at in range(0, NUM_FRAMES, 6):
        warped, _, _ = batch._warped_source(at, at)
        inside = output.masks[at] > 0.9
        to_source = likeness(output.frames[at], warped, inside)
        to_target = likeness(output.frames[at], faces.crops[at], inside)
        assert to_source > 0.8
        assert to_source > to_target + 0.15


def test_the_mask_has_no_hard_edge(output: CropsOutput) -> None:
    assert output.masks.min() >= 0
    assert output.masks.max() <= 1
    for axis in (1, 2):
        assert np.abs(np.diff(output.masks, axis=axis)).max() < 0.12


def test_the_skin_has_the_target_s_tone(faces: AlignedFaces, output: CropsOutput) -> None:
    cheeks = (slice(None), slice(160, 205), slice(100, 220))
    wanted = faces.crops[cheeks].mean((0, 1, 2))
    assert np.abs(output.frames[cheeks].mean((0, 1, 2)) - wanted).max() < 8


def test_skin_that_is_almost_white_is_darkened_without_reddening() -> None:
    pale, dark = np.array([0.97, 0.86, 0.80], np.float32), np.array([0.45, 0.27, 0.22], np.float32)
    here, there = (np.broadcast_to(colour, (GRID_PX, GRID_PX, 3)) for colour in (pale, dark))
    skin = np.ones((GRID_PX, GRID_PX), np.float32)
    for share in (1.0, 1.03):  # skin, and its highlights
        crop = np.full((64, 64, 3), np.minimum(share * pale, 1), np.float32)
        made = blending.relight(crop, here, there, skin)[32, 32]
        assert abs((made[0] - made[1]) - (dark[0] - dark[1])) < 0.04, share
    # Little is changed by the curve that keeps white white.
    assert blending.relight(np.ones_like(crop), 0.7 * skin[..., None] + 0 * here, 0.6 + 0 * here, skin).min() > 0.99


def test_lids_follow_the_target(faces: AlignedFaces, output: CropsOutput) -> None:
    places = faces.landmarks / faces.crops.shape[1]
    wanted, shown = (
        lid_closures(
            np.stack([eye_contrast(small_grey(crop), at) for crop, at in zip(crops, places, strict=True)]),
            np.stack([eye_darkness(small_grey(crop), at) for crop, at in zip(crops, places, strict=True)]),
        )
        for crops in (faces.crops, output.frames)
    )
    assert wanted.max() > 0.8
    assert np.corrcoef(wanted.mean(1), shown.mean(1))[0, 1] > 0.5


def test_a_lid_is_compared_with_its_own_eye_alone_and_not_while_the_head_moves_quickly() -> None:
    contrast = np.full((30, 2), (0.8, 0.4), np.float32)
    darkness = np.full((30, 2), 0.5, np.float32)
    contrast[10:14, 0] *= 0.5  # a wink, seen by both
    darkness[10:14, 0] *= 0.6
    darkness[20:24] *= 0.3  # a gaze that turns
    contrast[20:24] *= 0.95
    closures = lid_closures(contrast, darkness)
    assert closures[11:13, 0].min() > 0.9
    assert closures[:, 1].max() < 0.1
    assert np.abs(closures[16:, 0]).max() < 0.1
    quick = np.zeros(30, np.float32)
    quick[12] = 0.2
    assert lid_closures(contrast, darkness, quick)[10:15].max() == 0


def test_one_eye_closes_alone(prepared: PreparedSwap) -> None:
    frame = prepared.source_frames[0]
    side = len(frame.crop)
    places = np.asarray((pixels(side) + 0.5) / side, np.float32)
    result = frame.crop.copy()
    close_eyes(result, frame.crop, frame.eyes, places, np.array([1, 0], np.float32))
    changed = np.abs(result.astype(int) - frame.crop).max(2) > 8
    middle = round(float(frame.landmarks[:2, 0].mean()) * side)
    assert changed[:, :middle].sum() > 100
    assert not changed[:, middle:].any()


def test_a_grin_is_shown_by_a_wide_mouth_though_its_person_always_smiles() -> None:
    def neutral(width: float) -> Neutral:
        landmarks = FACE.copy()
        landmarks[3:, 0] = 0.5 - 0.5 * width, 0.5 + 0.5 * width
        return Neutral(np.zeros((128, 128, 3), np.uint8), landmarks, np.ones(2, np.float32))

    features = np.zeros((9, len(FEATURES)), np.float32)
    features[4:, OPENING] = 0.04
    grin = features.copy()
    features[:, FEATURES.index("mouth_width")] = [0, 0, 0, 0, -0.04, -0.03, 0.0, 0.02, 0.0]
    features[8, OPENING] = 0.1
    requested, offered = _compared(grin, neutral(0.27)), _compared(features, neutral(0.23))
    assert choose_sequence(requested, offered, 0.1)[4:].tolist() == [7] * 5


def test_a_mouth_is_stretched_from_its_lower_lip_down() -> None:
    motion = lower_lip(FACE, 0.05, 0.03)[..., 1]
    row, column = (int(FACE[3:, axis].mean() * GRID_PX) for axis in (1, 0))
    assert motion[: row - 1].max() == 0
    assert motion[row + 4, column] > 0.025
    assert np.abs(motion[:, 4]).max() == 0
    assert stretch(0.05, 0.0, 0.6) == 0  # nothing is seen between lips that are shut
    assert stretch(0.0, 0.05, 0.6) < -0.02
    assert stretch(1.0, 0.05, 0.6) == pytest.approx(0.03)


def test_frames_without_a_face_stay_and_lend_none(clips: tuple[FaceClip, FaceClip]) -> None:
    target, source = (dataclasses.replace(clip, is_detected=np.arange(NUM_FRAMES) >= NUM_FRAMES // 2) for clip in clips)
    frames = list(source.frames())
    black = dataclasses.replace(
        source, frames=lambda: (f if at >= NUM_FRAMES // 2 else 0 * f for at, f in enumerate(frames))
    )
    pipeline = WeightfreeSwap()
    prepared = pipeline.prepare(target, black)
    assert all(frame.crop.mean() > 20 for frame in prepared.source_frames)
    masks = pipeline.replace(all_crops(target), prepared).masks
    assert [bool(mask.any()) for mask in masks] == list(np.arange(NUM_FRAMES) >= NUM_FRAMES // 2)


def pasted(change: tuple[int, int, int], mask: Floats) -> PastedFrame:
    before = np.full((40, 40, 3), (150, 120, 100), np.uint8)
    after = np.where(mask[..., None] > 0, np.clip(before.astype(int) + change, 0, 255), before).astype(np.uint8)
    return PastedFrame(before, after, (slice(0, 40), slice(0, 40)), mask)


@pytest.mark.parametrize(
    ("change", "weight", "words"),
    [((20, 0, 0), 1.0, "reddened"), ((40, 40, 40), 1.0, "glows"), ((-60, -60, -60), 0.6, "edge differs")],
)
def test_colours_that_do_not_fit_are_rejected(change: tuple[int, int, int], weight: float, words: str) -> None:
    mask = np.zeros((40, 40), np.float32)
    mask[10:30, 10:30] = weight
    limits = dataclasses.replace(limits_of("face_swap"), largest_likeness=1.0, smallest_change=0.0, smallest_motion=0.0)
    fitting, other = OutputMeter(limits), OutputMeter(limits)
    fitting.add(pasted((6, 4, 4), mask))
    fitting.raise_if_rejected("swap", 1)
    other.add(pasted(change, mask))
    with pytest.raises(RejectedOutputError, match=words):
        other.raise_if_rejected("swap", 1)


def test_it_does_not_flicker(result: list[PastedFrame]) -> None:
    meter = OutputMeter()
    for pasted in result:
        meter.add(pasted)
    meter.raise_if_rejected("swap", NUM_FRAMES)
    measured = meter.results()
    assert measured["flicker"] < 1.4 * measured["target_flicker"] + 0.5
    assert measured["motion"] > 0.4 * measured["target_motion"]


def test_the_mouth_follows_the_target(faces: AlignedFaces, output: CropsOutput) -> None:
    points = faces.landmarks / faces.crops.shape[1]
    wanted, shown = (
        [mouth_darkness(small_grey(crop), where) for crop, where in zip(crops, points, strict=True)]
        for crops in (faces.crops, output.frames)
    )
    assert np.corrcoef(wanted, shown)[0, 1] > 0.6


@pytest.mark.parametrize("batch_frames", [1, 5])
def test_the_batch_size_changes_nothing(
    clips: tuple[FaceClip, FaceClip], result: list[PastedFrame], batch_frames: int
) -> None:
    pipeline = WeightfreeSwap(batch_frames=batch_frames)
    for number, pasted in enumerate(pipeline.stream(*clips, generator=torch.Generator().manual_seed(1))):
        assert np.array_equal(pasted.frame, result[number].frame), number
        if number == 8:
            return


def test_grain_follows_the_target_and_the_seed(faces: AlignedFaces, prepared: PreparedSwap) -> None:
    faces = dataclasses.replace(faces, num_after=NUM_FRAMES - 3)
    noise = np.random.default_rng(0).normal(0, 8, (*faces.crops.shape[:3], 1))
    noisy = dataclasses.replace(faces, crops=np.clip(faces.crops + noise, 0, 255).astype(np.uint8))
    pipeline = WeightfreeSwap()
    smooth, first, again, other = (
        pipeline.replace(crops, prepared, seed=seed).frames.astype(int)
        for crops, seed in ((faces, 0), (noisy, 0), (noisy, 0), (noisy, 1))
    )
    cheek = (slice(None), slice(170, 200), slice(110, 140))
    roughness = [np.abs(np.diff(crops[cheek], axis=2)).mean() for crops in (smooth, first)]
    assert roughness[1] > 1.5 * roughness[0]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_source_frames_are_few(prepared: PreparedSwap) -> None:
    assert 1 < len(prepared.source_frames) <= SwapSettings().most_source_frames
    assert prepared.choice.max() < len(prepared.source_frames)


def test_swaps_with_a_still_source(clips: tuple[FaceClip, FaceClip]) -> None:
    target, source = clips
    still = next(iter(source.frames()))
    held = FaceClip("still", lambda: iter([still]), source.landmarks[:1])
    short = FaceClip(
        "short", lambda: (f for f, _ in zip(target.frames(), range(5), strict=False)), target.landmarks[:5]
    )
    pictures = list(WeightfreeSwap().stream(short, held))
    assert len(pictures) == 5
    assert all(np.abs(p.frame.astype(int) - p.original).max() > 20 for p in pictures)


def features(num_frames: int) -> Floats:
    return np.zeros((num_frames, len(FEATURES)), np.float32)


def test_a_blink_is_shown_by_a_blink() -> None:
    wanted, offered = features(30), features(40)
    wanted[12:16, BLINK] = offered[33:36, BLINK] = 1
    numbers = choose_frames(wanted, offered, 8)
    shown = offered[numbers][choose_sequence(wanted, offered[numbers], 0.35)]
    assert np.array_equal(shown[:, BLINK] > 0.5, wanted[:, BLINK] > 0.5)


def test_small_differences_do_not_change_the_source_frame() -> None:
    random = np.random.default_rng(0)
    wanted, offered = (
        features(60) + random.normal(0, 0.0005, (60, len(FEATURES))).astype(np.float32) for _ in range(2)
    )
    assert (np.diff(choose_sequence(wanted, offered, 0.35)) != 0).sum() <= 2


def test_open_mouths_are_compared_from_each_clip_s_closed_mouth() -> None:
    one, other = features(50), features(50)
    one[:, OPENING] = np.linspace(0, 0.03, 50)
    other[:, OPENING] = np.linspace(0.02, 0.05, 50)
    np.testing.assert_allclose(comparable(one)[:, OPENING], comparable(other)[:, OPENING], atol=1e-6)


def test_the_neutral_crop_has_open_eyes() -> None:
    crops = np.full((6, 128, 128, 3), 180, np.uint8)
    points, dark = FACE, (20, 20, 20)
    for number in range(6):
        for x, y in points[:2]:
            cv2.ellipse(crops[number], (int(x * 128), int(y * 128)), (6, 4 if number == 3 else 1), 0, 0, 360, dark, -1)
    neutral = choose_neutral(list(crops), np.stack([points] * 6), np.zeros(6, np.float32))
    assert np.array_equal(neutral.crop, crops[3])


def test_a_fringe_over_the_brows_is_seen() -> None:
    points = FACE
    bare = np.full((128, 128), 180, np.uint8)
    covered = bare.copy()
    covered[:44] = 60
    assert not are_brows_hidden(bare, points)
    assert are_brows_hidden(covered, points)


def test_displacement_carries_the_points() -> None:
    points = FACE
    wanted = points + np.random.default_rng(0).normal(0, 0.02, points.shape).astype(np.float32)
    moved = points + displacement(points, wanted, points[None])[0]
    np.testing.assert_allclose(moved, wanted, atol=2e-3)
