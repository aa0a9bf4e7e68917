"""How strands grow: styles, combing directions, clearance from head and body, clumping into locks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from generation.smoothing import smoothstep
from tooling.actors.person.body import BodySections
from tooling.actors.person.head import Array, HeadMesh
from tooling.actors.person.identity import Actor, HairStyle

CENTER = np.array([0.0, 1.5, -0.6])
NUM_POINTS = 20


@dataclass(frozen=True)
class Recipe:
    """A hair style. Lengths, lift (standing up at the root) and clearance (height above skin) in cm."""

    num_strands: int
    top_length: float
    side_length: float
    back_length: float
    lift: float
    clearance: float
    side_clearance: float
    gravity: float
    clump: float
    curl: float = 0.0
    fringe_y: float | None = None
    recession: float = 0.0


RECIPES: dict[HairStyle, Recipe] = {
    "side_part": Recipe(6500, 9.0, 2.0, 2.0, 0.75, 1.25, 0.22, 0.10, 0.55, recession=0.2),
    "crew": Recipe(8000, 2.0, 1.0, 1.0, 1.0, 0.90, 0.16, 0.0, 0.12),
    "fringe_crop": Recipe(6800, 6.5, 1.3, 1.5, 0.9, 1.35, 0.18, 0.15, 0.8, fringe_y=4.7),
    "swept_back": Recipe(6500, 9.0, 2.4, 2.6, 0.95, 1.45, 0.25, 0.05, 0.55, recession=0.35),
    "receding": Recipe(5400, 5.0, 1.9, 1.9, 0.35, 0.55, 0.22, 0.1, 0.35, recession=1.0),
    "long": Recipe(4600, 46.0, 41.0, 38.0, 0.5, 1.15, 1.15, 0.9, 0.22),
    "long_fringe": Recipe(4800, 45.0, 40.0, 38.0, 0.5, 1.15, 1.15, 0.9, 0.22, fringe_y=2.75),
    "bob": Recipe(5200, 22.0, 17.0, 16.0, 0.55, 1.0, 0.7, 0.9, 0.45),
    "bob_fringe": Recipe(5200, 22.0, 17.0, 16.0, 0.5, 1.0, 0.7, 0.9, 0.45, fringe_y=2.7),
    "ponytail": Recipe(6400, 24.0, 20.0, 16.0, 0.40, 0.65, 0.35, 0.0, 0.4),
    "bun": Recipe(6400, 20.0, 20.0, 22.0, 0.40, 0.75, 0.35, 0.0, 0.4),
    "short_perm": Recipe(6800, 6.0, 4.5, 4.5, 0.9, 1.5, 1.0, 0.15, 0.6, curl=0.42),
}


class _Outside:
    """Keeps points outside the head: radius of the head by direction from CENTER."""

    def __init__(self, positions: Array) -> None:
        offset = positions - CENTER
        radius = np.linalg.norm(offset, axis=1)
        azimuth = np.arctan2(offset[:, 0], offset[:, 2])
        height = offset[:, 1] / np.maximum(radius, 1e-6)
        self._shape = (48, 96)
        cell_r = np.clip(((height + 1) / 2 * 47).round().astype(int), 0, 47)
        cell_c = np.clip(((azimuth + np.pi) / (2 * np.pi) * 95).round().astype(int), 0, 95)
        flat = cell_r * 96 + cell_c
        total = np.bincount(flat, radius, 48 * 96)
        count = np.bincount(flat, minlength=48 * 96)
        density: Array = count.reshape(self._shape).astype(float)
        total = total.reshape(self._shape)
        mode: list[Literal["nearest", "wrap"]] = ["nearest", "wrap"]
        for sigma in (0.7, 1.5, 4.0, 9.0):
            weight = 1e-3 / sigma**3
            total = total + weight * gaussian_filter(total, sigma, mode=mode)
            density = density + weight * gaussian_filter(density, sigma, mode=mode)
        self._radius = gaussian_filter(total / np.maximum(density, 1e-12), 0.8, mode=mode)

    def keep(self, points: Array, clearance: Array, loose: Array) -> Array:
        """Points moved radially to lie between `clearance` and `clearance + loose` cm above the skin."""
        offset = points - CENTER
        distance = np.maximum(np.linalg.norm(offset, axis=1), 1e-6)
        rows = (offset[:, 1] / distance + 1) / 2 * 47
        columns = (np.arctan2(offset[:, 0], offset[:, 2]) + np.pi) / (2 * np.pi) * 95
        radius = map_coordinates(self._radius, [rows, columns], order=1, mode="nearest") + clearance
        scale = np.clip(1.0, radius / distance, (radius + loose) / distance)
        return np.asarray(CENTER + offset * scale[:, None])


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def is_fringe(actor: Actor, roots: Array) -> NDArray[np.bool_]:
    """Which roots (N, 3) grow a fringe, if the style has one."""
    turn = np.abs(np.arctan2(roots[:, 0], roots[:, 2] + 0.5))
    reach = 0.66 if actor.gender == "female" else 0.85
    return np.asarray((turn < reach) & (roots[:, 2] > 2.8) & (roots[:, 1] > 4.5))


def _comb(actor: Actor, roots: Array, rng: np.random.Generator) -> Array:
    """Combing direction at each root, unit vectors."""
    style, part = actor.hair_style, actor.parting_side
    x, y, z = roots.T
    top = smoothstep(5.0, 8.2, y)
    back = smoothstep(1.0, -6.0, z)
    down = np.stack([0.10 * x / 7.0, -np.ones_like(x), -0.35 - 0.2 * back], axis=1)
    away = np.where(x > part * 2.7, 1.0, -1.0)
    if style == "side_part":
        over = np.stack([away * 1.0, 0.05 - 0.2 * top, 0.25 - 0.5 * smoothstep(0, 7, z)], axis=1)
    elif style in ("swept_back", "receding"):
        over = np.stack([0.05 * x - 0.15 * part, 0.10 + 0 * x, -np.ones_like(x)], axis=1)
    elif style == "crew":
        over = np.stack([0.10 * x, 0.75 + 0 * x, 0.35 + 0.05 * z], axis=1)
    elif style == "fringe_crop":
        over = np.stack([0.12 * x + 0.25 * part, -0.15 + 0 * x, 0.9 + 0 * x], axis=1)
    elif style == "ponytail":
        return _unit(np.array([0.0, -1.5, -12.5]) - roots)
    elif style == "bun":
        return _unit(np.array([0.0, 9.8, -7.5]) - roots)
    elif style == "short_perm":
        over = np.stack([0.14 * x, 0.35 + 0 * x, -0.25 + 0.02 * z], axis=1)
    else:
        middle = np.where(x > part * (1.6 if "fringe" not in style else 0.2), 1.0, -1.0)
        over = np.stack([middle * 0.9, 0.05 + 0 * x, -0.30 - 0.45 * smoothstep(3, 8, z)], axis=1)
        down = np.stack([0.05 * np.sign(x), -np.ones_like(x), -0.25 - 0.3 * smoothstep(0, 6, z)], axis=1)
    direction = _unit(over) * top[:, None] + _unit(down) * (1 - top)[:, None]
    if RECIPES[style].fringe_y is not None:
        fringe = is_fringe(actor, roots)
        forward = np.stack(
            [0.05 * x + (0.55 * part if style == "fringe_crop" else 0.0), -0.35 + 0 * x, 1.0 + 0 * x], axis=1
        )
        direction[fringe] = _unit(forward)[fringe]
    return _unit(direction + rng.normal(0.0, 0.07, roots.shape))


def _lengths(actor: Actor, roots: Array, share: Array, rng: np.random.Generator) -> Array:
    recipe = RECIPES[actor.hair_style]
    top = smoothstep(3.5, 8.0, roots[:, 1])
    back = smoothstep(-2.0, -6.0, roots[:, 2]) * (1 - top)
    length = recipe.side_length + (recipe.top_length - recipe.side_length) * top
    length = length + (recipe.back_length - length) * back
    if actor.hair_style == "fringe_crop":
        length = length * (1.0 - 0.62 * smoothstep(2.0, 5.5, np.abs(roots[:, 0])))
    soft_edge = 0.45 + 0.55 * smoothstep(0.05, 0.7, share) if length.max() < 12 else 1.0
    return np.asarray(length * soft_edge * rng.uniform(0.82, 1.06, len(roots)))


def _fringe_edge(actor: Actor, roots: Array, rng: np.random.Generator) -> Array:
    """How far above or below the style's height each strand of a fringe ends."""
    if actor.gender == "female":
        return np.asarray(rng.normal(0.0, 0.22, len(roots)) - 0.07 * np.abs(roots[:, 0]) ** 1.5)
    a, b = rng.uniform(0.0, 6.3, 2)
    locks = 0.75 * np.sin(2.1 * roots[:, 0] + a) + 0.5 * np.sin(4.7 * roots[:, 0] + b)
    return np.asarray(locks + rng.normal(0.0, 0.25, len(roots)) + 0.05 * np.abs(roots[:, 0]) ** 1.5)


