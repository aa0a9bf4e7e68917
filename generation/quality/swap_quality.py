"""How good a face swap is: whose face it shows, and whose expression.

Identity is the cosine between embeddings of an encoder (Deng et al. 2019, "ArcFace"); the encoder must not be the one
that made the fake, or it judges itself. Pose and expression are where MTCNN sees the five landmarks, in the fake and
in the same frame of the target, so that its own errors are the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from generation.arrays import Floats, Frame, Landmarks
from generation.crops.align import align, smooth_landmarks
from generation.crops.clip import FaceClip
from generation.faces.detector import detect_faces, load_detector, one_thread
from generation.faces.identity import Aligner, IdentityEncoder, align_arcface, mean_embedding

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN

NUM_CHECKED = 8  # frames of a clip that are embedded and in which landmarks are detected
PORTRAIT_PX = 192  # side of the crops in which they are detected
# Limits that a swap must keep, in the units of `SwapQuality`.
SMALLEST_SOURCE_GAIN = SMALLEST_TARGET_LOSS = 0.05
LARGEST_LANDMARK_ERROR = 0.15
LARGEST_MISSED_SHARE = 0.34


@dataclass(frozen=True)
class SwapQuality:
    """Measurements of one fake.

    Attributes:
        source_similarity, target_similarity: mean cosine of its identity with the source's and the target's, -1 to 1;
            None without an encoder.
        source_gain: by how much the first is above that of the target's own frames.
        target_loss: by how much the second is below that of the target's own frames.
        landmark_error: mean distance of its landmarks from the target's, in distances of the eyes; None where the
            detector finds the face in no frame.
        num_missed: frames in which it finds the face in the target but not in the fake.
    """

    landmark_error: float | None
    num_missed: int
    source_similarity: float | None = None
    target_similarity: float | None = None
    source_gain: float | None = None
    target_loss: float | None = None


@dataclass(frozen=True)
class IdentityCheck:
    """The source's identity, and how others are compared with it.

    Attributes:
        encoder: embeds crops.
        source: the source's identity, from `clip_identity` with this encoder.
        cut: makes the crops that the encoder takes.
    """

    encoder: IdentityEncoder
    source: Floats
    cut: Aligner = align_arcface


class SwapMeter:
    """Takes a few frames of one fake with its target's, and keeps crops of them.

    Args:
        target: for its landmarks; its frames are not read.
        identity: None leaves identities out.
        detector: MTCNN; None loads it.

    Attributes:
        requested: numbers of the frames to hand in.
    """

    def __init__(self, target: FaceClip, identity: IdentityCheck | None = None, detector: MTCNN | None = None) -> None:
        self._identity, self._detector = identity, detector
        self._landmarks = smooth_landmarks(target.landmarks)
        seen = target.is_detected
        numbers = np.arange(len(target)) if seen is None else np.flatnonzero(seen)
        chosen = np.linspace(0, len(numbers) - 1, NUM_CHECKED if len(numbers) else 0).round().astype(int)
        self.requested = frozenset(numbers[chosen].tolist())
        self._portraits: list[tuple[Frame, Frame]] = []
        self._faces: list[tuple[Frame, Frame]] = []

    def add(self, number: int, target: Frame, fake: Frame) -> None:
        """Takes one of the frames in `requested`, RGB uint8 (H, W, 3) each."""
        points = self._landmarks[number]
        first, second = (align(frame, points, PORTRAIT_PX, "portrait")[0] for frame in (target, fake))
        self._portraits.append((first, second))
        if self._identity is not None:
            self._faces.append((self._identity.cut(target, points), self._identity.cut(fake, points)))

    def results(self) -> SwapQuality:
        """The measurements of the frames so far."""
        return replace(self._landmark_quality(), **self._similarities())

    def _similarities(self) -> dict[str, Any]:
        if self._identity is None or not self._faces:
            return {}
        before, after = (self._identity.encoder(np.stack(crops)) for crops in zip(*self._faces, strict=True))
        target = mean_embedding(before)
        if target is None:
            return {}
        to_source = [_cosine(embeddings, self._identity.source) for embeddings in (before, after)]
        to_target = [_cosine(embeddings, target) for embeddings in (before, after)]
        return {
            "source_similarity": to_source[1],
            "target_similarity": to_target[1],
            "source_gain": to_source[1] - to_source[0],
            "target_loss": to_target[0] - to_target[1],
        }

    def _landmark_quality(self) -> SwapQuality:
        if not self._portraits:
            return SwapQuality(None, 0)
        detector = self._detector or load_detector(min_face_px=40)
        with one_thread():
            found = [detect_faces(detector, portraits) for portraits in zip(*self._portraits, strict=True)]
        errors, missed = [], 0
        for target, fake in zip(*found, strict=True):
            if len(target) and len(fake):
                errors.append(_landmark_distance(target.landmarks[0], fake.landmarks[0]))
            missed += bool(len(target) and not len(fake))
        return SwapQuality(float(np.mean(errors)) if errors else None, missed)


def _landmark_distance(target: Landmarks, fake: Landmarks) -> float:
    """Mean distance of landmarks, in distances of the target's eyes."""
    eyes = max(float(np.linalg.norm(target[1] - target[0])), 1.0)
    return float(np.linalg.norm(fake - target, axis=1).mean()) / eyes


def _cosine(embeddings: Floats, identity: Floats) -> float:
    """Mean cosine of embeddings (N, D) with one (D,)."""
    lengths = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(identity)
    return float((embeddings @ identity / np.maximum(lengths, 1e-12)).mean())


def find_problems(quality: SwapQuality) -> list[str]:
    """The limits that a swap breaks, one phrase each."""
    gain, loss, error, missed = quality.source_gain, quality.target_loss, quality.landmark_error, quality.num_missed
    problems = []
    if gain is not None and gain < SMALLEST_SOURCE_GAIN:
        problems.append(f"its identity is no nearer to the source than the target's is ({gain:+.3f})")
    if loss is not None and loss < SMALLEST_TARGET_LOSS:
        problems.append(f"its identity is still the target's (similarity fell by {loss:.3f})")
    if error is not None and error > LARGEST_LANDMARK_ERROR:
        problems.append(f"its landmarks are {error:.2f} eye distances from the target's")
    if missed > LARGEST_MISSED_SHARE * NUM_CHECKED:
        problems.append(f"no face is found in {missed} of the frames that were checked")
    return problems
