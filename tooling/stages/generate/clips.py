"""Fakes that are clips (face swap, expression driving, attribute editing): which are planned, and making one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from generation.crops.masks import MaskWriter
from generation.media.writer import VideoWriter
from generation.quality.output import OutputMeter, limits_of
from generation.quality.presence import FaceCheck
from homologous_deepfake import SUBSETS, mask_path
from tooling.errors import WorkspaceError
from tooling.stages.generate.inputs import (
    clip_inputs,
    face_clip,
    people_with_stale_tracks,
    refuse_without_consent,
    select,
)
from tooling.stages.generate.request import (
    GenerateRequest,
    GeneratorChoice,
    loaded,
    parameters_of,
    sample_seed,
    tried_twice,
)
from tooling.work.tasks import Made, Task, finished_record, planned_record
from tooling.workspace.identities import Identity
from tooling.workspace.layout import Workspace
from tooling.workspace.plan_file import Plan, fakes_of
from tooling.workspace.records import GLASSES, natural_key

if TYPE_CHECKING:
    import torch

ROLES = ("target", "source")


@dataclass(frozen=True)
class PlannedFake:
    """Whose clips a fake is made from, and what is edited."""

    target: str
    source: str | None = None
    attribute: str | None = None

    @property
    def people(self) -> tuple[str, ...]:
        return (self.target,) if self.source is None else (self.target, self.source)

    def glasses(self, identities: Mapping[str, Identity]) -> list[str]:
        """Who of the two is stated to wear glasses, as "target" and "source"."""
        return [role for role, who in zip(ROLES, self.people, strict=False) if identities[who].glasses == "yes"]


@dataclass(frozen=True)
class ClipWork:
    """What a worker needs for one fake; fps and num_frames are those of the target's clip."""

    fake: PlannedFake
    choice: GeneratorChoice
    factor: float | None
    fps: int
    num_frames: int


def clip_tasks(
    workspace: Workspace, subset: str, request: GenerateRequest, choice: GeneratorChoice
) -> tuple[list[Task], dict[str, str]]:
    """One task for each requested fake, in natural order, after a check of consent and inputs.

    Returns:
        The tasks, and sample_id -> why there is none, of fakes whose people have a track of an older clip.

    Raises:
        UsageError, ConsentError, WorkspaceError: see `tooling.stages.generate.run.generate_fakes`.
    """
    plan = _plan(workspace)
    chosen = select(subset, _planned(workspace, plan, subset), plan.left_out, request)
    people = sorted({person for fake in chosen.values() for person in fake.people}, key=natural_key)
    refuse_without_consent(workspace, people)
    known = clip_inputs(workspace, people)
    stale = people_with_stale_tracks(workspace, people)
    clips, identities = workspace.records("raw_video"), workspace.identities()
    (settings,) = parameters_of(workspace, [choice], request.engine)
    tasks: list[Task] = []
    refused: dict[str, str] = {}
    for name, fake in chosen.items():
        sample_id = f"{subset}/{name}"
        if reasons := [stale[person] for person in fake.people if person in stale]:
            refused[sample_id] = reasons[0]
            continue
        inputs = {
            path: digest for path, digest in known.items() if path.rpartition("/")[2].split(".")[0] in fake.people
        }
        edit = {"attribute": fake.attribute, "factor": request.factor} if fake.attribute else {}
        glasses = fake.glasses(identities) if choice.heeds_glasses else []
        stated = {GLASSES: glasses} if glasses else {}  # what was made before anybody could say is not made again
        seed = sample_seed(request.seed, sample_id)
        record = planned_record(
            sample_id, f"{sample_id}.mp4", inputs, choice.recorded_name, settings | edit | stated, seed
        )
        clip = clips[f"raw_video/{fake.target}"]
        factor = request.factor if fake.attribute else None
        tasks.append(Task(record, ClipWork(fake, choice, factor, round(clip.fps or 0), clip.num_frames)))
    return tasks, refused


def make_clip(workspace: Workspace, task: Task) -> Made:
    """Makes one fake; runs in a worker.

    Raises:
        RejectedOutputError: it failed its checks, also with another seed.
        InputError: a clip or track differs from its record.
        FaceError, VideoError: a clip cannot be used.
    """
    import torch

    work: ClipWork = task.work
    pipeline = loaded(work.choice)

    def attempt(seed: int) -> tuple[dict[str, Any], int]:
        return _write_fake(workspace, task, pipeline, torch.Generator().manual_seed(seed))

    seed = task.planned.seed or 0
    (results, num_frames), notes = tried_twice(attempt, seed, getattr(pipeline, "draws", True))
    staged = {name: workspace.staging_path(name) for name in (task.planned.path, mask_path(task.planned.path))}
    settings = workspace.settings.clip
    shape = {"width": settings.width_px, "height": settings.height_px, "fps": work.fps, "num_frames": num_frames}
    return Made(finished_record(task.planned, staged, **shape, results=results | notes), staged)


def _write_fake(
    workspace: Workspace, task: Task, pipeline: Any, generator: torch.Generator
) -> tuple[dict[str, Any], int]:
    """Decodes, generates, checks and encodes a fake and its masks, a few frames at a time.

    Returns:
        What the checks measured, and the number of frames.
    """
    work: ClipWork = task.work
    inputs, glasses = task.planned.inputs, task.planned.parameters.get(GLASSES, [])
    target, track = face_clip(workspace, work.fake.target, inputs, wears_glasses="target" in glasses or None)
    if work.fake.source is None:
        stream = pipeline.stream(target, attribute=work.fake.attribute, factor=work.factor, generator=generator)
    else:
        source, _ = face_clip(workspace, work.fake.source, inputs, wears_glasses="source" in glasses or None)
        stream = pipeline.stream(target, source, generator=generator)
    meter = OutputMeter(limits_of(work.choice.family, work.factor), ~track.is_detected, track.landmarks)
    face_check = FaceCheck(track.landmarks, list(track.is_detected))
    settings = workspace.settings.clip
    shape: dict[str, Any] = {"width": settings.width_px, "height": settings.height_px, "fps": work.fps}
    film, masks = (workspace.staging_path(name) for name in (task.planned.path, mask_path(task.planned.path)))
    with VideoWriter(film, **shape) as writer, MaskWriter(masks, **shape) as mask_writer:
        for pasted in stream:
            meter.add(pasted)
            face_check.add(pasted.frame)
            writer.write(pasted.frame)
            mask_writer.write(pasted)
        meter.raise_if_rejected(task.planned.sample_id, work.num_frames)
        face_check.raise_if_missing(task.planned.sample_id)
    return meter.results(), meter.num_frames


def _plan(workspace: Workspace) -> Plan:
    plan = workspace.plan()
    if plan is None:
        raise WorkspaceError(f"{workspace.plan_path}: not found; run `tooling plan` first")
    return plan


def _planned(workspace: Workspace, plan: Plan, subset: str) -> dict[str, PlannedFake]:
    """Name below the subset ("1_2", "age/7") -> the planned fake, in natural order."""
    names = [name.partition("/")[2] for name in fakes_of(plan, subset)]
    if "{attribute}" in SUBSETS[subset].pattern:
        parts = ((name, *name.split("/")) for name in names)
        return {name: PlannedFake(person, attribute=attribute) for name, attribute, person in parts}
    if not names:
        raise WorkspaceError(
            f"{workspace.plan_path}: has no pair for {subset}; add people of one gender and run `tooling plan`"
        )
    return {name: PlannedFake(*name.split("_")) for name in names}
