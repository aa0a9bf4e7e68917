"""Speed of the StyleGAN3 generator against the straightforward formulation, same weights, in turn in one run.

The straightforward formulation does what the definition says, step by step: weights modulated for every image, a
grouped convolution, zeros inserted, filters over the whole upper rate, every other sample dropped. Sizes are those of
the published recipes. Times are processor seconds of all threads on a CPU, and seconds on a GPU. Weights are random.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from torch import Tensor

from benchmarks.measuring import LEAST_PSNR, Line, Setup, alternate, clock_of, psnr_line, ratio_line
from benchmarks.parity.stylegan3_published import published_arguments
from generation.generators.stylegan3.convert import generator_settings
from generation.generators.stylegan3.network import StyleganGenerator, SynthesisLayer, SynthesisNetwork


def straightforward(synthesis: SynthesisNetwork, ws: Tensor) -> Tensor:
    """Images (N, 3, S, S) as the definition says."""
    x: Tensor = synthesis.input(ws[:, 0]).contiguous()
    for number, name in enumerate(synthesis.layer_names):
        x = layer_forward(cast(SynthesisLayer, synthesis.get_submodule(name)), x, ws[:, number + 1])
    return x * synthesis.output_scale


def layer_forward(layer: SynthesisLayer, x: Tensor, w: Tensor) -> Tensor:
    """One layer as the definition says."""
    geometry, weight, styles = layer.geometry, layer.weight.detach(), layer.affine(w)
    if geometry.is_torgb:
        styles = styles / weight[0].numel() ** 0.5
    else:
        weight = weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
        styles = styles * styles.square().mean().rsqrt()
    modulated = weight[None] * styles[:, None, :, None, None]
    if not geometry.is_torgb:
        modulated = modulated * (modulated.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    modulated = modulated * layer.magnitude_ema.rsqrt()
    num, _, height, width = x.shape
    x = F.conv2d(x.reshape(1, -1, height, width), modulated.flatten(0, 1), padding=geometry.kernel - 1, groups=num)
    return filtered(layer, x.reshape(num, -1, *x.shape[2:]))


def filtered(layer: SynthesisLayer, x: Tensor) -> Tensor:
    """Bias, up, leaky rectifier, clamp, down as the definition says."""
    how = layer.geometry.resampling
    num, channels, height, width = x.shape
    x = x + layer.bias[:, None, None]
    x = F.pad(x.reshape(num, channels, height, 1, width, 1), (0, how.up - 1, 0, 0, 0, how.up - 1))
    x = F.pad(x.reshape(num, channels, height * how.up, width * how.up), (*how.padding, *how.padding))
    x = convolved(x, None if layer.up_filter is None else layer.up_filter * how.up)
    x = F.leaky_relu(x, how.slope) * how.gain
    x = x if how.clamp is None else x.clamp(-how.clamp, how.clamp)
    return convolved(x, layer.down_filter)[:, :, :: how.down, :: how.down]


def convolved(x: Tensor, taps: Tensor | None) -> Tensor:
    """Every channel with a filter of one or two dimensions."""
    channels = x.shape[1]
    if taps is None:
        return x
    if taps.ndim == 2:
        return F.conv2d(x, taps.expand(channels, 1, -1, -1), groups=channels)
    x = F.conv2d(x, taps.reshape(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)
    return F.conv2d(x, taps.reshape(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)


def measure(setup: Setup) -> Iterator[Line]:
    """256 px, configuration t with a quarter of its channels, on this processor."""
    yield from compare(repeats=setup.repeats, channels=0.25)


def compare(
    size: int = 256,
    configuration: str = "t",
    *,
    repeats: int,
    channels: float = 1.0,
    batch: int = 1,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    goal: float | None = None,
) -> Iterator[Line]:
    """Both ways in turn, the straightforward one in float32.

    Args:
        size, configuration: of the published recipes: 256, 512 or 1024; t or r.
        repeats: see `alternate`.
        channels: share of the published ones.
        batch: images at a time.
        device, dtype: of this project's way.
        goal: the ratio to reach.
    """
    torch.manual_seed(0)
    settings = generator_settings(published_arguments(configuration, size), file="recipe")
    settings["channel_base"] = int(settings["channel_base"] * channels)
    plain, own = (StyleganGenerator(**settings).eval().to(device) for _ in range(2))
    own.load_state_dict(plain.state_dict())
    own.to(dtype)
    with torch.inference_mode():
        ws = plain.mapping(torch.randn(batch, plain.config["z_dim"], device=device))
        seconds, images = alternate(
            {
                "straightforward": lambda: straightforward(plain.synthesis, ws),
                "this project": lambda: own.synthesis(ws).float(),
            },
            repeats,
            clock_of(device),
        )
    what = f"StyleGAN3 {configuration}, {size} px, {channels:.0%} of the channels"
    name = f"{what}, {device}, {str(dtype).removeprefix('torch.')}"
    yield ratio_line(name, seconds, goal, work=batch, unit="images/s")
    yield psnr_line(name, images["this project"], images["straightforward"], LEAST_PSNR[device])
