"""Compares a network with the test vectors of a folder: every vector, its largest error, and last the verdict.

    python benchmarks/parity.py NETWORK DIR [--tolerance 1e-4]

NETWORK is one of stylegan3, mcnet, styleganex, simswap; DIR holds vectors computed once by the published
implementation with repeatable weights (`filled_weights`). Each vector has a tolerance of its own kind (keypoints are
compared more strictly than pictures); --tolerance takes one for all. Exit status 1 where a vector is outside.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.compared import Compared

NETWORKS = ("stylegan3", "mcnet", "styleganex", "simswap")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tolerance", type=float, help="for every vector, in the place of its own")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        parser.error(f"{arguments.folder}: no such folder")
    started, num_compared, failed = time.monotonic(), 0, 0
    for one in compare(arguments.network, arguments.folder):
        tolerance = arguments.tolerance or one.tolerance
        is_inside = one.error <= tolerance
        num_compared, failed = num_compared + 1, failed + (not is_inside)
        print(f"{'ok  ' if is_inside else 'FAIL'} {one.error:9.2e} <= {tolerance:.0e}  {one.name}")
    verdict = "PASS" if num_compared and not failed else "FAIL"
    passed = f"{num_compared - failed} of {num_compared} vectors within tolerance"
    print(f"{verdict}: {arguments.network}: {passed}, {time.monotonic() - started:.0f} s")
    return 0 if verdict == "PASS" else 1


def compare(network: str, folder: Path) -> Iterator[Compared]:
    """Every vector of a folder, compared one after another."""
    module = importlib.import_module(f"benchmarks.parity_{network}")
    yield from module.compare(folder)


if __name__ == "__main__":
    sys.exit(main())
