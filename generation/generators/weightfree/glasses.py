"""The frame of the glasses that a person is known to wear: found in a clip, laid over a new face, or taken off.

That there are glasses is stated, not guessed: lashes, brows and folds are thin lines too. Known to be there, rims are
the lines that go around both eyes alike, the bridge and the arms those that go on from them. They are looked for in the
median of many frames, and then in each frame near where the face's motion carries them.

A frame is laid as a difference from what is beside it, not with the skin around it; the darker or lighter it is than
that, the less of the new face shows through.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import FloatImage, Floats, Frame, Landmarks
from generation.crops.align import aligned_crops, similarity, smooth_landmarks, transform
from generation.crops.blending import enlarge, eye_areas, per_channel
from generation.crops.clip import FaceClip
from generation.crops.templates import TEMPLATE
from generation.generators.weightfree.openings import haste
from generation.motion.expression import MotionMeter, Neutral, small_grey
from generation.motion.fields import GRID, pixels, sample, sample_sharp, to_grid
from generation.motion.measure import seen_frames
from generation.motion.rigid import smooth_inside
from generation.smoothing import smoothstep

MOST_FRAMES = 16  # of which the median is taken
NEAREST_SHARE, HASTE_COST = 0.3, 0.3  # of the frames, those most like the neutral one; quick ones are blurred
# Of the crop's side: what is narrower is a line; that of thick frames is that much more distinct with the second.
LINE_WIDTHS, THICK_GAIN, THICK_CONTRAST = (0.028, 0.053), 1.5, 0.12
AREA_WIDTHS = 0.022, 0.056  # of the crop's side: within which lines belong to the frame, for each of those
REACH = 0.030  # of the crop's side, by which a frame may lie beside where the face's motion carries it
NUM_ANGLES = 96
NUM_ROUNDS = 2
# Rims, in distances between the eyes: where they lie at most; of the superellipses that are tried their middle,
# outwards and down from the eye, half axes and exponent; how far a rim may differ from one.
AROUND, TOWARDS_NOSE = (0.80, 0.42, 0.75), 0.47
RIM_SHAPES = (
    np.arange(-0.03, 0.16, 0.03),
    np.arange(-0.06, 0.19, 0.03),
    np.arange(0.29, 0.57, 0.03),
    np.arange(0.20, 0.54, 0.03),
    (2.0, 3.0, 5.0),
)
USUAL_HEIGHT, HIGH_COST = 0.28, 3.0  # above the eye
RIM_REACH, RIM_STEPS, RIM_SPREAD = 0.08, 12, 0.012
USUAL_CONTRAST, SMALLEST_CONTRAST = 0.04, 0.001
BRIDGE_ROWS, ARM_ROWS, ARMS_END = (-0.30, 0.20), (-0.35, 0.15), 1.15
ARM_SHARES = 0.3, 0.6  # of the rims' contrast, from where a line beside them counts as an arm
RIM_BEND, ACROSS_BEND = 0.06, 0.06  # cost of a step aside; a line that is as distinct as the rims lowers it by 0.5
FAINT = 0.10  # of white: lines that differ as much from what is beside them hide the face behind
LARGEST_CONTRAST = 0.3  # more makes no line more likely
ERASED = 0.35  # of the frame's contrast, from where a pixel is taken off wholly
_ANGLES = np.linspace(0, 2 * np.pi, NUM_ANGLES, endpoint=False, dtype=np.float32)
_DIRECTIONS: Floats = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], -1)  # from the temple down and around


@dataclass(frozen=True)
class Glasses:
    """Where the frame of a person's glasses lies in the neutral crop, and how distinct it is.

    Attributes:
        area: float32 (S, S), 1 on the frame and a little beside, soft.
        lines: float32 (S, S), how much each pixel there differs from what is beside it; 0 elsewhere.
        line_px: the frame is narrower; odd.
        contrast: the rims' usual difference, 0 to 1.
    """

    area: Floats
    lines: Floats
    line_px: int
    contrast: float

    @classmethod
    def find(cls, clip: FaceClip, neutral: Neutral, crop_px: int) -> Self:
        """Reads the clip once more, up to the last frame that is used.

        Raises:
            VideoError: the clip cannot be read.
        """
        usual = _usual_crop(clip, neutral, crop_px)
        thin, thick = (_odd(width * crop_px) for width in LINE_WIDTHS)
        paths, contrast = _find_paths(line_contrast(usual, thin), neutral.landmarks)
        line_px, width = thin, AREA_WIDTHS[0]
        broad, distinct = _find_paths(line_contrast(usual, thick), neutral.landmarks)
        if distinct > max(THICK_GAIN * contrast, THICK_CONTRAST):
            paths, contrast, line_px, width = broad, distinct, thick, AREA_WIDTHS[1]
        area = np.zeros((crop_px, crop_px), np.float32)
        for path, share in paths:
            drawn = np.zeros((crop_px, crop_px), np.uint8)
            points = np.rint(path * 16).astype(np.int32)
            cv2.polylines(drawn, [points], False, 255, round(width * crop_px), cv2.LINE_AA, shift=4)
            # uint8 [0, 255] -> float32 [0, 1]
            area = np.maximum(area, np.float32(share / 255) * drawn)
        area = np.asarray(cv2.GaussianBlur(area, (0, 0), 0.004 * crop_px), np.float32)
        area *= 1 - enlarge(eye_areas(neutral.landmarks), crop_px)
        return cls(area, area * line_contrast(usual, line_px), line_px, contrast)

    def lay(self, face: FloatImage, crop: Frame, motion: Floats) -> FloatImage:
        """The frame in a crop of its person, laid over a new face in the same place and light.

        Args:
            face: RGB float32 [0, 1] (S, S, 3).
            crop: RGB uint8 (S, S, 3).
            motion: float32 (GRID_PX, GRID_PX, 2), to where each point of the crop is in the neutral crop.
        """
        area, bare, share = self._matte(crop, motion)
        # uint8 [0, 255] -> float32 [0, 1]
        seen = crop.astype(np.float32) / 255
        return np.asarray(face + per_channel(area) * (seen - bare + per_channel(share) * (bare - face)), np.float32)

    def take_off(self, crop: Frame, motion: Floats) -> Frame:
        """A crop of its person without the frame, filled from what is beside it; arguments as those of `lay`."""
        area, bare, _ = self._matte(crop, motion)
        # uint8 [0, 255] -> float32 [0, 1]
        seen: FloatImage = crop.astype(np.float32) / np.float32(255)
        differs = np.abs(seen - bare).max(2)
        hidden = np.minimum(2 * area, 1) * smoothstep(0.3, 1.0, differs / (ERASED * self.contrast))
        hidden = np.asarray(cv2.dilate(np.asarray(hidden, np.float32), np.ones((5, 5), np.uint8)), np.float32)
        filled = smooth_inside(seen, 1 - hidden, self.line_px / 4)
        soft = np.asarray(cv2.GaussianBlur(hidden, (0, 0), 0.8), np.float32)
        result = seen + per_channel(soft) * (filled - seen)
        # float32 [0, 1] -> uint8
        return np.clip(np.rint(result * 255), 0, 255).astype(np.uint8)

    def _matte(self, crop: Frame, motion: Floats) -> tuple[Floats, FloatImage, Floats]:
        """Where a crop shows the frame (S, S), the crop without lines, and how much of the frame covers each pixel."""
        bare = without_lines(crop, self.line_px)
        side = len(crop)
        places = enlarge(np.asarray(GRID + motion, np.float32), side)
        area, lines = np.moveaxis(sample(np.dstack([self.area, self.lines]), places), -1, 0)
        contrast = line_contrast(crop, self.line_px)
        x, y = _shift(lines, contrast, round(REACH * side))
        area = cv2.warpAffine(area, np.array([[1, 0, x], [0, 1, y]], np.float32), (side, side))
        disc = _disc(self.line_px)
        near = cv2.GaussianBlur(cv2.dilate(area * contrast, disc), (0, 0), self.line_px / 4)
        share = np.clip(contrast / np.maximum(near, FAINT), 0, 1)
        return np.asarray(area, np.float32), bare, np.asarray(share, np.float32)


def without_lines(crop: Frame, line_px: int) -> FloatImage:
    """A crop whose thin lines, dark or light, have the colour of what is beside them: RGB float32 [0, 1] (S, S, 3).

    Args:
        crop: RGB uint8 (S, S, 3).
        line_px: what is narrower is a line; odd.
    """
    # uint8 [0, 255] -> float32 [0, 1]
    seen = crop.astype(np.float32) / 255
    disc = _disc(line_px)
    # Closing differs from the crop in dark lines, opening in light ones.
    closed, opened = (cv2.morphologyEx(seen, how, disc) for how in (cv2.MORPH_CLOSE, cv2.MORPH_OPEN))
    return np.asarray(closed + opened - seen, np.float32)


def line_contrast(crop: Frame, line_px: int) -> Floats:
    """How much each pixel's line differs from what is beside it, in its most different colour: float32 (S, S)."""
    seen = cv2.GaussianBlur(crop, (0, 0), 0.8)
    # uint8 [0, 255] -> float32 [0, 1]
    differs = np.abs(seen.astype(np.float32) / 255 - without_lines(np.asarray(seen, np.uint8), line_px)).max(2)
    return np.asarray(cv2.GaussianBlur(np.minimum(differs, LARGEST_CONTRAST), (0, 0), 1.0), np.float32)