def _body_push(points: Array, roots: Array, side: Array, sections: BodySections) -> Array:
    """Locks from the front of the head fall in front of the shoulders, the others behind them."""
    low = points[:, 1] < -11.0
    is_front = roots[:, 2] > 0.2
    surface = sections.front_z(points[:, 0], points[:, 1]) + 1.1
    drop = smoothstep(-11.0, -16.0, points[:, 1])
    front_z = np.maximum(points[:, 2], points[:, 2] + (surface - points[:, 2]) * drop)
    back_z = np.minimum(points[:, 2], points[:, 2] + (-9.5 - points[:, 2]) * drop)
    points[:, 2] = np.where(low, np.where(is_front, front_z, back_z), points[:, 2])
    # Nothing hangs in front of the face: locks pass beside cheeks and neck.
    beside = 6.6 + 0.5 * smoothstep(2.0, -6.0, points[:, 1]) - 1.2 * smoothstep(-9.0, -16.0, points[:, 1])
    beside = beside * smoothstep(-3.5, 0.5, points[:, 2]) * smoothstep(5.5, 2.0, points[:, 1])
    points[:, 0] = side * np.maximum(side * points[:, 0], beside - 20.0 * (beside <= 0.0))
    return points


def _clearance(actor: Actor, roots: Array, layer: Array) -> Array:
    """Clearance of each strand from the head (S,) in cm, low at the parting."""
    recipe = RECIPES[actor.hair_style]
    top = smoothstep(2.0, 7.0, roots[:, 1])
    part_x = actor.parting_side * (2.7 if actor.hair_style == "side_part" else 1.6)
    flat = 0.72 + 0.28 * smoothstep(0.0, 2.6, np.abs(roots[:, 0] - part_x))
    return np.asarray(
        (recipe.side_clearance + (recipe.clearance - recipe.side_clearance) * top)
        * (1.0 + 0.18 * actor.hair_volume)
        * layer
        * (flat if recipe.gravity > 0.05 else 1.0)
    )


