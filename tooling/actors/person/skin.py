"""Albedo of the face: tone, blush, lips, lids, the skin under the brows, stubble, moles and lines."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.smoothing import smoothstep
from tooling.actors.person.detail import FINE, Detail
from tooling.actors.person.head import Array, HeadMesh, gauss, lid_curves, lip_curve
from tooling.actors.person.identity import Actor


def skin_color(actor: Actor) -> Array:
    """Base albedo, linear light."""
    light, tan = np.array([0.640, 0.425, 0.318]), np.array([0.400, 0.238, 0.158])
    color = light + (tan - light) * actor.skin_tone**1.2
    return np.asarray(color * (1.0 + actor.skin_warmth * np.array([0.03, 0.0, -0.06])))


def _enlarge(grid: Array, height: int, width: int) -> Array:
    if grid.shape == (height, width):
        return grid.astype(np.float32)
    rows = np.linspace(0, grid.shape[0] - 1, height, dtype=np.float32)
    columns = np.linspace(0, grid.shape[1] - 1, width, dtype=np.float32)
    map_x, map_y = np.meshgrid(columns, rows)
    return np.asarray(cv2.remap(grid.astype(np.float32), map_x, map_y, cv2.INTER_LINEAR))


def _line(x: Array, y: Array, center: Array, low: float, high: float, width: float) -> Array:
    """Soft stroke along y = center for low < |x| < high, thinning out at both ends."""
    t = np.clip((np.abs(x) - low) / (high - low), 0.0, 1.0)
    return np.asarray(np.exp(-(((y - center) / width) ** 2)) * np.maximum(np.sin(np.pi * t), 0.0) ** 0.7)


def _blob(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    """The same bump on both halves of the face."""
    return gauss(np.abs(x), y, cx, cy, sx, sy)


def brow_curve(t: Array, actor: Actor, head: HeadMesh) -> tuple[Array, Array, Array]:
    """Brow by t in [0, 1] from inner to outer end: |x|, centre y and half thickness in cm."""
    layout = head.layout
    x = layout.eye_x - 1.72 + 4.0 * t
    rise = 0.30 * np.sin(np.pi * np.clip(t * 0.86, 0, 1)) * (1.0 + 0.45 * actor.brow_arch)
    y = layout.brow_y - 0.06 + rise + 0.22 * actor.brow_tilt * (t - 0.4) - 0.30 * np.clip(t - 0.65, 0, 1)
    body = np.interp(t, [0.0, 0.12, 0.5, 0.8, 1.0], [0.22, 0.34, 0.35, 0.25, 0.05])
    return x, y, np.asarray(body * (1.0 + 0.38 * actor.brow_thickness))


@dataclass(frozen=True)
class _Patch:
    """A part of the texture, as views that are painted in place.

    x, y, z and front (h, w): face coordinates in cm, and 1 where the skin faces the camera; albedo (3, h, w), gloss
    (h, w); all float32.
    """

    x: Array
    y: Array
    z: Array
    front: Array
    albedo: Array
    gloss: Array

    def within(self, low_y: float, high_y: float, high_x: float) -> _Patch:
        """The smallest rectangle that holds all skin facing the camera with low_y <= y <= high_y and |x| <= high_x."""
        rows = _span((self.y.max(1) >= low_y) & (self.y.min(1) <= high_y))
        columns = _span((np.abs(self.x[rows]).min(0) <= high_x) & (self.front[rows].max(0) > 0))
        at = (rows, columns)
        return _Patch(self.x[at], self.y[at], self.z[at], self.front[at], self.albedo[:, rows, columns], self.gloss[at])

    def mix(self, mask: Array, color: Array | list[float]) -> None:
        share = np.clip(mask, 0.0, 1.0)
        for plane, level in zip(self.albedo, color, strict=True):
            plane += share * (np.float32(level) - plane)

    def tint(self, mask: Array, factors: list[float]) -> None:
        for plane, factor in zip(self.albedo, factors, strict=True):
            plane *= 1.0 + mask * np.float32(factor - 1.0)


def _span(marked: NDArray[np.bool_]) -> slice:
    """From the first to the last marked index."""
    found = np.flatnonzero(marked)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


class _Painter:
    """The texture being painted, and what is painted on it one after the other."""

    def __init__(self, actor: Actor, head: HeadMesh, detail: Detail) -> None:
        self.actor, self.head = actor, head
        rows, columns = head.grid_shape
        shape = rows * detail.texels_per_cell, columns * detail.texels_per_cell
        grid = head.canonical.reshape(rows, columns, 2)
        x, y = _enlarge(grid[..., 0], *shape), _enlarge(grid[..., 1], *shape)
        z = _enlarge(head.positions[:, 2].reshape(rows, columns), *shape)
        albedo = np.broadcast_to(skin_color(actor)[:, None, None], (3, *shape)).astype(np.float32)
        self.whole = _Patch(x, y, z, smoothstep(0.5, 4.0, z), albedo, np.full(shape, 0.8, np.float32))
        self.scale = detail.texels_per_cell * columns / (FINE.texels_per_cell * FINE.num_columns)
        self.rng = np.random.default_rng(actor.seed + 17)

    def blurred(self, values: Array, rows: float, columns: float) -> Array:
        """Values (h, w) blurred by standard deviations in texels of the fine texture."""
        return np.asarray(cv2.GaussianBlur(values, (0, 0), columns * self.scale, sigmaY=rows * self.scale))

    def grain(self, patch: _Patch, rows: float, columns: float) -> Array:
        """Smooth noise (h, w), with the same power a square centimetre in a texture of any size."""
        noise = self.rng.standard_normal(patch.x.shape, dtype=np.float32) * np.float32(self.scale)
        return self.blurred(noise, rows, columns)

    def tone(self) -> None:
        whole, layout = self.whole, self.head.layout
        broad = cv2.resize(
            self.rng.standard_normal((24, 24), dtype=np.float32), whole.x.shape[::-1], interpolation=cv2.INTER_CUBIC
        )
        fine = self.grain(whole, 1.1, 1.1)
        whole.tint(0.012 * broad, [1.6, 2.0, 2.2])
        whole.tint(0.075 * fine, [1.8, 2.0, 2.0])
        whole.gloss[:] += 0.35 * fine
        patch = whole.within(-14.0, 14.0, 99.0)
        x, y, front = patch.x, patch.y, patch.front
        red = 0.9 * _blob(x, y, 4.2, -2.9, 1.5, 1.2) + 0.7 * _blob(x, y, 0.0, layout.nose_tip_y, 1.0, 0.8)
        red += 0.35 * _blob(x, y, 0.0, -9.8, 1.4, 0.8) + 0.5 * smoothstep(6.3, 7.4, np.abs(x))
        patch.tint(red * front, [1.02, 0.87, 0.86])
        patch.gloss[:] *= 1.0 + 0.5 * (_blob(x, y, 0.0, -2.0, 0.8, 3.0) + 0.5 * _blob(x, y, 0.0, 4.5, 3.0, 1.5)) * front
        eyes = whole.within(-2.5, 2.7, layout.eye_x + 6.0)
        under = _blob(eyes.x, eyes.y, layout.eye_x - 0.2, -1.05, 1.0, 0.32)
        eyes.tint(under * eyes.front, [0.93, 0.87, 0.88])
        eyes.tint(_blob(eyes.x, eyes.y, layout.eye_x, 0.5, 1.5, 0.5) * eyes.front, [0.95, 0.89, 0.88])

    def lips(self) -> None:
        actor, layout = self.actor, self.head.layout
        patch = self.whole.within(layout.mouth_y - 2.2, layout.mouth_y + 2.0, layout.mouth_half_width + 0.9)
        x, y, front = patch.x, patch.y, patch.front
        line = lip_curve(x, layout)
        s = np.abs(x) / layout.mouth_half_width
        taper = np.clip(1.0 - s**2.0, 0.0, 1.0) ** 0.75
        bow = 1.0 - 0.16 * np.exp(-((s / 0.10) ** 2)) + 0.05 * np.exp(-(((s - 0.2) / 0.12) ** 2))
        top = line + layout.upper_lip * taper * bow
        bottom = line - layout.lower_lip * taper
        soft = 0.07
        inside = smoothstep(-soft, soft, top - y) * smoothstep(-soft, soft, y - bottom) * (s < 1.02) * front
        natural = skin_color(actor) * [0.80, 0.56, 0.58]
        painted = np.array([0.46, 0.115, 0.115]) if actor.seed % 3 else np.array([0.50, 0.20, 0.17])
        patch.mix(inside * 0.92, natural + (painted - natural) * actor.lip_tone)
        patch.tint(0.5 * self.grain(patch, 5.0, 0.9) * inside, [2.0, 2.0, 2.0])
        patch.tint(np.exp(-(((y - line) / 0.10) ** 2)) * (s < 1.04) * front, [0.52, 0.36, 0.38])
        corner = _blob(x, y, layout.mouth_half_width + 0.05, layout.mouth_y - 0.03, 0.16, 0.14)
        patch.tint(corner * front, [0.68, 0.54, 0.54])
        patch.gloss[:] += 1.2 * inside

    def nostrils(self) -> None:
        tip, half_width = self.head.layout.nose_tip_y, self.head.layout.nose_half_width
        patch = self.whole.within(tip - 2.1, tip + 1.4, half_width + 0.7)
        hole = _blob(patch.x, patch.y, 0.60, tip - 0.84, 0.23, 0.11)
        patch.mix(0.80 * np.clip(1.25 * hole, 0, 1) * patch.front, [0.045, 0.016, 0.012])
        wing = _blob(patch.x, patch.y, half_width + 0.06, tip - 0.35, 0.13, 0.42)
        patch.tint(wing * patch.front, [0.83, 0.70, 0.68])

    def lids(self) -> None:
        actor, layout = self.actor, self.head.layout
        patch = self.whole.within(-1.5, 1.8, layout.eye_x + 1.7 * layout.eye_half_width)
        x, y, front = patch.x, patch.y, patch.front
        _, _, closed = lid_curves(x, layout)
        s = np.clip((np.abs(x) - layout.eye_x) / layout.eye_half_width, -1.25, 1.25)
        inside = smoothstep(1.16, 0.96, np.abs(s)) * front
        above = y - closed
        liner = 0.21 + 0.06 * s + (0.07 if actor.gender == "female" else 0.0)
        patch.mix(smoothstep(liner, 0.3 * liner, above) * (above > -0.02) * inside * 0.92, [0.014, 0.009, 0.008])
        patch.mix(smoothstep(0.13, 0.03, -above) * (above < 0.0) * inside * 0.55, [0.50, 0.27, 0.24])
        lash = np.exp(-(((above + 0.20) / 0.06) ** 2)) * smoothstep(-0.7, 0.8, s)
        patch.mix(lash * inside * 0.40, [0.05, 0.03, 0.025])
        height = 0.52 + 0.14 * actor.eyelid_crease + 0.06 * s - 0.25 * smoothstep(-0.4, -1.2, s)
        crease = np.exp(-(((above - height) / 0.075) ** 2)) * smoothstep(1.25, 0.8, np.abs(s + 0.05))
        patch.tint(crease * (0.25 + 0.75 * actor.eyelid_crease) * front, [0.55, 0.44, 0.42])
        if actor.gender == "female":
            shadow = smoothstep(0.0, 0.15, above) * smoothstep(height + 0.15, 0.25, above) * inside
            patch.tint(shadow * 0.6, [0.82, 0.70, 0.70])
        corner = _blob(x, y, layout.eye_x - layout.eye_half_width, layout.eye_inner_y, 0.13, 0.10)
        patch.tint(corner * front, [0.92, 0.66, 0.64])

    def brows(self) -> None:
        actor = self.actor
        t = np.linspace(0.0, 1.0, 40)
        bx, by, thickness = brow_curve(t, actor, self.head)
        patch = self.whole.within(by.min() - 1.0, by.max() + 1.0, bx[-1])
        x, y = np.abs(patch.x), patch.y
        center = np.interp(x, bx, by).astype(np.float32)
        reach = np.interp(x, bx, thickness, left=0.0, right=0.0).astype(np.float32)
        inside = smoothstep(1.25, 0.35, np.abs(y - center) / np.maximum(reach, 0.02)) * (reach > 0.0)
        ends = smoothstep(0.0, 0.35, x - float(bx[0])) * smoothstep(0.0, 0.3, float(bx[-1]) - x)
        color = np.asarray(actor.hair_color) * (1 - 0.6 * actor.hair_grey) + 0.15 * 0.6 * actor.hair_grey
        patch.mix(inside * ends * patch.front * 0.66, color + 0.02)

    def stubble(self) -> None:
        actor, layout = self.actor, self.head.layout
        if actor.gender != "male":
            return
        patch = self.whole.within(-14.0, layout.mouth_y + 4.0, 99.0)
        x, y = patch.x, patch.y
        chin = smoothstep(layout.mouth_y - 0.5, layout.mouth_y - 1.6, y - 0.34 * np.maximum(np.abs(x) - 2.2, 0))
        lip = _blob(x, y, 1.0, layout.mouth_y + layout.upper_lip + 0.42, 1.0, 0.33)
        zone = self.blurred(np.clip(chin + lip, 0.0, 1.0) * smoothstep(-2.0, 3.0, patch.z), 3.0, 3.0)
        patch.tint(zone * (0.25 + 0.75 * actor.stubble), [0.80, 0.83, 0.90])
        dots = self.grain(patch, 0.7, 0.7)
        dots *= np.float32(0.4) / dots.std()  # as large as a hair in the fine texture, as many in any other
        patch.mix(zone * actor.stubble * smoothstep(0.25, 0.75, dots) * 0.55, [0.06, 0.05, 0.05])

    def moles(self) -> None:
        for cx, cy, radius in self.actor.moles:
            patch = self.whole.within(cy - radius, cy + radius, abs(cx) + radius)
            distance = np.hypot(patch.x - cx, patch.y - cy)
            patch.mix(smoothstep(radius, radius * 0.45, distance) * patch.front * 0.85, [0.085, 0.035, 0.022])

    def lines(self) -> None:
        """Creases of the forehead and beside the eyes, bags under them, folds from the nose to the mouth."""
        old, layout, dark = self.actor.wrinkles, self.head.layout, [0.72, 0.62, 0.60]
        if old > 0.0:
            for k, height in enumerate((4.2, 5.1, 5.9)):
                patch = self.whole.within(height - 0.35, height + 0.35, 4.0)
                wave = height + 0.10 * np.sin(patch.x * 1.1 + k + self.actor.seed)
                patch.tint(_line(patch.x, patch.y, wave, -4.0, 4.0, 0.075) * old * 0.55 * patch.front, dark)
            low = layout.eye_x + layout.eye_half_width + 0.15
            patch = self.whole.within(-1.6, 1.6, low + 1.1)
            x, y, front = patch.x, patch.y, patch.front
            for k in range(3):
                rays = layout.eye_outer_y + 0.35 - 0.38 * k + (0.35 - 0.34 * k) * (np.abs(x) - layout.eye_x - 1.5)
                patch.tint(_line(x, y, rays, low, low + 1.1, 0.055) * old * 0.8 * front, dark)
            bag = -1.22 + 0.22 * ((np.abs(x) - layout.eye_x) / 1.2) ** 2
            patch.tint(_line(x, y, bag, layout.eye_x - 1.3, layout.eye_x + 1.1, 0.12) * old * 0.6 * front, dark)
        patch = self.whole.within(-8.5, -2.3, 3.6)
        fold_x = 2.0 + 0.33 * np.clip(-4.3 - patch.y, -0.4, 3.0)
        fold = np.exp(-(((np.abs(patch.x) - fold_x) / 0.14) ** 2)) * np.exp(-(((patch.y + 5.4) / 0.95) ** 2))
        patch.tint(fold * (0.12 + 0.5 * old) * patch.front, dark)


def paint_face(actor: Actor, head: HeadMesh, scalp: Array, detail: Detail) -> NDArray[np.float32]:
    """RGBA texture (H, W, 4) float32: linear albedo and gloss; scalp (rows, columns) hair cover in [0, 1]."""
    painter = _Painter(actor, head, detail)
    for step in (
        painter.tone,
        painter.lids,
        painter.lips,
        painter.nostrils,
        painter.stubble,
        painter.moles,
        painter.lines,
        painter.brows,
    ):
        step()
    whole = painter.whole
    cover = _enlarge(scalp.reshape(head.grid_shape), *whole.x.shape)
    grey = np.asarray(actor.hair_color) * (1 - actor.hair_grey) + 0.22 * actor.hair_grey
    whole.mix(cover, grey * 0.8 + 0.004)
    whole.gloss[:] *= 1.0 - 0.85 * cover
    return np.stack([*whole.albedo, np.maximum(whole.gloss, 0.0)], axis=-1)
