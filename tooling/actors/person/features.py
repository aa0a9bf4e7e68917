"""Eyeballs, teeth, tongue, ears, lashes, brow hairs and glasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from generation.smoothing import smoothstep
from tooling.actors.person.detail import Detail
from tooling.actors.person.head import EYE_RADIUS, Array, HeadMesh, grid_triangles, lid_curves
from tooling.actors.person.identity import Actor
from tooling.actors.person.materials import EYE, SKIN, WET, Material
from tooling.actors.person.skin import brow_curve

Anchor = Literal["skull", "jaw", "left_eye", "right_eye"]


@dataclass(frozen=True)
class Part:
    """A rigid mesh of the head; positions (V, 3) in cm of an eyeball are relative to its own centre."""

    positions: Array
    triangles: NDArray[np.int32]
    uv: Array
    texture: NDArray[np.float32]
    material: Material
    anchor: Anchor
    darkening: float = 1.0
    is_two_sided: bool = True


@dataclass(frozen=True)
class SmallHairs:
    """Lashes and brow hairs: offsets (S, K, 3) in cm, each strand from its own vertex of the head."""

    vertex: NDArray[np.int64]
    offsets: Array
    colors: Array
    half_width_cm: Array
    alpha: Array
    closing: Array  # (S,) how far an offset turns down as the lids shut


def _part(points: Array, texture: Array, material: Material, anchor: Anchor, darkening: float = 1.0) -> Part:
    rows, columns = points.shape[:2]
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    uv = np.stack([u, v], -1).reshape(-1, 2)
    triangles = grid_triangles(rows, columns)
    return Part(points.reshape(-1, 3), triangles, uv, texture.astype(np.float32), material, anchor, darkening)


def _eye_texture(actor: Actor, size: int) -> Array:
    """Front view of the eyeball over [-EYE_RADIUS, EYE_RADIUS]: sclera, iris with fibres, pupil."""
    rng = np.random.default_rng(actor.seed + 61)
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis * EYE_RADIUS * 0.90, -axis * EYE_RADIUS * 0.90)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    fibres = gaussian_filter(rng.standard_normal(720), 1.4, mode="wrap")
    fibres = np.interp(angle, np.linspace(-np.pi, np.pi, 720), fibres / fibres.std())
    white = np.array([0.60, 0.555, 0.52]) * (1 - 0.16 * smoothstep(0.7, 1.2, radius))[..., None]
    white = white * np.array([1.0, 0.90, 0.87]) ** smoothstep(0.75, 1.15, radius)[..., None]
    brown = np.array([0.028, 0.012, 0.006]) + np.array([0.026, 0.012, 0.004]) * rng.random()
    ring = smoothstep(0.16, 0.52, radius)
    iris = brown[None, None] * (0.75 + 0.9 * smoothstep(0.56, 0.28, radius) + 0.22 * fibres * ring)[..., None]
    # Light gathers in the half of the iris opposite to the key light.
    iris = iris * (1.0 + 0.9 * smoothstep(0.1, -0.5, y) * smoothstep(0.2, 0.4, radius))[..., None]
    iris = iris * (1.0 - 0.72 * smoothstep(0.50, 0.61, radius))[..., None]
    pupil = smoothstep(0.27, 0.22, radius)[..., None]
    iris = iris * (1 - pupil) + 0.004 * pupil
    share = smoothstep(0.645, 0.585, radius)[..., None]
    return np.concatenate([white * (1 - share) + iris * share, np.ones((size, size, 1))], axis=-1)


def _eyeball(texture: Array, anchor: Anchor) -> Part:
    """Front cap of the eyeball with its cornea, and a flange that fills the gaps at the corners."""
    radial = np.r_[np.linspace(0, 0.9, 40), 0.97, 1.08, 1.25]
    turn = np.linspace(0, 2 * np.pi, 72)
    rr, aa = np.meshgrid(radial, turn, indexing="ij")
    x, y = EYE_RADIUS * rr * np.cos(aa), EYE_RADIUS * rr * np.sin(aa)
    z = EYE_RADIUS * np.sqrt(np.clip(1 - np.minimum(rr, 0.92) ** 2, 0, 1)) - 2.4 * np.maximum(rr - 0.92, 0)
    z = z + 0.06 * np.exp(-((rr * EYE_RADIUS / 0.5) ** 4))
    part = _part(np.stack([x, y, z], -1), texture, EYE, anchor)
    uv = np.stack([part.positions[:, 0] / EYE_RADIUS / 2 + 0.5, 0.5 - part.positions[:, 1] / EYE_RADIUS / 2], -1)
    return Part(part.positions, part.triangles, np.clip(uv, 0.002, 0.998), part.texture, EYE, anchor)


def _eye_corner(head: HeadMesh, side: float, anchor: Anchor, color: Array) -> Part:
    """Flesh behind the lids, so that no gap opens beside the eyeball at the corners of the eye."""
    layout = head.layout
    s, v = np.meshgrid(np.linspace(-1.12, 1.12, 33), np.linspace(0.75, -0.75, 17))
    x = side * (layout.eye_x + s * layout.eye_half_width)
    _, _, closed = lid_curves(x, layout)
    front = np.flatnonzero(head.positions[:, 2] > 2)
    tree = cKDTree(head.canonical[front])
    distance, nearest = tree.query(np.stack([x, closed + v], -1).reshape(-1, 2), k=3)
    weight = 1.0 / (distance + 1e-3)
    z = np.sum(head.positions[front[nearest], 2] * weight, axis=1) / np.sum(weight, axis=1)
    center = head.eye_centers[0 if side < 0 else 1]
    off_axis = np.minimum(np.hypot(x - center[0], closed + v - center[1]), 0.86 * EYE_RADIUS)
    behind_ball = center[2] + np.sqrt(EYE_RADIUS**2 - off_axis**2) - 0.07
    points = np.stack([x, closed + v, np.minimum(z.reshape(x.shape) - 0.13, behind_ball)], -1)
    flesh = smoothstep(-0.80, -0.92, np.linspace(-1.12, 1.12, 64))[None, :, None]
    rgb = color * [0.95, 0.66, 0.62] * flesh + np.array([0.50, 0.42, 0.39]) * (1 - flesh)
    texture = np.concatenate([np.broadcast_to(rgb, (8, 64, 3)), np.full((8, 64, 1), 0.6)], axis=-1)
    return _part(points if side > 0 else points[:, ::-1], texture if side > 0 else texture[:, ::-1], SKIN, anchor)


def _teeth(seam: Array, side: Literal["upper", "lower"]) -> Part:
    s = np.linspace(-1, 1, 61)[None, :]
    v = np.linspace(0, 1, 10)[:, None]
    half = 2.35
    x = s * half + 0 * v
    depth = seam[2] - (0.42 if side == "upper" else 0.62)
    y = seam[1] + (0.75 - 1.12 * v if side == "upper" else -1.25 + 1.0 * v) + 0.05 * s**2
    z = depth - 1.35 * s**2 + 0.10 * np.sin(np.pi * v)
    size = 256
    u, w = np.meshgrid(np.linspace(-1, 1, size), np.linspace(0, 1, 64))
    width = 0.82 if side == "upper" else 0.55
    place = np.abs((u * half / width) % 1.0)
    gap = np.exp(-((np.minimum(place, 1 - place) / 0.075) ** 2)) * (0.35 + 0.5 * w)
    shade = (1.0 - 0.55 * gap) * (1.0 - 0.65 * np.abs(u) ** 1.8)
    rgb = np.array([0.70, 0.655, 0.585])[None, None] * shade[..., None]
    gum = smoothstep(0.16, 0.04, w)[..., None]
    rgb = rgb * (1 - gum) + np.array([0.30, 0.10, 0.10]) * gum
    edge = np.linspace(0, 1, 64)[:, None, None]
    rgb = rgb * (0.85 + 0.15 * edge)
    texture = np.concatenate([rgb, np.full((64, size, 1), 0.5)], axis=-1)
    points = np.stack([x, y + 0 * x, z + 0 * x], -1)
    return _part(points, texture, WET, "skull" if side == "upper" else "jaw", 0.80 if side == "upper" else 0.60)


def _tongue(seam: Array) -> Part:
    s, v = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(0, 1, 20))
    x = 1.6 * s
    y = (
        seam[1]
        - 1.05
        + 0.45 * np.sqrt(np.clip(1 - s**2, 0, 1))
        - 0.5 * (1 - v) ** 3
        - 0.06 * np.exp(-((s / 0.12) ** 2))
    )
    z = seam[2] - 3.6 + 2.55 * v * np.sqrt(np.clip(1.1 - s**2, 0, 1))
    color = np.broadcast_to(np.array([0.36, 0.11, 0.10, 0.4]), (8, 8, 4))
    return _part(np.stack([x, y, z], -1), color, WET, "jaw", 0.55)


def _cavity(seam: Array, anchor: Anchor) -> Part:
    u, v = np.meshgrid(np.linspace(-2.9, 2.9, 16), np.linspace(1.2, -2.0, 12))
    z = seam[2] - 1.75 - 0.22 * u**2 + 0 * v
    color = np.broadcast_to(np.array([0.075, 0.016, 0.016, 0.0]), (8, 8, 4))
    return _part(np.stack([u, seam[1] + v, z], -1), color, EYE, anchor, 0.22)


def _ear(side: float, anchor_x: float, color: Array) -> Part:
    turn, radial = np.linspace(0, 2 * np.pi, 56), np.r_[np.linspace(0.02, 1.0, 24), 1.04, 0.98, 0.85]
    rr, aa = np.meshgrid(radial, turn, indexing="ij")
    lobe = 1.0 - 0.32 * smoothstep(0.0, -1.0, np.sin(aa))
    b = (0.75 + 1.02 * rr * np.cos(aa)) * lobe
    h = 1.95 * rr * np.sin(aa)
    rim = np.exp(-(((rr - 0.90) / 0.10) ** 2)) * smoothstep(-0.75, 0.1, np.sin(aa) + 0.45 * np.cos(aa))
    fold = 0.8 * np.exp(-(((rr - 0.56) / 0.13) ** 2)) * smoothstep(-0.3, 0.5, np.cos(aa))
    bowl = np.exp(-((rr / 0.36) ** 2))
    tragus = np.exp(-(((aa - np.pi) / 0.45) ** 2)) * np.exp(-(((rr - 0.75) / 0.25) ** 2))
    d = 0.34 * rim + 0.26 * fold - 0.42 * bowl + 0.22 * tragus + 0.30 * np.cos(aa) * rr
    tail = np.arange(len(radial))[:, None] >= 25
    d = np.where(tail, d - 0.35 * (np.arange(len(radial))[:, None] - 24), d)
    back = np.array([0.50 * side, 0.0, -0.87])
    outward = np.array([0.87 * side, 0.0, 0.50])
    base = np.array([side * (anchor_x - 0.30), -0.9, -0.6])
    up = np.array([0.06 * side, 1.0, -0.16])
    points = base + b[..., None] * back + h[..., None] * up + d[..., None] * outward
    texture = np.empty((32, 32, 4), np.float32)
    texture[..., :3] = color * [1.0, 0.86, 0.83]
    texture[..., 3] = 0.7
    texture[:8, :, :3] *= np.linspace(0.35, 1.0, 8)[:, None, None]
    return _part(points if side > 0 else points[:, ::-1], texture, SKIN, "skull")


def _seam_point(head: HeadMesh) -> Array:
    """Middle of the line between the lips."""
    x, y = head.canonical.T
    near = (x**2 + (y - head.layout.mouth_y) ** 2) + 1e3 * (head.positions[:, 2] < 0)
    return np.asarray(head.positions[int(np.argmin(near))])


def build_parts(actor: Actor, head: HeadMesh, skin: Array, detail: Detail) -> list[Part]:
    """Rigid parts drawn with the head."""
    seam, eye = _seam_point(head), _eye_texture(actor, detail.eye_texels)
    beside = (np.abs(head.canonical[:, 1] + 0.9) < 0.3) & (np.abs(head.positions[:, 2] + 0.6) < 0.8)
    ear_x = float(np.abs(head.positions[beside, 0]).max())
    return [
        _eyeball(eye, "left_eye"),
        _eyeball(eye, "right_eye"),
        _eye_corner(head, -1.0, "skull", skin),
        _eye_corner(head, 1.0, "skull", skin),
        _teeth(seam, "upper"),
        _teeth(seam, "lower"),
        _tongue(seam),
        _cavity(seam, "skull"),
        _cavity(seam, "jaw"),
        _ear(-1.0, ear_x, skin),
        _ear(1.0, ear_x, skin),
    ]


def _lashes(actor: Actor, head: HeadMesh, rng: np.random.Generator) -> list[Array]:
    """Rows of root x, y on the margin, direction and length, for upper and lower lashes of both eyes."""
    layout = head.layout
    rows = []
    female = actor.gender == "female"
    for side in (-1.0, 1.0):
        for is_upper, count, length in ((1.0, 80, 0.46 if female else 0.26), (0.0, 42, 0.20 if female else 0.12)):
            s = rng.uniform(-0.80, 0.99, count)
            x = side * (layout.eye_x + s * layout.eye_half_width)
            size = length * (0.6 + 0.4 * (s + 1) / 2) * rng.uniform(0.7, 1.1, count)
            out = side * (0.50 * s + 0.18) + rng.normal(0, 0.08, count)
            rows.append(np.stack([x, np.full(count, is_upper), out, size], axis=1))
    return rows


def build_lashes(actor: Actor, head: HeadMesh) -> SmallHairs:
    """Upper and lower lashes of both eyes."""
    rng = np.random.default_rng(actor.seed + 211)
    table = np.concatenate(_lashes(actor, head, rng))
    x, is_upper, out, size = table.T
    _, _, closed = lid_curves(x, head.layout)
    vertex = np.empty(len(table), np.int64)
    for flag in (0.0, 1.0):
        allowed = np.flatnonzero((head.is_below_lids == (flag == 0.0)) & (head.positions[:, 2] > 2))
        tree = cKDTree(head.canonical[allowed])
        chosen = is_upper == flag
        vertex[chosen] = allowed[tree.query(np.stack([x, closed], 1)[chosen])[1]]
    t = np.linspace(0, 1, 5)[None, :]
    rise = np.where(is_upper > 0, 1.0, -0.75)[:, None]
    offsets = np.stack([
        out[:, None] * t, rise * (0.10 * t + 0.62 * t**2), (0.62 * t + 0.03) * np.ones_like(rise),
    ], axis=-1) * size[:, None, None]  # fmt: skip
    return SmallHairs(
        vertex,
        offsets,
        np.broadcast_to(np.array([0.008, 0.006, 0.006]), (len(table), 3)),
        np.broadcast_to(0.028 * (1 - 0.8 * t), (len(table), 5)),
        np.where(is_upper > 0, 0.85, 0.45)[:, None] * (1 - 0.5 * t),
        is_upper,
    )


def build_brow_hairs(actor: Actor, head: HeadMesh) -> SmallHairs:
    """Hairs of both brows."""
    rng = np.random.default_rng(actor.seed + 223)
    count = int(420 * (1.0 + 0.25 * actor.brow_thickness))
    t0 = rng.uniform(0.0, 0.97, count)
    side = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    across = np.clip(rng.normal(0, 0.5, count), -1, 1)
    x, y, thickness = brow_curve(t0, actor, head)
    front = np.flatnonzero(head.positions[:, 2] > 2)
    tree = cKDTree(head.canonical[front])
    vertex = front[tree.query(np.stack([side * x, y + across * thickness], 1))[1]]
    steep = np.interp(t0, [0.0, 0.2, 0.6, 1.0], [1.35, 0.75, 0.10, -0.45])
    steep = steep - 0.35 * across + rng.normal(0, 0.15, count)
    length = 0.50 * (1.0 - 0.35 * t0) * rng.uniform(0.7, 1.15, count)
    t = np.linspace(0, 1, 4)[None, :]
    along = (side * np.cos(steep))[:, None] * t
    upward = np.sin(steep)[:, None] * t - 0.12 * t**2
    ahead = np.broadcast_to(0.06 + 0.14 * np.sin(np.pi * t), (count, 4))
    offsets = np.stack([along, upward, ahead], axis=-1) * length[:, None, None]
    grey = rng.random((count, 1)) < 0.7 * actor.hair_grey
    color = np.where(grey, 0.28, np.asarray(actor.hair_color)[None, :] * 0.9) * np.ones((count, 3))
    return SmallHairs(
        vertex,
        offsets + np.array([0.0, 0.0, 0.03]),
        color,
        np.broadcast_to(0.030 * (1 - 0.75 * t), (count, 4)),
        0.62 * (1 - 0.4 * t) * np.ones((count, 1)),
        np.zeros(count),
    )


def build_glasses(actor: Actor, head: HeadMesh) -> tuple[Array, Array]:
    """Polylines (S, K, 3) of the frame in head space and their half widths (S,) in cm; empty without glasses."""
    if actor.glasses == "none":
        return np.zeros((0, 41, 3)), np.zeros(0)
    layout = head.layout
    front = head.positions[head.positions[:, 2] > 2]
    z0 = float(head.eye_centers[:, 2].mean()) + EYE_RADIUS + 1.75
    power = {"round": 2.0, "square": 4.2, "half_rim": 3.4}[actor.glasses]
    a, b = (2.45, 2.15) if actor.glasses == "round" else (2.75, 1.85)
    turn = np.linspace(0, 2 * np.pi, 41)
    sine, cosine = np.sin(turn), np.cos(turn)
    radius = (np.abs(cosine) ** power + np.abs(sine) ** power) ** (-1 / power)
    lines, widths = [], []
    thin = 0.075 if actor.glasses == "round" else 0.12
    for side in (-1.0, 1.0):
        x = side * (layout.eye_x + 0.12 + a * radius * cosine)
        y = -0.28 + b * radius * sine
        z = z0 - 0.045 * x**2
        lines.append(np.stack([x, y, z], -1))
        widths.append(thin)
        t = np.linspace(0, 1, 41)
        ear = float(np.abs(front[:, 0]).max()) + 0.25
        hinge = np.array([side * (layout.eye_x + 0.12 + a), 0.55, z0 - 0.045 * (layout.eye_x + 0.12 + a) ** 2])
        end = np.array([side * ear, 0.75, -2.0])
        temple = hinge + (end - hinge) * t[:, None]
        temple[:, 0] += side * 0.35 * np.sin(np.pi * np.minimum(t * 1.2, 1.0))
        lines.append(temple)
        widths.append(thin)
    s = np.linspace(-1, 1, 41)
    inner = layout.eye_x + 0.12 - a
    lines.append(np.stack([s * inner, 0.30 + 0.22 * (1 - s**2), z0 - 0.045 * (s * inner) ** 2 + 0.35 * (1 - s**2)], -1))
    widths.append(thin * 1.1)
    return np.array(lines), np.array(widths)
