"""Hair: strands grown over the scalp along a style's combing field, kept outside head and body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generation.smoothing import smoothstep
from tooling.actors.person.body import BodySections
from tooling.actors.person.combing import NUM_POINTS, RECIPES, clump, grow, is_fringe, tail
from tooling.actors.person.head import Array, HeadMesh
from tooling.actors.person.identity import Actor


@dataclass(frozen=True)
class Hair:
    """S strands of K points each.

    points (S, K, 3) rest positions in cm; colors (S, 3) linear light; half_width_cm and alpha (S, K); lag (S, K) from
    0, rigid with the head, to 1, free; rest_on_body (S, K) is 1 where a strand lies on the shoulders.
    """

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


def _roots(actor: Actor, head: HeadMesh, cover: Array, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Root points on the skin and the share of cover there, sampled by area."""
    corners = head.positions[head.triangles]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    share = cover[head.triangles].mean(axis=1)
    weight = area * np.clip(share * 1.25 - 0.08, 0, 1) ** 1.5
    # Fewer on the back of the head, which only shows below long hair's edges.
    least = 0.35 if RECIPES[actor.hair_style].top_length > 21 else 0.12
    facing = least + (1 - least) * smoothstep(-6.5, 0.5, corners[:, :, 2].mean(axis=1))
    weight = (
        weight
        * facing
        * (1.0 + 1.2 * is_fringe(actor, corners.mean(axis=1)) * (RECIPES[actor.hair_style].fringe_y is not None))
    )
    chosen = rng.choice(len(weight), count, p=weight / weight.sum())
    a, b = rng.random((2, count, 1))
    flip = a + b > 1
    a, b = np.where(flip, 1 - a, a), np.where(flip, 1 - b, b)
    tri = corners[chosen]
    return tri[:, 0] + a * (tri[:, 1] - tri[:, 0]) + b * (tri[:, 2] - tri[:, 0]), share[chosen]


def _crosses_face(actor: Actor, points: Array) -> NDArray[np.bool_]:
    """Strands that stray over forehead or cheeks though the style keeps them off the face."""
    if actor.hair_style in ("side_part", "fringe_crop"):
        return np.zeros(len(points), np.bool_)
    recipe = RECIPES[actor.hair_style]
    turn = np.abs(np.arctan2(points[..., 0], points[..., 2] + 0.5))
    line = _hairline(turn, actor, recipe.recession)
    stray = (points[..., 1] < line - 0.35) & (points[..., 2] > 2.6) & (np.abs(points[..., 0]) < 6.0)
    on_fringe = is_fringe(actor, points[:, 0]) & (recipe.fringe_y is not None)
    return np.asarray(stray.any(axis=1) & ~on_fringe)


def build_hair(actor: Actor, head: HeadMesh, sections: BodySections, cover: Array) -> Hair:
    """All strands of an actor, ordered back to front."""
    recipe = RECIPES[actor.hair_style]
    rng = np.random.default_rng(actor.seed + 101)
    roots, share = _roots(actor, head, cover, recipe.num_strands, rng)
    points = clump(grow(actor, head, sections, roots, share, rng), recipe.clump, recipe.curl, rng)
    kept = ~_crosses_face(actor, points)
    points, share = points[kept], share[kept]
    if actor.hair_style in ("ponytail", "bun"):
        points = np.concatenate([points, tail(actor, sections, rng)])
        share = np.r_[share, np.ones(len(points) - len(share))]
    order = np.argsort(points[:, NUM_POINTS // 2, 2], kind="stable")
    points, share = points[order], share[order]
    count = len(points)
    segment = np.linalg.norm(np.diff(points, axis=1), axis=-1)
    along = np.concatenate([np.zeros((count, 1)), np.cumsum(segment, axis=1)], axis=1)
    total = np.maximum(along[:, -1:], 1e-6)
    t = along / total
    base = np.asarray(actor.hair_color)[None, :] * rng.uniform(0.65, 1.45, (count, 1))
    spread = 0.9 * min(1.0, 2.5 * actor.hair_grey)
    greyness = np.clip(actor.hair_grey + spread * (rng.random((count, 1)) - 0.5), 0.0, 1.0) ** 1.3
    silver = np.array([[0.36, 0.355, 0.35]]) * rng.uniform(0.6, 1.1, (count, 1))
    colors = base + (silver - base) * greyness
    is_long = float(total.max()) > 15.0
    tip = np.clip((1.0 - t) / (0.07 if is_long else 0.18), 0.0, 1.0)
    root = np.clip(0.25 + 0.75 * share[:, None] + t * 2.0, 0.0, 1.0)
    length_room = np.clip((total - 5.0) / 15.0, 0.0, 1.0)
    fallen = smoothstep(-2.0, -16.0, points[..., 1]) * length_room
    return Hair(
        points.astype(np.float32),
        colors.astype(np.float32),
        (
            (0.052 if is_long else 0.038)
            * (0.35 + 0.65 * tip)
            * (0.45 + 0.55 * share[:, None])
            * rng.uniform(0.75, 1.25, (count, 1))
        ).astype(np.float32),
        (0.92 * (0.15 + 0.85 * tip) * root).astype(np.float32),
        (0.85 * fallen**1.3).astype(np.float32),
        (smoothstep(-11.0, -17.0, points[..., 1]) * length_room).astype(np.float32),
    )
