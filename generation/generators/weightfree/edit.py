"""Attribute editing without weights: age and hair colour, within the areas that the head itself shows.

`prepare` cuts hair and skin out of a few key frames (`generation.head.segmentation`). For each frame they are
carried over, averaged over its neighbours and fitted to its edges; `generation.generators.weightfree.editing.hair` and
`generation.generators.weightfree.editing.age` then change colours there. The change is added to the frame, whose own
detail stays.

A change is in proportion to the factor: 0 gives back the very pixels, 2 is the catalogue's strength, larger factors
count as 2. Every result depends on the clip, the settings and the seed only, not on how frames are batched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, get_args

import cv2
import numpy as np

from generation.arrays import Floats, Frame
from generation.crops.align import AlignedFaces, Batching
from generation.crops.blending import per_channel
from generation.crops.clip import FaceClip
from generation.errors import GenerationError, RejectedOutputError
from generation.generators.base import Attribute, AttributePipeline, CropsOutput
from generation.generators.weightfree.editing.age import Head, older, younger
from generation.generators.weightfree.editing.hair import choose_colour, exchanged, hair_alone, recolour
from generation.generators.weightfree.editing.wrinkles import AgeMap, draw_age_map
from generation.head.analysis import ANALYSIS_PX, across_face, brows, face_units, to_lab
from generation.head.matting import Carrier, matte, without_skin
from generation.head.segmentation import HeadModel, learn_head
from generation.motion.fields import hann_mean

FULL_FACTOR = 2.0
SMALLEST_SHARE = 0.004  # of hair or skin
MARGIN_PX = 16


@dataclass(frozen=True)
class EditSettings:
    """Settings of the pipeline.

    Attributes:
        crop_px: side of the aligned head crops.
        batch_frames: frames pasted at a time.
        context_frames: neighbours on either side over which areas are averaged.
        hair_colour: one of `generation.generators.weightfree.editing.hair.COLOURS`; "auto" draws one by the seed.
    """

    crop_px: int = 512
    batch_frames: int = 16
    context_frames: int = 2
    hair_colour: str = "auto"

    def __post_init__(self) -> None:
        choose_colour(self.hair_colour, np.zeros(3, np.float32), 0)


@dataclass(frozen=True)
class PreparedEdit:
    """What is known of a clip before the first frame is made.

    Attributes:
        model: hair and skin of the key frames; None where nothing is changed.
        attribute: which edit.
        strength: -1 to 1; 1 is factor 2.
    """

    model: HeadModel | None
    attribute: Attribute
    strength: float


class WeightfreeEdit(AttributePipeline):
    """Editing without weights; it has settings only, so one object serves any number of clips."""

    revision: ClassVar[int] = 2
    settings_class = EditSettings
    settings: EditSettings

    @property
    def batching(self) -> Batching:
        """The batches that `replace` takes."""
        settings = self.settings
        return Batching(settings.crop_px, settings.batch_frames, settings.context_frames, "head", keeps_detail=True)

    def prepare(self, target: FaceClip, attribute: Attribute, factor: float) -> PreparedEdit:
        """Cuts out the key frames; memory is that of these few small crops.

        Raises:
            FaceError, VideoError: the clip cannot be read, or does not fit its track.
            GenerationError: there is no such attribute, or the factor does not suit it.
            RejectedOutputError: there is no hair at all.
        """
        if attribute not in get_args(Attribute):
            raise GenerationError(f"{attribute}: no such attribute; use one of {', '.join(get_args(Attribute))}")
        if not math.isfinite(factor) or (attribute == "hair" and factor < 0):
            allowed = "0 to 2" if attribute == "hair" else "-2 to 2"
            raise GenerationError(f"{target.name}: factor {factor} does not suit {attribute}; use {allowed}")
        strength = min(max(factor / FULL_FACTOR, -1.0), 1.0)
        if strength == 0:
            return PreparedEdit(None, attribute, 0.0)
        model = learn_head(target)
        if attribute == "hair" and not model.has_hair and not model.has_brows:
            raise RejectedOutputError(f"{target.name}: rejected, it shows neither hair nor brows to colour")
        return PreparedEdit(model, attribute, strength)

    def replace(self, faces: AlignedFaces, prepared: PreparedEdit, *, seed: int = 0) -> CropsOutput:
        """Edits a batch of aligned crops; the seed draws the hair colour and the skin's spots."""
        crops = faces.crops[faces.requested]
        if prepared.model is None:
            return CropsOutput(crops, np.zeros(crops.shape[:3], np.float32))
        batch = _Batch(faces, prepared, self.settings, seed)
        made = [batch.edit(number) for number in range(*faces.requested.indices(len(faces.crops)))]
        return CropsOutput(np.stack([crop for crop, _ in made]), np.stack([mask for _, mask in made]))


