"""How good a face swap is: whose face it shows, whose expression, and what it left alone.

Identity is the cosine between embeddings of an encoder (Deng et al. 2019, "ArcFace"); the encoder must not be the one
that made the fake, or it judges itself. Pose and expression are where MTCNN sees the five landmarks, in the fake and
in the target's very frame, so that its own errors are the same for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame
from generation.crops.align import align, smooth_landmarks
from generation.crops.clip import FaceClip, PastedFrame
from generation.faces.detector import detect_faces, load_detector, one_thread
from generation.faces.identity import Aligner, IdentityEncoder, align_arcface, mean_embedding

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN

NUM_LOOKS = 8  # frames of a clip that are embedded and in which landmarks are looked for
LOOK_PX, LOOK_TEMPLATE = 192, "portrait"


@dataclass(frozen=True)
class SwapQuality:
    """What was measured of one fake.

    Attributes:
        num_frames: of it.
        source_similarity, target_similarity: mean cosine of its identity with the source's and the target's, -1 to 1;
            None without an encoder.
        source_gain: by how much the first is above that of the target's own frames.
        target_loss: by how much the second is below that of the target's own frames.
        landmark_error: mean distance of its landmarks from the target's, in distances of the eyes; None where the
            detector finds the face in no frame.
        num_looks_missed: frames that were looked at in which it finds the face in the target but not in the fake.
        num_changed_outside: pixels outside of the mask that differ from the target's by more than was allowed.
    """

    num_frames: int
    source_similarity: float | None
    target_similarity: float | None
    source_gain: float | None
    target_loss: float | None
    landmark_error: float | None
    num_looks_missed: int
    num_changed_outside: int


@dataclass(frozen=True)
class SwapLimits:
    """What a swap must keep to, in the units of `SwapQuality`."""

    smallest_source_gain: float = 0.05
    smallest_target_loss: float = 0.05
    largest_landmark_error: float = 0.15
    largest_missed_share: float = 0.34
    largest_changed_outside: int = 0


@dataclass(frozen=True)
class IdentityCheck:
    """How identities are compared.

    Attributes:
        encoder: embeds crops.
        source: the source's identity, from `clip_identity` with this encoder.
        cut: gives the crops that the encoder takes.
    """

    encoder: IdentityEncoder
    source: Floats
    cut: Aligner = align_arcface


@dataclass
class SwapMeter:
    """Takes the frames of one fake in order, and keeps crops of a few.

    Attributes:
        target: for its landmarks; its frames are not read.
        identity: None leaves identities out.
        tolerance: in 8-bit levels, for pixels outside of the mask; 0 before encoding.
        detector: MTCNN; None loads it.
    """

    target: FaceClip
    identity: IdentityCheck | None = None
    tolerance: int = 0
    detector: MTCNN | None = None
    _number: int = 0
    _changed: int = 0
    _looks: list[tuple[Frame, Frame]] = field(default_factory=list)
    _faces: list[tuple[Frame, Frame]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._landmarks = smooth_landmarks(self.target.landmarks)
        seen = self.target.is_detected
        numbers = np.arange(len(self.target)) if seen is None else np.flatnonzero(seen)
        places = np.linspace(0, len(numbers) - 1, NUM_LOOKS if len(numbers) else 0).round().astype(int)
        self._wanted = set(numbers[places].tolist())

    def add(self, target: Frame, fake: Frame, mask: NDArray[np.number]) -> None:
        """Takes the next frame.

        Args:
            target, fake: RGB uint8 (H, W, 3).
            mask: (H, W), 0 where the target's pixel was to stay.
        """
        changed = np.abs(fake[mask == 0].astype(np.int16) - target[mask == 0]) > self.tolerance
        self._changed += int(changed.any(-1).sum())
        if self._number in self._wanted:
            self.look(self._number, target, fake)
        self._number += 1

    @property
    def wanted(self) -> frozenset[int]:
        """Numbers of the frames that are looked at."""
        return frozenset(self._wanted)

    def look(self, number: int, target: Frame, fake: Frame) -> None:
        """Takes one of the frames that are looked at, for landmarks and identity alone; RGB uint8 (H, W, 3) each."""
        points = self._landmarks[number]
        first, second = (align(frame, points, LOOK_PX, LOOK_TEMPLATE)[0] for frame in (target, fake))
        self._looks.append((first, second))
        if self.identity is not None:
            self._faces.append((self.identity.cut(target, points), self.identity.cut(fake, points)))

    def add_pasted(self, pasted: PastedFrame) -> None:
        """Takes the next frame before it is encoded."""
        mask = np.zeros(pasted.frame.shape[:2], np.float32)
        mask[pasted.region] = pasted.mask
        self.add(pasted.original, pasted.frame, mask)

    def results(self) -> SwapQuality:
        """What was measured."""
        error, missed = self._landmark_error()
        measured = SwapQuality(self._number, None, None, None, None, error, missed, self._changed)
        return replace(measured, **self._similarities())

    def _similarities(self) -> dict[str, Any]:
        if self.identity is None or not self._faces:
            return {}
        before, after = (self.identity.encoder(np.stack(crops)) for crops in zip(*self._faces, strict=True))
        target = mean_embedding(before)
        if target is None:
            return {}
        to_source = [_cosine(embeddings, self.identity.source) for embeddings in (before, after)]
        to_target = [_cosine(embeddings, target) for embeddings in (before, after)]
        return {
            "source_similarity": to_source[1],
            "target_similarity": to_target[1],
            "source_gain": to_source[1] - to_source[0],
            "target_loss": to_target[0] - to_target[1],
        }

    def _landmark_error(self) -> tuple[float | None, int]:
        if not self._looks:
            return None, 0
        detector = self.detector or load_detector(min_face_px=40)
        with one_thread():
            found = [_landmarks_in(detector, [pair[side] for pair in self._looks]) for side in (0, 1)]
        errors, missed = [], 0
        for target, fake in zip(*found, strict=True):
            if target is None:
                continue
            if fake is None:
                missed += 1
                continue
            eyes = max(float(np.linalg.norm(target[1] - target[0])), 1.0)
            errors.append(float(np.linalg.norm(fake - target, axis=1).mean()) / eyes)
        return (float(np.mean(errors)) if errors else None), missed


def _landmarks_in(detector: MTCNN, looks: list[Frame]) -> Iterator[Floats | None]:
    """Landmarks (5, 2) of the largest face of each picture."""
    for faces in detect_faces(detector, looks):
        yield faces.landmarks[0] if len(faces) else None


def _cosine(embeddings: Floats, identity: Floats) -> float:
    """Mean cosine of embeddings (N, D) with one (D,)."""
    lengths = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(identity)
    return float((embeddings @ identity / np.maximum(lengths, 1e-12)).mean())


def measure_swap(
    target: FaceClip, fake: Iterable[Frame], masks: Iterable[NDArray[np.number]], meter: SwapMeter
) -> SwapQuality:
    """Measures a fake from its files: the target's frames, its own, and its masks, one after another.

    Raises:
        ValueError: they are of different lengths.
        VideoError: one cannot be read.
    """
    for frame, made, mask in zip(target.frames(), fake, masks, strict=True):
        meter.add(frame, made, mask)
    return meter.results()


def find_problems(quality: SwapQuality, limits: SwapLimits | None = None) -> list[str]:
    """What a swap fails in, in words; empty where nothing."""
    limits = limits or SwapLimits()
    problems = []
    if quality.source_gain is not None and quality.source_gain < limits.smallest_source_gain:
        problems.append(f"its identity is no nearer to the source than the target's is ({quality.source_gain:+.3f})")
    if quality.target_loss is not None and quality.target_loss < limits.smallest_target_loss:
        problems.append(f"its identity is still the target's (similarity fell by {quality.target_loss:.3f})")
    if quality.landmark_error is not None and quality.landmark_error > limits.largest_landmark_error:
        problems.append(f"its landmarks are {quality.landmark_error:.2f} eye distances from the target's")
    if quality.num_looks_missed > limits.largest_missed_share * NUM_LOOKS:
        problems.append(f"no face is found in {quality.num_looks_missed} of the frames that were looked at")
    if quality.num_changed_outside > limits.largest_changed_outside:
        problems.append(f"{quality.num_changed_outside} pixels outside the mask changed")
    return problems
