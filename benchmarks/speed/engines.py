"""Throughput of `tooling generate` by engine and number of workers, in one run, in alternation.

    python -m benchmarks.speed.engines [--people N] [--frames N] [--repeats N] [--width PX]

Synthetic actors are filmed, ingested and tracked once; their swaps are made again for every row. "Start" is the time to
the end of the first swap less the time of one swap: processes, imports and, with Ray, actors. "Swaps/min" counts from
then on, which is what many or long clips cost. Ray needs the extra
`ray`; its cluster is started before the first row, as `ray start` would.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tooling.actors import SourceSettings, write_sources
from tooling.settings import ClipSettings, Settings
from tooling.stages.faces import crop_faces
from tooling.stages.generate.run import GenerateRequest, generate_fakes
from tooling.stages.ingest import ingest_clips
from tooling.stages.plan import draw_plan
from tooling.work.engine import Engine
from tooling.workspace.layout import Workspace, create_workspace

SUBSET = "swap_video"
ROWS = (("local", 1), ("ray", 1), ("local", 2), ("ray", 2))


@dataclass(frozen=True)
class Run:
    """Seconds until the first swap was there, and swaps per minute from then on."""

    first_seconds: float
    per_minute: float

    def start_seconds(self, num_workers: int) -> float:
        return max(0.0, self.first_seconds - 60 * num_workers / self.per_minute)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--frames", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=640)
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")  # else they give way to other work on the machine
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_clips(Path(folder), arguments.people, arguments.frames, arguments.width)
        list(generate_fakes(workspace, SUBSET, GenerateRequest(limit=1), num_workers=1).made)  # files are in memory
        runs: dict[tuple[str, int], list[Run]] = {row: [] for row in ROWS}
        for _ in range(arguments.repeats):
            for engine, num_workers in ROWS:
                runs[engine, num_workers].append(measure(workspace, engine, num_workers))
    alone = statistics.median(run.per_minute for run in runs["local", 1])
    print("| engine | workers | start, s | swaps/min | against local, 1 worker |\n|---|---|---|---|---|")
    for (engine, num_workers), found in runs.items():
        rate = statistics.median(run.per_minute for run in found)
        start = statistics.median(run.start_seconds(num_workers) for run in found)
        print(f"| {engine} | {num_workers} | {start:.1f} | {rate:.1f} | {rate / alone:.2f} |")


def make_clips(folder: Path, num_people: int, num_frames: int, width_px: int) -> Workspace:
    """A workspace of clips, tracks and plan."""
    size = {"width_px": width_px, "height_px": width_px * 9 // 16}
    write_sources(folder / "sources", SourceSettings(num_people, 0, num_frames / 30 + 0.2, **size))
    workspace = create_workspace(folder / "workspace", Settings(clip=ClipSettings(seconds=num_frames / 30, **size)))
    ingest_clips(workspace, folder / "sources")
    crop_faces(workspace)
    draw_plan(workspace)
    return workspace


def measure(workspace: Workspace, engine: str, num_workers: int) -> Run:
    """Makes all swaps again."""
    workspace.forget(SUBSET, list(workspace.records(SUBSET)))
    ends: list[float] = []

    def note(done: int, total: int, name: str) -> None:
        if done > len(ends):
            ends.append(time.perf_counter())

    started = time.perf_counter()
    generate_fakes(workspace, SUBSET, GenerateRequest(engine=Engine(engine)), num_workers=num_workers, progress=note)
    measured = ends[-1] - ends[num_workers - 1]
    return Run(ends[0] - started, 60 * (len(ends) - num_workers) / measured)


if __name__ == "__main__":
    main()
