"""StyleGANEX: stored vectors, two formulations of one network, conversion of checkpoints, and the editing loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from benchmarks.filled_weights import extra_values, filled_state
from benchmarks.parity import compare
from benchmarks.parity.styleganex import compare_alignment
from benchmarks.speed.styleganex import FrameAtATime, filled
from generation.crops.clip import FaceClip
from generation.errors import GenerationError, WeightsError
from generation.generators.base import AttributePipeline
from generation.generators.conversion.convert import convert
from generation.generators.convolution import TiledConv
from generation.generators.registry import GENERATORS
from generation.generators.styleganex.convert import network_config, read_editor
from generation.generators.styleganex.frames import FrameEncoder
from generation.generators.styleganex.network import StyleganexEditor
from generation.generators.styleganex.pipeline import StyleganexEdit
from tests.actor_clips import film_talk
from tests.generation.networks.cuda import require_cuda
from tests.generation.networks.published import OPTS, styleganex_parts

pytestmark = pytest.mark.thorough

DATA = Path(__file__).parents[2] / "data" / "styleganex"
WIDTH, CROP_PX = 4, 128


@pytest.fixture(scope="module")
def clip() -> FaceClip:
    return film_talk(4, 5)


@pytest.fixture(scope="module")
def network() -> StyleganexEditor:
    return filled(width=WIDTH)


@pytest.fixture(scope="module")
def pipeline(network: StyleganexEditor) -> StyleganexEdit:
    pipe = StyleganexEdit(age=network, crop_px=CROP_PX)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_rules_of_crop_and_alignment_are_the_published_ones() -> None:
    results = list(compare_alignment(DATA / "align.json"))
    assert len(results) == 42
    assert [one for one in results if one.error > one.tolerance] == []


def test_names_and_shapes_are_the_published_ones() -> None:
    listed = json.loads((DATA / "keys.json").read_text("utf-8"))
    shapes = {name: tuple(one["shape"]) for name, one in listed["state_dict"].items()}
    with torch.device("meta"):
        network = StyleganexEditor(**network_config(shapes, listed["config"], "keys.json"))
    own = {name: tuple(value.shape) for name, value in network.state_dict().items() if "." in name}
    assert own == shapes
    assert len(own) == listed["count"]


def test_features_and_labels_are_the_published_ones() -> None:
    vectors = load_file(DATA / "features.safetensors")
    with torch.device("meta"):
        network = StyleganexEditor()
    wanted = ("encoder.input_layer", "encoder.body.0.", "encoder.body.1.", "encoder.body.2.", "encoder.fusion")
    state = {name: one for name, one in network.state_dict().items() if name.startswith(wanted)}
    small = {name: one for name, one in state.items() if "fusion" not in name or ".linear." in name}
    encoder = network.encoder
    for name, value in filled_state(small, DATA, 0).items():
        module, _, last = name.removeprefix("encoder.").rpartition(".")
        owner = encoder.get_submodule(module)
        parts = owner._parameters if last in owner._parameters else owner._buffers
        parts[last] = torch.nn.Parameter(value) if last in owner._parameters else value
    x = ((torch.from_numpy(vectors["x1_A"]).float() / 255 - 0.5) / 0.5)[None]
    del encoder.body[3:]
    encoder.featlayer = torch.nn.Conv2d(1, 1, 1)
    frame_encoder = FrameEncoder.__new__(FrameEncoder)
    edit = extra_values(DATA, 0)["editing_w"][0]
    with torch.inference_mode():
        FrameEncoder.__init__(frame_encoder, encoder)
        first = frame_encoder.input_layer(x)
        third = frame_encoder.body(first)
        labels = {number: encoder.fusion[number].linear(edit[2 * number + 1]) for number in (0, 6)}
    for name, got, step in (("c256", first, (4, 16)), ("c128", third, (4, 8))):
        part = got[0, :: step[0], :: step[1], :: step[1]].numpy()
        assert np.abs(part - vectors[f"s0_A_1.0.enc.{name}"]).max() < 1e-4
    for number, label in labels.items():
        assert np.abs(label.numpy() - vectors[f"s0_A_1.0.fusion{number}.label"]).max() < 1e-4


@pytest.mark.slow
def test_all_vectors_are_met(vectors: Callable[[str], Path]) -> None:
    results = list(compare("styleganex", vectors("styleganex")))
    assert len(results) > 250
    assert [one for one in results if one.error > one.tolerance] == []


@pytest.mark.parametrize("config", [{}, {"use_skip_torgb": True}, {"use_skip": False}, {"max_pooling": True}])
def test_frame_network_gives_what_a_frame_at_a_time_gives(config: dict[str, Any]) -> None:
    network = filled(width=WIDTH, **config)
    random = torch.Generator().manual_seed(0)
    frames = torch.rand((2, 3, 72, 88), generator=random) * 2 - 1  # a sixteenth of a side is not whole
    face = torch.rand((1, 3, 256, 256), generator=random) * 2 - 1
    with torch.inference_mode():
        wanted = torch.cat([FrameAtATime(network)(frame[None], face, 2.0) for frame in frames])
        got = network.frame_network(network.latents(face)[0], 2.0)(frames)
        single = network(frames[:1], face, 2.0)
    assert got.shape == (2, 3, 288, 352)
    assert float((got - wanted).abs().max()) < 1e-5
    assert float((single - wanted[:1]).abs().max()) < 1e-5


@pytest.mark.parametrize(("dilation", "size"), [(1, (33, 43)), (2, (18, 20)), (8, (32, 40))])
def test_tiled_convolution_of_any_size_and_dilation(dilation: int, size: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn((2, 16, *size), generator=random)
    weight, bias = torch.randn((8, 16, 3, 3), generator=random), torch.randn(8, generator=random)
    wanted = torch.nn.functional.conv2d(x, weight, bias, 1, dilation, dilation)
    got = TiledConv(weight, bias, dilation=dilation)(x.contiguous(memory_format=torch.channels_last))
    assert float((got - wanted).abs().max()) < 1e-4


def test_factor_none_has_no_mask_and_zero_has(network: StyleganexEditor) -> None:
    frame = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        none, zero, one = (network(frame, None, factor) for factor in (None, 0.0, 1.0))
    assert float((none - zero).abs().max()) > 1e-3
    assert float((one - zero).abs().max()) > 1e-3


@pytest.mark.slow
def test_published_layout_is_converted_and_saved(tmp_path: Path, network: StyleganexEditor) -> None:
    paths = [tmp_path / "styleganex_edit_age.pt", tmp_path / "styleganex_edit_hair.pt"]
    torch.save(styleganex_parts(network), paths[0])
    torch.save(styleganex_parts(filled(width=WIDTH, use_skip_torgb=True), use_skip_torgb=True), paths[1])
    assert convert("styleganex", paths, tmp_path / "both")
    pipe = StyleganexEdit.from_pretrained(tmp_path / "both")
    assert pipe.hair.config.use_skip_torgb
    saved, own = pipe.age.state_dict(), network.state_dict()
    assert saved.keys() == own.keys()
    assert all(torch.equal(saved[name], own[name]) for name in own)
    assert convert("styleganex", paths[:1], tmp_path / "one")
    assert StyleganexEdit.from_pretrained(tmp_path / "one").hair is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"opts": {**OPTS, "skip_max_layer": 5}}, "skip_max_layer"),
        ({"opts": {**OPTS, "use_skip_torgb": True}}, "use_skip_torgb"),
        ({"opts": {**OPTS, "use_att": 2}}, "use_att"),
        ({"opts": {**OPTS, "encoder_type": "Other"}}, "encoder_type"),
        ({"editing_w": torch.zeros(3, 7)}, "editing_w"),
        ({"optimizer": {}}, "optimizer"),
        ({"editing_w": None}, "editing_w"),
    ],
)
def test_checkpoint_that_does_not_fit_is_refused(
    tmp_path: Path, network: StyleganexEditor, change: dict[str, Any], problem: str
) -> None:
    path = tmp_path / "styleganex_edit_age.pt"
    torch.save(styleganex_parts(network) | change, path)
    with pytest.raises(WeightsError, match=problem) as caught:
        read_editor(path)
    assert "\n" not in str(caught.value)


def test_missing_name_is_refused(tmp_path: Path, network: StyleganexEditor) -> None:
    parts = styleganex_parts(network)
    del parts["state_dict"]["encoder.latlayer1.bias"]
    torch.save(parts, tmp_path / "age.pt")
    with pytest.raises(WeightsError, match=r"encoder\.latlayer1\.bias is missing"):
        read_editor(tmp_path / "age.pt")


def test_name_of_a_file_tells_its_attribute(tmp_path: Path) -> None:
    location = GENERATORS["styleganex"].converter
    with pytest.raises(WeightsError, match="does not say the attribute"):
        convert("styleganex", [_empty(tmp_path / "cabbage.pt")], tmp_path / "out")
    assert location.endswith("convert_styleganex")


def _empty(path: Path) -> Path:
    path.write_bytes(b"\0")
    return path


def edited(pipe: AttributePipeline, clip: FaceClip, factor: float = 2.0) -> Any:
    with torch.inference_mode():
        return pipe(clip, attribute="age", factor=factor)


def test_edit_changes_the_head_and_nothing_else(pipeline: StyleganexEdit, clip: FaceClip) -> None:
    made = edited(pipeline, clip)
    before = np.stack(list(clip.frames()))
    assert np.array_equal(made.frames[made.masks == 0], before[made.masks == 0])
    eyes = clip.landmarks[0, :2].mean(0).round().astype(int)
    assert made.masks[0, eyes[1], eyes[0]] > 0.9
    assert 0.03 < float((made.masks > 0.5).mean()) < 0.5
    assert made.masks[:, :8].max() == 0
    assert np.abs(made.frames.astype(int) - before)[made.masks > 0.9].mean() > 1
    # No mask edge is hard: a step from one pixel to the next is a part of the whole.
    assert float(np.abs(np.diff(made.masks, axis=2)).max()) < 0.7


def test_result_does_not_depend_on_batches(pipeline: StyleganexEdit, network: StyleganexEditor, clip: FaceClip) -> None:
    other = StyleganexEdit(age=network, crop_px=CROP_PX, batch_frames=2)
    other.set_progress_bar_config(disable=True)
    one, two = edited(pipeline, clip), edited(other, clip)
    assert np.array_equal(one.frames, two.frames)
    assert np.array_equal(one.masks, two.masks)


def test_factor_zero_gives_back_the_clip(pipeline: StyleganexEdit, clip: FaceClip) -> None:
    made = edited(pipeline, clip, 0.0)
    assert np.array_equal(made.frames, np.stack(list(clip.frames())))
    assert made.masks.max() == 0


def test_saved_pipeline_gives_the_same(tmp_path: Path, pipeline: StyleganexEdit, clip: FaceClip) -> None:
    pipeline.save_pretrained(tmp_path)
    again = StyleganexEdit.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    short = FaceClip("short", lambda: islice(clip.frames(), 2), clip.landmarks[:2])
    assert np.array_equal(edited(again, short).frames, edited(pipeline, short).frames)


def test_frames_without_a_face_stay(pipeline: StyleganexEdit, clip: FaceClip) -> None:
    detected = np.array([False, True, False, True, True])
    made = edited(pipeline, FaceClip("gap", clip.frames, clip.landmarks, detected))
    assert made.masks[0].max() == 0
    assert made.masks[1:].max((1, 2)).min() > 0.9  # the third was missed between two that show the face


def test_missing_attribute_is_named(pipeline: StyleganexEdit, clip: FaceClip) -> None:
    with pytest.raises(GenerationError, match="hair: this pipeline has no network for it"):
        next(pipeline.stream(clip, attribute="hair"))
    with pytest.raises(GenerationError, match="divisible by 8"):
        StyleganexEdit(crop_px=100)


@pytest.mark.cuda
def test_half_precision_on_a_gpu_gives_the_same_picture() -> None:
    device = require_cuda()
    network = filled(width=16).to(device)
    random = torch.Generator().manual_seed(0)
    frames = (torch.rand((2, 3, 64, 96), generator=random) * 2 - 1).to(device)
    face = (torch.rand((1, 3, 256, 256), generator=random) * 2 - 1).to(device)
    with torch.inference_mode():
        wanted = torch.cat([FrameAtATime(network)(frame[None], face, 2.0) for frame in frames])
        half = network.frame_network(network.latents(face)[0], 2.0).half().to(memory_format=torch.channels_last)
        got = half(frames.half()).float()
    error = float((got.clamp(-1, 1) - wanted.clamp(-1, 1)).square().mean())
    assert -10 * np.log10(error / 4) > 40
