"""Speed of the StyleGAN3 generator against the straightforward formulation, same weights, in turn in one run.

    python -m benchmarks.speed.stylegan3 [--size 256] [--configuration t] [--rounds 3] [--device cpu] [--dtype float32]

The straightforward formulation does what the definition says, step by step: weights modulated for every image, a
grouped convolution, zeros inserted, filters over the whole upper rate, every other sample dropped. Sizes are those of
the published recipes. Times are processor seconds of all threads on a CPU, and seconds on a GPU. Weights are random.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from torch import Tensor

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


def timed(run: Callable[[], Tensor], device: str) -> tuple[float, Tensor]:
    """Processor seconds of one run, or seconds on a GPU, and its result."""
    if device != "cpu":
        torch.cuda.synchronize()
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    images = run()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start, images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, choices=(256, 512, 1024))
    parser.add_argument("--configuration", default="t", choices=("t", "r"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    arguments = published_arguments(given.configuration, given.size)
    network = StyleganGenerator(**generator_settings(arguments, file="recipe")).eval().to(given.device)
    z = torch.randn(given.batch, network.config["z_dim"], device=given.device)
    with torch.inference_mode():
        ws = network.mapping(z)
        compare(network, ws, given)


def compare(network: StyleganGenerator, ws: Tensor, given: argparse.Namespace) -> None:
    """Prints both times of every round, and their medians."""
    slow, fast, error, power = [], [], 0.0, 0.0
    dtype = getattr(torch, given.dtype)
    for number in range(given.rounds + 1):
        network.to(torch.float32)
        seconds, expected = timed(lambda: straightforward(network.synthesis, ws), given.device)
        network.to(dtype)
        own_seconds, images = timed(lambda: network.synthesis(ws), given.device)
        if number:  # the first round warms up
            slow.append(seconds)
            fast.append(own_seconds)
            print(f"straightforward {seconds:7.3f} s, this {own_seconds:7.3f} s, ratio {seconds / own_seconds:.2f}")
        error = max(error, float((images - expected).abs().max()))
        power = float((images - expected).square().mean())
    first, second = statistics.median(slow), statistics.median(fast)
    peak = float(expected.max() - expected.min())
    quality = 10 * torch.log10(torch.tensor(peak**2 / max(power, 1e-20))).item()
    print(
        f"{given.configuration} {given.size} px, batch {len(ws)}, {given.device}, {given.dtype}: {first:.3f} s against "
        f"{second:.3f} s, ratio {first / second:.2f}, largest difference {error:.1e}, PSNR {quality:.0f} dB"
    )


if __name__ == "__main__":
    main()
