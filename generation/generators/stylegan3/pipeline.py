"""Full-face generation with StyleGAN3: faces drawn at random, near the average face or far from it.

Karras et al. 2021, "Alias-Free Generative Adversarial Networks". The network is unconditional: prompts are unread.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generation.errors import GenerationError
from generation.generators.base import FaceImagePipeline
from generation.generators.stylegan3.latent_search import draw_latents, output_to_images
from generation.generators.stylegan3.network import StyleganGenerator


@dataclass(frozen=True)
class StyleganSettings:
    """Settings of `Stylegan3Faces`.

    Attributes:
        psi: truncation; 1 is as diverse as the training images, 0 is the average face.
        cutoff: how many of the network's `num_ws` latents are truncated; 0 is all.
        class_index: label of a conditional network; -1 gives it none.
        angle_degrees, shift_x, shift_y: turn and shift of the picture, the shift in widths.
        batch_images: images at a time; their last bits depend on it.
    """

    psi: float = 0.7
    cutoff: int = 0
    class_index: int = -1
    angle_degrees: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    batch_images: int = 1


class Stylegan3Faces(FaceImagePipeline):
    """Seeds in, images out.

    Args:
        network: the generator.
        settings: see `StyleganSettings`.
    """

    cuda_dtype = torch.float16

    settings_class = StyleganSettings
    settings: StyleganSettings

    def __init__(self, network: StyleganGenerator, **settings: Any) -> None:
        super().__init__(**settings)
        num_labels, index = network.config["c_dim"], self.settings.class_index
        if not -1 <= index < num_labels:
            raise GenerationError(f"class_index {index}: the network has {num_labels} labels; use -1 for none")
        self.register_modules(network=network.requires_grad_(False))

    @property
    def images_at_once(self) -> int:
        """How many images are made together."""
        return self.settings.batch_images

    def make_images(self, prompts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """One image for each seed: RGB uint8 (N, S, S, 3); the prompts are unread."""
        step = self.images_at_once
        return np.concatenate([self._images(seeds[at : at + step]) for at in range(0, len(seeds), step)])

    @classmethod
    def followed_attributes(cls, genders: Collection[str] = ()) -> frozenset[str]:
        """None."""
        return frozenset()

    @torch.no_grad()
    def _images(self, seeds: Sequence[int]) -> NDArray[np.uint8]:
        network = self.network
        z = torch.from_numpy(draw_latents(seeds, network.config["z_dim"])).float().to(network.device)
        label = None
        if self.settings.class_index >= 0:
            label = torch.zeros(len(seeds), network.config["c_dim"], device=network.device)
            label[:, self.settings.class_index] = 1
        return output_to_images(
            network(
                z,
                label,
                psi=self.settings.psi,
                cutoff=self.settings.cutoff or None,
                transform=self._transform(network.device),
            )
        )

    def _transform(self, device: torch.device) -> Tensor | None:
        """The inverse of the picture's turn and shift, (3, 3); None where there is neither."""
        settings = self.settings
        if not (settings.angle_degrees or settings.shift_x or settings.shift_y):
            return None
        angle = math.radians(settings.angle_degrees)
        cosine, sine = math.cos(angle), math.sin(angle)
        rows = [[cosine, sine, settings.shift_x], [-sine, cosine, settings.shift_y], [0, 0, 1]]
        return torch.tensor(rows, dtype=torch.float64).inverse().float().to(device)
