from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from generation.arrays import Frame
from generation.errors import FaceError
from generation.faces.crop import crop_face
from generation.faces.detector import detect_faces, load_detector, refine_faces
from generation.faces.follow import Detectors, follow_face, load_detectors
from generation.faces.track import FaceTrack
from generation.media.reader import read_clip
from generation.smoothing import fill_gaps, smooth_over_time, smooth_points
from tests.actor_clips import HEIGHT, NUM_FRAMES, WIDTH, Clip, film_person
from tooling.actors import RenderSettings, render_clip, sample_actor


@pytest.fixture(scope="session")
def man() -> Clip:
    return film_person(1, "male", RenderSettings(NUM_FRAMES, width_px=WIDTH, height_px=HEIGHT))


@pytest.fixture(scope="session")
def woman() -> Clip:
    return film_person(2, "female", RenderSettings(6, width_px=WIDTH, height_px=HEIGHT))


@pytest.fixture(scope="session")
def detectors() -> Detectors:
    torch.set_num_threads(1)
    return load_detectors()


@pytest.fixture(scope="session")
def track(man: Clip, detectors: Detectors) -> FaceTrack:
    return follow_face(detectors, man.frames)


def paste_face(frame: Frame, other: Frame, x: float, scale: float = 1.0) -> Frame:
    """The middle of another picture, the head, put on a frame with its centre at column x."""
    head = cv2.resize(other[:, 200:440], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:HEIGHT]
    left = round(x) - head.shape[1] // 2
    start, stop = max(left, 0), min(left + head.shape[1], frame.shape[1])
    result = frame.copy()
    if stop > start:
        result[-head.shape[0] :, start:stop] = head[:, start - left : stop - left]
    return result


def shifted(frame: Frame, dx: int) -> Frame:
    return np.roll(frame, dx, axis=1)


