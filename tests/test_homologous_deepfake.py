"""The definition of the dataset on a workspace: columns, splits, errors in one line, no stale rows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import homologous_deepfake
from homologous_deepfake import (
    MASKED_SUBSETS,
    MEDIA_COLUMNS,
    METADATA,
    SPLIT_FOLDS,
    SUBSETS,
    HomologousDeepfake,
    load,
    make_features,
    mask_path,
    read_rows,
)
from tests.workspaces import CROP_CORNER, CROP_RAW_SIDE, CROP_SIDE, NUM_FRAMES, add_file, has_mask
from tooling.stages.verify.file_check import split_of_file
from tooling.workspace.files import write_text
from tooling.workspace.layout import Workspace

pytestmark = pytest.mark.usefixtures("datasets_cache")


def rows(workspace: Workspace, name: str) -> dict[str, dict[str, Any]]:
    """All rows of a config by sample_id, media not decoded, with the split in `split`."""
    found = {}
    for split, dataset in load(name, str(workspace.root), streaming=True).items():
        for row in undecoded(dataset):
            found[row["sample_id"]] = {**row, "split": split}
    return found


def undecoded(dataset: Any) -> Any:
    """The dataset with paths in place of decoders and pictures."""
    for column in MEDIA_COLUMNS:
        if column in dataset.features:
            dataset = dataset.cast_column(column, type(dataset.features[column])(decode=False))
    return dataset


def rounded(value: Any) -> Any:
    """Streamed rows hold the builder's own floats, prepared ones 32 bits of them."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 3) if isinstance(value, float) else value


def change_lines(path: Path, change: Any) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    write_text(path, "".join(json.dumps(change(line)) + "\n" for line in lines))


def test_swap_row_names_both_people_and_its_original(small_workspace: Workspace) -> None:
    plan = small_workspace.plan()
    assert plan
    target, source = plan.pairs["swap_video"][0]
    row = rows(small_workspace, "swap_video")[f"swap_video/{target}_{source}"]
    record = small_workspace.records("swap_video")[f"swap_video/{target}_{source}"]
    assert row["video"]["path"] == str(small_workspace.path(record.path))
    expected = {
        "path": f"swap_video/{target}_{source}.mp4",
        "label": 1,
        "method": 4,
        "generator": "weightfree-swap",
        "identity_pair": {"target": target, "source": source},
        "identity": source,
        "gender": 0,
        "attribute": None,
        "factor": None,
        "real_path": f"raw_video/{target}.mp4",
        "fold": plan.folds[target],
        "fps": 30.0,
        "num_frames": NUM_FRAMES,
        "width": 96,
        "height": 64,
        "sha256": record.sha256,
        "mask_sha256": record.companions[f"masks/{record.path}"],
    }
    assert row["mask"]["path"] == str(small_workspace.path(f"masks/{record.path}"))
    assert {key: row[key] for key in expected} == expected
    track = json.loads(small_workspace.path(f"tracks/{target}.json").read_text())
    assert [row[key] for key in ("boxes", "landmarks", "is_detected")] == [
        track[key] for key in ("boxes", "landmarks", "is_detected")
    ]


def test_masks_are_null_where_a_fake_has_none(small_workspace: Workspace) -> None:
    for name in SUBSETS:
        found = rows(small_workspace, name)
        assert all(("mask" in row) == (name in MASKED_SUBSETS) for row in found.values())
        for row in found.values():
            masked = has_mask(row["path"])
            assert (row.get("mask") is not None, row["mask_sha256"] is not None) == (masked, masked)
    record = next(iter(small_workspace.records("swap_video").values()))
    assert mask_path(record.path) in record.companions


def test_records_from_before_there_were_masks_are_read(workspace_copy: Workspace) -> None:
    def without_companions(line: dict[str, Any]) -> dict[str, Any]:
        del line["companions"]
        return line

    change_lines(workspace_copy.path("swap_video/metadata.jsonl"), without_companions)
    assert {row["mask"] for row in rows(workspace_copy, "swap_video").values()} == {None}


def test_the_other_kinds_of_rows(small_workspace: Workspace) -> None:
    plan = small_workspace.plan()
    assert plan
    target, source = plan.pairs["avatarify_video"][-1]
    driven = rows(small_workspace, "avatarify_video")[f"avatarify_video/{target}_{source}"]
    assert (driven["identity"], driven["real_path"]) == (target, f"raw_video/{target}.mp4")
    assert driven["identity_pair"] == {"target": target, "source": source}
    edited = rows(small_workspace, "edit_video")["edit_video/hair/3"]
    assert [edited[key] for key in ("attribute", "factor", "identity", "identity_pair", "real_path", "label")] == [
        "hair", 2.0, "3", None, "raw_video/3.mp4", 1,
    ]  # fmt: skip
    raw = rows(small_workspace, "raw_video")["raw_video/7"]
    assert [raw[key] for key in ("label", "method", "generator", "identity_pair", "real_path", "gender")] == [
        0, 0, None, None, None, 1,
    ]  # fmt: skip
    assert rows(small_workspace, "face_video")["face_video/7"]["real_path"] == "raw_video/7.mp4"


