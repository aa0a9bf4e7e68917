"""Where hair and skin are, without weights: cut out of a few key frames, carried to all others.

1. The key frames are cut apart together (`generation.head.cutting`).
2. They give a colour model of hair and skin.
3. In every other frame (`generation.head.matting`) dense flow brings the masks of the two key frames around it; at
   their edges the colour model decides, and a guided filter follows the strands.

Masks fade from key frame to key frame, so nothing jumps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from generation.arrays import Floats, Frame, Grey, Landmarks
from generation.crops.align import align, smooth_landmarks
from generation.crops.clip import FaceClip
from generation.head.analysis import (
    ANALYSIS_PX,
    FLOW_PX,
    NUM_COLOURS,
    across_face,
    brows,
    colour_places,
    face_units,
    histogram,
    smoothed,
    to_lab,
)
from generation.head.cutting import KeyCrop, cut_out
from generation.motion.expression import small_grey

MOST_KEY_FRAMES = 12
KEY_SPACING_FRAMES = 24
SMALLEST_AGREEMENT = 0.6  # intersection over union of a key frame's hair with what most key frames say
SMALLEST_HAIR = 0.25  # area in squared face units; a shaved head has less
SMALLEST_BROWS = 0.03


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
    steady = smooth_landmarks(clip.landmarks)
    crops: dict[int, KeyCrop] = {}
    for number, frame in clip.frames_at(key_numbers(len(clip))).items():
        size = frame.shape[1], frame.shape[0]
        crops[number] = KeyCrop(*align(frame, steady[number], ANALYSIS_PX, "head"), size)
    cut = zip(crops.items(), cut_out(list(crops.values())), strict=True)
    keys = _agreeing([HeadFrame(number, key.crop, areas) for (number, key), areas in cut])
    kept = [crops[key.number] for key in keys]
    shown = np.stack([key.is_inside for key in kept]).astype(np.float32)[..., None]
    areas = np.stack([key.areas for key in keys]) * shown
    lab = np.stack([to_lab(key.crop) for key in keys])
    hair, skin = (_median(lab[areas[..., kind] > 0.5]) for kind in (0, 1))
    unit = np.mean([key.unit_px for key in kept])
    hair_area = float(areas[..., 0].sum((1, 2)).mean() / unit**2)
    found = np.stack([_brows_of(one, key.landmarks, skin) for one, key in zip(lab, kept, strict=True)])
    brow_area = float(found.sum((1, 2)).mean() / unit**2)
    colours = _colour_model(keys, shown[..., 0])
    return HeadModel(keys, colours, hair_area, hair, skin, _median(lab[found > 0.5]), brow_area)


def _brows_of(lab: Floats, landmarks: Landmarks, skin: Floats) -> Floats:
    _, v, _ = face_units(landmarks, ANALYSIS_PX)
    return brows(lab[..., 0], across_face(landmarks, ANALYSIS_PX), v, float(skin[0]))


def _median(values: Floats) -> Floats:
    return np.asarray(np.median(values, 0), np.float32) if len(values) else np.zeros(3, np.float32)


def _agreeing(keys: list[HeadFrame]) -> list[HeadFrame]:
    """The key frames whose hair agrees with that of the others."""
    hair = np.stack([key.areas[..., 0] for key in keys])
    usual = np.median(hair, 0)
    shares = [float(np.minimum(one, usual).sum() / max(np.maximum(one, usual).sum(), 1)) for one in hair]
    enough = min(SMALLEST_AGREEMENT, max(shares))
    return [key for key, share in zip(keys, shares, strict=True) if share >= enough]


def _colour_model(keys: Sequence[HeadFrame], shown: Floats) -> Floats:
    """How likely each colour is hair, and is skin, by smoothed histograms over what the key frames show."""
    places = np.stack([colour_places(key.crop) for key in keys])
    areas = np.stack([key.areas for key in keys])
    hair, skin = areas[..., 0], areas[..., 1]
    parts = (hair, skin, np.clip(1 - hair - skin, 0, 1))
    densities = [smoothed(histogram(places, shown * weights), 1.0) for weights in parts]
    floor = 0.02 / NUM_COLOURS ** (2 / 3)
    whole = sum(densities) + 2 * floor
    return np.stack([(densities[kind] + floor) / whole for kind in (0, 1)], -1).astype(np.float32)
