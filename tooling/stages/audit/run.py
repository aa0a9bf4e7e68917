"""audit: whether trivial features separate real from fake: probes of every file, and how well each separates them.

Fakes among videos are compared with the raw clips of their targets, which have the same size and length. Generated
images have no real files of their kind: they are compared with frames of `face_video`, and only by probes that neither
format nor size decides. Results go to audit.json; measurements are kept beside it, and neither is made again while
files, folds, pairs and tracks are as they were.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from generation.errors import GenerationError
from generation.media.reader import pick_frames, read_image
from generation.quality.traces import NUM_FRAMES, Traces, mean_traces, measure_frame, measured_frames
from homologous_deepfake import SUBSETS, complete_row, read_rows, subset_of
from tooling import __version__
from tooling.errors import InputError, ToolingError, VerificationError, WorkspaceError
from tooling.stages.audit.containers import measure_container
from tooling.stages.audit.probes import PROBES, Measured, Probe
from tooling.stages.audit.separability import ProbedFile, adjusted_by_holm, measure_separability
from tooling.stages.audit.tracks import measure_track
from tooling.work.engine import LOCAL, Engine, Progress, no_progress, run_side_by_side
from tooling.workspace.audit_file import (
    MEASURED,
    Audit,
    ProbeResult,
    format_area,
    read_audit,
    records_digest,
    write_audit,
)
from tooling.workspace.decoding import decode_json
from tooling.workspace.files import append_line, replacing
from tooling.workspace.layout import Workspace
from tooling.workspace.verification_file import iterate_verification

LIMIT = 0.55
SIGNIFICANCE = 0.05  # of all probes that have a limit together
MIN_PEOPLE = 50  # below, chance alone moves an area by more than the limit allows (standard error 1 / sqrt(6 n))
MIN_TESTED = 4  # people; with fewer there is no number at all
TRACK_PROBE = "box_jitter"
KEPT_FORMAT = 2  # counts up when the features of a probe change
METHOD = 1  # counts up when results of the same features change, or what is said of them

Row = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Fakes of one subset and the real files that a researcher would compare them with."""

    subset: str
    fakes: tuple[Row, ...]
    reals: tuple[Row, ...]

    @property
    def is_alike(self) -> bool:
        """Whether fakes and real files are of one kind."""
        return SUBSETS[self.subset].media == "video"


@dataclass(frozen=True)
class _Kept:
    """A line of audit_measured.jsonl: what was measured of the file with a digest, by probe."""

    format: int
    sha256: str
    measured: dict[str, Any]


@dataclass(frozen=True)
class _Measurements:
    """What was measured of all files; as text, since the numbers of a file take ten times as much memory.

    Attributes:
        lines: digest of a file -> its line of audit_measured.jsonl.
        digests: path -> digest.
        tracks: path of a video -> features of its track, which are not kept.
    """

    lines: Mapping[str, str]
    digests: Mapping[str, str]
    tracks: Mapping[str, Measured]

    def of_probe(self, name: str) -> dict[str, Measured]:
        """Path -> features of one probe, empty where it does not apply."""
        if name == TRACK_PROBE:
            return {path: self.tracks.get(path, {}) for path in self.digests}
        return {path: json.loads(self.lines[digest])["measured"].get(name, {}) for path, digest in self.digests.items()}


def audit_files(
    workspace: Workspace, *, num_workers: int = 0, engine: Engine = LOCAL, progress: Progress = no_progress
) -> Audit:
    """Measures new files, tests every probe on every subset, and writes audit.json.

    Args:
        workspace: held by the caller's lock.
        num_workers: processes; 0 takes one for each processor.
        engine: where files are measured.
        progress: called for each measured file.

    Returns:
        All results in the order of catalogue and probes.

    Raises:
        InputError: there are no fakes with real counterparts.
        WorkspaceError: a file is missing or cannot be read.
    """
    comparisons = _comparisons(workspace)
    if not comparisons:
        raise InputError(f"{workspace.root}: no fakes to compare with real files; run `tooling generate all` first")
    rows = {row["path"]: row for one in comparisons for row in (*one.reals, *one.fakes)}
    inputs = _inputs_digest(workspace, rows.values())
    if (known := _known_audit(workspace)) and known.inputs_sha256 == inputs:
        progress(len(rows), len(rows), "")
        return known
    measured = _measure(workspace, list(rows.values()), num_workers, engine, progress)
    progress(len(rows), len(rows), "testing probes")
    results: dict[tuple[str, str], ProbeResult] = {}
    for probe in PROBES:
        features = measured.of_probe(probe.name)
        results |= {(one.subset, probe.name): _test(probe, one, features) for one in comparisons}
    in_order = [results[one.subset, probe.name] for one in comparisons for probe in PROBES]
    audit = Audit(judged(in_order), _note(comparisons), records_digest(workspace), inputs)
    write_audit(workspace, audit)
    return audit


