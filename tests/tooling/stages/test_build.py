"""The built folder: layout, same bytes, flat memory, nothing half-written, refusals, and what its readers rely on."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Features

from homologous_deepfake import METADATA, SUBSETS, make_features, read_rows
from tests.workspaces import add_file, has_mask, make_noise_workspace
from tooling.errors import InputError, ToolingError, WorkspaceError
from tooling.release.folder import dataset_card_configs, read_release
from tooling.release.shards import read_checksums, rewrite_shard
from tooling.settings import ShardSettings
from tooling.stages import build as shards
from tooling.workspace.files import file_sha256
from tooling.workspace.layout import Workspace

SMALL = ShardSettings(row_group_bytes=250_000, max_shard_bytes=1_000_000, min_train_shards=3)


@pytest.fixture(scope="module")
def built(small_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "homologous_deepfake"
    shards.build_release(small_workspace, out)
    return out


def files(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}


def test_folder_holds_shards_and_their_checksums_alone(built: Path, small_workspace: Workspace) -> None:
    found = files(built)
    lines = (built / "data" / "SHA256SUMS").read_text().splitlines()
    sums = {f"data/{name}": digest for digest, _, name in (line.partition("  ") for line in lines)}
    assert sums == {name: digest for name, digest in found.items() if name != "data/SHA256SUMS"}
    swap = [name for name in found if name.startswith("data/swap_video/")]
    assert swap == [
        f"data/swap_video/{split}-0000{n}-of-00004.parquet"
        for split in ("test", "train", "validation")
        for n in range(4)
    ]
    assert not list(built.parent.glob(".*"))


def test_rows_are_the_definitions_with_the_files_bytes(built: Path, small_workspace: Workspace) -> None:
    for name, subset in SUBSETS.items():
        for split, wanted in read_rows(str(small_workspace.root), name).items():
            paths = sorted((built / "data" / name).glob(f"{split}-*"))
            rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
            assert [row["sample_id"] for row in rows] == [row["sample_id"] for row in wanted]
            for row in rows:
                media = row[subset.media]
                assert media["path"] == row["path"].rpartition("/")[2]
                assert hashlib.sha256(media["bytes"]).hexdigest() == row["sha256"]
                assert (row["mask_sha256"] is not None) == has_mask(row["path"])
                if row["mask_sha256"]:
                    assert hashlib.sha256(row["mask"]["bytes"]).hexdigest() == row["mask_sha256"]
                    assert row["mask"]["bytes"] == small_workspace.path(f"masks/{row['path']}").read_bytes()
                assert file_sha256(small_workspace.path(row["path"])) == row["sha256"]


def test_metadata_has_every_row_without_media(built: Path, small_workspace: Workspace) -> None:
    rows = [row for path in (built / "data" / METADATA).iterdir() for row in pq.read_table(path).to_pylist()]
    recorded = {sample_id for name in SUBSETS for sample_id in small_workspace.records(name)}
    assert {row["sample_id"] for row in rows} == recorded
    assert len(rows) == len(recorded)
    assert list(rows[0]) == list(make_features(METADATA))
    assert sum(path.stat().st_size for path in (built / "data" / METADATA).iterdir()) < 40_000


def test_rows_of_one_fold_and_gender_lie_together(built: Path) -> None:
    rows = [
        row
        for path in sorted((built / "data" / "edit_video").glob("*.parquet"))
        for row in pq.read_table(path, columns=["fold", "gender", "attribute"]).to_pylist()
    ]
    keys = [tuple(row.values()) for row in rows]
    changes = sum(before != after for before, after in pairwise(keys))
    assert changes + 1 == len(set(keys))


def test_media_are_stored_plain_with_page_index(built: Path) -> None:
    footer = pq.read_metadata(next((built / "data" / "swap_video").glob("test-*")))
    columns = [footer.row_group(0).column(at) for at in range(footer.num_columns)]
    codecs = {column.path_in_schema: column.compression for column in columns}
    assert {codecs.pop(f"{name}.{part}") for name in ("video", "mask") for part in ("bytes", "path")} == {
        "UNCOMPRESSED"
    }
    assert set(codecs.values()) == {"ZSTD"}
    assert all(column.has_offset_index for column in columns)


def test_media_keep_their_bytes_when_a_row_before_them_goes(tmp_path: Path) -> None:
    settings = replace(SMALL, row_group_bytes=10_000_000, max_shard_bytes=10_000_000, min_train_shards=1)
    shards.build_release(make_noise_workspace(tmp_path / "w", 20, 100_000, settings), tmp_path / "out")
    old, new = next((tmp_path / "out" / "data" / "raw_video").glob("train-*")), tmp_path / "new"
    rewrite_shard(old, new, [pq.read_table(old, columns=["sample_id"])["sample_id"][0].as_py()], settings)
    group = pq.read_metadata(new).row_group(0)
    media = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}["video.bytes"]
    pages = new.read_bytes()[media.data_page_offset :][: media.total_compressed_size]
    assert (group.num_rows, len(pages) > 300_000) == (3, True)
    assert pages in old.read_bytes()


def test_row_groups_and_shards_keep_their_sizes(tmp_path: Path) -> None:
    workspace = make_noise_workspace(tmp_path / "w", 40, 100_000, SMALL)
    release = shards.build_release(workspace, tmp_path / "out")
    splits = release.configs["raw_video"].splits
    assert {split: len(found.shards) for split, found in splits.items()} == {"train": 3, "validation": 1, "test": 1}
    assert [shard.num_examples for shard in splits["train"].shards] == [8, 8, 8]
    for found in splits.values():
        for shard in found.shards:
            assert shard.num_bytes <= SMALL.max_shard_bytes
            footer = pq.read_metadata(tmp_path / "out" / shard.path)
            groups = [footer.row_group(at).num_rows for at in range(footer.num_row_groups)]
            assert groups == [2] * (shard.num_examples // 2)
    tight = replace(workspace, settings=replace(workspace.settings, shards=replace(SMALL, max_shard_bytes=250_000)))
    release = shards.build_release(tight, tmp_path / "out")
    counts = [[shard.num_examples for shard in found.shards] for found in release.configs["raw_video"].splits.values()]
    assert counts == [[2] * 12, [2] * 4, [2] * 4]
    many = replace(workspace, settings=replace(workspace.settings, shards=replace(SMALL, min_train_shards=6)))
    release = shards.build_release(many, tmp_path / "out")  # the other splits have shards of the size of training's
    counts = [[shard.num_examples for shard in found.shards] for found in release.configs["raw_video"].splits.values()]
    assert counts == [[4] * 6, [4] * 2, [4] * 2]
    assert [len(found.shards) for found in release.configs["metadata"].splits.values()] == [1, 1, 1]


def test_same_workspace_same_bytes(built: Path, small_workspace: Workspace, tmp_path: Path) -> None:
    shutil.copytree(small_workspace.root, tmp_path / "moved")
    shards.build_release(replace(small_workspace, root=tmp_path / "moved"), tmp_path / "again")
    assert files(tmp_path / "again") == files(built)


def test_release_is_read_back(built: Path) -> None:
    release = read_release(built)
    assert list(release.configs) == [*SUBSETS, METADATA]
    for name, config in release.configs.items():
        assert config.features == make_features(name)
        assert list(config.splits) == ["train", "validation", "test"]
    swap = release.configs["swap_video"].splits["train"]
    assert (swap.num_examples, len(swap.shards)) == (4, 4)
    media_bytes = sum(
        len(row[column]["bytes"])
        for shard in swap.shards
        for row in pq.read_table(built / shard.path).to_pylist()
        for column in ("video", "mask")
    )
    assert media_bytes < swap.num_bytes < 2 * media_bytes + 40_000
    for shard in swap.shards:
        assert shard.sha256 == file_sha256(built / shard.path)


def test_card_types_columns_in_the_form_that_all_versions_read(built: Path) -> None:
    release = read_release(built)
    parts = yaml.safe_load(yaml.safe_dump(dataset_card_configs(release), sort_keys=False))
    assert [config["config_name"] for config in parts["configs"]] == [*SUBSETS, METADATA]
    assert parts["configs"][4]["data_files"][0] == {"split": "train", "path": "data/swap_video/train-*"}
    for info in parts["dataset_info"]:
        assert Features._from_yaml_list(info["features"]) == make_features(info["config_name"])
        assert [split["name"] for split in info["splits"]] == ["train", "validation", "test"]
    path = next((built / "data" / "swap_video").glob("test-*"))
    stored = pq.read_schema(path).metadata[b"huggingface"].decode()
    for text in (stored, json.dumps(parts["dataset_info"])):
        assert "List" not in text  # datasets 3.6 knows no such type
        assert '"list"' not in text


def test_new_release_replaces_the_old_one_and_its_card(workspace_copy: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "homologous_deepfake"
    shards.build_release(workspace_copy, out)
    (out / "README.md").write_text("of the old shards")
    (out / "pictures").mkdir()
    (out / "pictures" / "swap_video.png").touch()
    (out / "notes.txt").write_text("the maintainer's own")
    workspace_copy.forget("swap_video", list(workspace_copy.records("swap_video")))
    release = shards.build_release(workspace_copy, out)
    assert "swap_video" not in release.configs
    assert sorted(path.name for path in out.iterdir()) == ["data", "notes.txt"]
    assert not (out / "data" / "swap_video").exists()


def test_file_that_changed_is_refused_and_the_old_release_stays(workspace_copy: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "homologous_deepfake"
    shards.build_release(workspace_copy, out)
    (out / "README.md").write_text("card")
    before = files(out)
    path = list(workspace_copy.records("swap_video").values())[-1].path
    for changed in (f"masks/{path}", path):
        with workspace_copy.path(changed).open("ab") as file:
            file.write(b"x")
        with pytest.raises(WorkspaceError, match=rf"/{changed}: differs from its record \(sha256\); delete it"):
            shards.build_release(workspace_copy, out)
    workspace_copy.path(f"masks/{path}").unlink()
    with pytest.raises(WorkspaceError, match=f"/masks/{path}: recorded, but missing"):
        shards.build_release(workspace_copy, out)
    assert files(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["homologous_deepfake", "workspace"]


def test_track_or_plan_that_does_not_fit_is_one_line(workspace_copy: Workspace, tmp_path: Path) -> None:
    workspace_copy.path("tracks/1.json").write_text('{"format": 1}')
    with pytest.raises(
        WorkspaceError, match=r"tracks/1\.json: damaged \(KeyError\('boxes'\)\); run `tooling faces` again$"
    ):
        shards.build_release(workspace_copy, tmp_path / "out")
    workspace_copy.plan_path.unlink()
    with pytest.raises(WorkspaceError, match=r"plan.json: not found; run `tooling plan`"):
        shards.build_release(workspace_copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [{"seed": 2**70}, {"width": 2**40}, {"fps": 10**400}, {"parameters": {"factor": "x"}}, {"generator": "\ud800"}],
    ids=lambda change: next(iter(change)),
)
def test_record_with_a_value_that_no_column_takes_is_named(
    workspace_copy: Workspace, tmp_path: Path, change: dict[str, Any]
) -> None:
    path = workspace_copy.records_path("GAN_images")
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first, *others[:-1], json.dumps(json.loads(others[-1]) | change), "\n"]))
    way_out = r"delete it and run `tooling generate GAN_images`$"
    with pytest.raises(
        WorkspaceError, match=rf"GAN_images/\d+\.png: its record is damaged \(.*\); {way_out}"
    ) as caught:
        shards.build_release(workspace_copy, tmp_path / "out")
    assert json.loads(others[-1])["path"] in str(caught.value)
    assert len(str(caught.value).removeprefix(str(tmp_path))) < 500
    assert not (tmp_path / "out").exists()


def test_interrupted_build_leaves_the_old_release(
    workspace_copy: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "homologous_deepfake"
    shards.build_release(workspace_copy, out)
    before = files(out)

    def interrupt(done: int, total: int, name: str) -> None:
        if done == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.build_release(workspace_copy, out, progress=interrupt)
    assert files(out) == before
    # killed outright between the two renames: the next run, even one that fails, has the old shards back
    staging = tmp_path / ".homologous_deepfake.building"
    staging.mkdir()
    (out / "data").rename(staging / "old")
    with pytest.raises(KeyboardInterrupt):
        shards.build_release(workspace_copy, out, progress=interrupt)
    assert files(out) == before
    # interrupted between the two renames
    renames: list[Path] = []
    rename = Path.rename

    def second_fails(source: Path, target: Path) -> Path:
        renames.append(source)
        if len(renames) == 2:
            raise KeyboardInterrupt
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", second_fails)
        with pytest.raises(KeyboardInterrupt):
            shards.build_release(workspace_copy, out)
    assert renames[:2] == [out / "data", staging / "data"]
    assert files(out) == before
    # killed while writing: leftovers go, the result is the same
    (staging / "data").mkdir(parents=True)
    (staging / "data" / "torn").touch()
    shards.build_release(workspace_copy, out)
    assert files(out) == before
    assert not staging.exists()


def test_other_folders_are_refused(small_workspace: Workspace, tmp_path: Path) -> None:
    def attempt(name: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            shards.build_release(small_workspace, tmp_path / name)

    (tmp_path / "file").touch()
    attempt("file", "is a file; name a folder")
    for name in ("homologous_deepfake.py", "__init__.py"):
        (tmp_path / name.partition(".")[0]).mkdir()
        (tmp_path / name.partition(".")[0] / name).touch()
        attempt(name.partition(".")[0], f"contains {name}, with which datasets refuses the folder")
    (tmp_path / "other" / "data").mkdir(parents=True)
    (tmp_path / "other" / "data" / "mine").touch()
    attempt("other", "is not empty and not a release; name a new folder")
    assert (tmp_path / "other" / "data" / "mine").exists()
    with pytest.raises(InputError, match="is not empty and not a release"):
        shards.build_release(small_workspace, small_workspace.root)


def test_empty_folder_and_damaged_release_are_named(workspace_copy: Workspace, built: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no built release; run `tooling build --out"):
        read_release(tmp_path)
    shutil.copytree(built, tmp_path / "torn")
    shard = next((tmp_path / "torn" / "data" / "raw_video").iterdir())
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"{shard.name}: missing or damaged; run `tooling build` again"):
        read_release(tmp_path / "torn")
    whole = pq.read_table(built / "data" / "raw_video" / shard.name)
    for types in ("{", '{"info": {"features": {"path": {"_type": 1}}}}'):
        pq.write_table(whole.replace_schema_metadata({"huggingface": types}), shard)
        with pytest.raises(InputError, match=f"{shard.name}: missing or damaged; run `tooling build` again"):
            read_release(tmp_path / "torn")
    pq.write_table(pa.table({"sample_id": ["raw_video/1"]}), shard)
    with pytest.raises(InputError, match=f"{shard.name}: has no column video; run `tooling build` again"):
        read_release(tmp_path / "torn")
    with (tmp_path / "torn" / "data" / "SHA256SUMS").open("a") as listed:
        listed.write(f"{'0' * 64}  raw_video/../../../outside.parquet\n")
    with pytest.raises(InputError, match=r"SHA256SUMS: has a line that names no shard, .*; run `tooling build` again"):
        read_checksums(tmp_path / "torn")
    for name in SUBSETS:
        shutil.rmtree(workspace_copy.root / name)
    with pytest.raises(ToolingError, match="no finished files to build from; run `tooling ingest"):
        shards.build_release(workspace_copy, tmp_path / "out")


@pytest.mark.parametrize("sizes", [[1] * 60, [5, 1, 1, 1, 100, 1, 1], [0] * 7, [1000, 1], list(range(1, 40))])
def test_ranges_are_contiguous_and_even(sizes: list[int]) -> None:
    for num_ranges in range(1, len(sizes) + 1):
        found = shards._even_ranges(sizes, num_ranges)
        assert len(found) == num_ranges
        assert [at for part in found for at in part] == list(range(len(sizes)))
        assert all(found)
        if len(set(sizes)) == 1 and sizes[0]:
            lengths = [len(part) for part in found]
            assert max(lengths) - min(lengths) <= 1


def test_progress_tells_each_row(small_workspace: Workspace, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    release = shards.build_release(small_workspace, tmp_path / "out", progress=lambda *values: told.append(values))
    total = sum(split.num_examples for config in release.configs.values() for split in config.splits.values())
    assert told[0] == (0, total, "")
    assert [done for done, _, _ in told] == list(range(total + 1))


MEASURE = """
import resource, sys
from pathlib import Path
from tooling.stages import build as shards
from tooling.workspace.layout import open_workspace
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
shards.build_release(open_workspace(Path(sys.argv[1])), Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_number_of_videos(tmp_path: Path) -> None:
    added_kib: list[int] = []
    settings = ShardSettings(row_group_bytes=2_000_000, max_shard_bytes=50_000_000)
    for num_people in (12, 36):
        workspace = make_noise_workspace(tmp_path / str(num_people), num_people, 1_000_000, settings)
        arguments: list[Any] = [sys.executable, "-c", MEASURE, workspace.root, tmp_path / f"out{num_people}"]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        added_kib.append(int(done.stdout))
    assert added_kib[1] < added_kib[0] + 8_000, added_kib  # 24 MB more were written


def test_crossing_pairs_have_shards_of_their_own(workspace_copy: Workspace, tmp_path: Path) -> None:
    folds = workspace_copy.plan().folds  # type: ignore[union-attr]
    other = next(identity for identity in folds if folds[identity] != folds["1"])
    add_file(workspace_copy, f"swap_video/1_{other}.mp4", "imported", {})
    release = shards.build_release(workspace_copy, tmp_path / "out")
    assert release.configs["swap_video"].splits["crossing"].num_examples == 1
    assert release.configs[METADATA].splits["crossing"].num_examples == 1
    assert "crossing" not in release.configs["raw_video"].splits
