"""What is measured on: an actor's clip, and a workspace of clips that differ, of the size of the catalogue's."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from generation.arrays import Floats, Frame
from generation.media.reader import read_frames
from generation.media.writer import VideoWriter, write_clip
from tooling.actors import RenderSettings, render_clip, sample_actor
from tooling.settings import ClipSettings, Settings, ShardSettings
from tooling.stages import plan
from tooling.work.tasks import finished_record, planned_record
from tooling.workspace.files import write_text
from tooling.workspace.identities import Identity, format_identities
from tooling.workspace.layout import Workspace, create_workspace, open_workspace

WIDTH, HEIGHT, FPS = 1280, 720, 30
MOST_RENDERED = 45  # frames of one clip


def actor_clip(folder: Path, num_frames: int) -> tuple[Path, Floats]:
    """A clip of a synthetic actor, 1280x720, and the true landmarks, float32 (T, 5, 2) px; rendered once."""
    path, stored = folder / f"actor-{num_frames}.mp4", folder / f"actor-{num_frames}.npy"
    if not stored.exists():
        landmarks: list[Floats] = []

        def frames() -> Iterator[Frame]:
            for frame in render_clip(sample_actor(1, "male"), RenderSettings(num_frames, FPS, WIDTH, HEIGHT)):
                landmarks.append(np.asarray(frame.landmarks, np.float32))
                yield frame.image

        write_clip(path, frames())
        np.save(stored, np.array(landmarks))
    return path, np.load(stored)


def source_clip(folder: Path, num_frames: int) -> Path:
    """A video as a camera's, 1920x1080, of an actor; its frames are played back and forth, so that a long one is cheap.

    Made once.
    """
    path = folder / f"source-{num_frames}.mp4"
    if path.exists():
        return path
    frames = list(read_frames(actor_clip(folder, min(num_frames, MOST_RENDERED))[0]))
    options = {"crf": "12", "preset": "veryfast"}
    with VideoWriter(path, width=1920, height=1080, fps=FPS, options=options) as writer:
        for at in forth_and_back(len(frames), num_frames):
            writer.write(np.asarray(cv2.resize(frames[at], (1920, 1080), interpolation=cv2.INTER_CUBIC), np.uint8))
    return path


def forth_and_back(num_frames: int, num_played: int) -> NDArray[np.int64]:
    """Numbers of the frames of a short clip, played back and forth again and again."""
    return np.resize([*range(num_frames), *range(num_frames)[-2:0:-1]], num_played)


def clips_workspace(folder: Path, num_clips: int, num_frames: int, num_images: int = 0) -> Workspace:
    """A planned workspace of raw clips of one actor with tracks, shifted and of another brightness each.

    Args:
        folder: where it is made, and found again.
        num_clips, num_frames: of the clips.
        num_images: generated images of noise, so that `metadata` has many rows, as in a release.
    """
    root = folder / f"clips-{num_clips}-{num_frames}-{num_images}"
    if (root / "plan.json").exists():
        return open_workspace(root)
    path, landmarks = actor_clip(folder, min(num_frames, MOST_RENDERED))
    frames = list(read_frames(path))
    order = forth_and_back(len(frames), num_frames)
    landmarks = landmarks[order]
    clip = ClipSettings(num_frames / FPS, FPS, WIDTH, HEIGHT)
    shards = ShardSettings(row_group_bytes=8_000_000)  # several row groups, of several clips each
    workspace = create_workspace(root, Settings(clip=clip, shards=shards))
    people = {str(n): Identity(str(n), "male" if n % 2 else "female", "granted") for n in range(1, num_clips + 1)}
    write_text(workspace.identities_path, format_identities(people))
    low, high = landmarks.min(1), landmarks.max(1)
    boxes = np.concatenate([low - (high - low) * 0.6, high + (high - low) * 0.6], axis=1)
    for number in range(1, num_clips + 1):
        name, shift = f"raw_video/{number}.mp4", 8 * (number - num_clips // 2)
        staged = {one: workspace.staging_path(one) for one in (name, workspace.track_name(str(number)))}
        video, track = staged.values()
        write_clip(video, (varied(frames[at], number, shift) for at in order), fps=FPS)
        moved = np.array([shift, 0], np.float32)
        content = {
            "format": 1,
            "width": WIDTH,
            "height": HEIGHT,
            "boxes": (boxes + np.tile(moved, 2)).tolist(),
            "landmarks": (landmarks + moved).tolist(),
            "is_detected": [True] * num_frames,
            "crop": [[*(low.mean(0) - 60 + moved).tolist(), 400.0]] * num_frames,
            "choice": {},
        }
        track.write_text(json.dumps(content), encoding="utf-8")
        planned = planned_record(f"raw_video/{number}", name, {}, "actor", {})
        record = finished_record(planned, staged, width=WIDTH, height=HEIGHT, fps=float(FPS), num_frames=num_frames)
        workspace.publish("raw_video", dataclasses.replace(record, digital_source_type="digitalCapture"), staged)
    for number in range(1, num_images + 1):
        name = f"GAN_images/{number:06d}.png"
        staged = {name: workspace.staging_path(name)}
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(staged[name])
        planned = planned_record(name.removesuffix(".png"), name, {}, "noise", {}, number)
        record = finished_record(planned, staged, width=64, height=64, fps=None, num_frames=1)
        workspace.publish("GAN_images", dataclasses.replace(record, digital_source_type="digitalCapture"), staged)
    plan.draw_plan(workspace)
    return workspace


def varied(frame: Frame, number: int, shift_px: int) -> Frame:
    """The frame as another clip's: shifted to the right, and darker or lighter."""
    return np.roll(np.clip(frame.astype(np.int16) + 3 * (number % 7 - 3), 0, 255).astype(np.uint8), shift_px, axis=1)
