"""What the face boxes of a row show: how much they tremble, and in how many frames a face was detected."""

from __future__ import annotations

from typing import Any

import numpy as np

from tooling.stages.audit.probes import Measured


def measure_track(row: dict[str, Any]) -> Measured:
    """Box jitter of a complete row of the dataset, in shares of the box's side.

    Jitter is the mean size of the second difference over time of a box's centre and side; 0 for fewer than 3 frames.
    """
    if row.get("boxes") is None:
        return {"has_boxes": 0.0}
    boxes = np.asarray(row["boxes"], np.float64)
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).mean(axis=1)
    scale = max(float(sides.mean()), 1e-6)
    return {
        "has_boxes": 1.0,
        "centre_jitter": _jitter(centres) / scale,
        "side_jitter": _jitter(sides[:, None]) / scale,
        "mean_side": scale,
        "detected_share": float(np.mean(row["is_detected"])),
    }


def _jitter(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(np.abs(np.diff(values, n=2, axis=0)).mean()) if len(values) > 2 else 0.0
