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


@numba.njit(cache=True, nogil=True, error_model="numpy")
def transform(points, matrix, offset, result):  # type: ignore[no-untyped-def]
    """result = points @ matrix.T + offset over (N, 3) float32."""
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        for k in range(3):
            result[i, k] = matrix[k, 0] * x + matrix[k, 1] * y + matrix[k, 2] * z + offset[k]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def project(points, camera_distance, scale, center_x, center_y, result):  # type: ignore[no-untyped-def]
    """Camera axes in cm (N, 3) -> px x, y and distance; returns left, top, right, bottom of all."""
    left = top = np.float32(1e9)
    right = bottom = np.float32(-1e9)
    for i in range(points.shape[0]):
        distance = camera_distance - points[i, 2]
        zoom = scale * camera_distance / distance
        x = center_x + points[i, 0] * zoom
        y = center_y - points[i, 1] * zoom
        result[i, 0], result[i, 1], result[i, 2] = x, y, distance
        left, right = min(left, x), max(right, x)
        top, bottom = min(top, y), max(bottom, y)
    return left, top, right, bottom


@numba.njit(cache=True, nogil=True, error_model="numpy")
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


@numba.njit(cache=True, nogil=True, error_model="numpy")
def raster_mesh(vertices, triangles, texture, color, depth, is_two_sided):  # type: ignore[no-untyped-def]
    """Draw triangles: texture(uv).rgb * light + texture(uv).a * gloss, with depth test.

    vertices (N, 11): x and y in buffer pixels, distance, u and v in texels of texture (h, w, 4), light
    rgb, gloss rgb. Faces turned away (clockwise seen from the camera) are skipped unless two-sided.
    """
    height, width = depth.shape
    one, half = np.float32(1.0), np.float32(0.5)
    u_limit = np.float32(texture.shape[1]) - np.float32(1.001)
    v_limit = np.float32(texture.shape[0]) - np.float32(1.001)
    for t in range(triangles.shape[0]):
        a, b, c = vertices[triangles[t, 0]], vertices[triangles[t, 1]], vertices[triangles[t, 2]]
        ax, ay, bx, by, cx, cy = a[0], a[1], b[0], b[1], c[0], c[1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or (area > 0.0 and not is_two_sided):
            continue
        x_low = max(0, int(np.ceil(min(ax, bx, cx) - half)))
        x_high = min(width - 1, int(np.floor(max(ax, bx, cx) - half)))
        y_low = max(0, int(np.ceil(min(ay, by, cy) - half)))
        y_high = min(height - 1, int(np.floor(max(ay, by, cy) - half)))
        if x_low > x_high or y_low > y_high:
            continue
        inverse = one / area
        w0_step, w1_step = (by - cy) * inverse, (cy - ay) * inverse
        start = np.float32(x_low) + half
        for y in range(y_low, y_high + 1):
            py = np.float32(y) + half
            w0 = ((bx - start) * (cy - py) - (by - py) * (cx - start)) * inverse - w0_step
            w1 = ((cx - start) * (ay - py) - (cy - py) * (ax - start)) * inverse - w1_step
            for x in range(x_low, x_high + 1):
                w0 += w0_step
                w1 += w1_step
                w2 = one - w0 - w1
                if w0 < 0.0 or w1 < 0.0 or w2 < 0.0:
                    continue
                z = w0 * a[2] + w1 * b[2] + w2 * c[2]
                if z >= depth[y, x]:
                    continue
                depth[y, x] = z
                u = min(max(w0 * a[3] + w1 * b[3] + w2 * c[3], np.float32(0.0)), u_limit)
                v = min(max(w0 * a[4] + w1 * b[4] + w2 * c[4], np.float32(0.0)), v_limit)
                iu, iv = np.uint32(u), np.uint32(v)
                fu, fv = u - np.float32(iu), v - np.float32(iv)
                t11 = fu * fv
                t10, t01 = fu - t11, fv - t11
                t00 = one - fu - t01
                p00, p10 = texture[iv, iu], texture[iv, iu + np.uint32(1)]
                p01, p11 = texture[iv + np.uint32(1), iu], texture[iv + np.uint32(1), iu + np.uint32(1)]
                alpha = p00[3] * t00 + p10[3] * t10 + p01[3] * t01 + p11[3] * t11
                pixel = color[y, x]
                for k in range(3):
                    albedo = p00[k] * t00 + p10[k] * t10 + p01[k] * t01 + p11[k] * t11
                    lit = w0 * a[5 + k] + w1 * b[5 + k] + w2 * c[5 + k]
                    shine = w0 * a[8 + k] + w1 * b[8 + k] + w2 * c[8 + k]
                    pixel[k] = albedo * lit + alpha * shine
                pixel[3] = one


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


@numba.njit(cache=True, nogil=True, error_model="numpy")
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
            if max(x0, x1) < -2.0 or max(y0, y1) < -2.0 or min(x0, x1) > width + 2 or min(y0, y1) > height + 2:
                continue
            span = along1 - along0
            if abs(span) < 1e-6:
                continue
            inverse = one / span
            slant = np.sqrt(dx * dx + dy * dy) * abs(inverse)
            across0 = x0 if is_steep else y0
            tilt = (dx if is_steep else dy) * inverse
            z_step = (z1 - z0) * inverse
            alpha0, reach0 = alpha[s, k], half_width[s, k] * slant
            alpha_step = (alpha[s, k + 1] - alpha0) * inverse
            reach_step = (half_width[s, k + 1] * slant - reach0) * inverse
            r0, g0, b0 = colors[s, k, 0], colors[s, k, 1], colors[s, k, 2]
            r_step = (colors[s, k + 1, 0] - r0) * inverse
            g_step = (colors[s, k + 1, 1] - g0) * inverse
            b_step = (colors[s, k + 1, 2] - b0) * inverse
            limit = height if is_steep else width
            first = max(int(np.ceil(min(along0, along1) - half)), 0)
            last = min(int(np.ceil(max(along0, along1) - half)), limit)
            across_limit = width if is_steep else height
            for step in range(first, last):
                d = np.float32(step) + half - along0
                across = across0 + d * tilt
                z = z0 + d * z_step
                opacity = alpha0 + d * alpha_step
                edge = reach0 + d * reach_step + half
                low = max(int(across - edge + one) - 1, 0)
                high = min(int(across + edge), across_limit - 1)
                red, green, blue = r0 + d * r_step, g0 + d * g_step, b0 + d * b_step
                for cell in range(low, high + 1):
                    px = cell if is_steep else step
                    py = step if is_steep else cell
                    if z >= depth[py, px]:
                        continue
                    cover = min(one, edge - abs(np.float32(cell) + half - across)) * opacity
                    if cover <= 0.0:
                        continue
                    keep = one - cover
                    color[py, px, 0] = color[py, px, 0] * keep + red * cover
                    color[py, px, 1] = color[py, px, 1] * keep + green * cover
                    color[py, px, 2] = color[py, px, 2] * keep + blue * cover
                    color[py, px, 3] = color[py, px, 3] * keep + cover
                    if cover > 0.5:
                        depth[py, px] = z


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _is_hidden(layer, left, top, depth, x, y, z):  # type: ignore[no-untyped-def]
    """Whether hair at a point would not show: outside, behind a mesh, or below hair already drawn."""
    px, py = int(x), int(y)
    if px < left or py < top or px >= left + layer.shape[1] or py >= top + layer.shape[0]:
        return True
    return z >= depth[py, px] or layer[py - top, px - left, 3] > 0.97


@numba.njit(cache=True, nogil=True, error_model="numpy")
def draw_hair(screen, colors, alpha, half_width, order, layer, left, top, depth):  # type: ignore[no-untyped-def]
    """Hair as ribbons, front to back, into a layer of its own: what is covered already is skipped.

    screen (S, K, 3) in buffer pixels; colors (S, K, 3); alpha and half_width (S, K); order: segment
    numbers s * (K - 1) + k from the nearest to the farthest; layer (h, w, 4) premultiplied, lying at
    (left, top) of the buffer whose depth is tested.
    """
    one, half = np.float32(1.0), np.float32(0.5)
    segments = screen.shape[1] - 1
    for number in order:
        s, k = number // segments, number % segments
        x0, y0, z0 = screen[s, k, 0], screen[s, k, 1], screen[s, k, 2]
        x1, y1, z1 = screen[s, k + 1, 0], screen[s, k + 1, 1], screen[s, k + 1, 2]
        dx, dy = x1 - x0, y1 - y0
        is_steep = abs(dy) >= abs(dx)
        along0, along1 = (y0, y1) if is_steep else (x0, x1)
        span = along1 - along0
        if abs(span) < 1e-3:
            continue
        is_hidden = True
        for part in range(9):
            f = np.float32(part) * np.float32(0.125)
            if not _is_hidden(layer, left, top, depth, x0 + f * dx, y0 + f * dy, z0 + f * (z1 - z0)):
                is_hidden = False
                break
        if is_hidden:
            continue
        inverse = one / span
        slant = np.sqrt(dx * dx + dy * dy) * abs(inverse)
        across0, tilt = (x0, dx * inverse) if is_steep else (y0, dy * inverse)
        z_step = (z1 - z0) * inverse
        alpha0, reach0 = alpha[s, k], half_width[s, k] * slant
        alpha_step = (alpha[s, k + 1] - alpha0) * inverse
        reach_step = (half_width[s, k + 1] * slant - reach0) * inverse
        r0, g0, b0 = colors[s, k, 0], colors[s, k, 1], colors[s, k, 2]
        r_step = (colors[s, k + 1, 0] - r0) * inverse
        g_step = (colors[s, k + 1, 1] - g0) * inverse
        b_step = (colors[s, k + 1, 2] - b0) * inverse
        along_low, along_high = (top, top + layer.shape[0]) if is_steep else (left, left + layer.shape[1])
        low_limit, high_limit = (left, left + layer.shape[1]) if is_steep else (top, top + layer.shape[0])
        first = max(int(np.ceil(min(along0, along1) - half)), along_low)
        last = min(int(np.ceil(max(along0, along1) - half)), along_high)
        for step in range(first, last):
            d = np.float32(step) + half - along0
            across = across0 + d * tilt
            z = z0 + d * z_step
            opacity = alpha0 + d * alpha_step
            edge = reach0 + d * reach_step + half
            low = max(int(across - edge + one) - 1, low_limit)
            high = min(int(across + edge), high_limit - 1)
            for cell in range(low, high + 1):
                px, py = (cell, step) if is_steep else (step, cell)
                room = one - layer[py - top, px - left, 3]
                if room < 0.03 or z >= depth[py, px]:
                    continue
                cover = min(one, edge - abs(np.float32(cell) + half - across)) * opacity * room
                if cover <= 0.0:
                    continue
                layer[py - top, px - left, 0] += (r0 + d * r_step) * cover
                layer[py - top, px - left, 1] += (g0 + d * g_step) * cover
                layer[py - top, px - left, 2] += (b0 + d * b_step) * cover
                layer[py - top, px - left, 3] += cover


@numba.njit(cache=True, nogil=True, error_model="numpy")
def lay_over(layer, left, top, color):  # type: ignore[no-untyped-def]
    """Lay a premultiplied layer over the colour buffer at (left, top)."""
    for y in range(layer.shape[0]):
        for x in range(layer.shape[1]):
            cover = layer[y, x, 3]
            if cover > 0.0:
                keep = np.float32(1.0) - cover
                for k in range(4):
                    color[top + y, left + x, k] = color[top + y, left + x, k] * keep + layer[y, x, k]


@numba.njit(cache=True, nogil=True, error_model="numpy")
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
