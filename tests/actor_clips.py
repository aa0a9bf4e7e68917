"""Short clips of synthetic actors for tests, with ground-truth landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generation.arrays import Frame
from tooling.actors import RenderSettings, render_clip, sample_actor

WIDTH, HEIGHT, NUM_FRAMES = 640, 360, 36  # px, px, frames of the fixtures


@dataclass(frozen=True)
class Clip:
    frames: list[Frame]
    landmarks: NDArray[np.float32]  # (T, 5, 2)


def render_actor(seed: int, gender: str, num_frames: int, motion_seed: int = 0) -> Clip:
    settings = RenderSettings(num_frames=num_frames, width_px=WIDTH, height_px=HEIGHT, motion_seed=motion_seed)
    rendered = list(render_clip(sample_actor(seed, gender), settings))  # type: ignore[arg-type]
    return Clip([frame.image for frame in rendered], np.stack([frame.landmarks for frame in rendered]))
