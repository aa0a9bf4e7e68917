"""Full-face generation from a prompt: StyleGAN3 searched for the face that CLIP finds most like the text.

The method of text2stylegan: CLIP (Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision") scores the image, and Adam moves its latent. The defaults are its own, but that the best latent is kept
and not the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from generation.errors import GenerationError
from generation.generators.base import FaceImagePipeline
from generation.generators.stylegan3.latent_search import (
    Keep,
    SearchSettings,
    Space,
    clip_view,
    cosine_losses,
    draw_latents,
    output_to_images,
    render,
    search,
    start_latents,
)
from generation.generators.stylegan3.network import StyleganGenerator


@dataclass(frozen=True)
class TextSearchSettings(SearchSettings):
    """Settings of `Text2Stylegan`.

    Attributes:
        antialias: whether CLIP's small view of the image is made with a low pass; text2stylegan has none.
        batch_images: searches at a time; as rounding grows along a search, images depend on it.
    """

    antialias: bool = False
    batch_images: int = 1

    def __post_init__(self) -> None:
        for name, value, known in (("space", self.space, get_args(Space)), ("keep", self.keep, get_args(Keep))):
            if value not in known:
                raise GenerationError(f"{name} {value!r}; use one of {', '.join(known)}")


class Text2Stylegan(FaceImagePipeline):
    """Prompts and seeds in, images out.

    Args:
        network: the generator.
        clip, tokenizer: of transformers, such as CLIP ViT-B/32.
        settings: see `TextSearchSettings`.
    """

    settings_class = TextSearchSettings
    settings: TextSearchSettings
    # The search needs gradients that half precision rounds to zero.
    cuda_dtype = torch.float32

    def __init__(
        self,
        network: StyleganGenerator,
        clip: CLIPModel,
        tokenizer: CLIPTokenizer,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.register_modules(
            network=network.requires_grad_(False), clip=clip.requires_grad_(False).eval(), tokenizer=tokenizer
        )

    @property
    def images_at_once(self) -> int:
        """How many searches go on together."""
        return self.settings.batch_images

    def make_images(self, prompts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """One image for each prompt and seed: RGB uint8 (N, S, S, 3).

        Raises:
            GenerationError: a prompt is longer than CLIP reads.
        """
        step = self.images_at_once
        parts = [slice(at, at + step) for at in range(0, len(seeds), step)]
        return np.concatenate([output_to_images(self._images(self.find(prompts[at], seeds[at]))) for at in parts])

    def find(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """The latents found for prompts: (N, 1, w_dim) or (N, z_dim), see `SearchSettings.space`.

        Raises:
            GenerationError: a prompt is longer than CLIP reads.
        """
        requested = self.text_features(prompts)
        z = torch.from_numpy(draw_latents(seeds, self.network.config["z_dim"])).to(self.network.device)

        def score(images: Tensor, numbers: Sequence[int]) -> Tensor:
            return cosine_losses(self.image_features(images), requested[list(numbers)])

        with torch.inference_mode(False):
            start = start_latents(self.network, z.clone(), self.settings)
            return search(self.network, start, score, self.settings).latents

    @torch.no_grad()
    def _images(self, latents: Tensor) -> Tensor:
        return render(self.network, latents, self.settings)

    def image_features(self, images: Tensor) -> Tensor:
        """CLIP's projected features (N, D) of images (N, 3, S, S), nominally [-1, 1]."""
        side = self.clip.config.vision_config.image_size
        view = clip_view(images, side, antialias=self.settings.antialias)
        seen = self.clip.vision_model(pixel_values=view.to(self.clip.dtype)).pooler_output
        features: Tensor = self.clip.visual_projection(seen).float()
        return features

    def text_features(self, prompts: Sequence[str]) -> Tensor:
        """CLIP's projected features (N, D) of prompts.

        Raises:
            GenerationError: a prompt is longer than CLIP reads.
        """
        longest = self.clip.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(prompts), padding="max_length", max_length=longest, return_tensors="pt")
        numbers = tokens["input_ids"]
        if numbers.shape[1] > longest:
            raise GenerationError(f"a prompt has {numbers.shape[1]} tokens, CLIP reads {longest}; shorten it")
        with torch.inference_mode(False), torch.no_grad():
            mask = tokens["attention_mask"].to(self.clip.device)
            read = self.clip.text_model(input_ids=numbers.to(self.clip.device), attention_mask=mask)
            features: Tensor = self.clip.text_projection(read.pooler_output).float()
        return features
