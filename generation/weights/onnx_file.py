"""Networks in ONNX: inputs, outputs and initializers, read with the `onnx` library.

An ONNX file is protobuf and runs nothing, but its tensors may lie in other files: these must be plain files of the same
folder or below. https://onnx.ai/onnx/repo-docs/ExternalData.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from generation.errors import WeightsError, one_line
from generation.weights.archive import unsafe_name
from generation.weights.mapped import printable

MAX_GRAPH_DEPTH = 20
ELEMENTS = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.INT16: "int16",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.BOOL: "bool",
}

Shape = tuple[int | None, ...]
"""Sides of a tensor; None for one that the file leaves open."""


@dataclass(frozen=True)
class OnnxFile:
    """One network.

    Attributes:
        path: its file.
        inputs, outputs: name and shape of each, in the order of the graph; initializers are not inputs.
        initializers: names and shapes of the weights, in the order of the graph.
    """

    path: Path
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]
    initializers: dict[str, Shape]
    _tensors: dict[str, Any]

    def initializer(self, name: str) -> torch.Tensor:
        """The values of one initializer, on the CPU.

        Raises:
            WeightsError: no initializer has the name, or its data is missing, damaged or of an unknown type.
        """
        if name not in self._tensors:
            raise WeightsError(f"{self.path}: has no initializer {name}; it has {len(self._tensors)} others")
        tensor = self._tensors[name]
        place = f"{self.path}: initializer {printable(name)}"
        if tensor.data_type not in ELEMENTS:
            kind = onnx.TensorProto.DataType.Name(tensor.data_type)
            raise WeightsError(f"{place} is of type {kind}; use a file with {', '.join(ELEMENTS.values())}")
        try:
            values = numpy_helper.to_array(tensor, str(self.path.parent))
        except (ValueError, TypeError, OSError, RuntimeError, onnx.checker.ValidationError) as error:
            reason = printable(one_line(error))
            raise WeightsError(f"{place} cannot be read ({reason}); fetch the file again") from error
        return torch.from_numpy(np.array(values))


def read_onnx(path: Path) -> OnnxFile:
    """Reads an ONNX file; its external data are checked now, and read by `OnnxFile.initializer`.

    Raises:
        WeightsError: not an ONNX file, damaged, or its data lie outside its folder; the tensor is named.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); name the downloaded file") from error
    except (DecodeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: is not an ONNX file, or is cut short; fetch it again") from error
    graph = model.graph
    if not graph.node or not graph.output:
        raise WeightsError(f"{path}: contains no ONNX network; name another file")
    tensors: dict[str, Any] = {}
    for tensor in graph.initializer:
        if not tensor.name or tensor.name in tensors:
            raise WeightsError(f"{path}: two initializers are named {printable(tensor.name)}; do not use this file")
        tensors[tensor.name] = tensor
    if graph.sparse_initializer:
        raise WeightsError(f"{path}: has sparse initializers, which are not read; use another file")
    for tensor in [tensor for part in (graph, *model.functions) for tensor in _all_tensors(part, path)]:
        _check_external(path, tensor)
    return OnnxFile(
        path,
        {value.name: _shape(value) for value in graph.input if value.name not in tensors},
        {value.name: _shape(value) for value in graph.output},
        {name: tuple(tensor.dims) for name, tensor in tensors.items()},
        tensors,
    )


def _all_tensors(graph: Any, path: Path, depth: int = 0) -> Iterator[Any]:
    """Tensors of a graph or function, also those in attributes and inner graphs."""
    if depth > MAX_GRAPH_DEPTH:
        raise WeightsError(f"{path}: graphs nested more than {MAX_GRAPH_DEPTH} deep; do not use this file")
    yield from getattr(graph, "initializer", ())
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _all_tensors(inner, path, depth + 1) if inner.node else inner.initializer


def _check_external(path: Path, tensor: Any) -> None:
    if not uses_external_data(tensor):
        return
    values = {entry.key: entry.value for entry in tensor.external_data}
    location = values.get("location", "")
    folder = path.parent.resolve()
    problem = unsafe_name(location)
    if not problem and folder not in (folder / location).resolve().parents:
        problem = "leads out of the folder by a link"
    if not problem and not (folder / location).is_file():
        problem = "is missing"
    if not problem:
        problem = _extent_problem(values, (folder / location).stat().st_size)
    if problem:
        shown = f"{printable(tensor.name)} in {printable(location)}"
        raise WeightsError(f"{path}: the data of {shown} {problem}; fetch it again, with its data beside it")


def _extent_problem(values: dict[str, str], num_bytes: int) -> str:
    numbers = [values.get("offset") or "0", values.get("length") or "0"]
    if not all(number.isascii() and number.isdigit() and len(number) < 20 for number in numbers):
        return "has an impossible offset or length"
    return "lies behind the end of the file" if sum(map(int, numbers)) > num_bytes else ""


def _shape(value: Any) -> Shape:
    sides = value.type.tensor_type.shape.dim
    return tuple(side.dim_value if side.HasField("dim_value") else None for side in sides)
