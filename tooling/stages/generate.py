"""generate: makes the planned fakes of a subset with one of the generators of its family.

Everything is refused before the first fake is made: an unknown pair, a person without consent, a missing clip or
track. A fake that fails its own checks (`generation.checks`) is refused with the reason and gets no record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import torch

from generation.checks import OutputMeter
from generation.face_track import FaceTrack
from generation.families import FAMILIES, generators_of, load_generator
from generation.video import VideoWriter, read_frames
from generation.warp import FaceClip
from tooling.engines import Made, Progress, Task, finished_record, make_files, no_progress, wanted_record
from tooling.errors import ConsentError, InputError, UsageError, WorkspaceError
from tooling.records import FileRecord, StageResult, natural_key
from tooling.workspace import Workspace, file_sha256

SUBSET_FAMILIES = {"swap_video": "face_swap"}

Pair = tuple[str, str]


@dataclass(frozen=True)
class PairWork:
    """What a worker needs of one pair: the two people, and the rate and length of the target's clip."""

    target: str
    source: str
    fps: int
    num_frames: int


def run(
    workspace: Workspace,
    subset: str,
    *,
    generator: str | None = None,
    only: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    num_workers: int = 0,
    progress: Progress = no_progress,
) -> StageResult:
    """Makes the planned fakes of a subset.

    Args:
        workspace: with clips, tracks and plan.json; held by the caller's lock.
        subset: one of SUBSET_FAMILIES.
        generator: one of the family's generators, or None for its default.
        only: pairs, "target_source"; None for all that are planned.
        limit: at most so many, in natural order.
        seed: from which each fake's own seed is derived.
        num_workers: processes; 0 takes one for each processor.
        progress: told of each ended fake.

    Returns:
        What was made, kept and refused, by sample_id.

    Raises:
        UsageError: unknown subset, generator or pair.
        ConsentError: a person of a selected pair has not granted consent, or was taken down.
        WorkspaceError: plan, clips or tracks are missing.
    """
    name = _generator_name(subset, generator)
    pairs = _selected(_planned_pairs(workspace, subset), only, limit)
    _refuse_without_consent(workspace, pairs)
    clips, tracks = _clips_and_tracks(workspace, pairs)
    parameters = load_generator(name).parameters
    tasks = []
    for target, source in pairs:
        sample_id = f"{subset}/{target}_{source}"
        inputs = dict(sorted({**_inputs(clips, tracks, target), **_inputs(clips, tracks, source)}.items()))
        wanted = wanted_record(sample_id, f"{sample_id}.mp4", inputs, name, parameters, sample_seed(seed, sample_id))
        clip = clips[target]
        tasks.append(Task(wanted, PairWork(target, source, round(clip.fps or 0), clip.num_frames)))
    return make_files(workspace, subset, tasks, make_swap, num_workers=num_workers, progress=progress)


def sample_seed(seed: int, sample_id: str) -> int:
    """The seed of one fake: 32 bits, the same on every machine and for every order of work."""
    return int.from_bytes(hashlib.sha256(f"{seed} {sample_id}".encode()).digest()[:4], "big")


def make_swap(workspace: Workspace, task: Task) -> Made:
    """Makes one swapped clip: decode, swap, measure and encode, one frame at a time."""
    cv2.setNumThreads(1)  # pairs run side by side, one processor each
    work: PairWork = task.work
    target, source = (_face_clip(workspace, identity, task.wanted) for identity in (work.target, work.source))
    pipeline = load_generator(task.wanted.generator)
    generator = torch.Generator().manual_seed(task.wanted.seed or 0)
    staged = workspace.staging_path(task.wanted.path)
    settings, meter = workspace.settings.clip, OutputMeter()
    with VideoWriter(staged, width=settings.width_px, height=settings.height_px, fps=work.fps) as writer:
        for pasted in pipeline.stream(target, source, generator=generator):
            meter.add(pasted)
            writer.write(pasted.frame)
        meter.raise_if_rejected(task.wanted.sample_id, work.num_frames)
    files = {task.wanted.path: staged}
    shape = {"width": settings.width_px, "height": settings.height_px, "fps": work.fps, "num_frames": meter.num_frames}
    return Made(finished_record(task.wanted, files, **shape, results=meter.results()), files)


