"""Rows of a release turned into records, people, plan and tracks; rows come from outside and are checked first."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import homologous_deepfake as definition
from generation.faces.track import FaceTrack, round_px
from homologous_deepfake import (
    GENDERS,
    LABELS,
    MASKED_SUBSETS,
    METHODS,
    PAIRED_SUBSETS,
    SUBSETS,
    mask_path,
    subset_of,
)
from tooling.errors import InputError, WorkspaceError, listed
from tooling.marks.manifest import CAPTURED, read_marks
from tooling.settings import ClipSettings, FaceSettings, Settings
from tooling.work.tasks import finished_record, planned_record
from tooling.workspace.identities import Identity, read_identities
from tooling.workspace.layout import Workspace
from tooling.workspace.plan_file import Pair, Plan
from tooling.workspace.records import FileRecord, natural_key
from tooling.workspace.signing_keys import SigningKeys

GENERATOR_OF_REAL = "pulled"  # a release does not say what made clips and crops
NUMBERS = {"identity": "[1-9][0-9]*", "target": "[1-9][0-9]*", "source": "[1-9][0-9]*", "number": "[0-9]{6,}"}
PATTERNS = {
    name: re.compile(
        re.escape(subset.pattern).replace(r"\{", "{").replace(r"\}", "}").format(attribute="[a-z]+", **NUMBERS)
    )
    for name, subset in SUBSETS.items()
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """Where rows come from."""

    repo_id: str
    commit: str


def people_of(row: Row) -> tuple[str, ...]:
    """Identities in a row: (target, source), (identity,), or none for an image."""
    return definition.people_of(row["sample_id"])


def check_row(shard: str, row: Row) -> None:
    """Checks that a row's path is one of the dataset, its digests are SHA-256 and its classes those of its subset.

    Args:
        shard: repository and path of the row's shard, for the error.
        row: one row.

    Raises:
        InputError: it is not; nothing of such a release is taken.
    """
    path, subset = str(row.get("path")), str(row.get("path")).partition("/")[0]
    is_path = subset in PATTERNS and PATTERNS[subset].fullmatch(path) is not None
    if not is_path or row.get("sample_id") != path.rpartition(".")[0]:
        raise InputError(
            f"{shard}: has a row with the path {path!r}, which is not a path of the dataset; do not use it"
        )
    if not re.fullmatch("[0-9a-f]{64}", str(row.get("sha256"))):
        raise InputError(f"{shard}: the row of {path} has no sha256; do not use this release")
    mask_sha256 = row.get("mask_sha256")  # releases from before there were masks have none
    if mask_sha256 is not None and (subset not in MASKED_SUBSETS or not re.fullmatch("[0-9a-f]{64}", str(mask_sha256))):
        raise InputError(f"{shard}: the row of {path} has a mask_sha256 that cannot be; do not use this release")
    is_known = METHODS[row["method"]] == SUBSETS[subset].method and row["label"] in range(len(LABELS))
    if not is_known or (row["gender"] is not None and row["gender"] not in range(len(GENDERS))):
        raise InputError(
            f"{shard}: the row of {path} has a method, label or gender that its subset does not have; "
            "do not use this release"
        )


def write_media(workspace: Workspace, shard: str, row: Row) -> dict[str, Path]:
    """Stages a row's media and its mask, if it has one, checked against their digests: path in the workspace -> staged.

    Raises:
        InputError: the bytes have another digest.
    """
    files = {row["path"]: (SUBSETS[subset_of(row)].media, row["sha256"])}
    if row.get("mask_sha256") is not None:
        files[mask_path(row["path"])] = ("mask", row["mask_sha256"])
    contents: dict[str, bytes] = {}
    for name, (column, digest) in files.items():
        content = (row.get(column) or {}).get("bytes")
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            raise InputError(f"{shard}: {name} differs from its sha256; do not use this release")
        contents[name] = content
    staged = {name: workspace.staging_path(name) for name in files}
    for name, path in staged.items():
        with path.open("wb") as file:
            file.write(contents[name])
            file.flush()
            os.fsync(file.fileno())
    return staged


def read_source_type(path: Path, shard: str, row: Row, keys: SigningKeys) -> str:
    """The digital source type that a staged file's manifest states; who signed it does not matter here.

    Raises:
        InputError: the file carries no valid manifest, or one that does not fit its method.
    """
    found = read_marks(path, keys)
    if found.state in ("missing", "invalid") or not found.source_types:
        state = "carries no mark" if found.state == "missing" else "was changed after it was marked"
        way_out = "import it as an archive instead, `tooling import ARCHIVE` marks it"
        raise InputError(f"{shard}: {row['path']} {state}; {way_out}")
    is_real = METHODS[row["method"]] == "real"
    if is_real != (found.source_types[-1] == CAPTURED) or len(found.labels) != (0 if is_real else 1):
        raise InputError(f"{shard}: the marks of {row['path']} do not fit its method; do not use this release")
    return found.source_types[-1]


def record_of(row: Row, staged: dict[str, Path], origin: Origin, source_type: str) -> FileRecord:
    """The record of a pulled file, with what a release says of it; `source_type` is what its marks say."""
    parameters: dict[str, Any] = {"imported": True}
    is_image = SUBSETS[subset_of(row)].media == "image"
    if is_image and row["fold"] != definition.fold_of_image(row["sample_id"], {}):
        parameters["fold"] = row["fold"]
    for name in ("attribute", "factor", "prompt"):
        if row.get(name) is not None:
            parameters[name] = row[name]
    generator = row["generator"] or GENERATOR_OF_REAL
    expected = planned_record(row["sample_id"], row["path"], {}, generator, parameters, row.get("seed"), "pulled")
    shape = {name: row[name] for name in ("width", "height", "fps", "num_frames")}
    results = {"repository": origin.repo_id, "commit": origin.commit}
    return replace(finished_record(expected, staged, **shape, results=results), digital_source_type=source_type)


def frames_text(row: Row) -> str:
    """The per-frame columns of a clip as JSON, to be kept until its crop is read."""
    return json.dumps({name: row[name] for name in ("boxes", "landmarks", "is_detected", "width", "height")})


def restore_track(frames: Row, crop: Row) -> tuple[FaceTrack, int]:
    """The track of a clip from the per-frame columns of the clip and of its crop.

    Args:
        frames: boxes, landmarks, is_detected, width, height of the clip; px of the clip.
        crop: the row of face_video; px of the crop.

    Returns:
        The track, and the number of frames whose square does not give the crop's columns to the last bit.

    Raises:
        InputError: the columns do not belong together.
    """
    try:
        points, crop_points = _points(frames), _points(crop)
        if points.shape != crop_points.shape:
            raise ValueError("different numbers of frames")
        squares, is_exact = _squares(points, crop_points, float(crop["width"]))
        track = FaceTrack(
            boxes=points[:, :2].reshape(-1, 4).astype(np.float32),
            landmarks=points[:, 2:].astype(np.float32),
            is_detected=np.array(frames["is_detected"], dtype=np.bool_),
            crop=squares.astype(np.float32),
            width=int(frames["width"]),
            height=int(frames["height"]),
        )
    except (ValueError, TypeError) as error:
        raise InputError(f"{crop['path']}: its per-frame columns do not fit those of its clip ({error})") from error
    return track, int((~is_exact).sum())


def _points(row: Row) -> NDArray[np.float64]:
    """Box corners and landmarks as (T, 7, 2), px, float64."""
    boxes = np.array(row["boxes"], dtype=np.float64).reshape(-1, 2, 2)
    landmarks = np.array(row["landmarks"], dtype=np.float64).reshape(-1, 5, 2)
    return np.concatenate([boxes, landmarks], axis=1)


def _squares(
    points: NDArray[np.float64], crop_points: NDArray[np.float64], side_px: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Squares (T, 3) that map points of the clip to points of the crop, and where they do so to the last bit.

    crop point = (point - corner) * scale: scale and corner by least squares over the 7 points. Tracks are kept to
    0.01 px, far above what float32 columns lose, so that rounding gives the very square.
    """
    points = round_px(points)
    middle, crop_middle = points.mean(axis=1, keepdims=True), crop_points.mean(axis=1, keepdims=True)
    spread = ((points - middle) ** 2).sum(axis=(1, 2))
    scale = ((points - middle) * (crop_points - crop_middle)).sum(axis=(1, 2)) / spread
    corner = middle[:, 0] - crop_middle[:, 0] / scale[:, None]
    squares = round_px(np.concatenate([corner, (side_px / scale)[:, None]], axis=1))
    if not np.isfinite(squares).all() or (squares[:, 2] <= 0).any():
        raise ValueError("no square maps one to the other")
    again = (points - squares[:, None, :2]) * (side_px / squares[:, 2])[:, None, None]
    is_exact = (again.astype(np.float32) == crop_points.astype(np.float32)).all(axis=(1, 2))
    return squares, is_exact


