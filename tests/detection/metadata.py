"""A release of rows alone, without media, for tests of scoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from homologous_deepfake import GENDERS, METADATA, SUBSETS, make_features, split_of

NUM_FRAMES = 8


def release_rows(num_people: int = 20, num_images: int = 25) -> list[dict[str, Any]]:
    """Rows of all subsets; person n is in fold n % 5, the sources of pairs are five numbers on."""
    rows = []
    for number in range(1, num_people + 1):
        other = (number + 4) % num_people + 1
        names = [f"raw_video/{number}", f"face_video/{number}", f"edit_video/age/{number}", f"edit_video/hair/{number}"]
        names += [f"swap_video/{number}_{other}", f"avatarify_video/{number}_{other}"]
        rows += [_row(name, number % 5, GENDERS[number // 5 % 2], number) for name in names]
    rows += [_row(f"GAN_images/{number:06d}", number % 5, None, 0) for number in range(1, num_images + 1)]
    return rows


def _row(sample_id: str, fold: int, gender: str | None, person: int) -> dict[str, Any]:
    subset = SUBSETS[sample_id.partition("/")[0]]
    is_fake, is_image = subset.method != "real", subset.media == "image"
    attribute = sample_id.split("/")[1] if subset.method == "attribute_editing" else None
    return {
        "path": f"{sample_id}.{'png' if is_image else 'mp4'}",
        "sample_id": sample_id,
        "label": int(is_fake),
        "method": subset.method,
        "identity": str(person) if person else None,
        "gender": gender,
        "attribute": attribute,
        "fold": fold,
        "num_frames": 1 if is_image else NUM_FRAMES,
    }


def write_release(out: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes the shards of the config `metadata`; returns the release's folder."""
    features = make_features(METADATA)
    folder = out / "data" / METADATA
    folder.mkdir(parents=True)
    for split in sorted({split_of(row["fold"]) for row in rows}):
        own = [
            features.encode_example({**dict.fromkeys(features), **row})
            for row in rows
            if split_of(row["fold"]) == split
        ]
        pq.write_table(pa.Table.from_pylist(own, features.arrow_schema), folder / f"{split}-00000-of-00001.parquet")
    return out
