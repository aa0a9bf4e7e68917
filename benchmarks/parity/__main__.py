"""Compares a network with a folder of test vectors and prints each vector's largest error, then the verdict.

    python -m benchmarks.parity NETWORK DIR [--tolerance 1e-4]

NETWORK is one of stylegan3, mcnet, styleganex, simswap; DIR holds vectors computed once by the published
implementation with repeatable weights (`filled_weights`). Tolerances depend on the kind of vector (keypoints are
compared more strictly than pictures); --tolerance sets one for all. Exits with 1 if a vector is out of tolerance.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.parity import NETWORKS, compare


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tolerance", type=float, help="for every vector, instead of its own")
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


if __name__ == "__main__":
    sys.exit(main())
