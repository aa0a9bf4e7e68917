"""pull: a release at a Hub -> a workspace on a new machine, every byte checked against the release's own digests.

Shards come one by one: checked against data/SHA256SUMS, taken apart row group by row group, and removed. Each row's
media is checked against its sha256. What a release does not say, a pulled workspace does not know: `PullResult.lacks`
names it. A rerun goes on where a killed one stopped, and fetches only shards with files that are missing.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from generation.errors import one_line
from homologous_deepfake import METADATA, SUBSETS, make_features, mask_path, schema_problem, subset_of
from tooling.errors import InputError
from tooling.release.folder import CHECKSUMS
from tooling.remote import Remote, RemoteFile, connect, file_matches, quiet_client
from tooling.stages.pull.rows import (
    Origin,
    Row,
    check_row,
    check_settings,
    frames_text,
    merge_identities,
    merge_plan,
    people_of,
    read_source_type,
    record_of,
    restore_track,
    settings_of,
    write_media,
)
from tooling.work.engine import Progress, no_progress
from tooling.workspace.decoding import decode_json, read_json, read_json_lines
from tooling.workspace.files import append_line, file_sha256, naming_full_disk, write_text
from tooling.workspace.identities import Identity, format_identities
from tooling.workspace.layout import PULLING, Workspace, create_workspace, open_workspace
from tooling.workspace.plan_file import format_plan
from tooling.workspace.records import FileRecord, StageResult, natural_key
from tooling.workspace.signing_keys import SigningKeys, read_keys

JOURNAL = "finished.jsonl"
SHARD_NAME = re.compile(r"(?P<config>[A-Za-z_]+)/(?P<split>[a-z]+)-[0-9]{5}-of-[0-9]{5}\.parquet")
MAX_TABLE_BYTES = 16 << 20
FETCHED_AT_ONCE = 2
LACKS = (
    "metadata.jsonl: inputs, parameters and results of the stages, seeds of videos; a stage that is run here makes "
    "its files again",
    "tracks: why the face was chosen",
    "workspace.toml: all settings but the shape of clips and crops; plan.json: its seed",
)


@dataclass
class PullResult(StageResult):
    """What a pull did: made and kept by sample_id, refused by sample_id or file.

    Attributes:
        commit: of the release.
        lacks: what the release does not say, one line each; a person brings it or does without.
    """

    commit: str = ""
    lacks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Shard:
    """One shard as the release lists it."""

    config: str
    split: str
    path: str
    sha256: str


@dataclass(frozen=True)
class _ReadShard:
    """A line of the journal: a shard that was read to its end, and the samples in it."""

    sha256: str
    sample_ids: list[str]


@dataclass
class _Pull:
    """One pull under way: `rows` is the metadata of every file by sample_id, `missing` those still to be written."""

    remote: Remote
    origin: Origin
    workspace: Workspace
    rows: dict[str, Row]
    missing: set[str]
    result: PullResult
    progress: Progress
    keys: SigningKeys
    total: int = 0

    @property
    def folder(self) -> Path:
        return self.workspace.root / PULLING

    def frames_path(self, identity: str) -> Path:
        """Where a clip's per-frame columns wait for its crop."""
        return self.folder / "frames" / f"{identity}.json"


def pull_release(
    repo_id: str,
    root: Path,
    *,
    revision: str | None = None,
    identities: Path | None = None,
    num_workers: int = 0,
    progress: Progress = no_progress,
) -> PullResult:
    """Pulls a release into a new or existing workspace, which it locks itself.

    Args:
        repo_id: dataset repository, OWNER/NAME, at the endpoint of the environment.
        root: the workspace; created if there is none.
        revision: branch, tag or commit; None is the branch main.
        identities: an identities.csv with the consent that no release carries; None leaves it `unknown`.
        num_workers: shards that are fetched at once, each held on disk until it is read; 0 takes two.
        progress: called for each written file.

    Returns:
        What was made, kept and refused, and what the release does not say. A file of the workspace that differs from
        the release's is refused and stays; everything of a person who was taken down here is refused too.

    Raises:
        RemoteError: the Hub refuses or cannot be reached.
        InputError: not a release of this tooling, or one that disagrees with its own digests.
        WorkspaceError: the folder is neither empty nor a workspace, or its clips or folds differ from the release's.
    """
    remote = connect(repo_id)
    origin = Origin(repo_id, remote.head(revision))
    with quiet_client(), tempfile.TemporaryDirectory() as folder:
        shards = _read_checksums(remote, origin, Path(folder))
        rows = _read_metadata(remote, origin, shards, Path(folder))
    settings = settings_of(list(rows.values()))
    is_new = not (root / "workspace.toml").exists()
    workspace = create_workspace(root, settings) if is_new else open_workspace(root)
    check_settings(workspace, settings)
    with workspace.locked(), naming_full_disk(workspace.root), quiet_client():
        keys, result = read_keys(workspace.keys_path), PullResult(commit=origin.commit)
        work = _Pull(remote, origin, workspace, rows, set(), result, progress, keys)
        _write_tables(work, identities)
        _find_missing(work)
        _pull_shards(work, shards, num_workers)
    return work.result


