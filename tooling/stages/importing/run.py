"""import: the published archive, or fakes made elsewhere in another program, into the workspace.

Every member of the archive is imported, ignored or refused, with the reason. Two members that mean the same sample are
both refused. A file that meets the contract of its subset is taken byte for byte. Any other is refused with the
differences or, with --reencode, encoded again if that keeps every frame; none is resized, cropped, rotated or retimed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from generation.media.contract import VideoContract
from homologous_deepfake import SUBSETS
from tooling.errors import InputError, UsageError
from tooling.stages.importing.archive import Archive, Limits, Member, Unpacked, open_archive
from tooling.stages.importing.intake import REENCODED, ImportWork, take_file
from tooling.stages.importing.names import Sample, is_identities, read_name
from tooling.work.engine import Progress, no_progress
from tooling.work.tasks import Task, make_files, planned_record
from tooling.workspace.clutter import is_beside_video
from tooling.workspace.files import naming_full_disk, write_text
from tooling.workspace.identities import format_identities, read_identities
from tooling.workspace.layout import IMPORTING, Workspace
from tooling.workspace.records import FileRecord, StageResult

PUBLISHED = "published-archive"  # generator of files of the published archive
PUBLISHED_FACTOR = 2.0  # of every edited clip of the published archive
BATCH_BYTES = 2_000_000_000  # unpacked at a time
MAX_TABLE_BYTES = 1 << 20


@dataclass
class ImportResult(StageResult):
    """What became of an archive. Members are named by `Member.name`.

    Attributes:
        refused: member -> why it was not imported.
        ignored: member -> why it is not part of the dataset.
        imported: member -> path in the workspace; `made` and `kept` have the same files by sample_id.
        encoded_anew: sample_ids of files that were encoded again.
        notes: for the maintainer: rows of identities.csv that were not taken, names read in another encoding.
        counts: subset -> number of files "imported", "in_workspace" and in the "catalogue".
    """

    ignored: dict[str, str] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    encoded_anew: list[str] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def read_as(self) -> dict[str, str]:
        """Imported members whose name is not the path in the workspace, apart from folders above it."""
        return {name: path for name, path in self.imported.items() if not f"/{name}".endswith(f"/{path}")}


@dataclass
class _Import:
    """One import under way; `samples` has the members that may still be imported."""

    workspace: Workspace
    archive: Archive
    generator: str | None
    is_reencoding: bool
    samples: dict[Member, Sample] = field(default_factory=dict)
    result: ImportResult = field(default_factory=ImportResult)

    @property
    def folder(self) -> Path:
        return self.workspace.root / IMPORTING

    def refuse(self, member: Member, reason: str) -> None:
        self.samples.pop(member, None)
        self.result.refused[member.name] = reason


def import_files(
    workspace: Workspace,
    archive: Path,
    *,
    subset: str | None = None,
    generator: str | None = None,
    reencode: bool = False,
    limits: Limits | None = None,
    num_workers: int = 0,
    progress: Progress = no_progress,
) -> ImportResult:
    """Imports an archive.

    Rows of an identities.csv in the archive are added to the workspace's; where both have a row for a person, the
    workspace's stays. Files of people without a row, without granted consent or taken down are refused.

    Args:
        workspace: locked by the caller.
        archive: zip, tar or folder.
        subset: imports only its files, which then need no folder of its name; None takes all, by their folders.
        generator: the program that made the fakes of `subset`; None for the published archive.
        reencode: whether files that differ only in their encoding are encoded again.
        limits: None takes the defaults.
        num_workers: processes; 0 means one per processor.
        progress: called after each file.

    Raises:
        UsageError: unknown subset, or fakes of one subset without the name of their program.
        InputError: not an archive, damaged as a whole, beyond the limits, or in the workspace.
    """
    _check_request(subset, generator)
    path = archive.resolve()
    if path == workspace.root or workspace.root in path.parents or path in workspace.root.parents:
        raise InputError(f"{archive}: is in the workspace or contains it; give a folder or archive elsewhere")
    job = _Import(workspace, open_archive(archive, limits), generator, reencode)
    shutil.rmtree(job.folder, ignore_errors=True)  # of a killed run
    job.folder.mkdir()
    try:
        with naming_full_disk(workspace.root):
            _read_names(job, subset)
            _take_identities(job)
            _refuse_people(job)
            _refuse_collisions(job)
            _publish(job, num_workers, progress)
    finally:
        shutil.rmtree(job.folder, ignore_errors=True)
    for name in [subset] if subset else SUBSETS:
        num_imported = sum(path.startswith(f"{name}/") for path in job.result.imported.values())
        num_there = len(workspace.records(name))
        counts = {"imported": num_imported, "in_workspace": num_there, "catalogue": SUBSETS[name].count}
        job.result.counts[name] = counts
    return job.result


def _check_request(subset: str | None, generator: str | None) -> None:
    if subset is not None and subset not in SUBSETS:
        raise UsageError(f"{subset}: no such subset; use one of {', '.join(SUBSETS)}")
    if generator is not None and (not generator.strip() or not generator.isprintable()):
        raise UsageError("the generator's name is empty or not printable; name the program, as in --generator swapface")
    if generator is not None and subset is None:
        raise UsageError(f"{generator}: belongs to one subset; name it too, as in --subset swap_video")
    if subset is not None and generator is None and SUBSETS[subset].method != "real":
        raise UsageError(f"{subset}: name the program that made these fakes, as in --generator swapface")


def _read_names(job: _Import, subset: str | None) -> None:
    """Finds the members that name a sample; ignores or refuses the others, but for tables of identities.

    Raises:
        InputError: there is no member at all.
    """
    if not job.archive.members:
        raise InputError(f"{job.archive.path}: has no files in it; pack or copy it again")
    beside: dict[tuple[str, ...], list[str]] = {}
    for member in job.archive.members:
        beside.setdefault(member.parts[:-1], []).extend(member.parts[-1:])
    for member in job.archive.members:
        if member.problem:
            job.refuse(member, f"{member.problem}; left out")
            continue
        if is_identities(member.parts):
            continue
        if member.note:
            job.result.notes.append(f"{member.name}: {member.note}")
        meant = read_name(member.parts, subset)
        if isinstance(meant, Sample):
            job.samples[member] = meant
        elif meant.is_ignored:
            job.result.ignored[member.name] = meant.reason
        elif is_beside_video(member.parts[-1], beside[member.parts[:-1]]):
            job.result.ignored[member.name] = "lies beside a video of its name"
        else:
            job.refuse(member, meant.reason)


def _take_identities(job: _Import) -> None:
    """Adds the rows of the archive's identities.csv for people whom the workspace does not know."""
    tables = [member for member in job.archive.members if not member.problem and is_identities(member.parts)]
    if len(tables) > 1:
        for member in tables:
            job.refuse(member, "is one of several tables of identities; keep one")
        return
    for member in tables:
        if member.num_bytes > MAX_TABLE_BYTES:
            job.refuse(member, "is too large for a table of identities")
            continue
        (unpacked,) = job.archive.unpack([member], job.folder)
        try:
            if unpacked.problem:
                raise InputError(unpacked.problem)
            _add_rows(job, member, unpacked.path)
        except InputError as error:
            job.refuse(member, str(error).replace(str(unpacked.path), member.name))
        else:
            job.result.imported[member.name] = job.workspace.identities_path.name


