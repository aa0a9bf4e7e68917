"""Synthetic actors: deterministic talking heads with ground-truth landmarks, made by our own code.

Nobody is shown and nothing is downloaded: a head is a mesh with facial relief, hair is grown strand by
strand, and a small software rasterizer (numba) lights and draws them. They are the embedded input of the
demo and of the tests.

    actor = sample_actor(3, "female")
    for frame in render_clip(actor, ClipSettings(num_frames=90)):
        frame.image, frame.landmarks
"""

from __future__ import annotations

from collections.abc import Iterator

from tooling.actors.drawing.render import ActorFrame, ActorRenderer
from tooling.actors.motion import ClipSettings, lagging_poses, pose_track
from tooling.actors.person.expression import Pose
from tooling.actors.person.identity import Actor, Gender, sample_actor
from tooling.actors.sources import SourceSettings, write_sources

__all__ = [
    "Actor",
    "ActorFrame",
    "ActorRenderer",
    "ClipSettings",
    "Gender",
    "Pose",
    "SourceSettings",
    "pose_track",
    "render_clip",
    "render_still",
    "sample_actor",
    "write_sources",
]  # fmt: skip


def render_clip(actor: Actor, settings: ClipSettings) -> Iterator[ActorFrame]:
    """Frames of an actor in motion, one at a time. Raises ValueError for settings out of range."""
    poses = pose_track(settings)
    renderer = ActorRenderer(actor, settings.width_px, settings.height_px, settings.shot)
    for index, (pose, late) in enumerate(zip(poses, lagging_poses(poses, settings.fps), strict=True)):
        yield renderer.render(pose, late, index)


def render_still(actor: Actor, pose: Pose, width_px: int = 1280, height_px: int = 720) -> ActorFrame:
    """One frame of an actor in a pose."""
    return ActorRenderer(actor, width_px, height_px).render(pose, pose)
