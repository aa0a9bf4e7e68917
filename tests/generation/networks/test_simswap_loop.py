"""SimSwap: the loop over a clip, and the conversion of published files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from generation.crops.align import aligned_batches
from generation.crops.clip import FaceClip, PastedFrame
from generation.errors import GenerationError, WeightsError
from generation.generators.conversion.convert import convert
from generation.generators.loading import load_generator
from generation.generators.registry import GENERATORS, LoadOptions
from generation.generators.simswap import convert as converter
from generation.generators.simswap.identity_encoder import SwapIdentity
from generation.generators.simswap.network import SwapGenerator
from generation.generators.simswap.parsing import FaceParsing
from generation.generators.simswap.pipeline import SimSwap
from tests.actor_clips import film_talk
from tests.generation.networks.cuda import require_cuda
from tests.generation.networks.published import LATENT, save_identity, tiny_identity, tiny_parsing, tiny_swap

pytestmark = pytest.mark.thorough

NUM_FRAMES, SIDE_PX = 9, 64


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_pipeline(*, has_parsing: bool = False, **settings: Any) -> SimSwap:
    parsing = tiny_parsing() if has_parsing else None
    pipeline = SimSwap(tiny_swap(), tiny_identity(), parsing, **{"crop_px": SIDE_PX, "batch_frames": 4, **settings})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def clips() -> tuple[FaceClip, FaceClip]:
    return film_talk(4, NUM_FRAMES), film_talk(1, NUM_FRAMES)


def run(pipeline: SimSwap, clips: tuple[FaceClip, FaceClip]) -> list[PastedFrame]:
    return list(pipeline.stream(*clips))


def same(first: list[PastedFrame], second: list[PastedFrame]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(np.array_equal(a.frame, b.frame) and np.array_equal(a.mask, b.mask) for a, b in pairs)


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
    results = [run(tiny_pipeline(has_parsing=has_parsing, batch_frames=num), clips) for num in (1, 4)]
    assert same(results[0], results[1])


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
    plain = SimSwap(tiny_swap(), tiny_identity(), crop_px=SIDE_PX)
    trained = SimSwap(tiny_swap(head="imagenet"), tiny_identity(), crop_px=SIDE_PX)
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
        tiny_swap(head="sigmoid")


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


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The three files, with small networks inside."""
    monkeypatch.setattr(converter, "SwapIdentity", tiny_identity)
    monkeypatch.setattr(converter, "FaceParsing", tiny_parsing)
    folder = tmp_path / "published"
    folder.mkdir()
    paths = [folder / name for name in ("latest_net_G.pth", "arcface_checkpoint.tar", "79999_iter.pth")]
    torch.save(tiny_swap().state_dict(), paths[0])
    save_identity(paths[1], tiny_identity(), monkeypatch)
    torch.save(tiny_parsing().state_dict(), paths[2])
    return paths


def equal_states(first: Any, second: Any) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_conversion_in_any_order(published: list[Path], tmp_path: Path, clips: tuple[FaceClip, FaceClip]) -> None:
    assert convert("simswap", [published[2], published[0], published[1]], tmp_path / "out")
    pipeline = load_generator("simswap", LoadOptions(weights=str(tmp_path / "out"), device="cpu"))
    assert equal_states(pipeline.network, tiny_swap())
    assert equal_states(pipeline.identity, tiny_identity())
    assert equal_states(pipeline.parsing, tiny_parsing())
    assert (pipeline.config.crop_px, pipeline.config.template) == (224, "poses")
    assert len(run(pipeline, clips)) == NUM_FRAMES


@pytest.mark.parametrize("options", [{"_use_new_zipfile_serialization": False}, {"is_parallel": True}], ids=str)
def test_other_shapes_of_the_identity_file(
    published: list[Path], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    save_identity(published[1], tiny_identity(), monkeypatch, **options)
    pipeline = converter.convert_published(published[:2])
    assert equal_states(pipeline.identity, tiny_identity())
    assert pipeline.parsing is None


def test_older_upload_of_the_identity(published: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    save_identity(published[1], tiny_identity(), monkeypatch, is_parallel=True)
    whole = torch.load(published[1], weights_only=False)
    torch.save({"epoch": 3, "model": whole}, published[1])
    assert equal_states(converter.convert_published(published[:2]).identity, tiny_identity())


def test_nothing_in_the_identity_file_is_run(published: list[Path], tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    torch.save({"model": Evil()}, published[1])
    with pytest.raises(WeightsError, match=r"arcface_checkpoint\.tar: contains .*exec"):
        converter.convert_published(published[:2])
    assert not (tmp_path / "ran").exists()


def test_network_for_512(published: list[Path]) -> None:
    large = tiny_swap(channels=(4, 8, 12, 16, 24), first_level=0)
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
    state = tiny_swap().state_dict()
    del state["BottleNeck.1.style2.linear.bias"]
    torch.save(state, published[0])
    with pytest.raises(WeightsError, match=r"BottleNeck\.1\.style2\.linear\.bias is missing"):
        converter.convert_published(published[:2])
    torch.save({"weight": torch.zeros(3)}, published[0])
    with pytest.raises(WeightsError, match="is neither swapping network, identity encoder nor parsing network"):
        converter.convert_published(published[:2])
    with pytest.raises(WeightsError, match=r"needs 2 files .*; may have 550000_net_G\.pth"):
        convert("simswap", published[:1], tmp_path / "out")
    assert GENERATORS["simswap"].weights == ("latest_net_G.pth", "arcface_checkpoint.tar")


@pytest.mark.slow
def test_conversion_at_the_published_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in ("550000_net_G.pth", "arcface_checkpoint.tar", "79999_iter.pth")]
    network = SwapGenerator(channels=(32, 64, 128, 256, 512), first_level=0)
    torch.save(network.state_dict(), paths[0])
    identity = SwapIdentity()
    save_identity(paths[1], identity, monkeypatch, _use_new_zipfile_serialization=False)
    torch.save(FaceParsing().state_dict(), paths[2])
    assert convert("simswap", paths, tmp_path / "out")
    pipeline = load_generator("simswap", LoadOptions(weights=str(tmp_path / "out"), device="cpu"))
    assert equal_states(pipeline.network, network)
    assert pipeline.config.crop_px == 512
