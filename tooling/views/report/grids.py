"""Which pictures stand beside which: the cards of each subset's grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from homologous_deepfake import ATTRIBUTES, METHODS, SUBSETS
from tooling.views.report.overview import FileOverview, Overview
from tooling.workspace.records import FileRecord, natural_key

MAX_CARDS = 120  # of a subset of videos; a full release has 100
MAX_IMAGES = 360


@dataclass(frozen=True)
class Shot:
    """One picture of the page, which may stand on several cards.

    Attributes:
        path: of the file.
        identity: the picture is cut around this person's face, by the person's track; "" shows it whole.
        record: of the file.
    """

    path: str
    identity: str
    record: FileRecord = field(compare=False)


@dataclass(frozen=True)
class Role:
    """What a picture is on its card; an empty frame if there is no shot."""

    text: str
    is_fake: bool
    shot: Shot | None


@dataclass(frozen=True)
class Card:
    """Pictures that are shown side by side, and the files that they are about."""

    title: str
    roles: tuple[Role, ...]
    files: tuple[FileOverview, ...]


@dataclass(frozen=True)
class Grid:
    """Cards of one subset; `num_all` is the number of cards that they are a sample of."""

    subset: str
    cards: tuple[Card, ...]
    num_all: int

    @property
    def is_image(self) -> bool:
        return SUBSETS[self.subset].media == "image"


def lay_out(overview: Overview) -> list[Grid]:
    """A grid for each subset that has files, in the catalogue's order."""
    clips = {file.record.sample_id.rpartition("/")[2]: file.record for file in overview.files["raw_video"]}
    grids = []
    for subset, files in overview.files.items():
        if not files:
            continue
        if "{attribute}" in SUBSETS[subset].pattern:
            cards = _edit_cards(subset, files, clips)
        else:
            cards = [_card(subset, file, clips) for file in files]
        most = MAX_IMAGES if SUBSETS[subset].media == "image" else MAX_CARDS
        grids.append(Grid(subset, tuple(_sample(cards, most)), len(cards)))
    return grids


def shots_of(grids: Iterable[Grid]) -> list[Shot]:
    """Every picture once, in the order in which the page shows them."""
    return list(dict.fromkeys(role.shot for grid in grids for card in grid.cards for role in card.roles if role.shot))


def _card(subset: str, file: FileOverview, clips: dict[str, FileRecord]) -> Card:
    record, is_fake = file.record, SUBSETS[subset].method != METHODS[0]
    if len(file.people) == 2:
        target, source = file.people
        roles = (_real("target", target, clips), _real("source", source, clips))
        return Card(record.sample_id, (*roles, Role("result", True, _shot(record, target))), (file,))
    text = "fake" if is_fake else "real"
    return Card(record.sample_id, (Role(text, is_fake, _shot(record)),), (file,))


def _edit_cards(subset: str, files: Sequence[FileOverview], clips: dict[str, FileRecord]) -> list[Card]:
    """One card a person: the clip and each edit of it."""
    by_name = {file.record.sample_id: file for file in files}
    people = sorted({name.rpartition("/")[2] for name in by_name}, key=natural_key)
    cards = []
    for person in people:
        roles, own = [_real("target", person, clips)], []
        for attribute in ATTRIBUTES:
            file = by_name.get(f"{subset}/{attribute}/{person}")
            own += [file] if file else []
            roles.append(Role(attribute, True, _shot(file.record, person) if file else None))
        made = [file.record.sample_id.split("/")[1] for file in own]
        title = f"{subset}/{{{','.join(made)}}}/{person}" if len(made) > 1 else own[0].record.sample_id
        cards.append(Card(title, tuple(roles), tuple(own)))
    return cards


def _real(role: str, identity: str, clips: dict[str, FileRecord]) -> Role:
    clip = clips.get(identity)
    return Role(f"{role} {identity}", False, _shot(clip, identity) if clip else None)


def _shot(record: FileRecord, identity: str = "") -> Shot:
    return Shot(record.path, identity, record)


def _sample(cards: list[Card], most: int) -> list[Card]:
    """At most `most` cards: up to a third of them with findings, the others evenly spread over the rest."""
    if len(cards) <= most:
        return cards
    failed = [at for at, card in enumerate(cards) if any(file.findings for file in card.files)]
    kept = set(_spread(failed, most // 3))
    rest = [at for at in range(len(cards)) if at not in kept]
    kept |= set(_spread(rest, most - len(kept)))
    return [cards[at] for at in sorted(kept)]


def _spread(numbers: list[int], most: int) -> list[int]:
    most = min(most, len(numbers))
    return [numbers[at * len(numbers) // most] for at in range(most)]
