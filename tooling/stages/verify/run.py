"""One verification: every file against its record and its subset's contract; each finding once, sorted.

A file without an error in the last verification is not decoded again if neither it nor anything that it is compared
with has changed: its digest is compared, unless it was not written since. Files of which none has changed are not
compared with each other again. An interrupted run keeps what it has checked.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from generation.faces.identity import DlibIdentity
from homologous_deepfake import SUBSETS, people_of
from tooling.errors import DiskFullError, InputError, VerificationError, WorkspaceError
from tooling.stages.verify.check_store import CheckStore
from tooling.stages.verify.duplicates import check_duplicates, name_real_clips
from tooling.stages.verify.file_check import contract_of, is_image, split_of_file
from tooling.stages.verify.group import CheckContext, CheckItem, check_group
from tooling.stages.verify.meters.mouths import check_motion
from tooling.stages.verify.meters.recognition import EncoderChoice, check_identities, load_encoder
from tooling.stages.verify.people import Records, check_counts, check_folders, check_inputs, check_people
from tooling.stages.verify.table import check_digest, is_listed, read_known, read_states, state_of, write_table
from tooling.views.excerpts import drop_excerpts
from tooling.work.engine import LOCAL, Engine, Progress, no_progress, run_side_by_side
from tooling.work.outcome import Outcome
from tooling.workspace.files import file_sha256
from tooling.workspace.layout import TICK_NS, Workspace
from tooling.workspace.plan_file import Plan
from tooling.workspace.records import FileRecord, natural_key
from tooling.workspace.signing_keys import CERTIFICATE, read_keys
from tooling.workspace.verification_file import Finding, Summary, read_summary, write_states

ENCODER_FILES = ("identity.onnx", "w600k_r50.onnx", "arcface_w600k_r50.onnx")
IMAGES_AT_ONCE = 32
FEW_ITEMS = 4  # that are read sooner than workers are started
SECONDS_BETWEEN_WRITES = 30.0
SHARE_OF_WRITES = 0.05  # of the time, at most: the table grows while it is written from time to time


@dataclass(frozen=True)
class VerifyOptions:
    """How to verify.

    Attributes:
        recheck_all: decodes all files, also unchanged ones without an error in the last verification.
        identity_encoder: ONNX file or its folder; None takes models/identity/ of the workspace if it is there, else
            dlib's network if it is installed.
    """

    recheck_all: bool = False
    identity_encoder: Path | None = None


@dataclass
class _Verification:
    """One run, and what is known of each file by path."""

    workspace: Workspace
    records: Records
    digests: Mapping[str, str]
    checks: CheckStore
    broken: list[Finding] = field(default_factory=list)
    splits: Mapping[str, str] = field(default_factory=dict)
    began_ns: int = field(default_factory=lambda: time.time_ns() - TICK_NS)

    @property
    def all_records(self) -> list[FileRecord]:
        return [record for found in self.records.values() for record in found.values()]

    @property
    def is_sound(self) -> bool:
        """Whether every file was checked, and none has an error by itself: such a file is checked again."""
        return len(self.checks) == len(self.all_records) and all(check.is_ok for check in self.checks.values())

    @property
    def digest(self) -> str:
        """Of everything that the findings of all files depend on."""
        parts = [sorted(self.digests.items()), sorted(self.splits.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def write(self, findings: Sequence[Finding] | None, summary: Summary | None = None) -> None:
        given = self.workspace, self.all_records, findings, self.checks, self.digests
        write_table(*given, before_ns=self.began_ns, summary=summary)


def verify_files(
    workspace: Workspace,
    options: VerifyOptions | None = None,
    *,
    num_workers: int = 0,
    engine: Engine = LOCAL,
    progress: Progress = no_progress,
) -> list[Finding]:
    """Verifies the workspace and writes verification.parquet.

    Args:
        workspace: held by the caller's lock.
        options: None takes the defaults.
        num_workers: processes; 0 takes one for each processor.
        engine: where files are checked.
        progress: called for each checked file.

    Returns:
        All findings, errors first, in natural order of their paths.

    Raises:
        InputError: the requested identity encoder is not there.
        GenerationError: it is not an identity encoder.
    """
    with closing(CheckStore(workspace.staging_folder)) as checks:
        findings = _verify(workspace, options or VerifyOptions(), checks, num_workers, engine, progress)
    workspace.clear_staging()
    return findings


def _verify(
    workspace: Workspace,
    options: VerifyOptions,
    checks: CheckStore,
    num_workers: int,
    engine: Engine,
    progress: Progress,
) -> list[Finding]:
    records = {subset: workspace.records(subset) for subset in SUBSETS}
    plan = workspace.plan() or Plan(seed=0)
    findings, root = _read_root(workspace)
    context = CheckContext(
        clips=frozenset(record.path for record in records["raw_video"].values()),
        has_keys=bool(root),
        encoder=_choose_encoder(options.identity_encoder, workspace.models_path),
    )
    state = _Verification(workspace, records, _digests(workspace, records, context, root), checks)
    state.splits = {record.path: split_of_file(record, plan) for record in state.all_records}
    known = None if options.recheck_all else _known_findings(state, context, num_workers, engine, progress)
    of_files = known or _check_all(state, context, options, num_workers, engine, progress)
    progress(len(state.all_records), len(state.all_records), "")
    drop_excerpts(workspace, state.all_records)
    findings += check_people(workspace, records, plan) + check_folders(workspace, records)
    findings += check_inputs(records) + check_counts(records, plan) + state.broken + of_files.findings
    findings = sorted(
        set(findings), key=lambda found: (found.severity, natural_key(found.path), found.message, found.kind)
    )
    if known is None:
        state.write(findings, of_files if state.is_sound else None)
    elif not is_listed(workspace, state.all_records, findings):
        for check in read_known(workspace, state.digests):
            checks.keep(check)
        state.write(findings, known)
    return findings


def _known_findings(
    state: _Verification, context: CheckContext, num_workers: int, engine: Engine, progress: Progress
) -> Summary | None:
    """What the last verification found in the files, if they are as they were; None if any of them is not.

    Only files that were written since are read, for their digests: a copy of a workspace is one of the same files.
    """
    workspace, records = state.workspace, state.all_records
    summary, states = read_summary(workspace), read_states(workspace, state.digests)
    if summary is None or states is None or summary.digest != state.digest:
        return None
    now = {record.path: state_of(workspace, record, state.began_ns) for record in records}
    written = [record for record in records if not now[record.path] or now[record.path] != states[record.path]]
    starts = range(0, len(written), IMAGES_AT_ONCE)
    items = [CheckItem(workspace, context, (), tuple(written[start : start + IMAGES_AT_ONCE])) for start in starts]
    done = len(records) - len(written)
    progress(done, len(records), "")
    num_workers = num_workers if len(items) > FEW_ITEMS else 1
    for outcome in run_side_by_side(check_group, items, num_workers=num_workers, engine=engine, workspace=workspace):
        if outcome.error or outcome.value:
            return None
        done += len(outcome.item.paths)
        progress(done, len(records), outcome.item.paths[-1])
    if written:
        write_states(workspace, {record.path: now[record.path] for record in written})
    return summary


def _check_all(
    state: _Verification,
    context: CheckContext,
    options: VerifyOptions,
    num_workers: int,
    engine: Engine,
    progress: Progress,
) -> Summary:
    """Decodes what is not known, and compares all files with each other."""
    workspace, checks = state.workspace, state.checks
    if isinstance(context.encoder, Path):
        load_encoder(context.encoder)  # which raises what is wrong with it
        engine = replace(engine, needed=(context.encoder,))
    for check in () if options.recheck_all else read_known(workspace, state.digests):
        checks.keep(check)
    groups = _groups(workspace, state.records, context, set(checks))
    work = run_side_by_side(check_group, groups, num_workers=num_workers, engine=engine, workspace=workspace)
    _check_files(state, work, progress)
    progress(len(state.all_records), len(state.all_records), "comparing files with each other")
    # A file's own findings first: comparing files adds to their measurements, not to these.
    findings = [finding for check in checks.values() for finding in check.findings]
    return Summary(state.digest, findings + _compare_files(state, context) + _unmeasured(state, context))


def raise_for_errors(findings: Sequence[Finding]) -> None:
    """Raises the first error with the number of all.

    Raises:
        VerificationError: there is at least one error.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f" ({len(errors)} errors in all)" if len(errors) > 1 else ""
        raise VerificationError(f"{errors[0].path}: {errors[0].message}{more}; correct that and verify again")


