"""What `--generator diffusers:PLACE` refuses: other families, foreign code, pickles, weights with a gap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from generation.errors import GenerationError
from generation.generators.diffusers.catalogue import CatalogueEntry, find_entry, read_catalogue
from generation.generators.loading import describe_generator, load_generator
from generation.generators.registry import LoadOptions
from tests.generation.diffusers.folders import STEPS, PipelineFolders, loaded


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> PipelineFolders:
    return PipelineFolders(tmp_path_factory.mktemp("diffusers"))


def test_record_has_the_digest_of_the_weights(saved: PipelineFolders, tmp_path: Path) -> None:
    options = LoadOptions(device="cpu")
    folder = saved.copy("StableDiffusionPipeline", tmp_path)
    before, again = (
        describe_generator(f"diffusers:{folder}", options, family="full_face_generation") for _ in range(2)
    )
    assert before == again
    assert len(before["weights"]) == 64
    path = next((folder / "unet").glob("*.safetensors"))
    weights = load_file(path)
    weights["conv_in.bias"] += 1
    save_file(weights, path, metadata={"format": "pt"})
    after = describe_generator(f"diffusers:{folder}", options, family="full_face_generation")
    assert after["weights"] != before["weights"]


def test_unknown_class_is_named_and_the_known_are_listed(saved: PipelineFolders, tmp_path: Path) -> None:
    folder = saved.copy("StableDiffusionPipeline", tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "EvilPipeline"}))
    (folder / "generator.json").unlink()
    with pytest.raises(GenerationError, match=r"EvilPipeline is not a known pipeline; use one of FluxPipeline, "):
        loaded(folder, "full_face_generation")


@pytest.mark.parametrize("class_name", ["FluxPipeline", "WanAnimatePipeline"])
def test_pipeline_of_another_family_is_refused_in_one_line(class_name: str, saved: PipelineFolders) -> None:
    with pytest.raises(GenerationError, match=f"{class_name} serves .*, not attribute_editing") as caught:
        loaded(saved(class_name), "attribute_editing")
    assert "\n" not in str(caught.value)


def test_family_is_asked_for_where_there_are_several(saved: PipelineFolders) -> None:
    folder = saved("WanAnimatePipeline")
    with pytest.raises(GenerationError, match="serves expression_driven and face_swap; say which"):
        load_generator(f"diffusers:{folder}", LoadOptions(device="cpu"))


def test_foreign_code_is_refused(saved: PipelineFolders, tmp_path: Path) -> None:
    folder = saved.copy("StableDiffusionPipeline", tmp_path)
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps(index | {"_class_name": ["pipeline", "Own"]}))
    with pytest.raises(GenerationError, match=r"needs code of its own \(pipeline\.Own\), which is never run"):
        loaded(folder, "full_face_generation")
    (folder / "own.py").write_text("raise SystemExit('ran')")
    path.write_text(json.dumps(index | {"unet": ["own", "Network"]}))
    with pytest.raises(GenerationError, match=r"needs code of its own \(own\.Network\), which is never run"):
        loaded(folder, "full_face_generation")
    path.write_text(json.dumps(index))
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": {"AutoModel": "own.Network"}}))
    with pytest.raises(GenerationError, match="needs code of its own"):
        loaded(folder, "full_face_generation")


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_pickled_weights_are_refused_unread(part: str, saved: PipelineFolders, tmp_path: Path) -> None:
    folder = saved.copy("StableDiffusionPipeline", tmp_path)
    stored = next((folder / part).glob("*.safetensors"))
    ran = tmp_path / "ran"

    class Malicious:
        def __reduce__(self) -> Any:
            return Path.touch, (ran,)

    name = "diffusion_pytorch_model.bin" if part == "unet" else "pytorch_model.bin"
    torch.save({"weight": Malicious()}, folder / part / name)
    stored.unlink()
    with pytest.raises(GenerationError, match=rf"{part}/{name}: is a pickle, which is never read"):
        loaded(folder, "full_face_generation")
    assert not ran.exists()
    (folder / part / name).unlink()
    with pytest.raises(GenerationError, match=f"{part}: has no weights as safetensors"):
        loaded(folder, "full_face_generation")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_missing_weight_is_named(part: str, saved: PipelineFolders, tmp_path: Path) -> None:
    folder = saved.copy("StableDiffusionPipeline", tmp_path)
    path = next((folder / part).glob("*.safetensors"))
    weights = load_file(path)
    name = sorted(name for name in weights if name.endswith("weight"))[0]
    save_file({key: value for key, value in weights.items() if key != name}, path, metadata={"format": "pt"})
    with pytest.raises(GenerationError, match=f"{part}: weight .* is missing; get the folder again"):
        loaded(folder, "full_face_generation")


def test_weight_too_many_or_of_another_shape_is_named(saved: PipelineFolders, tmp_path: Path) -> None:
    folder = saved.copy("StableDiffusionPipeline", tmp_path)
    path = next((folder / "unet").glob("*.safetensors"))
    weights = load_file(path)
    save_file(weights | {"own.weight": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(GenerationError, match=r"unet: weight own\.weight is not one of this network"):
        loaded(folder, "full_face_generation")
    save_file(weights | {"conv_in.weight": torch.zeros(2, 2)}, path, metadata={"format": "pt"})
    with pytest.raises(GenerationError, match=r"unet: .*conv_in\.weight"):
        loaded(folder, "full_face_generation")


def test_places_without_a_pipeline(tmp_path: Path) -> None:
    with pytest.raises(GenerationError, match=r"has no model_index\.json"):
        loaded(tmp_path, "full_face_generation")
    with pytest.raises(GenerationError, match="no such folder"):
        loaded(tmp_path / "nowhere", "full_face_generation")
    with pytest.raises(GenerationError, match=r"someone/nothing: neither a folder here nor a repository at the Hub"):
        load_generator("diffusers:someone/nothing", LoadOptions(device="cpu"), family="face_swap")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"size_px": 100}, "size_px is 100"),
        ({"steps": 4}, "no such setting: steps"),
        ({"method": "animate"}, "use text_to_image"),
        ({"strength": {"argument": "x"}}, "strength needs argument"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], reason: str, tmp_path: Path) -> None:
    (tmp_path / "generator.json").write_text(json.dumps({"full_face_generation": values}))
    with pytest.raises(GenerationError, match=reason):
        find_entry("FluxPipeline", "full_face_generation", [tmp_path], "here")
    (tmp_path / "generator.json").write_text("{")
    with pytest.raises(GenerationError, match=r"generator\.json: is not JSON"):
        find_entry("FluxPipeline", "full_face_generation", [tmp_path], "here")


def test_every_entry_of_the_catalogue_is_complete() -> None:
    for class_name, families in read_catalogue().items():
        for family in families:
            _, entry = find_entry(class_name, family, [], class_name)
            assert isinstance(entry, CatalogueEntry)
            assert entry.licence
            assert entry.checked
            if family == "attribute_editing":
                assert set(entry.prompts) == {"age", "hair"}


def test_argument_that_the_pipeline_does_not_take_is_one_line(saved: PipelineFolders, tmp_path: Path) -> None:
    folder = saved.copy("StableDiffusionPipeline", tmp_path)
    settings = {"full_face_generation": {"size_px": 64, "arguments": STEPS | {"sharpness": 2}}}
    (folder / "generator.json").write_text(json.dumps(settings))
    with pytest.raises(GenerationError, match="StableDiffusionPipeline takes no argument sharpness"):
        loaded(folder, "full_face_generation")


def test_error_of_the_pipeline_inside_is_one_line(saved: PipelineFolders, tmp_path: Path) -> None:
    folder = saved.copy("StableDiffusionPipeline", tmp_path)
    settings = {"full_face_generation": {"size_px": 64, "arguments": STEPS | {"clip_skip": 99}}}
    (folder / "generator.json").write_text(json.dumps(settings))
    with pytest.raises(GenerationError, match="StableDiffusionPipeline refused its arguments") as caught:
        loaded(folder, "full_face_generation")("a face")
    assert "\n" not in str(caught.value)
