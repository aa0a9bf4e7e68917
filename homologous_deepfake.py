"""Homologous_deepfake: 100 interview subjects, each filmed once, and fakes made from those same 100 faces.

This file alone defines the dataset: configs, columns, methods, folds, splits. It reads a workspace, needs only the
standard library and `datasets`, and is used in two ways:

- as a module: `load("swap_video", WORKSPACE)` or `HomologousDeepfake(config_name="swap_video", data_dir=WORKSPACE)`;
- with datasets 3.6, also as a loading script:
  `load_dataset("PATH/homologous_deepfake.py", "swap_video", data_dir=WORKSPACE, trust_remote_code=True)`.

The tables need no `datasets`, whose import takes a second or two: the builder is defined when it is first used.
"""

import contextlib
import csv
import dataclasses
import glob
import hashlib
import io
import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets

VERSION = "1.0.0"
LABELS = ["real", "fake"]
METHODS = ["real", "full_face_generation", "expression_driven", "attribute_editing", "face_swap"]
GENDERS = ["male", "female"]
ATTRIBUTES = ["age", "hair"]
SPLIT_FOLDS = {"train": (2, 3, 4), "validation": (1,), "test": (0,)}
CROSSING = "crossing"  # split of imported fakes whose two identities are in different folds
METADATA = "metadata"  # config in releases only: the common columns of all subsets, without media


@dataclasses.dataclass(frozen=True)
class Subset:
    """One config; its name is also that of its folder in a workspace."""

    name: str
    method: str  # one of METHODS; everything but "real" is fake
    media: str  # "video" or "image"
    count: int  # files of a full release
    pattern: str  # path below the workspace; {target}, {source}, {identity}, {attribute}, {number}
    description: str  # for the card


_CATALOGUE = [
    ("raw_video", "real", "video", 100, "{identity}.mp4", "One clip per person, 1280x720, 30 fps."),
    ("face_video", "real", "video", 100, "{identity}.mp4", "The face of each clip, 350x350."),
    ("avatarify_video", "expression_driven", "video", 100, "{target}_{source}.mp4", "The target, moved by the source."),
    ("edit_video", "attribute_editing", "video", 200, "{attribute}/{identity}.mp4", "Age or hair colour edited."),
    ("swap_video", "face_swap", "video", 100, "{target}_{source}.mp4", "The source's face on the target."),
    ("GAN_images", "full_face_generation", "image", 6802, "{number}.png", "Generated faces."),
]
SUBSETS = {
    name: Subset(name, method, media, count, f"{name}/{pattern}", description)
    for name, method, media, count, pattern, description in _CATALOGUE
}
FAKES = tuple(name for name, subset in SUBSETS.items() if subset.method != METHODS[0])
MASKED_SUBSETS = tuple(name for name in FAKES if SUBSETS[name].media == "video")  # whose fakes replace part of a clip
MEDIA_COLUMNS = ("video", "image", "mask")
# What a record has at least, of which types.
RECORD: dict[str, Any] = {
    **dict.fromkeys(("sample_id", "path", "sha256", "generator"), str),
    **dict.fromkeys(("parameters", "results"), dict),
    **dict.fromkeys(("num_frames", "width", "height"), int),
    **dict.fromkeys(("fps", "seed"), (int, float, type(None))),
}
MAY_BE: dict[str, Any] = {"companions": dict, "digital_source_type": (str, type(None))}  # what it has besides
PAIRED_SUBSETS = tuple(name for name, subset in SUBSETS.items() if "{source}" in subset.pattern)


def people_of(sample_id: str) -> tuple[str, ...]:
    """Identities in a sample: target and source of a pair, one person, nobody for a generated image."""
    subset = SUBSETS.get(sample_id.partition("/")[0])
    return tuple(sample_id.rpartition("/")[2].split("_")) if subset and subset.media == "video" else ()


def subset_of(row: dict[str, Any]) -> str:
    """Name of the subset that a row belongs to: the first folder of its path."""
    return str(row["path"]).partition("/")[0]


def mask_path(path: str) -> str:
    """Path in a workspace of the mask of a fake in MASKED_SUBSETS: masks/swap_video/1_2.mp4."""
    return f"masks/{path}"


def fold_of_image(sample_id: str, parameters: dict[str, Any]) -> int:
    """Fold of a generated image: of the people whose faces its generator was fitted to, else by its number."""
    number = re.sub(r"\D", "", sample_id.rpartition("/")[2])
    return int(parameters.get("fold", int(number or 0) % sum(map(len, SPLIT_FOLDS.values()))))


