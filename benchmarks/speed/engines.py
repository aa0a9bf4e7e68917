"""What an engine adds to the work itself, by number of workers: the swaps of some actors, in one run, in alternation.

"Start" is the time until the first swap begins: processes, imports and, with Ray, actors. "Processor" is what one swap
takes of a processor, which grows where workers stand in each other's way; "pause" is how long a worker waits between
two swaps. Of w workers, the work of w * processor(1) / (processor(w) + pause(w)) of them arrives: "scaling", which does
not depend on what else runs on the machine. Ray needs the extra `ray`; its cluster is started before the first row.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.measuring import Line, Setup
from tooling.actors import SourceSettings, write_sources
from tooling.settings import ClipSettings, Settings
from tooling.stages.faces import crop_faces
from tooling.stages.generate.clips import clip_tasks, make_clip
from tooling.stages.generate.request import GenerateRequest, GeneratorChoice
from tooling.stages.ingest import ingest_clips
from tooling.stages.plan import draw_plan
from tooling.work.engine import Engine, run_side_by_side
from tooling.work.tasks import Task
from tooling.workspace.layout import Workspace, create_workspace

ROWS = (("local", 1), ("ray", 1), ("local", 2), ("ray", 2))


@dataclass(frozen=True)
class Swap:
    """When and in which process a swap was made, in seconds of the clock, and the seconds of a processor it took."""

    process: int
    began: float
    ended: float
    processor: float


@dataclass(frozen=True)
class Run:
    """Seconds until the first swap began, of a processor for each swap, and of waiting before it; medians."""

    start: float
    processor: float
    pause: float


def measure(setup: Setup) -> Iterator[Line]:
    """One line for each engine and number of workers; none without Ray."""
    if importlib.util.find_spec("ray") is None:
        print("engines: Ray is not installed; skipped (`pip install 'homologous-deepfake[ray]'`)", flush=True)
        return
    num_people, num_frames, width_px = (3, 4, 320) if setup.is_small else (8, 15, 640)
    runs: dict[tuple[str, int], list[Run]] = {row: [] for row in ROWS}
    with tempfile.TemporaryDirectory(dir=setup.folder) as folder:
        workspace, tasks = make_tasks(Path(folder), num_people, num_frames, width_px)
        list(run_side_by_side(make_swap, [(workspace, tasks[0])], engine=Engine("ray"), workspace=workspace))
        make_swap((workspace, tasks[0]))  # this process is the worker of "local, 1"
        for engine, num_workers in [row for _ in range(setup.repeats) for row in ROWS]:
            runs[engine, num_workers].append(run_swaps(workspace, tasks, engine, num_workers))
    medians = {
        row: Run(*(statistics.median(values) for values in zip(*(vars(run).values() for run in found), strict=True)))
        for row, found in runs.items()
    }
    alone = medians["local", 1].processor
    for (engine, num_workers), run in medians.items():
        scaling = num_workers * alone / (run.processor + run.pause)
        detail = (
            f"start {run.start:.1f} s, {run.processor:.2f} s of a processor a swap, pause {1000 * run.pause:.0f} ms"
        )
        workers = "1 worker" if num_workers == 1 else f"{num_workers} workers"
        yield Line(f"engine {engine}, {workers}, beside 1 local worker", scaling, "times as fast", detail=detail)


def make_tasks(folder: Path, num_people: int, num_frames: int, width_px: int) -> tuple[Workspace, list[Task]]:
    """A workspace of clips, tracks and plan, and the tasks of its swaps."""
    size = {"width_px": width_px, "height_px": width_px * 9 // 16}
    write_sources(folder / "sources", SourceSettings(num_people, 0, num_frames / 30 + 0.2, **size))
    workspace = create_workspace(folder / "workspace", Settings(clip=ClipSettings(seconds=num_frames / 30, **size)))
    ingest_clips(workspace, folder / "sources")
    crop_faces(workspace)
    draw_plan(workspace)
    request = GenerateRequest()
    choice = GeneratorChoice("weightfree-swap", "face_swap", request.options)
    return workspace, clip_tasks(workspace, "swap_video", request, choice)[0]


def make_swap(item: tuple[Workspace, Task]) -> Swap:
    """Makes one swap and leaves it where it is; runs in a worker."""
    began, processor = time.time(), time.process_time()
    make_clip(*item)
    return Swap(os.getpid(), began, time.time(), time.process_time() - processor)


def run_swaps(workspace: Workspace, tasks: list[Task], engine: str, num_workers: int) -> Run:
    """Makes all swaps; the first of each worker counts as its start alone."""
    items, started = [(workspace, task) for task in tasks], time.time()
    outcomes = run_side_by_side(make_swap, items, num_workers=num_workers, engine=Engine(engine), workspace=workspace)
    swaps: dict[int, list[Swap]] = {}
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        swaps.setdefault(outcome.value.process, []).append(outcome.value)
    start = min(found[0].began for found in swaps.values()) - started
    pauses = [later.began - earlier.ended for found in swaps.values() for earlier, later in pairwise(found)]
    processor = [swap.processor for found in swaps.values() for swap in found[1:]]
    return Run(start, statistics.median(processor), statistics.median(pauses))
