"""Short clips of synthetic actors for tests, with ground-truth landmarks; each is rendered once for a whole run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generation.arrays import Frame
from generation.crops.clip import FaceClip
from tests.once import made_once_in
from tooling.actors import Actor, Gender, RenderSettings, render_clip, sample_actor

WIDTH, HEIGHT, NUM_FRAMES = 640, 360, 36  # px, px, frames of whom the detector is tried on
TALK = RenderSettings(24, fps=12, width_px=360, height_px=270)  # with a seed of its own: what most generators are given


@dataclass(frozen=True)
class Clip:
    """frames (T of (H, W, 3) uint8) and landmarks (T, 5, 2) px, not to be written to."""

    frames: list[Frame]
    landmarks: NDArray[np.float32]

    def face_clip(self, name: str, num_frames: int | None = None) -> FaceClip:
        """The first frames, or all of them, as generators take them."""
        return FaceClip(name, lambda: islice(self.frames, num_frames), self.landmarks[:num_frames])


class _Store:
    """Where films lie: a folder that all processes of the run share, set before the first test."""

    folder: Path


@lru_cache(maxsize=12)
def film_person(seed: int, gender: Gender, settings: RenderSettings) -> Clip:
    """A clip of the actor of a seed, from the store if any process of this run has rendered it."""
    actor = sample_actor(seed, gender)
    name = f"film-{hashlib.sha256(repr((actor, settings)).encode()).hexdigest()[:16]}.npz"
    with np.load(made_once_in(_Store.folder, name, lambda path: _render(path, actor, settings))) as stored:
        frames, landmarks = stored["frames"], stored["landmarks"]
    return Clip(list(frames), landmarks)


def _render(path: Path, actor: Actor, settings: RenderSettings) -> None:
    rendered = list(render_clip(actor, settings))
    with path.open("wb") as file:
        np.savez(
            file,
            frames=np.stack([frame.image for frame in rendered]),
            landmarks=np.stack([frame.landmarks for frame in rendered]),
        )


def film_talk(seed: int, num_frames: int | None = None, gender: Gender = "male") -> FaceClip:
    """The first frames of an actor who talks, as `SEED.mp4`; every actor moves in a way of its own."""
    return film_person(seed, gender, replace(TALK, motion_seed=seed)).face_clip(f"{seed}.mp4", num_frames)


def share_films(folder: Path) -> None:
    """Keeps films below a folder."""
    _Store.folder = folder
