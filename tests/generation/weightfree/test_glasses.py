"""Glasses that a person is stated to wear: rims drawn on a film are found, laid over another face and taken off."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from generation.arrays import Frame, Landmarks
from generation.crops.align import aligned_batches
from generation.crops.clip import FaceClip, PastedFrame
from generation.generators.weightfree.glasses import Glasses
from generation.generators.weightfree.swap import PreparedSwap, WeightfreeSwap
from generation.motion.expression import MotionMeter, small_grey
from generation.motion.fields import to_grid
from generation.motion.measure import measure_clip
from tests.actor_clips import film_talk

NUM_FRAMES, CROP_PX = 6, 320
BLACK = (25, 20, 20)


def draw(image: Frame, landmarks: Landmarks, colour: tuple[int, int, int], thickness_px: int) -> Frame:
    """A picture with round rims, a bridge and arms; of any size."""
    drawn, shift = image.copy(), 3
    left, right = landmarks[:2]
    gap = float(np.linalg.norm(right - left))
    angle = float(np.degrees(np.arctan2(*(right - left)[::-1])))
    along = (right - left) / gap
    for eye in (left, right):
        middle = tuple(np.rint((eye + np.array([0, 0.06 * gap])) * 2**shift).astype(int).tolist())
        axes = tuple(round(share * gap * 2**shift) for share in (0.38, 0.32))
        cv2.ellipse(drawn, middle, axes, angle, 0, 360, colour, thickness_px, cv2.LINE_AA, shift)
    rows = [(left + 0.38 * gap * along, right - 0.38 * gap * along)]
    rows += [(left - 0.38 * gap * along, left - gap * along), (right + 0.38 * gap * along, right + gap * along)]
    for ends in rows:
        first, last = (tuple(np.rint(point * 2**shift).astype(int).tolist()) for point in ends)
        cv2.line(drawn, first, last, colour, thickness_px, cv2.LINE_AA, shift)
    return drawn


def with_rims(clip: FaceClip, colour: tuple[int, int, int] = BLACK) -> FaceClip:
    frames = [draw(frame, at, colour, 2) for frame, at in zip(clip.frames(), clip.landmarks, strict=True)]
    return dataclasses.replace(clip, frames=lambda: iter(frames), wears_glasses=True)


def rims_of(shape: tuple[int, ...], landmarks: Landmarks, width_px: int) -> NDArray[np.bool_]:
    return draw(np.zeros(shape, np.uint8), landmarks, (255, 255, 255), width_px)[..., 0] > 200


@pytest.fixture(scope="module")
def bare() -> FaceClip:
    return film_talk(4, NUM_FRAMES)


@pytest.fixture(scope="module")
def target(bare: FaceClip) -> FaceClip:
    return with_rims(bare)


@pytest.fixture(scope="module")
def source() -> FaceClip:
    return film_talk(1, NUM_FRAMES)


@pytest.fixture(scope="module")
def prepared(target: FaceClip, source: FaceClip) -> PreparedSwap:
    return WeightfreeSwap().prepare(target, source)


@pytest.fixture(scope="module")
def kept(target: FaceClip, prepared: PreparedSwap) -> list[PastedFrame]:
    return list(WeightfreeSwap()._stream(target, prepared, None))


@pytest.fixture(scope="module")
def erased(target: FaceClip, prepared: PreparedSwap) -> list[PastedFrame]:
    return list(WeightfreeSwap()._stream(target, dataclasses.replace(prepared, glasses=None), None))


def inside(pasted: PastedFrame) -> NDArray[np.bool_]:
    weight = np.zeros(pasted.frame.shape[:2], np.float32)
    weight[pasted.region] = pasted.mask
    return weight > 0.95


def test_rims_stay_dark_where_they_are_stated_and_are_gone_where_not(
    target: FaceClip, kept: list[PastedFrame], erased: list[PastedFrame]
) -> None:
    for with_them, without, landmarks in zip(kept, erased, target.landmarks, strict=True):
        frame = with_them.original
        rims = rims_of(frame.shape, landmarks, 1) & inside(with_them)
        assert rims.sum() > 60
        there, laid, other = (float(np.median(image[rims].mean(1))) for image in
                              (frame, with_them.frame, without.frame))  # fmt: skip
        assert laid < there + 25
        assert other > there + 60


def test_beside_the_rims_nothing_of_the_target_is_laid(
    target: FaceClip, kept: list[PastedFrame], erased: list[PastedFrame]
) -> None:
    for with_them, without, landmarks in zip(kept, erased, target.landmarks, strict=True):
        beside = rims_of(with_them.frame.shape, landmarks, 13) & ~rims_of(with_them.frame.shape, landmarks, 5)
        changed = np.abs(with_them.frame.astype(int) - without.frame).max(2)[beside & inside(with_them)]
        assert np.quantile(changed, 0.9) <= 12
        assert np.median(changed) <= 4


def test_the_batch_size_changes_nothing(target: FaceClip, prepared: PreparedSwap, kept: list[PastedFrame]) -> None:
    for number, pasted in enumerate(WeightfreeSwap(batch_frames=4)._stream(target, prepared, None)):
        assert np.array_equal(pasted.frame, kept[number].frame), number


def test_only_stated_glasses_are_looked_for(target: FaceClip, source: FaceClip, prepared: PreparedSwap) -> None:
    assert prepared.glasses is not None
    assert WeightfreeSwap().prepare(dataclasses.replace(target, wears_glasses=False), source).glasses is None


@pytest.mark.parametrize("colour", [BLACK, (250, 245, 240)])
def test_dark_and_light_rims_are_taken_off(bare: FaceClip, colour: tuple[int, int, int]) -> None:
    worn = with_rims(bare, colour)
    neutral, _ = measure_clip(worn, dataclasses.replace(WeightfreeSwap().batching, context_frames=0))
    glasses = Glasses.find(worn, neutral, CROP_PX)
    meter = MotionMeter(neutral)
    dirty, clean = (next(aligned_batches(clip, WeightfreeSwap().batching)) for clip in (worn, bare))
    for crop, original, landmarks in zip(dirty.crops[:3], clean.crops, dirty.landmarks, strict=False):
        rims = rims_of(crop.shape, landmarks, 1)
        rims[:, : int(landmarks[0, 0]) - 40] = rims[:, int(landmarks[1, 0]) + 40 :] = False  # hair, cheeks' edges
        result = glasses.take_off(crop, to_grid(meter.to_neutral(small_grey(crop))))
        before, after = (difference(image, original, rims) for image in (crop, result))
        assert before > 40
        assert after < 0.25 * before
        eyes = np.zeros_like(rims)
        for x, y in np.rint(landmarks[:2]).astype(int):
            eyes[y - 4 : y + 5, x - 8 : x + 9] = True
        assert np.array_equal(result[eyes], crop[eyes])


def difference(first: Frame, second: Frame, where: NDArray[np.bool_]) -> float:
    return float(np.abs(first[where].astype(int) - second[where]).mean())
