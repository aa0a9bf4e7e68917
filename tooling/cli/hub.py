"""The commands of `tooling hub`: serve the embedded Hub, and make its users, organisations and tokens."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tooling import console
from tooling.errors import UsageError

if TYPE_CHECKING:
    from tooling.hub.store.database import Database

hub_app = typer.Typer(help="The embedded Hub.", no_args_is_help=True, rich_markup_mode=None)

RootOption = Annotated[Path, typer.Option("--root", help="The Hub's folder; created if it does not exist.")]


@hub_app.command()
def serve(
    root: RootOption,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8900,
    host: Annotated[
        str, typer.Option(help="Address to listen on; anything but loopback needs --allow-remote.")
    ] = "127.0.0.1",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Accept other machines. Plain HTTP: put a TLS proxy in front.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log each request on stderr.")] = False,
) -> None:
    """Serve a folder as a Hub until Ctrl-C. Clients set HF_ENDPOINT to the printed address and HF_HUB_DISABLE_XET=1."""
    from tooling.hub.server import is_loopback, run

    if not is_loopback(host) and not allow_remote:
        raise UsageError(f"--host {host} is reachable from other machines; add --allow-remote if you want that")
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(message)s")
    run(root, port, host=host, ready=lambda address: _announce(address, root))


@hub_app.command()
def token(
    user: Annotated[str, typer.Argument(help="Whose token; the user is created if there is none of that name.")],
    root: RootOption,
    role: Annotated[str, typer.Option(help="read or write.")] = "write",
    scope: Annotated[str | None, typer.Option(help="Only these repositories, such as datasets/lab/*.")] = None,
    name: Annotated[str | None, typer.Option(help="Under which `hf auth` keeps it.  [default: USER-ROLE]")] = None,
    fullname: Annotated[str | None, typer.Option(help="Of a new user.")] = None,
    email: Annotated[
        str | None, typer.Option(help="Of a new user; shown to authors of gated repositories that the user requests.")
    ] = None,
) -> None:
    """Make a token and print it; the Hub keeps only its digest. Works while the Hub is running."""
    from tooling.hub.rights import add_token, add_user

    database = _database(root)
    add_user(database, user, fullname, email)
    console.put(add_token(database, user, role, scope=scope, name=name))


@hub_app.command()
def organisation(
    name: Annotated[str, typer.Argument(help="The organisation; created if there is none of that name.")],
    members: Annotated[list[str], typer.Argument(help="Users who may write to its repositories.")],
    root: RootOption,
    fullname: Annotated[str | None, typer.Option(help="Of a new organisation.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Its new repositories are private by default.")] = False,
) -> None:
    """Make an organisation, or add members to it."""
    from tooling.hub.rights import add_organisation

    add_organisation(_database(root), name, members, fullname, is_private_default=private)


def _database(root: Path) -> Database:
    from tooling.hub.root import open_database

    return open_database(root)


def _announce(address: str, root: Path) -> None:
    console.say(f"serving on {address}; clients: HF_ENDPOINT={address} HF_HUB_DISABLE_XET=1")
    if _database(root).row("SELECT 1 FROM tokens") is None:
        console.say(f"nobody can write yet: make a token with `tooling hub token NAME --root {root}`")
