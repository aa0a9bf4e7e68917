"""Shadow maps: the depth at which a light first meets the actor, and how much of it reaches a point.

The same maps, from directions all over the sky, give the ambient occlusion.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from tooling.actors.drawing.raster import FloatArray, transformed
from tooling.actors.person.head import Array

REACH_CM = 30.0
HAIR_LETS_THROUGH = np.float32(0.42)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def raster_depth(screen, triangles, depth):  # type: ignore[no-untyped-def]
    """Depth only, both sides, for the shadow map."""
    height, width = depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = screen[a, 0], screen[a, 1]
        bx, by = screen[b, 0], screen[b, 1]
        cx, cy = screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        inverse = np.float32(1.0) / area
        x_low = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        x_high = min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        y_low = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        y_high = min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        for y in range(y_low, y_high + 1):
            py = np.float32(y) + np.float32(0.5)
            for x in range(x_low, x_high + 1):
                px = np.float32(x) + np.float32(0.5)
                w0 = ((bx - px) * (cy - py) - (by - py) * (cx - px)) * inverse
                w1 = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) * inverse
                w2 = np.float32(1.0) - w0 - w1
                if w0 >= 0.0 and w1 >= 0.0 and w2 >= 0.0:
                    z = w0 * screen[a, 2] + w1 * screen[b, 2] + w2 * screen[c, 2]
                    if z < depth[y, x]:
                        depth[y, x] = z


@numba.njit(cache=True, nogil=True, error_model="numpy")
def splat_depth(screen, depth):  # type: ignore[no-untyped-def]
    """Points (N, 3) into a shadow map, each two texels wide (hair strands are dense enough)."""
    height, width = depth.shape
    for i in range(screen.shape[0]):
        x0 = int(np.floor(screen[i, 0] - 0.5))
        y0 = int(np.floor(screen[i, 1] - 0.5))
        if x0 < 0 or y0 < 0 or x0 >= width - 1 or y0 >= height - 1:
            continue
        z = screen[i, 2]
        for dy in range(2):
            for dx in range(2):
                if z < depth[y0 + dy, x0 + dx]:
                    depth[y0 + dy, x0 + dx] = z


@numba.njit(cache=True, nogil=True, error_model="numpy")
def shadow_visibility(light_space, solid, strands, bias, softness, visibility):  # type: ignore[no-untyped-def]
    """Share of light that reaches each point: a 5x5 comparison with a soft depth threshold.

    light_space (N, 3) in shadow-map texels and depth units; solid and strands (H, W) hold the depth of meshes and of
    hair, which lets a share of the light through; result in [0, 1].
    """
    height, width = solid.shape
    zero, one = np.float32(0.0), np.float32(1.0)
    steepness = one / softness
    for i in range(light_space.shape[0]):
        x0 = int(np.floor(light_space[i, 0]))
        y0 = int(np.floor(light_space[i, 1]))
        if x0 < 2 or y0 < 2 or x0 >= width - 3 or y0 >= height - 3:
            visibility[i] = one
            continue
        fx = light_space[i, 0] - np.float32(x0)
        fy = light_space[i, 1] - np.float32(y0)
        z = light_space[i, 2] - bias
        by_mesh, by_hair = zero, zero
        for dy in range(-2, 3):
            wy = one
            if dy == -2:
                wy = one - fy
            elif dy == 2:
                wy = fy
            for dx in range(-2, 3):
                weight = wy
                if dx == -2:
                    weight = wy * (one - fx)
                elif dx == 2:
                    weight = wy * fx
                by_mesh += weight * min(max((z - solid[y0 + dy, x0 + dx]) * steepness, zero), one)
                by_hair += weight * min(max((z - strands[y0 + dy, x0 + dx]) * steepness, zero), one)
        past_hair = one - (one - HAIR_LETS_THROUGH) * by_hair / np.float32(16.0)
        visibility[i] = (one - by_mesh / np.float32(16.0)) * past_hair


def ambient_directions(count: int) -> Array:
    """Directions (count, 3) spread evenly over the sphere, without the lowest ones."""
    k = np.arange(count) + 0.5
    y = 1.0 - 1.7 * k / count
    turn = np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - y**2)
    return np.stack([ring * np.cos(turn), y, ring * np.sin(turn)], axis=1)


class ShadowMap:
    """Depth of the actor from a distant light; meshes block all of it, hair only a share."""

    def __init__(self, direction: Array, num_texels: int) -> None:
        side = np.cross([0.0, 1.0, 0.05], direction)
        side /= np.linalg.norm(side)
        up = np.cross(direction, side)
        scale = num_texels / (2 * REACH_CM)
        center = np.array([0.0, -9.0, -1.0])
        self._matrix = np.stack([side * scale, -up * scale, -direction])
        self._offset = np.array([num_texels / 2, num_texels / 2, 0.0]) - self._matrix @ center
        self._solid = np.full((num_texels, num_texels), np.inf, np.float32)
        self._strands = np.full((num_texels, num_texels), np.inf, np.float32)

    def add_mesh(self, positions: FloatArray, triangles: NDArray[np.int32]) -> None:
        raster_depth(transformed(positions, self._matrix, self._offset), triangles, self._solid)

    def add_hair(self, points: FloatArray) -> None:
        splat_depth(transformed(points, self._matrix, self._offset).reshape(-1, 3), self._strands)

    def visibility(self, points: FloatArray, bias_cm: float, softness_cm: float) -> FloatArray:
        """Share of light in [0, 1] that reaches each of the points (N, 3)."""
        seen = transformed(points, self._matrix, self._offset)
        reached = np.empty(len(points), np.float32)
        shadow_visibility(seen, self._solid, self._strands, np.float32(bias_cm), np.float32(softness_cm), reached)
        return reached
