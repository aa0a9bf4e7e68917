"""detection.frames: the frames of a row in every form that media come in, and batches of rows however they are read."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import load_dataset
from datasets.distributed import split_dataset_by_node
from PIL import Image
from torch.utils.data import DataLoader

from detection.frames import Evenly, Every, Sampling, Window, collate, sample_frames, sample_masks, sample_row
from generation.crops.masks import read_masks
from generation.errors import VideoError
from generation.media.reader import read_clip, read_frames, read_image
from homologous_deepfake import complete_row, read_rows
from tests.detection.counting import CountedHub
from tests.workspaces import NUM_FRAMES
from tooling.workspace.layout import Workspace

BATCHES = partial(collate, sampling=Evenly(2), size_px=16)


def stored_row(workspace: Workspace, name: str) -> dict[str, Any]:
    """A row of the test split, its label as a number, its media as a path."""
    row = complete_row(str(workspace.root), read_rows(str(workspace.root), name)["test"][0])
    return {**row, "label": int(row["label"] == "fake")}


@pytest.fixture
def row(small_workspace: Workspace) -> dict[str, Any]:
    return stored_row(small_workspace, "swap_video")


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Evenly(1), [49]),
        (Evenly(2), [0, 99]),
        (Evenly(4), [0, 33, 66, 99]),
        (Evenly(1000), list(range(100))),
        (Every(40), [0, 40, 80]),
        (Every(100), [0]),
        (Window(0.2), [0, 1, 2, 3, 4]),
        (Window(0.001, 1), [25]),
        (Window(10, 3.9), [98, 99]),
    ],
)
def test_samplings_choose_frames(sampling: Sampling, expected: list[int]) -> None:
    assert sampling.numbers(100, 25.0).tolist() == expected


@pytest.mark.parametrize("make", [lambda: Evenly(0), lambda: Every(0), lambda: Window(0), lambda: Window(1, -1)])
def test_samplings_that_choose_nothing_are_refused(make: Callable[[], Sampling]) -> None:
    with pytest.raises(ValueError, match="needs"):
        make()


def test_frames_are_those_of_the_projects_reader(row: dict[str, Any]) -> None:
    whole = sample_frames(row, Every(3), crop=None, size_px=None)
    assert whole.shape == (3, 3, 64, 96)
    assert whole.dtype == np.uint8
    expected = np.stack(list(read_frames(Path(row["video"]), step=3, is_exact=False))).transpose(0, 3, 1, 2)
    assert np.abs(whole.astype(int) - expected).max() <= 1  # 0 where both have the same build of FFmpeg


def test_every_form_of_a_video_gives_the_same_frames(row: dict[str, Any]) -> None:
    from torchcodec.decoders import VideoDecoder

    path = row["video"]
    content = Path(path).read_bytes()
    expected = sample_frames(row, Evenly(3))
    assert expected.shape == (3, 3, 224, 224)
    forms = [
        Path(path),
        content,
        {"bytes": content, "path": "1_2.mp4"},
        {"bytes": None, "path": path},
        VideoDecoder(content),
        VideoDecoder(path, dimension_order="NHWC"),
    ]
    for form in forms:
        np.testing.assert_array_equal(sample_frames({**row, "video": form}, Evenly(3)), expected)


class TorchvisionReader:
    """As torchvision's VideoReader, which datasets 3.6 gives: knows times, goes back to key frames alone."""

    def __init__(self, path: Path, key_frame_every: int = 3) -> None:
        self.frames, self.key_frame_every = read_clip(path), key_frame_every

    def seek(self, time_s: float, keyframes_only: bool = False) -> TorchvisionReader:
        assert keyframes_only
        self.at = round(time_s * 30) // self.key_frame_every * self.key_frame_every
        return self

    def __next__(self) -> dict[str, Any]:
        if self.at >= len(self.frames):
            raise StopIteration
        self.at += 1
        return {"data": torch.from_numpy(self.frames[self.at - 1]).permute(2, 0, 1), "pts": (self.at - 1) / 30}


def test_the_reader_of_datasets_3_6_gives_the_same_frames(row: dict[str, Any]) -> None:
    reader = TorchvisionReader(Path(row["video"]))
    frames = sample_frames({**row, "video": reader}, Every(2), crop=None, size_px=None)
    np.testing.assert_array_equal(frames.transpose(0, 2, 3, 1), reader.frames[::2])
    with pytest.raises(VideoError, match=r"swap_video/.*cannot be decoded"):
        sample_frames({**row, "num_frames": 20, "video": reader}, Evenly(2), crop=None)


