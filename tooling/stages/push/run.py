"""push: the built release to a dataset repository at a Hub, visible in one commit, then tagged and read back.

Large files go first, only those that the Hub does not have; nobody sees them until the one commit that names them all,
made on the very head that the plan was made against. Whatever stops a push, the same command goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tooling.stages.push.comparison import PushPlan
from tooling.stages.push.prepare import PreparedPush, PushOptions, prepare_push
from tooling.stages.push.read_back import read_back
from tooling.stages.push.script_branch import push_script
from tooling.stages.push.send import create_repository, send_files, tag_release
from tooling.work.engine import Progress, no_progress
from tooling.workspace.layout import Workspace


@dataclass(frozen=True)
class PushResult:
    """What a push did.

    Attributes:
        plan: what there was to change.
        commit: at the Hub, with the release.
        is_committed: whether this push made that commit.
        tag: version that names the commit, "" if this push does not tag.
        pull_request: address of the pull request, "" if none was requested.
    """

    plan: PushPlan
    commit: str
    is_committed: bool
    tag: str
    pull_request: str


def push_release(
    workspace: Workspace, out: Path, repo_id: str, options: PushOptions, *, progress: Progress = no_progress
) -> PushResult:
    """Checks and publishes at once; see `prepare_push` and `publish`."""
    return publish(prepare_push(workspace, out, repo_id, options, progress=progress), progress=progress)


def publish(prepared: PreparedPush, *, progress: Progress = no_progress) -> PushResult:
    """Carries out a prepared push.

    Args:
        prepared: of `prepare_push`, in the same process, under the same lock.
        progress: called with the bytes of files that the Hub has now.

    Raises:
        InputError: a file changed meanwhile.
        RemoteError: the Hub refuses, cannot be reached, was changed meanwhile, or serves something else afterwards.
    """
    push = create_repository(prepared)
    commit, pull_request = send_files(push, progress)
    if push.is_release:
        tag_release(push, commit)
        push_script(push.remote)
    read_back(push.remote, commit, push.files, push.release, push.out)
    if push.options.private is False and prepared.info is not None and prepared.info.private:
        push.remote.call("update_repo_settings", private=False)  # only now may everyone see it
    tag = push.version if push.is_release else ""
    return PushResult(push.plan, commit, commit != push.plan.head, tag, pull_request)
