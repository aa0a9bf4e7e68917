from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from generation.errors import WeightsError
from generation.weights.dlib_file import read_dlib
from generation.weights.dlib_network import DlibNetwork


def whole(*numbers: int) -> bytes:
    """As dlib writes them: a byte that says how many follow, and these."""
    parts = (number.to_bytes(max((number.bit_length() + 7) // 8, 1), "little") for number in numbers)
    return b"".join(bytes([len(part)]) + part for part in parts)


def named(name: bytes) -> bytes:
    return whole(len(name)) + name


def tensor(values: np.ndarray) -> bytes:
    return whole(2, values.size, 1, 1, 1) + values.astype("<f4").tobytes()


WEIGHTS = np.arange(300 * 2 * 3 * 3, dtype=np.float32).reshape(300, 2, 3, 3)
BIAS, SCALE, SHIFT = np.arange(300) + 1.0, np.full(300, 2.0), np.full(300, 5.0)
MATRIX = np.arange(600, dtype=np.float32).reshape(300, 2)
CONVOLUTION = named(b"con_4") + tensor(np.r_[WEIGHTS.ravel(), BIAS]) + whole(300, 3, 3, 2, 2, 1, 1)
AFFINE = named(b"affine_") + tensor(np.r_[SCALE, SHIFT])
LINEAR = named(b"fc_2") + whole(2, 300) + tensor(MATRIX.ravel())


def test_scales_are_multiplied_into_the_convolutions_before_them(tmp_path: Path) -> None:
    path = tmp_path / "network.dat"
    path.write_bytes(named(b"loss_metric_2") + b"\x01\x02" + CONVOLUTION + AFFINE + named(b"relu_110") + LINEAR)
    (convolution,), matrix = read_dlib(path)
    np.testing.assert_array_equal(convolution.weights, 2 * WEIGHTS)
    np.testing.assert_array_equal(convolution.bias, 2 * BIAS + 5)
    assert (convolution.stride, convolution.padding) == (2, 1)
    np.testing.assert_array_equal(matrix, MATRIX)
    with pytest.raises(WeightsError, match=r"network.dat: is another network of dlib \(1 convolutions\); install"):
        DlibNetwork(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"RIFF", CONVOLUTION + AFFINE, LINEAR[:200], AFFINE + LINEAR, CONVOLUTION[:-4] + LINEAR, b"\x01\x05con_4"],
)
def test_other_files_are_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "network.dat"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"network.dat: is not a network of dlib \(.+\); install its package again"):
        read_dlib(path)