def _read_checksums(remote: Remote, origin: Origin, folder: Path) -> list[_Shard]:
    """The shards that the release lists, each checked to be at the Hub with the listed digest."""
    files = remote.files(origin.commit)
    listed = files.get(f"data/{CHECKSUMS}")
    if listed is None or listed.num_bytes > MAX_TABLE_BYTES:
        raise InputError(f"{origin.repo_id}: has no data/{CHECKSUMS}; it is not a release of this tooling")
    shards = []
    for line in _fetch(remote, origin, listed, folder).read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        match = SHARD_NAME.fullmatch(name)
        if match is None or match["config"] not in (*SUBSETS, METADATA) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise InputError(f"{origin.repo_id}: data/{CHECKSUMS} has a line that names no shard: {line[:80]!r}")
        shard = _Shard(match["config"], match["split"], f"data/{name}", digest)
        present = files.get(shard.path)
        if present is None or present.sha256 not in (None, digest):
            state = "is missing" if present is None else "has another sha256"
            raise InputError(f"{origin.repo_id}: {shard.path} {state}; the release is damaged, push it again")
        shards.append(shard)
    strays = sorted({name for name in files if name.endswith(".parquet")} - {shard.path for shard in shards})
    if strays:
        raise InputError(f"{origin.repo_id}: {strays[0]} is not in data/{CHECKSUMS}; push the release again")
    return shards


def _read_metadata(remote: Remote, origin: Origin, shards: list[_Shard], folder: Path) -> dict[str, Row]:
    """The rows of the config `metadata`, checked, with their split, by sample_id."""
    rows: dict[str, Row] = {}
    for shard in shards:
        if shard.config != METADATA:
            continue
        for row in _rows(_fetch_shard(remote, origin, shard, folder), shard):
            check_row(f"{origin.repo_id}: {shard.path}", row)
            rows[row["sample_id"]] = {**row, "split": shard.split}
    if not rows:
        raise InputError(f"{origin.repo_id}: has no config {METADATA}; it is not a release of this tooling")
    return rows


def _fetch(remote: Remote, origin: Origin, file: RemoteFile, folder: Path) -> Path:
    path = remote.download(file.path, origin.commit, folder)
    if not file_matches(path, file):
        path.unlink()
        raise InputError(f"{remote.repo_id}: {file.path} was received with another digest; run the same command again")
    return path


def _fetch_shard(remote: Remote, origin: Origin, shard: _Shard, folder: Path) -> Path:
    path = remote.download(shard.path, origin.commit, folder)
    if file_sha256(path) != shard.sha256:
        path.unlink()
        raise InputError(f"{remote.repo_id}: {shard.path} differs from data/{CHECKSUMS}; run the same command again")
    return path


def _rows(path: Path, shard: _Shard) -> Iterator[Row]:
    """Rows of a shard; one row group at a time is held."""
    try:
        with pq.ParquetFile(path) as file:
            if problem := schema_problem(shard.config, file.schema_arrow):
                raise InputError(f"{shard.path}: {problem}; it is of another version of the dataset")
            for number in range(file.num_row_groups):
                group = file.read_row_group(number)
                for at in range(len(group)):
                    yield group.slice(at, 1).to_pylist()[0]
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{shard.path}: cannot be read as Parquet ({one_line(error)}); push the release again"
        ) from error


def _write_tables(work: _Pull, identities: Path | None) -> None:
    """Writes identities.csv and plan.json; drops the rows of people who were taken down here."""
    workspace, taken_down = work.workspace, work.workspace.tombstones()
    for name, row in list(work.rows.items()):
        for person in people_of(row):
            if person in taken_down and name in work.rows:
                work.result.refused[name] = f"identity {person} was taken down on {taken_down[person]}; it stays out"
                del work.rows[name]
    rows = list(work.rows.values())
    people, work.result.notes = merge_identities(workspace, rows, identities)
    plan = merge_plan(workspace, rows)
    write_text(workspace.identities_path, format_identities(people))
    write_text(workspace.plan_path, format_plan(plan))
    work.result.lacks += [*_unknown_consent(people), *LACKS]


def _unknown_consent(people: dict[str, Identity]) -> list[str]:
    unknown = sorted((name for name, row in people.items() if row.consent_status == "unknown"), key=natural_key)
    if not unknown:
        return []
    return [f"identities.csv: consent of {', '.join(unknown)} is unknown; bring the consent records of the old machine"]


def _find_missing(work: _Pull) -> None:
    """Sorts the release's files into kept, refused because the workspace has another one, and missing."""
    for subset in SUBSETS:
        records = work.workspace.records(subset)
        for name, row in work.rows.items():
            if subset_of(row) != subset:
                continue
            record, path = records.get(name), work.workspace.path(row["path"])
            if record is None or not path.is_file():
                work.missing.add(name)
            elif record.sha256 != row["sha256"]:
                work.result.refused[name] = (
                    f"the workspace has another {row['path']}, from '{record.generator}'; delete that file first"
                )
            elif path.stat().st_size != record.num_bytes or not _has_companions(work.workspace, record, row):
                work.missing.add(name)
            else:
                work.result.kept.append(name)
    work.total = len(work.result.kept) + len(work.missing)


