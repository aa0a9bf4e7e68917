"""Tensors over the raw bytes of a checkpoint, and the values of torch and NumPy that its pickle may contain."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from generation.weights.pickle_stream import Name, Refused, Rules, plain_keys

ELEMENTS = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
STORAGE_NAMES = {f"torch.{name}": Name(f"torch.{name}") for name in ELEMENTS}
MAX_ELEMENTS = 1 << 40  # of a tensor, with sides of 0 counted as 1
NUMPY_CODE = re.compile("b1|[iu][1248]|f[248]")


class Storage:
    """Numbers of one dtype, one after the other.

    Attributes:
        dtype: of its elements.
        num_elements: how many there are.
        view: their bytes, little-endian.
    """

    def __init__(self, dtype: torch.dtype, num_elements: int, view: memoryview) -> None:
        if len(view) != num_elements * dtype.itemsize:
            raise Refused(f"a storage of {len(view):,} bytes, announced as {num_elements:,} of {dtype}")
        self.dtype, self.num_elements, self.view = dtype, num_elements, view
        self._values: torch.Tensor | None = None

    def values(self) -> torch.Tensor:
        """Its elements (N,), not copied where they are aligned."""
        if self._values is None:
            self._values = self._read()
        return self._values

    def _read(self) -> torch.Tensor:
        if not self.num_elements:
            return torch.empty(0, dtype=self.dtype)
        if self.dtype is torch.bool:
            return torch.frombuffer(self.view, dtype=torch.uint8) != 0
        values = torch.frombuffer(self.view, dtype=self.dtype)
        # Bytes of a legacy file begin anywhere.
        if values.data_ptr() % self.dtype.itemsize:
            values = torch.frombuffer(bytearray(self.view), dtype=self.dtype)
        return values


def element_type(kind: Any) -> torch.dtype:
    """The dtype of a storage class.

    Raises:
        Refused: it is none.
    """
    if type(kind) is not Name or kind.full not in STORAGE_NAMES:
        raise Refused("a storage of an unknown class")
    return ELEMENTS[kind.full.removeprefix("torch.")]


def strided(storage: Any, offset: Any, size: Any, stride: Any) -> torch.Tensor:
    """A tensor that shares its storage.

    Raises:
        Refused: it reaches out of its storage.
    """
    if type(storage) is not Storage:
        raise Refused("a tensor without storage")
    check_extent(storage.num_elements, offset, size, stride)
    return storage.values().as_strided(size, stride, offset)


def check_extent(num_elements: int, offset: Any, size: Any, stride: Any) -> None:
    """Whether a tensor lies inside a storage of so many elements.

    Raises:
        Refused: it does not.
    """
    if type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride):
        raise Refused("a tensor without sizes and strides")
    if not all(type(number) is int and 0 <= number <= MAX_ELEMENTS for number in (offset, *size, *stride)):
        raise Refused("a tensor with an impossible size, stride or offset")
    if math.prod(side or 1 for side in size) > MAX_ELEMENTS:
        raise Refused("a tensor of impossible size")
    last = offset - 1 if 0 in size else offset + sum((a - 1) * b for a, b in zip(size, stride, strict=True))
    if last >= num_elements:
        raise Refused(f"a tensor that ends at element {last + 1:,} of a storage of {num_elements:,}")


class NumpyDtype:
    """A dtype of NumPy by its code; the byte order follows in its state."""

    def __init__(self, code: Any, *_: Any) -> None:
        if type(code) is not str or not NUMPY_CODE.fullmatch(code):
            raise Refused("a NumPy dtype that is not a plain number")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """Takes (version, byte order, ...)."""
        if state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise Refused("a NumPy dtype that is not a plain number")
        self.dtype = self.dtype.newbyteorder(state[1])


def numpy_scalar(dtype: NumpyDtype, raw: Any) -> int | float | bool:
    """A number of Python from the bytes of one of NumPy."""
    return np.frombuffer(raw, dtype.dtype, 1)[0].item()  # type: ignore[no-any-return]


def numpy_array(*_: Any) -> np.ndarray[Any, Any]:
    """An empty array; `build_array` fills it."""
    return np.empty(0, np.uint8)


def build_array(array: np.ndarray[Any, Any], state: Any) -> None:
    """Fills an array from (version, shape, dtype, is in Fortran order, bytes)."""
    version, shape, dtype, is_fortran, raw = state
    if type(dtype) is not NumpyDtype or type(raw) not in (bytes, memoryview):
        raise Refused("a NumPy array of other things than numbers")
    array.__setstate__((version, shape, dtype.dtype, is_fortran, bytes(raw)))


def latin_bytes(text: str, encoding: str) -> bytes:
    """Protocol 2 writes bytes as text."""
    if type(text) is not str or encoding != "latin1":
        raise Refused("text in an unknown encoding")
    return text.encode("latin1")


def ordered_dict(items: Any = ()) -> dict[Any, Any]:
    """A plain dict in the order of the stream."""
    if type(items) not in (tuple, list):
        raise Refused("an ordered dict of something else than a list")
    keys = plain_keys(key for key, _ in items)
    return dict(zip(keys, (value for _, value in items), strict=True))


def device_name(kind: Any, index: Any = None) -> str:
    """The device of a value, as text; nothing is moved there."""
    if type(kind) is not str or type(index) not in (int, type(None)):
        raise Refused("a device without name")
    return kind if index is None else f"{kind}:{index}"


def no_bytes() -> bytes:
    """Protocol 2 writes empty bytes as a call."""
    return b""


NUMPY_CALLS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": NumpyDtype,
    **dict.fromkeys(("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"), numpy_scalar),
    **dict.fromkeys(("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"), numpy_array),
}
NUMPY_NAMES = {"numpy.ndarray": Name("numpy.ndarray")}
BUILDS: dict[type, Callable[[Any, Any], None]] = {
    dict: lambda target, state: None,  # attributes of an ordered dict: the versions of a state dict's modules
    NumpyDtype: lambda target, state: target.build(state),
    np.ndarray: build_array,
}
_DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_PLAIN_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": ordered_dict,
    "torch._utils._rebuild_tensor": strided,
    "torch._utils._rebuild_tensor_v2": lambda storage, offset, size, stride, *_: strided(storage, offset, size, stride),
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.Size": lambda sides: tuple(sides),
    "torch.device": device_name,
    "_codecs.encode": latin_bytes,
    **dict.fromkeys(("builtins.set", "__builtin__.set"), lambda items=(): set(plain_keys(items))),
    **dict.fromkeys(("builtins.frozenset", "__builtin__.frozenset"), lambda items=(): frozenset(plain_keys(items))),
    **dict.fromkeys(("builtins.bytes", "__builtin__.bytes"), no_bytes),
}


def torch_rules(bags: frozenset[str] = frozenset(), persistent: Callable[[Any], Any] | None = None) -> Rules:
    """What files of `torch.save` may contain: tensors, numbers, containers, and objects of the classes in `bags`."""
    names = {**STORAGE_NAMES, **NUMPY_NAMES, **{f"torch.{name}": getattr(torch, name) for name in _DTYPES}}
    return Rules({**_PLAIN_CALLS, **NUMPY_CALLS}, names, bags, BUILDS, persistent)
