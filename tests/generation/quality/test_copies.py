"""Small pictures of one film and of others, compared pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from generation.arrays import Grey
from generation.quality.copies import face_distance, largest_change, picture_distance
from generation.quality.descriptor import describe_image, distance, near_pairs


def drawn(seed: int, side_px: int = 48) -> Grey:
    """Soft blobs."""
    rough = np.random.default_rng(seed).integers(40, 200, (7, 7)).astype(np.uint8)
    return np.asarray(cv2.resize(rough, (side_px, side_px), interpolation=cv2.INTER_CUBIC), np.uint8)


def moved(picture: Grey, x: float, y: float, scale: float = 1.0) -> Grey:
    matrix = np.array([[scale, 0, x], [0, scale, y]], np.float32)
    return np.asarray(cv2.warpAffine(picture, matrix, picture.shape[::-1], borderMode=cv2.BORDER_REPLICATE), np.uint8)


@pytest.mark.parametrize("measure", [face_distance, picture_distance])
def test_place_size_and_light_do_not_count(measure: object) -> None:
    assert callable(measure)
    picture = drawn(1)
    assert measure(picture, picture) == pytest.approx(0, abs=1e-6)
    for other in (moved(picture, 2, -1), moved(picture, -1, 0, 1.06), cv2.convertScaleAbs(picture, alpha=0.8, beta=20)):
        assert measure(picture, other) < 0.05
    assert measure(picture, drawn(2)) > 0.5


def test_pictures_that_cannot_be_laid_over_each_other() -> None:
    picture, flat = drawn(1), np.full((48, 48), 90, np.uint8)
    for other in (flat, moved(picture, 30, 0)):
        assert face_distance(picture, other) == 1
        assert picture_distance(other, picture) == float("inf")


def test_most_of_a_picture_does_not_make_up_for_the_rest() -> None:
    picture = drawn(1, 64)
    other = picture.copy()
    other[20:36, 26:38] = drawn(2, 64)[20:36, 26:38]
    assert np.corrcoef(picture.ravel(), other.ravel())[0, 1] > 0.95
    assert picture_distance(picture, other) > 0.3


def test_largest_change_is_of_a_place_not_of_noise() -> None:
    films = np.stack([drawn(seed) for seed in range(3)])
    noise = np.random.default_rng(0).normal(0, 1.5, films.shape)
    noisy = np.clip(np.rint(films + noise), 0, 255).astype(np.uint8)
    assert largest_change(films, noisy) < 2
    noisy[:, 10:20, 10:20] += 12
    assert largest_change(films, noisy) == pytest.approx(12, abs=2)


def test_near_pairs_are_those_of_single_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generation.quality.descriptor.ROWS", 2)
    pictures = [np.repeat(drawn(seed, 96)[..., None], 3, 2) for seed in range(5)]
    described = [describe_image(picture) for picture in pictures]
    brighter = [describe_image(cv2.convertScaleAbs(picture, alpha=1.1)) for picture in pictures[::-1]]  # type: ignore[arg-type]
    rows, columns, distances = near_pairs(described, brighter)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(number, 4 - number) for number in range(5)]
    for row, column, value in zip(rows, columns, distances, strict=True):
        assert value == pytest.approx(distance(described[row], brighter[column]), abs=1e-6)
    assert [len(part) for part in near_pairs(described, [])] == [0, 0, 0]
