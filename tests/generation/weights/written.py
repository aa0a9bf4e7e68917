"""What the tests of weights share: a tiny network with its pipeline and converter, and pickles written by hand."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from numpy.typing import NDArray

from generation.generators.base import FaceImagePipeline
from generation.generators.registry import GENERATORS, GeneratorInfo
from generation.weights.state import load_strict, state_dict, strip_prefix
from generation.weights.torch_file import read_torch

NAME = "tiny-faces"
PUBLISHED = ("tiny_net.pth", "tiny_mean.pt")


class TinyNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A network of a published kind: convolution, batch norm, one buffer of its own."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 3)
        self.norm = torch.nn.BatchNorm2d(width)
        self.register_buffer("mean", torch.zeros(width))


class TinyPipeline(FaceImagePipeline):
    """A pipeline around it."""

    def __init__(self, net: TinyNet) -> None:
        super().__init__()
        self.register_modules(net=net)

    def make_images(self, prompts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        side = 8 + self.net.config.width
        return np.zeros((len(prompts), side, side, 3), np.uint8)


def convert_tiny(files: Sequence[Path]) -> TinyPipeline:
    """The converter as `GENERATORS` names it."""
    net_file, mean_file = files
    net = TinyNet()
    state = strip_prefix(state_dict(read_torch(net_file), file=str(net_file)))
    mean = {"mean": read_torch(mean_file)["mean"]}
    load_strict(net, {**state, **mean}, file=str(net_file))
    return TinyPipeline(net)


def register_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds the tiny generator to `GENERATORS`."""
    info = GeneratorInfo(
        "full_face_generation",
        "tests.generation.weights.written:TinyPipeline",
        "LicenseRef-test",
        weights=PUBLISHED,
        converter="tests.generation.weights.written:convert_tiny",
    )
    monkeypatch.setitem(GENERATORS, NAME, info)


def publish(folder: Path, *, is_zip: bool = True) -> list[Path]:
    """Writes the two files of the tiny generator as a publisher would."""
    torch.manual_seed(0)
    net = TinyNet()
    state = {f"module.{name}": value for name, value in net.state_dict().items() if name != "mean"}
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in PUBLISHED]
    torch.save(state, paths[0], _use_new_zipfile_serialization=is_zip)
    torch.save({"mean": torch.arange(4.0), "epoch": 3}, paths[1], _use_new_zipfile_serialization=is_zip)
    return paths


def text(value: str) -> bytes:
    """A text in a pickle."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def named(full: str) -> bytes:
    """A global in a pickle, "module.name"."""
    module, _, name = full.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def stream(body: bytes, protocol: int = 2) -> bytes:
    """A whole pickle around instructions."""
    return b"\x80" + bytes([protocol]) + body + b"."


def storage_id(kind: str = "FloatStorage", key: str = "0", count: int = 4, length: int = 5) -> bytes:
    """The persistent id of a storage, in the zip format (5 parts) or the legacy one (6)."""
    number = b"\x8a\x08" + struct.pack("<q", count)
    parts = text("storage") + named(f"torch.{kind}") + text(key) + text("cpu") + number
    return b"(" + parts + (b"N" if length == 6 else b"") + b"tQ"


def tensor(storage: bytes, offset: int = 0, size: Sequence[int] = (4,), stride: Sequence[int] = (1,)) -> bytes:
    """A tensor over a storage, in a pickle."""

    def number(value: int) -> bytes:
        return b"\x8a\x08" + struct.pack("<q", value)

    def numbers(values: Sequence[int]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    arguments = storage + number(offset) + numbers(size) + numbers(stride) + b"\x89}"
    return named("torch._utils._rebuild_tensor_v2") + b"(" + arguments + b"tR"


def write_zip(path: Path, pickle: bytes, records: dict[str, bytes] | None = None, folder: str = "archive") -> Path:
    """A file of `torch.save` in the zip format, from a pickle written by hand."""
    content = {"data.pkl": pickle, "byteorder": b"little", "data/0": b"\0" * 16, "version": b"3\n"}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name, raw in {**content, **(records or {})}.items():
            file.writestr(f"{folder}/{name}", raw)
    return path


def legacy_head(*, little_endian: bool = True) -> bytes:
    """The first three pickles of a legacy file."""
    import pickle

    magic = stream(b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little"))
    machine: dict[str, Any] = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"int": 4}}
    return magic + stream(b"M\xe9\x03") + pickle.dumps(machine, 2)


def write_legacy(path: Path, pickle: bytes, keys: Sequence[str] = (), data: bytes = b"") -> Path:
    """A legacy file of `torch.save`, from a pickle written by hand."""
    listed = stream(b"](" + b"".join(map(text, keys)) + b"e")
    path.write_bytes(legacy_head() + pickle + listed + data)
    return path
