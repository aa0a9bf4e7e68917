"""takedown: one person out of everything: clips, crops, tracks, fakes, records, plan, shards and the Hub.

A tombstone comes first: from then on ingest, plan and generate refuse the person, whatever becomes of this run. Then
the receipt, WORKSPACE/takedowns/{identity}.json, notes what goes before it goes, and what was done once it is done; a
rerun after a kill goes on from it and ends with the same workspace, release and Hub.

What removing needs is checked before anything is removed. Nothing else keeps a person at the Hub: a card that cannot be
made, or a file of the workspace that cannot be removed, is noted, and the takedown goes on.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from generation.errors import one_line
from homologous_deepfake import SUBSETS, people_of
from tooling.errors import InputError, ToolingError, UsageError, WorkspaceError
from tooling.remote import connect
from tooling.takedown import recipients as access
from tooling.takedown import remote_copies as takedown_hub
from tooling.takedown.built_release import Person, check_shards, clear_release, rows_of
from tooling.takedown.receipt import Receipt, read_receipt
from tooling.takedown.remote_copies import HubHoldings
from tooling.work.engine import Progress, no_progress
from tooling.workspace.decoding import decode_json, read_json
from tooling.workspace.files import append_line, file_sha256, sync_folder, write_text
from tooling.workspace.identities import format_identities, is_identity_id
from tooling.workspace.layout import Workspace
from tooling.workspace.path_kinds import KINDS, kind_of, people_in, unknown_paths
from tooling.workspace.plan_file import Pair, Plan, format_plan, without_person
from tooling.workspace.readiness import Reject
from tooling.workspace.records import natural_key
from tooling.workspace.verification_file import remove_rows, verified_paths


@dataclass(frozen=True)
class TakedownRequest:
    """What one run is asked to do.

    Attributes:
        identity: who is taken out.
        date: ISO 8601 day, for tombstone and receipt.
        out: folder of the built release; None leaves releases alone.
        repo_id: dataset repository with that release; None leaves the Hub alone.
        purge_history: whether the Hub's old revisions go too.
    """

    identity: str
    date: str
    out: Path | None = None
    repo_id: str | None = None
    purge_history: bool = False


@dataclass(frozen=True)
class TakedownPlan:
    """Where a person is found now; everything is empty once the person is out.

    Attributes:
        identity: the person.
        taken_down_on: date of the tombstone; None where there is none yet.
        samples: sample_id -> sha256 of each clip, crop and fake, recorded or only in shards.
        files: path in the workspace -> sha256 of each file with the person: media, companions, generators that were
            fitted to the person, leftovers.
        pairs: subset -> planned pairs with the person.
        has_identity_row: whether identities.csv names the person.
        has_fold: whether plan.json does.
        verification_paths: rows of verification.parquet.
        num_rejects: lines of rejects.jsonl.
        shards: shard -> sample_ids of its rows.
        hub: what was found at the Hub; None where no repository was named.
        unknown: files of no known kind, which may show anybody; they stay.
        is_finished: whether an earlier run did all that it was asked.
    """

    identity: str
    taken_down_on: str | None
    samples: dict[str, str]
    files: dict[str, str]
    pairs: dict[str, list[Pair]]
    has_identity_row: bool
    has_fold: bool
    verification_paths: list[str]
    num_rejects: int
    shards: dict[str, list[str]]
    hub: HubHoldings | None
    unknown: list[str]
    is_finished: bool

    @property
    def is_found(self) -> bool:
        """Whether workspace, release or the Hub's main hold anything of the person."""
        tables = (self.verification_paths, self.num_rejects, any(self.pairs.values()))
        local = (self.samples, self.files, self.shards, *tables)
        return any((*local, self.has_identity_row, self.has_fold, self.hub is not None and self.hub.main_files))

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do, save for old revisions at the Hub (`hub.needs_purge`)."""
        return self.taken_down_on is not None and self.is_finished and not self.is_found

    def lines(self) -> list[str]:
        """What goes, for people to read before they say yes, and what they must check themselves."""
        rows = [f"{path}: {_rows(len(found))} ({', '.join(found)})" for path, found in self.shards.items()]
        pairs = [f"plan.json: {subset} {a}_{b}" for subset, found in self.pairs.items() for a, b in found]
        named = ["identities.csv: 1 row"] * self.has_identity_row + ["plan.json: 1 fold"] * self.has_fold
        named += [f"verification.parquet: {_rows(len(self.verification_paths))}"] * bool(self.verification_paths)
        named += [f"rejects.jsonl: {_rows(self.num_rejects)}"] * bool(self.num_rejects)
        records = [f"record {sample_id}" for sample_id in self.samples]
        unknown = [
            f"{path}: not a file of a workspace, stays; check yourself whether it shows the person"
            for path in self.unknown
        ]
        hub = self.hub.lines() if self.hub is not None else []
        return [*self.files, *records, *named, *pairs, *rows, *hub, *unknown]


def plan_takedown(
    workspace: Workspace, identity: str, *, out: Path | None = None, repo_id: str | None = None
) -> TakedownPlan:
    """Finds every file, row and shard of a person; changes nothing.

    Raises:
        UsageError: `identity` cannot be one.
        InputError: nobody of that id is or was here; `out` is not a release, or not the one that the Hub has.
        RemoteError: the Hub cannot be read.
    """
    if not is_identity_id(identity):
        raise UsageError(f"{identity}: is not an identity; name a number from 1 up")
    receipt = read_receipt(workspace, identity)
    samples, files = _recorded(workspace, identity)
    named = (name for name in workspace.files() if identity in people_in(name))
    others = {*named, *_fitted_files(workspace, identity)} - files.keys()
    files |= {name: file_sha256(workspace.path(name)) for name in others}
    known = {**samples, **(receipt.samples if receipt is not None else {})}
    person = Person(identity, frozenset(known))
    in_shards = rows_of(out, person) if out is not None else {}
    if out is not None:
        check_shards(out, in_shards, receipt)
    samples = {**{name: digest for rows in in_shards.values() for name, digest in rows.items()}, **samples}
    planned = workspace.plan() or Plan(0)
    people = workspace.identities() if workspace.identities_path.exists() else {}
    hub = None
    if repo_id is not None:
        look = takedown_hub.Search(person, out, frozenset(known.values()), receipt)
        hub = takedown_hub.find_holdings(connect(repo_id), look, set(in_shards))
    plan = TakedownPlan(
        identity=identity,
        taken_down_on=workspace.tombstones().get(identity),
        samples=dict(sorted(samples.items(), key=lambda item: natural_key(item[0]))),
        files=dict(sorted(files.items(), key=lambda item: natural_key(item[0]))),
        pairs={name: [p for p in pairs if identity in p] for name, pairs in planned.pairs.items()},
        has_identity_row=identity in people,
        has_fold=identity in planned.folds,
        verification_paths=_verified(workspace, person),
        num_rejects=len(_rejects(workspace)) - len(_rejects_left(workspace, person)),
        shards={path: list(rows) for path, rows in in_shards.items()},
        hub=hub,
        unknown=[name for name in unknown_paths(workspace) if name not in files],
        is_finished=receipt is not None and receipt.is_complete,
    )
    if not plan.is_found and plan.taken_down_on is None and not (hub is not None and hub.needs_purge):
        raise InputError(f"{workspace.root}: nothing here is of identity {identity}; check the number")
    return plan


def take_down(workspace: Workspace, request: TakedownRequest, *, progress: Progress = no_progress) -> Receipt:
    """Takes a person out of the workspace and, where they are named, out of a release and the Hub.

    Rows of other people stay as they are, and so do folds and pairs without the person. The release's card is written
    again, as it states counts and its picture may show the person.

    Args:
        workspace: held by the caller's lock.
        request: who, when, where.
        progress: called for each finished step.

    Raises:
        UsageError, InputError: as `plan_takedown`; `date` is not a day; a Hub without its release. At the end: release
            and Hub are cleared, but something in the workspace could not be removed.
        RemoteError: the Hub refuses or cannot be reached; run it again, it goes on.
    """
    access.check_date(request.date)
    plan = plan_takedown(workspace, request.identity, out=request.out, repo_id=request.repo_id)
    if plan.hub is not None and plan.hub.main_files and request.out is None:
        raise UsageError(f"{request.repo_id}: name the release folder that was pushed there with --out")
    remote = connect(request.repo_id) if request.repo_id is not None else None
    if remote is not None and plan.hub is not None and (plan.hub.main_files or request.purge_history):
        takedown_hub.check_write_access(remote)
    date = plan.taken_down_on or request.date
    if plan.taken_down_on is None:
        append_line(workspace.tombstones_path, json.dumps({"identity": request.identity, "date": date}))
        sync_folder(workspace.root)
    receipt = read_receipt(workspace, request.identity) or Receipt.new(workspace, request.identity, date)
    receipt.note(plan.samples, plan.files, plan.pairs)
    receipt.unfinished, receipt.notes, receipt.is_complete = [], [], False
    _attempt(receipt.notes, lambda: _note_known_recipients(workspace, receipt))
    receipt.save()
    steps: list[Callable[[], None]] = [lambda: clear_workspace(workspace, receipt)]
    if request.out is not None:
        out = request.out
        steps.append(lambda: clear_release(workspace, out, receipt, is_pushed=bool(request.repo_id)))
    if remote is not None:
        hub = remote
        steps.append(lambda: takedown_hub.clear_main(hub, request.out, receipt))
        steps.append(lambda: _attempt(receipt.notes, lambda: takedown_hub.note_recipients(hub, receipt)))
        if request.purge_history:
            person = Person(request.identity, frozenset(receipt.samples))
            look = takedown_hub.Search(person, request.out, frozenset(receipt.samples.values()), receipt)
            steps.append(lambda: takedown_hub.purge_history(hub, look, receipt))
    for done, step in enumerate(steps):
        progress(done, len(steps), "")
        step()
    if request.out is not None:
        _remove_partial_writes(request.out)
    receipt.is_complete = not (receipt.unfinished or receipt.notes)
    receipt.save()
    progress(len(steps), len(steps), request.identity)
    if receipt.unfinished:
        others = f" ({len(receipt.unfinished)} in all)" if len(receipt.unfinished) > 1 else ""
        raise WorkspaceError(
            f"{receipt.unfinished[0]}{others}; everything else of identity {request.identity} is removed; "
            "correct that and run it again"
        )
    return receipt


def clear_workspace(workspace: Workspace, receipt: Receipt) -> None:
    """Removes records, files, plan entries and table rows of the receipt's person; what is gone already is skipped.

    What cannot be removed is noted in `receipt.unfinished`, and the rest goes.
    """
    person, problems = Person(receipt.identity, frozenset(receipt.samples)), receipt.unfinished
    for kind in KINDS:
        if kind.owner == "rows" and workspace.path(kind.pattern).exists():
            _attempt(problems, partial(TABLES[kind.pattern], workspace, person))
    for name in receipt.files:
        _attempt(problems, partial(workspace.path(name).unlink, missing_ok=True))
    for folder in sorted({workspace.path(name).parent for name in receipt.files}):
        if folder.is_dir():
            _attempt(problems, partial(sync_folder, folder))
    _attempt(problems, partial(_remove_leftovers, workspace))
    receipt.save()


def _attempt(problems: list[str], step: Callable[[], object]) -> None:
    """Does what must not keep the rest from being done; what goes wrong becomes a line of `problems`."""
    try:
        step()
    except ToolingError as error:
        problem = one_line(error, 400)
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}" if error.filename else one_line(error, 400)
    else:
        return
    if problem not in problems:
        problems.append(problem)


def _note_known_recipients(workspace: Workspace, receipt: Receipt) -> None:
    known = {user: entry.repo for user, entry in access.recipients(workspace).items()}
    receipt.recipients = {**receipt.recipients, **known}


def _rows(number: int) -> str:
    return f"{number} row" + "s" * (number != 1)


def _write_changed(path: Path, text: str) -> None:
    if path.read_bytes() != text.encode():
        write_text(path, text)


def _recorded(workspace: Workspace, identity: str) -> tuple[dict[str, str], dict[str, str]]:
    """Digests of the person's samples, and of their media and companions; also of what was made from those."""
    samples: dict[str, str] = {}
    files: dict[str, str] = {}
    subsets = sorted(path.parent.name for path in workspace.root.glob("*/metadata.jsonl"))
    records = [record for subset in subsets for record in workspace.records(subset).values()]
    num_before = -1
    while len(samples) != num_before:  # a file made from a fake of the person is the person's too
        num_before = len(samples)
        for record in records:
            shown = {*people_of(record.sample_id), *(person for name in record.inputs for person in people_in(name))}
            if identity in shown or files.keys() & record.inputs.keys():
                samples[record.sample_id] = record.sha256
                files |= {record.path: record.sha256, **record.companions}
    return samples, files


