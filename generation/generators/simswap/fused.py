"""SimSwap's network rewritten for speed: the same values from the same weights.

- Batch norms are folded into the convolutions before them.
- The biases of the blocks' convolutions are left out: the instance norms after them take them away again.
- The identity's scales and shifts are computed once for a source, in one product for all blocks.
- On a processor 3x3 convolutions of stride 1 use `TiledConv`; those after an enlargement by two work on the
  small picture instead and give the four pixels of each place as channels (Shi et al. 2016, "Real-Time Single Image and
  Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network"). So does the last convolution,
  whose three channels would leave most of a vector register empty.
- On a GPU, tensors lie channels-last and convolutions are left to its library.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from generation.generators.convolution import Conv, TiledConv, fold_norm
from generation.generators.simswap.network import NORM_EPS, SwapGenerator, apply_head

# Always as many, filled up where there are fewer: the order of sums may depend on the number, results must not. On a
# processor what is between two layers of two images stays in its cache.
IMAGES_TILED, IMAGES_AT_ONCE = 2, 8
# Bilinear enlargement by two, as weights of the pixels before, at and after; for the even and the odd new pixel.
_EVEN, _ODD = (0.25, 0.75, 0.0), (0.0, 0.75, 0.25)
# New pixels -1, 0, 1 around an even one and 0, 1, 2 around an odd one, by the old pixels around it.
_AROUND = (((0.75, 0.25, 0.0), _EVEN, _ODD), (_EVEN, _ODD, (0.0, 0.25, 0.75)))


class EnlargingConv(Conv):
    """A 3x3 convolution of a picture enlarged by two."""

    def forward(self, features: Tensor) -> Tensor:
        large = functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
        return super().forward(large)


class TiledEnlargingConv(nn.Module):
    """A 3x3 convolution, padded with zeros, of a picture enlarged by two: done on the picture before.

    Beyond the border the enlargement goes on with the border's value and the convolution with zeros, so the outermost
    ring of pixels is done for itself.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", bias.detach().clone())
        around = torch.tensor(_AROUND, dtype=torch.float64)
        # of each channel the four new pixels, row by row: (O, 2, 2, I, 3, 3)
        phases = torch.einsum("yak,xbl,oiab->oyxikl", around, around, weight.detach().double())
        self.small = TiledConv(phases.flatten(0, 2), None, has_border=True)

    def forward(self, features: Tensor) -> Tensor:
        padded = functional.pad(features, (1, 1, 1, 1), mode="replicate")
        large = functional.pixel_shuffle(self.small(padded), 2)
        self._redo_ring(features, large)
        return large.add_(self.bias[:, None, None])

    def _redo_ring(self, features: Tensor, large: Tensor) -> None:
        top, bottom = features[:, :, :2], features[:, :, -2:].flip(2)
        left, right = features[..., :2].mT, features[..., -2:].flip(3).mT
        turned = self.weight.mT
        large[:, :, 0] = self._border(top, self.weight)
        large[:, :, -1] = self._border(bottom, self.weight.flip(2))
        large[..., 0] = self._border(left, turned)
        large[..., -1] = self._border(right, turned.flip(2))

    @staticmethod
    def _border(two_rows: Tensor, weight: Tensor) -> Tensor:
        """The first row of the result, from the first two of the picture."""
        large = functional.interpolate(two_rows, scale_factor=2, mode="bilinear", align_corners=False)
        return functional.conv2d(large[:, :, :2], weight[:, :, 1:], padding=(0, 1))[:, :, 0]