def settings_of(rows: list[Row]) -> Settings:
    """Settings with the shape of the release's clips and crops; everything else has its default."""
    clips = [row for row in rows if SUBSETS[subset_of(row)].media == "video" and subset_of(row) != "face_video"]
    crops = [row for row in rows if subset_of(row) == "face_video"]
    clip, faces = ClipSettings(), FaceSettings()
    if clips:
        first = clips[0]
        fps, seconds = round(first["fps"]), first["num_frames"] / first["fps"]
        clip = ClipSettings(seconds, fps, first["width"], first["height"])
    if crops:
        faces = FaceSettings(size_px=crops[0]["width"])
    return Settings(clip=clip, faces=faces)


def check_settings(workspace: Workspace, settings: Settings) -> None:
    """Raises WorkspaceError if a workspace's clips or crops have another shape than the release's."""
    own = workspace.settings
    for name in ("num_frames", "fps", "width_px", "height_px"):
        if getattr(own.clip, name) != getattr(settings.clip, name):
            raise WorkspaceError(
                f"{workspace.root}: its clips have {name} {getattr(own.clip, name)}, the release's "
                f"{getattr(settings.clip, name)}; pull into a new workspace"
            )
    if own.faces.size_px != settings.faces.size_px:
        raise WorkspaceError(
            f"{workspace.root}: its crops have {own.faces.size_px} px, the release's {settings.faces.size_px}; "
            "pull into a new workspace"
        )