def test_crops_show_what_the_boxes_say(row: dict[str, Any]) -> None:
    """At its own size, a square at whole pixels is a slice of the frame; outside of it is black."""
    frames = sample_frames(row, Every(1), crop=None, size_px=None)
    boxes = [[-4.0, 50.0, 16.0, 66.0]] * NUM_FRAMES  # middle 6, 58; square -4..16, 48..68
    crops = sample_frames({**row, "boxes": boxes}, Every(1), crop=1.0, size_px=20)
    np.testing.assert_array_equal(crops[:, :, :16, 4:], frames[:, :, 48:, :16])
    assert not crops[:, :, 16:].any()
    assert not crops[:, :, :, :4].any()
    wider = sample_frames({**row, "boxes": boxes}, Every(1), crop=1.5, size_px=30)
    np.testing.assert_array_equal(wider[:, :, :21, 9:], frames[:, :, 43:, :21])
    far = sample_frames({**row, "boxes": [[200.0, 200.0, 220.0, 220.0]] * NUM_FRAMES}, Evenly(1))
    assert not far.any()


def test_real_and_fake_get_the_same_box(small_workspace: Workspace) -> None:
    """Outside the face a fake has its real clip's picture, so that equal crops have equal corners."""
    fake = stored_row(small_workspace, "swap_video")
    real_path = small_workspace.path(fake["real_path"])
    real = next(
        complete_row(str(small_workspace.root), one)
        for one in read_rows(str(small_workspace.root), "raw_video")["test"]
        if one["path"] == fake["real_path"]
    )
    assert Path(real["video"]) == real_path
    assert real["boxes"] == fake["boxes"]
    ours, theirs = (sample_frames(one, Evenly(3), crop=2.0, size_px=64).astype(int) for one in (fake, real))
    corner = np.s_[:, :, :8, :8]
    assert np.abs(ours - theirs)[corner].mean() < 12  # two encodings
    shifted = sample_frames({**real, "boxes": np.add(real["boxes"], 12)}, Evenly(3), crop=2.0, size_px=64)
    assert np.abs(ours - shifted)[corner].mean() > 14


def test_undetected_frames_are_kept_and_marked(row: dict[str, Any]) -> None:
    sample = sample_row(row, Every(1), size_px=16)
    assert sample["frames"].shape == (NUM_FRAMES, 3, 16, 16)
    assert sample["is_detected"].tolist() == row["is_detected"]
    assert not all(row["is_detected"])
    assert sample["numbers"].tolist() == list(range(NUM_FRAMES))
    assert (sample["sample_id"], sample["label"]) == (row["sample_id"], 1)
    undetected = row["is_detected"].index(False)
    assert sample_row(row, Window(1, undetected / 30), size_px=16)["is_detected"][0] == np.False_


def test_face_video_and_images(small_workspace: Workspace) -> None:
    face = stored_row(small_workspace, "face_video")
    assert sample_frames(face, Evenly(2)).shape == (2, 3, 224, 224)
    image = stored_row(small_workspace, "GAN_images")
    path = Path(image["image"])
    stored = read_image(path).transpose(2, 0, 1)
    for form in (
        path,
        path.read_bytes(),
        {"bytes": None, "path": str(path)},
        Image.open(io.BytesIO(path.read_bytes())),
    ):
        sample = sample_row({**image, "image": form}, Evenly(8), size_px=64)
        np.testing.assert_array_equal(sample["frames"], stored[None, :, :, 16:80])
        assert sample["is_detected"].tolist() == [True]
    whole = sample_frames(image, Every(1), crop=None, size_px=32)
    assert whole.shape == (1, 3, 32, 48)


