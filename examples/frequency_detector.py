"""A detector of traces in the frequency domain: small, trains on a CPU in minutes, and shows how to write your own.

    python examples/frequency_detector.py demo/homologous_deepfake --out demo/baseline
    python examples/frequency_detector.py OWNER/NAME --out frequency

Each chosen frame becomes numbers: the mean and the spread of the log power in 12 bands of frequency, over blocks of
32x32 pixels in three zones: the middle of the face, its outline, and what is around it. Generators that warp, scale or
paint a face leave other spectra inside than around it. Blocks are cut at the stored resolution, nothing is scaled, and
a fake has the zones of its real clip, so that only the manipulation differs. A small network classifies the numbers.

One model is trained for each method, one for all, in a round for each fold of people; a table of video AUC follows. Run
the same again after a stop: it goes on. To try another model, change `make_model`; other features, `describe_frames`.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detection.frames import Evenly, sample_frames
from detection.predictions import read_samples
from detection.training import TRAINED_ON, TrainSettings, compute_items, cross_table, cross_validate, progress_lines
from generation.errors import GenerationError

BLOCK_PX, NUM_BANDS = 32, 12
ZONE_ENDS = (0.65, 1.1, np.inf)  # distance from the middle of the face, in half sides of its box
NUM_FEATURES = len(ZONE_ENDS) * 2 * 3 * NUM_BANDS
AROUND = 1.6  # side of what is looked at, in longer sides of the box
YCBCR = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)


def describe_frames(row: dict[str, Any], sampling: Evenly) -> NDArray[np.float32]:
    """Features of a row's chosen frames: float32 (T, 3 zones x 2 x 3 channels x 12 bands)."""
    frames = sample_frames(row, sampling, crop=None, size_px=None)  # as stored
    height, width = frames.shape[2:]
    if "image" in row:  # generated portraits have no box: the face is in their middle
        half = min(height, width) / 2.6
        box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
        boxes = np.array([box] * len(frames))
    else:
        boxes = np.asarray(row["boxes"], np.float64)[sampling.numbers(row["num_frames"], row["fps"])]
    y, x = np.meshgrid(np.fft.fftfreq(BLOCK_PX), np.fft.rfftfreq(BLOCK_PX), indexing="ij")
    ends = np.geomspace(1 / BLOCK_PX, 0.5, NUM_BANDS)  # cycles per pixel; the last band has the corners
    band = np.digitize(np.hypot(x, y), ends[:-1] + 1e-9).ravel()
    is_in_band = (band[:, None] == np.arange(NUM_BANDS)).astype(np.float32)
    is_in_band[0] = 0  # the mean of a block
    window = np.outer(np.hanning(BLOCK_PX), np.hanning(BLOCK_PX)).astype(np.float32)
    found = []
    for frame, (left, top, right, bottom) in zip(frames, boxes, strict=True):
        middle_x, middle_y, side = (left + right) / 2, (top + bottom) / 2, AROUND * max(right - left, bottom - top)
        x0 = int(np.clip(middle_x - side / 2, 0, width - BLOCK_PX))
        y0 = int(np.clip(middle_y - side / 2, 0, height - BLOCK_PX))
        columns = max(1, int(min(width, middle_x + side / 2) - x0) // BLOCK_PX)
        rows = max(1, int(min(height, middle_y + side / 2) - y0) // BLOCK_PX)
        region = frame[:, y0 : y0 + rows * BLOCK_PX, x0 : x0 + columns * BLOCK_PX].astype(np.float32)
        blocks = np.tensordot(YCBCR, region, 1).reshape(3, rows, BLOCK_PX, columns, BLOCK_PX).swapaxes(2, 3)
        blocks -= blocks.mean(axis=(-2, -1), keepdims=True)
        spectra = np.fft.rfft2(blocks * window).reshape(3, rows * columns, -1)
        log_power = np.log1p((spectra.real**2 + spectra.imag**2).astype(np.float32) @ is_in_band)
        block_x = (x0 + (np.arange(columns) + 0.5) * BLOCK_PX - middle_x) / ((right - left) / 2)
        block_y = (y0 + (np.arange(rows) + 0.5) * BLOCK_PX - middle_y) / ((bottom - top) / 2)
        zone = np.digitize(np.hypot(block_x[None], block_y[:, None]).ravel(), ZONE_ENDS)
        for number in range(len(ZONE_ENDS)):
            own = log_power[:, zone == number] if (zone == number).any() else log_power
            found += [own.mean(axis=1), own.std(axis=1)]
    return np.stack(found).reshape(len(frames), -1)


def make_model() -> nn.Module:
    """Features (B, F) -> logits (B, 1); the first layer brings them to mean 0 and spread 1, as measured in training."""
    normalised = nn.BatchNorm1d(NUM_FEATURES, affine=False)
    return nn.Sequential(normalised, nn.Linear(NUM_FEATURES, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 1))


def main() -> None:
    """Trains and tests; all files are in --out."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("release", help="folder of a release, or OWNER/NAME at a Hub")
    parser.add_argument("--out", type=Path, required=True, help="folder for features, models and predictions")
    parser.add_argument("--frames", type=int, default=16, help="of each clip (%(default)s)")
    parser.add_argument("--epochs", type=int, default=40, help="of which validation chooses one (%(default)s)")
    parser.add_argument("--trained-on", nargs="+", choices=TRAINED_ON, default=TRAINED_ON, help="(all of these)")
    options = parser.parse_args()
    settings = TrainSettings(num_epochs=options.epochs, batch_size=128, weight_decay=0.1)

    torch.set_num_threads(1)  # a network as small as this one is slower in several
    samples, show = read_samples(options.release), progress_lines()
    items = compute_items(
        options.release,
        samples,
        describe_frames,
        options.out / "features",
        num_frames=options.frames,
        progress=show,
    )
    files = cross_validate(
        items,
        make_model,
        settings,
        options.out,
        trained_on=options.trained_on,
        progress=show,
        report=partial(print, file=sys.stderr),
    )
    print(cross_table(files, samples))
    for paths in files.values():
        print(paths[0])


if __name__ == "__main__":
    try:
        main()
    except GenerationError as error:
        sys.exit(f"error: {error}")
