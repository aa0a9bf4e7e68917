"""MCNET's driving loop, with networks whose weights are set by hand.

Three coloured spots are the keypoints, and the picture follows the first of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generation.arrays import Floats, Frame
from generation.crops.align import aligned_batches
from generation.crops.clip import FaceClip, PastedFrame
from generation.crops.templates import TEMPLATES
from generation.errors import GenerationError
from generation.generators.base import ClipOutput
from generation.generators.loading import load_generator
from generation.generators.mcnet.keypoints import McnetDetector
from generation.generators.mcnet.network import McnetGenerator
from generation.generators.mcnet.pipeline import McnetDrive
from generation.generators.registry import LoadOptions
from tests.generation.networks.published import tiny_detector, tiny_mcnet

pytestmark = pytest.mark.thorough

SIDE, NUM_FRAMES, CROP_PX = 200, 12, 128
NUM_POINTS, SPOT_PX = 3, 7.0
# Keypoints are found in a picture without its border but are placed as if it had one: movement grows by this.
GROWTH = (CROP_PX / 4 - 1) / (CROP_PX / 4 - 7)


def spot_detector() -> McnetDetector:
    detector = tiny_detector()
    for part in (detector.kp, detector.jacobian):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(torch.as_tensor(part.bias))
    for point in range(NUM_POINTS):  # the last channels are the picture itself
        detector.kp.weight[point, -NUM_POINTS:, 3, 3] = -1.0
        detector.kp.weight[point, point - NUM_POINTS, 3, 3] = 1.0
    torch.as_tensor(detector.jacobian.bias)[:] = torch.eye(2).flatten().repeat(NUM_POINTS)
    return detector


def following_network(point: int) -> McnetGenerator:
    """Copies the still, moved as one keypoint moves; 0 is the background, which stays."""
    network = tiny_mcnet()
    dense = network.dense_motion_network
    for part in (dense.mask, dense.occlusion):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(torch.as_tensor(part.bias))
    torch.as_tensor(dense.mask.bias)[point] = 60.0
    torch.as_tensor(dense.occlusion.bias)[:] = 60.0
    return network


def spotted(shift: tuple[float, float], seed: int) -> Frame:
    """A skin-coloured picture with a red spot that moves, and a green and a blue one that stay."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    picture = np.full((SIDE, SIDE, 3), [190, 140, 120], np.float32)
    picture += np.random.default_rng(seed).normal(0, 2, (SIDE, SIDE, 3))
    middles = ((100 + shift[0], 105 + shift[1]), (40, 70), (160, 72))
    for colour, (at_x, at_y) in zip(np.eye(3), middles, strict=True):
        weight = np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * SPOT_PX**2))[..., None]
        picture += weight * (255 * colour - picture)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def shift_at(time: int) -> tuple[float, float]:
    return 4 * math.sin(time * 1.3), 3 * math.cos(time * 0.9)


def spotted_clip(name: str, *, moves: bool, seed: int, num_frames: int = NUM_FRAMES) -> FaceClip:
    landmarks = (TEMPLATES["portrait"] * SIDE).astype(np.float32)
    frames = [spotted(shift_at(time) if moves else (0, 0), seed) for time in range(num_frames)]
    return FaceClip(name, lambda: iter(frames), np.repeat(landmarks[None], num_frames, 0))


def red_place(picture: Frame) -> Floats:
    values = picture.astype(np.float32)
    redness = np.maximum(values[..., 0] - 1.6 * values[..., 1:].max(2) - 20, 0)
    y, x = np.mgrid[: len(picture), : len(picture)]
    return np.asarray(np.array([(redness * x).sum(), (redness * y).sum()]) / redness.sum(), np.float32)


@pytest.fixture(scope="module")
def clips() -> tuple[FaceClip, FaceClip]:
    return spotted_clip("target", moves=False, seed=1), spotted_clip("source", moves=True, seed=2, num_frames=15)


