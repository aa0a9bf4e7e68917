"""Closing the eyes of a crop with its own skin, and opening them wider.

No motion field closes an eye: the lid is not seen while the eye is open. It is unrolled from the skin between the
eye's edge and the brow, which keeps the person's texture, light and lashes; what it covers is left as it is. An eye
opens wider by what is seen of it, stretched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from generation.arrays import Floats, Frame
from generation.motion.fields import sample_at, sample_sharp

# In distances between the eyes.
_HALF_WIDTH = 0.30
_NEAREST_REACH, _FARTHEST_REACH = 0.06, 0.26
_ABOVE_LASHES = 0.015  # lid's skin begins this far above the eye's edge
_LASH_WIDTHS = 0.012, 0.030  # of sharp pictures and of blurred ones
_USUAL_UPPER, _USUAL_LOWER = 0.085, 0.065
_EDGE_PX = 0.8  # softness of the lid's edge
_FULLNESS = 0.8  # of the arches of the edges; a parabola has 1
_STRETCH = 1.25  # 1 would stretch the lid evenly and kink the skin above; more spares the skin, less the lid
_BULGE_LIGHT, _LASH_SHARE = 0.40, 0.8
SMALLEST_CLOSURE = 0.02  # that is drawn
BOX_STEP_PX = 4
_MEETING = 0.12  # how far above the lower lid the closed lids meet, as a share of the opening


@dataclass(frozen=True)
class Eye:
    """An open eye: between two parabolas through its corners.

    Attributes:
        centre: float32 (2,), the middle between the corners, as shares of the crop's side.
        along: float32 (2,), unit vector from the left corner to the right one.
        half_width: between centre and corner, as a share of the side.
        upper, lower: heights of the edges above and below the line through the corners, as shares of the side.
        reach: how far above the upper edge there is only skin, up to the brow or a rim of glasses, as a share.
        gap: distance between the two eyes, as a share of the side.
        lash_width: how soft its upper edge is, as a share of the side.
        lash_darkness: of lashes and iris against the lid's skin, 0 to 1.
    """

    centre: Floats
    along: Floats
    half_width: float
    upper: float
    lower: float
    reach: float
    gap: float
    lash_width: float
    lash_darkness: float

    def local(self, places: Floats) -> tuple[Floats, Floats]:
        """Places (..., 2) along the eye (-1 and 1 are the corners) and below its axis (shares of the side)."""
        offset = places - self.centre
        across = offset[..., 1] * self.along[0] - offset[..., 0] * self.along[1]
        return np.asarray(offset @ self.along / self.half_width, np.float32), np.asarray(across, np.float32)

    @property
    def box(self) -> Floats:
        """Upper left and lower right corner of what a falling lid can change: float32 (2, 2), shares of the side."""
        sideways = 1.05 * self.half_width
        up, down = self.reach + self.upper + 0.02 * self.gap, self.lower + 0.1 * self.gap
        return self.centre + np.array([[-sideways, -up], [sideways, down]], np.float32)


@dataclass(frozen=True)
class Eyes:
    """Both eyes of a crop, from left to right."""

    left: Eye
    right: Eye

    @classmethod
    def find(cls, crop: Frame, landmarks: Floats) -> Self:
        """Finds the edges of both open eyes.

        Args:
            crop: RGB uint8 (S, S, 3).
            landmarks: float32 (5, 2) as shares of the side.
        """
        across = landmarks[1] - landmarks[0]
        gap = float(np.linalg.norm(across))
        along = np.asarray(across / gap, np.float32)
        grey = cv2.GaussianBlur(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (0, 0), 1.2 * len(crop) / 320)
        return cls(*(_find_eye(grey.astype(np.float32), eye, along, gap) for eye in landmarks[:2]))


def _find_eye(grey: Floats, middle: Floats, along: Floats, gap: float) -> Eye:
    """Lids are where lightness changes fastest above and below the eye's middle third."""
    down = np.array([-along[1], along[0]], np.float32)
    heights = np.arange(-0.40, 0.20, 0.004, dtype=np.float32)
    sideways = np.linspace(-0.09, 0.09, 9, dtype=np.float32)
    places = middle + gap * (sideways[None, :, None] * along + heights[:, None, None] * down)
    at = np.asarray(places * len(grey) - 0.5, np.float32)
    patch = cv2.remap(grey, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    profile = np.median(patch, 1)
    slope = np.gradient(profile)
    # The landmark may be off: the dark of iris and lashes says where the eye is.
    dark = np.maximum(np.quantile(profile[heights > -0.2], 0.6) - profile, 0) * np.exp(-0.5 * (heights / 0.07) ** 2)
    level = float((heights * dark).sum() / dark.sum()) if dark.sum() > 0 else 0.0
    upper = _edge(heights - level, -slope, -_USUAL_UPPER)
    lower = _edge(heights - level, slope, _USUAL_LOWER)
    # The corners lie a little below the middle between the edges.
    corner = level + 0.35 * upper + 0.65 * lower
    centre = np.asarray(middle + gap * corner * down, np.float32)
    reach = _skin_above(heights - level - upper, profile)
    return Eye(
        centre,
        along,
        _HALF_WIDTH * gap,
        (corner - level - upper) * gap,
        (lower + level - corner) * gap,
        reach * gap,
        gap,
        *_lashes(heights - level, profile, upper, lower, gap),
    )


def _lashes(heights: Floats, profile: Floats, upper: float, lower: float, gap: float) -> tuple[float, float]:
    """Softness of the upper edge, a share of the side, and how dark the eye is below it."""
    lid = float(profile[(heights < upper) & (heights > upper - 0.06)].max())
    dark = float(profile[(heights > upper) & (heights < lower)].min())
    slope = float(-np.gradient(profile, heights)[np.abs(heights - upper) < 0.03].min())
    width = np.clip((lid - dark) / max(slope, 1e-3) / np.sqrt(2 * np.pi), *_LASH_WIDTHS)
    return float(width * gap), float(np.clip(1 - dark / max(lid, 1.0), 0, 1))


def _skin_above(heights: Floats, profile: Floats) -> float:
    """From the eye's edge up to where it becomes dark again; in distances between the eyes."""
    lid = profile[(heights < -0.03) & (heights > -_NEAREST_REACH - 0.03)]
    above = (heights < -_NEAREST_REACH) & (heights > -_FARTHEST_REACH)
    dark = heights[above & (profile < 0.80 * np.max(lid))]
    return float(-dark.max()) - 0.01 if len(dark) else _FARTHEST_REACH


def _edge(heights: Floats, slope: Floats, usual: float) -> float:
    """The place of the steepest change on one side, held towards the usual one."""
    nearness = np.exp(-0.5 * ((heights - usual) / 0.03) ** 2) * (np.sign(heights) == np.sign(usual))
    weight = np.maximum(slope, 0) * nearness
    best = float(weight.max())
    if best < 0.3:
        return usual
    sharp = weight**4
    return float((heights * sharp).sum() / sharp.sum())


@dataclass(frozen=True)
class Lid:
    """A falling lid, for the pixels of a box.

    Attributes:
        places: float32 (H, W, 2), where its skin comes from, shares of the crop's side.
        weight: float32 (H, W), 1 where there is lid.
        lashes: float32 (H, W), share of the light that its dark edge takes.
        bulge: float32 (H, W), how much of the eyeball is under it, and so how little of the socket's shade.
    """

    places: Floats
    weight: Floats
    lashes: Floats
    bulge: Floats


def lid_of(eye: Eye, places: Floats, closure: float, side_px: int) -> Lid:
    """Unrolls a lid.

    Args:
        eye: of the crop that is sampled.
        places: float32 (H, W, 2), where each pixel lies in that crop while the eye is open; shares of the side.
        closure: 0 as it is, 1 shut.
        side_px: of the crop, for the softness of the edge.
    """
    along, below = eye.local(places)
    arch = np.maximum(1 - np.square(along), 0) ** _FULLNESS
    upper, lower = -eye.upper * arch, eye.lower * arch
    shut = lower - _MEETING * (lower - upper)
    drop = closure * (shut - upper)
    edge, began = upper + drop, min(6 * closure, 1.0)
    skin = upper - began * _ABOVE_LASHES * eye.gap * np.minimum(4 * arch, 1)
    top = upper - eye.reach * (0.35 + 0.65 * arch)
    share = np.clip((below - top) / np.maximum(edge - top, 1e-4), 0, 1)
    risen = (edge - skin) * share**_STRETCH
    down = np.array([-eye.along[1], eye.along[0]], np.float32)
    weight = 1 / (1 + np.exp(np.clip((below - edge) * side_px / _EDGE_PX * 2, -30, 30)))
    lashes = np.exp(-0.5 * np.square((below - edge) / eye.lash_width)) * np.minimum(2 * arch, 1)
    lashes *= min(2 * closure, 1.0) * _LASH_SHARE * eye.lash_darkness
    bulge = closure * arch * np.clip((below - upper) / np.maximum(lower - upper, 1e-4) + 0.4, 0, 1)
    return Lid(*(np.asarray(part, np.float32) for part in (places - risen[..., None] * down, weight, lashes, bulge)))


def raised(eye: Eye, places: Floats, rise: float) -> Floats:
    """Where the pixels of an eye that opens wider come from: stretched up from the lower lid, the skin above pressed.

    Args:
        eye: of the crop that is sampled.
        places: float32 (H, W, 2), where each pixel lies in that crop as it is; shares of the side.
        rise: of the upper lid, as a share of the opening.
    """
    along, below = eye.local(places)
    arch = np.maximum(1 - np.square(along), 0) ** _FULLNESS
    upper, lower = -eye.upper * arch, eye.lower * arch
    risen = np.minimum(rise * (lower - upper), 0.5 * eye.reach * arch)
    # Heights above the lower lid: of the lid's edge then and now, and of the place from which on nothing moves.
    height, edge = lower - below, lower - upper
    still = edge + eye.reach * arch
    inside = height * edge / np.maximum(edge + risen, 1e-6)
    above = still - (still - height) * (still - edge) / np.maximum(still - edge - risen, 1e-6)
    came = np.where(height < edge + risen, inside, above)
    came = np.where((height <= 0) | (height >= still), height, came)
    down = np.array([-eye.along[1], eye.along[0]], np.float32)
    return np.asarray(places + (height - came)[..., None] * down, np.float32)


def close_eyes(result: Frame, crop: Frame, eyes: Eyes, places: Floats, closures: Floats) -> None:
    """Lets the lids of a warped crop fall, in place.

    Args:
        result: RGB uint8 (S, S, 3), the crop as seen at `places`.
        crop: RGB uint8 (S, S, 3), of which `eyes` are.
        eyes: open.
        places: float32 (S, S, 2), where each pixel of the result lies in the crop; shares of the side.
        closures: (2,), 0 as they are, 1 shut.
    """
    for eye, closure in zip((eyes.left, eyes.right), closures, strict=True):
        thin = places[::BOX_STEP_PX, ::BOX_STEP_PX]
        rows, columns = np.nonzero(((thin >= eye.box[0]) & (thin <= eye.box[1])).all(-1))
        if closure < SMALLEST_CLOSURE or not len(rows):
            continue
        box = tuple(
            slice(max(int(found.min()) - 1, 0) * BOX_STEP_PX, (int(found.max()) + 2) * BOX_STEP_PX)
            for found in (rows, columns)
        )
        result[box] = draw_lid(crop, result[box], eye, lid_of(eye, places[box], float(closure), len(crop)))


def draw_lid(crop: Frame, box: Frame, eye: Eye, lid: Lid) -> Frame:
    """Lays a lid over the pixels of a box.

    Args:
        crop: RGB uint8 (S, S, 3), which the lid's skin is taken from.
        box: RGB uint8 (H, W, 3), with the eye open.
        eye: of the crop.
        lid: from `lid_of`, for the pixels of the box.

    Returns:
        RGB uint8 (H, W, 3).
    """
    skin = sample_sharp(crop, lid.places * len(crop) - np.float32(0.5)).astype(np.float32)
    down = np.array([-eye.along[1], eye.along[0]], np.float32)
    beneath = eye.centre + (eye.lower + 0.09 * eye.gap) * down + np.linspace(-0.08, 0.08, 5)[:, None] * eye.along
    usual = np.median(sample_at(crop.astype(np.float32), np.asarray(beneath, np.float32)), 0)
    skin += (_BULGE_LIGHT * lid.bulge * lid.weight)[..., None] * (usual - skin)
    under = box.astype(np.float32)
    mixed = under + lid.weight[..., None] * (skin - under)
    mixed *= (1 - lid.lashes)[..., None]
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)
