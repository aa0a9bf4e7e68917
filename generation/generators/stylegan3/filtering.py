"""The non-linearity of StyleGAN3: up, leaky rectifier, clamp, down, without the zeros that the definition inserts.

The upper rate has 4 to 16 times the numbers of the map, so it exists for a few channels at a time. Going up is a
transposed convolution of one dimension after the other, and going down a convolution with a stride. On a CPU these
are depthwise convolutions with channels last; on a GPU, where such convolutions are slow, products of blocks of
samples with banded matrices.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from generation.generators.stylegan3.geometry import Resampling

NUMBERS_AT_ONCE = {"cpu": 8_000_000, "cuda": 512_000_000}  # at the upper rate; a CPU's fit its cache
FEWEST_CHANNELS = 8
SAMPLES_PER_BLOCK = 32
HEIGHT, WIDTH = 2, 3


def filtered_leaky_relu(
    x: Tensor, affine: tuple[Tensor, Tensor], filters: tuple[Tensor | None, Tensor | None], resampling: Resampling
) -> Tensor:
    """x * scale + bias, then up, leaky rectifier with gain and clamp, then down.

    Args:
        x: (N, C, H, W), channels last.
        affine: scale (N, C) or (1, C), and bias (C,).
        filters: up (taps,), down (taps,) or (taps, taps), symmetric, float32; None is no filter.
        resampling: factors, padding, gain, slope and clamp.

    Returns:
        (N, C, H', W') of x's dtype, channels last.
    """
    scale, bias = (part.to(x.dtype).reshape(-1, x.shape[1], 1, 1) for part in affine)
    scale = scale.expand(len(x), -1, -1, -1)
    if resampling.up == resampling.down == 1 and filters == (None, None):
        return _clamped(torch.addcmul(bias, x, scale), resampling.clamp)
    at_once = NUMBERS_AT_ONCE["cpu" if x.device.type == "cpu" else "cuda"]
    per_channel = (x.shape[-1] * resampling.up + sum(resampling.padding)) ** 2
    num_channels = max(at_once // per_channel // FEWEST_CHANNELS, 1) * FEWEST_CHANNELS
    num_images = max(at_once // (per_channel * min(num_channels, x.shape[1])), 1)
    rows = []
    for image in range(0, len(x), num_images):
        parts = []
        for channel in range(0, x.shape[1], num_channels):
            at = (slice(image, image + num_images), slice(channel, channel + num_channels))
            arguments = (x[at], scale[at], bias[:, at[1]], filters, resampling)
            # The upper rate is made again for the gradient, not kept.
            is_kept = not torch.is_grad_enabled()
            parts.append(_part(*arguments) if is_kept else checkpoint(_part, *arguments, use_reentrant=False))
        rows.append(parts[0] if len(parts) == 1 else torch.cat(parts, 1))
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _part(
    x: Tensor, scale: Tensor, bias: Tensor, filters: tuple[Tensor | None, Tensor | None], resampling: Resampling
) -> Tensor:
    up_taps, down_taps = filters
    x = torch.addcmul(bias, x, scale)
    # A positive gain passes through the rectifier, so the filter before it takes it along.
    gain = resampling.up * math.sqrt(resampling.gain)
    if up_taps is None:
        up_taps = torch.ones(1, device=x.device)
    for axis in (WIDTH, HEIGHT):
        x = _up(x, up_taps * gain, axis, resampling)
    if torch.is_grad_enabled():
        x = _clamped(F.leaky_relu(x, resampling.slope), resampling.clamp)
    else:
        x = F.leaky_relu_(x, resampling.slope)
        x = x if resampling.clamp is None else x.clamp_(-resampling.clamp, resampling.clamp)
    if down_taps is None:
        return x[:, :, :: resampling.down, :: resampling.down]
    if down_taps.ndim == 2:
        return _depthwise(x, down_taps[None, None], (resampling.down, resampling.down))
    for axis in (WIDTH, HEIGHT):
        x = _down(x, down_taps, axis, resampling.down)
    return x


def _clamped(x: Tensor, clamp: float | None) -> Tensor:
    return x if clamp is None else x.clamp(-clamp, clamp)


def _up(x: Tensor, taps: Tensor, axis: int, resampling: Resampling) -> Tensor:
    """Samples `up` apart, zeros between and around them, filtered."""
    size = x.shape[axis] * resampling.up + sum(resampling.padding) - len(taps) + 1
    if x.device.type != "cpu":
        return banded(x, taps, axis, size, up=resampling.up, low=resampling.padding[0])
    return spread(x, taps, axis, size, up=resampling.up, low=resampling.padding[0])


def _down(x: Tensor, taps: Tensor, axis: int, down: int) -> Tensor:
    if x.device.type != "cpu":
        return banded(x, taps, axis, (x.shape[axis] - len(taps)) // down + 1, down=down)
    return _depthwise(x, _along(taps, axis), (down, 1) if axis == HEIGHT else (1, down))


def spread(x: Tensor, taps: Tensor, axis: int, size: int, *, up: int, low: int) -> Tensor:
    """Goes up along one axis by a transposed depthwise convolution.

    Args:
        x: (N, C, H, W).
        taps: (taps,), symmetric.
        axis: 2 or 3.
        size: of the result along the axis.
        up: factor.
        low: zeros before the first sample, after samples are put `up` apart; negative cuts.
    """
    # Sample i reaches from up * i to up * i + taps - 1; the result begins at `start` of that line.
    start = len(taps) - 1 - low
    skipped = max((start - len(taps)) // up + 1, 0)
    needed = min(-(-(start + size) // up), x.shape[axis])
    x, start = x.narrow(axis, skipped, needed - skipped), start - skipped * up
    whole = (x.shape[axis] - 1) * up + len(taps)
    behind = whole - start - size
    cut = max(min(start, behind), 0)
    weight = _along(taps, axis).to(x.dtype).expand(x.shape[1], 1, -1, -1).contiguous()
    stride, padding = ((up, 1), (cut, 0)) if axis == HEIGHT else ((1, up), (0, cut))
    x = F.conv_transpose2d(x, weight, stride=stride, padding=padding, groups=x.shape[1])
    rest = (cut - start, cut - behind)
    if rest == (0, 0):
        return x
    return F.pad(x, (0, 0, *rest) if axis == HEIGHT else rest)


def banded(x: Tensor, taps: Tensor, axis: int, size: int, *, up: int = 1, down: int = 1, low: int = 0) -> Tensor:
    """Resamples along one axis by products of blocks with a banded matrix.

    Args:
        x: (N, C, H, W), best channels last.
        taps: (taps,), symmetric.
        axis: 2 or 3.
        size: of the result along the axis.
        up, down: factors, one of them 1.
        low: zeros before the first sample, after samples are put `up` apart; negative cuts.
    """
    rows_out, step = SAMPLES_PER_BLOCK * up, SAMPLES_PER_BLOCK * down
    first = -(low // up)
    num_used = (down * (rows_out - 1) + len(taps) - 1 - low) // up - first + 1
    num_used += -num_used % 8  # a whole number of the units that matrix hardware works on
    places = up * (first + torch.arange(num_used, device=x.device)) + low
    places = places - down * torch.arange(rows_out, device=x.device)[:, None]
    is_inside = (places >= 0) & (places < len(taps))
    matrix = torch.where(is_inside, taps[places.clamp(0, len(taps) - 1)], 0.0).to(x.dtype)
    num_blocks = -(-size // rows_out)
    lines = x.permute(0, 2, 3, 1)  # NCHW -> NHWC
    around = (-first, (num_blocks - 1) * step + num_used + first - x.shape[axis])
    lines = F.pad(lines, (0, 0, 0, 0, *around) if axis == HEIGHT else (0, 0, *around))
    num_images, height, width, channels = lines.shape
    flat = lines.reshape(num_images, height, -1) if axis == HEIGHT else lines.reshape(-1, width, channels)
    blocks = flat.unfold(1, num_used, step).transpose(2, 3).reshape(-1, num_used, flat.shape[2])
    made = torch.bmm(matrix.expand(len(blocks), -1, -1), blocks)
    made = made.reshape(len(flat), num_blocks * rows_out, flat.shape[2])[:, :size]
    shape = (num_images, size, width, channels) if axis == HEIGHT else (num_images, height, size, channels)
    return made.reshape(shape).permute(0, 3, 1, 2)


def _along(taps: Tensor, axis: int) -> Tensor:
    return taps.reshape(1, 1, -1, 1) if axis == HEIGHT else taps.reshape(1, 1, 1, -1)


def _depthwise(x: Tensor, kernel: Tensor, stride: tuple[int, int]) -> Tensor:
    weight = kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1).contiguous()
    return F.conv2d(x, weight, stride=stride, groups=x.shape[1])
