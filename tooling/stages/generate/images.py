"""Fakes that are images (full-face generation): planned prompts and seeds, one generator per fold, no near-duplicates.

A generator that is fitted to the release's own faces is fitted once per fold, to that fold's people only, and its
images belong to that fold: no image carries a face from one split into another.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from generation.arrays import Frame
from generation.faces.detector import one_thread
from generation.generators.prompts import ATTRIBUTES, plan_prompt
from generation.generators.registry import GENERATORS, imported
from generation.media.reader import read_image
from generation.quality.descriptor import Descriptor, describe_image, near_pairs
from generation.quality.presence import check_image
from homologous_deepfake import SUBSETS
from tooling.errors import WorkspaceError
from tooling.stages.generate.described import remembered, states_of
from tooling.stages.generate.inputs import (
    clip_inputs,
    face_clip,
    people_with_stale_tracks,
    refuse_without_consent,
    select,
)
from tooling.stages.generate.request import GenerateRequest, GeneratorChoice, loaded, parameters_of, tried_twice
from tooling.work.engine import Engine, Progress, run_side_by_side
from tooling.work.tasks import Made, Task, finished_record, make_files, planned_record
from tooling.workspace.audit_file import records_digest
from tooling.workspace.decoding import read_json
from tooling.workspace.files import sync_file, write_text
from tooling.workspace.layout import Workspace
from tooling.workspace.plan_file import NUM_FOLDS, Plan
from tooling.workspace.readiness import files_to_make_again, way_out_of
from tooling.workspace.records import StageResult, natural_key

SUBSET = "GAN_images"
FEWEST_PEOPLE = 2  # of a fold whose faces a space can be fitted to
ENOUGH_PEOPLE = 3  # for faces of nobody; smaller folds get images only where all are smaller
COMPARED = "GAN_images/compared.txt"  # digest of the images that were last found to be different
PNG_LEVEL = 4  # of zlib: two per cent larger than with 6, in less than half the time
NUM_ROUNDS = 8  # of making near-duplicates again; more than enough at the catalogue's number
SEEDS_OF_A_ROUND = 2  # see `tried_twice`


@dataclass(frozen=True)
class FoldGenerator:
    """What makes the images of a fold.

    Attributes:
        fold: its number.
        choice: the generator.
        inputs: path -> SHA-256 of the files that it was fitted to.
        followed: attributes of a prompt that its images follow; only they are recorded.
    """

    fold: int
    choice: GeneratorChoice
    inputs: dict[str, str]
    followed: frozenset[str] = ATTRIBUTES


@dataclass(frozen=True)
class FoldFit:
    """What a worker needs to fit a generator to the people of a fold.

    Attributes:
        fold: its number.
        location: of the pipeline's class.
        folder: where it is saved.
        inputs: path -> SHA-256 of the people's clips and tracks.
        genders: person -> gender, in the order in which they are fitted.
    """

    fold: int
    location: str
    folder: Path
    inputs: dict[str, str]
    genders: Mapping[str, str]


@dataclass(frozen=True)
class ImageWork:
    """What a worker needs for one image; `round` counts how often it was too near to another or to a person."""

    prompt: str
    choice: GeneratorChoice
    round: int = 0


def make_images(
    workspace: Workspace, request: GenerateRequest, choice: GeneratorChoice, *, num_workers: int, progress: Progress
) -> StageResult:
    """Makes the requested images; arguments, result and errors as in `tooling.stages.generate.run.generate_fakes`."""
    planned = {f"{number:06d}": number for number in range(1, SUBSETS[SUBSET].count + 1)}
    plan = workspace.plan()
    chosen = select(SUBSET, planned, plan.left_out if plan else {}, request)
    engine = dataclasses.replace(request.engine, uses_gpu=False)
    folds = _fold_generators(workspace, choice, num_workers, engine, lambda what: progress(0, len(chosen), what))
    found = parameters_of(workspace, [of_fold.choice for of_fold in folds], request.engine)
    settings = {of_fold.fold: one for of_fold, one in zip(folds, found, strict=True)}
    tasks, rounds = [], _rounds_after_errors(workspace)
    prompts = {number: plan_prompt(number, request.seed) for number in chosen.values()}
    # Fold by fold, as a worker keeps no more than two generators.
    for name, number in sorted(chosen.items(), key=lambda one: (one[1] - 1) % len(folds)):
        prompt, of_fold = prompts[number], folds[(number - 1) % len(folds)]
        shown = prompt.limited_to(of_fold.followed)
        about = {"prompt": shown.text, "attributes": shown.attributes, "fold": of_fold.fold}
        path, parameters = f"{SUBSET}/{name}.png", settings[of_fold.fold] | about
        record = planned_record(f"{SUBSET}/{name}", path, of_fold.inputs, choice.recorded_name, parameters, prompt.seed)
        tasks.append(Task(record, ImageWork(prompt.text, of_fold.choice, rounds.get(path, 0))))
    result = StageResult(notes=_folds_without_images(folds, plan))

    def show(done: int, total: int, name: str) -> None:
        """A later round makes some of the chosen images again; the others are done."""
        progress(len(chosen) - total + done, len(chosen), name)

    described: dict[str, Descriptor] = {}
    for _ in range(NUM_ROUNDS):
        made = make_files(
            workspace, SUBSET, tasks, make_image, num_workers=num_workers, engine=request.engine, progress=show
        )
        result = _merge_rounds(result, made)
        compared, digest = workspace.path(COMPARED), records_digest(workspace, [SUBSET])
        if compared.is_file() and compared.read_text("ascii", "replace") == digest:
            return result
        _describe_images(
            workspace, described, num_workers, engine, lambda: progress(len(chosen), len(chosen), "comparing images")
        )
        tasks = _remove_near_duplicates(workspace, tasks, described)
        if not tasks:
            write_text(compared, digest)
            return result
    gone = [task.planned.sample_id for task in tasks]
    result.made, result.kept = ([name for name in names if name not in gone] for names in (result.made, result.kept))
    for name in gone:
        result.refused[name] = f"nearly identical to another image in {NUM_ROUNDS} rounds; {way_out_of(name)}"
    return result


def make_image(workspace: Workspace, task: Task) -> Made:
    """Makes one image; runs in a worker.

    Raises:
        RejectedOutputError: it shows no face, or several, also with another seed.
    """
    import torch

    work: ImageWork = task.work
    pipeline = loaded(work.choice)

    def attempt(seed: int) -> Frame:
        generator = torch.Generator().manual_seed(seed)
        with one_thread() if pipeline.device.type == "cpu" else torch.inference_mode():
            image: Frame = pipeline(work.prompt, generator=[generator], output_type="np").images[0]
        check_image(task.planned.sample_id, image)
        return image

    first = (task.planned.seed or 0) + work.round * SEEDS_OF_A_ROUND
    image, notes = tried_twice(attempt, first, pipeline.draws)
    staged = workspace.staging_path(task.planned.path)
    Image.fromarray(image).save(staged, format="PNG", compress_level=PNG_LEVEL)
    sync_file(staged)
    height, width = image.shape[:2]
    files = {task.planned.path: staged}
    record = finished_record(task.planned, files, width=width, height=height, fps=None, num_frames=1, results=notes)
    return Made(record, files)


def _rounds_after_errors(workspace: Workspace) -> dict[str, int]:
    """Path -> the next round of seeds, of images in whose picture the last verification found an error.

    The same seed would give the same picture again, as near to a person as it was.
    """
    wrong = files_to_make_again(workspace, ["content"])
    return {
        record.path: (record.results.get("seed", record.seed) - record.seed) // SEEDS_OF_A_ROUND + 1
        for record in workspace.records(SUBSET).values()
        if record.seed is not None and wrong.get(record.path) == record.sha256
    }


def _merge_rounds(first: StageResult, later: StageResult) -> StageResult:
    """The result of two rounds; for images in both, that of the later one."""
    again = {*later.made, *later.kept, *later.refused}
    refused = {name: reason for name, reason in first.refused.items() if name not in again} | later.refused
    made = sorted({*first.made, *later.made} - set(refused), key=natural_key)
    kept = [name for name in first.kept if name not in again] + later.kept
    return StageResult(made, kept, refused, first.notes)


def _folds_without_images(folds: Sequence[FoldGenerator], plan: Plan | None) -> list[str]:
    """Folds whose people are too few to fit faces to, beside others."""
    missing = sorted(set(plan.folds.values() if plan else ()) - {of_fold.fold for of_fold in folds})
    return [
        f"fold {fold} gets no images: its people are fewer than {ENOUGH_PEOPLE}, too few for faces of nobody; "
        "add people and run `tooling plan`"
        for fold in missing
    ]


def _describe_images(
    workspace: Workspace,
    described: dict[str, Descriptor],
    num_workers: int,
    engine: Engine,
    say_so: Callable[[], None],
) -> None:
    """Adds the images that are not described yet, by their digest."""
    paths = {record.sha256: workspace.path(record.path) for record in workspace.records(SUBSET).values()}
    new = [(digest, path) for digest, path in paths.items() if digest not in described]
    for outcome in run_side_by_side(_describe, new, num_workers=num_workers, engine=engine, workspace=workspace):
        if outcome.error:
            raise outcome.error
        described[outcome.item[0]] = outcome.value
        say_so()


def _describe(item: tuple[str, Path]) -> Descriptor:
    return describe_image(read_image(item[1]))


def _remove_near_duplicates(
    workspace: Workspace, tasks: Sequence[Task], described: Mapping[str, Descriptor]
) -> list[Task]:
    """Removes every image that is a near-duplicate of an earlier one; returns their tasks, to make them again."""
    by_name = {task.planned.sample_id: task for task in tasks}
    records = list(workspace.records(SUBSET).values())
    descriptors = [described[record.sha256] for record in records]
    near: dict[int, list[tuple[float, int]]] = {}
    for one, other, distance in zip(*(part.tolist() for part in near_pairs(descriptors, descriptors)), strict=True):
        if one < other:
            near.setdefault(other, []).append((distance, one))
    removed: set[int] = set()
    again: dict[str, Task] = {}
    for number in sorted(near):
        record, earlier = records[number], [pair for pair in near[number] if pair[1] not in removed]
        if not earlier or record.sample_id not in by_name:
            continue
        task, reason = by_name[record.sample_id], f"nearly identical to {records[min(earlier)[1]].sample_id}"
        workspace.note_rejects(task.planned, [(record.results.get("seed", 0), reason)])
        removed.add(number)
        again[record.sample_id] = dataclasses.replace(
            task, work=dataclasses.replace(task.work, round=task.work.round + 1)
        )
    workspace.forget(SUBSET, list(again))
    return [again[name] for name in by_name if name in again]  # fold by fold, as they came


def _fold_generators(
    workspace: Workspace, choice: GeneratorChoice, num_workers: int, engine: Engine, say_what: Callable[[str], None]
) -> list[FoldGenerator]:
    info = GENERATORS.get(choice.name)
    if info is None or not info.is_fitted:
        followed = ATTRIBUTES if info is None else _followed(workspace, info.location, ())
        # Folds in the order of the images' numbers, evenly.
        return [FoldGenerator(fold, choice, {}, followed) for fold in (*range(1, NUM_FOLDS), 0)]
    plan = workspace.plan()
    if plan is None:
        raise WorkspaceError(f"{workspace.plan_path}: not found; run `tooling plan` first")
    groups = people_to_fit(plan.folds)
    if not groups:
        raise WorkspaceError(f"{workspace.plan_path}: no fold has {FEWEST_PEOPLE} people to fit faces to; add people")
    refuse_without_consent(workspace, sorted((who for people in groups.values() for who in people), key=natural_key))
    fits = [_fit_to(workspace, choice, fold, people) for fold, people in groups.items()]
    missing = [fit for fit in fits if not _is_fitted(workspace, fit)]
    if missing:
        folds = ", ".join(str(fit.fold) for fit in missing)
        say_what(f"fitting to the people of {'folds' if len(missing) > 1 else 'fold'} {folds}")
    work = partial(_fit, workspace)
    for outcome in run_side_by_side(work, missing, num_workers=num_workers, engine=engine, workspace=workspace):
        if outcome.error:
            raise outcome.error
        say_what(f"fold {outcome.item.fold}: fitted to {len(outcome.item.genders)} people")
    return [_fitted(workspace, choice, fit) for fit in fits]


def people_to_fit(folds: Mapping[str, int]) -> dict[int, list[str]]:
    """Fold -> its people, of folds that are large enough for images.

    Args:
        folds: of the plan, person -> fold.
    """
    groups = {fold: [who for who, own in folds.items() if own == fold] for fold in range(NUM_FOLDS)}
    largest = max(map(len, groups.values()))
    fewest = max(min(largest, ENOUGH_PEOPLE), FEWEST_PEOPLE)
    return {fold: people for fold, people in groups.items() if len(people) >= fewest}


def _fit_to(workspace: Workspace, choice: GeneratorChoice, fold: int, people: Sequence[str]) -> FoldFit:
    inputs = clip_inputs(workspace, people)
    if stale := people_with_stale_tracks(workspace, people):
        raise WorkspaceError(next(iter(stale.values())))
    identities, folder = workspace.identities(), workspace.models_path / choice.name / f"fold{fold}"
    genders = {who: identities[who].gender for who in people}
    return FoldFit(fold, GENERATORS[choice.name].location, folder, inputs, genders)


def _is_fitted(workspace: Workspace, fit: FoldFit) -> bool:
    """Whether the workspace has it; not if a clip has changed since."""
    note = fit.folder / "inputs.json"
    known = read_json(note, dict[str, str], f"delete {fit.folder}, it is fitted again") if note.is_file() else {}
    is_current = partial(_is_current, fit.location, fit.folder)
    return known == fit.inputs and bool(
        remembered(workspace, ["current", fit.location, states_of([fit.folder])], is_current)
    )


def _fit(workspace: Workspace, fit: FoldFit) -> None:
    """Fits a generator and saves it in the workspace; runs in a worker."""
    from generation.generators.weightfree.portrait.fitting import Person  # imports torch

    clips = [Person(face_clip(workspace, who, fit.inputs)[0], gender) for who, gender in fit.genders.items()]
    beside = fit.folder.with_name(f".{fit.folder.name}")
    shutil.rmtree(beside, ignore_errors=True)
    with one_thread():
        pipeline = imported(fit.location).fit(clips)
    pipeline.save_pretrained(beside)
    write_text(beside / "inputs.json", json.dumps(fit.inputs, indent=1))
    _replace_folder(beside, fit.folder)


def _fitted(workspace: Workspace, choice: GeneratorChoice, fit: FoldFit) -> FoldGenerator:
    options = dataclasses.replace(choice.options, weights=str(fit.folder))
    followed = _followed(workspace, fit.location, set(fit.genders.values()))
    return FoldGenerator(fit.fold, dataclasses.replace(choice, options=options), fit.inputs, followed)


def _followed(workspace: Workspace, location: str, genders: Collection[str]) -> frozenset[str]:
    """Attributes of a prompt that the images of a class of pipelines follow."""
    about = ["followed", location, sorted(genders)]
    return frozenset(remembered(workspace, about, lambda: sorted(imported(location).followed_attributes(genders))))


def _is_current(location: str, folder: Path) -> bool:
    return bool(imported(location).is_current(folder))


def _replace_folder(new: Path, folder: Path) -> None:
    for path in new.rglob("*"):
        if path.is_file():
            sync_file(path)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(new, folder)
