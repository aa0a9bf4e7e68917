"""Folders of saved generators: the names of their networks' modules are data, and stay when the modules move."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from networks_setup import save_tiny
from torch import nn
from typer.testing import CliRunner

from generation.generators.conversion.provenance import Provenance, digest_folder, write_provenance
from generation.generators.loading import load_generator
from generation.generators.registry import NETWORK_MODULES, LoadOptions, imported
from tooling.cli.weights import app

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
    result = CliRunner().invoke(app, ["check", str(folder)])
    assert result.exit_code == 0, result.output
