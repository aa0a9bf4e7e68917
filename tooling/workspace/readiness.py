"""What stands between a workspace and a release: files that are not verified as they are, and fakes that are missing.

`tooling push` refuses a workspace for the first; `tooling build` and the report tell both beforehand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from homologous_deepfake import FAKES, PAIRED_SUBSETS, SUBSETS
from tooling.errors import VerificationError, WorkspaceError, listed
from tooling.workspace.decoding import decode_json, read_json_lines
from tooling.workspace.layout import Workspace
from tooling.workspace.plan_file import Plan, fakes_of
from tooling.workspace.records import FileRecord, natural_key
from tooling.workspace.verification_file import Finding, Kind, read_faulty, read_verification

MAX_NAMES = 3


@dataclass(frozen=True)
class Unverified:
    """What the last verification leaves open, by the files that are recorded now.

    Attributes:
        errors: path of a recorded file, and an error of it or of its companions.
        changed: paths of files that are new or changed since.
        gone: paths of files that were verified and are not recorded any more.
    """

    errors: Sequence[tuple[str, Finding]]
    changed: Sequence[str]
    gone: Sequence[str]


@dataclass(frozen=True)
class Reject:
    """One line of rejects.jsonl: a fake, what tried to make it, and why the result was not accepted."""

    sample_id: str
    reason: str


def find_unverified(workspace: Workspace, records: Mapping[str, FileRecord]) -> Unverified:
    """Compares verification.parquet with the present records, by sample_id.

    Raises:
        VerificationError: there was no verification, or one by another version of the checks.
        WorkspaceError: the table is damaged.
    """
    verified = read_verification(workspace, ["findings"])
    errors: list[tuple[str, Finding]] = []
    changed = []
    for record in records.values():
        row = verified.get(record.path)
        if row is None or row.sha256 != record.sha256:
            changed.append(record.path)
            continue
        errors += [(record.path, finding) for finding in row.findings if finding.severity == "error"]
    gone = verified.keys() - {record.path for record in records.values()}
    return Unverified(errors, changed, sorted(gone, key=natural_key))


def files_to_make_again(
    workspace: Workspace, kinds: Collection[Kind] = ("record", "encoding", "content")
) -> dict[str, str]:
    """Path -> sha256 of files in which the last verification found an error that making them again may correct.

    Args:
        workspace: with verification.parquet; without it there are none.
        kinds: of the errors. Those of marks are left out: `tooling keys sign` corrects them.
    """
    try:
        rows = read_faulty(workspace)
    except (VerificationError, WorkspaceError):
        return {}
    return {
        row.path: row.sha256
        for row in rows
        if any(finding.severity == "error" and finding.kind in kinds for finding in row.findings)
    }


def stale_tracks(clips: Mapping[str, FileRecord], crops: Mapping[str, FileRecord]) -> dict[str, str]:
    """Path of a track -> that of its clip, of tracks that were made from an older clip than the present one.

    Args:
        clips: records of `raw_video`.
        crops: records of `face_video`, beside whose files the tracks lie.
    """
    digests = {clip.path: clip.input_sha256 for clip in clips.values()}
    return {
        track: clip
        for crop in crops.values()
        for clip, digest in crop.inputs.items()
        if digests.get(clip, digest) != digest
        for track in crop.companions
    }


def read_rejects(workspace: Workspace) -> dict[str, str]:
    """sample_id -> why it was last not accepted.

    Raises:
        WorkspaceError: rejects.jsonl is damaged.
    """
    parse = partial(decode_json, kind=Reject, ignores_unknown=True)
    lines = read_json_lines(workspace.rejects_path, parse, "remove that line")
    return {line.sample_id: line.reason for line in lines}


def find_missing(workspace: Workspace, plan: Plan, records: Mapping[str, Mapping[str, FileRecord]]) -> dict[str, str]:
    """sample_id -> why the last try to make it was rejected, "" without one, of planned fakes that are not there.

    Those that the plan leaves out are not missing. An imported set of fakes stands for itself: what was drawn here is
    not expected as well. Of images, and of subsets that are empty, only rejected ones are missing.

    Args:
        workspace: whose rejects are read.
        plan: says what is planned.
        records: subset -> sample_id -> record.

    Raises:
        WorkspaceError: rejects.jsonl is damaged.
    """
    rejects = read_rejects(workspace)
    missing: dict[str, str] = {}
    for subset in FAKES:
        found = records.get(subset, {})
        is_complete = SUBSETS[subset].media == "video" and any(record.origin == "made" for record in found.values())
        for name in fakes_of(plan, subset):
            if name not in found and name not in plan.left_out and (is_complete or name in rejects):
                missing[name] = rejects.get(name, "")
    return missing


def way_out_of(sample_id: str) -> str:
    """What the maintainers can do about a planned fake that cannot be made of its clips."""
    ways = [f"leave it out with `tooling plan --exclude {sample_id}`"]
    subset = sample_id.partition("/")[0]
    if subset in PAIRED_SUBSETS:
        ways.append(f"draw another partner with `tooling plan --redraw {sample_id}`")
    if SUBSETS[subset].media == "image":
        return f"{ways[0]}, or try another --seed"
    return ", ".join(ways) + ", or choose another part of a source by start_seconds in identities.csv"


def describe_missing(sample_id: str, reason: str) -> str:
    """Why a planned fake is missing (see `find_missing`), and what to do."""
    if reason:
        return f"was rejected ({reason.removeprefix(f'{sample_id}: rejected, ')}); {way_out_of(sample_id)}"
    return f"is planned, not there; run `tooling generate {sample_id.partition('/')[0]}`"


def describe_left_out(plan: Plan) -> dict[str, str]:
    """Subset -> how many of its fakes the plan leaves out, and why."""
    counts = Counter(name.partition("/")[0] for name in plan.left_out)
    texts = {}
    for subset, num in counts.items():
        reasons = sorted({why for name, why in plan.left_out.items() if name.startswith(f"{subset}/")})
        verb = "is" if num == 1 else "are"
        texts[subset] = f"{num} of {len(fakes_of(plan, subset)):,} {verb} left out: {'; '.join(reasons)}"
    return texts


def release_warnings(workspace: Workspace) -> list[str]:
    """One line for everything that a release built now would lack, or that `tooling push` would refuse.

    Raises:
        WorkspaceError: a table is damaged.
    """
    records = {subset: workspace.records(subset) for subset in SUBSETS}
    everything = {name: record for found in records.values() for name, record in found.items()}
    lines = []
    try:
        found = find_unverified(workspace, everything)
    except VerificationError as error:
        lines.append(str(error))
    else:
        if found.errors:
            path, first = found.errors[0]
            more = f" and {len(found.errors) - 1} more errors" if len(found.errors) > 1 else ""
            lines.append(f"{path}: {first.message}{more}; a push refuses it until `tooling verify` finds none")
        if stale := [*found.changed, *found.gone]:
            lines.append(f"{listed(stale, MAX_NAMES)}: changed after the last verification; run `tooling verify`")
    missing = find_missing(workspace, workspace.plan() or Plan(0), records)
    lines += [f"{name}: {describe_missing(name, why)}" for name, why in list(missing.items())[:MAX_NAMES]]
    if len(missing) > MAX_NAMES:
        lines.append(f"{len(missing) - MAX_NAMES} more planned fakes are missing; `tooling report` lists them")
    return lines
