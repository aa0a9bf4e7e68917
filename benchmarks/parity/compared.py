"""One test vector compared with the result of this project's network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


@dataclass(frozen=True)
class Compared:
    """A vector's name, its largest absolute error, and how large that may be."""

    name: str
    error: float
    tolerance: float


def compared(name: str, got: Tensor | ArrayLike, expected: Tensor | ArrayLike, tolerance: float) -> Compared:
    """The largest absolute difference; infinite if shapes differ or a value is not finite."""
    ours, theirs = _array(got), _array(expected)
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return Compared(name, float("inf"), tolerance)
    return Compared(name, float(np.abs(ours - theirs).max(initial=0.0)), tolerance)


def _array(values: Tensor | ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values.detach().cpu().float() if isinstance(values, torch.Tensor) else values, np.float64)
