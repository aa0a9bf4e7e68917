"""Where hair and skin are, without weights: segmented in a few key frames, carried to all others.

1. In each key frame GrabCut (Rother et al. 2004, "GrabCut: interactive foreground extraction using iterated graph
   cuts") separates hair from everything else. Its seeds come from the landmarks, which say where face, neck, crown and
   background are.
2. The key frames together give a colour model of hair and skin.
3. In every other frame (`generation.head.matting`) dense flow brings the masks of the two key frames around it; at
   their edges the colour model decides, and a guided filter follows the strands.

Masks fade from key frame to key frame, so nothing jumps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame, Grey, Landmarks
from generation.crops.align import align, smooth_landmarks
from generation.crops.clip import FaceClip
from generation.head.analysis import (
    ANALYSIS_PX,
    COLOUR_BITS,
    FLOW_PX,
    NUM_COLOURS,
    across_face,
    brows,
    colour_places,
    disc,
    face_units,
    to_lab,
)
from generation.motion.expression import small_grey

Area = NDArray[np.bool_]
"""Pixels that belong to something: bool (S, S)."""

MOST_KEY_FRAMES = 12
KEY_SPACING_FRAMES = 24
GRABCUT_ROUNDS = 3
GRABCUT_SEED = 0
SMALLEST_AGREEMENT = 0.6  # intersection over union of a key frame's hair with what most key frames say
SMALLEST_HAIR = 0.25  # area in squared face units; a shaved head has less
SMALLEST_BROWS = 0.03
SURE_ODDS = 4.0
_KERNEL = np.array([1, 4, 6, 4, 1]) / 16


@dataclass(frozen=True)
class HeadFrame:
    """A key frame with its hair and skin.

    Attributes:
        number: in the clip.
        crop: RGB uint8 (ANALYSIS_PX, ANALYSIS_PX, 3), in the template "head".
        areas: float32 (ANALYSIS_PX, ANALYSIS_PX, 2), hair and skin, 0 to 1.
    """

    number: int
    crop: Frame
    areas: Floats

    @property
    def grey(self) -> Grey:
        """Grey uint8 (FLOW_PX, FLOW_PX), for flow."""
        return small_grey(self.crop, FLOW_PX)


@dataclass(frozen=True)
class HeadModel:
    """Hair, skin and brows of a head, from its key frames.

    Attributes:
        keys: in order of time.
        colours: float32 (NUM_COLOURS, 2), how likely a colour is hair and is skin, 0 to 1.
        hair_area: mean over the key frames, in squared face units.
        hair_colour, skin_colour, brow_colour: float32 (3,), medians in CIE Lab.
        brow_area: as `hair_area`.
    """

    keys: list[HeadFrame]
    colours: Floats
    hair_area: float
    hair_colour: Floats
    skin_colour: Floats
    brow_colour: Floats
    brow_area: float

    @property
    def has_hair(self) -> bool:
        """Whether the head has more than stubble."""
        return self.hair_area >= SMALLEST_HAIR

    @property
    def has_brows(self) -> bool:
        """Whether brows differ from the skin around them."""
        return self.brow_area >= SMALLEST_BROWS


def key_numbers(num_frames: int) -> list[int]:
    """Numbers of the key frames of a clip: evenly spread, at most MOST_KEY_FRAMES."""
    count = min(MOST_KEY_FRAMES, 2 + num_frames // KEY_SPACING_FRAMES)
    return sorted({int(number) for number in np.linspace(0, num_frames - 1, count).round()})


def learn_head(clip: FaceClip) -> HeadModel:
    """Learns a head from the key frames of a clip; only these are in memory.

    Raises:
        FaceError, VideoError: the clip cannot be read.
    """
    chosen = set(key_numbers(len(clip)))
    smoothed = smooth_landmarks(clip.landmarks)
    crops, points = {}, {}
    for number, frame in zip(range(max(chosen) + 1), clip.frames(), strict=False):
        if number in chosen:
            crops[number], points[number], _ = align(frame, smoothed[number], ANALYSIS_PX, "head")
    # Twice: the colours of all frames often separate what those of one frame do not.
    keys = [HeadFrame(number, crop, cut_out(crop, points[number])) for number, crop in crops.items()]
    known = _colour_model(keys)
    keys = _agreeing([HeadFrame(number, crop, cut_out(crop, points[number], known)) for number, crop in crops.items()])
    areas = np.stack([key.areas for key in keys])
    lab = np.stack([to_lab(key.crop) for key in keys])
    hair, skin = (_median(lab[areas[..., kind] > 0.5]) for kind in (0, 1))
    unit = np.mean([face_units(points[key.number], ANALYSIS_PX)[2] for key in keys])
    hair_area = float(areas[..., 0].sum((1, 2)).mean() / unit**2)
    found = np.stack([_brows_of(one, points[key.number], skin) for one, key in zip(lab, keys, strict=True)])
    brow_area = float(found.sum((1, 2)).mean() / unit**2)
    return HeadModel(keys, _colour_model(keys), hair_area, hair, skin, _median(lab[found > 0.5]), brow_area)


def _brows_of(lab: Floats, landmarks: Landmarks, skin: Floats) -> Floats:
    _, v, _ = face_units(landmarks, ANALYSIS_PX)
    return brows(lab[..., 0], across_face(landmarks, ANALYSIS_PX), v, float(skin[0]))


def _median(values: Floats) -> Floats:
    return np.asarray(np.median(values, 0), np.float32) if len(values) else np.zeros(3, np.float32)


def cut_out(crop: Frame, landmarks: Landmarks, colours: Floats | None = None) -> Floats:
    """Hair and skin of one head crop: float32 (ANALYSIS_PX, ANALYSIS_PX, 2), 0 to 1.

    Args:
        crop: RGB uint8 (ANALYSIS_PX, ANALYSIS_PX, 3).
        landmarks: (5, 2), px of the crop.
        colours: of hair and skin, as in `HeadModel`; None takes them from the crown of this crop.
    """
    u, v, unit = face_units(landmarks, ANALYSIS_PX)
    across = across_face(landmarks, ANALYSIS_PX)
    lab = to_lab(crop)
    skin = np.maximum(_skin_likelihood(lab, u, v), _inner_face(across, v))
    labels = _grabcut_seeds(_likely_hair(crop, (u, v), skin > 0.5, colours), (u, v, across), skin > 0.5)
    if not (labels & 1).any():  # GC_FGD and GC_PR_FGD are odd
        return np.dstack([np.zeros_like(skin), skin * _skin_region(u, v)]).astype(np.float32)
    cv2.setRNGSeed(GRABCUT_SEED)
    inside, outside = np.zeros((1, 65)), np.zeros((1, 65))
    no_box = (0, 0, 0, 0)
    cv2.grabCut(crop, labels, no_box, outside, inside, GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    is_hair = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    hair = _of_the_head(is_hair, lab, (u, v), cv2.dilate(skin, disc(0.25 * unit)) > 0.5)
    return np.dstack([hair, skin * _skin_region(u, v) * (1 - hair)]).astype(np.float32)


def _oval(u: Floats, v: Floats, middle: float, radii: tuple[float, float]) -> Area:
    return np.asarray((u / radii[0]) ** 2 + ((v - middle) / radii[1]) ** 2 < 1)


def _crown(u: Floats, v: Floats) -> Area:
    return np.asarray(_oval(u, v, -0.25, (1.35, 1.65)) & (v < 0.5))


def _inner_face(u: Floats, v: Floats) -> Floats:
    return np.asarray(np.clip(6 * (1 - np.hypot(u / 0.82, (v - 0.45) / 1.05)), 0, 1) * (v > -0.2), np.float32)


def _likely_hair(crop: Frame, where: tuple[Floats, Floats], is_skin: Area, colours: Floats | None) -> Floats:
    """How likely each pixel is hair before GrabCut: above 0.5 probably, above 0.85 surely."""
    u, v = where
    places = colour_places(np.asarray(cv2.GaussianBlur(crop, (0, 0), 0.7), np.uint8))
    if colours is not None:
        likely = colours[places, 0] * (~is_skin & (np.abs(u) < 1.6) & (v > -2.4))
        return np.asarray(cv2.medianBlur(likely.astype(np.float32), 3), np.float32)
    # In the crown's outer part there is background too; it has the colours of what lies further out.
    crown = _crown(u, v) & ~is_skin
    core = crown & _oval(u, v, -0.25, (1.12, 1.42)) & ((v < -0.5) | (np.abs(u) > 0.8))
    around = ~_oval(u, v, -0.25, (1.5, 2.0)) & (np.abs(u) < 2.6) & (v < 0.5) & ~is_skin
    inner, outer = (_histogram(places[inside], None) for inside in (core, around))
    likely = 0.6 * (crown & (inner[places] > outer[places]))
    # Long hair lies where background is expected; without a sure part the background's model would take it all.
    likely[core & (inner[places] > SURE_ODDS * outer[places])] = 0.9
    return np.asarray(cv2.medianBlur(likely.astype(np.float32), 3), np.float32)


def _grabcut_seeds(likely: Floats, where: tuple[Floats, Floats, Floats], is_skin: Area) -> NDArray[np.uint8]:
    """Labels for GrabCut: background is sure far from the head, on the face below the brows and on the neck."""
    u, v, across = where
    labels = np.full(likely.shape, cv2.GC_BGD, np.uint8)
    labels[(np.abs(u) < 2.0) & (v > -2.6)] = cv2.GC_PR_BGD
    labels[likely > 0.5] = cv2.GC_PR_FGD
    labels[likely > 0.85] = cv2.GC_FGD
    # Brows and glasses are not hair of the head, unless a fringe covers the forehead too.
    forehead = (np.abs(across) < 0.5) & (v > -0.85) & (v < -0.5)
    is_covered = is_skin[forehead].mean() < 0.5
    labels[(np.abs(across) < 0.85) & (v > -0.52) & (v < 0.3)] = cv2.GC_PR_BGD if is_covered else cv2.GC_BGD
    labels[(np.abs(across) < 0.62) & (v > -0.1) & (v < 0.6)] = cv2.GC_BGD
    labels[_oval(across, v, 0.45, (0.75, 1.15)) & (v > -0.15)] = cv2.GC_BGD
    labels[(np.abs(across) < 0.4) & (v > 1.2)] = cv2.GC_BGD
    return labels


def _skin_likelihood(lab: Floats, u: Floats, v: Floats) -> Floats:
    """How much each pixel has the colour of the cheeks, 0 to 1; lightness may vary more than hue."""
    sample = lab[(np.abs(u) < 0.5) & (v > 0.3) & (v < 0.75)]
    usual = np.median(sample, 0)
    spread = 1.48 * np.median(np.abs(sample - usual), 0)
    tolerance = np.clip(2.5 * spread, [14, 5, 6], [22, 9, 10])
    distance = np.square((lab - usual) / tolerance).sum(-1)
    return np.asarray(1 / (1 + np.exp(np.minimum(1.5 * (distance - 4), 50))), np.float32)


def _skin_region(u: Floats, v: Floats) -> Floats:
    """Face, ears and neck, soft: 1 inside."""
    face = 1.25 - np.hypot(u / 1.15, (v - 0.25) / 1.6)
    neck = np.minimum(1.0 - np.abs(u) / 0.9, (2.4 - v) / 2) + 0.2
    return np.asarray(np.clip(5 * np.maximum(face, np.where(v > 1, neck, -1)), 0, 1), np.float32)


def _of_the_head(is_hair: Area, lab: Floats, places: tuple[Floats, Floats], is_near_skin: Area) -> Floats:
    """Drops specks and parts that are not connected with the crown.

    A separate part counts if it has the colour of the crown, begins above the chin, touches skin and does not extend
    sideways: hair behind an ear or the neck.
    """
    u, v = places
    unit = 1 / float(u[0, 1] - u[0, 0])
    joined = cv2.dilate(is_hair.astype(np.uint8), np.ones((3, 3), np.uint8))
    count, parts = cv2.connectedComponents(joined)
    crown = is_hair & _crown(u, v) & (v < -0.2)
    usual = _median(lab[crown])
    kept = np.zeros(is_hair.shape, bool)
    for part in range(1, count):
        inside = (parts == part) & is_hair
        is_alike = float(np.linalg.norm(_median(lab[inside]) - usual)) < 12
        is_background = bool((inside & (np.abs(u) > 1.5) & (v < 1.5)).any())
        is_led_behind = is_alike and not is_background and bool((inside & is_near_skin & (v < 1.35)).any())
        if inside.sum() > 0.04 * unit**2 and ((inside & crown).sum() > 0.02 * unit**2 or is_led_behind):
            kept |= inside
    return kept.astype(np.float32)


def _agreeing(keys: list[HeadFrame]) -> list[HeadFrame]:
    """The key frames whose hair agrees with that of the others."""
    hair = np.stack([key.areas[..., 0] for key in keys])
    usual = np.median(hair, 0)
    shares = [float(np.minimum(one, usual).sum() / max(np.maximum(one, usual).sum(), 1)) for one in hair]
    enough = min(SMALLEST_AGREEMENT, max(shares))
    return [key for key, share in zip(keys, shares, strict=True) if share >= enough]


def _colour_model(keys: Sequence[HeadFrame]) -> Floats:
    """How likely each colour is hair, and is skin, by smoothed histograms over the key frames."""
    places = np.stack([colour_places(key.crop) for key in keys])
    areas = np.stack([key.areas for key in keys])
    hair, skin = areas[..., 0], areas[..., 1]
    densities = [_histogram(places, weights) for weights in (hair, skin, np.clip(1 - hair - skin, 0, 1))]
    floor = 0.02 / NUM_COLOURS ** (2 / 3)
    whole = sum(densities) + 2 * floor
    return np.stack([(densities[kind] + floor) / whole for kind in (0, 1)], -1).astype(np.float32)


def _histogram(places: NDArray[np.intp], weights: Floats | None) -> NDArray[np.float64]:
    """Smoothed share of each colour, float64 (NUM_COLOURS,)."""
    size = 1 << COLOUR_BITS
    flat = None if weights is None else weights.ravel()
    counts = np.bincount(places.ravel(), flat, NUM_COLOURS).reshape(size, size, size).astype(np.float64)
    for axis in range(3):
        first = np.moveaxis(counts, axis, 0).reshape(size, -1)
        smooth = cv2.sepFilter2D(first, -1, np.ones(1), _KERNEL, borderType=cv2.BORDER_CONSTANT)
        counts = np.moveaxis(np.asarray(smooth, np.float64).reshape(size, size, size), 0, axis)
    return np.ascontiguousarray(counts).ravel() / max(float(counts.sum()), 1.0)
