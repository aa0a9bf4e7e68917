"""Full-face generation with a text-to-image pipeline of diffusers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from generation.generators.base import FaceImagePipeline
from generation.generators.diffusers.wrapping import WrappedPipeline, resized


class DiffusersImages(WrappedPipeline, FaceImagePipeline):
    """Prompts and seeds in, images out. Images are made one at a time, so that each is the same in any company."""

    def make_images(self, prompts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """One image for each prompt and seed: RGB uint8 (N, S, S, 3).

        Raises:
            GenerationError: see `WrappedPipeline.call`.
        """
        made = [
            self.call(self.entry.prompt.replace("{prompt}", prompt), seed)[0]
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return np.stack([resized(image, self.entry.size_px) for image in made])
