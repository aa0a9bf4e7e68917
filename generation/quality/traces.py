"""What a few decoded frames show: colour, border, sharpness, noise, and the traces of block compression.

Noise after Immerkaer, "Fast noise variance estimation", CVIU 1996; sharpness is the variance of the Laplacian.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Frame

NUM_FRAMES = 5  # of a clip that are measured
BORDER_PX = 4
NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
BANDS = ((1, 4), (4, 8), (8, 15))  # of a block's 8x8 coefficients, by the sum of the two frequencies


Traces = dict[str, dict[str, float]]
"""Groups of features by name, and the features of each."""


def measured_frames(num_frames: int) -> list[int]:
    """Numbers of the frames of a clip that are measured, spread over it."""
    return sorted({round(num_frames * (at + 0.5) / NUM_FRAMES - 0.5) for at in range(NUM_FRAMES)})


def measure_frame(frame: Frame) -> Traces:
    """Measures a frame, RGB uint8 (H, W, 3)."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)  # 0 to 255
    return {
        "mean_colour": _colour(frame.reshape(-1, 3)),
        "border_pixels": _colour(_border(frame)),
        "sharpness": {"log_laplacian": math.log(float(cv2.Laplacian(grey, cv2.CV_32F).var()) + 1e-6)},
        "noise": {"sigma": _noise(grey)},
        "jpeg_grid": _grid(grey, 8),
        "blockiness": {**_grid(grey, 4), **_grid(grey, 16)},
        "dct": _bands(grey),
    }


def mean_traces(found: Sequence[Traces]) -> Traces:
    """Means over frames; empty without frames."""
    return {
        group: {name: float(np.mean([one[group][name] for one in found])) for name in features}
        for group, features in (found[0] if found else {}).items()
    }


def _colour(pixels: NDArray[np.uint8]) -> dict[str, float]:
    means, spreads = (values.ravel() for values in cv2.meanStdDev(pixels[:, None]))  # numpy's take 20 times as long
    measured = {f"{channel}_mean": float(mean) for channel, mean in zip("rgb", means, strict=True)}
    return measured | {f"{channel}_spread": float(spread) for channel, spread in zip("rgb", spreads, strict=True)}


def _border(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    sides = (frame[:BORDER_PX], frame[-BORDER_PX:], frame[:, :BORDER_PX], frame[:, -BORDER_PX:])
    return np.concatenate([side.reshape(-1, 3) for side in sides])


def _noise(grey: NDArray[np.float32]) -> float:
    height, width = grey.shape
    response = np.abs(cv2.filter2D(grey, cv2.CV_32F, NOISE_KERNEL)[1:-1, 1:-1]).sum()
    return float(math.sqrt(math.pi / 2) * response / (6 * (width - 2) * (height - 2)))


def _grid(grey: NDArray[np.float32], step: int) -> dict[str, float]:
    """Log of the mean step across block borders over the mean of all steps; 0 without blocks."""
    measured = {}
    for name, picture in (("columns", grey), ("rows", grey.T)):
        steps = np.abs(np.diff(picture, axis=1)).mean(axis=0)
        at_border = steps[step - 1 :: step]
        ratio = (at_border.mean() + 0.1) / (steps.mean() + 0.1) if at_border.size else 1.0
        measured[f"{name}_{step}"] = math.log(float(ratio))
    return measured


def _bands(grey: NDArray[np.float32]) -> dict[str, float]:
    from scipy import fft  # a third of a second, which a run with nothing to do need not take

    height, width = (side // 8 * 8 for side in grey.shape)
    # (H, W) -> (H/8, W/8, 8, 8) blocks
    blocks = grey[:height, :width].reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
    energy = (fft.dctn(blocks, axes=(2, 3), norm="ortho") ** 2).mean(axis=(0, 1))
    order = np.add.outer(np.arange(8), np.arange(8))
    return {
        f"log_band_{low}_{high}": math.log(float(energy[(order >= low) & (order < high)].mean()) + 1e-6)
        for low, high in BANDS
    }
