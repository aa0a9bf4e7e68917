"""Software rasterizer of the synthetic actors: projection, normals, triangles and the final image.

The kernels are compiled by numba, without fast-math and without threads, so the same input gives the
same bytes. They draw into a supersampled buffer: `color` is (H, W, 4) float32 premultiplied linear
light with coverage, `depth` is (H, W) float32 distance to the camera (infinity where empty).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from tooling.actors.person.head import Array

FloatArray = NDArray[np.float32]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _transform(points, matrix, offset, result):  # type: ignore[no-untyped-def]
    """result = points @ matrix.T + offset over (N, 3) float32."""
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        for k in range(3):
            result[i, k] = matrix[k, 0] * x + matrix[k, 1] * y + matrix[k, 2] * z + offset[k]


def transformed(points: Array | FloatArray, matrix: Array, offset: Array) -> FloatArray:
    """points @ matrix.T + offset over the last axis, float32."""
    flat = np.ascontiguousarray(points, np.float32).reshape(-1, 3)
    result = np.empty_like(flat)
    _transform(flat, matrix.astype(np.float32), np.asarray(offset, np.float32), result)
    return result.reshape(points.shape)


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
    u_limit = np.float32(texture.shape[1] - 1)
    v_limit = np.float32(texture.shape[0] - 1)
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
                u = min(max(w0 * a[3] + w1 * b[3] + w2 * c[3] + half, np.float32(0.0)), u_limit)
                v = min(max(w0 * a[4] + w1 * b[4] + w2 * c[4] + half, np.float32(0.0)), v_limit)
                texel = texture[np.uint32(v), np.uint32(u)]
                alpha = texel[3]
                pixel = color[y, x]
                for k in range(3):
                    albedo = texel[k]
                    lit = w0 * a[5 + k] + w1 * b[5 + k] + w2 * c[5 + k]
                    shine = w0 * a[8 + k] + w1 * b[8 + k] + w2 * c[8 + k]
                    pixel[k] = albedo * lit + alpha * shine
                pixel[3] = one


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
