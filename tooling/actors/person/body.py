"""Neck, shoulders and clothes: a stack of sections, garments as offset layers with rolled edges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter

from generation.smoothing import smoothstep
from tooling.actors.person.head import Array, grid_triangles
from tooling.actors.person.identity import Actor
from tooling.actors.person.materials import CLOTH, SKIN, Material

NECK_TOP_Y, FLOOR_Y = -5.0, -46.0
NUM_GARMENT_COLUMNS = 168
SUIT_COLORS = ((0.018, 0.023, 0.042), (0.026, 0.027, 0.030), (0.060, 0.062, 0.068), (0.040, 0.029, 0.022))
GARMENT_DEPTHS = np.r_[-0.5, 0.0, 0.12, 0.3, 0.6, 1.0, np.linspace(1.6, 34.0, 76)]


@dataclass(frozen=True)
class Layer:
    """One body mesh: rest positions (V, 3) cm, triangles, uv in [0, 1], texture RGBA linear, material.

    follow_head (V,) is 1 where the vertex turns with the head (top of the neck) and 0 on the shoulders.
    """

    positions: Array
    triangles: NDArray[np.int32]
    uv: Array
    texture: NDArray[np.float32]
    material: Material
    follow_head: Array
    is_two_sided: bool = False


class BodySections:
    """Horizontal sections of neck and torso."""

    def __init__(self, actor: Actor) -> None:
        is_male = actor.gender == "male"
        neck = 5.4 if is_male else 4.6
        broad = (1.0 if is_male else 0.88) * (1.0 + 0.05 * actor.shoulder_width)
        table = np.array([
            # y, half width, front z, back z
            (-5.0, neck * 0.98, 2.2, -8.3), (-9.0, neck * 0.98, 1.7, -8.4), (-12.0, neck * 1.04, 1.9, -8.6),
            (-13.6, neck * 1.22, 2.1, -9.0), (-14.8, neck * 1.62, 2.6, -9.4), (-16.2, 10.4 * broad, 3.1, -9.8),
            (-17.8, 13.9 * broad, 4.0, -10.2), (-19.8, 16.6 * broad, 5.0, -10.4), (-22.5, 18.5 * broad, 6.3, -10.6),
            (-27.0, 19.8 * broad, 7.8, -10.8), (-34.0, 20.4 * broad, 8.8, -11.0), (-46.0, 20.4 * broad, 9.0, -11.0),
        ])[::-1]  # fmt: skip
        self._curves = [PchipInterpolator(table[:, 0], table[:, k]) for k in (1, 2, 3)]

    def point(self, phi: Array, y: Array, offset: Array | float = 0.0) -> Array:
        """Surface points (..., 3) by azimuth and height, moved outward by an offset in cm."""
        half_width, front, back = (np.asarray(c(np.clip(y, FLOOR_Y, NECK_TOP_Y))) for c in self._curves)
        center = -3.0
        depth = np.where(np.abs(phi) < np.pi / 2, front - center, center - back)
        sine, cosine = np.abs(np.sin(phi)), np.abs(np.cos(phi))
        radius = ((sine / half_width) ** 2.2 + (cosine / depth) ** 2.2) ** (-1 / 2.2) + offset
        return np.stack([radius * np.sin(phi), y + 0.0 * radius, center + radius * np.cos(phi)], axis=-1)

    def front_z(self, x: Array, y: Array) -> Array:
        """Depth of the body's front surface at x, y (its centre depth beyond the silhouette)."""
        half_width, front, _ = (np.asarray(c(np.clip(y, FLOOR_Y, NECK_TOP_Y))) for c in self._curves)
        inside = np.clip(1.0 - np.abs(x / half_width) ** 2.2, 0.0, 1.0)
        return np.asarray(-3.0 + (front + 3.0) * inside ** (1 / 2.2))


