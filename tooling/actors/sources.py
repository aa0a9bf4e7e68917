"""Source videos of synthetic actors, in the form in which a maintainer gets those of people."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

from generation.media.writer import VideoWriter, to_picture
from tooling.actors.drawing.render import render_clip
from tooling.actors.motion import RenderSettings
from tooling.actors.person.identity import Actor, Gender, sample_actor
from tooling.errors import InputError, UsageError
from tooling.work.engine import Progress, no_progress, run_side_by_side
from tooling.workspace.files import write_text
from tooling.workspace.identities import SYNTHETIC_EVIDENCE, Identity, format_identities


@dataclass(frozen=True)
class SourceSettings:
    """What to render.

    Attributes:
        num_men, num_women: actors of each gender, at least one in all.
        seconds: length of each video.
        seed: the same seed gives the same people with the same movements.
        fps: frames per second.
        width_px, height_px: even numbers.
        drawn_seconds: of motion that is drawn; a longer video plays it back and forth.
    """

    num_men: int
    num_women: int
    seconds: float
    seed: int = 0
    fps: float = 30.0
    width_px: int = 1280
    height_px: int = 720
    drawn_seconds: float = math.inf


def write_sources(
    folder: Path, settings: SourceSettings, *, num_workers: int = 0, progress: Progress = no_progress
) -> None:
    """Writes `folder/1.mp4`, ... (men first), then `folder/identities.csv`; a rerun continues a stopped run.

    Args:
        folder: a new one, or that of a stopped run with the same settings.
        settings: what to render.
        num_workers: processes; 0 means one per processor.
        progress: called after each finished video.

    Raises:
        UsageError: no actor, or no length.
        VideoError: an odd size.
        InputError: the folder already has finished sources.
    """
    if settings.num_men + settings.num_women < 1 or min(settings.seconds, settings.drawn_seconds) <= 0:
        raise UsageError("no actors to render; ask for at least one person and a positive length")
    if (folder / "identities.csv").exists():
        raise InputError(f"{folder}: already has source videos; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(1, settings.num_men + settings.num_women + 1)
    genders: dict[int, Gender] = {number: "male" if number <= settings.num_men else "female" for number in numbers}
    videos = {number: folder / f"{number}.mp4" for number in genders}
    jobs = [(path, number, genders[number], settings) for number, path in videos.items() if not path.exists()]
    num_kept = len(videos) - len(jobs)
    progress(num_kept, len(videos), "")
    for done, outcome in enumerate(run_side_by_side(_write_source, jobs, num_workers=num_workers), start=num_kept + 1):
        if outcome.error:
            raise outcome.error
        progress(done, len(videos), outcome.value.name)
    people = {
        str(number): Identity(
            str(number),
            gender,
            "granted",
            "2000-01-01",
            SYNTHETIC_EVIDENCE,
            glasses="no" if _actor(number, gender, settings).glasses == "none" else "yes",
        )
        for number, gender in genders.items()
    }
    write_text(folder / "identities.csv", format_identities(people))


def _actor(number: int, gender: Gender, settings: SourceSettings) -> Actor:
    return sample_actor(settings.seed + number - 1 - (0 if gender == "male" else settings.num_men), gender)


def _write_source(job: tuple[Path, int, Gender, SourceSettings]) -> Path:
    path, number, gender, settings = job
    num_frames, width, height = max(1, round(settings.seconds * settings.fps)), settings.width_px, settings.height_px
    num_drawn = max(1, round(min(settings.seconds, settings.drawn_seconds) * settings.fps))
    clip = RenderSettings(num_drawn, settings.fps, width, height, motion_seed=settings.seed + number - 1)
    unfinished = path.with_name(f".{path.name}")
    fps = Fraction(clip.fps).limit_denominator(1001)
    drawn = []
    with VideoWriter(unfinished, width=width, height=height, fps=fps) as writer:
        for frame in render_clip(_actor(number, gender, settings), clip):
            picture = to_picture(frame.image)
            writer.write_picture(picture)
            if num_drawn < num_frames:
                drawn.append(picture)
        for picture in islice(cycle([*drawn[-2::-1], *drawn[1:]] or drawn), num_frames - num_drawn):
            writer.write_picture(picture)
    os.replace(unfinished, path)
    return path