def split_of(fold: Any) -> str:
    """Split of a fold, or of None where the people of a pair are in two: CROSSING."""
    return next((split for split, folds in SPLIT_FOLDS.items() if fold in folds), CROSSING)


def make_features(name: str) -> "datasets.Features":
    """Columns of a config: one of SUBSETS, or METADATA for the columns that all subsets have."""
    import datasets

    string, integer, number = datasets.Value("string"), datasets.Value("int32"), datasets.Value("float32")
    common = {
        **dict.fromkeys(("path", "sample_id"), string),
        "label": datasets.ClassLabel(names=LABELS),
        "method": datasets.ClassLabel(names=METHODS),
        "generator": string,
        "identity_pair": {"target": string, "source": string},
        "identity": string,
        "gender": datasets.ClassLabel(names=GENDERS),
        "attribute": string,
        "factor": datasets.Value("float64"),
        "real_path": string,
        "fold": integer,
        "fps": datasets.Value("float64"),
        "num_frames": integer,
        **dict.fromkeys(("width", "height"), integer),
        **dict.fromkeys(("sha256", "mask_sha256"), string),
        "digital_source_type": string,  # IPTC term in the file's signed C2PA manifest
    }
    if name == METADATA:
        return datasets.Features(common)
    if SUBSETS[name].media == "image":
        columns = {"image": datasets.Image(), **common, "prompt": string, "seed": datasets.Value("int64")}
        return datasets.Features(columns)
    frames = {
        "boxes": datasets.Sequence(datasets.Sequence(number, length=4)),
        "landmarks": datasets.Sequence(datasets.Sequence(datasets.Sequence(number, length=2), length=5)),
        "is_detected": datasets.Sequence(datasets.Value("bool")),
    }
    # The last column of a row group, so that whoever reads all others fetches one range.
    mask = {"mask": datasets.Video()} if name in MASKED_SUBSETS else {}
    return datasets.Features({"video": datasets.Video(), **common, **frames, **mask})


def schema_problem(config: str, schema: Any) -> str:
    """What a shard has otherwise than its config, "has no column label"; "" if nothing.

    Masks may be missing, as in releases from before there were any; more columns than a config has are no problem.
    """
    for field in make_features(config).arrow_schema:
        found = schema.field(field.name).type if schema.names.count(field.name) == 1 else None
        if found is None and not (field.name in ("mask", "mask_sha256") and field.name not in schema.names):
            return f"has no column {field.name}"
        if found is not None and not str(field.type).startswith("list") and found != field.type:
            return f"has {field.name} as {found}, expected {field.type}"
    return ""


