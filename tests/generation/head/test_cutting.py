"""Cutting out hair: all of it and nothing else, where the renderer or a drawing gives the truth."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from generation.arrays import Floats, Frame, Landmarks
from generation.crops.align import align
from generation.crops.templates import TEMPLATES
from generation.head.analysis import ANALYSIS_PX
from generation.head.anatomy import HAIR, MARGIN, OTHER, SKIN, away_from_head, usual_areas
from generation.head.cutting import KeyCrop, cut_out
from generation.head.guided import GuidedFilter
from tests.actor_clips import TALK
from tooling.actors import Actor, render_clip, sample_actor

BLACK, RED = (0.01, 0.01, 0.01), (0.6, 0.05, 0.02)
LIKE_HAIR = (0.016, 0.012, 0.010)
DARK = (42, 34, 28)
SIDE = 400
UNIT = float(np.ptp(TEMPLATES["head"][:, 1])) * SIDE  # of a face, px


def key_of(frame: Frame, landmarks: Landmarks) -> KeyCrop:
    return KeyCrop(*align(frame, landmarks, ANALYSIS_PX, "head"), (frame.shape[1], frame.shape[0]))


def render_first(actor: Actor) -> tuple[Frame, Landmarks]:
    frame = next(render_clip(actor, dataclasses.replace(TALK, num_frames=1)))
    return frame.image, frame.landmarks


def with_truth(actor: Actor) -> tuple[KeyCrop, NDArray[np.bool_]]:
    """A rendered head, and where its hair is: pixels that differ when it is red instead of black; brows left out."""
    key = key_of(*render_first(actor))
    shown = [render_first(dataclasses.replace(actor, hair_color=color, hair_grey=0.0))[0] for color in (RED, BLACK)]
    red, black = (cv2.warpAffine(image, key.matrix, (ANALYSIS_PX, ANALYSIS_PX))[..., 0] for image in shown)
    redder = cv2.subtract(red, black)
    u, v, _ = key.places
    is_face = (np.abs(u) < 0.75) & (v > -0.45) & (v < 1.9)
    return key, (redder > 45) & ~is_face & key.is_inside


def agreement(hair: Floats, truth: NDArray[np.bool_]) -> float:
    found = hair > 0.5
    return float((found & truth).sum() / (found | truth).sum())


@pytest.mark.parametrize(
    ("seed", "gender", "least"),
    [(6, "female", 0.85), (18, "female", 0.82)],
    ids=["long", "grey before grey"],
)
def test_hair_is_found_whole(seed: int, gender: str, least: float) -> None:
    key, truth = with_truth(sample_actor(seed, gender))  # type: ignore[arg-type]
    assert agreement(cut_out([key])[0, ..., 0] * key.is_inside, truth) > least


def test_clothes_of_the_hair_s_colour_are_not_hair() -> None:
    actor = sample_actor(12, "female")
    dressed = dataclasses.replace(
        actor, hair_color=LIKE_HAIR, hair_grey=0.0, clothes_color=LIKE_HAIR, shirt_color=LIKE_HAIR
    )
    key, truth = with_truth(dressed)
    hair = cut_out([key])[0, ..., 0] > 0.5
    around = cv2.dilate(truth.astype(np.uint8), np.ones((13, 13), np.uint8)) > 0
    _, v, _ = key.places
    is_dress = ~around & (v > 2.6) & key.is_inside
    assert is_dress.sum() > 2000
    assert (hair & is_dress).sum() < 0.02 * is_dress.sum()
    is_beside = truth & (v < 1.7)
    assert (hair & is_beside).sum() > 0.85 * is_beside.sum()


def drawn(*things: tuple[tuple[int, int], tuple[int, int]]) -> tuple[KeyCrop, NDArray[np.bool_]]:
    """A drawn head with dark hair, and rectangles of its colour behind it, px of the crop; and the truth."""
    picture = np.full((SIDE, SIDE, 3), (150, 165, 180), np.uint8)
    for first, last in things:
        cv2.rectangle(picture, first, last, DARK, -1)
    points = TEMPLATES["head"] * SIDE
    x, y = (round(float(value)) for value in points[:2].mean(0))
    hair, face = np.zeros((2, SIDE, SIDE), np.uint8)
    unit = UNIT
    cv2.ellipse(hair, (x, round(y - 0.2 * unit)), (round(1.3 * unit), round(1.5 * unit)), 0, 180, 360, 1, -1)
    cv2.ellipse(face, (x, round(y + 0.35 * unit)), (round(unit), round(1.35 * unit)), 0, 0, 360, 1, -1)
    picture[hair > 0] = DARK
    picture[face > 0] = (205, 160, 135)
    noise = np.random.default_rng(0).normal(0, 3, picture.shape)
    key = key_of(np.clip(picture + noise, 0, 255).astype(np.uint8), points.astype(np.float32))
    truth = cv2.warpAffine(hair & ~face & 1, key.matrix, (ANALYSIS_PX, ANALYSIS_PX)) > 0
    return key, truth


def test_hair_ends_at_the_head_where_something_of_its_colour_goes_on() -> None:
    """A dark pole from the hair to the picture's side, and a dark thing apart from it."""
    key, truth = drawn(((0, 105), (200, 125)), ((330, 60), (399, 200)))
    hair = cut_out([key])[0, ..., 0]
    u, v, _ = key.places
    assert agreement(hair, truth) > 0.75
    assert not hair[away_from_head(u, v, MARGIN) > 0.5].any()
    assert not hair[:, round(320 / SIDE * ANALYSIS_PX) :].any()


