"""A workspace of clips of incompressible bytes, for what only moves bytes."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from tooling.settings import Settings
from tooling.stages import plan
from tooling.work.tasks import finished_record, planned_record
from tooling.workspace.files import write_text
from tooling.workspace.identities import Identity, format_identities
from tooling.workspace.layout import Workspace, create_workspace

NUM_FRAMES = 450


def make_workspace(root: Path, num_clips: int, num_bytes: int) -> Workspace:
    """Raw clips of noise with tracks, planned."""
    workspace = create_workspace(root, Settings())
    people = {str(n): Identity(str(n), "male", "granted") for n in range(1, num_clips + 1)}
    write_text(workspace.identities_path, format_identities(people))
    for identity in people:
        path, track = f"raw_video/{identity}.mp4", workspace.track_name(identity)
        noise = random.Random(path)
        staged = {name: workspace.staging_path(name) for name in (path, track)}
        staged[path].write_bytes(noise.randbytes(num_bytes))
        points = [[round(noise.uniform(0, 700), 2) for _ in range(14)] for _ in range(NUM_FRAMES)]
        content = {
            "width": 1280,
            "height": 720,
            "boxes": [values[:4] for values in points],
            "landmarks": [[values[at : at + 2] for at in range(4, 14, 2)] for values in points],
            "is_detected": [True] * NUM_FRAMES,
        }
        staged[track].write_text(json.dumps(content), encoding="utf-8")
        wanted = planned_record(path.removesuffix(".mp4"), path, {}, "noise", {})
        record = finished_record(wanted, staged, width=1280, height=720, fps=30.0, num_frames=NUM_FRAMES)
        workspace.publish("raw_video", replace(record, digital_source_type="digitalCapture"), staged)
    plan.draw_plan(workspace)
    return workspace
