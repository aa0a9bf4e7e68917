"""Files made to run something, or to fill memory: refused with the name of what they hold, and nothing is run.

Every payload here would make the file `marker`; each test ends with its absence, and one test shows that the payloads
do work where a file is unpickled.
"""

from __future__ import annotations

import contextlib
import copyreg
import io
import os
import pickle
import pickletools
import random
import re
import struct
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from generation.errors import WeightsError
from generation.weights.stylegan_pickle import read_stylegan
from generation.weights.torch_file import LAYERS, read_torch
from tests.generation.weights.written import (
    legacy_head,
    named,
    storage_id,
    stream,
    tensor,
    text,
    write_legacy,
    write_zip,
)

STYLEGAN = Path(__file__).parents[2] / "data" / "stylegan3" / "tiny_t.pkl"
Write = Callable[[Path, bytes], Path]
READERS: dict[str, Write] = {"zip": write_zip, "legacy": write_legacy}


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """The file that payloads make; it must not be there in the end."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "the payload was run"


@pytest.fixture(params=READERS)
def write(request: pytest.FixtureRequest) -> Write:
    return READERS[request.param]


def call(full: str, *arguments: bytes) -> bytes:
    """A global called with arguments."""
    return named(full) + b"(" + b"".join(arguments) + b"tR"


def mark(marker: Path) -> bytes:
    """A shell command that makes the marker, as a text in a pickle."""
    return text(f"touch {marker}")


def payloads(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that run something, each with what its refusal must name."""
    command, code = mark(marker), text(f"open({str(marker)!r}, 'w').close()")
    opened = b"(" + text(str(marker)) + text("w") + b"t"
    layer = named("torch.nn.modules.linear.Linear")
    return {
        "os.system": (call("os.system", command), "os.system"),
        "posix.system": (call("posix.system", command), "posix.system"),
        "eval": (call("builtins.eval", code), "builtins.eval"),
        "exec": (call("builtins.exec", code), "builtins.exec"),
        "eval of Python 2": (call("__builtin__.eval", code), "__builtin__.eval"),
        "open": (named("builtins.open") + opened + b"R", "builtins.open"),
        "getattr chain": (
            call("builtins.getattr", call("builtins.__import__", text("os")), text("system")) + b"(" + command + b"tR",
            "builtins.getattr",
        ),
        "attrgetter": (call("operator.attrgetter", text("system")), "operator.attrgetter"),
        "subprocess": (call("subprocess.check_output", command), "subprocess.check_output"),
        "importlib": (call("importlib.import_module", text("os")), "importlib.import_module"),
        "torch.load": (call("torch.serialization.load", command), "torch.serialization.load"),
        "torch.hub": (call("torch.hub.load", command), "torch.hub.load"),
        "nested torch bytes": (call("torch.storage._load_from_bytes", b"C\x00"), "torch.storage._load_from_bytes"),
        "numpy loads": (call("numpy.core.multiarray.fromfile", command), "numpy.core.multiarray.fromfile"),
        "STACK_GLOBAL": (text("os") + text("system") + b"\x93(" + command + b"tR", "os.system"),
        "dotted STACK_GLOBAL": (
            text("collections") + text("OrderedDict.__init__.__globals__") + b"\x93",
            "__globals__",
        ),
        "dots of a known name": (text("torch") + text("_utils._rebuild_tensor_v2") + b"\x93", "_rebuild_tensor_v2"),
        "STACK_GLOBAL without texts": (b"K\x01K\x02\x93", "a global whose name is not text"),
        "unknown name of a known module": (named("torch._utils._rebuild_sparse_tensor"), "_rebuild_sparse_tensor"),
        "unknown name of collections": (named("collections.namedtuple"), "collections.namedtuple"),
        "global with a line break": (text("os\r\n") + text("system") + b"\x93", r"os\r\n.system"),
        "INST": (b"(" + command + b"ios\nsystem\n", "INST (os system)"),
        "OBJ": (b"(" + named("os.system") + command + b"o", "os.system"),
        "OBJ of a known class": (b"(" + layer + command + b"o", "OBJ"),
        "NEWOBJ": (named("subprocess.Popen") + b"(" + command + b"t\x81", "subprocess.Popen"),
        "NEWOBJ_EX": (layer + b")}\x92", "NEWOBJ_EX"),
        "EXT1": (b"\x82\x01", "EXT1 (1)"),
        "EXT2": (b"\x83\x01\x01", "EXT2 (257)"),
        "EXT4": (b"\x84\x01\x00\x01\x00", "EXT4 (65537)"),
        "persistent id as text": (b"Pos.system\n", "PERSID (os.system)"),
        "persistent id of another kind": (text("os.system") + b"Q", "a persistent id"),
        "persistent id of a module": (
            b"(" + text("module") + text("os") + text("") + text("") + b"tQ",
            "persistent id",
        ),
        "storage of another class": (storage_id().replace(b"ctorch\nFloatStorage", b"cos\nsystem"), "os.system"),
        "out-of-band buffer": (b"\x97", "NEXT_BUFFER"),
        "read-only buffer": (b"\x97\x98", "NEXT_BUFFER"),
        "byte array": (b"\x96" + struct.pack("<Q", 1) + b"x", "BYTEARRAY8"),
        "call of a text": (command + b")R", "a call of a value of type str"),
        "call of a class of numbers": (named("torch.float32") + b")R", "a call of a value of type dtype"),
        "state of a list": (b"]}b", "a state for a value of type list"),
        "state of a class": (layer + b"}b", "a state for the global torch.nn.modules.linear.Linear"),
        "state of a function": (named("torch.Size") + b"N}\x86b", "a state for the global torch.Size"),
        "items of an object": (layer + b")R" + text("a") + b"Ns", "items for an object of torch.nn.modules.linear"),
        "DUP": (b"]2", "DUP"),
        "POP": (b"]0", "POP"),
        "FLOAT in text": (b"F1.5\n", "FLOAT"),
        "object array": (call("numpy.dtype", text("O8"), b"\x89\x88"), "a NumPy dtype that is not a plain number"),
        "record array": (call("numpy.dtype", text("i1,i1"), b"\x89\x88"), "a NumPy dtype that is not a plain number"),
        "text codec": (call("_codecs.encode", text("x"), text("zip")), "an unknown encoding"),
    }