def failures(audit: Audit) -> list[str]:
    """One line for each probe above its limit: subset, area, what to do."""
    remedies = {probe.name: probe.remedy for probe in PROBES}
    return [
        f"{one.subset}: {one.probe} separates real from fake, AUC {format_area(one)}, at most {one.limit:g} is "
        f"allowed; {remedies[one.probe]}"
        for one in audit.probes
        if not one.is_ok
    ]


def raise_for_failures(audit: Audit) -> None:
    """Ends a command whose audit found a shortcut.

    Raises:
        VerificationError: a probe other than those of pixels is above its limit.
    """
    if found := failures(audit):
        more = f" ({len(found)} shortcuts in all)" if len(found) > 1 else ""
        raise VerificationError(f"{found[0]}{more}")


def _comparisons(workspace: Workspace) -> list[Comparison]:
    """Comparisons with something on both sides, in the catalogue's order."""
    try:
        rows = {
            name: [row for split in read_rows(str(workspace.root), name).values() for row in split] for name in SUBSETS
        }
    except ValueError as error:
        raise WorkspaceError(str(error)) from error
    clips = {row["target"]: row for row in rows["raw_video"]}
    found = []
    for name, subset in SUBSETS.items():
        if subset.method == "real":
            continue
        fakes = [row for row in rows[name] if subset.media == "image" or row["target"] in clips]
        targets = {row["target"]: row for row in fakes}
        reals = rows["face_video"] if subset.media == "image" else [clips[target] for target in targets]
        if fakes and reals:
            found.append(Comparison(name, tuple(fakes), tuple(reals)))
    return found


def _inputs_digest(workspace: Workspace, rows: Iterable[Row]) -> str:
    """Hex SHA-256 over all that the results follow from."""
    digest = hashlib.sha256(f"{METHOD} {KEPT_FORMAT} {__version__}\n".encode())
    tracks = set()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
        tracks.add(workspace.path(workspace.track_name(_person(row))))
    for path in sorted(tracks):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _known_audit(workspace: Workspace) -> Audit | None:
    try:
        return read_audit(workspace)
    except WorkspaceError:  # damaged: it is written anew
        return None


def _measure(
    workspace: Workspace, rows: Sequence[Row], num_workers: int, engine: Engine, progress: Progress
) -> _Measurements:
    """Measures new files side by side; each is kept as soon as it is measured."""
    path = workspace.root / MEASURED
    lines = _read_kept(path, {row["sha256"] for row in rows})
    todo = [row for row in rows if row["sha256"] not in lines]
    num_kept = len(rows) - len(todo)
    progress(num_kept, len(rows), "")
    traces = _verified_traces(workspace) if todo else {}
    items = [(workspace, row, traces.get(row["sha256"])) for row in todo]
    outcomes = run_side_by_side(_measure_file, items, num_workers=num_workers, engine=engine, workspace=workspace)
    for done, outcome in enumerate(outcomes, start=num_kept + 1):
        row = outcome.item[1]
        if isinstance(outcome.error, (GenerationError, OSError, ValueError)):
            raise WorkspaceError(f"{row['path']}: cannot be measured ({outcome.error}); run `tooling verify`")
        if outcome.error:
            raise outcome.error
        lines[row["sha256"]] = _format_kept(row["sha256"], outcome.value)
        append_line(path, lines[row["sha256"]])
        progress(done, len(rows), row["sample_id"])
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        file.writelines(f"{lines[digest]}\n" for digest in sorted(lines))
    tracks = {row["path"]: _track(workspace, row) for row in rows if SUBSETS[subset_of(row)].media == "video"}
    return _Measurements(lines, {row["path"]: row["sha256"] for row in rows}, tracks)


def _verified_traces(workspace: Workspace) -> dict[str, str]:
    """Digest of a file -> what the verification measured while it decoded it, JSON; of all files that it measured."""
    try:
        files = iterate_verification(workspace, ["traces"])
        return {file.sha256: json.dumps(file.traces) for file in files if file.traces}
    except ToolingError:  # none, or of another version: everything is decoded here
        return {}


def _measure_file(item: tuple[Workspace, Row, str | None]) -> Mapping[str, Measured]:
    """Everything but the track of one file; it is decoded if no traces are known. Runs in a worker."""
    workspace, row, verified = item
    path = workspace.path(row["path"])
    is_image = SUBSETS[subset_of(row)].media == "image"
    traces: Traces | None = None if verified is None else json.loads(verified)
    if traces is None:
        numbers = measured_frames(row["num_frames"])
        frames = {0: read_image(path)} if is_image else pick_frames(path, numbers)
        traces = mean_traces([measure_frame(frames[number]) for number in sorted(frames)])
    pixels: dict[str, Measured] = {group: {**features} for group, features in traces.items()}
    return pixels if is_image else measure_container(path) | pixels


def _track(workspace: Workspace, row: Row) -> Measured:
    try:
        return measure_track(complete_row(str(workspace.root), row))
    except ValueError as error:
        raise WorkspaceError(str(error)) from error


def _format_kept(digest: str, measured: dict[str, Measured]) -> str:
    return json.dumps(asdict(_Kept(KEPT_FORMAT, digest, measured)), sort_keys=True)