def test_crops_have_boxes_and_landmarks_in_their_own_pixels(small_workspace: Workspace) -> None:
    raw = rows(small_workspace, "raw_video")["raw_video/2"]
    crop = rows(small_workspace, "face_video")["face_video/2"]
    scale = CROP_SIDE / CROP_RAW_SIDE
    for box, crop_box in zip(raw["boxes"], crop["boxes"], strict=True):
        assert crop_box == pytest.approx([(value - CROP_CORNER[at % 2]) * scale for at, value in enumerate(box)])
    for points, crop_points in zip(raw["landmarks"], crop["landmarks"], strict=True):
        for (x, y), point in zip(points, crop_points, strict=True):
            assert point == pytest.approx([(x - CROP_CORNER[0]) * scale, (y - CROP_CORNER[1]) * scale])


def test_images_have_prompt_seed_and_a_fold_by_number_or_record(workspace_copy: Workspace) -> None:
    add_file(workspace_copy, "GAN_images/000009.png", "x", {"fold": 1})
    found = rows(workspace_copy, "GAN_images")
    assert [(found[f"GAN_images/00000{n}"]["fold"]) for n in (1, 2, 3, 4, 5, 9)] == [1, 2, 3, 4, 0, 1]
    row = found["GAN_images/000004"]
    assert (row["prompt"], row["seed"], row["method"], row["identity"], row["gender"]) == ("face 4", 4, 1, None, None)
    assert (row["real_path"], row["fps"], row["num_frames"]) == (None, None, 1)


def test_splits_share_no_person_and_follow_the_folds(small_workspace: Workspace) -> None:
    people: dict[str, set[str]] = {}
    for name in SUBSETS:
        for row in rows(small_workspace, name).values():
            assert row["fold"] in SPLIT_FOLDS[row["split"]]
            pair = (row["identity_pair"] or {}).values()
            people.setdefault(row["split"], set()).update({row["identity"], *pair} - {None})
    assert {split: len(found) for split, found in people.items()} == {"train": 4, "validation": 4, "test": 4}
    assert len(set.union(*people.values())) == 12


def test_verification_puts_files_into_the_same_splits(workspace_copy: Workspace) -> None:
    plan = workspace_copy.plan()
    assert plan is not None
    other = next(identity for identity in plan.folds if plan.folds[identity] != plan.folds["1"])
    add_file(workspace_copy, "GAN_images/000009.png", "x", {"fold": 1})
    add_file(workspace_copy, f"swap_video/1_{other}.mp4", "imported", {})
    for name in SUBSETS:
        records = workspace_copy.records(name)
        found = {
            row["sample_id"]: split for split, rows in read_rows(str(workspace_copy.root), name).items() for row in rows
        }
        assert {sample_id: split_of_file(record, plan) for sample_id, record in records.items()} == found
        assert {record.subset for record in records.values()} == {name}


def test_pair_across_folds_is_in_crossing_alone(workspace_copy: Workspace) -> None:
    folds = workspace_copy.plan().folds  # type: ignore[union-attr]
    other = next(identity for identity in folds if folds[identity] != folds["1"])
    assert "crossing" not in load("swap_video", str(workspace_copy.root), streaming=True)
    add_file(workspace_copy, f"swap_video/1_{other}.mp4", "imported", {})
    row = rows(workspace_copy, "swap_video").pop(f"swap_video/1_{other}")
    assert (row["split"], row["fold"]) == ("crossing", None)
    assert [split for split, found in read_rows(str(workspace_copy.root), "swap_video").items()
            if any(one["fold"] is None for one in found)] == ["crossing"]  # fmt: skip


def test_splits_without_rows_are_left_out(workspace_copy: Workspace) -> None:
    folds = workspace_copy.plan().folds  # type: ignore[union-attr]
    unwanted = [f"edit_video/{kind}/{i}" for kind in ("age", "hair") for i, fold in folds.items() if fold == 1]
    workspace_copy.forget("edit_video", unwanted)
    assert list(load("edit_video", str(workspace_copy.root), streaming=True)) == ["train", "test"]