def _odd(width: float) -> int:
    return 2 * round(width / 2) + 1


def _disc(line_px: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (line_px, line_px)), np.uint8)


def _usual_crop(clip: FaceClip, neutral: Neutral, crop_px: int) -> Frame:
    """The median of frames that are most like the neutral crop, brought into its shape: RGB uint8 (S, S, 3)."""
    smoothed = smooth_landmarks(clip.landmarks)
    points = np.stack([transform(similarity(own, TEMPLATE), own) for own in smoothed])
    unlike = np.abs(points - neutral.landmarks).mean((1, 2)) + HASTE_COST * haste(clip)
    seen = seen_frames(clip)
    nearest = seen[np.argsort(unlike[seen], kind="stable")[: max(round(NEAREST_SHARE * len(seen)), MOST_FRAMES)]]
    first = int(nearest[0])
    nearest.sort()
    numbers = {first, *nearest[np.linspace(0, len(nearest) - 1, min(MOST_FRAMES, len(nearest))).astype(int)].tolist()}
    meter = MotionMeter(neutral)
    crops = []
    for crop, _ in aligned_crops(clip, numbers, crop_px):
        motion = enlarge(to_grid(meter.from_neutral(small_grey(crop))), crop_px)
        crops.append(sample_sharp(crop, motion * crop_px + pixels(crop_px)))
    # Glasses move a little against the face: all are brought to where they are in one frame, then in the median.
    usual = crops[sorted(numbers).index(first)]
    line_px, reach = _odd(LINE_WIDTHS[0] * crop_px), round(REACH * crop_px)
    around = _around_eyes(neutral.landmarks, crop_px)
    for _ in range(3):
        lines = around * line_contrast(usual, line_px)
        moved = []
        for crop in crops:
            x, y = _shift(lines, line_contrast(crop, line_px), reach)
            back = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
            moved.append(cv2.warpAffine(crop, back, (crop_px, crop_px), borderMode=cv2.BORDER_REPLICATE))
        usual = np.median(moved, 0).astype(np.uint8)
    return usual


