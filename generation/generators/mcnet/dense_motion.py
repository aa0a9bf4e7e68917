"""MCNET's dense motion: from the keypoints of two pictures to where each pixel comes from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from torch import Tensor, nn

from generation.generators.mcnet.keypoints import KERNEL_PX, Keypoints
from generation.generators.mcnet.layers import Hourglass, Reducer, gaussians, grid

VARIANCE = 0.01  # of the Gaussians that mark keypoints


@dataclass(frozen=True)
class Motion:
    """Where the result's pixels come from; h, w are a quarter of the picture's size.

    Attributes:
        deformation: float32 (B, h, w, 2), places in the source picture, -1 to 1.
        occlusion: float32 (B, 1, h, w), 1 where the source shows what is there, 0 where it must be made up.
        mask: float32 (B, K + 1, h, w), share of the background's and each keypoint's motion.
        deformed: float32 (B, K + 1, 3, h, w), the small source moved by each of them alone.
    """

    deformation: Tensor
    occlusion: Tensor
    mask: Tensor
    deformed: Tensor


class DenseMotion(nn.Module):
    """The published `dense_motion_network`."""

    def __init__(self, num_keypoints: int, base: int, most: int) -> None:
        super().__init__()
        self.down = Reducer()
        self.hourglass = Hourglass(base, 4 * (num_keypoints + 1), most)
        reach = KERNEL_PX // 2
        self.mask = nn.Conv2d(self.hourglass.num_out, num_keypoints + 1, KERNEL_PX, padding=reach)
        self.occlusion = nn.Conv2d(self.hourglass.num_out, 1, KERNEL_PX, padding=reach)

    def forward(self, small: Tensor, seen: Keypoints, driving: Keypoints) -> Motion:
        """The motion to B driving pictures.

        Args:
            small: (1, 3, h, w), the source picture reduced by `down`.
            seen: of the source picture, 1.
            driving: normalised, B.
        """
        num, (height, width) = len(driving), small.shape[2:]
        places = grid(height, width, small)
        heat = gaussians(driving.value, VARIANCE, places) - gaussians(seen.value, VARIANCE, places)
        heat = F.pad(heat, (0, 0, 0, 0, 1, 0))
        moved = self._moved(places, seen, driving)
        # All motions sample the one source: one tall grid instead of K + 1 copies. align_corners is the published one.
        deformed = F.grid_sample(small.expand(num, -1, -1, -1), moved.flatten(1, 2), align_corners=False)
        deformed = deformed.view(num, 3, -1, height, width).transpose(1, 2)
        given = torch.cat([heat[:, :, None], deformed], 2).flatten(1, 2)
        seen_maps = self.hourglass(given)
        mask = torch.softmax(self.mask(seen_maps), 1)
        deformation = torch.einsum("bkhw,bkhwc->bhwc", mask, moved)
        return Motion(deformation, torch.sigmoid(self.occlusion(seen_maps)), mask, deformed)

    def _moved(self, places: Tensor, seen: Keypoints, driving: Keypoints) -> Tensor:
        """Where each place comes from by the background's and each keypoint's motion alone: (B, K + 1, h, w, 2)."""
        linear = seen.jacobian @ torch.linalg.inv(driving.jacobian)
        offset = places - driving.value[:, :, None, None]
        by_point = torch.einsum("bkij,bkhwj->bkhwi", linear, offset) + seen.value[:, :, None, None]
        still = places.expand(len(driving), 1, -1, -1, -1)
        return torch.cat([still, by_point], 1)
