"""Who is in a workspace and what belongs together: consent, folds, pairs, counterparts, orphans, inputs, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from homologous_deepfake import CROSSING, FAKES, SUBSETS, people_of
from tooling.errors import listed
from tooling.stages.verify.file_check import is_imported
from tooling.workspace.identities import Identity
from tooling.workspace.layout import Workspace
from tooling.workspace.path_kinds import KINDS, unknown_paths
from tooling.workspace.plan_file import Plan, fakes_of
from tooling.workspace.readiness import describe_left_out, describe_missing, find_missing, stale_tracks
from tooling.workspace.records import FileRecord, command_for, natural_key
from tooling.workspace.verification_file import Finding, Kind, Severity

Records = Mapping[str, Mapping[str, FileRecord]]
"""Subset -> sample_id -> record."""


def check_people(workspace: Workspace, records: Records, plan: Plan) -> list[Finding]:
    """Identities, consent, folds and pairs of each video; clips without crops, crops and fakes without clips."""
    identities = workspace.identities()
    findings = []
    for subset, found in records.items():
        if SUBSETS[subset].media == "image":
            continue
        for record in found.values():
            findings += _check_identities(record, identities, plan)
            findings += _check_fold(record, plan)
    return findings + _check_plan(workspace, records, plan) + _check_counterparts(records)


def _check_plan(workspace: Workspace, records: Records, plan: Plan) -> list[Finding]:
    """Fakes that the plan does not have or leaves out, planned ones that are missing, and how many are left out."""
    findings = []
    for subset in FAKES:
        planned = set(fakes_of(plan, subset)) if subset in plan.pairs else set(records[subset])
        for name, record in records[subset].items():
            if name in plan.left_out:
                ways = f"`tooling plan --exclude {name}` removes it, `tooling plan --include {name}` takes it back in"
                message = f"is left out of the plan ({plan.left_out[name]}); {ways}"
                findings.append(Finding("error", "plan", record.path, message))
            elif name not in planned and not is_imported(record):
                message = "is not in plan.json; `tooling plan --prune` removes it"
                findings.append(Finding("error", "plan", record.path, message))
    for name, reason in find_missing(workspace, plan, records).items():
        about = SUBSETS[name.partition("/")[0]]
        # What is missing of a pair is an error; subsets of edits and images may be small, which is no news.
        severity: Severity = "error" if about.name in plan.pairs else "note"
        if severity == "error" or reason:
            path = f"{name}.{'png' if about.media == 'image' else 'mp4'}"
            findings.append(Finding(severity, "plan", path, describe_missing(name, reason)))
    left_out = describe_left_out(plan).items()
    return findings + [Finding("note", "coverage", subset, text) for subset, text in left_out]


def _check_counterparts(records: Records) -> list[Finding]:
    clips, crops = (
        {sample_id.rpartition("/")[2] for sample_id in records[subset]} for subset in ("raw_video", "face_video")
    )
    findings = [
        Finding("error", "record", f"raw_video/{i}.mp4", "has no crop; run `tooling faces`") for i in clips - crops
    ]
    findings += [Finding("error", "record", f"face_video/{i}.mp4", "has no clip in raw_video") for i in crops - clips]
    for subset, found in records.items():
        if SUBSETS[subset].method == "real" or SUBSETS[subset].media == "image":
            continue
        for record in found.values():
            missing = [person for person in people_of(record.sample_id) if person not in clips]
            # An archive may have fakes without their clips.
            severity: Severity = "note" if is_imported(record) else "error"
            findings += [
                Finding(
                    severity, "record", record.path, f"raw_video/{person}.mp4, which it was made from, is not there"
                )
                for person in missing
            ]
    return findings


def _check_identities(record: FileRecord, identities: dict[str, Identity], plan: Plan) -> list[Finding]:
    problems: list[tuple[Kind, str]] = []
    for identity in people_of(record.sample_id):
        if identity not in identities:
            problems.append(("plan", f"identity {identity} has no row in identities.csv"))
        elif identities[identity].consent_status != "granted":
            status = identities[identity].consent_status
            problems.append(("consent", f"consent of identity {identity} is '{status}'; take the person out"))
        if plan.folds and identity not in plan.folds:
            problems.append(("plan", f"identity {identity} has no fold; run `tooling plan`"))
    return [Finding("error", kind, record.path, message) for kind, message in problems]


def _check_fold(record: FileRecord, plan: Plan) -> list[Finding]:
    """A pair across folds is an error; an imported one is a note, it is in the split `crossing` alone."""
    people = people_of(record.sample_id)
    if len({plan.folds[identity] for identity in people if identity in plan.folds}) <= 1:
        return []
    message = f"identities {' and '.join(people)} lie in different folds"
    if is_imported(record):
        return [Finding("note", "plan", record.path, f"{message}: it is in the split {CROSSING} alone")]
    return [Finding("error", "plan", record.path, message)]


def check_folders(workspace: Workspace, records: Records) -> list[Finding]:
    """Files that no record names, and notes of those that no workspace has: a takedown does not know whose they are."""
    known = {*workspace.excerpts(), *(kind.pattern for kind in KINDS)}  # tables have one name each
    for found in records.values():
        for record in found.values():
            known |= {record.path, *record.companions}
    folders = tuple({f"{kind.folder.partition('/')[0]}/" for kind in KINDS if kind.owner == "named"})
    names = list(workspace.files())
    findings = [
        Finding("error", "record", name, "has no record; remove it or import it")
        for name in names
        if name.startswith(folders) and name not in known
    ]
    message = "is not a file of a workspace: verification and takedown cannot tell whose it is; move it elsewhere"
    others = unknown_paths(workspace, [name for name in names if not name.startswith(folders)])
    return findings + [Finding("note", "record", name, message) for name in others]


def check_inputs(records: Records) -> list[Finding]:
    """Fakes and crops made from a clip or track that has changed since."""
    now: dict[str, str] = {}
    for found in records.values():
        for record in found.values():
            now[record.path] = record.input_sha256
            now |= record.companions
    findings = []
    for found in records.values():
        for record in found.values():
            stale = [name for name in record.inputs.keys() & now.keys() if now[name] != record.inputs[name]]
            if stale:
                older = listed(sorted(stale, key=natural_key), 1)
                message = f"was made from an older {older}; run {command_for(record.subset)} again"
                findings.append(Finding("error", "record", record.path, message))
    return findings + _check_tracks(records)


def _check_tracks(records: Records) -> list[Finding]:
    """Fakes made by the track of an older clip, which lies beside the faces of the present one."""
    stale = stale_tracks(records["raw_video"], records["face_video"])
    return [
        Finding(
            "error",
            "record",
            record.path,
            f"was made by {track}, which is of an older {stale[track]}; "
            f"run `tooling faces`, then `tooling generate {record.subset}`",
        )
        for found in records.values()
        for record in found.values()
        for track in sorted(record.inputs.keys() & stale.keys())
    ]


def check_counts(records: Records, plan: Plan) -> list[Finding]:
    """Subsets that are smaller or larger than in the catalogue, beyond what is left out."""
    left_out = Counter(name.partition("/")[0] for name in plan.left_out)
    return [
        Finding("note", "coverage", subset, f"{len(found)} of the catalogue's {SUBSETS[subset].count} files")
        for subset, found in records.items()
        if len(found) + left_out[subset] != SUBSETS[subset].count
    ]
