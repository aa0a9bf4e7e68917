"""Building blocks of MCNET (Hong and Xu 2023, "Implicit Identity Representation Conditioned Memory Compensation Network
for Talking Head Video Generation"), and the same blocks folded for inference.

The names in a block are those of the published checkpoint. Tensors are (B, C, H, W).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from generation.generators.convolution import TiledConv

HOURGLASS_LEVELS = 5
REDUCTION = 4  # of the picture before keypoints and motion are looked for


class ConvBlock(nn.Module):
    """Convolution of the same size, batch norm, ReLU."""

    def __init__(self, num_in: int, num_out: int, kernel_px: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, kernel_px, padding=kernel_px // 2)
        self.norm: nn.Module = nn.BatchNorm2d(num_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_out, H, W)."""
        return F.relu(self.norm(self.conv(x)))


class DownBlock(ConvBlock):
    """A `ConvBlock`, then half the size by averaging."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_out, H/2, W/2)."""
        return F.avg_pool2d(super().forward(x), 2)


class UpBlock(ConvBlock):
    """Twice the size by repeating pixels, then a `ConvBlock`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_out, 2H, 2W)."""
        return super().forward(F.interpolate(x, scale_factor=2, mode="nearest"))


class ResBlock(nn.Module):
    """Norm and ReLU before each of two convolutions, added to what came in."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self.conv1: nn.Module = nn.Conv2d(num, num, 3, padding=1)
        self.conv2: nn.Module = nn.Conv2d(num, num, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(num)
        self.norm2: nn.Module = nn.BatchNorm2d(num)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        return torch.add(x, y)


class Hourglass(nn.Module):
    """Down five times and up again, each level joined by the one of its size on the way down.

    Attributes:
        num_out: channels of the result; the last of them are the input itself.
    """

    def __init__(self, base: int, num_in: int, most: int) -> None:
        super().__init__()
        widths = [min(most, base * 2**level) for level in range(HOURGLASS_LEVELS + 1)]
        down = [
            DownBlock(num_in if level == 0 else widths[level], widths[level + 1]) for level in range(len(widths) - 1)
        ]
        up = [
            UpBlock((1 if level == HOURGLASS_LEVELS - 1 else 2) * widths[level + 1], widths[level])
            for level in reversed(range(HOURGLASS_LEVELS))
        ]
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.down_blocks, self.decoder.up_blocks = nn.ModuleList(down), nn.ModuleList(up)
        self.num_out = base + num_in

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_out, H, W); H and W are multiples of 32."""
        seen = [x]
        for block in self.encoder.down_blocks:  # type: ignore[union-attr]
            seen.append(block(seen[-1]))
        y = seen.pop()
        for block in self.decoder.up_blocks:  # type: ignore[union-attr]
            y = torch.cat([block(y), seen.pop()], 1)
        return y


class Reducer(nn.Module):
    """A quarter of the size, after a Gaussian that keeps fine detail from aliasing.

    Buffers:
        weight: (3, 1, K, K), the Gaussian for each colour.
    """

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        sigma = (REDUCTION - 1) / 2
        self.reach = round(4 * sigma)
        at = torch.arange(-self.reach, self.reach + 1, dtype=torch.float32)
        kernel = torch.exp(-(at[:, None] ** 2 + at**2) / (2 * sigma**2))
        self.register_buffer("weight", (kernel / kernel.sum()).expand(3, 1, -1, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H/4, W/4)."""
        return F.conv2d(x, self.weight, stride=REDUCTION, padding=self.reach, groups=3)


def grid(height: int, width: int, like: Tensor) -> Tensor:
    """Places of the pixels, (H, W, 2), x before y; -1 and 1 are the centres of the outermost pixels."""
    y, x = (torch.linspace(-1, 1, size, device=like.device, dtype=like.dtype) for size in (height, width))
    return torch.stack([x[None].expand(height, -1), y[:, None].expand(-1, width)], -1)


class PhasesUp(nn.Module):
    """An `UpBlock` without the large picture: four 2x2 kernels on the small one, 4/9 of the arithmetic.

    A pixel of the large picture sees only 2x2 pixels of the small one, some of them twice; the kernel's rows and
    columns that fall on the same pixel are added beforehand, for each of the four places in a group of 2x2.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        kernel = weight.detach()
        first, middle, last = kernel.unbind(2)
        rows = ((first, middle + last), (first + middle, last))
        phases = []
        for pair in rows:
            left, centre, right = torch.stack(pair, 2).unbind(3)
            phases += [torch.stack([left, centre + right], 3), torch.stack([left + centre, right], 3)]
        self.num_out = len(kernel)
        self.weight = nn.Parameter(torch.cat(phases), requires_grad=False)
        self.bias = nn.Parameter(bias.detach().repeat(4), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_out, 2H, 2W)."""
        height, width = x.shape[2:]
        seen = F.conv2d(x, self.weight, self.bias, padding=1)
        result = x.new_empty((len(x), self.num_out, 2 * height, 2 * width)).to(memory_format=_format_of(x))
        for number, part in enumerate(torch.split(seen, self.num_out, 1)):
            down, right = divmod(number, 2)
            result[:, :, down::2, right::2] = part[:, :, down : down + height, right : right + width]
        return F.relu_(result)


def _format_of(x: Tensor) -> torch.memory_format:
    is_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if is_last else torch.contiguous_format


def fold(module: nn.Module, *, is_tiled: bool) -> None:
    """Rewrites all blocks below a module for inference, in place: the same function with less arithmetic.

    Batch norms after a convolution go into its weights, and `UpBlock`s become `PhasesUp`.

    Args:
        module: of blocks in evaluation.
        is_tiled: whether the convolutions of residual blocks are `TiledConv`.
    """
    for name, child in list(module.named_children()):
        if isinstance(child, ConvBlock) and isinstance(child.norm, nn.BatchNorm2d):
            child.conv, child.norm = fuse_conv_bn_eval(child.conv, child.norm), nn.Identity()
            if isinstance(child, UpBlock):
                setattr(module, name, PhasesUp(*weights_of(child.conv)))
        elif isinstance(child, ResBlock):
            child.conv1 = fuse_conv_bn_eval(child.conv1, child.norm2)  # type: ignore[type-var,arg-type]
            child.norm2 = nn.Identity()
            if is_tiled:
                child.conv1, child.conv2 = (TiledConv(*weights_of(conv)) for conv in (child.conv1, child.conv2))
        else:
            fold(child, is_tiled=is_tiled)


def weights_of(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer that has both."""
    weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    return weight, bias


def gaussians(points: Tensor, variance: float, places: Tensor) -> Tensor:
    """exp(-d^2 / 2 variance) of the distance between points (B, K, 2) and places (H, W, 2): (B, K, H, W)."""
    squared = (places - points[:, :, None, None]).square().sum(-1)
    return torch.exp(squared * (-0.5 / variance))


def fan_in_scale(num_in: int, kernel_px: int = 1) -> float:
    """What an equalised layer's stored weights are multiplied by (Karras et al. 2018)."""
    return 1 / math.sqrt(num_in * kernel_px**2)
