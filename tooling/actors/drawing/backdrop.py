"""Softly blurred interview rooms."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tooling.actors.person.identity import Actor

Painted = NDArray[np.float32]
BOOKS = np.array(
    [
        [0.30, 0.10, 0.07],
        [0.10, 0.16, 0.22],
        [0.36, 0.31, 0.22],
        [0.08, 0.14, 0.10],
        [0.44, 0.40, 0.34],
        [0.24, 0.17, 0.08],
    ]
)
# Linear light, at the top and the bottom of the picture.
WALLS = {
    "office": ((0.36, 0.37, 0.37), (0.24, 0.235, 0.225)),
    "bookshelf": ((0.20, 0.13, 0.085), (0.13, 0.085, 0.06)),
    "window": ((0.42, 0.46, 0.50), (0.30, 0.30, 0.29)),
    "plants": ((0.42, 0.40, 0.36), (0.30, 0.28, 0.245)),
    "studio": ((0.10, 0.125, 0.16), (0.045, 0.055, 0.07)),
}


def _box(image: Painted, x0: float, y0: float, x1: float, y1: float, color: tuple[float, float, float]) -> None:
    """Filled rectangle in fractions of the picture."""
    height, width = image.shape[:2]
    cv2.rectangle(image, (int(x0 * width), int(y0 * height)), (int(x1 * width), int(y1 * height)), color, -1)


def _bookshelf(image: Painted, rng: np.random.Generator) -> None:
    for shelf in range(4):
        top = -0.05 + 0.27 * shelf
        _box(image, 0, top, 1, top + 0.25, (0.055, 0.036, 0.026))
        x = 0.0
        while x < 1.0:
            width = rng.uniform(0.012, 0.032)
            tall = rng.uniform(0.12, 0.21)
            red, green, blue = (float(v) for v in BOOKS[rng.integers(len(BOOKS))] * rng.uniform(0.6, 1.1))
            if rng.random() < 0.92:
                _box(image, x, top + 0.25 - tall, x + width * 0.92, top + 0.25, (red, green, blue))
            x += width
        _box(image, 0, top + 0.25, 1, top + 0.268, (0.24, 0.155, 0.095))
    for post in (0.16, 0.84):
        _box(image, post, 0, post + 0.018, 1, (0.22, 0.14, 0.085))


def _window(image: Painted, side: int) -> None:
    left = 0.04 if side < 0 else 0.60
    _box(image, left, -0.02, left + 0.36, 0.72, (1.05, 1.12, 1.20))
    _box(image, left, 0.46, left + 0.36, 0.72, (0.62, 0.72, 0.62))
    for x in (left - 0.012, left + 0.17, left + 0.35):
        _box(image, x, -0.02, x + 0.022, 0.74, (0.46, 0.46, 0.45))
    _box(image, left - 0.02, 0.72, left + 0.38, 0.75, (0.55, 0.54, 0.52))
    for k in range(7):
        x = left + (0.36 if side < 0 else -0.10) + 0.014 * k
        _box(image, x, -0.02, x + 0.011, 1.0, (0.50 + 0.05 * (k % 2), 0.47 + 0.05 * (k % 2), 0.42 + 0.04 * (k % 2)))


def _office(image: Painted, rng: np.random.Generator, side: int) -> None:
    _window(image, side)
    base = 0.62 if side < 0 else 0.06
    _box(image, base, 0.10, base + 0.20, 0.40, (0.16, 0.19, 0.24))
    _box(image, base + 0.012, 0.12, base + 0.188, 0.38, (0.44, 0.40, 0.34))
    _box(image, base - 0.03, 0.66, base + 0.34, 0.70, (0.28, 0.20, 0.13))
    for k in range(4):
        shade = float(rng.uniform(0.08, 0.35))
        _box(image, base + 0.03 + 0.04 * k, 0.54, base + 0.055 + 0.04 * k, 0.66, (shade, shade * 0.9, shade * 0.8))


def _plants(image: Painted, rng: np.random.Generator, side: int) -> None:
    height, width = image.shape[:2]
    center = 0.16 if side < 0 else 0.84
    for _ in range(70):
        angle = rng.uniform(-2.7, -0.4)
        reach = rng.uniform(0.12, 0.5) * height
        start = np.array([center * width, 0.78 * height])
        end = start + reach * np.array([np.cos(angle) * 0.9, np.sin(angle)])
        axes = (int(0.075 * height), int(0.018 * height))
        green = rng.uniform(0.5, 1.4)
        color = (0.055 * green, 0.13 * green, 0.045 * green)
        cv2.ellipse(image, (int(end[0]), int(end[1])), axes, float(np.degrees(angle)), 0, 360, color, -1)
    _box(image, center - 0.05, 0.76, center + 0.05, 1.0, (0.30, 0.20, 0.14))
    lamp = 1.0 - center
    cv2.circle(image, (int(lamp * width), int(0.3 * height)), int(0.07 * height), (1.5, 1.15, 0.75), -1)


def paint_backdrop(actor: Actor, width_px: int, height_px: int) -> Painted:
    """The room behind an actor, (height, width, 3) float32 linear light, out of focus."""
    rng = np.random.default_rng(actor.seed + 307)
    small_h, small_w = 360, max(2, round(360 * width_px / height_px))
    top, bottom = WALLS[actor.backdrop]
    t = np.linspace(0, 1, small_h, dtype=np.float32)[:, None, None]
    image = np.ascontiguousarray(
        np.broadcast_to(np.array(top, np.float32) * (1 - t) + np.array(bottom, np.float32) * t, (small_h, small_w, 3))
    ).astype(np.float32)
    side = actor.key_side
    if actor.backdrop == "bookshelf":
        _bookshelf(image, rng)
    elif actor.backdrop == "window":
        _window(image, side)
    elif actor.backdrop == "office":
        _office(image, rng, side)
    elif actor.backdrop == "plants":
        _plants(image, rng, side)
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), 8.5), np.float32)
    across = np.linspace(-1, 1, small_w, dtype=np.float32)[None, :, None] * side
    glow = np.exp(-(((across - 0.55) / 0.8) ** 2) - ((t - 0.35) / 0.6) ** 2)
    image = np.asarray(image * (0.80 + 0.45 * glow), np.float32)
    if actor.backdrop == "studio":
        halo = np.exp(-((across / 0.55) ** 2) - ((t - 0.45) / 0.42) ** 2)
        image = np.asarray(image + halo * np.array([0.10, 0.13, 0.17]), np.float32)
    vignette = 1.0 - 0.22 * (across**2 + (2 * t - 1) ** 2) / 2
    large = cv2.resize((image * vignette).astype(np.float32), (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    return np.maximum(large, 0.0).astype(np.float32)
