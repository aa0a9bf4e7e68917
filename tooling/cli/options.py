"""Arguments and options that several commands share, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WORKSPACE = Path("workspace")
RELEASE = Path("homologous_deepfake")

WorkspaceOption = Annotated[Path, typer.Option("--workspace", "-w", help="The work folder.")]
ReleaseOption = Annotated[Path, typer.Option("--out", "-o", help="The built release.")]
WorkersOption = Annotated[int, typer.Option("--workers", "-j", min=0, help="Processes; 0 is one per processor.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SinceOption = Annotated[
    str,
    typer.Option("--since", help="The previous release, to list what changed: a folder, or OWNER/NAME@REVISION."),
]
RepoArgument = Annotated[str, typer.Argument(metavar="REPO_ID", help="Dataset repository, OWNER/NAME.")]


def split_names(text: str) -> tuple[str, ...]:
    """The names in an option's value, separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
