"""The families that change clips: which fakes are wanted, and making one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from generation.crops.clip import FaceClip, PastedFrame
from generation.crops.masks import MaskWriter
from generation.faces.track import FaceTrack
from generation.media.reader import read_frames
from generation.media.writer import VideoWriter
from generation.quality.output import OutputMeter, limits_of
from generation.quality.presence import FaceCheck
from homologous_deepfake import ATTRIBUTES, SUBSETS
from tooling.errors import ConsentError, InputError, UsageError, WorkspaceError
from tooling.stages.generate.work import GenerateRequest, GeneratorChoice, loaded, sample_seed, tried_twice
from tooling.work.tasks import Made, Task, finished_record, wanted_record
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord, natural_key


@dataclass(frozen=True)
class Wanted:
    """One planned fake: its name below the subset, whose clips it takes, and what is edited."""

    name: str
    target: str
    source: str | None = None
    attribute: str | None = None

    @property
    def people(self) -> tuple[str, ...]:
        return (self.target,) if self.source is None else (self.target, self.source)


@dataclass(frozen=True)
class ClipWork:
    """What a worker needs of one fake; rate and length are those of the target's clip."""

    wanted: Wanted
    choice: GeneratorChoice
    factor: float | None
    fps: int
    num_frames: int


def clip_tasks(workspace: Workspace, subset: str, request: GenerateRequest, choice: GeneratorChoice) -> list[Task]:
    """The fakes to make, in natural order, everything about them checked.

    Raises:
        UsageError, ConsentError, WorkspaceError: see `tooling.stages.generate.run.generate_fakes`.
    """
    chosen = select(_planned(workspace, subset), request.only, request.limit)
    people = sorted({person for one in chosen for person in one.people}, key=natural_key)
    refuse_without_consent(workspace, people)
    known = clip_inputs(workspace, people)
    clips = workspace.records("raw_video")
    settings = choice.parameters()
    tasks = []
    for one in chosen:
        sample_id = f"{subset}/{one.name}"
        inputs = {name: digest for name, digest in known.items() if name.rpartition("/")[2].split(".")[0] in one.people}
        edit = {"attribute": one.attribute, "factor": request.factor} if one.attribute else {}
        seed = sample_seed(request.seed, sample_id)
        record = wanted_record(sample_id, f"{sample_id}.mp4", inputs, choice.recorded_name, settings | edit, seed)
        clip = clips[f"raw_video/{one.target}"]
        factor = request.factor if one.attribute else None
        tasks.append(Task(record, ClipWork(one, choice, factor, round(clip.fps or 0), clip.num_frames)))
    return tasks


def make_clip(workspace: Workspace, task: Task) -> Made:
    """Makes one fake: decode, generate, measure and encode, a few frames at a time.

    Raises:
        RejectedOutputError: it failed its checks, also with another seed.
        InputError: a clip or track is not the recorded one.
        FaceError, VideoError: a clip cannot be used.
    """
    work: ClipWork = task.work
    pipeline = loaded(work.choice)

    def attempt(seed: int) -> tuple[dict[str, Any], int]:
        return _write(workspace, task, pipeline, torch.Generator().manual_seed(seed))

    seed = task.wanted.seed or 0
    (results, num_frames), notes = tried_twice(attempt, seed, getattr(pipeline, "draws", True))
    staged = {name: workspace.staging_path(name) for name in (task.wanted.path, mask_name(task.wanted))}
    settings = workspace.settings.clip
    shape = {"width": settings.width_px, "height": settings.height_px, "fps": work.fps, "num_frames": num_frames}
    return Made(finished_record(task.wanted, staged, **shape, results=results | notes), staged)


def mask_name(record: FileRecord) -> str:
    """Where the masks of a fake lie: masks/swap_video/1_2.mp4."""
    return f"masks/{record.path}"


def _write(workspace: Workspace, task: Task, pipeline: Any, generator: torch.Generator) -> tuple[dict[str, Any], int]:
    work: ClipWork = task.work
    target, track = face_clip(workspace, work.wanted.target, task.wanted.inputs)
    meter = OutputMeter(limits_of(work.choice.family, work.factor), ~track.is_detected)
    face_check = FaceCheck(track.landmarks, list(track.is_detected))
    settings = workspace.settings.clip
    shape: dict[str, Any] = {"width": settings.width_px, "height": settings.height_px, "fps": work.fps}
    film, masks = (workspace.staging_path(name) for name in (task.wanted.path, mask_name(task.wanted)))
    name = task.wanted.sample_id
    with VideoWriter(film, **shape) as writer, MaskWriter(masks, **shape) as mask_writer:
        for pasted in _stream(workspace, task, pipeline, target, generator):
            meter.add(pasted)
            face_check.add(pasted.frame)
            writer.write(pasted.frame)
            mask_writer.write(pasted)
        meter.raise_if_rejected(name, work.num_frames)
        face_check.raise_if_missing(name)
    return meter.results(), meter.num_frames


