"""What is measured of a swap, and the identity of a clip's person."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from generation.arrays import Floats, Frame
from generation.crops.clip import FaceClip, PastedFrame
from generation.crops.templates import TEMPLATES
from generation.faces.detector import DetectedFaces
from generation.faces.identity import (
    align_arcface,
    align_by,
    clip_embedding,
    clip_identity,
    good_crops,
    mean_embedding,
)
from generation.generators.loading import load_generator
from generation.quality import swap_quality
from generation.quality.swap_quality import (
    NUM_CHECKED,
    PORTRAIT_PX,
    SwapMeter,
    SwapQuality,
    find_problems,
)
from tests.actor_clips import film_talk

NUM_FRAMES = 10


@pytest.fixture(scope="module")
def clips() -> tuple[FaceClip, FaceClip]:
    return film_talk(4, NUM_FRAMES), film_talk(1, NUM_FRAMES)


@pytest.fixture(scope="module")
def swapped(clips: tuple[FaceClip, FaceClip]) -> list[PastedFrame]:
    return list(load_generator("weightfree-swap").stream(*clips))


def shape_encoder(crops: NDArray[np.uint8]) -> Floats:
    """Stands for an identity network: edges of the inner face, on a coarse grid."""
    found = []
    for crop in crops:
        grey = cv2.GaussianBlur(crop.mean(2).astype(np.float32)[30:105, 22:90], (0, 0), 2)
        small = cv2.resize(cv2.Laplacian(grey, cv2.CV_32F, ksize=5), (24, 24), interpolation=cv2.INTER_AREA)
        found.append(small.ravel() / max(float(np.linalg.norm(small)), 1e-6))
    return np.asarray(found, np.float32)


def measured(target: FaceClip, fakes: list[Frame]) -> SwapQuality:
    meter = SwapMeter(target)
    for number, (frame, fake) in enumerate(zip(target.frames(), fakes, strict=True)):
        if number in meter.requested:
            meter.add(number, frame, fake)
    return meter.results()


def test_a_swap_keeps_the_landmarks(clips: tuple[FaceClip, FaceClip], swapped: list[PastedFrame]) -> None:
    quality = measured(clips[0], [pasted.frame for pasted in swapped])
    assert quality.landmark_error is not None
    assert quality.landmark_error < 0.1
    assert quality.num_missed == 0
    assert find_problems(quality) == []


def test_a_face_that_moved_is_seen(clips: tuple[FaceClip, FaceClip]) -> None:
    target, _ = clips
    gap = float(np.linalg.norm(target.landmarks[0, 1] - target.landmarks[0, 0]))
    frames = [np.roll(frame, round(0.4 * gap), 0) for frame in target.frames()]
    quality = measured(target, frames)
    assert quality.landmark_error == pytest.approx(0.4, abs=0.1)
    assert any("eye distances" in problem for problem in find_problems(quality))
    blank = measured(target, [np.full_like(frame, 90) for frame in frames])
    assert blank.num_missed == NUM_CHECKED
    assert any("no face is found" in problem for problem in find_problems(blank))


def found_in(_: object, portraits: NDArray[np.uint8]) -> list[DetectedFaces]:
    """The tracked face where it is, and a larger one beside it first; in one frame it is far off."""
    tracked = TEMPLATES["portrait"] * PORTRAIT_PX
    boxes = np.array([[60, 60, 190, 190], [40, 40, 120, 130]], np.float32)
    off = [4.0 * (number == 1 and bool(portraits[number].min())) for number in range(len(portraits))]
    places = [np.stack([1.5 * tracked + 60, tracked + 3 * shift]).astype(np.float32) for shift in off]
    return [DetectedFaces(boxes, np.ones(2, np.float32), landmarks) for landmarks in places]


def test_a_phantom_beside_the_face_is_not_compared_and_one_frame_does_not_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(swap_quality, "detect_faces", found_in)
    target = FaceClip("still", lambda: iter(()), np.tile(TEMPLATES["portrait"] * 192, (NUM_FRAMES, 1, 1)))
    meter = SwapMeter(target)
    for number in sorted(meter.requested):
        meter.add(number, np.zeros((192, 192, 3), np.uint8), np.full((192, 192, 3), 90, np.uint8))
    assert meter.results() == SwapQuality(0.0, 0)


# --- identity ---


def test_outliers_are_dropped() -> None:
    random = np.random.default_rng(0)
    person, other = random.standard_normal((2, 64))
    embeddings = np.stack(
        [3 * (person + 0.2 * random.standard_normal(64)) for _ in range(6)] + [9 * other, -4 * person]
    )
    found = mean_embedding(embeddings.astype(np.float32))
    assert found is not None
    cosine = found @ person / np.linalg.norm(found) / np.linalg.norm(person)
    assert cosine > 0.99
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(embeddings[:6], axis=1).mean(), rel=0.1)
    assert mean_embedding(np.zeros((3, 8), np.float32)) is None
    assert mean_embedding(np.full((3, 8), np.nan, np.float32)) is None


def test_good_frames_are_seen_sharp_and_frontal() -> None:
    """A clip whose frames say what they are worth by their colour."""
    num = 40
    still = np.array([[130, 100], [190, 100], [160, 135], [138, 165], [182, 165]], np.float32)
    landmarks = np.repeat(still[None], num, 0)
    landmarks[:10, 2, 0] += 30  # turned
    seen = np.ones(num, bool)
    seen[30:] = False
    pattern = np.random.default_rng(0).integers(0, 90, (240, 320), dtype=np.uint8)

    def frames() -> list[Frame]:
        made = []
        for number in range(num):
            grey = cv2.GaussianBlur(pattern, (0, 0), 3) if 10 <= number < 18 else pattern
            made.append(np.asarray(np.dstack([np.full_like(grey, number), grey, grey]), np.uint8))
        return made

    clip = FaceClip("clip", lambda: iter(frames()), landmarks, seen)
    for cut in (align_arcface, align_by("poses", 64)):
        numbers = [int(np.median(crop[..., 0])) for crop in good_crops(clip, cut)]
        assert len(numbers) == 8
        assert numbers == sorted(numbers)
        assert all(18 <= number < 30 for number in numbers)
    everything = dataclasses.replace(clip, is_detected=None)
    assert max(int(np.median(crop[..., 0])) for crop in good_crops(everything, align_arcface)) >= 30


def test_identity_of_a_clip(clips: tuple[FaceClip, FaceClip]) -> None:
    one, other = (clip_identity(clip, shape_encoder) for clip in clips)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    assert one @ other < 0.9
    assert np.allclose(
        one, clip_embedding(clips[0], shape_encoder) / np.linalg.norm(clip_embedding(clips[0], shape_encoder))
    )
