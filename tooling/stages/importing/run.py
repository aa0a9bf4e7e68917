"""import: the published archive, or fakes made by hand in an outside program, into the workspace.

Every member of the archive ends as imported, ignored or refused, with the reason; two members that mean the same
sample are both refused. A file that already is what its subset's files are is taken byte for byte. Any other is
refused with what differs, or, if asked for, encoded anew where that keeps every frame as it is; never resized, cut,
turned or retimed.
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
from tooling.stages.importing.intake import Work, take_file
from tooling.stages.importing.names import Sample, is_identities, read_name
from tooling.work.engine import Progress, no_progress
from tooling.work.tasks import Task, make_files, wanted_record
from tooling.workspace.files import naming_full_disk, write_text
from tooling.workspace.identities import format_identities, read_identities
from tooling.workspace.layout import IMPORTING, Workspace
from tooling.workspace.records import FileRecord, StageResult

PUBLISHED = "published-archive"  # generator of what comes without a program's name
PUBLISHED_FACTOR = 2.0  # of every edited clip of the published archive
BATCH_BYTES = 2_000_000_000  # unpacked at a time
MAX_TABLE_BYTES = 1 << 20


@dataclass
class ImportResult(StageResult):
    """What became of an archive. Names of members are as `Member.name`.

    Attributes:
        refused: member -> why it was not imported.
        ignored: member -> why it is no part of the dataset.
        imported: member -> path in the workspace; made and kept name the same files by sample_id.
        encoded_anew: sample_ids that are not the archive's bytes.
        notes: what a person should know: rows of identities.csv that were not taken, names read in another encoding.
        counts: subset -> files "imported", "in_workspace" and in the "catalogue".
    """

    ignored: dict[str, str] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    encoded_anew: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def read_as(self) -> dict[str, str]:
        """Imported members whose name is not simply that of the file, perhaps below a top folder."""
        return {name: path for name, path in self.imported.items() if not f"/{name}".endswith(f"/{path}")}


@dataclass(frozen=True)
class Options:
    """How an archive is imported.

    Attributes:
        subset: only this one, whose files then need no folder of its name; None takes all by their folders.
        generator: the outside program that made the fakes of `subset`; None for the published archive.
        is_reencoding: whether files that differ in their encoding only are encoded anew.
        limits: None takes the defaults.
    """

    subset: str | None = None
    generator: str | None = None
    is_reencoding: bool = False
    limits: Limits | None = None


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
    """Imports an archive; see `Options` for subset, generator, reencode and limits.

    Rows of an identities.csv in the archive are added to the workspace's; where both have a row for a person, the
    workspace's stays. People without a row, without granted consent or taken down are refused with their files.

    Raises:
        UsageError: unknown subset, or fakes of one subset without the name of their program.
        InputError: no archive, damaged as a whole, beyond the limits, or the workspace itself.
    """
    options = Options(subset, generator, reencode, limits)
    _check_options(options)
    place = archive.resolve()
    if place == workspace.root or workspace.root in place.parents or place in workspace.root.parents:
        raise InputError(f"{archive}: lies in the workspace or holds it; name a folder or archive elsewhere")
    listed = open_archive(archive, limits)
    unpacked = workspace.root / IMPORTING
    shutil.rmtree(unpacked, ignore_errors=True)  # of a killed run
    unpacked.mkdir()
    try:
        with naming_full_disk(workspace.root):
            result = ImportResult()
            samples = _read_names(listed, options, result)
            _take_identities(workspace, listed, result)
            _refuse_people(workspace, listed, samples, result)
            _refuse_collisions(listed, samples, result)
            _import_all(_Import(workspace, listed, samples, options, result), num_workers, progress)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    for name in [subset] if subset else SUBSETS:
        num_imported = sum(path.startswith(f"{name}/") for path in result.imported.values())
        num_there = len(workspace.records(name))
        counts = {"imported": num_imported, "in_workspace": num_there, "catalogue": SUBSETS[name].count}
        result.counts[name] = counts
    return result


def _check_options(options: Options) -> None:
    subset, generator = options.subset, options.generator
    if subset is not None and subset not in SUBSETS:
        raise UsageError(f"{subset}: is no subset; use one of {', '.join(SUBSETS)}")
    if generator is not None and (not generator.strip() or not generator.isprintable()):
        raise UsageError("the generator's name is empty or not printable; name the program, as in --generator swapface")
    if generator is not None and subset is None:
        raise UsageError(f"{generator}: belongs to one subset; name it too, as in --subset swap_video")
    if subset is not None and generator is None and SUBSETS[subset].method != "real":
        raise UsageError(f"{subset}: name the program that made these fakes, as in --generator swapface")


def _read_names(listed: Archive, options: Options, result: ImportResult) -> dict[int, Sample]:
    """Members that name a sample; the others are told in the result, but for the table of identities."""
    samples = {}
    for member in listed.members:
        if member.problem:
            result.refused[member.name] = f"{member.problem}; left out"
            continue
        if is_identities(member.parts):
            continue
        if member.note:
            result.notes.append(f"{member.name}: {member.note}")
        meant = read_name(member.parts, options.subset)
        if isinstance(meant, Sample):
            samples[member.number] = meant
        else:
            (result.ignored if meant.is_ignored else result.refused)[member.name] = meant.reason
    return samples


def _take_identities(workspace: Workspace, listed: Archive, result: ImportResult) -> None:
    """Adds the rows of the archive's identities.csv for people whom the workspace does not know."""
    tables = [member for member in listed.members if not member.problem and is_identities(member.parts)]
    if len(tables) > 1:
        others = "is one of several tables of identities; keep one"
        result.refused |= {member.name: others for member in tables}
        return
    for member in tables:
        if member.num_bytes > MAX_TABLE_BYTES:
            result.refused[member.name] = "is too large for a table of identities"
            continue
        (unpacked,) = listed.unpack({member.number}, workspace.root / IMPORTING)
        try:
            if unpacked.problem:
                raise InputError(unpacked.problem)
            _add_rows(workspace, member, unpacked.path, result)
        except InputError as error:
            result.refused[member.name] = str(error).replace(str(unpacked.path), member.name)
        else:
            result.imported[member.name] = workspace.identities_path.name