def _around_eyes(landmarks: Landmarks, crop_px: int) -> Floats:
    """Where rims may lie: float32 (S, S)."""
    eyes, gap = landmarks[:2] * crop_px, float(landmarks[1, 0] - landmarks[0, 0]) * crop_px
    drawn = np.zeros((crop_px, crop_px), np.float32)
    left, right = int(eyes[0, 0] - AROUND[0] * gap), int(eyes[1, 0] + AROUND[0] * gap)
    top, bottom = (int(eyes[:, 1].mean() + share * gap) for share in (-AROUND[1], AROUND[2]))
    drawn[max(top, 0) : bottom, max(left, 0) : right] = 1
    return np.asarray(drawn * (1 - enlarge(eye_areas(landmarks), crop_px)), np.float32)


def _shift(lines: Floats, contrast: Floats, reach: int) -> tuple[int, int]:
    """By how many px, at most `reach`, the lines lie beside where they are expected: x and y."""
    inner = np.asarray(lines[reach:-reach, reach:-reach])
    left, top, width, height = cv2.boundingRect((inner > 0.1 * inner.max()).astype(np.uint8))
    if width < 2 or height < 2:
        return 0, 0
    around = contrast[top : top + height + 2 * reach, left : left + width + 2 * reach]
    part = np.ascontiguousarray(inner[top : top + height, left : left + width])
    fit = cv2.matchTemplate(np.ascontiguousarray(around), part, cv2.TM_CCOEFF)
    y, x = np.unravel_index(int(fit.argmax()), fit.shape)
    return int(x) - reach, int(y) - reach


