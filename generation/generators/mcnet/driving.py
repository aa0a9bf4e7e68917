"""Which frames expression driving by keypoints starts from, and the keypoints of every frame that it makes.

Frames are compared as in the published demo's search for the best frame: by landmarks without their place and size
(the root of the area of their convex hull). It has 68 of them and we have five, so that mouth and lids, which five
points do not show, are compared by the features of `generation.motion.expression`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from scipy.spatial import ConvexHull, QhullError

from generation.arrays import Floats
from generation.errors import GenerationError
from generation.generators.mcnet.keypoints import Keypoints, movement_scale, relative_keypoints
from generation.motion.expression import FEATURE_WEIGHTS, FEATURES
from generation.smoothing import smooth_over_time

MotionMode = Literal["relative", "absolute"]
Head = Literal["target", "source"]

LANDMARK_WEIGHT = 20.0  # of the landmarks' squared distance, beside the features'
HEAD_FRAMES = 31  # about a second: what is slower is taken for the head, what is quicker for the face
_POSE = [FEATURES.index(name) for name in ("yaw", "pitch")]


@dataclass(frozen=True)
class MotionSettings:
    """How the source's keypoints become the target's.

    Attributes:
        motion: "relative" adds to the still what changed since the source's first frame, "absolute" takes the source's
            keypoints as they are.
        is_scaled: whether relative movement is scaled by the faces' sizes.
        head: whose pose the head takes: "source" is the published loop; "target" exchanges the slow part of the
            places for that of the target's own, so that the face fits the head into which it is pasted.
        smoothing_frames: over which keypoints are averaged; odd, 1 is none, as published.
    """

    motion: MotionMode = "relative"
    is_scaled: bool = True
    head: Head = "target"
    smoothing_frames: int = 3

    def __post_init__(self) -> None:
        if self.motion not in get_args(MotionMode) or self.head not in get_args(Head):
            raise GenerationError(
                f"motion {self.motion!r}, head {self.head!r}; motion is 'relative' or 'absolute', head is 'target' or "
                "'source'"
            )


def neutral_frame(features: Floats) -> int:
    """The frame of usual pose that shows the least expression.

    Args:
        features: comparable `FEATURES` (T, F) of a clip.
    """
    usual = np.zeros(features.shape[1], np.float32)
    usual[_POSE] = np.median(features[:, _POSE], 0)
    return int((np.abs(features - usual) * FEATURE_WEIGHTS).sum(1).argmin())


def best_frame(requested: tuple[Floats, Floats], offered: tuple[Floats, Floats]) -> int:
    """The driving frame most like the still; the first of equals.

    Args:
        requested: landmarks (5, 2) and comparable features (F,) of the still.
        offered: the same of the driving clip, (T, 5, 2) and (T, F).
    """
    shape = normalised_landmarks(requested[0])
    shapes = np.stack([normalised_landmarks(points) for points in offered[0]])
    by_landmarks = np.square(shapes - shape).sum((1, 2))
    by_features = (np.abs(offered[1] - requested[1]) * FEATURE_WEIGHTS).sum(1)
    return int((LANDMARK_WEIGHT * by_landmarks + by_features).argmin())


def normalised_landmarks(points: Floats) -> Floats:
    """Points (N, 2) about their mean, with a convex hull of area 1; all of them 0 where they lie on a line."""
    centred = points - points.mean(0)
    try:
        area = float(ConvexHull(centred).volume)
    except QhullError:
        return np.zeros_like(centred)
    return np.asarray(centred / area**0.5, np.float32)


def driving_keypoints(
    source: Keypoints, target: Keypoints, start: int, still: int, settings: MotionSettings
) -> Keypoints:
    """The keypoints that the network is to bring the target's still to, one for each frame of the target.

    Every frame is measured from the source's frame `start`, whether it comes before or after: this is what driving
    forward from the best frame to the end and backward to the beginning gives, joined.

    Args:
        source: of all its frames, at least as many as the target's.
        target: of all its frames; of its still alone where `settings.head` is "source".
        start: number of the source's frame that is like the still.
        still: number of the still in `target`.
        settings: see `MotionSettings`.

    Raises:
        GenerationError: keypoints from which no movement can be measured.
    """
    seen = target[still : still + 1]
    source = smoothed(source, settings.smoothing_frames)
    first = source[start : start + 1]
    scale = 1.0
    if settings.motion == "absolute":
        driving = source
    else:
        scale = movement_scale(seen, first) if settings.is_scaled else 1.0
        driving = relative_keypoints(source, first, seen, scale)
    if settings.head == "source":
        return driving
    driving = driving[: len(target)]
    # The slow part of `driving` is a shift and scale of the source's; it makes room for the target's.
    own = slow_part(driving.value)
    return Keypoints(driving.value + slow_part(target.value) - own, driving.jacobian)


def smoothed(keypoints: Keypoints, num_frames: int) -> Keypoints:
    """Averaged over time, without delay."""
    if num_frames <= 1:
        return keypoints
    return Keypoints(*(_over_time(part, num_frames) for part in (keypoints.value, keypoints.jacobian)))


def slow_part(values: torch.Tensor) -> torch.Tensor:
    """What of places (T, K, 2) changes over seconds."""
    return _over_time(values, HEAD_FRAMES)


def _over_time(values: torch.Tensor, num_frames: int) -> torch.Tensor:
    return torch.from_numpy(smooth_over_time(values.numpy(), num_frames)).to(values.dtype)
