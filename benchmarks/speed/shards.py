"""Our Parquet layout against the libraries' default writer, side by side in one run.

    python -m benchmarks.speed.shards [--clips 48] [--megabytes 5] [--repeats 3] [--folder DIR]

Both write the same rows (raw clips of incompressible bytes with boxes and landmarks of 450 frames); each build and each
read runs in its own process, in alternation. The libraries' writer is `download_and_prepare(file_format="parquet")`.
Bytes are those that the reading process requested from the system, so they are exact; seconds are medians.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from tooling.settings import Settings
from tooling.stages import plan
from tooling.work.tasks import finished_record, planned_record
from tooling.workspace.files import write_text
from tooling.workspace.identities import Identity, format_identities
from tooling.workspace.layout import Workspace, create_workspace

NUM_FRAMES = 450

BUILD = """
import json, resource, sys, time
from pathlib import Path
import datasets
from homologous_deepfake import HomologousDeepfake
from tooling.stages import build as shards
from tooling.workspace.layout import open_workspace
import torchcodec.decoders
datasets.disable_progress_bars()
writer, workspace, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
if writer == "ours":
    shards.build_release(open_workspace(workspace), out)
else:
    builder = HomologousDeepfake(config_name="raw_video", data_dir=str(workspace), cache_dir=str(out / "cache"))
    builder.download_and_prepare(str(out / "data" / "raw_video"), file_format="parquet")
added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({"seconds": time.perf_counter() - started, "memory_mib": added / 1024}))
"""

READ = """
import json, sys, time
from pathlib import Path
import datasets
def bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])
files = sorted(str(path) for path in Path(sys.argv[1], "data", "raw_video").glob("*train*.parquet"))
options = json.loads(sys.argv[2])
small = sys.argv[1] + "/small.parquet"
datasets.disable_progress_bars()
datasets.Dataset.from_dict({"number": [1]}).to_parquet(small)
list(datasets.load_dataset("parquet", data_files={"train": small}, split="train", streaming=True))  # imports count not
before, started = bytes_read(), time.perf_counter()
dataset = datasets.load_dataset("parquet", data_files={"train": files}, split="train", streaming=True, **options)
if "columns" not in options:
    dataset = dataset.cast_column("video", datasets.Video(decode=False))
rows = iter(dataset)
next(rows)
first_seconds, first_bytes = time.perf_counter() - started, bytes_read() - before
for row in rows:
    pass
print(json.dumps({"first_seconds": first_seconds, "first_bytes": first_bytes, "all_bytes": bytes_read() - before}))
"""


def make_workspace(root: Path, num_clips: int, num_bytes: int) -> Workspace:
    """Raw clips of noise with tracks, planned."""
    workspace = create_workspace(root, Settings())
    people = {str(n): Identity(str(n), "male", "granted") for n in range(1, num_clips + 1)}
    write_text(workspace.identities_path, format_identities(people))
    for identity in people:
        path, track = f"raw_video/{identity}.mp4", workspace.track_name(identity)
        noise = random.Random(path)
        staged = {name: workspace.staging_path(name) for name in (path, track)}
        staged[path].write_bytes(noise.randbytes(num_bytes))
        points = [[round(noise.uniform(0, 700), 2) for _ in range(14)] for _ in range(NUM_FRAMES)]
        content = {
            "width": 1280,
            "height": 720,
            "boxes": [values[:4] for values in points],
            "landmarks": [[values[at : at + 2] for at in range(4, 14, 2)] for values in points],
            "is_detected": [True] * NUM_FRAMES,
        }
        staged[track].write_text(json.dumps(content), encoding="utf-8")
        wanted = planned_record(path.removesuffix(".mp4"), path, {}, "noise", {})
        record = finished_record(wanted, staged, width=1280, height=720, fps=30.0, num_frames=NUM_FRAMES)
        workspace.publish("raw_video", record, staged)
    plan.draw_plan(workspace)
    return workspace


def measure(code: str, *arguments: str | Path) -> dict[str, float]:
    """Runs code in a fresh process and returns the numbers it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(folder: Path, num_clips: int, num_bytes: int, num_repeats: int) -> None:
    """Measures both writers in alternation and prints one table."""
    workspace = make_workspace(folder / "workspace", num_clips, num_bytes)
    columns = json.dumps({"columns": ["sample_id", "label", "boxes"]})
    one_fold = json.dumps({"filters": [["fold", "==", 2]]})
    found: dict[str, dict[str, list[float]]] = {"ours": {}, "libraries": {}}
    for _ in range(num_repeats):
        for writer, lines in found.items():
            out = folder / writer
            shutil.rmtree(out, ignore_errors=True)
            numbers = measure(BUILD, writer, workspace.root, out)
            lines.setdefault("build, s", []).append(numbers["seconds"])
            lines.setdefault("build, MB/s", []).append(num_clips * num_bytes / 1e6 / numbers["seconds"])
            lines.setdefault("memory added by the build, MiB", []).append(numbers["memory_mib"])
            files = sorted((out / "data" / "raw_video").glob("*.parquet"))
            lines.setdefault("size, MB", []).append(sum(path.stat().st_size for path in files) / 1e6)
            lines.setdefault("shards", []).append(len(files))
            lines.setdefault("row groups", []).append(sum(pq.read_metadata(path).num_row_groups for path in files))
            for way, options in (("all columns", "{}"), ("without media", columns), ("one fold", one_fold)):
                numbers = measure(READ, out, options)
                lines.setdefault(f"first example, {way}, s", []).append(numbers["first_seconds"])
                lines.setdefault(f"first example, {way}, MB read", []).append(numbers["first_bytes"] / 1e6)
                lines.setdefault(f"whole train split, {way}, MB read", []).append(numbers["all_bytes"] / 1e6)
    print(f"{num_clips} clips of {num_bytes / 1e6:g} MB, median of {num_repeats}")
    print(f"{'':45}{'ours':>12}{'libraries':>12}")
    for line, values in found["ours"].items():
        print(f"{line:45}{statistics.median(values):12.2f}{statistics.median(found['libraries'][line]):12.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--megabytes", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder if not given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        compare(Path(folder), arguments.clips, int(arguments.megabytes * 1e6), arguments.repeats)


if __name__ == "__main__":
    main()
