"""Which fakes a plan is about, by sample_id; apart from `plan_file`, which is read where `datasets` is not loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from homologous_deepfake import ATTRIBUTES, METHODS, PAIRED_SUBSETS, SUBSETS, people_of
from tooling.workspace.plan_file import Pair, Plan
from tooling.workspace.records import natural_key

PLANNED_SUBSETS = tuple(name for name, subset in SUBSETS.items() if subset.method != METHODS[0])
"""Subsets of fakes: what a plan is about."""


def fakes_of(plan: Plan, subset: str) -> list[str]:
    """sample_ids of the planned fakes of a subset in natural order, also of those that are left out."""
    names: Iterable[str]
    if subset in PAIRED_SUBSETS:
        names = (f"{target}_{source}" for target, source in plan.pairs.get(subset, []))
    elif "{attribute}" in SUBSETS[subset].pattern:
        names = (f"{attribute}/{person}" for attribute in ATTRIBUTES for person in plan.folds)
    else:
        names = (f"{number:06d}" for number in range(1, SUBSETS[subset].count + 1))
    return sorted((f"{subset}/{name}" for name in names), key=natural_key)


def without_person(plan: Plan, identity: str) -> Plan:
    """The plan without one person's fold, pairs and fakes."""

    def others(pairs: dict[str, list[Pair]]) -> dict[str, list[Pair]]:
        return {subset: [pair for pair in drawn if identity not in pair] for subset, drawn in pairs.items()}

    return dataclasses.replace(
        plan,
        folds={name: fold for name, fold in plan.folds.items() if name != identity},
        pairs=others(plan.pairs),
        left_out={name: why for name, why in plan.left_out.items() if identity not in people_of(name)},
        turned_down=others(plan.turned_down),
    )
