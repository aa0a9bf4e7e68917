"""verify: every file against its record and its subset's contract; every finding collected, sorted, told once.

What was found goes to verification.parquet, one row for each file (path, sha256, is_ok, findings), so that a later
push can tell whether the very files it sends were verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from generation.errors import VideoError
from generation.video import open_video, probe_video
from homologous_deepfake import CROSSING, SUBSETS
from tooling.engines import Progress, no_progress, run_side_by_side
from tooling.errors import VerificationError
from tooling.records import FileRecord, Identity, Plan, natural_key
from tooling.workspace import Workspace, file_sha256, write_bytes

Severity = Literal["error", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error) or worth knowing (note), and where."""

    severity: Severity
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.place}: {self.message}"


@dataclass(frozen=True)
class Contract:
    """What a file of a subset must be; None where the subset does not fix it."""

    size: tuple[int, int] | None
    num_frames: int
    fps: int | None


def run(workspace: Workspace, *, num_workers: int = 0, progress: Progress = no_progress) -> list[Finding]:
    """Verifies the workspace and writes verification.parquet.

    Returns:
        All findings, errors first, in natural order of their places.
    """
    records = {subset: workspace.records(subset) for subset in SUBSETS}
    items = [
        (workspace, record, _contract(workspace, subset))
        for subset, found in records.items()
        for record in found.values()
    ]
    findings = _check_people(workspace, records) + _check_folders(workspace, records)
    findings += _check_inputs(records) + _check_counts(records)
    progress(0, len(items), "")
    for done, outcome in enumerate(run_side_by_side(_check_file, items, num_workers=num_workers), start=1):
        record = outcome.item[1]
        if outcome.error:
            findings.append(Finding("error", record.path, f"could not be checked: {outcome.error}"))
        else:
            findings += outcome.value
        progress(done, len(items), record.sample_id)
    findings.sort(key=lambda finding: (finding.severity, natural_key(finding.place), finding.message))
    _write(workspace, [item[1] for item in items], findings)
    return findings


