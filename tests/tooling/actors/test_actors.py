"""Synthetic actors: detection, ground truth, pixels, determinism, source videos."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from generation.errors import VideoError
from generation.media.reader import probe_video, read_clip
from tooling.actors import (
    Actor,
    ActorFrame,
    ActorRenderer,
    Gender,
    Pose,
    RenderSettings,
    SourceSettings,
    pose_track,
    render_clip,
    render_still,
    sample_actor,
    write_sources,
)
from tooling.actors.person.detail import FINE, detail_for
from tooling.errors import InputError, UsageError
from tooling.workspace.identities import SYNTHETIC_EVIDENCE, Identity, read_identities

pytestmark = pytest.mark.thorough

SIZE = (640, 360)
CAST: tuple[tuple[int, Gender], ...] = ((0, "male"), (1, "male"), (2, "female"), (4, "female"))


@lru_cache(maxsize=5)
def _renderer(seed: int, gender: Gender) -> ActorRenderer:
    return ActorRenderer(sample_actor(seed, gender), *SIZE)


@lru_cache(maxsize=64)
def _frame(seed: int, gender: Gender, pose: Pose) -> ActorFrame:
    return _renderer(seed, gender).render(pose, pose)


@lru_cache(maxsize=1)
def _detector() -> Any:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    from facenet_pytorch import MTCNN

    return MTCNN(keep_all=True, device="cpu")


def _brightness(frame: ActorFrame, point: Any, radius: int = 2) -> float:
    """Median grey level around a point."""
    x, y = (round(float(v)) for v in point)
    patch = frame.image[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
    return float(np.median(patch.astype(float).mean(axis=2)))


def _area(points: Any) -> float:
    return float(cv2.contourArea(np.asarray(points, np.float32)))


def _detection_scores(frames: list[ActorFrame]) -> tuple[float, list[float]]:
    """Share of frames with exactly one face above 0.95, and worst landmark error per frame / eye distance."""
    num_good, errors = 0, []
    for frame in frames:
        boxes, probabilities, points = _detector().detect(frame.image, landmarks=True)
        if boxes is None:
            continue
        num_good += len(boxes) == 1 and probabilities[0] > 0.95
        best = np.asarray(points[int(np.argmax(probabilities))], float)
        eye_distance = np.linalg.norm(frame.landmarks[1] - frame.landmarks[0])
        errors.append(float(np.linalg.norm(best - frame.landmarks, axis=1).max() / eye_distance))
    return num_good / len(frames), errors


def _interview_frames(cast: list[tuple[int, Gender]], num_frames: int, every: int) -> list[ActorFrame]:
    frames = []
    for seed, gender in cast:
        poses = pose_track(RenderSettings(num_frames, motion_seed=seed + 5))
        frames += [_renderer(seed, gender).render(pose, pose, k) for k, pose in enumerate(poses[::every])]
    return frames


def test_mtcnn_finds_one_face_and_the_true_landmarks() -> None:
    share, errors = _detection_scores(_interview_frames(list(CAST), 120, 60))
    assert share >= 0.95
    assert max(errors) < 0.15


@pytest.mark.slow
def test_mtcnn_over_many_identities() -> None:
    cast: list[tuple[int, Gender]] = [(seed, gender) for seed in range(8) for gender in ("male", "female")]
    share, errors = _detection_scores(_interview_frames(cast, 150, 15))
    assert share >= 0.95
    # The worst of five points; MTCNN's mouth corners wander on wide open mouths.
    assert np.mean(np.array(errors) < 0.15) >= 0.95


@pytest.mark.parametrize(("seed", "gender"), CAST)
def test_iris_is_dark_and_brow_darker_than_forehead(seed: int, gender: Gender) -> None:
    frame = _frame(seed, gender, Pose())
    cheek = _brightness(frame, 0.5 * (frame.landmarks[0] + frame.landmarks[3]))
    unit = np.linalg.norm(frame.landmarks[1] - frame.landmarks[0]) / 6.4
    for eye in frame.landmarks[:2]:
        assert _brightness(frame, eye + np.array([0.0, 0.12 * unit]), 1) < 0.45 * cheek
    for brow in (19, 24):
        above = frame.landmarks_68[brow] - [0.0, 1.3 * unit]
        assert _brightness(frame, frame.landmarks_68[brow], 1) < 0.8 * _brightness(frame, above)


@pytest.mark.parametrize(("seed", "gender"), CAST[::2])
def test_mouth_interior_grows(seed: int, gender: Gender) -> None:
    areas, dark = [], []
    for amount in (0.0, 0.3, 0.8):
        frame = _frame(seed, gender, Pose(mouth_open=amount))
        inner = frame.landmarks_68[60:68]
        areas.append(_area(inner))
        mask = np.zeros(frame.image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(inner).astype(np.int32)], 1)
        dark.append(int(((frame.image.mean(axis=2) < 60) & (mask > 0)).sum()))
    assert areas[0] < areas[1] < areas[2]
    assert dark[0] + 20 < dark[1] < dark[2]


@pytest.mark.parametrize(("seed", "gender"), CAST[1::2])
def test_blink_closes_the_eyes(seed: int, gender: Gender) -> None:
    is_open, is_shut = _frame(seed, gender, Pose()), _frame(seed, gender, Pose(blink=1.0))
    for eye, ring in ((0, slice(36, 42)), (1, slice(42, 48))):
        assert _area(is_shut.landmarks_68[ring]) < 0.25 * _area(is_open.landmarks_68[ring])
        iris = is_open.landmarks[eye] + [0.0, -1.0]
        assert _brightness(is_shut, iris, 1) > 2.0 * _brightness(is_open, is_open.landmarks[eye] + [0.0, 1.0], 1)


def test_image_left_is_image_left() -> None:
    straight = _frame(1, "male", Pose())
    for left, right in ((0, 1), (3, 4)):
        assert straight.landmarks[left, 0] < straight.landmarks[right, 0]
    for left, right in ((36, 45), (48, 54), (0, 16), (17, 26)):
        assert straight.landmarks_68[left, 0] < straight.landmarks_68[right, 0]
    turned = _frame(1, "male", Pose(yaw_degrees=15.0))
    middle = turned.landmarks[:2].mean(axis=0)
    assert turned.landmarks[2, 0] > middle[0] + 3
    lifted = _frame(1, "male", Pose(pitch_degrees=8.0))
    drop = [f.landmarks[2, 1] - f.landmarks[:2, 1].mean() for f in (straight, lifted)]
    assert drop[1] < drop[0]
    tipped = _frame(1, "male", Pose(roll_degrees=5.0))
    assert tipped.landmarks[0, 1] < tipped.landmarks[1, 1]


def test_gaze_moves_the_iris_in_the_picture() -> None:
    centers = []
    for gaze in (-0.7, 0.7):
        frame = _frame(1, "male", Pose(gaze_x=gaze))
        ring = frame.landmarks_68[36:42]
        mask = np.zeros(frame.image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(ring).astype(np.int32)], 1)
        inner = cv2.erode(mask, np.ones((3, 3), np.uint8))
        weight = np.where(inner > 0, 255.0 - frame.image.mean(axis=2), 0.0) ** 3
        centers.append(float((weight * np.arange(SIZE[0])[None, :]).sum() / weight.sum()))
    assert centers[1] > centers[0] + 2.0


def test_smile_and_brows_move_their_landmarks() -> None:
    rest, smile, raised = (_frame(2, "female", p) for p in (Pose(), Pose(smile=1.0), Pose(brow_raise=1.0)))
    assert smile.landmarks[4, 0] - smile.landmarks[3, 0] > 1.08 * (rest.landmarks[4, 0] - rest.landmarks[3, 0])
    assert smile.landmarks[3:, 1].mean() < rest.landmarks[3:, 1].mean()
    assert (raised.landmarks_68[17:27, 1] < rest.landmarks_68[17:27, 1]).all()


def test_same_bytes_twice_and_for_any_thread_count() -> None:
    actor, settings = sample_actor(3, "female"), RenderSettings(2, 30.0, 320, 180, motion_seed=4)
    digests, before = [], cv2.getNumThreads()
    try:
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            frames = list(render_clip(actor, settings))
            digests.append(
                hashlib.sha256(b"".join(f.image.tobytes() + f.landmarks_68.tobytes() for f in frames)).hexdigest()
            )
    finally:
        cv2.setNumThreads(before)
    assert digests[0] == digests[1]


def test_small_frames_show_the_same_actor_as_large_ones() -> None:
    actor, pose = sample_actor(2, "female"), Pose(mouth_open=0.3)
    large, small = (render_still(actor, pose, *size) for size in ((640, 496), (320, 248)))
    half = cv2.resize(large.image, (320, 248), interpolation=cv2.INTER_AREA)
    assert np.abs(half.astype(float) - small.image).mean() < 2.5
    assert np.abs(large.landmarks / 2 - small.landmarks).max() < 0.6
    assert np.abs(large.landmarks_68 / 2 - small.landmarks_68).max() < 1.5
    assert detail_for(496 / 44.0) == FINE != detail_for(248 / 44.0)


def _aligned_face(frame: ActorFrame) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Inner face brought to 64x64 by the positions of eyes, nose and mouth corners."""
    goal = np.array([[18, 20], [46, 20], [32, 36], [22, 48], [42, 48]], np.float32)
    matrix, _ = cv2.estimateAffinePartial2D(frame.landmarks, goal)
    return np.asarray(cv2.warpAffine(frame.image, matrix, (64, 64)), np.float32)