def _choose_encoder(requested: Path | None, models: Path) -> EncoderChoice | None:
    """The ONNX file that is requested, or that of the workspace, or dlib's network; None if there is none."""
    folder = requested or models / "identity"
    files = [folder] if folder.is_file() else [folder / name for name in ENCODER_FILES]
    found = next((file for file in files if file.is_file()), None)
    if found is None and requested is not None:
        raise InputError(f"{requested}: no identity encoder; hand in an ONNX file, or a folder with {ENCODER_FILES[0]}")
    if found is not None:
        return found
    return "dlib" if DlibIdentity.is_installed() else None


def _read_root(workspace: Workspace) -> tuple[list[Finding], str]:
    """What marks are checked by, "" without keys; an error if there are none, a note if their time is over."""
    name = workspace.keys_path.name
    try:
        keys = read_keys(workspace.keys_path)
    except (WorkspaceError, InputError) as error:
        return [Finding("error", "marks", name, f"marks were not checked: {error}")], ""
    problem = keys.validity_problem()
    notes = [
        Finding("note", "marks", f"{name}/{CERTIFICATE}", f"{problem}; files without an error are as they were signed")
    ]
    return (
        notes if problem else [],
        f"{keys.root.hex()} {keys.serial_number} {workspace.settings.keys.timestamp_server}",
    )


