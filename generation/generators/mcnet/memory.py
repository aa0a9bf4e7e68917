"""MCNET's memory unit: a learnt bank of face features, queried for what the source picture does not show.

The bank goes through a style convolution (Karras et al. 2020, "Analyzing and Improving the Image Quality of
StyleGAN") and a dynamic convolution (Chen et al. 2020, "Dynamic Convolution: Attention over Convolution Kernels")
into keys and values; the warped features query them by attention.

The 1x1 convolutions after the projection are multiplied into it, which is exact: f = P c + p, so that query and
difference are (W P) c + (W p + b), and W (f - r) takes W to the 1024 places of the memory instead of all pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from torch import Tensor, nn

from generation.generators.convolution import TiledConv
from generation.generators.mcnet.layers import fan_in_scale, weights_of

NUM_KERNELS = 4
KERNEL_TEMPERATURE = 34  # of the softmax over the kernels; not stored in the checkpoint
ATTENTION_SCALE = 1 / 4
STYLE_WIDTH = 128
EPSILON = 1e-8


@dataclass(frozen=True)
class Recalled:
    """What one call takes out of the memory; M = m * m places.

    Attributes:
        style: (B, C), the code that modulates the memory.
        memory: (B, C, m, m), after the style convolution.
        mix: (B, 4), shares of the kernels.
        key, value: (B, M, C).
    """

    style: Tensor
    memory: Tensor
    mix: Tensor
    key: Tensor
    value: Tensor


class MemoryUnit(nn.Module):
    """The published `mbUnit`, which serves three sizes of features.

    Args:
        num_keypoints: K; their places are part of the style code.
        channels: C, of the memory.
        memory_px: m, side of the memory.
        sizes: side of the features in px -> half their channels.
    """

    def __init__(self, num_keypoints: int, channels: int, memory_px: int, sizes: dict[int, int]) -> None:
        super().__init__()
        self.channels, self.sides = channels, tuple(sizes)
        self.mb = nn.Parameter(torch.randn(1, channels, memory_px, memory_px))
        for side, half in sizes.items():
            self.add_module(f"feat_forward_proj_{side}", nn.Conv2d(half, channels, 1))
            self.add_module(f"conv_{side}", nn.Conv2d(channels, half, 3, padding=1))
            self.add_module(f"norm_{side}", nn.InstanceNorm2d(half, affine=True))
        self.query_conv = nn.Conv2d(channels, channels, 1)
        self.diff_conv = nn.Conv2d(channels, channels, 1)
        self.conv_kv = DynamicConv(channels, 2 * channels)
        self.style_route = nn.Sequential(
            nn.Linear(channels + 2 * num_keypoints, STYLE_WIDTH), nn.ReLU(), nn.Linear(STYLE_WIDTH, channels)
        )
        self.styleconv = StyleConv(channels)

    def use_tiles(self) -> None:
        """From now on does its plain 3x3 convolutions by `TiledConv`."""
        for side in self.sides:
            self.set_submodule(f"conv_{side}", TiledConv(*weights_of(self.get_submodule(f"conv_{side}"))))
        self.styleconv.modulated_conv.use_tiles()

    def forward(self, x: Tensor, points: Tensor, noise: Tensor | None = None) -> Tensor:
        """The features, their odd channels completed from the memory: the same shape.

        Args:
            x: (B, 2 * half, n, n), warped.
            points: (1 or B, K, 2), keypoints of the source picture.
            noise: (B, 1, m, m), standard normal; None is none.
        """
        side, passed, asking = x.shape[-1], x[:, 0::2], x[:, 1::2].flatten(2).transpose(1, 2)
        f, query, difference = self.projections(asking, side)
        recalled = self.recall(self.mean_of(asking, side), points, noise)
        key, value = recalled.key, F.linear(recalled.value, self.diff_conv.weight.flatten(1))
        found = _attend(F.relu(query), key, value)
        completed = f + F.relu_(difference - found)
        image = completed.transpose(1, 2).reshape(len(x), -1, side, side)
        image = F.relu(self.get_submodule(f"norm_{side}")(self.get_submodule(f"conv_{side}")(image)))
        # The two halves alternate again.
        return torch.stack([passed, image], 2).flatten(1, 2)

    def projections(self, asking: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """f, the query before its ReLU, and the difference's convolution of f: (B, n * n, C) of (B, n * n, half)."""
        weight, bias = self._projection(side)
        weights, biases = [weight], [bias]
        for conv in (self.query_conv, self.diff_conv):
            own, offset = weights_of(conv)
            weights.append(own.flatten(1) @ weight)
            biases.append(own.flatten(1) @ bias + offset)
        joined = F.linear(asking, torch.cat(weights), torch.cat(biases))
        f, query, difference = torch.split(joined, self.channels, -1)
        return f, query, difference

    def mean_of(self, asking: Tensor, side: int) -> Tensor:
        """The mean of f over all places, (B, C), float32."""
        weight, bias = self._projection(side)
        return F.linear(asking.float().mean(1), weight.float(), bias.float())

    def _projection(self, side: int) -> tuple[Tensor, Tensor]:
        weight, bias = weights_of(self.get_submodule(f"feat_forward_proj_{side}"))
        return weight.flatten(1), bias

    def recall(self, mean: Tensor, points: Tensor, noise: Tensor | None = None) -> Recalled:
        """Keys and values for features of this mean (B, C); other arguments as `forward`."""
        dtype = self.mb.dtype
        given = torch.cat([mean, points.flatten(1).expand(len(mean), -1)], 1)
        style = self.style_route(given.to(dtype))
        memory = self.styleconv(self.mb, style, noise)
        mix = self.conv_kv.attention(mean.to(dtype))
        both = F.relu_(self.conv_kv(memory, mix)).flatten(2).transpose(1, 2)
        key, value = torch.split(both, self.channels, -1)
        return Recalled(style, memory, mix, key, value)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention with one head: (B, N, C) of queries (B, N, C), keys and values (B, M, C)."""
    found = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=ATTENTION_SCALE)
    return found[:, 0]


class StyleConv(nn.Module):
    """Style convolution without resampling, with noise, bias and leaky ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))  # of the noise
        self.modulated_conv = ScaledConv(channels)
        self.activate = nn.Module()
        self.activate.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, memory: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, C, m, m) of the memory (1, C, m, m) and styles (B, C)."""
        y = self.modulated_conv(memory, style)
        if noise is not None:
            y = y + self.weight * noise.to(y)
        y = y + self.activate.bias[:, None, None]  # type: ignore[index]
        return F.leaky_relu(y, 0.2) * math.sqrt(2)


class ScaledConv(nn.Module):
    """A 3x3 convolution whose kernels are scaled by a style and brought back to norm 1.

    The kernels themselves stay as they are: the input's channels are scaled before, the output's after it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, channels, channels, 3, 3))
        self.modulation = nn.Linear(channels, channels)
        self.faster: TiledConv | None = None

    def use_tiles(self) -> None:
        """From now on convolves by `TiledConv`."""
        self.faster = TiledConv(self.weight[0], None)

    def forward(self, memory: Tensor, style: Tensor) -> Tensor:
        """(B, C, m, m) of the memory (1, C, m, m) and styles (B, C)."""
        weight, num_in = self.weight[0], self.weight.shape[2]
        modulation = self.modulation.weight.float() * fan_in_scale(num_in)
        factor = F.linear(style.float(), modulation, self.modulation.bias.float())
        scale = fan_in_scale(num_in, 3)
        energy = weight.float().square().sum((2, 3)) * scale**2
        norm = torch.rsqrt(factor.square() @ energy.T + EPSILON) * scale
        given = (memory * factor[:, :, None, None]).to(weight.dtype)
        y = F.conv2d(given, weight, padding=1) if self.faster is None else self.faster(given)
        return y * norm[:, :, None, None].to(weight.dtype)


