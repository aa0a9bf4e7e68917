"""Who and what passes for a copy: people of one set do not, a film that was encoded, cut or moved again does."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from generation.arrays import Frame, Grey
from generation.crops.align import align, transform
from generation.crops.paste import paste
from tests.actor_clips import film_person
from tests.tooling.stages.verify.verified import HEIGHT, PEOPLE, WIDTH, move
from tooling.actors import RenderSettings
from tooling.stages.verify import duplicates
from tooling.stages.verify.duplicates import check_duplicates
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.descriptors import ContentMeter, pack_mean_picture
from tooling.stages.verify.meters.meter import DecodedFrame
from tooling.stages.verify.meters.views import VIEW_PX, ViewMeter, pack_views

NUM_FRAMES = 15
Film = tuple[list[Frame], NDArray[np.float32]]  # frames, and landmarks (T, 5, 2)


def checked(path: str, film: Film, *, is_tracked: bool = True) -> FileCheck:
    """What the check of a file that shows a film keeps for comparisons."""
    check = FileCheck(path)
    frames, landmarks = film
    num_frames = len(frames)
    for meter in (
        ContentMeter(check, num_frames, None),
        ViewMeter(check, num_frames, landmarks if is_tracked else None),
    ):
        for number, frame in enumerate(frames):
            if meter.wants(number):
                coded = VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
                meter.add(DecodedFrame(number, coded), None)
        meter.finish()
    return check


@cache
def still(person: str) -> tuple[Frame, NDArray[np.float32]]:
    settings = RenderSettings(1, width_px=WIDTH, height_px=HEIGHT, motion_seed=int(person))
    clip = film_person(int(person), PEOPLE[person], settings)
    return clip.frames[0], clip.landmarks[0]


def in_set(person: str, set_of: str = "2") -> tuple[Frame, NDArray[np.float32]]:
    """A person's face in the hair, dress, light, framing and studio of another."""
    (own, points), (studio, there) = still(person), still(set_of)
    if person == set_of:
        return studio, there
    face, _, _ = align(own, points, 96)
    _, _, matrix = align(studio, there, 96)
    mask = np.zeros((96, 96), np.float32)
    cv2.ellipse(mask, (48, 50), (32, 38), 0, 0, 360, 1.0, -1)
    return paste(studio, face, np.asarray(cv2.GaussianBlur(mask, (0, 0), 2), np.float32), matrix).frame, there


def filmed(picture: Frame, landmarks: NDArray[np.float32], seed: int = 0) -> Film:
    """Frames that sway, as `move` makes them, with a track that errs by a hundredth of the distance of the eyes."""
    frames = move(picture, NUM_FRAMES)
    random = np.random.default_rng(seed)
    places = []
    for number in range(NUM_FRAMES):
        scale, shift = 1.05 + 0.004 * number, np.array([4 * np.sin(number / 4), 3 * np.cos(number / 5)])
        middle = np.array([WIDTH / 2, 120])
        places.append(landmarks * scale + (1 - scale) * middle + shift)
    away = random.normal(0, 0.01 * np.linalg.norm(landmarks[1] - landmarks[0]), (NUM_FRAMES, 5, 2))
    return frames, np.asarray(np.array(places) + away, np.float32)


def copied(film: Film, *, crop: float = 0.0, shift_px: float = 0.0, start: int = 0, gain: float = 1.0) -> Film:
    """Cropped unevenly, moved, later and brighter, encoded as JPEG of quality 40, with a track of its own."""
    frames, landmarks = film
    scale = 1 / (1 - crop)
    matrix = np.array([[scale, 0, -crop * scale * WIDTH * 0.7 + shift_px], [0, scale, -shift_px]], np.float32)
    made = []
    for frame in frames[start:]:
        moved = cv2.warpAffine(frame, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        _, coded = cv2.imencode(".jpg", cv2.convertScaleAbs(moved, alpha=gain), [cv2.IMWRITE_JPEG_QUALITY, 40])
        made.append(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8))
    away = np.random.default_rng(9).normal(0, 0.01 * np.ptp(landmarks[0, :, 0]), (len(made), 5, 2))
    return made, np.asarray(transform(matrix, landmarks[start:]) + away, np.float32)


COPIES: dict[str, Any] = {
    "shifted": {"shift_px": 5.0},
    "cropped": {"crop": 0.05},
    "later and brighter": {"start": 1, "gain": 1.12},
    "all": {"crop": 0.03, "shift_px": -3.0, "gain": 0.9},
}


@pytest.mark.parametrize("is_tracked", [True, False])
def test_people_of_one_set_are_no_copies_and_copies_are(is_tracked: bool) -> None:
    people = {f"raw_video/{name}.mp4": filmed(*in_set(name), seed=int(name)) for name in PEOPLE}
    checks = {path: checked(path, film, is_tracked=is_tracked) for path, film in people.items()}
    splits = dict(zip(people, ["train", "validation", "test"], strict=True))
    assert check_duplicates(checks, splits) == []
    for kind, change in COPIES.items():
        copy = checked(kind, copied(people["raw_video/1.mp4"], **change), is_tracked=is_tracked)
        for path in ("raw_video/9.mp4", "edit_video/age/3.mp4"):
            found = check_duplicates(checks | {path: copy}, splits | {path: "test"})
            assert [finding.path for finding in found] == [path], (kind, path, found)
            assert found[0].message.endswith(" as raw_video/1.mp4 in the split train; take one of them out"), kind


