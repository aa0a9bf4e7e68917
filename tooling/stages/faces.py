"""faces: clips -> one face track each, and its square crop, frame for frame.

Each clip is read twice: once to follow the face, once to crop it. A clip in which no face can be followed is refused by
name, and nothing is written for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from fractions import Fraction
from functools import cache
from importlib.metadata import version
from pathlib import Path

from generation.arrays import Frame
from generation.faces.crop import crop_face
from generation.faces.detector import one_thread
from generation.faces.follow import VERSION, Detectors, TrackSettings, follow_face, load_detectors
from generation.faces.track import FaceTrack
from generation.media.reader import probe_video, read_frames
from generation.media.writer import VideoWriter
from tooling.errors import InputError
from tooling.work.engine import LOCAL, Engine, Progress, no_progress
from tooling.work.tasks import Made, Task, finished_record, make_files, planned_record
from tooling.workspace.files import write_text
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord, StageResult

SUBSET = "face_video"
GENERATOR = "mtcnn"


def crop_faces(
    workspace: Workspace,
    *,
    num_workers: int = 0,
    engine: Engine = LOCAL,
    progress: Progress = no_progress,
    only: Sequence[str] | None = None,
) -> StageResult:
    """Makes face_video/{id}.mp4 and tracks/{id}.json of every clip, or of the clips in `only`.

    Args:
        workspace: locked by the caller.
        num_workers: processes; 0 means one per processor.
        engine: where faces are followed.
        progress: called after each clip.
        only: identities; None takes all.

    Raises:
        InputError: there are no clips, or `only` names an identity without one.
    """
    clips = {record.sample_id.rpartition("/")[2]: record for record in workspace.records("raw_video").values()}
    if not clips:
        raise InputError(f"{workspace.root}: no clips yet; run `tooling ingest SOURCES` first")
    for identity in only or ():
        if identity not in clips:
            raise InputError(f"{workspace.root}: no clip of '{identity}'; there are {', '.join(clips)}")
    chosen = clips if only is None else {identity: clips[identity] for identity in clips if identity in only}
    tasks = [_task(workspace, identity, clip) for identity, clip in chosen.items()]
    return make_files(
        workspace, SUBSET, tasks, make_face_video, num_workers=num_workers, engine=engine, progress=progress
    )


def _task(workspace: Workspace, identity: str, clip: FileRecord) -> Task:
    parameters = {**asdict(workspace.settings.faces), "facenet_pytorch": version("facenet-pytorch"), "version": VERSION}
    planned = planned_record(
        f"{SUBSET}/{identity}", f"{SUBSET}/{identity}.mp4", {clip.path: clip.input_sha256}, GENERATOR, parameters
    )
    return Task(planned, clip.num_frames)


def make_face_video(workspace: Workspace, task: Task) -> Made:
    """Follows the face of one clip and crops it; runs in a worker.

    Raises:
        InputError: the clip is not the file that its record describes.
        FaceError: no face can be followed in it.
        VideoError: it cannot be read.
    """
    ((clip_name, digest),) = task.planned.inputs.items()
    clip, settings = workspace.path(clip_name), workspace.settings.faces
    if not workspace.matches_record(clip_name, digest):
        raise InputError(f"{clip_name}: differs from its record; delete it and run `tooling ingest SOURCES`")
    tracking = TrackSettings(settings.detect_every_frames, settings.detect_scale, settings.margin)
    with one_thread():
        frames = read_frames(clip, is_exact=False)  # one level more or less does not matter to a detector
        track = follow_face(_detectors(settings.detect_scale), frames, tracking, name=clip_name)
    if len(track) != task.work:
        way_out = "delete it and run `tooling ingest SOURCES`"
        raise InputError(f"{clip_name}: has {len(track)} frames, not {task.work}; {way_out}")
    fps = probe_video(clip).fps
    track_name = workspace.track_name(task.planned.sample_id.rpartition("/")[2])
    staged = {name: workspace.staging_path(name) for name in (task.planned.path, track_name)}
    _write_crops(staged[task.planned.path], read_frames(clip), track, settings.size_px, fps)
    write_text(staged[track_name], track.to_json())
    size = settings.size_px
    record = finished_record(task.planned, staged, width=size, height=size, fps=float(fps), num_frames=len(track))
    return Made(record, staged)


def _write_crops(path: Path, frames: Iterator[Frame], track: FaceTrack, size_px: int, fps: Fraction) -> None:
    with VideoWriter(path, width=size_px, height=size_px, fps=fps) as writer:
        for frame, square in zip(frames, track.crop, strict=True):
            writer.write(crop_face(frame, square, size_px))


@cache
def _detectors(detect_scale: float) -> Detectors:
    return load_detectors(detect_scale=detect_scale)
