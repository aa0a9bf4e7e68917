"""Published weights that are as they should be: read bit for bit, from every format."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file
from torch import nn

from generation.errors import WeightsError
from generation.weights.onnx_file import read_onnx
from generation.weights.pickle_stream import Bag
from generation.weights.state import load_strict, state_dict, strip_prefix, under
from generation.weights.stylegan_pickle import read_stylegan
from generation.weights.torch_file import LAYERS, read_torch
from tests.generation.weights import written
from tests.generation.weights.written import TinyNet, tensor, write_legacy

STYLEGAN = Path(__file__).parents[2] / "data" / "stylegan3"
SMAPS = Path("/proc/self/smaps")
FORMATS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])


class Block(nn.Module):
    """A publisher's own class: a shared slope, a buffer that is not saved, a part that is absent."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, bias=False)
        self.prelu = nn.PReLU()
        self.norm = nn.BatchNorm2d(3)
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))
        self.again = self.prelu
        self.absent = None
        self.register_buffer("scratch", torch.ones(2), persistent=False)
        self.register_buffer("kept", torch.arange(3))


def assert_same(found: Any, expected: Any) -> None:
    """Equal values of equal kinds; tensors bit for bit, and ordered dicts as dicts."""
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


def save(value: Any, path: Path, is_zip: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=is_zip)
    return path


@FORMATS
def test_every_kind_of_value(tmp_path: Path, is_zip: bool) -> None:
    torch.manual_seed(0)
    base = torch.randn(6, 8)
    numbers = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8]
    value = {
        "state_dict": OrderedDict(a=base, tied=base, part=base[1:4, ::2], turned=base.t(), zero=torch.tensor(3.0)),
        "kinds": [torch.arange(5).to(dtype) for dtype in [*numbers, torch.uint8, torch.bool]],
        "empty": torch.empty(0, 3),
        "opts": {"lr": 1e-4, "betas": (0.9, 0.999), "name": "\u8138", "big": 1 << 70, "flag": None, 3: False},
        "seen": {1, 2},
        "raw": b"\x00\xff",
    }
    found = read_torch(save(value, tmp_path / "net.pth.tar", is_zip))
    assert_same(found, value)
    assert_same(found, torch.load(tmp_path / "net.pth.tar", weights_only=True))
    assert type(found["state_dict"]) is dict


@FORMATS
def test_names_of_torch_and_numbers_of_numpy_become_plain(tmp_path: Path, is_zip: bool) -> None:
    value = [torch.Size([1, 2]), torch.device("cuda:1"), torch.float16, np.float32(0.5), np.bool_(True), b"", set()]
    found = read_torch(save([*value, np.arange(6).reshape(2, 3)], tmp_path / "x.pt", is_zip))
    assert found[:7] == [(1, 2), "cuda:1", torch.float16, 0.5, True, b"", set()]
    assert np.array_equal(found[7], np.arange(6).reshape(2, 3))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(tmp_path: Path, protocol: int) -> None:
    value = {"a": torch.arange(70_000), "b": ["x" * 300, {"c": (1, 2, 3, 4)}]}
    torch.save(value, tmp_path / "x.pt", pickle_protocol=protocol)
    assert_same(read_torch(tmp_path / "x.pt"), value)


@FORMATS
def test_whole_module_becomes_a_state_dict(tmp_path: Path, is_zip: bool) -> None:
    torch.manual_seed(1)
    module = nn.DataParallel(nn.Sequential(Block(), Block()))
    path = save(module, tmp_path / "arcface_checkpoint.tar", is_zip)
    with pytest.raises(WeightsError, match=r"torch\.nn\.parallel\.data_parallel\.DataParallel"):
        read_torch(path)
    with pytest.raises(WeightsError, match=re.escape(f"{__name__}.Block")):
        read_torch(path, bags=LAYERS)
    found = read_torch(path, bags=(f"{__name__}.Block", *LAYERS))
    assert type(found) is Bag
    state = state_dict(found, file="x")
    assert_same(state, dict(module.state_dict()))
    assert "module.0.scratch" not in state
    restored = nn.Sequential(Block(), Block())
    load_strict(restored, strip_prefix(state), file="x")
    assert_same(dict(restored.state_dict()), strip_prefix(state))
    assert not restored.training


def test_legacy_view_of_a_storage(tmp_path: Path) -> None:
    # Written by early versions of torch: a storage that is a part of another one.
    number = written.storage_id(count=6, length=6).replace(b"NtQ", written.text("v") + b"K\x02K\x03\x87tQ")
    data = (6).to_bytes(8, "little") + np.arange(6, dtype="<f4").tobytes()
    path = write_legacy(tmp_path / "x.pth", written.stream(tensor(number, 1, (2,))), ["0"], data)
    assert read_torch(path).tolist() == [3.0, 4.0]


@pytest.mark.skipif(not SMAPS.is_file(), reason="this system does not tell what memory is mapped")
def test_large_file_is_mapped(tmp_path: Path) -> None:
    def used_kib() -> int:
        lines = SMAPS.read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))

    torch.save({"a": torch.zeros(20_000_000), "b": torch.ones(3)}, tmp_path / "x.pt")
    before = used_kib()
    found = read_torch(tmp_path / "x.pt")
    assert float(found["a"].sum()) == 0.0
    assert used_kib() - before < 20_000
    found["b"][0] = 5.0  # a view may be written to; the file stays
    assert read_torch(tmp_path / "x.pt")["b"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("file", "tolerance"), [("tiny_t.pkl", 0.0), ("tiny_t_torch2.pkl", 3.1e-5)])
