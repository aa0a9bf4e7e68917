"""plan: which fold each person is in, and which pairs of people become fakes.

Folds are identity-disjoint and stratified by gender. Pairs are drawn within one (gender, fold), each person once as
target and once as source: reciprocal (a_b and b_a), with one 3-cycle if the number is odd. So no two folds share a
person, nor do splits or cross-validation made of folds.

A later run keeps the fold of everyone who has one, and redraws pairs only in the folds that somebody joined or left.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from homologous_deepfake import PAIRED_SUBSETS
from tooling.errors import WorkspaceError
from tooling.workspace.files import write_text
from tooling.workspace.identities import Identity
from tooling.workspace.layout import Workspace
from tooling.workspace.plan_file import Pair, Plan, format_plan
from tooling.workspace.records import natural_key

# Five folds. Small sets fill training first, then test, then validation (homologous_deepfake.py: SPLIT_FOLDS).
FILL_ORDER = (2, 0, 1, 3, 4)


def draw_plan(workspace: Workspace) -> Plan:
    """Writes plan.json for everyone with a clip and granted consent; folds and pairs that still fit are kept.

    Raises:
        WorkspaceError: there are no clips, or plan.json is damaged.
        ConsentError: a person with a row or a clip was taken down.
    """
    identities = workspace.identities()
    clips = {record.sample_id.rpartition("/")[2] for record in workspace.records("raw_video").values()}
    for identity in sorted(clips | identities.keys(), key=natural_key):
        workspace.refuse_taken_down(str(workspace.identities_path), identity)
    if not clips:
        raise WorkspaceError(f"{workspace.root}: no clips yet; run `tooling ingest SOURCES` first")
    people = [person for person in identities.values() if person.id in clips and person.consent_status == "granted"]
    seed = workspace.settings.plan.seed
    earlier = workspace.plan()
    if earlier is None or earlier.seed != seed:
        earlier = Plan(seed)
    plan = make_plan(people, earlier)
    write_text(workspace.plan_path, format_plan(plan))
    return plan


def make_plan(people: Sequence[Identity], earlier: Plan) -> Plan:
    """Draws folds and pairs; the same people, seed and earlier plan give the same plan."""
    folds: dict[str, int] = {}
    pairs: dict[str, list[Pair]] = {subset: [] for subset in PAIRED_SUBSETS}
    for gender in ("male", "female"):
        ids = sorted((person.id for person in people if person.gender == gender), key=natural_key)
        assigned = _assign_folds(ids, gender, earlier)
        folds |= assigned
        for fold in sorted(FILL_ORDER):
            group = [identity for identity in ids if assigned[identity] == fold]
            for subset in PAIRED_SUBSETS:
                pairs[subset] += _draw_pairs(group, subset, gender, fold, earlier)
    ordered = {identity: folds[identity] for identity in sorted(folds, key=natural_key)}
    by_target = {
        subset: sorted(drawn, key=lambda pair: natural_key(f"{pair[0]}_{pair[1]}")) for subset, drawn in pairs.items()
    }
    return Plan(earlier.seed, ordered, by_target)


def _assign_folds(ids: Sequence[str], gender: str, earlier: Plan) -> dict[str, int]:
    """Folds of one gender. New people come in twos, so that nobody is left without a partner to be paired with."""
    assigned = {identity: earlier.folds[identity] for identity in ids if identity in earlier.folds}
    new = [identity for identity in ids if identity not in assigned]
    random.Random(f"{earlier.seed} folds {gender}").shuffle(new)
    while new:
        unit, new = new[:2], new[2:]
        sizes = Counter(assigned.values())
        candidates = FILL_ORDER if len(unit) == 2 else [fold for fold in FILL_ORDER if sizes[fold]] or FILL_ORDER
        fold = min(candidates, key=lambda fold: sizes[fold])
        assigned.update(dict.fromkeys(unit, fold))
    return assigned


def _draw_pairs(group: Sequence[str], subset: str, gender: str, fold: int, earlier: Plan) -> list[Pair]:
    kept = [pair for pair in earlier.pairs.get(subset, []) if pair[0] in group and pair[1] in group]
    if len({target for target, _ in kept}) == len(group) == len(kept):
        return kept
    drawn = list(group)
    random.Random(f"{earlier.seed} pairs {subset} {gender} {fold}").shuffle(drawn)
    if len(drawn) < 2:
        return []
    cycle = drawn[:3] if len(drawn) % 2 else []
    pairs = [(target, cycle[(at + 1) % 3]) for at, target in enumerate(cycle)]
    rest = drawn[len(cycle) :]
    for first, second in zip(rest[::2], rest[1::2], strict=True):
        pairs += [(first, second), (second, first)]
    return pairs
