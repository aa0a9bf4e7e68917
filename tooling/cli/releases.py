"""The commands of `tooling` that reach out: releases to and from a Hub, archives, removal, access."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tooling import console
from tooling.errors import UsageError
from tooling.workspace.layout import open_or_create_workspace, open_workspace

if TYPE_CHECKING:
    from tooling.takedown.receipt import Receipt
    from tooling.takedown.run import TakedownPlan

WORKSPACE = Path("workspace")
RELEASE = Path("homologous_deepfake")

WorkspaceOption = Annotated[Path, typer.Option("--workspace", "-w", help="The work folder.")]
ReleaseOption = Annotated[Path, typer.Option("--out", "-o", help="The built release.")]
WorkersOption = Annotated[int, typer.Option("--workers", "-j", min=0, help="Processes; 0 is one per processor.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RepoArgument = Annotated[str, typer.Argument(metavar="REPO_ID", help="Dataset repository, OWNER/NAME.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="Who asks, as `list` names them.")]

access_app = typer.Typer(help="People who ask for a gated repository.", no_args_is_help=True, rich_markup_mode=None)


def push(
    repo_id: RepoArgument,
    workspace: WorkspaceOption = WORKSPACE,
    out: ReleaseOption = RELEASE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and tell what would change.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Visibility; a new repository is private if not given.")
    ] = None,
    gated: Annotated[str, typer.Option(help="auto or manual: people must ask for access.")] = "",
    revision: Annotated[str, typer.Option(help="Branch to push to; empty is main.")] = "",
    allow_unconsented: Annotated[
        str, typer.Option(help="Identities without granted consent, 1,2: private and gated repositories only.")
    ] = "",
) -> None:
    """Publish the release at a Hub: told beforehand, visible in one commit, tagged and read back."""
    from tooling.stages.push.comparison import format_plan
    from tooling.stages.push.prepare import PushOptions, prepare_push
    from tooling.stages.push.run import publish

    if gated not in ("", "auto", "manual"):
        raise UsageError(f"--gated {gated}: use auto or manual")
    options = PushOptions(
        create_pr=create_pr,
        private=private,
        gated=gated or None,  # type: ignore[arg-type]
        revision=revision or None,
        allow_unconsented=tuple(name.strip() for name in allow_unconsented.split(",") if name.strip()),
    )
    place = open_workspace(workspace)
    with place.locked():
        with console.progress_bar("check", is_bytes=True) as bar:
            prepared = prepare_push(place, out, repo_id, options, progress=bar)
        for note in prepared.notes:
            console.say(f"note: {note}")
        console.put(format_plan(prepared.plan))
        if dry_run:
            return
        with console.progress_bar("send", is_bytes=True) as bar:
            result = publish(prepared, progress=bar)
    did = "pushed and read back" if result.is_committed else "has this very release already, nothing was sent"
    tagged = f", tag {result.tag}" if result.tag else ""
    console.put(f"{repo_id}@{result.commit[:12]}: {did}{tagged}")
    if result.pull_request:
        console.put(f"pull request: {result.pull_request}")


def diff(
    old: Annotated[str, typer.Argument(metavar="A", help="Release folder, or OWNER/NAME@REVISION.")],
    new: Annotated[str, typer.Argument(metavar="B", help="Release folder, or OWNER/NAME@REVISION.")],
) -> None:
    """Tell which rows were added, removed or changed between two releases."""
    from tooling.release import diff as differ

    console.put(differ.format_diff(differ.compare(old, new)))


def takedown(
    identity: Annotated[str, typer.Argument(metavar="ID", help="The person, by number.")],
    workspace: WorkspaceOption = WORKSPACE,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The built release, if there is one.")] = None,
    repo: Annotated[str, typer.Option("--repo", help="The release's repository at the Hub, OWNER/NAME.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only list.")] = False,
    purge_history: Annotated[bool, typer.Option("--purge-history", help="Old revisions at the Hub go too.")] = False,
) -> None:
    """Take one person out everywhere: clips, crops, fakes, records, shards, the Hub. Lists first."""
    from tooling.takedown import run as remover

    place = open_workspace(workspace)
    release = out or (RELEASE if RELEASE.is_dir() else None)
    with place.locked():
        planned = remover.plan_takedown(place, identity, out=release, repo_id=repo or None)
        for line in planned.lines():
            console.put(line)
        if not repo:
            console.say("note: no Hub was looked at; name the release's repository with --repo")
        if planned.is_complete and not (purge_history and planned.hub and planned.hub.needs_purge):
            console.put(f"identity {identity} was taken down on {planned.taken_down_on}; nothing is left to do")
        elif not yes:
            console.say(f"nothing was removed; run it with --yes to take identity {identity} out")
        else:
            request = remover.TakedownRequest(identity, _today(), release, repo or None, purge_history)
            with console.progress_bar("takedown") as bar:
                receipt = remover.take_down(place, request, progress=bar)
            _tell_takedown(receipt, planned, purge_history)


def _tell_takedown(receipt: Receipt, planned: TakedownPlan, is_purged: bool) -> None:
    console.put(f"identity {receipt.identity} is out; receipt: {receipt.path}")
    for user, repository in receipt.recipients.items():
        console.say(f"note: {user} was given the data of {repository}; ask for deletion")
    if planned.hub is not None and not is_purged:
        console.say(f"note: old revisions of {planned.hub.repo_id} still serve the person; add --purge-history")


def pull(
    repo_id: RepoArgument,
    workspace: WorkspaceOption = WORKSPACE,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit; empty is main.")] = "",
    identities: Annotated[Path | None, typer.Option(help="identities.csv with consent, which no release has.")] = None,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Bring a release from the Hub back into a workspace, digests checked."""
    from tooling.stages.pull import run as stage

    with console.progress_bar("pull") as bar:
        result = stage.pull_release(
            repo_id, workspace, revision=revision or None, identities=identities, num_workers=workers, progress=bar
        )
    for line in result.lacks:
        console.say(f"note: not in the release: {line}")
    console.put_result(f"{repo_id}@{result.commit}", result, as_json=as_json)
    if result.refused:
        raise typer.Exit(1)


