"""The built folder under unmodified datasets: the newest in this process, older ones in environments of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from datasets import load_dataset
from datasets.distributed import split_dataset_by_node

import homologous_deepfake
from generation.crops.masks import read_masks
from generation.media.reader import read_frames
from homologous_deepfake import (
    GENDERS,
    LABELS,
    MEDIA_COLUMNS,
    METADATA,
    SUBSETS,
    complete_row,
    make_features,
    mask_path,
    read_rows,
)
from tests.workspaces import NUM_FRAMES, make_noise_workspace, write_card
from tooling.settings import ShardSettings
from tooling.stages import build as shards
from tooling.workspace.layout import Workspace

pytestmark = pytest.mark.thorough

NAMES = [*SUBSETS, METADATA]
SCRIPT = Path(__file__).parent / "loading_scripts" / "load_everything.py"


@pytest.fixture(scope="module")
def shelf(small_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A researcher's folder, which holds the release `homologous_deepfake`."""
    folder = tmp_path_factory.mktemp("shelf")
    release = shards.build_release(small_workspace, folder / "homologous_deepfake")
    write_card(folder / "homologous_deepfake", release)
    return folder


@pytest.fixture
def here(shelf: Path, monkeypatch: pytest.MonkeyPatch, datasets_cache: Path) -> Path:
    monkeypatch.chdir(shelf)
    return shelf


def media_of(name: str) -> str | None:
    return SUBSETS[name].media if name in SUBSETS else None


def plain(dataset: Any) -> Any:
    """The dataset with media as bytes."""
    for column in MEDIA_COLUMNS:
        if column in dataset.features:
            dataset = dataset.cast_column(column, type(dataset.features[column])(decode=False))
    return dataset


def sample_ids(dataset: Any) -> list[str]:
    return [row["sample_id"] for row in plain(dataset)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("here")
def test_every_config_loads_typed_and_alike_in_both_ways(name: str) -> None:
    prepared, streamed = (
        load_dataset("homologous_deepfake", name),
        load_dataset("homologous_deepfake", name, streaming=True),
    )
    assert list(prepared) == list(streamed) == ["train", "validation", "test"]
    for split in prepared:
        assert prepared[split].features == streamed[split].features == make_features(name)
        assert list(plain(prepared[split])) == list(plain(streamed[split]))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", SUBSETS)
@pytest.mark.usefixtures("here")
def test_media_decode_to_the_workspaces_pixels(name: str, streaming: bool, small_workspace: Workspace) -> None:
    dataset = load_dataset("homologous_deepfake", name, split="test", streaming=streaming)
    row = next(iter(dataset))
    path = small_workspace.path(row["path"])
    if media_of(name) == "image":
        assert row["image"].size == (row["width"], row["height"]) == (96, 64)
        return
    decoder = row["video"]
    assert len(decoder) == row["num_frames"] == NUM_FRAMES
    frames = decoder.get_frames_in_range(0, NUM_FRAMES).data  # TCHW uint8
    assert frames.shape == (NUM_FRAMES, 3, row["height"], row["width"])
    decoded = np.stack(list(read_frames(path, is_exact=False)))  # colours as torchcodec makes them
    expected = torch.from_numpy(decoded).permute(0, 3, 1, 2)  # THWC -> TCHW
    assert (frames.int() - expected.int()).abs().max() <= 2  # two converters from YUV
    if row["mask_sha256"]:
        masks = row["mask"].get_frames_in_range(0, NUM_FRAMES).data  # equal channels, exact values
        exact = torch.from_numpy(np.stack(list(read_masks(small_workspace.path(mask_path(row["path"]))))))
        assert torch.equal(masks, exact[:, None].expand(-1, 3, -1, -1))
    else:
        assert row.get("mask") is None
    assert np.array(row["boxes"]).shape == (NUM_FRAMES, 4)
    assert np.array(row["landmarks"]).shape == (NUM_FRAMES, 5, 2)
    assert len(row["is_detected"]) == NUM_FRAMES


@pytest.mark.usefixtures("here")
def test_frames_columns_become_tensors_and_arrays() -> None:
    dataset = load_dataset("homologous_deepfake", "swap_video", split="train").remove_columns("video")
    row = dataset.with_format("torch")[0]
    assert (row["boxes"].shape, row["boxes"].dtype) == ((NUM_FRAMES, 4), torch.float32)
    assert (row["landmarks"].shape, row["landmarks"].dtype) == ((NUM_FRAMES, 5, 2), torch.float32)
    assert (row["is_detected"].shape, row["is_detected"].dtype) == ((NUM_FRAMES,), torch.bool)
    assert dataset.with_format("numpy")[0]["landmarks"].shape == (NUM_FRAMES, 5, 2)
    assert dataset.features["gender"].int2str(dataset[0]["gender"]) in GENDERS


@pytest.mark.parametrize("dropped", ["dataset_info", "parquet"])
def test_either_description_alone_types_the_columns(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dropped: str
) -> None:
    shutil.copytree(here / "homologous_deepfake", tmp_path / "homologous_deepfake")
    monkeypatch.chdir(tmp_path)
    card = tmp_path / "homologous_deepfake" / "README.md"
    if dropped == "dataset_info":
        header = yaml.safe_load(card.read_text().split("---\n")[1])
        del header["dataset_info"]
        card.write_text(f"---\n{yaml.safe_dump(header)}---\n")
    else:
        for path in (tmp_path / "homologous_deepfake" / "data").rglob("*.parquet"):
            pq.write_table(pq.read_table(path).replace_schema_metadata(None), path, store_schema=False)
    for name in NAMES:
        for streaming in (False, True):
            dataset = load_dataset("homologous_deepfake", name, split="test", streaming=streaming)
            assert dataset.features == make_features(name)
            next(iter(dataset))


@pytest.mark.parametrize("num_nodes", [2, 3, 4])
@pytest.mark.usefixtures("here")
def test_nodes_share_the_rows_without_overlap(num_nodes: int) -> None:
    for streaming in (False, True):
        dataset = load_dataset("homologous_deepfake", "edit_video", split="train", streaming=streaming)
        parts = [sample_ids(split_dataset_by_node(dataset, rank, num_nodes)) for rank in range(num_nodes)]
        assert sorted(chain(*parts)) == sorted(sample_ids(dataset))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def to_tensors(row: dict[str, Any]) -> dict[str, Any]:
    """Two decoded frames and the label: what a training loop's collate can stack."""
    return {
        "frames": row["video"].get_frames_at([0, NUM_FRAMES - 1]).data,
        "label": row["label"],
        "id": row["sample_id"],
    }


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.usefixtures("here")
def test_data_loader_workers_decode_every_row_once(streaming: bool) -> None:
    dataset: Any = load_dataset("homologous_deepfake", "edit_video", split="train", streaming=streaming)
    if streaming:
        dataset = dataset.map(to_tensors, remove_columns=[name for name in dataset.features if name != "label"])
    else:
        dataset = Tensors(dataset)
    batches = list(torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=2))
    seen = [sample_id for batch in batches for sample_id in batch["id"]]
    assert sorted(seen) == sorted(sample_ids(load_dataset("homologous_deepfake", "edit_video", split="train")))
    assert all(batch["frames"].shape[1:] == (2, 3, 64, 96) for batch in batches)
    assert all(batch["frames"].dtype == torch.uint8 for batch in batches)


