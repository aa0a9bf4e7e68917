"""Peak resident memory of commands at two sizes of a workspace, each in a process of its own.

    python -m benchmarks.memory [NAMES ...] [--clips 100 1000] [--json FILE] [--folder DIR]

The clips are tiny (96x64, 8 frames), but whole: encoded, marked, with tracks, masks and records. Shards and row groups
are small in proportion, so that both sizes fill several of them. One worker: everything happens in the measured
process. What is imported counts too.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from benchmarks.counted_hub import REPO, counted_hub
from benchmarks.measuring import Line, alone, machine, print_results

if TYPE_CHECKING:
    from tooling.workspace.layout import Workspace

FILES_PER_PERSON = 6  # clip, crop, two edits, and a swap and a driven clip for each
MOST_GROWTH = 1.1
MIB = 1 << 20


def verify(folder: Path) -> None:
    from tooling.stages.verify.run import VerifyOptions, verify_files

    verify_files(_workspace(folder), VerifyOptions(recheck_all=True), num_workers=1)


def audit(folder: Path) -> None:
    from tooling.stages.audit.run import audit_files

    audit_files(_workspace(folder), num_workers=1)


def build(folder: Path) -> None:
    from tooling.stages.build import build_release

    build_release(_workspace(folder), folder / "release")


def card(folder: Path) -> None:
    from tooling.stages.card.run import make_card

    make_card(_workspace(folder), folder / "release")


def report(folder: Path) -> None:
    from tooling.views.report.page import write_report

    write_report(_workspace(folder), folder / "report.html", num_workers=1)


def push(folder: Path) -> None:
    from tooling.stages.push.prepare import PushOptions
    from tooling.stages.push.run import push_release

    push_release(_workspace(folder), folder / "release", REPO, PushOptions())


def streaming(folder: Path) -> None:
    import datasets

    for config in ("raw_video", "swap_video", "edit_video"):
        for split in datasets.load_dataset(REPO, config, streaming=True).values():
            for row in split:
                row["video"][0]


def pairs(folder: Path) -> None:
    import datasets

    from detection.frames import Evenly, sample_frames
    from detection.pairs import load_pairs

    for subset in ("swap_video", "edit_video"):
        for split in datasets.get_dataset_split_names(REPO, subset):
            for pair in load_pairs(REPO, subset, split, streaming=True):
                sample_frames(pair["fake"], Evenly(2))
                sample_frames(pair["real"], Evenly(2))


COMMANDS: dict[str, Callable[[Path], None]] = {
    command.__name__: command for command in (verify, audit, build, card, report, push, streaming, pairs)
}


def make_workspace(folder: Path, num_clips: int) -> None:
    """A workspace of about so many clips, as the stages leave it."""
    from tests import workspaces
    from tooling.settings import ShardSettings
    from tooling.workspace.files import write_text
    from tooling.workspace.settings_file import format_settings

    per_gender = max(3, round(num_clips / FILES_PER_PERSON / 2))
    with mock.patch("os.fsync"):  # nothing here outlives the run
        made = workspaces.make_workspace(folder / "workspace", per_gender, per_gender, 5)
    shards = ShardSettings(row_group_bytes=100_000, max_shard_bytes=1_000_000, min_train_shards=2)
    write_text(made.root / "workspace.toml", format_settings(dataclasses.replace(made.settings, shards=shards)))


def measure(sizes: Sequence[int], names: Sequence[str], folder: Path) -> Iterator[Line]:
    """One line for each command: its peak at the largest size beside that at the smallest."""
    peaks: dict[str, list[int]] = {name: [] for name in names}
    for size in sizes:
        place = folder / str(size)
        if not (place / "workspace").exists():
            alone(make_workspace, place, size)
        with counted_hub(place):
            last = max([*COMMANDS].index(name) for name in names)
            for name, command in [*COMMANDS.items()][: last + 1]:  # also others: those asked for need what they make
                found = alone(command, place)
                if name in names:
                    peaks[name].append(found.peak_bytes)
                    print(f"{size} clips: {name} {found.peak_bytes / MIB:.0f} MiB, {found.seconds:.1f} s", flush=True)
    for name, (small, *_, large) in peaks.items():
        detail = f"{small / MIB:.0f} MiB at {sizes[0]} clips, {large / MIB:.0f} MiB at {sizes[-1]}"
        yield Line(name, large / small, "times the peak", at_most=MOST_GROWTH, detail=detail)


def _workspace(folder: Path) -> Workspace:
    from tooling.workspace.layout import open_workspace

    return open_workspace(folder / "workspace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(COMMANDS)}; all if none is given")
    parser.add_argument("--clips", type=int, nargs=2, default=(100, 1000))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where to work, kept; a temporary folder if not given")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - COMMANDS.keys():
        parser.error(f"{', '.join(sorted(unknown))}: no such command; choose from {', '.join(COMMANDS)}")
    facts = machine()
    with tempfile.TemporaryDirectory() as temporary:
        lines = list(measure(arguments.clips, arguments.names or [*COMMANDS], arguments.folder or Path(temporary)))
    print_results(lines, facts, arguments.json)


if __name__ == "__main__":
    main()