def _add_rows(workspace: Workspace, member: Member, table: Path, result: ImportResult) -> None:
    offered, taken_down = read_identities(table), workspace.tombstones()
    known = workspace.identities() if workspace.identities_path.exists() else {}
    for name, row in offered.items():
        if name in taken_down:
            result.notes.append(f"{member.name}: identity {name} was taken down; its row was not taken")
        elif name in known and known[name] != row:
            status = f"consent '{known[name].consent_status}', not '{row.consent_status}'"
            result.notes.append(f"{member.name}: the workspace's own row of identity {name} stays ({status})")
    new = {name: row for name, row in offered.items() if name not in known and name not in taken_down}
    if new:
        write_text(workspace.identities_path, format_identities({**known, **new}))


def _refuse_people(workspace: Workspace, listed: Archive, samples: dict[int, Sample], result: ImportResult) -> None:
    identities = workspace.identities() if workspace.identities_path.exists() else {}
    taken_down = workspace.tombstones()
    for number, sample in list(samples.items()):
        for person in sample.people:
            if person in taken_down:
                reason = f"identity {person} was taken down on {taken_down[person]}; take it out, it stays out"
            elif person not in identities:
                reason = f"identity {person} has no row in identities.csv; add it, in the archive or the workspace"
            elif identities[person].consent_status != "granted":
                status = identities[person].consent_status
                reason = f"consent of identity {person} is '{status}'; only 'granted' may be used"
            else:
                continue
            result.refused[listed.members[number].name] = reason
            samples.pop(number)
            break


def _refuse_collisions(listed: Archive, samples: dict[int, Sample], result: ImportResult) -> None:
    by_sample: dict[str, list[int]] = {}
    for number, sample in samples.items():
        by_sample.setdefault(sample.path, []).append(number)
    for path, numbers in by_sample.items():
        for number in numbers if len(numbers) > 1 else ():
            others = ", ".join(listed.members[other].name for other in numbers if other != number)
            result.refused[listed.members[number].name] = f"means {path}, and so does {others}; keep one of them"
            samples.pop(number)


