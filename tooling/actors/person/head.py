"""The head: a stack of horizontal sections with facial relief, cut open along the lids and the mouth.

Head space is in centimetres: x to image right, y up, z to the camera, origin between the eyes' centres
deep in the head. The rest shape has closed lids and closed lips; `ExpressionModel` opens them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from generation.smoothing import smoothstep
from tooling.actors.person.detail import Detail
from tooling.actors.person.identity import Actor

Array = NDArray[Any]  # float64 while building, float32 once it is drawn
TOP_Y = 11.4
BOTTOM_Y = -11.3
EYE_RADIUS = 1.22


@dataclass(frozen=True)
class FaceLayout:
    """Where the features lie, in cm of the unstretched face."""

    eye_x: float
    eye_half_width: float
    eye_upper: float
    eye_lower: float
    eye_inner_y: float
    eye_outer_y: float
    brow_y: float
    nose_tip_y: float
    nose_half_width: float
    mouth_y: float
    mouth_half_width: float
    upper_lip: float
    lower_lip: float


@dataclass(frozen=True)
class HeadMesh:
    """Rest shape as a grid whose two slit rows (lids, lips) exist twice.

    positions (V, 3) cm; canonical (V, 2) x and y on the unstretched face; triangles (T, 3); uv (V, 2) in [0, 1];
    is_below_lids, is_below_lips (V,) below the slit, its lower edge included; eye_centers (2, 3) cm, image left first.
    """

    positions: Array
    canonical: Array
    triangles: NDArray[np.int32]
    uv: Array
    is_below_lids: NDArray[np.bool_]
    is_below_lips: NDArray[np.bool_]
    grid_shape: tuple[int, int]
    eye_centers: Array
    layout: FaceLayout


def _layout_of(actor: Actor) -> FaceLayout:
    """Where an actor's features lie."""
    eye_x = 3.18 + 0.20 * actor.eye_spacing
    half_width = 1.50 + 0.09 * actor.eye_size
    return FaceLayout(
        eye_x=eye_x,
        eye_half_width=half_width,
        eye_upper=0.53 + 0.07 * actor.eye_opening + 0.03 * actor.eye_size,
        eye_lower=0.36 + 0.04 * actor.eye_opening,
        eye_inner_y=-0.13 - 0.04 * actor.eye_tilt,
        eye_outer_y=0.10 + 0.10 * actor.eye_tilt,
        brow_y=2.02 + 0.20 * actor.brow_height,
        nose_tip_y=-3.72 - 0.26 * actor.nose_length,
        nose_half_width=1.78 + 0.18 * actor.nose_width,
        mouth_y=-6.52 - 0.16 * actor.mouth_height - 0.14 * actor.nose_length,
        mouth_half_width=2.45 + 0.22 * actor.mouth_width,
        upper_lip=0.72 + 0.16 * actor.upper_lip,
        lower_lip=0.95 + 0.18 * actor.lower_lip,
    )


def gauss(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    """A bump of height 1 at (cx, cy) with standard deviations sx and sy."""
    return np.asarray(np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2)))


def lid_curves(x: Array, layout: FaceLayout) -> tuple[Array, Array, Array]:
    """Upper lid, lower lid and closing line (y) over |x|; equal beyond the corners of the eye."""
    s = np.clip((np.abs(x) - layout.eye_x) / layout.eye_half_width, -1.0, 1.0)
    base = layout.eye_inner_y + (layout.eye_outer_y - layout.eye_inner_y) * (s + 1.0) / 2.0
    arch = 1.0 - s * s
    upper = base + layout.eye_upper * arch**0.62 * (1.0 - 0.10 * s) * (0.80 + 0.20 * smoothstep(-1.0, -0.35, s))
    lower = base - layout.eye_lower * arch**0.85 * (1.0 + 0.24 * s)
    closed = base - 0.62 * layout.eye_lower * arch
    return upper, lower, closed


def lip_curve(x: Array, layout: FaceLayout) -> Array:
    """Line between the closed lips."""
    s = np.clip(np.abs(x) / layout.mouth_half_width, 0.0, 1.0)
    return np.asarray(layout.mouth_y - 0.10 * np.exp(-((s / 0.22) ** 2)) + 0.06 * s * (1 - s) + 0.13 * s**3)


def _rows(num_rows: int) -> Array:
    """Row heights from crown to chin, dense at lids, nose underside and lips."""
    knots = [TOP_Y, 11.0, 7.0, 3.0, 1.5, 0.9, -0.9, -1.8, -3.8, -5.4, -6.0, -7.8, -9.0, -10.8, BOTTOM_Y]
    density = [60.0, 16, 7, 9, 13, 25, 25, 12, 15, 20, 26, 26, 14, 16, 40]
    y = np.linspace(TOP_Y, BOTTOM_Y, 4000)
    cumulative = np.cumsum(np.interp(-y, [-k for k in knots], density))
    cumulative = (cumulative - cumulative[0]) / (cumulative[-1] - cumulative[0])
    return np.asarray(np.interp(np.linspace(0, 1, num_rows), cumulative, y))


