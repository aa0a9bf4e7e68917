"""Frames of an actor: meshes and textures are prepared once, then posed, lit and drawn for each frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tooling.actors.drawing import raster, strands
from tooling.actors.drawing.backdrop import paint_backdrop
from tooling.actors.drawing.lighting import Lights, shade, shade_hair, studio_lights
from tooling.actors.drawing.raster import FloatArray, transformed
from tooling.actors.drawing.shadow import ShadowMap, ambient_directions
from tooling.actors.motion import RenderSettings, lagging_poses, pose_track
from tooling.actors.person.body import BodySections, Layer, build_body
from tooling.actors.person.detail import Detail, detail_for
from tooling.actors.person.expression import (
    JAW_OPEN_RADIANS,
    NECK_PIVOT,
    ExpressionModel,
    Pose,
    rotate_jaw,
    rotation_matrix,
)
from tooling.actors.person.features import (
    Part,
    SmallHairs,
    build_brow_hairs,
    build_glasses,
    build_lashes,
    build_parts,
)
from tooling.actors.person.hair import build_hair, scalp_cover
from tooling.actors.person.head import EYE_RADIUS, Array, build_head, column_azimuths
from tooling.actors.person.identity import Actor
from tooling.actors.person.landmarks import five_points, landmark_vertices
from tooling.actors.person.materials import SKIN, Material
from tooling.actors.person.skin import paint_face, skin_color

CAMERA_DISTANCE_CM = 115.0
FRAME_HEIGHT_CM = {"frontal": 44.0, "close": 34.0, "wide": 62.0}
FRAME_CENTER_Y_CM = {"frontal": -4.6, "close": -1.5, "wide": -12.0}
NUM_SHADOW_TEXELS = 288
NOISE_LEVELS = 1.25
BODY_PIVOT = np.array([0.0, -34.0, -4.0])


@dataclass(frozen=True)
class ActorFrame:
    """One rendered frame with its ground truth.

    image (H, W, 3) uint8 RGB; landmarks (5, 2) px in MTCNN's order: image-left eye, image-right eye,
    nose tip, image-left and image-right mouth corner; landmarks_68 (68, 2) px in the usual order;
    is_visible: all five landmarks lie in the frame.
    """

    image: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    landmarks_68: NDArray[np.float32]
    is_visible: bool


@dataclass
class _Mesh:
    """A mesh to draw: its vertices in the current pose, and what is needed to shade them."""

    triangles: NDArray[np.int32]
    uv: FloatArray
    texture: FloatArray
    material: Material
    is_two_sided: bool
    darkening: float
    occlusion: FloatArray
    positions: FloatArray
    source: Part | Layer | None


def _tone_curve() -> FloatArray:
    """Levels 0 to 255 over linear light [0, 2): sRGB with a soft shoulder above 0.6."""
    x = np.arange(16384) / 8192.0
    soft = np.where(x < 0.6, x, 0.6 + 0.4 * (1 - np.exp(-(x - 0.6) / 0.4)))
    encoded = np.where(soft <= 0.0031308, 12.92 * soft, 1.055 * np.maximum(soft, 1e-9) ** (1 / 2.4) - 0.055)
    return (255.0 * encoded).astype(np.float32)


class ActorRenderer:
    """Renders frames of one actor at one size; meshes, textures and buffers are made once."""

    def __init__(self, actor: Actor, width_px: int, height_px: int, shot: str = "frontal") -> None:
        if width_px < 16 or height_px < 16:
            raise ValueError(f"frames must be at least 16 px wide and high, not {width_px}x{height_px}")
        self.actor, self.width_px, self.height_px = actor, width_px, height_px
        self._scale = height_px / FRAME_HEIGHT_CM[shot]
        self._center_y = FRAME_CENTER_Y_CM[shot]
        self._lights: Lights = studio_lights(actor.key_side)
        self._curve = _tone_curve()
        detail = detail_for(self._scale)
        self._build(detail)
        self._background = paint_backdrop(actor, width_px, height_px)
        self._noise = self._noise_tile()
        self._color = np.zeros((0, 0, 4), np.float32)
        self._depth = np.zeros((0, 0), np.float32)
        self._bake_occlusion(detail.num_sky_directions)

    def _build(self, detail: Detail) -> None:
        actor = self.actor
        self._head = build_head(actor, detail)
        self._model = ExpressionModel(self._head)
        azimuth = np.tile(column_azimuths(detail.num_columns), self._head.grid_shape[0])
        cover = scalp_cover(actor, self._head.canonical[:, 1], azimuth)
        sections = BodySections(actor)
        self._hair = build_hair(actor, self._head, sections, cover)
        skin = skin_color(actor)
        texture = paint_face(actor, self._head, cover, detail)
        self._meshes = [self._mesh(self._head.triangles, self._head.uv, texture, SKIN, None)]
        for part in build_parts(actor, self._head, skin, detail):
            self._meshes.append(self._mesh(part.triangles, part.uv, part.texture, part.material, part))
        for layer in reversed(build_body(actor, sections, skin)):
            self._meshes.append(self._mesh(layer.triangles, layer.uv, layer.texture, layer.material, layer))
        self._lashes, self._brows = build_lashes(actor, self._head), build_brow_hairs(actor, self._head)
        self._glasses, self._glasses_width = build_glasses(actor, self._head)
        self._landmark_vertices = landmark_vertices(actor, self._head)

    @staticmethod
    def _mesh(
        triangles: NDArray[np.int32], uv: Array, texture: FloatArray, material: Material, source: Part | Layer | None
    ) -> _Mesh:
        size = np.array([texture.shape[1] - 1, texture.shape[0] - 1])
        count = len(uv)
        return _Mesh(
            triangles, (uv * size).astype(np.float32), np.ascontiguousarray(texture, np.float32), material,
            source is not None and source.is_two_sided, source.darkening if isinstance(source, Part) else 1.0,
            np.ones(count, np.float32), np.zeros((count, 3), np.float32), source,
        )  # fmt: skip

    def _noise_tile(self) -> NDArray[np.int8]:
        rng = np.random.default_rng(self.actor.seed + 401)
        tile = rng.standard_normal((self.height_px + 96, self.width_px + 96), dtype=np.float32)
        return np.clip(np.round(tile * NOISE_LEVELS * 16), -127, 127).astype(np.int8)

    # Posing

    def _place_head(self, points: Array | FloatArray, pose: Pose) -> FloatArray:
        """Head space -> camera axes, cm."""
        turn = rotation_matrix(pose.yaw_degrees, pose.pitch_degrees, pose.roll_degrees)
        lean, offset = self._body_frame(pose)
        return transformed(points, lean @ turn, lean @ (NECK_PIVOT - turn @ NECK_PIVOT) + offset)

    @staticmethod
    def _body_frame(pose: Pose) -> tuple[Array, Array]:
        """Matrix and offset that lean and move the shoulders."""
        lean = rotation_matrix(0.30 * pose.yaw_degrees, 0.0, pose.sway_degrees)
        return lean, BODY_PIVOT - lean @ BODY_PIVOT + [pose.offset_x_cm, pose.offset_y_cm, 0.0]

    def _place_body(self, points: Array | FloatArray, pose: Pose) -> FloatArray:
        return transformed(points, *self._body_frame(pose))

    def _pose_part(self, part: Part, pose: Pose) -> FloatArray:
        points = part.positions
        if part.anchor in ("left_eye", "right_eye"):
            turn = rotation_matrix(26.0 * pose.gaze_x, 18.0 * pose.gaze_y, 0.0)
            points = points @ turn.T + self._head.eye_centers[0 if part.anchor == "left_eye" else 1]
        elif part.anchor == "jaw":
            points = rotate_jaw(points, pose.mouth_open * JAW_OPEN_RADIANS)
        return self._place_head(points, pose)

    def _pose_meshes(self, pose: Pose) -> Array:
        """Set every mesh's camera-space vertices; returns the head's vertices in head space."""
        shaped = self._model.apply(pose)
        self._meshes[0].positions = self._place_head(shaped, pose)
        for mesh in self._meshes[1:]:
            if isinstance(mesh.source, Part):
                mesh.positions = self._pose_part(mesh.source, pose)
            elif isinstance(mesh.source, Layer):
                still = self._place_body(mesh.source.positions, pose)
                moved = self._place_head(mesh.source.positions, pose)
                mesh.positions = (still + (moved - still) * mesh.source.follow_head[:, None]).astype(np.float32)
        return shaped

    def _pose_hair(self, pose: Pose, late: Pose) -> FloatArray:
        hair = self._hair
        rigid = self._place_head(hair.points, pose)
        if hair.lag.max() > 0.01:
            rigid += (self._place_head(hair.points, late) - rigid) * hair.lag[..., None]
            rigid += (self._place_body(hair.points, pose) - rigid) * (0.75 * hair.rest_on_body)[..., None]
        return rigid

    # Light

    def _shadow_map(self, direction: Array, num_texels: int, hair: FloatArray) -> ShadowMap:
        shadow = ShadowMap(direction, num_texels)
        for mesh in self._meshes:
            if mesh.darkening == 1.0:
                shadow.add_mesh(mesh.positions, mesh.triangles)
        shadow.add_hair(hair)
        return shadow

    def _bake_occlusion(self, num_directions: int) -> None:
        """Share of the sky each vertex sees in a neutral pose."""
        neutral = Pose(mouth_open=0.05)
        self._pose_meshes(neutral)
        hair = self._pose_hair(neutral, neutral)
        normals = [self._normals(mesh) for mesh in self._meshes]
        totals = [np.zeros((2, len(mesh.uv)), np.float32) for mesh in self._meshes]
        hair_total = np.zeros(hair.shape[:2], np.float32)
        for direction in ambient_directions(num_directions):
            shadow = self._shadow_map(direction, 128, hair)
            toward = direction.astype(np.float32)
            for mesh, normal, total in zip(self._meshes, normals, totals, strict=True):
                weight = normal @ toward
                faced = np.flatnonzero(weight > 0)
                weight = weight[faced]
                lifted = mesh.positions[faced] + np.float32(0.25) * normal[faced]
                total[0, faced] += weight * shadow.visibility(lifted, 0.35, 0.8)
                total[1, faced] += weight
            hair_total += self._strand_visibility(hair, shadow, 0.30, 1.6)
        for mesh, total in zip(self._meshes, totals, strict=True):
            mesh.occlusion = np.clip(total[0] / np.maximum(total[1], 1e-4), 0.05, 1.0).astype(np.float32)
            if mesh.darkening < 1.0 or (isinstance(mesh.source, Part) and "eye" in mesh.source.anchor):
                mesh.occlusion = np.full(len(mesh.uv), 0.8, np.float32)
        self._hair_occlusion = hair_total / np.float32(num_directions)

    @staticmethod
    def _normals(mesh: _Mesh) -> FloatArray:
        normals = np.zeros_like(mesh.positions)
        raster.accumulate_normals(mesh.positions, mesh.triangles, normals)
        return normals

    # Drawing

    def _project(self, points: Array | FloatArray) -> FloatArray:
        """Camera axes, cm -> full-size px x, y and distance, (..., 3)."""
        flat = np.ascontiguousarray(points, np.float32).reshape(-1, 3)
        result = np.empty_like(flat)
        scale = np.float32(self._scale)
        center = (np.float32(self.width_px / 2), np.float32(self.height_px / 2 + self._center_y * self._scale))
        self._box = raster.project(flat, np.float32(CAMERA_DISTANCE_CM), scale, *center, result)
        return result.reshape(points.shape)

    def _open_buffers(self, boxes: list[tuple[float, float, float, float]]) -> tuple[int, int]:
        """Clear the 2x buffers over the box that holds everything drawn; returns its left and top, px."""
        corners = np.array(boxes)
        left, top = (max(0, int(np.floor(v)) - 2) for v in corners[:, :2].min(0))
        right = min(self.width_px, int(np.ceil(corners[:, 2].max())) + 2)
        bottom = min(self.height_px, int(np.ceil(corners[:, 3].max())) + 2)
        height, width = 2 * max(bottom - top, 1), 2 * max(right - left, 1)
        if self._depth.shape != (height, width):
            self._color, self._depth = np.zeros((height, width, 4), np.float32), np.empty((height, width), np.float32)
        self._color[:] = 0.0
        self._depth[:] = np.inf
        return left, top

    def render(self, pose: Pose, late: Pose, frame_index: int = 0) -> ActorFrame:
        """The frame of a pose; `late` is the pose that loose hair still follows."""
        shaped = self._pose_meshes(pose)
        hair = self._pose_hair(pose, late)
        shadow = self._shadow_map(self._lights.directions[0].astype(np.float64), NUM_SHADOW_TEXELS, hair)
        projected, boxes = [], []
        for points in [mesh.positions for mesh in self._meshes] + [hair]:
            projected.append(self._project(points))
            boxes.append(self._box)
        hair_screen = projected.pop()
        left, top = self._open_buffers(boxes)
        for mesh, screen in zip(self._meshes, projected, strict=True):
            self._draw_mesh(mesh, self._to_buffer(screen, left, top), shadow, pose)
        self._draw_catch_lights(pose, left, top)
        for tufts in (self._brows, self._lashes):
            self._draw_tufts(tufts, shaped, pose, left, top)
        self._draw_glasses(pose, left, top)
        self._draw_hair(hair, self._to_buffer(hair_screen, left, top), shadow)
        image = np.empty((self.height_px, self.width_px, 3), np.uint8)
        rng = np.random.default_rng([self.actor.seed, 77, frame_index])
        dy, dx = rng.integers(0, 96, 2)
        noise = self._noise[dy : dy + self.height_px, dx : dx + self.width_px]
        raster.resolve(self._color, left, top, self._background, self._curve, noise, image)
        points_68 = self._project(self._meshes[0].positions[self._landmark_vertices])[:, :2]
        eyes = self._place_head(self._head.eye_centers + np.array([0.0, 0.0, EYE_RADIUS]), pose)
        points_5 = five_points(points_68, self._project(eyes)[:, :2])
        inside = (points_5 >= 0).all() and (points_5 <= [self.width_px - 1, self.height_px - 1]).all()
        return ActorFrame(image, points_5.astype(np.float32), points_68.astype(np.float32), bool(inside))

    @staticmethod
    def _to_buffer(screen: FloatArray, left: int, top: int) -> FloatArray:
        screen[..., 0] = (screen[..., 0] - np.float32(left)) * np.float32(2.0)
        screen[..., 1] = (screen[..., 1] - np.float32(top)) * np.float32(2.0)
        return screen

    def _draw_mesh(self, mesh: _Mesh, screen: FloatArray, shadow: ShadowMap, pose: Pose) -> None:
        normals = self._normals(mesh)
        view = np.array([0.0, 0.0, CAMERA_DISTANCE_CM], np.float32) - mesh.positions
        view /= np.linalg.norm(view, axis=1, keepdims=True)
        faces_camera = np.flatnonzero(np.einsum("ij,ij->i", normals, view) > -0.2)
        visible = np.zeros(len(normals), np.float32)
        lifted = mesh.positions[faces_camera] + np.float32(0.22) * normals[faces_camera]
        visible[faces_camera] = shadow.visibility(lifted, 0.30, 0.7)
        light, gloss = shade(normals, view, visible, mesh.occlusion, self._lights, mesh.material)
        if isinstance(mesh.source, Part) and "eye" in mesh.source.anchor:
            light *= self._lid_shade(mesh.source, pose)[:, None]
        elif mesh.darkening < 1.0:
            light *= mesh.darkening * (0.55 + 0.45 * min(1.0, 2.2 * pose.mouth_open))
            gloss *= mesh.darkening
        vertices = np.concatenate([screen, mesh.uv, light, gloss], axis=1)
        raster.raster_mesh(vertices, mesh.triangles, mesh.texture, self._color, self._depth, mesh.is_two_sided)

    def _lid_shade(self, part: Part, pose: Pose) -> FloatArray:
        """The upper lid and its lashes shade the top of the eyeball."""
        turn = rotation_matrix(26.0 * pose.gaze_x, 18.0 * pose.gaze_y, 0.0)
        height = (part.positions @ turn.T)[:, 1]
        lid = self._head.layout.eye_upper * (1.0 - pose.blink)
        below = np.clip((lid + 0.06 - height) / 0.42, 0.0, 1.0)
        return (0.40 + 0.60 * below).astype(np.float32)

    def _draw_hair(self, points: FloatArray, screen: FloatArray, shadow: ShadowMap) -> None:
        visible = self._strand_visibility(points, shadow, 0.25, 1.4)
        colors = shade_hair(points, self._hair.colors, visible, self._hair_occlusion, self._lights)
        width = self._hair.half_width_cm * np.float32(2 * self._scale)
        floor = np.float32(0.75)
        alpha = self._hair.alpha * np.minimum(width / floor, 1.0)
        middle = (screen[:, 1:, 2] + screen[:, :-1, 2]).reshape(-1)
        low = middle.min()
        # Sixteen bits of depth: numpy sorts those by radix, in a fraction of the time.
        order = np.argsort(
            ((middle - low) * (65535.0 / max(float(middle.max() - low), 1e-3))).astype(np.uint16), kind="stable"
        )
        height, full_width = self._depth.shape
        left, top = (int(np.clip(np.floor(screen[..., k].min()) - 2, 0, (full_width, height)[k] - 1)) for k in (0, 1))
        right, bottom = (int(np.clip(np.ceil(screen[..., k].max()) + 3, 1, (full_width, height)[k])) for k in (0, 1))
        layer = np.zeros((max(bottom - top, 1), max(right - left, 1), 4), np.float32)
        strands.draw_hair(
            screen, colors, alpha, np.maximum(width, floor) - np.float32(0.25), order, layer, left, top, self._depth
        )
        strands.lay_over(layer, left, top, self._color)

    @staticmethod
    def _strand_visibility(points: FloatArray, shadow: ShadowMap, bias_cm: float, softness_cm: float) -> FloatArray:
        """Light that reaches strand points: computed at every second point, averaged in between."""
        sparse = np.ascontiguousarray(points[:, ::2])
        known = shadow.visibility(sparse.reshape(-1, 3), bias_cm, softness_cm).reshape(sparse.shape[:2])
        visible = np.repeat(known, 2, axis=1)[:, : points.shape[1]]
        visible[:, 1:-1:2] = 0.5 * (known[:, :-1] + known[:, 1:])
        return visible

    def _draw_catch_lights(self, pose: Pose, left: int, top: int) -> None:
        """Reflections of key and fill light on the corneas, fixed to the lights and not to the gaze."""
        turn = rotation_matrix(
            pose.yaw_degrees + 26.0 * pose.gaze_x, pose.pitch_degrees + 18.0 * pose.gaze_y, pose.roll_degrees
        )
        ahead = turn @ np.array([0.0, 0.0, 1.0])
        centers = self._place_head(self._head.eye_centers, pose).astype(np.float64)
        points, colors, widths = [], [], []
        for direction, size, level in (
            (self._lights.directions[0], 0.115, 1.0),
            (self._lights.directions[1], 0.075, 0.28),
        ):
            offset = 0.26 * np.array([direction[0], direction[1], 0.0]) / float(np.hypot(direction[0], direction[1]))
            spot = centers + ahead * (EYE_RADIUS + 0.09) + offset + [0.0, 0.03, 0.0]
            reach = np.array([0.0, size * 0.6, 0.0])
            points.append(np.stack([spot - reach, spot + reach], axis=1))
            colors += [level] * 2
            widths += [size] * 2
        placed = np.concatenate(points)
        screen = self._to_buffer(self._project(placed), left, top)
        tint = np.repeat(np.repeat(np.array(colors, np.float32)[:, None, None], 2, 1), 3, 2)
        half_width = np.repeat(np.array(widths, np.float32)[:, None], 2, 1) * np.float32(2 * self._scale * 0.75)
        alpha = np.full(half_width.shape, 0.92, np.float32)
        strands.draw_strands(screen, tint, alpha, half_width, 0, len(screen), self._color, self._depth)

    def _draw_tufts(self, tufts: SmallHairs, shaped: Array, pose: Pose, left: int, top: int) -> None:
        offsets = tufts.offsets.copy()
        offsets[..., 1] *= (1.0 - 1.7 * pose.blink * tufts.closing)[:, None]
        points = self._place_head(shaped[tufts.vertex][:, None, :] + offsets, pose)
        points[..., 2] += 0.12
        screen = self._to_buffer(self._project(points), left, top)
        colors = np.broadcast_to(tufts.colors[:, None, :], points.shape).astype(np.float32)
        width = (tufts.half_width_cm * 2 * self._scale * np.ones(points.shape[:2])).astype(np.float32)
        alpha = (tufts.alpha * np.minimum(width / 0.7, 1.0) * np.ones(points.shape[:2])).astype(np.float32)
        strands.draw_strands(
            screen, colors, alpha, np.maximum(width, 0.7) - np.float32(0.2), 0, len(points), self._color, self._depth
        )

    def _draw_glasses(self, pose: Pose, left: int, top: int) -> None:
        if not len(self._glasses):
            return
        points = self._place_head(self._glasses, pose)
        screen = self._to_buffer(self._project(points), left, top)
        height = np.linspace(0.0, 1.0, points.shape[1])
        sheen = 0.010 + 0.10 * np.exp(-(((height - 0.22) / 0.06) ** 2))
        colors = np.broadcast_to(sheen[None, :, None], points.shape).astype(np.float32)
        width = np.repeat(self._glasses_width[:, None] * 2 * self._scale, points.shape[1], axis=1).astype(np.float32)
        alpha = np.full(width.shape, 0.96, np.float32)
        strands.draw_strands(
            screen, np.ascontiguousarray(colors), alpha, width, 0, len(points), self._color, self._depth
        )


def render_clip(actor: Actor, settings: RenderSettings) -> Iterator[ActorFrame]:
    """Frames of an actor in motion, one at a time. Raises ValueError for settings out of range."""
    poses = pose_track(settings)
    renderer = ActorRenderer(actor, settings.width_px, settings.height_px, settings.shot)
    for index, (pose, late) in enumerate(zip(poses, lagging_poses(poses, settings.fps), strict=True)):
        yield renderer.render(pose, late, index)


def render_still(actor: Actor, pose: Pose, width_px: int = 1280, height_px: int = 720) -> ActorFrame:
    """One frame of an actor in a pose."""
    return ActorRenderer(actor, width_px, height_px).render(pose, pose)
