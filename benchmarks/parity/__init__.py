"""Each network beside the test vectors of its published implementation.

A folder of vectors and a network go in; every vector comes out with its largest error and the one that is allowed.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.parity.compared import Compared

NETWORKS = ("stylegan3", "mcnet", "styleganex", "simswap")


def compare(network: str, folder: Path) -> Iterator[Compared]:
    """Every vector of a folder, one after another. A network of NETWORKS is a module of this package."""
    yield from importlib.import_module(f"benchmarks.parity.{network}").compare(folder)
