"""A detector over the rows of a release: predictions, sample by sample, in a run that goes on where it stopped.

Finished samples are in a file beside the result, one line each. Row groups that hold none but finished samples are not
fetched again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from detection.degradations import degrade_frames, degrade_video
from detection.detectors import Detector
from detection.frames import Evenly, sample_row
from detection.predictions import (
    READ_ERRORS,
    SETTINGS_KEY,
    PredictionError,
    Row,
    config_shards,
    read_whole_lines,
    release_digest,
    split_of_shard,
    write_predictions,
)
from generation.errors import one_line
from generation.json_text import parse_json
from homologous_deepfake import SUBSETS

COLUMNS = ("sample_id", "path", "label", "num_frames", "fps", "boxes", "is_detected")

ShowProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class InferenceSettings:
    """What a detector is shown.

    Attributes:
        splits, subsets: of the rows.
        num_frames: of each clip, spread over all of it; all frames of a shorter one.
        crop: side of the square around the face, in sides of its box; None for whole frames.
        size_px: shorter side of what the detector gets.
        degradation: one of `degradations.DEGRADATIONS`, "" for none; of the whole clip or image, before it is cut.
        seed: of the degradation.
    """

    splits: tuple[str, ...] = ("test",)
    subsets: tuple[str, ...] = tuple(SUBSETS)
    num_frames: int = 32
    crop: float | None = 1.3
    size_px: int = 224
    degradation: str = ""
    seed: int = 0


def score_release(
    release: str | Path,
    samples: Mapping[str, Row],
    detector: Detector,
    settings: InferenceSettings,
    out: Path,
    *,
    progress: ShowProgress = lambda done, total, name: None,
) -> int:
    """Writes the predictions of a detector as Parquet: sample_id, frame, score; returns how many samples were scored.

    Args:
        release: a folder, or `REPO_ID` or `REPO_ID@REVISION`; only the columns that are needed are fetched.
        samples: its rows, from `predictions.read_samples`.
        detector, settings: what is run on what; both are written down in the file.
        out: the file, in an existing folder; finished with the same settings, it is kept.
        progress: called with how many samples are done, of how many, and the next one's name.

    Raises:
        PredictionError: the release cannot be read, the detector fails, or `out` holds other predictions.
    """
    chosen = [
        name for name, row in samples.items() if row["split"] in settings.splits and row["subset"] in settings.subsets
    ]
    if not chosen:
        raise PredictionError(f"{release}: has no row of {', '.join(settings.splits)} in the subsets; name others")
    described = json.loads(
        json.dumps(
            {
                **asdict(settings),
                "detector": detector.name,
                "digest": detector.digest,
                "release": release_digest(samples),
            }
        )
    )
    if out.exists():
        try:
            metadata = pq.read_schema(out).metadata or {}
        except READ_ERRORS as error:
            raise PredictionError(
                f"{out}: cannot be read ({one_line(error)}); name another file or remove it"
            ) from error
        _check_settings(out, metadata, described)
        return 0
    partial = out.with_name(f".{out.name}.partial")
    found = _read_partial(partial, out, described)
    num_before = len(found)
    with partial.open("a", encoding="utf-8") as file:
        if not file.tell():
            file.write(json.dumps(described) + "\n")
        progress(len(found), len(chosen), "")
        for row in rows_with_media(release, settings.splits, settings.subsets, set(chosen) - found.keys()):
            sample_id = row["sample_id"]
            progress(len(found), len(chosen), sample_id)
            numbers, scores = _score_row(row, detector, settings)
            found[sample_id] = numbers, scores
            file.write(json.dumps([sample_id, numbers, scores]) + "\n")
            file.flush()
    progress(len(found), len(chosen), "")
    if missing := [name for name in chosen if name not in found]:
        raise PredictionError(f"{release}: {missing[0]} is in no shard of its subset; build the release again")
    names = [name for name in chosen for _ in found[name][0]]
    frames, scores = ([value for name in chosen for value in found[name][at]] for at in (0, 1))
    write_predictions(out, names, frames, scores, described)
    partial.unlink()
    return len(chosen) - num_before


def _score_row(row: Row, detector: Detector, settings: InferenceSettings) -> tuple[list[int], list[float]]:
    """Frame numbers of a row and their scores."""
    try:
        if settings.degradation:
            row = _degraded(row, settings)
        sampled = sample_row(row, Evenly(settings.num_frames), crop=settings.crop, size_px=settings.size_px)
    except ValueError as error:
        raise PredictionError(f"{row['sample_id']}: {one_line(error)}") from error
    scores = detector.score(sampled["frames"], row["sample_id"])
    return sampled["numbers"].tolist(), scores.tolist()


def _degraded(row: Row, settings: InferenceSettings) -> Row:
    if "video" in row:
        video = degrade_video(row["video"]["bytes"], settings.degradation, seed=settings.seed)
        return {**row, "video": {"bytes": video, "path": None}}
    from PIL import Image

    frames = sample_row(row, Evenly(1), crop=None, size_px=None)["frames"]
    (image,) = degrade_frames(frames, settings.degradation, seed=settings.seed).transpose(0, 2, 3, 1)  # TCHW -> THWC
    return {**row, "image": Image.fromarray(image)}


def rows_with_media(
    release: str | Path, splits: Collection[str], subsets: Sequence[str], missing: Set[str], *, masks: bool = False
) -> Iterator[Row]:
    """Rows of a release with media and boxes, one row group in memory at a time.

    Args:
        release: see `score_release`.
        splits, subsets: whose shards are opened.
        missing: sample_id of the rows; row groups without any of them are not fetched.
        masks: whether rows have their mask; else it is not fetched.

    Raises:
        PredictionError: the release cannot be read.
    """
    is_local, path, seen = Path(release).is_dir(), str(release), set[str]()
    try:
        for subset in subsets:
            file_system, paths = config_shards(str(release), subset)
            for path in paths:
                if split_of_shard(path) in splits:
                    media = [SUBSETS[subset].media, *(["mask"] if masks else [])]
                    # Without a cache, which would fetch 5 MB beyond each range: the masks.
                    with (
                        file_system.open(path, cache_type="none") if file_system else open(path, "rb") as file,
                        pq.ParquetFile(file, pre_buffer=True) as shard,
                    ):
                        if missing_columns := {"sample_id", SUBSETS[subset].media}.difference(shard.schema_arrow.names):
                            column = min(missing_columns)
                            raise PredictionError(f"{path}: has no column {column}; build or fetch the release again")
                        for row in _rows_of_shard(shard, media, missing):
                            if row["sample_id"] in seen:
                                twice = f"has {row['sample_id']}, which the release has already"
                                raise PredictionError(f"{path}: {twice}; build or fetch the release again")
                            seen.add(row["sample_id"])
                            yield row
    except READ_ERRORS as error:
        way_out = "build or fetch the release again" if is_local else "run the same again, it goes on where it stopped"
        raise PredictionError(f"{path}: cannot be read on ({one_line(error)}); {way_out}") from error


def _rows_of_shard(shard: pq.ParquetFile, media: Sequence[str], missing: Set[str]) -> Iterator[Row]:
    columns = [name for name in (*media, *COLUMNS) if name in shard.schema_arrow.names]
    for group in range(shard.num_row_groups):
        names = shard.read_row_group(group, columns=["sample_id"])["sample_id"].to_pylist()
        if not missing.isdisjoint(names):
            table = shard.read_row_group(group, columns=columns)
            for at, name in enumerate(names):
                if name in missing:
                    yield table.slice(at, 1).to_pylist()[0]


def _check_settings(path: Path, metadata: Mapping[bytes, bytes], described: dict[str, Any]) -> None:
    try:
        written = parse_json(metadata.get(SETTINGS_KEY, b"{}"))
    except ValueError:
        written = {}
    if written != described:
        written = written if isinstance(written, dict) else {}
        differing = sorted(key for key in described if written.get(key) != described[key]) or sorted(written)
        raise PredictionError(f"{path}: has predictions with another {differing[0]}; name another file or remove it")


def _read_partial(partial: Path, out: Path, described: dict[str, Any]) -> dict[str, tuple[list[int], list[float]]]:
    """Finished samples of a run that stopped; its torn last line is cut off."""
    lines = read_whole_lines(partial)
    if not lines:
        return {}
    _check_settings(out, {SETTINGS_KEY: lines[0]}, described)
    try:
        return {name: (numbers, scores) for name, numbers, scores in map(parse_json, lines[1:])}
    except (ValueError, TypeError) as error:
        raise PredictionError(f"{partial}: damaged ({one_line(error)}); remove it and run the same again") from error
