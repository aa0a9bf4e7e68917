"""The `tooling` command: parses, calls one stage, prints. Commands stand in the order of the data's flow.

Importing this module loads neither torch nor datasets: each command imports its own stage.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from generation.errors import GenerationError
from tooling import __version__, console
from tooling.cli import (
    generate as cli_generate,
)
from tooling.cli import hub as hub_commands
from tooling.cli import (
    keys as cli_keys,
)
from tooling.cli import (
    releases as cli_hub,
)
from tooling.cli import (
    trust as cli_trust,
)
from tooling.cli import (
    weights as cli_weights,
)
from tooling.cli.releases import RELEASE, WORKSPACE, JsonOption, ReleaseOption, WorkersOption, WorkspaceOption
from tooling.errors import ToolingError, UsageError
from tooling.workspace.layout import Workspace, open_or_create_workspace, open_workspace
from tooling.workspace.plan_file import format_plan

app = typer.Typer(
    help="Makes, checks and releases Homologous_deepfake: clips, faces, plan, fakes, verification, shards, card.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

OnlyOption = Annotated[str, typer.Option("--only", help="Only these, separated by commas: 1,2.")]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        console.put(__version__)
        raise typer.Exit


@app.command()
def actors(
    folder: Annotated[Path, typer.Argument(help="New folder for the source videos and identities.csv.")],
    men: Annotated[int, typer.Option(min=0)] = 3,
    women: Annotated[int, typer.Option(min=0)] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of each source video.")] = 20.0,
    seed: int = 0,
    workers: WorkersOption = 0,
) -> None:
    """Render synthetic talking heads as source videos: no person, no download."""
    from tooling.actors import SourceSettings, write_sources

    with console.progress_bar("render actors") as progress:
        settings = SourceSettings(men, women, seconds, seed)
        write_sources(folder, settings, num_workers=workers, progress=progress)
    console.put(str(folder))


@app.command()
def ingest(
    sources: Annotated[Path, typer.Argument(help="Folder with 1.mp4, 2.mov, ... and identities.csv.")],
    workspace: WorkspaceOption = WORKSPACE,
    clip_seconds: Annotated[
        float | None, typer.Option(min=0.5, help="Clip length of a new workspace, 15 if not given.")
    ] = None,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Cut one clip per person out of the source videos: raw_video."""
    from tooling.stages import ingest as stage

    place = open_or_create_workspace(workspace, clip_seconds)
    _run_stage(
        place, "raw_video", as_json, lambda bar: stage.ingest_clips(place, sources, num_workers=workers, progress=bar)
    )


