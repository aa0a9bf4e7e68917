"""plan.json: the fold of each person, the pairs that become fakes, and which planned fakes are left out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from homologous_deepfake import ATTRIBUTES, PAIRED_SUBSETS, SUBSETS, people_of
from tooling.workspace.decoding import read_json
from tooling.workspace.records import natural_key

PLAN_FORMAT = 1
NUM_FOLDS = 5
Pair = tuple[str, str]
"""(target, source) of one planned fake."""


@dataclass(frozen=True)
class Plan:
    """The content of plan.json.

    Attributes:
        seed: of every draw.
        folds: identity -> fold, 0 to 4.
        pairs: subset -> (target, source) of each fake, in natural order.
        left_out: sample_id of a planned fake -> why it is not made.
        turned_down: subset -> pairs that the maintainers had drawn again; they are not drawn another time.
    """

    seed: int
    folds: dict[str, int] = field(default_factory=dict)
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    turned_down: dict[str, list[Pair]] = field(default_factory=dict)


def format_plan(plan: Plan) -> str:
    """The text of plan.json: one person, one pair and one fake a line, so that a change reads well in a diff."""
    parts = [f'"format": {PLAN_FORMAT}', f'"seed": {plan.seed}', f'"num_folds": {NUM_FOLDS}']
    parts.append(f'"folds": {_lines((f"{json.dumps(name)}: {fold}" for name, fold in plan.folds.items()), "{}", 2)}')
    parts.append(f'"pairs": {_pairs(plan.pairs)}')
    if plan.left_out:
        reasons = (f"{json.dumps(name)}: {json.dumps(why, ensure_ascii=False)}" for name, why in plan.left_out.items())
        parts.append(f'"left_out": {_lines(reasons, "{}", 2)}')
    if any(plan.turned_down.values()):
        parts.append(f'"turned_down": {_pairs(plan.turned_down)}')
    return "{\n  " + ",\n  ".join(parts) + "\n}\n"


def _pairs(pairs: dict[str, list[Pair]]) -> str:
    of_subsets = (f"{json.dumps(subset)}: {_lines(map(json.dumps, drawn), '[]', 4)}" for subset, drawn in pairs.items())
    return _lines(of_subsets, "{}", 2)


def _lines(entries: Iterable[str], brackets: str, indent: int) -> str:
    inside = ",".join(f"\n{' ' * (indent + 2)}{entry}" for entry in entries)
    return f"{brackets[0]}{inside}\n{' ' * indent}{brackets[1]}"


def read_plan(path: Path) -> Plan:
    """Reads plan.json.

    Raises:
        WorkspaceError: the file is damaged or of a newer format.
    """
    way_out = "delete it and run `tooling plan` again"
    return read_json(path, Plan, way_out, newest_format=PLAN_FORMAT, ignores_unknown=True)


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
