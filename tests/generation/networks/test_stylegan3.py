"""StyleGAN3: vectors of the published implementation, its filters, its pickles, and the two pipelines over it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from benchmarks.parity import stylegan3 as parity
from generation.errors import GenerationError, WeightsError
from generation.generators.base import FaceImagePipeline
from generation.generators.conversion.convert import convert
from generation.generators.loading import load_generator
from generation.generators.registry import LoadOptions
from generation.generators.stylegan3 import convert as stylegan3
from generation.generators.stylegan3 import filtering as stylegan3_filtering
from generation.generators.stylegan3.convert import generator_settings, read_generator
from generation.generators.stylegan3.filtering import HEIGHT, WIDTH, banded, filtered_leaky_relu, spread
from generation.generators.stylegan3.geometry import Resampling
from generation.generators.stylegan3.latent_search import SearchSettings, draw_latents, search, start_latents
from generation.generators.stylegan3.pipeline import Stylegan3Faces
from generation.generators.stylegan3.text_pipeline import Text2Stylegan
from generation.weights.stylegan_pickle import read_stylegan
from tests.generation.networks.cuda import require_cuda
from tests.generation.networks.published import publish_clip, tiny_stylegan

pytestmark = pytest.mark.thorough

VECTORS = Path(__file__).parents[2] / "data" / "stylegan3"


def made(pipe: FaceImagePipeline, prompts: list[str], seeds: list[int]) -> NDArray[np.uint8]:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    output = pipe(prompts, generator=generators, output_type="np", return_dict=False)
    images: NDArray[np.uint8] = output[0]
    return images


def test_vectors_of_the_published_implementation() -> None:
    outside = [one for one in parity.compare(VECTORS) if not one.error <= one.tolerance]
    assert not outside


@pytest.mark.slow
def test_all_vectors_are_met(vectors: Callable[[str], Path]) -> None:
    found = list(parity.compare(vectors("stylegan3")))
    assert len(found) > 100
    assert not [one for one in found if not one.error <= one.tolerance]


def test_a_tensor_that_is_not_understood_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "strange.json").write_text("{}")
    assert [one.error for one in parity.compare(tmp_path)] == [math.inf]


def inserted_zeros(x: Tensor, taps: Tensor, axis: int, up: int, padding: tuple[int, int]) -> Tensor:
    """The definition of going up along one axis."""
    x = x.movedim(axis, -1)
    x = torch.nn.functional.pad(x[..., None], (0, up - 1)).flatten(-2)
    x = torch.nn.functional.pad(x, padding)
    return (x.unfold(-1, len(taps), 1) @ taps).movedim(-1, axis)


@pytest.mark.parametrize(("up", "padding"), [(2, (9, 8)), (4, (-6, -9)), (2, (-11, -12)), (2, (14, 16)), (1, (3, 2))])
@pytest.mark.parametrize("axis", [HEIGHT, WIDTH])
def test_both_ways_up_are_the_definition(up: int, padding: tuple[int, int], axis: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 37, 41)
    half = torch.randn(3 * up)
    taps = torch.cat([half, half.flip(0)])
    wanted = inserted_zeros(x, taps, axis, up, padding)
    for way in (spread, banded):
        got = way(x, taps, axis, wanted.shape[axis], up=up, low=padding[0])
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("axis", [HEIGHT, WIDTH])
def test_banded_way_down_is_a_convolution_with_stride(axis: int) -> None:
    torch.manual_seed(0)
    x, half = torch.randn(2, 3, 90, 90), torch.randn(6)
    taps = torch.cat([half, half.flip(0)])
    wanted = (x.movedim(axis, -1).unfold(-1, 12, 2) @ taps).movedim(-1, axis)
    torch.testing.assert_close(banded(x, taps, axis, 40, down=2), wanted, atol=1e-5, rtol=1e-5)


def test_parts_of_channels_and_images_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 20, 30, 30).contiguous(memory_format=torch.channels_last)
    affine = (torch.rand(3, 20), torch.randn(20))
    how = Resampling(2, 2, (9, 8), math.sqrt(2), 0.2, 1.5)
    taps = torch.hann_window(14, periodic=False)[1:-1] / 6
    whole = filtered_leaky_relu(x, affine, (taps, taps), how)
    monkeypatch.setattr(stylegan3_filtering, "NUMBERS_AT_ONCE", {"cpu": 1})
    torch.testing.assert_close(filtered_leaky_relu(x, affine, (taps, taps), how), whole, atol=1e-6, rtol=1e-6)
    assert whole.abs().max() < 4


def test_network_needs_no_more_than_its_own_image_and_compiles_without_breaks() -> None:
    network = tiny_stylegan()
    z = torch.randn(3, 16)
    with torch.inference_mode():
        together = network(z, psi=0.7)
        torch.testing.assert_close(network(z[1:2], psi=0.7), together[1:2], atol=1e-5, rtol=1e-4)
        compiled = torch.compile(network.synthesis, backend="eager", fullgraph=True)
        ws = network.mapping(z, psi=0.7)
        torch.testing.assert_close(compiled(ws), together, atol=1e-5, rtol=1e-4)
    assert together.std() > 1e-3


def test_half_precision_leaves_the_weights_alone() -> None:
    network = tiny_stylegan().to(torch.float16)
    assert network.synthesis.layer_dtype == torch.float16
    assert {one.dtype for one in network.state_dict().values()} == {torch.float32}
    assert tiny_stylegan().to("cpu").synthesis.layer_dtype == torch.float32


def test_pickle_converts_and_its_pipeline_is_bit_equal_after_reload(tmp_path: Path) -> None:
    assert convert("stylegan3", [VECTORS / "tiny_t.pkl"], tmp_path / "out", origin="test")
    network = read_generator(VECTORS / "tiny_t.pkl")
    direct = Stylegan3Faces(network)
    direct.set_progress_bar_config(disable=True)
    loaded: FaceImagePipeline = load_generator("stylegan3", LoadOptions(weights=str(tmp_path / "out"), device="cpu"))
    images = [made(pipe, ["a", "b"], [5, 2**40]) for pipe in (direct, loaded)]
    assert images[0].shape == (2, 32, 32, 3)
    assert images[0].dtype == np.uint8
    assert np.array_equal(images[0], images[1])
    assert np.array_equal(images[0][1], direct.make_images([""], [2**40])[0])
    assert not np.array_equal(images[0][0], images[0][1])


def test_settings_of_a_pickle_are_known_or_refused() -> None:
    given = json.loads((VECTORS / "tiny_t_init.json").read_text("utf-8"))["init_kwargs"]
    assert generator_settings(given, file="x")["mapping_layers"] == 2
    for more in ({"noise": 1}, {"img_resolution": 10**9}, {"conv_kernel": True}, {"mapping_kwargs": {"odd": 1}}):
        with pytest.raises(WeightsError, match=r"odd|noise|img_resolution|conv_kernel"):
            generator_settings(given | more, file="x")
    with pytest.raises(WeightsError, match="w_dim"):
        generator_settings({name: one for name, one in given.items() if name != "w_dim"}, file="x")


def test_pickle_of_another_size_than_it_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    published = read_stylegan(VECTORS / "tiny_t.pkl")
    other = dataclasses.replace(published, init_kwargs=published.init_kwargs | {"channel_max": 8})
    monkeypatch.setattr(stylegan3, "read_stylegan", lambda _: other)
    with pytest.raises(WeightsError, match=r"does not fit StyleganGenerator.*16.*expected"):
        read_generator(Path("changed.pkl"))


def test_plain_pipeline_turns_and_truncates() -> None:
    network = tiny_stylegan(conv_kernel=1, use_radial_filters=True)  # which turns as a whole
    turned = Stylegan3Faces(network, angle_degrees=180).make_images([""], [7])[0].astype(int)
    upright = Stylegan3Faces(network).make_images([""], [7])[0].astype(int)
    assert np.abs(turned[::-1, ::-1] - upright).max() <= 1
    assert np.abs(turned - upright).max() > 10
    average = Stylegan3Faces(network, psi=0.0).make_images(["", ""], [1, 2])
    assert np.array_equal(average[0], average[1])
    with pytest.raises(GenerationError, match="class_index"):
        Stylegan3Faces(network, class_index=0)


def brightness(images: Tensor, _: Any) -> Tensor:
    return images.mean((1, 2, 3))


@pytest.mark.parametrize("space", ["w", "z"])
def test_search_keeps_the_best_and_ends_early(space: Any) -> None:
    network = tiny_stylegan().requires_grad_(False)
    z = torch.from_numpy(draw_latents([1, 2], 16))
    settings = SearchSettings(space, num_iterations=12, learning_rate=0.05)
    start = start_latents(network, z, settings)
    found = search(network, start, brightness, settings)
    for number in range(2):
        alone = search(network, start[number : number + 1], brightness, settings)
        torch.testing.assert_close(found.latents[number : number + 1], alone.latents, atol=1e-3, rtol=1e-3)
        assert min(found.losses[number]) < found.losses[number][0]
        assert len(found.losses[number]) == 13
    # A loss that falls for three steps and rises then.
    steps = iter([3.0, 2.0, 1.0, *range(2, 50)])

    def dipping(images: Tensor, _: Any) -> Tensor:
        return images.mean((1, 2, 3)) * 0 + float(next(steps))

    ended = search(network, start[:1], dipping, SearchSettings(space, num_iterations=40, patience=5))
    assert ended.losses[0][:3] == [3, 2, 1]
    assert len(ended.losses[0]) == 9


@pytest.fixture(scope="module")
def clip_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return publish_clip(tmp_path_factory.mktemp("clip"))


def test_text2stylegan_converts_searches_and_reloads(tmp_path: Path, clip_files: list[Path]) -> None:
    out = tmp_path / "out"
    assert convert("text2stylegan", [VECTORS / "tiny_t.pkl", *clip_files], out, origin="test")
    pipe: Text2Stylegan = load_generator("text2stylegan", LoadOptions(weights=str(out), device="cpu"))
    assert isinstance(pipe.clip, CLIPModel)
    assert isinstance(pipe.tokenizer, CLIPTokenizer)
    assert (pipe.settings.psi, pipe.settings.learning_rate, pipe.settings.num_iterations) == (0.5, 0.02, 501)
    pipe.register_to_config(num_iterations=6)
    with torch.inference_mode():  # as on a GPU
        images = made(pipe, ["a man", "a woman"], [0, 1])
    assert images.shape == (2, 32, 32, 3)
    pipe.save_pretrained(tmp_path / "again")
    again = Text2Stylegan.from_pretrained(tmp_path / "again")
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(made(again, ["a man", "a woman"], [0, 1]), images)
    assert not np.array_equal(again.make_images(["another face"], [0])[0], images[0])
    with pytest.raises(GenerationError, match="shorten"):
        pipe.make_images(["x" * 100], [0])
    with pytest.raises(GenerationError, match="space"):
        Text2Stylegan(pipe.network, pipe.clip, pipe.tokenizer, space="x")


def test_clip_that_does_not_fit_is_refused(tmp_path: Path, clip_files: list[Path]) -> None:
    described = json.loads(clip_files[1].read_text("utf-8"))
    described["vision_config"]["hidden_size"] = 32
    (tmp_path / "config.json").write_text(json.dumps(described), "utf-8")
    files = [VECTORS / "tiny_t.pkl", clip_files[0], tmp_path / "config.json", *clip_files[2:]]
    with pytest.raises(WeightsError, match="does not fit CLIPModel"):
        convert("text2stylegan", files, tmp_path / "out")
    (tmp_path / "config.json").write_text(json.dumps(described | {"model_type": "bert"}), "utf-8")
    with pytest.raises(WeightsError, match=r"not the config\.json of a CLIP model"):
        convert("text2stylegan", files, tmp_path / "out")


@pytest.mark.cuda
@pytest.mark.parametrize("more", [{}, {"use_radial_filters": True, "conv_kernel": 1}], ids=["t", "r"])
def test_half_precision_on_a_gpu_is_near_the_cpu(more: dict[str, Any]) -> None:
    device = require_cuda()
    network, z = tiny_stylegan(**more), torch.randn(2, 16)
    with torch.inference_mode():
        wanted = network(z)
        network.to(device)
        whole = network(z.to(device)).cpu()
        halves = [network.to(dtype)(z.to(device)).cpu() for dtype in (torch.float16, torch.bfloat16)]
    torch.testing.assert_close(whole, wanted, atol=5e-4, rtol=1e-3)  # products may round to 10 bits there
    peak = float(wanted.max() - wanted.min())
    for half, least in zip(halves, (40, 25), strict=True):
        assert 10 * math.log10(peak**2 / float((half - wanted).square().mean())) > least
