"""detection.pairs: real and fake side by side, prepared and streamed, from a folder and from a Hub."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import load_dataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader

from detection.frames import Evenly, Every, collate, sample_frames, sample_row
from detection.inference import rows_with_media
from detection.pairs import load_identities, load_pairs
from detection.predictions import read_samples
from homologous_deepfake import complete_row, make_features, people_of, read_rows
from tests.detection.counting import CountedHub
from tests.once import made_once
from tests.workspaces import add_noise, drop_masks, has_mask, make_noise_workspace, write_card
from tooling.settings import ShardSettings
from tooling.stages import build as shards
from tooling.stages import plan
from tooling.workspace.layout import Workspace

SUBSETS = ["swap_video", "avatarify_video", "edit_video"]
REPO = "lab/homologous_deepfake"
NUM_BYTES = 400_000  # of a clip of noise

pytestmark = pytest.mark.usefixtures("datasets_cache")


def expected(workspace: Workspace, subset: str, split: str) -> list[tuple[str, str, str | None]]:
    """sample_ids of the fake, the real clip and the source's clip, in the order of a release."""
    found = []
    for row in read_rows(str(workspace.root), subset)[split]:
        people = [f"raw_video/{person}" for person in people_of(row["sample_id"])]
        found.append((row["sample_id"], people[0], people[1] if len(people) > 1 else None))
    return found


