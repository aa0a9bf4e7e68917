"""Hair: strands grown over the scalp along a style's combing field, kept outside head and body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from .body import BodySections
from .head import Array, HeadMesh, smoothstep
from .identity import Actor, HairStyle

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
    "side_part": Recipe(7300, 9.0, 2.0, 2.0, 0.75, 1.25, 0.22, 0.10, 0.55, recession=0.2),
    "crew": Recipe(9000, 2.0, 1.0, 1.0, 1.0, 0.90, 0.16, 0.0, 0.12),
    "fringe_crop": Recipe(7600, 6.5, 1.3, 1.5, 0.75, 1.35, 0.18, 0.2, 0.85, fringe_y=4.3),
    "swept_back": Recipe(7300, 9.0, 2.4, 2.6, 0.95, 1.45, 0.25, 0.05, 0.55, recession=0.35),
    "receding": Recipe(6000, 5.0, 1.9, 1.9, 0.35, 0.55, 0.22, 0.1, 0.35, recession=1.0),
    "long": Recipe(5000, 46.0, 41.0, 38.0, 0.5, 1.15, 1.15, 0.9, 0.22),
    "long_fringe": Recipe(5200, 45.0, 40.0, 38.0, 0.5, 1.15, 1.15, 0.9, 0.22, fringe_y=2.75),
    "bob": Recipe(6000, 22.0, 17.0, 16.0, 0.55, 1.0, 0.7, 0.9, 0.45),
    "bob_fringe": Recipe(6000, 22.0, 17.0, 16.0, 0.5, 1.0, 0.7, 0.9, 0.45, fringe_y=2.7),
    "ponytail": Recipe(7200, 24.0, 20.0, 16.0, 0.40, 0.65, 0.35, 0.0, 0.4),
    "bun": Recipe(7200, 20.0, 20.0, 22.0, 0.40, 0.75, 0.35, 0.0, 0.4),
    "short_perm": Recipe(7600, 6.0, 4.5, 4.5, 0.9, 1.5, 1.0, 0.15, 0.6, curl=0.42),
}


@dataclass(frozen=True)
class Hair:
    """points (S, K, 3) rest positions cm; colors (S, 3) linear; width_cm (S, K) half widths; alpha (S, K);
    lag (S, K) 0 rigid with the head to 1 free; cover (rows * columns,) hair colour on the scalp."""

    points: NDArray[np.float32]
    colors: NDArray[np.float32]
    half_width_cm: NDArray[np.float32]
    alpha: NDArray[np.float32]
    lag: NDArray[np.float32]
    rest_on_body: NDArray[np.float32]


def _hairline(turn: Array, actor: Actor, recession: float) -> Array:
    """Lower edge of the hair (canonical y, cm) by |azimuth|, with temple points and sideburns."""
    high = 0.35 * actor.hairline_height
    knots = np.array([0.0, 0.30, 0.62, 0.86, 1.05, 1.20, 1.38, 1.60, 1.85, 2.2, 2.7, 3.15])
    female = np.array([6.3, 6.2, 5.4, 3.9, 2.2, -0.3, -1.8, 1.6, 0.6, -4.5, -7.0, -7.3])
    male = np.array([6.2, 6.3, 5.8, 4.4, 2.9, 0.4, -2.3, 1.4, 0.8, -3.8, -6.2, -6.6])
    line = np.interp(turn, knots, female if actor.gender == "female" else male)
    temples = np.exp(-(((turn - 0.55) / 0.26) ** 2))
    top = np.exp(-((turn / 0.9) ** 4))
    return np.asarray(line + high * top + recession * (2.3 * temples + 1.1 * top))


def scalp_cover(actor: Actor, canonical_y: Array, azimuth: Array) -> Array:
    """Share of skin covered by hair roots, with a soft irregular edge, per head vertex."""
    recipe = RECIPES[actor.hair_style]
    rng = np.random.default_rng(actor.seed + 41)
    ripple = sum(rng.normal(0, 0.08) * np.sin(f * azimuth + rng.uniform(0, 6.3)) for f in (7, 13, 19, 29, 41))
    line = _hairline(np.abs(azimuth), actor, recipe.recession) + np.asarray(ripple)
    cover = smoothstep(-0.55, 0.95, canonical_y - line)
    if recipe.recession >= 1.0:
        crown = smoothstep(10.9, 8.0, canonical_y)
        cover = cover * (0.45 + 0.55 * np.maximum(crown, smoothstep(0.8, 1.6, np.abs(azimuth))))
    return np.asarray(cover)


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
        total, count = total.reshape(self._shape), count.reshape(self._shape).astype(float)
        mode = ("nearest", "wrap")
        for sigma in (0.7, 1.5, 4.0, 9.0):
            weight = 1e-3 / sigma**3
            total = total + weight * gaussian_filter(total, sigma, mode=mode)
            count = count + weight * gaussian_filter(count, sigma, mode=mode)
        self._radius = gaussian_filter(total / np.maximum(count, 1e-12), 0.8, mode=mode)

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


def _roots(actor: Actor, head: HeadMesh, cover: Array, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Root points on the skin and the share of cover there, sampled by area."""
    corners = head.positions[head.triangles]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    share = cover[head.triangles].mean(axis=1)
    weight = area * np.clip(share * 1.25 - 0.08, 0, 1) ** 1.5
    # Fewer on the back of the head, which only shows below long hair's edges.
    least = 0.35 if RECIPES[actor.hair_style].top_length > 21 else 0.12
    facing = least + (1 - least) * smoothstep(-6.5, 0.5, corners[:, :, 2].mean(axis=1))
    weight = weight * facing * (1.0 + 1.2 * _is_fringe(actor, corners.mean(axis=1)) * (RECIPES[actor.hair_style].fringe_y is not None))
    chosen = rng.choice(len(weight), count, p=weight / weight.sum())
    a, b = rng.random((2, count, 1))
    flip = a + b > 1
    a, b = np.where(flip, 1 - a, a), np.where(flip, 1 - b, b)
    tri = corners[chosen]
    return tri[:, 0] + a * (tri[:, 1] - tri[:, 0]) + b * (tri[:, 2] - tri[:, 0]), share[chosen]


