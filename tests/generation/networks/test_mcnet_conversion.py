"""MCNET: the published checkpoint's layout, converted or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from generation.errors import WeightsError
from generation.generators.conversion.convert import convert
from generation.generators.loading import load_generator
from generation.generators.mcnet import convert as converter
from generation.generators.mcnet.convert import convert_mcnet
from generation.generators.mcnet.keypoints import McnetDetector
from generation.generators.mcnet.network import McnetGenerator
from generation.generators.registry import GENERATORS, LoadOptions
from tests.generation.networks.published import mcnet_parts, tiny_detector, tiny_mcnet

DATA = Path(__file__).parents[2] / "data" / "mcnet"


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> tuple[McnetGenerator, McnetDetector]:
    """Networks of another size than the published, which the converter then expects."""
    monkeypatch.setattr(converter, "McnetGenerator", tiny_mcnet)
    monkeypatch.setattr(converter, "McnetDetector", tiny_detector)
    return tiny_mcnet(5), tiny_detector(6)


def test_a_published_checkpoint_is_converted(
    small_networks: tuple[McnetGenerator, McnetDetector], tmp_path: Path
) -> None:
    path = tmp_path / GENERATORS["mcnet"].weights[0]
    for prefix in ("module.", ""):
        parts = mcnet_parts(*small_networks)
        for name in ("generator", "kp_detector"):
            parts[name] = {f"{prefix}{key.removeprefix('module.')}": value for key, value in parts[name].items()}
        torch.save(parts, path, _use_new_zipfile_serialization=bool(prefix))
        out = tmp_path / f"out{prefix}"
        assert convert("mcnet", [path], out, origin="a test")
        loaded = load_generator("mcnet", LoadOptions(weights=str(out), device="cpu"))
        for own, model in ((small_networks[0], loaded.animator), (small_networks[1], loaded.detector)):
            found = model.state_dict()
            assert all(torch.equal(value, found[name]) for name, value in own.state_dict().items())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda parts: parts.pop("kp_detector"), "has no kp_detector"),
        (lambda parts: parts.update(extra=1), "holds extra, which"),
        (lambda parts: parts["generator"].pop("module.mbUnit.mb"), "generator: does not fit .*mbUnit.mb is missing"),
        (lambda parts: parts["generator"].update({"module.more": torch.ones(1)}), "more is unknown"),
        (lambda parts: parts["kp_detector"].update({"module.kp.bias": torch.ones(9)}), "kp.bias is 9, expected 3"),
    ],
)
def test_another_checkpoint_is_refused(
    small_networks: tuple[McnetGenerator, McnetDetector], tmp_path: Path, change: Any, expected: str
) -> None:
    parts = mcnet_parts(*small_networks)
    change(parts)
    torch.save(parts, tmp_path / "one.pth.tar")
    with pytest.raises(WeightsError, match=expected):
        convert_mcnet([tmp_path / "one.pth.tar"])


@pytest.mark.slow
def test_a_checkpoint_of_the_published_size_is_converted(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"epoch": 99}
    for name in ("generator", "kp_detector"):
        entries = json.loads((DATA / f"keys_{name}.json").read_text("utf-8"))["entries"]
        parts[name] = {
            f"module.{one['name']}": torch.full(one["shape"], 0.5).to(getattr(torch, one["dtype"])) for one in entries
        }
    torch.save(parts, tmp_path / "00000099-checkpoint.pth.tar")
    pipeline = convert_mcnet([tmp_path / "00000099-checkpoint.pth.tar"])
    assert float(pipeline.animator.final.weight.min()) == 0.5
    assert not any(part.training for part in (pipeline.animator, pipeline.detector))
