"""Speed of StyleGANEX: the network that this project runs on a clip against the published program's loop over frames.

Both get the same random weights and frames, in turn in one run; the first round warms up. For each frame, the published
loop encodes the aligned face and the whole frame again, modulates the kernels as grouped convolutions, adds noise maps
times zero and filters one channel plane after another. Times are processor seconds, or seconds on a GPU, where the
clip's network runs in float16. Work that is done once for a clip is counted on neither side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.measuring import LEAST_PSNR, Line, Setup, alternate, clock_of, psnr_line, ratio_line
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


def measure(setup: Setup) -> Iterator[Line]:
    """One small frame on this processor."""
    yield from compare(1, 256, 256, repeats=setup.repeats)


def compare(
    num_frames: int, height: int, width: int, *, repeats: int, device: str = "cpu", goal: float | None = None
) -> Iterator[Line]:
    """Both ways in turn; work that is done once for a clip is on neither side."""
    network = filled().to(device)
    loop, is_cpu = FrameAtATime(network), device == "cpu"
    random = torch.Generator().manual_seed(1)
    small = torch.rand((num_frames, 3, 9, 9), generator=random) * 2 - 1
    frames = functional.interpolate(small, (height, width)).to(device)
    face = frames[:1, :, :256, :256]
    with torch.inference_mode():
        clip = network.frame_network(network.latents(face)[0], FACTOR, is_tiled=is_cpu)
        if not is_cpu:
            clip = clip.to(torch.float16).to(memory_format=torch.channels_last)

        def own() -> Tensor:
            return torch.cat([clip(frame[None]) for frame in frames]) if is_cpu else clip(frames.half()).float()

        seconds, results = alternate(
            {
                "frame at a time": lambda: torch.cat([loop(frame[None], face, FACTOR) for frame in frames]),
                "this project": own,
            },
            repeats,
            clock_of(device),
        )
    name = f"StyleGANEX, {width}x{height}, {device}"
    yield ratio_line(name, seconds, goal, work=num_frames, unit="frames/s")
    yield psnr_line(name, results["this project"], results["frame at a time"], LEAST_PSNR[device])
