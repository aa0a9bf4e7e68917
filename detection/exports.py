"""A release in the layouts that detectors of others read: DeepfakeBench and FaceForensics++.

Both exports go on where they stopped. Each file appears whole, so one that is there and not empty is kept, and row
groups whose files are all there are not fetched. `export.json` is written first and says what the folder is; the files
that list the others come last. Rows of the split crossing, whose people are in two splits, are left out.

Both layouts get the masks of the fakes that have one. DeepfakeBench reads a missing mask as black, as for real clips.

DeepfakeBench (Yan et al., NeurIPS 2023):

    Homologous_deepfake/SUBSET/frames/VIDEO/000.png  face crops; the name is the frame's number in the clip
    Homologous_deepfake/SUBSET/masks/VIDEO/000.png   grey, 255 where the frame was replaced
    dataset_json/Homologous_deepfake.json            all fakes beside the real clips
    dataset_json/Homologous_deepfake_swap.json ...   one subset of fakes beside the real clips
    label_dict.txt                                   the lines for `label_dict` in its config

- Real are the face crops of raw_video: one real clip per person. face_video shows the same moments and would count
  each of them twice. A generated image has one frame, the square in its middle.
- VIDEO is the sample_id with "_" for "/": the benchmark groups frames by the name of their folder alone.
- It takes a frame's path as it stands only if that begins with "."; it puts a backslash before any other. Paths
  therefore begin with `./datasets/rgb`, seen from the folder where the benchmark is run; link the export's
  `Homologous_deepfake` there, and set `lmdb: False`. It finds masks by writing "masks" for each "frames" in a path.
- If its `frame_num` is smaller than the number of frames that are listed, one of its versions takes the first ones.

FaceForensics++ (Rossler et al., ICCV 2019):

    original_sequences/homologous/{raw,c23,c40}/videos/1.mp4
    manipulated_sequences/{SwapFace,MCNET}/{raw,c23,c40}/videos/1_2.mp4            target, source
    manipulated_sequences/{StyleGANEX_age,StyleGANEX_hair}/{raw,c23,c40}/videos/1_1.mp4
    manipulated_sequences/METHOD/masks/videos/1_2.mp4                              the release's own file
    splits/{train,val,test}.json                                                   [["1", "2"], ...]
    splits/METHOD/{train,val,test}.json                                            the pairs of one method

- raw is the release's own file, with its marks; c23 and c40 are those of `detection.degradations`, without marks.
- An edit pairs a person with themselves: 1_1. GAN_images has no clips and is left out.
- As in that set, [a, b] stands for the clips a_b and b_a and is listed once. Swapped and driven pairs are drawn
  separately: of a pair in splits/train.json, a method may have no clip; splits/METHOD lists those that it has. Three
  people in a cycle (1_2, 2_3, 3_1) have only one clip for each pair. A person who is in no pair is listed with
  themselves, so that splits/train.json names every real clip.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detection.degradations import degrade_video
from detection.frames import Evenly, sample_row
from detection.inference import ShowProgress, rows_with_media
from detection.predictions import Row, read_samples, release_digest, write_whole
from generation.errors import GenerationError, one_line
from generation.json_text import parse_json
from homologous_deepfake import (
    ATTRIBUTES,
    CROSSING,
    FAKES,
    MASKED_SUBSETS,
    PAIRED_SUBSETS,
    SPLIT_FOLDS,
    SUBSETS,
    people_of,
)

BENCHMARK_DATASET = "Homologous_deepfake"
BENCHMARK_ROOT = "./datasets/rgb"
CROP, SIZE_PX = 1.3, 256
COMPRESSIONS = ("raw", "c23", "c40")
REAL = "raw_video"
EXPORT_FILE = "export.json"

_SPLITS = {split: {"validation": "val"}.get(split, split) for split in SPLIT_FOLDS}
# The models that the published fakes were made with; each attribute of edits is a method.
_PUBLISHED_METHODS = {"swap_video": "SwapFace", "avatarify_video": "MCNET", "edit_video": "StyleGANEX"}
_LABELS = {REAL: "HD_real", **{name: f"HD_{name.partition('_')[0].lower()}" for name in FAKES}}

Targets = dict[str, dict[Any, Path]]  # sample_id -> (folder, frame number), or compression or "masks" -> file


class ExportError(GenerationError):
    """A folder or a release that cannot be exported to or from."""


@dataclass(frozen=True)
class ExportResult:
    """What an export did.

    Attributes:
        num_written, num_kept: frames or clips, and masks.
        notes: what a user must know, a line each.
        label_lines: for `label_dict` in DeepfakeBench's config; empty for FaceForensics++.
    """

    num_written: int
    num_kept: int
    notes: tuple[str, ...]
    label_lines: tuple[str, ...] = ()


def export_deepfakebench(
    release: str | Path,
    out: Path,
    *,
    num_frames: int = 32,
    root: str = BENCHMARK_ROOT,
    progress: ShowProgress = lambda done, total, name: None,
) -> ExportResult:
    """Writes face crops, their masks and lists of them for DeepfakeBench: PNG, 256x256, 1.3 sides of the face's box.

    Args:
        release: a folder, or `REPO_ID` or `REPO_ID@REVISION` of a dataset repository at the Hub.
        out: a new or empty folder, or one that an export of the same release and settings has begun to fill.
        num_frames: of each clip, spread over all of it; all frames of a shorter one.
        root: where the benchmark finds `Homologous_deepfake`, as it sees it; begins with ".".
        progress: called with how many samples are done, of how many, and the next one's name.

    Raises:
        PredictionError: the release cannot be read.
        ExportError: the folder holds something else, or a row has no video, image or boxes, or cannot be decoded.
    """
    if not root.startswith(".") or "\\" in root or "frames" in root:
        raise ExportError(f"{root}: the benchmark cannot read paths below it; use one like {BENCHMARK_ROOT}")
    samples = read_samples(release)
    chosen = _chosen(samples, _LABELS)
    _open_export(out, {"layout": "deepfakebench", "release": release_digest(samples), "num_frames": num_frames})
    sampling, targets = Evenly(num_frames), _frame_targets(chosen, Evenly(num_frames), out)

    def write(row: Row, missing: Mapping[tuple[str, int], Path]) -> None:
        folders = {folder for folder, _ in missing}
        sampled = sample_row(row, sampling, crop=CROP, size_px=SIZE_PX, masks="masks" in folders)
        for folder in folders:
            if sampled[folder] is None:
                raise ExportError(f"{row['sample_id']}: has no mask; build the release again")
            for number, picture in zip(sampled["numbers"].tolist(), sampled[folder], strict=True):
                if (folder, number) in missing:
                    _write(missing[folder, number], _png(picture))

    num_written, num_kept = _write_targets(release, tuple(_LABELS), targets, write, progress)
    lines = tuple(f"  {label}: {int(subset != REAL)}" for subset, label in _LABELS.items())
    _write(out / "label_dict.txt", "".join(f"{line}\n" for line in lines).encode())
    paths = {
        name: [
            f"{root.rstrip('/')}/{path.relative_to(out).as_posix()}"
            for (folder, _), path in files.items()
            if folder == "frames"
        ]
        for name, files in targets.items()
    }
    lists = {BENCHMARK_DATASET: tuple(_LABELS)}
    for subset in FAKES:
        if any(row["subset"] == subset for row in chosen.values()):
            lists[f"{BENCHMARK_DATASET}{_LABELS[subset].removeprefix('HD')}"] = (REAL, subset)
    for dataset, subsets in lists.items():
        _write_json(out / "dataset_json" / f"{dataset}.json", {dataset: _benchmark_list(chosen, subsets, paths)})
    return ExportResult(num_written, num_kept, _notes(samples, chosen), lines)


def export_faceforensics(
    release: str | Path,
    out: Path,
    *,
    compressions: Sequence[str] = COMPRESSIONS,
    progress: ShowProgress = lambda done, total, name: None,
) -> ExportResult:
    """Writes the clips of a release, and lists of pairs, in the layout of FaceForensics++.

    Args:
        release, out, progress: see `export_deepfakebench`; a later call may add compressions.
        compressions: some of COMPRESSIONS.

    Raises:
        PredictionError: the release cannot be read.
        ExportError: no such compression, the folder holds something else, or a row has no video that can be encoded.
    """
    if unknown := [name for name in compressions if name not in COMPRESSIONS]:
        raise ExportError(f"{unknown[0]}: no such compression; use some of {', '.join(COMPRESSIONS)}")
    samples = read_samples(release)
    subsets = (REAL, *_PUBLISHED_METHODS)
    chosen = _chosen(samples, subsets)
    _open_export(out, {"layout": "faceforensics", "release": release_digest(samples)})
    targets: Targets = {}
    for name, row in chosen.items():
        folder, file_name = out / _sequence(row), "_".join(_pair(name)) if row["subset"] != REAL else people_of(name)[0]
        folders = (*compressions, "masks") if row.get("mask_sha256") else compressions
        targets[name] = {one: folder / one / "videos" / f"{file_name}.mp4" for one in folders}

    def write(row: Row, missing: Mapping[str, Path]) -> None:
        for folder, path in missing.items():
            column = "mask" if folder == "masks" else "video"
            content = (row.get(column) or {}).get("bytes")
            if content is None:
                raise ExportError(f"{row['sample_id']}: has no {column}; build the release again")
            _write(path, degrade_video(content, folder) if folder in ("c23", "c40") else content)

    num_written, num_kept = _write_targets(release, subsets, targets, write, progress)
    for split, name in _SPLITS.items():
        rows = {one: row for one, row in chosen.items() if row["split"] == split}
        _write_json(out / "splits" / f"{name}.json", _all_pairs(rows))
        for method in _methods():
            pairs = [_pair(one) for one, row in rows.items() if _sequence(row).name == method]
            _write_json(out / "splits" / method / f"{name}.json", _listed_once(pairs))
    return ExportResult(num_written, num_kept, _notes(samples, chosen))


def _chosen(samples: Mapping[str, Row], subsets: Iterable[str]) -> dict[str, Row]:
    """Rows of the subsets that are in one of the three splits."""
    names = set(subsets)
    return {name: row for name, row in samples.items() if row["subset"] in names and row["split"] in _SPLITS}


def _open_export(out: Path, described: dict[str, Any]) -> None:
    """Makes a folder an export, or sees that it is that one.

    Raises:
        ExportError: it is another one, or holds something else.
    """
    marker = out / EXPORT_FILE
    if marker.is_file():
        try:
            written = parse_json(marker.read_bytes())
            differing = [key for key in described if written.get(key) != described[key]]
        except (ValueError, AttributeError):
            differing = ["format"]
        if differing:
            raise ExportError(f"{out}: has an export of another {differing[0]}; name another folder")
        return
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out}: is not a folder; name another one")
    if out.is_dir() and any(not path.name.startswith(f".{EXPORT_FILE}") for path in out.iterdir()):
        raise ExportError(f"{out}: is not empty and not an export; name another folder")
    _write_json(marker, described)


def _frame_targets(chosen: Mapping[str, Row], sampling: Evenly, out: Path) -> Targets:
    targets: Targets = {}
    for name, row in chosen.items():
        numbers = [0]
        if SUBSETS[row["subset"]].media == "video":
            numbers = sampling.numbers(int(row["num_frames"]), float(row["fps"])).tolist()
        targets[name] = {
            (folder, number): out
            / BENCHMARK_DATASET
            / row["subset"]
            / folder
            / name.replace("/", "_")
            / f"{number:03d}.png"
            for folder in (("frames", "masks") if row.get("mask_sha256") else ("frames",))
            for number in numbers
        }
    return targets


def _write_targets(
    release: str | Path,
    subsets: Sequence[str],
    targets: Targets,
    write: Callable[[Row, Mapping[Any, Path]], None],
    progress: ShowProgress,
) -> tuple[int, int]:
    """Has the files that are missing written, row by row; how many were written, and how many kept."""
    missing = {name: absent for name, files in targets.items() if (absent := _missing(files))}
    num_missing = sum(map(len, missing.values()))
    num_done = len(targets) - len(missing)
    progress(num_done, len(targets), "")
    left = dict(missing)
    masks = any("masks" in (key, key[0]) for files in missing.values() for key in files)
    for row in rows_with_media(release, tuple(_SPLITS), subsets, missing.keys(), masks=masks) if missing else ():
        name = row["sample_id"]
        progress(num_done, len(targets), name)
        try:
            write(row, left.pop(name))
        except (ValueError, GenerationError) as error:
            text = one_line(error)
            raise ExportError(text if text.startswith(name) else f"{name}: {text}") from error
        num_done += 1
    progress(num_done, len(targets), "")
    if left:
        raise ExportError(f"{release}: {next(iter(left))} is in no shard of its subset; build the release again")
    return num_missing, sum(map(len, targets.values())) - num_missing


def _missing(files: Mapping[Any, Path]) -> dict[Any, Path]:
    return {key: path for key, path in files.items() if not path.is_file() or not path.stat().st_size}


def _benchmark_list(
    chosen: Mapping[str, Row], subsets: Sequence[str], paths: Mapping[str, list[str]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Label -> split -> video -> its label and frames, in the order of time. The reader needs each split's key."""
    found: dict[str, dict[str, dict[str, Any]]] = {
        _LABELS[subset]: {name: {} for name in _SPLITS.values()} for subset in subsets
    }
    for name, row in chosen.items():
        if row["subset"] in subsets:
            label = _LABELS[row["subset"]]
            found[label][_SPLITS[row["split"]]][name.replace("/", "_")] = {"label": label, "frames": paths[name]}
    return found