def read_rows(workspace: str, name: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of a subset by split, in the order of a release, without media and per-frame columns.

    Raises ValueError, one line, if a record, identity, fold or file is missing or damaged.
    """
    subset, records = SUBSETS[name], _read_records(workspace, name)
    people = _read_people(workspace) if records and subset.media == "video" else {}
    real_paths = {record["sample_id"]: record["path"] for record in _read_records(workspace, "raw_video")}
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in (*SPLIT_FOLDS, CROSSING)}
    for record in records:
        row = _describe(record, subset, people)
        for path in (row["path"], mask_path(row["path"])) if row["mask_sha256"] else (row["path"],):
            if not os.path.isfile(os.path.join(workspace, path)):
                raise ValueError(f"{workspace}/{path}: recorded, but missing; run its stage again")
        row["real_path"] = real_paths.get(f"raw_video/{row['target']}") if name != "raw_video" else None
        rows[split_of(row["fold"])].append(row)
    return {split: sorted(found, key=release_order) for split, found in rows.items() if found}


def complete_row(workspace: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row of `read_rows` with all columns; media columns are absolute paths of files, and null if there is none."""
    subset = SUBSETS[row["path"].partition("/")[0]]
    frames = _read_track(workspace, row, subset) if subset.media == "video" else {}
    mask = os.path.join(workspace, mask_path(row["path"])) if row["mask_sha256"] else None
    columns = {subset.media: os.path.join(workspace, row["path"]), "mask": mask, **row, **frames}
    return {name: columns[name] for name in make_features(subset.name)}


def _describe(record: dict[str, Any], subset: Subset, people: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    pair = people_of(record["sample_id"])
    if subset.media == "video" and len(pair) != (2 if subset.name in PAIRED_SUBSETS else 1):
        raise ValueError(f"{record['path']}: is not named like {subset.pattern}; rename and record it again")
    for person in pair:
        if people.get(person, ("", None))[1] is None:
            missing = "row in identities.csv; add it"
            if person in people:
                missing = "fold in plan.json; run `tooling plan`, or remove the person if consent is not granted"
            raise ValueError(f"{record['path']}: identity {person} has no {missing}")
    identity = pair[1 if subset.method == "face_swap" else 0] if pair else None
    folds, parameters, is_fake = {people[person][1] for person in pair}, record["parameters"], subset.method != "real"
    if subset.media == "image":
        folds = {fold_of_image(record["sample_id"], parameters)}
    return {
        **{key: record[key] for key in ("path", "sample_id", "fps", "num_frames", "width", "height", "sha256")},
        "mask_sha256": record.get("companions", {}).get(mask_path(record["path"])),
        "digital_source_type": record.get("digital_source_type") or None,
        "seed": record["results"].get("seed", record["seed"]),  # a second attempt has another seed
        "label": "fake" if is_fake else "real",
        "method": subset.method,
        "generator": record["generator"] if is_fake else None,
        "identity_pair": {"target": pair[0], "source": pair[1]} if len(pair) == 2 else None,
        "target": pair[0] if pair else None,
        "identity": identity,
        "gender": people[identity][0] if identity else None,
        "attribute": parameters.get("attribute") if is_fake else None,
        "factor": parameters.get("factor") if is_fake else None,
        "fold": folds.pop() if len(folds) == 1 else None,
        "prompt": parameters.get("prompt"),
    }


def release_order(row: dict[str, Any]) -> Any:
    """Sort key of rows: by fold, gender and attribute, so that a reader who filters by one can skip the rest."""
    name = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", row["sample_id"])]
    return row["fold"] or 0, row["gender"] or "", row["attribute"] or "", name


def _read_track(workspace: str, row: dict[str, Any], subset: Subset) -> dict[str, Any]:
    """Per-frame columns, boxes and landmarks in pixels of the row's own frames; null if there is no track."""
    path = os.path.join(workspace, "tracks", f"{row['target']}.json")
    if not os.path.isfile(path):
        return {"boxes": None, "landmarks": None, "is_detected": None}
    is_crop = subset.name == "face_video"
    with _naming(path, "run `tooling faces` again"):
        track = json.loads(_read(path))
        boxes, landmarks = track["boxes"], track["landmarks"]
        size_fits = is_crop or (track["width"], track["height"]) == (row["width"], row["height"])
        if not size_fits or len(boxes) != row["num_frames"]:
            differs = f"size or number of frames differs from {row['path']}"
            raise _DamagedError(f"{path}: {differs}; run `tooling faces` again")
        if is_crop:  # pixels of the raw clip -> pixels of the crop
            for at, (x, y, side) in enumerate(track["crop"]):
                scale, corner = row["width"] / side, (x, y, x, y)
                boxes[at] = [(value - corner[axis]) * scale for axis, value in enumerate(boxes[at])]
                landmarks[at] = [[(point[0] - x) * scale, (point[1] - y) * scale] for point in landmarks[at]]
        return {"boxes": boxes, "landmarks": landmarks, "is_detected": track["is_detected"]}


def _read_records(workspace: str, name: str) -> list[dict[str, Any]]:
    """The last record of each sample; an incomplete last line, left by a killed run, is ignored."""
    path, records = os.path.join(workspace, name, "metadata.jsonl"), {}
    for line in _read(path).removeprefix(b"\xef\xbb\xbf").rpartition(b"\n")[0].splitlines():
        try:
            record = json.loads(line)
            kinds = RECORD | {field: kind for field, kind in MAY_BE.items() if field in record}
            if wrong := [field for field, kind in kinds.items() if not isinstance(record[field], kind)]:
                raise TypeError(wrong[0])
            records[record["sample_id"]] = record
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}: damaged line; remove it and run the stage again") from error
    return list(records.values())


def _read_people(workspace: str) -> dict[str, tuple[str, Any]]:
    """Identity -> gender, and fold or None."""
    table, plan = os.path.join(workspace, "identities.csv"), os.path.join(workspace, "plan.json")
    for path, command in ((table, "`tooling ingest SOURCES`"), (plan, "`tooling plan`")):
        if not _read(path):
            raise ValueError(f"{path}: not found; run {command}")
    with _naming(plan, "delete it and run `tooling plan` again"):
        folds = json.loads(_read(plan))["folds"]
        if not all(type(fold) is int for fold in folds.values()):
            raise TypeError("folds are whole numbers")
    with _naming(table, "correct it"):
        rows = csv.DictReader(io.StringIO(_read(table).decode("utf-8-sig"), newline=""))
        people = [row for row in rows if (row["id"] or "").strip()]
        if wrong := [row["gender"] for row in people if row["gender"].strip() not in GENDERS]:
            raise _DamagedError(f"{table}: gender {wrong[0]!r}; use {' or '.join(GENDERS)}")
        return {row["id"].strip(): (row["gender"].strip(), folds.get(row["id"].strip())) for row in people}


class _DamagedError(ValueError):
    """A message that names its file already."""


@contextlib.contextmanager
def _naming(path: str, way_out: str) -> Any:
    """Turns whatever a damaged file leads to into one line that names it."""
    try:
        yield
    except _DamagedError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, csv.Error) as error:
        raise ValueError(f"{path}: damaged ({error!r:.100}); {way_out}") from error


