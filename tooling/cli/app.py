"""The table of contents of the `tooling` command, in the order of the data's flow.

Importing this module loads neither torch nor datasets: each command imports what it calls when it runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from tooling import __version__, console
from tooling.cli.access import access_app, takedown
from tooling.cli.detectors import evaluate, export_app, score
from tooling.cli.exits import run
from tooling.cli.generate import generate, generators, jobs
from tooling.cli.hub import hub_app
from tooling.cli.keys import keys_app
from tooling.cli.preparation import faces, ingest, plan
from tooling.cli.releases import build, card, diff, import_archive, pull, push
from tooling.cli.synthetic import actors, demo
from tooling.cli.trust import audit, contact_sheet, previews, report, verify
from tooling.cli.weights import weights_app

app = typer.Typer(
    help="Make, check and release Homologous_deepfake: clips, faces, plan, fakes, checks, shards, card.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        console.put(__version__)
        raise typer.Exit


# Source videos -> clips, face crops, plan
app.command()(actors)
app.command()(ingest)
app.command()(faces)
app.command()(plan)

# -> fakes
app.command()(generate)
app.command()(generators)
app.command()(jobs)

# -> a workspace that can be trusted
app.command()(verify)
app.command()(audit)

# -> a release on disk
app.command()(build)
app.command()(card)

# Pictures and pages for people
app.command("contact-sheet")(contact_sheet)
app.command()(previews)
app.command()(report)

# All of the above on synthetic actors
app.command()(demo)

# A release at a Hub, and back
app.command()(push)
app.command()(diff)
app.command()(takedown)
app.command()(pull)
app.command("import")(import_archive)

# Detectors against a release
app.command()(score)
app.command()(evaluate)
app.add_typer(export_app, name="export")

# Groups
app.add_typer(keys_app, name="keys")
app.add_typer(weights_app, name="weights")
app.add_typer(access_app, name="access")
app.add_typer(hub_app, name="hub")


def main() -> None:
    """Entry point; `exits.EXITS` says how errors end it."""
    run(app)
