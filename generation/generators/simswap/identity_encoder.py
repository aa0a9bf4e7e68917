"""SimSwap's identity encoder: a residual network of the ArcFace kind with squeeze and excitation.

Deng et al. 2019, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition"; Hu et al. 2018,
"Squeeze-and-Excitation Networks". The names of the weights are those of the published file.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

SQUEEZE = 16


class Excitation(nn.Module):
    """Scales each channel by what the means of all channels say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // SQUEEZE, 1)
        self.fc = nn.Sequential(nn.Linear(channels, inner), nn.PReLU(), nn.Linear(inner, channels), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        scale: Tensor = self.fc(features.mean((2, 3)))
        return features * scale[..., None, None]


class IdentityBlock(nn.Module):
    """A residual block; its one slope serves both activations."""

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(num_in)
        self.conv1 = nn.Conv2d(num_in, num_in, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_in)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(num_in, num_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_out)
        self.se = Excitation(num_out)
        self.downsample: nn.Module | None = None
        if stride != 1 or num_in != num_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(num_in, num_out, 1, stride=stride, bias=False), nn.BatchNorm2d(num_out)
            )

    def forward(self, features: Tensor) -> Tensor:
        inner = self.prelu(self.bn1(self.conv1(self.bn0(features))))
        inner = self.se(self.bn2(self.conv2(inner)))
        shortcut = features if self.downsample is None else self.downsample(features)
        result: Tensor = self.prelu(inner + shortcut)
        return result


class SwapIdentity(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The network; the default configuration is the published one.

    Args:
        layers: blocks of each of the four stages.
        widths: their channels.
        side_px: of the picture.
        latent_size: of the identity.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 23, 3),
        widths: Sequence[int] = (64, 128, 256, 512),
        side_px: int = 112,
        latent_size: int = 512,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU()
        self.maxpool = nn.MaxPool2d(2, 2)
        before, side = widths[0], (side_px - 2) // 2
        for number, (count, width) in enumerate(zip(layers, widths, strict=True), start=1):
            stride = 1 if number == 1 else 2
            blocks = [IdentityBlock(before, width, stride)]
            blocks += [IdentityBlock(width, width, 1) for _ in range(count - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            before, side = width, -(-side // stride)
        self.stages = [f"layer{number}" for number in range(1, len(widths) + 1)]
        self.bn2 = nn.BatchNorm2d(before)
        self.fc = nn.Linear(before * side * side, latent_size)
        self.bn3 = nn.BatchNorm1d(latent_size)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds faces.

        Args:
            images: (N, 3, side_px, side_px) RGB with ImageNet's mean and deviation.

        Returns:
            (N, latent_size), not of length 1.
        """
        features = self.maxpool(self.prelu(self.bn1(self.conv1(images))))
        for name in self.stages:
            features = self.get_submodule(name)(features)
        embedding: Tensor = self.bn3(self.fc(torch.flatten(self.bn2(features), 1)))
        return embedding


def shrink_for_identity(images: Tensor, side_px: int, *, mode: str = "nearest") -> Tensor:
    """Crops (N, 3, S, S) as the encoder was trained to see them: without averaging, every so many pixels one."""
    if mode == "nearest":
        return functional.interpolate(images, size=(side_px, side_px), mode="nearest")
    return functional.interpolate(images, size=(side_px, side_px), mode=mode, align_corners=False)