def raise_for_errors(findings: Sequence[Finding]) -> None:
    """Ends a command whose verification found errors.

    Raises:
        VerificationError: there is at least one error; names how many and the first.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f" ({len(errors)} errors in all)" if len(errors) > 1 else ""
        raise VerificationError(f"{errors[0].place}: {errors[0].message}{more}; correct that and verify again")


def _contract(workspace: Workspace, subset: str) -> Contract:
    clip = workspace.settings.clip
    if SUBSETS[subset].media == "image":
        return Contract(None, 1, None)
    side = workspace.settings.faces.size_px
    size = (side, side) if subset == "face_video" else (clip.width_px, clip.height_px)
    return Contract(size, clip.num_frames, clip.fps)


def _check_file(item: tuple[Workspace, FileRecord, Contract]) -> list[Finding]:
    """Digests and full decode of one file; runs in a worker."""
    workspace, record, contract = item
    problems = []
    for relative, digest in {record.path: record.sha256, **record.companions}.items():
        path = workspace.path(relative)
        if not path.is_file():
            problems.append(Finding("error", relative, "is missing; run its stage again"))
        elif file_sha256(path) != digest:
            problems.append(Finding("error", relative, "differs from its record (sha256); delete it and make it again"))
    if any(problem.place == record.path for problem in problems):
        return problems
    path = workspace.path(record.path)
    check = _check_image if contract.fps is None else _check_video
    return problems + [Finding("error", record.path, message) for message in check(path, record, contract)]


def _check_image(path: Path, record: FileRecord, contract: Contract) -> list[str]:
    try:
        with Image.open(path) as image:
            image.load()
            size = image.size
    except (UnidentifiedImageError, OSError) as error:
        return [f"does not decode ({error})"]
    return [] if size == (record.width, record.height) else [f"is {size}, its record says otherwise"]


def _check_video(path: Path, record: FileRecord, contract: Contract) -> list[str]:
    try:
        info = probe_video(path)
        times, keys = _decode(path)
    except VideoError as error:
        return [f"does not decode ({error})"]
    assert contract.fps is not None
    step = Fraction(1, contract.fps)
    wanted = {
        "size": ((info.width, info.height), contract.size),
        "frames": (len(times), contract.num_frames),
        "frames in its record": (record.num_frames, contract.num_frames),
        "frames per second": (f"{float(info.fps):g}", f"{contract.fps:g}"),
        "codec": (info.codec, "h264"),
        "pixel format": (info.pixel_format, "yuv420p"),
        "audio": (info.has_audio, False),
        "frame times": (times == [number * step for number in range(len(times))], True),
        "key frame distance": (keys == list(range(0, len(times), 15)), True),
    }
    return [f"{name}: {got}, must be {must}" for name, (got, must) in wanted.items() if got != must]


def _decode(path: Path) -> tuple[list[Fraction], list[int]]:
    times, keys = [], []
    with open_video(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            times.append((frame.pts or 0) * Fraction(frame.time_base or 0))
            if frame.key_frame:
                keys.append(number)
    return times, keys


def _check_people(workspace: Workspace, records: dict[str, dict[str, FileRecord]]) -> list[Finding]:
    """Everyone known, consenting, in one fold, and paired inside it; every clip with its crop."""
    identities = workspace.identities()
    plan = workspace.plan() or Plan(seed=0)
    findings = []
    for subset, found in records.items():
        if SUBSETS[subset].media == "image":
            continue
        planned = {f"{subset}/{target}_{source}" for target, source in plan.pairs.get(subset, [])}
        for record in found.values():
            messages = _check_identities(record, identities, plan)
            if subset in plan.pairs and record.sample_id not in planned and not _is_imported(record):
                messages.append("is not in plan.json; delete it or plan again")
            findings += [Finding("error", record.path, message) for message in messages]
            findings += _check_fold(record, plan)
        # Who takes over a finished set of fakes does not want the pairs that were drawn here as well.
        if not all(map(_is_imported, found.values())):
            missing = sorted(planned - set(found), key=natural_key)
            findings += [
                Finding("error", f"{name}.mp4", "is planned, not there; run `tooling generate`") for name in missing
            ]
    crops = {record.sample_id.rpartition("/")[2] for record in records["face_video"].values()}
    clips = {record.sample_id.rpartition("/")[2] for record in records["raw_video"].values()}
    findings += [Finding("error", f"raw_video/{i}.mp4", "has no crop; run `tooling faces`") for i in clips - crops]
    findings += [Finding("error", f"face_video/{i}.mp4", "has no clip in raw_video") for i in crops - clips]
    return findings


def _check_identities(record: FileRecord, identities: dict[str, Identity], plan: Plan) -> list[str]:
    people = record.sample_id.rpartition("/")[2].split("_")
    messages = []
    for identity in people:
        if identity not in identities:
            messages.append(f"identity {identity} has no row in identities.csv")
        elif identities[identity].consent_status != "granted":
            status = identities[identity].consent_status
            messages.append(f"consent of identity {identity} is '{status}'; take the person out")
        if plan.folds and identity not in plan.folds:
            messages.append(f"identity {identity} has no fold; run `tooling plan`")
    return messages


def _check_fold(record: FileRecord, plan: Plan) -> list[Finding]:
    """A pair across folds is an error, but for imported ones: they are in no split but `crossing`."""
    people = record.sample_id.rpartition("/")[2].split("_")
    if len({plan.folds[identity] for identity in people if identity in plan.folds}) <= 1:
        return []
    message = f"identities {' and '.join(people)} lie in different folds"
    if _is_imported(record):
        return [Finding("note", record.path, f"{message}: it is in the split {CROSSING} alone")]
    return [Finding("error", record.path, message)]


def _is_imported(record: FileRecord) -> bool:
    return bool(record.parameters.get("imported"))


def _check_folders(workspace: Workspace, records: dict[str, dict[str, FileRecord]]) -> list[Finding]:
    """Files that no record names."""
    findings = []
    for subset, found in records.items():
        known = {record.path for record in found.values()} | {f"{subset}/metadata.jsonl"}
        there = (path for path in (workspace.root / subset).rglob("*") if path.is_file())
        names = (path.relative_to(workspace.root).as_posix() for path in there)
        findings += [
            Finding("error", name, "has no record; remove it or import it") for name in names if name not in known
        ]
    return findings


def _check_inputs(records: dict[str, dict[str, FileRecord]]) -> list[Finding]:
    """Fakes and crops made from a clip or track that has changed since."""
    now: dict[str, str] = {}
    for found in records.values():
        for record in found.values():
            now |= {record.path: record.sha256, **record.companions}
    findings = []
    for found in records.values():
        for record in found.values():
            stale = [name for name, digest in record.inputs.items() if name in now and now[name] != digest]
            findings += [
                Finding("error", record.path, f"was made from an older {name}; run its stage again") for name in stale
            ]
    return findings


def _check_counts(records: dict[str, dict[str, FileRecord]]) -> list[Finding]:
    return [
        Finding("note", subset, f"{len(found)} of the catalogue's {SUBSETS[subset].count} files")
        for subset, found in records.items()
        if len(found) != SUBSETS[subset].count
    ]


def _write(workspace: Workspace, records: Sequence[FileRecord], findings: Sequence[Finding]) -> None:
    by_place: dict[str, list[str]] = {}
    for finding in findings:
        by_place.setdefault(finding.place, []).append(str(finding))
    failed = {finding.place for finding in findings if finding.severity == "error"}
    rows = [
        {
            "path": record.path,
            "sha256": record.sha256,
            "is_ok": record.path not in failed and not failed & set(record.companions),
            "findings": by_place.get(record.path, []),
        }
        for record in records
    ]
    schema = pa.schema(
        {"path": pa.string(), "sha256": pa.string(), "is_ok": pa.bool_(), "findings": pa.list_(pa.string())}
    )
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer)
    write_bytes(workspace.verification_path, buffer.getvalue().to_pybytes())
