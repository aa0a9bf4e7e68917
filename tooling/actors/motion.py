"""Pose tracks: speech, blinks, saccades, brow accents and head sway, smooth and seeded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter1d

from generation.smoothing import smoothstep
from tooling.actors.person.expression import Pose
from tooling.actors.person.head import Array

Motion = Literal["interview", "still", "turning"]
Shot = Literal["frontal", "close", "wide"]


@dataclass(frozen=True)
class RenderSettings:
    """A clip to render. motion_seed chooses the movement, not the person.

    motion: "interview" speaks, "still" only breathes and blinks, "turning" looks from side to side.
    shot: how much of the frame's height the head takes (about a half, two thirds or a third).
    """

    num_frames: int
    fps: float = 30.0
    width_px: int = 1280
    height_px: int = 720
    motion_seed: int = 0
    motion: Motion = "interview"
    shot: Shot = "frontal"


def _wander(rng: np.random.Generator, num_frames: int, fps: float, period_seconds: float) -> Array:
    """Smooth noise of unit spread, bounded to [-1.6, 1.6]."""
    pad = int(4 * period_seconds * fps) + 1
    raw = gaussian_filter1d(rng.standard_normal(num_frames + 2 * pad), period_seconds * fps / 3.0)
    scale = np.sqrt(2 * np.sqrt(np.pi) * period_seconds * fps / 3.0)
    wave = np.asarray(raw[pad : pad + num_frames] * scale)
    return np.asarray(1.6 * np.tanh(wave / 1.6))


def _pulses(starts: list[tuple[float, float, float]], seconds: Array) -> Array:
    """Sum of raised-cosine pulses (centre, half width, height)."""
    total = np.zeros_like(seconds)
    for center, half, height in starts:
        t = np.clip(np.abs(seconds - center) / half, 0.0, 1.0)
        total += height * 0.5 * (1 + np.cos(np.pi * t))
    return total


def _blinks(rng: np.random.Generator, seconds: Array) -> Array:
    closed, time = np.zeros_like(seconds), float(rng.uniform(0.6, 2.2))
    while time < seconds[-1] + 0.5:
        down = smoothstep(time - 0.10, time - 0.01, seconds)
        up = smoothstep(time + 0.03, time + 0.21, seconds)
        closed = np.maximum(closed, down * (1 - up))
        time += float(rng.uniform(1.8, 4.6))
    return closed


def _speech(rng: np.random.Generator, seconds: Array) -> tuple[Array, Array, Array]:
    """Opening and rounding of the mouth, and whether a phrase is being spoken, from syllables grouped in phrases."""
    syllables, rounds, phrases = [], [], []
    time = float(rng.uniform(0.0, 0.4))
    while time < seconds[-1] + 1.0:
        phrase = float(rng.uniform(1.3, 3.2))
        phrases.append((time, time + phrase))
        end = time + phrase
        while time < end:
            beat = float(rng.uniform(0.15, 0.27))
            syllables.append((time + beat / 2, beat * 0.80, float(rng.uniform(0.18, 0.62))))
            if rng.random() < 0.30:
                rounds.append((time + beat / 2, beat * 1.1, float(rng.uniform(0.3, 0.8))))
            time += beat
        time += float(rng.uniform(0.3, 0.9))
    said = sum((smoothstep(a - 0.1, a + 0.1, seconds) * smoothstep(b + 0.1, b - 0.1, seconds) for a, b in phrases),
               np.zeros_like(seconds))  # fmt: skip
    opening = np.clip(_pulses(syllables, seconds), 0.0, 0.8) * np.clip(said, 0, 1)
    return np.asarray(opening), np.clip(_pulses(rounds, seconds), 0, 1) * np.clip(said, 0, 1), np.clip(said, 0, 1)


def _gaze(rng: np.random.Generator, seconds: Array, head: Array) -> Array:
    """Saccades between fixations; the eyes compensate for part of the head's turn."""
    targets, times = [0.0], [-1.0]
    time = 0.0
    while time < seconds[-1] + 0.5:
        targets.append(float(rng.normal(0.0, 0.16)))
        times.append(time)
        time += float(rng.uniform(0.5, 1.9))
    gaze = np.zeros_like(seconds)
    for begin, before, after in zip(times[1:], targets[:-1], targets[1:], strict=True):
        gaze += (after - before) * smoothstep(begin, begin + 0.05, seconds)
    return np.asarray(np.clip(gaze - head, -1.0, 1.0))


