"""SimSwap's swapping network: an encoder of the target, blocks that put the source's identity in, a decoder.

Chen et al. 2020, "SimSwap: An Efficient Framework For High Fidelity Face Swapping". The names of the weights are
those of the published files. `SwapGenerator.forward` is the network as it is described; `simswap_fused` runs it faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

Head = Literal["tanh01", "imagenet"]

NORM_EPS = 1e-8
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Style(nn.Module):
    """Scale and shift of every channel, from the identity."""

    def __init__(self, latent_size: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(latent_size, 2 * channels)

    def forward(self, latent: Tensor) -> Tensor:
        """(N, L) -> (N, 2, C): one plus the scale, and the shift."""
        style: Tensor = self.linear(latent).unflatten(1, (2, -1))
        return style + style.new_tensor([1.0, 0.0])[:, None]


class Block(nn.Module):
    """A residual block whose two norms take their scale and shift from the identity."""

    def __init__(self, channels: int, latent_size: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3))
        self.style1 = Style(latent_size, channels)
        self.conv2 = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3))
        self.style2 = Style(latent_size, channels)

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        inner = torch.relu(stylise(self.conv1(features), self.style1(latent)))
        return features + stylise(self.conv2(inner), self.style2(latent))


def stylise(features: Tensor, style: Tensor) -> Tensor:
    """Normalises each channel of each sample (N, C, H, W) over its pixels, then scales and shifts it by (N, 2, C)."""
    centred = features - features.mean((2, 3), keepdim=True)
    deviation = torch.sqrt(centred.square().mean((2, 3), keepdim=True) + NORM_EPS)
    return centred / deviation * style[:, 0, :, None, None] + style[:, 1, :, None, None]


class SwapGenerator(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The network; the default configuration is the published one for 224 px.

    Args:
        channels: of the levels from full size down; each halves the side. 64 to 512 in the network for 224 px,
            32 to 512 in that for 512 px.
        first_level: the number in the name of the first step down: 1 in the network for 224 px, 0 in that for 512 px.
        num_blocks: between encoder and decoder.
        latent_size: of the identity.
        head: "tanh01" is the published networks': plain RGB [0, 1] in and out. "imagenet" is that of checkpoints from
            the published trainer: RGB normalised with ImageNet's mean and deviation in and out. The weights do not
            tell one from the other.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 512),
        first_level: int = 1,
        num_blocks: int = 9,
        latent_size: int = 512,
        head: Head = "tanh01",
    ) -> None:
        super().__init__()
        if head not in get_args(Head):
            raise ValueError(f"head {head!r}; use one of {', '.join(get_args(Head))}")
        widths = list(channels)
        self.first_layer = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(3, widths[0], 7), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.down_names = [f"down{first_level + step}" for step in range(len(widths) - 1)]
        self.up_names = [name.replace("down", "up") for name in reversed(self.down_names)]
        for name, wide, narrow in zip(self.down_names, widths[1:], widths[:-1], strict=True):
            self.add_module(name, _down(narrow, wide))
        self.BottleNeck = nn.ModuleList(Block(widths[-1], latent_size) for _ in range(num_blocks))
        for name, wide, narrow in zip(self.up_names, widths[:0:-1], widths[-2::-1], strict=True):
            self.add_module(name, _up(wide, narrow))
        self.last_layer = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(widths[0], 3, 7))

    @property
    def side_multiple(self) -> int:
        """What the side of a picture must be divisible by."""
        return int(2 ** len(self.down_names))

    def forward(self, images: Tensor, latent: Tensor) -> Tensor:
        """Puts an identity into faces.

        Args:
            images: (N, 3, H, W) RGB as `head` says, sides divisible by `side_multiple`.
            latent: (N, latent_size) or (1, latent_size), of length 1.

        Returns:
            As the images.
        """
        features = self.first_layer(images)
        for name in self.down_names:
            features = self.get_submodule(name)(features)
        for block in self.BottleNeck:
            features = block(features, latent)
        for name in self.up_names:
            features = self.get_submodule(name)(features)
        return apply_head(self.last_layer(features), self.config.head)


def apply_head(values: Tensor, head: Head) -> Tensor:
    """What the last convolution gives, as an image."""
    return (torch.tanh(values) + 1) / 2 if head == "tanh01" else values


def normalise(images: Tensor) -> Tensor:
    """RGB [0, 1] (N, 3, H, W) -> with ImageNet's mean and deviation."""
    return (images - _column(IMAGENET_MEAN, images)) / _column(IMAGENET_STD, images)


def denormalise(images: Tensor) -> Tensor:
    """The way back from `normalise`."""
    return images * _column(IMAGENET_STD, images) + _column(IMAGENET_MEAN, images)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None, None]


def _down(narrow: int, wide: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.BatchNorm2d(wide), nn.ReLU())


def _up(wide: int, narrow: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.Conv2d(wide, narrow, 3, padding=1),
        nn.BatchNorm2d(narrow),
        nn.ReLU(),
    )
