"""Each degradation does what its name says, the same way each time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detection.degradations import DEGRADATIONS, NOISE_SIGMA, degrade_frames, degrade_video
from generation.errors import VideoError
from generation.media.reader import probe_video, read_clip
from generation.media.writer import MASTER_OPTIONS, VideoWriter
from tests.workspaces import moving_pattern


@pytest.fixture(scope="module")
def clip() -> NDArray[np.uint8]:
    """uint8 (8, 64, 96, 3), grey, so that halving the colours' size changes nothing, with detail."""
    drawn = np.random.default_rng(1)
    frames = np.stack(list(moving_pattern(96, 64, seed=3))).mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    noisy: NDArray[np.float64] = frames * 0.7 + 38 + drawn.normal(0, 6, (64, 96, 1))
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def video(clip: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, width=96, height=64, fps=25, options=MASTER_OPTIONS) as writer:
        for frame in clip:
            writer.write(frame)
    return path.read_bytes()


def error(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.sqrt(((one.astype(float) - other) ** 2).mean()))


def detail(clip: NDArray[np.uint8]) -> float:
    return float(np.abs(np.diff(clip.astype(float), axis=2)).mean())


def channels_first(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(clip.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_frames_and_clips_are_degraded_alike(name: str, clip: NDArray[np.uint8], video: bytes, tmp_path: Path) -> None:
    frames = channels_first(clip)
    found = degrade_frames(frames, name)
    assert found.shape == frames.shape
    assert found.dtype == np.uint8
    assert (degrade_frames(frames, name) == found).all()
    assert (frames == channels_first(clip)).all()  # what was handed in is left alone
    assert 2 < error(found, frames) < 60
    path = tmp_path / "degraded.mp4"
    written = degrade_video(video, name)
    path.write_bytes(written)
    info = probe_video(path)
    assert (info.width, info.height, float(info.fps), info.num_frames) == (96, 64, 25.0, 8)
    assert degrade_video(video, name) == written
    change = error(channels_first(read_clip(path)), frames)
    assert change == pytest.approx(error(found, frames), rel=0.35)


def test_each_name_says_what_happens(clip: NDArray[np.uint8], video: bytes) -> None:
    frames = channels_first(clip)
    degraded = {name: degrade_frames(frames, name) for name in DEGRADATIONS}
    assert error(degraded["c40"], frames) > 1.3 * error(degraded["c23"], frames)
    assert len(degrade_video(video, "c40")) < 0.6 * len(degrade_video(video, "c23"))
    flat = np.full((2, 3, 40, 40), 128, np.uint8)
    assert (degrade_frames(flat, "blur") == 128).all()
    assert (degrade_frames(flat, "half_size") == 128).all()
    noise = degrade_frames(flat, "noise").astype(float) - 128
    assert noise.std() == pytest.approx(NOISE_SIGMA, rel=0.05)
    assert (noise[0] != noise[1]).any()
    assert (degrade_frames(flat, "noise", seed=1) - 128.0 != noise).any()
    for name in ("blur", "half_size"):
        assert detail(degraded[name].transpose(0, 2, 3, 1)) < 0.8 * detail(clip)


def test_a_frame_has_the_same_noise_in_any_company(clip: NDArray[np.uint8]) -> None:
    frames = channels_first(clip)
    for name in ("half_size", "blur", "jpeg", "noise"):
        assert (degrade_frames(frames[:3], name) == degrade_frames(frames, name)[:3]).all()


def test_bytes_do_not_depend_on_what_was_encoded_before(video: bytes) -> None:
    first = hashlib.sha256(degrade_video(video, "c23")).hexdigest()
    for name in ("c40", "noise"):
        degrade_video(video, name)
    assert hashlib.sha256(degrade_video(video, "c23")).hexdigest() == first


def test_odd_sizes_single_frames_and_none(clip: NDArray[np.uint8]) -> None:
    whole = channels_first(clip)
    for frames in (whole[:1, :, :41, :33], whole[:0]):
        for name in DEGRADATIONS:
            assert degrade_frames(frames, name).shape == frames.shape


def test_what_cannot_be_degraded_is_named(clip: NDArray[np.uint8], video: bytes) -> None:
    with pytest.raises(ValueError, match="c50: no such degradation; use one of c23, c40"):
        degrade_video(video, "c50")
    with pytest.raises(ValueError, match=r"hand in uint8 \(T, 3, H, W\)"):
        degrade_frames(clip, "c23")
    with pytest.raises(VideoError, match=r"^video: cannot be read as video"):
        degrade_video(b"no video", "c23")