def test_identities_differ_more_than_moments_of_one() -> None:
    faces = [_aligned_face(_frame(seed, gender, Pose())) for seed, gender in CAST]
    between = [float(np.abs(a - b).mean()) for a, b in combinations(faces, 2)]
    moment = _aligned_face(_frame(*CAST[0], Pose(yaw_degrees=2.0, smile=0.1)))
    assert min(between) > 8.0
    assert min(between) > 1.5 * float(np.abs(moment - faces[0]).mean())


def test_frame_contract() -> None:
    frame = _frame(0, "male", Pose())
    for array, shape, kind in (
        (frame.image, (SIZE[1], SIZE[0], 3), "uint8"),
        (frame.landmarks, (5, 2), "float32"),
        (frame.landmarks_68, (68, 2), "float32"),
    ):
        assert array.shape == shape
        assert array.dtype.name == kind
    assert frame.is_visible
    assert not _frame(0, "male", Pose(offset_x_cm=60.0)).is_visible


def test_actor_sampling() -> None:
    actors = [sample_actor(seed, gender) for seed in range(40) for gender in ("male", "female")]
    assert len(set(actors)) == 80
    assert sample_actor(7, "male") == sample_actor(7, "male")
    assert {a.hair_style for a in actors if a.gender == "female"} >= {"long", "bob", "ponytail", "bun", "long_fringe"}
    assert {a.hair_style for a in actors if a.gender == "male"} >= {"side_part", "crew", "fringe_crop", "receding"}
    assert all(18 <= a.age_years <= 75 for a in actors)
    assert 0.1 < np.mean([a.glasses != "none" for a in actors]) < 0.6
    with pytest.raises(ValueError, match="gender"):
        sample_actor(0, "robot")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed"):
        sample_actor(-1, "male")