def hand_made(**settings: Any) -> McnetDrive:
    settings = {"crop_px": CROP_PX, "smoothing_frames": 1, "head": "source", **settings}
    pipeline = McnetDrive(spot_detector(), following_network(1), **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_the_still_moves_as_the_source_does(clips: tuple[FaceClip, FaceClip]) -> None:
    pipeline = hand_made(is_scaled=False, best_frame=4)
    prepared = pipeline.prepare(*clips)
    found = [red_place(one.frame) for one in pipeline.stream(*clips)]
    before = red_place(next(clips[0].frames()))
    for time, place in enumerate(found):
        wanted = before + GROWTH * np.subtract(shift_at(time), shift_at(4))
        assert np.abs(place - wanted).max() < 2.5, time  # less than half a pixel of the map of keypoints
    assert prepared.start == 4
    assert len(prepared.driving) == 15


def test_absolute_motion_takes_the_source_s_places(clips: tuple[FaceClip, FaceClip]) -> None:
    pipeline = hand_made(motion="absolute")
    before = red_place(next(clips[0].frames()))
    for time, one in enumerate(pipeline.stream(*clips)):
        wanted = before + GROWTH * np.array(shift_at(time))
        assert np.abs(red_place(one.frame) - wanted).max() < 2.5, time


def test_a_still_network_does_not_flicker_and_changes_nothing_else(clips: tuple[FaceClip, FaceClip]) -> None:
    target, source = clips
    pipeline = McnetDrive(spot_detector(), following_network(0), crop_px=CROP_PX)
    pasted = list(pipeline.stream(target, source))
    assert len(pasted) == NUM_FRAMES
    for one in pasted:
        assert np.array_equal(one.frame, pasted[0].frame)
        weight = np.zeros((SIDE, SIDE), np.float32)
        weight[one.region] = one.mask
        assert 0.05 < weight.mean() < 0.4
        assert np.array_equal(one.frame[weight == 0], one.original[weight == 0])
        assert np.abs(one.frame.astype(int) - one.original)[weight > 0.5].mean() < 8


@pytest.fixture(scope="module")
def random_pipeline() -> McnetDrive:
    pipeline = McnetDrive(spot_detector(), tiny_mcnet(), crop_px=CROP_PX, has_noise=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def result(clips: tuple[FaceClip, FaceClip], random_pipeline: McnetDrive) -> list[PastedFrame]:
    return list(random_pipeline.stream(*clips, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("batch_frames", [1, 5, 50])
def test_the_batch_size_changes_nothing(
    clips: tuple[FaceClip, FaceClip], result: list[PastedFrame], batch_frames: int
) -> None:
    pipeline = McnetDrive(spot_detector(), tiny_mcnet(), crop_px=CROP_PX, has_noise=True, batch_frames=batch_frames)
    stream = pipeline.stream(*clips, generator=torch.Generator().manual_seed(3))
    assert all(np.array_equal(one.frame, two.frame) for one, two in zip(stream, result, strict=True))


def test_saved_and_loaded_it_is_the_same(
    clips: tuple[FaceClip, FaceClip], random_pipeline: McnetDrive, result: list[PastedFrame], tmp_path: Path
) -> None:
    random_pipeline.save_pretrained(tmp_path)
    again = load_generator("mcnet", LoadOptions(weights=str(tmp_path), device="cpu"))
    assert type(again) is McnetDrive
    assert again.settings == random_pipeline.settings
    output = again(*clips, generator=torch.Generator().manual_seed(3))
    assert isinstance(output, ClipOutput)
    assert np.array_equal(np.asarray(output.frames), np.stack([one.frame for one in result]))


def test_noise_is_the_seed_s(
    clips: tuple[FaceClip, FaceClip], random_pipeline: McnetDrive, result: list[PastedFrame]
) -> None:
    prepared = random_pipeline.prepare(*clips)
    faces = next(aligned_batches(clips[0], random_pipeline.batching))
    with torch.inference_mode():
        first, again, other = (random_pipeline.replace(faces, prepared, seed=seed).frames for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert random_pipeline.draws
    assert not hand_made().draws


def test_crops_of_another_size_are_resized(clips: tuple[FaceClip, FaceClip]) -> None:
    pipeline = McnetDrive(spot_detector(), following_network(0), crop_px=160)
    one = next(iter(pipeline.stream(*clips)))
    assert np.abs(one.frame.astype(int) - one.original).mean() < 4


def test_clips_and_settings_that_cannot_work(clips: tuple[FaceClip, FaceClip]) -> None:
    target, source = clips
    with pytest.raises(GenerationError, match="target: has 12 frames and source"):
        hand_made().prepare(source, target)
    with pytest.raises(GenerationError, match=r"source: has 15 frames; best_frame 15"):
        hand_made(best_frame=15).prepare(target, source)
    with pytest.raises(GenerationError, match="motion 'sideways'"):
        hand_made(motion="sideways")

    def fewer() -> Iterator[Frame]:
        return (frame for frame, _ in zip(target.frames(), range(5), strict=False))

    with pytest.raises(GenerationError, match="delete its track and run `tooling faces`"):
        hand_made().prepare(FaceClip("target", fewer, target.landmarks), source)