def _add_rows(job: _Import, member: Member, table: Path) -> None:
    workspace, notes = job.workspace, job.result.notes
    offered, taken_down = read_identities(table), workspace.tombstones()
    known = workspace.identities() if workspace.identities_path.exists() else {}
    for name, row in offered.items():
        if name in taken_down:
            notes.append(f"{member.name}: identity {name} was taken down; its row was not taken")
        elif name in known and known[name] != row:
            status = f"consent '{known[name].consent_status}', not '{row.consent_status}'"
            notes.append(f"{member.name}: the workspace's own row of identity {name} stays ({status})")
    new = {name: row for name, row in offered.items() if name not in known and name not in taken_down}
    if new:
        write_text(workspace.identities_path, format_identities({**known, **new}))


def _refuse_people(job: _Import) -> None:
    """Refuses samples of people without a row, without granted consent or taken down."""
    identities = job.workspace.identities() if job.workspace.identities_path.exists() else {}
    taken_down = job.workspace.tombstones()
    for member, sample in list(job.samples.items()):
        for person in sample.people:
            status = identities[person].consent_status if person in identities else None
            if person in taken_down:
                reason = f"identity {person} was taken down on {taken_down[person]}; leave it out"
            elif status is None:
                reason = f"identity {person} has no row in identities.csv; add it, in the archive or the workspace"
            elif status != "granted":
                reason = f"consent of identity {person} is '{status}'; only 'granted' may be used"
            else:
                continue
            job.refuse(member, reason)
            break


