"""plan.json: the fold of each person, and the pairs that become fakes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from tooling.workspace.decoding import read_json

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
    """

    seed: int
    folds: dict[str, int] = field(default_factory=dict)
    pairs: dict[str, list[Pair]] = field(default_factory=dict)


def format_plan(plan: Plan) -> str:
    """The text of plan.json: one person and one pair a line, so that a change reads well in a diff."""
    folds = ",\n".join(f"    {json.dumps(identity)}: {fold}" for identity, fold in plan.folds.items())
    pairs = ",\n".join(
        f"    {json.dumps(subset)}: [" + ",".join(f"\n      {json.dumps(pair)}" for pair in drawn) + "\n    ]"
        for subset, drawn in plan.pairs.items()
    )
    head = f'  "format": {PLAN_FORMAT},\n  "seed": {plan.seed},\n  "num_folds": {NUM_FOLDS},\n'
    return "{\n" + head + f'  "folds": {{\n{folds}\n  }},\n  "pairs": {{\n{pairs}\n  }}\n}}\n'


def read_plan(path: Path) -> Plan:
    """Reads plan.json.

    Raises:
        WorkspaceError: the file is damaged or of a newer format.
    """
    way_out = "delete it and run `tooling plan` again"
    return read_json(path, Plan, way_out, newest_format=PLAN_FORMAT, ignores_unknown=True)
