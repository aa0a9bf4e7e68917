"""Speed of the weight-free swap at 720p: frames per second of each step, and against a full-frame formulation.

    python benchmarks/swap.py [NUM_FRAMES]

The full-frame formulation is the usual one (warp the source picture onto the target picture, transfer mean and
spread of Lab, draw and blur a mask, blend floats), without flow, choice of source frames or light: it does less and
does it on every pixel. Processor seconds of one thread are counted, so that a busy machine does not change the result.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from generation.checks import OutputMeter
from generation.families import load_generator
from generation.video import Frame, VideoWriter, read_frames, write_clip
from generation.warp import FaceClip, Floats, aligned_batches, paste, similarity, smooth_landmarks
from tooling.actors import ClipSettings, render_clip, sample_actor

WIDTH, HEIGHT = 1280, 720


def film(folder: Path, seed: int, num_frames: int) -> FaceClip:
    """Renders one actor's clip."""
    path, landmarks = folder / f"{seed}.mp4", []

    def frames() -> Iterator[Frame]:
        for frame in render_clip(sample_actor(seed, "male"), ClipSettings(num_frames, motion_seed=seed)):
            landmarks.append(frame.landmarks)
            yield frame.image

    write_clip(path, frames())
    return FaceClip(str(path), lambda: read_frames(path), np.array(landmarks, np.float32))


def full_frame_swap(frame: Frame, points: Floats, source: Frame, source_points: Floats) -> Frame:
    """The usual formulation, on whole pictures."""
    height, width = frame.shape[:2]
    warped = cv2.warpAffine(source, similarity(source_points, points), (width, height), flags=cv2.INTER_CUBIC)
    mask = np.zeros((height, width), np.float32)
    reach = float(np.linalg.norm(points[1] - points[0]))
    centre = points.mean(0)
    axes = (round(0.95 * reach), round(1.2 * reach))
    cv2.ellipse(mask, (round(float(centre[0])), round(float(centre[1]))), axes, 0, 0, 360, 1.0, -1)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.1 * reach), np.float32)
    lab, wanted = (cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32) for image in (warped, frame))
    inside = mask > 0.5
    lab = (lab - lab[inside].mean(0)) / lab[inside].std(0) * wanted[inside].std(0) + wanted[inside].mean(0)
    face = cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB).astype(np.float32)
    blended = frame * (1 - mask[..., None]) + face * mask[..., None]
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def seconds_of(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started


def main(num_frames: int) -> None:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        target, source = film(folder, 1, num_frames), film(folder, 2, num_frames)
        pipeline = load_generator("weightfree-swap")
        frames = list(target.frames())
        spent = {"decode": seconds_of(lambda: sum(1 for _ in target.frames()))}
        prepared = []
        spent["prepare (both clips, with decode)"] = seconds_of(
            lambda: prepared.append(pipeline.prepare(target, source))
        )
        held = FaceClip("memory", lambda: iter(frames), target.landmarks)
        batches = list(aligned_batches(held, pipeline.batching))
        spent["align"] = seconds_of(lambda: sum(1 for _ in aligned_batches(held, pipeline.batching)))
        made = []
        spent["swap of crops"] = seconds_of(lambda: made.extend(pipeline(batch, prepared[0]) for batch in batches))
        crops = [crop for output in made for crop in output.frames]
        masks = [mask for output in made for mask in output.masks]
        matrices = [matrix for batch in batches for matrix in batch.matrices[batch.wanted]]
        pasted = []
        parts = list(zip(frames, crops, masks, matrices, strict=True))
        spent["paste"] = seconds_of(lambda: pasted.extend(paste(*part) for part in parts))
        meter = OutputMeter()
        spent["checks"] = seconds_of(lambda: [meter.add(picture) for picture in pasted])

        def encode() -> None:
            with VideoWriter(folder / "out.mp4", width=WIDTH, height=HEIGHT) as writer:
                for picture in pasted:
                    writer.write(picture.frame)

        spent["encode"] = seconds_of(encode)
        still, points = next(iter(source.frames())), smooth_landmarks(target.landmarks)
        full = seconds_of(
            lambda: [full_frame_swap(f, p, still, source.landmarks[0]) for f, p in zip(frames, points, strict=True)]
        )
    for step, seconds in spent.items():
        print(f"{step:<36} {num_frames / seconds:8.1f} frames/s  {1000 * seconds / num_frames:6.1f} ms")
    print(f"{'all steps':<36} {num_frames / sum(spent.values()):8.1f} frames/s on one core")
    own = spent["align"] + spent["swap of crops"] + spent["paste"]
    print(
        f"{'full-frame formulation, swap alone':<36} {num_frames / full:8.1f} frames/s  {1000 * full / num_frames:6.1f} ms"
    )
    print(f"align, swap and paste are {full / own:.1f} times as fast as the full-frame formulation")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