def _fitted_files(workspace: Workspace, identity: str) -> Iterator[str]:
    """Files of generators that were fitted to clips of the person, among others."""
    own = {f"raw_video/{identity}.mp4", workspace.master_name(identity), workspace.track_name(identity)}
    for note in sorted(workspace.models_path.glob("*/*/inputs.json")):
        if own & read_json(note, dict[str, str], f"delete {note.parent}, it is fitted again").keys():
            paths = (path for path in sorted(note.parent.rglob("*")) if path.is_file())
            yield from (path.relative_to(workspace.root).as_posix() for path in paths)


def _remove_leftovers(workspace: Workspace) -> None:
    """Removes what is made again when it is needed, whoever is in it."""
    for name in list(workspace.files()):
        kind = kind_of(name)
        if kind is not None and kind.owner == "leftover":
            workspace.path(name).unlink(missing_ok=True)
    for pattern in (kind.pattern for kind in KINDS if kind.owner == "leftover" and kind.pattern.endswith("/**")):
        for folder in workspace.root.glob(re.sub(r"\{\w+\}", "*", pattern.removesuffix("/**"))):
            shutil.rmtree(folder)


def _rejects(workspace: Workspace) -> list[str]:
    path = workspace.rejects_path
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return [line for line in text.split("\n") if line]