def _digests(workspace: Workspace, records: Records, context: CheckContext, root: str) -> dict[str, str]:
    """Path -> digest of everything that the check of a file depends on."""
    clips = {record.path: record.sha256 for record in records["raw_video"].values()}
    tracks = {name: digest for record in records["face_video"].values() for name, digest in record.companions.items()}
    encoder = ""
    if context.encoder is not None:
        encoder = file_sha256(context.encoder if isinstance(context.encoder, Path) else DlibIdentity.weights_path())
    digests = {}
    for subset, found in records.items():
        for record in found.values():
            names = people_of(record.sample_id)
            beside = [clips.get(f"raw_video/{name}.mp4", "") for name in names]
            beside += [tracks.get(workspace.track_name(name), "") for name in names]
            digests[record.path] = check_digest(record, contract_of(workspace, subset), *beside, root, encoder)
    return digests


def _groups(workspace: Workspace, records: Records, context: CheckContext, known: set[str]) -> Iterator[CheckItem]:
    """Files that are decoded together: all of one target; images by IMAGES_AT_ONCE."""
    by_person: dict[str, list[FileRecord]] = {}
    images: list[FileRecord] = []
    for found in records.values():
        for record in found.values():
            if is_image(record):
                images.append(record)
            else:
                by_person.setdefault(people_of(record.sample_id)[0], []).append(record)
    clips = records["raw_video"]
    for person in sorted(by_person, key=natural_key):
        yield _group(workspace, context, by_person[person], known, clips.get(f"raw_video/{person}"))
    for start in range(0, len(images), IMAGES_AT_ONCE):
        yield _group(workspace, context, images[start : start + IMAGES_AT_ONCE], known, None)


def _group(
    workspace: Workspace,
    context: CheckContext,
    files: Sequence[FileRecord],
    known: set[str],
    clip: FileRecord | None,
) -> CheckItem:
    checked = tuple(record for record in files if record.path not in known)
    unchanged = tuple(record for record in files if record.path in known)
    return CheckItem(workspace, context, checked, unchanged, clip)


def _check_files(state: _Verification, outcomes: Iterator[Outcome], progress: Progress) -> None:
    """Every file by itself and beside its target; the table is written from time to time, and when interrupted."""
    total, done, is_ended = len(state.all_records), 0, False
    progress(0, total, "")
    due = time.monotonic() + SECONDS_BETWEEN_WRITES
    try:
        for outcome in outcomes:
            work: CheckItem = outcome.item
            if isinstance(outcome.error, DiskFullError):
                raise outcome.error
            if outcome.error:
                message = f"could not be checked: {outcome.error}"
                state.broken += [Finding("error", "unfinished", record.path, message) for record in work.checked]
            else:
                for check in outcome.value.values():
                    state.checks.keep(check)
            done += len(work.paths)
            progress(done, total, work.paths[-1])
            if (began := time.monotonic()) > due:
                state.write(None)
                ended = time.monotonic()
                due = ended + max(SECONDS_BETWEEN_WRITES, (ended - began) / SHARE_OF_WRITES)
        is_ended = True
    finally:
        if not is_ended:
            state.write(None)


def _compare_files(state: _Verification, context: CheckContext) -> list[Finding]:
    """What only many files together show."""
    records = {record.path: record for record in state.all_records}
    shown = check_duplicates(state.checks, state.splits) + name_real_clips(state.checks, records)
    if context.encoder is not None:
        shown += check_identities(state.checks, records, context.encoder)
    return shown + check_motion(state.checks, records)


def _unmeasured(state: _Verification, context: CheckContext) -> list[Finding]:
    """One note for each subset and thing that could not be measured."""
    notes = {
        "faces": "files are too small for faces to be detected",
        "step": "files: nothing moves outside of their masks, so whether they are in step was not measured",
        "settings": "files were encoded elsewhere, with other settings",
    }
    counts: dict[tuple[str, str], int] = {}
    for path, found in state.checks.items():
        for what in [*found.unmeasured, *["settings"] * found.is_other_settings]:
            key = path.partition("/")[0], what
            counts[key] = counts.get(key, 0) + 1
    findings = [Finding("note", "coverage", subset, f"{num} {notes[what]}") for (subset, what), num in counts.items()]
    fakes = [record for record in state.all_records if SUBSETS[record.subset].method != "real" and not is_image(record)]
    if fakes and context.encoder is None:
        remedy = (
            "run `pip install 'homologous-deepfake[identity]'`, or hand in an ArcFace network by --identity-encoder, "
            "or put it at models/identity/identity.onnx"
        )
        findings.append(
            Finding("note", "coverage", fakes[0].subset, f"whose face a fake shows was not measured; {remedy}")
        )
    return findings