@dataclass
class _Import:
    """One import under way."""

    workspace: Workspace
    listed: Archive
    samples: dict[int, Sample]
    options: Options
    result: ImportResult
    num_done: int = 0


def _import_all(work: _Import, num_workers: int, progress: Progress) -> None:
    total = len(work.samples)
    progress(0, total, "")
    for batch in _batches(work.listed.unpack(work.samples, work.workspace.root / IMPORTING)):
        for subset in SUBSETS:
            files = [file for file in batch if work.samples[file.member.number].subset == subset]
            if not files:
                continue
            tasks = _tasks(work, subset, files)
            before = work.num_done

            def told(done: int, of_batch: int, name: str, before: int = before) -> None:
                if name:
                    progress(before + done, total, name)

            made = make_files(work.workspace, subset, tasks, take_file, num_workers=num_workers, progress=told)
            work.num_done += len(files)
            _note(work, subset, files, made)
        for file in batch:
            file.path.unlink(missing_ok=True)
    progress(total, total, "")


def _batches(files: Iterable[Unpacked]) -> Iterator[list[Unpacked]]:
    batch: list[Unpacked] = []
    for file in files:
        batch.append(file)
        if sum(other.num_bytes for other in batch) >= BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _tasks(work: _Import, subset: str, files: list[Unpacked]) -> list[Task]:
    """One task for each file that was unpacked and takes nobody's place."""
    workspace, options = work.workspace, work.options
    records, tasks = workspace.records(subset), []
    for file in files:
        member, sample = file.member, work.samples[file.member.number]
        wanted = wanted_record(
            sample.sample_id,
            sample.path,
            {member.name.rpartition("/")[2]: file.sha256},
            options.generator or PUBLISHED,
            _parameters(sample, options),
            origin="imported",
        )
        problem = file.problem or _taken_place(workspace, wanted, records)
        if problem:
            work.result.refused[member.name] = problem
            continue
        results = {"archive": work.listed.path.name, "member": member.name}
        contract = _contract(workspace, subset)
        tasks.append(Task(wanted, Work(file.path, member.name, contract, options.is_reencoding, results)))
    return tasks


def _parameters(sample: Sample, options: Options) -> dict[str, Any]:
    parameters: dict[str, Any] = {"imported": True}
    if sample.attribute:
        parameters["attribute"] = sample.attribute
        parameters |= {"factor": PUBLISHED_FACTOR} if options.generator is None else {}
    return parameters


def _contract(workspace: Workspace, subset: str) -> VideoContract | None:
    if SUBSETS[subset].media == "image":
        return None
    clip = workspace.settings.clip
    return VideoContract(workspace.settings.video_size(subset), clip.num_frames, clip.fps)


def _taken_place(workspace: Workspace, wanted: FileRecord, records: dict[str, FileRecord]) -> str:
    """Why an import may not write a file: the workspace has another one there. A lost file may come back."""
    if not workspace.path(wanted.path).exists() or workspace.find_finished(wanted, records):
        return ""
    record = records.get(wanted.sample_id)
    if record is None:
        return ""  # published by a run that was killed before it recorded it
    if all(getattr(record, name) == getattr(wanted, name) for name in ("inputs", "generator", "parameters")):
        return ""  # this very member, but the file was damaged since
    return f"the workspace has another {wanted.path}, from '{record.generator}'; delete that file first to replace it"


def _note(work: _Import, subset: str, files: list[Unpacked], made: StageResult) -> None:
    """Turns what a stage's engine tells by sample_id into what became of each member."""
    records = work.workspace.records(subset)
    work.result.made += made.made
    work.result.kept += made.kept
    done = {*made.made, *made.kept}
    for file in files:
        sample_id, name = work.samples[file.member.number].sample_id, file.member.name
        if sample_id in made.refused:
            work.result.refused[name] = made.refused[sample_id].replace(str(file.path), name)
        elif sample_id in done:
            work.result.imported[name] = work.samples[file.member.number].path
            if records[sample_id].results.get("media") == "encoded anew":
                work.result.encoded_anew.append(sample_id)
