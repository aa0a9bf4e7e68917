"""Near-duplicates among pictures, by a small descriptor of each.

A picture is described by a perceptual hash (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash
Functions", the variant by cosine transform), normalised grey thumbnails of itself and of its inner parts, and a colour
thumbnail. A near-duplicate is the same picture encoded again, scaled, cropped by a few hundredths on all sides, or
made brighter or darker. Two pictures of one person in other poses, or of two people in one pose, are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame, Grey

HASH_FREQUENCIES = 8  # along either side
HASH_PX = 32
PATTERN_PX = 16
LIGHT_PX = 4.0  # of the pattern; coarser differences are light
COLOUR_PX = 8
CUTS = (0.0, 0.015, 0.03, 0.045)  # shares of the side that are cropped at each end
# Largest differences of a near-duplicate.
LARGEST_HASH_DISTANCE = 16.0  # of 64 bits
LARGEST_PATTERN_DISTANCE = 0.06  # 1 - correlation
LARGEST_COLOUR_DISTANCE = 6.0  # of Lab's a and b, mean
ROWS = 1024  # compared at a time

Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class Descriptor:
    """A picture in about 2 kB.

    Attributes:
        bits: uint8 (8,), the perceptual hash, packed.
        patterns: float16 (len(CUTS), PATTERN_PX**2), grey values without light, of unit length: of the whole picture
            and of its inner parts.
        colours: uint8 (COLOUR_PX**2, 2), Lab's a and b, 128 is grey.
    """

    bits: Bits
    patterns: NDArray[np.float16]
    colours: NDArray[np.uint8]


def describe_image(image: Frame) -> Descriptor:
    """Describes a picture, RGB uint8 (H, W, 3), apart from its size and shape."""
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    waves = cv2.dct(_shrunk(grey, HASH_PX))[:HASH_FREQUENCIES, :HASH_FREQUENCIES].ravel()
    waves[0] = 0.0  # the mean is brightness
    patterns = np.stack([pattern_of(grey, cut) for cut in CUTS])
    # RGB uint8 -> Lab float32: L [0, 100], a and b [-127, 127]
    lab = cv2.cvtColor(np.asarray(_shrunk(image, COLOUR_PX) / 255, np.float32), cv2.COLOR_RGB2LAB)
    colours = np.rint(lab[..., 1:].reshape(-1, 2) + 128).astype(np.uint8)
    return Descriptor(np.packbits(waves > np.median(waves[1:])), patterns.astype(np.float16), colours)


def distance(first: Descriptor, second: Descriptor) -> float:
    """Difference of two pictures: 0 is equal, up to 1 a near-duplicate; other people usually differ by 3 and more."""
    return float(_distances(first, _stacked([second]))[0])


def find_near_duplicate(descriptor: Descriptor, others: Sequence[Descriptor]) -> int | None:
    """Index of the nearest of `others` if it is a near-duplicate, else None."""
    if not others:
        return None
    # Hashes first: they leave few.
    hashes = _words(np.stack([other.bits for other in others]))
    near = np.flatnonzero(np.bitwise_count(_words(descriptor.bits) ^ hashes) <= LARGEST_HASH_DISTANCE)
    if not len(near):
        return None
    distances = _distances(descriptor, _stacked([others[int(number)] for number in near]))
    best = int(distances.argmin())
    return int(near[best]) if distances[best] <= 1 else None


def near_pairs(
    first: Sequence[Descriptor], second: Sequence[Descriptor]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """All near-duplicates between two lists: their indices in either, (N,), and their distances, float32 (N,)."""
    nothing = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    if not first or not second:
        return nothing
    ones, others = _stacked(first), _stacked(second)
    found = [nothing]
    for start in range(0, len(first), ROWS):
        away = np.bitwise_count(_words(ones.bits[start : start + ROWS])[:, None] ^ _words(others.bits)[None])
        rows, columns = np.nonzero(away <= LARGEST_HASH_DISTANCE)
        for at in range(0, len(rows), ROWS):
            some, same = rows[at : at + ROWS] + start, columns[at : at + ROWS]
            # Colours next: they are small, and leave few.
            is_alike = _colour_shifts(ones.colours[some], others.colours[same]) <= LARGEST_COLOUR_DISTANCE
            some, same = some[is_alike], same[is_alike]
            distances = _distances(_taken(ones, some), _taken(others, same))
            is_near = distances <= 1
            found.append((some[is_near], same[is_near], distances[is_near]))
    rows, columns, distances = (np.concatenate(part) for part in zip(*found, strict=True))
    return rows, columns, distances


def _stacked(descriptors: Sequence[Descriptor]) -> Descriptor:
    """Many descriptors as one, each part with a leading axis."""
    parts = ([getattr(one, name) for one in descriptors] for name in ("bits", "patterns", "colours"))
    return Descriptor(*(np.stack(part) for part in parts))


def _taken(stacked: Descriptor, indices: NDArray[np.int64]) -> Descriptor:
    return Descriptor(stacked.bits[indices], stacked.patterns[indices], stacked.colours[indices])


def _words(bits: Bits) -> NDArray[np.uint64]:
    return np.ascontiguousarray(bits).view(np.uint64)[..., 0]


def pattern_of(grey: Grey, cut: float = 0.0) -> Floats:
    """Grey values of a picture (H, W) without light: float32 (PATTERN_PX**2,), of unit length.

    Args:
        grey: the picture.
        cut: share of the side that is left out at each end.
    """
    height, width = grey.shape
    top, left = round(cut * height), round(cut * width)
    small = _shrunk(grey[top : height - top, left : width - left], PATTERN_PX)
    pattern = (small - cv2.GaussianBlur(small, (0, 0), LIGHT_PX)).ravel()
    return np.asarray(pattern / max(float(np.linalg.norm(pattern)), 1e-6), np.float32)


def _shrunk(image: NDArray[np.uint8], side_px: int) -> Floats:
    """Averages to a square; small pictures are enlarged first, since averages of fractions of pixels alias."""
    while min(image.shape[:2]) < 4 * side_px:
        image = np.asarray(cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA), np.float32)


def _colour_shifts(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Floats:
    return np.asarray(np.abs(second.astype(np.float32) - first).mean((-2, -1)), np.float32)


def _distances(first: Descriptor, second: Descriptor) -> Floats:
    """float32 (N,), see `distance`; one or both of the two are stacked."""
    hashes = np.bitwise_count(_words(first.bits) ^ _words(second.bits))
    ones, others = first.patterns.astype(np.float32), second.patterns.astype(np.float32)
    # Either of the two may be the cropped one.
    likeness = np.maximum((others * ones[..., :1, :]).sum(-1).max(-1), (ones * others[..., :1, :]).sum(-1).max(-1))
    shifts = _colour_shifts(first.colours, second.colours)
    shares = (
        hashes / LARGEST_HASH_DISTANCE,
        (1 - likeness) / LARGEST_PATTERN_DISTANCE,
        shifts / LARGEST_COLOUR_DISTANCE,
    )
    return np.asarray(np.max(shares, axis=0), np.float32)
