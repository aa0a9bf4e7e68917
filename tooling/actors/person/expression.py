"""Pose and expression: how the rest shape of a head opens its eyes, moves its mouth and its brows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from generation.smoothing import smoothstep
from tooling.actors.person.head import EYE_RADIUS, Array, HeadMesh, gauss, lid_curves, lip_curve

JAW_HINGE_Y, JAW_HINGE_Z = -2.6, 0.6
JAW_OPEN_RADIANS = 0.30
NECK_PIVOT = np.array([0.0, -7.0, -2.6])


@dataclass(frozen=True)
class Pose:
    """Head pose and expression of one frame.

    yaw_degrees turns the nose to image right, pitch_degrees lifts it, roll_degrees tips the crown to
    image right. mouth_open, mouth_round and blink lie in [0, 1] (blink 1 is shut), smile and brow_raise
    in [-1, 1]; gaze_x, gaze_y in [-1, 1] look to image right and up. offset_x_cm and offset_y_cm move
    the whole person; sway_degrees leans the shoulders.
    """

    yaw_degrees: float = 0.0
    pitch_degrees: float = 0.0
    roll_degrees: float = 0.0
    mouth_open: float = 0.0
    mouth_round: float = 0.0
    smile: float = 0.0
    blink: float = 0.0
    brow_raise: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0
    offset_x_cm: float = 0.0
    offset_y_cm: float = 0.0
    sway_degrees: float = 0.0


def rotation_matrix(yaw_degrees: float, pitch_degrees: float, roll_degrees: float) -> Array:
    """Head to camera axes: roll, then pitch, then yaw, as 3x3."""
    a, b, c = np.radians([yaw_degrees, -pitch_degrees, -roll_degrees])
    yaw = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    pitch = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    roll = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(yaw @ pitch @ roll)


class ExpressionModel:
    """Displacement fields of one head, prepared once; `apply` gives the vertices of a pose."""

    def __init__(self, head: HeadMesh) -> None:
        self.head = head
        x, y = head.canonical.T
        z = head.positions[:, 2]
        self._front = smoothstep(-1.0, 2.5, z)
        self._smile, self._frown = self._corner_fields(x, y)
        self._brow = self._brow_field(x, y)
        self._round = self._round_field(x, y)
        self._jaw = self._jaw_weights(x, y) * smoothstep(-7.5, 1.5, z + 0.6 * (y + 11.0) - 3.5)
        self._prepare_lids(x, y, z)

    def _corner_fields(self, x: Array, y: Array) -> tuple[Array, Array]:
        layout = self.head.layout
        smile, frown = np.zeros((len(x), 3)), np.zeros((len(x), 3))
        for side in (-1.0, 1.0):
            corner = gauss(x, y, side * layout.mouth_half_width, layout.mouth_y, 1.25, 1.25)
            cheek = gauss(x, y, side * 3.9, -3.3, 1.3, 1.1)
            lid = gauss(x, y, side * layout.eye_x, -1.0, 1.5, 0.5)
            smile += corner[:, None] * [side * 0.66, 0.66, -0.34]
            smile += cheek[:, None] * [side * 0.10, 0.26, 0.34]
            smile += lid[:, None] * [0.0, 0.10, 0.06]
            frown += corner[:, None] * [-side * 0.10, -0.42, -0.05]
        return smile * self._front[:, None], frown * self._front[:, None]

    def _brow_field(self, x: Array, y: Array) -> Array:
        layout = self.head.layout
        field = np.zeros((len(x), 3))
        for side in (-1.0, 1.0):
            bump = gauss(x, y, side * layout.eye_x, layout.brow_y + 0.35, 2.0, 0.95)
            field += bump[:, None] * [0.0, 0.46, 0.03]
        return np.asarray(field * (self._front * smoothstep(0.45, 1.5, y))[:, None])

    def _round_field(self, x: Array, y: Array) -> Array:
        layout = self.head.layout
        bump = gauss(x, y, 0.0, layout.mouth_y, 2.0, 1.2) * self._front
        return np.stack([-0.42 * x * bump, 0.0 * x, 0.42 * bump], axis=1)

    def _jaw_weights(self, x: Array, y: Array) -> Array:
        """0 fixed to the skull, 1 moving with the jaw; torn apart only between the lips."""
        layout = self.head.layout
        s = np.abs(x) / layout.mouth_half_width
        tear = np.where(s < 1.0, np.sqrt(np.maximum(1.0 - s**2, 0.0)), 0.0)
        below = self.head.is_below_lips
        gap = np.where(below, lip_curve(x, layout) - y, y - lip_curve(x, layout))
        reach = np.where(below, 1.5 + 0.6 * np.minimum(s, 2.0), 1.3 + 1.3 * np.minimum(s, 2.0))
        near = smoothstep(0.0, 1.0, np.maximum(gap, 0.0) / reach)
        half = 0.5 * (tear + (1.0 - tear) * near)
        return np.asarray(np.where(below, 0.5 + half, 0.5 - half))

    def _prepare_lids(self, x: Array, y: Array, z: Array) -> None:
        layout = self.head.layout
        near = (np.abs(np.abs(x) - layout.eye_x) < layout.eye_half_width + 0.9) & (np.abs(y) < 2.4) & (z > 2)
        self._lids = np.flatnonzero(near)
        self._lid_x, self._lid_y = x[self._lids], y[self._lids]
        self._lid_z = z[self._lids]
        upper, lower, closed = lid_curves(self._lid_x, layout)
        below = self.head.is_below_lids[self._lids]
        above_reach, below_reach = 1.75, 1.35
        distance = np.where(below, closed - self._lid_y, self._lid_y - closed)
        t = np.clip(distance / np.where(below, below_reach, above_reach), 0.0, 1.0)
        self._lid_share = np.where(t < 0.65, 1.0 - t / 0.85, 1.0 - 0.65 / 0.85) * np.where(
            t < 0.65, 1.0, smoothstep(1.0, 0.65, t)
        )
        self._lid_target = np.where(below, lower - closed, upper - closed)
        self._lid_below = below
        center = self.head.eye_centers[(self._lid_x > 0).astype(int)]
        self._lid_center = center

    def _open_lids(self, positions: Array, pose: Pose) -> None:
        openness = 1.0 - pose.blink
        upper = openness * (1.0 + 0.10 * pose.brow_raise + 0.16 * pose.gaze_y - 0.10 * max(pose.smile, 0.0))
        lower = 0.25 + 0.75 * openness - 0.30 * max(pose.smile, 0.0) - 0.10 * pose.gaze_y * openness
        amount = np.where(self._lid_below, lower, upper)
        new_y = self._lid_y + self._lid_target * self._lid_share * amount
        radius = EYE_RADIUS + 0.12
        squared = radius**2 - (self._lid_x - self._lid_center[:, 0]) ** 2 - (new_y - self._lid_center[:, 1]) ** 2
        ball = np.where(squared > 0, self._lid_center[:, 2] + np.sqrt(np.maximum(squared, 0.0)), -50.0)
        blend = 0.16
        h = np.clip(0.5 + 0.5 * (ball - self._lid_z) / blend, 0.0, 1.0)
        new_z = self._lid_z * (1 - h) + ball * h + blend * h * (1 - h)
        positions[self._lids, 1] += new_y - self._lid_y
        positions[self._lids, 2] += new_z - self._lid_z

    def apply(self, pose: Pose) -> Array:
        """Vertices (V, 3) in head space, cm, for the expression part of a pose."""
        positions = self.head.positions.copy()
        self._open_lids(positions, pose)
        corner = self._smile if pose.smile >= 0 else self._frown
        positions += abs(pose.smile) * corner
        positions += pose.brow_raise * self._brow
        positions += pose.mouth_round * self._round
        angle = self._jaw * (pose.mouth_open * JAW_OPEN_RADIANS)
        return rotate_jaw(positions, angle)


def rotate_jaw(positions: Array, angle: Array | float) -> Array:
    """Turn points about the jaw hinge, chin down and back, by an angle in radians."""
    dy, dz = positions[:, 1] - JAW_HINGE_Y, positions[:, 2] - JAW_HINGE_Z
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = positions.copy()
    turned[:, 1] = JAW_HINGE_Y + dy * cosine - dz * sine
    turned[:, 2] = JAW_HINGE_Z + dz * cosine + dy * sine
    return turned
