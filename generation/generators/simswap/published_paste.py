"""How SimSwap's publishers cut faces out of a picture and lay them back: seam, soft erosion, rounding and all.

Chen et al. 2020, "SimSwap". `paste_back` is for fakes that must carry the very traces of the published program; it
gives the same pixels, working on the face's rectangle only. The published seam is 40 px wide whatever the size of the
face, so faces below that size vanish; `generation.crops.paste.paste` knows no such size.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame
from generation.crops.clip import PastedFrame
from generation.generators.simswap.parsing import FACE_CLASSES, MOUTH_CLASS

SEAM_PX, BLUR_PX = 40, 41  # of the frame
WHITE_FROM = 20
MARGIN_PX = 42  # beyond the face's square, where seam and blur are surely zero
FEWEST_LEVELS = 5000  # of a map of 0 and 255; below it there is no face
EROSION_PX, EROSION_STEPS, FULL_FROM, NOISE = 17, 6, 0.9, 1e-5

Labels = NDArray[np.integer]


def cut(frame: Frame, matrix: Floats, side_px: int) -> Frame:
    """The crop (S, S, 3) of a frame (H, W, 3) by a map from frame to crop; black beyond the frame."""
    return np.asarray(cv2.warpAffine(frame, matrix, (side_px, side_px), flags=cv2.INTER_LINEAR), np.uint8)


def face_mask(labels: Labels, side_px: int) -> Floats | None:
    """Where a swapped crop replaces the target's: the face and the inside of its mouth, with a soft edge.

    Args:
        labels: (H, W), classes of `face_parsing` of the target's crop.
        side_px: of the crop.

    Returns:
        float32 (S, S), 0 to 1; None where there is hardly any face.
    """
    found = np.isin(labels, (*FACE_CLASSES, MOUTH_CLASS)).astype(np.float32) * 255
    if found.sum() < FEWEST_LEVELS:
        return None
    # [0, 255] -> [0, 1]
    return soft_erosion(cv2.resize(found, (side_px, side_px), interpolation=cv2.INTER_LINEAR) / np.float32(255))


def erosion_kernel() -> Floats:
    """A cone: float32 (17, 17), of sum 1."""
    steps = np.arange(EROSION_PX) - EROSION_PX // 2
    distance = np.hypot(*np.meshgrid(steps, steps))
    cone = distance.max() - distance
    return np.asarray(cone / cone.sum(), np.float32)


_KERNEL = erosion_kernel()


def soft_erosion(mask: Floats) -> Floats:
    """Draws a mask (S, S) of 0 to 1 in, and softens its edge towards the inside."""
    for _ in range(EROSION_STEPS):
        mask = np.minimum(mask, _spread(mask))
    mask = _spread(mask)
    mask[mask < NOISE] = 0  # of the filter's rounding
    full = mask >= FULL_FROM
    largest = float(mask[~full].max(initial=0.0))
    return np.asarray(np.where(full, 1.0, mask / largest if largest > 0 else mask), np.float32)


def _spread(mask: Floats) -> Floats:
    return np.asarray(cv2.filter2D(mask, cv2.CV_32F, _KERNEL, borderType=cv2.BORDER_CONSTANT), np.float32)


def paste_back(frame: Frame, crop: Frame | Floats, mask: Floats | None, matrix: Floats) -> PastedFrame:
    """Lays a swapped crop over the place of the frame that it was cut from.

    Args:
        frame: RGB uint8 (H, W, 3); not changed.
        crop: RGB (S, S, 3), uint8 or float32 [0, 1].
        mask: float32 (S, S), from `face_mask`; None or all 1 replaces the whole square but its seam, all 0 nothing.
        matrix: (2, 3), from frame to crop.
    """
    result, side = frame.copy(), len(crop)
    region = _rectangle(matrix, side, frame.shape[:2])
    height, width = (part.stop - part.start for part in region)
    if not height or not width or (mask is not None and not mask.any()):
        return PastedFrame(frame, result, (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32))
    # RGB uint8 -> RGB float32 [0, 1]
    new = crop.astype(np.float32) / 255 if crop.dtype == np.uint8 else crop
    if mask is not None and not (mask == 1).all():
        own = cut(frame, matrix, side).astype(np.float32) / 255
        new = new * mask[..., None] + own * (1 - mask[..., None])
    back = _inverse(matrix)
    back[:, 2] -= [region[1].start, region[0].start]
    seam = seam_mask(back, side, (height, width))
    # float32 [0, 1] -> [0, 255]
    warped = cv2.warpAffine(np.asarray(new, np.float32), back, (width, height), flags=cv2.INTER_LINEAR) * 255
    weight = seam[..., None]
    blended = weight * warped + (1 - weight) * frame[region]
    result[region] = np.clip(blended, 0, 255).astype(np.uint8)  # truncated, not rounded
    return PastedFrame(frame, result, region, seam)


def seam_mask(back: NDArray[np.floating], side_px: int, shape: tuple[int, int]) -> Floats:
    """The square of a crop in the frame, drawn in and with a soft edge.

    Args:
        back: (2, 3), from crop to frame.
        side_px: of the crop.
        shape: height and width of the frame or of the part of it that `back` leads to.

    Returns:
        float32 (H, W), 0 to 1.
    """
    square = np.full((side_px, side_px), 255, np.float32)
    drawn = cv2.warpAffine(square, back, shape[::-1], flags=cv2.INTER_LINEAR)
    drawn[drawn > WHITE_FROM] = 255
    eroded = cv2.erode(drawn, np.ones((SEAM_PX, SEAM_PX), np.uint8), anchor=(SEAM_PX // 2, SEAM_PX // 2))
    return np.asarray(cv2.GaussianBlur(eroded, (BLUR_PX, BLUR_PX), 0) / 255, np.float32)


def _inverse(matrix: Floats) -> NDArray[np.float64]:
    return np.asarray(cv2.invertAffineTransform(np.asarray(matrix, np.float64)), np.float64)


def _rectangle(matrix: Floats, side_px: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the frame that the square with its margin covers."""
    back = _inverse(matrix)
    corners = np.array([[x, y] for x in (-1, side_px) for y in (-1, side_px)])
    there = corners @ back[:, :2].T + back[:, 2]
    low = np.clip(np.floor(there.min(0)) - MARGIN_PX, 0, [shape[1], shape[0]]).astype(int)
    high = np.clip(np.ceil(there.max(0)) + MARGIN_PX + 1, 0, [shape[1], shape[0]]).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])
