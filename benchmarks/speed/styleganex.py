"""Speed of StyleGANEX: the network that this project runs on a clip against the published program's loop over frames.

    python -m benchmarks.speed.styleganex [--height 256 --width 256] [--frames 1] [--rounds 3] [--threads 1]
        [--device cuda]

Both get the same random weights and frames, in turn in one run; the first round warms up. For each frame, the published
loop encodes the aligned face and the whole frame again, modulates the kernels as grouped convolutions, adds noise maps
times zero and filters one channel plane after another. Times are processor seconds, or seconds on a GPU, where the
clip's network runs in float16. Work that is done once per clip is shown separately and counted on neither side.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from generation.generators.styleganex.layers import outer_filter
from generation.generators.styleganex.network import FUSED_TAPS, StyleganexEditor

FACTOR = 2.0


def filled(**config: Any) -> StyleganexEditor:
    """A network with lively random weights and an editing vector."""
    torch.manual_seed(0)
    network: StyleganexEditor = StyleganexEditor(**config).eval()
    with torch.no_grad():
        network.latent_avg.normal_(0, 0.5)
        network.editing_w.normal_(0, 0.3)
        for name, value in network.named_parameters():
            if "activate.bias" in name:
                value.normal_(0, 0.1)
            elif "noise.weight" in name:
                value.fill_(0.1)
    return network


class FrameAtATime:
    """The loop's body, in the published program's formulation."""

    def __init__(self, network: StyleganexEditor) -> None:
        self.network, self.encoder, self.decoder = network, network.encoder, network.decoder

    def __call__(self, x1: Tensor, x2: Tensor, factor: float) -> Tensor:
        """(1, 3, 4 H, 4 W), not clamped."""
        network, encoder, decoder = self.network, self.encoder, self.decoder
        codes = encoder.codes(x2)
        taps, _ = encoder.taps(x1), encoder.codes(x1)  # codes of the frame are made and not used
        edit = (network.editing_w * factor)[None]
        w = codes + network.latent_avg + edit
        features = torch.cat([taps["c21"], taps["c22"], taps["c2"]], 1)
        encoder.skiplayer(features)
        h = self._styled(decoder.conv1, encoder.featlayer(features), w[:, 0], dilation=8)
        picture = self._to_rgb(decoder.to_rgb1, h, None, w[:, 1], 0)
        for stage, to_rgb in enumerate(decoder.to_rgbs):
            if network.config.use_skip and stage < len(encoder.fusion):
                fusion = encoder.fusion[stage]
                h, picture = self._fused(fusion, h, taps[FUSED_TAPS[stage]], picture, edit[:, 2 * stage + 1])
            dilation = 4 >> stage
            h = self._styled(decoder.convs[2 * stage], h, w[:, 2 * stage + 1], dilation=dilation, is_up=True)
            h = self._styled(decoder.convs[2 * stage + 1], h, w[:, 2 * stage + 2], dilation=max(dilation, 1))
            picture = self._to_rgb(to_rgb, h, picture, w[:, 2 * stage + 3], dilation)
        return torch.as_tensor(picture)

    def _modulated(self, conv: Any, style: Tensor, *, demodulate: bool) -> Tensor:
        weight = conv.weight
        scale = 1 / math.sqrt(weight[0, 0].numel())
        weight = scale * weight * conv.modulation(style)[:, None, :, None, None]
        if demodulate:
            weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8)[..., None, None, None]
        return torch.as_tensor(weight)

    def _styled(self, layer: Any, x: Tensor, style: Tensor, *, dilation: int, is_up: bool = False) -> Tensor:
        weight = self._modulated(layer.conv, style, demodulate=True)
        num, num_out, num_in = weight.shape[:3]
        grouped = x.reshape(1, num * num_in, *x.shape[2:])
        turned = weight.transpose(1, 2).reshape(num * num_in, num_out, 3, 3)
        if not is_up:
            weight = weight.view(num * num_out, num_in, 3, 3)
            made = functional.conv2d(grouped, weight, padding=dilation, dilation=dilation, groups=num)
        elif dilation:
            planes = x.reshape(-1, 1, *x.shape[2:])
            kernel = layer.conv.blur_weight
            blurred = functional.conv_transpose2d(planes, kernel, dilation=dilation)
            blurred = blurred.view(1, num * num_in, *blurred.shape[2:])
            made = functional.conv_transpose2d(blurred, turned, padding=2 * dilation, dilation=dilation, groups=num)
        else:
            made = functional.conv_transpose2d(grouped, turned, stride=2, groups=num)
            made = filtered(made, layer.conv.blur.kernel, 1, (1, 1))
        made = made.view(num, num_out, *made.shape[2:])
        noise = made.new_zeros(num, 1, *made.shape[2:])
        made = made + layer.noise.weight * noise
        return functional.leaky_relu(made + layer.activate.bias[None, :, None, None], 0.2) * math.sqrt(2)

    def _to_rgb(self, layer: Any, x: Tensor, picture: Tensor | None, style: Tensor, dilation: int) -> Tensor:
        weight = self._modulated(layer.conv, style, demodulate=False)
        num, _, num_in = weight.shape[:3]
        made = functional.conv2d(x.reshape(1, num * num_in, *x.shape[2:]), weight.flatten(0, 1), groups=num)
        made = made.view(num, 3, *x.shape[2:]) + layer.bias
        if picture is None:
            return torch.as_tensor(made)
        if dilation:
            kernel = outer_filter((1.0, 2.0, 1.0), 1.0).to(made).expand(3, 1, 3, 3)
            before = functional.conv2d(picture, kernel, padding=dilation, dilation=dilation, groups=3)
        else:
            before = filtered(picture, layer.upsample.kernel, 2, (2, 1))
        return torch.as_tensor(made + before)

    def _fused(self, fusion: Any, h: Tensor, skip: Tensor, picture: Tensor, edit: Tensor) -> tuple[Tensor, Tensor]:
        x = fusion.transform(skip)
        if fusion.has_mask:
            both = functional.instance_norm(torch.cat([h, (h - x).abs()], 1), eps=1e-5)
            gamma, beta = fusion.norm.style(fusion.linear(edit))[..., None, None].chunk(2, 1)
            x = x * torch.tanh(torch.relu(fusion.conv(gamma * both + beta)))
        merged = fusion.fusion_out(torch.cat([h, x], 1))
        if hasattr(fusion, "fusion_skip"):
            picture = fusion.fusion_skip(torch.cat([picture, x], 1))
        return merged, picture


def filtered(x: Tensor, kernel: Tensor, up: int, pad: tuple[int, int]) -> Tensor:
    """Zeros between pixels, padding and the filter over every channel plane, one by one."""
    num, channels, height, width = x.shape
    planes = x.reshape(-1, height, 1, width, 1, 1)
    planes = functional.pad(planes, [0, 0, 0, up - 1, 0, 0, 0, up - 1])
    planes = planes.view(-1, 1, height * up, width * up)
    planes = functional.pad(planes, [*pad, *pad])
    made = functional.conv2d(planes, kernel.flip(0, 1)[None, None])
    return made.view(num, channels, *made.shape[2:])


def timed(work: Callable[[], list[Tensor]], device: str) -> tuple[float, list[Tensor]]:
    clock = time.process_time if device == "cpu" else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    started = clock()
    made = work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - started, made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("height", 256), ("width", 256), ("frames", 1), ("rounds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = arguments.device
    network = filled().to(device)
    loop = FrameAtATime(network)
    random = torch.Generator().manual_seed(1)
    shape = (arguments.frames, 3, arguments.height, arguments.width)
    frames = functional.interpolate(torch.rand((arguments.frames, 3, 9, 9), generator=random) * 2 - 1, shape[2:])
    frames, face = frames.to(device), frames[:1, :, :256, :256].to(device)
    is_cpu = device == "cpu"
    times: dict[str, list[float]] = {"frame at a time": [], "clip": []}
    with torch.inference_mode():
        started = time.perf_counter()
        clip = network.frame_network(network.latents(face)[0], FACTOR, is_tiled=is_cpu)
        if not is_cpu:
            clip = clip.to(torch.float16).to(memory_format=torch.channels_last)
        once = time.perf_counter() - started
        for number in range(arguments.rounds + 1):
            one, theirs = timed(lambda: [loop(frame[None], face, FACTOR) for frame in frames], device)
            if is_cpu:
                other, ours = timed(lambda: [clip(frame[None]) for frame in frames], device)
            else:
                other, ours = timed(lambda: [clip(frames.half()).float()], device)
            if number:
                times["frame at a time"].append(one / len(frames))
                times["clip"].append(other / len(frames))
    difference = torch.cat(theirs) - torch.cat(ours)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:<16} {1000 * seconds:8.0f} ms a frame")
    print(f"once for a clip  {1000 * once:8.0f} ms by the clock")
    deviation = float(torch.cat(theirs).std())
    print(f"largest difference {float(difference.abs().max()):.1e} of values with deviation {deviation:.2f}")
    ratio = medians["frame at a time"] / medians["clip"]
    size = f"{arguments.height}x{arguments.width}"
    print(f"{size}, {device}, {arguments.threads} threads: {ratio:.2f} times as fast as a frame at a time")


if __name__ == "__main__":
    main()