def _is_fringe(actor: Actor, roots: Array) -> NDArray[np.bool_]:
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
        fringe = _is_fringe(actor, roots)
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
    soft_edge = 0.45 + 0.55 * smoothstep(0.05, 0.7, share) if length.max() < 12 else 1.0
    return np.asarray(length * soft_edge * rng.uniform(0.82, 1.06, len(roots)))


def _body_push(points: Array, roots: Array, side: Array, sections: BodySections) -> Array:
    """Locks from the front of the head fall before the shoulders, the others behind."""
    low = points[:, 1] < -11.0
    is_front = roots[:, 2] > 0.2
    surface = sections.front_z(points[:, 0], points[:, 1]) + 1.1
    drop = smoothstep(-11.0, -16.0, points[:, 1])
    front_z = np.maximum(points[:, 2], points[:, 2] + (surface - points[:, 2]) * drop)
    back_z = np.minimum(points[:, 2], points[:, 2] + (-9.5 - points[:, 2]) * drop)
    points[:, 2] = np.where(low, np.where(is_front, front_z, back_z), points[:, 2])
    # Nothing hangs before the face: locks pass beside cheeks and neck.
    beside = 6.6 + 0.5 * smoothstep(2.0, -6.0, points[:, 1]) - 1.2 * smoothstep(-9.0, -16.0, points[:, 1])
    beside = beside * smoothstep(-3.5, 0.5, points[:, 2]) * smoothstep(5.5, 2.0, points[:, 1])
    points[:, 0] = side * np.maximum(side * points[:, 0], beside - 20.0 * (beside <= 0.0))
    return points


def _grow(
    actor: Actor, head: HeadMesh, sections: BodySections, roots: Array, share: Array, rng: np.random.Generator
) -> Array:
    """Strand points (S, K, 3)."""
    recipe = RECIPES[actor.hair_style]
    outside = _Outside(head.positions)
    normal = _unit(roots - CENTER)
    comb = _comb(actor, roots, rng)
    length = _lengths(actor, roots, share, rng)
    top = smoothstep(2.0, 7.0, roots[:, 1])
    volume = 1.0 + 0.18 * actor.hair_volume
    layer = rng.uniform(0.15, 1.0, len(roots))
    part_x = actor.parting_side * (2.7 if actor.hair_style == "side_part" else 1.6)
    flat = 0.72 + 0.28 * smoothstep(0.0, 2.6, np.abs(roots[:, 0] - part_x))
    clearance = (recipe.side_clearance + (recipe.clearance - recipe.side_clearance) * top) * volume * layer * (flat if recipe.gravity > 0.05 else 1.0)
    fringe = _is_fringe(actor, roots) & (recipe.fringe_y is not None)
    is_long = length.max() > 15
    ragged = 0.7 if actor.gender == "male" else 0.22
    stop_y = np.where(fringe, (recipe.fringe_y or 0.0) + ragged * rng.normal(0, 1.0, len(roots)) - 0.07 * np.abs(roots[:, 0]) ** 1.5, -99.0)
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
            # Below the ears long hair no longer spreads but hangs, drawn in towards the neck.
            low = smoothstep(2.0, -4.0, here[:, 1])
            tuck = (-0.42 if actor.hair_style.startswith("bob") else -0.16) * np.sign(here[:, 0]) * smoothstep(-5.0, -9.0, here[:, 1]) * smoothstep(-19.0, -13.0, here[:, 1])
            direction[:, 0] = direction[:, 0] * (1 - 0.95 * low) + tuck
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
            loose = 0.45 + 40.0 * smoothstep(3.5, -5.0, here[:, 1]) ** 2
        following = outside.keep(following, rise, loose)
        if is_long and not actor.hair_style.startswith("p"):
            kept = _body_push(following.copy(), roots, np.where(comb[:, 0] > 0, 1.0, -1.0), sections)
            following = np.where(fringe[:, None], following, kept)
        points[:, k] = here = following
    for _ in range(2):
        points[:, 1:-1] = 0.25 * points[:, :-2] + 0.5 * points[:, 1:-1] + 0.25 * points[:, 2:]
    return points


