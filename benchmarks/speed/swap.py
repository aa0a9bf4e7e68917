"""Speed of the weight-free swap at 720p: frames per second of each step, and of a full-frame formulation.

    python -m benchmarks.speed.swap [NUM_FRAMES]

The full-frame formulation is the usual one (warp the source picture onto the target picture, transfer mean and
spread in Lab, draw and blur a mask, blend floats), without flow, choice of source frames or light: it does less, but on
every pixel. Times are processor seconds of all threads.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from generation.arrays import Floats, Frame
from generation.crops.align import AlignedFaces, aligned_batches, similarity, smooth_landmarks
from generation.crops.clip import FaceClip, PastedFrame
from generation.crops.paste import FaceOutput, paste
from generation.generators.loading import load_generator
from generation.generators.weightfree.swap import PreparedSwap
from generation.media.reader import read_frames
from generation.media.writer import VideoWriter, write_clip
from generation.quality.output import OutputMeter
from tooling.actors import RenderSettings, render_clip, sample_actor

WIDTH, HEIGHT = 1280, 720


def film(folder: Path, seed: int, num_frames: int) -> FaceClip:
    """Renders one actor's clip."""
    path = folder / f"{seed}.mp4"
    landmarks: list[Floats] = []

    def frames() -> Iterator[Frame]:
        for frame in render_clip(sample_actor(seed, "male"), RenderSettings(num_frames, motion_seed=seed)):
            landmarks.append(np.asarray(frame.landmarks, np.float32))
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
    lab, goal = (cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32) for image in (warped, frame))
    inside = mask > 0.5
    lab = (lab - lab[inside].mean(0)) / lab[inside].std(0) * goal[inside].std(0) + goal[inside].mean(0)
    face = cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB).astype(np.float32)
    blended = frame * (1 - mask[..., None]) + face * mask[..., None]
    return np.asarray(np.clip(np.rint(blended), 0, 255), np.uint8)


def seconds_of(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def measure_steps(target: FaceClip, source: FaceClip, out: Path) -> dict[str, float]:
    """Seconds of each step for the whole clip, each step alone with its input in memory."""
    pipeline = load_generator("weightfree-swap")
    frames = list(target.frames())
    held = FaceClip("memory", lambda: iter(frames), target.landmarks)
    prepared: list[PreparedSwap] = []
    batches: list[AlignedFaces] = []
    made: list[FaceOutput] = []
    pasted: list[PastedFrame] = []
    meter = OutputMeter()

    def paste_all() -> None:
        at = iter(frames)
        for batch, output in zip(batches, made, strict=True):
            for crop, mask, matrix in zip(output.frames, output.masks, batch.matrices[batch.requested], strict=True):
                pasted.append(paste(next(at), crop, mask, matrix))

    def encode() -> None:
        with VideoWriter(out, width=WIDTH, height=HEIGHT) as writer:
            for picture in pasted:
                writer.write(picture.frame)

    return {
        "decode": seconds_of(lambda: deque(target.frames(), maxlen=0)),
        "prepare (both clips, with decode)": seconds_of(lambda: prepared.append(pipeline.prepare(target, source))),
        "align": seconds_of(lambda: batches.extend(aligned_batches(held, pipeline.batching))),
        "swap of crops": seconds_of(lambda: made.extend(pipeline.replace(batch, prepared[0]) for batch in batches)),
        "paste": seconds_of(paste_all),
        "checks": seconds_of(lambda: deque(map(meter.add, pasted), maxlen=0)),
        "encode": seconds_of(encode),
    }


def measure_full_frame(target: FaceClip, source: FaceClip) -> float:
    """Seconds of the full-frame formulation for the whole clip, without decode and encode."""
    frames, points = list(target.frames()), smooth_landmarks(target.landmarks)
    still = next(iter(source.frames()))

    def swap_all() -> None:
        for frame, where in zip(frames, points, strict=True):
            full_frame_swap(frame, where, still, source.landmarks[0])

    return seconds_of(swap_all)


def main(num_frames: int) -> None:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        target, source = film(folder, 1, num_frames), film(folder, 2, num_frames)
        steps = measure_steps(target, source, folder / "out.mp4")
        full = measure_full_frame(target, source)
    rows = {**steps, "all steps": sum(steps.values()), "full-frame formulation, swap alone": full}
    for step, seconds in rows.items():
        print(f"{step:<36} {num_frames / seconds:8.1f} frames/s  {1000 * seconds / num_frames:6.1f} ms")
    own = steps["align"] + steps["swap of crops"] + steps["paste"]
    print(f"align, swap and paste are {full / own:.1f} times as fast as the full-frame formulation")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
