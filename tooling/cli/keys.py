"""The commands of `tooling keys`: the certificate that marks are signed with."""

from __future__ import annotations

from typing import Annotated

import typer

from tooling import console
from tooling.cli.releases import WORKSPACE, JsonOption, WorkersOption, WorkspaceOption
from tooling.workspace.layout import open_workspace
from tooling.workspace.signing_keys import SigningKeys, init_keys, read_keys

app = typer.Typer(
    help="The certificate that marks are signed with.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command()
def init(
    workspace: WorkspaceOption = WORKSPACE,
    force: Annotated[bool, typer.Option("--force", help="Replace the keys that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a test chain, a root and one certificate: keys/ in the workspace. New workspaces come with one."""
    place = open_workspace(workspace)
    with place.locked():
        made = init_keys(place.keys_path, is_replacing=force)
    _tell(made, as_json)


@app.command()
def show(workspace: WorkspaceOption = WORKSPACE, as_json: JsonOption = False) -> None:
    """Check the keys and say whose they are; the private key is never shown."""
    _tell(read_keys(open_workspace(workspace).keys_path), as_json)


@app.command()
def sign(workspace: WorkspaceOption = WORKSPACE, workers: WorkersOption = 0, as_json: JsonOption = False) -> None:
    """Sign every file anew that is not signed by these keys, after they were replaced; pulled files stay."""
    from tooling.stages.sign import sign_files

    place = open_workspace(workspace)
    with place.locked(), console.progress_bar("sign") as bar:
        result = sign_files(place, num_workers=workers, progress=bar)
    console.put_result("keys", result, as_json=as_json)
    if result.refused:
        raise typer.Exit(1)


def _tell(keys: SigningKeys, as_json: bool) -> None:
    facts = {
        "subject": keys.subject,
        "algorithm": keys.algorithm,
        "expires": keys.expires.date().isoformat(),
        "is_test": keys.is_test,
    }
    if as_json:
        console.put(console.to_json(facts))
        return
    console.put(f"{keys.subject}; {keys.algorithm}, valid until {facts['expires']}")
    if keys.is_test:
        console.say("a test chain: put your own three files there before you publish, then run `tooling keys sign`")
