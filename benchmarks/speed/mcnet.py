"""Speed of MCNET's driving loop against the one-frame-at-a-time loop, same weights, in turn in one run.

    python -m benchmarks.speed.mcnet [--frames 3] [--rounds 3] [--threads 1] [--device cpu] [--dtype float32]

For every frame, the other loop does what the published one does: keypoints of the driving frame, normalisation with
hull and inverse, the source's features again, convolutions and their norms as stored, attention with its full matrix of
weights, batches of one. Warps whose results the published loop discards are left out. Times are processor seconds of
all threads on a CPU, and seconds on a GPU. Weights are repeatable, pictures random.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from torch import Tensor

from benchmarks.filled_weights import filled_state
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


def seconds_of(work: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = clock()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started, result


def pictures(num_frames: int, side: int) -> Tensor:
    """Smooth noise that drifts: (T + 1, 3, S, S), the source first."""
    random = torch.Generator().manual_seed(SEED)
    still = torch.rand(1, 3, 12, 12, generator=random)
    drift = torch.rand(num_frames + 1, 3, 12, 12, generator=random) * 0.25
    return F.interpolate((still + drift).clamp(0, 1), (side, side), mode="bicubic").clamp(0, 1)


def filled(model: McnetGenerator | McnetDetector, net: str, rules: Path) -> None:
    model.load_state_dict(filled_state(model.state_dict(), rules, SEED, net=net))
    model.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    network, detector = McnetGenerator(), McnetDetector()
    rules = Path(__file__).resolve().parent.parent / "tests" / "data" / "mcnet"
    filled(network, "generator", rules)
    filled(detector, "kp_detector", rules)
    network.to(device)
    detector.to(device)
    all_pictures = pictures(arguments.frames, network.config["image_px"]).to(device)
    source, driving = all_pictures[:1], all_pictures[1:]
    plain = network.to(torch.float32)
    folded = plain.to(getattr(torch, arguments.dtype)).folded(is_tiled=device.type == "cpu")
    still = folded.encode(source, detector(source))
    ways = {
        "frame at a time": lambda: straightforward(plain, detector, source, driving),
        "this project": lambda: ours(still, folded, detector, driving),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, Tensor] = {}
    for number in range(arguments.rounds + 1):
        for name, work in ways.items():
            seconds, results[name] = seconds_of(work, device)
            if number:  # the first round warms up
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:<16} {median / arguments.frames:7.3f} s/frame  ({', '.join(f'{t:.2f}' for t in times[name])} s)")
    before, after = results.values()
    error = (before - after).abs().max().item()
    psnr = -10 * math.log10(max((before - after).square().mean().item(), 1e-20))
    ratio = medians["frame at a time"] / medians["this project"]
    print(
        f"ratio {ratio:.2f}; largest difference {error:.1e}, PSNR {psnr:.0f} dB; {device}, {arguments.dtype}, ", end=""
    )
    print(f"{arguments.threads} threads, {arguments.frames} frames, medians of {arguments.rounds}")


if __name__ == "__main__":
    main()