def landmark_errors(track: FaceTrack, truth: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean distance of each frame's landmarks in inter-ocular distances: (T,)."""
    eyes = np.linalg.norm(truth[:, 0] - truth[:, 1], axis=1)
    return np.asarray(np.linalg.norm(track.landmarks - truth, axis=2).mean(axis=1) / eyes, np.float64)


# --- the detector


def test_detector_returns_clean_arrays_for_frames_with_and_without_faces(man: Clip, detectors: Detectors) -> None:
    found = detect_faces(detectors.fine, [man.frames[0], np.zeros_like(man.frames[0])])
    assert [len(faces) for faces in found] == [1, 0]
    for faces in found:
        for array, shape in ((faces.boxes, (4,)), (faces.probabilities, ()), (faces.landmarks, (5, 2))):
            assert array.dtype == np.float32
            assert array.shape == (len(faces), *shape)
    assert detect_faces(detectors.fine, []) == []
    assert len(detect_faces(detectors.fine, np.zeros((1, 10, 900, 3), np.uint8))[0]) == 0


def test_detector_finds_what_the_library_finds_and_is_told_sizes(man: Clip, detectors: Detectors) -> None:
    frame = man.frames[0]
    boxes, probabilities, landmarks = detectors.coarse.detect(frame, landmarks=True)
    side = float((boxes[0, 2:] - boxes[0, :2]).max())
    for sides_px in ((0, np.inf), (side, side)):
        found = detect_faces(detectors.coarse, [frame], sides_px)[0]
        assert len(found) == len(boxes) == 1
        assert np.abs(found.boxes - boxes).max() < 0.05 * side
        assert np.abs(found.landmarks - landmarks).max() < 0.05 * side
        assert found.probabilities[0] == pytest.approx(float(probabilities[0]), abs=0.01)
    assert len(detect_faces(detectors.coarse, [frame], (5 * side, 5 * side))[0]) == 0


def test_detector_gives_the_same_twice(man: Clip, detectors: Detectors) -> None:
    one, other = (detect_faces(detector, man.frames[:1])[0] for detector in (detectors.fine, load_detector()))
    np.testing.assert_array_equal(one.boxes, other.boxes)


def test_refining_tells_a_face_from_none_and_bears_places_outside(man: Clip, detectors: Detectors) -> None:
    box = detect_faces(detectors.fine, man.frames[:1])[0].boxes[0]
    places = np.array([box, [5, 5, 90, 90], box + np.array([2000, 0, 2000, 0])], np.float32)
    refined = refine_faces(detectors.fine, [man.frames[0]] * 3, places)
    assert refined.probabilities[0] > 0.9
    assert refined.probabilities[1] < 0.5
    assert refined.probabilities[2] == 0


# --- smoothing and cropping


def test_smoothing_keeps_lines_and_has_no_lag() -> None:
    line = np.stack([np.arange(40.0), 3 - 2 * np.arange(40.0)], axis=1)
    np.testing.assert_allclose(smooth_over_time(line, 11), line, atol=1e-9)
    wave = np.sin(np.arange(200) / 8)[:, None]
    smooth = smooth_over_time(wave, 11)[20:-20, 0]
    lags = [np.corrcoef(smooth, wave[20 + lag : 180 + lag, 0])[0, 1] for lag in (-1, 0, 1)]
    assert max(lags) == lags[1]
    np.testing.assert_array_equal(smooth_over_time(np.ones((1, 2)), 11), np.ones((1, 2)))


def test_a_face_at_rest_is_calmed_and_one_that_turns_quickly_is_followed() -> None:
    random, face = np.random.default_rng(1), 40.0 * np.array([[-1, -1], [1, -1], [0, 0], [-0.8, 1], [0.8, 1]])
    turning = np.where(np.arange(60) < 30, 0, 25 * np.sin(np.arange(60) * 1.3))
    path = face + np.stack([turning, np.zeros(60)], 1)[:, None]
    smooth = smooth_points(path + random.normal(0, 1.0, path.shape), 11)
    assert np.abs(smooth - path)[5:24].std() < 0.45
    assert np.abs((smooth - path).mean(1)[34:56]).max() < 3
    assert np.abs((smooth_over_time(path, 11) - path).mean(1)[34:56]).max() > 15


def test_gaps_are_interpolated_and_ends_held() -> None:
    values = np.array([np.nan, 2, np.nan, np.nan, 8, np.nan])[:, None]
    np.testing.assert_allclose(fill_gaps(values)[:, 0], [2, 2, 4, 6, 8, 8])


def test_crop_puts_points_where_the_square_says() -> None:
    frame = np.zeros((200, 300, 3), np.uint8)
    cv2.circle(frame, (140 * 16, 90 * 16), 6 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)  # centre of pixel: 140.5, 90.5
    for square in ((100.3, 50.6, 80.0), (100.3, 50.6, 133.7), (-20.0, -30.0, 400.0)):
        crop = crop_face(frame, square, 100).astype(float).mean(axis=2)
        rows, columns = np.mgrid[:100, :100] + 0.5
        centre = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
        expected = (np.array([140.5, 90.5]) - square[:2]) * 100 / square[2]
        np.testing.assert_allclose(centre, expected, atol=0.06)


def test_crop_shrinks_without_aliasing_and_replicates_the_border() -> None:
    checks = np.indices((600, 600)).sum(axis=0) % 2 * 255
    frame = np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)
    assert np.ptp(crop_face(frame, (10, 10, 560), 100)[5:-5, 5:-5].astype(int)) < 8
    beyond = crop_face(np.full((50, 50, 3), 200, np.uint8), (-40, -40, 130), 64)
    assert beyond.min() == beyond.max() == 200


# --- the track


def test_track_is_near_the_truth_and_smooth(man: Clip, track: FaceTrack) -> None:
    assert len(track) == NUM_FRAMES
    assert track.is_detected.all()
    assert landmark_errors(track, man.landmarks).max() < 0.15
    assert np.abs(np.diff(track.crop, 2, axis=0)).max() < 0.3
    assert np.abs(np.diff(track.boxes, 2, axis=0)).mean() < 0.4
    middle = track.crop[:, :2] + track.crop[:, 2:] / 2
    off = np.abs(middle - man.landmarks.mean(axis=1)) / track.crop[:, 2:]
    assert off.max() < 0.15
    assert track.choice["num_faces"] == 1