@app.command()
def faces(
    workspace: WorkspaceOption = WORKSPACE,
    only: OnlyOption = "",
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Follow the face through each clip and crop it: face_video and tracks."""
    from tooling.stages import faces as stage

    place, names = open_workspace(workspace), _names(only)
    _run_stage(
        place, "face_video", as_json, lambda bar: stage.crop_faces(place, only=names, num_workers=workers, progress=bar)
    )


@app.command()
def plan(workspace: WorkspaceOption = WORKSPACE, as_json: JsonOption = False) -> None:
    """Draw folds and pairs: plan.json."""
    from tooling.stages import plan as stage

    place = open_workspace(workspace)
    with place.locked():
        made = stage.draw_plan(place)
    if as_json:
        console.put(format_plan(made).rstrip())
        return
    pairs = ", ".join(f"{len(drawn)} pairs for {subset}" for subset, drawn in made.pairs.items())
    console.put(f"plan.json: {len(made.folds)} people in {len(set(made.folds.values()))} folds, {pairs}")


app.command()(cli_generate.generate)
app.command()(cli_generate.generators)


@app.command()
def verify(
    workspace: WorkspaceOption = WORKSPACE,
    recheck_all: Annotated[bool, typer.Option("--all", help="Decode unchanged files too.")] = False,
    identity_encoder: Annotated[
        Path | None, typer.Option(help="ArcFace network in ONNX, to measure whose face a swap shows.")
    ] = None,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Check every file: contract, marks, faces, fakes beside their targets; exit 1 on any error."""
    from tooling.stages.verify import run as stage

    place, options = open_workspace(workspace), stage.VerifyOptions(recheck_all, identity_encoder)
    with place.locked(), console.progress_bar("verify") as bar:
        findings = stage.verify_files(place, options, num_workers=workers, progress=bar)
    if as_json:
        console.put(console.to_json([vars(finding) for finding in findings]))
    else:
        for finding in findings:
            console.put(str(finding))
    stage.raise_for_errors(findings)
    if not as_json:
        console.put("verified: no errors")


app.command()(cli_trust.audit)


@app.command()
def build(workspace: WorkspaceOption = WORKSPACE, out: ReleaseOption = RELEASE) -> None:
    """Write the release's Parquet shards."""
    from tooling.stages import build as stage

    place = open_workspace(workspace)
    with place.locked(), console.progress_bar("build shards") as bar:
        stage.build_release(place, out, progress=bar)
    console.put(str(out))


@app.command()
def card(
    workspace: WorkspaceOption = WORKSPACE,
    out: ReleaseOption = RELEASE,
    since: Annotated[
        str, typer.Option(help="The release before, for the list of changes: a folder, or OWNER/NAME@REVISION.")
    ] = "",
) -> None:
    """Write the release's README.md, the dataset card, beside its shards, and its papers; say which answers lack."""
    from tooling.stages.card import run as stage

    place = open_workspace(workspace)
    console.put(str(stage.make_card(place, out, since=since or None)))
    if missing := stage.missing_answers(place):
        console.say(f"{len(missing)} answers are missing in {place.root}, which the papers name as open:")
        for name in missing:
            console.say(f"  {name}")


@app.command("contact-sheet")
def contact_sheet(
    subset: Annotated[str, typer.Argument(help="One subset of fakes; empty takes all.")] = "",
    workspace: WorkspaceOption = WORKSPACE,
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG to write.")] = Path("contact_sheet.png"),
    rows: Annotated[int, typer.Option(min=1, help="Rows of each subset.")] = 8,
) -> None:
    """Show frames of fakes beside what they were made from: a PNG."""
    from tooling.views import contact_sheet as sheet

    if subset and subset not in sheet.FAKES:
        raise UsageError(f"{subset}: holds no fakes; use one of {', '.join(sheet.FAKES)}")
    sheet.write_contact_sheet(open_workspace(workspace), out, (subset,) if subset else sheet.FAKES, max_rows=rows)
    console.put(str(out))


app.command()(cli_trust.previews)
app.command()(cli_trust.report)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to work in; a rerun goes on in it.")] = Path("demo"),
    men: Annotated[int, typer.Option(min=2)] = 3,
    women: Annotated[int, typer.Option(min=2)] = 3,
    clip_seconds: Annotated[float, typer.Option(min=1)] = 2.0,
    images: Annotated[int, typer.Option(min=1, help="Generated images.")] = 18,
    workers: WorkersOption = 0,
) -> None:
    """Run the whole main job on synthetic actors: every subset, from source videos to load_dataset and a Hub."""
    from tooling.demo import DemoSettings, run_demo

    run_demo(folder, DemoSettings(men, women, clip_seconds, images, workers))


def _run_stage(place: Workspace, subset: str, as_json: bool, call: Any) -> None:
    with place.locked(), console.progress_bar(subset) as bar:
        result = call(bar)
    console.put_result(subset, result, as_json=as_json)
    if result.refused:
        raise typer.Exit(1)


def _names(text: str) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] or None


for _command in (cli_hub.push, cli_hub.diff, cli_hub.takedown, cli_hub.pull):
    app.command()(_command)
app.command("import")(cli_hub.import_archive)
app.add_typer(cli_keys.app, name="keys")
app.add_typer(cli_weights.app, name="weights")
app.add_typer(cli_hub.access_app, name="access")
app.add_typer(hub_commands.app, name="hub")


def main() -> None:
    """Entry point. Errors become one line on stderr and an exit code: 1 refused, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except (ToolingError, GenerationError) as error:
        console.fail(str(error))
        sys.exit(getattr(error, "exit_code", 1))
    except OSError as error:
        console.fail(f"{error.filename or 'input/output'}: {error.strerror or error}; correct that and run it again")
        sys.exit(1)
    except SystemExit as error:
        if error.code == 130:
            console.fail("interrupted; run the same command again, it goes on where it stopped")
        raise
