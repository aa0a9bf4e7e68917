"""Drawing of strands: small hairs and glasses in order, a head of hair from front to back.

The buffers are those of `raster`.
"""

from __future__ import annotations

import numba
import numpy as np


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
    """Whether hair at a point is hidden: outside the layer, behind a mesh, or under hair already drawn."""
    px, py = int(x), int(y)
    if px < left or py < top or px >= left + layer.shape[1] or py >= top + layer.shape[0]:
        return True
    return z >= depth[py, px] or layer[py - top, px - left, 3] > 0.97


@numba.njit(cache=True, nogil=True, error_model="numpy")
def draw_hair(screen, colors, alpha, half_width, order, layer, left, top, depth):  # type: ignore[no-untyped-def]
    """Hair as ribbons, from front to back, into a separate layer; segments that are already covered are skipped.

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
