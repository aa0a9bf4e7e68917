"""Folds are identity-disjoint and balanced; pairs stay inside one gender and fold, and survive growth."""

from __future__ import annotations

from collections import Counter

import pytest

from homologous_deepfake import PAIRED_SUBSETS
from tooling.stages.plan import make_plan
from tooling.workspace.identities import Identity
from tooling.workspace.plan_file import Plan, format_plan


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
