"""Cuts hair and skin out of the key frames of a clip, by place, colour, texture and edges.

Each pixel is hair, skin or something else. How usual each is there, whoever is filmed (`generation.head.anatomy`), is
weighed with how often its colour and its texture occur in each, which is counted in all key frames together: hair first
where it grows beside the skin of forehead and temples, the rest first away from the head, where it is counted for each
side and for clothes apart. Neighbours within an edge decide alike (a mean field whose messages a guided filter carries;
Krähenbühl and Koltun 2011, "Efficient inference in fully connected CRFs with Gaussian edge potentials"), and what is
thereby found is counted anew. Hair that is not connected with the head, or is farther away than hair reaches, is none.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame, Landmarks
from generation.head.analysis import (
    ANALYSIS_PX,
    NUM_COLOURS,
    across_face,
    colour_places,
    disc,
    face_units,
    histogram,
    smoothed,
    to_lab,
)
from generation.head.anatomy import HAIR, MARGIN, OTHER, SKIN, away_from_head, beyond_head, usual_areas
from generation.head.guided import GuidedFilter
from generation.motion.fields import pixels

Area = NDArray[np.bool_]
"""Pixels that belong to something: bool (S, S)."""

NUM_SIFTINGS, NUM_ROUNDS = 2, 3
NUM_MESSAGES = 2
# Of logarithms: how far each is trusted against the place. Neighbouring pixels are not independent.
SKIN_TRUST, TEXTURE_TRUST, NEIGHBOUR_TRUST = 0.8, 0.6, 3.0
EDGE_TOLERANCE = 0.03
COARSE_SHARE, COARSE_BINS = 0.3, 3.0  # of a colour's frequency, what similar colours give
COLOUR_FLOOR, TEXTURE_FLOOR = 0.3 / NUM_COLOURS, 0.01
EDGE_LIGHTNESS = 6.0  # deviation of lightness at an edge
LEAST_HAIR = 0.4  # share from which a pixel is hair: strands at the border are partly what is behind them
FOUND_HAIR = 0.15  # weight of hair that was found, against that of hair beside the skin
FEWEST_BACKGROUND = 600.0  # px a key frame, from which a quarter's own colours count more than those of all
NUM_TEXTURES = 16
HAIRLESS, NEVER = 0.75, -30.0
SMALLEST_PART, SMALLEST_STRAND = 0.02, 0.1  # in squared face units


@dataclass(frozen=True)
class KeyCrop:
    """A key frame, as `align` cuts it.

    Attributes:
        crop: RGB uint8 (ANALYSIS_PX, ANALYSIS_PX, 3), in the template "head".
        landmarks: (5, 2), px of the crop.
        matrix: (2, 3), from px of the frame to px of the crop.
        frame_px: width and height of the frame; the crop repeats its border beyond it.
    """

    crop: Frame
    landmarks: Landmarks
    matrix: Floats
    frame_px: tuple[int, int]

    @functools.cached_property
    def _seen(self) -> Floats:
        """The pixel of the picture that each shows, px of the crop: float32 (S, S, 2)."""
        back = cv2.invertAffineTransform(self.matrix)
        there = pixels(ANALYSIS_PX) @ back[:, :2].T + back[:, 2]
        there = np.clip(there, 0, np.subtract(self.frame_px, 1))
        return np.asarray(there @ self.matrix[:, :2].T + self.matrix[:, 2], np.float32)

    @functools.cached_property
    def is_inside(self) -> Area:
        """Pixels that show the picture itself, not its border repeated."""
        return np.asarray((np.abs(self._seen - pixels(ANALYSIS_PX)) < 1).all(-1))

    @functools.cached_property
    def unit_px(self) -> float:
        """Length of a face unit."""
        return face_units(self.landmarks, ANALYSIS_PX)[2]

    @functools.cached_property
    def places(self) -> tuple[Floats, Floats, Floats]:
        """u, from the middle of the skull, v and the column across the face, each float32 (S, S)."""
        u, v, unit = face_units(self.landmarks, ANALYSIS_PX)
        # The nose is in front of the eyes, the middle of the skull behind them.
        turn = float(self.landmarks[2, 0] - self.landmarks[:2, 0].mean()) / unit
        u = u + np.float32(np.clip(1.2 * turn, -0.4, 0.4))
        at = np.arange(ANALYSIS_PX)
        columns, rows = np.moveaxis(self._seen, -1, 0)
        found = (
            np.interp(columns, at, u[0]),
            np.interp(rows, at, v[:, 0]),
            np.interp(columns, at, across_face(self.landmarks, ANALYSIS_PX)[0]),
        )
        return tuple(np.asarray(one, np.float32) for one in found)  # type: ignore[return-value]


def cut_out(keys: Sequence[KeyCrop]) -> Floats:
    """Hair and skin of the key frames of one clip: float32 (N, ANALYSIS_PX, ANALYSIS_PX, 2), 0 to 1."""
    usual = np.stack([usual_areas(*key.places) for key in keys])
    skin = np.stack([_skin_likelihood(key) for key in keys])
    first = np.log(usual)
    first[..., SKIN] += SKIN_TRUST * np.log(0.1 + 0.9 * skin)
    first[..., HAIR] += SKIN_TRUST * np.log(1 - 0.9 * skin)
    shares = _shares(first)
    scalp = np.stack([_beside_skin(key, one > 0.5) for key, one in zip(keys, skin, strict=True)])
    away = np.stack([away_from_head(*key.places[:2]) for key in keys])
    weights = np.stack([scalp * shares[..., HAIR], shares[..., SKIN], away], -1)
    looks = _Looks(keys)
    if looks.likeness(np.square(weights)) > HAIRLESS:
        first[..., HAIR] = NEVER
    # Beside the skin there is background too, where the hair is short; it looks as what lies farther out.
    beside = weights[..., HAIR].copy()
    for _ in range(NUM_SIFTINGS):
        found = looks.likelihoods(np.square(weights))
        weights[..., HAIR] = beside * _shares(found[..., [HAIR, OTHER]])[..., 0]
    for _ in range(NUM_ROUNDS):
        evidence = first + looks.likelihoods(np.square(weights))
        shares = np.stack([looks.agreed(at, one) for at, one in enumerate(evidence)])
        weights = shares.copy()
        weights[..., HAIR] *= np.sqrt(scalp + FOUND_HAIR * (1 - scalp))
    areas = []
    for key, one, is_skin in zip(keys, shares, skin > 0.5, strict=True):
        u, v, _ = key.places
        hair = _of_the_head(key, (one[..., HAIR] > LEAST_HAIR) & (away_from_head(u, v, MARGIN) < 0.5), is_skin)
        areas.append(np.dstack([hair, one[..., SKIN] * _skin_region(u, v) * (1 - hair)]))
    return np.stack(areas).astype(np.float32)


class _Looks:
    """Colours and textures of key frames, and how often each occurs in hair, in skin and elsewhere."""

    def __init__(self, keys: Sequence[KeyCrop]) -> None:
        crops = [key.crop for key in keys]
        self._inside = np.stack([key.is_inside for key in keys]).astype(np.float32)
        self._quarters = np.stack([_quarters(*key.places[:2]) for key in keys])
        self._colours = colour_places(np.stack([cv2.GaussianBlur(crop, (0, 0), 0.7) for crop in crops]))
        self._textures = np.stack([_textures(crop) for crop in crops])
        self._filters = [GuidedFilter(crop, EDGE_TOLERANCE) for crop in crops]

    def likelihoods(self, weights: Floats) -> Floats:
        """Logarithms of how likely each pixel's look is in hair, in skin and elsewhere: float32 (N, S, S, 3).

        Args:
            weights: float32 (N, S, S, 3), by which each pixel counts as each.
        """
        weights = weights * self._inside[..., None]
        hair, skin = (self._frequencies(weights[..., kind]) for kind in (HAIR, SKIN))
        in_quarters = weights[..., OTHER, None] * self._quarters
        others = [self._frequencies(in_quarters[..., at]) for at in range(4)]
        amounts = in_quarters.sum((0, 1, 2)).astype(np.float64)
        usual = amounts @ others / max(amounts.sum(), 1.0)
        fewest = FEWEST_BACKGROUND * len(weights)
        other = np.full(weights.shape[:-1], COLOUR_FLOOR, np.float32)
        for at, (amount, own) in enumerate(zip(amounts, others, strict=True)):
            mixed = np.asarray((amount * own + fewest * usual) / (amount + fewest), np.float32)
            other += self._quarters[..., at] * mixed[self._colours]
        found = [np.log(one + COLOUR_FLOOR).astype(np.float32)[self._colours] for one in (hair, skin)]
        found.append(np.log(other))
        for kind, one in enumerate(found):
            textures = np.log(self._texture_frequencies(weights[..., kind]) + TEXTURE_FLOOR).astype(np.float32)
            one += np.float32(TEXTURE_TRUST) * textures[self._textures]
        return np.stack(found, -1)

    def likeness(self, weights: Floats) -> float:
        """How much what grows beside the skin looks as what is away from the head, 0 to 1: on a bald head it is that.

        Bhattacharyya's coefficients of colours and of textures, multiplied.
        """
        weights = weights * self._inside[..., None]
        upper = weights[..., OTHER] * self._quarters[..., :2].sum(-1)
        colours = [smoothed(histogram(self._colours, one), 1.0) for one in (weights[..., HAIR], upper)]
        textures = [self._texture_frequencies(one) for one in (weights[..., HAIR], upper)]
        return float(np.sqrt(colours[0] * colours[1]).sum() * np.sqrt(textures[0] * textures[1]).sum())

    def agreed(self, number: int, evidence: Floats) -> Floats:
        """Shares (S, S, 3) of one key frame, in which neighbours of like colour agree."""
        shares = _shares(evidence)
        for _ in range(NUM_MESSAGES):
            near = [self._filters[number](np.ascontiguousarray(shares[..., kind])) for kind in range(3)]
            shares = _shares(evidence + NEIGHBOUR_TRUST * np.stack(near, -1))
        return shares

    def _frequencies(self, weights: Floats) -> NDArray[np.float64]:
        fine = histogram(self._colours, weights)
        return (1 - COARSE_SHARE) * smoothed(fine, 1.0) + COARSE_SHARE * smoothed(fine, COARSE_BINS)

    def _texture_frequencies(self, weights: Floats) -> NDArray[np.float64]:
        counts = np.bincount(self._textures.ravel(), weights.ravel(), NUM_TEXTURES)
        return np.convolve(counts, [0.25, 0.5, 0.25], "same") / max(float(counts.sum()), 1.0)


def _shares(logarithms: Floats) -> Floats:
    # Along the last, short axis NumPy's own maxima and sums take three times as long.
    kinds = range(logarithms.shape[-1])
    top = functools.reduce(np.maximum, (logarithms[..., kind] for kind in kinds))
    powers = np.exp(logarithms - top[..., None])
    total = functools.reduce(np.add, (powers[..., kind] for kind in kinds))
    return np.asarray(powers / total[..., None], np.float32)


def _quarters(u: Floats, v: Floats) -> Floats:
    """Upper left, upper right, lower left and lower right, soft, in sum 1: the lower ones show clothes."""
    right, low = np.clip(u + 0.5, 0, 1), np.clip((v - 1.8) / 0.6 + 0.5, 0, 1)
    return np.stack([(1 - right) * (1 - low), right * (1 - low), (1 - right) * low, right * low], -1)


def _deviation(crop: Frame) -> Floats:
    """Standard deviation of the lightness around each pixel."""
    lightness = to_lab(crop)[..., 0]
    mean = cv2.blur(lightness, (5, 5))
    return np.asarray(np.sqrt(np.maximum(cv2.blur(lightness * lightness, (5, 5)) - mean * mean, 0)), np.float32)


def _textures(crop: Frame) -> NDArray[np.intp]:
    """How much lightness varies around each pixel, in steps of a logarithm, 0 to NUM_TEXTURES - 1."""
    steps = np.floor(4 * np.log(_deviation(crop) + 0.3) + 5)
    return np.asarray(np.clip(steps, 0, NUM_TEXTURES - 1), np.intp)


def _skin_likelihood(key: KeyCrop) -> Floats:
    """How much each pixel has the colour of the cheeks, 0 to 1; lightness may vary more than hue."""
    lab = to_lab(key.crop)
    u, v, _ = face_units(key.landmarks, ANALYSIS_PX)
    sample = lab[(np.abs(u) < 0.5) & (v > 0.3) & (v < 0.75)]
    usual = np.median(sample, 0)
    spread = 1.48 * np.median(np.abs(sample - usual), 0)
    tolerance = np.clip(2.5 * spread, [14, 5, 6], [22, 9, 10])
    distance = np.square((lab - usual) / tolerance).sum(-1)
    return np.asarray(1 / (1 + np.exp(np.minimum(1.5 * (distance - 4), 50))), np.float32)


def _beside_skin(key: KeyCrop, is_skin: Area) -> Floats:
    """Where hair grows on any head that has some: beside the skin of forehead and temples, 0 to 1."""
    u, v, _ = key.places
    beyond = beyond_head(u, v)
    is_face = (is_skin & (beyond < -0.05)) | (np.hypot(u / 0.8, v - 0.45) < 1)
    gone = cv2.distanceTransform((~is_face).astype(np.uint8), cv2.DIST_L2, 3) / key.unit_px
    near = np.exp(-np.square(gone / 0.25)) * ((gone > 0.08) & (v < 0) & (beyond < 0.1))
    # Where skin passes into hair there are colours of neither.
    return np.asarray(near / (1 + np.square(_deviation(key.crop) / EDGE_LIGHTNESS)), np.float32)


def _skin_region(u: Floats, v: Floats) -> Floats:
    """Face, ears and neck, soft: 1 inside."""
    face = 1.25 - np.hypot(u / 1.15, (v - 0.25) / 1.6)
    neck = np.minimum(1.0 - np.abs(u) / 0.9, (2.4 - v) / 2) + 0.2
    return np.asarray(np.clip(5 * np.maximum(face, np.where(v > 1, neck, -1)), 0, 1), np.float32)


def _of_the_head(key: KeyCrop, is_hair: Area, is_skin: Area) -> Floats:
    """Drops specks and what hangs together with the head's hair by a thread, or not at all.

    A separate part counts if it has the colour of the head's hair, begins beside skin above the chin and does not
    extend sideways: hair led behind an ear or the neck.
    """
    u, v, across = key.places
    unit = key.unit_px
    lab = to_lab(key.crop)
    # Brows and glasses are not hair of the head, although a fringe may touch them.
    is_face = (np.abs(across) < 0.82) & (v > -0.55)
    broad = cv2.morphologyEx(is_hair.astype(np.uint8), cv2.MORPH_OPEN, disc(0.12 * unit)) > 0
    is_hair = is_hair & (broad | ~is_face)
    on_head = is_hair & (beyond_head(u, v) < 0.1) & (v < 0.9) & ~is_face
    core = on_head & (v < -0.4)
    usual = np.median(lab[core], 0) if core.any() else np.zeros(3)
    is_near_skin = cv2.dilate(is_skin.astype(np.uint8), disc(0.25 * unit)) > 0
    thick = cv2.morphologyEx(is_hair.astype(np.uint8), cv2.MORPH_OPEN, disc(0.07 * unit))
    thick[on_head] = 1  # thin before the ears
    count, parts = cv2.connectedComponents(thick)
    kept = np.zeros(is_hair.shape, np.uint8)
    for part in range(1, count):
        inside = parts == part
        is_alike = float(np.linalg.norm(np.median(lab[inside], 0) - usual)) < 12
        is_beside = float(np.median(np.abs(u[inside]))) > 0.7 and float(np.median(v[inside])) > 0.3
        is_background = bool((inside & (np.abs(u) > 1.6) & (v < 1.5)).any())
        is_strand = is_alike and is_beside and not is_background and inside.sum() > SMALLEST_STRAND * unit**2
        is_led_behind = is_strand and bool((inside & is_near_skin & (v < 1.35)).any())
        if is_led_behind or (inside & core).sum() > SMALLEST_PART * unit**2:
            kept |= inside.astype(np.uint8)
    return np.asarray(is_hair & (cv2.dilate(kept, disc(0.12 * unit)) > 0), np.float32)
