"""Pipelines of diffusers itself as generators, on tiny random networks that are built, saved and loaded here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from generation.arrays import Floats
from generation.crops.clip import FaceClip
from generation.crops.templates import TEMPLATES
from generation.errors import GenerationError
from generation.faces.identity import OnnxIdentity, clip_identity
from generation.generators.diffusers.animate import DiffusersAnimate, draw_skeleton
from generation.generators.diffusers.catalogue import Strength, read_catalogue
from generation.generators.diffusers.edit import DiffusersEdit
from generation.generators.diffusers.images import DiffusersImages
from generation.generators.diffusers.swap import DiffusersInpaintSwap
from generation.generators.registry import Family
from tests.actor_clips import film_person
from tests.generation.diffusers.folders import STEPS, PipelineFolders, loaded, save_face_adapter
from tests.generation.diffusers.tiny import BUILDERS, SIDE_PX
from tooling.actors import RenderSettings

pytestmark = pytest.mark.thorough

TEXT_TO_IMAGE = sorted(name for name, families in read_catalogue().items() if "full_face_generation" in families)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def film(seed: int, num_frames: int) -> FaceClip:
    settings = RenderSettings(10, fps=12, width_px=160, height_px=120, motion_seed=seed)
    return film_person(seed, "male", settings).face_clip(f"{seed}.mp4", num_frames)


def pictures(clip: FaceClip) -> NDArray[np.uint8]:
    return np.stack(list(clip.frames()))


@pytest.fixture(scope="module")
def clips() -> tuple[FaceClip, FaceClip]:
    return film(4, 5), film(1, 4)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> PipelineFolders:
    return PipelineFolders(tmp_path_factory.mktemp("diffusers"))


def pixel_encoder(crops: NDArray[np.uint8]) -> Floats:
    """Stands for a recognition network: some pixels of the crop as 512 values."""
    return crops.reshape(len(crops), -1)[:, 5000:5512].astype(np.float32) - 128


# --- images ---


def test_every_listed_class_can_be_built_and_loaded_here() -> None:
    listed = {name for name in read_catalogue() if name != "LEditsPPPipelineStableDiffusion"}
    assert listed <= set(BUILDERS)


@pytest.mark.parametrize("class_name", TEXT_TO_IMAGE)
def test_prompt_and_seed_decide_an_image(class_name: str, saved: PipelineFolders) -> None:
    pipe = loaded(saved(class_name), "full_face_generation")
    images = pipe("a face", num_images=2, generator=seeded(5), output_type="np").images
    assert images.shape == (2, SIDE_PX, SIDE_PX, 3)
    assert images.dtype == np.uint8
    assert np.abs(images[0].astype(int) - images[1]).mean() > 1
    np.testing.assert_array_equal(pipe.make_images(["a face"], [6])[0], images[1])
    other = pipe.make_images(["old person"], [6])[0]
    assert (other != images[1]).any()


def test_saved_again_it_makes_the_same_bytes(saved: PipelineFolders, tmp_path: Path) -> None:
    pipe = loaded(saved("StableDiffusionPipeline"), "full_face_generation")
    pipe.save_pretrained(tmp_path / "again")
    again = DiffusersImages.from_pretrained(tmp_path / "again", family="full_face_generation")
    np.testing.assert_array_equal(again.make_images(["a face"], [1]), pipe.make_images(["a face"], [1]))
    assert again.parameters["settings"] == pipe.parameters["settings"]
    with pytest.raises(GenerationError, match="is a DiffusersImages"):
        DiffusersEdit.from_pretrained(tmp_path / "again", family="full_face_generation")


def test_record_says_what_decides_the_result(saved: PipelineFolders) -> None:
    parameters = loaded(saved("StableDiffusionPipeline"), "full_face_generation").parameters
    assert parameters["pipeline"] == "StableDiffusionPipeline"
    assert parameters["place"] == "StableDiffusionPipeline"
    assert parameters["settings"]["arguments"] == {"num_inference_steps": 2, "guidance_scale": 7.5}
    assert json.loads(json.dumps(parameters)) == parameters


def test_class_described_beside_the_weights(saved: PipelineFolders, tmp_path: Path) -> None:
    folder = saved.copy("StableDiffusionPipeline", tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionPAGPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    entry = {"method": "text_to_image", "size_px": SIDE_PX, "arguments": STEPS, "prompt": "photograph of {prompt}"}
    (folder / "generator.json").write_text(json.dumps({"full_face_generation": entry}))
    pipe = loaded(folder, "full_face_generation")
    assert type(pipe.inner).__name__ == "StableDiffusionPAGPipeline"
    assert pipe.make_images(["a face"], [1]).shape == (1, SIDE_PX, SIDE_PX, 3)


# --- edits ---

EDITORS = (
    "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionXLInstructPix2PixPipeline",
    "StableDiffusionPipeline",  # by LEDITS++
)


@pytest.mark.parametrize(
    "class_name", [EDITORS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in EDITORS[1:])]
)
def test_edits_follow_the_factor(class_name: str, saved: PipelineFolders, clips: tuple[FaceClip, FaceClip]) -> None:
    target = film(4, 3)
    pipe = loaded(saved(class_name), "attribute_editing", batch_frames=3)
    result = pipe(target, attribute="age", factor=2.0, generator=seeded(1))
    assert result.frames.shape == (3, 120, 160, 3)
    assert result.masks.max() > 0.5
    outside = result.masks == 0
    assert outside.any()
    np.testing.assert_array_equal(result.frames[outside], pictures(target)[outside])
    # One frame at a time, the result is the same.
    single = loaded(saved(class_name), "attribute_editing", batch_frames=1)
    np.testing.assert_array_equal(
        single(target, attribute="age", factor=2.0, generator=seeded(1)).frames, result.frames
    )
    first = film(4, 1)
    changes: list[dict[str, Any]] = [
        {},
        {"factor": 1.0},
        {"factor": -2.0},
        {"attribute": "hair"},
        {"generator": seeded(2)},
    ]
    given: dict[str, Any] = {"attribute": "age", "factor": 2.0, "generator": seeded(1)}
    made = [pipe(first, **given | change).frames for change in changes]
    assert all((frames != made[0]).any() for frames in made[1:])


def test_factor_0_changes_nothing_and_a_small_one_little(saved: PipelineFolders) -> None:
    target = film(4, 1)
    pipe = loaded(saved("StableDiffusionInstructPix2PixPipeline"), "attribute_editing")
    none = pipe(target, attribute="hair", factor=0.0)
    np.testing.assert_array_equal(none.frames, pictures(target))
    assert not none.masks.any()
    little, full = (pipe(target, attribute="hair", factor=factor) for factor in (0.1, 1.0))
    changes = [np.abs(made.frames.astype(float) - pictures(target)).mean() for made in (little, full)]
    assert 0 < changes[0] < 0.3 * changes[1]


def test_edit_of_a_still_clip_does_not_flicker(saved: PipelineFolders) -> None:
    moving = film(4, 1)
    still = FaceClip.still("still", next(moving.frames()), moving.landmarks[0], 4)
    frames = loaded(saved("StableDiffusionInstructPix2PixPipeline"), "attribute_editing")(still, attribute="age").frames
    assert np.abs(frames.astype(int) - frames[0]).max() <= 1


def test_strength_grows_with_the_factor_to_a_bound() -> None:
    strength = Strength("guidance_scale", usual=6, per_factor=2, most=9)
    assert [strength.value(factor) for factor in (0.5, 1, 2, -2, 5)] == [6, 6, 8, 8, 9]


def test_attribute_without_prompts_is_refused(saved: PipelineFolders, clips: tuple[FaceClip, FaceClip]) -> None:
    pipe = loaded(saved("StableDiffusionInstructPix2PixPipeline"), "attribute_editing")
    with pytest.raises(GenerationError, match="edits age, hair, not glasses"):
        pipe(clips[0], attribute="glasses")


# --- face swap by inpainting ---


@pytest.fixture(scope="module")
def adapter(saved: PipelineFolders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_face_adapter(tmp_path_factory.mktemp("adapter"), saved("StableDiffusionInpaintPipeline"))


def test_swap_paints_the_source_identity(
    saved: PipelineFolders, adapter: Path, clips: tuple[FaceClip, FaceClip], tmp_path: Path
) -> None:
    target, source = film(4, 2), clips[1]
    pipe = loaded(saved("StableDiffusionInpaintPipeline"), "face_swap", weights=str(adapter))
    with pytest.raises(GenerationError, match="has no identity encoder; put an ArcFace network"):
        pipe(target, source)
    pipe.identity_encoder = pixel_encoder
    result = pipe(target, source, generator=seeded(1))
    assert result.frames.shape == (2, 120, 160, 3)
    outside = result.masks == 0
    np.testing.assert_array_equal(result.frames[outside], pictures(target)[outside])
    np.testing.assert_array_equal(pipe(target, source, generator=seeded(1)).frames, result.frames)
    assert (pipe(target, source, generator=seeded(2)).frames != result.frames).any()
    assert (pipe(target, target, generator=seeded(1)).frames != result.frames).any()
    # diffusers would lose the adapter here without a word.
    pipe.save_pretrained(tmp_path / "again")
    again: Any = DiffusersInpaintSwap.from_pretrained(tmp_path / "again")
    again.identity_encoder = pixel_encoder
    np.testing.assert_array_equal(again(target, source, generator=seeded(1)).frames, result.frames)
    np.testing.assert_array_equal(pipe(target, source, generator=seeded(1)).frames, result.frames)
    assert set(pipe.parameters["files"]) == {"face_adapter.safetensors"}


@pytest.mark.slow
def test_larger_network_and_one_not_made_for_inpainting(
    saved: PipelineFolders, tmp_path: Path, clips: tuple[FaceClip, FaceClip]
) -> None:
    for class_name, width in (("StableDiffusionXLInpaintPipeline", 64), ("StableDiffusionPipeline", 32)):
        extra = save_face_adapter(tmp_path / class_name, saved(class_name), width)
        pipe = loaded(saved(class_name), "face_swap", weights=str(extra))
        pipe.identity_encoder = pixel_encoder
        target = film(4, 1)
        result = pipe(target, clips[1])
        assert (result.frames[result.masks > 0.5] != pictures(target)[result.masks > 0.5]).any()


def test_swap_says_what_is_missing(
    saved: PipelineFolders, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved("StableDiffusionInpaintPipeline")
    with pytest.raises(GenerationError, match=r"has no face adapter; put a FaceID IP-Adapter as face_adapter\.safe"):
        loaded(folder, "face_swap")
    (tmp_path / "ip-adapter-faceid_sd15.bin").write_bytes(b"pickled")
    with pytest.raises(GenerationError, match=r"faceid_sd15\.bin: is a pickle, which is never read"):
        loaded(folder, "face_swap", weights=str(tmp_path))
    weights = load_file(adapter / "face_adapter.safetensors")
    lora = weights | {"ip_adapter.0.to_q_lora.down.weight": torch.zeros(4, 32)}
    save_file(lora, tmp_path / "face_adapter.safetensors")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(GenerationError, match="has LoRA weights, which need peft"):
        loaded(folder, "face_swap", weights=str(tmp_path))
    monkeypatch.undo()
    del weights["ip_adapter.1.to_k_ip.weight"]
    save_file(weights, tmp_path / "face_adapter.safetensors")
    with pytest.raises(GenerationError, match=r"face_adapter\.safetensors: "):
        loaded(folder, "face_swap", weights=str(tmp_path))


def test_identity_network_from_onnx(
    saved: PipelineFolders, adapter: Path, clips: tuple[FaceClip, FaceClip], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    helper = onnx.helper
    values = np.random.default_rng(0).standard_normal((3 * 112, 512)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["crop"], ["rows"], axes=[3], keepdims=0),
        helper.make_node("Flatten", ["rows"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "identity",
        [helper.make_tensor_value_info("crop", 1, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", 1, ["n", 512])],
        [onnx.numpy_helper.from_array(values, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    shutil.copytree(adapter, tmp_path, dirs_exist_ok=True)
    onnx.save(model, tmp_path / "identity.onnx")
    encoder = OnnxIdentity(tmp_path / "identity.onnx")
    crops = np.random.default_rng(1).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    wanted = (crops.transpose(0, 3, 1, 2) / 127.5 - 1).mean(3).reshape(2, -1) @ values
    np.testing.assert_allclose(encoder(crops), wanted, atol=1e-3)
    assert np.linalg.norm(clip_identity(clips[1], encoder)) == pytest.approx(1, abs=1e-5)
    pipe = loaded(saved("StableDiffusionInpaintPipeline"), "face_swap", weights=str(tmp_path))
    assert pipe(film(4, 1), clips[1]).frames.shape == (1, 120, 160, 3)
    (tmp_path / "identity.onnx").write_bytes(b"no network")
    with pytest.raises(GenerationError, match=r"identity\.onnx: is not an ONNX file"):
        loaded(saved("StableDiffusionInpaintPipeline"), "face_swap", weights=str(tmp_path))


# --- Wan-Animate ---


@pytest.mark.parametrize("family", ["expression_driven", pytest.param("face_swap", marks=pytest.mark.slow)])
def test_animation_in_segments(family: Family, saved: PipelineFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    target, source = film(4, 10), film(1, 6)  # three segments; the driving clip begins again
    pipe = loaded(saved("WanAnimatePipeline"), family, batch_frames=3)
    calls: list[dict[str, Any]] = []
    inner_call = type(pipe.inner).__call__

    def spy(self: Any, **arguments: Any) -> Any:
        calls.append(arguments)
        return inner_call(self, **arguments)

    monkeypatch.setattr(type(pipe.inner), "__call__", spy)
    result = pipe(target, source, generator=seeded(1))
    assert result.frames.shape == (10, 120, 160, 3)
    outside = result.masks == 0
    np.testing.assert_array_equal(result.frames[outside], pictures(target)[outside])
    assert (result.frames[result.masks > 0.9] != pictures(target)[result.masks > 0.9]).any()
    # Memory is that of one segment, and each goes on from the last frame of the one before.
    assert [len(call["pose_video"]) for call in calls] == [5, 5, 5]
    assert [call["mode"] for call in calls[1:]] == ["replace", "replace"]
    assert not np.asarray(calls[1]["mask_video"][0]).any()
    assert np.asarray(calls[1]["mask_video"][1]).any()
    count = len(calls)
    np.testing.assert_array_equal(pipe(target, source, generator=seeded(1)).frames, result.frames)
    previous = calls[count + 1]["background_video"][0]
    np.testing.assert_array_equal(np.asarray(previous), np.asarray(calls[1]["background_video"][0]))
    assert (pipe(target, source, generator=seeded(2)).frames != result.frames).any()


def test_going_on_is_what_the_pipeline_does_by_itself(saved: PipelineFolders) -> None:
    """Conditions of a second segment: from inside one long call, and from a call of its own."""
    inner = loaded(saved("WanAnimatePipeline"), "expression_driven").inner
    last = torch.rand(1, 3, 1, 32, 32) * 2 - 1
    common = {"segment_frame_length": 5, "height": 32, "width": 32, "dtype": torch.float32, "device": "cpu"}
    inside = inner.prepare_prev_segment_cond_latents(last, start_frame=4, task="animate", **common)
    background = torch.cat([last, torch.zeros(1, 3, 4, 32, 32)], 2)
    mask = torch.ones(1, 1, 5, 32, 32)
    mask[:, :, :1] = 0
    alone = inner.prepare_prev_segment_cond_latents(
        None, background_video=background, mask_video=mask, task="replace", **common
    )
    torch.testing.assert_close(alone, inside)


def test_networks_in_their_dtypes(saved: PipelineFolders, tmp_path: Path) -> None:
    pipe = loaded(saved("WanAnimatePipeline"), "expression_driven", dtype="bfloat16")
    assert pipe.inner.transformer.dtype == torch.bfloat16
    assert pipe.inner.vae.dtype == torch.float32
    assert pipe.cuda_dtype == torch.bfloat16
    pipe.save_pretrained(tmp_path / "again")
    assert isinstance(DiffusersAnimate.from_pretrained(tmp_path / "again", dtype="bfloat16"), DiffusersAnimate)


def test_segments_are_made_in_order(saved: PipelineFolders, clips: tuple[FaceClip, FaceClip]) -> None:
    from generation.crops.align import AlignedFaces

    pipe = loaded(saved("WanAnimatePipeline"), "expression_driven")
    faces = AlignedFaces(
        np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 5, 2), np.float32), np.zeros((1, 2, 3), np.float32), start=4
    )
    with pytest.raises(GenerationError, match="start the clip again"):
        pipe.replace(faces, pipe.prepare(*clips), seed=0)


def test_skeleton_is_drawn_where_the_landmarks_are() -> None:
    landmarks = TEMPLATES["head"] * 256
    drawn = draw_skeleton(landmarks, 256)
    for x, y in np.rint(landmarks[:3]).astype(int):
        assert drawn[y, x].any()
    assert 0.001 < drawn.any(2).mean() < 0.05
