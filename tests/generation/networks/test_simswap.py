"""SimSwap: stored vectors, the fast formulation, templates and pasting."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.parity.simswap import compare
from generation.crops.align import Batching, choose_templates
from generation.crops.templates import TEMPLATE_GROUPS, TEMPLATES
from generation.errors import GenerationError
from generation.generators.convolution import convolve, transform_kernels
from generation.generators.simswap import published_paste as simswap_paste
from generation.generators.simswap.fused import FusedSwapGenerator
from generation.generators.simswap.identity_encoder import SwapIdentity
from generation.generators.simswap.network import SwapGenerator
from generation.generators.simswap.parsing import FaceParsing
from tests.generation.networks.published import LATENT, tiny_swap

STORED = Path(__file__).parents[2] / "data" / "simswap"
SIDE_PX = 64


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.thorough
def test_stored_vectors() -> None:
    found = list(compare(STORED))
    assert len(found) > 100
    assert [one for one in found if not one.error <= one.tolerance] == []


@pytest.mark.slow
def test_all_vectors_are_met(vectors: Callable[[str], Path]) -> None:
    assert [one for one in compare(vectors("simswap")) if not one.error <= one.tolerance] == []


def test_published_key_lists() -> None:
    configs: dict[str, Any] = {
        "generator_224": SwapGenerator,
        "generator_512": partial(SwapGenerator, channels=(32, 64, 128, 256, 512), first_level=0),
        "generator_trainer_deep": partial(SwapGenerator, channels=(64, 128, 256, 512, 512), head="imagenet"),
        "identity": SwapIdentity,
        "parsing": FaceParsing,
    }
    for name, make in configs.items():
        listed = json.loads((STORED / f"keys_{name}.json").read_text())
        with torch.device("meta"):
            state = make().state_dict()
        assert [(key, list(value.shape)) for key, value in state.items()] != []
        assert {key: list(value.shape) for key, value in state.items()} == {key: shape for key, shape, _ in listed}


def test_biases_before_a_norm_have_no_effect_and_the_identity_has() -> None:
    network, images, latent = tiny_swap(), torch.rand(1, 3, SIDE_PX, SIDE_PX), torch.randn(1, LATENT)
    before = network(images, latent)
    with torch.no_grad():
        network.BottleNeck[1].conv2[1].bias.add_(3)  # taken away again by the norm
    assert torch.allclose(network(images, latent), before, atol=1e-5)
    assert (network(images, -latent) - before).abs().mean() > 1e-3


@pytest.mark.parametrize("is_tiled", [True, False])
@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, (64, 64)),
        ({}, (80, 112)),
        ({"first_level": 0}, (48, 80)),
        ({"channels": (8, 12, 16, 24, 24), "head": "imagenet"}, (48, 80)),
    ],
    ids=["224", "224-wide", "512", "trainer-deep"],
)
def test_fast_formulation_gives_the_same(is_tiled: bool, settings: Any, size: tuple[int, int]) -> None:
    network, latent = tiny_swap(**settings), nn.functional.normalize(torch.randn(1, LATENT))
    images = torch.rand(3, 3, *size)
    with torch.inference_mode():
        fused = FusedSwapGenerator(network, is_tiled=is_tiled)
        styles = fused.styles(latent)
        made = fused(images, styles)
        torch.testing.assert_close(made, network(images, latent), atol=2e-5, rtol=0)
        assert all(torch.equal(fused(images[at : at + 1], styles)[0], made[at]) for at in range(3))


@pytest.mark.parametrize("size", [(4, 4), (8, 60), (64, 64)])
def test_tiled_convolution(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    images, weight = torch.randn(3, 5, size[0] + 2, size[1] + 2), torch.randn(7, 5, 3, 3)
    wanted = nn.functional.conv2d(images.double(), weight.double())
    torch.testing.assert_close(convolve(images, transform_kernels(weight)).double(), wanted, atol=1e-4, rtol=0)


def test_pose_templates_are_chosen_and_kept() -> None:
    names = TEMPLATE_GROUPS["poses"]
    for name in names:
        assert choose_templates((TEMPLATES[name] * 300 + 40)[None], "poses") == [name]
    # A head half way between two poses, with noise: the choice changes once at most.
    random = np.random.default_rng(0)
    share = np.linspace(0.3, 0.7, 120)[:, None, None]
    path = (1 - share) * TEMPLATES["pose-frontal"] + share * TEMPLATES["pose-right"]
    noisy = (path * 200 + random.normal(0, 2, path.shape)).astype(np.float32)
    chosen = choose_templates(noisy, "poses")
    alone = [choose_templates(points[None], "poses")[0] for points in noisy]
    assert sum(a != b for a, b in pairwise(alone)) > 3
    assert sum(a != b for a, b in pairwise(chosen)) <= 1


def test_published_paste_works_on_the_rectangle_only() -> None:
    random = np.random.default_rng(0)
    frame = random.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    crop = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for shift in ([100, 80], [-60, 150], [330, 230], [900, 900]):  # inside, across the border, outside
        matrix = np.array([[0.4, 0.1, 0], [-0.1, 0.4, 0]], np.float32)
        matrix[:, 2] = -matrix[:, :2] @ np.array(shift)
        pasted = simswap_paste.paste_back(frame, crop, None, matrix)
        back = np.asarray(simswap_paste._inverse(matrix))
        seam = simswap_paste.seam_mask(back, 64, (300, 400))
        got = np.zeros_like(seam)
        got[pasted.region] = pasted.mask
        np.testing.assert_allclose(got, seam, atol=1e-6)
        assert np.array_equal(pasted.frame[seam == 0], frame[seam == 0])


def test_hardly_any_face_is_no_mask() -> None:
    labels = np.zeros((512, 512), np.int64)
    labels[:3, :6] = 1
    assert simswap_paste.face_mask(labels, 224) is None
    labels[100:400, 100:400] = 1
    labels[200:260, 200:300] = 11
    mask = simswap_paste.face_mask(labels, 224)
    assert mask is not None
    assert mask[110, 110] == 1
    assert mask[10, 10] == 0


def test_unknown_template() -> None:
    with pytest.raises(GenerationError, match="no such template"):
        Batching(64, template="profile")