def _generator_name(subset: str, generator: str | None) -> str:
    if subset not in SUBSET_FAMILIES:
        raise UsageError(f"{subset}: cannot be generated; generated are {', '.join(SUBSET_FAMILIES)}")
    names = generators_of(SUBSET_FAMILIES[subset])
    if generator is not None and generator not in names:
        told = "is no generator" if generator not in FAMILIES else "makes another kind of fake"
        raise UsageError(f"{generator}: {told}; for {subset} use {', '.join(names)}")
    return generator or names[0]


def _planned_pairs(workspace: Workspace, subset: str) -> list[Pair]:
    path = workspace.plan_path
    if not path.exists():
        raise WorkspaceError(f"{path}: not found; run `tooling plan` first")
    try:
        pairs = [(str(target), str(source)) for target, source in json.loads(path.read_text("utf-8"))["pairs"][subset]]
    except (ValueError, KeyError, TypeError) as error:
        raise WorkspaceError(f"{path}: damaged ({error}); delete it and run `tooling plan` again") from error
    if not pairs:
        raise WorkspaceError(f"{path}: plans no pair for {subset}; add people of one gender and run `tooling plan`")
    return sorted(pairs, key=lambda pair: natural_key(f"{pair[0]}_{pair[1]}"))


def _selected(pairs: list[Pair], only: Sequence[str] | None, limit: int | None) -> list[Pair]:
    by_name = {f"{target}_{source}": (target, source) for target, source in pairs}
    for name in only or ():
        if name not in by_name:
            raise UsageError(f"{name}: is not planned; planned are {', '.join(list(by_name)[:8])} ...")
    return [pair for name, pair in by_name.items() if only is None or name in only][:limit]


def _people(pairs: list[Pair]) -> list[str]:
    return sorted({identity for pair in pairs for identity in pair}, key=natural_key)


def _refuse_without_consent(workspace: Workspace, pairs: list[Pair]) -> None:
    identities = workspace.identities()
    refused = []
    for identity in _people(pairs):
        workspace.refuse_taken_down(str(workspace.plan_path), identity)
        status = identities[identity].consent_status if identity in identities else "unknown"
        if status != "granted":
            refused.append(f"{identity} ({status})")
    if refused:
        raise ConsentError(
            f"{workspace.identities_path}: no consent for identity {', '.join(refused)}; nothing was made; "
            "run `tooling plan` to draw pairs without them"
        )


def _clips_and_tracks(workspace: Workspace, pairs: list[Pair]) -> tuple[dict[str, FileRecord], dict[str, str]]:
    """Records of the clips and digests of the tracks, by identity."""
    raw, faces = workspace.records("raw_video"), workspace.records("face_video")
    clips: dict[str, FileRecord] = {}
    tracks: dict[str, str] = {}
    for identity in _people(pairs):
        clip, crop = raw.get(f"raw_video/{identity}"), faces.get(f"face_video/{identity}")
        track = workspace.track_name(identity)
        if clip is None or not workspace.path(clip.path).is_file():
            missing = workspace.path(f"raw_video/{identity}.mp4")
            raise WorkspaceError(f"{missing}: not made yet; run `tooling ingest SOURCES` first")
        if crop is None or track not in crop.companions or not workspace.path(track).is_file():
            raise WorkspaceError(f"{workspace.path(track)}: not made yet; run `tooling faces` first")
        clips[identity], tracks[identity] = clip, crop.companions[track]
    return clips, tracks


def _inputs(clips: dict[str, FileRecord], tracks: dict[str, str], identity: str) -> dict[str, str]:
    return {clips[identity].path: clips[identity].sha256, f"tracks/{identity}.json": tracks[identity]}


def _face_clip(workspace: Workspace, identity: str, wanted: FileRecord) -> FaceClip:
    """A clip and its landmarks, both exactly the files that the record will name."""
    clip, track = (workspace.path(name) for name in (f"raw_video/{identity}.mp4", workspace.track_name(identity)))
    for path, stage in ((clip, "ingest SOURCES"), (track, "faces")):
        if file_sha256(path) != wanted.inputs[path.relative_to(workspace.root).as_posix()]:
            raise InputError(f"{path}: is not the file that was recorded; run `tooling {stage}` again")
    landmarks = FaceTrack.from_json(track.read_text("utf-8"), name=str(track)).landmarks
    return FaceClip(str(clip), lambda: read_frames(clip), landmarks)
