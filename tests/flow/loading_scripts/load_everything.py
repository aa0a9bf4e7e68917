"""Loads every config of a release in both ways with whatever datasets is installed; prints what it saw as JSON.

    python load_everything.py FOLDER_HOLDING_THE_RELEASE NAMES [SCRIPT WORKSPACE [NAME]]

With SCRIPT and WORKSPACE, datasets 3.6 reads the workspace through the definition as a loading script instead, the
config NAME also in two processes.
It runs in environments of its own, so it imports nothing but datasets and what that needs to decode.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import datasets


def frame_shape(row: dict[str, Any], column: str = "video") -> list[int]:
    """Channels, height, width of the first decoded frame or of the image; none if there is neither."""
    if "image" in row:
        return [3, row["image"].height, row["image"].width]
    video = row.get(column)
    if video is None:
        return []
    # datasets 3.6 returns torchvision's reader, an iterator; later ones torchcodec's decoder, a sequence.
    frame = video[0] if hasattr(video, "get_frames_at") else next(video)["data"]
    return list(frame.shape)


def look(dataset: Any) -> dict[str, Any]:
    """What the test compares of one split."""
    rows = list(dataset)
    media = [name for name in ("video", "image") if name in rows[0]]
    gender = dataset.features["gender"]
    return {
        "features": {name: type(feature).__name__ for name, feature in dataset.features.items()},
        "sample_ids": [row["sample_id"] for row in rows],
        "labels": [dataset.features["label"].int2str(row["label"]) for row in rows],
        "genders": [None if row["gender"] is None else gender.int2str(row["gender"]) for row in rows],
        "pairs": [row["identity_pair"] for row in rows],
        "boxes": [row.get("boxes") for row in rows],
        "landmarks": [row.get("landmarks") for row in rows],
        "is_detected": [row.get("is_detected") for row in rows],
        "frames": [frame_shape(row) for row in rows] if media else [],
        "masks": [frame_shape(row, "mask") for row in rows] if media else [],
    }


def main(folder: str, names: str, script: str = "", workspace: str = "", num_proc_name: str = "") -> None:
    """Prints {"version": ..., "seen": {name: {way: {split: what look() saw}}}}."""
    datasets.disable_progress_bars()
    os.chdir(folder)
    source = script or "homologous_deepfake"
    options: dict[str, Any] = {"data_dir": workspace, "trust_remote_code": True} if script else {}
    both: dict[str, dict[str, Any]] = {"map": {}, "streaming": {"streaming": True}}
    in_processes = {"num_proc": {"num_proc": 2}, **both}
    # Everything is loaded before anything is decoded: num_proc forks, which decoders' threads do not survive.
    loaded = {
        name: {
            way: datasets.load_dataset(source, name, **options, **extra)
            for way, extra in (in_processes if name == num_proc_name else both).items()
        }
        for name in names.split(",")
    }
    seen = {
        name: {way: {split: look(splits[split]) for split in splits} for way, splits in by_way.items()}
        for name, by_way in loaded.items()
    }
    print(json.dumps({"version": datasets.__version__, "seen": seen}))


if __name__ == "__main__":
    main(*sys.argv[1:])