def _methods() -> Iterator[str]:
    for subset, method in _PUBLISHED_METHODS.items():
        yield from (f"{method}_{one}" for one in ATTRIBUTES) if "{attribute}" in SUBSETS[subset].pattern else (method,)


def _sequence(row: Row) -> Path:
    """The folder of a row's sequences; its name is the method's."""
    if row["subset"] == REAL:
        return Path("original_sequences", "homologous")
    method = _PUBLISHED_METHODS[row["subset"]]
    return Path("manipulated_sequences", f"{method}_{row['attribute']}" if row["attribute"] else method)


def _pair(sample_id: str) -> tuple[str, str]:
    """Target and source of a fake; an edited person twice."""
    people = people_of(sample_id)
    return people[0], people[-1]


def _all_pairs(rows: Mapping[str, Row]) -> list[list[str]]:
    """The pairs of two people in a split, then everyone who is in none, with themselves."""
    pairs = _listed_once(_pair(name) for name, row in rows.items() if row["subset"] in PAIRED_SUBSETS)
    paired = {person for pair in pairs for person in pair}
    alone = [people_of(name)[0] for name, row in rows.items() if row["subset"] == REAL]
    return pairs + [[person, person] for person in alone if person not in paired]


def _listed_once(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Pairs without those that are listed already, either way round."""
    found: dict[frozenset[str], list[str]] = {}
    for pair in pairs:
        found.setdefault(frozenset(pair), list(pair))
    return list(found.values())


def _notes(samples: Mapping[str, Row], chosen: Mapping[str, Row]) -> tuple[str, ...]:
    found = []
    maskless = [row for row in chosen.values() if row["subset"] in MASKED_SUBSETS and not row.get("mask_sha256")]
    if maskless:
        found.append(f"{len(maskless)} fake clips have no mask")
    if num_crossing := sum(row["split"] == CROSSING for row in samples.values()):
        found.append(f"{num_crossing} fakes of two people in different splits are left out")
    for split, name in _SPLITS.items():
        labels = {row["label"] for row in chosen.values() if row["split"] == split}
        if len(labels) < 2:
            found.append(f"{name} has no {' and no '.join(sorted({'real', 'fake'} - labels, reverse=True))} samples")
    return tuple(found)


def _png(picture: NDArray[np.uint8]) -> bytes:
    """A frame (3, H, W) or mask (1, H, W)."""
    encoded = io.BytesIO()
    Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)).save(encoded, "PNG")
    return encoded.getvalue()


def _write_json(path: Path, value: Any) -> None:
    _write(path, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda staged: staged.write_bytes(content))
