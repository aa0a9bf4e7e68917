"""The commands of `tooling keys`: the certificate that marks are signed with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tooling import console
from tooling.cli.exits import finish
from tooling.cli.options import WORKSPACE, JsonOption, WorkersOption, WorkspaceOption
from tooling.workspace.layout import open_workspace

if TYPE_CHECKING:
    from tooling.workspace.signing_keys import SigningKeys

keys_app = typer.Typer(
    help="The certificate that marks are signed with.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@keys_app.command()
def init(
    workspace: WorkspaceOption = WORKSPACE,
    force: Annotated[bool, typer.Option("--force", help="Replace existing keys.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a test chain, a root and one certificate: keys/ in the workspace. A new workspace has one."""
    from tooling.workspace.signing_keys import init_keys

    opened = open_workspace(workspace)
    with opened.locked():
        made = init_keys(opened.keys_path, is_replacing=force)
    _show(made, as_json)


@keys_app.command()
def show(workspace: WorkspaceOption = WORKSPACE, as_json: JsonOption = False) -> None:
    """Check the keys and show whose they are; the private key is never shown."""
    from tooling.workspace.signing_keys import check_validity, read_keys

    folder = open_workspace(workspace).keys_path
    keys = read_keys(folder)
    _show(keys, as_json)
    check_validity(folder, keys)


@keys_app.command()
def sign(workspace: WorkspaceOption = WORKSPACE, workers: WorkersOption = 0, as_json: JsonOption = False) -> None:
    """Sign every file again that is not signed by these keys, after they were replaced; not pulled files."""
    from tooling.stages.sign import sign_files

    opened = open_workspace(workspace)
    with opened.locked(), console.progress_bar("sign") as bar:
        result = sign_files(opened, num_workers=workers, progress=bar)
    finish("keys", result, as_json=as_json)


def _show(keys: SigningKeys, as_json: bool) -> None:
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
        console.say("a test chain: put your own three files in keys/ before you publish, then run `tooling keys sign`")