def import_archive(
    archive: Annotated[Path, typer.Argument(help="Zip, tar or folder laid out like the published archive.")],
    workspace: WorkspaceOption = WORKSPACE,
    subset: Annotated[str, typer.Option(help="The files are fakes of this subset, made by --generator.")] = "",
    generator: Annotated[str, typer.Option(help="The outside program that made them.")] = "",
    reencode: Annotated[bool, typer.Option("--reencode", help="Encode anew what only differs in encoding.")] = False,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Take in the published archive, or fakes that were made by hand in another program."""
    from tooling.stages.importing import run as stage

    place = open_or_create_workspace(workspace)
    with place.locked(), console.progress_bar("import") as bar:
        result = stage.import_files(
            place,
            archive,
            subset=subset or None,
            generator=generator or None,
            reencode=reencode,
            num_workers=workers,
            progress=bar,
        )
    for note in result.notes:
        console.say(f"note: {note}")
    if not as_json:
        for name, path in result.read_as.items():
            console.put(f"{name}: read as {path}")
        for name, reason in result.ignored.items():
            console.put(f"{name}: ignored, {reason}")
        for name, counts in result.counts.items():
            there, wanted = counts["in_workspace"], counts["catalogue"]
            console.put(f"{name}: {counts['imported']} imported, {there} in the workspace, {wanted} in the catalogue")
    console.put_result(str(archive), result, as_json=as_json)
    if result.refused:
        raise typer.Exit(1)


@access_app.command("list")
def list_access(
    repo_id: RepoArgument, status: Annotated[str, typer.Option(help="pending, accepted or rejected.")] = "pending"
) -> None:
    """List requests."""
    from tooling.remote import connect
    from tooling.takedown import recipients as access

    requests = access.list_requests(connect(repo_id), status)  # type: ignore[arg-type]
    if not requests:
        console.say(f"{repo_id}: no {status} requests")
    for request in requests:
        fields = "; ".join(f"{name}: {answer}" for name, answer in request.fields.items())
        console.put(f"{request.date} {request.user} ({request.fullname}, {request.email}) {fields}".rstrip())


@access_app.command()
def accept(repo_id: RepoArgument, user: UserArgument, workspace: WorkspaceOption = WORKSPACE) -> None:
    """Let a person in, and log it."""
    from tooling.remote import connect
    from tooling.takedown import recipients as access

    place = open_workspace(workspace)
    with place.locked():
        entry = access.accept_request(place, connect(repo_id), user, date=_today())
    console.put(f"{entry.user}: accepted for {entry.repo}, logged in {access.log_path(place)}")


@access_app.command()
def reject(
    repo_id: RepoArgument,
    user: UserArgument,
    reason: Annotated[str, typer.Option(help="Told to the person.")],
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Refuse a person, with a reason, and log it."""
    from tooling.remote import connect
    from tooling.takedown import recipients as access

    place = open_workspace(workspace)
    with place.locked():
        entry = access.reject_request(place, connect(repo_id), user, reason, date=_today())
    console.put(f"{entry.user}: rejected for {entry.repo}, logged in {access.log_path(place)}")


@access_app.command()
def log(workspace: WorkspaceOption = WORKSPACE) -> None:
    """Show who was given the data or refused, and when."""
    from tooling.takedown import recipients as access

    for entry in access.read_log(open_workspace(workspace)):
        console.put(f"{entry.date} {entry.user} {entry.action} {entry.repo} {entry.version} {entry.reason}".rstrip())


@access_app.command()
def prune(
    workspace: WorkspaceOption = WORKSPACE,
    days: Annotated[int, typer.Option(help="Keep entries of so many days, at least 183.")] = 183,
) -> None:
    """Remove old entries of the log."""
    from tooling.takedown import recipients as access

    place = open_workspace(workspace)
    with place.locked():
        gone = access.prune_log(place, today=_today(), retention_days=days)
    console.put(f"{len(gone)} entries removed")


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()