def _layer(points: Array, texture: Array, material: Material, is_two_sided: bool = False) -> Layer:
    num_rows, num_columns = points.shape[:2]
    u, v = np.meshgrid(np.linspace(0, 1, num_columns), np.linspace(0, 1, num_rows))
    flat = points.reshape(-1, 3)
    return Layer(
        flat,
        grid_triangles(num_rows, num_columns),
        np.stack([u, v], -1).reshape(-1, 2),
        texture.astype(np.float32),
        material,
        smoothstep(-14.5, -7.5, flat[:, 1]),
        is_two_sided,
    )


def _trimmed(layer: Layer, half_width: float) -> Layer:
    """The layer without the triangles that a garment over the shoulders hides from every angle."""
    x, y, _ = layer.positions[layer.triangles].transpose(2, 0, 1)
    is_seen = (np.abs(x).min(axis=1) < half_width) | (y.max(axis=1) > -15.5)
    return replace(layer, triangles=layer.triangles[is_seen])


def _azimuths(count: int) -> Array:
    """Azimuths over the full turn, denser at the front."""
    t = np.linspace(-1, 1, count)
    return np.asarray(np.pi * (0.45 * t + 0.55 * t**3))


def _folds(points: Array, seed: int, strength: float) -> Array:
    """Soft creases: ridged noise stretched along the fall of the cloth, strongest below the shoulders."""
    rng = np.random.default_rng(seed)
    shape = points.shape[:2]
    noise = gaussian_filter(rng.standard_normal(shape), (9.0, 4.0), mode="nearest")
    broad = gaussian_filter(rng.standard_normal(shape), (16.0, 9.0), mode="nearest")
    field = noise / noise.std() * 0.55 + broad / broad.std()
    return np.asarray(1.5 * strength * (0.5 - np.abs(field) * 0.6) * smoothstep(-15.0, -20.0, points[..., 1]))


def _cloth_texture(color: tuple[float, float, float], seed: int, weave: float) -> Array:
    rng = np.random.default_rng(seed)
    threads = rng.standard_normal((320, 400))
    threads = gaussian_filter(threads, (0.8, 0.3)) * weave
    rgb = np.asarray(color)[None, None, :] * (1.0 + threads[..., None])
    return np.concatenate([rgb, np.ones((320, 400, 1))], axis=-1)


@dataclass(frozen=True)
class _Cut:
    """A garment's neckline in cm: heights at front, side and back, the V if there is one; thickness, outward offset."""

    front_y: float
    side_y: float
    back_y: float
    v_slope: float = 0.0
    v_bottom_y: float = 0.0
    thickness: float = 0.45
    offset: float = 0.35


def _neckline(cut: _Cut, sections: BodySections, phi: Array) -> Array:
    """Height of the neckline per azimuth."""
    y = cut.side_y + (cut.front_y - cut.side_y) * np.clip(np.cos(phi), 0, 1) ** 1.5 + (
        cut.back_y - cut.side_y) * np.clip(-np.cos(phi), 0, 1)  # fmt: skip
    if cut.v_slope:
        # The highest point of each azimuth that lies on or above the straight edge of the V.
        levels = np.linspace(cut.v_bottom_y, cut.side_y, 600)[:, None]
        x = np.abs(sections.point(phi[None, :], levels)[..., 0])
        is_under = levels <= cut.v_bottom_y + cut.v_slope * x
        highest = levels[np.where(is_under, np.arange(600)[:, None], 0).max(axis=0), 0]
        y = np.where(np.abs(phi) < 1.5, np.minimum(highest, cut.side_y), y)
    return np.asarray(y)


