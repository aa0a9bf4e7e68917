"""The weight-free expression driving on synthetic actors: whose expression is seen, on whose face, and what stays."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from generation.arrays import Floats, Frame
from generation.crops.align import Batching, align, aligned_batches, smooth_landmarks
from generation.crops.clip import FaceClip, PastedFrame
from generation.errors import GenerationError
from generation.generators.base import ClipOutput
from generation.generators.loading import load_generator
from generation.generators.registry import generators_of
from generation.generators.weightfree.drive import PreparedDrive, WeightfreeDrive
from generation.generators.weightfree.driving.driving_clip import DrivingClip
from generation.generators.weightfree.driving.eyelids import Eyes, draw_lid, lid_of, raised
from generation.generators.weightfree.driving.key_frame import KeyPlaces, animate, dimmed
from generation.generators.weightfree.driving.mouth import COLUMNS, LipMatcher, MotionSplitter, Seam, SplitMotion
from generation.generators.weightfree.openings import LipMeter
from generation.motion.expression import FEATURES, Neutral, comparable, eye_contrast, mouth_gap, small_grey
from generation.motion.fields import GRID, pixels, sample_at
from generation.motion.measure import measure_clip
from generation.motion.rigid import fit_rigid, rigid_basis, rigid_places
from generation.quality.output import OutputMeter, limits_of
from tests.actor_clips import film_person
from tooling.actors import Pose, RenderSettings, pose_track, render_still, sample_actor

WIDTH, HEIGHT, NUM_FRAMES, CROP_PX = 400, 300, 32, 320
TARGET, SOURCE = 11, 4


def settings_of(seed: int) -> RenderSettings:
    return RenderSettings(NUM_FRAMES, fps=15, width_px=WIDTH, height_px=HEIGHT, motion_seed=seed)


def film(seed: int) -> FaceClip:
    return film_person(seed, "male", settings_of(seed)).face_clip(f"{seed}.mp4")


def clip_of(name: str, frames: list[Frame], landmarks: list[Floats] | Floats) -> FaceClip:
    return FaceClip(name, lambda: iter(frames), np.asarray(landmarks, np.float32))


def shortened(clip: FaceClip, num_frames: int) -> FaceClip:
    def frames() -> Iterator[Frame]:
        return (frame for frame, _ in zip(clip.frames(), range(num_frames), strict=False))

    return FaceClip(clip.name, frames, clip.landmarks[:num_frames])


def still_of(clip: FaceClip, num_frames: int) -> FaceClip:
    return FaceClip.still("still.png", next(clip.frames()), clip.landmarks[0], num_frames)


@pytest.fixture(scope="module")
def clips() -> tuple[FaceClip, FaceClip]:
    return film(TARGET), film(SOURCE)


@pytest.fixture(scope="module")
def prepared(clips: tuple[FaceClip, FaceClip]) -> PreparedDrive:
    return WeightfreeDrive().prepare(*clips)


@pytest.fixture(scope="module")
def result(clips: tuple[FaceClip, FaceClip]) -> list[PastedFrame]:
    return list(load_generator("weightfree-drive").stream(*clips))


def expression(clip: FaceClip, name: str) -> Floats:
    _, features = measure_clip(clip, Batching(CROP_PX))
    return np.asarray(comparable(features)[:, FEATURES.index(name)])


def correlation(first: Floats, second: Floats) -> float:
    return float(np.corrcoef(first, second)[0, 1])


def test_it_is_the_family_s_default() -> None:
    assert generators_of("expression_driven")[0] == "weightfree-drive"


@pytest.mark.parametrize("name", ["mouth_gap", "eye_closure"])
def test_the_expression_is_the_source_s(clips: tuple[FaceClip, FaceClip], result: list[PastedFrame], name: str) -> None:
    target, source = clips
    driven = clip_of("driven", [pasted.frame for pasted in result], target.landmarks)
    shown, wanted, own = (expression(clip, name) for clip in (driven, source, target))
    assert correlation(shown, wanted) > 0.6
    assert correlation(shown, wanted) > correlation(shown, own) + 0.3


def test_only_pixels_under_the_mask_change(result: list[PastedFrame]) -> None:
    assert len(result) == NUM_FRAMES
    for pasted in result:
        weight = np.zeros(pasted.frame.shape[:2], np.float32)
        weight[pasted.region] = pasted.mask
        assert np.array_equal(pasted.frame[weight == 0], pasted.original[weight == 0])
        assert 0.02 < weight.mean() < 0.25


def test_the_mask_has_no_hard_edge(clips: tuple[FaceClip, FaceClip], prepared: PreparedDrive) -> None:
    pipeline = WeightfreeDrive()
    masks = pipeline.replace(next(aligned_batches(clips[0], pipeline.batching)), prepared).masks
    assert masks.min() >= 0
    assert masks.max() <= 1
    for axis in (1, 2):
        assert np.abs(np.diff(masks, axis=axis)).max() < 0.15


def test_it_passes_the_checks_of_its_family(result: list[PastedFrame]) -> None:
    meter = OutputMeter(limits_of("expression_driven"))
    for pasted in result:
        meter.add(pasted)
    meter.raise_if_rejected("driven", NUM_FRAMES)


def test_the_face_and_its_colours_are_the_target_s(
    clips: tuple[FaceClip, FaceClip], result: list[PastedFrame], prepared: PreparedDrive
) -> None:
    smoothed = smooth_landmarks(clips[0].landmarks)
    cheeks = (slice(150, 200), slice(90, 230))
    for number in range(0, NUM_FRAMES, 8):
        before, after = (
            align(frame, smoothed[number], CROP_PX)[0][cheeks].astype(np.float32)
            for frame in (result[number].original, result[number].frame)
        )
        assert np.abs(before.mean((0, 1)) - after.mean((0, 1))).max() < 6
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("batch_frames", [1, 50])
def test_the_batch_size_changes_nothing(
    clips: tuple[FaceClip, FaceClip], result: list[PastedFrame], batch_frames: int
) -> None:
    for number, pasted in enumerate(WeightfreeDrive(batch_frames=batch_frames).stream(*clips)):
        assert np.array_equal(pasted.frame, result[number].frame), number
        if number == 12:
            return


def test_frames_can_be_asked_for_again(clips: tuple[FaceClip, FaceClip], prepared: PreparedDrive) -> None:
    pipeline = WeightfreeDrive(batch_frames=8)
    batches = list(aligned_batches(clips[0], pipeline.batching))
    late, early = (pipeline.replace(batches[at], prepared).frames for at in (2, 0))
    assert np.array_equal(pipeline.replace(batches[2], prepared).frames, late)
    assert not np.array_equal(early, late)


def test_saved_and_loaded_it_is_the_same(clips: tuple[FaceClip, FaceClip], tmp_path: Path) -> None:
    pipeline = WeightfreeDrive(gain=1.1, most_key_frames=3)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(tmp_path)
    again = WeightfreeDrive.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert again.settings == pipeline.settings
    target, source = (shortened(clip, 6) for clip in clips)
    first, second = pipeline(target, source), again(target, source)
    assert isinstance(first, ClipOutput)
    assert np.array_equal(np.asarray(first.frames), np.asarray(second.frames))


def test_a_still_is_driven(clips: tuple[FaceClip, FaceClip]) -> None:
    target, source = still_of(clips[0], NUM_FRAMES), clips[1]
    pasted = list(WeightfreeDrive().stream(target, source))
    driven = clip_of("driven", [one.frame for one in pasted], target.landmarks)
    assert correlation(expression(driven, "eye_closure"), expression(source, "eye_closure")) > 0.6
    outside = np.ones(pasted[0].frame.shape[:2], bool)
    for one in pasted:
        outside[one.region] &= one.mask == 0
    assert all(np.array_equal(one.frame[outside], pasted[0].original[outside]) for one in pasted)


def test_a_still_source_leaves_the_target_neutral(clips: tuple[FaceClip, FaceClip]) -> None:
    target, source = clips
    driven = [one.frame for one in WeightfreeDrive().stream(target, still_of(source, NUM_FRAMES))]
    mouth, own = (expression(clip, "mouth_gap") for clip in (clip_of("driven", driven, target.landmarks), target))
    assert mouth.std() < 0.5 * own.std()
    # A target that is neutral already is hardly changed.
    neutral = render_still(sample_actor(TARGET, "male"), Pose(), WIDTH, HEIGHT)
    still = FaceClip.still("still.png", neutral.image, np.asarray(neutral.landmarks, np.float32), 4)
    for pasted in WeightfreeDrive().stream(still, still_of(source, 4)):
        assert np.abs(pasted.frame.astype(int) - pasted.original).mean() < 1
        assert np.abs(pasted.frame.astype(int) - pasted.original).max() < 30


def test_a_source_that_is_too_short_is_refused(clips: tuple[FaceClip, FaceClip]) -> None:
    with pytest.raises(GenerationError, match=r"4\.mp4: has 20 frames and 11\.mp4.* has 32"):
        WeightfreeDrive().prepare(clips[0], shortened(clips[1], 20))


def test_memory_holds_few_source_frames(clips: tuple[FaceClip, FaceClip], prepared: PreparedDrive) -> None:
    driving = DrivingClip(clips[1], prepared.driving.neutral, CROP_PX)
    for start in range(0, NUM_FRAMES, 8):
        assert len(driving.read(start, start + 8)) == 8
        assert len(driving._held) <= 10
    assert 1 <= len(prepared.keys) <= WeightfreeDrive().settings.most_key_frames


def test_lips_are_followed_however_far_they_part(clips: tuple[FaceClip, FaceClip]) -> None:
    neutral, _ = measure_clip(clips[1], Batching(CROP_PX))
    truth = np.array([pose.mouth_open for pose in pose_track(settings_of(SOURCE))])
    assert correlation(DrivingClip(clips[1], neutral, CROP_PX).openings_and_gaps()[0], truth) > 0.95


def test_lips_that_never_meet_are_followed() -> None:
    truth = (0.15 + 0.2 * (1 + np.sin(np.arange(16)))).astype(np.float32)
    shown = [render_still(sample_actor(SOURCE, "male"), Pose(mouth_open=float(part)), WIDTH, HEIGHT) for part in truth]
    clip = clip_of("talker", [one.image for one in shown], [np.asarray(one.landmarks) for one in shown])
    neutral, features = measure_clip(clip, Batching(CROP_PX), LipMeter)
    driving = DrivingClip(clip, neutral, CROP_PX)
    assert correlation(features[:, FEATURES.index("mouth_opening")], truth) > 0.9
    assert correlation(driving.openings_and_gaps()[0], truth) > 0.9
    # Teeth, which stay where they are, lie above the line of the lip that moves.
    assert driving.seam.depth > Seam.find(neutral.grey, neutral.landmarks).depth + 0.01


def test_the_seam_lies_between_the_lips() -> None:
    crop, landmarks = still_crop(Pose())
    wide, wide_landmarks = still_crop(Pose(mouth_open=0.5))
    seam = Seam.find(small_grey(crop), landmarks)
    line = seam.points(COLUMNS)[8:25] * CROP_PX
    grey = crop.astype(np.float32).mean(2)
    here, above, below = (np.mean([grey[round(y + shift), round(x)] for x, y in line.tolist()]) for shift in (0, -5, 5))
    assert here < above - 10
    assert here < below - 10
    assert seam.below_teeth(crop) == seam
    assert Seam.find(small_grey(wide), wide_landmarks).below_teeth(wide).depth > seam.depth + 0.02


def test_lips_that_show_no_gap_stay_together() -> None:
    crop, landmarks = still_crop(Pose())
    grey = small_grey(crop)
    seam = Seam.find(grey, landmarks)
    dropped = np.zeros((*GRID.shape[:2], 2), np.float32)
    dropped[GRID[..., 1] > seam.middle[1]] = 0.06 * seam.down
    motion = MotionSplitter(seam, np.ones(GRID.shape[:2], np.float32))(dropped)
    middle = seam.points(np.zeros(1, np.float32))

    def parted(motion: SplitMotion) -> float:
        return float(((sample_at(motion.below, middle) - sample_at(motion.above, middle)) @ seam.down)[0])

    lips = LipMatcher(grey, seam)
    assert parted(motion) > 0.04
    assert parted(lips.shut(motion, 0.02)) == pytest.approx(0.02, abs=0.003)
    assert np.array_equal(lips.shut(motion, 0.1).below, motion.below)
    assert np.array_equal(lips.shut(motion, 0.0).above, motion.above)


def test_teeth_are_no_lighter_than_a_limit_and_keep_their_lines() -> None:
    teeth = np.full((6, 20, 3), 0.9, np.float32)
    teeth[:, ::5] = 0.6
    seen = np.ones((6, 20), np.float32)
    assert dimmed(teeth, seen, 0.45).max() == pytest.approx(0.45, abs=0.01)
    assert dimmed(teeth, seen, 0.45)[0, 0, 0] == pytest.approx(0.30, abs=0.01)
    assert np.array_equal(dimmed(teeth, seen, 0.95), teeth)


def test_each_lid_of_a_driven_face_follows_its_own(clips: tuple[FaceClip, FaceClip], prepared: PreparedDrive) -> None:
    key, (frame,) = prepared.keys[0], DrivingClip(clips[1], prepared.driving.neutral, CROP_PX).read(0, 1)
    still = KeyPlaces(GRID, GRID, GRID)
    shut, as_it_is = (
        animate(key, still, key.landmarks, frame, np.array([left, 0.0], np.float32)).astype(int) for left in (1.0, 0.0)
    )
    changed = np.abs(shut - as_it_is).max(2) > 8
    middle = round(float(key.landmarks[:2, 0].mean()) * CROP_PX)
    assert changed[:, :middle].sum() > 100
    assert not changed[:, middle:].any()


@functools.cache
def still_crop(pose: Pose) -> tuple[Frame, Floats]:
    still = render_still(sample_actor(TARGET, "male"), pose, 640, 360)
    crop, landmarks, _ = align(still.image, np.asarray(still.landmarks, np.float32), CROP_PX)
    return crop, landmarks / np.float32(CROP_PX)


def test_a_lid_that_falls_shows_skin_instead_of_the_eye() -> None:
    crop, landmarks = still_crop(Pose())
    places = np.asarray((pixels(CROP_PX) + 0.5) / CROP_PX, np.float32)
    eye = Eyes.find(crop, landmarks).left
    x, y = np.rint(eye.centre * CROP_PX).astype(int)
    iris = (slice(y - 4, y + 2), slice(x - 4, x + 4))
    skin = crop[y + 22 : y + 28, x - 4 : x + 4].mean()
    levels = []
    for closure in (0.0, 0.5, 1.0):
        drawn = draw_lid(crop, crop.copy(), eye, lid_of(eye, places, closure, CROP_PX))
        levels.append(float(drawn[iris].mean()))
        low, high = np.rint(eye.box * CROP_PX).astype(int)
        changed = np.abs(drawn.astype(int) - crop).max(2) > 0
        changed[low[1] : high[1] + 1, low[0] : high[0] + 1] = False
        assert not changed.any()
    # Half way the lashes lie over the iris.
    assert levels[0] < 0.7 * skin
    assert levels[1] < levels[2]
    assert levels[2] > 0.75 * skin


def test_a_lid_that_rises_stretches_the_eye_and_nothing_else() -> None:
    crop, landmarks = still_crop(Pose())
    places = np.asarray((pixels(CROP_PX) + 0.5) / CROP_PX, np.float32)
    eye = Eyes.find(crop, landmarks).left
    assert np.allclose(raised(eye, places, 0.0), places, atol=1e-6)
    came = raised(eye, places, 0.3)
    x, y = np.rint((eye.centre - [0, eye.upper + 0.3 * (eye.upper + eye.lower)]) * CROP_PX).astype(int)
    assert came[y, x, 1] * CROP_PX == pytest.approx((eye.centre[1] - eye.upper) * CROP_PX, abs=2)
    assert (np.diff(came[..., 1], axis=0) > 0).all()
    low, high = np.rint(eye.box * CROP_PX).astype(int)
    moved = np.abs(came - places).max(-1) > 1e-6
    moved[low[1] : high[1] + 1, low[0] : high[0] + 1] = False
    assert not moved.any()


def test_lids_are_measured_wherever_the_eye_looks() -> None:
    def seen(pose: Pose) -> float:
        crop, landmarks = still_crop(pose)
        return float(eye_contrast(small_grey(crop), landmarks).mean())

    ahead = seen(Pose())
    assert all(seen(Pose(gaze_x=gaze)) == pytest.approx(ahead, rel=0.25) for gaze in (-0.8, 0.8))
    assert seen(Pose(blink=0.5)) < 0.75 * ahead
    assert seen(Pose(blink=1.0)) < 0.5 * ahead


def test_what_is_between_parted_lips_is_seen() -> None:
    shut, parted, wide = (mouth_gap(*still_crop(Pose(mouth_open=opened))) for opened in (0.0, 0.3, 0.7))
    assert shut + 0.02 < parted < wide


def test_the_head_s_motion_is_told_from_the_face_s() -> None:
    _, landmarks = still_crop(Pose())
    basis, weight = rigid_basis(landmarks), rigid_places(landmarks, 0.35)
    head = np.array([[0.01, -0.004], [0.02, 0.01], [-0.01, 0.03], [0.02, -0.015]], np.float32)
    motion = basis @ head
    jaw = np.exp(-np.square((GRID - [0.5, 0.85]) / 0.1).sum(-1))[..., None] * [0, 0.05]
    found = basis @ fit_rigid(np.asarray(motion + jaw, np.float32), basis, weight)
    assert np.abs(found - motion)[weight > 0.1].max() < 0.003


def test_a_neutral_crop_s_motion_is_none(clips: tuple[FaceClip, FaceClip]) -> None:
    still = still_of(clips[1], 3)
    neutral, _ = measure_clip(still, Batching(CROP_PX))
    assert isinstance(neutral, Neutral)
    for frame in DrivingClip(still, neutral, CROP_PX).read(0, 3):
        assert all(np.abs(part).max() < 1e-3 for part in frame.motion.parts)
        assert abs(frame.opening) < 1e-3