def _read(path: str) -> bytes:
    if not os.path.isfile(path):
        return b""
    with open(path, "rb") as file:
        return file.read()


def _define_builder() -> None:
    """Defines the two public classes, at the top of this module as far as anybody can see, pickle included."""
    global HomologousDeepfake, WorkspaceConfig
    import datasets

    class WorkspaceConfig(datasets.BuilderConfig):  # type: ignore[misc]
        """A config whose cache key covers this file and the workspace's tables, so that no old rows come back."""

        data_dir: Any

        def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
            if self.data_dir:
                # A relative path depends on the working directory.
                self.data_dir = folder = os.path.abspath(self.data_dir)
                tables = ("identities.csv", "plan.json", "*/metadata.jsonl", "tracks/*.json")
                paths = [path for table in tables for path in sorted(glob.glob(f"{glob.escape(folder)}/{table}"))]
                state = [(path, hashlib.sha256(_read(path)).hexdigest()) for path in (__file__, *paths)]
                config_kwargs = {**config_kwargs, "data_dir": folder, "state": str(state)}
            return str(super().create_config_id(config_kwargs, custom_features))

    class HomologousDeepfake(datasets.GeneratorBasedBuilder):  # type: ignore[misc]
        """Builder over a workspace: `HomologousDeepfake(config_name="swap_video", data_dir=WORKSPACE)`."""

        VERSION = datasets.Version(VERSION)
        BUILDER_CONFIG_CLASS = WorkspaceConfig  # type: ignore[name-defined]
        BUILDER_CONFIGS = [WorkspaceConfig(name=name, version=VERSION) for name in SUBSETS]  # noqa: RUF012
        DEFAULT_CONFIG_NAME = "swap_video"

        def _info(self) -> datasets.DatasetInfo:
            subset = SUBSETS[self.config.name]
            return datasets.DatasetInfo(description=subset.description, features=make_features(subset.name))

        def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
            workspace, name = self.config.data_dir, self.config.name
            rows = read_rows(workspace, name) if workspace else {}
            if not rows:
                raise ValueError(
                    f"{name}: no finished file in workspace {workspace}; pass another data_dir, or make some"
                )
            # num_proc, streaming and shuffling divide the lists in gen_kwargs.
            return [datasets.SplitGenerator(name=split, gen_kwargs={"rows": found}) for split, found in rows.items()]

        def _generate_examples(self, rows: list[dict[str, Any]]) -> Any:
            for row in rows:
                yield row["sample_id"], complete_row(self.config.data_dir, row)


def __getattr__(name: str) -> Any:
    if name not in ("HomologousDeepfake", "WorkspaceConfig"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _define_builder()
    return globals()[name]


def load(name: str, workspace: str, split: Any = None, streaming: bool = False, num_proc: Any = None) -> Any:
    """Loads a subset from a workspace, as `datasets.load_dataset` does from a release. Errors: see `read_rows`."""
    builder = sys.modules[__name__].HomologousDeepfake(config_name=name, data_dir=os.fspath(workspace))
    if streaming:
        return builder.as_streaming_dataset(split)
    builder.download_and_prepare(num_proc=num_proc)
    return builder.as_dataset(split)


if "datasets" in sys.modules:  # its loader looks through what is defined here
    _define_builder()
