"""plan: which fold each person is in, which pairs of people become fakes, and which fakes are left out.

Folds are identity-disjoint and stratified by gender; the first people fill training, test and validation with two of
one gender each. Pairs are drawn within one (gender, fold), each person once as target and once as source: reciprocal
(a_b and b_a), with one 3-cycle if the number is odd. So no two folds share a person, nor do splits or cross-validation
made of folds.

A later run keeps the fold of everyone who has one, and redraws pairs only in the folds that somebody joined or left.
The maintainers can leave single fakes out, and have a pair drawn again: its target and another person of the same
(gender, fold) then exchange their sources, so that all pairs stay reciprocal.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from homologous_deepfake import FAKES, PAIRED_SUBSETS
from tooling.errors import UsageError, WorkspaceError, listed
from tooling.workspace.files import write_text
from tooling.workspace.identities import Identity
from tooling.workspace.layout import Workspace
from tooling.workspace.plan_file import Pair, Plan, fakes_of, format_plan
from tooling.workspace.records import natural_key

# Five folds. The first three are one of training, test and validation each (homologous_deepfake.py: SPLIT_FOLDS).
FILL_ORDER = (2, 0, 1, 3, 4)
FIRST_FOLDS = FILL_ORDER[:3]
NUM_DRAWS = 100  # of a group, to avoid pairs that were turned down


@dataclass(frozen=True)
class PlanChange:
    """What the maintainers change in a plan, by sample_id ("swap_video/1_2", "edit_video/hair/7").

    Attributes:
        exclude: fakes to leave out, for `reason`.
        include: fakes to make after all.
        redraw: pairs for which another partner is drawn.
        reason: why the fakes in `exclude` are left out.
        is_pruning: whether every fake made here that the plan does not have, or leaves out, is removed.
    """

    exclude: Sequence[str] = ()
    include: Sequence[str] = ()
    redraw: Sequence[str] = ()
    reason: str = "excluded by the maintainers"
    is_pruning: bool = False


@dataclass(frozen=True)
class PlanResult:
    """What became of a plan.

    Attributes:
        plan: as written.
        redrawn: sample_id of a pair that was drawn again -> those that took the places of all that changed with it.
        removed: fakes that were removed with their masks and records, by sample_id.
        unplanned: fakes made here that the plan does not have, or leaves out, and that are still there.
    """

    plan: Plan
    redrawn: dict[str, list[str]] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    unplanned: list[str] = field(default_factory=list)


def draw_plan(workspace: Workspace) -> Plan:
    """Writes plan.json for everyone with a clip and granted consent; folds and pairs that still fit are kept.

    Raises:
        WorkspaceError: there are no clips, or plan.json is damaged.
        ConsentError: a person with a row or a clip was taken down.
    """
    return change_plan(workspace, PlanChange()).plan


def change_plan(workspace: Workspace, change: PlanChange) -> PlanResult:
    """Draws the plan as `draw_plan` does, changes it, and removes the files of fakes that the change is about.

    Removed are the files of fakes that are left out, and those made here of pairs that were drawn again.

    Args:
        workspace: locked by the caller.
        change: checked as a whole before anything is written.

    Raises:
        UsageError: a name is not planned, or a pair has no other partner.
        WorkspaceError, ConsentError: see `draw_plan`.
    """
    plan = _drawn(workspace)
    before = {name for subset in PAIRED_SUBSETS for name in fakes_of(plan, subset)}
    for name in change.redraw:
        _check_planned(plan, name)
    plan, new = _with_turned_down(plan, change.redraw), {}
    for name in change.redraw:
        if name in fakes_of(plan, name.partition("/")[0]):  # else it changed with one of those before it
            plan, new[name] = redraw_pair(plan, name, _genders(workspace))
    redrawn = {name: _planned_of(plan, name, new.get(name, [])) for name in change.redraw}
    for name in (*change.exclude, *change.include):
        _check_planned(plan, name)
    left_out = plan.left_out | dict.fromkeys(change.exclude, " ".join(change.reason.split()))
    plan = _with_left_out(plan, {name: why for name, why in left_out.items() if name not in change.include})
    write_text(workspace.plan_path, format_plan(plan))
    unplanned = _unplanned(workspace, plan)
    gone = before - {name for subset in PAIRED_SUBSETS for name in fakes_of(plan, subset)}
    removed = [name for name in unplanned if change.is_pruning or name in gone]
    there = {name for subset in FAKES for name in workspace.records(subset)}
    removed += [name for name in change.exclude if name in plan.left_out and name in there and name not in removed]
    for subset in FAKES:
        if of_subset := [name for name in removed if name.startswith(f"{subset}/")]:
            workspace.forget(subset, of_subset)
    return PlanResult(plan, redrawn, removed, [name for name in unplanned if name not in removed])


def _unplanned(workspace: Workspace, plan: Plan) -> list[str]:
    """Fakes made here that a plan does not have, or leaves out."""
    return [
        name
        for subset in FAKES
        for planned in [set(fakes_of(plan, subset))]
        for name, record in workspace.records(subset).items()
        if record.origin == "made" and (name not in planned or name in plan.left_out)
    ]


def _check_planned(plan: Plan, name: str) -> None:
    subset = name.partition("/")[0]
    if subset not in FAKES:
        raise UsageError(f"{name}: is of no subset of fakes; name it as in {FAKES[0]}/1_2 or edit_video/age/1")
    planned = fakes_of(plan, subset)
    if name not in planned:
        raise UsageError(f"{name}: is not planned; planned are {listed(planned, 8) or 'none'}")


def _planned_of(plan: Plan, name: str, new: Sequence[str]) -> list[str]:
    """Of the pairs that are new since one was drawn again those that still are planned, else its target's."""
    planned = fakes_of(plan, name.partition("/")[0])
    return [one for one in new if one in planned] or [
        one for one in planned if one.rpartition("_")[0] == name.rpartition("_")[0]
    ]


