"""Whether two small pictures are of one film, compared pixel by pixel after one is laid over the other.

They are laid by an affine map (Evangelidis and Psarakis 2008, "Parametric Image Alignment Using Enhanced Correlation
Coefficient Maximization"), so that a copy that was encoded again, shifted, cropped by a few hundredths or made brighter
fits again. People before one background, framed and dressed alike, do not.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Grey

NUM_STEPS, ACCURACY, BLUR_PX = 30, 1e-3, 3  # of laying one over the other
SMALLEST_COVER = 0.7  # share of a picture that the other must cover
DETAIL = 1 / 8  # of the side: what is coarser is light
ALL_BUT_EDGES = 98  # percentile of differences
ALL_BUT_SPECKS = 99.5
SMALLEST_SPREAD = 4.0  # levels; a flatter picture shows nothing


def face_distance(first: Grey, second: Grey) -> float:
    """Difference of the details of two aligned faces, uint8 (S, S): 1 - correlation, 0 is equal and 1 unlike."""
    laid = _laid(first, second)
    if laid is None:
        return 1.0
    (one, other), is_common = laid
    sigma = DETAIL * first.shape[0]
    one, other = (picture - cv2.GaussianBlur(picture, (0, 0), sigma) for picture in (one, other))
    return _unlikeness(one[is_common], other[is_common])


def picture_distance(first: Grey, second: Grey) -> float:
    """Largest difference of two whole pictures, uint8 (H, W), anywhere but beside edges: a share of their contrast.

    What is alike in most of the picture, such as a background, does not make up for a face that is not. Brightness and
    contrast do not count. 0 is equal; pictures that cannot be laid over each other are at infinity.
    """
    laid = _laid(first, second)
    if laid is None:
        return float("inf")
    (one, other), is_common = laid
    slope, level = np.polyfit(other[is_common], one[is_common], 1)
    away = np.where(is_common, one - (slope * other + level), 0)
    differences = np.abs(cv2.blur(away, (3, 3)))[is_common]
    return float(np.percentile(differences, ALL_BUT_EDGES) / one[is_common].std())


def largest_change(first: Grey, second: Grey) -> float:
    """Difference of the same frames of two films, uint8 (N, H, W), where it is largest, in levels without noise."""
    away = np.asarray(first, np.float32) - np.asarray(second, np.float32)
    differences = np.stack([np.abs(cv2.blur(picture, (3, 3))) for picture in away])
    return float(np.percentile(differences, ALL_BUT_SPECKS))


def _laid(first: Grey, second: Grey) -> tuple[tuple[Floats, Floats], NDArray[np.bool_]] | None:
    """Both as float32, the second laid over the first, and where both are; None if that cannot be done."""
    one, other = np.asarray(first, np.float32), np.asarray(second, np.float32)
    if min(one.std(), other.std()) < SMALLEST_SPREAD:
        return None
    start, everywhere = np.eye(2, 3, dtype=np.float32), np.ones(one.shape, np.uint8)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, NUM_STEPS, ACCURACY)
    try:
        _, found = cv2.findTransformECC(one, other, start, cv2.MOTION_AFFINE, stop, everywhere, BLUR_PX)
    except cv2.error:  # nothing fits
        return None
    matrix = np.asarray(found, np.float32)
    size, flags = one.shape[::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cover = cv2.warpAffine(np.ones_like(other), matrix, size, flags=flags) > 0.99
    is_common = cv2.erode(cover.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    if is_common.mean() < SMALLEST_COVER:
        return None
    moved = cv2.warpAffine(other, matrix, size, flags=flags)
    if min(one[is_common].std(), moved[is_common].std()) < SMALLEST_SPREAD:
        return None
    return (one, np.asarray(moved, np.float32)), is_common


def _unlikeness(one: Floats, other: Floats) -> float:
    one, other = one - one.mean(), other - other.mean()
    return 1.0 - float((one @ other) / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-6))