class Tensors(torch.utils.data.Dataset[dict[str, Any]]):
    """The map-style dataset with `to_tensors` applied when a row is asked for, in the worker."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> dict[str, Any]:
        return to_tensors(self.rows[at])


@pytest.mark.usefixtures("here")
def test_resume_goes_on_with_the_very_next_row() -> None:
    def fresh() -> Any:
        return plain(load_dataset("homologous_deepfake", "edit_video", split="train", streaming=True))

    everything = sample_ids(fresh())
    for num_done in range(len(everything)):
        dataset, resumed = fresh(), fresh()
        begun = [row["sample_id"] for row in islice(dataset, num_done)]
        resumed.load_state_dict(json.loads(json.dumps(dataset.state_dict())))
        assert begun + [row["sample_id"] for row in resumed] == everything


@pytest.mark.usefixtures("here")
def test_shuffled_shards_deliver_everything_and_resume() -> None:
    dataset = plain(load_dataset("homologous_deepfake", "edit_video", split="train", streaming=True))
    shuffled = dataset.shuffle(seed=1, buffer_size=1)
    order = sample_ids(shuffled)
    assert order != sample_ids(dataset)
    assert sorted(order) == sorted(sample_ids(dataset))


@pytest.mark.usefixtures("here")
def test_metadata_joins_with_every_config() -> None:
    everything = {row["path"]: row for row in load_dataset("homologous_deepfake", METADATA, split="test")}
    for name in SUBSETS:
        dataset = load_dataset("homologous_deepfake", name, split="test").select_columns(list(make_features(METADATA)))
        for row in dataset:
            assert everything[row["path"]] == row
            assert row["real_path"] is None or row["real_path"] in everything


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count a process's reads")
def test_columns_do_not_read_the_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, datasets_cache: Path) -> None:
    workspace = make_noise_workspace(tmp_path / "workspace", 40, 2_000_000, ShardSettings(row_group_bytes=9_000_000))
    write_card(tmp_path / "homologous_deepfake", shards.build_release(workspace, tmp_path / "homologous_deepfake"))
    monkeypatch.chdir(tmp_path)

    def cost(streaming: bool, **options: Any) -> float:
        """Share of the train split's media bytes that one pass over it reads, loading included."""
        before = bytes_read()
        dataset = plain(load_dataset("homologous_deepfake", "raw_video", split="train", streaming=streaming, **options))
        num_rows = sum(1 for _ in dataset)
        assert num_rows == 24 or "filters" in options
        return (bytes_read() - before) / (24 * 2_000_000)

    columns = ["sample_id", "label", "fold", "boxes"]
    assert cost(streaming=True) > 0.99
    assert cost(streaming=True, columns=columns) < 0.03
    assert cost(streaming=False, columns=columns) < 0.03
    assert cost(streaming=True, filters=[("fold", "==", 3)]) < 0.37  # a third of the rows lie in fold 3


