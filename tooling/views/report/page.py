"""The report's HTML file.

The page requests nothing from a network: its policy allows only its own content, and its own script and style by their
digests, so that nothing in a file name or finding can run. All clips carry the visible label of fakes, burned in
(`tooling.views.previews`). The same workspace gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
from jinja2.environment import TemplateStream
from markupsafe import Markup, escape

from homologous_deepfake import CROSSING, METHODS, SPLIT_FOLDS, SUBSETS
from tooling import __version__
from tooling.errors import InputError
from tooling.release.folder import format_bytes
from tooling.views.report import plots
from tooling.views.report.audit_matrix import DISTANCES, lay_out_audit, outcome_of
from tooling.views.report.checklist import check_lines
from tooling.views.report.grids import Grid, Shot, lay_out, shots_of
from tooling.views.report.overview import Overview, read_overview
from tooling.views.report.posters import Media, make_media
from tooling.work.engine import Progress, no_progress
from tooling.workspace.audit_file import format_area
from tooling.workspace.files import replacing
from tooling.workspace.layout import Workspace
from tooling.workspace.records import format_bars

MAX_FINDINGS = 1500
MAX_NAMES = 200  # of changed samples in each list


def write_report(
    workspace: Workspace,
    out: Path,
    *,
    since: str | None = None,
    num_workers: int = 0,
    progress: Progress = no_progress,
) -> Path:
    """Writes the page.

    Args:
        out: the HTML file; not inside the workspace, since it shows people.
        since: the release before: a folder, `REPO_ID` or `REPO_ID@REVISION`; None shows no changes.

    Raises:
        InputError: `out` lies in the workspace or is a folder; a table is damaged; `since` is not a release.
        WorkspaceError: a record, plan or verification is damaged.
        RemoteError: the Hub refuses or cannot be reached.
    """
    if out.resolve().is_relative_to(workspace.root) or out.is_dir():
        raise InputError(f"{out}: is a folder, or lies in the workspace; name a file outside of it, report.html")
    overview = read_overview(workspace, since)
    grids = lay_out(overview)
    shots = shots_of(grids)
    media = make_media(workspace, shots, num_workers=num_workers, progress=progress)
    with replacing(out) as beside:
        render_page(overview, grids, shots, media).dump(str(beside), encoding="utf-8")
    return out


def render_page(overview: Overview, grids: list[Grid], shots: list[Shot], media: Media) -> TemplateStream:
    """The page's text, piece by piece: memory holds one clip's at a time."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tooling.views.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": format_bytes,
        "number": lambda count: f"{count:,}",
        "area": plots.area_at,
        "code": _code,
    }
    style, script = _own_file("page.css"), _own_file("page.js")
    poster_style = _poster_style(media)
    return environment.get_template("page.html.jinja").stream(
        **_numbers(overview, grids, shots),
        overview=overview,
        grids=grids,
        media=media,
        clips=((number, base64.b64encode(clip).decode()) for number, clip in sorted(media.clips.items())),
        style=Markup(style),  # noqa: S704  our own file
        script=Markup(script),  # noqa: S704  our own file
        poster_style=Markup(poster_style),  # noqa: S704  numbers and base64
        policy=_policy([style, poster_style], script),
    )


def _numbers(overview: Overview, grids: list[Grid], shots: list[Shot]) -> dict[str, Any]:
    """What the template needs beside the overview."""
    findings = overview.findings
    return {
        "tooling_version": __version__,
        "subsets": SUBSETS,
        "real": METHODS[0],
        "splits": [*SPLIT_FOLDS, CROSSING],
        "lines": check_lines(overview),
        "findings": findings[:MAX_FINDINGS],
        "num_findings": len(findings),
        "kinds": Counter(finding.kind for finding in findings),
        "num_errors": sum(finding.severity == "error" for finding in findings),
        "max_names": MAX_NAMES,
        "numbers": {shot: number for number, shot in enumerate(shots)},
        "anchors": {
            file.record.path: f"card-{at}-{number}"
            for at, grid in enumerate(grids)
            for number, card in enumerate(grid.cards)
            for file in card.files
        },
        "histograms": plots.histograms(overview),
        "scatter": plots.scatter(overview),
        "folds": plots.fold_rows(overview),
        "format_area": format_area,
        "format_bars": format_bars,
        "matrix": lay_out_audit(overview.audit) if overview.audit else None,
        "distances": DISTANCES,
        "outcome_of": outcome_of,
        "num_changes": _num_changes(overview),
    }


def _num_changes(overview: Overview) -> int:
    if overview.changes is None:
        return 0
    found = overview.changes.diff.subsets.values()
    return sum(len(part) for one in found for part in (one.added, one.removed, one.changed))


def _own_file(name: str) -> str:
    return importlib.resources.files("tooling.views.report").joinpath(name).read_text(encoding="utf-8")


def _poster_style(media: Media) -> str:
    """A rule for each sheet, and one for each poster's position in it."""
    rules = []
    for number, sheet in enumerate(media.sheets):
        size = f"background-size:{100 * sheet.columns}% {100 * sheet.rows}%"
        rules.append(
            f".s{number}{{background-image:url({sheet.url});{size};aspect-ratio:{sheet.width}/{sheet.height}}}"
        )
    for number, poster in sorted(media.posters.items()):
        sheet = media.sheets[poster.sheet]
        x, y = 100 * poster.column / max(sheet.columns - 1, 1), 100 * poster.row / max(sheet.rows - 1, 1)
        rules.append(f".p{number}{{background-position:{x:.4f}% {y:.4f}%}}")
    return "\n".join(rules)


def _policy(styles: list[str], script: str) -> str:
    """Content security policy: nothing from outside, and inline only our own style and script."""
    allowed = [f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in (*styles, script)]
    return (
        f"default-src 'none'; img-src data:; media-src blob:; style-src {' '.join(allowed[:-1])}; "
        f"script-src {allowed[-1]}; base-uri 'none'; form-action 'none'"
    )


def _code(text: str) -> Markup:
    """A message, escaped, with its commands between backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))