def _read_kept(path: Path, digests: set[str]) -> dict[str, str]:
    """Lines of these files by an earlier run; a file whose line is damaged is measured again."""
    kept = {}
    with path.open(encoding="utf-8", errors="replace") if path.is_file() else nullcontext(()) as lines:
        for line in lines:
            try:
                entry = decode_json(line, _Kept)
                if entry.format == KEPT_FORMAT and entry.sha256 in digests:
                    kept[entry.sha256] = line.rstrip("\n")
            except ValueError:
                continue
    return kept


def _test(probe: Probe, comparison: Comparison, features: Mapping[str, Measured]) -> ProbeResult:
    rows = [*comparison.reals, *comparison.fakes]
    folds, num_people = _folds(rows), len({_person(row) for row in comparison.reals})
    found = None
    if num_people >= MIN_TESTED and (comparison.is_alike or probe.is_scale_free):
        samples = [
            ProbedFile(
                features[row["path"]],
                SUBSETS[subset_of(row)].method != "real",
                folds[_person(row)],
                _person(row),
            )
            for row in rows
        ]
        found = measure_separability(samples)
    return ProbeResult(
        subset=comparison.subset,
        probe=probe.name,
        is_pixel=probe.is_pixel,
        auc=round(found.auc, 4) if found else None,
        low=round(found.low, 4) if found else None,
        high=round(found.high, 4) if found else None,
        num_real=len(comparison.reals),
        num_fake=len(comparison.fakes),
        limit=None if probe.is_pixel else LIMIT,
        is_ok=True,
        p_value=found.p_value if found and not probe.is_pixel else None,
    )


def judged(results: Sequence[ProbeResult]) -> tuple[ProbeResult, ...]:
    """The results with p-values for the number of tests; a probe fails above its limit if chance rarely does that."""
    tested = [at for at, one in enumerate(results) if one.p_value is not None]
    adjusted = dict(zip(tested, adjusted_by_holm([results[at].p_value or 0.0 for at in tested]), strict=True))
    found = list(results)
    for at, p_value in adjusted.items():
        is_ok = (results[at].auc or 0.0) <= LIMIT or p_value >= SIGNIFICANCE
        found[at] = dataclasses.replace(results[at], p_value=round(p_value, 4), is_ok=is_ok)
    return tuple(found)


def _person(row: Row) -> str:
    return str(row["target"] or row["sample_id"])


def _folds(rows: Sequence[Row]) -> dict[str, int]:
    """Person -> fold of the test: the dataset's own; if all are in one fold, pairs of people are dealt into folds."""
    of_person = {
        _person(row): row["fold"] for row in rows if subset_of(row) in ("raw_video", "face_video", "GAN_images")
    }
    people = list(of_person)
    if len(set(of_person.values())) > 1:
        return {person: -1 if of_person[person] is None else int(of_person[person]) for person in people}
    group = {person: person for person in people}
    for row in rows:
        pair = row["identity_pair"] or {}
        if pair.get("source") in group:
            old, new = group[pair["source"]], group[pair["target"]]
            group = {person: new if name == old else name for person, name in group.items()}
    if len(set(group.values())) == 1:  # one circle of pairs: targets at least are never in training and test at once
        group = {person: person for person in people}
    names = list(dict.fromkeys(group.values()))
    num_folds = min(5, max(2, len(names) // 2))  # several people in a fold, else each file is held against its own pair
    number = {name: at % num_folds for at, name in enumerate(names)}
    return {person: number[name] for person, name in group.items()}


def _note(comparisons: Sequence[Comparison]) -> str:
    """How to read the numbers; every sentence follows from the files or from the method."""
    parts = [
        f"Area under the ROC curve of a logistic regression on each probe's numbers, tested on people it was not "
        f"trained on, with 95 % bootstrap intervals over people; 0.5 is chance. Probes that do not depend on the "
        f"pictures fail above {LIMIT:g}, if that is more than chance with so many probes (p below {SIGNIFICANCE:g}, "
        f"adjusted by Holm for all of them); probes of pixels ({NUM_FRAMES} frames of a clip), and of "
        "the coded sizes of single frames, which follow from pixels, have no limit.",
        "Videos are compared with the raw clips of their targets.",
        "Marks state openly which files are fakes; their text and content are not probed, their sizes are.",
    ]
    if any(not one.is_alike for one in comparisons):
        parts.append(
            "Generated images are compared with frames of face_video; other format and size decide most probes, "
            "which are not comparable."
        )
    people = Counter({one.subset: len({_person(row) for row in one.reals}) for one in comparisons})
    if few := [f"{name} {count}" for name, count in people.items() if count < MIN_PEOPLE]:
        parts.append(
            f"Few people ({', '.join(few)}): below {MIN_PEOPLE}, chance alone moves an area by more than "
            f"{LIMIT - 0.5:.2f}; intervals of a handful of people are too narrow."
        )
    return " ".join(parts)
