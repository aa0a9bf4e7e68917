"""The commands for synthetic actors: their source videos, and the whole flow run on them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from tooling import console
from tooling.cli.options import WorkersOption


def actors(
    folder: Annotated[Path, typer.Argument(help="New folder for the source videos and identities.csv.")],
    men: Annotated[int, typer.Option(min=0, help="Number of men.")] = 3,
    women: Annotated[int, typer.Option(min=0, help="Number of women.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of each source video.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Other seeds make other actors.")] = 0,
    reuse_motion: Annotated[
        float,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="Draw only so many seconds of each video, and play them back and forth for the rest: sources for a "
            "trial at full size, several times as fast.",
            show_default="draws every frame",
        ),
    ] = math.inf,
    workers: WorkersOption = 0,
) -> None:
    """Render synthetic talking heads as source videos: no real person, no download."""
    from tooling.actors import SourceSettings, write_sources

    with console.progress_bar("render actors") as bar:
        settings = SourceSettings(men, women, seconds, seed, drawn_seconds=reuse_motion)
        write_sources(folder, settings, num_workers=workers, progress=bar)
    console.put(str(folder))


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to work in; a rerun goes on in it.")] = Path("demo"),
    men: Annotated[int, typer.Option(min=2, help="Number of men.")] = 4,
    women: Annotated[int, typer.Option(min=2, help="Number of women.")] = 4,
    clip_seconds: Annotated[float, typer.Option(min=1, help="Length of each clip.")] = 2.0,
    images: Annotated[int, typer.Option(min=1, help="Number of generated images.")] = 18,
    workers: WorkersOption = 0,
) -> None:
    """Run the whole flow on synthetic actors: every subset, from source videos to load_dataset and a Hub."""
    from tooling.cli.demo import DemoSettings, run_demo

    run_demo(folder, DemoSettings(men, women, clip_seconds, images, workers))
