"""The part of a takedown that changes a built release: only the shards with the person's rows, then the card."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from generation.errors import one_line
from homologous_deepfake import SUBSETS, people_of
from tooling.errors import InputError, ToolingError
from tooling.release.folder import CHECKSUMS, DAMAGE, read_footer
from tooling.release.shards import read_checksums, recover, rewrite_checksums, rewrite_shard, staging_folder
from tooling.stages.card import run as card
from tooling.takedown.receipt import Receipt
from tooling.workspace.files import file_sha256, naming_full_disk, sync_folder
from tooling.workspace.layout import Workspace


@dataclass(frozen=True)
class Person:
    """A person whose rows are to go: those named by the identity, and others that were made from these."""

    identity: str
    samples: frozenset[str] = frozenset()

    def is_in(self, sample_id: str) -> bool:
        return sample_id in self.samples or self.identity in people_of(sample_id)


def rows_of(out: Path, person: Person) -> dict[str, dict[str, str]]:
    """Shard -> sample_id -> sha256 of the rows with a person, as target, source or alone.

    Raises:
        InputError: `out` is not a built release, or a shard is missing or damaged.
    """
    if not (out / "data" / CHECKSUMS).is_file():
        raise InputError(f"{out}: no built release; name the folder of one with --out")
    found = {name: shard_rows(out / name, person) for name in read_checksums(out) if (out / name).exists()}
    return {name: rows for name, rows in found.items() if rows}


def shard_rows(source: Path | BinaryIO, person: Person, name: str = "") -> dict[str, str]:
    """sample_id -> sha256 of the rows with a person in one Parquet file; reads those two columns only.

    Raises:
        InputError: it is not a Parquet file with these columns.
    """
    rows: dict[str, str] = {}
    try:
        with pq.ParquetFile(source) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=["sample_id", "sha256"])
                pairs = zip(table["sample_id"].to_pylist(), table["sha256"].to_pylist(), strict=True)
                rows |= {sample_id: digest for sample_id, digest in pairs if person.is_in(sample_id)}
    except (OSError, *DAMAGE) as error:
        raise InputError(f"{name or source}: missing or damaged; run `tooling build` again") from error
    return rows


def check_shards(out: Path, held: Collection[str], receipt: Receipt | None) -> None:
    """Refuses a release that was changed by something else, before anything is removed.

    Args:
        out: the release.
        held: its shards with the person.
        receipt: of an earlier run, which may have removed shards without having noted that in SHA256SUMS.

    Raises:
        InputError: a shard is missing, or one of `held` is damaged or differs from SHA256SUMS.
    """
    digests = read_checksums(out)
    known = receipt.release(out)["shards"] if receipt is not None else {}
    for name in digests:
        is_removed = name in known and known[name]["after"] is None
        if not (out / name).is_file() and not is_removed:
            raise InputError(f"{out / name}: is missing; run `tooling build` again")
    for name in held:
        read_footer(out / name, Path(name).parent.name)
        if file_sha256(out / name) != digests[name]:
            raise InputError(f"{out / name}: differs from {CHECKSUMS}; run `tooling build` again")


def clear_release(workspace: Workspace, out: Path, receipt: Receipt, *, is_pushed: bool) -> None:
    """Rewrites the shards that hold the person, then SHA256SUMS, then the card where there is one.

    A card that cannot be made stops nothing: the existing one is corrected, and the receipt has a note.

    Args:
        workspace: already without the person, or with `receipt.unfinished`.
        out: the release.
        receipt: of this takedown; learns what was done.
        is_pushed: whether the release goes to a Hub, where its card has to fit the shards.
    """
    with naming_full_disk(out.parent):
        _clear_shards(workspace, out, receipt)
    entry = receipt.release(out)
    shards: dict[str, dict[str, Any]] = entry["shards"]
    rewrite_checksums(out, {name: shard["after"] for name, shard in shards.items()})
    if shards and (entry["has_card"] or is_pushed):
        # A picture of the older card may show the person.
        shutil.rmtree(out / "pictures", ignore_errors=True)
        _renew_card(workspace, out, receipt)
        sync_folder(out)


def _renew_card(workspace: Workspace, out: Path, receipt: Receipt) -> None:
    path, notice = out / "README.md", _notice(receipt)
    problem = f"the workspace could not be cleared: {receipt.unfinished[0]}" if receipt.unfinished else ""
    if not problem:  # a picture of the fakes that are left in the workspace may show the person
        try:
            card.make_card(workspace, out, notice=notice)
        except Exception as error:  # nothing that is wrong with a card may keep a person at the Hub
            problem = one_line(error, 400)
    if problem:
        shutil.rmtree(out / "pictures", ignore_errors=True)
        receipt.notes.append(f"{path}: only its counts were corrected, the card could not be made again ({problem})")
        try:
            card.amend_card(out, notice)
        except (ToolingError, OSError) as error:
            receipt.notes.append(f"{path}: could not be corrected either ({one_line(error, 400)})")


def _notice(receipt: Receipt) -> str:
    """For the card's list of changes: who has the data learns that something went, not who."""
    counts = Counter(name.partition("/")[0] for name in receipt.samples)
    where = ", ".join(f"{counts[subset]} of `{subset}`" for subset in SUBSETS if counts[subset])
    return f"- {receipt.date}, taken out at a person's request: {where}; delete them too"


def _clear_shards(workspace: Workspace, out: Path, receipt: Receipt) -> None:
    recover(out)
    person = Person(receipt.identity, frozenset(receipt.samples))
    held, digests, entry = rows_of(out, person), read_checksums(out), receipt.release(out)
    shards: dict[str, dict[str, Any]] = entry["shards"]
    entry["has_card"] = entry["has_card"] or (out / "README.md").exists()
    emptied = _emptied_splits(out, held, digests)
    staged = staging_folder(out) / "shard.parquet"
    for name, rows in held.items():
        digest = None
        if name.rpartition("/")[2].partition("-")[0] not in emptied.get(name.rpartition("/")[0], ()):
            rewrite_shard(out / name, staged, rows, workspace.settings.shards)
            digest = file_sha256(staged)
        shards[name] = {"before": file_sha256(out / name), "after": digest, "rows": list(rows)}
        receipt.save()
        if digest is None:
            (out / name).unlink()
        else:
            os.replace(staged, out / name)
        if (out / name).parent.is_dir():
            sync_folder((out / name).parent)
    recover(out)
    for folder in sorted((out / "data").iterdir()):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _emptied_splits(out: Path, held: dict[str, dict[str, str]], digests: dict[str, str]) -> dict[str, set[str]]:
    """Folder of a config -> its splits that hold nobody else: a split without rows is not loaded by every reader."""
    left: dict[tuple[str, str], int] = {}
    for name in digests:
        folder, _, file_name = name.rpartition("/")
        num_rows = pq.read_metadata(out / name).num_rows if (out / name).exists() else 0
        key = (folder, file_name.partition("-")[0])
        left[key] = left.get(key, 0) + num_rows - len(held.get(name, ()))
    emptied: dict[str, set[str]] = {}
    for (folder, split), num_rows in left.items():
        if num_rows == 0:
            emptied.setdefault(folder, set()).add(split)
    return emptied