def names(pair: dict[str, Any]) -> tuple[str, str, str | None]:
    return pair["fake"]["sample_id"], pair["real"]["sample_id"], pair["source"] and pair["source"]["sample_id"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("subset", ["swap_video", "edit_video"])
def test_each_fake_comes_with_its_clips(
    subset: str, streaming: bool, release: Path, small_workspace: Workspace
) -> None:
    pairs = list(load_pairs(str(release), subset, "train", streaming=streaming))
    wanted = expected(small_workspace, subset, "train")
    if not streaming:
        assert [names(pair) for pair in pairs] == wanted
    assert sorted(map(names, pairs), key=str) == sorted(wanted, key=str)
    for pair in pairs:
        for row in filter(None, pair.values()):
            path = small_workspace.path(row["path"])
            assert row["video"] == {"bytes": path.read_bytes(), "path": path.name}
        assert pair["fake"]["real_path"] == pair["real"]["path"]
        assert pair["fake"]["boxes"] == pair["real"]["boxes"]
        assert (pair["fake"]["label"], pair["real"]["label"]) == (1, 0)


def test_streamed_rows_have_every_column(release: Path, small_workspace: Workspace) -> None:
    pair = next(iter(load_pairs(str(release), "swap_video", "test", streaming=True)))
    stored = {row["sample_id"]: row for row in read_rows(str(small_workspace.root), "swap_video")["test"]}
    row = complete_row(str(small_workspace.root), stored[pair["fake"]["sample_id"]])
    assert list(pair["fake"]) == [name for name in row if name != "mask"]
    for name in ("path", "identity_pair", "fold", "fps", "num_frames", "is_detected"):
        assert pair["fake"][name] == row[name]
    np.testing.assert_allclose(pair["fake"]["landmarks"], row["landmarks"], rtol=1e-6)


@pytest.mark.parametrize("streaming", [False, True])
def test_people_come_with_all_of_their_fakes(streaming: bool, release: Path, small_workspace: Workspace) -> None:
    people = {row["identity"]: row for row in load_identities(str(release), "train", streaming=streaming)}
    real = [row["sample_id"] for row in read_rows(str(small_workspace.root), "raw_video")["train"]]
    assert sorted(f"raw_video/{identity}" for identity in people) == sorted(real)
    fakes = [row["sample_id"] for name in SUBSETS for row in read_rows(str(small_workspace.root), name)["train"]]
    for identity, person in people.items():
        assert person["real"]["sample_id"] == f"raw_video/{identity}"
        for at, role in enumerate(("as_target", "as_source")):
            found = [row["sample_id"] for row in person[role]]
            assert sorted(found) == sorted(name for name in fakes if people_of(name)[at : at + 1] == (identity,))
    only = load_identities(str(release), "train", subsets=["edit_video"], streaming=streaming)
    assert all(len(person["as_target"]) == 2 and not person["as_source"] for person in only)


@pytest.mark.slow  # forks workers: beside the threads of other tests they may wait for ever
@pytest.mark.parametrize("streaming", [False, True])
def test_pairs_go_through_a_data_loader(streaming: bool, release: Path, small_workspace: Workspace) -> None:
    pairs = load_pairs(str(release), "swap_video", "train", streaming=streaming)
    options: dict[str, Any] = {} if streaming else {"shuffle": True}
    batches = partial(collate, sampling=Evenly(3), size_px=16)
    edits = load_pairs(str(release), "edit_video", "test", streaming=streaming)
    assert list(batches(list(islice(edits, 2)))) == ["fake", "real"]
    found: list[Any] = []
    for batch in DataLoader(pairs, 2, num_workers=2, collate_fn=batches, **options):
        assert list(batch) == ["fake", "real", "source"]
        for member in batch.values():
            assert member["frames"].shape[1:] == (3, 3, 16, 16)
            assert member["numbers"].tolist() == [[0, 4, 7]] * len(member["numbers"])
        assert batch["fake"]["label"].all()
        assert not batch["real"]["label"].any()
        assert not torch.equal(batch["fake"]["frames"], batch["real"]["frames"])
        found += zip(*(member["sample_id"] for member in batch.values()), strict=True)
    assert sorted(found) == sorted(expected(small_workspace, "swap_video", "train"))


def test_pairs_of_unequal_length_are_compared_frame_by_frame(release: Path) -> None:
    pair = dict(next(iter(load_pairs(str(release), "swap_video", "test", streaming=True))))
    source = pair["source"]
    pair["source"] = {**source, "num_frames": 5, "boxes": source["boxes"][:5]}
    batch = collate([pair], Evenly(2), size_px=16)
    assert {name: member["numbers"].tolist() for name, member in batch.items()} == {name: [[0, 4]] for name in batch}
    with pytest.raises(ValueError, match="some pairs of the batch have no source; batch pairs of one subset"):
        collate([pair, {**pair, "source": None}], Evenly(2))
    np.testing.assert_array_equal(batch["source"]["frames"][0], sample_frames(source, Every(4), size_px=16))


def test_streamed_pairs_are_shared_by_nodes_and_resumed(release: Path) -> None:
    pairs = load_pairs(str(release), "edit_video", "train", streaming=True)
    everything = [names(pair) for pair in pairs]
    assert pairs.num_shards == 2  # one for each gender: each of two nodes fetches its own
    parts = [[names(pair) for pair in split_dataset_by_node(pairs, rank, 2)] for rank in range(2)]
    assert len(parts[0]) == len(parts[1])
    assert parts[0] + parts[1] == everything
    shuffled = [names(pair) for pair in pairs.shuffle(seed=1, buffer_size=4)]
    assert shuffled != everything
    assert sorted(shuffled) == sorted(everything)
    resumed = load_pairs(str(release), "edit_video", "train", streaming=True)
    for num_done in range(2, len(everything) + 1, 3):
        begun = [names(pair) for pair in islice(pairs, num_done)]
        resumed.load_state_dict(json.loads(json.dumps(pairs.state_dict())))
        assert begun + [names(pair) for pair in resumed] == everything


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of 20 people whose clips, and masks of swaps, are NUM_BYTES of noise, two in a row group."""

    def make(root: Path) -> None:
        settings = ShardSettings(row_group_bytes=int(2.5 * NUM_BYTES), min_train_shards=2)
        workspace = make_noise_workspace(root / "workspace", 20, NUM_BYTES, settings)
        made = plan.draw_plan(workspace)
        for target, source in made.pairs["swap_video"]:
            add_noise(workspace, f"swap_video/{target}_{source}.mp4", NUM_BYTES, mask_bytes=NUM_BYTES)
        for person in made.folds:
            for attribute in ("age", "hair"):
                add_noise(workspace, f"edit_video/{attribute}/{person}.mp4", NUM_BYTES)
        write_card(root / "release", shards.build_release(workspace, root / "release"))

    return made_once(tmp_path_factory, "detection_noise", make) / "release"


def media(value: Any) -> dict[str, int]:
    """sample_id -> bytes of each video, and of its mask, in a yielded dict."""
    if isinstance(value, dict) and "video" in value:
        mask = value.get("mask") or {"bytes": b""}
        return {value["sample_id"]: len(value["video"]["bytes"]) + len(mask["bytes"])}
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {name: size for one in within for name, size in media(one).items()}


def test_little_more_is_fetched_than_yielded(counted_hub: CountedHub, noise: Path) -> None:
    repo_id = counted_hub.publish(noise, REPO)
    for load in (
        partial(load_pairs, repo_id, "swap_video"),
        partial(load_pairs, repo_id, "swap_video", masks=True),
        partial(load_pairs, repo_id, "edit_video"),
        partial(load_identities, repo_id),
        partial(load_identities, repo_id, masks=True),
    ):
        before, held = counted_hub.sent.num_bytes, pa.total_allocated_bytes()
        yielded: dict[str, int] = {}
        for row in load("train", streaming=True):
            yielded |= media(row)
            assert pa.total_allocated_bytes() - held < 3 * NUM_BYTES  # a row group at most
        assert counted_hub.sent.num_bytes - before <= 1.1 * sum(yielded.values())  # each row counts once


def test_masks_are_fetched_only_for_those_who_ask(counted_hub: CountedHub, noise: Path) -> None:
    repo_id = counted_hub.publish(noise, REPO)

    def fetched(rows: Iterable[Any]) -> float:
        """Bytes that are sent for the swaps of the train split, in clips."""
        before = counted_hub.sent.num_bytes
        num_rows = sum(1 for _ in rows)
        assert num_rows == 12
        return (counted_hub.sent.num_bytes - before) / (num_rows * NUM_BYTES)

    def streamed(**options: Any) -> Any:
        rows = load_dataset(repo_id, "swap_video", split="train", streaming=True, **options)
        return rows.decode(False)

    pairs = partial(load_pairs, repo_id, "swap_video", "train", streaming=True)
    assert 2.0 <= fetched(pairs()) < 2.1  # fakes and real clips
    assert 3.0 <= fetched(pairs(masks=True)) < 3.1
    names = {name for name in read_samples(repo_id) if name.startswith("swap_video/")}
    scored = partial(rows_with_media, repo_id, ("train",), ("swap_video",), names)
    assert 1.0 <= fetched(scored()) < 1.1
    assert 2.0 <= fetched(scored(masks=True)) < 2.1
    others = [name for name in make_features("swap_video") if name != "mask"]
    ahead = {"hf": {"block_size": 1 << 12}}  # what datasets reads beyond each range, 5 MB by default
    assert 2.0 <= fetched(streamed(storage_options=ahead)) < 2.1
    assert 1.0 <= fetched(streamed(storage_options=ahead, columns=others)) < 1.1
    assert fetched(streamed(storage_options=ahead, columns=["sample_id", "boxes"])) < 0.1


@pytest.mark.parametrize("streaming", [False, True])
def test_masks_travel_with_the_fakes(streaming: bool, release: Path, small_workspace: Workspace) -> None:
    def load(**options: Any) -> list[Any]:
        return list(load_pairs(str(release), "avatarify_video", "train", streaming=streaming, **options))

    assert all("mask" not in row for pair in load() for row in pair.values())
    pairs = load(masks=True)
    for pair in pairs:
        fake = pair["fake"]
        content = small_workspace.path(f"masks/{fake['path']}")
        expected = {"bytes": content.read_bytes(), "path": content.name} if has_mask(fake["path"]) else None
        assert fake["mask"] == expected
        assert "mask" not in pair["real"]
    assert {pair["fake"]["mask"] is None for pair in pairs} == {False, True}
    batch = collate(pairs, Evenly(2), size_px=16, masks=True)
    assert batch["fake"]["has_mask"].tolist() == [pair["fake"]["mask"] is not None for pair in pairs]
    assert batch["fake"]["masks"].flatten(1).any(1).tolist() == batch["fake"]["has_mask"].tolist()
    assert not batch["real"]["has_mask"].any()


def test_releases_from_before_there_were_masks_are_read(release: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(release, tmp_path / "release")
    drop_masks(folder)
    for streaming in (False, True):
        for pair in load_pairs(str(folder), "swap_video", "test", streaming=streaming, masks=True):
            assert sample_row(pair["fake"], Evenly(2), size_px=16, masks=True)["masks"] is None


def test_what_was_read_before_is_not_fetched_again(counted_hub: CountedHub, noise: Path) -> None:
    repo_id = counted_hub.publish(noise, REPO)
    pairs = load_pairs(repo_id, "swap_video", "train", streaming=True)
    everything = list(map(names, pairs))
    assert len(list(islice(pairs, 8))) == 8
    resumed = load_pairs(repo_id, "swap_video", "train", streaming=True)
    resumed.load_state_dict(pairs.state_dict())
    before, left = counted_hub.sent.num_bytes, []
    yielded: dict[str, int] = {}
    for pair in resumed:
        left.append(names(pair))
        yielded |= media(pair)
    assert left == everything[8:]
    assert counted_hub.sent.num_bytes - before <= 1.1 * sum(yielded.values())


@pytest.mark.slow  # forks workers
def test_pairs_of_a_hub_reach_workers_and_are_prepared(
    counted_hub: CountedHub, release: Path, small_workspace: Workspace
) -> None:
    repo_id = counted_hub.publish(release, REPO)
    wanted = expected(small_workspace, "swap_video", "test")
    streamed = load_pairs(repo_id, "swap_video", "test", streaming=True)
    found = [names(pair) for pair in DataLoader(streamed, None, num_workers=2)]
    assert sorted(found) == sorted(wanted)
    assert list(map(names, load_pairs(repo_id, "swap_video", "test"))) == wanted


def test_what_cannot_be_paired_is_named(release: Path, tmp_path: Path) -> None:
    for streaming in (False, True):
        with pytest.raises(ValueError, match=r"GAN_images: its rows have no real clip; choose one of avatarify_video"):
            load_pairs(str(release), "GAN_images", "train", streaming=streaming)
        with pytest.raises(
            ValueError, match=r"swap_video has no split crossing; choose one of train, validation, test"
        ):
            load_pairs(str(release), "swap_video", "crossing", streaming=streaming)
        with pytest.raises(ValueError, match=re.escape(f"{tmp_path}: cannot load raw_video")):
            load_identities(str(tmp_path), "train", streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_fakes_across_folds_find_both_people(streaming: bool, tmp_path: Path) -> None:
    workspace = make_noise_workspace(tmp_path / "workspace", 6, 1000, ShardSettings())
    folds = plan.draw_plan(workspace).folds
    target, source = "1", next(person for person, fold in folds.items() if fold != folds["1"])
    add_noise(workspace, f"swap_video/{target}_{source}.mp4", 1000)
    write_card(tmp_path / "release", shards.build_release(workspace, tmp_path / "release"))
    (pair,) = load_pairs(str(tmp_path / "release"), "swap_video", "crossing", streaming=streaming)
    assert names(pair) == (f"swap_video/{target}_{source}", f"raw_video/{target}", f"raw_video/{source}")


def test_a_missing_clip_is_named(release: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(release, tmp_path / "release")
    there, others = (sorted(folder.glob(f"data/raw_video/{split}-*")) for split in ("test", "validation"))
    for path, other in zip(there, others, strict=True):
        shutil.copy(other, path)
    with pytest.raises(ValueError, match=r"swap_video/\S+: raw_video/\d+ is missing from the release"):
        load_pairs(str(folder), "swap_video", "test", streaming=True)


def test_the_readme_shows_what_runs(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(release.parent)
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    code = re.search(r"## Real and fake side by side.*?```python\n(.*?)```", readme, re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    exec(code[1], names)
    assert names["batch"]["fake"]["frames"].shape == names["batch"]["real"]["frames"].shape == (4, 8, 3, 224, 224)
    assert names["person"]["as_target"]
