"""Fakes that show no face, or the same face as before, or nothing but black and white, are not accepted."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from generation.arrays import Frame
from generation.crops.clip import PastedFrame
from generation.errors import RejectedOutputError
from generation.quality.output import OutputMeter, limits_of
from generation.quality.presence import FaceCheck, check_image
from tests.actor_clips import Clip, film_person
from tooling.actors import RenderSettings

NUM_FRAMES = 12


@pytest.fixture(scope="module")
def film() -> Clip:
    settings = RenderSettings(NUM_FRAMES, fps=6, width_px=320, height_px=240, motion_seed=3)
    return film_person(3, "female", settings)


def blotted(film: Clip) -> list[Frame]:
    """The frames with the face painted over."""
    made = []
    for frame, points in zip(film.frames, film.landmarks, strict=True):
        picture = frame.copy()
        (left, top), (right, bottom) = points.min(0).astype(int) - 40, points.max(0).astype(int) + 40
        picture[max(top, 0) : bottom, max(left, 0) : right] = picture[5, 5]
        made.append(picture)
    return made


def test_a_face_that_is_there_is_found(film: Clip) -> None:
    check = FaceCheck(film.landmarks, [True] * NUM_FRAMES)
    for frame in film.frames:
        check.add(frame)
    check.raise_if_missing("swap_video/1_2")


def test_a_face_that_is_gone_is_rejected(film: Clip) -> None:
    check = FaceCheck(film.landmarks, [True] * NUM_FRAMES)
    for frame in blotted(film):
        check.add(frame)
    with pytest.raises(RejectedOutputError, match="swap_video/1_2: rejected, no face is found in 6 of 6 frames"):
        check.raise_if_missing("swap_video/1_2")


def test_where_the_target_shows_no_face_none_is_asked_for(film: Clip) -> None:
    check = FaceCheck(film.landmarks, [False] * NUM_FRAMES)
    for frame in blotted(film):
        check.add(frame)
    check.raise_if_missing("swap_video/1_2")


def test_an_image_shows_exactly_one_face(film: Clip) -> None:
    image = film.frames[0]
    check_image("GAN_images/000001", image)
    with pytest.raises(RejectedOutputError, match="it shows no face"):
        check_image("GAN_images/000001", blotted(film)[0])
    with pytest.raises(RejectedOutputError, match="it shows 2 faces"):
        check_image("GAN_images/000001", np.hstack([image[:, 40:280], image[:, 40:280]]))


def measured(
    family: str, befores: list[Frame], afters: list[Frame], may_stay: NDArray[np.bool_] | None = None
) -> OutputMeter:
    meter = OutputMeter(limits_of(family), may_stay)
    for before, after in zip(befores, afters, strict=True):
        region = (slice(60, 200), slice(100, 220))
        frame = before.copy()
        frame[region] = after[region]
        meter.add(PastedFrame(before, frame, region, np.ones((140, 120), np.float32)))
    return meter


def test_a_swap_that_keeps_the_face_is_rejected(film: Clip) -> None:
    befores = film.frames
    brighter = [np.clip(image.astype(int) + 12, 0, 255).astype(np.uint8) for image in befores]
    with pytest.raises(RejectedOutputError, match="the face is still the target's"):
        measured("face_swap", befores, brighter).raise_if_rejected("swap_video/1_2", NUM_FRAMES)
    # An edit keeps the face.
    measured("attribute_editing", befores, brighter).raise_if_rejected("edit_video/age/1", NUM_FRAMES)


def test_clipped_output_is_rejected(film: Clip) -> None:
    befores = film.frames
    burnt = [np.where(image > 100, 255, image).astype(np.uint8) for image in befores]
    with pytest.raises(RejectedOutputError, match="of it is clipped to black or white"):
        measured("expression_driven", befores, burnt).raise_if_rejected("avatarify_video/1_2", NUM_FRAMES)


def test_frames_without_a_target_face_may_pass_through(film: Clip) -> None:
    befores = film.frames
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in befores]
    meter = OutputMeter(limits_of("expression_driven"), np.arange(NUM_FRAMES) == 0)
    for number, (before, after) in enumerate(zip(befores, mirrored, strict=True)):
        mask = np.full(before.shape[:2], float(number > 0), np.float32)
        frame = after if number else before
        meter.add(PastedFrame(before, frame, (slice(0, 240), slice(0, 320)), mask))
    assert meter.results()["frames_passed_through"] == 1
    assert "left as they are" not in meter._reason(NUM_FRAMES)


def test_an_edit_with_factor_zero_may_change_nothing(film: Clip) -> None:
    meter = OutputMeter(limits_of("attribute_editing", 0.0))
    for frame in film.frames:
        mask = np.zeros((0, 0), np.float32)
        meter.add(PastedFrame(frame, frame.copy(), (slice(0, 0), slice(0, 0)), mask))
    meter.raise_if_rejected("edit_video/age/1", NUM_FRAMES)
