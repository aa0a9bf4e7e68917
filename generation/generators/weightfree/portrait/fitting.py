"""Fits a space of faces to clips of a few people: examples, dense correspondence, shape, tone, mattes and seams.

1. Of every person the frames with open eyes, a closed mouth and the face to the front are kept, without black bars.
2. Each is brought into correspondence with one reference face by a smooth field through its landmarks. (Optical flow
   between different people was tried: it bends eyes, rims of glasses and fringes.)
3. Shape and tone of the people become linear modes (Cootes, Edwards and Taylor 2001).
4. Hair, background and clothes are separated by GrabCut (Rother et al. 2004), once for each example.
5. For each region and two examples it is measured how well the region of one fits into the other.

Memory is that of the examples: a person's other frames are dropped before the next person's are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from generation.arrays import Floats
from generation.crops.clip import FaceClip
from generation.errors import GenerationError
from generation.generators.weightfree.portrait.examples import choose_examples
from generation.generators.weightfree.portrait.parts import has_glasses, is_fringed, matte, seams
from generation.generators.weightfree.portrait.reference import fine_grey, offsets_of, texture_of, tone
from generation.generators.weightfree.portrait.space import GENDER_CODES, FaceSpace, SpaceSizes

FEWEST_PEOPLE = 2
MOST_MODES = 16


@dataclass(frozen=True)
class Person:
    """One person to fit to.

    Attributes:
        clip: a clip that shows the head with its hair and shoulders (the clip that face crops are cut from).
        gender: "male", "female", or "" where it is not known.
    """

    clip: FaceClip
    gender: str = ""


@dataclass(frozen=True)
class FitSettings:
    """How much is kept.

    Attributes:
        crop_px: side of the examples.
        examples_per_person: fewer where a clip has fewer frames.
    """

    crop_px: int = 455
    examples_per_person: int = 8


def fit_space(people: Sequence[Person], settings: FitSettings | None = None) -> FaceSpace:
    """Fits a space; the same clips give the same bits.

    Raises:
        GenerationError: fewer than two people, or an unknown gender.
        FaceError, VideoError: a clip cannot be read, or does not fit its track.
    """
    settings = settings or FitSettings()
    if len(people) < FEWEST_PEOPLE:
        raise GenerationError(f"{len(people)} people to fit faces to; a new face needs {FEWEST_PEOPLE} at least")
    for person in people:
        if person.gender not in GENDER_CODES:
            raise GenerationError(f"{person.clip.name}: gender {person.gender!r}; use male, female or an empty text")
    chosen = [choose_examples(person.clip, settings.examples_per_person, settings.crop_px) for person in people]
    owners = np.repeat(np.arange(len(people)), [len(one.crops) for one in chosen])
    crops = np.concatenate([one.crops for one in chosen])
    points = np.concatenate([one.points for one in chosen])
    offsets = np.stack([offsets_of(own) for own in points])
    textures = np.stack([texture_of(crop, offset) for crop, offset in zip(crops, offsets, strict=True)])
    greys = [fine_grey(crop, offset) for crop, offset in zip(crops, offsets, strict=True)]
    values = {
        "crops": crops,
        "people": owners,
        "genders": np.array([GENDER_CODES[person.gender] for person in people]),
        "to_picture": np.concatenate([one.to_picture for one in chosen]),
        "offsets": offsets,
        "textures": textures,
        "mattes": np.stack([matte(crop, offset) for crop, offset in zip(crops, offsets, strict=True)]),
        "is_fringed": np.array([is_fringed(grey) for grey in greys]),
        "has_glasses": has_glasses(greys, owners),
        "seams": seams(textures, offsets),
    }
    num_modes = min(len(people) - 1, MOST_MODES)
    tones = np.stack([tone(texture) for texture in textures])
    for name, fields in (("shape", offsets), ("tone", tones)):
        means = np.stack([fields[owners == number].mean(0) for number in range(len(people))])
        values |= _modes(name, means, num_modes)
    sizes = SpaceSizes(len(people), len(crops), num_modes, settings.crop_px)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in values.items()}
    space: FaceSpace = FaceSpace.of(sizes, tensors)
    return space


def _modes(name: str, means: Floats, num_modes: int) -> dict[str, Floats]:
    """Principal components of fields (N, G, G, C): mean, modes (K, G, G, C) of unit length and codes (N, K)."""
    centre = means.mean(0)
    flat = (means - centre).reshape(len(means), -1).astype(np.float64)
    _, _, axes = np.linalg.svd(flat, full_matrices=False)
    modes = axes[:num_modes]
    # The sign of a component is arbitrary: its largest value is positive.
    modes *= np.sign(modes[np.arange(len(modes)), np.abs(modes).argmax(1)])[:, None]
    return {
        f"{name}_mean": centre.astype(np.float32),
        f"{name}_modes": modes.reshape(-1, *centre.shape).astype(np.float32),
        f"{name}_codes": (flat @ modes.T).astype(np.float32),
    }