def column_azimuths(num_columns: int) -> Array:
    """Azimuths (num_columns,), dense on the face; the seam is at the back."""
    phi = np.linspace(-np.pi, np.pi, 8000)
    density = 1.0 + 3.2 * np.exp(-((np.abs(phi) / 1.05) ** 6))
    cumulative = np.cumsum(density)
    cumulative = (cumulative - cumulative[0]) / (cumulative[-1] - cumulative[0])
    return np.asarray(np.interp(np.linspace(0, 1, num_columns), cumulative, phi))


class _Sections:
    """Half width, front, back and centre depth of the horizontal section at each height."""

    def __init__(self, actor: Actor) -> None:
        jaw, width = actor.jaw_width, actor.face_width
        chin, chin_w = actor.chin_length, actor.chin_width
        knots = [
            # y, front z, back z, half width, z of the widest place
            (3.0, 9.05, -9.9, 7.30, -0.5),
            (1.2, 8.90, -9.7, 7.16, -0.5),
            (-1.0, 8.62, -9.2, 7.05 + 0.16 * actor.cheekbone, -0.2),
            (-3.0, 8.58, -8.2, 6.80 + 0.16 * actor.cheekbone, 0.1),
            (-5.0, 8.75, -6.5, 6.30 + 0.22 * jaw, 0.6),
            (-7.0, 8.86, -3.6, 5.62 + 0.48 * jaw, 1.4),
            (-9.0, 8.70, 0.0, 4.35 + 0.50 * jaw + 0.15 * chin_w, 3.2),
            (-10.2, 8.55 + 0.1 * chin, 2.8, 3.05 + 0.32 * jaw + 0.35 * chin_w, 4.9),
            (-10.9, 8.10 + 0.1 * chin, 4.8, 1.95 + 0.15 * jaw + 0.35 * chin_w, 6.1),
            (BOTTOM_Y, 6.9, 6.1, 0.25, 6.5),
        ]
        table = np.array(knots[::-1])
        self._curves = [PchipInterpolator(table[:, 0], table[:, k]) for k in range(1, 5)]
        self._width_scale = (1.0 if actor.gender == "male" else 0.955) + 0.035 * width

    def __call__(self, y: Array) -> tuple[Array, Array, Array, Array]:
        low = np.minimum(y, 3.0)
        front, back, half_width, center = (np.asarray(curve(low)) for curve in self._curves)
        dome = np.clip((y - 3.0) / (TOP_Y - 3.0), 0.0, 1.0)
        shrink = (1.0 - dome**2.15) ** (1.0 / 2.15)
        front = np.where(y > 3.0, -0.5 + (front + 0.5) * shrink, front)
        back = np.where(y > 3.0, -0.5 + (back + 0.5) * shrink, back)
        swell = 1.0 + 0.035 * np.sin(np.pi * np.clip(dome * 1.25, 0.0, 1.0))
        return front, back, half_width * shrink * swell * self._width_scale, center

    def point(self, phi: Array, y: Array) -> tuple[Array, Array]:
        """x and z on the section by azimuth (0 is the front)."""
        front, back, half_width, center = self(y)
        depth = np.where(np.abs(phi) < np.pi / 2, front - center, center - back)
        flatness = 2.0 + 0.28 * np.exp(-(((y + 1.5) / 4.0) ** 2))
        power = np.where(np.abs(phi) < np.pi / 2, flatness, 2.0)
        sine, cosine = np.abs(np.sin(phi)), np.abs(np.cos(phi))
        radius = ((sine / np.maximum(half_width, 1e-3)) ** power
                  + (cosine / np.maximum(depth, 1e-3)) ** power) ** (-1.0 / power)  # fmt: skip
        return radius * np.sin(phi), center + radius * np.cos(phi)


