"""The published checkpoint of MCNET, as the pipeline that runs it.

The training's file is a dict of `PARTS`: state dicts of DistributedDataParallel, whose names begin with "module.",
the state of optimizers, and the epoch. Generator and keypoint detector are read, strictly; the rest is for training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from generation.errors import WeightsError
from generation.generators.mcnet.keypoints import McnetDetector
from generation.generators.mcnet.network import McnetGenerator
from generation.generators.mcnet.pipeline import McnetDrive
from generation.weights.mapped import printable
from generation.weights.state import load_strict, state_dict, strip_prefix
from generation.weights.torch_file import read_torch

NETWORKS = ("generator", "kp_detector")
TRAINING = ("discriminator", "optimizer_generator", "optimizer_discriminator", "optimizer_kp_detector", "epoch")


def convert_mcnet(files: Sequence[Path]) -> McnetDrive:
    """Both networks out of one checkpoint.

    Raises:
        WeightsError: it is another file, or its networks are of another size.
    """
    (path,) = files
    parts = read_torch(path)
    _check_parts(parts, str(path))
    generator, detector = McnetGenerator(), McnetDetector()
    for model, name in ((generator, "generator"), (detector, "kp_detector")):
        state = strip_prefix(state_dict(parts[name], file=f"{path}: {name}"), "module.")
        load_strict(model, state, file=f"{path}: {name}")
    return McnetDrive(detector, generator)


def _check_parts(parts: Any, file: str) -> None:
    if not isinstance(parts, Mapping):
        raise WeightsError(f"{file}: is not a dict of networks; use the checkpoint that was published")
    for name in NETWORKS:
        if name not in parts:
            raise WeightsError(f"{file}: has no {name}; use the checkpoint that was published")
    for name in parts:
        if name not in (*NETWORKS, *TRAINING):
            raise WeightsError(f"{file}: holds {printable(str(name))}, which the published checkpoint does not")
