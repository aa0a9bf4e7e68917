"""One command for a CUDA machine that has torch: parity, speed, whole clips, full batches, and the tests marked `cuda`.

    python -m benchmarks.gpu [--minutes 8] [--json FILE] [--wheels DIR] [--device cuda] [--small]

Missing packages are installed by pip first, from DIR if there is no network; torch stays as it is. What has not begun
when the time is over is left out, and said to be. `--device cpu --small` shows that the script runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("av", "cv2", "diffusers", "numba", "numpy", "pytest", "safetensors", "scipy", "transformers")
MOST_BATCH = 256


def install(wheels: Path | None) -> None:
    """Installs the project's dependencies, if one is missing, beside the torch that is there."""
    if all(importlib.util.find_spec(name) for name in NEEDED):
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["tooling"], "pytest", "pytest-timeout"]
    import torch

    wanted = [one for one in wanted if not one.startswith(("torch>", "torchcodec"))]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write(f"torch=={torch.__version__}\n")
        constraints.flush()
        source = ["--no-index", "--find-links", str(wheels)] if wheels else []
        command = [sys.executable, "-m", "pip", "install", "--no-input", "-c", constraints.name, *source]
        subprocess.run([*command, *wanted, "pytest-xdist"], check=True)


def networks(device: str, *, is_small: bool) -> Iterator[Any]:
    """Speed beside the straightforward loop, and nearness to it, of the four published networks at their sizes."""
    import torch

    from benchmarks.speed import mcnet, simswap, stylegan3, styleganex

    repeats, half = (1, torch.float32) if is_small else (5, torch.bfloat16)
    goals: dict[str, Any] = {"repeats": repeats, "device": device}
    if is_small:
        yield from stylegan3.compare(goal=4, **goals)
        yield from mcnet.compare(1, goal=6, **goals)
        yield from styleganex.compare(1, 64, 64, goal=5, **goals)
        yield from simswap.compare(224, 2, goal=6, **goals)
        return
    yield from stylegan3.compare(1024, batch=8, dtype=half, goal=4, **goals)
    yield from mcnet.compare(64, dtype=half, goal=6, **goals)
    yield from styleganex.compare(4, 512, 512, goal=5, **goals)
    yield from simswap.compare(224, 128, goal=6, **goals)
    yield from simswap.compare(512, 64, goal=6, **goals)


def whole_clips(device: str, *, is_small: bool) -> Iterator[Any]:
    """SimSwap from a file to a file, 1280x720: decoded, swapped, pasted, checked and encoded at the same time."""
    import torch

    from benchmarks.measuring import Line
    from benchmarks.speed.simswap import filled, film
    from generation.crops.clip import FaceClip
    from generation.generators.simswap.identity_encoder import SwapIdentity
    from generation.generators.simswap.pipeline import SimSwap
    from generation.media.reader import read_frames
    from generation.media.writer import VideoWriter, write_clip
    from generation.prefetch import prefetch
    from generation.quality.output import OutputMeter

    dtype = torch.float32 if device == "cpu" else torch.float16
    identity: Any = SwapIdentity(layers=(1, 1, 1, 1), widths=(8, 8, 8, 8)).eval()
    pipeline = SimSwap(filled(224), identity, crop_px=224, template="poses").to(device, dtype)
    drawn = film(3 if is_small else 300)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder, "target.mp4")
        write_clip(video, drawn.frames())
        clip = FaceClip(str(video), lambda: read_frames(video), drawn.landmarks)

        def seconds(work: Callable[[], object]) -> float:
            started = time.perf_counter()
            work()
            return time.perf_counter() - started

        def swap() -> None:
            meter = OutputMeter()
            with VideoWriter(Path(folder, "fake.mp4"), width=1280, height=720) as writer:
                for pasted in prefetch(pipeline.stream(clip, clip)):
                    meter.add(pasted)
                    writer.write(pasted.frame)

        swap()  # warms up
        parts = {
            "decode": seconds(lambda: [None for _ in clip.frames()]),
            "swap and paste": seconds(lambda: [None for _ in pipeline.stream(clip, clip)]),
            "encode": seconds(lambda: write_clip(Path(folder, "again.mp4"), drawn.frames())),
        }
        whole = seconds(swap)
    num = len(drawn.landmarks)
    detail = ", ".join(f"{name} alone {num / value:.3g}" for name, value in parts.items())
    yield Line(f"SimSwap, 224 px, {num} frames from file to file, {device}", num / whole, "frames/s", detail=detail)


def full_batches(device: str, *, is_small: bool) -> Iterator[Any]:
    """StyleGAN3 in larger and larger batches, until the device's memory is full or nothing is gained."""
    import torch

    from benchmarks.measuring import Line, alternate, clock_of
    from benchmarks.parity.stylegan3_published import published_arguments
    from generation.generators.stylegan3.convert import generator_settings
    from generation.generators.stylegan3.network import StyleganGenerator

    size, dtype = (256, torch.float32) if is_small else (1024, torch.bfloat16)
    settings = generator_settings(published_arguments("t", size), file="recipe")
    network = StyleganGenerator(**settings).eval().to(device, dtype)
    rates: dict[int, float] = {}
    batch = 1
    with torch.inference_mode(), suppress(torch.OutOfMemoryError):
        while batch <= (2 if is_small else MOST_BATCH):
            ws = network.mapping(torch.randn(batch, network.config["z_dim"], device=device))
            work = {"": lambda ws=ws: network.synthesis(ws)}
            seconds, _ = alternate(work, 1 if is_small else 3, clock_of(device), warm_up=not is_small)
            rates[batch] = batch / min(seconds[""])
            batch *= 2
    best = max(rates, key=lambda number: rates[number])
    detail = ", ".join(f"{number} at a time {rate:.3g}" for number, rate in rates.items())
    yield Line(f"StyleGAN3 t, {size} px, {best} at a time, {device}", rates[best], "images/s", detail=detail)


def marked_tests(device: str, *, is_small: bool) -> Iterator[Any]:
    """The tests marked `cuda`; without a GPU they are skipped."""
    from benchmarks.measuring import Line

    required = {"REQUIRE_CUDA": "1"} if device != "cpu" else {}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "cuda", "-p", "no:cacheprovider"]
    folder = "tests/generation/networks" if is_small else "tests"
    done = subprocess.run(
        [*command, folder], cwd=ROOT, env=os.environ | required, capture_output=True, text=True, check=False
    )
    *_, last = ["no output", *done.stdout.strip().splitlines()]
    yield Line("tests marked cuda", float(done.returncode), "exit code", at_most=0, detail=last.strip("= "))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    deadline = time.monotonic() + 60 * arguments.minutes
    install(arguments.wheels)

    import torch

    from benchmarks.measuring import machine, print_results

    if arguments.device != "cpu" and not torch.cuda.is_available():
        parser.error("no CUDA device; run it on a machine that has one, or with --device cpu --small")
    facts = machine() | {"device": arguments.device}
    if arguments.device != "cpu":
        facts["device"] = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    lines: list[Any] = []
    for part in (marked_tests, networks, whole_clips, full_batches):
        if time.monotonic() > deadline:
            print(f"{part.__name__}: left out, the time is over", flush=True)
            continue
        for line in part(arguments.device, is_small=arguments.small):
            print(": ".join(filter(None, line.cells())), flush=True)
            lines.append(line)
            if time.monotonic() > deadline:
                print(f"the rest of {part.__name__}: left out, the time is over", flush=True)
                break
    print()
    print_results(lines, facts, arguments.json)


if __name__ == "__main__":
    main()