def merge_identities(
    workspace: Workspace, rows: list[Row], table: Path | None
) -> tuple[dict[str, Identity], list[str]]:
    """Rows for everyone in the release: the workspace's own, else those in `table`, else with consent unknown.

    A row of the workspace that says `unknown` gives way to the table's.

    Returns:
        The rows, and one line where the workspace's own stay though the table has others.

    Raises:
        InputError: a gender differs from the release's, or the release does not say one.
    """
    known = workspace.identities() if workspace.identities_path.exists() else {}
    offered = read_identities(table) if table else {}
    merged = offered | {
        name: row for name, row in known.items() if name not in offered or row.consent_status != "unknown"
    }
    genders = {row["identity"]: GENDERS[row["gender"]] for row in rows if row["identity"] and row["gender"] is not None}
    for person in sorted({person for row in rows for person in people_of(row)}, key=natural_key):
        gender = genders.get(person)
        if person not in merged:
            if gender is None:
                raise InputError(
                    f"identity {person}: the release does not say the gender; give its identities.csv with --identities"
                )
            merged[person] = Identity(person, gender, "unknown")  # type: ignore[arg-type]
        elif gender is not None and merged[person].gender != gender:
            own = merged[person].gender
            raise InputError(f"identity {person}: is {gender} in the release, {own} in identities.csv; correct that")
    taken_down = workspace.tombstones()
    differ = [person for person, row in offered.items() if person in known and merged[person] != row]
    kept = f"{table}: the workspace's own rows of identity {listed(differ, 20)} stay; change them in its identities.csv"
    people = {person: row for person, row in merged.items() if person not in taken_down}
    return people, [kept] if differ else []


def merge_plan(workspace: Workspace, rows: list[Row]) -> Plan:
    """Folds and pairs of the release, added to the workspace's plan.

    Raises:
        WorkspaceError: the workspace has a person of the release in another fold.
    """
    earlier = workspace.plan() or Plan(workspace.settings.plan.seed)
    folds, pairs = dict(earlier.folds), {name: list(earlier.pairs.get(name, [])) for name in PAIRED_SUBSETS}
    for row in rows:
        people = people_of(row)
        for person in people if row["fold"] is not None else ():
            if folds.setdefault(person, row["fold"]) != row["fold"]:
                raise WorkspaceError(
                    f"{workspace.plan_path}: identity {person} is in fold {folds[person]}, in the release in "
                    f"{row['fold']}; pull into a new workspace"
                )
        if len(people) == 2 and row["fold"] is not None and people not in pairs[subset_of(row)]:
            pairs[subset_of(row)].append((people[0], people[1]))
    ordered = {person: folds[person] for person in sorted(folds, key=natural_key)}
    by_target = {name: sorted(drawn, key=_pair_key) for name, drawn in pairs.items()}
    return replace(earlier, folds=ordered, pairs=by_target)


def _pair_key(pair: Pair) -> Any:
    return natural_key(f"{pair[0]}_{pair[1]}")
