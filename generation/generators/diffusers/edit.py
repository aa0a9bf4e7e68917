"""Age and hair edited by a pipeline of diffusers that changes pictures: by instruction, or by inversion.

InstructPix2Pix: Brooks et al. 2023, "Learning to Follow Image Editing Instructions". LEDITS++: Brack et al. 2024,
"Limitless Image Editing using Text-to-Image Models".

Each frame is edited on its own, all with the same noise. What flickers then is the edit, not the frame: the
difference from the crop is averaged over a few frames and laid onto the crop again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import cv2
import numpy as np

from generation.arrays import Floats, Frame
from generation.crops.align import AlignedFaces, Batching
from generation.crops.clip import FaceClip
from generation.errors import GenerationError
from generation.generators.base import Attribute, AttributePipeline, CropsOutput
from generation.generators.diffusers.wrapping import WrappedPipeline, as_pil, border_fade, resized

LEAST_CHANGE, FULL_CHANGE = 2.0, 8.0  # grey levels between which a pixel's mask rises from 0 to 1
CHANGE_SOFTNESS = 0.02  # standard deviation of the mask's edge, as a share of the side


@dataclass
class PreparedDiffusersEdit:
    """One edit of one clip, and the frames edited last, which the next batch needs again.

    Attributes:
        prompt: in full.
        factor: not 0 unless nothing is to change.
        edited: difference of an edited crop from the crop, float32 (S, S, 3) in levels, by number of the frame.
    """

    prompt: str
    factor: float
    edited: dict[int, Floats] = field(default_factory=dict)


class DiffusersEdit(WrappedPipeline, AttributePipeline):
    """Editing frame by frame.

    Factor 1 takes the usual strength; below, the result is mixed with the crop in proportion; above, the strength
    grows. A factor of the other sign takes the attribute's other prompt.
    """

    own_config: ClassVar[dict[str, Any]] = {"batch_frames": 8}

    @property
    def batching(self) -> Batching:
        """The batches that `replace` takes."""
        entry = self.entry
        reach = entry.smoothing_frames // 2
        return Batching(entry.size_px, self.config["batch_frames"], reach, entry.template, keeps_detail=True)

    def prepare(self, target: FaceClip, attribute: Attribute, factor: float) -> PreparedDiffusersEdit:
        """Chooses the prompt; the clip is not read.

        Raises:
            GenerationError: the entry has no prompts for the attribute.
        """
        if attribute not in self.entry.prompts:
            known = ", ".join(sorted(self.entry.prompts)) or "nothing"
            raise GenerationError(f"{self.origin}: edits {known}, not {attribute}; add prompts to generator.json")
        negative, positive = self.entry.prompts[attribute]
        return PreparedDiffusersEdit(negative if factor < 0 else positive, factor)

    def replace(self, faces: AlignedFaces, prepared: PreparedDiffusersEdit, *, seed: int = 0) -> CropsOutput:
        """Edits a batch of aligned crops.

        Raises:
            GenerationError: see `WrappedPipeline.call`.
        """
        requested = range(*faces.requested.indices(len(faces.crops)))
        if prepared.factor == 0:
            shape = faces.crops[faces.requested].shape[:3]
            return CropsOutput(faces.crops[faces.requested], np.zeros(shape, np.float32))
        first = faces.start - faces.num_before
        for number in [number for number in prepared.edited if number < first]:
            del prepared.edited[number]
        for number, crop in enumerate(faces.crops, first):
            if number not in prepared.edited:
                prepared.edited[number] = self._difference(crop, prepared, seed)
        made = [self._laid_on(faces.crops[number], self._smoothed(first + number, prepared)) for number in requested]
        share = np.float32(min(abs(prepared.factor), 1.0))
        return CropsOutput(np.stack([crop for crop, _ in made]), share * np.stack([mask for _, mask in made]))

    def _difference(self, crop: Frame, prepared: PreparedDiffusersEdit, seed: int) -> Floats:
        """What the network changes in one crop: float32 (S, S, 3), levels."""
        entry, strength = self.entry, self.entry.strength
        assert strength is not None
        arguments: dict[str, Any] = {strength.argument: strength.value(prepared.factor)}
        picture = as_pil(crop)
        prompt = prepared.prompt
        if entry.image_argument:
            arguments[entry.image_argument] = picture
        if entry.invert is not None:
            self.run(self.inner.invert, {"image": picture} | entry.invert, seed)
        edited = resized(self.call(prompt, seed, **arguments)[0], len(crop))
        return np.asarray(edited.astype(np.float32) - crop, np.float32)

    def _smoothed(self, number: int, prepared: PreparedDiffusersEdit) -> Floats:
        """Hann-weighted mean of the differences around one frame; at the clip's ends of those that are there."""
        reach = self.entry.smoothing_frames // 2
        window = np.hanning(2 * reach + 3)[1:-1].astype(np.float32)
        around = zip(range(number - reach, number + reach + 1), window, strict=True)
        known = [(weight, prepared.edited[at]) for at, weight in around if at in prepared.edited]
        total = sum(weight for weight, _ in known)
        return np.asarray(sum(weight / total * values for weight, values in known), np.float32)

    def _laid_on(self, crop: Frame, difference: Floats) -> tuple[Frame, Floats]:
        """The edited crop, and where it differs visibly."""
        side = len(crop)
        # float32 [0, 255] -> uint8
        edited = np.clip(np.rint(crop + difference), 0, 255).astype(np.uint8)
        change = np.abs(cv2.GaussianBlur(difference, (0, 0), CHANGE_SOFTNESS * side)).max(2)
        shown = np.clip((change - LEAST_CHANGE) / (FULL_CHANGE - LEAST_CHANGE), 0, 1)
        shown = cv2.GaussianBlur(shown, (0, 0), CHANGE_SOFTNESS * side)
        return edited, np.asarray(border_fade(side) * shown, np.float32)