def _has_companions(workspace: Workspace, record: FileRecord, row: Row) -> bool:
    """Whether the files beside a file are there, and its mask is the release's, which may have got one since."""
    mask = row.get("mask_sha256")
    is_same_mask = mask is None or record.companions.get(mask_path(record.path)) == mask
    return is_same_mask and all(workspace.path(name).is_file() for name in record.companions)


def _pull_shards(work: _Pull, shards: list[_Shard], num_workers: int) -> None:
    work.progress(len(work.result.kept), work.total, "")
    finished = _read_journal(work.folder / JOURNAL)
    media = sorted((s for s in shards if s.config != METADATA), key=lambda shard: list(SUBSETS).index(shard.config))
    needed_of = {shard: _needed_of(work, shard) for shard in media}
    todo = [shard for shard in media if needed_of[shard] & finished.get(shard.sha256, needed_of[shard])]
    for shard, path in _fetched(work, todo, num_workers or FETCHED_AT_ONCE):
        seen: list[str] = []
        for row in _rows(path, shard):
            seen.append(str(row.get("sample_id")))
            if row.get("sample_id") in needed_of[shard]:
                _take(work, shard, row)
        append_line(work.folder / JOURNAL, json.dumps(asdict(_ReadShard(shard.sha256, seen))))
        path.unlink()
    for subset in SUBSETS:
        work.workspace.finish(subset)
    shutil.rmtree(work.folder, ignore_errors=True)
    for name in sorted(work.missing, key=natural_key):
        work.result.refused[name] = "the release's metadata name it, but it is in no shard; push the release again"


def _fetched(work: _Pull, shards: list[_Shard], num_at_once: int) -> Iterator[tuple[_Shard, Path]]:
    """Shards with their checked files, in order; the next few are fetched while one is read."""
    with ThreadPoolExecutor(num_at_once) as pool:
        waiting, running = deque(shards), deque[tuple[_Shard, Future[Path]]]()
        try:
            while waiting or running:
                while waiting and len(running) < num_at_once:
                    shard = waiting.popleft()
                    running.append((shard, pool.submit(_fetch_shard, work.remote, work.origin, shard, work.folder)))
                shard, fetching = running.popleft()
                yield shard, fetching.result()
        finally:
            for _, fetching in running:
                fetching.cancel()


def _read_journal(path: Path) -> dict[str, set[str]]:
    """Digest of each shard that was read to its end -> the samples in it."""
    lines = read_json_lines(path, partial(decode_json, kind=_ReadShard), f"delete {path.parent} and run it again")
    return {line.sha256: set(line.sample_ids) for line in lines}


def _needed_of(work: _Pull, shard: _Shard) -> set[str]:
    """Samples of a shard's config and split that are missing, and clips whose columns a missing crop needs."""
    names = {name for name, row in work.rows.items() if row["split"] == shard.split and subset_of(row) == shard.config}
    needed = names & work.missing
    if shard.config == "raw_video":
        people = {name: name.rpartition("/")[2] for name in names}
        needed |= {
            name
            for name, person in people.items()
            if f"face_video/{person}" in work.missing and not work.frames_path(person).exists()
        }
    return needed


def _take(work: _Pull, shard: _Shard, row: Row) -> None:
    """Writes the file, record and track of one row."""
    shard_name, name = f"{work.origin.repo_id}: {shard.path}", row["sample_id"]
    check_row(shard_name, row)
    listed = work.rows[name]
    if any(row.get(column) != listed.get(column) for column in make_features(METADATA)):
        raise InputError(
            f"{shard_name}: the row of {row['path']} differs from the config {METADATA}; push the release again"
        )
    person = name.rpartition("/")[2]
    if shard.config == "raw_video" and f"face_video/{person}" in work.missing and row["boxes"] is not None:
        write_text(work.frames_path(person), frames_text(row))
    if name not in work.missing:
        return
    staged = write_media(work.workspace, shard_name, row)
    source_type = read_source_type(staged[row["path"]], shard_name, row, work.keys)
    if shard.config == "face_video":
        staged |= _stage_track(work, person, row)
    work.workspace.publish(shard.config, record_of(row, staged, work.origin, source_type), staged)
    work.missing.remove(name)
    work.result.made.append(name)
    work.progress(len(work.result.kept) + len(work.result.made), work.total, name)


def _stage_track(work: _Pull, person: str, row: Row) -> dict[str, Path]:
    frames, name = work.frames_path(person), work.workspace.track_name(person)
    if row["boxes"] is None or not frames.exists():
        work.result.lacks.append(f"{name}: the release has no per-frame columns of this clip")
        return {}
    columns = read_json(frames, dict[str, Any], f"delete {work.folder} and run it again")
    track, num_inexact = restore_track(columns, row)
    if num_inexact:
        work.result.lacks.append(f"{name}: the crop squares of {num_inexact} frames are close, not exact")
    staged = work.workspace.staging_path(name)
    write_text(staged, track.to_json())
    return {name: staged}
