"""How everything here is measured: two ways in alternation, one number a line, a process of its own, this machine."""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

Clock = Literal["cpu", "wall", "cuda"]
LIBRARIES = ("torch", "torchcodec", "opencv-python", "av", "pyarrow", "datasets", "huggingface_hub", "facenet-pytorch")


@dataclass(frozen=True)
class Line:
    """One number of a table.

    Attributes:
        name: what was measured, and beside what.
        value: median of the repeats, or what was counted.
        unit: of the value: "times as fast", "of the bytes", "MiB".
        at_least, at_most: the goal; None if there is none.
        detail: in words: the two sides with their units, the size of the input.
        samples: every repeat of every way, in seconds.
    """

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    detail: str = ""
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        """Whether the value reaches its goal; None without a goal."""
        if self.at_least is None and self.at_most is None:
            return None
        low, high = self.at_least or float("-inf"), float("inf") if self.at_most is None else self.at_most
        return low <= self.value <= high

    def cells(self) -> tuple[str, str, str, str, str]:
        """Name, value, goal, whether it is met, detail."""
        low, high = self.at_least, self.at_most
        goal = f"at least {low:g}" if low is not None else "" if high is None else f"at most {high:g}"
        met = {None: "", True: "yes", False: "**no**"}[self.is_met]
        return self.name, f"{self.value:.3g} {self.unit}".strip(), goal, met, self.detail


LEAST_PSNR = {"cpu": 60.0, "cuda": 40.0}  # dB, of the same in float32, and in half precision


@dataclass(frozen=True)
class Setup:
    """How to measure.

    Attributes:
        folder: where inputs are made, and found again.
        repeats: of every way.
        clips: real videos, for what is measured on faces.
        is_small: sizes that only show that everything runs.
    """

    folder: Path
    repeats: int = 5
    clips: tuple[Path, ...] = ()
    is_small: bool = False


def alternate(
    ways: Mapping[str, Callable[[], Any]], repeats: int, clock: Clock = "cpu", *, warm_up: bool = True
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Runs every way in turn, again and again, so that whatever else the machine does meets all of them alike.

    Args:
        ways: name -> what to time.
        repeats: timed rounds.
        clock: "cpu" takes processor seconds of all threads and ended children, "wall" seconds, "cuda" seconds until the
            device is idle.
        warm_up: whether a round that does not count goes first.

    Returns:
        Seconds of each round by way, and what each way returned last.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, Any] = {}
    for number in range(-int(warm_up), repeats):
        for name, work in ways.items():
            before = _now(clock)
            results[name] = work()
            after = _now(clock)
            if number >= 0:
                seconds[name].append(after - before)
    return seconds, results


def ratio_line(
    name: str, seconds: Mapping[str, Sequence[float]], goal: float | None = None, *, work: float = 1.0, unit: str = "s"
) -> Line:
    """How many times as fast the last way is as the first.

    Args:
        name: of the line.
        seconds: of `alternate`; the peer first, then this project's way.
        goal: the ratio to reach.
        work: what one run does, for the detail: `work / seconds` with `unit` "frames/s"; seconds themselves with "s".
        unit: of the detail.
    """
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    first, *_, last = medians.values()

    def shown(value: float) -> str:
        return f"{value:.3g} s" if unit == "s" else f"{work / value:.4g} {unit}"

    detail = ", ".join(f"{way} {shown(value)}" for way, value in medians.items())
    return Line(name, first / last, "times as fast", goal, detail=detail, samples=seconds)


def psnr_line(name: str, ours: Any, theirs: Any, at_least: float) -> Line:
    """How near two ways' results are, arrays or tensors of one shape; the peak is the range of `theirs`."""
    one, other = (np.asarray(getattr(values, "cpu", lambda v=values: v)(), np.float64) for values in (ours, theirs))
    error = np.abs(one - other)
    psnr = 20 * np.log10(np.ptp(other) / max(float(np.sqrt((error**2).mean())), 1e-10))
    detail = f"largest difference {error.max():.1e} of values from {other.min():.2g} to {other.max():.2g}"
    return Line(f"{name}: both ways' results", float(psnr), "dB", at_least, detail=detail)


def clock_of(device: str) -> Clock:
    """The clock of work on a torch device."""
    return "cpu" if device == "cpu" else "cuda"


def _now(clock: Clock) -> float:
    if clock == "cpu":
        used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)
    if clock == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Alone:
    """What a function did in a process of its own.

    Attributes:
        value: that it returned.
        seconds: by the clock, without the start of the process.
        start_bytes, peak_bytes: resident memory before it was called, and its peak.
    """

    value: Any
    seconds: float
    start_bytes: int
    peak_bytes: int


def alone(work: Callable[..., Any], *arguments: Any) -> Alone:
    """Calls a module-level function in a fresh process, which inherits os.environ as it is now."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_call_measured, work, arguments).result()


def _call_measured(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Alone:
    start, started = _resident("VmRSS"), time.perf_counter()
    value = work(*arguments)
    return Alone(value, time.perf_counter() - started, start, _resident("VmHWM"))


def _resident(name: str) -> int:
    # Not ru_maxrss: across exec it keeps the peak of the process that started this one.
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def machine() -> dict[str, str]:
    """Processor, cores, system and versions, for a table's head."""
    cpu = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*:\s*(.+)", cpu.read_text()) if cpu.exists() else []
    facts = {
        "processor": f"{models[0] if models else platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "date": datetime.now(UTC).date().isoformat(),
    }
    installed = {one.metadata["name"].lower().replace("_", "-") for one in importlib.metadata.distributions()}
    known = [name for name in LIBRARIES if name.replace("_", "-") in installed]
    return facts | {"libraries": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in known)}


def print_results(lines: Sequence[Line], facts: Mapping[str, str], path: Path | None) -> None:
    """Prints machine and lines as Markdown; writes both as JSON, {"machine": {...}, "lines": [{...}]}, to a path."""
    rows = [("what", "measured", "goal", "met", "detail"), ("---",) * 5, *(line.cells() for line in lines)]
    print("\n".join([*(f"- {name}: {fact}" for name, fact in facts.items()), ""]))
    print("\n".join(f"| {' | '.join(cells)} |" for cells in rows), flush=True)
    if path is not None:
        content = {"machine": dict(facts), "lines": [asdict(line) | {"is_met": line.is_met} for line in lines]}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