def _nose(x: Array, y: Array, actor: Actor, layout: FaceLayout) -> Array:
    tip = layout.nose_tip_y
    bridge = actor.nose_bridge
    heights = [2.6, 1.2, 0.1, 0.45 * tip, 0.8 * tip, tip, tip - 0.5, tip - 0.85, tip - 1.15, tip - 1.6]
    relief = [0.0, 0.10 + 0.10 * bridge, 0.36 + 0.20 * bridge, 0.95 + 0.2 * bridge, 1.62 + 0.08 * bridge,
              1.98 + 0.1 * actor.nose_tip, 1.80, 1.12, 0.28, 0.0]  # fmt: skip
    ridge = np.asarray(PchipInterpolator(heights[::-1], relief[::-1])(np.clip(y, heights[-1], heights[0])))
    spread = np.interp(-y, [-2.0, 0.0, -0.5 * tip, -tip, 1.0 - tip], [0.72, 0.58, 0.66, 0.84, 0.80])
    spread = spread * (1.0 + 0.10 * actor.nose_width)
    bump = ridge * np.exp(-0.5 * (np.abs(x) / spread) ** 2.0)
    bump = bump + (0.16 + 0.06 * actor.nose_tip) * gauss(x, y, 0.0, tip + 0.08, 0.62, 0.55)
    ala_x = layout.nose_half_width - 0.52
    for side in (-1.0, 1.0):
        bump = bump + 0.80 * gauss(x, y, side * ala_x, tip - 0.28, 0.38, 0.42)
        bump = bump - 0.30 * gauss(x, y, side * (ala_x + 0.62), tip - 0.2, 0.20, 0.5)
        bump = bump - 0.42 * gauss(x, y, side * 0.58, tip - 0.86, 0.27, 0.16)
    return np.asarray(bump * (1.0 if actor.gender == "male" else 0.86))


def _lips(x: Array, y: Array, layout: FaceLayout) -> Array:
    line = lip_curve(x, layout)
    s = np.abs(x) / layout.mouth_half_width
    taper = np.clip(1.0 - s**2.2, 0.0, 1.0) ** 0.7
    up = (y - line) / (layout.upper_lip * np.maximum(taper, 0.15))
    down = (line - y) / (layout.lower_lip * np.maximum(taper, 0.15))
    upper = np.where(y >= line, np.exp(-(((up - 0.55) / 0.55) ** 2)), 0.0) * 0.34 * taper
    lower = np.where(y < line, np.exp(-(((down - 0.50) / 0.50) ** 2)), 0.0) * 0.46 * taper
    seam = -0.30 * np.exp(-(((y - line) / 0.13) ** 2)) * np.clip(1.15 - s**3, 0.0, 1.0)
    muzzle = 0.42 * gauss(x, y, 0.0, layout.mouth_y + 0.1, 2.1, 1.5)
    philtrum_y = layout.mouth_y + layout.upper_lip + 0.55
    philtrum = -0.10 * gauss(x, y, 0.0, philtrum_y, 0.22, 0.5)
    for side in (-1.0, 1.0):
        philtrum = philtrum + 0.07 * gauss(x, y, side * 0.42, philtrum_y, 0.2, 0.5)
        philtrum = philtrum - 0.16 * gauss(x, y, side * (layout.mouth_half_width + 0.2), layout.mouth_y, 0.32, 0.4)
    return np.asarray(upper + lower + seam + muzzle + philtrum)


def _relief(x: Array, y: Array, actor: Actor, layout: FaceLayout) -> Array:
    """Displacement to the front, in cm, of everything but the nose."""
    old = actor.wrinkles
    is_male = actor.gender == "male"
    total = 0.34 * gauss(x, y, 0.0, -10.0, 1.25 + 0.3 * actor.chin_width, 0.75)
    total = total - 0.26 * gauss(x, y, 0.0, layout.mouth_y - layout.lower_lip - 0.55, 1.3, 0.38)
    total = total + (0.26 if is_male else 0.10) * gauss(x, y, 0.0, 2.1, 2.0, 0.7)
    for side in (-1.0, 1.0):
        socket_x = side * layout.eye_x
        total = total - 0.52 * gauss(x, y, socket_x, 0.05, 1.75, 1.0)
        total = total - 0.30 * gauss(x, y, side * 1.5, 0.35, 0.55, 0.9)
        total = total + (0.30 if is_male else 0.16) * gauss(x, y, socket_x, layout.brow_y + 0.15, 2.0, 0.55)
        total = total + (0.40 + 0.14 * actor.cheekbone) * gauss(x, y, side * 4.7, -2.3, 1.5, 1.1)
        total = total + (0.16 + 0.26 * actor.cheek_fullness) * gauss(x, y, side * 4.0, -4.9, 1.6, 1.7)
        total = total - 0.22 * old * gauss(x, y, side * 4.6, -5.4, 1.1, 1.3)
        fold_x = side * (1.95 + 0.30 * np.clip(-4.2 - y, -0.5, 3.0))
        fold = np.exp(-0.5 * ((x - fold_x) / 0.26) ** 2) * np.exp(-0.5 * ((y + 5.3) / 0.95) ** 2)
        total = total - (0.07 + 0.16 * old) * fold
        bag = gauss(x, y, socket_x, -1.15, 1.1, 0.2)
        total = total + (0.05 + 0.06 * old) * gauss(x, y, socket_x, -0.85, 1.1, 0.22) - 0.10 * old * bag
    return np.asarray(total)


