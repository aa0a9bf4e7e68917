"""What must hold before a release may leave this machine: whole, of this workspace, verified, consented, marked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from homologous_deepfake import SUBSETS, people_of
from tooling.errors import ConsentError, InputError, UsageError, VerificationError, WorkspaceError, listed
from tooling.release.changes import CARD
from tooling.release.diff import folder_rows
from tooling.release.folder import CHECKSUMS, PAPERS, Release, read_release
from tooling.remote import blob_sha1
from tooling.work.engine import Progress
from tooling.workspace.files import file_sha256
from tooling.workspace.layout import Workspace
from tooling.workspace.readiness import find_unverified
from tooling.workspace.records import FileRecord, natural_key
from tooling.workspace.signing_keys import CERTIFICATE, read_keys

PICTURES = "pictures"
MAX_NAMES = 5


@dataclass(frozen=True)
class LocalFile:
    """One file of the release as it was when its digest was taken.

    Attributes:
        path: in the release and in the repository, with forward slashes.
        num_bytes: size.
        sha256: hex digest.
        blob_sha1: git's digest, by which a Hub names small files; None for shards, which are never small files there.
        state: inode, size and time of change, to notice that the file became another one.
    """

    path: str
    num_bytes: int
    sha256: str
    blob_sha1: str | None
    state: tuple[int, int, int]


def file_state(path: Path) -> tuple[int, int, int]:
    """Inode, size and time of the last change in nanoseconds."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_files(out: Path, progress: Progress) -> tuple[Release, dict[str, LocalFile]]:
    """Everything of a built release that is sent, each shard checked against SHA256SUMS.

    Args:
        out: the release's folder.
        progress: called with the bytes read so far.

    Raises:
        InputError: no release, no card, or a shard that is not the one that was built.
    """
    release = read_release(out)
    if not (out / CARD).is_file():
        raise InputError(f"{out / CARD}: not found; run `tooling card --out {out}`")
    digests = {
        shard.path: shard.sha256
        for config in release.configs.values()
        for split in config.splits.values()
        for shard in split.shards
    }
    pictures = ((out / PICTURES / f"{subset}.jpg") for subset in SUBSETS)
    papers = (name for name in PAPERS if (out / name).is_file())
    shown = (path.relative_to(out).as_posix() for path in pictures if path.is_file() and not path.is_symlink())
    others = [CARD, f"data/{CHECKSUMS}", *papers, *shown]
    names = sorted([*digests, *others])
    total, done, found = sum((out / name).stat().st_size for name in names), 0, {}
    progress(0, total, "")
    for name in names:
        found[name] = _read_file(out, name, digests.get(name))
        done += found[name].num_bytes
        progress(done, total, name)
    return release, found


def _read_file(out: Path, name: str, expected_sha256: str | None) -> LocalFile:
    path = out / name
    state, digest = file_state(path), file_sha256(path)
    if expected_sha256 not in (None, digest):
        raise InputError(f"{path}: differs from {CHECKSUMS} (sha256), it changed after the build; run `tooling build`")
    blob = None if expected_sha256 else blob_sha1(path.read_bytes())
    return LocalFile(name, state[1], digest, blob, state)


def check_release(
    workspace: Workspace, out: Path, *, is_public: bool, is_closed: bool, allow_unconsented: Collection[str]
) -> list[str]:
    """Checks a release against the workspace that it was built from.

    Args:
        workspace: locked by the caller.
        out: the built release.
        is_public: anyone could read what is pushed.
        is_closed: the repository is private and gated, so that only chosen people can read it.
        allow_unconsented: identities that may be in a closed repository without granted consent.

    Returns:
        Notes for the one who pushes.

    Raises:
        InputError: the release is not of the workspace's present files.
        VerificationError: a file is not verified.
        ConsentError: someone's consent does not allow it.
        WorkspaceError: unmarked fakes in a public push.
    """
    rows = folder_rows(out)
    records = {name: record for subset in SUBSETS for name, record in workspace.records(subset).items()}
    recorded = {name: record.sha256 for name, record in records.items()}
    stale = {name for name, row in rows.items() if recorded.get(name) != row["sha256"]} | (
        recorded.keys() - rows.keys()
    )
    if stale:
        raise InputError(
            f"{out}: was built from other files ({first_names(stale)}); run `tooling build` and `tooling card`"
        )
    people = {name: set(people_of(record.sample_id)) for name, record in records.items()}
    unconsented = _check_consent(workspace, people, is_closed, allow_unconsented)
    _check_verified(workspace, records, {name for name, found in people.items() if found & unconsented})
    notes = [f"without granted consent, allowed by name: {', '.join(sorted(unconsented, key=natural_key))}"]
    return (notes if unconsented else []) + _check_marks(workspace, records, is_public)


def _check_consent(
    workspace: Workspace, people: dict[str, set[str]], is_closed: bool, allowed: Collection[str]
) -> set[str]:
    """Returns those in the release whose consent is not granted and who are allowed by name."""
    identities, everyone = workspace.identities(), set().union(*people.values())
    granted = {name for name, identity in identities.items() if identity.consent_status == "granted"}
    unconsented = everyone - granted
    if needless := set(allowed) - unconsented:
        raise UsageError(
            f"{first_names(needless)}: consent is granted or nobody of that name is in the release; leave it out"
        )
    if unconsented and (unconsented - set(allowed) or not is_closed):
        first = min(unconsented - set(allowed) or unconsented, key=natural_key)
        status = identities[first].consent_status if first in identities else "not in identities.csv"
        way_out = "take them out, or push to a private, gated repository and allow each by name"
        raise ConsentError(
            f"consent of identity {first_names(unconsented)} is not granted ({first}: {status}); {way_out}"
        )
    return unconsented


def _check_verified(workspace: Workspace, records: dict[str, FileRecord], of_unconsented: set[str]) -> None:
    """Every file verified as it is now; findings about the consent of those allowed by name do not count."""
    found = find_unverified(workspace, records)
    if found.changed:
        raise VerificationError(f"{found.changed[0]}: changed after the last verification; run `tooling verify`")
    allowed = {records[name].path for name in of_unconsented}
    for path, finding in found.errors:
        if not (finding.kind == "consent" and path in allowed):
            what = f"{finding.path}: {finding.message}"
            raise VerificationError(f"{what}; correct that and run `tooling verify`")
    if found.gone:
        raise VerificationError(f"{first_names(found.gone)}: removed after the last verification; run `tooling verify`")


def _check_marks(workspace: Workspace, records: dict[str, FileRecord], is_public: bool) -> list[str]:
    fakes = (record for record in records.values() if SUBSETS[record.subset].method != "real")
    unmarked = [record.path for record in fakes if not record.digital_source_type]
    if unmarked and is_public:
        way_out = "make them again, which marks them, or push with --private"
        raise WorkspaceError(
            f"{workspace.root}: {len(unmarked)} fakes carry no mark ({first_names(unmarked)}); {way_out}"
        )
    if unmarked:
        return [f"{len(unmarked)} fakes carry no mark; a public push would be refused"]
    if not (workspace.keys_path / CERTIFICATE).is_file():
        return []
    keys = read_keys(workspace.keys_path)
    problem = keys.validity_problem()
    notes = [f"keys/{CERTIFICATE}: {problem}"] if problem else []
    if is_public and keys.is_test:
        notes += ["marks are signed with the test certificate in keys/; put your own there and run `tooling keys sign`"]
    return notes


def first_names(names: Collection[str]) -> str:
    """The first MAX_NAMES in natural order, and how many more there are."""
    return listed(sorted(names, key=natural_key), MAX_NAMES)
