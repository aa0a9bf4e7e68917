"""Tiny networks in ONNX for tests: an identity network, and a face swapper that shows a face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from generation.arrays import Floats

FLOAT = TensorProto.FLOAT


def save(path: Path, nodes: list[Any], inputs: list[Any], output: Any, weights: dict[str, Any]) -> Path:
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def swapper(
    path: Path,
    side: int,
    projection: Floats | None = None,
    *,
    source_px: int = 0,
    gain: float = 0.5,
    blur_px: int = 1,
) -> Path:
    """output = gain x target + the first three values of the source (or the means of its picture), by channel.

    Target comes before source in the graph, and `projection` is its last weight, as in the published file.

    Args:
        path: to write.
        side: of target and output, px.
        projection: matrix for the embedding.
        source_px: side of the source's picture; 0 takes an embedding.
        gain: see above.
        blur_px: odd number of target pixels that each of the output is the mean of.
    """
    shape = [1, 3, source_px, source_px] if source_px else [1, 512]
    inputs = [
        helper.make_tensor_value_info("target", FLOAT, [1, 3, side, side]),
        helper.make_tensor_value_info("source", FLOAT, shape),
    ]
    tint = (
        [helper.make_node("ReduceMean", ["source"], ["tint"], axes=[2, 3], keepdims=1)]
        if source_px
        else [
            helper.make_node("Slice", ["source", "zero", "three", "one"], ["first"]),
            helper.make_node("Reshape", ["first", "shape"], ["tint"]),
        ]
    )
    kernel, pads = [blur_px, blur_px], [blur_px // 2] * 4
    nodes = [
        *tint,
        helper.make_node("AveragePool", ["target"], ["smooth"], kernel_shape=kernel, pads=pads),
        helper.make_node("Mul", ["smooth", "gain"], ["dim"]),
        helper.make_node("Add", ["dim", "tint"], ["output"]),
    ]
    weights: dict[str, Any] = {"gain": np.array(gain, np.float32)}
    if not source_px:
        weights |= {"zero": np.array([0]), "three": np.array([3]), "one": np.array([1])}
        weights["shape"] = np.array([1, 3, 1, 1])
    if projection is not None:
        weights["buff2fs"] = projection
    return save(path, nodes, inputs, helper.make_tensor_value_info("output", FLOAT, [1, 3, side, side]), weights)


def identity(path: Path) -> Path:
    """An embedding of 512 values from the means of rows, as an ArcFace network takes and gives them."""
    values = np.random.default_rng(0).standard_normal((3 * 112, 512)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["input.1"], ["rows"], axes=[3], keepdims=0),
        helper.make_node("Flatten", ["rows"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["683"]),
    ]
    given = helper.make_tensor_value_info("input.1", FLOAT, ["None", 3, 112, 112])
    return save(path, nodes, [given], helper.make_tensor_value_info("683", FLOAT, ["None", 512]), {"weights": values})


def matrix(seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal((512, 512)).astype(np.float32)
