"""Decoding the files that are not known to be as they were, and comparing all of them with each other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from homologous_deepfake import SUBSETS, people_of
from tooling.errors import DiskFullError
from tooling.stages.verify.duplicates import check_duplicates, name_real_clips
from tooling.stages.verify.file_check import is_image
from tooling.stages.verify.group import check_group
from tooling.stages.verify.meters.mouths import check_motion
from tooling.stages.verify.meters.recognition import check_identities, load_encoder
from tooling.stages.verify.state import IMAGES_AT_ONCE, CheckItem, Verification
from tooling.stages.verify.table import read_known
from tooling.work.engine import Engine, Progress, run_side_by_side
from tooling.work.outcome import Outcome
from tooling.workspace.records import FileRecord, natural_key
from tooling.workspace.verification_file import Finding, Summary

SECONDS_BETWEEN_WRITES = 30.0
SHARE_OF_WRITES = 0.05  # of the time, at most: the table grows while it is written from time to time


def check_all(
    state: Verification, is_everything: bool, num_workers: int, engine: Engine, progress: Progress
) -> Summary:
    """Decodes what is not known, and compares all files with each other.

    Args:
        state: takes the checks.
        is_everything: whether files are decoded that are known to be as they were.
        num_workers, engine, progress: see `verify_files`.

    Raises:
        GenerationError: the identity encoder is none.
    """
    workspace, checks, encoder = state.workspace, state.checks, state.context.encoder
    if isinstance(encoder, Path):
        load_encoder(encoder)  # which raises what is wrong with it
        engine = replace(engine, needed=(encoder,))
    for check in () if is_everything else read_known(workspace, state.digests):
        checks.keep(check)
    groups = _groups(state, set(checks))
    work = run_side_by_side(check_group, groups, num_workers=num_workers, engine=engine, workspace=workspace)
    _check_files(state, work, progress)
    progress(len(state.all_records), len(state.all_records), "comparing files with each other")
    # A file's own findings first: comparing files adds to their measurements, not to these.
    findings = [finding for check in checks.values() for finding in check.findings]
    return Summary(state.digest, findings + _compare_files(state) + _unmeasured(state))


def _groups(state: Verification, known: set[str]) -> list[CheckItem]:
    """Files that are decoded together: all of one target; images by IMAGES_AT_ONCE.

    Images are spread evenly between people: a video takes as long as hundreds of them, and the files that are left
    shall tell the time that is left.
    """
    by_person: dict[str, list[FileRecord]] = {}
    images: list[FileRecord] = []
    for record in state.all_records:
        if is_image(record):
            images.append(record)
        else:
            by_person.setdefault(people_of(record.sample_id)[0], []).append(record)
    clips = state.records["raw_video"]
    of_people = [
        _group(state, by_person[person], known, clips.get(f"raw_video/{person}"))
        for person in sorted(by_person, key=natural_key)
    ]
    starts = range(0, len(images), IMAGES_AT_ONCE)
    of_images = [_group(state, images[start : start + IMAGES_AT_ONCE], known, None) for start in starts]
    places = [(at / len(groups), group) for groups in (of_people, of_images) for at, group in enumerate(groups)]
    return [group for _, group in sorted(places, key=lambda place: place[0])]


def _group(state: Verification, files: Sequence[FileRecord], known: set[str], clip: FileRecord | None) -> CheckItem:
    checked = tuple(record for record in files if record.path not in known)
    unchanged = tuple(record for record in files if record.path in known)
    return CheckItem(state.workspace, state.context, checked, unchanged, clip)


def _check_files(state: Verification, outcomes: Iterator[Outcome], progress: Progress) -> None:
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


def _compare_files(state: Verification) -> list[Finding]:
    """What only many files together show."""
    records = {record.path: record for record in state.all_records}
    shown = check_duplicates(state.checks, state.splits) + name_real_clips(state.checks, records)
    if state.context.encoder is not None:
        shown += check_identities(state.checks, records, state.context.encoder)
    return shown + check_motion(state.checks, records)


def _unmeasured(state: Verification) -> list[Finding]:
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
    if fakes and state.context.encoder is None:
        remedy = (
            "run `pip install 'homologous-deepfake[identity]'`, or hand in an ArcFace network by --identity-encoder, "
            "or put it at models/identity/identity.onnx"
        )
        findings.append(
            Finding("note", "coverage", fakes[0].subset, f"whose face a fake shows was not measured; {remedy}")
        )
    return findings
