"""Files of `torch.save`: the zip format of torch 1.6 and later, and the legacy format before it.

The endings .pth, .pt, .pth.tar and .tar say nothing; the first bytes decide. Values come back as dicts, lists, tuples,
sets, strings, numbers, NumPy arrays and tensors on the CPU; tensors are views of the mapped file, so the file must not
be changed while they are in use. A whole module that was saved comes back as a `Bag`, if the caller names its classes.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from generation.errors import WeightsError
from generation.weights import archive
from generation.weights.mapped import ByteReader, map_file
from generation.weights.pickle_stream import find_global
from generation.weights.torch_legacy import read_legacy
from generation.weights.torch_zip import read_zip

PROTO = 0x80  # the first instruction of a pickle
_LAYERS = {
    "container": "Sequential ModuleList ModuleDict ParameterList",
    "linear": "Linear Identity",
    "conv": "Conv1d Conv2d Conv3d ConvTranspose2d",
    "batchnorm": "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm",
    "instancenorm": "InstanceNorm2d",
    "normalization": "GroupNorm LayerNorm",
    "activation": "ReLU ReLU6 LeakyReLU PReLU Sigmoid Tanh Softmax GELU ELU Hardtanh SiLU",
    "pooling": "MaxPool2d AvgPool2d AdaptiveAvgPool2d AdaptiveMaxPool2d",
    "padding": "ReflectionPad2d ReplicationPad2d ZeroPad2d ConstantPad2d",
    "dropout": "Dropout Dropout2d",
    "flatten": "Flatten",
    "upsampling": "Upsample UpsamplingBilinear2d UpsamplingNearest2d",
    "pixelshuffle": "PixelShuffle",
}
# Classes of torch in saved modules, for `bags` of `read_torch`; the caller adds those of the publisher.
LAYERS: tuple[str, ...] = (
    *(f"torch.nn.modules.{module}.{name}" for module, names in _LAYERS.items() for name in names.split()),
    "torch.nn.parallel.data_parallel.DataParallel",
    "torch.nn.parallel.distributed.DistributedDataParallel",
    "torch.nn.backends.thnn._get_thnn_function_backend",  # every module before torch 1.2 has one
)


def read_torch(path: Path, *, bags: Collection[str] = ()) -> Any:
    """Reads a file of `torch.save`, running nothing in it.

    Args:
        path: a .pth, .pt, .tar or other file of either format.
        bags: "module.Name" of classes whose objects become a `Bag`: for a module `LAYERS` and those of the publisher.

    Raises:
        WeightsError: another kind of file, damaged, or it contains a refused value, which is named.
    """
    view = map_file(path)
    if isinstance(bags, str):
        raise TypeError("bags is a collection of names")
    if bytes(view[:4]) == b"PK\x03\x04":
        return read_zip(view, str(path), frozenset(bags))
    if view[0] == PROTO:
        return read_legacy(view, str(path), frozenset(bags))
    if archive.is_archive(path):
        archive.refuse(path)
    if found := find_global(ByteReader(view, str(path))):
        raise WeightsError(f"{path}: contains the global {found} in a pickle of an old protocol; do not use this file")
    raise WeightsError(f"{path}: is not a file of torch.save; name the downloaded .pth, .pt or .tar file")