def _stream(
    workspace: Workspace, task: Task, pipeline: Any, target: FaceClip, generator: torch.Generator
) -> Iterator[PastedFrame]:
    wanted = task.work.wanted
    if wanted.source is None:
        stream = pipeline.stream(target, attribute=wanted.attribute, factor=task.work.factor, generator=generator)
    else:
        source, _ = face_clip(workspace, wanted.source, task.wanted.inputs)
        stream = pipeline.stream(target, source, generator=generator)
    yield from stream


def _planned(workspace: Workspace, subset: str) -> list[Wanted]:
    plan = workspace.plan()
    if plan is None:
        raise WorkspaceError(f"{workspace.plan_path}: not found; run `tooling plan` first")
    if "{attribute}" in SUBSETS[subset].pattern:
        return [
            Wanted(f"{attribute}/{who}", who, attribute=attribute) for attribute in ATTRIBUTES for who in plan.folds
        ]
    pairs = plan.pairs.get(subset, [])
    if not pairs:
        plans = f"{workspace.plan_path}: plans no pair for {subset}"
        raise WorkspaceError(f"{plans}; add people of one gender and run `tooling plan`")
    names = sorted(pairs, key=lambda pair: natural_key(f"{pair[0]}_{pair[1]}"))
    return [Wanted(f"{target}_{source}", target, source) for target, source in names]


def select(planned: Sequence[Any], only: Sequence[str] | None, limit: int | None) -> list[Any]:
    """Those asked for, in the order of the plan; each has a `name`.

    Raises:
        UsageError: a name is not planned.
    """
    names = [one.name for one in planned]
    for name in only or ():
        if name not in names:
            more = " ..." if len(names) > 8 else ""
            raise UsageError(f"{name}: is not planned; planned are {', '.join(names[:8])}{more}")
    return [one for one in planned if only is None or one.name in only][:limit]


def refuse_without_consent(workspace: Workspace, people: Sequence[str]) -> None:
    """Raises ConsentError, naming them, where people have not granted consent or were taken down."""
    identities = workspace.identities()
    refused = []
    for person in people:
        workspace.refuse_taken_down(str(workspace.plan_path), person)
        status = identities[person].consent_status if person in identities else "unknown"
        if status != "granted":
            refused.append(f"{person} ({status})")
    if refused:
        raise ConsentError(
            f"{workspace.identities_path}: no consent for identity {', '.join(refused)}; nothing was made; "
            "run `tooling plan` to draw pairs without them"
        )


def clip_inputs(workspace: Workspace, people: Sequence[str]) -> dict[str, str]:
    """Digests of the people's clips and tracks, by name, as recorded; of their masters, where there are any, in place
    of the clips.

    Raises:
        WorkspaceError: one of them is not made yet.
    """
    raw, faces = workspace.records("raw_video"), workspace.records("face_video")
    inputs: dict[str, str] = {}
    for person in people:
        clip, crop = raw.get(f"raw_video/{person}"), faces.get(f"face_video/{person}")
        track = workspace.track_name(person)
        if clip is None or not workspace.path(clip.path).is_file():
            missing = workspace.path(f"raw_video/{person}.mp4")
            raise WorkspaceError(f"{missing}: not made yet; run `tooling ingest SOURCES` first")
        if crop is None or track not in crop.companions or not workspace.path(track).is_file():
            raise WorkspaceError(f"{workspace.path(track)}: not made yet; run `tooling faces` first")
        master = workspace.master_name(person)
        if master in clip.companions and not workspace.path(master).is_file():
            raise WorkspaceError(f"{workspace.path(master)}: is missing; run `tooling ingest SOURCES` again")
        film = (master, clip.companions[master]) if master in clip.companions else (clip.path, clip.input_sha256)
        inputs |= dict([film, (track, crop.companions[track])])
    return dict(sorted(inputs.items()))


def face_clip(workspace: Workspace, person: str, inputs: Mapping[str, str]) -> tuple[FaceClip, FaceTrack]:
    """A clip, from its master if that is among the inputs, and its track: exactly the files of these digests.

    Raises:
        InputError: one of them is another file.
        FaceError: the track is damaged.
    """
    master = workspace.master_name(person)
    names = (master if master in inputs else f"raw_video/{person}.mp4", workspace.track_name(person))
    for name, stage in zip(names, ("ingest SOURCES", "faces"), strict=True):
        if not workspace.holds(name, inputs[name]):
            raise InputError(f"{workspace.path(name)}: is not the file that was recorded; run `tooling {stage}` again")
    clip, track = map(workspace.path, names)
    found = FaceTrack.from_json(track.read_text("utf-8"), name=str(track))
    return FaceClip(str(clip), lambda: read_frames(clip), found.landmarks, found.is_detected), found
