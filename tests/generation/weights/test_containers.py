"""Zips, tars, ONNX and other files of a wrong shape: refused with the name of the member that is wrong."""

from __future__ import annotations

import io
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from generation.errors import WeightsError
from generation.weights import archive
from generation.weights.onnx_file import read_onnx
from generation.weights.stylegan_pickle import read_stylegan
from generation.weights.torch_file import read_torch
from tests.generation.weights.written import (
    storage_id,
    stream,
    tensor,
)


def rewrite_zip(path: Path, change: Callable[[zipfile.ZipFile], None], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, raw in {"data.pkl": stream(tensor(storage_id())), "data/0": b"\0" * 16}.items():
            file.writestr(f"archive/{name}", raw)
        change(file)
    return path


def add_link(file: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("archive/data/1")
    entry.external_attr = 0o120777 << 16
    file.writestr(entry, "/etc/passwd")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda file: file.writestr("archive/data.pkl", stream(b"}")), "archive/data.pkl occurs twice"),
        (lambda file: file.writestr("archive/data/0", b"\1" * 16), "archive/data/0 occurs twice"),
        (lambda file: file.writestr("archive/../../x", b""), r"archive/../../x leads out of the archive"),
        (lambda file: file.writestr("/etc/passwd", b""), "/etc/passwd has an absolute name"),
        (lambda file: file.writestr("archive/a\\b", b""), "control characters"),
        (lambda file: file.writestr("other/data.pkl", stream(b"}")), "is a zip, but not of torch.save"),
        (add_link, "archive/data/1 is a link or not a regular file"),
    ],
)
def test_zips_of_a_wrong_shape(tmp_path: Path, change: Callable[[zipfile.ZipFile], None], expected: str) -> None:
    with pytest.raises(WeightsError, match=re.escape(expected)):
        read_torch(rewrite_zip(tmp_path / "net.pth", change))


def test_zip_bomb(tmp_path: Path) -> None:
    path = rewrite_zip(tmp_path / "net.pth", lambda file: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match=r"archive/data\.pkl is compressed, which torch\.save never does"):
        read_torch(path)
    good = rewrite_zip(path, lambda file: None).read_bytes()
    assert read_torch(path).tolist() == [0.0] * 4
    entry = good.rindex(b"PK\x01\x02")
    for field, value, expected in (
        (20, struct.pack("<II", 1 << 30, 1 << 30), "archive/data/0 lies outside the file"),
        (20, struct.pack("<II", 16, 1 << 30), "archive/data/0 is compressed"),
        (16, struct.pack("<I", 1), r"archive/data/0 is damaged \(CRC\)"),
        (42, struct.pack("<I", 0), "archive/data/0 lies outside the file"),
        (42, struct.pack("<I", 1 << 30), "archive/data/0 lies outside the file"),
        (8, struct.pack("<H", 1), "archive/data/0 is encrypted"),
    ):
        path.write_bytes(good[: entry + field] + value + good[entry + field + len(value) :])
        with pytest.raises(WeightsError, match=expected):
            read_torch(path)


def test_zip_records_over_each_other(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("archive/data/1", b"\0" * 16)
    local = inner.getvalue()[: inner.getvalue().index(b"PK\x01\x02")]
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", stream(b"}"))
        file.writestr("archive/data/0", local)
        over = zipfile.ZipInfo("archive/data/1")
        over.header_offset = file.infolist()[1].header_offset + 30 + len("archive/data/0")
        over.file_size = over.compress_size = 16
        over.CRC = zlib.crc32(b"\0" * 16)
        file.filelist.append(over)
    with pytest.raises(WeightsError, match="archive/data/1 overlaps another one"):
        read_torch(path)