def test_rows_that_cannot_be_sampled_are_named(row: dict[str, Any]) -> None:
    path = row["path"]
    with pytest.raises(ValueError, match=f"{path}: has no boxes"):
        sample_frames({**row, "boxes": None}, Evenly(2))
    with pytest.raises(ValueError, match=f"{path}: has no num_frames"):
        sample_frames({name: value for name, value in row.items() if name != "num_frames"}, Evenly(2))
    with pytest.raises(ValueError, match="one finite box for each frame"):
        sample_frames({**row, "boxes": row["boxes"][1:]}, Evenly(2))
    with pytest.raises(ValueError, match="starts after the last"):
        sample_frames(row, Window(1, 5))
    with pytest.raises(ValueError, match="size in pixels"):
        sample_frames(row, Evenly(2), size_px=None)
    for damaged in (
        b"",
        b"no video",
        Path(row["video"]).read_bytes()[:600],
        {"bytes": None, "path": "missing.mp4"},
        1.5,
    ):
        with pytest.raises(VideoError, match=f"{path}: cannot be decoded"):
            sample_frames({**row, "video": damaged}, Evenly(2))
    with pytest.raises(VideoError, match=f"{path}: cannot be decoded"):
        sample_frames({**row, "num_frames": 20}, Evenly(2), crop=None)


def test_batches_fill_up_what_is_shorter(row: dict[str, Any], small_workspace: Workspace) -> None:
    image = stored_row(small_workspace, "GAN_images")
    batch = collate([row, image], Evenly(3), size_px=16)
    assert batch["frames"].shape == (2, 3, 3, 16, 16)
    assert batch["frames"].dtype == torch.uint8
    assert batch["is_frame"].tolist() == [[True] * 3, [True, False, False]]
    assert batch["numbers"].tolist() == [[0, 4, 7], [0, -1, -1]]
    assert batch["label"].tolist() == [1, 1]
    assert batch["sample_id"] == [row["sample_id"], image["sample_id"]]
    assert not batch["frames"][1, 1:].any()
    face = stored_row(small_workspace, "face_video")
    with pytest.raises(ValueError, match="32x32, 96x64"):
        collate([row, face], Evenly(2), crop=None, size_px=None)


def test_masks_are_of_the_same_frames_and_squares(row: dict[str, Any]) -> None:
    stored = np.stack(list(read_masks(Path(row["mask"]))))
    whole = sample_masks(row, Every(3), crop=None, size_px=None)
    np.testing.assert_array_equal(whole, stored[::3, None])
    boxes = [[30.0, 20.0, 50.0, 40.0]] * NUM_FRAMES
    for crop, region in ((1.0, np.s_[:, 20:40, 30:50]), (2.0, np.s_[:, 10:50, 20:60])):
        cut = sample_masks({**row, "boxes": boxes}, Every(1), crop=crop, size_px=round(20 * crop))
        np.testing.assert_array_equal(cut, stored[region][:, None])
    corner = [[86.0, -10.0, 106.0, 10.0]] * NUM_FRAMES
    assert not np.any(sample_masks({**row, "boxes": corner}, Every(1), crop=1.0, size_px=20))  # beyond the edge
    halved = sample_masks(row, Every(1), crop=None, size_px=32)
    assert halved is not None
    share = stored.reshape(NUM_FRAMES, 32, 2, 48, 2).mean((2, 4))
    assert np.abs(halved[:, 0] - share).mean() < 3  # a mean over the area, with a wider filter
    sample = sample_row(row, Every(1), masks=True)
    np.testing.assert_array_equal(sample["masks"], sample_masks(row, Every(1)))
    assert (sample["masks"].shape, sample["masks"].dtype) == ((NUM_FRAMES, 1, 224, 224), np.uint8)
    replaced = sample["masks"][:, 0] == 255
    assert 0.2 < replaced.mean() < 0.6
    real = sample_frames({**row, "video": Path(row["video"]).parents[1] / row["real_path"]}, Every(1))
    difference = np.abs(sample["frames"].astype(int) - real).mean(1)
    assert difference[replaced].mean() > 5 * difference[sample["masks"][:, 0] == 0].mean()


def test_every_form_of_a_mask_gives_the_same(row: dict[str, Any]) -> None:
    from torchcodec.decoders import VideoDecoder

    content = Path(row["mask"]).read_bytes()
    expected = sample_masks(row, Evenly(3))
    forms = [
        content,
        {"bytes": content, "path": "1_2.mp4"},
        VideoDecoder(content),
        TorchvisionReader(Path(row["mask"])),
    ]
    for form in forms:
        np.testing.assert_array_equal(sample_masks({**row, "mask": form}, Evenly(3)), expected)
    with pytest.raises(VideoError, match=f"mask of {row['path']}: cannot be decoded"):
        sample_masks({**row, "mask": content[:600]}, Evenly(3))


