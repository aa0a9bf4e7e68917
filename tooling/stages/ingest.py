"""ingest: source videos -> raw_video, one clip per person, all of one shape.

A folder has the source videos, named by identity (1.mp4, 17.MOV, any format that FFmpeg reads), and identities.csv.
Each video becomes raw_video/{id}.mp4: upright, 1280x720, 450 frames at constant 30 fps in a full release. Pictures near
16:9 are cropped slightly, others are padded with black bars; nothing is stretched and no frames are blended.

The chosen part is first written at a higher quality as masters/{id}.mp4, and the clip is encoded from that master. So
are the fakes: real and fake files are encoded equally often, from the same pictures. Fakes made from the clips
themselves have P-frames 4 to 17 % smaller than those of their real counterparts, and file sizes alone would tell them
apart.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from generation.faces.window import VERSION, check_upright, choose_window
from generation.media.normalise import ClipShape, bar_shares, write_clip_of
from generation.media.reader import read_frames
from generation.media.source import Source, survey_source
from generation.media.writer import MASTER_OPTIONS, write_clip
from tooling.errors import ConsentError, InputError, ToolingError, WorkspaceError, listed
from tooling.work.engine import LOCAL, Engine, Progress, no_progress
from tooling.work.tasks import Made, Task, finished_record, make_files, planned_record
from tooling.workspace.clutter import CLUTTER, clutter_of, is_beside_video, is_companion
from tooling.workspace.decoding import read_json
from tooling.workspace.files import file_sha256, file_state, wait_for_clock, write_text
from tooling.workspace.identities import (
    Identity,
    find_identities,
    format_identities,
    is_identity_id,
    read_identities,
)
from tooling.workspace.layout import Workspace
from tooling.workspace.records import StageResult, format_bars, natural_key

SUBSET = "raw_video"
GENERATOR = "ingest"
DIGESTS = "sources.json"  # digests of the source videos by their states on disk; it may be deleted
IGNORED = ("identities.csv", "readme")  # what such files' names begin with
DURATION_TOLERANCE_SECONDS = 0.001


def ingest_clips(
    workspace: Workspace,
    sources: Path,
    *,
    num_workers: int = 0,
    engine: Engine = LOCAL,
    progress: Progress = no_progress,
) -> StageResult:
    """Makes the clip of every source video.

    The rows of the folder's identities.csv are merged into the workspace's; where both have a row for a person, the
    folder's wins, also for people who already have a clip. Without that file, the workspace's rows are used. A clip is
    made again if its source video, its start_seconds or end_seconds, the clip settings or the version of
    `choose_window` changed. A start_seconds alone is where the clip starts; with an end_seconds, the best part between
    the two is chosen.

    Args:
        workspace: locked by the caller.
        sources: folder with the source videos.
        num_workers: processes; 0 means one per processor.
        engine: where clips are made; each machine of a cluster must have the folder.
        progress: called after each clip.

    Returns:
        What was made, kept and refused: by sample_id, or by file name if a file was refused before it was read.

    Raises:
        InputError: not a folder, no source video in it, or an unusable identities.csv.
    """
    if not sources.is_dir():
        raise InputError(f"{sources}: is not a folder; give the folder with the source videos")
    identities, notes = _merge_identities(workspace, sources)
    paths, refused, left_out = _list_files(sources)
    files = _assign_files(workspace, paths, identities, refused)
    if not files and not refused:
        raise InputError(f"{sources}: has no source videos; name them 1.mp4, 2.mov, ... by identity")
    digests = _read_digests(workspace, list(files.values()), num_workers or len(os.sched_getaffinity(0)))
    tasks = [_task(workspace, identities[name], path, digests[path]) for name, path in files.items()]
    engine = dataclasses.replace(engine, needed=tuple(task.work for task in tasks))
    result = make_files(workspace, SUBSET, tasks, make_clip, num_workers=num_workers, engine=engine, progress=progress)
    result.refused = refused | result.refused
    finished = [task for task in tasks if task.planned.sample_id not in result.refused]
    result.notes = notes + left_out + _notes_of_bars(workspace, finished)
    return result


def _read_digests(workspace: Workspace, paths: Sequence[Path], num_threads: int) -> dict[Path, str]:
    """The digests of source videos; only those that were written since the last run are read."""
    file, known = workspace.path(DIGESTS), {}
    with suppress(WorkspaceError):  # then all are read
        known = read_json(file, dict[str, str], "delete it") if file.is_file() else {}
    before_ns = wait_for_clock(paths)
    states = {path: file_state(path, before_ns) for path in paths}
    keys = {path: f"{state} {path.resolve()}" for path, state in states.items() if state}
    written = [path for path in paths if keys.get(path) not in known]
    with ThreadPoolExecutor(num_threads) as pool:
        read = dict(zip(written, pool.map(file_sha256, written), strict=True))
    digests = {path: read.get(path) or known[keys[path]] for path in paths}
    kept = {key: digests[path] for path, key in keys.items()}
    if kept != known:
        write_text(file, json.dumps(kept, indent=1) + "\n")
    return digests


def _notes_of_bars(workspace: Workspace, tasks: Sequence[Task]) -> list[str]:
    """One line for each source whose clip has black bars."""
    records, clip = workspace.records(SUBSET), workspace.settings.clip
    shape = Fraction(clip.width_px, clip.height_px)
    return [
        f"{task.work}: {bars} of its clip is black bars; hand in a video of the shape "
        f"{shape.numerator}:{shape.denominator}, filmed across or cropped around head and shoulders"
        for task in tasks
        if (bars := format_bars(records[task.planned.sample_id]))
    ]


def _merge_identities(workspace: Workspace, sources: Path) -> tuple[dict[str, Identity], list[str]]:
    table, own = sources / workspace.identities_path.name, workspace.identities_path
    if not find_identities(table) and own.exists():
        return workspace.identities(), []
    added = read_identities(table)
    known = workspace.identities() if own.exists() else {}
    taken_down = workspace.tombstones()
    text = format_identities({name: row for name, row in (known | added).items() if name not in taken_down})
    if not own.exists() or own.read_bytes() != text.encode():
        write_text(own, text)
    absent = [name for name in known if name not in added]
    kept = f"{table}: has no row of identity {listed(absent, 20)}; their rows in the workspace stay as they are"
    return workspace.identities(), [kept] if absent else []


def _list_files(sources: Path) -> tuple[list[Path], dict[str, str], list[str]]:
    """The files of a folder that may be source videos; file name -> why it was refused; notes on what is left out."""
    entries = sorted(sources.iterdir(), key=lambda path: natural_key(path.name))
    names = [path.name for path in entries]
    paths: list[Path] = []
    refused: dict[str, str] = {}
    notes = []
    for path in entries:
        name, clutter = path.name, clutter_of([path.name])
        if path.is_dir() or name.casefold().startswith(IGNORED):
            continue
        if clutter:
            if clutter == "unfinished":
                notes.append(f"{path}: {CLUTTER[clutter]}, left out; complete or delete it")
        elif not path.exists():
            refused[name] = f"{path}: is a link to {path.readlink()}, which is not there; put the video itself here"
        elif not path.is_file():
            refused[name] = f"{path}: is not a regular file; put the video itself here"
        elif is_companion(name) and not is_identity_id(path.stem) and not is_beside_video(name, names):
            notes.append(f"{path}: is not a video; left out")
        elif not is_beside_video(name, names):
            paths.append(path)
    return paths, refused, notes


def _assign_files(
    workspace: Workspace, paths: Sequence[Path], identities: dict[str, Identity], refused: dict[str, str]
) -> dict[str, Path]:
    """Identity -> source video; adds file name -> reason to `refused`."""
    files: dict[str, Path] = {}
    for path in paths:
        others = [other.name for other in paths if other.stem == path.stem and other != path]
        try:
            workspace.refuse_taken_down(str(path), path.stem)
            _check_file(path, sorted(others), identities)
        except ToolingError as error:
            refused[path.name] = str(error)
        else:
            files[path.stem] = path
    return files


def _check_file(path: Path, others: list[str], identities: dict[str, Identity]) -> None:
    if not is_identity_id(path.stem):
        raise InputError(
            f"{path}: is not named after an identity; rename it to its number, as in 1{path.suffix or '.mp4'}"
        )
    if path.stem not in identities:
        raise InputError(f"{path}: identity {path.stem} has no row in identities.csv; add it")
    status = identities[path.stem].consent_status
    if status != "granted":
        raise ConsentError(f"{path}: consent of identity {path.stem} is '{status}'; only 'granted' may be used")
    if others:
        raise InputError(f"{path}: identity {path.stem} also has {others[0]}; keep one source video for each person")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: cannot be read; change its permissions")


def _task(workspace: Workspace, identity: Identity, path: Path, digest: str) -> Task:
    parameters: dict[str, Any] = {
        "clip": dataclasses.asdict(workspace.settings.clip),
        "start_seconds": identity.start_seconds,
        "version": VERSION,
    }
    if identity.end_seconds is not None:  # clips from before there was an end are not made again
        parameters["end_seconds"] = identity.end_seconds
    name = f"{SUBSET}/{identity.id}"
    return Task(planned_record(name, f"{name}.mp4", {path.name: digest}, GENERATOR, parameters), path.resolve())


def make_clip(workspace: Workspace, task: Task) -> Made:
    """Makes one clip; runs in a worker.

    Raises:
        InputError: the source is too short, or its start_seconds or end_seconds is out of range.
        FaceError: no part of it shows one steady, frontal face, or it shows it upside down.
        VideoError: it cannot be read.
    """
    path: Path = task.work
    clip = workspace.settings.clip
    shape = ClipShape(clip.num_frames, clip.fps, clip.width_px, clip.height_px)
    source = survey_source(path)
    seconds = shape.num_frames / shape.fps
    start: float | None = task.planned.parameters["start_seconds"]
    end: float | None = task.planned.parameters.get("end_seconds")
    _check_length(source, seconds, start, end)
    if start is None or end is not None:
        window = choose_window(source, shape, None if end is None else (start or 0.0, end))
        start, results = window.start_seconds, window.results
    else:
        check_upright(source, shape, start)
        results = {"start_seconds": start}
    names = (task.planned.path, workspace.master_name(task.planned.sample_id.rpartition("/")[2]))
    files = {name: workspace.staging_path(name) for name in names}
    staged, master = files.values()
    write_clip_of(source, master, start, shape, MASTER_OPTIONS)
    write_clip(staged, read_frames(master), fps=shape.fps)
    bars = bar_shares(source, shape.width_px, shape.height_px)
    found: dict[str, Any] = {"source": source.description, "window": results}
    found["bars"] = {side: round(share, 4) for side, share in zip(("width", "height"), bars, strict=True)}
    size = {"width": clip.width_px, "height": clip.height_px}
    record = finished_record(
        task.planned, files, **size, fps=float(clip.fps), num_frames=clip.num_frames, results=found
    )
    return Made(record, files)


def _check_length(source: Source, seconds: float, start: float | None, end: float | None) -> None:
    length = source.duration_seconds + DURATION_TOLERANCE_SECONDS
    if length < seconds:
        raise InputError(
            f"{source.path}: is {source.duration_seconds:.2f} s long, shorter than the clip length of {seconds:g} s; "
            "provide a longer video, or start a new workspace with a smaller --clip-seconds"
        )
    if start is not None and not 0 <= start <= length - seconds:
        latest = max(0.0, source.duration_seconds - seconds)
        raise InputError(
            f"{source.path}: start_seconds {start:g} leaves less than {seconds:g} s of its "
            f"{source.duration_seconds:.2f} s; use 0 to {latest:.2f}, or leave it empty"
        )
    if end is not None and not (start or 0.0) + seconds - DURATION_TOLERANCE_SECONDS <= end <= length:
        raise InputError(
            f"{source.path}: end_seconds {end:g} leaves less than {seconds:g} s after start_seconds, or is beyond its "
            f"{source.duration_seconds:.2f} s; use {(start or 0.0) + seconds:g} to {source.duration_seconds:.2f}, "
            "or leave it empty"
        )
