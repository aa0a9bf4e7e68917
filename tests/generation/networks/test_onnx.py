"""Face swap networks in ONNX: tiny ones with the published contracts, made here."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from generation.arrays import Floats, Frame
from generation.crops.align import aligned_batches
from generation.crops.clip import FaceClip
from generation.errors import GenerationError
from generation.faces.identity import OnnxIdentity, clip_embedding
from generation.generators.base import ClipOutput
from generation.generators.loading import describe_generator, load_generator
from generation.generators.onnx.pipeline import OnnxSwap
from generation.generators.onnx.swapper import find_swapper
from generation.generators.registry import LoadOptions
from generation.weights.onnx_network import OnnxNetwork
from tests.actor_clips import film_talk
from tests.generation.networks.onnx_files import FLOAT, identity, matrix, save, swapper

pytestmark = pytest.mark.thorough

pytest.importorskip("onnxruntime")

NUM_FRAMES = 5


@pytest.fixture(scope="module")
def clips() -> tuple[FaceClip, FaceClip]:
    return film_talk(4, NUM_FRAMES), film_talk(1, NUM_FRAMES)


def test_onnxruntime_keeps_to_itself(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR")}
    subprocess.run([sys.executable, "-c", "import generation, onnxruntime"], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []  # no identifier of this machine, no events to send


def crossface(path: Path, matrix: Floats) -> Path:
    given = helper.make_tensor_value_info("input", FLOAT, [1, 512])
    made = helper.make_tensor_value_info("output", FLOAT, [1, 512])
    return save(path, [helper.make_node("MatMul", ["input", "matrix"], ["output"])], [given], made, {"matrix": matrix})


def load(path: Path, **options: Any) -> OnnxSwap:
    pipeline: OnnxSwap = load_generator(f"onnx:{path}", LoadOptions(device="cpu", **options), family="face_swap")
    return pipeline


def first_crop(pipeline: OnnxSwap, clip: FaceClip) -> Frame:
    crop: Frame = next(aligned_batches(clip, pipeline.batching)).crops[0]
    return crop


def unit(values: Floats) -> Floats:
    return np.asarray(values / np.linalg.norm(values), np.float32)


@pytest.mark.parametrize("length", ["unit", "divided"])
def test_inswapper(clips: tuple[FaceClip, FaceClip], tmp_path: Path, length: str) -> None:
    projection = matrix(1)
    path = swapper(tmp_path / "inswapper_128.onnx", 128, projection)
    identity(tmp_path / "w600k_r50.onnx")
    if length == "divided":  # the other reading of the contract, by a description beside the file
        (tmp_path / "inswapper_128.toml").write_text(
            'files = ["inswapper_128.onnx"]\nlicence = "test"\nsize_px = 128\ntemplate = "arcface-128"\n'
            '[source]\nprojection = "last-initializer"\nlength = "divided"\n'
        )
    pipeline = load(path)
    embedding = clip_embedding(clips[1], OnnxIdentity(tmp_path / "w600k_r50.onnx"))
    projected = embedding @ projection
    wanted = unit(projected) if length == "unit" else projected / np.linalg.norm(embedding)
    prepared = pipeline.prepare(*clips)
    np.testing.assert_allclose(prepared[0], wanted, rtol=1e-4, atol=1e-6)
    assert np.linalg.norm(prepared) == pytest.approx(1, abs=1e-5) or length == "divided"
    crop = first_crop(pipeline, clips[0])
    made = np.clip(np.rint((crop / 255 * 0.5 + wanted[:3]) * 255), 0, 255)
    assert np.abs(pipeline.swap(crop, prepared) - made).max() <= 1


def test_ghost_with_its_converter(clips: tuple[FaceClip, FaceClip], tmp_path: Path) -> None:
    converter = matrix(2) * np.float32(1e-4)
    path = swapper(tmp_path / "ghost_1_256.onnx", 256)
    extra = tmp_path / "weights"
    extra.mkdir()
    identity(extra / "identity.onnx")
    crossface(extra / "crossface_ghost.onnx", converter)
    pipeline = load(path, weights=str(extra))
    wanted = clip_embedding(clips[1], OnnxIdentity(extra / "identity.onnx")) @ converter
    prepared = pipeline.prepare(*clips)
    np.testing.assert_allclose(prepared[0], wanted, rtol=1e-4, atol=1e-5)
    crop = first_crop(pipeline, clips[0])
    given = (crop / 255 - 0.5) / 0.5
    made = ((given * 0.5 + wanted[:3]) * 0.5 + 0.5) * 255
    assert np.abs(pipeline.swap(crop, prepared) - np.clip(np.rint(made), 0, 255)).max() <= 1


def test_imagenet_input_and_plain_output(clips: tuple[FaceClip, FaceClip], tmp_path: Path) -> None:
    path = swapper(tmp_path / "simswap_256.onnx", 256, gain=0.1)
    identity(tmp_path / "identity.onnx")
    crossface(tmp_path / "crossface_simswap.onnx", matrix(3))
    pipeline = load(path)
    prepared = pipeline.prepare(*clips)
    assert np.linalg.norm(prepared) == pytest.approx(1, abs=1e-5)
    crop = first_crop(pipeline, clips[0])
    given = (crop / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    made = np.clip(np.rint((given * 0.1 + prepared[0, :3]) * 255), 0, 255)
    assert np.abs(pipeline.swap(crop, prepared) - made).max() <= 1


def test_source_as_a_picture(clips: tuple[FaceClip, FaceClip], tmp_path: Path) -> None:
    pipeline = load(swapper(tmp_path / "uniface_256.onnx", 256, source_px=256))
    prepared = pipeline.prepare(*clips)
    assert prepared.shape == (1, 3, 256, 256)
    assert 0 <= prepared.min() < prepared.max() <= 1
    crop = first_crop(pipeline, clips[0])
    made = (((crop / 255 - 0.5) / 0.5 * 0.5 + prepared[0].mean((1, 2))) * 0.5 + 0.5) * 255
    assert np.abs(pipeline.swap(crop, prepared) - np.clip(np.rint(made), 0, 255)).max() <= 1


def test_the_loop(clips: tuple[FaceClip, FaceClip], tmp_path: Path) -> None:
    path = swapper(tmp_path / "hyperswap_1a_256.onnx", 256)
    identity(tmp_path / "identity.onnx")
    detected = np.array([False, True, False, True, True])
    seen = np.array([False, True, True, True, True])  # the third was missed between two that show the face
    target = dataclasses.replace(clips[0], is_detected=detected)
    pipeline = load(path, batch_frames=2)
    result = list(pipeline.stream(target, clips[1]))
    assert len(result) == NUM_FRAMES
    for pasted, is_seen in zip(result, seen, strict=True):
        mask = np.zeros(pasted.frame.shape[:2], np.float32)
        mask[pasted.region] = pasted.mask
        assert np.array_equal(pasted.frame[mask == 0], pasted.original[mask == 0])
        assert is_seen == (pasted.frame != pasted.original).any() == (mask.max() > 0.9)
    whole: Any = load(path)(target, clips[1])
    assert isinstance(whole, ClipOutput)
    assert np.array_equal(np.stack([pasted.frame for pasted in result]), np.asarray(whole.frames))


def test_saved_and_loaded(clips: tuple[FaceClip, FaceClip], tmp_path: Path) -> None:
    identity(tmp_path / "identity.onnx")
    pipeline = load(swapper(tmp_path / "inswapper_128_fp32.onnx", 128, matrix(1)))
    pipeline.save_pretrained(tmp_path / "saved")
    again = OnnxSwap.from_pretrained(tmp_path / "saved")
    one, other = (np.stack([pasted.frame for pasted in pipe.stream(*clips)]) for pipe in (pipeline, again))
    assert np.array_equal(one, other)
    assert again.swapper == pipeline.swapper


def test_what_is_recorded(tmp_path: Path) -> None:
    identity(tmp_path / "identity.onnx")
    path = swapper(tmp_path / "inswapper_128.onnx", 128, matrix(1))
    first = describe_generator(f"onnx:{path}", LoadOptions(device="cpu"), family="face_swap")
    assert first["contract"]["template"] == "arcface-128"
    assert set(first["sha256"]) == {"network", "identity"}
    assert json.loads(json.dumps(first)) == first  # else a rerun would take the record for another's
    swapper(path, 128, matrix(2))
    assert describe_generator(f"onnx:{path}", LoadOptions(device="cpu"))["sha256"] != first["sha256"]
    assert str(tmp_path) not in str(first)


def test_errors_name_file_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(GenerationError, match=r"gone\.onnx: no such file"):
        load(tmp_path / "gone.onnx")
    path = swapper(tmp_path / "unheard_of.onnx", 128)
    with pytest.raises(GenerationError, match=r"no description of this network; known are .*inswapper_128\*\.onnx"):
        load(path)
    path = path.rename(tmp_path / "inswapper_128.onnx")
    with pytest.raises(GenerationError, match=r"needs identity\.onnx or w600k_r50\.onnx .*--weights"):
        load(path)
    identity(tmp_path / "identity.onnx")
    with pytest.raises(GenerationError, match="its last weight is"):
        load(path)
    with pytest.raises(GenerationError, match="swaps faces, and cannot do attribute_editing"):
        load_generator(f"onnx:{path}", family="attribute_editing")
    with pytest.raises(GenerationError, match=r"takes a target of \[1, 3, 64, 64\], not \(1, 3, 128, 128\)"):
        load(swapper(path, 64, matrix(1)))
    path.write_bytes(b"no network")
    with pytest.raises(GenerationError, match=r"inswapper_128\.onnx: is not an ONNX file"):
        load(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("size_px =", "Invalid value"),
        ('files = ["a"]\nlicence = "x"\nsize_px = 64\ntemplate = "profile"', "template 'profile'; use one of"),
        ('files = ["a"]\nlicence = "x"\nsize_px = 64\ntemplate = "ffhq"\nmean = [1, 2]', "one number, or three"),
        ('files = ["a"]\nlicence = "x"\nsize_px = 64\ntemplate = "ffhq"\nsize = 3', "unknown key size"),
        ('files = ["a"]\nlicence = "x"\nsize_px = 64\ntemplate = "ffhq"\n[source]\nkind = "video"', "kind 'video'"),
        ('files = ["a"]', "missing"),
    ],
)
def test_wrong_descriptions(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "net.toml").write_text(text)
    with pytest.raises(GenerationError, match=problem) as caught:
        find_swapper(tmp_path / "net.onnx")
    assert "net.toml" in str(caught.value)


def test_every_published_file_is_known() -> None:
    names = {
        "inswapper_128_fp16": 128,
        "simswap_256": 256,
        "simswap_unofficial_512": 512,
        "ghost_3_256": 256,
        "hififace_unofficial_256": 256,
        "hyperswap_1c_256": 256,
        "blendswap_256": 256,
        "uniface_256": 256,
    }
    assert {name: find_swapper(Path(f"{name}.onnx")).size_px for name in names} == names


def test_projection_that_is_not_finite_is_refused(clips: tuple[FaceClip, FaceClip], tmp_path: Path) -> None:
    path = swapper(tmp_path / "inswapper_128.onnx", 128, np.full_like(matrix(1), 3e38))
    identity(tmp_path / "w600k_r50.onnx")
    with pytest.raises(
        GenerationError, match=r"inswapper_128\.onnx: gives values that are not finite; use another file$"
    ):
        load(path).prepare(*clips)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = OnnxNetwork(swapper(tmp_path / "n.onnx", 128, gain=float("nan")))
    given = {"target": np.zeros((1, 3, 128, 128), np.float32), "source": np.zeros((1, 512), np.float32)}
    with pytest.raises(GenerationError, match=r"n\.onnx: gives values that are not finite; use another file$"):
        network(given)
