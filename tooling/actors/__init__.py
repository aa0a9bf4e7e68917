"""Synthetic actors: deterministic talking heads with ground-truth landmarks, rendered by this package alone.

No real person is shown and nothing is downloaded: a head is a mesh with facial relief, hair is grown strand by strand,
and a small software rasterizer (numba) lights and draws them. The demo and the tests use them as input.

A seed and a gender go in; RGB frames with landmarks, or whole source videos with identities.csv, come out.

    actor = sample_actor(3, "female")
    for frame in render_clip(actor, RenderSettings(num_frames=90)):
        frame.image, frame.landmarks

    person   who an actor is: parameters drawn from a seed, and the meshes and textures made from them
    motion   how an actor moves: one pose per frame
    drawing  how a pose becomes a picture
    sources  source videos for `tooling actors`
"""

from __future__ import annotations

from tooling.actors.drawing.render import ActorFrame, ActorRenderer, render_clip, render_still
from tooling.actors.motion import RenderSettings, pose_track
from tooling.actors.person.expression import Pose
from tooling.actors.person.identity import Actor, Gender, sample_actor
from tooling.actors.sources import SourceSettings, write_sources

__all__ = [
    "Actor",
    "ActorFrame",
    "ActorRenderer",
    "Gender",
    "Pose",
    "RenderSettings",
    "SourceSettings",
    "pose_track",
    "render_clip",
    "render_still",
    "sample_actor",
    "write_sources",
]  # fmt: skip