def with_member(path: Path, member: tarfile.TarInfo, content: bytes = b"") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("net.pth", tarfile.SYMTYPE, "net.pth is a link to /etc/passwd"),
        ("net.pth", tarfile.LNKTYPE, "net.pth is a link to /etc/passwd"),
        ("net.pth", tarfile.CHRTYPE, "net.pth is a device, pipe or sparse file"),
        ("net.pth", tarfile.FIFOTYPE, "net.pth is a device, pipe or sparse file"),
        ("../net.pth", tarfile.REGTYPE, "../net.pth leads out of the archive"),
        ("a/../../net.pth", tarfile.REGTYPE, "a/../../net.pth leads out of the archive"),
        ("/tmp/net.pth", tarfile.REGTYPE, "/tmp/net.pth has an absolute name"),
        ("a\x1b[2J", tarfile.REGTYPE, r"a\x1b[2J has control characters"),
    ],
)
def test_tar_members(tmp_path: Path, name: str, kind: bytes, expected: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    path = with_member(tmp_path / "weights.tar", member)
    for read in (lambda: archive.unpack(path, tmp_path / "out"), lambda: read_torch(path)):
        with pytest.raises(WeightsError, match=re.escape(expected)):
            read()
    assert not (tmp_path / "net.pth").exists()


def test_tar_bomb_and_harmless_tar(tmp_path: Path) -> None:
    path = with_member(tmp_path / "weights.tar.gz", tarfile.TarInfo("folder/net.pth"), b"\0" * (40 << 20))
    with pytest.raises(WeightsError, match="unpacks to more than 20 times its size"):
        archive.unpack(path, tmp_path / "out")
    with_member(path, tarfile.TarInfo("folder/net.pth"), b"abc")
    assert [one.read_bytes() for one in archive.unpack(path, tmp_path / "good")] == [b"abc"]
    with pytest.raises(WeightsError, match=r"is an archive \(folder/net\.pth\), not a file of weights"):
        read_torch(path)


@pytest.mark.parametrize("raw", [b"<!DOCTYPE html><html>", b"\0" * 600, b"x", b"GGUF" + b"\0" * 600])
def test_files_of_another_kind(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(raw)
    with pytest.raises(WeightsError, match=r"is not a file of torch\.save"):
        read_torch(path)
    with pytest.raises(WeightsError, match="is not a StyleGAN pickle"):
        read_stylegan(path)
    with pytest.raises(WeightsError, match=r"is not an ONNX file|contains no ONNX network"):
        read_onnx(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    with pytest.raises(WeightsError, match="is empty or not a regular file"):
        read_torch(tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match=r"cannot be read \(No such file"):
        read_torch(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match=r"cannot be read \(Is a directory"):
        read_torch(tmp_path)


@pytest.mark.parametrize(
    ("location", "values", "expected"),
    [
        ("../secret.bin", {}, "'..' in its name"),
        ("/etc/passwd", {}, "absolute name"),
        ("link.bin", {}, "leads out of the folder by a link"),
        ("inside/secret.bin", {}, "leads out of the folder by a link"),
        ("absent.bin", {}, "is missing"),
        ("near.bin", {"offset": "4", "length": "16"}, "lies behind the end of the file"),
        ("near.bin", {"offset": "-4"}, "an impossible offset or length"),
        ("near.bin", {"length": "9" * 30}, "an impossible offset or length"),
    ],
)
@pytest.mark.parametrize("is_attribute", [False, True])
def test_onnx_data_elsewhere(
    tmp_path: Path, location: str, values: dict[str, str], expected: str, is_attribute: bool
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 16)
    (folder / "near.bin").write_bytes(b"\0" * 16)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "inside").symlink_to(tmp_path)
    weight = TensorProto(name="weight", dims=[4], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **values}.items():
        weight.external_data.add(key=key, value=value)
    node = (
        helper.make_node("Constant", [], ["y"], value=weight) if is_attribute else helper.make_node("Neg", ["w"], ["y"])
    )
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])]
    graph = helper.make_graph([node], "g", [], outputs, [] if is_attribute else [weight])
    onnx.save_model(helper.make_model(graph), folder / "net.onnx")
    with pytest.raises(WeightsError, match=re.escape(expected)):
        read_onnx(folder / "net.onnx")
