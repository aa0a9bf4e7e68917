"""The measures of faces and pictures that ingest, tracking and identity share."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from generation.arrays import Frame
from generation.crops.templates import TEMPLATE
from generation.faces.appearance import (
    CHANGE_BLOCKS,
    CHANGE_PX,
    FreezeFinder,
    change_between,
    histogram_distance,
    histograms_of,
    inside_box,
    is_cut,
    sharpness_of,
    turn_of,
)

BOX = np.array([60.0, 60.0, 120.0, 140.0])


def person(hair: int, skin: int, shirt: int, shift: int = 0) -> Frame:
    """Three areas of one grey value each, and a little noise."""
    picture = np.full((240, 200, 3), 230, np.uint8)
    picture[20 + shift : 70 + shift], picture[70 + shift : 150 + shift], picture[150 + shift :] = hair, skin, shirt
    noise = np.random.default_rng(shift).integers(0, 9, picture.shape, np.uint8)
    return np.asarray(picture + noise, np.uint8)


@pytest.mark.parametrize("roll", [0, 30, -75])
def test_turn_is_the_same_however_the_head_is_tilted(roll: float) -> None:
    turned = 100 * TEMPLATE.copy()
    assert turn_of(turned) == pytest.approx(0, abs=1e-5)
    turned[2, 0] += 0.4 * (turned[1, 0] - turned[0, 0])
    angle = np.deg2rad(roll)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert turn_of((turned @ matrix.T).astype(np.float32)) == pytest.approx(0.4, abs=1e-3)


def test_sharpness_falls_with_blur_and_is_0_for_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (80, 60, 3), np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(picture, (0, 0), 2), np.uint8)
    assert sharpness_of(picture, 64) > 3 * sharpness_of(blurred, 64)
    assert sharpness_of(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 64) == sharpness_of(picture, 64)  # type: ignore[arg-type]
    assert sharpness_of(inside_box(picture, np.array([90.0, 0.0, 120.0, 20.0])), 64) == 0


def test_colours_tell_people_apart_and_not_where_they_sit() -> None:
    known = histograms_of(person(20, 150, 60), BOX)
    moved = histograms_of(person(20, 150, 60, shift=6), BOX + np.array([0, 6, 0, 6]))
    other = histograms_of(person(120, 150, 220), BOX)
    assert histogram_distance(known, known) < 1e-3
    assert histogram_distance(known, moved) < 0.15
    assert histogram_distance(known, other) > 0.4


def test_zones_out_of_view_are_left_out() -> None:
    high = BOX + np.array([0, 100, 0, 100])  # clothes below the picture
    known, other = histograms_of(person(20, 150, 60), BOX), histograms_of(person(20, 150, 60, shift=100), high)
    assert np.isnan(other[2]).all()
    assert histogram_distance(known, other) < 0.15
    assert histogram_distance(known, np.full_like(known, np.nan)) == 1


def test_a_cut_is_a_change_beyond_those_around_it() -> None:
    before, after = np.full(CHANGE_PX[::-1], 40, np.uint8), np.full(CHANGE_PX[::-1], 60, np.uint8)
    change = change_between(before, after)
    assert change.shape == CHANGE_BLOCKS[::-1]
    assert (change == 20).all()
    assert is_cut(20.0, np.array([]))
    assert is_cut(20.0, np.array([0.0, 0.0, 3.0]))  # repeated pictures do not count
    assert not is_cut(20.0, np.array([0.0, 0.0, 5.0]))
    assert not is_cut(7.0, np.array([0.1]))
    assert is_cut(7.0, np.array([0.1]), levels=6.0)


def test_fast_motion_of_a_low_cadence_is_no_cut() -> None:
    still, noise = (
        np.full(12, 1.0),
        np.array([0.0, 0.3, 0.0, 0.2]),
    )  # noise: what encoding changes in a repeated picture
    assert is_cut(20.0, still, still)
    assert is_cut(20.0, still, noise)
    assert is_cut(20.0, still, np.append(noise, 20.0))  # back from an insert
    assert not is_cut(20.0, still, np.concatenate([noise, [8.0], noise, [12.0]]))  # it goes on
    assert not is_cut(20.0, np.insert(noise, 0, 9.0), np.append(noise, 9.0))
    assert not is_cut(20.0, np.tile([0.2, 0.1, 12.0, 0.3], 3), noise)


def test_frozen_pictures_are_found_where_the_face_is() -> None:
    random = np.random.default_rng(0)
    canvas = random.integers(0, 256, (90, 400), np.uint8)
    finder = FreezeFinder(9 / 16)
    for number in range(40):  # moves, then stays but for the noise of encoding, then moves
        shift = 3 * min(number, 15) + 3 * max(number - 30, 0)
        picture = canvas[:, shift : shift + 160] // 2 + random.integers(0, 2, (90, 160), np.uint8)
        picture[:10, :10] = 255 * (number % 2)  # a clock in the corner
        finder.add(number / 10, picture)
    assert finder.stretches({}) == []
    ((begin, end),) = finder.stretches({0.0: np.array([0.5, 0.2, 1.2, 0.9])})
    assert [begin, end] == pytest.approx([1.5, 3.0])
    sparse = FreezeFinder(9 / 16)
    for time in (0.0, 0.1, 2.0, 2.1):
        sparse.add(time, random.integers(0, 256, (90, 160), np.uint8))
    assert sparse.stretches({}) == [(0.1, 2.0)]