class _Batch:
    """One batch in work: what is measured once for all its crops, context included."""

    def __init__(self, faces: AlignedFaces, prepared: PreparedEdit, settings: EditSettings, seed: int) -> None:
        assert prepared.model is not None
        self.faces, self.prepared, self.model, self.settings = faces, prepared, prepared.model, settings
        carrier = Carrier(self.model)
        start = faces.start - faces.num_before
        self.small = [cv2.resize(c, (ANALYSIS_PX, ANALYSIS_PX), interpolation=cv2.INTER_AREA) for c in faces.crops]
        self.areas = np.stack([carrier.areas(crop, start + at) for at, crop in enumerate(self.small)])
        self.colour = choose_colour(settings.hair_colour, self.model.hair_colour, seed)
        self.age_map: AgeMap | None = draw_age_map(seed) if prepared.attribute == "age" else None

    def edit(self, number: int) -> tuple[Frame, Floats]:
        """One crop and its mask."""
        crop, landmarks = self.faces.crops[number], self.faces.landmarks[number]
        areas = hann_mean(self.areas, number, self.settings.context_frames)
        hair = matte(crop, self.small[number], np.ascontiguousarray(areas[..., 0]))
        hair = without_skin(hair, crop, self.model)
        skin = np.asarray(cv2.resize(areas[..., 1], hair.shape), np.float32)
        mask = np.zeros_like(hair)
        window = _window(np.maximum(hair, skin))
        result = crop.copy()
        if window is None:
            return result, mask
        head = self._head(crop, landmarks, np.dstack([hair, skin]), window)
        if self.age_map is None:
            change, mask[window] = self._dyed(head)
        else:
            edit = older if self.prepared.strength > 0 else younger
            layers = self.age_map.laid_over(landmarks, len(crop), window)
            change, mask[window] = edit(head, layers, abs(self.prepared.strength))
        # float32 [0, 1] -> uint8
        result[window] = np.clip(np.rint(crop[window] + 255 * change), 0, 255).astype(np.uint8)
        return result, mask

    def _head(self, crop: Frame, landmarks: Floats, areas: Floats, window: tuple[slice, slice]) -> Head:
        rows, columns = window
        _, v, unit = face_units(landmarks, len(crop))
        part = np.ascontiguousarray(crop[window])
        hair, skin = (np.ascontiguousarray(areas[window][..., kind]) for kind in (0, 1))
        corner = np.array([columns.start, rows.start], np.float32)
        across = across_face(landmarks, len(crop))[:, columns]
        # uint8 [0, 255] -> float32 [0, 1]
        rgb = np.asarray(part / np.float32(255), np.float32)
        return Head(rgb, to_lab(part), np.asarray(landmarks - corner), across, v[rows], unit, hair, skin, self.model)

    def _dyed(self, head: Head) -> tuple[Floats, Floats]:
        share, usual = head.hair, self.model.hair_colour
        if not self.model.has_hair:
            lightness = float(self.model.skin_colour[0])
            share, usual = brows(head.lab[..., 0], head.across, head.v, lightness), self.model.brow_colour
        old = hair_alone(head.lab, share, usual)
        new = recolour(old, usual, self.colour)
        dyed = old + np.float32(self.prepared.strength) * (new - old)
        # The mask weighs the change when it is pasted.
        change = exchanged(head.rgb, old, dyed, share) / per_channel(np.maximum(share, SMALLEST_SHARE))
        return np.asarray(change, np.float32), share


def _window(covered: Floats) -> tuple[slice, slice] | None:
    """Rows and columns of a crop in which something may change, with room for blurs; None where nothing does."""
    found = covered > SMALLEST_SHARE
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    if not len(rows):
        return None
    return tuple(  # type: ignore[return-value]
        slice(max(int(at[0]) - MARGIN_PX, 0), min(int(at[-1]) + MARGIN_PX + 1, side))
        for at, side in zip((rows, columns), covered.shape, strict=True)
    )