def test_track_text_is_stable_and_complete(track: FaceTrack) -> None:
    text = track.to_json()
    again = FaceTrack.from_json(text)
    assert again.to_json() == text
    np.testing.assert_array_equal(again.boxes, track.boxes)
    content = json.loads(text)
    assert list(content) == ["format", "width", "height", "boxes", "landmarks", "crop", "is_detected", "choice"]
    assert (content["width"], content["height"]) == (WIDTH, HEIGHT)
    assert all(round(value, 2) == value for box in content["boxes"] for value in box)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content.pop("boxes"), "boxes"),
        (lambda content: content.update(format=2), "format 2"),
        (lambda content: content["boxes"].pop(), "boxes must be"),
        (lambda content: content["landmarks"][0][0].append(1.0), "inhomogeneous"),
        (lambda content: content["crop"][3].__setitem__(0, float("nan")), "finite"),
        (lambda content: content["crop"][3].__setitem__(0, 1e300), "finite"),
        (lambda content: content["crop"][3].__setitem__(2, 0.0), "without area"),
        (lambda content: content.update(is_detected=[1] * NUM_FRAMES), "true or false"),
        (lambda content: content.update(width="640"), "whole numbers"),
    ],
)
def test_damaged_track_is_refused_in_one_line(track: FaceTrack, damage: Callable[..., object], reason: str) -> None:
    content = json.loads(track.to_json())
    damage(content)
    with pytest.raises(FaceError, match=reason) as caught:
        FaceTrack.from_json(json.dumps(content), name="tracks/1.json")
    assert str(caught.value).startswith("tracks/1.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": 1}', b"\xff", "[" * 100_000])
def test_other_text_is_no_track(text: str | bytes) -> None:
    with pytest.raises(FaceError, match=r"^track: "):
        FaceTrack.from_json(text)


def test_covered_frames_are_kept_with_an_interpolated_box(man: Clip, track: FaceTrack, detectors: Detectors) -> None:
    frames = [frame.copy() for frame in man.frames]
    for frame in frames[13:23]:
        frame[40:330, 190:450] = 0
    covered = follow_face(detectors, frames)
    assert np.flatnonzero(~covered.is_detected).tolist() == list(range(13, 23))
    assert np.abs(covered.boxes - track.boxes).max() < 0.15 * np.diff(track.boxes[:, [1, 3]]).max()
    assert landmark_errors(covered, man.landmarks).max() < 0.25


def test_a_second_face_that_enters_and_is_larger_does_not_steal_the_track(
    man: Clip, woman: Clip, track: FaceTrack, detectors: Detectors
) -> None:
    frames = list(man.frames)
    for number in range(15, NUM_FRAMES):
        x = max(WIDTH - 90, WIDTH + 150 - 30 * (number - 14))
        frames[number] = paste_face(frames[number], woman.frames[number % 6], x, 1.3)
    kept = follow_face(detectors, frames)
    assert kept.is_detected.all()
    assert np.abs(kept.boxes - track.boxes).max() < 15
    assert kept.choice["num_faces"] == 2


def crossing(man: Clip, woman: Clip) -> list[Frame]:
    """The man sits to the left; the woman's head passes before him from right to left."""
    frames = []
    for number, frame in enumerate(man.frames):
        moved = shifted(frame, -60)
        frames.append(paste_face(moved, woman.frames[0], WIDTH + 160 - 36 * number, 0.9))
    return frames


def test_a_face_that_passes_before_the_other_does_not_take_its_track(
    man: Clip, woman: Clip, track: FaceTrack, detectors: Detectors
) -> None:
    kept = follow_face(detectors, crossing(man, woman))
    centres = (kept.boxes[:, 0] + kept.boxes[:, 2]) / 2
    expected = (track.boxes[:, 0] + track.boxes[:, 2]) / 2 - 60
    assert np.abs(centres - expected).max() < 20
    assert not kept.is_detected.all()
    assert kept.is_detected[[0, -1]].all()


