"""Speed of MCNET's driving loop against the one-frame-at-a-time loop, same weights, in turn in one run.

For every frame, the other loop does what the published one does: keypoints of the driving frame, normalisation with
hull and inverse, the source's features again, convolutions and their norms as stored, attention with its full matrix of
weights, batches of one. Warps whose results the published loop discards are left out. Times are processor seconds of
all threads on a CPU, and seconds on a GPU. Weights are repeatable, pictures random.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from torch import Tensor

from benchmarks.filled_weights import filled_state
from benchmarks.measuring import LEAST_PSNR, Line, Setup, alternate, clock_of, psnr_line, ratio_line
from generation.generators.mcnet.keypoints import Keypoints, McnetDetector, movement_scale, relative_keypoints
from generation.generators.mcnet.memory import KERNEL_TEMPERATURE, MemoryUnit
from generation.generators.mcnet.network import McnetGenerator, Still, resized, seen, warped
from generation.generators.mcnet.pipeline import GPU_FRAMES

SEED = 1


def straightforward(network: McnetGenerator, detector: McnetDetector, source: Tensor, driving: Tensor) -> Tensor:
    """Pictures (T, 3, S, S) of a source (1, 3, S, S) and driving frames (T, 3, S, S), frame by frame."""
    own, first, made = detector(source), detector(driving[:1]), []
    for frame in torch.split(driving, 1):
        moved = relative_keypoints(detector(frame), first, own, movement_scale(own, first))
        made.append(one_frame(network, source, own, moved))
    return torch.cat(made)


def one_frame(network: McnetGenerator, source: Tensor, own: Keypoints, driving: Keypoints) -> Tensor:
    """One picture as the definition says."""
    features = [network.first(source)]
    for block in network.down_blocks:
        features.append(block(features[-1]))
    dense = network.dense_motion_network
    motion = dense(dense.down(source), own, driving)
    y = memory_unit(network.mbUnit, seen(features[3], motion), own.value)
    for number, block in enumerate(network.up_blocks):
        for residual in network.resblock[2 * number : 2 * number + 2]:
            y = residual(y)
        y = block(y)
        if number < 2:
            y = torch.cat([y, memory_unit(network.mbUnit, seen(features[2 - number], motion), own.value)], 1)
    shown = resized(motion.occlusion, y.shape[-1])
    y = y * (1 - shown) + seen(features[0], motion)
    return torch.sigmoid(network.final(y)) * (1 - shown) + warped(source, motion) * shown


def memory_unit(unit: MemoryUnit, x: Tensor, points: Tensor) -> Tensor:
    """The memory unit as the definition says, for one picture."""
    side = x.shape[-1]
    f = unit.get_submodule(f"feat_forward_proj_{side}")(x[:, 1::2])
    mean = f.mean((2, 3))
    memory = style_conv(unit, unit.style_route(torch.cat([mean, points.flatten(1)], 1)))
    kernels = unit.conv_kv
    logits = kernels.attention.fc2(F.relu(kernels.attention.fc1(mean[:, :, None, None]))).flatten(1)
    share = torch.softmax(logits / KERNEL_TEMPERATURE, 1)[0]
    weight = (share[:, None, None, None, None] * kernels.weight).sum(0)
    both = F.relu(F.conv2d(memory, weight, (share[:, None] * kernels.bias).sum(0), padding=1))
    key, value = both.flatten(2).chunk(2, 1)
    query = F.relu(unit.query_conv(f)).flatten(2).transpose(1, 2)
    weights = torch.softmax(query @ key / 4, -1)
    recalled = (weights @ value.transpose(1, 2)).transpose(1, 2).reshape(f.shape)
    y = f + F.relu(unit.diff_conv(f - recalled))
    y = F.relu(unit.get_submodule(f"norm_{side}")(unit.get_submodule(f"conv_{side}")(y)))
    result = torch.empty_like(x)
    result[:, 0::2], result[:, 1::2] = x[:, 0::2], y
    return result


def style_conv(unit: MemoryUnit, style: Tensor) -> Tensor:
    """The memory after its style convolution, kernels modulated and demodulated for the picture."""
    conv = unit.styleconv.modulated_conv
    num_in = conv.weight.shape[2]
    factor = F.linear(style, conv.modulation.weight / math.sqrt(num_in), conv.modulation.bias)
    weight = conv.weight[0] * factor[0, :, None, None] / math.sqrt(num_in * 9)
    weight = weight * torch.rsqrt(weight.square().sum((1, 2, 3), keepdim=True) + 1e-8)
    y = F.conv2d(unit.mb, weight, padding=1) + torch.as_tensor(unit.styleconv.activate.bias)[:, None, None]
    return F.leaky_relu(y, 0.2) * math.sqrt(2)


def ours(still: Still, network: McnetGenerator, detector: McnetDetector, driving: Tensor) -> Tensor:
    """The same pictures as the pipeline makes them: the source encoded once, the network folded."""
    own, found = still.keypoints, Keypoints.joined([detector(frame) for frame in torch.split(driving, 1)])
    moved = relative_keypoints(found, found[:1], own, movement_scale(own, found[:1]))
    step = 1 if driving.device.type == "cpu" else GPU_FRAMES
    return torch.cat([network(still, moved[at : at + step]).float() for at in range(0, len(driving), step)])


def pictures(num_frames: int, side: int) -> Tensor:
    """Smooth noise that drifts: (T + 1, 3, S, S), the source first."""
    random = torch.Generator().manual_seed(SEED)
    still = torch.rand(1, 3, 12, 12, generator=random)
    drift = torch.rand(num_frames + 1, 3, 12, 12, generator=random) * 0.25
    return F.interpolate((still + drift).clamp(0, 1), (side, side), mode="bicubic").clamp(0, 1)


def filled(model: McnetGenerator | McnetDetector, net: str, rules: Path) -> None:
    model.load_state_dict(filled_state(model.state_dict(), rules, SEED, net=net))
    model.eval().requires_grad_(False)


def measure(setup: Setup) -> Iterator[Line]:
    """A frame on this processor."""
    yield from compare(1, repeats=setup.repeats)


def compare(
    num_frames: int,
    *,
    repeats: int,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    goal: float | None = None,
) -> Iterator[Line]:
    """Both ways in turn, the frame at a time in float32."""
    rules = Path(__file__).resolve().parents[2] / "tests" / "data" / "mcnet"
    where = torch.device(device)
    with torch.inference_mode():
        networks = [McnetGenerator(), McnetGenerator()]
        detector = McnetDetector()
        for network in networks:
            filled(network, "generator", rules)
            network.to(where)
        filled(detector, "kp_detector", rules)
        detector.to(where)
        plain, folded = networks[0], networks[1].to(dtype).folded(is_tiled=device == "cpu")
        all_pictures = pictures(num_frames, plain.config["image_px"]).to(where)
        source, driving = all_pictures[:1], all_pictures[1:]
        still = folded.encode(source, detector(source))
        seconds, results = alternate(
            {
                "frame at a time": lambda: straightforward(plain, detector, source, driving),
                "this project": lambda: ours(still, folded, detector, driving),
            },
            repeats,
            clock_of(device),
        )
    name = f"MCNET, {num_frames} frames, {device}, {str(dtype).removeprefix('torch.')}"
    yield ratio_line(name, seconds, goal, work=num_frames, unit="frames/s")
    yield psnr_line(name, results["this project"], results["frame at a time"], LEAST_PSNR[device])
