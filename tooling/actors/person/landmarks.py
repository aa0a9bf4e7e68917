"""The usual 68 face landmarks, as vertices of the head, and MTCNN's five."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tooling.actors.person.head import Array, HeadMesh, lid_curves, lip_curve
from tooling.actors.person.identity import Actor
from tooling.actors.person.skin import brow_curve

JAW_HEIGHTS = (0.0, -1.9, -3.8, -5.6, -7.2, -8.6, -9.7, -10.5)


def _nearest(head: HeadMesh, x: float, y: float, allowed: NDArray[np.bool_]) -> int:
    distance = (head.canonical[:, 0] - x) ** 2 + (head.canonical[:, 1] - y) ** 2
    return int(np.argmin(np.where(allowed, distance, np.inf)))


def _contour(head: HeadMesh, side: float) -> list[int]:
    """Widest vertex of the face at each jaw height, ear to chin."""
    chosen = []
    for height in JAW_HEIGHTS:
        level = (np.abs(head.canonical[:, 1] - height) < 0.25) & (head.positions[:, 2] > -0.5)
        chosen.append(int(np.argmax(np.where(level, side * head.canonical[:, 0], -np.inf))))
    return chosen


def _eye(head: HeadMesh, side: float) -> list[int]:
    """Corners and lids of one eye: inner, upper inner, upper outer, outer, lower outer, lower inner."""
    layout = head.layout
    front = head.positions[:, 2] > 2
    result = []
    for s, is_lower in ((-0.97, False), (-0.36, False), (0.36, False), (0.97, False), (0.36, True), (-0.36, True)):
        x = side * (layout.eye_x + s * layout.eye_half_width)
        closed = float(lid_curves(np.array([x]), layout)[2][0])
        result.append(_nearest(head, x, closed, front & (head.is_below_lids == is_lower)))
    return result


def _lips(head: HeadMesh) -> list[int]:
    layout = head.layout
    front = head.positions[:, 2] > 2
    width = layout.mouth_half_width
    result = []

    def outline(s: float, is_lower: bool) -> int:
        line = float(lip_curve(np.array([s * width]), layout)[0])
        taper = max(0.0, 1.0 - s * s) ** 0.75
        y = line - layout.lower_lip * taper if is_lower else line + layout.upper_lip * taper
        return _nearest(head, s * width, y, front & (head.is_below_lips == is_lower))

    def inner(s: float, is_lower: bool) -> int:
        line = float(lip_curve(np.array([s * width]), layout)[0])
        return _nearest(head, s * width, line, front & (head.is_below_lips == is_lower))

    result += [inner(-0.98, False)] + [outline(s, False) for s in (-0.62, -0.24, 0.0, 0.24, 0.62)]
    result += [inner(0.98, False)] + [outline(s, True) for s in (0.62, 0.28, 0.0, -0.28, -0.62)]
    result += [inner(-0.9, False)] + [inner(s, False) for s in (-0.35, 0.0, 0.35)]
    result += [inner(0.9, False)] + [inner(s, True) for s in (0.35, 0.0, -0.35)]
    return result


def landmark_vertices(actor: Actor, head: HeadMesh) -> NDArray[np.int64]:
    """Vertex index of each of the 68 points."""
    front = head.positions[:, 2] > 2
    layout = head.layout
    chin = _nearest(head, 0.0, -11.0, front)
    jaw = [*_contour(head, -1.0), chin, *_contour(head, 1.0)[::-1]]
    t = np.array([0.02, 0.26, 0.5, 0.75, 0.97])
    bx, by, _ = brow_curve(t, actor, head)
    right_brow = [_nearest(head, float(x), float(y), front) for x, y in zip(bx, by, strict=True)]
    left_brow = [_nearest(head, -float(x), float(y), front) for x, y in zip(bx[::-1], by[::-1], strict=True)]
    tip = layout.nose_tip_y
    bridge = [
        _nearest(head, 0.0, y, front) for y in (0.5, 0.5 + 0.33 * (tip - 0.5), 0.5 + 0.67 * (tip - 0.5), tip - 0.1)
    ]
    base = [_nearest(head, x, tip - 1.0, front) for x in (-1.25, -0.62, 0.0, 0.62, 1.25)]
    right = _eye(head, 1.0)
    inner, upper_inner, upper_outer, outer, lower_outer, lower_inner = _eye(head, -1.0)
    left = [outer, upper_outer, upper_inner, inner, lower_inner, lower_outer]
    return np.array(jaw + left_brow + right_brow + bridge + base + left + right + _lips(head), np.int64)


def five_points(points_68: Array, eyes: Array) -> Array:
    """MTCNN's five points in order: eyes (projected eye centres), nose tip, mouth corners, image left first."""
    return np.concatenate([eyes, points_68[[30, 48, 54]]])
