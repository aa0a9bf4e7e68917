"""MCNET's keypoint detector, and how the keypoints of who drives become those of who is seen.

Keypoints follow Siarohin et al. 2019, "First Order Motion Model for Image Animation": points with the linear map of
their surroundings, found without supervision. Places run from -1 to 1 across the picture, x before y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor, nn

from generation.errors import GenerationError
from generation.generators.mcnet.layers import Hourglass, Reducer, grid

TEMPERATURE = 0.1  # of the softmax over a heat map
KERNEL_PX = 7


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of B pictures.

    Attributes:
        value: float32 (B, K, 2), places, -1 to 1.
        jacobian: float32 (B, K, 2, 2), linear map around each.
    """

    value: Tensor
    jacobian: Tensor

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, at: slice) -> Keypoints:
        return Keypoints(self.value[at], self.jacobian[at])

    def to(self, device: torch.device) -> Keypoints:
        """On another device."""
        return Keypoints(self.value.to(device), self.jacobian.to(device))

    @classmethod
    def joined(cls, parts: list[Keypoints]) -> Keypoints:
        """One after another."""
        return cls(torch.cat([part.value for part in parts]), torch.cat([part.jacobian for part in parts]))


class McnetDetector(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The published `kp_detector`. It always works in float32: a coarse place is a jump in the video.

    Args:
        num_keypoints: K.
        base, most: channels of the hourglass at its first level, and at most.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, num_keypoints: int = 15, base: int = 32, most: int = 1024) -> None:
        super().__init__()
        self.down = Reducer()
        self.predictor = Hourglass(base, 3, most)
        self.kp = nn.Conv2d(self.predictor.num_out, num_keypoints, KERNEL_PX)
        self.jacobian = nn.Conv2d(self.predictor.num_out, 4 * num_keypoints, KERNEL_PX)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As torch's, but the dtype stays."""
        device, *_ = torch._C._nn._parse_to(*args, **kwargs)
        if device is not None:
            super().to(device)
        return self

    def forward(self, images: Tensor) -> Keypoints:
        """Keypoints of RGB float32 [0, 1] (B, 3, S, S)."""
        seen = self.predictor(self.down(images))
        heat = self.kp(seen)
        share = torch.softmax(heat.flatten(2) / TEMPERATURE, -1)[:, :, None]
        places = grid(heat.shape[2], heat.shape[3], heat).reshape(-1, 2).T
        maps = self.jacobian(seen).reshape(len(images), -1, 4, share.shape[-1])
        # Sums, as matrix products add thousands of places in an order that costs a digit.
        jacobian = (maps * share).sum(-1).reshape(len(images), -1, 2, 2)
        return Keypoints((places * share).sum(-1), jacobian)


def movement_scale(seen: Keypoints, start: Keypoints) -> float:
    """By how much the seen face is larger than the driving one: root of the ratio of the areas of their convex hulls.

    Args:
        seen, start: of one picture each.

    Raises:
        GenerationError: the keypoints of one lie on a line.
    """
    areas = []
    for one in (seen, start):
        try:
            areas.append(float(ConvexHull(one.value[0].cpu().double().numpy()).volume))
        except QhullError as error:
            raise GenerationError(
                "the keypoints of a face lie on a line; use another clip, or absolute motion"
            ) from error
    return math.sqrt(areas[0] / areas[1])


def relative_keypoints(driving: Keypoints, start: Keypoints, seen: Keypoints, scale: float = 1.0) -> Keypoints:
    """Who is seen, moved as the driving face has moved since `start`.

    Args:
        driving: B pictures.
        start, seen: one picture each.
        scale: of the movement, from `movement_scale`.

    Raises:
        GenerationError: a jacobian of `start` has no inverse.
    """
    try:
        back = torch.linalg.inv(start.jacobian)
    except RuntimeError as error:  # torch's LinAlgError is one
        raise GenerationError("the driving face's first frame is degenerate; use another clip or best_frame") from error
    value = (driving.value - start.value) * scale + seen.value
    return Keypoints(value, driving.jacobian @ back @ seen.jacobian)
