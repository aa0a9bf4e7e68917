"""A workspace of two people with clips, tracks and a plan, before anything is generated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from generation.faces.track import FaceTrack
from generation.media.writer import write_clip
from tests.actor_clips import film_person
from tests.workspaces import publish_marked
from tooling.actors import RenderSettings
from tooling.settings import ClipSettings, Settings
from tooling.work.tasks import finished_record, planned_record
from tooling.workspace.files import write_text
from tooling.workspace.identities import Identity, format_identities
from tooling.workspace.layout import Workspace, create_workspace

WIDTH, HEIGHT, NUM_FRAMES = 320, 240, 10
PAIRS = [["1", "2"], ["2", "1"]]


def film_people(root: Path) -> None:
    """Two men with clips and tracks, planned as 1_2 and 2_1, nothing generated."""
    clip = ClipSettings(seconds=NUM_FRAMES / 30, width_px=WIDTH, height_px=HEIGHT)
    workspace = create_workspace(root, Settings(clip=clip))
    people = {identity: Identity(identity, "male", "granted") for identity in ("1", "2")}
    write_text(workspace.identities_path, format_identities(people))
    for identity in people:
        _film(workspace, identity)
    pairs = {"swap_video": PAIRS, "avatarify_video": PAIRS}
    plan = {"format": 1, "seed": 0, "num_folds": 5, "folds": {"1": 2, "2": 2}, "pairs": pairs}
    write_text(workspace.plan_path, json.dumps(plan))


def _film(workspace: Workspace, identity: str) -> None:
    settings = RenderSettings(NUM_FRAMES, width_px=WIDTH, height_px=HEIGHT, motion_seed=int(identity))
    film = film_person(int(identity), "male", settings)
    raw, crop, track = f"raw_video/{identity}.mp4", f"face_video/{identity}.mp4", workspace.track_name(identity)
    staged = {name: workspace.staging_path(name) for name in (raw, crop, track)}
    write_clip(staged[raw], film.frames)
    write_clip(staged[crop], film.frames)
    landmarks = film.landmarks
    boxes = np.hstack([landmarks.min(1) - 20, landmarks.max(1) + 20])
    crops = np.hstack([boxes[:, :2], (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)])
    found = FaceTrack(boxes, landmarks, np.ones(NUM_FRAMES, bool), crops, WIDTH, HEIGHT)
    staged[track].write_text(found.to_json())
    shape = {"width": WIDTH, "height": HEIGHT, "fps": 30.0, "num_frames": NUM_FRAMES}
    for name, files in ((raw, {raw: staged[raw]}), (crop, {crop: staged[crop], track: staged[track]})):
        wanted = planned_record(name[:-4], name, {}, "test", {})
        publish_marked(workspace, finished_record(wanted, files, **shape), files)  # type: ignore[arg-type]