def _stretch(y: Array, actor: Actor) -> Array:
    """Face length: lengthens below the eyes, and the chin on its own."""
    below = np.minimum(y + 1.2, 0.0)
    chin = np.minimum(y + 8.0, 0.0)
    return np.asarray(y + 0.035 * actor.face_length * below + 0.11 * actor.chin_length * chin)


def _shift_rows(y: Array, x: Array, layout: FaceLayout, eye_row_y: float, mouth_row_y: float) -> Array:
    """Bend the rows so that one follows the lids' closing line and one the line between the lips."""
    _, _, closed = lid_curves(x, layout)
    near_eye = smoothstep(2.2, 1.5, np.abs(np.abs(x) - layout.eye_x))
    shifted = y + (closed - eye_row_y) * near_eye * smoothstep(1.3, 0.0, np.abs(y - eye_row_y))
    near_mouth = smoothstep(1.9, 1.0, np.abs(x) / layout.mouth_half_width)
    gap = lip_curve(x, layout) - mouth_row_y
    return np.asarray(shifted + gap * near_mouth * smoothstep(1.6, 0.0, np.abs(y - mouth_row_y)))


def _asymmetry(x: Array, y: Array, seed: int) -> Array:
    """Small smooth offsets so that the two halves of the face are not mirror images."""
    rng = np.random.default_rng(seed + 71)
    total = np.zeros_like(x)
    for _ in range(14):
        cx, cy = rng.uniform(-5, 5), rng.uniform(-10, 5)
        total = total + rng.normal(0.0, 0.07) * gauss(x, y, cx, cy, 1.6, 1.6)
    return total


def build_head(actor: Actor, detail: Detail) -> HeadMesh:
    """The rest shape of an actor's head."""
    layout = _layout_of(actor)
    sections = _Sections(actor)
    rows, phi = _rows(detail.num_rows), column_azimuths(detail.num_columns)
    eye_row = int(np.argmin(np.abs(rows + 0.2)))
    mouth_row = int(np.argmin(np.abs(rows - layout.mouth_y)))
    # Both slit rows twice: the upper edge, then the lower edge.
    order = np.sort(np.r_[np.arange(len(rows)), eye_row, mouth_row])
    y, azimuth = np.meshgrid(rows[order], phi, indexing="ij")
    x, _ = sections.point(azimuth, y)
    y = _shift_rows(y, x, layout, float(rows[eye_row]), float(rows[mouth_row]))
    x, z = sections.point(azimuth, y)
    front = smoothstep(0.15, 0.6, np.cos(azimuth))
    z = z + front * (_relief(x, y, actor, layout) + _nose(x, y, actor, layout) + _lips(x, y, layout))
    z = z + front * _asymmetry(x, y, actor.seed)
    x_out = x * (1.0 - 0.02 * front * gauss(x, y, 0.0, 3.2, 30.0, 1.6) * smoothstep(5.0, 7.0, np.abs(x)))
    num_rows, num_columns = y.shape
    positions = np.stack([x_out, _stretch(y, actor), z], axis=-1).reshape(-1, 3)
    uv = np.stack(np.meshgrid(np.linspace(0, 1, num_columns), np.linspace(0, 1, num_rows)), axis=-1)
    row_index = np.repeat(np.arange(num_rows), num_columns)
    return HeadMesh(
        positions=positions,
        canonical=np.stack([x, y], axis=-1).reshape(-1, 2),
        triangles=grid_triangles(num_rows, num_columns, (eye_row, mouth_row + 1)),
        uv=uv.reshape(-1, 2),
        is_below_lids=row_index > eye_row,
        is_below_lips=row_index > mouth_row + 1,
        grid_shape=(num_rows, num_columns),
        eye_centers=_eye_centers(positions, x, y, z, layout),
        layout=layout,
    )


def _eye_centers(positions: Array, x: Array, y: Array, z: Array, layout: FaceLayout) -> Array:
    """Centres of the eyeballs, their fronts slightly before the skin of the socket."""
    centers = []
    for side in (-1.0, 1.0):
        nearest = int(np.argmin((x - side * layout.eye_x) ** 2 + y**2 + 1e3 * (z < 0)))
        centers.append([side * layout.eye_x, -0.02, positions[nearest, 2] + 0.16 - EYE_RADIUS])
    return np.array(centers)


def grid_triangles(num_rows: int, num_columns: int, slit_rows: tuple[int, ...] = ()) -> NDArray[np.int32]:
    """Two triangles (T, 3) per cell of a grid of vertices, none between a slit row and the row after it."""
    row = np.array([r for r in range(num_rows - 1) if r not in slit_rows])
    a = (row[:, None] * num_columns + np.arange(num_columns - 1)[None, :]).reshape(-1)
    b, c, d = a + 1, a + num_columns, a + num_columns + 1
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)]).astype(np.int32)
