"""Source videos of synthetic actors, as a maintainer would get them from people."""

from __future__ import annotations

import csv
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from fractions import Fraction
from itertools import repeat
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from .identity import Gender, sample_actor
from .motion import ClipSettings, lagging_poses, pose_track
from .render import ActorRenderer

CSV_HEADER = ("id", "gender", "consent_status", "consent_date", "consent_evidence")
BT709 = 1
MALE: Gender = "male"
FEMALE: Gender = "female"


def to_yuv420p(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB (H, W, 3) uint8 full range -> YUV 4:2:0 BT.709 limited range, planes stacked as (H * 3 / 2, W).

    Own code because libswscale's rounding depends on where in memory a picture happens to lie.
    """
    height, width = image.shape[:2]
    # Rec. ITU-R BT.709: luma weights 0.2126, 0.7152, 0.0722, scaled to 16..235 and 16..240.
    matrix = np.array(
        [[0.18259, 0.61423, 0.06201, 16.0], [-0.10064, -0.33857, 0.43922, 128.0], [0.43922, -0.39894, -0.04027, 128.0]],
        np.float32,
    )
    luma = cv2.transform(image, matrix[:1])
    small = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    chroma = cv2.transform(small, matrix[1:])
    planes = [luma.reshape(-1), chroma[..., 0].reshape(-1), chroma[..., 1].reshape(-1)]
    return np.concatenate(planes).astype(np.uint8).reshape(height * 3 // 2, width)


def write_clip(path: Path, seed: int, gender: Gender, settings: ClipSettings) -> Path:
    """Render one actor into an H.264 file (yuv420p, BT.709, one encoder thread: same bytes each time)."""
    actor = sample_actor(seed, gender)
    poses = pose_track(settings)
    renderer = ActorRenderer(actor, settings.width_px, settings.height_px, settings.shot)
    partial = path.with_suffix(".part")
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(partial), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=Fraction(settings.fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = settings.width_px, settings.height_px, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "16", "threads": "1"}
        context = stream.codec_context
        context.thread_count = 1
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = 1
        for index, (pose, late) in enumerate(zip(poses, lagging_poses(poses, settings.fps), strict=True)):
            planes = to_yuv420p(renderer.render(pose, late, index).image)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    return path


def write_sources(
    folder: Path,
    num_men: int,
    num_women: int,
    seconds: float,
    seed: int,
    fps: float = 30.0,
    *,
    size_px: tuple[int, int] = (1280, 720),
    num_processes: int = 2,
    on_clip: Callable[[Path], None] | None = None,
) -> None:
    """Write `folder/1.mp4`, ... (men first) and `folder/identities.csv` of synthetic actors.

    size_px is width and height, even. `on_clip` is called with each finished path. Raises ValueError for
    odd sizes, negative counts or no actor at all.
    """
    if min(num_men, num_women) < 0 or num_men + num_women < 1 or seconds <= 0 or fps <= 0:
        raise ValueError("write_sources needs at least one actor and a positive length and rate")
    if size_px[0] % 2 or size_px[1] % 2:
        raise ValueError(f"H.264 yuv420p needs even sizes, not {size_px[0]}x{size_px[1]}")
    folder.mkdir(parents=True, exist_ok=True)
    genders: list[Gender] = [*repeat(MALE, num_men), *repeat(FEMALE, num_women)]
    num_frames = max(1, round(seconds * fps))
    jobs = []
    for index, gender in enumerate(genders):
        number = index if gender == "male" else index - num_men
        settings = ClipSettings(num_frames, fps, size_px[0], size_px[1], motion_seed=seed + index)
        jobs.append((folder / f"{index + 1}.mp4", seed + number, gender, settings))
    if num_processes <= 1 or len(jobs) == 1:
        for job in jobs:
            path = write_clip(*job)
            if on_clip:
                on_clip(path)
    else:
        _write_in_processes(jobs, min(num_processes, len(jobs)), on_clip)
    _write_identities(folder / "identities.csv", genders)


def _write_in_processes(
    jobs: list[tuple[Path, int, Gender, ClipSettings]], num_processes: int, on_clip: Callable[[Path], None] | None
) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        futures = [pool.submit(write_clip, *job) for job in jobs]
        for future in as_completed(futures):
            path = future.result()
            if on_clip:
                on_clip(path)


def _write_identities(path: Path, genders: list[Gender]) -> None:
    partial = path.with_suffix(".part")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_HEADER)
        for index, gender in enumerate(genders):
            writer.writerow([index + 1, gender, "granted", "2000-01-01", "synthetic actor, no person"])
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