def test_without_tracks_the_frames_columns_are_null(workspace_copy: Workspace) -> None:
    shutil.rmtree(workspace_copy.root / "tracks")
    for name in ("raw_video", "face_video", "swap_video"):
        dataset = load(name, str(workspace_copy.root), split="train")
        assert dataset.features == make_features(name)
        row = dataset.remove_columns("video")[0]
        assert row["boxes"] is row["landmarks"] is row["is_detected"] is None


@pytest.mark.parametrize("name", SUBSETS)
def test_map_style_streaming_and_several_processes_agree(small_workspace: Workspace, name: str, tmp_path: Path) -> None:
    streamed = rows(small_workspace, name)
    root = str(small_workspace.root)
    for at, num_proc in enumerate((None, 2)):
        builder = HomologousDeepfake(config_name=name, data_dir=root, cache_dir=str(tmp_path / str(at)))
        builder.download_and_prepare(num_proc=num_proc)
        made = builder.as_dataset()
        num_files = len(list((tmp_path / str(at)).rglob("*-train*.arrow")))
        assert num_files == (num_proc or 1)
        found = {}
        for split, dataset in made.items():
            assert dataset.features == make_features(name)
            for row in undecoded(dataset):
                found[row["sample_id"]] = {**row, "split": split}
        assert list(found) == list(streamed)
        assert rounded(found) == rounded(streamed)


def test_streaming_is_divided_by_rows(small_workspace: Workspace) -> None:
    dataset = load("edit_video", str(small_workspace.root), split="train", streaming=True)
    assert dataset.num_shards == 8
    parts = [dataset.shard(num_shards=2, index=at).remove_columns("video") for at in range(2)]
    ids = [[row["sample_id"] for row in part] for part in parts]
    assert sorted(map(len, ids)) == [4, 4]
    assert not set(ids[0]) & set(ids[1])