def test_clip_of_another_person_is_found_in_one_split_and_by_another_clips_track() -> None:
    film = filmed(*in_set("1"))
    other, astray = copied(film), (copied(film)[0], film[1] + np.float32(25))
    for copy, what in ((other, "face"), (astray, "film")):
        checks = {"raw_video/1.mp4": checked("1", film), "raw_video/2.mp4": checked("2", copy)}
        found = check_duplicates(checks, dict.fromkeys(checks, "train"))
        assert [(finding.path, finding.message) for finding in found] == [
            ("raw_video/2.mp4", f"shows the same {what} as raw_video/1.mp4 in the split train; take one of them out")
        ]


def test_one_file_of_another_persons_film_is_compared_with_all_of_that_persons() -> None:
    """Also where more files of the person are like it than the one that it is a copy of."""
    film = filmed(*in_set("1"))
    darker = [np.asarray(cv2.convertScaleAbs(frame, alpha=0.9), np.uint8) for frame in film[0]], film[1]
    paths = ["raw_video/1.mp4", "avatarify_video/1_2.mp4", "swap_video/3_2.mp4"]
    checks = {path: checked(path, some) for path, some in zip(paths, (film, darker, copied(film)), strict=True)}
    found = check_duplicates(checks, dict(zip(paths, ["train", "train", "test"], strict=True)))
    assert [finding.path for finding in found] == ["swap_video/3_2.mp4"]


def spoiled(film: Film, rows: slice, levels: int) -> Film:
    """Lighter in some rows of the face's columns: a fake."""
    frames, landmarks = film
    made = [frame.copy() for frame in frames]
    left, right = int(landmarks[..., 0].min()), int(landmarks[..., 0].max())
    for frame in made:
        part = frame[rows, left:right]
        part[:] = cv2.add(part, np.full_like(part, levels))
    return made, landmarks


@pytest.mark.parametrize("is_tracked", [True, False])
def test_copy_of_another_fake_of_one_target(is_tracked: bool) -> None:
    """Fakes show their target's background by design; only what they change tells them apart."""
    target = filmed(*in_set("1"))
    lower, upper = spoiled(target, slice(150, 180), 30), spoiled(target, slice(60, 90), 30)
    both = spoiled(upper, slice(150, 180), 15)  # most of it is as in `upper`
    films = {
        "raw_video/1.mp4": target,
        "avatarify_video/1_2.mp4": lower,
        "edit_video/age/1.mp4": both,
        "edit_video/hair/1.mp4": upper,
    }
    checks = {path: checked(path, film, is_tracked=is_tracked) for path, film in films.items()}
    assert check_duplicates(checks, dict.fromkeys(checks, "train")) == []
    unchanged = {"swap_video/1_2.mp4": checked("swap_video/1_2.mp4", copied(target), is_tracked=is_tracked)}
    assert check_duplicates(checks | unchanged, {}) == []  # another check finds that it is its target
    for path, what in (
        ("swap_video/1_2.mp4", "avatarify_video/1_2.mp4"),
        ("edit_video/age/1.mp4", "edit_video/hair/1.mp4"),
    ):
        copy = checked(path, (copied(films[what])[0], target[1]), is_tracked=is_tracked)
        found = check_duplicates(checks | {path: copy}, dict.fromkeys([*checks, path], "train"))
        assert {(finding.path, finding.message.partition(";")[0]) for finding in found} == {
            (path, f"shows the same film as {what}"),
            (what, f"shows the same film as {path}"),
        }


def test_pixels_are_compared_only_where_coarse_patterns_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a release is compared in seconds."""
    compared = []

    def unlike(first: Grey, second: Grey) -> float:
        compared.append(first)
        return 1.0

    monkeypatch.setattr(duplicates, "face_distance", unlike)
    monkeypatch.setattr(duplicates, "picture_distance", unlike)
    random = np.random.default_rng(0)
    checks, splits = {}, {}
    for number in range(150):
        path, rough = f"raw_video/{number}.mp4", random.integers(0, 255, (6, 6)).astype(np.uint8)
        picture = np.asarray(cv2.resize(rough, (VIEW_PX, VIEW_PX), interpolation=cv2.INTER_CUBIC), np.uint8)
        film = pack_mean_picture(picture.astype(np.float32))
        checks[path] = FileCheck(path, content=path, face=pack_views([picture]), mean_picture=film)
        splits[path] = ("train", "validation", "test")[number % 3]
    assert check_duplicates(checks, splits) == []
    assert len(compared) < 150
