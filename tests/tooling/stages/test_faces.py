"""The faces stage: crops that correspond frame by frame, resume, refusals."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generation.arrays import Frame
from generation.faces.crop import crop_face
from generation.faces.track import FaceTrack
from generation.media.reader import read_clip
from generation.media.writer import write_clip
from tests.actor_clips import HEIGHT, NUM_FRAMES, WIDTH, Clip, film_person
from tests.workspaces import publish_marked, reproducible_state
from tooling.actors import RenderSettings
from tooling.errors import InputError
from tooling.settings import ClipSettings, Settings
from tooling.stages import faces as stage
from tooling.work.tasks import finished_record, planned_record
from tooling.workspace.layout import Workspace, create_workspace, open_workspace


@pytest.fixture(scope="session")
def man() -> Clip:
    return film_person(1, "male", RenderSettings(NUM_FRAMES, width_px=WIDTH, height_px=HEIGHT))


def add_clip(workspace: Workspace, identity: str, frames: list[Frame]) -> None:
    name = f"raw_video/{identity}.mp4"
    staged = workspace.staging_path(name)
    write_clip(staged, frames)
    wanted = planned_record(f"raw_video/{identity}", name, {f"{identity}.mov": "0" * 64}, "ingest", {})
    record = finished_record(wanted, {name: staged}, width=WIDTH, height=HEIGHT, fps=30, num_frames=len(frames))
    publish_marked(workspace, record, {name: staged})


@pytest.fixture
def workspace(tmp_path: Path, man: Clip) -> Iterator[Workspace]:
    clip = ClipSettings(seconds=0.4, width_px=WIDTH, height_px=HEIGHT)
    workspace = create_workspace(tmp_path / "work", Settings(clip=clip))
    add_clip(workspace, "1", man.frames[:12])
    add_clip(workspace, "2", [np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 12)
    add_clip(workspace, "3", man.frames[20:32])
    with workspace.locked():
        yield workspace


def content_of(workspace: Workspace) -> dict[str, Any]:
    """Crops, tracks and their records but for what signatures change."""
    state = reproducible_state(workspace)
    return {name: content for name, content in state.items() if name.startswith(("face_video", "tracks"))}


def test_stage_makes_crops_that_correspond_frame_by_frame(workspace: Workspace) -> None:
    result = stage.crop_faces(workspace, num_workers=1)
    assert result.made == ["face_video/1", "face_video/3"]
    assert list(result.refused) == ["face_video/2"]
    assert result.refused["face_video/2"].startswith("raw_video/2.mp4: no face was found")
    names = ["face_video/1.mp4", "face_video/3.mp4", "face_video/metadata.jsonl", "tracks/1.json", "tracks/3.json"]
    assert set(names) <= {path.relative_to(workspace.root).as_posix() for path in workspace.root.rglob("*")}

    record = workspace.records("face_video")["face_video/3"]
    assert (record.width, record.height, record.fps, record.num_frames) == (350, 350, 30.0, 12)
    assert list(record.companions) == ["tracks/3.json"]
    track = FaceTrack.from_json(workspace.path("tracks/3.json").read_text(encoding="utf-8"))
    clip, crops = read_clip(workspace.path("raw_video/3.mp4")), read_clip(workspace.path("face_video/3.mp4"))
    assert crops.shape == (12, 350, 350, 3)
    expected = np.stack([crop_face(frame, square, 350) for frame, square in zip(clip, track.crop, strict=True)])
    differences = [[float(np.abs(crop.astype(int) - other).mean()) for other in expected.astype(int)] for crop in crops]
    assert np.diagonal(differences).max() < 3
    assert np.argmin(differences, axis=1).tolist() == list(range(12))


def test_stage_keeps_what_is_finished_and_gives_the_same_bytes_again(workspace: Workspace) -> None:
    stage.crop_faces(workspace, num_workers=1, only=["3"])
    before = content_of(workspace)
    assert stage.crop_faces(workspace, num_workers=1, only=["3"]).kept == ["face_video/3"]
    assert content_of(workspace) == before
    for name in ("face_video/3.mp4", "tracks/3.json"):
        workspace.path(name).unlink()
    torch.set_num_threads(2)  # the bytes must not depend on it
    try:
        assert stage.crop_faces(workspace, num_workers=1, only=["3"]).made == ["face_video/3"]
    finally:
        torch.set_num_threads(1)
    assert content_of(workspace) == before


def test_stage_refuses_unknown_names_and_changed_clips(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="no clip of '7'"):
        stage.crop_faces(workspace, only=["7"])
    clip = workspace.path("raw_video/3.mp4")
    clip.write_bytes(clip.read_bytes()[:-100])
    result = stage.crop_faces(workspace, num_workers=1, only=["3"])
    assert "differs from its record" in result.refused["face_video/3"]
    assert workspace.records("face_video") == {}


def test_stage_needs_clips(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no clips yet"):
        stage.crop_faces(create_workspace(tmp_path / "work", Settings()))


def _run_stage(root: Path) -> None:
    workspace = open_workspace(root)
    with workspace.locked():
        stage.crop_faces(workspace, num_workers=1)


@pytest.mark.slow
def test_killed_and_rerun_ends_with_the_same_bytes(tmp_path: Path, man: Clip) -> None:
    workspaces = [create_workspace(tmp_path / name, Settings()) for name in ("undisturbed", "killed")]
    for workspace in workspaces:
        for identity in ("1", "2", "3"):
            add_clip(workspace, identity, man.frames[int(identity) * 5 :][:20])
    _run_stage(workspaces[0].root)
    first = workspaces[1].path("tracks/1.json")
    process = multiprocessing.get_context("spawn").Process(target=_run_stage, args=(workspaces[1].root,))
    process.start()
    while process.is_alive() and not first.exists():
        time.sleep(0.02)
    time.sleep(0.3)  # into the second clip
    os.kill(process.pid or 0, 9)
    process.join()
    assert process.exitcode == -9
    _run_stage(workspaces[1].root)
    assert content_of(workspaces[1]) == content_of(workspaces[0])
    assert len(content_of(workspaces[0])) == 7


@pytest.mark.slow
def test_workers_give_the_same_bytes_as_one_process(tmp_path: Path, man: Clip) -> None:
    contents = []
    for num_workers in (1, 2):
        workspace = create_workspace(tmp_path / str(num_workers), Settings())
        for identity in ("1", "2"):
            add_clip(workspace, identity, man.frames[int(identity) * 5 :][:12])
        with workspace.locked():
            stage.crop_faces(workspace, num_workers=num_workers)
        contents.append(content_of(workspace))
    assert contents[0] == contents[1]
