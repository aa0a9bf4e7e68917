"""Saved generators: names of their networks' modules stay when modules move; they are described without loading."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from diffusers import DiffusionPipeline, ModelMixin
from torch import nn
from transformers import PreTrainedModel
from typer.testing import CliRunner

from generation.errors import GenerationError
from generation.generators.conversion.provenance import Provenance, digest_folder, write_provenance
from generation.generators.loading import describe_generator, folder_digest, load_generator
from generation.generators.placement import choose_dtype
from generation.generators.registry import GENERATORS, NETWORK_MODULES, LoadOptions, imported
from tests.generation.diffusers.folders import PipelineFolders, save_face_adapter
from tests.generation.networks.onnx_files import identity, matrix, swapper
from tests.generation.networks.published import save_tiny
from tooling.cli.weights import weights_app

STYLEGAN = ["generation.models.stylegan3", "StyleganGenerator"]
SWAP, IDENTITY = ["generation.models.simswap", "SwapGenerator"], ["generation.models.simswap_identity", "SwapIdentity"]
# What model_index.json has held since the first release.
STORED: dict[str, dict[str, list[str]]] = {
    "simswap": {
        "network": SWAP,
        "identity": IDENTITY,
        "parsing": ["generation.models.face_parsing", "FaceParsing"],
    },
    "simswap-trained": {"network": SWAP, "identity": IDENTITY},
    "mcnet": {
        "detector": ["generation.models.mcnet_keypoints", "McnetDetector"],
        "animator": ["generation.models.mcnet", "McnetGenerator"],
    },
    "stylegan3": {"network": STYLEGAN},
    "text2stylegan": {"network": STYLEGAN},
    "styleganex": {"age": ["generation.models.styleganex", "StyleganexEditor"]},
    "weightfree-faces": {"face_space": ["generation.models.face_space", "FaceSpace"]},
}
EVERY = pytest.mark.parametrize("name", STORED)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("saved")
    for name in STORED:
        save_tiny(name, root / name)
    return root


def networks(folder: Path, name: str) -> dict[str, nn.Module]:
    pipeline = load_generator(name, LoadOptions(weights=str(folder), device="cpu"))
    return {key: part for key, part in pipeline.components.items() if isinstance(part, nn.Module)}


def index(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "model_index.json").read_text("utf-8"))
    return content


@EVERY
def test_stored_names_stay_and_are_loaded(folders: Path, name: str, tmp_path: Path) -> None:
    stored = index(folders / name)
    assert stored | STORED[name] == stored
    pipeline = load_generator(name, LoadOptions(weights=str(folders / name), device="cpu"))
    for key, (module, class_name) in STORED[name].items():
        assert type(pipeline.components[key]) is imported(f"{NETWORK_MODULES[module]}:{class_name}")
    pipeline.save_config(tmp_path)
    again = index(tmp_path)
    assert again | STORED[name] == again


def test_a_folder_that_names_the_modules_themselves_is_loaded_too(folders: Path, tmp_path: Path) -> None:
    saved = save_tiny("simswap", tmp_path / "simswap")
    named = {
        key: [NETWORK_MODULES.get(value[0], value[0]), value[1]]
        if isinstance(value, list) and len(value) == 2
        else value
        for key, value in index(saved).items()
    }
    assert named["network"][0] == "generation.generators.simswap.network"
    (saved / "model_index.json").write_text(json.dumps(named), "utf-8")
    expected = networks(folders / "simswap", "simswap")
    for key, part in networks(saved, "simswap").items():
        for one, other in zip(part.parameters(), expected[key].parameters(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("name", [name for name in STORED if name != "weightfree-faces"])
def test_weights_check_accepts_it(name: str, tmp_path: Path) -> None:
    folder = save_tiny(name, tmp_path / name)
    write_provenance(folder, Provenance(name, "", "", "", (), digest_folder(folder), {}))
    result = CliRunner().invoke(weights_app, ["check", str(folder)])
    assert result.exit_code == 0, result.output


# Descriptions


def described_by_loading(name: str, options: LoadOptions, family: str) -> dict[str, Any]:
    """What is recorded of a generator, read from the generator itself."""
    pipeline = load_generator(name, dataclasses.replace(options, dtype="float32"), family=family)
    parameters = dict(pipeline.parameters)
    if any(isinstance(part, nn.Module) for part in pipeline.components.values()):
        dtype = choose_dtype(options.dtype, torch.device("cpu"), pipeline.cuda_dtype)
        parameters["dtype"] = str(dtype).removeprefix("torch.")
    folder = pipeline.config.get("_name_or_path")
    return parameters | ({"weights": folder_digest(Path(folder))} if folder else {})


def check_description(
    monkeypatch: pytest.MonkeyPatch, name: str, options: LoadOptions, family: str = ""
) -> dict[str, Any]:
    """Describes a generator while nothing can be loaded; the description is that of the loaded generator."""
    expected = described_by_loading(name, options, family)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a network was loaded")

    with monkeypatch.context() as patch:
        for place, attribute in (
            (DiffusionPipeline, "from_pretrained"),
            (ModelMixin, "from_pretrained"),
            (PreTrainedModel, "from_pretrained"),
            (nn.Module, "__init__"),
            (onnxruntime.InferenceSession, "__init__"),
        ):
            patch.setattr(place, attribute, refuse)
        described = describe_generator(name, options, family=family)
    assert described == expected
    assert json.loads(json.dumps(described)) == described
    return described


@EVERY
def test_description_of_networks(folders: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = LoadOptions(str(folders / name), device="cpu", dtype="float16", batch_frames=3)
    described = check_description(monkeypatch, name, options)
    assert (described["dtype"], len(described["weights"])) == ("float16", 64)
    assert "batch_frames" not in described


@pytest.mark.parametrize("name", [name for name, info in GENERATORS.items() if not info.weights])
def test_description_without_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    described = check_description(monkeypatch, name, LoadOptions(device="cpu"))
    assert described
    assert not {"dtype", "weights"} & set(described)
    pipeline_class = imported(GENERATORS[name].location)
    monkeypatch.setattr(pipeline_class, "revision", pipeline_class.revision + 1)
    assert check_description(monkeypatch, name, LoadOptions(device="cpu")) == described | {
        "revision": pipeline_class.revision
    }


@pytest.mark.parametrize(
    ("class_name", "family"),
    [
        ("StableDiffusionPipeline", "full_face_generation"),
        ("StableDiffusionInstructPix2PixPipeline", "attribute_editing"),
        ("StableDiffusionInpaintPipeline", "face_swap"),
        ("WanAnimatePipeline", "expression_driven"),
    ],
)
def test_description_of_diffusers(
    class_name: str, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = PipelineFolders(tmp_path)(class_name)
    weights = None
    if family == "face_swap":
        save_face_adapter(tmp_path / "adapter", folder)
        identity(tmp_path / "adapter" / "identity.onnx")
        weights = str(tmp_path / "adapter")
    options = LoadOptions(weights, device="cpu")
    described = check_description(monkeypatch, f"diffusers:{folder}", options, family)
    assert (described["place"], described["pipeline"]) == (class_name, class_name)
    assert ("files" in described) == (family == "face_swap")


def test_description_of_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = swapper(tmp_path / "inswapper_128.onnx", 128, matrix(1))
    identity(tmp_path / "w600k_r50.onnx")
    described = check_description(monkeypatch, f"onnx:{path}", LoadOptions(device="cpu"), "face_swap")
    assert set(described["sha256"]) == {"network", "identity"}


def test_description_of_weights_that_are_missing(tmp_path: Path) -> None:
    for described in (describe_generator, load_generator):
        with pytest.raises(
            GenerationError, match="absent: no converted weights; run `tooling weights convert NAME FILES`"
        ):
            described("simswap", LoadOptions(str(tmp_path / "absent"), device="cpu"))
        (tmp_path / "model_index.json").write_text("[")
        with pytest.raises(GenerationError, match=r"cannot be loaded \(.*\); convert the weights again"):
            described("simswap", LoadOptions(str(tmp_path), device="cpu"))
    with pytest.raises(GenerationError, match="nowhere: no such device here"):
        describe_generator("weightfree-swap", LoadOptions(device="nowhere"))
