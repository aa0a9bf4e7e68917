"""The commands that turn source videos into the inputs of fakes: clips, face crops, and the plan of folds and pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tooling import console
from tooling.cli.exits import finish
from tooling.cli.options import WORKSPACE, JsonOption, WorkersOption, WorkspaceOption, split_names
from tooling.workspace.layout import open_or_create_workspace, open_workspace
from tooling.workspace.plan_file import format_plan


def ingest(
    sources: Annotated[Path, typer.Argument(help="Folder with 1.mp4, 2.mov, ... and identities.csv.")],
    workspace: WorkspaceOption = WORKSPACE,
    clip_seconds: Annotated[
        float | None, typer.Option(min=0.5, help="Clip length of a new workspace; 15 if not given.")
    ] = None,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Cut one clip per person from the source videos: raw_video."""
    from tooling.stages.ingest import ingest_clips

    opened = open_or_create_workspace(workspace, clip_seconds)
    with opened.locked(), console.progress_bar("raw_video") as bar:
        result = ingest_clips(opened, sources, num_workers=workers, progress=bar)
    finish("raw_video", result, as_json=as_json)


def faces(
    workspace: WorkspaceOption = WORKSPACE,
    only: Annotated[str, typer.Option("--only", help="Only these people, separated by commas: 1,2.")] = "",
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Track the face in each clip and crop it: face_video and tracks."""
    from tooling.stages.faces import crop_faces

    opened, names = open_workspace(workspace), split_names(only)
    with opened.locked(), console.progress_bar("face_video") as bar:
        result = crop_faces(opened, only=names or None, num_workers=workers, progress=bar)
    finish("face_video", result, as_json=as_json)


def plan(workspace: WorkspaceOption = WORKSPACE, as_json: JsonOption = False) -> None:
    """Draw folds and pairs: plan.json."""
    from tooling.stages.plan import draw_plan

    opened = open_workspace(workspace)
    with opened.locked():
        drawn = draw_plan(opened)
    if as_json:
        console.put(format_plan(drawn).rstrip())
        return
    pairs = ", ".join(f"{len(pairs)} pairs for {subset}" for subset, pairs in drawn.pairs.items())
    console.put(f"plan.json: {len(drawn.folds)} people in {len(set(drawn.folds.values()))} folds, {pairs}")
