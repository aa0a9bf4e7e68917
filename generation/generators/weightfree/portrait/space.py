"""A space of faces fitted to crops: Gaussians of shape and tone, and the examples that detail is taken from.

Shape and shape-free tone are linear, as in active appearance models (Cootes, Edwards and Taylor 2001, "Active
Appearance Models"). A linear mixture of photographs has no detail of its own, so detail comes region by region from
examples that fit together, as in Mohammed, Prince and Kautz 2009, "Visio-lization: Generating Novel Facial Images".

The reference face is a square grid in which the five landmarks lie at `REFERENCE`; examples are crops of the template
"portrait". Places are shares of a side.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from generation.arrays import Floats
from generation.crops.align import similarity
from generation.crops.templates import TEMPLATE, TEMPLATES

GRID_PX = 64  # of the reference face
MATTE_PX = 128
MATTES = ("background", "hair", "clothes")
REGIONS = ("eyes", "eyes_below_fringe", "nose", "mouth")
GENDER_CODES = {"": 0, "male": 1, "female": 2}

REFERENCE: Floats = np.asarray([0.5, 0.45] + 0.8 * (TEMPLATE - np.array([0.5, 0.49])), np.float32)
# From the reference face to a crop: no turn, a scale and a shift.
TO_CROP: Floats = similarity(REFERENCE, TEMPLATES["portrait"])


@dataclass(frozen=True)
class SpaceSizes:
    """The sizes of a space.

    Attributes:
        num_people, num_examples: N and E; every person has one example or more.
        num_modes: K, of shape and of tone.
        crop_px: P, side of the examples.
    """

    num_people: int
    num_examples: int
    num_modes: int
    crop_px: int


class FaceSpace(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The fitted numbers; all are buffers.

    Buffers:
        crops: uint8 (E, P, P, 3), RGB.
        people: int64 (E,), whose example it is; genders: int64 (N,), of `GENDER_CODES`.
        to_picture: float32 (E, 2, 3), from shares of the crop's side to shares of what was filmed, 0 to 1 inside.
        offsets: float32 (E, G, G, 2), added to `TO_CROP`: where in its crop each place of the reference face is.
        textures: float32 (E, G, G, 3), the example without its shape, RGB [0, 1].
        mattes: uint8 (E, M, M, 3), how much each place of a crop is one of `MATTES`, 255 is wholly.
        is_fringed, has_glasses: bool (E,), whether hair hides the brows, and whether rims lie around the eyes.
        seams: float32 (R, E, E), how visible the edge is if a region of the second example is set into the first.
        shape_mean (G, G, 2), shape_modes (K, G, G, 2), shape_codes (N, K): offsets of people.
        tone_mean (G, G, 3), tone_modes (K, G, G, 3), tone_codes (N, K): shading of people, logits beside their light.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, num_people: int = 2, num_examples: int = 2, num_modes: int = 1, crop_px: int = 455) -> None:
        super().__init__()
        people, examples, modes, grid = num_people, num_examples, num_modes, (GRID_PX, GRID_PX)
        self.register_buffer("crops", torch.zeros(examples, crop_px, crop_px, 3, dtype=torch.uint8))
        self.register_buffer("people", torch.zeros(examples, dtype=torch.int64))
        self.register_buffer("genders", torch.zeros(people, dtype=torch.int64))
        self.register_buffer("to_picture", torch.zeros(examples, 2, 3))
        self.register_buffer("offsets", torch.zeros(examples, *grid, 2))
        self.register_buffer("textures", torch.zeros(examples, *grid, 3))
        self.register_buffer("mattes", torch.zeros(examples, MATTE_PX, MATTE_PX, len(MATTES), dtype=torch.uint8))
        self.register_buffer("is_fringed", torch.zeros(examples, dtype=torch.bool))
        self.register_buffer("has_glasses", torch.zeros(examples, dtype=torch.bool))
        self.register_buffer("seams", torch.zeros(len(REGIONS), examples, examples))
        for name, channels in (("shape", 2), ("tone", 3)):
            self.register_buffer(f"{name}_mean", torch.zeros(*grid, channels))
            self.register_buffer(f"{name}_modes", torch.zeros(modes, *grid, channels))
            self.register_buffer(f"{name}_codes", torch.zeros(people, modes))

    @classmethod
    def of(cls, sizes: SpaceSizes, values: dict[str, Tensor]) -> Self:
        """A space with these values, one for each buffer.

        Raises:
            RuntimeError: a value is missing or has another shape.
        """
        space: Self = cls(**asdict(sizes))
        space.eval()
        space.load_state_dict(values)
        return space

    def forward(self, shape_codes: Tensor, tone_codes: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets (B, G, G, 2) and tones (B, G, G, 3) of faces with these codes, (B, K) each."""
        return (
            self.shape_mean + torch.tensordot(shape_codes, self.shape_modes, 1),
            self.tone_mean + torch.tensordot(tone_codes, self.tone_modes, 1),
        )
