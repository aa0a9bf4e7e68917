"""A release of synthetic actors from sources to a Hub and back, and then changed, once: what every command takes.

    python -m benchmarks.full_release FOLDER [--people 100] [--seconds 15] [--fps 30] [--images 0]

Every command is the installed `tooling`, in a process of its own. Wall time; processor time of it and all of its
workers; peak of their memory together (shared pages counted once, looked at every few seconds); bytes sent to the Hub.
Goes on where it was stopped: what a stopped command had used by then counts too, as a part of its own.
`FOLDER/commands.jsonl` keeps the measurements and FOLDER/N.out what the commands printed; the table goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import psutil

from benchmarks.counted_hub import REPO, Traffic, counted_hub
from benchmarks.measuring import machine

FAKES = ("avatarify_video", "edit_video", "swap_video", "GAN_images")
PAIRED = FAKES[0], FAKES[2]
MARGIN_SECONDS = 1.0  # of a source beyond the clip, so that ingest has a choice
DRAWN_SECONDS = 2.0


@dataclass(frozen=True)
class Part:
    """What a command, or a part of it that was stopped, has used.

    Attributes:
        name: of the step.
        seconds: by the clock.
        processor: seconds of all of its processes.
        peak_bytes: largest proportional set size of all of them together.
        load: of the machine before it.
        exit_code: None for a part that was stopped.
        sent_bytes: to the Hub.
    """

    name: str
    seconds: float
    processor: float
    peak_bytes: int
    load: float
    exit_code: int | None = None
    sent_bytes: int = 0


class Steps:
    """Runs the steps that are not done yet, and keeps what they used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.traffic = Traffic()  # of the Hub that is running
        self._log, self._running = folder / "commands.jsonl", folder / "running.json"
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        self.parts = [Part(**json.loads(line)) for line in lines]
        if self._running.exists():
            self._keep(Part(**json.loads(self._running.read_text())))

    def run(self, name: str, *arguments: str, may_fail: bool = False) -> str:
        """What a command printed on stdout; it is not run again if it has ended before.

        Raises:
            SystemExit: it failed, and that is not provided for.
        """
        ended = sum(part.exit_code is not None for part in self.parts)
        done = [part.name for part in self.parts if part.exit_code is not None]
        output = self.folder / f"{name.replace(' ', '_')}.out"
        if name in done:
            return output.read_text()
        print(f"{ended + 1}: {name}: tooling {' '.join(arguments)}", file=sys.stderr, flush=True)
        with output.open("w") as out, output.with_suffix(".err").open("a") as errors:
            part = self._measure(name, [str(Path(sys.executable).with_name("tooling")), *arguments], out, errors)
        if part.exit_code and not (may_fail and part.exit_code == 1):
            sys.exit(f"{name}: exit code {part.exit_code}; see {output.with_suffix('.err')}")
        self._keep(part)
        return output.read_text()

    def _measure(self, name: str, command: list[str], out: TextIO, errors: TextIO) -> Part:
        started, load, processor, peak = time.monotonic(), os.getloadavg()[0], 0.0, 0
        self.traffic.start()
        child = subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=errors)
        while True:
            ended, status, usage = os.wait4(child.pid, os.WNOHANG)
            seconds = time.monotonic() - started
            if ended:
                processor = usage.ru_utime + usage.ru_stime
                peak = max(peak, usage.ru_maxrss * 1024)
                exit_code = os.waitstatus_to_exitcode(status)
                return Part(name, seconds, processor, peak, load, exit_code, self.traffic.uploaded)
            used, resident = _used_by(child.pid)
            processor, peak = max(processor, used), max(peak, resident)
            unfinished = self._running.with_suffix(".new")
            unfinished.write_text(json.dumps(asdict(Part(name, seconds, processor, peak, load))))
            unfinished.replace(self._running)
            time.sleep(min(3.0, 0.05 + seconds / 10))

    def _keep(self, part: Part) -> None:
        with self._log.open("a") as log:
            log.write(json.dumps(asdict(part)) + "\n")
        self._running.unlink(missing_ok=True)
        self.parts.append(part)


def _used_by(pid: int) -> tuple[float, int]:
    """Processor seconds, with ended children, and bytes of a process and those below it."""
    processor, resident = 0.0, 0
    with suppress(psutil.NoSuchProcess):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                processor += sum(process.cpu_times()[:4])
                resident += process.memory_full_info().pss
    return processor, resident


