"""MCNET: parity with stored vectors, its rewrites, keypoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.parity import mcnet as parity
from benchmarks.speed.mcnet import one_frame
from generation.crops.templates import TEMPLATES
from generation.errors import GenerationError
from generation.generators.convolution import TiledConv
from generation.generators.mcnet.driving import (
    HEAD_FRAMES,
    MotionSettings,
    best_frame,
    driving_keypoints,
    normalised_landmarks,
)
from generation.generators.mcnet.keypoints import Keypoints, movement_scale, relative_keypoints
from generation.generators.mcnet.layers import Hourglass, PhasesUp, UpBlock
from generation.generators.mcnet.network import McnetGenerator
from generation.motion.expression import FEATURES
from tests.generation.networks.cuda import require_cuda
from tests.generation.networks.published import TINY_MCNET, tiny_detector, tiny_mcnet

OWN_DATA = Path(__file__).parents[2] / "data" / "mcnet"
CROP_PX, NUM_POINTS = 128, 3


def keypoints(seed: int, num: int, num_points: int = NUM_POINTS) -> Keypoints:
    random = torch.Generator().manual_seed(seed)
    value = torch.rand(num, num_points, 2, generator=random) * 1.4 - 0.7
    jacobian = torch.eye(2) + 0.2 * torch.randn(num, num_points, 2, 2, generator=random)
    return Keypoints(value, jacobian)


# Parity


@pytest.mark.slow
def test_stored_vectors_are_met() -> None:
    found = list(parity.compare(OWN_DATA))
    assert [one.name for one in found if not one.error <= one.tolerance] == []
    assert len(found) > 20
    assert {"down.out", "up.out", "mixed.out"} <= {one.name.rpartition(" ")[2] for one in found}


@pytest.mark.slow
def test_all_vectors_are_met(vectors: Callable[[str], Path]) -> None:
    found = list(parity.compare(vectors("mcnet")))
    assert [one.name for one in found if not one.error <= one.tolerance] == []
    assert len(found) > 200


# Rewrites


@pytest.mark.parametrize("is_tiled", [False, True])
def test_folding_changes_no_result(is_tiled: bool) -> None:
    network, image, own, driving = tiny_mcnet(), torch.rand(1, 3, CROP_PX, CROP_PX), keypoints(1, 1), keypoints(2, 3)
    noise = torch.randn(3, 3, 1, TINY_MCNET["memory_px"], TINY_MCNET["memory_px"])
    wanted = network(network.encode(image, own), driving, noise)
    folded = network.folded(is_tiled=is_tiled)
    assert not any(isinstance(part, UpBlock) for part in folded.modules())
    still = folded.encode(image, own)
    torch.testing.assert_close(folded(still, driving, noise), wanted, atol=2e-5, rtol=0)
    one = folded(still, driving[1:2], noise[1:2])
    torch.testing.assert_close(one, wanted[1:2], atol=2e-5, rtol=0)
    # The network itself is left as it was.
    assert torch.equal(network(network.encode(image, own), driving, noise), wanted)


def test_the_straightforward_formulation_gives_the_same() -> None:
    network = McnetGenerator(**{**TINY_MCNET, "image_px": 256}).eval().requires_grad_(False)
    image, own, driving = torch.rand(1, 3, 256, 256), keypoints(1, 1), keypoints(2, 1)
    wanted = one_frame(network, image, own, driving)
    torch.testing.assert_close(network(network.encode(image, own), driving), wanted, atol=1e-5, rtol=0)


def test_noise_changes_the_result_and_only_by_its_weight() -> None:
    network, image, own, driving = tiny_mcnet(), torch.rand(1, 3, CROP_PX, CROP_PX), keypoints(1, 1), keypoints(2, 1)
    noise = torch.randn(1, 3, 1, TINY_MCNET["memory_px"], TINY_MCNET["memory_px"])
    still = network.encode(image, own)
    silent = network(still, driving)
    assert torch.equal(network(still, driving, torch.zeros_like(noise)), silent)
    assert (network(still, driving, noise) - silent).abs().max() > 1e-5
    torch.nn.init.zeros_(network.mbUnit.styleconv.weight)
    assert torch.equal(network(still, driving, noise), silent)


@pytest.mark.parametrize(("num_in", "num_out", "height", "width"), [(5, 7, 8, 8), (16, 8, 72, 64), (64, 64, 16, 20)])
def test_tiles_are_a_convolution(num_in: int, num_out: int, height: int, width: int) -> None:
    conv = torch.nn.Conv2d(num_in, num_out, 3, padding=1).requires_grad_(False)
    x = torch.randn(2, num_in, height, width)
    wanted = conv.double()(x.double()).float()
    found = TiledConv(conv.weight, conv.bias)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_phases_are_an_enlarged_convolution() -> None:
    block = UpBlock(6, 4).eval().requires_grad_(False)
    block.norm = torch.nn.Identity()
    x = torch.randn(2, 6, 7, 5)
    phases = PhasesUp(*(part.detach() for part in (block.conv.weight, torch.as_tensor(block.conv.bias))))
    for given in (x, x.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(phases(given), block(x), atol=1e-5, rtol=0)


def test_an_hourglass_ends_with_its_input() -> None:
    hourglass, x = Hourglass(4, 3, 16).eval().requires_grad_(False), torch.randn(1, 3, 64, 64)
    result = hourglass(x)
    assert result.shape == (1, 7, 64, 64)
    assert torch.equal(result[:, 4:], x)


def test_half_precision_keeps_weights_and_places_in_float32() -> None:
    network, detector = tiny_mcnet().to(torch.bfloat16), tiny_detector().to(torch.bfloat16)
    assert {part.dtype for part in (*network.parameters(), *detector.parameters())} == {torch.float32}
    folded = network.folded(is_tiled=False)
    assert folded.final.weight.dtype == torch.bfloat16
    assert folded.dense_motion_network.mask.weight.dtype == torch.float32
    image, own, driving = torch.rand(1, 3, CROP_PX, CROP_PX), keypoints(1, 1), keypoints(2, 1)
    wanted = network(network.encode(image, own), driving)
    found = folded(folded.encode(image, own), driving)
    assert found.dtype == torch.float32
    assert psnr(found, wanted) > 35


def psnr(found: Tensor, wanted: Tensor) -> float:
    return -10 * math.log10(float((found - wanted).square().mean()))


@pytest.mark.cuda
def test_a_gpu_gives_nearly_the_same() -> None:
    device = require_cuda()
    network, image, own, driving = tiny_mcnet(), torch.rand(1, 3, CROP_PX, CROP_PX), keypoints(1, 1), keypoints(2, 8)
    wanted = network(network.encode(image, own), driving)
    network.to(device)
    for dtype, least in ((torch.float32, 60), (torch.float16, 40), (torch.bfloat16, 35)):
        folded = network.to(dtype).folded(is_tiled=False)
        found = folded(folded.encode(image.to(device), own.to(device)), driving.to(device)).cpu()
        assert psnr(found, wanted) > least


# Keypoints


def test_the_scale_is_that_of_the_faces() -> None:
    one = keypoints(3, 1, 15)
    larger = Keypoints(one.value * 1.7 + 0.1, one.jacobian)
    assert movement_scale(larger, one) == pytest.approx(1.7, rel=1e-5)
    flat = Keypoints(one.value * torch.tensor([1.0, 0.0]), one.jacobian)
    with pytest.raises(GenerationError, match="lie on a line"):
        movement_scale(one, flat)


def test_relative_motion() -> None:
    seen, source = keypoints(4, 1), keypoints(5, 6)
    moved = relative_keypoints(source, source[2:3], seen, 0.5)
    torch.testing.assert_close(moved.value[2:3], seen.value)
    torch.testing.assert_close(moved.jacobian[2:3], seen.jacobian, atol=1e-5, rtol=0)
    torch.testing.assert_close(moved.value[4] - moved.value[1], 0.5 * (source.value[4] - source.value[1]))
    singular = Keypoints(source.value, torch.zeros_like(source.jacobian))
    with pytest.raises(GenerationError, match="degenerate"):
        relative_keypoints(singular, singular[:1], seen)


def test_forward_and_backward_from_the_best_frame_in_one_pass() -> None:
    """The published loop runs twice from the best frame and joins the halves."""
    seen, source, start = keypoints(4, 1, 15), keypoints(5, 9, 15), 3
    scale = movement_scale(seen, source[start : start + 1])
    backward = [relative_keypoints(source[at : at + 1], source[start : start + 1], seen, scale) for at in (3, 2, 1, 0)]
    forward = [relative_keypoints(source[at : at + 1], source[start : start + 1], seen, scale) for at in range(3, 9)]
    wanted = Keypoints.joined(backward[::-1] + forward[1:])
    found = driving_keypoints(source, seen, start, 0, MotionSettings(head="source", smoothing_frames=1))
    torch.testing.assert_close(found.value, wanted.value)
    torch.testing.assert_close(found.jacobian, wanted.jacobian)
    absolute = MotionSettings(motion="absolute", head="source", smoothing_frames=1)
    assert torch.equal(driving_keypoints(source, seen, start, 0, absolute).value, source.value)


@pytest.mark.parametrize("motion", ["relative", "absolute"])
def test_the_head_is_the_target_s_and_the_face_the_source_s(motion: Any) -> None:
    time = torch.arange(90) / 30
    still = keypoints(6, 1, 15)

    def moving(slow: Tensor, quick: Tensor) -> Keypoints:
        value = still.value + slow[:, None, None] * torch.tensor([1.0, 0.0])
        value = value + torch.cat([torch.zeros(90, 14), quick[:, None]], 1)[..., None]
        return Keypoints(value, still.jacobian.expand(90, -1, -1, -1))

    turn_of_target, turn_of_source = 0.1 * torch.sin(time * 0.8), 0.2 * torch.cos(time * 0.6)
    speech = 0.05 * torch.sin(time * 2 * math.pi * 4)
    target, source = moving(turn_of_target, torch.zeros(90)), moving(turn_of_source, speech)
    settings = MotionSettings(motion=motion, is_scaled=False, smoothing_frames=1)
    found = driving_keypoints(source, target, 10, 5, settings).value
    wanted = moving(turn_of_target, speech).value
    inside = slice(HEAD_FRAMES // 2, -(HEAD_FRAMES // 2))
    assert (found - wanted)[inside].abs().max() < 0.01


def test_the_best_frame_is_the_most_like() -> None:
    random = np.random.default_rng(0)
    still = TEMPLATES["face"] * 200
    offered = still + random.normal(0, 6, (20, 5, 2)).astype(np.float32)
    offered[13] = still * 1.6 + 30  # elsewhere and larger: the same face
    features = np.zeros((20, len(FEATURES)), np.float32)
    assert best_frame((still, features[0]), (offered, features)) == 13
    features[13, FEATURES.index("eye_closure")] = 1  # a blink, which five points do not show
    assert best_frame((still, features[0]), (offered, features)) != 13
    np.testing.assert_allclose(normalised_landmarks(offered[13]), normalised_landmarks(still), atol=1e-5)
    assert not normalised_landmarks(np.tile(np.arange(5, dtype=np.float32)[:, None], 2)).any()
