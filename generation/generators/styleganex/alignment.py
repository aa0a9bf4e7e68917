"""How StyleGANEX frames a face: the crop around the eyes that it edits, and the aligned face that gives its style.

Both rules are those of the published program, from the middles of the eyes and the corners of the mouth, which the
five landmarks of this project give directly. The alignment is that of FFHQ (Karras et al. 2019, "A Style-Based
Generator Architecture for Generative Adversarial Networks", appendix).

Points are (x, y) in px, counted as the landmarks are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from generation.arrays import Floats, Frame

EYES_PX = 64  # between the eyes of a crop
REACH_PX = 256  # of the crop, on every side of the eyes' middle
CROP_MULTIPLE = 8
ALIGNED_PX = 256

Points = NDArray[np.float64]


@dataclass(frozen=True)
class FacePoints:
    """The points that the rules use: float64 (2,) each, left and right in the picture."""

    left_eye: Points
    right_eye: Points
    left_mouth: Points
    right_mouth: Points

    def moved(self, scale: float, shift: ArrayLike) -> FacePoints:
        """The points in a picture that was scaled and then cut: scale x point - shift."""
        points = (self.left_eye, self.right_eye, self.left_mouth, self.right_mouth)
        return FacePoints(*(scale * one - np.asarray(shift, np.float64) for one in points))


@dataclass(frozen=True)
class EyeCrop:
    """The crop: the frame resized to (height_px, width_px) and cut to rows top:bottom, columns left:right."""

    height_px: int
    width_px: int
    top: int
    bottom: int
    left: int
    right: int
    scale: float

    def cut(self, frame: Frame) -> Frame:
        """RGB uint8 (H, W, 3) -> the crop."""
        resized = cv2.resize(frame, (self.width_px, self.height_px), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized[self.top : self.bottom, self.left : self.right], np.uint8)


@dataclass(frozen=True)
class AlignedFace:
    """The aligned face.

    Attributes:
        image: RGB uint8 (ALIGNED_PX, ALIGNED_PX, 3).
        quad: float64 (4, 2), corners in the picture that is warped: upper left, lower left, lower right, upper right.
        size_before: width and height of that picture.
    """

    image: Frame
    quad: Points
    size_before: tuple[int, int]


def of_five_landmarks(landmarks: Floats) -> FacePoints:
    """From eyes, nose tip and mouth corners, (5, 2)."""
    left_eye, right_eye, _, left_mouth, right_mouth = np.asarray(landmarks, np.float64)
    return FacePoints(left_eye, right_eye, left_mouth, right_mouth)


def eye_crop(face: FacePoints, height: int, width: int) -> EyeCrop:
    """The crop of a frame of this size: eyes 64 px apart, at most 256 px to every side, multiples of 8."""
    scale = EYES_PX / float(face.right_eye[0] - face.left_eye[0])
    column, row = scale * (face.left_eye + face.right_eye) / 2
    new_height, new_width = round(scale * height), round(scale * width)
    top, bottom = _span(float(row), new_height)
    left, right = _span(float(column), new_width)
    return EyeCrop(new_height, new_width, top, bottom, left, right, scale)


def _span(middle: float, length: int) -> tuple[int, int]:
    low, high = max(round(middle - REACH_PX), 0), min(round(middle + REACH_PX), length)
    return low // CROP_MULTIPLE * CROP_MULTIPLE, high // CROP_MULTIPLE * CROP_MULTIPLE


def align_face(image: Frame, face: FacePoints, side_px: int = ALIGNED_PX) -> AlignedFace:
    """Cuts the face out upright; beyond the picture's border it goes on as a blurred mirror image of it.

    Args:
        image: RGB uint8 (H, W, 3).
        face: points in it.
        side_px: of the result.
    """
    work = _Work(image, *_quad(face))
    for step in (_shrunk, _cropped, _padded):
        work = step(work, side_px)
    height, width = work.image.shape[:2]
    corners = tuple((work.quad + 0.5).ravel().tolist())
    # HWC uint8, read by PIL
    warped = Image.fromarray(work.image).transform(
        (side_px, side_px), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR
    )
    return AlignedFace(np.asarray(warped, np.uint8), work.quad, (width, height))


@dataclass(frozen=True)
class _Work:
    """A picture and the quad that is to be cut out of it, whose sides are `side` px."""

    image: Frame
    quad: Points
    side: float


def _quad(face: FacePoints) -> tuple[Points, float]:
    eyes = (face.left_eye + face.right_eye) / 2
    across = face.right_eye - face.left_eye
    down = (face.left_mouth + face.right_mouth) / 2 - eyes
    x = across - np.array([-down[1], down[0]])
    x *= max(2 * np.hypot(*across), 1.8 * np.hypot(*down)) / np.hypot(*x)
    y = np.array([-x[1], x[0]])
    centre = eyes + 0.1 * down
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y]), 2 * float(np.hypot(*x))


def _shrunk(work: _Work, side_px: int) -> _Work:
    times = int(np.floor(work.side / side_px * 0.5))
    if times <= 1:
        return work
    height, width = work.image.shape[:2]
    size = round(width / times), round(height / times)
    small = Image.fromarray(work.image).resize(size, Image.Resampling.LANCZOS)
    return _Work(np.asarray(small, np.uint8), work.quad / times, work.side / times)


def _border(work: _Work) -> int:
    return max(int(np.rint(work.side * 0.1)), 3)


def _cropped(work: _Work, _: int) -> _Work:
    border, (height, width) = _border(work), work.image.shape[:2]
    low = np.maximum(np.floor(work.quad.min(0)).astype(int) - border, 0)
    high = np.minimum(np.ceil(work.quad.max(0)).astype(int) + border, [width, height])
    if high[0] - low[0] >= width and high[1] - low[1] >= height:
        return work
    return replace(work, image=work.image[low[1] : high[1], low[0] : high[0]], quad=work.quad - low)


def _padded(work: _Work, _: int) -> _Work:
    border, (height, width) = _border(work), work.image.shape[:2]
    before = np.maximum(-np.floor(work.quad.min(0)).astype(int) + border, 0)
    after = np.maximum(np.ceil(work.quad.max(0)).astype(int) - [width, height] + border, 0)
    if max(*before, *after) <= border - 4:
        return work
    before, after = (np.maximum(part, int(np.rint(work.side * 0.3))) for part in (before, after))
    widths = ((before[1], after[1]), (before[0], after[0]), (0, 0))
    image = np.pad(np.asarray(work.image, np.float32), widths, "reflect")
    ramp = np.maximum(_beyond(len(image), before[1], after[1])[:, None], _beyond(image.shape[1], before[0], after[0]))
    ramp = ramp[..., None]
    sigma = work.side * 0.02
    image += (gaussian_filter(image, [sigma, sigma, 0]) - image) * np.clip(3 * ramp + 1, 0, 1)
    image += (np.median(image, axis=(0, 1)) - image) * np.clip(ramp, 0, 1)
    levels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return replace(work, image=levels, quad=work.quad + before)


def _beyond(length: int, before: int, after: int) -> Floats:
    """1 at either end of a padded line, 0 where the padding ends, less inside."""
    steps = np.arange(length, dtype=np.float32)
    return np.asarray(1 - np.minimum(steps / np.float32(before), (length - 1 - steps) / np.float32(after)), np.float32)
