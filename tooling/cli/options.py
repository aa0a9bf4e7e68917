"""Arguments and options that several commands share, by name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from tooling.errors import UsageError

WORKSPACE = Path("workspace")
RELEASE = Path("homologous_deepfake")

WorkspaceOption = Annotated[Path, typer.Option("--workspace", "-w", help="The work folder.")]
ReleaseOption = Annotated[Path, typer.Option("--out", "-o", help="The built release.")]
WorkersOption = Annotated[int, typer.Option("--workers", "-j", min=0, help="Processes; 0 is one per processor.")]
EngineOption = Annotated[
    str,
    typer.Option("--engine", help="Where the work is done: local, ray or ray:HOST:PORT; see docs/many_machines.md."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SinceOption = Annotated[
    str,
    typer.Option("--since", help="The previous release, to list what changed: a folder, or OWNER/NAME@REVISION."),
]


def read_repo(text: str) -> tuple[str, str]:
    """Repository id and revision ("" if none is named) of a text: an id, an address of its page, or hf://datasets/...

    Raises:
        UsageError: an address of something else than a dataset, or at another Hub than HF_ENDPOINT.
    """
    found = ADDRESS.fullmatch(text.strip())
    if found is None:
        return text, ""  # the client says what an id is
    hub, is_dataset = found["hub"], bool(found["kind"])
    endpoint = os.environ.get("HF_ENDPOINT") or PUBLIC_HUB
    if (hub or found["scheme"]) and not is_dataset:
        raise UsageError(f"{text}: is not the address of a dataset; name the dataset, OWNER/NAME")
    if hub and hub.removeprefix("www.") != endpoint.rstrip("/"):
        raise UsageError(f"{text}: is at another Hub than {endpoint}; set HF_ENDPOINT={hub}, or name OWNER/NAME alone")
    return found["id"], found["revision"] or ""


def repo_alone(text: str) -> str:
    """The id in an address of a repository; a revision in it is refused."""
    repo_id, revision = read_repo(text)
    if revision:
        raise UsageError(f"{text}: names the revision {revision}; name the repository alone, {repo_id}")
    return repo_id


PUBLIC_HUB = "https://huggingface.co"
ADDRESS = re.compile(
    r"(?:(?P<hub>https?://[^/\s]+)/|(?P<scheme>hf://))?(?P<kind>datasets/)?(?P<id>[^/@\s:]+/[^/@\s:]+?)"
    r"(?:(?:@|/tree/)(?P<revision>[^@\s]+?))?/?"
)
RepoArgument = Annotated[
    str, typer.Argument(metavar="REPO_ID", help="Dataset repository, OWNER/NAME.", callback=repo_alone)
]


def split_names(text: str) -> tuple[str, ...]:
    """The names in an option's value, separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
