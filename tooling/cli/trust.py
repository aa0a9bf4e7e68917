"""The commands that say whether a release can be trusted, and that show it to people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tooling import console
from tooling.cli.options import WORKSPACE, EngineOption, JsonOption, SinceOption, WorkersOption, WorkspaceOption
from tooling.errors import UsageError
from tooling.work.engine import Engine
from tooling.workspace.layout import open_workspace


def verify(
    workspace: WorkspaceOption = WORKSPACE,
    recheck_all: Annotated[
        bool, typer.Option("--all", help="Decode every file, also those that passed and have not changed.")
    ] = False,
    identity_encoder: Annotated[
        Path | None,
        typer.Option(
            help="ArcFace network in ONNX, to measure whose face a file shows; without it, dlib's if it is installed."
        ),
    ] = None,
    workers: WorkersOption = 0,
    engine: EngineOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Check every file: contract, marks, faces, fakes against their targets; exit 1 on any error."""
    from tooling.stages.verify.run import VerifyOptions, raise_for_errors, verify_files

    chosen, opened = Engine(engine), open_workspace(workspace)
    options = VerifyOptions(recheck_all, identity_encoder)
    with opened.locked(), console.progress_bar("verify") as bar:
        findings = verify_files(opened, options, num_workers=workers, engine=chosen, progress=bar)
    if as_json:
        console.put(console.to_json([vars(finding) for finding in findings]))
    else:
        for finding in findings:
            console.put(str(finding))
    if any(finding.severity == "error" for finding in findings):
        console.say(
            "a stage that runs again makes the files with errors again; what stays wrong can be left out with "
            "`tooling plan --exclude NAME`, or start_seconds in identities.csv chooses another part of a source"
        )
    raise_for_errors(findings)
    if not as_json:
        console.put("verified: no errors")


def audit(
    workspace: WorkspaceOption = WORKSPACE,
    workers: WorkersOption = 0,
    engine: EngineOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Test whether simple probes separate real from fake: audit.json; exit 1 if one does, pixel probes aside."""
    from tooling.stages.audit.run import audit_files, failures, raise_for_failures
    from tooling.workspace.audit_file import format_area

    chosen, opened = Engine(engine), open_workspace(workspace)
    with opened.locked(), console.progress_bar("audit") as bar:
        made = audit_files(opened, num_workers=workers, engine=chosen, progress=bar)
    if as_json:
        console.put(console.to_json({"probes": [vars(result) for result in made.probes], "note": made.note}))
    else:
        for result in made.probes:
            kind = "pixels" if result.is_pixel else "ok" if result.is_ok else "SHORTCUT"
            console.put(f"{result.subset:<16} {result.probe:<14} {format_area(result):<22} {kind}")
        console.put(made.note)
    for line in failures(made):
        console.fail(line)
    raise_for_failures(made)


def contact_sheet(
    subset: Annotated[str, typer.Argument(help="One subset of fakes; all if not given.")] = "",
    workspace: WorkspaceOption = WORKSPACE,
    out: Annotated[Path, typer.Option("--out", "-o", help="The JPEG to write.")] = Path("contact_sheet.jpg"),
    rows: Annotated[int, typer.Option(min=1, help="Rows of each subset.")] = 8,
) -> None:
    """Show frames of fakes beside what they were made from: a JPEG."""
    from homologous_deepfake import FAKES
    from tooling.views.contact_sheet import write_contact_sheet

    if subset and subset not in FAKES:
        raise UsageError(f"{subset}: not a subset of fakes; use one of {', '.join(FAKES)}")
    opened = open_workspace(workspace)
    with console.progress_bar("contact sheet") as bar:
        write_contact_sheet(opened, out, (subset,) if subset else FAKES, max_rows=rows, progress=bar)
    console.put(str(out))


def previews(
    subsets: Annotated[list[str], typer.Argument(help="raw_video, swap_video, ...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write to.")],
    workspace: WorkspaceOption = WORKSPACE,
    seconds: Annotated[float, typer.Option(help="Length of each clip, 2 or more.")] = 3.0,
    side: Annotated[int, typer.Option(min=64, help="Pixels of the longer side, at most.")] = 480,
    workers: WorkersOption = 0,
) -> None:
    """Write small copies that may be shown to anyone: all marked, fakes with a visible label."""
    from tooling.views.previews import PreviewSettings, write_previews

    opened, settings = open_workspace(workspace), PreviewSettings(seconds, side)
    with console.progress_bar("previews") as bar:
        written = write_previews(opened, subsets, out, settings, num_workers=workers, progress=bar)
    console.put(f"{out}: {len(written)} files")


def report(
    workspace: WorkspaceOption = WORKSPACE,
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file to write.")] = Path("report.html"),
    since: SinceOption = "",
    workers: WorkersOption = 0,
) -> None:
    """Write one page to review before a release: pictures, plots, findings, audit and changes; it opens offline."""
    from tooling.views.report.page import write_report

    opened = open_workspace(workspace)
    with console.progress_bar("report") as bar:
        write_report(opened, out, since=since or None, num_workers=workers, progress=bar)
    console.put(str(out))