class BlockwiseConv(nn.Module):
    """A 7x7 convolution of a padded picture to few channels, for 2x2 pixels at a time."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        size = weight.shape[2]
        placed = [functional.pad(weight.detach(), (x, 1 - x, y, 1 - y)) for y in range(2) for x in range(2)]
        stacked = torch.stack(placed, 1).reshape(-1, weight.shape[1], size + 1, size + 1)
        self.register_buffer("weight", stacked.contiguous())
        self.register_buffer("bias", bias.detach().repeat_interleave(4))

    def forward(self, padded: Tensor) -> Tensor:
        blocks = functional.conv2d(padded, self.weight, self.bias, stride=2)
        return functional.pixel_shuffle(blocks, 2)


class FusedSwapGenerator(nn.Module):
    """Runs a `SwapGenerator`.

    Args:
        network: in evaluation; its weights are copied as they are now. Transformed kernels take four times the room.
        is_tiled: whether to use `TiledConv`; float32 on a processor only.
    """

    style_weight: Tensor
    style_bias: Tensor

    def __init__(self, network: SwapGenerator, *, is_tiled: bool) -> None:
        super().__init__()
        self.is_tiled, self.head = is_tiled, network.config.head
        parts: dict[str, Any] = dict(network.named_children())
        blocks = parts["BottleNeck"]
        self.num_blocks = len(blocks)
        self.first = Conv(*fold_norm(*parts["first_layer"][1:3]), padding=0)
        downs = [parts[name] for name in network.down_names]
        self.downs = nn.ModuleList(Conv(*fold_norm(part[0], part[1]), stride=2) for part in downs)
        convs = [conv[1].weight for block in blocks for conv in (block.conv1, block.conv2)]
        self.convs = nn.ModuleList(
            TiledConv(weight, None, has_border=True) if is_tiled else Conv(weight, None, padding=0) for weight in convs
        )
        styles = [style.linear for block in blocks for style in (block.style1, block.style2)]
        self.register_buffer("style_weight", torch.cat([linear.weight.detach() for linear in styles]))
        self.register_buffer("style_bias", torch.cat([linear.bias.detach() for linear in styles]))
        ups = [fold_norm(parts[name][1], parts[name][2]) for name in network.up_names]
        self.ups = nn.ModuleList(TiledEnlargingConv(*pair) if is_tiled else EnlargingConv(*pair) for pair in ups)
        last = parts["last_layer"][1]
        self.last = BlockwiseConv(last.weight, last.bias)
        if not is_tiled:
            self.to(memory_format=torch.channels_last)

    def styles(self, latent: Tensor) -> Tensor:
        """All scales and shifts of one identity.

        Args:
            latent: (1, latent_size).

        Returns:
            (2 x blocks, 2, C): scale, with its one, and shift.
        """
        values = functional.linear(latent, self.style_weight, self.style_bias).view(2 * self.num_blocks, 2, -1)
        return values + values.new_tensor([1.0, 0.0])[:, None]

    def forward(self, images: Tensor, styles: Tensor) -> Tensor:
        """As `SwapGenerator.forward`, with `styles` from the method of this name instead of the latent."""
        step = IMAGES_TILED if self.is_tiled else IMAGES_AT_ONCE
        missing = -len(images) % step
        filled = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
        if not self.is_tiled:
            filled = filled.contiguous(memory_format=torch.channels_last)
        return torch.cat([self._run(part, styles) for part in torch.split(filled, step)])[: len(images)]

    def _run(self, images: Tensor, styles: Tensor) -> Tensor:
        features = torch.relu_(self.first(_reflect(images, 3)))
        for down in self.downs:
            features = torch.relu_(down(features))
        for number in range(self.num_blocks):
            first, second = self.convs[2 * number], self.convs[2 * number + 1]
            inner = torch.relu_(_stylise(first(_reflect(features, 1)), styles[2 * number]))
            features = _stylise(second(_reflect(inner, 1)), styles[2 * number + 1]).add_(features)
        for up in self.ups:
            features = torch.relu_(up(features))
        return apply_head(self.last(_reflect(features, 3)), self.head)


def _reflect(features: Tensor, size: int) -> Tensor:
    return functional.pad(features, (size, size, size, size), mode="reflect")


def _stylise(features: Tensor, style: Tensor) -> Tensor:
    """`simswap.stylise` with one style (2, C) for all samples, in place; statistics in float32."""
    num_pixels = features.shape[2] * features.shape[3]
    features -= features.mean((2, 3), keepdim=True, dtype=torch.float32).to(features.dtype)
    lengths = torch.linalg.vector_norm(features, dim=(2, 3), keepdim=True, dtype=torch.float32)
    scale = style[0, :, None, None] * torch.rsqrt(lengths.square() / num_pixels + NORM_EPS)
    return features.mul_(scale.to(features.dtype)).add_(style[1, :, None, None])