def _garment(actor: Actor, sections: BodySections, cut: _Cut, texture: Array, fold: float) -> Layer:
    phi, depth = _azimuths(NUM_GARMENT_COLUMNS), GARMENT_DEPTHS
    start = _neckline(cut, sections, phi)
    y = np.minimum(start[None, :] - np.maximum(depth, 0.0)[:, None], NECK_TOP_Y)
    rim = np.asarray(np.interp(depth, [-0.5, 0.0, 0.12, 0.3, 0.6, 1.0, 3.0], [-0.6, 0.30, 0.75, 1.0, 1.05, 0.95, 0.85]))
    offset = cut.offset + cut.thickness * rim[:, None]
    points = sections.point(np.broadcast_to(phi, y.shape), y, offset)
    crease = _folds(points, actor.seed + int(cut.offset * 100), fold) * smoothstep(1.0, 5.0, depth)[:, None]
    arm = np.exp(-(((np.abs(points[..., 0]) - 14.6 - 0.10 * (y + 30.0)) / 0.9) ** 2)) * smoothstep(-23.0, -29.0, y)
    points = sections.point(np.broadcast_to(phi, y.shape), y, offset + crease - 1.1 * arm)
    return _layer(points, texture, CLOTH)


def _collar(actor: Actor, sections: BodySections, color: tuple[float, float, float], spread: float) -> Layer:
    """Shirt collar: a band round the neck folded down, with points at the front."""
    t = np.linspace(-1, 1, 120)
    phi = np.pi * (0.5 * t + 0.5 * t**3)
    phi = np.sign(t) * np.maximum(np.abs(phi), 0.02)
    front = np.clip(np.cos(phi), 0, 1)
    top = -11.6 - 3.6 * front**2.0 + 0.6 * np.clip(-np.cos(phi), 0, 1)
    reach = 2.1 + 1.9 * np.exp(-(((np.abs(phi) - 0.40 - spread) / 0.26) ** 2))
    reach *= smoothstep(-0.05, 0.16 + spread, np.abs(phi)) * 0.8 + 0.2
    v = np.linspace(0, 1, 14)[:, None]
    stand = sections.point(phi, top, 0.70)[None]
    lowest = sections.point(phi, top - reach, 1.15)[None]
    inner = sections.point(phi, top - 0.7, 0.50)[None]
    share = np.clip(v * 1.3 - 0.3, 0, 1)[..., None]
    roll = np.clip(1 - v / 0.24, 0, 1)[..., None]
    points = stand + (lowest - stand) * share
    points = points + (inner - points) * roll
    outward = np.stack([np.sin(phi), 0.3 + 0 * phi, np.cos(phi)], -1)[None]
    points = points + outward * (0.38 * np.sin(np.pi * np.clip(v, 0, 1)) ** 0.8)[..., None]
    middle = len(t) // 2
    layer = _layer(points, _cloth_texture(color, actor.seed + 9, 0.01), CLOTH, is_two_sided=True)
    row = np.arange(len(layer.triangles)) % (len(t) - 1)
    return Layer(
        layer.positions, layer.triangles[row != middle - 1], layer.uv, layer.texture, CLOTH, layer.follow_head, True
    )


def _garment_coordinates(texture: Array, sections: BodySections, cut: _Cut) -> tuple[Array, Array, Array, Array]:
    """Azimuth (1, W) of a garment's texels; x (99 behind the body), y and depth below the neckline (H, W) in cm."""
    height, width = texture.shape[:2]
    phi = np.interp(np.linspace(0, 1, width), np.linspace(0, 1, NUM_GARMENT_COLUMNS), _azimuths(NUM_GARMENT_COLUMNS))
    depth = np.interp(np.linspace(0, 1, height), np.linspace(0, 1, len(GARMENT_DEPTHS)), GARMENT_DEPTHS)
    y = _neckline(cut, sections, phi)[None, :] - np.maximum(depth, 0)[:, None]
    points = sections.point(np.broadcast_to(phi, y.shape), y)
    x = np.where(np.abs(phi)[None, :] < 1.5, points[..., 0], 99.0)
    return phi[None, :], x, y, np.broadcast_to(depth[:, None], y.shape)


