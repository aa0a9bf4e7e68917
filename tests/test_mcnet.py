"""MCNET: parity with stored vectors, its rewrites, keypoints, the driving loop, conversion."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cuda_setup import require_cuda
from torch import Tensor

from benchmarks import mcnet_speed, parity_mcnet
from generation.clip_pipeline import ClipOutput
from generation.errors import GenerationError, WeightsError
from generation.families import FAMILIES, LoadOptions, load_generator
from generation.keypoint_motion import (
    HEAD_FRAMES,
    MotionSettings,
    best_frame,
    driving_keypoints,
    normalised_landmarks,
)
from generation.models.mcnet import McnetGenerator
from generation.models.mcnet_keypoints import Keypoints, McnetDetector, movement_scale, relative_keypoints
from generation.models.mcnet_layers import Hourglass, PhasesUp, TiledConv, UpBlock
from generation.pipelines.mcnet import McnetDrive
from generation.video import Frame
from generation.warp import TEMPLATES, FaceClip, Floats, PastedFrame, aligned_batches
from generation.weightfree.expression import FEATURES
from generation.weights import mcnet as converter
from generation.weights.convert import convert
from generation.weights.mcnet import convert_mcnet

OWN_DATA = Path(__file__).parent / "data" / "mcnet"
SHARED = Path(__file__).parents[2] / "shared" / "golden" / "mcnet"
SIDE, NUM_FRAMES, CROP_PX = 200, 12, 128
NUM_POINTS, SPOT_PX = 3, 7.0
# Keypoints are found in a picture without its border but are placed as if it had one: movement grows by this.
GROWTH = (CROP_PX / 4 - 1) / (CROP_PX / 4 - 7)
TINY: dict[str, Any] = {
    "num_keypoints": NUM_POINTS,
    "image_px": CROP_PX,
    "base": 8,
    "most": 32,
    "motion_base": 8,
    "motion_most": 16,
    "memory_channels": 16,
    "memory_px": 8,
}


def tiny(seed: int = 0) -> McnetGenerator:
    torch.manual_seed(seed)
    network: McnetGenerator = McnetGenerator(**TINY)
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0, 0.1)
    torch.nn.init.constant_(network.mbUnit.styleconv.weight, 0.5)
    network.eval().requires_grad_(False)
    return network


def tiny_detector(seed: int = 0) -> McnetDetector:
    torch.manual_seed(seed)
    detector: McnetDetector = McnetDetector(NUM_POINTS, 8, 16)
    detector.eval().requires_grad_(False)
    return detector


def keypoints(seed: int, num: int, num_points: int = NUM_POINTS) -> Keypoints:
    random = torch.Generator().manual_seed(seed)
    value = torch.rand(num, num_points, 2, generator=random) * 1.4 - 0.7
    jacobian = torch.eye(2) + 0.2 * torch.randn(num, num_points, 2, 2, generator=random)
    return Keypoints(value, jacobian)


# Parity


def test_stored_vectors_are_met() -> None:
    found = list(parity_mcnet.compare(OWN_DATA))
    assert [one.name for one in found if not one.error <= one.tolerance] == []
    assert len(found) > 20
    assert {"down.out", "up.out", "mixed.out", "ubyte.out"} <= {one.name.rpartition(" ")[2] for one in found}


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the golden vectors")
def test_all_vectors_are_met() -> None:
    found = list(parity_mcnet.compare(SHARED))
    assert [one.name for one in found if not one.error <= one.tolerance] == []
    assert len(found) > 200


# Rewrites


@pytest.mark.parametrize("is_tiled", [False, True])
def test_folding_changes_no_result(is_tiled: bool) -> None:
    network, image, own, driving = tiny(), torch.rand(1, 3, CROP_PX, CROP_PX), keypoints(1, 1), keypoints(2, 3)
    noise = torch.randn(3, 3, 1, TINY["memory_px"], TINY["memory_px"])
    wanted = network(network.encode(image, own), driving, noise)
    folded = network.folded(is_tiled=is_tiled)
    assert not any(isinstance(part, UpBlock) for part in folded.modules())
    still = folded.encode(image, own)
    torch.testing.assert_close(folded(still, driving, noise), wanted, atol=2e-5, rtol=0)
    one = folded(still, driving[1:2], noise[1:2])
    torch.testing.assert_close(one, wanted[1:2], atol=2e-5, rtol=0)
    # The network itself is left as it was.
    assert torch.equal(network(network.encode(image, own), driving, noise), wanted)


def test_the_straightforward_formulation_gives_the_same() -> None:
    network = McnetGenerator(**{**TINY, "image_px": 256}).eval().requires_grad_(False)
    image, own, driving = torch.rand(1, 3, 256, 256), keypoints(1, 1), keypoints(2, 1)
    wanted = mcnet_speed.one_frame(network, image, own, driving)
    torch.testing.assert_close(network(network.encode(image, own), driving), wanted, atol=1e-5, rtol=0)


def test_noise_changes_the_result_and_only_by_its_weight() -> None:
    network, image, own, driving = tiny(), torch.rand(1, 3, CROP_PX, CROP_PX), keypoints(1, 1), keypoints(2, 1)
    noise = torch.randn(1, 3, 1, TINY["memory_px"], TINY["memory_px"])
    still = network.encode(image, own)
    silent = network(still, driving)
    assert torch.equal(network(still, driving, torch.zeros_like(noise)), silent)
    assert (network(still, driving, noise) - silent).abs().max() > 1e-5
    torch.nn.init.zeros_(network.mbUnit.styleconv.weight)
    assert torch.equal(network(still, driving, noise), silent)


@pytest.mark.parametrize(("num_in", "num_out", "height", "width"), [(5, 7, 8, 8), (16, 8, 72, 64), (64, 64, 16, 20)])
def test_tiles_are_a_convolution(num_in: int, num_out: int, height: int, width: int) -> None:
    conv = torch.nn.Conv2d(num_in, num_out, 3, padding=1).requires_grad_(False)
    x = torch.randn(2, num_in, height, width)
    wanted = conv.double()(x.double()).float()
    found = TiledConv(conv.weight, conv.bias)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_phases_are_an_enlarged_convolution() -> None:
    block = UpBlock(6, 4).eval().requires_grad_(False)
    block.norm = torch.nn.Identity()
    x = torch.randn(2, 6, 7, 5)
    phases = PhasesUp(*(part.detach() for part in (block.conv.weight, torch.as_tensor(block.conv.bias))))
    for given in (x, x.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(phases(given), block(x), atol=1e-5, rtol=0)


def test_an_hourglass_ends_with_its_input() -> None:
    hourglass, x = Hourglass(4, 3, 16).eval().requires_grad_(False), torch.randn(1, 3, 64, 64)
    result = hourglass(x)
    assert result.shape == (1, 7, 64, 64)
    assert torch.equal(result[:, 4:], x)


def test_half_precision_keeps_weights_and_places_in_float32() -> None:
    network, detector = tiny().to(torch.bfloat16), tiny_detector().to(torch.bfloat16)
    assert {part.dtype for part in (*network.parameters(), *detector.parameters())} == {torch.float32}
    folded = network.folded(is_tiled=False)
    assert folded.final.weight.dtype == torch.bfloat16
    assert folded.dense_motion_network.mask.weight.dtype == torch.float32
    image, own, driving = torch.rand(1, 3, CROP_PX, CROP_PX), keypoints(1, 1), keypoints(2, 1)
    wanted = network(network.encode(image, own), driving)
    found = folded(folded.encode(image, own), driving)
    assert found.dtype == torch.float32
    assert psnr(found, wanted) > 35


def psnr(found: Tensor, wanted: Tensor) -> float:
    return -10 * math.log10(float((found - wanted).square().mean()))


@pytest.mark.cuda
def test_a_gpu_gives_nearly_the_same() -> None:
    device = require_cuda()
    network, image, own, driving = tiny(), torch.rand(1, 3, CROP_PX, CROP_PX), keypoints(1, 1), keypoints(2, 8)
    wanted = network(network.encode(image, own), driving)
    network.to(device)
    for dtype, least in ((torch.float32, 60), (torch.float16, 40), (torch.bfloat16, 35)):
        folded = network.to(dtype).folded(is_tiled=False)
        found = folded(folded.encode(image.to(device), own.to(device)), driving.to(device)).cpu()
        assert psnr(found, wanted) > least


# Keypoints


def test_the_scale_is_that_of_the_faces() -> None:
    one = keypoints(3, 1, 15)
    larger = Keypoints(one.value * 1.7 + 0.1, one.jacobian)
    assert movement_scale(larger, one) == pytest.approx(1.7, rel=1e-5)
    flat = Keypoints(one.value * torch.tensor([1.0, 0.0]), one.jacobian)
    with pytest.raises(GenerationError, match="lie on a line"):
        movement_scale(one, flat)


def test_relative_motion() -> None:
    seen, source = keypoints(4, 1), keypoints(5, 6)
    moved = relative_keypoints(source, source[2:3], seen, 0.5)
    torch.testing.assert_close(moved.value[2:3], seen.value)
    torch.testing.assert_close(moved.jacobian[2:3], seen.jacobian, atol=1e-5, rtol=0)
    torch.testing.assert_close(moved.value[4] - moved.value[1], 0.5 * (source.value[4] - source.value[1]))
    singular = Keypoints(source.value, torch.zeros_like(source.jacobian))
    with pytest.raises(GenerationError, match="degenerate"):
        relative_keypoints(singular, singular[:1], seen)


def test_forward_and_backward_from_the_best_frame_in_one_pass() -> None:
    """The published loop runs twice from the best frame and joins the halves."""
    seen, source, start = keypoints(4, 1, 15), keypoints(5, 9, 15), 3
    scale = movement_scale(seen, source[start : start + 1])
    backward = [relative_keypoints(source[at : at + 1], source[start : start + 1], seen, scale) for at in (3, 2, 1, 0)]
    forward = [relative_keypoints(source[at : at + 1], source[start : start + 1], seen, scale) for at in range(3, 9)]
    wanted = Keypoints.joined(backward[::-1] + forward[1:])
    found = driving_keypoints(source, seen, start, 0, MotionSettings(head="source", smoothing_frames=1))
    torch.testing.assert_close(found.value, wanted.value)
    torch.testing.assert_close(found.jacobian, wanted.jacobian)
    absolute = MotionSettings(motion="absolute", head="source", smoothing_frames=1)
    assert torch.equal(driving_keypoints(source, seen, start, 0, absolute).value, source.value)


@pytest.mark.parametrize("motion", ["relative", "absolute"])
def test_the_head_is_the_target_s_and_the_face_the_source_s(motion: Any) -> None:
    time = torch.arange(90) / 30
    still = keypoints(6, 1, 15)

    def moving(slow: Tensor, quick: Tensor) -> Keypoints:
        value = still.value + slow[:, None, None] * torch.tensor([1.0, 0.0])
        value = value + torch.cat([torch.zeros(90, 14), quick[:, None]], 1)[..., None]
        return Keypoints(value, still.jacobian.expand(90, -1, -1, -1))

    turn_of_target, turn_of_source = 0.1 * torch.sin(time * 0.8), 0.2 * torch.cos(time * 0.6)
    speech = 0.05 * torch.sin(time * 2 * math.pi * 4)
    target, source = moving(turn_of_target, torch.zeros(90)), moving(turn_of_source, speech)
    settings = MotionSettings(motion=motion, is_scaled=False, smoothing_frames=1)
    found = driving_keypoints(source, target, 10, 5, settings).value
    wanted = moving(turn_of_target, speech).value
    inside = slice(HEAD_FRAMES // 2, -(HEAD_FRAMES // 2))
    assert (found - wanted)[inside].abs().max() < 0.01


def test_the_best_frame_is_the_most_like() -> None:
    random = np.random.default_rng(0)
    still = TEMPLATES["face"] * 200
    offered = still + random.normal(0, 6, (20, 5, 2)).astype(np.float32)
    offered[13] = still * 1.6 + 30  # elsewhere and larger: the same face
    features = np.zeros((20, len(FEATURES)), np.float32)
    assert best_frame((still, features[0]), (offered, features)) == 13
    features[13, FEATURES.index("eye_closure")] = 1  # a blink, which five points do not show
    assert best_frame((still, features[0]), (offered, features)) != 13
    np.testing.assert_allclose(normalised_landmarks(offered[13]), normalised_landmarks(still), atol=1e-5)
    assert not normalised_landmarks(np.tile(np.arange(5, dtype=np.float32)[:, None], 2)).any()


# The loop, with networks whose weights are set by hand: three coloured spots are the keypoints, and the picture
# follows the first of them.


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
    network = tiny()
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
    pipeline = McnetDrive(spot_detector(), tiny(), crop_px=CROP_PX, has_noise=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def result(clips: tuple[FaceClip, FaceClip], random_pipeline: McnetDrive) -> list[PastedFrame]:
    return list(random_pipeline.stream(*clips, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("batch_frames", [1, 5, 50])
def test_the_batch_size_changes_nothing(
    clips: tuple[FaceClip, FaceClip], result: list[PastedFrame], batch_frames: int
) -> None:
    pipeline = McnetDrive(spot_detector(), tiny(), crop_px=CROP_PX, has_noise=True, batch_frames=batch_frames)
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

    with pytest.raises(GenerationError, match="run `tooling faces` again"):
        hand_made().prepare(FaceClip("target", fewer, target.landmarks), source)


# Conversion


def checkpoint(generator: McnetGenerator, detector: McnetDetector) -> dict[str, Any]:
    """As the training saves it: parallel prefixes, discriminator, optimizers, epoch."""
    moments = {0: {"step": 5, "exp_avg": torch.zeros(3)}}
    groups = [{"lr": 2e-4, "betas": (0.5, 0.999), "params": [0]}]
    parts: dict[str, Any] = {
        name: {f"module.{key}": value for key, value in model.state_dict().items()}
        for name, model in (("generator", generator), ("kp_detector", detector))
    }
    parts["discriminator"] = {"module.discs.1.conv.weight_orig": torch.zeros(4, 3, 4, 4)}
    for name in ("generator", "discriminator", "kp_detector"):
        parts[f"optimizer_{name}"] = {"state": moments, "param_groups": groups}
    return {**parts, "epoch": 99}


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> tuple[McnetGenerator, McnetDetector]:
    """Networks of another size than the published, which the converter then expects."""
    monkeypatch.setattr(converter, "McnetGenerator", lambda: McnetGenerator(**TINY))
    monkeypatch.setattr(converter, "McnetDetector", lambda: McnetDetector(NUM_POINTS, 8, 16))
    return tiny(5), tiny_detector(6)


def test_a_published_checkpoint_is_converted(
    small_networks: tuple[McnetGenerator, McnetDetector], tmp_path: Path
) -> None:
    path = tmp_path / FAMILIES["mcnet"].weights[0]
    for prefix in ("module.", ""):
        parts = checkpoint(*small_networks)
        for name in ("generator", "kp_detector"):
            parts[name] = {f"{prefix}{key.removeprefix('module.')}": value for key, value in parts[name].items()}
        torch.save(parts, path, _use_new_zipfile_serialization=bool(prefix))
        out = tmp_path / f"out{prefix}"
        assert convert("mcnet", [path], out, origin="a test")
        loaded = load_generator("mcnet", LoadOptions(weights=str(out), device="cpu"))
        for own, model in ((small_networks[0], loaded.animator), (small_networks[1], loaded.detector)):
            found = model.state_dict()
            assert all(torch.equal(value, found[name]) for name, value in own.state_dict().items())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda parts: parts.pop("kp_detector"), "holds no kp_detector"),
        (lambda parts: parts.update(extra=1), "holds extra, which"),
        (lambda parts: parts["generator"].pop("module.mbUnit.mb"), "generator: does not fit .*mbUnit.mb is missing"),
        (lambda parts: parts["generator"].update({"module.more": torch.ones(1)}), "more is unknown"),
        (lambda parts: parts["kp_detector"].update({"module.kp.bias": torch.ones(9)}), "kp.bias is 9, wanted 3"),
    ],
)
def test_another_checkpoint_is_refused(
    small_networks: tuple[McnetGenerator, McnetDetector], tmp_path: Path, change: Any, expected: str
) -> None:
    parts = checkpoint(*small_networks)
    change(parts)
    torch.save(parts, tmp_path / "one.pth.tar")
    with pytest.raises(WeightsError, match=expected):
        convert_mcnet([tmp_path / "one.pth.tar"])


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the published names and shapes")
def test_a_checkpoint_of_the_published_size_is_converted(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"epoch": 99}
    for name in ("generator", "kp_detector"):
        entries = json.loads((SHARED / f"keys_{name}.json").read_text("utf-8"))["entries"]
        parts[name] = {
            f"module.{one['name']}": torch.full(one["shape"], 0.5).to(getattr(torch, one["dtype"])) for one in entries
        }
    torch.save(parts, tmp_path / "00000099-checkpoint.pth.tar")
    pipeline = convert_mcnet([tmp_path / "00000099-checkpoint.pth.tar"])
    assert float(pipeline.animator.final.weight.min()) == 0.5
    assert not any(part.training for part in (pipeline.animator, pipeline.detector))