ENVIRONMENTS = {
    # 3.6 decodes with a reader that later torchvision dropped, so it brings its own torch; 4 takes the one here.
    "3.6.0": (["datasets==3.6.0", "torch==2.6.0", "torchvision==0.21.0", "av", "pillow"], False),
    "4.0.0": (["datasets==4.0.0"], True),
    "4.*": (["datasets==4.*"], True),
}


def environment(config: pytest.Config, version: str) -> Path:
    """Python of an environment with that version of datasets; made once and kept in pytest's cache folder, or where
    HOMOLOGOUS_DEEPFAKE_ENVIRONMENTS says."""
    requirements, is_layered = ENVIRONMENTS[version]
    assert config.cache
    kept = os.environ.get("HOMOLOGOUS_DEEPFAKE_ENVIRONMENTS") or config.cache.mkdir("environments")
    folder = Path(kept) / f"datasets-{version.replace('*', 'newest')}"
    python = folder / "bin" / "python"
    done = folder / "installed.txt"
    if not done.exists() or done.read_text() != "\n".join(requirements):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        if is_layered:
            site = next(folder.glob("lib/python*/site-packages"))
            (site / "parent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        install = [str(python), "-m", "pip", "install", "--quiet", *requirements]
        made = subprocess.run(install, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"datasets {version} could not be installed: {made.stderr.strip().splitlines()[-1]}")
        done.write_text("\n".join(requirements))
    return python


def run_there(python: Path, tmp_path: Path, *arguments: str | Path) -> dict[str, Any]:
    variables = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    command = [python, SCRIPT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, env=os.environ | variables)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(seen: dict[str, Any], workspace: Workspace, ways: int) -> None:
    """Every config, split and row as the definition says, in every way it was loaded."""
    rows: dict[str, dict[str, list[Any]]] = {METADATA: {}}
    for name in SUBSETS:
        rows[name] = read_rows(str(workspace.root), name)
        for split, found in rows[name].items():
            rows[METADATA].setdefault(split, []).extend(found)
    for name, by_way in seen.items():
        assert len(by_way) == ways
        for splits in by_way.values():
            assert list(splits) == list(rows[name])
            for split, loaded in splits.items():
                compare_split(loaded, rows[name][split], name, workspace)


def compare_split(loaded: dict[str, Any], expected: list[dict[str, Any]], name: str, workspace: Workspace) -> None:
    assert list(loaded["features"]) == list(make_features(name))
    assert loaded["features"]["label"] == "ClassLabel"
    assert loaded["sample_ids"] == [row["sample_id"] for row in expected]
    assert loaded["labels"] == [row["label"] for row in expected]
    assert set(loaded["labels"]) <= set(LABELS)
    assert loaded["genders"] == [row["gender"] for row in expected]
    assert loaded["pairs"] == [row["identity_pair"] for row in expected]
    assert loaded["frames"] == [[3, row["height"], row["width"]] for row in expected if name != METADATA]
    if media_of(name) != "video":
        return
    assert loaded["features"]["video"] == "Video"
    assert loaded["features"].get("mask", "Video") == "Video"
    assert loaded["masks"] == [[3, row["height"], row["width"]] if row["mask_sha256"] else [] for row in expected]
    for at, row in enumerate(expected):
        complete = complete_row(str(workspace.root), row)
        for column in ("boxes", "landmarks"):
            np.testing.assert_allclose(loaded[column][at], complete[column], rtol=1e-6)
        assert loaded["is_detected"][at] == complete["is_detected"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("version", ENVIRONMENTS)
def test_older_datasets_load_every_config(
    version: str, shelf: Path, small_workspace: Workspace, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    python = environment(request.config, version)
    found = run_there(python, tmp_path, shelf, ",".join(NAMES))
    assert found["version"].startswith(version.rstrip("*"))
    assert list(found["seen"]) == NAMES
    compare(found["seen"], small_workspace, ways=2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_definition_is_a_loading_script_of_datasets_3_6(
    small_workspace: Workspace, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    python = environment(request.config, "3.6.0")
    (tmp_path / "scripts" / "homologous_deepfake").mkdir(parents=True)
    inside = tmp_path / "scripts" / "homologous_deepfake"
    shutil.copy(homologous_deepfake.__file__, inside)
    # Each process of each split imports torch: one config and one form of the path are enough for num_proc.
    for script, names, num_proc_name in (
        (inside, ",".join(SUBSETS), ""),
        (inside / "homologous_deepfake.py", "swap_video", "swap_video"),
    ):
        home = tmp_path / f"home{script.suffix}"
        found = run_there(python, home, tmp_path, names, script, small_workspace.root, num_proc_name)
        assert found["version"] == "3.6.0"
        compare(found["seen"], small_workspace, ways=3 if num_proc_name else 2)
