"""Pasting crops back into the frames that they were aligned from.

Only pixels under the mask change; all others keep their value exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import cv2
import numpy as np

from generation.arrays import Floats, Frame, Mask
from generation.crops.align import AlignedFaces, Batching, framed_batches, transform
from generation.crops.blending import per_channel
from generation.crops.clip import FaceClip, PastedFrame

MASK_FLOOR = 1 / 255  # smaller values of a mask change no pixel


class FaceOutput(Protocol):
    """New crops: RGB uint8 (B, S, S, 3), and masks float32 (B, S, S): 0 keeps the target, 1 replaces it."""

    @property
    def frames(self) -> Frame: ...
    @property
    def masks(self) -> Mask: ...


def replace_faces(
    clip: FaceClip, function: Callable[[AlignedFaces], FaceOutput], batching: Batching
) -> Iterator[PastedFrame]:
    """Streams a clip through a pipeline and pastes the crops that it returns.

    Args:
        clip: the target.
        function: takes batches in order, returns crops and masks for `AlignedFaces.requested`.
        batching: crop size, batch size and context that the function needs.

    Yields:
        One `PastedFrame` for each frame of the clip. At most batch + 2 x context frames are in memory.

    Raises:
        FaceError: the clip has another number of frames than landmarks.
    """
    for frames, faces in framed_batches(clip, batching):
        output = function(faces)
        crops, matrices = faces.crops[faces.requested], faces.matrices[faces.requested]
        for frame, old, crop, mask, matrix in zip(frames, crops, output.frames, output.masks, matrices, strict=True):
            if batching.paste is not None:
                yield batching.paste(frame, crop, mask, matrix)
                continue
            yield paste(frame, crop, mask, matrix, old if batching.keeps_detail else None)


def paste(frame: Frame, crop: Frame, mask: Mask, matrix: Floats, edited: Frame | None = None) -> PastedFrame:
    """Lays a crop over the part of the frame that it was aligned from.

    Args:
        frame: RGB uint8 (H, W, 3); not changed.
        crop: RGB uint8 (S, S, 3).
        mask: float32 (S, S), 0 to 1.
        matrix: float32 (2, 3), from frame to crop.
        edited: RGB uint8 (S, S, 3), the aligned crop that this one is an edit of: their difference is added to the
            frame, which keeps the detail that neither has. None replaces the frame by the crop.
    """
    region = _covered_region(mask, matrix, frame.shape[:2])
    height, width = (part.stop - part.start for part in region)
    result = frame.copy()
    if height == 0 or width == 0:
        return PastedFrame(frame, result, region, np.zeros((height, width), np.float32))
    back = cv2.invertAffineTransform(matrix)
    back[:, 2] -= [region[1].start, region[0].start]
    size = (width, height)
    new = crop if edited is None else crop.astype(np.float32) - edited
    pasted = cv2.warpAffine(new, back, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    spread = cv2.warpAffine(mask, back, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    weight = np.asarray(spread, np.float32)
    weight[weight < MASK_FLOOR] = 0
    before = frame[region].astype(np.float32)
    blended = before + per_channel(weight) * (pasted.astype(np.float32) - (before if edited is None else 0))
    # float32 [0, 255] -> uint8; a weight of 0 gives back the same value
    result[region] = np.clip(np.rint(blended), 0, 255).astype(np.uint8)
    return PastedFrame(frame, result, region, weight)


def _covered_region(mask: Mask, matrix: Floats, shape: tuple[int, int]) -> tuple[slice, slice]:
    """The smallest rectangle of the frame that contains every pixel under the mask."""
    rows, columns = np.flatnonzero(mask.max(1) > 0), np.flatnonzero(mask.max(0) > 0)
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    left, right, top, bottom = columns[0] - 1, columns[-1] + 1, rows[0] - 1, rows[-1] + 1
    corners = np.array([[left, top], [right, top], [left, bottom], [right, bottom]], np.float32)
    there = transform(np.asarray(cv2.invertAffineTransform(matrix), np.float32), corners)
    low = np.clip(np.floor(there.min(0)), 0, [shape[1], shape[0]]).astype(int)
    high = np.clip(np.ceil(there.max(0)) + 1, 0, [shape[1], shape[0]]).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])
