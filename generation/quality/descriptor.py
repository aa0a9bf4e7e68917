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
    patterns = np.stack([_pattern(grey, cut) for cut in CUTS])
    # RGB uint8 -> Lab float32: L [0, 100], a and b [-127, 127]
    lab = cv2.cvtColor(np.asarray(_shrunk(image, COLOUR_PX) / 255, np.float32), cv2.COLOR_RGB2LAB)
    colours = np.rint(lab[..., 1:].reshape(-1, 2) + 128).astype(np.uint8)
    return Descriptor(np.packbits(waves > np.median(waves[1:])), patterns.astype(np.float16), colours)


def distance(first: Descriptor, second: Descriptor) -> float:
    """Difference of two pictures: 0 is equal, up to 1 a near-duplicate; other people usually differ by 3 and more."""
    return float(_distances(first, [second])[0])


def find_near_duplicate(descriptor: Descriptor, others: Sequence[Descriptor]) -> int | None:
    """Index of the nearest of `others` if it is a near-duplicate, else None."""
    if not others:
        return None
    # Hashes first: they leave few.
    hashes = np.stack([other.bits for other in others])
    near = np.flatnonzero(_hash_distances(descriptor.bits, hashes) <= LARGEST_HASH_DISTANCE)
    if not len(near):
        return None
    distances = _distances(descriptor, [others[int(number)] for number in near])
    best = int(distances.argmin())
    return int(near[best]) if distances[best] <= 1 else None


def _pattern(grey: Grey, cut: float) -> Floats:
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


def _hash_distances(bits: Bits, others: Bits) -> Floats:
    return np.asarray(np.unpackbits(bits ^ others, axis=1).sum(1), np.float32)


def _distances(descriptor: Descriptor, others: Sequence[Descriptor]) -> Floats:
    """float32 (N,), see `distance`."""
    hashes = _hash_distances(descriptor.bits, np.stack([other.bits for other in others]))
    patterns, own = (
        np.stack([other.patterns for other in others]).astype(np.float32),
        descriptor.patterns.astype(np.float32),
    )
    # Either of the two may be the cropped one.
    likeness = np.maximum((patterns @ own[0]).max(1), (patterns[:, 0] @ own.T).max(1))
    colours = np.stack([other.colours for other in others]).astype(np.float32)
    shifts = np.abs(colours - descriptor.colours).mean((1, 2))
    shares = (
        hashes / LARGEST_HASH_DISTANCE,
        (1 - likeness) / LARGEST_PATTERN_DISTANCE,
        shifts / LARGEST_COLOUR_DISTANCE,
    )
    return np.asarray(np.max(shares, axis=0), np.float32)
