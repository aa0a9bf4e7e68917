"""Speed of the weight-free swap at 720p beside a full-frame formulation.

The full-frame formulation is the usual one (warp the source picture onto the target picture, transfer mean and
spread in Lab, draw and blur a mask, blend floats), without flow, choice of source frames or light: it does less, but on
every pixel. What is prepared once for a clip is left out of both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import cv2
import numpy as np

from benchmarks.measuring import Line, Setup, alternate, ratio_line
from benchmarks.speed.inputs import actor_clip
from generation.arrays import Floats, Frame
from generation.crops.align import similarity, smooth_landmarks
from generation.crops.clip import FaceClip
from generation.crops.paste import replace_faces
from generation.generators.loading import load_generator
from generation.media.reader import read_frames


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


def measure(setup: Setup) -> Iterator[Line]:
    """Align, swap and paste of this project beside the full-frame formulation, frames in memory on both sides."""
    cv2.setNumThreads(1)
    num_frames = 6 if setup.is_small else 45
    path, landmarks = actor_clip(setup.folder, num_frames)
    frames = list(read_frames(path))
    other = [np.ascontiguousarray(frame[:, ::-1]) for frame in frames]  # somebody else's clip: mirrored
    mirrored = landmarks[:, [1, 0, 2, 4, 3]]
    mirrored[..., 0] = frames[0].shape[1] - 1 - mirrored[..., 0]
    target = FaceClip("target", lambda: iter(frames), landmarks)
    source = FaceClip("source", lambda: iter(other), mirrored)
    pipeline = load_generator("weightfree-swap")
    prepared = pipeline.prepare(target, source)
    points = smooth_landmarks(landmarks)

    def full_frame() -> None:
        for frame, where in zip(frames, points, strict=True):
            full_frame_swap(frame, where, other[0], mirrored[0])

    def own() -> None:
        deque(replace_faces(target, lambda faces: pipeline.replace(faces, prepared), pipeline.batching), maxlen=0)

    seconds, _ = alternate({"full frame": full_frame, "this project": own}, setup.repeats)
    yield ratio_line("weight-free swap, 1280x720, beside full frames", seconds, work=num_frames, unit="frames/s")
