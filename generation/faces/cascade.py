"""The three networks of MTCNN one after another, as facenet-pytorch runs them, for one picture in a third of its time.

The same pyramid, thresholds and suppression of overlaps as in `facenet_pytorch.models.utils.detect_face`. What differs:
the means of the pyramid are differences of sums; the inputs of the last two networks are shrunk as bytes, with weights
at the borders of an area; all inputs are stored channels last, in which a CPU takes a batch 2 to 3 times as fast. Each
picture goes through alone, so that what is found does not depend on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Boxes, FloatImage, Floats, Frame

if TYPE_CHECKING:  # torch takes seconds to import, and not every run detects
    from facenet_pytorch import MTCNN
    from torch import Tensor

PROPOSAL_PX, STRIDE_PX = 12, 2  # side and distance of the squares that the first network judges
SECOND_PX, LAST_PX = 24, 48  # sides of the inputs of the other two
OVERLAPS = 0.5, 0.7  # of boxes of one level, and of all levels, of which only the likeliest stays
LEVEL_REACH = 2.2  # how many times the side of a proposal's square a face's may be, and the other way round


def find_faces(
    detector: MTCNN, picture: Frame, sides_px: tuple[float, float] = (0, math.inf)
) -> tuple[Boxes, Floats, Floats]:
    """All faces of one picture RGB uint8 (H, W, 3), the largest first.

    Args:
        detector: from `load_detector`.
        picture: where to look for them.
        sides_px: of the smallest and largest face to look for, about; those between are found as with all.

    Returns:
        Boxes float32 (N, 4), probabilities float32 (N,) and landmarks float32 (N, 5, 2), px of the picture.
    """
    boxes = _square(_proposed(detector, picture, sides_px))
    boxes, crops = _crops(picture, boxes, SECOND_PX)
    if len(boxes):
        moves, scores = run_network(detector.rnet, crops)
        is_face = scores[:, 1] > detector.thresholds[1]
        boxes, moves, scores = boxes[is_face], moves[is_face], scores[is_face, 1]
        kept = _suppressed(boxes, scores, OVERLAPS[1])
        boxes = _square(_moved(boxes[kept], moves[kept]))
        boxes, crops = _crops(picture, boxes, LAST_PX)
    if not len(boxes):
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)
    moves, points, scores = run_network(detector.onet, crops)
    is_face = scores[:, 1] > detector.thresholds[2]
    boxes, moves, points, scores = boxes[is_face], moves[is_face], points[is_face], scores[is_face, 1]
    sizes = boxes[:, 2:] - boxes[:, :2] + 1
    landmarks = points.reshape(-1, 2, 5).transpose(0, 2, 1) * sizes[:, None] + boxes[:, None, :2] - 1
    boxes = _moved(boxes, moves)
    kept = _uncovered(boxes, scores)
    areas = np.prod(boxes[kept, 2:] - boxes[kept, :2], axis=1)
    kept = kept[np.argsort(areas)[::-1]]
    return boxes[kept], scores[kept], np.ascontiguousarray(landmarks[kept])


def run_network(network: Any, pictures: Sequence[Frame | FloatImage]) -> tuple[Floats, ...]:
    """Calls one of the networks with pictures of one size, RGB (H, W, 3), 0 to 255."""
    import torch

    # NHWC [0, 255] -> NCHW float [-1, 1], stored channels last
    inputs = torch.from_numpy(np.stack(pictures)).to(next(network.parameters()).device)
    with torch.inference_mode():
        outputs = network(inputs.permute(0, 3, 1, 2).float().sub_(127.5).mul_(1 / 128))
    return tuple(output.cpu().numpy() for output in outputs)


def _proposed(detector: MTCNN, picture: Frame, sides_px: tuple[float, float]) -> Boxes:
    """What the first network proposes: float32 (N, 4), not yet squares."""
    found = [np.zeros((0, 9), np.float32)]
    for scale, level in _pyramid(picture, _scales(detector, picture, sides_px)):
        moves, scores = run_network(detector.pnet, [level])
        rows, columns = np.nonzero(scores[0, 1] >= detector.thresholds[0])
        corners = STRIDE_PX * np.stack([columns, rows], axis=1).astype(np.float32)
        ends = np.floor((corners + PROPOSAL_PX) / np.float32(scale))
        proposals = [np.floor((corners + 1) / np.float32(scale)), ends, scores[0, 1, rows, columns, None]]
        one = np.concatenate([*proposals, moves[0][:, rows, columns].T], axis=1)
        found.append(one[_suppressed(one[:, :4], one[:, 4], OVERLAPS[0])])
    every = np.concatenate(found)
    every = every[_suppressed(every[:, :4], every[:, 4], OVERLAPS[1])]
    sizes = every[:, 2:4] - every[:, :2]
    return np.asarray(every[:, :4] + every[:, 5:] * np.tile(sizes, 2), np.float32)


def _scales(detector: MTCNN, picture: Frame, sides_px: tuple[float, float]) -> list[float]:
    """Of the pictures in which faces of such sides are about as large as the squares that the first network judges."""
    shorter, scale, scales = min(picture.shape[:2]), PROPOSAL_PX / detector.min_face_size, []
    while shorter >= PROPOSAL_PX and shorter * scale >= PROPOSAL_PX:
        if sides_px[0] / LEVEL_REACH <= PROPOSAL_PX / scale <= sides_px[1] * LEVEL_REACH:
            scales.append(scale)
        scale *= detector.factor
    return scales


def _pyramid(picture: Frame, scales: Sequence[float]) -> Iterator[tuple[float, FloatImage]]:
    """The picture at each scale, 0 to 255: means of whole pixels, as torch averages adaptively."""
    if not scales:
        return
    sums = cv2.integral(picture)
    for scale in scales:
        (y0, y1), (x0, x1) = (_windows(side, int(side * scale + 1)) for side in picture.shape[:2])
        strips = sums[y1] - sums[y0]
        counts = np.outer(y1 - y0, x1 - x0)[..., None]
        yield scale, ((strips[:, x1] - strips[:, x0]) / counts).astype(np.float32)


def _windows(num_pixels: int, num_means: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Begin and end of what goes into each mean; neighbours may share a pixel."""
    steps = np.arange(num_means + 1) * num_pixels
    return steps[:-1] // num_means, -(-steps[1:] // num_means)


