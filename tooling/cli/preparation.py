"""The commands that turn source videos into the inputs of fakes: clips, face crops, and the plan of folds and pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tooling import console
from tooling.cli.exits import finish
from tooling.cli.options import WORKSPACE, EngineOption, JsonOption, WorkersOption, WorkspaceOption, split_names
from tooling.errors import UsageError, listed
from tooling.work.engine import Engine
from tooling.workspace.layout import open_or_create_workspace, open_workspace
from tooling.workspace.plan_file import format_plan


def ingest(
    sources: Annotated[Path, typer.Argument(help="Folder with 1.mp4, 2.mov, ... and identities.csv.")],
    workspace: WorkspaceOption = WORKSPACE,
    clip_seconds: Annotated[
        float | None, typer.Option(min=0.5, help="Clip length of a new workspace; 15 if not given.")
    ] = None,
    workers: WorkersOption = 0,
    engine: EngineOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Cut one clip per person from the source videos: raw_video.

    identities.csv has the columns id, gender and consent_status; consent_date and consent_evidence if there are any;
    and, as far as needed, start_seconds and end_seconds (which part becomes the clip) and glasses (yes or no).
    """
    from tooling.stages.ingest import ingest_clips

    chosen = Engine(engine)
    opened = open_or_create_workspace(workspace, clip_seconds)
    with opened.locked(), console.progress_bar("raw_video") as bar:
        result = ingest_clips(opened, sources, num_workers=workers, engine=chosen, progress=bar)
    finish("raw_video", result, as_json=as_json)


def faces(
    workspace: WorkspaceOption = WORKSPACE,
    only: Annotated[str, typer.Option("--only", help="Only these people, separated by commas: 1,2.")] = "",
    workers: WorkersOption = 0,
    engine: EngineOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Track the face in each clip and crop it: face_video and tracks."""
    from tooling.stages.faces import crop_faces

    chosen, opened, names = Engine(engine), open_workspace(workspace), split_names(only)
    with opened.locked(), console.progress_bar("face_video") as bar:
        result = crop_faces(opened, only=names or None, num_workers=workers, engine=chosen, progress=bar)
    finish("face_video", result, as_json=as_json)


def plan(
    workspace: WorkspaceOption = WORKSPACE,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave these fakes out: swap_video/1_2,edit_video/hair/7.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for plan.json, the card and the report.")] = "",
    include: Annotated[list[str] | None, typer.Option(help="Make these after all.")] = None,
    redraw: Annotated[
        list[str] | None, typer.Option(help="Draw another partner for these pairs, in their fold.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove the fakes made here that are not planned any more.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Draw folds and pairs: plan.json; leave fakes out, or draw a pair again."""
    from tooling.stages.plan import PlanChange, change_plan

    if reason and not exclude:
        raise UsageError("--reason: is why fakes are left out; name them with --exclude")
    excluded, included, redrawn = (
        tuple(name for text in given or () for name in split_names(text)) for given in (exclude, include, redraw)
    )
    if both := sorted({*excluded} & {*included}):
        raise UsageError(f"{both[0]}: cannot be left out and made; name it with --exclude or --include")
    change = PlanChange(excluded, included, redrawn, reason or PlanChange.reason, prune)
    opened = open_workspace(workspace)
    with opened.locked():
        result = change_plan(opened, change)
    for name, new in result.redrawn.items():
        console.say(f"{name}: drawn again; new are {', '.join(new)}; run `tooling generate {name.partition('/')[0]}`")
    for name in result.removed:
        console.say(f"{name}: removed")
    if result.unplanned:
        names = listed(result.unplanned, 5)
        console.say(f"note: not planned any more: {names}; `tooling plan --prune` removes them")
    drawn = result.plan
    if as_json:
        console.put(format_plan(drawn).rstrip())
        return
    pairs = ", ".join(f"{len(pairs)} pairs for {subset}" for subset, pairs in drawn.pairs.items())
    left_out = f", {len(drawn.left_out)} left out" if drawn.left_out else ""
    console.put(f"plan.json: {len(drawn.folds)} people in {len(set(drawn.folds.values()))} folds, {pairs}{left_out}")
