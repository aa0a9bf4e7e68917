"""The recognition network of dlib, run by torch: seven times as fast as by dlib's own wheels, which have no BLAS.

King 2017, "High Quality Face Recognition with Deep Metric Learning". A ResNet of 29 convolutions: after the first one,
pairs of them, each beside what it adds its result to; where a pair halves the picture, that is averaged by fours.
Channels and pixels that one of the two does not have are zero, as in dlib.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional

from generation.arrays import Floats, Frame
from generation.errors import WeightsError
from generation.weights.dlib_file import Convolution, read_dlib

NUM_CONVOLUTIONS, NUM_CHANNELS, NUM_VALUES = 29, 256, 128
MEANS = (122.782, 117.001, 104.298)  # of R, G and B
SCALE = 256.0


class DlibNetwork:
    """The network of one file.

    Raises:
        WeightsError: the file is not this network.
    """

    def __init__(self, path: Path) -> None:
        convolutions, matrix = read_dlib(path)
        if len(convolutions) != NUM_CONVOLUTIONS or matrix.shape != (NUM_CHANNELS, NUM_VALUES):
            raise WeightsError(
                f"{path}: is another network of dlib ({len(convolutions)} convolutions); install its package again"
            )
        self._layers = [_prepared(one) for one in convolutions]
        self._matrix = torch.from_numpy(matrix.copy())
        self._means = torch.tensor(MEANS).reshape(1, 3, 1, 1)

    def __call__(self, crop: Frame) -> Floats:
        """A crop RGB uint8 (S, S, 3) -> its embedding float32 (128,)."""
        with torch.inference_mode():
            # HWC uint8 -> NCHW float32
            picture = torch.from_numpy(crop).permute(2, 0, 1)[None].to(torch.float32)
            picture = (picture - self._means).div(SCALE).contiguous(memory_format=torch.channels_last)
            values = functional.max_pool2d(functional.relu(_convolved(picture, self._layers[0])), 3, 2)
            for first, second in zip(self._layers[1::2], self._layers[2::2], strict=True):
                result = _convolved(functional.relu(_convolved(values, first)), second)
                beside = functional.avg_pool2d(values, 2) if first[2] == 2 else values
                shape = [max(sides) for sides in zip(result.shape, beside.shape, strict=True)]
                values = functional.relu(_padded(result, shape) + _padded(beside, shape))
            embedding: Floats = (values.mean((2, 3)) @ self._matrix)[0].numpy()
        return embedding


_Layer = tuple[torch.Tensor, torch.Tensor, int, int]  # weights, bias, stride, padding


def _prepared(one: Convolution) -> _Layer:
    weights = torch.from_numpy(one.weights.copy()).contiguous(memory_format=torch.channels_last)
    return weights, torch.from_numpy(one.bias.copy()), one.stride, one.padding


def _convolved(values: torch.Tensor, layer: _Layer) -> torch.Tensor:
    weights, bias, stride, padding = layer
    return functional.conv2d(values, weights, bias, stride, padding)


def _padded(values: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """With zeros below, to the right, and for the channels that are missing."""
    _, channels, height, width = (size - own for size, own in zip(shape, values.shape, strict=True))
    return functional.pad(values, (0, width, 0, height, 0, channels)) if channels or height or width else values