def test_interview_motion_is_smooth_and_bounded() -> None:
    poses = pose_track(RenderSettings(450, motion_seed=3))
    assert poses == pose_track(RenderSettings(450, motion_seed=3))
    for name, limit, step in (("yaw_degrees", 15, 2.0), ("pitch_degrees", 8, 1.5), ("roll_degrees", 5, 1.0)):
        values = np.array([getattr(p, name) for p in poses])
        assert np.abs(values).max() <= limit
        assert np.abs(np.diff(values)).max() < step
        assert values.std() > 0.5
    mouth = np.array([p.mouth_open for p in poses])
    assert 0.1 < np.mean(mouth > 0.1) < 0.95
    assert np.abs(np.diff(mouth)).max() < 0.35
    assert max(p.blink for p in poses) > 0.95
    assert max(p.mouth_open for p in pose_track(RenderSettings(60, motion="still"))) == 0.0
    assert max(p.yaw_degrees for p in pose_track(RenderSettings(180, motion="turning"))) > 20


def test_bad_settings_are_refused() -> None:
    actor: Actor = sample_actor(0, "male")
    with pytest.raises(ValueError, match="motion"):
        next(render_clip(actor, RenderSettings(1, motion="dance")))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        next(render_clip(actor, RenderSettings(0)))
    with pytest.raises(ValueError, match="16 px"):
        render_still(actor, Pose(), 8, 8)


