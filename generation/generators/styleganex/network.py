"""StyleGANEX for editing attributes of faces in whole pictures: encoder and extended generator.

Yang et al. 2023, "StyleGANEX: StyleGAN-Based Manipulation Beyond Cropped Aligned Faces". Names and shapes are those of
the published checkpoints; the mean latent and the editing vector, which these keep beside the state dict, are buffers.
The layers below 32 px of StyleGAN2 work dilated on a grid of an eighth of the picture, so pictures may have any size.

`codes` reads the aligned face once for a clip; `frame_network` then gives the network of ordinary convolutions that
runs on each frame.
"""

from __future__ import annotations

import math

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

from generation.generators.styleganex.frames import FrameNetwork
from generation.generators.styleganex.layers import EqualLinear, Fusion, ResidualBlock, StyledConv, StyleHead, ToRgb

DEPTHS = (3, 4, 14, 3)  # blocks of the encoder's body by width
FIRST_PX, DILATED_PX = 4, 32  # nominal sizes: of the first layer, and up to which layers work on one grid
SIDE_MULTIPLE = 8
NUM_COARSE, NUM_MIDDLE = 3, 4  # styles by level of the pyramid; the others are fine
# The encoder's features that are fused, by stage of the generator.
FUSED_TAPS = ("c2", "c2", "c22", "c21", "c1", "c128", "c256")
# After how many blocks of the body a feature is taken.
TAP_BLOCKS = {3: "c128", 7: "c1", 11: "c21", 16: "c22", 21: "c2", 24: "c3"}


class Encoder(nn.Module):
    """The encoder with the weights of the fusions, which run in the generator."""

    def __init__(self, width: int, num_styles: int, *, has_max_pooling: bool) -> None:
        super().__init__()
        style_size = 8 * width
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
        )
        blocks, before = [], width
        for level, depth in enumerate(DEPTHS):
            for number in range(depth):
                blocks.append(ResidualBlock(before, width << level, 1 if number else 2))
                before = width << level
        self.body = nn.Sequential(*blocks)
        num_convs = [4] * NUM_COARSE + [5] * NUM_MIDDLE + [6] * max(num_styles - NUM_COARSE - NUM_MIDDLE, 0)
        self.styles = nn.ModuleList(
            StyleHead(style_size, count, has_max_pooling=has_max_pooling) for count in num_convs[:num_styles]
        )
        self.latlayer1 = nn.Conv2d(4 * width, style_size, 1)
        self.latlayer2 = nn.Conv2d(2 * width, style_size, 1)
        self.featlayer = nn.Conv2d(12 * width, style_size, 1)
        self.skiplayer = nn.Conv2d(12 * width, 3, 1)
        self.fusion = nn.ModuleList()

    def taps(self, x: Tensor) -> dict[str, Tensor]:
        """Features of a picture (B, 3, H, W) by their names in the paper's code lists; see `TAP_BLOCKS`."""
        features = self.input_layer(x)
        found = {"c256": features}
        for number, block in enumerate(self.body, 1):
            features = block(features)
            if number in TAP_BLOCKS:
                found[TAP_BLOCKS[number]] = features
        return found

    def codes(self, x: Tensor) -> Tensor:
        """Style codes (B, styles, 8 width), without the mean latent."""
        taps = self.taps(x)
        middle = _enlarged(taps["c3"], taps["c2"]) + self.latlayer1(taps["c2"])
        fine = _enlarged(middle, taps["c1"]) + self.latlayer2(taps["c1"])
        levels = [taps["c3"]] * NUM_COARSE + [middle] * NUM_MIDDLE + [fine] * len(self.styles)
        return torch.stack([head(level) for head, level in zip(self.styles, levels, strict=False)], 1)


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


class _First(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, FIRST_PX, FIRST_PX))


class _Noises(nn.Module):
    def __init__(self, num_layers: int) -> None:
        super().__init__()
        for number in range(num_layers):
            side = FIRST_PX << (number + 1) // 2
            self.register_buffer(f"noise_{number}", torch.zeros(1, 1, side, side))


class _PixelNorm(nn.Module):
    """Has no weights; first of the mapping network's numbered layers, which do not run on this path."""


