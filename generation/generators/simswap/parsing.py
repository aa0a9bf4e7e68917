"""A network that names the parts of a face: BiSeNet on ResNet-18, 19 classes of CelebAMask-HQ.

Yu et al. 2018, "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation"; He et al. 2016, "Deep
Residual Learning for Image Recognition". The names of the weights are those of the published file.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

SIDE_PX = 512
NUM_CLASSES = 19
# Skin, both brows, both eyes, glasses, nose, both lips; ears, hair, neck, clothes and hats are not among them.
FACE_CLASSES = (1, 2, 3, 4, 5, 6, 10, 12, 13)
MOUTH_CLASS = 11  # what is seen in an open mouth


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, num_in: int, num_out: int, size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, size, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(num_out)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(features)))


class ParsingBlock(nn.Module):
    """The basic block of ResNet-18."""

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_out)
        self.downsample: nn.Module | None = None
        if stride != 1 or num_in != num_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(num_in, num_out, 1, stride=stride, bias=False), nn.BatchNorm2d(num_out)
            )

    def forward(self, features: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(features)))))
        return torch.relu(inner + (features if self.downsample is None else self.downsample(features)))


class Backbone(nn.Module):
    """ResNet-18 without its classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._stage(width, width, 1)
        self.layer2 = self._stage(width, 2 * width, 2)
        self.layer3 = self._stage(2 * width, 4 * width, 2)
        self.layer4 = self._stage(4 * width, 8 * width, 2)

    @staticmethod
    def _stage(num_in: int, num_out: int, stride: int) -> nn.Sequential:
        return nn.Sequential(ParsingBlock(num_in, num_out, stride), ParsingBlock(num_out, num_out, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at an eighth, a sixteenth and a thirty-second of the size."""
        features = self.layer1(self.maxpool(torch.relu(self.bn1(self.conv1(images)))))
        eighth = self.layer2(features)
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class AttentionRefinement(nn.Module):
    """Weighs channels by their means."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv = ConvNorm(num_in, num_out)
        self.conv_atten = nn.Conv2d(num_out, num_out, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(num_out)

    def forward(self, features: Tensor) -> Tensor:
        inner: Tensor = self.conv(features)
        weight = torch.sigmoid(self.bn_atten(self.conv_atten(inner.mean((2, 3), keepdim=True))))
        return inner * weight


class ContextPath(nn.Module):
    """The backbone, and its two coarsest levels brought up to an eighth of the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 2 * width
        self.resnet = Backbone(width)
        self.arm16 = AttentionRefinement(4 * width, inner)
        self.arm32 = AttentionRefinement(8 * width, inner)
        self.conv_head32 = ConvNorm(inner, inner)
        self.conv_head16 = ConvNorm(inner, inner)
        self.conv_avg = ConvNorm(8 * width, inner, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        eighth, sixteenth, thirty_second = self.resnet(images)
        mean = self.conv_avg(thirty_second.mean((2, 3), keepdim=True))
        coarse = self.conv_head32(_enlarge(self.arm32(thirty_second) + mean, sixteenth))
        return eighth, self.conv_head16(_enlarge(self.arm16(sixteenth) + coarse, eighth))


class FeatureFusion(nn.Module):
    """Joins the two paths."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convblk = ConvNorm(channels, channels, 1)
        self.conv1 = nn.Conv2d(channels, channels // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(channels // 4, channels, 1, bias=False)

    def forward(self, fine: Tensor, context: Tensor) -> Tensor:
        joined: Tensor = self.convblk(torch.cat([fine, context], 1))
        weight = torch.sigmoid(self.conv2(torch.relu(self.conv1(joined.mean((2, 3), keepdim=True)))))
        return joined * weight + joined


class Output(nn.Module):
    """Features to classes."""

    def __init__(self, num_in: int, inner: int, num_classes: int) -> None:
        super().__init__()
        self.conv = ConvNorm(num_in, inner)
        self.conv_out = nn.Conv2d(inner, num_classes, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        classes: Tensor = self.conv_out(self.conv(features))
        return classes


class FaceParsing(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The network; the default configuration is the published one.

    Args:
        width: channels of the finest level, 64 in the published network.
        num_classes: told apart.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, width: int = 64, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.cp = ContextPath(width)
        self.ffm = FeatureFusion(4 * width)
        self.conv_out = Output(4 * width, 4 * width, num_classes)
        # Used in training only; published, so that they are loaded strictly.
        self.conv_out16 = Output(2 * width, width, num_classes)
        self.conv_out32 = Output(2 * width, width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Names the parts of faces.

        Args:
            images: (N, 3, H, W) RGB with ImageNet's mean and deviation, sides divisible by 32; trained on 512 px.

        Returns:
            Logits (N, num_classes, H, W).
        """
        logits = self.conv_out(self.ffm(*self.cp(images)))
        return functional.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=True)


def _enlarge(features: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(features, size=like.shape[2:], mode="nearest")