def _find_paths(contrast: Floats, landmarks: Landmarks) -> tuple[list[tuple[Floats, float]], float]:
    """Lines of the frame, points (N, 2) in px, with 0 to 1 how surely each is one; and the rims' usual contrast."""
    side = len(contrast)
    eyes = landmarks[:2] * side
    gap, middle = float(eyes[1, 0] - eyes[0, 0]), eyes.mean(0)
    rims, level = _find_rims(contrast * _around_eyes(landmarks, side), eyes, gap)
    left, right = rims
    # The bridge begins beside the eyes, not where a rim comes nearest to the other farther down.
    inner = [rim[rim[:, 1] < middle[1] + BRIDGE_ROWS[1] * gap, 0] for rim in rims]
    columns = (
        (inner[0].max(), inner[1].min() + 1, BRIDGE_ROWS),
        (middle[0] - ARMS_END * gap, left[:, 0].min() + 1, ARM_ROWS),
        (right[:, 0].max(), middle[0] + ARMS_END * gap, ARM_ROWS),
    )
    paths = [(np.vstack([rim, rim[:1]]), 1.0) for rim in rims]
    for number, (begin, end, rows) in enumerate(columns):
        top, bottom = (int(np.clip(middle[1] + share * gap, 0, side - 1)) for share in rows)
        begin, end = (int(np.clip(column, 0, side)) for column in (begin, end))
        if end - begin < 2 or bottom - top < 2:
            continue
        part = contrast[top:bottom, begin:end].T
        path = _cheapest(_doubt(part, level), 1, ACROSS_BEND)
        there = float(np.median(part[np.arange(len(path)), path]))
        share = 1.0 if number == 0 else float(smoothstep(*ARM_SHARES, there / max(level, 1e-6)))
        paths.append((np.stack([np.arange(begin, end), path + top], 1).astype(np.float32), share))
    return paths, level