def _rejects_left(workspace: Workspace, person: Person) -> list[str]:
    """The lines of rejects.jsonl without the person's and without damaged ones."""
    left = []
    for line in _rejects(workspace):
        try:
            if not person.is_in(decode_json(line, Reject, ignores_unknown=True).sample_id):
                left.append(line)
        except ValueError:  # it may be anybody's
            continue
    return left


def _verified(workspace: Workspace, person: Person) -> list[str]:
    return [path for path in verified_paths(workspace) if person.is_in(path.rpartition(".")[0])]


def _clear_records(subset: str, workspace: Workspace, person: Person) -> None:
    gone = [name for name in workspace.records(subset) if person.is_in(name)]
    if gone or not workspace.records_path(subset).read_bytes().endswith(b"\n"):  # a torn line may be of the person
        workspace.forget(subset, gone)


def _clear_identities(workspace: Workspace, person: Person) -> None:
    people = workspace.identities()
    if people.pop(person.identity, None) is not None:
        _write_changed(workspace.identities_path, format_identities(people))


def _clear_plan(workspace: Workspace, person: Person) -> None:
    _write_changed(workspace.plan_path, format_plan(without_person(workspace.plan() or Plan(0), person.identity)))


def _clear_rejects(workspace: Workspace, person: Person) -> None:
    if len(left := _rejects_left(workspace, person)) < len(_rejects(workspace)):
        write_text(workspace.rejects_path, "".join(line + "\n" for line in left))


def _clear_verification(workspace: Workspace, person: Person) -> None:
    remove_rows(workspace, _verified(workspace, person))


TABLES: dict[str, Callable[[Workspace, Person], None]] = {
    "identities.csv": _clear_identities,
    "plan.json": _clear_plan,
    "verification.parquet": _clear_verification,
    "rejects.jsonl": _clear_rejects,
    **{f"{subset}/metadata.jsonl": partial(_clear_records, subset) for subset in SUBSETS},
}
"""Pattern of a kind with many people's rows -> what takes a person's rows out of it."""


def _remove_partial_writes(out: Path) -> None:
    """Removes what kills left of a release's files that are replaced as a whole; it may hold the person's old rows."""
    for folder in (out, out / "data", out / "pictures"):
        for path in folder.glob(".*.new"):
            path.unlink(missing_ok=True)
