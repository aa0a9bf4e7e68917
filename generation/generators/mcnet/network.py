"""MCNET's generator: a still picture, moved by keypoints (Hong and Xu 2023, "Implicit Identity Representation
Conditioned Memory Compensation Network for Talking Head Video Generation").

Names in the state dict are those of the published checkpoint. Weights are kept in float32; `to` with a dtype sets
in which one `folded` lets the body work. Keypoints and motion stay in float32: they are places.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from generation.generators.mcnet.dense_motion import DenseMotion, Motion
from generation.generators.mcnet.keypoints import Keypoints
from generation.generators.mcnet.layers import ConvBlock, DownBlock, ResBlock, UpBlock, fold
from generation.generators.mcnet.memory import MemoryUnit

NUM_LEVELS = 3
NUM_NOISES = NUM_LEVELS  # draws of noise for each frame, one for each call of the memory unit


@dataclass(frozen=True)
class Still:
    """All that is known of the source picture before the first frame is made.

    Attributes:
        image: float32 (1, 3, S, S), RGB [0, 1].
        small: float32 (1, 3, S/4, S/4).
        features: float32, from the picture's size down to S/8; places are too fine for half precision.
        keypoints: of the picture.
    """

    image: Tensor
    small: Tensor
    features: tuple[Tensor, ...]
    keypoints: Keypoints


class McnetGenerator(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The published `generator`.

    Args:
        num_keypoints: K.
        image_px: S, a multiple of 128.
        base, most: channels of the body at the picture's size, and at most.
        motion_base, motion_most: the same of the hourglass that finds the motion.
        memory_channels, memory_px: of the memory.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_keypoints: int = 15,
        image_px: int = 256,
        base: int = 64,
        most: int = 512,
        motion_base: int = 64,
        motion_most: int = 1024,
        memory_channels: int = 512,
        memory_px: int = 32,
    ) -> None:
        super().__init__()
        widths = [min(most, base * 2**level) for level in range(NUM_LEVELS + 1)]
        self.dense_motion_network = DenseMotion(num_keypoints, motion_base, motion_most)
        self.first = ConvBlock(3, widths[0], 7)
        self.down_blocks = nn.ModuleList(DownBlock(*pair) for pair in pairwise(widths))
        deeper = widths[-1]
        up: list[UpBlock] = []
        residual: list[ResBlock] = []
        for width in reversed(widths[:-1]):
            joined = 2 * deeper if up else deeper
            up.append(UpBlock(joined, width))
            residual += [ResBlock(joined), ResBlock(joined)]
            deeper = width
        self.up_blocks, self.resblock = nn.ModuleList(up), nn.ModuleList(residual)
        self.final = nn.Conv2d(widths[0], 3, 7, padding=3)
        sizes = {image_px // 2**level: widths[level] // 2 for level in range(1, NUM_LEVELS + 1)}
        self.mbUnit = MemoryUnit(num_keypoints, memory_channels, memory_px, sizes)
        self.work_dtype, self.layout = torch.float32, torch.contiguous_format

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As torch's, but a dtype is that of the body of `folded`; the weights themselves stay in float32."""
        device, dtype, _, _ = torch._C._nn._parse_to(*args, **kwargs)
        if dtype is not None:
            self.work_dtype = dtype
        if device is not None:
            super().to(device)
        return self

    def folded(self, *, is_tiled: bool) -> Self:
        """A copy for inference that computes the same with less arithmetic, its body in the dtype given to `to`.

        Args:
            is_tiled: whether 3x3 convolutions are `TiledConv`: faster on a CPU, in float32.
        """
        result = copy.deepcopy(self)
        fold(result, is_tiled=is_tiled)
        if is_tiled:
            result.mbUnit.use_tiles()
        for part in result.children():
            if part is not result.dense_motion_network:
                part.to(result.work_dtype)
        if not is_tiled:
            result.layout = torch.channels_last
            for module in result.modules():
                if isinstance(module, nn.Conv2d):
                    module.to(memory_format=torch.channels_last)
        result.eval().requires_grad_(False)
        return result

    def encode(self, image: Tensor, keypoints: Keypoints) -> Still:
        """Looks at the source picture once: RGB float32 [0, 1] (1, 3, S, S) and its keypoints."""
        worked = image.to(self.final.weight.dtype, memory_format=self.layout)
        features = [self.first(worked)]
        for block in self.down_blocks:
            features.append(block(features[-1]))
        exact = tuple(part.float() for part in features)
        return Still(image, self.dense_motion_network.down(image), exact, keypoints)

    def forward(self, still: Still, driving: Keypoints, noise: Tensor | None = None) -> Tensor:
        """The still moved to B poses.

        Args:
            still: from `encode`.
            driving: normalised keypoints, B.
            noise: (B, 3, 1, m, m), standard normal, a draw for each call of the memory; None is none.

        Returns:
            RGB float32 [0, 1] (B, 3, S, S).
        """
        return self.render(still, self.dense_motion_network(still.small, still.keypoints, driving), noise)

    def render(self, still: Still, motion: Motion, noise: Tensor | None = None) -> Tensor:
        """The still under a motion; other arguments and result as `forward`."""
        dtype = self.final.weight.dtype
        points, noises = still.keypoints.value, (None,) * NUM_NOISES if noise is None else noise.unbind(1)
        deepest = len(still.features) - 1
        y = self.mbUnit(seen(still.features[deepest], motion).to(dtype), points, noises[0])
        y = y.to(memory_format=self.layout)
        for number, block in enumerate(self.up_blocks):
            for residual in self.resblock[2 * number : 2 * number + 2]:
                y = residual(y)
            y, level = block(y), deepest - number - 1
            if level > 0:
                kept = self.mbUnit(seen(still.features[level], motion).to(dtype), points, noises[number + 1])
                y = torch.cat([y, kept.to(memory_format=self.layout)], 1)
        shown = resized(motion.occlusion, y.shape[-1])
        y = y * (1 - shown).to(dtype) + seen(still.features[0], motion).to(dtype)
        made = torch.sigmoid(self.final(y).float())
        return made * (1 - shown) + warped(still.image, motion) * shown


def resized(maps: Tensor, side: int) -> Tensor:
    """Maps (B, C, h, w) in another size, bilinear between the centres of the outermost pixels."""
    if maps.shape[-1] == side:
        return maps
    return F.interpolate(maps, (side, side), mode="bilinear", align_corners=True)


def warped(picture: Tensor, motion: Motion) -> Tensor:
    """The still's picture or features (1, C, n, n) moved to B poses: (B, C, n, n)."""
    places = resized(motion.deformation.permute(0, 3, 1, 2), picture.shape[-1]).permute(0, 2, 3, 1)
    return F.grid_sample(picture.expand(len(places), -1, -1, -1), places, align_corners=True)


def seen(features: Tensor, motion: Motion) -> Tensor:
    """The still's features moved, and nothing where the still does not show what is there."""
    return warped(features, motion) * resized(motion.occlusion, features.shape[-1])