def _find_rims(contrast: Floats, eyes: Floats, gap: float) -> tuple[list[Floats], float]:
    """The line around each eye, (NUM_ANGLES, 2) px, and the median contrast along both.

    First the superellipse that fits both eyes best, in a mirror; then what each differs from it.
    """
    scale = np.array([[-gap, gap], [gap, gap]], np.float32)
    level = USUAL_CONTRAST
    steps = np.linspace(-RIM_REACH, RIM_REACH, 2 * RIM_STEPS + 1, dtype=np.float32)
    rims: list[Floats] = []
    for _ in range(NUM_ROUNDS):
        certain = np.asarray(1 - _doubt(contrast, level), np.float32)
        likely = np.asarray(cv2.GaussianBlur(certain, (0, 0), RIM_SPREAD * gap), np.float32)
        middles, radii, doubt = _superellipses()
        points = middles[:, None] + radii[:, ::2, None] * _DIRECTIONS[::2]
        fit = sum(_at(likely, points * side + eye).mean(-1) for side, eye in zip(scale, eyes, strict=True))
        best = int(np.argmax(fit - doubt))
        rims, along = [], []
        rays = (radii[best][:, None] + steps)[..., None] * _DIRECTIONS[:, None] + middles[best]
        for side, eye in zip(scale, eyes, strict=True):
            places = rays * side + eye
            found = _at(contrast, places)
            # Twice around, of which the middle is a closed line.
            half = NUM_ANGLES // 2
            path = _cheapest(np.tile(_doubt(found, level), (2, 1)), 2, RIM_BEND)[half : half + NUM_ANGLES]
            path = np.roll(path, half)
            rims.append(places[np.arange(NUM_ANGLES), path])
            along.append(found[np.arange(NUM_ANGLES), path])
        level = max(float(np.median(along)), SMALLEST_CONTRAST)
    return rims, level


@functools.cache
def _superellipses() -> tuple[Floats, Floats, Floats]:
    """Middles (N, 2) from the eye, to the temple and down, radii (N, NUM_ANGLES), both in distances between the eyes;
    and (N,) what speaks against each: brows are higher than rims."""
    grid = np.array(list(itertools.product(*RIM_SHAPES)), np.float32)
    middles, axes, power = grid[:, :2], grid[:, 2:4], grid[:, 4:]
    reach = np.abs(_DIRECTIONS) / axes[:, None]
    radii = (reach ** power[:, None]).sum(-1) ** (-1 / power)
    # Rims do not meet over the nose.
    is_apart = (middles[:, 0] - axes[:, 0]) > -TOWARDS_NOSE
    height = axes[:, 1] - middles[:, 1]
    doubt = HIGH_COST * np.maximum(height - USUAL_HEIGHT, 0)
    return middles[is_apart], np.asarray(radii[is_apart], np.float32), np.asarray(doubt[is_apart], np.float32)


def _at(image: Floats, points: Floats) -> Floats:
    """Values of an image (S, S) at points (..., 2), px."""
    columns, rows = (np.clip(np.rint(points[..., axis]).astype(np.intp), 0, len(image) - 1) for axis in (0, 1))
    return image[rows, columns]


def _doubt(contrast: Floats, level: float) -> NDArray[np.float64]:
    """0 where a line is much more distinct than a level, 0.5 where it is as distinct, 1 where there is none."""
    return np.asarray(level**2 / (np.square(contrast, dtype=np.float64) + level**2))


def _cheapest(cost: NDArray[np.float64], reach: int, bend: float) -> NDArray[np.intp]:
    """One column for each row of a cost (R, C), by dynamic programming: int (R,).

    Args:
        cost: of each column.
        reach: most columns from a row to the next.
        bend: cost of each of them.
    """
    steps = np.arange(-reach, reach + 1)
    total, came_from = cost[0], []
    for row in cost[1:]:
        padded = np.pad(total, reach, constant_values=np.inf)
        offered = np.lib.stride_tricks.sliding_window_view(padded, len(steps)) + bend * np.abs(steps)
        best = offered.argmin(1)
        came_from.append(np.arange(len(row)) + steps[best])
        total = offered.min(1) + row
    path = [int(total.argmin())]
    for before in came_from[::-1]:
        path.append(int(before[path[-1]]))
    return np.array(path[::-1], np.intp)
