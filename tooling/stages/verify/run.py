"""One verification: every file against its record and its subset's contract; each finding once, sorted.

A file without an error in the last verification is not decoded again if neither it nor anything that it is compared
with has changed: its digest is compared, unless it was not written since. Files of which none has changed are not
compared with each other again. An interrupted run keeps what it has checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from generation.faces.installed import installed_weights
from homologous_deepfake import SUBSETS, people_of
from tooling.errors import InputError, VerificationError, WorkspaceError
from tooling.stages.verify.check_store import CheckStore
from tooling.stages.verify.file_check import split_of_file
from tooling.stages.verify.people import Records, check_counts, check_folders, check_inputs, check_people
from tooling.stages.verify.state import IMAGES_AT_ONCE, CheckContext, CheckItem, EncoderChoice, Verification
from tooling.stages.verify.table import check_digest, is_listed, read_known, read_states, state_of
from tooling.work.engine import LOCAL, Engine, Progress, no_progress, run_side_by_side
from tooling.workspace.files import file_sha256, wait_for_clock
from tooling.workspace.layout import Workspace
from tooling.workspace.plan_file import Plan
from tooling.workspace.records import natural_key
from tooling.workspace.signing_keys import CERTIFICATE, read_keys
from tooling.workspace.verification_file import Finding, Summary, read_summary, write_states

ENCODER_FILES = ("identity.onnx", "w600k_r50.onnx", "arcface_w600k_r50.onnx")
FEW_ITEMS = 4  # that are read sooner than workers are started


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
    splits = {record.path: split_of_file(record, plan) for found in records.values() for record in found.values()}
    digests = _digests(workspace, records, context.encoder, root)
    began_ns = wait_for_clock(_folders_of(workspace, records))
    state = Verification(workspace, records, context, digests, checks, splits, began_ns)
    known = None if options.recheck_all else _known_findings(state, num_workers, engine, progress)
    of_files = known or _check_all(state, options, num_workers, engine, progress)
    progress(len(state.all_records), len(state.all_records), "")
    workspace.drop_excerpts(state.all_records)
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


def _check_all(
    state: Verification, options: VerifyOptions, num_workers: int, engine: Engine, progress: Progress
) -> Summary:
    from tooling.stages.verify.checking import check_all  # loads the decoders

    return check_all(state, options.recheck_all, num_workers, engine, progress)


def _known_findings(state: Verification, num_workers: int, engine: Engine, progress: Progress) -> Summary | None:
    """What the last verification found in the files, if they are as they were; None if any of them is not.

    Only files that were written since are read, for their digests: a copy of a workspace is one of the same files.
    """
    workspace, records = state.workspace, state.all_records
    summary, states = read_summary(workspace), read_states(workspace, state.digests)
    if summary is None or states is None or summary.digest != state.digest:
        return None
    now = {record.path: state_of(workspace, record, state.began_ns) for record in records}
    written = [record for record in records if not now[record.path] or now[record.path] != states[record.path]]
    done = len(records) - len(written)
    progress(done, len(records), "")
    if not written:
        return summary
    from tooling.stages.verify.group import check_group  # loads the decoders

    starts = range(0, len(written), IMAGES_AT_ONCE)
    items = [
        CheckItem(workspace, state.context, (), tuple(written[start : start + IMAGES_AT_ONCE])) for start in starts
    ]
    num_workers = num_workers if len(items) > FEW_ITEMS else 1
    for outcome in run_side_by_side(check_group, items, num_workers=num_workers, engine=engine, workspace=workspace):
        if outcome.error or outcome.value:
            return None
        done += len(outcome.item.paths)
        progress(done, len(records), outcome.item.paths[-1])
    write_states(workspace, {record.path: now[record.path] for record in written})
    return summary


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
    return "dlib" if installed_weights() else None


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


def _folders_of(workspace: Workspace, records: Records) -> set[str]:
    """The folders that files and their companions were moved into."""
    of_files = (record for found in records.values() for record in found.values())
    names = {name.rpartition("/")[0] for record in of_files for name in (record.path, *record.companions)}
    return {f"{workspace.root}/{name}" for name in names}


def _digests(workspace: Workspace, records: Records, encoder: EncoderChoice | None, root: str) -> dict[str, str]:
    """Path -> digest of everything that the check of a file depends on."""
    clips = {record.path: record.sha256 for record in records["raw_video"].values()}
    tracks = {name: digest for record in records["face_video"].values() for name, digest in record.companions.items()}
    weights = encoder if isinstance(encoder, Path) else installed_weights()
    network = file_sha256(weights) if encoder and weights else ""
    digests = {}
    for found in records.values():
        for record in found.values():
            names = people_of(record.sample_id)
            beside = [clips.get(f"raw_video/{name}.mp4", "") for name in names]
            beside += [tracks.get(workspace.track_name(name), "") for name in names]
            digests[record.path] = check_digest(record, workspace.settings, *beside, root, network)
    return digests
