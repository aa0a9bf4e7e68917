"""The commands that say whether a release can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tooling import console
from tooling.cli.releases import WORKSPACE, JsonOption, WorkersOption, WorkspaceOption
from tooling.workspace.layout import open_workspace


def audit(workspace: WorkspaceOption = WORKSPACE, workers: WorkersOption = 0, as_json: JsonOption = False) -> None:
    """Test whether simple probes tell real from fake: audit.json; exit 1 if one but those of pixels does."""
    from tooling.stages.audit import run as stage
    from tooling.workspace.audit_file import format_area

    place = open_workspace(workspace)
    with place.locked(), console.progress_bar("audit") as bar:
        made = stage.audit_files(place, num_workers=workers, progress=bar)
    if as_json:
        console.put(console.to_json({"probes": [vars(result) for result in made.probes], "note": made.note}))
    else:
        for result in made.probes:
            kind = "pixels" if result.is_pixel else "ok" if result.is_ok else "SHORTCUT"
            console.put(f"{result.subset:<16} {result.probe:<14} {format_area(result):<22} {kind}")
        console.put(made.note)
    for line in stage.failures(made):
        console.fail(line)
    stage.raise_for_failures(made)


def report(
    workspace: WorkspaceOption = WORKSPACE,
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file to write.")] = Path("report.html"),
    since: Annotated[
        str, typer.Option(help="The release before, to show what changed: a folder, or OWNER/NAME@REVISION.")
    ] = "",
    workers: WorkersOption = 0,
) -> None:
    """Write one page to look at before a release: pictures, plots, findings, audit and changes; no network."""
    from tooling.views.report.page import write_report

    place = open_workspace(workspace)
    with console.progress_bar("report") as bar:
        write_report(place, out, since=since or None, num_workers=workers, progress=bar)
    console.put(str(out))


def previews(
    subsets: Annotated[list[str], typer.Argument(help="raw_video, swap_video, ...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write to.")],
    workspace: WorkspaceOption = WORKSPACE,
    seconds: Annotated[float, typer.Option(help="Length of each clip, 2 or more.")] = 3.0,
    side: Annotated[int, typer.Option(min=64, help="Pixels of the longer side, at most.")] = 480,
    workers: WorkersOption = 0,
) -> None:
    """Write small copies that may be shown to anyone: marked, and fakes with a visible label."""
    from tooling.views.previews import PreviewSettings, write_previews

    place, settings = open_workspace(workspace), PreviewSettings(seconds, side)
    with console.progress_bar("previews") as bar:
        written = write_previews(place, subsets, out, settings, num_workers=workers, progress=bar)
    console.put(f"{out}: {len(written)} files")