def _refuse_collisions(job: _Import) -> None:
    """Refuses all members that mean the same sample."""
    by_path: dict[str, list[Member]] = {}
    for member, sample in job.samples.items():
        by_path.setdefault(sample.path, []).append(member)
    for path, members in by_path.items():
        for member in members if len(members) > 1 else ():
            others = ", ".join(other.name for other in members if other is not member)
            job.refuse(member, f"means {path}, and so does {others}; keep one of them")


def _publish(job: _Import, num_workers: int, progress: Progress) -> None:
    """Unpacks the samples in batches, takes or encodes them subset by subset, and publishes them."""
    total, num_done = len(job.samples), 0
    progress(0, total, "")
    for batch in _batches(job.archive.unpack(list(job.samples), job.folder)):
        for subset in SUBSETS:
            files = [file for file in batch if job.samples[file.member].subset == subset]
            if files:
                tasks = _tasks(job, subset, files)
                shown = _progress_after(num_done, total, progress)
                made = make_files(job.workspace, subset, tasks, take_file, num_workers=num_workers, progress=shown)
                num_done += len(files)
                _note(job, subset, files, made)
        for file in batch:
            file.path.unlink(missing_ok=True)
    progress(total, total, "")


def _progress_after(num_done: int, total: int, progress: Progress) -> Progress:
    """The progress of a part of the work, shown as that of the whole."""

    def show(done: int, _: int, name: str) -> None:
        if name:
            progress(num_done + done, total, name)

    return show


def _batches(files: Iterable[Unpacked]) -> Iterator[list[Unpacked]]:
    batch: list[Unpacked] = []
    for file in files:
        batch.append(file)
        if sum(other.num_bytes for other in batch) >= BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _tasks(job: _Import, subset: str, files: list[Unpacked]) -> list[Task]:
    """A task for each unpacked file; refuses files that could not be unpacked or would replace another one."""
    workspace, contract = job.workspace, None
    if SUBSETS[subset].media == "video":
        contract = VideoContract(*workspace.settings.video_shape(subset))
    records, tasks = workspace.records(subset), []
    for file in files:
        member, sample = file.member, job.samples[file.member]
        parameters: dict[str, Any] = {"imported": True}
        if sample.attribute:
            parameters["attribute"] = sample.attribute
            parameters |= {"factor": PUBLISHED_FACTOR} if job.generator is None else {}
        planned = planned_record(
            sample.sample_id,
            sample.path,
            {member.name.rpartition("/")[2]: file.sha256},
            job.generator or PUBLISHED,
            parameters,
            origin="imported",
        )
        problem = file.problem or _occupied(workspace, planned, records)
        if problem:
            job.result.refused[member.name] = problem
            continue
        results = {"archive": job.archive.path.name, "member": member.name}
        tasks.append(Task(planned, ImportWork(file.path, member.name, contract, job.is_reencoding, results)))
    return tasks


def _occupied(workspace: Workspace, planned: FileRecord, records: dict[str, FileRecord]) -> str:
    """Why a file may not be written: the workspace has another one of its name. "" if it may."""
    if not workspace.path(planned.path).exists() or workspace.find_finished(planned, records):
        return ""
    record = records.get(planned.sample_id)
    if record is None:
        return ""  # published by a run that was killed before it recorded it
    if all(getattr(record, name) == getattr(planned, name) for name in ("inputs", "generator", "parameters")):
        return ""  # this very member, but the file was damaged since
    return f"the workspace has another {planned.path}, from '{record.generator}'; delete that file first to replace it"


def _note(job: _Import, subset: str, files: list[Unpacked], made: StageResult) -> None:
    """Adds what `make_files` reports by sample_id to the result, by member."""
    result, records = job.result, job.workspace.records(subset)
    result.made += made.made
    result.kept += made.kept
    done = {*made.made, *made.kept}
    for file in files:
        sample, name = job.samples[file.member], file.member.name
        if sample.sample_id in made.refused:
            result.refused[name] = made.refused[sample.sample_id].replace(str(file.path), name)
        elif sample.sample_id in done:
            result.imported[name] = sample.path
            if records[sample.sample_id].results.get("media") == REENCODED:
                result.encoded_anew.append(sample.sample_id)
