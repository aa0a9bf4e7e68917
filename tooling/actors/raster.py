"""Software rasterizer of the synthetic actors: triangles, hair strands, shadow map and resolve.

The kernels are compiled by numba, without fast-math and without threads, so the same input gives the
same bytes. They draw into a supersampled buffer: `color` is (H, W, 4) float32 premultiplied linear
light with coverage, `depth` is (H, W) float32 distance to the camera (infinity where empty).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@numba.njit(cache=True, nogil=True)
def accumulate_normals(positions, triangles, normals):  # type: ignore[no-untyped-def]
    """Area-weighted vertex normals, written into `normals` (N, 3), unit length."""
    normals[:] = 0.0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux = positions[b, 0] - positions[a, 0]
        uy = positions[b, 1] - positions[a, 1]
        uz = positions[b, 2] - positions[a, 2]
        vx = positions[c, 0] - positions[a, 0]
        vy = positions[c, 1] - positions[a, 1]
        vz = positions[c, 2] - positions[a, 2]
        nx = uy * vz - uz * vy
        ny = uz * vx - ux * vz
        nz = ux * vy - uy * vx
        for k in (a, b, c):
            normals[k, 0] += nx
            normals[k, 1] += ny
            normals[k, 2] += nz
    for i in range(normals.shape[0]):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2)
        scale = np.float32(1.0 / max(length, 1e-12))
        normals[i, 0] *= scale
        normals[i, 1] *= scale
        normals[i, 2] *= scale


@numba.njit(cache=True, nogil=True)
def raster_mesh(screen, triangles, light, gloss, uv, texture, color, depth, is_two_sided):  # type: ignore[no-untyped-def]
    """Draw triangles: texture(uv).rgb * light + texture(uv).a * gloss, with depth test.

    screen (N, 3) x and y in buffer pixels, z distance; light and gloss (N, 3); uv (N, 2) in texels of
    texture (h, w, 4). Front faces are counter-clockwise on a y-down screen seen as negative area.
    """
    height, width = depth.shape
    tex_h, tex_w = texture.shape[0], texture.shape[1]
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = screen[a, 0], screen[a, 1]
        bx, by = screen[b, 0], screen[b, 1]
        cx, cy = screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or (area > 0.0 and not is_two_sided):
            continue
        x_low = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        x_high = min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        y_low = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        y_high = min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        if x_low > x_high or y_low > y_high:
            continue
        inverse = np.float32(1.0) / area
        for y in range(y_low, y_high + 1):
            py = np.float32(y) + np.float32(0.5)
            for x in range(x_low, x_high + 1):
                px = np.float32(x) + np.float32(0.5)
                w0 = ((bx - px) * (cy - py) - (by - py) * (cx - px)) * inverse
                w1 = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) * inverse
                w2 = np.float32(1.0) - w0 - w1
                if w0 < 0.0 or w1 < 0.0 or w2 < 0.0:
                    continue
                z = w0 * screen[a, 2] + w1 * screen[b, 2] + w2 * screen[c, 2]
                if z >= depth[y, x]:
                    continue
                depth[y, x] = z
                u = w0 * uv[a, 0] + w1 * uv[b, 0] + w2 * uv[c, 0]
                v = w0 * uv[a, 1] + w1 * uv[b, 1] + w2 * uv[c, 1]
                u = min(max(u, np.float32(0.0)), np.float32(tex_w) - np.float32(1.001))
                v = min(max(v, np.float32(0.0)), np.float32(tex_h) - np.float32(1.001))
                iu, iv = int(u), int(v)
                fu, fv = u - np.float32(iu), v - np.float32(iv)
                t00 = (np.float32(1.0) - fu) * (np.float32(1.0) - fv)
                t10 = fu * (np.float32(1.0) - fv)
                t01 = (np.float32(1.0) - fu) * fv
                t11 = fu * fv
                alpha = (
                    texture[iv, iu, 3] * t00
                    + texture[iv, iu + 1, 3] * t10
                    + texture[iv + 1, iu, 3] * t01
                    + texture[iv + 1, iu + 1, 3] * t11
                )
                for k in range(3):
                    albedo = (
                        texture[iv, iu, k] * t00
                        + texture[iv, iu + 1, k] * t10
                        + texture[iv + 1, iu, k] * t01
                        + texture[iv + 1, iu + 1, k] * t11
                    )
                    lit = w0 * light[a, k] + w1 * light[b, k] + w2 * light[c, k]
                    shine = w0 * gloss[a, k] + w1 * gloss[b, k] + w2 * gloss[c, k]
                    color[y, x, k] = albedo * lit + alpha * shine
                color[y, x, 3] = 1.0


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
def shadow_visibility(light_space, depth, bias, softness, visibility):  # type: ignore[no-untyped-def]
    """Share of light that reaches each point: a 5x5 comparison with a soft depth threshold.

    light_space (N, 3) in shadow-map texels and depth units; result in [0, 1].
    """
    height, width = depth.shape
    for i in range(light_space.shape[0]):
        x0 = int(np.floor(light_space[i, 0]))
        y0 = int(np.floor(light_space[i, 1]))
        if x0 < 2 or y0 < 2 or x0 >= width - 3 or y0 >= height - 3:
            visibility[i] = 1.0
            continue
        fx = light_space[i, 0] - np.float32(x0)
        fy = light_space[i, 1] - np.float32(y0)
        z = light_space[i, 2] - bias
        total = np.float32(0.0)
        for dy in range(-2, 3):
            wy = np.float32(1.0)
            if dy == -2:
                wy = np.float32(1.0) - fy
            elif dy == 2:
                wy = fy
            for dx in range(-2, 3):
                wx = np.float32(1.0)
                if dx == -2:
                    wx = np.float32(1.0) - fx
                elif dx == 2:
                    wx = fx
                blocked = (z - depth[y0 + dy, x0 + dx]) / softness
                total += wx * wy * (np.float32(1.0) - min(max(blocked, np.float32(0.0)), np.float32(1.0)))
        visibility[i] = total / np.float32(16.0)


@numba.njit(cache=True, nogil=True)
def draw_strands(screen, colors, alpha, half_width, first_strand, num_strands, color, depth):  # type: ignore[no-untyped-def]
    """Strands as ribbons, blended in order with depth test.

    screen (S, K, 3) points, colors (S, K, 3) linear light, alpha (S, K), half_width (S, K) in buffer
    pixels. Every segment is walked along its longer axis; coverage falls off over one pixel.
    """
    height, width = depth.shape
    one = np.float32(1.0)
    half = np.float32(0.5)
    for s in range(first_strand, first_strand + num_strands):
        for k in range(screen.shape[1] - 1):
            x0, y0, z0 = screen[s, k, 0], screen[s, k, 1], screen[s, k, 2]
            x1, y1, z1 = screen[s, k + 1, 0], screen[s, k + 1, 1], screen[s, k + 1, 2]
            dx, dy = x1 - x0, y1 - y0
            is_steep = abs(dy) >= abs(dx)
            along0 = y0 if is_steep else x0
            along1 = y1 if is_steep else x1
            span = along1 - along0
            if abs(span) < 1e-6:
                continue
            length = np.sqrt(dx * dx + dy * dy)
            slant = length / abs(span)
            first = int(np.ceil(min(along0, along1) - half))
            last = int(np.ceil(max(along0, along1) - half)) - 1
            for step in range(first, last + 1):
                f = (np.float32(step) + half - along0) / span
                across = x0 + f * dx if is_steep else y0 + f * dy
                z = z0 + f * (z1 - z0)
                opacity = alpha[s, k] + f * (alpha[s, k + 1] - alpha[s, k])
                reach = (half_width[s, k] + f * (half_width[s, k + 1] - half_width[s, k])) * slant
                low = int(np.floor(across - reach - half))
                high = int(np.ceil(across + reach - half))
                for cell in range(low, high + 1):
                    px = cell if is_steep else step
                    py = step if is_steep else cell
                    if px < 0 or py < 0 or px >= width or py >= height or z >= depth[py, px]:
                        continue
                    cover = min(one, reach + half - abs(np.float32(cell) + half - across)) * opacity
                    if cover <= 0.0:
                        continue
                    keep = one - cover
                    for c in range(3):
                        shade = colors[s, k, c] + f * (colors[s, k + 1, c] - colors[s, k, c])
                        color[py, px, c] = color[py, px, c] * keep + shade * cover
                    color[py, px, 3] = color[py, px, 3] * keep + cover
                    if cover > 0.5:
                        depth[py, px] = z


@numba.njit(cache=True, nogil=True)
def resolve(color, left, top, background, curve, noise, image):  # type: ignore[no-untyped-def]
    """Average 2x2 samples, lay over the background, apply the tone curve and the sensor noise.

    color (2h, 2w, 4) covers the image from (left, top); background (H, W, 3) linear float32; curve is a
    table over linear light [0, 2); noise (H, W) int8 in sixteenths of a level; image (H, W, 3) uint8.
    """
    height, width = image.shape[0], image.shape[1]
    box_h, box_w = color.shape[0] // 2, color.shape[1] // 2
    scale = np.float32(len(curve) / 2.0)
    quarter = np.float32(0.25)
    for y in range(height):
        for x in range(width):
            cy, cx = y - top, x - left
            grain = np.float32(noise[y, x]) * np.float32(0.0625)
            is_inside = 0 <= cy < box_h and 0 <= cx < box_w
            cover = np.float32(0.0)
            if is_inside:
                cover = quarter * (
                    color[2 * cy, 2 * cx, 3]
                    + color[2 * cy, 2 * cx + 1, 3]
                    + color[2 * cy + 1, 2 * cx, 3]
                    + color[2 * cy + 1, 2 * cx + 1, 3]
                )
            for k in range(3):
                value = background[y, x, k] * (np.float32(1.0) - cover)
                if is_inside and cover > 0.0:
                    value += quarter * (
                        color[2 * cy, 2 * cx, k]
                        + color[2 * cy, 2 * cx + 1, k]
                        + color[2 * cy + 1, 2 * cx, k]
                        + color[2 * cy + 1, 2 * cx + 1, k]
                    )
                index = min(int(max(value, np.float32(0.0)) * scale), len(curve) - 1)
                level = curve[index] + grain
                image[y, x, k] = np.uint8(min(max(level, np.float32(0.0)), np.float32(255.0)) + np.float32(0.5))