def _hang(actor: Actor, here: Array, sideways: Array) -> Array:
    """Sideways direction of long hair (S,): below the ears it no longer spreads but is drawn in towards the neck."""
    low = smoothstep(2.0, -4.0, here[:, 1])
    tuck = (
        (-0.42 if actor.hair_style.startswith("bob") else -0.16)
        * np.sign(here[:, 0])
        * smoothstep(-5.0, -9.0, here[:, 1])
        * smoothstep(-19.0, -13.0, here[:, 1])
    )
    return np.asarray(sideways * (1 - 0.95 * low) + tuck)


def grow(
    actor: Actor, head: HeadMesh, sections: BodySections, roots: Array, share: Array, rng: np.random.Generator
) -> Array:
    """Strand points (S, K, 3) in cm, grown step by step from the roots (S, 3) with cover `share` (S,)."""
    recipe = RECIPES[actor.hair_style]
    outside = _Outside(head.positions)
    normal = _unit(roots - CENTER)
    comb = _comb(actor, roots, rng)
    length = _lengths(actor, roots, share, rng)
    layer = rng.uniform(0.15, 1.0, len(roots))
    clearance = _clearance(actor, roots, layer)
    fringe = is_fringe(actor, roots) & (recipe.fringe_y is not None)
    is_long = length.max() > 15
    stop_y = np.where(fringe, (recipe.fringe_y or 0.0) + _fringe_edge(actor, roots, rng), -99.0)
    if recipe.fringe_y is not None:
        clearance = np.where(fringe, 0.55 * layer + 0.1, clearance)
    if actor.hair_style.startswith("bob"):
        stop_y = np.where(fringe, stop_y, -9.3 + rng.normal(0, 0.35, len(roots)))
    points = np.empty((len(roots), NUM_POINTS, 3))
    points[:, 0] = here = roots
    # Long strands bend over the head first: shorter steps there.
    places = np.linspace(0, 1, NUM_POINTS) ** (1.2 if is_long else 1.0)
    # Locks from the front hairline are led back over the head before they fall.
    held = np.where(is_long & ~fringe, 4.0 * smoothstep(2.0, 6.5, roots[:, 2]), 0.0)
    for k in range(1, NUM_POINTS):
        step = (length * (places[k] - places[k - 1]))[:, None]
        gone = length * places[k]
        walked = np.maximum(gone - held, 0.0)
        fall = recipe.gravity * smoothstep(1.0, 9.0, walked) + np.where(fringe, 0.5 * smoothstep(1, 4, walked), 0)
        comb_share = 1.0 - 0.85 * smoothstep(2.0, 10.0, walked) * min(recipe.gravity * 1.2, 1.0)
        lift = recipe.lift * np.clip(1 - walked / 3.0, 0, 1)
        direction = comb * comb_share[:, None] + normal * lift[:, None]
        direction[:, 1] -= fall * 1.6
        if is_long:
            direction[:, 0] = _hang(actor, here, direction[:, 0])
        if actor.hair_style in ("ponytail", "bun"):
            target = np.array([0.0, -1.5, -11.0]) if actor.hair_style == "ponytail" else np.array([0.0, 9.6, -6.8])
            direction = (target - here) + normal * (recipe.lift * np.clip(1 - walked / 2.5, 0, 1))[:, None]
            speed = np.minimum(np.linalg.norm(target - here, axis=1, keepdims=True), step)
        else:
            speed = step * (here[:, 1] > stop_y)[:, None]
        following = here + _unit(direction) * speed
        rise = clearance * smoothstep(0.0, 1.2, gone)
        loose = 0.35 * clearance + 0.25
        if is_long:
            loose = np.asarray(0.45 + 40.0 * smoothstep(3.5, -5.0, here[:, 1]) ** 2)
        following = outside.keep(following, rise, loose)
        if is_long and not actor.hair_style.startswith("p"):
            kept = _body_push(following.copy(), roots, np.where(comb[:, 0] > 0, 1.0, -1.0), sections)
            following = np.where(fringe[:, None], following, kept)
        points[:, k] = here = following
    for _ in range(2):
        points[:, 1:-1] = 0.25 * points[:, :-2] + 0.5 * points[:, 1:-1] + 0.25 * points[:, 2:]
    return points


