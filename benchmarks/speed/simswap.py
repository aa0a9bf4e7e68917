"""Speed of SimSwap on a CPU or GPU: this project's pipeline against the published loop, frame by frame.

Both make the same frames with the same random weights, from decoded pictures to finished pictures, in turn in one run.
The published loop is written here from its description: one frame at a time through the plain network, with the
identity applied again for each; crop, warp, seam and blend over the whole picture. The other side is `SimSwap` with the
published pasting; soft pasting and parsing are left out of both. Times are processor seconds on a CPU, and seconds on a
GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.filled_weights import filled_state
from benchmarks.measuring import LEAST_PSNR, Line, Setup, alternate, clock_of, psnr_line, ratio_line
from generation.arrays import Floats, Frame
from generation.crops.align import choose_templates, similarity, smooth_landmarks
from generation.crops.clip import FaceClip
from generation.crops.paste import replace_faces
from generation.crops.templates import TEMPLATES
from generation.generators.simswap.identity_encoder import SwapIdentity
from generation.generators.simswap.network import SwapGenerator
from generation.generators.simswap.pipeline import PreparedSimswap, SimSwap

WIDTH, HEIGHT, FACE_PX = 1280, 720, 420
PUBLISHED = {224: ((64, 128, 256, 512), 1, "poses"), 512: ((32, 64, 128, 256, 512), 0, "ffhq")}


def filled(side: int) -> Any:
    """The published layout with repeatable weights."""
    channels, first_level, _ = PUBLISHED[side]
    network: Any = SwapGenerator(channels=channels, first_level=first_level).eval()
    network.load_state_dict(filled_state(network.state_dict(), Path("none"), 0))
    return network


def film(num_frames: int) -> FaceClip:
    """Pictures with landmarks that move a little; what they show does not matter for the time."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    picture = np.asarray(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)
    corner = np.array([WIDTH - FACE_PX, HEIGHT - FACE_PX]) / 2
    moves = np.cumsum(random.normal(0, 1.5, (num_frames, 1, 2)), 0)
    landmarks = (TEMPLATES["pose-frontal"] * FACE_PX + corner + moves).astype(np.float32)
    frames = [np.roll(picture, 3 * number, 1) for number in range(num_frames)]
    return FaceClip("film", lambda: iter(frames), landmarks)


def published_loop(network: SwapGenerator, clip: FaceClip, latent: torch.Tensor, side: int) -> Iterator[Frame]:
    """As SPEC.md of the test vectors describes it."""
    template = PUBLISHED[side][2]
    for frame, points in zip(clip.frames(), smooth_landmarks(clip.landmarks), strict=True):
        (chosen,) = choose_templates(points[None], template)
        matrix = similarity(points, TEMPLATES[chosen] * side)
        crop = cv2.warpAffine(frame, matrix, (side, side), flags=cv2.INTER_LINEAR)
        # HWC uint8 -> NCHW float32 [0, 1]
        images = torch.from_numpy(crop).to(latent.device).permute(2, 0, 1)[None].to(latent.dtype) / 255
        swapped = network(images, latent)[0].permute(1, 2, 0).float().cpu().numpy()
        yield published_paste(frame, swapped, matrix)


def published_paste(frame: Frame, swapped: Floats, matrix: Floats) -> Frame:
    """Over the whole picture."""
    height, width = frame.shape[:2]
    back = cv2.invertAffineTransform(matrix)
    warped = cv2.warpAffine(np.ascontiguousarray(swapped), back, (width, height), flags=cv2.INTER_LINEAR) * 255
    white = np.full(swapped.shape[:2], 255, np.float32)
    mask = cv2.warpAffine(white, back, (width, height), flags=cv2.INTER_LINEAR)
    mask[mask > 20] = 255
    mask = cv2.erode(mask, np.ones((40, 40), np.uint8))
    mask = (cv2.GaussianBlur(mask, (41, 41), 0) / 255)[..., None]
    return np.asarray(np.clip(mask * warped + (1 - mask) * frame.astype(np.float32), 0, 255), np.uint8)


def own_loop(pipeline: SimSwap, clip: FaceClip, prepared: PreparedSimswap) -> Iterator[Frame]:
    """Without `prepare`, which both do once for a clip."""
    for pasted in replace_faces(clip, lambda faces: pipeline.replace(faces, prepared), pipeline.batching):
        yield pasted.frame


def measure(setup: Setup) -> Iterator[Line]:
    """224 px on this processor."""
    yield from compare(224, 2 if setup.is_small else 8, repeats=setup.repeats)


def compare(
    side: int,
    num_frames: int,
    *,
    repeats: int,
    device: str = "cpu",
    is_compiled: bool = False,
    goal: float | None = None,
) -> Iterator[Line]:
    """Both ways in turn, from decoded pictures to finished ones, without `prepare`; on a GPU this one in float16."""
    network, dtype = filled(side).to(device), torch.float32 if device == "cpu" else torch.float16
    own = filled(side).to(device, dtype)
    identity: Any = SwapIdentity(layers=(1, 1, 1, 1), widths=(8, 8, 8, 8)).eval().to(device, dtype)
    settings: dict[str, Any] = {"crop_px": side, "template": PUBLISHED[side][2], "pasting": "published"}
    pipeline = SimSwap(own, identity, **settings, is_compiled=is_compiled)
    clip = film(num_frames)
    latent = torch.nn.functional.normalize(torch.randn(1, 512, generator=torch.Generator().manual_seed(0)))
    latent = latent.to(device)
    with torch.inference_mode():
        prepared = PreparedSimswap(pipeline.fused.styles(latent.to(own.dtype)))
        seconds, frames = alternate(
            {
                "published loop": lambda: np.stack(list(published_loop(network, clip, latent, side))),
                "this project": lambda: np.stack(list(own_loop(pipeline, clip, prepared))),
            },
            repeats,
            clock_of(device),
        )
    name = f"SimSwap, {side} px, {device}"
    yield ratio_line(name, seconds, goal, work=num_frames, unit="frames/s")
    yield psnr_line(name, frames["this project"], frames["published loop"], LEAST_PSNR["cuda"])  # whole levels
