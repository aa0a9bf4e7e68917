"""The layers of StyleGANEX as they are stored: names and shapes of the published checkpoints.

Yang et al. 2023, "StyleGANEX: StyleGAN-Based Manipulation Beyond Cropped Aligned Faces". What runs on x2 once for a
clip (the encoder's style codes) runs here; layers of the generator and the fusions hold weights only, which
`generation.generators.styleganex.frames` turns into ordinary convolutions for a clip.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SE_SHARE = 16  # channels for each of the squeeze's
HEAD_SLOPE = 0.01
LABEL_SLOPE = 0.2
NORM_EPS = 1e-5
DEMODULATION_EPS = 1e-8
RAMP = (1.0, 3.0, 3.0, 1.0)  # of StyleGAN2's filter
SMALL_RAMP = (1.0, 2.0, 1.0)  # the same on a grid that is not enlarged


def outer_filter(ramp: tuple[float, ...], gain: float) -> Tensor:
    """The two-dimensional filter of a ramp, whose sum is the gain."""
    one = torch.tensor(ramp)
    return torch.outer(one, one) * (gain / one.sum() ** 2)


class EqualLinear(nn.Module):
    """A linear layer whose stored weights are divided by the root of the number of inputs."""

    def __init__(self, num_in: int, num_out: int, *, bias_start: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in))
        self.bias = nn.Parameter(torch.full((num_out,), bias_start))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


class SqueezeExcite(nn.Module):
    """Weighs channels by their means over the picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(channels // SE_SHARE, 1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.fc2 = nn.Conv2d(squeezed, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(means))))


class ResidualBlock(nn.Module):
    """A block of the encoder's body (IR-SE)."""

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        if num_in != num_out:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(num_in, num_out, 1, stride, bias=False), nn.BatchNorm2d(num_out)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(num_in),
            nn.Conv2d(num_in, num_out, 3, 1, 1, bias=False),
            nn.PReLU(num_out),
            nn.Conv2d(num_out, num_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(num_out),
            SqueezeExcite(num_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        is_wider = hasattr(self, "shortcut_layer")
        shortcut = self.shortcut_layer(x) if is_wider else x[..., :: self.stride, :: self.stride]
        return torch.as_tensor(self.res_layer(x) + shortcut)


class StyleHead(nn.Module):
    """One style code out of a level of the feature pyramid: (B, C, h, w) -> (B, C)."""

    def __init__(self, channels: int, num_convs: int, *, has_max_pooling: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(num_convs):
            layers += [nn.Conv2d(channels, channels, 3, 2, 1), nn.LeakyReLU(HEAD_SLOPE)]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(channels, channels)
        self.has_max_pooling = has_max_pooling

    def forward(self, x: Tensor) -> Tensor:
        found = self.convs(x)
        pooled = found.amax((2, 3)) if self.has_max_pooling else found.mean((2, 3))
        return torch.as_tensor(self.linear(pooled))


class FusionNorm(nn.Module):
    """Holds the linear layer that gives a fusion's scales and shifts."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.style = nn.Linear(channels, 4 * channels)


class Fusion(nn.Module):
    """Weights that merge a feature of the encoder into a stage of the generator, where a mask says.

    Args:
        num_skip, channels: of the encoder's feature and of the stage.
        style_size: of the editing vector.
        num_hidden: layers of the mask's network; 0 has no mask.
        has_rgb: whether the picture so far is merged too.
    """

    def __init__(self, num_skip: int, channels: int, style_size: int, num_hidden: int, *, has_rgb: bool) -> None:
        super().__init__()
        self.transform = nn.Sequential(nn.Conv2d(num_skip, channels, 3, 1, 1), nn.LeakyReLU(HEAD_SLOPE))
        self.fusion_out = nn.Conv2d(2 * channels, channels, 3, 1, 1)
        if has_rgb:
            self.fusion_skip = nn.Conv2d(3 + channels, 3, 3, 1, 1)
        if num_hidden:
            layers: list[nn.Module] = [nn.Linear(style_size, channels), nn.LeakyReLU(LABEL_SLOPE)]
            for _ in range(num_hidden):
                layers += [nn.Linear(channels, channels), nn.LeakyReLU(LABEL_SLOPE)]
            self.linear = nn.Sequential(*layers)
            self.norm = FusionNorm(channels)
            self.conv = nn.Conv2d(2 * channels, 1, 3, 1, 1)

    @property
    def has_mask(self) -> bool:
        """Whether it has a network for masks."""
        return hasattr(self, "linear")


class _Filter(nn.Module):
    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", outer_filter(RAMP, 4.0))


class ModulatedConv(nn.Module):
    """Weights of a convolution that a style scales.

    Args:
        num_in, num_out: channels.
        side: of the kernel.
        style_size: of the style.
        is_up: whether it enlarges, or would on StyleGAN's own grid.
        is_dilated: whether it works on the grid of the first layers.
    """

    blur_weight: Tensor

    def __init__(
        self, num_in: int, num_out: int, side: int, style_size: int, *, is_up: bool = False, is_dilated: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, num_out, num_in, side, side))
        if is_up and is_dilated:
            self.register_buffer("blur_weight", outer_filter(SMALL_RAMP, 1.0)[None, None])
        if is_up:
            self.blur = _Filter()
        self.modulation = EqualLinear(style_size, num_in, bias_start=1.0)

    def modulated(self, style: Tensor, *, demodulate: bool = True) -> Tensor:
        """The kernels for a style (style_size,): (out, in, k, k)."""
        weight = self.weight[0]
        scaled = torch.as_tensor(weight * self.modulation(style)[:, None, None] / math.sqrt(weight[0].numel()))
        if not demodulate:
            return scaled
        return scaled.mul(torch.rsqrt(scaled.square().sum((1, 2, 3), keepdim=True) + DEMODULATION_EPS))


class _NoiseStrength(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class _Bias(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class StyledConv(nn.Module):
    """A modulated convolution with its bias; the strength of the noise is stored, noise is not added on this path."""

    def __init__(
        self, num_in: int, num_out: int, style_size: int, *, is_up: bool = False, is_dilated: bool = False
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv(num_in, num_out, 3, style_size, is_up=is_up, is_dilated=is_dilated)
        self.noise = _NoiseStrength()
        self.activate = _Bias(num_out)


class ToRgb(nn.Module):
    """A modulated convolution to the picture."""

    blur_weight: Tensor

    def __init__(self, num_in: int, style_size: int, *, is_up: bool = True, is_dilated: bool = False) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if is_up and is_dilated:
            self.register_buffer("blur_weight", outer_filter(SMALL_RAMP, 1.0)[None, None])
        if is_up:
            self.upsample = _Filter()
        self.conv = ModulatedConv(num_in, 3, 1, style_size)
