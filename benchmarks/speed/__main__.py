"""Speed of this project's code beside the loop that people copy, from one run: a table, and JSON.

    python -m benchmarks.speed [NAMES ...] [--repeats 5] [--json FILE] [--clips FILES ...] [--folder DIR]

Each ratio is that of the medians of repeats in alternation, so that other work on the machine meets both sides alike.
"Of a processor" means by processor seconds of all threads. What is compared with what stands in each module.
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import Setup, machine, print_results

NAMES = ("faces", "decoding", "stages", "push", "swap", "stylegan3", "mcnet", "styleganex", "simswap", "engines")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}; all if none is given")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--clips", type=Path, nargs="+", default=(), help="real videos on which faces are followed too")
    parser.add_argument("--folder", type=Path, help="where inputs are made and kept; a temporary folder if not given")
    parser.add_argument("--small", action="store_true", help="sizes that only show that everything runs")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"{', '.join(sorted(unknown))}: no such benchmark; choose from {', '.join(NAMES)}")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    facts, lines = machine(), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        setup = Setup(folder, arguments.repeats, tuple(arguments.clips), arguments.small)
        for name in arguments.names or NAMES:
            started = time.perf_counter()
            for line in importlib.import_module(f"benchmarks.speed.{name}").measure(setup):
                print(": ".join(filter(None, line.cells())), flush=True)
                lines.append(line)
            print(f"({name}: {time.perf_counter() - started:.0f} s)", flush=True)
    print()
    print_results(lines, facts | {"repeats": str(arguments.repeats)}, arguments.json)


if __name__ == "__main__":
    main()
