"""StyleGANEX for the frames of one clip: all that does not depend on the frame is done, what is left is convolutions.

- Styles, and so the generator's kernels, are constant for a clip: kernels are modulated once, the gain of the
  activations is part of them.
- Of the encoder only what the generator reads is run; batch norms after a convolution are folded into it.
- A fusion's instance norm, scale and shift are folded into the kernel of its mask, frame by frame, which is done as
  nine products of one pixel that are then moved to their places; no normalised features are made.
- Filters of enlarged features are separable.
- On a processor 3x3 convolutions use `generation.generators.convolution`; on a GPU they are left to its library.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from generation.generators.convolution import Conv, TiledConv, fold_norm
from generation.generators.styleganex.layers import HEAD_SLOPE, NORM_EPS, RAMP, SMALL_RAMP, outer_filter

GENERATOR_SLOPE = 0.2
GAIN = math.sqrt(2)
FEWEST_CHANNELS = 128  # of a tiled convolution; with fewer the transforms take more than they save
NUM_BLOCKS = 21  # of the body that the generator reads
TAPS = {3: "c128", 7: "c1", 11: "c21", 16: "c22", 21: "c2"}
FUSED = ("c2", "c2", "c22", "c21", "c1", "c128", "c256")


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Conv:
    return Conv(*fold_norm(conv, norm), stride=conv.stride[0])


class FoldedBlock(nn.Module):
    """A block of the body. Its first norm is before a padded convolution, into which only its scale could be folded."""

    scale: Tensor
    shift: Tensor

    def __init__(self, block: Any) -> None:
        super().__init__()
        norm, conv, slopes, second, after, self.excite = block.res_layer
        self.stride = block.stride
        self.shortcut = _folded(*block.shortcut_layer) if hasattr(block, "shortcut_layer") else None
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        shift = norm.bias.double() - norm.running_mean.double() * scale
        self.register_buffer("scale", scale.to(conv.weight.dtype)[:, None, None])
        self.register_buffer("shift", shift.to(conv.weight.dtype)[:, None, None])
        self.first = Conv(conv.weight, None)
        self.slopes = slopes
        self.second = _folded(second, after)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[..., :: self.stride, :: self.stride] if self.shortcut is None else self.shortcut(x)
        normalised = torch.addcmul(self.shift, x, self.scale)
        return torch.as_tensor(self.excite(self.second(self.slopes(self.first(normalised)))) + shortcut)


class FrameEncoder(nn.Module):
    """The features of a frame that the generator reads, and its first feature `f`."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        conv, norm, slopes = encoder.input_layer
        self.input_layer = nn.Sequential(_folded(conv, norm), slopes)
        self.body = nn.Sequential(*(FoldedBlock(block) for block in encoder.body[:NUM_BLOCKS]))
        self.featlayer = Conv(encoder.featlayer.weight, encoder.featlayer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        features = self.input_layer(x)
        taps = {"c256": features}
        for number, block in enumerate(self.body, 1):
            features = block(features)
            if number in TAPS:
                taps[TAPS[number]] = features
        return self.featlayer(torch.cat([taps["c21"], taps["c22"], taps["c2"]], 1)), taps


class Activated(nn.Module):
    """A convolution of the generator and its activation, whose gain the kernels have."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu_(self.conv(x), GENERATOR_SLOPE)


class DilatedUp(nn.Module):
    """What enlarging is on a grid that stays: a filter, then a convolution over its result with its border ring."""

    kernel: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, dilation: int) -> None:
        super().__init__()
        # The kernel acts flipped, as in a transposed convolution.
        self.conv, self.dilation = Conv(weight.flip(2, 3), bias, dilation=dilation, padding=0), dilation
        self.register_buffer("kernel", outer_filter(SMALL_RAMP, 1.0).to(weight)[None, None])

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.expand(x.shape[1], -1, -1, -1)
        blurred = functional.conv2d(x, kernel, None, 1, 2 * self.dilation, self.dilation, x.shape[1])
        return torch.as_tensor(self.conv(blurred))


class RealUp(nn.Module):
    """Enlarges by two: a transposed convolution, then the filter, one axis after the other."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().transpose(0, 1).contiguous())
        self.register_buffer("bias", bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        large = functional.conv_transpose2d(x, self.weight, stride=2)
        large = functional.pad(large, (1, 1, 1, 1))
        large = _ramped(_ramped(large, 2), 3)
        return large.add_(self.bias[:, None, None])


def _ramped(x: Tensor, axis: int) -> Tensor:
    """The ramp over four neighbours along an axis, with a gain of two; three values shorter."""
    length = x.shape[axis] - 3
    parts = [x.narrow(axis, at, length) for at in range(4)]
    inner = (parts[1] + parts[2]).mul_(RAMP[1] / 4)
    return inner.add_(parts[0], alpha=RAMP[0] / 4).add_(parts[3], alpha=RAMP[3] / 4)


class PictureLayer(nn.Module):
    """The picture of a stage: its own part and the picture before, filtered (dilation > 0) or enlarged (0)."""

    kernel: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, dilation: int | None) -> None:
        super().__init__()
        self.conv, self.dilation = Conv(weight, bias.flatten()), dilation
        ramp, gain = (SMALL_RAMP, 1.0) if dilation else (RAMP, 4.0)
        self.register_buffer("kernel", outer_filter(ramp, gain).to(weight).expand(3, 1, -1, -1).contiguous())

    def forward(self, x: Tensor, picture: Tensor | None) -> Tensor:
        own: Tensor = self.conv(x)
        if picture is None:
            return own
        if self.dilation:
            filtered = functional.conv2d(picture, self.kernel, None, 1, self.dilation, self.dilation, 3)
        else:
            filtered = functional.conv_transpose2d(picture, self.kernel, None, 2, 1, 0, 3)
        return own + filtered


class FusionMask(nn.Module):
    """Where the encoder's feature is used: (B, 1, H, W), from 0 to below 1."""

    label: Tensor
    gamma: Tensor
    beta: Tensor
    taps: Tensor
    bias: Tensor

    def __init__(self, fusion: Any, edit: Tensor) -> None:
        super().__init__()
        label = fusion.linear(edit)
        gamma, beta = fusion.norm.style(label).float().chunk(2)
        self.register_buffer("label", label.detach().clone())
        self.register_buffer("gamma", gamma.detach().clone())
        self.register_buffer("beta", beta.detach().clone())
        # (1, 2 C, 3, 3) -> (9, 2 C): one product for each place of the kernel
        self.register_buffer("taps", fusion.conv.weight.detach()[0].flatten(1).T.float().contiguous())
        self.register_buffer("bias", fusion.conv.bias.detach().clone())

    def scale_and_shift(self, h: Tensor, difference: Tensor) -> tuple[Tensor, Tensor]:
        """What normalises and modulates the features [h, difference]: two of float32 (B, 2 C)."""
        both = [torch.var_mean(part.float(), (2, 3), correction=0) for part in (h, difference)]
        variance, mean = (torch.cat(parts, 1) for parts in zip(*both, strict=True))
        scale = self.gamma * torch.rsqrt(variance + NORM_EPS)
        return scale, self.beta - scale * mean

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        difference = (h - x).abs_()
        scale, shift = self.scale_and_shift(h, difference)
        kernels = (self.taps * scale[:, None]).to(h.dtype)
        offsets = shift @ self.taps.T
        channels = h.shape[1]
        num, _, height, width = h.shape
        maps = torch.bmm(kernels[..., :channels], h.flatten(2))
        maps = torch.baddbmm(maps, kernels[..., channels:], difference.flatten(2)).float() + offsets[..., None]
        return torch.tanh(torch.relu(self._gathered(maps.view(num, 9, height, width)))).to(h.dtype)

    def _gathered(self, maps: Tensor) -> Tensor:
        """Adds nine maps, each moved to its place of the kernel; outside the picture they are zero."""
        height, width = maps.shape[2:]
        padded = functional.pad(maps, (1, 1, 1, 1))
        places = [(row, column) for row in range(3) for column in range(3)]
        moved = [padded[:, at, row : row + height, column : column + width] for at, (row, column) in enumerate(places)]
        return torch.stack(moved, 1).sum(1, keepdim=True) + self.bias


class FrameFusion(nn.Module):
    """Merges a feature of the encoder into a stage's input and, in some networks, into the picture so far."""

    def __init__(self, fusion: Any, edit: Tensor | None) -> None:
        super().__init__()
        self.transform = Conv(fusion.transform[0].weight, fusion.transform[0].bias)
        self.mask = FusionMask(fusion, edit) if edit is not None and fusion.has_mask else None
        self.fusion_out = Conv(fusion.fusion_out.weight, fusion.fusion_out.bias)
        has_rgb = hasattr(fusion, "fusion_skip")
        self.fusion_skip = Conv(fusion.fusion_skip.weight, fusion.fusion_skip.bias) if has_rgb else None

    def forward(self, h: Tensor, skip: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.leaky_relu_(self.transform(skip), HEAD_SLOPE)
        if self.mask is not None:
            x = x * self.mask(h, x)
        merged = self.fusion_out(torch.cat([h, x], 1))
        return merged, picture if self.fusion_skip is None else self.fusion_skip(torch.cat([picture, x], 1))


class FrameNetwork(nn.Module):
    """The network for one clip: frames RGB (B, 3, H, W) in [-1, 1], sides multiples of 8, to edited pictures.

    Args:
        encoder, decoder: of `generation.generators.styleganex.network`.
        latents: (styles, S) of the person.
        edit: (styles, S), the editing vector times its factor; None has neither vector nor masks.
        use_skip: whether features of the encoder are fused.
    """

    def __init__(self, encoder: Any, decoder: Any, latents: Tensor, edit: Tensor | None, *, use_skip: bool) -> None:
        super().__init__()
        styles = latents if edit is None else latents + edit
        self.encoder = FrameEncoder(encoder)
        self.conv1 = Activated(Conv(*_kernels(decoder.conv1, styles[0]), dilation=8))
        self.to_rgb1 = _picture_layer(decoder.to_rgb1, styles[1], None)
        self.convs, self.to_rgbs, self.fusions = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stage, to_rgb in enumerate(decoder.to_rgbs):
            dilation = 4 >> stage
            up, after = decoder.convs[2 * stage : 2 * stage + 2]
            kernels = _kernels(up, styles[2 * stage + 1])
            self.convs.append(Activated(DilatedUp(*kernels, dilation) if dilation else RealUp(*kernels)))
            plain = Conv(*_kernels(after, styles[2 * stage + 2]), dilation=max(dilation, 1))
            self.convs.append(Activated(plain))
            self.to_rgbs.append(_picture_layer(to_rgb, styles[2 * stage + 3], dilation))
        for stage, fusion in enumerate(encoder.fusion if use_skip else ()):
            self.fusions.append(FrameFusion(fusion, None if edit is None else edit[2 * stage + 1]))

    def forward(self, frames: Tensor) -> Tensor:
        """(B, 3, 4 H, 4 W) for the nominal size 1024, not clamped."""
        feature, taps = self.encoder(frames.contiguous(memory_format=torch.channels_last))
        h = self.conv1(feature)
        picture = self.to_rgb1(h, None)
        for stage, to_rgb in enumerate(self.to_rgbs):
            if stage < len(self.fusions):
                h, picture = self.fusions[stage](h, taps[FUSED[stage]], picture)
            h = self.convs[2 * stage + 1](self.convs[2 * stage](h))
            picture = to_rgb(h, picture)
        return torch.as_tensor(picture)

    def tiled(self) -> FrameNetwork:
        """Does 3x3 convolutions in tiles from now on; for processors, float32."""
        for module in list(self.modules()):
            for name, child in module.named_children():
                if isinstance(child, Conv) and _is_worth_tiling(child):
                    made = TiledConv(
                        child.weight, child.bias, dilation=child.dilation, memory_format=torch.channels_last
                    )
                    setattr(module, name, made)
        return self


def _is_worth_tiling(conv: Conv) -> bool:
    """Whether a convolution can be done in tiles and has enough channels for it."""
    keeps_size = conv.stride == 1 and conv.padding == conv.dilation
    return keeps_size and conv.weight.shape[2:] == (3, 3) and min(conv.weight.shape[:2]) >= FEWEST_CHANNELS


def _kernels(layer: Any, style: Tensor) -> tuple[Tensor, Tensor]:
    """Kernels and bias of a convolution of the generator, with the gain of the activation after it."""
    return layer.conv.modulated(style) * GAIN, layer.activate.bias * GAIN


def _picture_layer(layer: Any, style: Tensor, dilation: int | None) -> PictureLayer:
    return PictureLayer(layer.conv.modulated(style, demodulate=False), layer.bias, dilation)