def _lapels(texture: Array, sections: BodySections, cut: _Cut) -> Array:
    """Darker seam along the lapel's outer edge and notch, painted into the jacket."""
    phi, x, y, _ = _garment_coordinates(texture, sections, cut)
    edge_x = np.abs(x) - np.interp(y, [-38.0, -24.0, -19.5, -15.0], [0.8, 9.4, 9.0, 6.6])
    notch = np.abs(y + 19.6 + 0.35 * (np.abs(x) - 8.0))
    front = np.abs(phi) < 1.4
    seam = np.exp(-((edge_x / 0.16) ** 2)) + np.exp(-((notch / 0.16) ** 2)) * (np.abs(edge_x + 1.4) < 1.5)
    relief = np.where(front, 1.0 - 0.65 * np.clip(seam, 0, 1) + 0.22 * (edge_x < 0), 1.0)
    out = texture.copy()
    out[..., :3] *= gaussian_filter(relief, 0.6)[..., None]
    return out


def _tie(texture: Array, sections: BodySections, cut: _Cut, color: tuple[float, float, float]) -> Array:
    """A striped tie with its knot, painted down the middle of a shirt."""
    _, x, y, _ = _garment_coordinates(texture, sections, cut)
    half = np.interp(y, [-40.0, -20.4, -18.6, -18.2, -15.9], [3.6, 1.15, 0.95, 1.25, 1.75])
    inside = smoothstep(0.12, -0.12, np.abs(x) - half)
    stripes = 0.75 + 0.5 * smoothstep(-0.2, 0.2, np.sin(1.9 * (y + 0.8 * x)))
    round_off = 1.0 - 0.45 * np.clip(np.abs(x) / half, 0, 1) ** 3 - 0.45 * np.exp(-(((y + 18.5) / 0.22) ** 2))
    silk = np.asarray(color) * (0.16 / max(color))
    cloth = silk[None, None] * (stripes * round_off)[..., None]
    shade = 1.0 - 0.35 * np.exp(-(((np.abs(x) - half) / 0.35) ** 2))
    out = texture.copy()
    out[..., :3] = out[..., :3] * shade[..., None] * (1 - inside[..., None]) + cloth * inside[..., None]
    return out


def _sewn(texture: Array, sections: BodySections, cut: _Cut, kind: Literal["rib", "placket"]) -> Array:
    """A ribbed band along the neckline, or a button placket down the middle, painted into a garment."""
    _, x, y, depth = _garment_coordinates(texture, sections, cut)
    relief = np.ones(texture.shape[:2])
    if kind == "rib":
        relief -= 0.40 * np.exp(-(((depth - 1.7) / 0.22) ** 2))
        relief -= 0.10 * (depth < 1.6) * (np.arange(texture.shape[1])[None, :] % 4 < 2)
    else:
        edge = np.exp(-(((np.abs(x - 0.2) - 1.5) / 0.14) ** 2))
        relief -= 0.32 * edge
        button = np.hypot(x - 0.2, (y + 23.5 + 5.2 * np.round((y + 23.5) / -5.2)))
        relief -= 0.45 * smoothstep(0.50, 0.36, button) - 0.30 * smoothstep(0.34, 0.22, button)
    out = texture.copy()
    out[..., :3] *= np.maximum(relief, 0.1)[..., None]
    return out