def clump(points: Array, share: float, curl: float, rng: np.random.Generator) -> Array:
    """Pull strands towards a lock's middle strand, more at the tips; curls wind about the strand."""
    count = len(points)
    leaders = rng.choice(count, max(40, count // 22), replace=False)
    _, nearest = cKDTree(points[leaders][:, 2]).query(points[:, 2])
    middle = points[leaders][nearest]
    t = np.linspace(0, 1, NUM_POINTS)[None, :, None] ** 1.4
    strength = share * rng.uniform(0.4, 1.0, (count, 1, 1)) * t
    spread = np.clip(np.linalg.norm(points - middle, axis=-1, keepdims=True) / 2.0, 0, 1)
    points = points + (middle - points) * strength * (1 - 0.7 * spread)
    step = np.linalg.norm(np.diff(points, axis=1, prepend=points[:, :1]), axis=-1, keepdims=True)
    points = points + np.cumsum(rng.normal(0, 0.045, points.shape) * np.minimum(step, 1.0), axis=1) * t
    length = np.linalg.norm(np.diff(points, axis=1), axis=-1).sum(axis=1)[:, None]
    wave_phase = rng.uniform(0, 6.3, (2, len(leaders)))[:, nearest]
    run = np.linspace(0, 1, NUM_POINTS)[None, :] ** 1.2 * length
    swing = 0.55 * np.clip((length - 12.0) / 20.0, 0, 1) * smoothstep(8.0, 20.0, run)
    points[..., 0] += swing * np.sin(0.40 * run + 0.22 * wave_phase[0][:, None] + 1.5)
    fan = rng.uniform(-1.9, 1.9, count)[:, None] * smoothstep(-2.0, -17.0, points[..., 1]) * (swing > 0)
    points[..., 0] += fan
    points[..., 2] += 0.7 * swing * np.sin(0.45 * run + 0.5 * wave_phase[1][:, None])
    if curl:
        phase = rng.uniform(0, 6.3, len(leaders))[nearest][:, None] + np.linspace(0, 11.0, NUM_POINTS)[None, :]
        wind = np.stack([np.cos(phase), np.sin(phase), np.sin(phase * 0.7)], axis=-1)
        points = points + curl * wind * np.minimum(t * 3.0, 1.0)
    return points


def tail(actor: Actor, sections: BodySections, rng: np.random.Generator) -> Array:
    """The gathered part of a ponytail (over one shoulder) or the knot of a bun."""
    count = 1500
    t = np.linspace(0, 1, NUM_POINTS)[None, :]
    if actor.hair_style == "bun":
        turn = rng.uniform(0, 2 * np.pi, (count, 1)) + t * 3.4
        lean = rng.uniform(-1.0, 1.0, (count, 1)) + 0.25 * np.sin(turn * 2)
        radius = 2.7 * rng.uniform(0.82, 1.0, (count, 1))
        ring = np.sqrt(np.clip(1 - lean**2, 0.05, 1))
        return np.stack(
            [radius * ring * np.cos(turn) * 1.1, 12.1 + radius * ring * np.sin(turn) * 0.9, -6.4 + radius * lean], -1
        )
    side = float(actor.parting_side)
    path = np.array([[0, -1.5, -11.0], [2.5 * side, -5.0, -11.5], [6.0 * side, -10.0, -8.5], [8.6 * side, -14.0, -1.5],
                     [8.6 * side, -19.0, 0.0], [8.0 * side, -26.0, 0.0], [7.6 * side, -31.0, 0.0]])  # fmt: skip
    low = path[:, 1] < -13.5
    path[low, 2] = sections.front_z(path[low, 0], path[low, 1]) + 1.4
    knots = np.linspace(0, 1, len(path))
    center = np.stack([np.interp(t[0], knots, path[:, k]) for k in range(3)], -1)
    center[1:-1] = 0.25 * center[:-2] + 0.5 * center[1:-1] + 0.25 * center[2:]
    girth = np.interp(t[0], [0, 0.12, 0.5, 0.85, 1.0], [0.8, 1.3, 1.7, 1.4, 0.3])
    angle = rng.uniform(0, 2 * np.pi, (count, 1)) + 0.6 * t
    radius = np.sqrt(rng.uniform(0.1, 1, (count, 1))) * girth[None, :]
    offset = np.stack([radius * np.cos(angle), 0 * radius, radius * np.sin(angle) * 0.7], -1)
    points = center[None] + offset
    reach = rng.uniform(0.86, 1.0, (count, 1))
    source = np.clip(reach * t, 0, 1) * (NUM_POINTS - 1)
    low_index = np.minimum(source.astype(int), NUM_POINTS - 2)
    f = (source - low_index)[..., None]
    picked = (
        np.take_along_axis(points, low_index[..., None], 1),
        np.take_along_axis(points, low_index[..., None] + 1, 1),
    )
    return np.asarray(picked[0] * (1 - f) + picked[1] * f)