def _with_turned_down(plan: Plan, names: Sequence[str]) -> Plan:
    """The plan in which these pairs are not drawn another time."""
    turned_down = {subset: {*pairs} for subset, pairs in plan.turned_down.items()}
    for name in names:
        subset, _, pair = name.partition("/")
        if subset in PAIRED_SUBSETS:
            target, source = pair.split("_")
            turned_down.setdefault(subset, set()).add((target, source))
    return dataclasses.replace(
        plan, turned_down={subset: sorted(pairs, key=_pair_key) for subset, pairs in turned_down.items()}
    )


def redraw_pair(plan: Plan, name: str, genders: dict[str, str]) -> tuple[Plan, list[str]]:
    """Draws another source for a pair, by exchanging its source with another person of the fold in all their pairs.

    Args:
        plan: has the pair.
        name: sample_id of the pair, "swap_video/1_2".
        genders: identity -> gender.

    Returns:
        The plan, and the sample_ids of the pairs that are new in it.

    Raises:
        UsageError: it is no pair, or the fold has no other partner for it.
    """
    subset = name.partition("/")[0]
    if subset not in PAIRED_SUBSETS:
        raise UsageError(f"{name}: has no partner to draw; leave it out with `tooling plan --exclude {name}`")
    target, source = name.rpartition("/")[2].split("_")
    others = [
        person
        for person, fold in plan.folds.items()
        if fold == plan.folds[target] and genders.get(person) == genders.get(target) and person not in (target, source)
    ]
    random.Random(f"{plan.seed} redraw {name}").shuffle(others)
    plan = _with_turned_down(plan, [name])
    refused = set(plan.turned_down[subset])
    old = plan.pairs[subset]
    for other in others:
        exchanged = {source: other, other: source}
        pairs = [(exchanged.get(a, a), exchanged.get(b, b)) for a, b in old]
        new = set(pairs) - set(old)
        if not new & refused:
            break
    else:
        why = "its fold has nobody else of that gender" if not others else "every other partner was turned down before"
        raise UsageError(f"{name}: cannot be redrawn, {why}; leave it out with `tooling plan --exclude {name}`")
    plan = dataclasses.replace(plan, pairs={**plan.pairs, subset: sorted(pairs, key=_pair_key)})
    return _with_left_out(plan, plan.left_out), [f"{subset}/{a}_{b}" for a, b in sorted(new, key=_pair_key)]


def _with_left_out(plan: Plan, left_out: dict[str, str]) -> Plan:
    """The plan with these fakes left out, as far as they are planned."""
    planned = {name for subset in {name.partition("/")[0] for name in left_out} for name in fakes_of(plan, subset)}
    kept = {name: left_out[name] for name in sorted(left_out, key=natural_key) if name in planned}
    return dataclasses.replace(plan, left_out=kept)


def _pair_key(pair: Pair) -> tuple[int | str, ...]:
    return natural_key(f"{pair[0]}_{pair[1]}")


def _genders(workspace: Workspace) -> dict[str, str]:
    return {name: person.gender for name, person in workspace.identities().items()}


