"""Conversion, provenance, the check of converted folders, and `tooling weights`."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from generation.errors import GenerationError, WeightsError
from generation.generators.conversion import convert as conversion
from generation.generators.conversion.check import check_folder
from generation.generators.conversion.convert import convert
from generation.generators.conversion.provenance import digest_file, digest_folder, read_provenance, write_provenance
from generation.generators.loading import load_generator
from generation.generators.registry import GENERATORS, LoadOptions
from tests.generation.weights.written import NAME, PUBLISHED, TinyPipeline, publish, register_tiny
from tooling.cli.weights import weights_app
from tooling.errors import ToolingError


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    register_tiny(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return publish(tmp_path / "downloads")


@pytest.fixture
def converted(files: list[Path], tmp_path: Path) -> Path:
    convert(NAME, files, tmp_path / "weights" / NAME, origin="https://example.org/release 1.0")
    return tmp_path / "weights" / NAME


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(weights_app, [str(one) for one in arguments])


def test_converted_folder_is_loaded_bit_for_bit(converted: Path, files: list[Path]) -> None:
    state = load_file(converted / "net" / "diffusion_pytorch_model.safetensors")
    published = torch.load(files[0], weights_only=True)
    assert {f"module.{name}" for name in state} - {"module.mean"} == set(published)
    for name, value in published.items():
        assert torch.equal(state[name.removeprefix("module.")], value)
    assert torch.equal(state["mean"], torch.arange(4.0))
    pipeline = load_generator(NAME, LoadOptions(device="cpu"))
    assert isinstance(pipeline, TinyPipeline)
    assert torch.equal(pipeline.net.conv.weight, published["module.conv.weight"])
    assert sorted(path.name for path in converted.parent.iterdir()) == [NAME]


def test_provenance(converted: Path, files: list[Path]) -> None:
    found = read_provenance(converted)
    assert (found.generator, found.licence, found.origin) == (
        NAME,
        "LicenseRef-test",
        "https://example.org/release 1.0",
    )
    assert found.converter == "tests.generation.weights.written:convert_tiny"
    assert found.files == tuple(map(digest_file, files))
    assert {one.name for one in found.written} == set(contents(converted)) - {"provenance.json"}
    assert found.versions["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert str(files[0].parent) not in (converted / "provenance.json").read_text()


@pytest.mark.parametrize("is_zip", [True, False])
def test_same_bytes_from_either_format_and_order(converted: Path, tmp_path: Path, is_zip: bool) -> None:
    again = publish(tmp_path / "again", is_zip=is_zip)
    assert convert(NAME, again[::-1], tmp_path / "out")
    one, other = contents(converted), contents(tmp_path / "out")
    for name in ("provenance.json",):
        assert one.pop(name) != other.pop(name)
    assert one == other


def test_files_out_of_a_tar(files: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "release.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for file in files[::-1]:
            tar.add(file, f"release/{file.name}")
        tar.addfile(tarfile.TarInfo("release/README"))
    assert convert(NAME, [path], tmp_path / "out")
    assert [one.name for one in read_provenance(tmp_path / "out").files] == ["release.tar.gz"]
    assert not check_folder(tmp_path / "out")
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo(PUBLISHED[0])
        link.type, link.linkname = tarfile.SYMTYPE, str(files[0])
        tar.addfile(link)
    with pytest.raises(WeightsError, match=r"tiny_net\.pth is a link to"):
        convert(NAME, [path], tmp_path / "other")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".out", ".other", "other"))]


def test_renamed_files_are_taken_in_their_order(files: list[Path], tmp_path: Path) -> None:
    renamed = [path.rename(path.with_name(f"copy of {path.name}")) for path in files]
    assert convert(NAME, renamed, tmp_path / "out")
    with pytest.raises(WeightsError, match=r"tiny_mean\.pt: epoch is a value of type int, not a tensor"):
        convert(NAME, renamed[::-1], tmp_path / "swapped")
    assert not (tmp_path / "swapped").exists()


def test_second_conversion_leaves_the_first(converted: Path, files: list[Path]) -> None:
    before = {name: (converted / name).stat().st_mtime_ns for name in contents(converted)}
    assert not convert(NAME, files, converted)
    assert {name: (converted / name).stat().st_mtime_ns for name in contents(converted)} == before
    torch.save({"mean": torch.ones(4)}, files[1])
    with pytest.raises(WeightsError, match="is there already, and is not made of these files; remove it"):
        convert(NAME, files, converted)
    assert not check_folder(converted)


def test_folder_of_someone_else_is_never_replaced(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(WeightsError, match="is there already, and is not made of these files"):
        convert(NAME, files, out)
    assert contents(out) == {"mine.txt": b"mine"}
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="file: is there already"):
        convert(NAME, files, tmp_path / "file")


@pytest.mark.parametrize("moment", ["_write", "write_provenance", "check_folder"])
def test_killed_conversion_leaves_nothing(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    original = getattr(conversion, moment)

    def stop(*arguments: Any, **options: Any) -> None:
        original(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conversion, moment, stop)
        with pytest.raises(KeyboardInterrupt):
            convert(NAME, files, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["downloads"]
    # What a kill without clean-up leaves is in nobody's way.
    (tmp_path / ".out.new" / "net").mkdir(parents=True)
    assert convert(NAME, files, tmp_path / "out")
    assert not check_folder(tmp_path / "out")


def test_full_disk_is_one_line(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(conversion, "_write", full)
    with pytest.raises(WeightsError, match=r"out: cannot be written \(No space left on device\); free space"):
        convert(NAME, files, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["downloads"]


def test_files_that_change_meanwhile(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(folder: Path, pipeline: Any) -> None:
        pipeline.save_pretrained(folder)
        torch.save({"mean": torch.ones(4)}, files[1])

    monkeypatch.setattr(conversion, "_write", change)
    with pytest.raises(WeightsError, match="changed while being converted"):
        convert(NAME, files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_calls_that_cannot_work(files: list[Path], tmp_path: Path) -> None:
    for name, given, expected in (
        ("weightfree-swap", files, "weightfree-swap: needs no published weights; convert one of "),
        ("nothing", files, "nothing: no such generator; convert one of "),
        (NAME, files[:1], r"tiny-faces: needs 2 files \(tiny_net\.pth, tiny_mean\.pt\), got 1"),
        (NAME, [files[0], tmp_path / "absent.pt"], r"absent\.pt: cannot be read \(No such file"),
    ):
        with pytest.raises(WeightsError, match=expected):
            convert(name, given, tmp_path / "out")
    marker = tmp_path / "marker"
    files[1].write_bytes(pickle.dumps({"mean": type("X", (), {"__reduce__": lambda _: (os.mkdir, (str(marker),))})()}))
    with pytest.raises(WeightsError, match=r"tiny_mean\.pt: contains the global posix\.mkdir"):
        convert(NAME, files, tmp_path / "out")
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


def damage(folder: Path, kind: str) -> None:
    weights = folder / "net" / "diffusion_pytorch_model.safetensors"
    state = {name: value.clone() for name, value in load_file(weights).items()}  # the file is mapped, and written to
    if kind == "changed":
        save_file({**state, "mean": torch.ones(4)}, weights)
    elif kind == "fewer":
        save_file({name: value for name, value in state.items() if name != "mean"}, weights)
        provenance = read_provenance(folder)
        write_provenance(folder, dataclasses.replace(provenance, written=digest_folder(folder)))
    elif kind == "missing":
        weights.unlink()
    elif kind == "pickle":
        torch.save(state, folder / "net" / "diffusion_pytorch_model.bin")
    elif kind == "hidden pickle":
        torch.save(state, weights)
    elif kind == "program":
        (folder / "net" / "net.py").write_text("raise SystemExit")
    elif kind == "link":
        weights.rename(folder.parent / "elsewhere")
        weights.symlink_to(folder.parent / "elsewhere")
    elif kind == "added":
        (folder / "notes.txt").write_text("x")
    elif kind == "no provenance":
        (folder / "provenance.json").unlink()
    elif kind == "provenance":
        (folder / "provenance.json").write_text("[]")
    elif kind == "another generator":
        content = json.loads((folder / "provenance.json").read_text())
        (folder / "provenance.json").write_text(json.dumps({**content, "generator": "weightfree-swap"}))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("nothing", []),
        ("changed", ["net/diffusion_pytorch_model.safetensors was changed after the conversion"]),
        ("fewer", ["weight mean is missing"]),
        ("missing", ["net/diffusion_pytorch_model.safetensors is missing"]),
        ("pickle", ["net/diffusion_pytorch_model.bin is neither weights nor a description of them"]),
        ("hidden pickle", ["net/diffusion_pytorch_model.safetensors is not a safetensors file"]),
        ("program", ["net/net.py is neither weights"]),
        ("link", ["net/diffusion_pytorch_model.safetensors is a link"]),
        ("added", ["notes.txt was added after the conversion"]),
        (
            "no provenance",
            ["provenance.json: not found; convert the weights with `tooling weights convert NAME FILES`"],
        ),
        ("provenance", ["provenance.json: cannot be read"]),
        ("another generator", ["has the weights of weightfree-swap, not of tiny-faces"]),
    ],
)
def test_check(converted: Path, kind: str, expected: list[str]) -> None:
    damage(converted, kind)
    problems = check_folder(converted, name=NAME)
    text = "\n".join(problems)
    assert all(line in text for line in expected)
    assert bool(problems) == bool(expected)
    assert all(str(converted) in line and "\n" not in line for line in problems)
    done = run("check", NAME)
    assert done.exit_code == (1 if expected else 0)
    assert (f"weights/{NAME}: good" in done.stdout) == (not expected)


@pytest.mark.parametrize(("key", "value"), [("generator", [1]), ("origin", None), ("files", 3), ("surplus", "x")])
def test_provenance_of_another_kind_is_one_line(converted: Path, key: str, value: Any) -> None:
    path = converted / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    (line,) = check_folder(converted)
    assert line.startswith(f"{path}: cannot be read (")


def test_index_of_another_kind_is_one_line(converted: Path) -> None:
    path = converted / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"net": [["diffusers"], {}]}))
    with pytest.raises(GenerationError, match="^" + re.escape(str(converted))):
        load_generator(NAME, LoadOptions(weights=str(converted), device="cpu"))


def test_list(files: list[Path]) -> None:
    rows = json.loads(run("list", "--json").stdout)
    mine = next(row for row in rows if row["generator"] == NAME)
    assert mine == {
        "generator": NAME,
        "family": "full_face_generation",
        "licence": "LicenseRef-test",
        "files": list(PUBLISHED),
        "other_files": [],
        "folder": f"weights/{NAME}",
        "is_present": False,
    }
    assert {row["generator"] for row in rows} == {name for name, info in GENERATORS.items() if info.weights}
    assert f"{NAME}: full_face_generation, missing, weights/{NAME}" in run("list").stdout
    assert run("convert", NAME, *files, "--origin", "here").exit_code == 0
    assert f"{NAME}: full_face_generation, present, weights/{NAME}" in run("list").stdout


def test_commands(files: list[Path], tmp_path: Path) -> None:
    done = run("check")
    assert isinstance(done.exception, ToolingError)
    assert "no converted weights here" in str(done.exception)
    done = run("convert", NAME, *files, "--out", "elsewhere")
    assert (done.exit_code, done.stdout) == (0, "elsewhere\n")
    assert "does not say where the files are from" in done.stderr
    assert run("check", "elsewhere").stdout == "elsewhere: good\n"
    done = run("convert", NAME, *files, "--out", "elsewhere")
    assert done.exit_code == 0
    assert "nothing was changed" in done.stderr
    damage(tmp_path / "elsewhere", "changed")
    done = run("check", "elsewhere", "--json")
    assert done.exit_code == 1
    assert list(json.loads(done.stdout)) == ["elsewhere"]
    assert "was changed after the conversion" in done.stderr
    assert run("convert", NAME).exit_code == 2
    done = run("convert", NAME, files[0])
    assert isinstance(done.exception, GenerationError)
    shutil.rmtree("elsewhere")
    assert "not found" in run("check", "elsewhere").stderr