def test_stylegan_samples(file: str, tolerance: float) -> None:
    found = read_stylegan(STYLEGAN / file)
    expected = load_file(STYLEGAN / "tiny_t_expected.safetensors")
    wanted = json.loads((STYLEGAN / "tiny_t_init.json").read_text())
    assert found.class_name == wanted["class_name"]
    assert found.init_kwargs == wanted["init_kwargs"]
    assert type(found.init_kwargs["mapping_kwargs"]) is dict
    assert len(expected) == 58
    assert set(found.state) == set(expected)
    for name, value in expected.items():
        own = found.state[name]
        # The expectation keeps single numbers as arrays of one.
        assert own.shape == (() if name.endswith("magnitude_ema") else value.shape)
        assert own.dtype == value.dtype
        assert own.is_contiguous()
        assert (own - value).abs().max() <= tolerance
    assert read_stylegan(STYLEGAN / file, "D").class_name == "Discriminator"


def make_onnx(folder: Path, **attributes: Any) -> Path:
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    parts = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.eye(4, dtype=np.float16), "emap")]
    inputs = [
        helper.make_tensor_value_info("target", TensorProto.FLOAT, [1, "rows", 3]),
        helper.make_tensor_value_info("weight", TensorProto.FLOAT, [3, 4]),
    ]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)]
    nodes = [helper.make_node("MatMul", ["target", "weight"], ["output"])]
    graph = helper.make_graph(nodes, "swap", inputs, outputs, parts)
    path = folder / "swap.onnx"
    onnx.save_model(helper.make_model(graph), path, **attributes)
    return path


@pytest.mark.parametrize("has_external", [False, True])
def test_onnx(tmp_path: Path, has_external: bool) -> None:
    attributes = {"save_as_external_data": True, "location": "swap.data", "size_threshold": 0} if has_external else {}
    found = read_onnx(make_onnx(tmp_path, **attributes))
    assert found.inputs == {"target": (1, None, 3)}
    assert list(found.outputs) == ["output"]
    assert found.initializers == {"weight": (3, 4), "emap": (4, 4)}
    assert torch.equal(found.initializer("weight"), torch.arange(12.0).reshape(3, 4))
    assert torch.equal(found.initializer(list(found.initializers)[-1]), torch.eye(4, dtype=torch.float16))
    with pytest.raises(WeightsError, match="no initializer bias"):
        found.initializer("bias")


def test_load_strict_says_what_differs() -> None:
    net = TinyNet()
    state = dict(TinyNet().state_dict())
    bad = {**state, "conv.weight": torch.zeros(3, 3), "extra": torch.zeros(1), "norm.bias": torch.arange(4)}
    del bad["mean"], bad["norm.weight"]
    with pytest.raises(WeightsError) as error:
        load_strict(net, bad, file="net.pth")
    assert str(error.value) == (
        "net.pth: does not fit TinyNet: mean is missing; conv.weight is 3x3, expected 4x3x3x3; norm.weight is missing "
        "(and 2 more); use the file that this network was published with"
    )
    assert torch.equal(net.norm.weight, torch.ones(4))
    bad = {**state, "norm.bias": torch.arange(4), "extra": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"norm\.bias is torch\.int64, expected torch\.float32; extra is unknown"):
        load_strict(net, bad, file="net.pth")


def test_load_strict_allows_by_pattern_and_refuses_nan() -> None:
    net, state = TinyNet(), dict(TinyNet().state_dict())
    kept = net.mean.clone()
    del state["mean"]
    state |= {"noises.1": torch.zeros(1), "conv.weight": state["conv.weight"].half()}
    with pytest.raises(WeightsError, match=r"mean is missing; noises\.1 is unknown"):
        load_strict(net, state, file="x")
    load_strict(net, state, file="x", allow_missing=("mean",), allow_unexpected=("noises.*",))
    assert torch.equal(net.mean, kept)
    assert torch.equal(net.conv.weight.half(), state["conv.weight"])
    state["norm.bias"] = torch.tensor([0.0, float("nan"), 0.0, 0.0])
    with pytest.raises(WeightsError, match=r"norm\.bias has values that are not finite"):
        load_strict(net, state, file="x", allow_missing=("mean",), allow_unexpected=("noises.*",))


def test_parts_of_state_dicts() -> None:
    state = {"module.encoder.a": torch.zeros(1), "module.decoder.a": torch.ones(1)}
    assert list(strip_prefix(state)) == ["encoder.a", "decoder.a"]
    assert list(strip_prefix({**state, "mean": torch.zeros(1)})) == [*state, "mean"]
    assert under(strip_prefix(state), "decoder") == {"a": torch.ones(1)}
    with pytest.raises(WeightsError, match=r"x\.pth: epoch is a value of type int, not a tensor"):
        state_dict({"a": torch.zeros(1), "epoch": 3}, file="x.pth")
