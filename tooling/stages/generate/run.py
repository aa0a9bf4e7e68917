"""generate: makes the planned fakes of a subset with one of the generators of its family.

Unknown names, people without consent and missing clips or tracks are refused before the first fake is made; so are the
fakes of a person whose track is of an older clip, and those alone. What the plan leaves out is not made. A fake that
fails its checks (`generation.quality.output`, `generation.quality.presence`) is made again with another seed if its
generator uses one. If it fails again, it is refused: rejects.jsonl has the reasons, and no file enters the subset.
"""

from __future__ import annotations

from dataclasses import replace

from generation.generators.registry import GENERATORS, SCHEMES, Family, generators_of
from homologous_deepfake import FAKES, SUBSETS
from tooling.errors import UsageError
from tooling.stages.generate.clips import clip_tasks, make_clip
from tooling.stages.generate.images import make_images
from tooling.stages.generate.request import GenerateRequest, GeneratorChoice, num_devices, on_engine
from tooling.work.engine import Progress, no_progress
from tooling.work.tasks import make_files
from tooling.workspace.layout import Workspace
from tooling.workspace.records import StageResult

__all__ = ["GenerateRequest", "generate_fakes"]


def generate_fakes(
    workspace: Workspace,
    subset: str,
    request: GenerateRequest | None = None,
    *,
    num_workers: int = 0,
    progress: Progress = no_progress,
) -> StageResult:
    """Makes the planned fakes of a subset.

    Args:
        workspace: with clips, tracks and plan.json; locked by the caller.
        subset: one of FAKES.
        request: None takes all planned fakes, with the family's default generator.
        num_workers: processes; 0 means one per processor, or one per GPU if the generator runs on GPUs.
        progress: called after each fake.

    Returns:
        What was made, kept and refused, by sample_id.

    Raises:
        UsageError: unknown subset, generator or name.
        ConsentError: a selected person has not granted consent, or was taken down.
        WorkspaceError: plan, clips or tracks are missing.
        GenerationError: the generator's weights are missing or do not fit, or the device is not available.
    """
    if subset not in FAKES:
        raise UsageError(f"{subset}: cannot be generated; generated are {', '.join(FAKES)}")
    request = request or GenerateRequest()
    family: Family = SUBSETS[subset].method  # type: ignore[assignment]
    choice = GeneratorChoice(_generator_name(subset, family, request.generator), family, request.options)
    choice, engine = on_engine(choice, request.engine)
    request = replace(request, engine=engine)
    if not engine.is_ray:
        num_workers = num_workers or num_devices(request.options)
    if family == "full_face_generation":
        return make_images(workspace, request, choice, num_workers=num_workers, progress=progress)
    tasks, refused = clip_tasks(workspace, subset, request, choice)
    result = make_files(workspace, subset, tasks, make_clip, num_workers=num_workers, engine=engine, progress=progress)
    result.refused = refused | result.refused
    return result


def _generator_name(subset: str, family: Family, generator: str | None) -> str:
    names = generators_of(family)
    if generator is None:
        return names[0]
    scheme, _, location = generator.partition(":")
    if generator not in names and not (scheme in SCHEMES and location):
        problem = "no such generator" if generator not in GENERATORS else "makes another kind of fake"
        usable = ", ".join([*names, *(f"{name}:LOCATION" for name in SCHEMES)])
        raise UsageError(f"{generator}: {problem}; for {subset} use {usable}")
    return generator
