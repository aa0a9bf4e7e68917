"""The embedding of a face that recognition networks of the ArcFace kind give, from an ONNX file.

Deng et al. 2019, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition". The networks take crops of 112 px
in which the landmarks lie at fixed places, and give 512 values whose direction is the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.errors import GenerationError
from generation.warp import FaceClip, Floats, similarity

SIDE_PX = 112
# px of the crop: eyes, nose tip, mouth corners, each from left to right.
ARCFACE_LANDMARKS: Floats = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
NUM_FRAMES = 8  # of a clip that are averaged

# Crops RGB uint8 (N, 112, 112, 3) -> embeddings float32 (N, D).
IdentityEncoder = Callable[[NDArray[np.uint8]], Floats]


class OnnxIdentity:
    """An ArcFace network in ONNX: input (1, 3, 112, 112) float32 RGB [-1, 1], output (1, D).

    Raises:
        GenerationError: onnxruntime is not installed, or the file is no such network.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise GenerationError(f"{path}: needs onnxruntime; run `pip install onnxruntime`") from error
        try:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1  # sums keep their order
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base
            raise GenerationError(f"{path}: is no ONNX network ({' '.join(str(error).split())[:160]})") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or list(inputs[0].shape)[1:] != [3, SIDE_PX, SIDE_PX] or len(outputs[0].shape) != 2:
            raise GenerationError(
                f"{path}: takes {[list(one.shape) for one in inputs]}, not one (N, 3, {SIDE_PX}, {SIDE_PX}); "
                "use an ArcFace recognition network"
            )
        self._name = inputs[0].name

    def __call__(self, crops: NDArray[np.uint8]) -> Floats:
        """Crops RGB uint8 (N, 112, 112, 3) -> embeddings float32 (N, D)."""
        # NHWC uint8 -> NCHW float32 [-1, 1]
        pictures = crops.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        return np.concatenate([self._session.run(None, {self._name: one[None]})[0] for one in pictures])


def clip_identity(clip: FaceClip, encoder: IdentityEncoder) -> Floats:
    """The mean direction of the embeddings of a few frames: float32 (D,), length 1.

    Raises:
        FaceError, VideoError: the clip cannot be read.
        GenerationError: the encoder finds nothing, or the clip has fewer frames than its track.
    """
    numbers = set(np.linspace(0, len(clip) - 1, NUM_FRAMES).astype(int).tolist())
    crops = [
        _crop(frame, clip.landmarks[number])
        for number, frame in zip(range(max(numbers) + 1), clip.frames(), strict=False)
        if number in numbers
    ]
    if len(crops) < len(numbers):
        raise GenerationError(f"{clip.name}: has fewer frames than its track; run `tooling faces` again")
    embeddings = encoder(np.stack(crops))
    mean = (embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-8)).mean(0)
    length = float(np.linalg.norm(mean))
    if not np.isfinite(length) or length < 1e-6:
        raise GenerationError(f"{clip.name}: the identity encoder gives no direction; use another encoder")
    return np.asarray(mean / length, np.float32)


def _crop(frame: NDArray[np.uint8], landmarks: Floats) -> NDArray[np.uint8]:
    matrix = similarity(landmarks, ARCFACE_LANDMARKS)
    return np.asarray(cv2.warpAffine(frame, matrix, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE), np.uint8)
