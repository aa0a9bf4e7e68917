"""Lights and shading of the actors: soft key, fill, rim and sky light with warm shadow edges on skin."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from tooling.actors.drawing.raster import FloatArray
from tooling.actors.person.materials import Material


@dataclass(frozen=True)
class Lights:
    """directions (L, 3) to the lights, unit; colors (L, 3) linear; sky and ground (3,) ambient light."""

    directions: FloatArray
    colors: FloatArray
    sky: FloatArray
    ground: FloatArray


def studio_lights(key_side: int) -> Lights:
    """Interview set-up: warm key high on one side, cool fill from the other, rim from behind."""
    directions = np.array(
        [[0.62 * key_side, 0.58, 0.72], [-0.80 * key_side, 0.10, 0.70], [-0.55 * key_side, 0.5, -0.75]]
    )
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    colors = np.array([[1.28, 1.17, 1.05], [0.34, 0.38, 0.44], [0.70, 0.72, 0.80]])
    return Lights(
        directions.astype(np.float32),
        colors.astype(np.float32),
        np.array([0.46, 0.49, 0.54], np.float32),
        np.array([0.26, 0.215, 0.185], np.float32),
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _shade(normals, view, visibility, occlusion, directions, colors, sky, ground, wrap, params, light, gloss):  # type: ignore[no-untyped-def]
    """params: gloss strength, exponent, rim strength. Writes light and gloss (N, 3)."""
    strength, exponent, rim_strength = params[0], params[1], params[2]
    for i in range(normals.shape[0]):
        nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
        vx, vy, vz = view[i, 0], view[i, 1], view[i, 2]
        facing = nx * vx + ny * vy + nz * vz
        if facing < -0.2:
            continue
        up = np.float32(0.5) + np.float32(0.5) * ny
        open_sky = occlusion[i]
        for c in range(3):
            # Ambient light in creases turns warm: light that left the skin through more red than blue.
            tint = open_sky + (np.float32(1.0) - open_sky) * open_sky * wrap[c]
            light[i, c] = (ground[c] + (sky[c] - ground[c]) * up) * tint
            gloss[i, c] = np.float32(0.0)
        fresnel = (np.float32(1.0) - max(facing, np.float32(0.0))) ** 4
        for k in range(directions.shape[0]):
            lx, ly, lz = directions[k, 0], directions[k, 1], directions[k, 2]
            cosine = nx * lx + ny * ly + nz * lz
            reach = visibility[i] if k == 0 else np.float32(0.35) + np.float32(0.65) * open_sky
            if k == 2:
                reach *= rim_strength * np.float32(2.0)
            for c in range(3):
                wrapped = max((cosine + wrap[c]) / (np.float32(1.0) + wrap[c]), np.float32(0.0))
                shadow = reach ** (np.float32(1.0) - np.float32(0.8) * wrap[c]) if k == 0 else reach
                light[i, c] += colors[k, c] * wrapped * shadow
            hx, hy, hz = lx + vx, ly + vy, lz + vz
            norm = np.sqrt(hx * hx + hy * hy + hz * hz)
            half = (nx * hx + ny * hy + nz * hz) / max(norm, np.float32(1e-6))
            if half > 0.0 and cosine > 0.0:
                lobe = strength * half**exponent * (np.float32(1.0) + np.float32(4.0) * fresnel) * reach * cosine
                for c in range(3):
                    gloss[i, c] += lobe * colors[k, c]


def shade(
    normals: FloatArray,
    view: FloatArray,
    visibility: FloatArray,
    occlusion: FloatArray,
    lights: Lights,
    material: Material,
) -> tuple[FloatArray, FloatArray]:
    """Diffuse light and gloss (N, 3) per vertex; normals and view (N, 3) unit in camera axes."""
    light = np.zeros_like(normals)
    gloss = np.zeros_like(normals)
    params = np.array([material.gloss, material.exponent, material.rim], np.float32)
    wrap = np.array(material.wrap, np.float32)
    _shade(normals, view, visibility, occlusion, lights.directions, lights.colors, lights.sky, lights.ground,
           wrap, params, light, gloss)  # fmt: skip
    return light, gloss


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _shade_strands(points, base, visibility, occlusion, directions, colors, sky, result):  # type: ignore[no-untyped-def]
    """Kajiya-Kay: light and highlight by the angle to the strand, softened by the head's roundness."""
    num_points = points.shape[1]
    for s in range(points.shape[0]):
        for k in range(num_points):
            before, after = max(k - 1, 0), min(k + 1, num_points - 1)
            tx = points[s, after, 0] - points[s, before, 0]
            ty = points[s, after, 1] - points[s, before, 1]
            tz = points[s, after, 2] - points[s, before, 2]
            norm = max(np.sqrt(tx * tx + ty * ty + tz * tz), np.float32(1e-5))
            tx, ty, tz = tx / norm, ty / norm, tz / norm
            ox, oz = points[s, k, 0], points[s, k, 2] + np.float32(1.0)
            oy = max(points[s, k, 1], np.float32(0.0)) * np.float32(0.8)
            out = max(np.sqrt(ox * ox + oy * oy + oz * oz), np.float32(1e-5))
            ox, oy, oz = ox / out, oy / out, oz / out
            shelter = occlusion[s, k]
            for c in range(3):
                result[s, k, c] = base[s, c] * sky[c] * shelter * np.float32(0.9)
            for i in range(directions.shape[0]):
                lx, ly, lz = directions[i, 0], directions[i, 1], directions[i, 2]
                along = tx * lx + ty * ly + tz * lz
                sine = np.sqrt(max(np.float32(1.0) - along * along, np.float32(0.0)))
                facing = max((ox * lx + oy * ly + oz * lz + np.float32(0.25)) / np.float32(1.25), np.float32(0.0))
                hx, hy, hz = lx, ly, lz + np.float32(1.0)
                h_norm = np.sqrt(hx * hx + hy * hy + hz * hz)
                slide = (tx * hx + ty * hy + tz * hz) / h_norm + np.float32(0.10) * oy
                shine = max(np.float32(1.0) - slide * slide, np.float32(0.0))
                tight = shine**60
                broad = shine**10
                reach = visibility[s, k] if i == 0 else shelter
                for c in range(3):
                    diffuse = base[s, c] * sine * np.float32(1.15)
                    highlight = np.float32(0.024) * tight + base[s, c] * np.float32(0.9) * broad
                    result[s, k, c] += colors[i, c] * reach * facing * (diffuse + highlight)


def shade_hair(
    points: FloatArray, base: FloatArray, visibility: FloatArray, occlusion: FloatArray, lights: Lights
) -> FloatArray:
    """Colours (S, K, 3) of strand points (S, K, 3) in camera axes with base colours (S, 3)."""
    result = np.empty_like(points)
    _shade_strands(points, base, visibility, occlusion, lights.directions, lights.colors, lights.sky, result)
    return result