def pose_track(settings: RenderSettings) -> list[Pose]:
    """One pose per frame. Raises ValueError for an unknown motion or a frame count below one."""
    if settings.num_frames < 1 or settings.fps <= 0:
        raise ValueError("num_frames and fps must be positive")
    if settings.motion not in ("interview", "still", "turning"):
        raise ValueError(f"unknown motion {settings.motion!r}")
    rng = np.random.default_rng([settings.motion_seed, 991])
    count, fps = settings.num_frames, settings.fps
    seconds = np.arange(count) / fps
    opening, rounding, said = _speech(rng, seconds)
    lively = {"interview": 1.0, "still": 0.12, "turning": 0.5}[settings.motion]
    if settings.motion != "interview":
        opening, rounding = opening * 0.0, rounding * 0.0
    nod = gaussian_filter1d(opening, 0.10 * fps)
    yaw = lively * (6.2 * _wander(rng, count, fps, 2.2) + 1.6 * _wander(rng, count, fps, 0.8))
    if settings.motion == "turning":
        yaw = yaw + 28.0 * np.sin(2 * np.pi * seconds / 6.0)
    pitch = lively * (2.8 * _wander(rng, count, fps, 1.8) + 0.9 * _wander(rng, count, fps, 0.6) - 3.0 * nod)
    roll = lively * (2.0 * _wander(rng, count, fps, 2.0) + 0.6 * _wander(rng, count, fps, 0.8))
    limit = 40.0 if settings.motion == "turning" else 15.0
    brow = lively * (
        0.30 * _wander(rng, count, fps, 0.9) + 0.35 * np.maximum(_wander(rng, count, fps, 0.35), 0.2) * said
    )
    smile = lively * (0.16 + 0.30 * _wander(rng, count, fps, 2.5))
    tracks = {
        "yaw_degrees": np.clip(yaw, -limit, limit),
        "pitch_degrees": np.clip(pitch, -8.0, 8.0),
        "roll_degrees": np.clip(roll, -5.0, 5.0),
        "mouth_open": opening,
        "mouth_round": rounding,
        "smile": np.clip(smile, -0.3, 0.8),
        "blink": _blinks(rng, seconds),
        "brow_raise": np.clip(brow, -0.6, 0.9),
        "gaze_x": _gaze(rng, seconds, yaw / 45.0),
        "gaze_y": _gaze(rng, seconds, pitch / 45.0) * 0.6,
        "offset_x_cm": lively * 0.7 * _wander(rng, count, fps, 2.6),
        "offset_y_cm": lively * 0.25 * _wander(rng, count, fps, 1.7) + 0.10 * np.sin(2 * np.pi * seconds / 3.7),
        "sway_degrees": lively * 1.3 * _wander(rng, count, fps, 2.4),
    }
    return [Pose(**{name: float(values[k]) for name, values in tracks.items()}) for k in range(count)]


def lagging_poses(poses: list[Pose], fps: float) -> list[Pose]:
    """The track that the ends of the hair follow, about 0.18 s behind the head."""
    share = 1.0 - np.exp(-1.0 / (0.18 * fps))
    state = np.array([poses[0].yaw_degrees, poses[0].pitch_degrees, poses[0].roll_degrees])
    late = []
    for pose in poses:
        state = state + share * (np.array([pose.yaw_degrees, pose.pitch_degrees, pose.roll_degrees]) - state)
        late.append(
            replace(pose, yaw_degrees=float(state[0]), pitch_degrees=float(state[1]), roll_degrees=float(state[2]))
        )
    return late