def test_a_cut_to_another_place_is_refused(man: Clip, detectors: Detectors) -> None:
    frames = man.frames[:18] + [shifted(frame, 110) for frame in man.frames[18:]]
    with pytest.raises(FaceError, match=r"^1\.mp4: .*cut at frame 18|^1\.mp4: .*found in only 50%"):
        follow_face(detectors, frames, name="1.mp4")


def test_a_cut_to_another_person_in_the_same_place_is_refused(man: Clip, woman: Clip, detectors: Detectors) -> None:
    frames = man.frames[:18] + woman.frames * 3
    with pytest.raises(FaceError, match="found in only 50% of the frames"):
        follow_face(detectors, frames)


def test_fast_motion_of_a_low_cadence_is_followed(man: Clip, detectors: Detectors) -> None:
    steps = [round(90 * np.sin(max(number - 4, 0) * 2 / 3)) for number in range(NUM_FRAMES // 3)]  # first still
    moves = [shifted(frame, step) for frame, step in zip(man.frames[::3], steps, strict=True)]
    held = [frame for frame in moves for _ in range(3)]  # ten pictures a second, each three times
    swaying = follow_face(detectors, held, name="1.mp4")
    assert swaying.is_detected.mean() > 0.9
    assert np.ptp(swaying.boxes[:, 0]) > 120


def test_a_flash_is_no_cut(man: Clip, track: FaceTrack, detectors: Detectors) -> None:
    frames = list(man.frames)
    frames[17] = np.minimum(frames[17], 215) + np.uint8(40)
    kept = follow_face(detectors, frames)
    assert np.abs(kept.boxes - track.boxes).max() < 8


def test_clips_without_a_usable_face_are_refused_by_name(man: Clip, detectors: Detectors) -> None:
    empty = [np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 12
    with pytest.raises(FaceError, match=r"^raw_video/4\.mp4: no face was found"):
        follow_face(detectors, empty, name="raw_video/4.mp4")
    with pytest.raises(FaceError, match="found in only"):
        follow_face(detectors, [*man.frames[:15], *empty, *empty])
    with pytest.raises(FaceError, match="has no frames"):
        follow_face(detectors, [])


@pytest.mark.parametrize("num_frames", [1, 2, 7])
def test_short_clips_have_tracks_too(man: Clip, detectors: Detectors, num_frames: int) -> None:
    short = follow_face(detectors, man.frames[:num_frames])
    assert len(short) == num_frames
    assert landmark_errors(short, man.landmarks[:num_frames]).max() < 0.15


@pytest.mark.slow
def test_a_turning_head_is_followed(detectors: Detectors) -> None:
    settings = RenderSettings(num_frames=180, width_px=1280, height_px=720, motion="turning")
    rendered = list(render_clip(sample_actor(3, "female"), settings))
    track = follow_face(detectors, (frame.image for frame in rendered))
    truth = np.stack([frame.landmarks for frame in rendered])
    assert track.is_detected.mean() > 0.9
    assert np.median(landmark_errors(track, truth)) < 0.1


@pytest.mark.slow
def test_a_real_face_is_followed(detectors: Detectors, vectors: Callable[[str], Path]) -> None:
    frames = read_clip(vectors("talking-head-50fps.mp4"), 0, 150)
    track = follow_face(detectors, iter(frames))
    assert track.is_detected.mean() > 0.98
    assert np.abs(np.diff(track.crop, 2, axis=0)).max() < 0.3
    one_by_one = np.stack([found.boxes[0] for found in detect_faces(detectors.fine, frames[::15])])
    sizes = np.diff(track.boxes[:, [1, 3]])
    assert np.abs(track.boxes[::15] - one_by_one).max() < 0.2 * sizes.max()
