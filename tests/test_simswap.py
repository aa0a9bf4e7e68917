"""SimSwap: stored vectors, the fast formulation, the loop over a clip, and the conversion of published files."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from actor_clips import render_actor
from cuda_setup import require_cuda
from torch import nn

from benchmarks.parity_simswap import compare
from generation import simswap_paste
from generation.errors import GenerationError, WeightsError
from generation.families import FAMILIES, LoadOptions, load_generator
from generation.models.face_parsing import FaceParsing
from generation.models.simswap import SwapGenerator
from generation.models.simswap_fused import FusedSwapGenerator
from generation.models.simswap_identity import SwapIdentity
from generation.models.tiled_convolution import convolve, transform_kernels
from generation.pipelines.simswap import SimSwap
from generation.templates import TEMPLATE_GROUPS
from generation.warp import TEMPLATES, Batching, FaceClip, PastedFrame, aligned_batches, choose_templates
from generation.weights import simswap as converter
from generation.weights.convert import convert

STORED = Path(__file__).parent / "data" / "simswap"
SHARED = Path(__file__).parents[2] / "shared" / "golden" / "simswap"
NUM_FRAMES, SIDE_PX, LATENT = 9, 64, 16


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def film_actor(seed: int, num_frames: int) -> FaceClip:
    clip = render_actor(seed, "male", num_frames, motion_seed=seed)
    return FaceClip(f"{seed}.mp4", lambda: iter(clip.frames), clip.landmarks)


def tiny_network(**settings: Any) -> Any:
    torch.manual_seed(0)
    network = SwapGenerator(**{"channels": (8, 12, 16, 24), "num_blocks": 2, "latent_size": LATENT, **settings})
    return randomised(network)


def tiny_identity() -> Any:
    torch.manual_seed(1)
    return randomised(SwapIdentity(layers=(1, 1, 1, 1), widths=(4, 4, 8, 8), latent_size=LATENT))


def tiny_parsing() -> Any:
    torch.manual_seed(2)
    return randomised(FaceParsing(width=4))


def randomised(network: Any) -> Any:
    """With statistics, so that a norm that is forgotten shows."""
    for part in network.modules():
        if hasattr(part, "running_mean"):
            for value, low in (
                (part.running_mean, -0.2),
                (part.running_var, 0.7),
                (part.weight, 0.8),
                (part.bias, -0.2),
            ):
                value.data.uniform_(low, low + 0.4)
    return network.eval()


def tiny_pipeline(*, has_parsing: bool = False, **settings: Any) -> SimSwap:
    parsing = tiny_parsing() if has_parsing else None
    pipeline = SimSwap(tiny_network(), tiny_identity(), parsing, **{"crop_px": SIDE_PX, "batch_frames": 4, **settings})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def clips() -> tuple[FaceClip, FaceClip]:
    return film_actor(4, NUM_FRAMES), film_actor(1, NUM_FRAMES)


def run(pipeline: SimSwap, clips: tuple[FaceClip, FaceClip]) -> list[PastedFrame]:
    return list(pipeline.stream(*clips))


def same(first: list[PastedFrame], second: list[PastedFrame]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(np.array_equal(a.frame, b.frame) and np.array_equal(a.mask, b.mask) for a, b in pairs)


# --- parity ---


def test_stored_vectors() -> None:
    found = list(compare(STORED))
    assert len(found) > 100
    assert [one for one in found if not one.error <= one.tolerance] == []


@pytest.mark.slow
def test_all_stored_vectors() -> None:
    if not SHARED.is_dir():
        pytest.skip("needs the shared vectors")
    assert [one for one in compare(SHARED) if not one.error <= one.tolerance] == []


def test_published_key_lists() -> None:
    if not SHARED.is_dir():
        pytest.skip("needs the shared key lists")
    configs: dict[str, Any] = {
        "generator_224": SwapGenerator,
        "generator_512": partial(SwapGenerator, channels=(32, 64, 128, 256, 512), first_level=0),
        "generator_trainer_deep": partial(SwapGenerator, channels=(64, 128, 256, 512, 512), head="imagenet"),
        "identity": SwapIdentity,
        "parsing": FaceParsing,
    }
    for name, make in configs.items():
        listed = json.loads((SHARED / f"keys_{name}.json").read_text())
        with torch.device("meta"):
            state = make().state_dict()
        assert [(key, list(value.shape)) for key, value in state.items()] != []
        assert {key: list(value.shape) for key, value in state.items()} == {key: shape for key, shape, _ in listed}


def test_biases_before_a_norm_have_no_effect_and_the_identity_has() -> None:
    network, images, latent = tiny_network(), torch.rand(1, 3, SIDE_PX, SIDE_PX), torch.randn(1, LATENT)
    before = network(images, latent)
    with torch.no_grad():
        network.BottleNeck[1].conv2[1].bias.add_(3)  # taken away again by the norm
    assert torch.allclose(network(images, latent), before, atol=1e-5)
    assert (network(images, -latent) - before).abs().mean() > 1e-3


# --- the fast formulation ---


@pytest.mark.parametrize("is_tiled", [True, False])
@pytest.mark.parametrize(
    "settings",
    [{}, {"first_level": 0}, {"channels": (8, 12, 16, 24, 24), "head": "imagenet"}],
    ids=["224", "512", "trainer-deep"],
)
@pytest.mark.parametrize("size", [(64, 64), (80, 112)])
def test_fast_formulation_gives_the_same(is_tiled: bool, settings: Any, size: tuple[int, int]) -> None:
    network, latent = tiny_network(**settings), nn.functional.normalize(torch.randn(1, LATENT))
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


def test_changed_weights_are_noticed() -> None:
    pipeline = tiny_pipeline()
    first = pipeline.fused
    assert pipeline.fused is first
    with torch.no_grad():
        pipeline.components["network"].last_layer[1].bias.add_(1)
    assert pipeline.fused is not first


@pytest.mark.cuda
@pytest.mark.parametrize("is_compiled", [False, True])
def test_gpu_in_half_precision(clips: tuple[FaceClip, FaceClip], is_compiled: bool) -> None:
    device = require_cuda()
    wanted = run(tiny_pipeline(has_parsing=False), clips)
    pipeline = tiny_pipeline(is_compiled=is_compiled).to(device, torch.float16)
    for one, other in zip(run(pipeline, clips), wanted, strict=True):
        assert np.abs(one.frame.astype(int) - other.frame).max() <= 4


# --- the loop ---


@pytest.mark.parametrize("pasting", ["soft", "published"])
@pytest.mark.parametrize("has_parsing", [False, True])
def test_only_pixels_under_the_mask_change(clips: tuple[FaceClip, FaceClip], pasting: str, has_parsing: bool) -> None:
    result = run(tiny_pipeline(has_parsing=has_parsing, pasting=pasting), clips)
    assert len(result) == NUM_FRAMES
    for pasted in result:
        weight = np.zeros(pasted.frame.shape[:2], np.float32)
        weight[pasted.region] = pasted.mask
        assert np.array_equal(pasted.frame[weight == 0], pasted.original[weight == 0])
        if not has_parsing:
            assert 0.01 < weight.mean() < 0.5
            assert (pasted.frame != pasted.original).any()


@pytest.mark.parametrize("has_parsing", [False, True])
def test_frames_without_a_face_pass_through(clips: tuple[FaceClip, FaceClip], has_parsing: bool) -> None:
    detected = np.ones(NUM_FRAMES, bool)
    detected[[0, 2, 4, 5, 6, 7]] = False
    seen = detected.copy()
    seen[2] = True  # missed between two frames that show the face
    target = dataclasses.replace(clips[0], is_detected=detected)
    pipeline = tiny_pipeline(has_parsing=has_parsing, batch_frames=2)
    for pasted, is_seen in zip(run(pipeline, (target, clips[1])), seen, strict=True):
        assert is_seen or not pasted.mask.any()
        assert is_seen or np.array_equal(pasted.frame, pasted.original)
        assert has_parsing or not is_seen or pasted.mask.max() > 0.9


@pytest.mark.parametrize("has_parsing", [False, True])
def test_batches_change_nothing(clips: tuple[FaceClip, FaceClip], has_parsing: bool) -> None:
    results = [run(tiny_pipeline(has_parsing=has_parsing, batch_frames=num), clips) for num in (1, 4, 9)]
    assert same(results[0], results[1])
    assert same(results[0], results[2])


@pytest.mark.parametrize("has_parsing", [False, True])
def test_saved_and_loaded(clips: tuple[FaceClip, FaceClip], tmp_path: Path, has_parsing: bool) -> None:
    pipeline = tiny_pipeline(has_parsing=has_parsing)
    pipeline.save_pretrained(tmp_path)
    again = SimSwap.from_pretrained(tmp_path)
    assert again.parameters == pipeline.parameters
    assert same(run(again, clips), run(pipeline, clips))


def test_identity_comes_from_the_source(clips: tuple[FaceClip, FaceClip]) -> None:
    pipeline = tiny_pipeline()
    one, other = (pipeline.prepare(clips[0], source).styles for source in (clips[1], clips[0]))
    assert (one - other).abs().max() > 1e-3
    assert not same(run(pipeline, clips), run(pipeline, (clips[0], clips[0])))


def test_masks_do_not_flicker(clips: tuple[FaceClip, FaceClip], monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = tiny_pipeline(has_parsing=True, context_frames=2)
    calls: list[int] = []

    def parse(crop: Any) -> Any:  # one frame in three has no mouth
        calls.append(len(calls))
        mask = np.ones(crop.shape[:2], np.float32)
        mask[40:] = float(len(calls) % 3 != 0)
        return mask

    monkeypatch.setattr(pipeline, "parse", parse)
    prepared = pipeline.prepare(*clips)
    masks = [pipeline.replace(faces, prepared).masks for faces in aligned_batches(clips[0], pipeline.batching)]
    inside = np.concatenate(masks)[:, 45, 32]
    assert len(calls) == NUM_FRAMES  # each frame is parsed once
    assert np.abs(np.diff(inside)).max() < 0.5


def test_published_head_of_the_trainer(clips: tuple[FaceClip, FaceClip]) -> None:
    plain = SimSwap(tiny_network(), tiny_identity(), crop_px=SIDE_PX)
    trained = SimSwap(tiny_network(head="imagenet"), tiny_identity(), crop_px=SIDE_PX)
    faces = next(aligned_batches(clips[0], plain.batching))
    latent = nn.functional.normalize(torch.randn(1, LATENT))
    with torch.inference_mode():
        made = trained.swap(faces.crops[:1], trained.fused.styles(latent))
        mean, deviation = (np.array(values, np.float32) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        given = torch.from_numpy((faces.crops[:1] / 255 - mean) / deviation).permute(0, 3, 1, 2).float()
        wanted = trained.network(given, latent)[0].permute(1, 2, 0).numpy() * deviation + mean
        assert np.abs(np.clip(np.rint(wanted * 255), 0, 255) - made[0]).max() <= 1
        assert np.abs(plain.swap(faces.crops[:1], plain.fused.styles(latent)).astype(int) - made).mean() > 5


def test_wrong_settings() -> None:
    with pytest.raises(GenerationError, match="pasting 'hard'; use one of soft, published"):
        tiny_pipeline(pasting="hard")
    with pytest.raises(GenerationError, match="crop_px 60: this network takes sides divisible by 8"):
        tiny_pipeline(crop_px=60)
    with pytest.raises(ValueError, match="head 'sigmoid'"):
        tiny_network(head="sigmoid")


# --- templates and pasting ---


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


# --- conversion ---


def publish_identity(path: Path, network: SwapIdentity, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Saves the network as a whole module of the published classes."""
    names = {"SwapIdentity": "ResNet", "IdentityBlock": "IRBlock", "Excitation": "SEBlock"}
    place = types.ModuleType("models.arcface_models")
    for name in names.values():
        setattr(place, name, type(name, (nn.Module,), {"__module__": place.__name__}))
    monkeypatch.setitem(sys.modules, "models", types.ModuleType("models"))
    monkeypatch.setitem(sys.modules, place.__name__, place)

    def copied(part: nn.Module) -> nn.Module:
        kind = names.get(type(part).__name__)
        new = getattr(place, kind)() if kind else part
        for name, child in part.named_children():
            new.add_module(name, copied(child))
        return new

    whole = copied(network)
    torch.save(nn.DataParallel(whole) if options.pop("is_parallel", False) else whole, path, **options)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The three files, with small networks inside."""
    small = partial(SwapIdentity, layers=(1, 1, 1, 1), widths=(4, 4, 8, 8), latent_size=LATENT)
    monkeypatch.setattr(converter, "SwapIdentity", small)
    monkeypatch.setattr(converter, "FaceParsing", partial(FaceParsing, width=4))
    folder = tmp_path / "published"
    folder.mkdir()
    paths = [folder / name for name in ("latest_net_G.pth", "arcface_checkpoint.tar", "79999_iter.pth")]
    torch.save(tiny_network().state_dict(), paths[0])
    publish_identity(paths[1], tiny_identity(), monkeypatch)
    torch.save(tiny_parsing().state_dict(), paths[2])
    return paths


def equal_states(first: Any, second: Any) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_conversion_in_any_order(published: list[Path], tmp_path: Path, clips: tuple[FaceClip, FaceClip]) -> None:
    assert convert("simswap", [published[2], published[0], published[1]], tmp_path / "out")
    pipeline = load_generator("simswap", LoadOptions(weights=str(tmp_path / "out"), device="cpu"))
    assert equal_states(pipeline.network, tiny_network())
    assert equal_states(pipeline.identity, tiny_identity())
    assert equal_states(pipeline.parsing, tiny_parsing())
    assert (pipeline.config.crop_px, pipeline.config.template) == (224, "poses")
    assert len(run(pipeline, clips)) == NUM_FRAMES


@pytest.mark.parametrize("options", [{"_use_new_zipfile_serialization": False}, {"is_parallel": True}], ids=str)
def test_other_shapes_of_the_identity_file(
    published: list[Path], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    publish_identity(published[1], tiny_identity(), monkeypatch, **options)
    pipeline = converter.convert_published(published[:2])
    assert equal_states(pipeline.identity, tiny_identity())
    assert pipeline.parsing is None


def test_older_upload_of_the_identity(published: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    publish_identity(published[1], tiny_identity(), monkeypatch, is_parallel=True)
    whole = torch.load(published[1], weights_only=False)
    torch.save({"epoch": 3, "model": whole}, published[1])
    assert equal_states(converter.convert_published(published[:2]).identity, tiny_identity())


def test_nothing_in_the_identity_file_is_run(published: list[Path], tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    torch.save({"model": Evil()}, published[1])
    with pytest.raises(WeightsError, match=r"arcface_checkpoint\.tar: holds .*exec"):
        converter.convert_published(published[:2])
    assert not (tmp_path / "ran").exists()


def test_network_for_512(published: list[Path]) -> None:
    large = tiny_network(channels=(4, 8, 12, 16, 24), first_level=0)
    torch.save({f"module.{name}": value for name, value in large.state_dict().items()}, published[0])
    pipeline = converter.convert_published(published[:2])
    assert equal_states(pipeline.network, large)
    assert (pipeline.config.crop_px, pipeline.config.template) == (512, "ffhq")
    assert pipeline.network.config.head == "tanh01"
    assert converter.convert_trained(published[:2]).network.config.head == "imagenet"


def test_refused_files(published: list[Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no identity encoder among them"):
        converter.convert_published([published[0], published[2]])
    with pytest.raises(WeightsError, match="is a swapping network, and so is"):
        converter.convert_published([published[0], published[0]])
    state = tiny_network().state_dict()
    del state["BottleNeck.1.style2.linear.bias"]
    torch.save(state, published[0])
    with pytest.raises(WeightsError, match=r"BottleNeck\.1\.style2\.linear\.bias is missing"):
        converter.convert_published(published[:2])
    torch.save({"weight": torch.zeros(3)}, published[0])
    with pytest.raises(WeightsError, match="is neither swapping network, identity encoder nor parsing network"):
        converter.convert_published(published[:2])
    with pytest.raises(WeightsError, match=r"needs 2 files .*; may have 550000_net_G\.pth"):
        convert("simswap", published[:1], tmp_path / "out")
    assert FAMILIES["simswap"].weights == ("latest_net_G.pth", "arcface_checkpoint.tar")


@pytest.mark.slow
def test_conversion_at_the_published_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in ("550000_net_G.pth", "arcface_checkpoint.tar", "79999_iter.pth")]
    network = SwapGenerator(channels=(32, 64, 128, 256, 512), first_level=0)
    torch.save(network.state_dict(), paths[0])
    identity = SwapIdentity()
    publish_identity(paths[1], identity, monkeypatch, _use_new_zipfile_serialization=False)
    torch.save(FaceParsing().state_dict(), paths[2])
    assert convert("simswap", paths, tmp_path / "out")
    pipeline = load_generator("simswap", LoadOptions(weights=str(tmp_path / "out"), device="cpu"))
    assert equal_states(pipeline.network, network)
    assert pipeline.config.crop_px == 512