def _crops(picture: Frame, boxes: Boxes, side_px: int) -> tuple[Boxes, list[Frame]]:
    """Those of the boxes that lie in the picture, and what they show, scaled to squares."""
    height, width = picture.shape[:2]
    corners = np.trunc(boxes).astype(int)
    starts = np.maximum(corners[:, :2], 1) - 1
    ends = np.minimum(corners[:, 2:], (width, height))
    is_inside = (ends > starts).all(axis=1)
    crops = [
        scaled_area(picture[y0:y1, x0:x1], side_px)
        for (x0, y0), (x1, y1) in zip(starts[is_inside].tolist(), ends[is_inside].tolist(), strict=True)
    ]
    return boxes[is_inside], crops


def scaled_area(picture: Frame, side_px: int) -> Frame:
    """A picture scaled to a square by the mean over areas; a smaller one repeats its pixels."""
    if min(picture.shape[:2]) < side_px:
        rows, columns = (np.arange(side_px) * size // side_px for size in picture.shape[:2])
        larger = picture[rows] if picture.shape[0] < side_px else picture
        picture = larger[:, columns] if picture.shape[1] < side_px else larger
    return np.asarray(cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)


def _suppressed(boxes: Boxes, scores: Floats, overlap: float) -> NDArray[np.int64]:
    """Numbers of the boxes that no likelier one overlaps by more, the likeliest first."""
    import torch
    from torchvision.ops import nms

    if len(boxes) < 2:
        return np.arange(len(boxes))
    values: Tensor = nms(torch.from_numpy(np.ascontiguousarray(boxes)), torch.from_numpy(scores.copy()), overlap)
    return np.asarray(values.numpy())


def _uncovered(boxes: Boxes, scores: Floats) -> NDArray[np.int64]:
    """Numbers of the boxes of which no likelier one covers, or is covered by, more than the larger of OVERLAPS."""
    kept: list[int] = []
    areas = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1)
    for at in np.argsort(scores)[::-1].tolist():
        sizes = np.minimum(boxes[kept, 2:], boxes[at, 2:]) - np.maximum(boxes[kept, :2], boxes[at, :2]) + 1
        common = np.prod(np.maximum(sizes, 0), axis=1)
        if (common <= OVERLAPS[1] * np.minimum(areas[kept], areas[at])).all():
            kept.append(at)
    return np.array(kept, np.int64)


def _moved(boxes: Boxes, moves: Floats) -> Boxes:
    """Boxes moved by shares of their sizes (N, 4)."""
    return np.asarray(boxes + moves * np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2), np.float32)


def _square(boxes: Boxes) -> Boxes:
    """Squares around the middles of boxes, as long as their longer sides."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    sides = sizes.max(axis=1, keepdims=True)
    corners = boxes[:, :2] + sizes * 0.5 - sides * 0.5
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
