"""Every subset of fakes through the stage: driven and edited clips, and images fitted to a fold's people."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import numpy as np
import pytest

from generation.crops.masks import read_masks
from generation.generators.prompts import plan_prompt
from generation.generators.registry import LoadOptions
from generation.generators.weightfree.faces import WeightfreeFaces
from generation.generators.weightfree.portrait.fitting import Person
from generation.media.reader import read_clip, read_image
from generation.quality.descriptor import Descriptor, describe_image
from homologous_deepfake import complete_row, read_rows
from tests.workspaces import reproducible_state
from tooling.errors import ConsentError, InputError, UsageError
from tooling.stages.generate import images as generate_images
from tooling.stages.generate import run as generate
from tooling.stages.generate.images import COMPARED, FoldGenerator, ImageWork, people_to_fit
from tooling.stages.generate.request import GeneratorChoice
from tooling.work.tasks import Task
from tooling.workspace.layout import Workspace
from tooling.workspace.path_kinds import unknown_paths
from tooling.workspace.records import StageResult
from tooling.workspace.verification_file import Finding, VerifiedFile, write_verification

NOTHING = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
NEAR = np.array([0, 1]), np.array([1, 0]), np.array([0.5, 0.5], np.float32)  # the first two are


def run(workspace: Workspace, subset: str, **request: Any) -> StageResult:
    return generate.generate_fakes(workspace, subset, generate.GenerateRequest(**request), num_workers=1)


def rows(workspace: Workspace, subset: str) -> dict[str, dict[str, Any]]:
    found = read_rows(str(workspace.root), subset)
    return {row["sample_id"]: complete_row(str(workspace.root), row) for split in found.values() for row in split}


def test_a_driven_clip_shows_the_target(workspace: Workspace) -> None:
    assert run(workspace, "avatarify_video", only=["1_2"]).made == ["avatarify_video/1_2"]
    row = rows(workspace, "avatarify_video")["avatarify_video/1_2"]
    assert (row["method"], row["identity"], row["real_path"]) == ("expression_driven", "1", "raw_video/1.mp4")
    made, real = (
        read_clip(workspace.path(f"{name}.mp4")).astype(int) for name in ("avatarify_video/1_2", "raw_video/1")
    )
    masks = np.stack(list(read_masks(workspace.path("masks/avatarify_video/1_2.mp4"))))
    change = np.abs(made - real).mean(-1)
    assert change[masks > 200].mean() > 2 * change[masks == 0].mean()


def test_an_edit_says_attribute_and_factor(workspace: Workspace) -> None:
    result = run(workspace, "edit_video", only=["hair/1"], factor=1.5)
    assert result.made == ["edit_video/hair/1"]
    row = rows(workspace, "edit_video")["edit_video/hair/1"]
    assert (row["attribute"], row["factor"], row["identity"]) == ("hair", 1.5, "1")
    assert run(workspace, "edit_video", only=["hair/1"], factor=1.5).kept == result.made
    assert run(workspace, "edit_video", only=["hair/1"]).made == result.made  # another factor is another fake
    with pytest.raises(UsageError, match="age/3: is not planned; planned are age/1, age/2, hair/1, hair/2"):
        run(workspace, "edit_video", only=["age/3"])


def test_an_edit_with_factor_zero_is_the_target(workspace: Workspace) -> None:
    assert run(workspace, "edit_video", only=["age/2"], factor=0.0).made == ["edit_video/age/2"]
    made, real = (read_clip(workspace.path(f"{name}.mp4")).astype(int) for name in ("edit_video/age/2", "raw_video/2"))
    assert np.abs(made - real).mean() < 2  # encoded once more


def test_images_are_planned_fitted_and_recorded(workspace: Workspace) -> None:
    result = run(workspace, "GAN_images", limit=3)
    assert result.made == ["GAN_images/000001", "GAN_images/000002", "GAN_images/000003"]
    row = rows(workspace, "GAN_images")["GAN_images/000002"]
    planned = plan_prompt(2)
    # Both people are of one gender, so that nothing of the prompt is true but its light.
    true = f"portrait photograph of a person, {planned.attributes['light']}"
    assert (row["prompt"], row["fold"], row["method"]) == (true, 2, "full_face_generation")
    assert row["seed"] in (planned.seed, planned.seed + 1)
    record = workspace.records("GAN_images")["GAN_images/000002"]
    inputs = ["raw_video/1.mp4", "raw_video/2.mp4", "tracks/1.json", "tracks/2.json"]
    assert sorted(record.inputs) == inputs
    assert all(workspace.matches_record(name, digest) for name, digest in record.inputs.items())
    image = read_image(workspace.path(record.path))
    assert image.shape == (record.height, record.width, 3)
    assert unknown_paths(workspace) == []
    before = reproducible_state(workspace)
    again = run(workspace, "GAN_images", limit=3)
    assert again.kept == result.made
    workspace.forget("GAN_images", ["GAN_images/000002"])
    assert run(workspace, "GAN_images", limit=3).made == ["GAN_images/000002"]
    assert reproducible_state(workspace) == before


def test_a_near_duplicate_is_made_again(fitted_copy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def once(first: list[Descriptor], second: list[Descriptor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        compared.append(len(first))
        return NEAR if len(compared) == 1 else NOTHING

    monkeypatch.setattr(generate_images, "near_pairs", once)
    shown: list[tuple[int, int, str]] = []
    request = generate.GenerateRequest(limit=2)
    (folder,) = fitted_copy.models_path.glob("*/fold2")
    shutil.rmtree(folder)
    result = generate.generate_fakes(
        fitted_copy, "GAN_images", request, num_workers=1, progress=lambda *step: shown.append(step)
    )
    assert result.made == ["GAN_images/000001", "GAN_images/000002"]
    assert not result.refused
    assert {total for _, total, _ in shown} == {2}  # also in the round that makes one of them again
    assert [done for done, _, name in shown if name.startswith("GAN_images/")] == [1, 2, 2]
    assert [name for _, _, name in shown[:2]] == ["fitting to the people of fold 2", "fold 2: fitted to 2 people"]
    assert "nearly identical to GAN_images/000001" in fitted_copy.rejects_path.read_text()
    seed = fitted_copy.records("GAN_images")["GAN_images/000002"].results["seed"]
    assert seed in (plan_prompt(2).seed + 2, plan_prompt(2).seed + 3)
    assert compared == [2, 2]
    assert len(run(fitted_copy, "GAN_images", limit=2).kept) == 2
    assert compared == [2, 2]  # what was compared is not read again
    fitted_copy.path(COMPARED).unlink()  # killed before it was written
    assert len(run(fitted_copy, "GAN_images", limit=2).kept) == 2
    assert compared == [2, 2, 2]


def test_an_image_that_is_too_near_to_a_person_is_drawn_again(fitted_copy: Workspace) -> None:
    name = "GAN_images/000001"
    assert run(fitted_copy, "GAN_images", limit=1).made == [name]
    seeds = [plan_prompt(1).seed]
    for _ in range(2):
        record = fitted_copy.records("GAN_images")[name]
        near = Finding(
            "error", "content", record.path, "its face is at a distance of 0.30 from that of raw_video/1.mp4"
        )
        write_verification(fitted_copy, [VerifiedFile(record.path, record.sha256, (near,))])
        assert run(fitted_copy, "GAN_images", limit=1).made == [name]
        again = fitted_copy.records("GAN_images")[name]
        assert again.sha256 != record.sha256
        seeds.append(again.results["seed"])
        assert seeds[-1] > seeds[-2]
    assert run(fitted_copy, "GAN_images", limit=1).kept == [name]


def test_a_space_of_an_older_version_is_fitted_again(fitted_copy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(clips: list[Person]) -> None:
        raise InputError(f"fitted to {len(clips)} people")

    monkeypatch.setattr(WeightfreeFaces, "fit", fit)
    run(fitted_copy, "GAN_images", limit=1)
    for index in fitted_copy.models_path.glob("*/*/model_index.json"):
        index.write_text(index.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(InputError, match="fitted to 2 people"):
        run(fitted_copy, "GAN_images", limit=1)


def test_images_are_of_folds_with_enough_people() -> None:
    folds = {"1": 0, "2": 0, "3": 0, "4": 1, "5": 1, "6": 1, "7": 1, "8": 2, "9": 2, "10": 3}
    assert people_to_fit(folds) == {0: ["1", "2", "3"], 1: ["4", "5", "6", "7"]}
    assert people_to_fit({"1": 4, "2": 4, "3": 1}) == {4: ["1", "2"]}  # rather than none
    assert people_to_fit({"1": 4, "2": 3}) == people_to_fit({}) == {}


def test_what_stays_a_near_duplicate_is_refused_and_not_made(
    fitted_copy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate_images, "near_pairs", lambda first, second: NEAR if len(first) > 1 else NOTHING)
    result = run(fitted_copy, "GAN_images", limit=2)
    assert result.made == ["GAN_images/000001"]
    assert "nearly identical to another image in 8 rounds" in result.refused["GAN_images/000002"]
    assert list(fitted_copy.records("GAN_images")) == ["GAN_images/000001"]
    assert not fitted_copy.path("GAN_images/000002.png").exists()


def test_images_need_the_consent_of_those_they_are_fitted_to(workspace: Workspace) -> None:
    text = workspace.identities_path.read_text("utf-8")
    workspace.identities_path.write_text(text.replace("2,male,granted", "2,male,withdrawn"), "utf-8")
    with pytest.raises(ConsentError, match="no consent for identity 2"):
        run(workspace, "GAN_images", limit=1)
    assert not workspace.path("GAN_images").exists()


def test_images_are_made_fold_by_fold(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def note(place: Workspace, subset: str, tasks: list[Task], *others: Any, **options: Any) -> StageResult:
        made.extend(task.planned.parameters["fold"] for task in tasks)
        return StageResult()

    monkeypatch.setattr(generate_images, "make_files", note)
    choice = GeneratorChoice("weightfree-faces", "full_face_generation", LoadOptions())
    folds = [FoldGenerator(fold, choice, {}) for fold in (1, 2, 0)]
    monkeypatch.setattr(generate_images, "_fold_generators", lambda *arguments: folds)
    monkeypatch.setattr(GeneratorChoice, "parameters", lambda self: {})
    run(workspace, "GAN_images", limit=7)
    assert made == [1, 1, 1, 2, 2, 0, 0]  # a worker that went from fold to fold would load a generator for each image


def test_images_that_are_alike_are_made_again_fold_by_fold(
    fitted_copy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(fitted_copy, "GAN_images", limit=2)
    record = fitted_copy.records("GAN_images")["GAN_images/000001"]
    names = {f"GAN_images/00000{number}": number for number in range(1, 6)}
    records = {name: dataclasses.replace(record, sample_id=name, sha256=name) for name in names}
    monkeypatch.setattr(Workspace, "records", lambda self, subset: records)
    monkeypatch.setattr(Workspace, "forget", lambda self, subset, names: None)
    monkeypatch.setattr(
        generate_images, "near_pairs", lambda first, second: (np.zeros(4, int), np.arange(1, 5), np.ones(4))
    )
    described = describe_image(np.zeros((8, 8, 3), np.uint8))
    order = ["GAN_images/000001", "GAN_images/000004", "GAN_images/000002", "GAN_images/000005", "GAN_images/000003"]
    tasks = [Task(records[name], ImageWork("", GeneratorChoice("x", "face_swap", LoadOptions()))) for name in order]
    again = generate_images._remove_near_duplicates(fitted_copy, tasks, dict.fromkeys(names, described))
    assert [task.planned.sample_id for task in again] == order[1:]
    assert {task.work.round for task in again} == {1}