def test_changed_workspace_or_definition_never_returns_old_rows(
    workspace_copy: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(data_dir: str) -> Any:
        builder = HomologousDeepfake(config_name="raw_video", data_dir=data_dir)
        builder.download_and_prepare()
        return builder.as_dataset("train").remove_columns("video")[0]

    monkeypatch.chdir(tmp_path)
    before = first("workspace")
    change_lines(workspace_copy.records_path("raw_video"), lambda record: {**record, "sha256": "new"})
    assert first("workspace")["sha256"] == "new"
    write_text(workspace_copy.path(f"tracks/{before['identity']}.json"), "")
    workspace_copy.path(f"tracks/{before['identity']}.json").unlink()
    assert first("workspace")["boxes"] is None
    # the same relative name elsewhere is another workspace
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree("workspace", "elsewhere/workspace")
    monkeypatch.chdir(tmp_path / "elsewhere")
    change_lines(Path("workspace/raw_video/metadata.jsonl"), lambda record: {**record, "sha256": "other"})
    assert first("workspace")["sha256"] == "other"
    # an edited definition
    key = HomologousDeepfake(config_name="raw_video", data_dir="workspace").config_id
    edited = tmp_path / "homologous_deepfake.py"
    edited.write_text(Path(homologous_deepfake.__file__).read_text() + "\n")
    monkeypatch.setattr(homologous_deepfake, "__file__", str(edited))
    assert HomologousDeepfake(config_name="raw_video", data_dir="workspace").config_id != key


def test_unchanged_workspace_is_read_once(small_workspace: Workspace) -> None:
    keys = {HomologousDeepfake(config_name="raw_video", data_dir=str(small_workspace.root)).cache_dir for _ in range(2)}
    assert len(keys) == 1


def test_incomplete_last_line_and_older_records_are_ignored(workspace_copy: Workspace) -> None:
    path = workspace_copy.records_path("raw_video")
    first = json.loads(path.read_text().splitlines()[0])
    with path.open("a") as file:
        file.write(json.dumps({**first, "sha256": "later"}) + "\n" + '{"sample_id": "raw_vi')
    found = rows(workspace_copy, "raw_video")
    assert len(found) == 12
    assert found["raw_video/1"]["sha256"] == "later"


def problems() -> list[Any]:
    def forget_fold(place: Workspace) -> None:
        plan = json.loads(place.plan_path.read_text())
        del plan["folds"]["3"]
        place.plan_path.write_text(json.dumps(plan))

    def forget_person(place: Workspace) -> None:
        lines = place.identities_path.read_text().splitlines(keepends=True)
        place.identities_path.write_text("".join(line for line in lines if not line.startswith("3,")))

    def misname(place: Workspace) -> None:
        change_lines(place.records_path("raw_video"), lambda record: {**record, "sample_id": "raw_video/1_2"})

    def damage(place: Workspace) -> None:
        place.records_path("raw_video").write_text("nonsense\n")

    cases: dict[str, tuple[Any, str]] = {
        "fold": (forget_fold, r"raw_video/3.mp4: identity 3 has no fold in plan.json; run `tooling plan`"),
        "person": (forget_person, r"identity 3 has no row in identities.csv; add it"),
        "plan": (lambda place: place.plan_path.unlink(), r"plan.json: not found; run `tooling plan`"),
        "table": (
            lambda place: place.identities_path.unlink(),
            r"identities.csv: not found; run `tooling ingest SOURCES`",
        ),
        "file": (
            lambda place: place.path("raw_video/3.mp4").unlink(),
            r"raw_video/3.mp4: recorded, but missing; run",
        ),
        "name": (misname, r"is not named like raw_video/\{identity\}.mp4; rename"),
        "record": (damage, r"metadata.jsonl: damaged line; remove it"),
        "record's companions": (
            lambda place: change_lines(place.records_path("raw_video"), lambda record: {**record, "companions": 7}),
            r"metadata.jsonl: damaged line; remove it",
        ),
        "table of bytes": (
            lambda place: place.identities_path.write_bytes(b"\xff"),
            r"identities.csv: damaged \(UnicodeDecode",
        ),
        "gender": (
            lambda place: place.identities_path.write_text(
                place.identities_path.read_text().replace(",female,", ",\u0663,", 1)
            ),
            "identities.csv: gender '\u0663'; use male or female",
        ),
        "plan that is a list": (
            lambda place: place.plan_path.write_text("[]"),
            r"plan.json: damaged \(TypeError.*`tooling plan` again",
        ),
        "fold that is text": (
            lambda place: place.plan_path.write_text('{"folds": {"1": "x"}}'),
            r"plan.json: damaged \(TypeError",
        ),
        "empty": (lambda place: shutil.rmtree(place.root / "raw_video"), r"raw_video: no finished file in workspace /"),
    }
    return [pytest.param(*case, id=name) for name, case in cases.items()]


@pytest.mark.parametrize(("spoil", "message"), problems())
def test_what_is_missing_is_named_in_one_line(workspace_copy: Workspace, spoil: Any, message: str) -> None:
    spoil(workspace_copy)
    for streaming in (False, True):
        with pytest.raises(ValueError, match=message) as caught:
            load("raw_video", str(workspace_copy.root), streaming=streaming)
        assert "\n" not in str(caught.value)


def test_track_of_another_length_is_named(workspace_copy: Workspace) -> None:
    path = workspace_copy.path("tracks/5.json")
    track = json.loads(path.read_text())
    path.write_text(json.dumps({**track, "boxes": track["boxes"][1:]}))
    with pytest.raises(ValueError, match=r"tracks/5.json: size or number of frames differs from raw_video/5.mp4; run"):
        rows(workspace_copy, "raw_video")


def test_columns_are_known_without_a_workspace_and_rows_need_one(tmp_path: Path) -> None:
    builder = HomologousDeepfake(config_name="edit_video")
    assert builder.info.features == make_features("edit_video")
    with pytest.raises(ValueError, match="edit_video: no finished file in workspace None; pass another data_dir"):
        builder.download_and_prepare()
    with pytest.raises(ValueError, match=f"edit_video: no finished file in workspace {tmp_path}; pass"):
        load("edit_video", str(tmp_path), streaming=True)


def test_default_config_and_metadata_columns(small_workspace: Workspace) -> None:
    assert HomologousDeepfake(data_dir=os.fspath(small_workspace.root)).config.name == "swap_video"
    assert list(HomologousDeepfake.builder_configs) == list(SUBSETS)
    for name in SUBSETS:
        assert set(make_features(METADATA)) < set(make_features(name))


ALONE = """
import sys
import homologous_deepfake, tooling.cli.app, tooling.work.tasks, tooling.marks.mark
assert not {"datasets", "torch"} & set(sys.modules)
builder = homologous_deepfake.HomologousDeepfake
assert (builder.__module__, builder.__qualname__) == ("homologous_deepfake", "HomologousDeepfake")
assert builder in vars(homologous_deepfake).values()
"""


def test_tables_cost_no_import_of_datasets_and_the_builder_is_there_when_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    loaded_before = "import datasets, homologous_deepfake as h; assert 'HomologousDeepfake' in vars(h)"
    subprocess.run([sys.executable, "-c", loaded_before], check=True)  # as the loader of datasets 3 does
