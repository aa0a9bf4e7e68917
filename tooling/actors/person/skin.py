"""Albedo of the face: tone, blush, lips, lids, the skin under the brows, stubble, moles and lines."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from generation.smoothing import smoothstep
from tooling.actors.person.head import Array, HeadMesh, gauss, lid_curves, lip_curve
from tooling.actors.person.identity import Actor

TEXTURE_SCALE = 3


def skin_color(actor: Actor) -> Array:
    """Base albedo, linear light."""
    light, tan = np.array([0.640, 0.425, 0.318]), np.array([0.400, 0.238, 0.158])
    color = light + (tan - light) * actor.skin_tone**1.2
    return np.asarray(color * (1.0 + actor.skin_warmth * np.array([0.03, 0.0, -0.06])))


def _enlarge(grid: Array, height: int, width: int) -> Array:
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


class _Painter:
    """The texture being painted: albedo, gloss and the face coordinates of every texel."""

    def __init__(self, actor: Actor, head: HeadMesh) -> None:
        self.actor, self.head = actor, head
        rows, columns = head.grid_shape
        height, width = rows * TEXTURE_SCALE, columns * TEXTURE_SCALE
        grid = head.canonical.reshape(rows, columns, 2)
        self.x, self.y = _enlarge(grid[..., 0], height, width), _enlarge(grid[..., 1], height, width)
        self.z = _enlarge(head.positions[:, 2].reshape(rows, columns), height, width)
        self.front = smoothstep(0.5, 4.0, self.z)
        self.albedo = np.broadcast_to(skin_color(actor), (height, width, 3)).astype(np.float32)
        self.gloss = np.full((height, width), 0.8, np.float32)
        self.rng = np.random.default_rng(actor.seed + 17)

    def mix(self, mask: Array, color: Array | list[float]) -> None:
        share = np.clip(mask, 0.0, 1.0).astype(np.float32)[..., None]
        self.albedo += share * (np.asarray(color, np.float32) - self.albedo)

    def tint(self, mask: Array, factors: list[float]) -> None:
        share = mask.astype(np.float32)[..., None]
        self.albedo *= 1.0 + share * (np.asarray(factors, np.float32) - 1.0)

    def tone(self) -> None:
        x, y, front = self.x, self.y, self.front
        shape = self.x.shape
        broad = cv2.resize(
            self.rng.standard_normal((24, 24)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC
        )
        fine = gaussian_filter(self.rng.standard_normal(shape).astype(np.float32), 1.1)
        self.albedo *= 1.0 + 0.012 * broad[..., None] * np.array([0.6, 1.0, 1.2], np.float32)
        self.albedo *= 1.0 + 0.075 * fine[..., None] * np.array([0.8, 1.0, 1.0], np.float32)
        self.gloss += 0.35 * fine
        red = 0.9 * _blob(x, y, 4.2, -2.9, 1.5, 1.2) + 0.7 * _blob(x, y, 0.0, self.head.layout.nose_tip_y, 1.0, 0.8)
        red += 0.35 * _blob(x, y, 0.0, -9.8, 1.4, 0.8) + 0.5 * smoothstep(6.3, 7.4, np.abs(x))
        self.tint(red * front, [1.02, 0.87, 0.86])
        under = _blob(x, y, self.head.layout.eye_x - 0.2, -1.05, 1.0, 0.32)
        self.tint(under * front, [0.93, 0.87, 0.88])
        self.tint(_blob(x, y, self.head.layout.eye_x, 0.5, 1.5, 0.5) * front, [0.95, 0.89, 0.88])
        self.gloss *= 1.0 + 0.5 * (_blob(x, y, 0.0, -2.0, 0.8, 3.0) + 0.5 * _blob(x, y, 0.0, 4.5, 3.0, 1.5)) * front

    def lips(self) -> None:
        actor, layout = self.actor, self.head.layout
        line = lip_curve(self.x, layout)
        s = np.abs(self.x) / layout.mouth_half_width
        taper = np.clip(1.0 - s**2.0, 0.0, 1.0) ** 0.75
        bow = 1.0 - 0.16 * np.exp(-((s / 0.10) ** 2)) + 0.05 * np.exp(-(((s - 0.2) / 0.12) ** 2))
        top = line + layout.upper_lip * taper * bow
        bottom = line - layout.lower_lip * taper
        soft = 0.07
        inside = smoothstep(-soft, soft, top - self.y) * smoothstep(-soft, soft, self.y - bottom) * (s < 1.02)
        inside = inside * self.front
        natural = skin_color(actor) * [0.80, 0.56, 0.58]
        painted = np.array([0.46, 0.115, 0.115]) if actor.seed % 3 else np.array([0.50, 0.20, 0.17])
        self.mix(inside * 0.92, natural + (painted - natural) * actor.lip_tone)
        creases = gaussian_filter(self.rng.standard_normal(self.x.shape).astype(np.float32), (5.0, 0.9))
        self.albedo *= (1.0 + 0.5 * creases * inside)[..., None].astype(np.float32)
        self.tint(np.exp(-(((self.y - line) / 0.10) ** 2)) * (s < 1.04) * self.front, [0.52, 0.36, 0.38])
        corner = _blob(self.x, self.y, layout.mouth_half_width + 0.05, layout.mouth_y - 0.03, 0.16, 0.14)
        self.tint(corner * self.front, [0.68, 0.54, 0.54])
        self.gloss += (1.2 * inside).astype(np.float32)

    def nostrils(self) -> None:
        tip = self.head.layout.nose_tip_y
        hole = _blob(self.x, self.y, 0.60, tip - 0.84, 0.23, 0.11)
        self.mix(0.80 * np.clip(1.25 * hole, 0, 1) * self.front, [0.045, 0.016, 0.012])
        wing = _blob(self.x, self.y, self.head.layout.nose_half_width + 0.06, tip - 0.35, 0.13, 0.42)
        self.tint(wing * self.front, [0.83, 0.70, 0.68])

    def lids(self) -> None:
        actor, layout = self.actor, self.head.layout
        _, _, closed = lid_curves(self.x, layout)
        s = np.clip((np.abs(self.x) - layout.eye_x) / layout.eye_half_width, -1.25, 1.25)
        inside = smoothstep(1.16, 0.96, np.abs(s)) * self.front
        above = self.y - closed
        liner = 0.21 + 0.06 * s + (0.07 if actor.gender == "female" else 0.0)
        self.mix(smoothstep(liner, 0.3 * liner, above) * (above > -0.02) * inside * 0.92, [0.014, 0.009, 0.008])
        self.mix(smoothstep(0.13, 0.03, -above) * (above < 0.0) * inside * 0.55, [0.50, 0.27, 0.24])
        lash = np.exp(-(((above + 0.20) / 0.06) ** 2)) * smoothstep(-0.7, 0.8, s)
        self.mix(lash * inside * 0.40, [0.05, 0.03, 0.025])
        height = 0.52 + 0.14 * actor.eyelid_crease + 0.06 * s - 0.25 * smoothstep(-0.4, -1.2, s)
        crease = np.exp(-(((above - height) / 0.075) ** 2)) * smoothstep(1.25, 0.8, np.abs(s + 0.05))
        self.tint(crease * (0.25 + 0.75 * actor.eyelid_crease) * self.front, [0.55, 0.44, 0.42])
        if actor.gender == "female":
            shadow = smoothstep(0.0, 0.15, above) * smoothstep(height + 0.15, 0.25, above) * inside
            self.tint(shadow * 0.6, [0.82, 0.70, 0.70])
        corner = _blob(self.x, self.y, layout.eye_x - layout.eye_half_width, layout.eye_inner_y, 0.13, 0.10)
        self.tint(corner * self.front, [0.92, 0.66, 0.64])

    def brows(self) -> None:
        actor = self.actor
        t = np.linspace(0.0, 1.0, 40)
        bx, by, thickness = brow_curve(t, actor, self.head)
        center = np.interp(np.abs(self.x), bx, by)
        reach = np.interp(np.abs(self.x), bx, thickness, left=0.0, right=0.0)
        inside = smoothstep(1.25, 0.35, np.abs(self.y - center) / np.maximum(reach, 0.02)) * (reach > 0.0)
        ends = smoothstep(0.0, 0.35, np.abs(self.x) - bx[0]) * smoothstep(0.0, 0.3, bx[-1] - np.abs(self.x))
        color = np.asarray(actor.hair_color) * (1 - 0.6 * actor.hair_grey) + 0.15 * 0.6 * actor.hair_grey
        self.mix(inside * ends * self.front * 0.66, color + 0.02)

    def stubble(self) -> None:
        actor, layout = self.actor, self.head.layout
        if actor.gender != "male":
            return
        chin = smoothstep(
            layout.mouth_y - 0.5, layout.mouth_y - 1.6, self.y - 0.34 * np.maximum(np.abs(self.x) - 2.2, 0)
        )
        lip = _blob(self.x, self.y, 1.0, layout.mouth_y + layout.upper_lip + 0.42, 1.0, 0.33)
        zone = np.clip(chin + lip, 0.0, 1.0) * smoothstep(-2.0, 3.0, self.z)
        zone = gaussian_filter(zone.astype(np.float32), 3.0)
        self.tint(zone * (0.25 + 0.75 * actor.stubble), [0.80, 0.83, 0.90])
        dots = gaussian_filter(self.rng.standard_normal(self.x.shape).astype(np.float32), 0.7)
        self.mix(zone * actor.stubble * smoothstep(0.25, 0.75, dots) * 0.55, [0.06, 0.05, 0.05])

    def marks(self) -> None:
        actor = self.actor
        for cx, cy, radius in actor.moles:
            distance = np.hypot(self.x - cx, self.y - cy)
            self.mix(smoothstep(radius, radius * 0.45, distance) * self.front * 0.85, [0.085, 0.035, 0.022])
        old = actor.wrinkles
        layout = self.head.layout
        dark = [0.72, 0.62, 0.60]
        for k, height in enumerate((4.2, 5.1, 5.9)):
            wave = height + 0.10 * np.sin(self.x * 1.1 + k + actor.seed)
            self.tint(_line(self.x, self.y, wave, -4.0, 4.0, 0.075) * old * 0.55 * self.front, dark)
        for k in range(3):
            rays = layout.eye_outer_y + 0.35 - 0.38 * k + (0.35 - 0.34 * k) * (np.abs(self.x) - layout.eye_x - 1.5)
            low = layout.eye_x + layout.eye_half_width + 0.15
            self.tint(_line(self.x, self.y, rays, low, low + 1.1, 0.055) * old * 0.8 * self.front, dark)
        bag = -1.22 + 0.22 * ((np.abs(self.x) - layout.eye_x) / 1.2) ** 2
        self.tint(
            _line(self.x, self.y, bag, layout.eye_x - 1.3, layout.eye_x + 1.1, 0.12) * old * 0.6 * self.front, dark
        )
        fold_x = 2.0 + 0.33 * np.clip(-4.3 - self.y, -0.4, 3.0)
        fold = np.exp(-(((np.abs(self.x) - fold_x) / 0.14) ** 2)) * np.exp(-(((self.y + 5.4) / 0.95) ** 2))
        self.tint(fold * (0.12 + 0.5 * old) * self.front, dark)


def paint_face(actor: Actor, head: HeadMesh, scalp: Array) -> np.ndarray:
    """RGBA texture (H, W, 4) float32: linear albedo and gloss; scalp (rows, columns) hair cover in [0, 1]."""
    painter = _Painter(actor, head)
    for step in (
        painter.tone,
        painter.lids,
        painter.lips,
        painter.nostrils,
        painter.stubble,
        painter.marks,
        painter.brows,
    ):
        step()
    height, width = painter.x.shape
    cover = _enlarge(scalp.reshape(head.grid_shape), height, width)
    grey = np.asarray(actor.hair_color) * (1 - actor.hair_grey) + 0.22 * actor.hair_grey
    painter.mix(cover, grey * 0.8 + 0.004)
    painter.gloss *= (1.0 - 0.85 * cover).astype(np.float32)
    return np.concatenate([painter.albedo, np.maximum(painter.gloss, 0.0)[..., None]], axis=-1).astype(np.float32)