class DynamicConv(nn.Module):
    """A 3x3 convolution whose kernel is mixed for each sample from four."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(NUM_KERNELS, num_out, num_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(NUM_KERNELS, num_out))
        self.attention = KernelShares(num_in)

    def forward(self, x: Tensor, mix: Tensor) -> Tensor:
        """(B, num_out, H, W) of (B, num_in, H, W) and shares (B, 4)."""
        kernels = (mix @ self.weight.flatten(1)).view(-1, *self.weight.shape[1:])
        biases = mix @ self.bias
        if len(x) == 1:
            return F.conv2d(x, kernels[0], biases[0], padding=1)
        grouped = F.conv2d(x.flatten(0, 1)[None], kernels.flatten(0, 1), biases.flatten(), padding=1, groups=len(x))
        return grouped.view(len(x), -1, *x.shape[2:])


class KernelShares(nn.Module):
    """How much of each kernel is taken."""

    def __init__(self, num_in: int) -> None:
        super().__init__()
        hidden = num_in // NUM_KERNELS + 1
        self.fc1 = nn.Conv2d(num_in, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, NUM_KERNELS, 1)

    def forward(self, mean: Tensor) -> Tensor:
        """(B, 4) of means (B, num_in)."""
        logits = self.fc2(F.relu(self.fc1(mean[:, :, None, None]))).flatten(1)
        return torch.softmax(logits / KERNEL_TEMPERATURE, 1)
