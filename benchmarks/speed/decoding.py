"""Frames of a release, from disk and from a Hub, beside loose files; and what streaming fetches.

The limit is torchcodec on the loose files that went into the release; the loop that people copy is OpenCV's. The Hub is
the embedded one, in another process than the reader.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.counted_hub import REPO, counted_hub
from benchmarks.measuring import Line, Setup, alone, alternate, ratio_line

SUBSET, SPLIT = "raw_video", "train"
NUM_SAMPLED, CROP_PX = 8, 224
NUM_IMAGES = 400


def measure(setup: Setup) -> Iterator[Line]:
    """Decoding of whole clips and of crops, the first frame, bytes of a pass, metadata."""
    num_clips, num_frames = (6, 8) if setup.is_small else (16, 45)
    root, out = alone(make_release, setup.folder, num_clips, num_frames).value
    with published(setup.folder, out) as traffic:
        found = alone(time_all, root, out, setup.repeats).value
        num = found["num_frames"]
        yield ratio_line(
            "decoding all shards from disk, beside raw torchcodec on loose files",
            {name: found["disk"][name] for name in ("torchcodec", "release")},
            0.95,
            work=num,
            unit="frames/s of a processor",
        )
        yield ratio_line(
            "decoding all shards from disk, beside OpenCV on loose files",
            {name: found["disk"][name] for name in ("OpenCV", "release")},
            work=num,
            unit="frames/s of a processor",
        )
        yield ratio_line(
            "decoding all shards from a Hub, beside raw torchcodec on loose files",
            found["hub"],
            work=num,
            unit="frames/s",
        )
        yield ratio_line(
            f"{NUM_SAMPLED} frames of each clip as crops of {CROP_PX} px, beside OpenCV that seeks",
            found["crops"],
            work=found["num_crops"],
            unit="crops/s of a processor",
        )
        yield ratio_line(
            "a row of metadata, beside a row with video, decoded, from a Hub",
            found["metadata"],
            100,
            unit="rows/s",
        )
        seconds, counts = [], (0, 0)
        for _ in range(setup.repeats):
            traffic.start()
            seconds.append(alone(first_frame).value)
            counts = traffic.requests, traffic.sent
        detail = f"{counts[0]} requests, {counts[1] / 1e6:.1f} MB fetched"
        yield Line("first decoded frame of a streamed subset", statistics.median(seconds), "s", detail=detail)
        traffic.start()
        num_bytes = alone(stream_all).value
        total = sum(path.stat().st_size for path in (out / "data" / SUBSET).glob(f"{SPLIT}-*"))
        detail = f"{traffic.sent / 1e6:.1f} MB for {total / 1e6:.1f} MB of shards, of which {num_bytes / 1e6:.1f} media"
        yield Line("fetched in a whole pass", traffic.sent / total, "of the bytes", at_most=1.1, detail=detail)


def make_release(folder: Path, num_clips: int, num_frames: int) -> tuple[Path, Path]:
    """A workspace and the release built from it, with the part of the card that loading needs."""
    from benchmarks.speed.inputs import clips_workspace
    from tests.workspaces import write_card
    from tooling.stages.build import build_release

    workspace, out = clips_workspace(folder, num_clips, num_frames, NUM_IMAGES), folder / "homologous_deepfake"
    write_card(out, build_release(workspace, out))
    return workspace.root, out


@contextmanager
def published(folder: Path, out: Path) -> Iterator[Any]:
    """A Hub with a release, and the counter of its traffic."""
    with counted_hub(folder) as traffic:
        alone(upload, out)
        yield traffic


def upload(out: Path) -> None:
    from huggingface_hub import HfApi

    HfApi().create_repo(REPO, repo_type="dataset", exist_ok=True)
    HfApi().upload_folder(repo_id=REPO, folder_path=out, repo_type="dataset")


def time_all(root: Path, out: Path, repeats: int) -> dict[str, Any]:
    """Seconds of every way, in one process: {"disk": {way: [...]}, "hub": ..., "crops": ..., "metadata": ...}."""
    import datasets

    os.chdir(out.parent)
    datasets.disable_progress_bars()
    rows = list(without_decoding(datasets.load_dataset(out.name, SUBSET, split=SPLIT, streaming=True)))
    files = [root / row["path"] for row in rows]
    whole: dict[str, Callable[[], int]] = {
        "OpenCV": partial(count_opencv, files),
        "torchcodec": partial(count_torchcodec, files),
        "release": partial(count_rows, datasets.load_dataset(out.name, SUBSET, split=SPLIT, streaming=True)),
    }
    disk, counted = alternate(whole, repeats)
    assert len(set(counted.values())) == 1
    hub_rows = datasets.load_dataset(REPO, SUBSET, split=SPLIT, streaming=True)
    hub, _ = alternate({"torchcodec": whole["torchcodec"], "Hub": partial(count_rows, hub_rows)}, repeats, "wall")
    prepared = without_decoding(datasets.load_dataset(out.name, SUBSET, split=SPLIT))
    ways = {"OpenCV": partial(crops_opencv, files, rows), "sample_frames": partial(crops_sampled, prepared)}
    crops, num_crops = alternate(ways, repeats)
    metadata = datasets.load_dataset(REPO, "metadata", split=SPLIT, streaming=True)
    num_rows = len(list(metadata))
    light, _ = alternate({"metadata": lambda: len(list(metadata))}, repeats, "wall", warm_up=False)
    return {
        "disk": disk,
        "hub": hub,
        "crops": crops,
        "metadata": {
            "rows with video": [value / len(rows) for value in hub["Hub"]],
            "metadata": [value / num_rows for value in light["metadata"]],
        },
        "num_frames": counted["release"],
        "num_crops": num_crops["sample_frames"],
    }


def without_decoding(rows: Any) -> Any:
    from datasets import Video

    return rows.cast_column("video", Video(decode=False))


def count_opencv(files: list[Path]) -> int:
    """The loop that people copy."""
    import cv2

    num = 0
    for path in files:
        capture = cv2.VideoCapture(str(path))
        while True:
            is_read, frame = capture.read()
            if not is_read:
                break
            cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            num += 1
        capture.release()
    return num


def count_torchcodec(files: list[Path]) -> int:
    from torchcodec.decoders import VideoDecoder

    return sum(count_decoded(VideoDecoder(str(path))) for path in files)


def count_rows(rows: Any) -> int:
    """As `datasets` gives them: a decoder in each row."""
    return sum(count_decoded(row["video"]) for row in rows)


def count_decoded(decoder: Any) -> int:
    return len(decoder.get_frames_in_range(0, len(decoder)).data)


def crops_opencv(files: list[Path], rows: list[Any]) -> int:
    import cv2
    import numpy as np

    num = 0
    for path, row in zip(files, rows, strict=True):
        capture = cv2.VideoCapture(str(path))
        for number in np.linspace(0, row["num_frames"] - 1, NUM_SAMPLED).astype(int).tolist():
            capture.set(cv2.CAP_PROP_POS_FRAMES, number)
            _, frame = capture.read()
            left, top, right, bottom = (max(0, int(value)) for value in row["boxes"][number])
            num += (
                len(cv2.resize(cv2.cvtColor(frame[top:bottom, left:right], cv2.COLOR_BGR2RGB), (CROP_PX, CROP_PX))) > 0
            )
        capture.release()
    return num


def crops_sampled(rows: Any) -> int:
    from detection.frames import Evenly, sample_frames

    return sum(len(sample_frames(rows[at], Evenly(NUM_SAMPLED), size_px=CROP_PX)) for at in range(len(rows)))


def first_frame() -> float:
    """Seconds until the first frame is there; imports do not count."""
    import datasets
    import torchcodec.decoders  # noqa: F401

    started = time.perf_counter()
    row = next(iter(datasets.load_dataset(REPO, SUBSET, split=SPLIT, streaming=True)))
    row["video"][0]
    return time.perf_counter() - started


def stream_all() -> int:
    """Bytes of all videos of the split."""
    import datasets

    rows = without_decoding(datasets.load_dataset(REPO, SUBSET, split=SPLIT, streaming=True))
    return sum(len(row["video"]["bytes"]) for row in rows)
