"""The file of a network that dlib has saved: its convolutions, in their order, each with the scale that follows it.

dlib writes each layer's name, its numbers and its settings, from the input on. A whole number is a byte that says how
many bytes follow, and these; a tensor is its version, its four sides, and float32 little-endian.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from generation.arrays import Floats
from generation.errors import WeightsError

LAYER = re.compile(rb"\x01[\x01-\x20](con|affine|fc)_([0-9]*)")
TENSOR_VERSION = 2
NEGATIVE = 0x80  # of the byte before a whole number


@dataclass(frozen=True)
class Convolution:
    """One convolution; what scales its result is multiplied into it.

    Attributes:
        weights: float32 (out, in, height, width).
        bias: float32 (out,).
        stride, padding: px.
    """

    weights: Floats
    bias: Floats
    stride: int
    padding: int


def read_dlib(path: Path) -> tuple[list[Convolution], Floats]:
    """Convolutions of a network, and the matrix (in, out) of its last layer, a linear one without a bias.

    Raises:
        WeightsError: the file is not such a network.
    """
    try:
        content = path.read_bytes()
        convolutions: list[Convolution] = []
        matrix: Floats | None = None
        for found in LAYER.finditer(content):
            kind, at = found.group(1), found.end()
            if kind == b"fc":
                (num_out, num_in), at = _whole_numbers(content, at, 2)
                matrix = _tensor(content, at)[0].reshape(num_in, num_out)
            elif kind == b"con":
                values, at = _tensor(content, at)
                (num_out, height, width, stride, _, padding, _), _ = _whole_numbers(content, at, 7)
                weights = values[:-num_out].reshape(num_out, -1, height, width)
                convolutions.append(Convolution(weights, values[-num_out:], stride, padding))
            else:
                scale, shift = np.split(_tensor(content, at)[0], 2)
                last = convolutions.pop()
                weights, bias = last.weights * scale[:, None, None, None], last.bias * scale + shift
                convolutions.append(Convolution(weights, bias, last.stride, last.padding))
    except (OSError, ValueError, IndexError) as error:
        raise WeightsError(f"{path}: is not a network of dlib ({error}); install its package again") from error
    if matrix is None:
        raise WeightsError(f"{path}: is not a network of dlib (no linear layer); install its package again")
    return convolutions, matrix


def _whole_numbers(content: bytes, at: int, count: int) -> tuple[list[int], int]:
    """Whole numbers from a place on, and the place after them."""
    numbers = []
    for _ in range(count):
        size = content[at]
        if not 1 <= size <= 8:
            raise ValueError(f"{'negative' if size & NEGATIVE else 'no'} number at byte {at}")
        numbers.append(int.from_bytes(content[at + 1 : at + 1 + size], "little"))
        at += 1 + size
    return numbers, at


def _tensor(content: bytes, at: int) -> tuple[Floats, int]:
    """A tensor, flat, and the place after it."""
    (version, *sides), at = _whole_numbers(content, at, 5)
    count = int(np.prod(sides, dtype=object))
    if version != TENSOR_VERSION or not 0 < 4 * count <= len(content) - at:
        raise ValueError(f"no tensor at byte {at}")
    return np.frombuffer(content, "<f4", count, at), at + 4 * count
