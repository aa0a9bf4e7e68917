"""generate: makes the planned fakes of a subset with one of the generators of its family.

Everything is refused before the first fake is made: an unknown name, a person without consent, a missing clip or
track. A fake that fails its own checks (`generation.quality.output`, `generation.quality.presence`) is tried once
more with another seed where the generator draws, else refused; reasons go to rejects.jsonl, and nothing of it enters
the subset.
"""

from __future__ import annotations

from generation.generators.registry import FAMILIES, SCHEMES, Family, generators_of
from homologous_deepfake import METHODS, SUBSETS
from tooling.errors import UsageError
from tooling.stages.generate.clips import clip_tasks, make_clip
from tooling.stages.generate.work import GenerateRequest, GeneratorChoice, num_devices
from tooling.work.engine import Progress, no_progress
from tooling.work.tasks import make_files
from tooling.workspace.layout import Workspace
from tooling.workspace.records import StageResult

__all__ = ["GENERATED", "GenerateRequest", "generate_fakes"]

GENERATED = tuple(name for name, subset in SUBSETS.items() if subset.method != METHODS[0])


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
        workspace: with clips, tracks and plan.json; held by the caller's lock.
        subset: one of GENERATED.
        request: see there.
        num_workers: processes; 0 takes one for each processor, or one for each GPU where those are used.
        progress: told of each ended fake.

    Returns:
        What was made, kept and refused, by sample_id.

    Raises:
        UsageError: unknown subset, generator or name.
        ConsentError: a selected person has not granted consent, or was taken down.
        WorkspaceError: plan, clips or tracks are missing.
        GenerationError: the generator's weights are missing or do not fit, or there is no such device.
    """
    request = request or GenerateRequest()
    family = _family(subset)
    choice = GeneratorChoice(_generator_name(subset, family, request.generator), family, request.options)
    num_workers = num_workers or num_devices(request.options)
    if family == "full_face_generation":
        from tooling.stages.generate import images as generate_images  # imports diffusers, which takes seconds

        return generate_images.make_images(workspace, request, choice, num_workers=num_workers, progress=progress)
    tasks = clip_tasks(workspace, subset, request, choice)
    return make_files(
        workspace, subset, tasks, make_clip, num_workers=num_workers, engine=request.engine, progress=progress
    )


def _family(subset: str) -> Family:
    if subset not in GENERATED:
        raise UsageError(f"{subset}: cannot be generated; generated are {', '.join(GENERATED)}")
    family: Family = SUBSETS[subset].method  # type: ignore[assignment]
    return family


def _generator_name(subset: str, family: Family, generator: str | None) -> str:
    names = generators_of(family)
    if generator is None:
        return names[0]
    scheme, _, place = generator.partition(":")
    if generator not in names and not (scheme in SCHEMES and place):
        told = "is no generator" if generator not in FAMILIES else "makes another kind of fake"
        more = "".join(f", {name}:PLACE" for name in SCHEMES)
        raise UsageError(f"{generator}: {told}; for {subset} use {', '.join(names)}{more}")
    return generator