def _skin_layer(sections: BodySections, skin_texture: Array) -> Layer:
    phi = _azimuths(120)
    y = np.r_[np.linspace(NECK_TOP_Y, -14.0, 30), np.linspace(-14.2, -25.0, 26)]
    yy, pp = np.meshgrid(y, phi, indexing="ij")
    points = sections.point(pp, yy)
    x = points[..., 0]
    for side in (-1.0, 1.0):
        # Collar bones and the sternomastoid give the neck its modelling.
        bone = np.exp(-(((yy + 17.2 - 0.10 * (np.abs(x) - 1.0)) / 0.5) ** 2)) * smoothstep(0.8, 3.0, side * x) * 0.45
        strap_x = side * (0.8 + 0.55 * np.clip(yy + 16.0, 0.0, 9.0))
        strap = np.exp(-(((x - strap_x) / 0.75) ** 2)) * smoothstep(-17.0, -15.0, yy) * 0.24
        points[..., 2] += np.where(np.cos(pp) > 0, bone + strap, 0.0)
    points[..., 2] -= np.where(np.cos(pp) > 0, 0.55 * np.exp(-(x**2) / 1.1 - ((yy + 15.8) / 0.8) ** 2), 0.0)
    return _layer(points, skin_texture, SKIN)


def _suit(actor: Actor, sections: BodySections) -> list[Layer]:
    """Shirt, with a tie on men, jacket with lapels, and the shirt's collar over both."""
    is_male = actor.gender == "male"
    jacket_cut = _Cut(-30.0, -13.4, -11.6, v_slope=2.15, v_bottom_y=-35.0, thickness=0.7, offset=0.95)
    shirt_cut = _Cut(-15.9, -13.9, -12.6)
    plain = _cloth_texture(actor.shirt_color, actor.seed + 3, 0.02)
    if is_male:
        front = _tie(plain, sections, shirt_cut, actor.clothes_color)
    else:
        front = _sewn(plain, sections, shirt_cut, "placket")
    cloth = _cloth_texture(SUIT_COLORS[actor.seed % len(SUIT_COLORS)], actor.seed + 4, 0.07)
    return [
        _trimmed(_garment(actor, sections, shirt_cut, front, 0.25), 13.0),
        _garment(actor, sections, jacket_cut, _lapels(cloth, sections, jacket_cut), 0.35),
        _collar(actor, sections, actor.shirt_color, 0.0 if is_male else 0.12),
    ]


def _open_shirt(actor: Actor, sections: BodySections) -> list[Layer]:
    red, green, blue = 0.35 * np.asarray(actor.clothes_color) + 0.65 * np.asarray(actor.shirt_color)
    color = (float(red), float(green), float(blue))
    cut = _Cut(-19.5, -13.9, -12.6, v_slope=1.9, v_bottom_y=-20.5)
    cloth = _sewn(_cloth_texture(color, actor.seed + 3, 0.03), sections, cut, "placket")
    return [_garment(actor, sections, cut, cloth, 0.6), _collar(actor, sections, color, 0.16)]


def _knitwear(actor: Actor, sections: BodySections) -> list[Layer]:
    cut = {
        "turtleneck": _Cut(-12.0, -11.2, -10.4, thickness=0.6),
        "v_neck": _Cut(-22.0, -13.6, -12.0, v_slope=1.7, v_bottom_y=-23.0),
    }.get(actor.clothes, _Cut(-16.6, -13.6, -12.0, thickness=0.6))
    cloth = _cloth_texture(actor.clothes_color, actor.seed + 2, 0.055)
    return [_garment(actor, sections, cut, _sewn(cloth, sections, cut, "rib"), 0.55)]


def build_body(actor: Actor, sections: BodySections, skin_color: Array) -> list[Layer]:
    """Skin and garments from the inside out."""
    rng = np.random.default_rng(actor.seed + 31)
    mottle = gaussian_filter(rng.standard_normal((96, 128)), 2.5) * 0.10
    skin = skin_color[None, None, :] * (1.0 + mottle[..., None] * np.array([0.7, 1.0, 1.1]))
    layers = [_trimmed(_skin_layer(sections, np.concatenate([skin, np.full((96, 128, 1), 0.5)], axis=-1)), 11.0)]
    if actor.clothes == "suit":
        return layers + _suit(actor, sections)
    if actor.clothes in ("shirt", "blouse"):
        return layers + _open_shirt(actor, sections)
    return layers + _knitwear(actor, sections)
