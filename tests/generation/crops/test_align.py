"""Alignment and pasting back: nothing outside the mask changes, nothing is lost or doubled between batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from generation.arrays import Floats, Frame
from generation.crops import blending
from generation.crops.align import (
    MISSED_FRAMES,
    AlignedFaces,
    Batching,
    align,
    aligned_batches,
    aligned_crops,
    similarity,
    smooth_landmarks,
    transform,
)
from generation.crops.clip import FaceClip
from generation.crops.kept import KeptCrops
from generation.crops.paste import paste, replace_faces
from generation.crops.templates import TEMPLATE, TEMPLATES
from generation.errors import FaceError
from generation.smoothing import fill_short_gaps

SIDE = 96
POINTS = TEMPLATE * 110 + np.array([130, 40], np.float32)


def picture(seed: int = 0, height: int = 240, width: int = 320) -> Frame:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def moving_clip(num_frames: int) -> FaceClip:
    landmarks = np.stack([POINTS + np.array([at, 0.5 * at], np.float32) for at in range(num_frames)])
    return FaceClip("clip", lambda: (picture(at) for at in range(num_frames)), landmarks)


@dataclasses.dataclass(frozen=True)
class Output:
    frames: NDArray[np.uint8]
    masks: Floats


def disc(value: float = 1.0) -> Floats:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    return np.asarray(value * np.clip(4 - 12 * np.hypot(x, y), 0, 1), np.float32)


def invert(faces: AlignedFaces) -> Output:
    crops = faces.crops[faces.requested]
    return Output(255 - crops, np.stack([disc()] * len(crops)))


def test_similarity_recovers_rotation_scale_and_shift() -> None:
    turn, scale = np.deg2rad(20), 1.7
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = (POINTS @ linear.T + [5, -3]).astype(np.float32)
    found = similarity(POINTS, moved)
    np.testing.assert_allclose(found, np.hstack([linear, [[5], [-3]]]), atol=1e-3)


def test_similarity_never_mirrors() -> None:
    found = similarity(POINTS, POINTS * np.array([-1, 1], np.float32))
    assert np.linalg.det(found[:, :2]) > 0


def test_align_puts_landmarks_on_the_template() -> None:
    crop, landmarks, matrix = align(picture(), POINTS, SIDE)
    assert crop.shape == (SIDE, SIDE, 3)
    np.testing.assert_allclose(landmarks, TEMPLATE * SIDE, atol=1e-2)
    np.testing.assert_allclose(transform(matrix, POINTS), landmarks, atol=1e-4)


def test_a_wider_template_shows_more_around_the_face() -> None:
    _, landmarks, matrix = align(picture(), POINTS, SIDE, "head")
    np.testing.assert_allclose(landmarks, TEMPLATES["head"] * SIDE, atol=1e-2)
    assert np.hypot(*matrix[:, 0]) < 0.5 * np.hypot(*align(picture(), POINTS, SIDE)[2][:, 0])
    faces = next(aligned_batches(moving_clip(1), Batching(SIDE, template="head")))
    assert np.array_equal(faces.crops[0], align(picture(), POINTS, SIDE, "head")[0])


def test_an_unknown_template_is_refused() -> None:
    with pytest.raises(FaceError, match="heads: no such template"):
        Batching(SIDE, template="heads")


def test_an_edit_keeps_the_detail_of_the_frame() -> None:
    def brighten(faces: AlignedFaces) -> Output:
        crops = faces.crops[faces.requested]
        return Output(crops + np.uint8(20), np.ones(crops.shape[:3], np.float32))

    clip = FaceClip.still("still", picture() // 2, POINTS * 2 - 200, 1)
    (pasted,) = replace_faces(clip, brighten, Batching(SIDE, keeps_detail=True))
    inside = pasted.mask == 1
    assert inside.mean() > 0.5
    assert np.array_equal(pasted.frame[pasted.region][inside], pasted.original[pasted.region][inside] + 20)


def test_align_reduces_a_large_face_without_aliasing() -> None:
    frame = np.zeros((1000, 1000, 3), np.uint8)
    frame[:, ::2] = 255  # one pixel wide stripes can only become grey
    crop, _, _ = align(frame, TEMPLATE * 900 + 50, SIDE)
    assert abs(float(crop.mean()) - 127.5) < 4
    assert float(crop[10:-10, 10:-10].std()) < 12


def test_paste_keeps_every_bit_outside_the_mask() -> None:
    frame = picture()
    crop, _, matrix = align(frame, POINTS, SIDE)
    pasted = paste(frame, 255 - crop, disc(), matrix)
    weight = np.zeros(frame.shape[:2], np.float32)
    weight[pasted.region] = pasted.mask
    assert np.array_equal(pasted.frame[weight == 0], frame[weight == 0])
    assert (pasted.frame[weight > 0.9] != frame[weight > 0.9]).mean() > 0.9
    assert pasted.original is frame
    assert pasted.mask.size < 0.5 * weight.size  # only the face's region is worked on


def test_paste_of_the_crop_itself_changes_nothing_visible() -> None:
    frame = np.repeat(np.linspace(0, 255, 320, dtype=np.uint8)[None, :, None], 240, 0).repeat(3, 2)
    crop, _, matrix = align(frame, POINTS, SIDE)
    pasted = paste(frame, crop, disc(), matrix)
    assert int(np.abs(pasted.frame.astype(int) - frame).max()) <= 2


@pytest.mark.parametrize("shift", [(-200, 0), (0, -160), (190, 150), (5000, 5000)])
def test_paste_at_and_beyond_the_border(shift: tuple[int, int]) -> None:
    frame, points = picture(), POINTS + np.array(shift, np.float32)
    crop, _, matrix = align(frame, points, SIDE)
    pasted = paste(frame, 255 - crop, disc(), matrix)
    assert pasted.frame.shape == frame.shape
    assert pasted.mask.shape == tuple(part.stop - part.start for part in pasted.region)


def test_paste_of_an_empty_mask_changes_nothing() -> None:
    frame = picture()
    crop, _, matrix = align(frame, POINTS, SIDE)
    assert np.array_equal(paste(frame, crop, disc(0.0), matrix).frame, frame)


@pytest.mark.parametrize(("batch", "context"), [(1, 0), (4, 2), (7, 3), (50, 3)])
def test_batches_hold_every_frame_once_with_its_neighbours(batch: int, context: int) -> None:
    clip, batching = moving_clip(23), Batching(SIDE, batch, context)
    single = [faces.crops[0] for faces in aligned_batches(clip, Batching(SIDE, 1))]
    seen: list[Frame] = []
    for faces in aligned_batches(clip, batching):
        wanted = len(faces.crops) - faces.num_before - faces.num_after
        assert faces.start == len(seen)
        assert faces.num_before == min(context, faces.start)
        assert faces.num_after == min(context, 23 - faces.start - wanted)
        for at, crop in enumerate(faces.crops, start=faces.start - faces.num_before):
            assert np.array_equal(crop, single[at])
        seen += list(faces.crops[faces.requested])
    assert len(seen) == 23


def test_kept_crops_are_those_of_the_first_pass() -> None:
    clip, passes = moving_clip(11), 0

    def frames() -> Iterator[Frame]:
        nonlocal passes
        passes += 1
        yield from clip.frames()

    kept = dataclasses.replace(clip, frames=frames, kept=KeptCrops(SIDE))
    next(aligned_batches(kept, Batching(SIDE, 4)))  # broken off
    first, second = (list(aligned_batches(kept, Batching(SIDE, 4))) for _ in range(2))
    assert passes == 2
    for one, again in zip(first, second, strict=True):
        assert one.start == again.start
        for name in ("crops", "landmarks", "matrices"):
            assert np.array_equal(getattr(one, name), getattr(again, name))
    (crop, landmarks), _ = aligned_crops(kept, [10, 3], SIDE)
    assert passes == 2
    assert np.array_equal(crop, first[0].crops[3])
    assert np.array_equal(landmarks, first[0].landmarks[3])
    assert np.array_equal(aligned_crops(clip, [10, 3], SIDE)[0][0], crop)
    assert len(next(aligned_batches(kept, Batching(SIDE // 2))).crops[0]) == SIDE // 2
    assert passes == 3


def test_frames_are_picked_where_a_clip_can() -> None:
    clip = moving_clip(9)
    picking = dataclasses.replace(
        clip, frames=lambda: iter(()), pick=lambda numbers: {at: picture(at) for at in numbers}
    )
    for one in (clip, picking):
        found = one.frames_at([7, 2, 7])
        assert list(found) == [2, 7]
        assert np.array_equal(found[7], picture(7))


def test_replace_faces_is_the_same_for_every_batching() -> None:
    results = [
        np.stack([pasted.frame for pasted in replace_faces(moving_clip(11), invert, Batching(SIDE, batch, context))])
        for batch, context in ((1, 0), (4, 3), (32, 1))
    ]
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_replace_faces_holds_few_frames() -> None:
    alive: set[int] = set()
    most = 0

    class Counted(np.ndarray):
        def __del__(self) -> None:
            alive.discard(id(self))

    def frames() -> Iterator[Frame]:
        nonlocal most
        for at in range(60):
            frame = picture(at).view(Counted)
            alive.add(id(frame))
            most = max(most, len(alive))
            yield frame

    clip = FaceClip("clip", frames, np.stack([POINTS] * 60))
    batching = Batching(SIDE, 4, 2)
    assert sum(1 for _ in replace_faces(clip, invert, batching)) == 60
    assert most <= 2 * batching.batch_frames + 2 * batching.context_frames


@pytest.mark.parametrize(("num_frames", "said"), [(5, "has 5 frames and its track 8"), (12, "has more frames")])
def test_a_clip_that_does_not_fit_its_track_is_refused(num_frames: int, said: str) -> None:
    clip = FaceClip("1.mp4", lambda: (picture(at) for at in range(num_frames)), np.stack([POINTS] * 8))
    with pytest.raises(FaceError, match=f"1.mp4: {said}"):
        list(replace_faces(clip, invert, Batching(SIDE)))


@pytest.mark.parametrize(("batch", "context"), [(1, 0), (4, 2), (50, 3)])
def test_missed_frames_count_as_seen_and_longer_gaps_do_not(batch: int, context: int) -> None:
    detected = np.ones(23, bool)
    detected[[0, 2, *range(6, 6 + MISSED_FRAMES), *range(12, 13 + MISSED_FRAMES), 21, 22]] = False
    wanted = np.ones(23, bool)
    wanted[[0, *range(12, 13 + MISSED_FRAMES), 21, 22]] = False  # at either end there is nothing beyond the gap
    clip = dataclasses.replace(moving_clip(23), is_detected=detected)
    parts = []
    for faces in aligned_batches(clip, Batching(SIDE, batch, context)):
        assert faces.is_seen is not None
        parts.append(faces.is_seen[faces.requested])
        first = faces.start - faces.num_before
        assert np.array_equal(faces.is_seen, wanted[first : first + len(faces.crops)])
    assert np.array_equal(np.concatenate(parts), wanted)
    assert clip.is_detected is detected  # what was detected stays what it was
    assert not fill_short_gaps(np.zeros(3, bool), 3).any()
    assert next(aligned_batches(moving_clip(5), Batching(SIDE))).is_seen is None


def test_a_clip_without_frames_or_faces_is_refused() -> None:
    with pytest.raises(FaceError, match=r"none.mp4: landmarks have shape"):
        FaceClip("none.mp4", lambda: iter(()), np.zeros((0, 5, 2), np.float32))
    with pytest.raises(FaceError, match="frames without a face"):
        FaceClip("lost.mp4", lambda: iter(()), np.full((3, 5, 2), np.nan, np.float32))


def test_smoothing_removes_jitter_and_keeps_a_steady_movement() -> None:
    steady = np.stack([POINTS + at for at in range(40)]).astype(np.float32)
    jitter = np.random.default_rng(0).normal(0, 1, steady.shape).astype(np.float32)
    smoothed = smooth_landmarks(steady + jitter)
    assert np.abs(np.diff(smoothed, 2, axis=0)).mean() < 0.15 * np.abs(np.diff(steady + jitter, 2, axis=0)).mean()
    np.testing.assert_allclose(smooth_landmarks(steady)[5:-5], steady[5:-5], atol=1e-3)


def test_outline_is_soft_and_narrower_on_the_far_side() -> None:
    frontal = blending.face_outline(TEMPLATE, 0.35)
    steps = max(np.abs(np.diff(frontal, axis=axis)).max() for axis in (0, 1))
    assert frontal.max() > 0.99
    assert steps < 0.3  # of a grid place, which is 5 px of the crop
    turned = TEMPLATE.copy()
    turned[2, 0] += 0.06
    cheeks = blending.face_outline(turned, 0.35)[34]
    assert cheeks[:32].sum() > 1.2 * cheeks[32:].sum()


def test_relight_takes_the_skin_tone_and_keeps_black_and_white() -> None:
    dark, light = (np.full((blending.GRID_PX, blending.GRID_PX, 3), tone, np.float32) for tone in (0.3, 0.7))
    crop = np.full((SIDE, SIDE, 3), 0.3, np.float32)
    crop[0], crop[1] = 0.0, 1.0
    result = blending.relight(crop, dark, light, np.ones(dark.shape[:2], np.float32))
    np.testing.assert_allclose(result[2:], 0.7, atol=1e-4)
    np.testing.assert_allclose(result[0], 0.0, atol=1e-6)
    np.testing.assert_allclose(result[1], 1.0, atol=1e-6)


def test_relight_changes_the_hue_of_skin_only() -> None:
    shape = (blending.GRID_PX, blending.GRID_PX)
    here, wanted = (np.full((*shape, 3), tone, np.float32) for tone in ((0.7, 0.5, 0.4), (0.6, 0.5, 0.5)))
    white = np.full((SIDE, SIDE, 3), 0.8, np.float32)
    as_skin, as_eye = (
        blending.relight(white, here, wanted, np.full(shape, share, np.float32))[0, 0] for share in (1, 0)
    )
    assert np.ptp(as_eye) < 0.4 * np.ptp(as_skin)


def test_skin_is_told_from_hair_and_background() -> None:
    small = np.full((blending.GRID_PX, blending.GRID_PX, 3), (0.75, 0.55, 0.45), np.float32)
    small += np.random.default_rng(0).normal(0, 0.01, small.shape).astype(np.float32)
    small[:12] = (0.15, 0.10, 0.08)  # hair
    small[:, :6] = (0.5, 0.6, 0.7)  # background
    small[30, 10:50] = (0.1, 0.1, 0.1)  # the rim of glasses
    found = blending.skin(small, TEMPLATE)
    assert found[:9].max() < 0.1
    assert found[:, :4].max() < 0.1
    assert found[30, 14:46].max() < 0.1
    assert blending.fill_thin(found)[16:, 10:].min() > 0.7
    assert blending.fill_thin(found)[:9].max() < 0.1