def make_release(steps: Steps, num_people: int, seconds: float, fps: int, num_images: int) -> None:
    """Every command from the sources to the Hub, and what maintainers do about what verify finds."""
    half, limit = num_people // 2, ["--limit", str(num_images)] if num_images else []
    steps.run(
        "actors", "actors", "sources", "--men", str(half), "--women", str(num_people - half),
        "--seconds", str(seconds + MARGIN_SECONDS), "--reuse-motion", str(DRAWN_SECONDS),
    )  # fmt: skip
    settings = steps.folder / "workspace" / "workspace.toml"
    if not settings.exists():
        settings.parent.mkdir(exist_ok=True)
        settings.write_text(f"format = 1\n\n[clip]\nseconds = {seconds:.3f}\nfps = {fps}\n")
    steps.run("keys init", "keys", "init")
    ingest = ["ingest", "sources"]
    steps.run("ingest", *ingest)
    steps.run("faces", "faces")
    steps.run("plan", "plan")
    generate = {name: ["generate", name, *(limit if name == "GAN_images" else [])] for name in FAKES}
    for name, arguments in generate.items():
        steps.run(f"generate {name}", *arguments)
    refused = _refused_fakes(steps.run("verify", "verify", "--json", may_fail=True))
    if pairs := [name for name in refused if name.partition("/")[0] in PAIRED]:
        steps.run("plan --redraw", "plan", "--redraw", ",".join(pairs), "--prune", may_fail=True)
        for subset in sorted({name.partition("/")[0] for name in pairs}):
            steps.run(f"generate {subset}, pairs drawn again", *generate[subset])
        refused = _refused_fakes(steps.run("verify, pairs drawn again", "verify", "--json", may_fail=True))
    if refused:
        steps.run("plan --exclude", "plan", "--exclude", ",".join(refused), "--reason", "refused by verify", "--prune")
        steps.run("verify without them", "verify")
    for name in ("audit", "build", "card", "report"):
        steps.run(name, name)
    with counted_hub(steps.folder) as steps.traffic:
        steps.run("push", "push", REPO)
        steps.run("pull", "pull", REPO, "-w", "pulled", "--identities", "workspace/identities.csv")
        steps.run("push, nothing new", "push", REPO)
    kept = {"ingest": ingest, "faces": ["faces"]} | {f"generate {name}": generate[name] for name in FAKES}
    for name, arguments in (kept | {name: [name] for name in ("verify", "audit", "build")}).items():
        steps.run(f"{name}, all kept", *arguments)


def change_release(steps: Steps, num_people: int) -> None:
    """What happens to a release that is out: a pair of each kind is drawn again, and a person is taken out."""
    pairs = [f"{name}/{min((steps.folder / 'workspace' / name).glob('*.mp4')).stem}" for name in PAIRED]
    steps.run("plan --redraw, two pairs", "plan", "--redraw", ",".join(pairs), "--prune")
    for name in PAIRED:
        steps.run(f"generate {name}, two pairs", "generate", name)
    settings = steps.folder / "workspace" / "workspace.toml"
    if "[card]" not in (text := settings.read_text()):
        settings.write_text(f'{text}\n[card]\nversion = "1.1.0"\n')
    for name in ("verify", "audit", "build"):
        steps.run(f"{name}, two pairs", name)
    person, out = str(num_people // 2), "homologous_deepfake"
    with counted_hub(steps.folder) as steps.traffic:
        steps.run("card, two pairs", "card", "--since", f"{REPO}@main")
        steps.run("push, two pairs", "push", REPO)
        steps.run("takedown", "takedown", person, "--out", out, "--repo", REPO, "--purge-history", "--yes")
        steps.run("push after the takedown", "push", REPO)
    steps.run("verify after the takedown", "verify")


def _refused_fakes(result: str) -> list[str]:
    names = [each["path"].rpartition(".")[0] for each in json.loads(result) if each["severity"] == "error"]
    return [name for name in names if name.partition("/")[0] in FAKES]


def rows(parts: list[Part]) -> Iterator[tuple[str, ...]]:
    """A row for each step that has ended."""
    yield "command", "wall, s", "processor, s", "peak memory, MiB", "sent, MB", "load before", "parts", "exit code"
    yield ("---",) * 8
    for last in parts:
        if last.exit_code is not None:
            own = [part for part in parts if part.name == last.name]
            wall, processor = (sum(getattr(part, field) for part in own) for field in ("seconds", "processor"))
            peak = max(part.peak_bytes for part in own) >> 20
            loads = ", ".join(f"{part.load:.1f}" for part in own)
            sent = f"{sum(part.sent_bytes for part in own) / 1e6:,.1f}"
            measured = f"{wall:,.1f}", f"{processor:,.1f}", f"{peak:,}", sent, loads
            yield last.name, *measured, f"{len(own)}", f"{last.exit_code}"


def sizes(folder: Path) -> Iterator[str]:
    """Files and bytes of the subsets and the release."""
    for place in [*sorted((folder / "workspace").iterdir()), folder / "homologous_deepfake"]:
        files = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
        if len(files) > 1:
            yield f"- {place.name}: {len(files):,} files, {sum(files) / 1e6:,.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each clip")
    parser.add_argument("--fps", type=int, default=30, help="of each clip")
    parser.add_argument("--images", type=int, default=0, help="at most so many; 0 is all of the catalogue")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    steps = Steps(arguments.folder.resolve())
    make_release(steps, arguments.people, arguments.seconds, arguments.fps, arguments.images)
    change_release(steps, arguments.people)
    print("\n".join([*(f"- {name}: {fact}" for name, fact in machine().items()), *sizes(steps.folder), ""]))
    print("\n".join(f"| {' | '.join(cells)} |" for cells in rows(steps.parts)))


if __name__ == "__main__":
    main()