def test_what_lies_beyond_the_picture_shows_what_its_border_shows() -> None:
    key, _ = drawn()
    whole = cut_out([key])[0, ..., 0]
    top = 70  # px, within the hair
    back = cv2.invertAffineTransform(key.matrix)
    picture = cv2.warpAffine(key.crop, back, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)[top:]
    shifted = key.landmarks @ back[:, :2].T + back[:, 2] - [0, top]
    cut = key_of(np.asarray(picture, np.uint8), shifted.astype(np.float32))
    assert 0.1 < 1 - cut.is_inside.mean() < 0.3
    assert agreement(cut_out([cut])[0, ..., 0] * cut.is_inside, (whole > 0.5) & cut.is_inside) > 0.9


def test_usual_shares_are_shares_and_bounded() -> None:
    axis = np.linspace(-3.5, 3.5, 71, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    areas = usual_areas(u, v, u)
    np.testing.assert_allclose(areas.sum(-1), 1, atol=1e-5)
    assert (areas[away_from_head(u, v, MARGIN) > 0.5].argmax(-1) == OTHER).all()
    for kind, place in ((HAIR, (0, -1.5)), (SKIN, (0, 0.5)), (SKIN, (0.4, 1.0)), (OTHER, (3, 0)), (OTHER, (0, -3))):
        nearest = np.argmin(np.hypot(u - place[0], v - place[1]))
        assert areas.reshape(-1, 3)[nearest].argmax() == kind


def test_the_guided_filter_is_linear_in_the_mask_and_alike_in_both_sizes() -> None:
    random = np.random.default_rng(1)
    picture = cv2.resize(random.integers(0, 256, (8, 8, 3), np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
    one, other = random.random((2, 64, 64), np.float32)
    guided = GuidedFilter(np.asarray(picture, np.uint8))
    np.testing.assert_allclose(guided(one + other), guided(one) + guided(other), atol=2e-3)
    np.testing.assert_allclose(guided(one), guided.enlarged(one, np.asarray(picture, np.uint8)), atol=1e-4)
    np.testing.assert_allclose(guided(np.full_like(one, 0.3)), 0.3, atol=1e-3)
