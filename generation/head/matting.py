"""Brings the masks of the key frames to every other frame, and fits them to its strands."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from generation.arrays import Floats, Frame, Grey, Mask
from generation.head.analysis import ANALYSIS_PX, FLOW_PX, colour_places, disc
from generation.head.guided import GuidedFilter
from generation.head.segmentation import HeadModel
from generation.motion.expression import small_grey
from generation.motion.fields import pixels

FLOW_SMOOTHING_PX = 2.0
LARGEST_MOTION_PX = 8.0  # of FLOW_PX; more is a mismatch
PRIOR_TRUST = 2.0  # of a carried mask, against the colours of the frame itself
_NO_MAP: Any = None  # the map has both coordinates in one array


class Carrier:
    """Carries the masks of the key frames to other frames. Keeps nothing of a frame."""

    def __init__(self, model: HeadModel) -> None:
        self.model = model
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._greys = [key.grey for key in model.keys]
        self._places = pixels(ANALYSIS_PX)

    def areas(self, crop: Frame, time: int) -> Floats:
        """Hair and skin in a head crop: float32 (ANALYSIS_PX, ANALYSIS_PX, 2), 0 to 1.

        Args:
            crop: RGB uint8 (ANALYSIS_PX, ANALYSIS_PX, 3).
            time: number of its frame in the clip.
        """
        carried = np.asarray(cv2.GaussianBlur(self._carried(small_grey(crop, FLOW_PX), time), (0, 0), 1.5), np.float32)
        colours = np.asarray(cv2.GaussianBlur(crop, (0, 0), 0.7), np.uint8)
        likely = self.model.colours.take(colour_places(colours), 0)
        odds = PRIOR_TRUST * _log_odds(carried, 0.005) + _log_odds(likely, 0.05)
        # Far from any carried mask there is nothing, whatever its colour.
        return np.asarray(np.clip(20 * carried - 0.4, 0, 1) / (1 + np.exp(-odds)) * _FRAME, np.float32)

    def _carried(self, grey: Grey, time: int) -> Floats:
        keys = self.model.keys
        numbers = [key.number for key in keys]
        after = int(np.searchsorted(numbers, time))
        before, after = max(after - 1, 0), min(after, len(keys) - 1)
        span = numbers[after] - numbers[before]
        share = min(max((time - numbers[before]) / span, 0.0), 1.0) if span else 0.0
        carried = np.zeros((ANALYSIS_PX, ANALYSIS_PX, 2), np.float32)
        for at, weight in ((before, 1 - share), (after, share)):
            if weight > 0:
                carried += np.float32(weight) * self._warped(grey, at)
        return carried

    def _warped(self, grey: Grey, at: int) -> Floats:
        flow = self._flow.calc(grey, self._greys[at], np.zeros((FLOW_PX, FLOW_PX, 2), np.float32))
        flow = np.clip(cv2.GaussianBlur(flow, (0, 0), FLOW_SMOOTHING_PX), -LARGEST_MOTION_PX, LARGEST_MOTION_PX)
        motion = np.asarray(cv2.resize(flow, (ANALYSIS_PX, ANALYSIS_PX)), np.float32) * np.float32(
            ANALYSIS_PX / FLOW_PX
        )
        areas, places = self.model.keys[at].areas, self._places + motion
        warped = cv2.remap(areas, places, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(warped, np.float32)


def _frame() -> Floats:
    """1 inside a head crop, 0 at its sides: long hair fades out before the crop ends."""
    ramp = np.clip((np.arange(ANALYSIS_PX) + 0.5) / (0.04 * ANALYSIS_PX), 0, 1)
    ramp = np.minimum(ramp, ramp[::-1])
    return np.asarray(np.minimum.outer(ramp, ramp)[..., None], np.float32)


_FRAME = _frame()


def without_skin(hair: Mask, crop: Frame, model: HeadModel) -> Mask:
    """Takes skin that shows between strands out of a matte; the inside of the hair stays.

    Args:
        hair: float32 (S, S), 0 to 1.
        crop: RGB uint8 (S, S, 3).
        model: of the clip.
    """
    # float32 [0, 1] -> uint8 and back: three times as fast
    inside = cv2.erode(np.rint(hair * 255).astype(np.uint8), disc(0.012 * len(hair))) / np.float32(255)
    skin = cv2.blur(model.colours[:, 1].take(colour_places(crop)), (3, 3))
    return np.asarray(hair * (1 - (1 - inside) * np.clip(1.4 * skin - 0.2, 0, 1)), np.float32)


def _log_odds(share: Floats, floor: float) -> Floats:
    share = np.clip(share, floor, 1 - floor)
    return np.asarray(np.log(share / (1 - share)), np.float32)


def matte(crop: Frame, small: Frame, mask: Mask) -> Mask:
    """Fits a rough mask to the edges and strands of a crop, by a guided filter in colour.

    Args:
        crop: RGB uint8 (S, S, 3).
        small: the same at the size of the mask.
        mask: float32 (s, s), 0 to 1.

    Returns:
        float32 (S, S), 0 to 1.
    """
    fitted = GuidedFilter(small).enlarged(mask, crop)
    # The filter leaves a little everywhere near an edge.
    return np.asarray(np.clip((fitted - 0.06) / 0.88, 0, 1), np.float32)
