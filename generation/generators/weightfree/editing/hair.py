"""Hair of another colour: lightness and hue move, strands and highlights stay.

Strands cover what is behind them only partly. So not the picture is recoloured but the hair in it: its colour is
guessed where it is thin, and the difference between new and old hair is added by its share of the pixel. Neither skin
nor background shines through in the new colour, and no halo of the old one is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from generation.arrays import Floats
from generation.crops.blending import per_channel
from generation.errors import GenerationError
from generation.head.analysis import from_lab

# CIE Lab of hair in usual light.
COLOURS: dict[str, tuple[float, float, float]] = {
    "auburn": (32.0, 25.0, 22.0),
    "copper": (43.0, 27.0, 34.0),
    "burgundy": (24.0, 28.0, 6.0),
    "blond": (60.0, 6.0, 30.0),
    "chestnut": (29.0, 12.0, 17.0),
    "black": (11.0, 1.0, -1.0),
}
GREY = (62.0, 0.0, 3.0)
BROWN = (20.0, 5.0, 7.0)
SMALLEST_DIFFERENCE = 24.0  # in CIE Lab, that a viewer sees at once
DARKEST = 8.0  # lightness below which there is more noise than hair
LARGEST_GAIN = 1.7  # of the strands' contrast
STRAND_PX = 3.0
THIN_PX = 9.0
STRAND_ROOM = 0.02  # of white, by which strands at the border still differ
STRAND_CONTRAST = 4.0  # lightness by which a strand stands out


def choose_colour(name: str, usual: Floats, seed: int) -> tuple[float, float, float]:
    """The colour of a name; "auto" takes one that differs clearly from the hair's own, by the seed.

    Args:
        name: one of `COLOURS`, or "auto".
        usual: the hair's own colour in CIE Lab.
        seed: draws among the colours that differ enough.

    Raises:
        GenerationError: there is no such colour.
    """
    if name in COLOURS:
        return COLOURS[name]
    if name != "auto":
        raise GenerationError(f"{name}: no such hair colour; use auto, {', '.join(COLOURS)}")
    distances = {one: float(np.linalg.norm(np.subtract(colour, usual))) for one, colour in COLOURS.items()}
    clear = [one for one, distance in distances.items() if distance >= SMALLEST_DIFFERENCE]
    chosen = clear[seed % len(clear)] if clear else max(distances, key=lambda one: distances[one])
    return COLOURS[chosen]


def hair_alone(lab: Floats, share: Floats, usual: Floats) -> Floats:
    """What the hair in each pixel looks like by itself: Lab float32 (H, W, 3).

    Deep inside it is the picture, at the border, where other things shine through, the colour of the hair near by.

    Args:
        lab: the picture, CIE Lab.
        share: float32 (H, W), of each pixel that is hair, 0 to 1.
        usual: CIE Lab where no hair is near.
    """
    deep = np.asarray(cv2.blur(cv2.erode(share, np.ones((5, 5), np.uint8)), (3, 3)), np.float32)
    inside = np.asarray(deep * deep * deep, np.float32)
    small = (max(lab.shape[1] // 4, 1), max(lab.shape[0] // 4, 1))
    parts = []
    for channel, mean in zip(cv2.split(lab), usual, strict=True):
        parts.append(_reduced(np.asarray(channel * inside, np.float32), small) + np.float32(1e-3 * mean))
    parts.append(_reduced(inside, small) + np.float32(1e-3))
    near = cv2.GaussianBlur(cv2.merge(parts), (0, 0), THIN_PX / 4)
    guess = cv2.resize(np.asarray(near[..., :3] / near[..., 3:], np.float32), lab.shape[1::-1])
    return np.asarray(guess + per_channel(inside) * (lab - guess), np.float32)


def _reduced(values: Floats, size: tuple[int, int]) -> Floats:
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)


def recolour(hair: Floats, usual: Floats, requested: Sequence[float]) -> Floats:
    """Hair of the requested colour: Lab float32 (S, S, 3).

    Lightness follows the curve x -> a x / (1 + (a - 1) x), which keeps black and white and takes the usual lightness
    to the requested one; strands keep their contrast, raised by the curve's slope within bounds. Highlights and deep
    shadow have little of the hue, as in real hair.

    Args:
        hair: CIE Lab, from `hair_alone`.
        usual: the hair's own colour.
        requested: the new one, both CIE Lab.
    """
    here = float(np.clip(usual[0], DARKEST, 92)) / 100
    goal = float(requested[0]) / 100
    odds = np.float32(goal * (1 - here) / (here * (1 - goal)))
    lightness, red, yellow = cv2.split(hair)
    base = np.clip(cv2.GaussianBlur(lightness, (0, 0), STRAND_PX), 0, 100)
    rise = 1 + (odds - 1) / 100 * base
    gain = np.clip(odds / (rise * rise), 0.7, LARGEST_GAIN)
    new = np.clip(odds * base / rise + gain * (lightness - base), 0, 100)
    saturation = np.sqrt(np.clip(new * (100 - new) / np.float32(1e4 * goal * (1 - goal)), 0, 1.3))
    # Strands differ in hue too, the less the paler the new colour is.
    kept = np.float32(0.4 * min(math.hypot(*requested[1:]) / max(math.hypot(*usual[1:]), 1.0), 1.0))
    hues = [
        saturation * np.float32(hue) + kept * (old - np.float32(mean))
        for old, mean, hue in zip((red, yellow), usual[1:], requested[1:], strict=True)
    ]
    return np.asarray(cv2.merge([new, *hues]), np.float32)


def exchanged(rgb: Floats, old: Floats, new: Floats, share: Floats) -> Floats:
    """What to add to a picture for new hair instead of old, float32 (H, W, 3).

    The difference counts by the hair's share, and no pixel leaves the range between itself and the new hair by more
    than STRAND_ROOM: where the share is guessed too high, no bright rim appears.

    Args:
        rgb: the picture, RGB float32 [0, 1].
        old, new: hair by itself, CIE Lab.
        share: float32 (H, W), of each pixel that is hair, 0 to 1.
    """
    goal = from_lab(new)
    shares = per_channel(share)
    requested = rgb + shares * (goal - from_lab(old))
    room = STRAND_ROOM * shares
    return np.asarray(np.clip(requested, np.minimum(rgb, goal) - room, np.maximum(rgb, goal) + room) - rgb, np.float32)


def greying(hair: Floats, amount: float) -> Floats:
    """How grey each strand is, float32 (H, W), 0 to 1: lighter strands first, which gives pepper and salt.

    Args:
        hair: CIE Lab, from `hair_alone`.
        amount: 0 none to 1 nearly all.
    """
    lightness = hair[..., 0]
    fine = lightness - cv2.GaussianBlur(lightness, (0, 0), STRAND_PX)
    strand = fine / (1 + np.abs(fine) / STRAND_CONTRAST) / STRAND_CONTRAST
    return np.asarray(np.clip(amount * (0.55 + 0.35 * amount + (0.30 - 0.15 * amount) * strand), 0, 1), np.float32)