@pytest.mark.parametrize("name", payloads(Path("marker")))
def test_pickles_that_run_something(tmp_path: Path, marker: Path, write: Write, name: str) -> None:
    body, expected = payloads(marker)[name]
    path = write(tmp_path / "net.pth", stream(body, 5))
    with pytest.raises(WeightsError) as error:
        read_torch(path, bags=LAYERS)
    line = str(error.value)
    assert line.startswith(f"{path}: contains ")
    assert expected in line
    assert "nothing of it was run" in line
    assert "\n" not in line


def test_payloads_do_run_where_they_are_unpickled(tmp_path: Path) -> None:
    for name in ("os.system", "exec", "open", "STACK_GLOBAL", "INST", "getattr chain"):
        there = tmp_path / name.replace(" ", "_")
        pickle.loads(stream(payloads(there)[name][0], 4))
        assert there.exists(), name


class Reducer:
    """An object that Python's own pickler turns into a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["plain", "zip", "legacy", "old.tar"])
def test_pickled_by_python_itself(tmp_path: Path, marker: Path, kind: str, protocol: int) -> None:
    value = {"state_dict": {"a": Reducer(os.system, f"touch {marker}")}}
    path = tmp_path / f"net.{kind}"
    if kind == "plain":
        path.write_bytes(pickle.dumps(value, protocol))
    elif kind == "old.tar":
        raw = pickle.dumps(value, protocol)
        with tarfile.open(path, "w") as tar:
            for name in ("storages", "tensors", "pickle"):
                member = tarfile.TarInfo(name)
                member.size = len(raw)
                tar.addfile(member, io.BytesIO(raw))
    else:
        torch.save(value, path, pickle_protocol=max(protocol, 2), _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(WeightsError, match=r"torch before 0\.2 \(tar" if kind == "old.tar" else r"posix\.system"):
        read_torch(path)


def test_code_in_any_of_the_legacy_streams(tmp_path: Path, marker: Path) -> None:
    evil = stream(call("posix.system", mark(marker)))
    whole = tmp_path / "whole.pth"
    torch.save({"a": torch.ones(3)}, whole, _use_new_zipfile_serialization=False)
    raw = whole.read_bytes()
    starts, source = [], io.BytesIO(raw)
    for _ in range(5):
        starts.append(source.tell())
        list(pickletools.genops(source))
    for start, end in zip(starts, [*starts[1:], source.tell()], strict=True):
        path = tmp_path / "evil.pth"
        path.write_bytes(raw[:start] + evil + raw[end:])
        with pytest.raises(WeightsError, match=r"posix\.system"):
            read_torch(path)


def test_extension_registry_is_not_asked(tmp_path: Path, marker: Path, write: Write) -> None:
    copyreg.add_extension("posix", "system", 0xF1)
    try:
        path = write(tmp_path / "net.pth", stream(b"\x82\xf1(" + mark(marker) + b"tR"))
        with pytest.raises(WeightsError, match=r"EXT1 \(241\)"):
            read_torch(path)
    finally:
        copyreg.remove_extension("posix", "system", 0xF1)


class Armed:
    """A class of this process that would run something from its state, and as soon as it is made."""

    def __new__(cls, *_: Any) -> Armed:
        raise AssertionError("an object was made")

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("a state was handed over")


def test_allowed_class_is_never_touched(tmp_path: Path, write: Write) -> None:
    body = named(f"{__name__}.Armed") + b")\x81}" + text("_parameters") + b"}sb"
    found = read_torch(write(tmp_path / "net.pth", stream(body)), bags=(f"{__name__}.Armed",))
    assert (found.kind, found.state) == (f"{__name__}.Armed", {"_parameters": {}})
    assert not hasattr(found, "__setstate__")


def test_reading_imports_nothing(tmp_path: Path, write: Write) -> None:
    for module in ("this", "antigravity"):
        assert module not in sys.modules
        path = write(tmp_path / "net.pth", stream(named(f"{module}.Flight") + b")\x81"))
        assert read_torch(path, bags=(f"{module}.Flight",)).kind == f"{module}.Flight"
        assert module not in sys.modules


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (tensor(storage_id(), offset=-1), "an impossible size, stride or offset"),
        (tensor(storage_id(), size=(-4,)), "an impossible size, stride or offset"),
        (tensor(storage_id(), size=(2,), stride=(-1,)), "an impossible size, stride or offset"),
        (tensor(storage_id(), size=(5,)), "ends at element 5 of a storage of 4"),
        (tensor(storage_id(), offset=1), "ends at element 5 of a storage of 4"),
        (tensor(storage_id(), size=(2, 2), stride=(3, 1)), "ends at element 5 of a storage of 4"),
        (tensor(storage_id(), size=(2, 2)), "without sizes and strides"),
        (tensor(storage_id(), size=(1 << 62,), stride=(0,)), "an impossible size, stride or offset"),
        (tensor(storage_id(), size=(1 << 30, 1 << 30), stride=(0, 0)), "a tensor of impossible size"),
        (tensor(storage_id(count=1 << 40)), "a storage of 16 bytes, announced as 1,099,511,627,776"),
        (tensor(storage_id(count=3)), "a storage of 16 bytes, announced as 3"),
        (tensor(storage_id(count=-4)), "impossible size"),
        (tensor(storage_id("QInt8Storage")), "torch.QInt8Storage"),
        (tensor(b"N"), "a tensor without storage"),
    ],
)
def test_tensors_that_reach_out_of_their_storage(tmp_path: Path, body: bytes, expected: str) -> None:
    with pytest.raises(WeightsError, match=re.escape(expected)):
        read_torch(write_zip(tmp_path / "net.pth", stream(body)))


def test_legacy_counts_are_bounded_by_the_file(tmp_path: Path) -> None:
    path, data = tmp_path / "net.pth", (4).to_bytes(8, "little") + b"\0" * 16
    good = stream(tensor(storage_id(length=6)))
    huge = stream(tensor(storage_id(count=1 << 40, length=6)))
    assert read_torch(write_legacy(path, good, ["0"], data)).tolist() == [0.0] * 4
    for pickled, keys, raw, expected in (
        (good, ["0"], data[:-1], r"cut short or damaged \(16 bytes announced at byte [\d,]+, 15 are there\)"),
        (good, ["0"], data + b"\0", "has bytes after its end"),
        (good, ["0"], (1 << 40).to_bytes(8, "little") + data[8:], "1,099,511,627,776 elements, 4 were announced"),
        (good, ["0"], (-1).to_bytes(8, "little", signed=True) + data[8:], "has -1 elements"),
        (huge, ["0"], (1 << 40).to_bytes(8, "little") + data[8:], "4,398,046,511,104 bytes announced"),
        (good, [], b"", "lists other storages"),
        (good, ["0", "1"], data * 2, "lists other storages"),
        (good, ["0", "0"], data * 2, "lists other storages"),
    ):
        with pytest.raises(WeightsError, match=expected):
            read_torch(write_legacy(path, pickled, keys, raw))


def test_other_machines_and_versions(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(legacy_head(little_endian=False) + stream(b"}") + stream(b"]"))
    with pytest.raises(WeightsError, match="big-endian"):
        read_torch(path)
    with pytest.raises(WeightsError, match="big-endian"):
        read_torch(write_zip(path, stream(b"}"), {"byteorder": b"big"}))
    path.write_bytes(stream(b"K\x01"))
    with pytest.raises(WeightsError, match=r"is a pickle, but not of torch\.save"):
        read_torch(path)
    with pytest.raises(WeightsError, match="TorchScript program"):
        read_torch(write_zip(path, stream(b"}"), {"constants.pkl": stream(b")")}))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"X\xff\xff\xff\x7fabc", "damaged at byte 2"),
        (b"\x8d" + struct.pack("<Q", 1 << 60) + b"abc", "damaged at byte 2"),
        (b"\x8e" + struct.pack("<Q", 1 << 62) + b"abc", "damaged at byte 2"),
        (b"\x8b\xff\xff\xff\x7f\x01", "damaged at byte 2"),
        (b"h\x07", "damaged at byte 2 BINGET"),
        (b"]r\xff\xff\xff\xff", ""),
        (b"}" * 1_100_000, "more than 1,000,000 pickle instructions"),
        (b"]" + b"q\x00" + b"h\x00a", "a value that contains itself"),
        (b"]" * 200 + b"a" * 199, "values nested more than 100 deep"),
        (b"K\x01" + b"\x85" * 100_000 + b"Nh\x00s", "damaged at byte"),
        (b"}K\x01" + b"\x85" * 100_000 + b"Ns", "a value of type tuple as a key"),
        (b"\x8f(K\x01\x85\x90", "a value of type tuple as a key"),
        (b"((K\x01", "damaged at byte 6 STOP"),
        (b"", "damaged at byte 2 STOP"),
        (b"N\x80\x02", "a pickle inside of another one"),
        (b"c" + b"a" * 100_000, "damaged at byte 2"),
    ],
    ids=range(16),
)
def test_bombs_and_damage(tmp_path: Path, body: bytes, expected: str) -> None:
    start = time.process_time()
    path = write_zip(tmp_path / "net.pth", stream(body))
    if expected:
        with pytest.raises(WeightsError, match=re.escape(expected)):
            read_torch(path)
    else:
        assert read_torch(path) == []
    assert time.process_time() - start < 30


def test_values_that_double_with_every_step_take_no_time(tmp_path: Path) -> None:
    # (((...), (...)), ...): few bytes, 2 ** 80 paths.
    doubling = b"]" + b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(80))
    start = time.process_time()
    assert len(read_torch(write_zip(tmp_path / "net.pth", stream(doubling)))) == 2
    assert time.process_time() - start < 5


def test_damage_anywhere_is_told_as_such(tmp_path: Path) -> None:
    chosen, path = random.Random(0), tmp_path / "net.pth"
    for is_zip in (True, False):
        torch.save({"a": torch.arange(5.0), "b": [1, "x", (2.5, None)]}, path, _use_new_zipfile_serialization=is_zip)
        good = path.read_bytes()
        for _ in range(150):
            raw = bytearray(good)
            for _ in range(chosen.randint(1, 3)):
                raw[chosen.randrange(len(raw))] = chosen.randrange(256)
            path.write_bytes(raw[: chosen.choice([len(raw), chosen.randrange(1, len(raw))])])
            with contextlib.suppress(WeightsError):  # any other error fails
                read_torch(path)


def stylegan(state: bytes, *, version: int = 6, network: bytes = b"G_ema") -> bytes:
    """A StyleGAN pickle of one module with these attributes."""
    head = text("type") + text("class") + text("version") + b"K" + bytes([version])
    head += text("module_src") + text("raise SystemExit") + text("class_name") + text("Generator")
    meta = b"}(" + head + text("state") + b"}(" + state + b"uu"
    module = named("torch_utils.persistence._reconstruct_persistent_obj") + meta + b"\x85R"
    return stream(b"}(" + text(network.decode()) + module + b"u", 4)


MADE = text("_init_args") + b")" + text("_init_kwargs") + b"}"
PARTS = MADE + text("_modules") + b"}" + text("_buffers") + b"}" + text("_parameters")


def blob(raw: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(raw)) + raw


def nested(raw: bytes) -> bytes:
    """Parameters of one tensor whose storage is these bytes."""
    storage = named("torch.storage._load_from_bytes") + blob(raw) + b"\x85R"
    return b"}" + text("weight") + tensor(storage) + b"s"


def good_storage() -> bytes:
    return legacy_head() + stream(storage_id(length=6)) + stream(b"]" + text("0") + b"a") + NUMBERS


NUMBERS = (4).to_bytes(8, "little") + struct.pack("<4f", 0, 1, 2, 3)


def test_stylegan_streams(tmp_path: Path, marker: Path) -> None:
    path, evil = tmp_path / "net.pkl", call("posix.system", mark(marker))
    path.write_bytes(stylegan(PARTS + nested(good_storage())))
    assert read_stylegan(path).state["weight"].tolist() == [0.0, 1.0, 2.0, 3.0]
    tail = stream(b"]" + text("0") + b"a") + NUMBERS
    cases = {
        "the outer stream": (stylegan(PARTS + b"}" + text("weight") + evil + b"s"), "posix.system"),
        "a nested stream": (stylegan(PARTS + nested(stream(evil))), "posix.system"),
        "behind a good head": (stylegan(PARTS + nested(legacy_head() + stream(evil) + tail)), "posix.system"),
        "the list of keys": (
            stylegan(PARTS + nested(legacy_head() + stream(storage_id(length=6)) + stream(evil) + NUMBERS)),
            "posix.system",
        ),
        "a network not asked for": (stylegan(PARTS + nested(stream(evil)), network=b"D"), "posix.system"),
        "a tensor in a storage": (
            stylegan(PARTS + nested(legacy_head() + stream(tensor(storage_id(length=6))) + tail)),
            "torch._utils._rebuild_tensor_v2",
        ),
        "no storage": (
            stylegan(PARTS + nested(legacy_head() + stream(b"N") + stream(b"]"))),
            "where a storage is expected",
        ),
        "a second storage behind": (stylegan(PARTS + nested(good_storage() + b"x")), "has bytes after its end"),
        "a count too large": (stylegan(PARTS + nested(good_storage()[:-4])), "cut short"),
        "torch.load": (stylegan(PARTS + call("torch.serialization.load", b"N")), "torch.serialization.load"),
        "an outer persistent id": (stylegan(PARTS + storage_id()), "torch.FloatStorage"),
        "a plain persistent id": (stylegan(PARTS + b"K\x01Q"), "a persistent id"),
        "another version": (stylegan(PARTS + b"}", version=7), "of an unknown kind or version"),
        "objects as arguments": (
            stylegan(PARTS + b"}" + text("_init_kwargs") + b"}K\x01" + named("collections.OrderedDict") + b"s"),
            "does not say in plain values how it was made",
        ),
        "nothing": (stream(b"}", 4), "contains no network G_ema"),
        "an object array": (stylegan(PARTS + call("numpy.dtype", text("O8"), b"K\x00K\x01")), "not a plain number"),
    }
    for name, (raw, expected) in cases.items():
        path.write_bytes(raw)
        with pytest.raises(WeightsError, match=re.escape(expected)):
            read_stylegan(path)
        assert not marker.exists(), name


def test_stylegan_sample_with_one_name_changed(tmp_path: Path) -> None:
    path = tmp_path / "net.pkl"
    raw = STYLEGAN.read_bytes()
    for old, new in (
        (b"EasyDict", b"EasyDicu"),
        (b"FloatStorage", b"FloatStorag3"),
        (b"torch._utils", b"torch._utilz"),
    ):
        assert old in raw
        path.write_bytes(raw.replace(old, new, 1))
        with pytest.raises(WeightsError, match=re.escape(new.decode())):
            read_stylegan(path)
    with pytest.raises(WeightsError, match=r"torch_utils\.persistence\._reconstruct_persistent_obj"):
        read_torch(STYLEGAN)