def test_batches_of_rows_with_and_without_masks(row: dict[str, Any], small_workspace: Workspace) -> None:
    others = [stored_row(small_workspace, name) for name in ("raw_video", "edit_video", "GAN_images")]
    assert [one.get("mask") for one in others] == [None] * 3
    assert sample_masks(others[0], Evenly(2)) is None
    assert sample_row(others[1], Evenly(2), masks=True)["masks"] is None
    assert "masks" not in sample_row(row, Evenly(2))
    batch = collate([row, *others], Evenly(2), size_px=16, masks=True)
    assert (batch["masks"].shape, batch["masks"].dtype) == ((4, 2, 1, 16, 16), torch.uint8)
    np.testing.assert_array_equal(batch["masks"][0], sample_masks(row, Evenly(2), size_px=16))
    assert batch["has_mask"].tolist() == [True, False, False, False]
    assert not batch["masks"][1:].any()
    assert {"masks", "has_mask"}.isdisjoint(collate([row, *others], Evenly(2), size_px=16))


def opened(source: Any, split: str = "train", streaming: bool = True) -> Any:
    return load_dataset(str(source), "edit_video", split=split, streaming=streaming)


def seen(dataset: Any, num_workers: int = 0) -> list[str]:
    ids = []
    for batch in DataLoader(dataset, 3, num_workers=num_workers, collate_fn=BATCHES):
        assert batch["frames"].shape[1:] == (2, 3, 16, 16)
        assert batch["frames"].any()
        ids += batch["sample_id"]
    return ids


def expected_ids(workspace: Workspace, split: str = "train") -> list[str]:
    return [row["sample_id"] for row in read_rows(str(workspace.root), "edit_video")[split]]


@pytest.mark.slow  # forks workers: beside the threads of other tests they may wait for ever
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.usefixtures("datasets_cache")
def test_a_folder_is_read_by_workers_nodes_and_resumed(
    streaming: bool, release: Path, small_workspace: Workspace
) -> None:
    everything = expected_ids(small_workspace)
    dataset = opened(release, streaming=streaming)
    assert seen(dataset) == everything
    assert sorted(seen(dataset, num_workers=2)) == sorted(everything)
    parts = [seen(split_dataset_by_node(dataset, rank, 2)) for rank in range(2)]
    assert sorted(parts[0] + parts[1]) == sorted(everything)
    assert len(parts[0]) == len(parts[1])
    if streaming:
        first = [row["sample_id"] for row in islice(dataset, 3)]
        resumed = opened(release)
        resumed.load_state_dict(json.loads(json.dumps(dataset.state_dict())))
        assert first + seen(resumed) == everything


@pytest.mark.slow  # forks workers
def test_a_hub_is_read_by_workers_nodes_and_resumed(
    counted_hub: CountedHub, release: Path, small_workspace: Workspace
) -> None:
    repo_id = counted_hub.publish(release, "lab/homologous_deepfake")
    everything = expected_ids(small_workspace)
    dataset = opened(repo_id)
    assert sorted(seen(dataset, num_workers=2)) == sorted(everything)
    assert seen(split_dataset_by_node(dataset, 0, 2)) + seen(split_dataset_by_node(dataset, 1, 2)) == everything
    first = [row["sample_id"] for row in islice(dataset, 3)]
    resumed = opened(repo_id)
    resumed.load_state_dict(json.loads(json.dumps(dataset.state_dict())))
    assert first + seen(resumed) == everything
    assert seen(opened(repo_id, "test", streaming=False)) == expected_ids(small_workspace, "test")


@pytest.mark.usefixtures("datasets_cache")
def test_media_that_are_not_decoded_by_datasets_are_the_same(release: Path) -> None:
    for streaming in (False, True):
        dataset = load_dataset(str(release), "swap_video", split="test", streaming=streaming)
        decoded = next(iter(dataset))
        encoded = next(iter(dataset.cast_column("video", datasets.Video(decode=False))))
        assert isinstance(encoded["video"]["bytes"], bytes)
        np.testing.assert_array_equal(sample_frames(decoded, Evenly(2)), sample_frames(encoded, Evenly(2)))