class Decoder(nn.Module):
    """Weights of the generator: StyleGAN2's, of which only the geometry below 32 px is another."""

    def __init__(self, width: int, output_size: int) -> None:
        super().__init__()
        style_size = 8 * width
        self.style = nn.Sequential(_PixelNorm(), *(EqualLinear(style_size, style_size) for _ in range(8)))
        self.input = _First(style_size)
        self.conv1 = StyledConv(style_size, style_size, style_size)
        self.to_rgb1 = ToRgb(style_size, style_size, is_up=False)
        self.convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        before, side = style_size, FIRST_PX
        while side < output_size:
            side *= 2
            channels = min(style_size, 512 * width // side)
            is_dilated = side <= DILATED_PX
            self.convs.append(StyledConv(before, channels, style_size, is_up=True, is_dilated=is_dilated))
            self.convs.append(StyledConv(channels, channels, style_size))
            self.to_rgbs.append(ToRgb(channels, style_size, is_dilated=is_dilated))
            before = channels
        self.noises = _Noises(len(self.convs) + 1)


class StyleganexEditor(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The network of one attribute.

    Args:
        width: channels of the encoder's first layer; styles have eight times as many values.
        output_size: nominal size of the generator, a power of 2.
        use_skip: whether the fusions are used.
        skip_max_layer: number of fusions.
        use_skip_torgb: whether fusions also change the picture so far.
        use_att: hidden layers of the masks' networks; 0 has no masks.
        max_pooling: whether style heads take the largest value instead of the mean.
        start_from_latent_avg: whether codes count from the mean latent.
    """

    latent_avg: Tensor
    editing_w: Tensor

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        width: int = 64,
        output_size: int = 1024,
        use_skip: bool = True,
        skip_max_layer: int = 7,
        use_skip_torgb: bool = False,
        use_att: int = 1,
        max_pooling: bool = False,
        start_from_latent_avg: bool = True,
    ) -> None:
        super().__init__()
        num_styles, style_size = 2 * int(math.log2(output_size)) - 2, 8 * width
        if not 0 <= skip_max_layer <= min(len(FUSED_TAPS), num_styles // 2 - 1):
            raise ValueError(f"skip_max_layer {skip_max_layer}: this generator takes 0 to {len(FUSED_TAPS)} fusions")
        self.encoder = Encoder(width, num_styles, has_max_pooling=max_pooling)
        self.decoder = Decoder(width, output_size)
        num_skip = {"c256": width, "c128": width, "c1": 2 * width, "c21": 4 * width, "c22": 4 * width, "c2": 4 * width}
        for stage, tap in enumerate(FUSED_TAPS[:skip_max_layer]):
            channels = min(style_size, 512 * width // (FIRST_PX << stage))
            fusion = Fusion(num_skip[tap], channels, style_size, use_att, has_rgb=use_skip_torgb)
            self.encoder.fusion.append(fusion)
        self.register_buffer("latent_avg", torch.zeros(num_styles, style_size))
        self.register_buffer("editing_w", torch.zeros(num_styles, style_size))

    @property
    def side_multiple(self) -> int:
        """Sides of pictures are multiples of it."""
        return SIDE_MULTIPLE

    def codes(self, x: Tensor) -> Tensor:
        """Style codes of aligned faces, RGB (B, 3, 256, 256) in [-1, 1]: (B, styles, 8 width), without mean latent."""
        return self.encoder.codes(x)

    def latents(self, x: Tensor) -> Tensor:
        """Latents of aligned faces: codes and, where they count from it, the mean latent."""
        codes = self.codes(x)
        return codes + self.latent_avg if self.config.start_from_latent_avg else codes

    def frame_network(self, latents: Tensor, factor: float | None, *, is_tiled: bool = False) -> FrameNetwork:
        """The network that runs on frames, for one person and one strength of the edit.

        Args:
            latents: (styles, 8 width) of the person, without the edit.
            factor: of the editing vector; None has no vector and no masks, which 0 has.
            is_tiled: whether convolutions are done in tiles; for processors.
        """
        edit = None if factor is None else self.editing_w * factor
        network = FrameNetwork(self.encoder, self.decoder, latents, edit, use_skip=self.config.use_skip)
        return network.eval().tiled() if is_tiled else network.eval()

    def forward(self, x1: Tensor, x2: Tensor | None = None, factor: float | None = None) -> Tensor:
        """The edited picture of one frame, before it is clamped.

        Args:
            x1: RGB (1, 3, H, W) in [-1, 1], sides multiples of 8.
            x2: aligned face (1, 3, 256, 256) in [-1, 1] for the style; None takes x1.
            factor: see `frame_network`.

        Returns:
            RGB (1, 3, 4 H, 4 W), about [-1, 1], for the nominal size 1024.
        """
        latents = self.latents(x1 if x2 is None else x2)[0]
        return torch.as_tensor(self.frame_network(latents, factor)(x1))
