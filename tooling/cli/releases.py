"""The commands of releases: build, card, to a Hub and back, and what comes from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tooling import console
from tooling.cli.exits import finish
from tooling.cli.options import (
    RELEASE,
    WORKSPACE,
    JsonOption,
    ReleaseOption,
    RepoArgument,
    SinceOption,
    WorkersOption,
    WorkspaceOption,
    read_repo,
    split_names,
)
from tooling.errors import UsageError
from tooling.workspace.layout import open_or_create_workspace, open_workspace


def build(workspace: WorkspaceOption = WORKSPACE, out: ReleaseOption = RELEASE) -> None:
    """Write the release's Parquet shards; warn of what it lacks and of what a push would refuse."""
    from tooling.release.shards import locked_release
    from tooling.stages.build import build_release
    from tooling.workspace.readiness import release_warnings

    opened = open_workspace(workspace)
    with opened.locked(), locked_release(out):
        warnings = release_warnings(opened)  # first: what it cannot read ends the command before anything is built
        with console.progress_bar("build shards") as bar:
            build_release(opened, out, progress=bar)
    for line in warnings:
        console.say(f"warning: {line}")
    console.put(str(out))


def card(workspace: WorkspaceOption = WORKSPACE, out: ReleaseOption = RELEASE, since: SinceOption = "") -> None:
    """Write the release's dataset card, README.md, and its papers; list the answers that are still missing."""
    from tooling.release.changes import check_version
    from tooling.release.shards import locked_release
    from tooling.stages.card.run import make_card, missing_answers

    opened = open_workspace(workspace)
    check_version(opened.settings.card.version)
    with locked_release(out), console.progress_bar("card"):
        path = make_card(opened, out, since=since or None)
    console.put(str(path))
    if missing := missing_answers(opened):
        console.say(f"{len(missing)} answers are missing in {opened.root}, which the papers name as open:")
        for name in missing:
            console.say(f"  {name}")


def push(
    repo_id: RepoArgument,
    workspace: WorkspaceOption = WORKSPACE,
    out: ReleaseOption = RELEASE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show what would change; send nothing.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Visibility; a new repository is private if not given.")
    ] = None,
    gated: Annotated[str, typer.Option(help="auto or manual: people must request access.")] = "",
    revision: Annotated[str, typer.Option(help="Branch to push to; main if not given.")] = "",
    allow_unconsented: Annotated[
        str, typer.Option(help="Identities without granted consent, 1,2: private and gated repositories only.")
    ] = "",
) -> None:
    """Publish the release at a Hub: shows what changes, makes one commit, tags it and reads it back."""
    from tooling.release.shards import locked_release
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
        allow_unconsented=split_names(allow_unconsented),
    )
    opened = open_workspace(workspace)
    with opened.locked(), locked_release(out):
        with console.progress_bar("check", is_bytes=True) as bar:
            prepared = prepare_push(opened, out, repo_id, options, progress=bar)
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
    """List the rows that were added, removed or changed between two releases."""
    from tooling.release.diff import compare, format_diff

    with console.progress_bar("diff"):
        found = compare(old, new)
    console.put(format_diff(found))


def pull(
    repo: Annotated[
        str, typer.Argument(metavar="REPO_ID", help="Dataset repository, OWNER/NAME or OWNER/NAME@REVISION.")
    ],
    workspace: WorkspaceOption = WORKSPACE,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit; main if not given.")] = "",
    identities: Annotated[
        Path | None, typer.Option(help="identities.csv with the consent records, which no release has.")
    ] = None,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Bring a release from a Hub back into a workspace and check every digest."""
    from tooling.stages.pull.run import pull_release

    repo_id, named = read_repo(repo)
    if named and revision not in ("", named):
        raise UsageError(f"{repo}: --revision names another revision, {revision}; name one")
    chosen = revision or named or None
    with console.progress_bar("pull") as bar:
        result = pull_release(
            repo_id,
            workspace,
            revision=chosen,
            identities=identities,
            num_workers=workers,
            progress=bar,
        )
    for line in result.lacks:
        console.say(f"note: not in the release: {line}")
    finish(f"{repo_id}@{result.commit}", result, as_json=as_json)


def import_archive(
    archive: Annotated[Path, typer.Argument(help="Zip, tar or folder laid out like the published archive.")],
    workspace: WorkspaceOption = WORKSPACE,
    subset: Annotated[str, typer.Option(help="The files are fakes of this subset, made by --generator.")] = "",
    generator: Annotated[str, typer.Option(help="The outside program that made them.")] = "",
    reencode: Annotated[
        bool, typer.Option("--reencode", help="Encode files again that differ only in their encoding.")
    ] = False,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Import the published archive, or fakes that were made by hand in another program."""
    from tooling.stages.importing.run import import_files

    opened = open_or_create_workspace(workspace)
    with opened.locked(), console.progress_bar("import") as bar:
        result = import_files(
            opened,
            archive,
            subset=subset or None,
            generator=generator or None,
            reencode=reencode,
            num_workers=workers,
            progress=bar,
        )
    if not as_json:
        for name, path in result.read_as.items():
            console.put(f"{name}: read as {path}")
        for name, reason in result.ignored.items():
            console.put(f"{name}: ignored, {reason}")
        for name, counts in result.counts.items():
            present, expected = counts["in_workspace"], counts["catalogue"]
            console.put(
                f"{name}: {counts['imported']} imported, {present} in the workspace, {expected} in the catalogue"
            )
    finish(str(archive), result, as_json=as_json)
