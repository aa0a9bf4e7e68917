"""Published networks through the whole stage: files as published, converted, generated with, checked, recorded.

The networks are small and their weights set by hand (`networks_setup`), so that the fakes show a face and pass.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generation.crops.masks import read_masks
from generation.generators.conversion.convert import convert
from generation.generators.mcnet import convert as mcnet_converter
from generation.generators.mcnet.keypoints import McnetDetector
from generation.generators.mcnet.network import McnetGenerator
from generation.generators.registry import LoadOptions
from generation.generators.simswap import convert as simswap_converter
from generation.generators.simswap.identity_encoder import SwapIdentity
from generation.generators.simswap.network import SwapGenerator
from generation.generators.simswap.pipeline import SimSwap
from generation.generators.styleganex.network import StyleganexEditor
from generation.media.reader import read_clip
from tests.generation.networks.onnx_files import identity, matrix, swapper
from tests.generation.networks.published import (
    mcnet_parts,
    save_identity,
    show_the_crop,
    show_the_frame,
    show_the_still,
    styleganex_parts,
    tiny_detector,
    tiny_identity,
    tiny_mcnet,
    tiny_swap,
)
from tests.tooling.stages.generate.filmed import HEIGHT, NUM_FRAMES, WIDTH
from tooling.stages.generate import run as generate
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord

pytestmark = pytest.mark.thorough


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(workspace: Workspace, subset: str, name: str, generator: str, weights: Path | None) -> FileRecord:
    """Generates one fake and looks at all that belongs to it."""
    options = LoadOptions(weights=None if weights is None else str(weights), device="cpu")
    request = generate.GenerateRequest(generator, [name], options=options)
    result = generate.generate_fakes(workspace, subset, request, num_workers=1)
    assert result.refused == {}
    assert result.made == [f"{subset}/{name}"]
    record = workspace.records(subset)[f"{subset}/{name}"]
    assert (record.width, record.height, record.fps, record.num_frames) == (WIDTH, HEIGHT, 30, NUM_FRAMES)
    target = name.rpartition("/")[2].partition("_")[0]
    real, fake = (read_clip(workspace.path(path)).astype(int) for path in (f"raw_video/{target}.mp4", record.path))
    masks = np.stack(list(read_masks(workspace.path(f"masks/{record.path}"))))
    assert fake.shape == real.shape == (NUM_FRAMES, HEIGHT, WIDTH, 3)
    assert masks.shape == fake.shape[:3]
    change = np.abs(fake - real).mean(-1)
    assert change[masks > 200].mean() > 2
    assert change[masks == 0].mean() < 1.5  # the encoder's second pass
    assert generate.generate_fakes(workspace, subset, request, num_workers=1).kept == result.made
    return record


SIZES = pytest.mark.parametrize(
    "is_tiny", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["tiny", "published"]
)


@SIZES
def test_mcnet(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_tiny: bool) -> None:
    network, detector = (tiny_mcnet(), tiny_detector()) if is_tiny else (McnetGenerator(), McnetDetector())
    show_the_still(network, detector)
    if is_tiny:
        monkeypatch.setattr(mcnet_converter, "McnetGenerator", tiny_mcnet)
        monkeypatch.setattr(mcnet_converter, "McnetDetector", tiny_detector)
    path = tmp_path / "00000099-checkpoint.pth.tar"
    torch.save(mcnet_parts(network, detector), path)
    assert convert("mcnet", [path], tmp_path / "weights")
    record = made(workspace, "avatarify_video", "2_1", "mcnet", tmp_path / "weights")
    assert record.parameters["motion"] == "relative"
    assert len(record.parameters["weights"]) == 64


@SIZES
def test_styleganex(workspace: Workspace, tmp_path: Path, is_tiny: bool) -> None:
    network = StyleganexEditor(width=4 if is_tiny else 64).eval()
    show_the_frame(network)
    attribute = "age" if is_tiny else "hair"
    path = tmp_path / f"styleganex_edit_{attribute}.pt"
    torch.save(styleganex_parts(network), path)
    assert convert("styleganex", [path], tmp_path / "weights")
    # Smaller crops: the person is small too.
    index = tmp_path / "weights" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"crop_px": 128}))
    record = made(workspace, "edit_video", f"{attribute}/1", "styleganex", tmp_path / "weights")
    assert (record.parameters["attribute"], record.parameters["factor"]) == (attribute, 2.0)


@SIZES
def test_simswap(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_tiny: bool) -> None:
    network, encoder = (tiny_swap(), tiny_identity()) if is_tiny else (SwapGenerator().eval(), SwapIdentity().eval())
    show_the_crop(network)
    if is_tiny:
        monkeypatch.setattr(simswap_converter, "SwapIdentity", tiny_identity)
    paths = [tmp_path / "latest_net_G.pth", tmp_path / "arcface_checkpoint.tar"]
    torch.save(network.state_dict(), paths[0])
    save_identity(paths[1], encoder, monkeypatch)
    assert convert("simswap", paths, tmp_path / "weights")
    record = made(workspace, "swap_video", "1_2", "simswap", tmp_path / "weights")
    assert record.parameters["crop_px"] == 224
    assert record.generator == "simswap"


def test_onnx(workspace: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = swapper(tmp_path / "inswapper_128.onnx", 128, matrix(1), gain=0.9, blur_px=9)
    identity(tmp_path / "w600k_r50.onnx")
    record = made(workspace, "swap_video", "1_2", f"onnx:{path}", None)
    assert set(record.parameters["sha256"]) == {"network", "identity"}
    assert record.generator == "onnx:inswapper_128.onnx"  # and not where the file lay


def test_what_shows_no_other_face_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    pipeline = SimSwap(tiny_swap(), tiny_identity())  # random weights: noise
    pipeline.save_pretrained(tmp_path / "weights")
    options = LoadOptions(weights=str(tmp_path / "weights"), device="cpu")
    request = generate.GenerateRequest("simswap", ["1_2"], options=options)
    result = generate.generate_fakes(workspace, "swap_video", request, num_workers=1)
    assert result.made == []
    reason = result.refused["swap_video/1_2"]
    assert "rejected" in reason
    assert "\n" not in reason
    (line,) = workspace.path("rejects.jsonl").read_text("utf-8").splitlines()
    assert reason.startswith(json.loads(line)["reason"])  # what to do is said after it
    assert not workspace.path("swap_video/1_2.mp4").exists()
    assert not workspace.path("masks/swap_video/1_2.mp4").exists()