def _drawn(workspace: Workspace) -> Plan:
    identities = workspace.identities()
    clips = {record.sample_id.rpartition("/")[2] for record in workspace.records("raw_video").values()}
    for identity in sorted(clips | identities.keys(), key=natural_key):
        workspace.refuse_taken_down(str(workspace.identities_path), identity)
    if not clips:
        raise WorkspaceError(f"{workspace.root}: no clips yet; run `tooling ingest SOURCES` first")
    people = [person for person in identities.values() if person.id in clips and person.consent_status == "granted"]
    seed = workspace.settings.plan.seed
    earlier = workspace.plan() or Plan(seed)
    if earlier.seed != seed:
        earlier = Plan(seed, left_out=earlier.left_out, turned_down=earlier.turned_down)
    return make_plan(people, earlier)


def make_plan(people: Sequence[Identity], earlier: Plan) -> Plan:
    """Draws folds and pairs; the same people, seed and earlier plan give the same plan."""
    pairs: dict[str, list[Pair]] = {subset: [] for subset in PAIRED_SUBSETS}
    of_gender = {
        gender: sorted((person.id for person in people if person.gender == gender), key=natural_key)
        for gender in ("male", "female")
    }
    folds = _assign_folds(of_gender, earlier)
    for gender, ids in of_gender.items():
        for fold in sorted(FILL_ORDER):
            group = [identity for identity in ids if folds[identity] == fold]
            for subset in PAIRED_SUBSETS:
                pairs[subset] += _draw_pairs(group, subset, gender, fold, earlier)
    ordered = {identity: folds[identity] for identity in sorted(folds, key=natural_key)}
    by_target = {subset: sorted(drawn, key=_pair_key) for subset, drawn in pairs.items()}
    plan = Plan(earlier.seed, ordered, by_target, turned_down=earlier.turned_down)
    return _with_left_out(plan, earlier.left_out)


def _assign_folds(of_gender: dict[str, list[str]], earlier: Plan) -> dict[str, int]:
    """Identity -> fold. New people come in twos, so that nobody is left without a partner to be paired with.

    The first two of any gender go where a split has nobody; all others to where their gender has the fewest.
    """
    assigned: dict[str, dict[str, int]] = {}
    new: dict[str, list[str]] = {}
    for gender, ids in of_gender.items():
        assigned[gender] = {identity: earlier.folds[identity] for identity in ids if identity in earlier.folds}
        new[gender] = [identity for identity in ids if identity not in assigned[gender]]
        random.Random(f"{earlier.seed} folds {gender}").shuffle(new[gender])
    taken = {fold for folds in assigned.values() for fold in folds.values()}
    for fold in FIRST_FOLDS:
        gender = max(new, key=lambda gender: (len(new[gender]), -len(assigned[gender])))
        if fold not in taken and len(new[gender]) >= 2:
            assigned[gender].update(dict.fromkeys([new[gender].pop(0), new[gender].pop(0)], fold))
    for gender, left in new.items():
        for unit in (left[at : at + 2] for at in range(0, len(left), 2)):
            sizes = Counter(assigned[gender].values())
            candidates = FILL_ORDER if len(unit) == 2 else [fold for fold in FILL_ORDER if sizes[fold]] or FILL_ORDER
            fold = min(candidates, key=lambda fold: sizes[fold])
            assigned[gender].update(dict.fromkeys(unit, fold))
    return {identity: fold for folds in assigned.values() for identity, fold in folds.items()}


def _draw_pairs(group: Sequence[str], subset: str, gender: str, fold: int, earlier: Plan) -> list[Pair]:
    kept = [pair for pair in earlier.pairs.get(subset, []) if pair[0] in group and pair[1] in group]
    if len({target for target, _ in kept}) == len(group) == len(kept):
        return kept
    drawn, draw = list(group), random.Random(f"{earlier.seed} pairs {subset} {gender} {fold}")
    if len(drawn) < 2:
        return []
    for _ in range(NUM_DRAWS):
        draw.shuffle(drawn)
        pairs = _paired(drawn)
        if not set(pairs) & set(earlier.turned_down.get(subset, [])):
            break
    return pairs


def _paired(drawn: Sequence[str]) -> list[Pair]:
    """Two and two, in their order; the first three in a cycle if the number is odd."""
    cycle = drawn[:3] if len(drawn) % 2 else drawn[:0]
    pairs = [(target, cycle[(at + 1) % 3]) for at, target in enumerate(cycle)]
    rest = drawn[len(cycle) :]
    for first, second in zip(rest[::2], rest[1::2], strict=True):
        pairs += [(first, second), (second, first)]
    return pairs
