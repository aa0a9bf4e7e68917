"""A network in an ONNX file, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from generation.arrays import Floats
from generation.errors import GenerationError, one_line
from generation.weights.onnx_file import read_onnx

ELEMENTS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxNetwork:
    """One network with floating-point inputs.

    Attributes:
        path: its file.
        inputs, outputs: name and shape of each, in the order of the graph; None for a side that is left open.

    Raises:
        GenerationError: onnxruntime is not installed, or it cannot run the file.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise GenerationError(f"{path}: needs onnxruntime; run `pip install onnxruntime`") from error
        file = read_onnx(path)
        self.path, self.inputs, self.outputs = path, dict(file.inputs), dict(file.outputs)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        has_gpu = device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        providers = (["CUDAExecutionProvider"] if has_gpu else []) + ["CPUExecutionProvider"]
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's errors have no common base
            raise GenerationError(f"{path}: is not an ONNX network ({one_line(error)}); fetch it again") from error
        kinds = {one.name: one.type for one in self._session.get_inputs()}
        unknown = [f"{name} is {kind}" for name, kind in kinds.items() if kind not in ELEMENTS]
        if unknown:
            raise GenerationError(f"{path}: {unknown[0]}, expected float32 or float16; use another file")
        self._types = {name: ELEMENTS[kind] for name, kind in kinds.items()}

    def __call__(self, values: Mapping[str, NDArray[Any]]) -> Floats:
        """The first output, float32, for these inputs by name.

        Raises:
            GenerationError: the network does not take them, or what it gives is not finite.
        """
        given = {name: np.ascontiguousarray(value, self._types[name]) for name, value in values.items()}
        try:
            outputs = self._session.run(None, given)
        except Exception as error:  # onnxruntime's errors have no common base
            raise GenerationError(f"{self.path}: does not run ({one_line(error)}); use another file") from error
        made = np.asarray(outputs[0], np.float32)
        if not np.isfinite(made).all():
            raise GenerationError(f"{self.path}: gives values that are not finite; use another file")
        return made