def test_write_sources(tmp_path: Path) -> None:
    shown: list[tuple[int, int, str]] = []
    settings = SourceSettings(1, 0, 0.1, seed=2, width_px=320, height_px=180)
    write_sources(tmp_path, settings, num_workers=1, progress=lambda *seen: shown.append(seen))
    assert shown == [(0, 1, ""), (1, 1, "1.mp4")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.mp4", "identities.csv"]
    people = read_identities(tmp_path / "identities.csv")
    assert people == {"1": Identity("1", "male", "granted", "2000-01-01", SYNTHETIC_EVIDENCE, glasses="yes")}
    assert probe_video(tmp_path / "1.mp4").num_frames == 3
    decoded = read_clip(tmp_path / "1.mp4")
    original = next(render_clip(sample_actor(2, "male"), RenderSettings(3, 30.0, 320, 180, motion_seed=2)))
    assert np.abs(decoded[0].astype(float) - original.image).mean() < 4.0
    with pytest.raises(InputError, match="already has source videos; give a new folder"):
        write_sources(tmp_path, settings)


def test_reused_motion_is_played_back_and_forth(tmp_path: Path) -> None:
    settings = SourceSettings(1, 1, 1.8, fps=5, width_px=320, height_px=180, drawn_seconds=0.6)
    write_sources(tmp_path, settings, num_workers=1)
    clips = [read_clip(tmp_path / f"{number}.mp4").astype(float) for number in (1, 2)]
    assert [len(clip) for clip in clips] == [9, 9]
    assert np.abs(clips[0] - clips[1]).mean() > 10
    drawn = [frame.image for frame in render_clip(sample_actor(0, "male"), RenderSettings(3, 5.0, 320, 180))]
    nearest = [min(range(3), key=lambda at: np.abs(frame - drawn[at]).mean()) for frame in clips[0]]
    assert nearest == [0, 1, 2, 1, 0, 1, 2, 1, 0]


def test_write_sources_refuses_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no actors to render"):
        write_sources(tmp_path / "new", SourceSettings(0, 0, 0.1))
    with pytest.raises(VideoError, match="odd"):
        write_sources(tmp_path / "new", SourceSettings(1, 0, 0.1, width_px=321, height_px=180), num_workers=1)
    assert not list((tmp_path / "new").iterdir())


def test_stopped_write_sources_continues_and_keeps_what_is_finished(tmp_path: Path) -> None:
    settings = SourceSettings(1, 1, 0.1, width_px=320, height_px=180)
    (tmp_path / "2.mp4").write_bytes(b"finished before")
    write_sources(tmp_path, settings, num_workers=1)
    assert (tmp_path / "2.mp4").read_bytes() == b"finished before"
    assert probe_video(tmp_path / "1.mp4").num_frames == 3


@pytest.mark.slow
def test_write_sources_gives_the_same_bytes_for_any_number_of_processes(tmp_path: Path) -> None:
    digests = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        settings = SourceSettings(1, 1, 0.2, seed=5, width_px=320, height_px=180)
        write_sources(folder, settings, num_workers=processes)
        digests.append([hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())])
    assert len(digests[0]) == 3
    assert digests[0] == digests[1]