def _clump(points: Array, share: float, curl: float, rng: np.random.Generator) -> Array:
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


def _crosses_face(actor: Actor, points: Array) -> NDArray[np.bool_]:
    """Strands that stray over forehead or cheeks though the style keeps them off the face."""
    if actor.hair_style in ("side_part", "fringe_crop"):
        return np.zeros(len(points), np.bool_)
    recipe = RECIPES[actor.hair_style]
    turn = np.abs(np.arctan2(points[..., 0], points[..., 2] + 0.5))
    line = _hairline(turn, actor, recipe.recession)
    stray = (points[..., 1] < line - 0.35) & (points[..., 2] > 2.6) & (np.abs(points[..., 0]) < 6.0)
    is_fringe = _is_fringe(actor, points[:, 0]) & (recipe.fringe_y is not None)
    return np.asarray(stray.any(axis=1) & ~is_fringe)


def _tail(actor: Actor, sections: BodySections, rng: np.random.Generator) -> Array:
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


def build_hair(actor: Actor, head: HeadMesh, sections: BodySections, cover: Array) -> Hair:
    """All strands of an actor, ordered back to front."""
    recipe = RECIPES[actor.hair_style]
    rng = np.random.default_rng(actor.seed + 101)
    roots, share = _roots(actor, head, cover, recipe.num_strands, rng)
    points = _clump(_grow(actor, head, sections, roots, share, rng), recipe.clump, recipe.curl, rng)
    kept = ~_crosses_face(actor, points)
    points, share = points[kept], share[kept]
    if actor.hair_style in ("ponytail", "bun"):
        points = np.concatenate([points, _tail(actor, sections, rng)])
        share = np.r_[share, np.ones(len(points) - len(share))]
    order = np.argsort(points[:, NUM_POINTS // 2, 2], kind="stable")
    points, share = points[order], share[order]
    count = len(points)
    segment = np.linalg.norm(np.diff(points, axis=1), axis=-1)
    along = np.concatenate([np.zeros((count, 1)), np.cumsum(segment, axis=1)], axis=1)
    total = np.maximum(along[:, -1:], 1e-6)
    t = along / total
    base = np.asarray(actor.hair_color)[None, :] * rng.uniform(0.65, 1.45, (count, 1))
    is_grey = rng.random((count, 1)) < actor.hair_grey
    colors = np.where(is_grey, np.array([[0.36, 0.355, 0.35]]) * rng.uniform(0.55, 1.15, (count, 1)), base)
    is_long = float(total.max()) > 15.0
    tip = np.clip((1.0 - t) / (0.07 if is_long else 0.18), 0.0, 1.0)
    root = np.clip(0.25 + 0.75 * share[:, None] + t * 2.0, 0.0, 1.0)
    length_room = np.clip((total - 5.0) / 15.0, 0.0, 1.0)
    fallen = smoothstep(-2.0, -16.0, points[..., 1]) * length_room
    return Hair(
        points.astype(np.float32),
        colors.astype(np.float32),
        ((0.050 if is_long else 0.036) * (0.35 + 0.65 * tip) * (0.45 + 0.55 * share[:, None]) * rng.uniform(0.75, 1.25, (count, 1))).astype(np.float32),
        (0.92 * (0.15 + 0.85 * tip) * root).astype(np.float32),
        (0.85 * fallen**1.3).astype(np.float32),
        (smoothstep(-11.0, -17.0, points[..., 1]) * length_room).astype(np.float32),
    )


def azimuths_of(head: HeadMesh, columns: Array) -> Array:
    """Azimuth of every head vertex."""
    return np.asarray(np.tile(columns, head.grid_shape[0]))
