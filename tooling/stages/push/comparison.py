"""What a push changes at the Hub, by comparing the release's files with those of a revision, by size and digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tooling.remote import RemoteFile
from tooling.stages.push.checks import LocalFile

MAIN, SCRIPT = "main", "homologous_deepfake.py"
OWN_FOLDERS, OWN_FILES = ("data/", "pictures/"), ("README.md", SCRIPT)  # of main; everything else there is kept


@dataclass(frozen=True)
class PushPlan:
    """What a push changes at the Hub: paths by kind.

    Attributes:
        head: commit that the plan was made against; None for a repository that does not exist yet.
        num_bytes: of the whole release.
        to_send: added and changed files whose content the revision has under no name; one of several equal files.
        num_bytes_to_send: of these.
    """

    head: str | None
    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    num_bytes: int
    to_send: frozenset[str]
    num_bytes_to_send: int

    @property
    def is_empty(self) -> bool:
        """Whether the Hub has exactly this release."""
        return not (self.added or self.changed or self.removed)


def compare_files(files: Mapping[str, LocalFile], found: Mapping[str, RemoteFile], head: str | None) -> PushPlan:
    """The plan that turns a revision's files into the release's; files of other kinds there are kept.

    Args:
        files: of the release.
        found: of the revision.
        head: commit of the revision.
    """
    same = {name for name, local in files.items() if name in found and same_content(local, found[name])}
    added = tuple(sorted(name for name in files if name not in found))
    changed = tuple(sorted(name for name in files if name in found and name not in same))
    own = (name for name in found if name.startswith(OWN_FOLDERS) or name in OWN_FILES)
    present = {remote_file.sha256 for remote_file in found.values()}
    first_of = {files[name].sha256: name for name in (*added, *changed)}
    to_send = frozenset(name for digest, name in first_of.items() if digest not in present)
    return PushPlan(
        head=head,
        added=added,
        changed=changed,
        unchanged=tuple(sorted(same)),
        removed=tuple(sorted(name for name in own if name not in files)),
        num_bytes=sum(local.num_bytes for local in files.values()),
        to_send=to_send,
        num_bytes_to_send=sum(files[name].num_bytes for name in to_send),
    )


def same_content(local: LocalFile, remote_file: RemoteFile) -> bool:
    """Whether a file of the release is the one at the Hub, by size and digest."""
    if remote_file.sha256 is not None:
        return (local.num_bytes, local.sha256) == (remote_file.num_bytes, remote_file.sha256)
    return (local.num_bytes, local.blob_sha1) == (remote_file.num_bytes, remote_file.blob_sha1)


def format_plan(plan: PushPlan) -> str:
    """The plan for a person: each path that is added (+), changed (~) or removed (-), then counts and bytes."""
    kinds = {"+": plan.added, "~": plan.changed, "-": plan.removed}
    lines = [f"{sign} {path}" for sign, paths in kinds.items() for path in paths]
    counts = ", ".join(f"{len(getattr(plan, kind))} {kind}" for kind in ("added", "changed", "unchanged", "removed"))
    return "\n".join([*lines, f"{counts}; {plan.num_bytes:,} bytes, {plan.num_bytes_to_send:,} of them to send"])
