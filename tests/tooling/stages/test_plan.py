"""Folds are disjoint and balanced; pairs stay in one gender and fold and survive growth; fakes can be left out."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from typer.testing import CliRunner

from homologous_deepfake import PAIRED_SUBSETS
from tests import workspaces
from tooling.cli.app import app
from tooling.errors import UsageError
from tooling.stages.plan import PlanChange, change_plan, draw_plan, make_plan, redraw_pair
from tooling.workspace.files import write_text
from tooling.workspace.identities import Identity, format_identities
from tooling.workspace.layout import Workspace
from tooling.workspace.plan_file import Plan, fakes_of, format_plan
from tooling.workspace.records import natural_key


def people(num_men: int, num_women: int) -> list[Identity]:
    men = [Identity(str(n), "male", "granted") for n in range(1, num_men + 1)]
    women = [Identity(str(n), "female", "granted") for n in range(num_men + 1, num_men + num_women + 1)]
    return men + women


def test_full_set_has_ten_of_each_gender_in_each_fold() -> None:
    everyone = people(50, 50)
    plan = make_plan(everyone, Plan(seed=0))
    counts = Counter((person.gender, plan.folds[person.id]) for person in everyone)
    assert counts == {(gender, fold): 10 for gender in ("male", "female") for fold in range(5)}
    assert {subset: len(drawn) for subset, drawn in plan.pairs.items()} == {"avatarify_video": 100, "swap_video": 100}


@pytest.mark.parametrize(
    ("num_men", "num_women", "expected"),
    [
        (4, 2, {("male", 2): 2, ("female", 0): 2, ("male", 1): 2}),
        (4, 4, {("male", 2): 2, ("female", 0): 2, ("male", 1): 2, ("female", 2): 2}),
        (6, 0, {("male", 2): 2, ("male", 0): 2, ("male", 1): 2}),
        (3, 3, {("male", 2): 3, ("female", 0): 3}),  # a third split would have to part a pair
    ],
)
def test_few_people_fill_training_test_and_validation_first(
    num_men: int, num_women: int, expected: dict[tuple[str, int], int]
) -> None:
    everyone = people(num_men, num_women)
    plan = make_plan(everyone, Plan(seed=0))
    assert Counter((person.gender, plan.folds[person.id]) for person in everyone) == expected


def test_newcomers_fill_the_split_that_has_nobody() -> None:
    before = Plan(seed=0, folds={"1": 2, "2": 2, "3": 1, "4": 1})
    after = make_plan(people(6, 0), before)
    assert after.folds == {**before.folds, "5": 0, "6": 0}


@pytest.mark.parametrize(("num_men", "num_women"), [(50, 50), (3, 3), (7, 2), (11, 22), (1, 5), (2, 0)])
def test_pairs_stay_in_gender_and_fold_and_use_everyone_once(num_men: int, num_women: int) -> None:
    everyone = people(num_men, num_women)
    gender = {person.id: person.gender for person in everyone}
    plan = make_plan(everyone, Plan(seed=3))
    groups = Counter((gender[identity], fold) for identity, fold in plan.folds.items())
    paired = [identity for identity, fold in plan.folds.items() if groups[gender[identity], fold] > 1]
    for subset in PAIRED_SUBSETS:
        pairs = plan.pairs[subset]
        assert sorted(target for target, _ in pairs) == sorted(source for _, source in pairs) == sorted(paired)
        assert all(a != b and gender[a] == gender[b] and plan.folds[a] == plan.folds[b] for a, b in pairs)
        not_reciprocal = [pair for pair in pairs if pair[::-1] not in pairs]
        num_odd_groups = sum(size % 2 for size in groups.values() if size > 1)
        assert len(not_reciprocal) == 3 * num_odd_groups
    alone = [identity for identity in plan.folds if identity not in paired]
    assert len(alone) == (num_men == 1) + (num_women == 1)


def test_same_seed_same_plan_and_other_seed_another() -> None:
    first, again = (make_plan(people(20, 20), Plan(seed=1)) for _ in range(2))
    assert format_plan(first) == format_plan(again)
    assert format_plan(make_plan(people(20, 20), Plan(seed=2))) != format_plan(first)


def test_newcomers_and_leavers_move_nobody_and_change_only_their_groups() -> None:
    before = make_plan(people(20, 20), Plan(seed=0))
    newcomers = [Identity("77", "male", "granted"), Identity("78", "male", "granted")]
    stayed = [person for person in people(20, 20) if person.id != "30"]
    after = make_plan([*stayed, *newcomers], before)
    assert all(after.folds[identity] == fold for identity, fold in before.folds.items() if identity != "30")
    touched = {after.folds["77"], before.folds["30"]}
    kept = {pair for pair in before.pairs["swap_video"] if before.folds[pair[0]] not in touched}
    assert kept
    assert kept <= set(after.pairs["swap_video"])
    assert not any("30" in pair for pair in after.pairs["swap_video"])


def genders(everyone: list[Identity]) -> dict[str, str]:
    return {person.id: person.gender for person in everyone}


def is_whole(plan: Plan, everyone: list[Identity]) -> bool:
    """Whether all pairs of swaps lie in a fold and gender, use everyone once each way, and are reciprocal but for 3."""
    pairs, gender = plan.pairs["swap_video"], genders(everyone)
    groups = Counter((gender[name], fold) for name, fold in plan.folds.items())
    paired = sorted(name for name, fold in plan.folds.items() if groups[gender[name], fold] > 1)
    num_odd_groups = sum(size % 2 for size in groups.values() if size > 1)
    return (
        sorted(target for target, _ in pairs) == sorted(source for _, source in pairs) == paired
        and all(a != b and gender[a] == gender[b] and plan.folds[a] == plan.folds[b] for a, b in pairs)
        and sum(pair[::-1] not in pairs for pair in pairs) == 3 * num_odd_groups
    )


@pytest.mark.parametrize("num_men", [20, 15, 25])
def test_a_pair_that_is_redrawn_has_another_partner_and_the_plan_its_rules(num_men: int) -> None:
    everyone = people(num_men, 4)
    before = make_plan(everyone, Plan(seed=0))
    sizes = Counter((genders(everyone)[name], fold) for name, fold in before.folds.items())
    for target, source in before.pairs["swap_video"]:
        if sizes[genders(everyone)[target], before.folds[target]] == 2:
            with pytest.raises(
                UsageError, match=rf"^swap_video/{target}_{source}: .*nobody else .*--exclude swap_video"
            ):
                redraw_pair(before, f"swap_video/{target}_{source}", genders(everyone))
            continue
        plan, new = redraw_pair(before, f"swap_video/{target}_{source}", genders(everyone))
        assert is_whole(plan, everyone)
        assert (target, source) not in plan.pairs["swap_video"]
        assert {f"swap_video/{a}_{b}" for a, b in set(plan.pairs["swap_video"]) - set(before.pairs["swap_video"])} == {
            *new
        }
        assert len(new) <= 6
        assert plan.pairs["avatarify_video"] == before.pairs["avatarify_video"]
        assert make_plan(everyone, plan) == plan  # a later run keeps it


def test_a_pair_that_was_turned_down_does_not_come_back() -> None:
    everyone = people(4, 0)
    plan = make_plan(everyone, Plan(seed=0, folds={str(n): 2 for n in range(1, 5)}))
    seen = [dict(plan.pairs["swap_video"])["1"]]
    for _ in range(2):
        plan, _ = redraw_pair(plan, f"swap_video/1_{seen[-1]}", genders(everyone))
        seen.append(dict(plan.pairs["swap_video"])["1"])
    assert sorted(seen) == ["2", "3", "4"]
    with pytest.raises(UsageError, match=r"every other partner was turned down before; .*--exclude"):
        redraw_pair(plan, f"swap_video/1_{seen[-1]}", genders(everyone))
    plan = dataclasses.replace(plan, turned_down={"swap_video": plan.turned_down["swap_video"][:2]})
    grown = make_plan([*everyone, Identity("9", "male", "granted"), Identity("10", "male", "granted")], plan)
    assert len(grown.pairs["swap_video"]) == 6
    regrouped = make_plan(everyone, dataclasses.replace(plan, pairs={}))
    assert not set(regrouped.pairs["swap_video"]) & set(plan.turned_down["swap_video"])


def test_what_is_left_out_is_kept_with_its_reason_and_can_be_taken_back(workspace_copy: Workspace) -> None:
    old = workspace_copy.plan_path.read_text()
    pair = next(iter(workspace_copy.records("swap_video")))
    names = (pair, "edit_video/hair/7", "GAN_images/000002")
    result = change_plan(workspace_copy, PlanChange(exclude=names, reason="glasses\nthat melt"))
    assert set(result.removed) == set(names)
    assert not any(workspace_copy.path(path).exists() for path in (f"{pair}.mp4", "GAN_images/000002.png"))
    assert pair not in workspace_copy.records("swap_video")
    plan = draw_plan(workspace_copy)
    assert plan.left_out == dict.fromkeys(sorted(names, key=natural_key), "glasses that melt")
    assert workspace_copy.plan() == plan
    assert change_plan(workspace_copy, PlanChange(include=names)).plan.left_out == {}
    assert workspace_copy.plan_path.read_text() == old


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (PlanChange(exclude=["swap_vid/1_2"]), r"^swap_vid/1_2: is of no subset of fakes; name it as in"),
        (PlanChange(exclude=["raw_video/1"]), r"^raw_video/1: is of no subset of fakes"),
        (PlanChange(include=["swap_video/1_99"]), r"^swap_video/1_99: is not planned; planned are swap_video/"),
        (PlanChange(redraw=["edit_video/age/1"]), r"^edit_video/age/1: has no partner to draw; leave it out with"),
    ],
)
def test_names_that_cannot_be_meant_change_nothing(
    small_workspace: Workspace, change: PlanChange, message: str
) -> None:
    before = small_workspace.plan_path.read_bytes()
    with pytest.raises(UsageError, match=message):
        change_plan(small_workspace, change)
    assert small_workspace.plan_path.read_bytes() == before


def test_files_of_a_pair_that_is_redrawn_go_and_others_only_if_pruned(workspace_copy: Workspace) -> None:
    everyone = {
        name: dataclasses.replace(person, gender="male") for name, person in workspace_copy.identities().items()
    }
    write_text(workspace_copy.identities_path, format_identities(everyone))  # four of a gender in each fold
    workspaces.add_file(workspace_copy, "swap_video/1_12.mp4", "weightfree-swap", {})
    stale = change_plan(workspace_copy, PlanChange())
    assert (stale.unplanned, stale.removed) == (["swap_video/1_12"], [])
    told = CliRunner().invoke(app, ["plan", "-w", str(workspace_copy.root)])
    assert "swap_video/1_12; `tooling plan --prune` removes them" in told.stderr
    pruned = CliRunner().invoke(app, ["plan", "-w", str(workspace_copy.root), "--prune"])
    assert (pruned.exit_code, pruned.stderr) == (0, "swap_video/1_12: removed\n")
    assert "swap_video/1_12" not in workspace_copy.records("swap_video")
    kept = {subset: set(workspace_copy.records(subset)) for subset in PAIRED_SUBSETS}
    assert all(kept[subset] <= set(fakes_of(stale.plan, subset)) for subset in PAIRED_SUBSETS)
    pair = fakes_of(stale.plan, "swap_video")[0]
    result = change_plan(workspace_copy, PlanChange(redraw=[pair]))
    assert pair in result.removed
    assert pair not in workspace_copy.records("swap_video")
    assert not result.unplanned


def test_pairs_that_are_redrawn_together_may_be_each_other_s(workspace_copy: Workspace) -> None:
    everyone = {
        name: dataclasses.replace(person, gender="male") for name, person in workspace_copy.identities().items()
    }
    write_text(workspace_copy.identities_path, format_identities(everyone))  # four of a gender in each fold
    before = draw_plan(workspace_copy).pairs["swap_video"]
    target, source = before[0]
    names = [f"swap_video/{target}_{source}", f"swap_video/{source}_{target}"]
    result = change_plan(workspace_copy, PlanChange(redraw=names))
    now = fakes_of(result.plan, "swap_video")
    assert not set(names) & set(now)
    assert list(result.redrawn) == names
    assert all(set(new) <= set(now) and new for new in result.redrawn.values())
    assert set(result.plan.turned_down["swap_video"]) == {(target, source), (source, target)}
