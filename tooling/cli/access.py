"""The commands about people: who gets the data, and who is taken out of it."""

from __future__ import annotations

import datetime
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tooling import console
from tooling.cli.options import RELEASE, WORKSPACE, RepoArgument, WorkspaceOption, repo_alone
from tooling.workspace.layout import open_workspace

if TYPE_CHECKING:
    from tooling.takedown.receipt import Receipt
    from tooling.takedown.run import TakedownPlan

access_app = typer.Typer(
    help="People who request access to a gated repository.", no_args_is_help=True, rich_markup_mode=None
)

UserArgument = Annotated[str, typer.Argument(metavar="USER", help="Who requests access, by the name in `list`.")]


def takedown(
    identity: Annotated[str, typer.Argument(metavar="ID", help="The person, by number.")],
    workspace: WorkspaceOption = WORKSPACE,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The built release, if there is one.")] = None,
    repo: Annotated[
        str, typer.Option("--repo", help="The release's repository at the Hub, OWNER/NAME.", callback=repo_alone)
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only list.")] = False,
    purge_history: Annotated[
        bool, typer.Option("--purge-history", help="Remove old revisions at the Hub too.")
    ] = False,
) -> None:
    """Remove one person everywhere: clips, crops, fakes, records, shards, the Hub. Lists first."""
    from tooling.release.shards import locked_release
    from tooling.takedown.run import TakedownRequest, plan_takedown, take_down

    opened = open_workspace(workspace)
    release = out or (RELEASE if RELEASE.is_dir() else None)
    with opened.locked(), locked_release(release) if release else nullcontext():
        with console.progress_bar("search"):
            planned = plan_takedown(opened, identity, out=release, repo_id=repo or None)
        for line in planned.lines():
            console.put(line)
        if not repo:
            console.say("note: no Hub was searched; name the release's repository with --repo")
        if planned.is_complete and not (purge_history and planned.hub and planned.hub.needs_purge):
            console.put(f"identity {identity} was taken down on {planned.taken_down_on}; nothing is left to do")
        elif not yes:
            console.say(f"nothing was removed; run it with --yes to take identity {identity} down")
        else:
            request = TakedownRequest(identity, _today(), release, repo or None, purge_history)
            with console.progress_bar("takedown") as bar:
                receipt = take_down(opened, request, progress=bar)
            _say_what_is_left(receipt, planned, purge_history)


def _say_what_is_left(receipt: Receipt, planned: TakedownPlan, is_purged: bool) -> None:
    console.put(f"identity {receipt.identity} is taken down; receipt: {receipt.path}")
    for line in receipt.notes:
        console.say(f"note: {line}; correct that and run this again")
    for user, repository in receipt.recipients.items():
        console.say(f"note: {user} was given the data of {repository}; ask for deletion")
    if planned.hub is not None and not is_purged:
        console.say(f"note: old revisions of {planned.hub.repo_id} still serve the person; add --purge-history")


@access_app.command("list")
def list_access(
    repo_id: RepoArgument, status: Annotated[str, typer.Option(help="pending, accepted or rejected.")] = "pending"
) -> None:
    """List requests for access."""
    from tooling.remote import connect
    from tooling.takedown.recipients import list_requests

    requests = list_requests(connect(repo_id), status)  # type: ignore[arg-type]
    if not requests:
        console.say(f"{repo_id}: no {status} requests")
    for request in requests:
        fields = "; ".join(f"{name}: {answer}" for name, answer in request.fields.items())
        console.put(f"{request.date} {request.user} ({request.fullname}, {request.email}) {fields}".rstrip())


@access_app.command()
def accept(repo_id: RepoArgument, user: UserArgument, workspace: WorkspaceOption = WORKSPACE) -> None:
    """Give a person access, and log it."""
    from tooling.remote import connect
    from tooling.takedown.recipients import accept_request, log_path

    opened = open_workspace(workspace)
    with opened.locked():
        entry = accept_request(opened, connect(repo_id), user, date=_today())
    console.put(f"{entry.user}: accepted for {entry.repo}, logged in {log_path(opened)}")


@access_app.command()
def reject(
    repo_id: RepoArgument,
    user: UserArgument,
    reason: Annotated[str, typer.Option(help="Why; the person can read it.")],
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Refuse a person, with a reason, and log it."""
    from tooling.remote import connect
    from tooling.takedown.recipients import log_path, reject_request

    opened = open_workspace(workspace)
    with opened.locked():
        entry = reject_request(opened, connect(repo_id), user, reason, date=_today())
    console.put(f"{entry.user}: rejected for {entry.repo}, logged in {log_path(opened)}")


@access_app.command()
def log(workspace: WorkspaceOption = WORKSPACE) -> None:
    """Show who was given access or refused, and when."""
    from tooling.takedown.recipients import read_log

    for entry in read_log(open_workspace(workspace)):
        console.put(f"{entry.date} {entry.user} {entry.action} {entry.repo} {entry.version} {entry.reason}".rstrip())


@access_app.command()
def prune(
    workspace: WorkspaceOption = WORKSPACE,
    days: Annotated[int, typer.Option(help="Keep entries for this many days, at least 183.")] = 183,
) -> None:
    """Remove old entries from the log."""
    from tooling.takedown.recipients import prune_log

    opened = open_workspace(workspace)
    with opened.locked():
        gone = prune_log(opened, today=_today(), retention_days=days)
    console.put(f"{len(gone)} entries removed")


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()
