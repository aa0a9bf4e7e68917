"""The commands that say whether a release can be trusted."""

from __future__ import annotations

from tooling import console
from tooling.cli_hub import WORKSPACE, JsonOption, WorkersOption, WorkspaceOption
from tooling.workspace import open_workspace


def audit(workspace: WorkspaceOption = WORKSPACE, workers: WorkersOption = 0, as_json: JsonOption = False) -> None:
    """Test whether simple probes tell real from fake: audit.json; exit 1 if one but those of pixels does."""
    from tooling.audit_results import format_area
    from tooling.stages import audit as stage

    place = open_workspace(workspace)
    with place.locked(), console.progress_bar("audit") as bar:
        made = stage.run(place, num_workers=workers, progress=bar)
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
