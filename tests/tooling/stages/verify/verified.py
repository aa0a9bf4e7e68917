"""A complete workspace of three rendered people that verifies without an error, for tests that spoil it.

Each person is rendered once and moved: rendering whole clips takes longer than all tests together. Fakes are made by
hand with the tooling's own alignment, pasting, masks and encoder, so that they keep what real ones keep.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from generation.arrays import Frame
from generation.crops.align import align
from generation.crops.clip import PastedFrame
from generation.crops.masks import MaskWriter
from generation.crops.paste import paste
from generation.faces.track import FaceTrack
from generation.media.reader import read_clip
from generation.media.writer import VideoWriter, write_clip
from tests.actor_clips import film_person
from tests.workspaces import publish_marked
from tooling.actors import RenderSettings
from tooling.settings import ClipSettings, FaceSettings, Settings
from tooling.stages import faces
from tooling.stages.verify import run as verify
from tooling.work.tasks import finished_record, planned_record
from tooling.workspace.files import write_text
from tooling.workspace.identities import Identity, format_identities
from tooling.workspace.layout import Workspace, create_workspace
from tooling.workspace.records import FileRecord, format_record

WIDTH, HEIGHT, CROP_PX, NUM_FRAMES = 320, 240, 176, 20
PEOPLE = {"1": "male", "2": "male", "3": "female"}
FOLDS = {"1": 2, "2": 2, "3": 0}
PAIRS = [["1", "2"], ["2", "1"]]
ALIGNED_PX = 96

# Frame number, frame (H, W, 3) and landmarks (5, 2) -> the finished picture with its mask.
Fake = Callable[[int, Frame, NDArray[np.float32]], PastedFrame]


def make_verified(root: Path) -> None:
    clip = ClipSettings(seconds=NUM_FRAMES / 30, width_px=WIDTH, height_px=HEIGHT)
    workspace = create_workspace(root, Settings(clip=clip, faces=FaceSettings(size_px=CROP_PX, detect_scale=1.0)))
    people = {name: Identity(name, gender, "granted") for name, gender in PEOPLE.items()}  # type: ignore[arg-type]
    write_text(workspace.identities_path, format_identities(people))
    for name in PEOPLE:
        publish(workspace, f"raw_video/{name}.mp4", move(render_still(name)))
    assert not faces.crop_faces(workspace, num_workers=1).refused
    pairs = {"swap_video": PAIRS, "avatarify_video": PAIRS}
    write_text(
        workspace.plan_path, json.dumps({"format": 1, "seed": 0, "num_folds": 5, "folds": FOLDS, "pairs": pairs})
    )
    for target, source in PAIRS:
        make_fake(workspace, f"swap_video/{target}_{source}.mp4", swapped(workspace, source))
        make_fake(workspace, f"avatarify_video/{target}_{source}.mp4", driven)
    for name in PEOPLE:
        make_fake(workspace, f"edit_video/age/{name}.mp4", aged)
        make_fake(workspace, f"edit_video/hair/{name}.mp4", dyed)
    for number in (1, 2):
        make_image(workspace, number, portrait(str(number + 1)))
    errors = [str(found) for found in verify.verify_files(workspace, num_workers=1) if found.severity == "error"]
    assert errors == []


# --- pictures ---


def render_still(person: str) -> Frame:
    settings = RenderSettings(1, width_px=WIDTH, height_px=HEIGHT, motion_seed=int(person))
    return film_person(int(person), PEOPLE[person], settings).frames[0]


def move(still: Frame, num_frames: int = NUM_FRAMES) -> list[Frame]:
    """A still that sways and nears, with the noise of a sensor."""
    random = np.random.default_rng(int(still.astype(np.int64).sum()))
    frames = []
    for number in range(num_frames):
        scale = 1.05 + 0.004 * number
        shift = 4 * np.sin(number / 4), 3 * np.cos(number / 5)
        matrix = np.array([[scale, 0, (1 - scale) * WIDTH / 2 + shift[0]], [0, scale, (1 - scale) * 120 + shift[1]]])
        moved = cv2.warpAffine(still, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        noise = random.normal(0, 1.5, moved.shape)
        frames.append(np.clip(np.rint(moved + noise), 0, 255).astype(np.uint8))
    return frames


def portrait(person: str) -> Frame:
    """One face in other colours: the middle of a still, mirrored."""
    still = render_still(person)[20 : 20 + CROP_PX, 72 : 72 + CROP_PX]
    return np.ascontiguousarray(still[:, ::-1, [2, 1, 0]])


def _oval() -> NDArray[np.float32]:
    mask = np.zeros((ALIGNED_PX, ALIGNED_PX), np.float32)
    cv2.ellipse(mask, (48, 52), (30, 36), 0, 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 2), np.float32)


def swapped(workspace: Workspace, source: str) -> Fake:
    """The source's face on the target's."""
    frame, track = read_clip(workspace.path(f"raw_video/{source}.mp4"), 0, 1)[0], track_of(workspace, source)
    face, _, _ = align(frame, track.landmarks[0], ALIGNED_PX)

    def make(number: int, target: Frame, landmarks: NDArray[np.float32]) -> PastedFrame:
        _, _, matrix = align(target, landmarks, ALIGNED_PX)
        return paste(target, face, _oval(), matrix)

    return make


def driven(number: int, target: Frame, landmarks: NDArray[np.float32]) -> PastedFrame:
    """The lower face stretched, as by an opening mouth."""
    face, _, matrix = align(target, landmarks, ALIGNED_PX)
    rows, columns = np.mgrid[:ALIGNED_PX, :ALIGNED_PX].astype(np.float32)
    opened = 3 + 3 * np.sin(number / 2)
    rows = rows - opened * np.clip((rows - 50) / 20, 0, 1)
    return paste(target, np.asarray(cv2.remap(face, columns, rows, cv2.INTER_LINEAR), np.uint8), _oval(), matrix)


def aged(number: int, target: Frame, landmarks: NDArray[np.float32]) -> PastedFrame:
    """The face greyed and roughened."""
    face, _, matrix = align(target, landmarks, ALIGNED_PX)
    grey = cv2.cvtColor(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return paste(target, np.asarray(cv2.convertScaleAbs(grey, alpha=0.8), np.uint8), _oval(), matrix)


def dyed(number: int, target: Frame, landmarks: NDArray[np.float32]) -> PastedFrame:
    """What is above the brows, lighter."""
    eyes = landmarks[:2].mean(0)
    gap = float(np.linalg.norm(landmarks[1] - landmarks[0]))
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    middle = (round(float(eyes[0])), round(float(eyes[1] - 1.6 * gap)))
    cv2.ellipse(mask, middle, (round(1.2 * gap), round(0.7 * gap)), 0, 0, 360, 1.0, -1)
    made = np.clip(target + mask[..., None] * 60, 0, 255).astype(np.uint8)
    return PastedFrame(target, made, (slice(0, HEIGHT), slice(0, WIDTH)), mask)


# --- files ---


def track_of(workspace: Workspace, person: str) -> FaceTrack:
    return FaceTrack.from_json(workspace.path(workspace.track_name(person)).read_text())


def publish(
    workspace: Workspace,
    path: str,
    frames: Sequence[Frame] | Iterator[Frame],
    record: FileRecord | None = None,
    companions: dict[str, Path] | None = None,
    **parameters: Any,
) -> FileRecord:
    """Encodes, marks and publishes a clip; with a record, in its place and with its companions as they lie there."""
    staged = {path: workspace.staging_path(path), **(companions or {})}
    frames = list(frames)
    write_clip(staged[path], frames)
    wanted = record or planned_record(path[:-4], path, inputs_of(workspace, path), "test", dict(parameters))
    height, width = frames[0].shape[:2]
    made = finished_record(wanted, staged, width=width, height=height, fps=30.0, num_frames=len(frames))
    if record is not None and not companions:
        made = dataclasses.replace(made, companions=record.companions)
    return publish_marked(workspace, made, staged)


def inputs_of(workspace: Workspace, path: str) -> dict[str, str]:
    if path.startswith("raw_video"):
        return {}
    clips, crops = workspace.records("raw_video"), workspace.records("face_video")
    inputs = {}
    for person in path[:-4].rpartition("/")[2].split("_"):
        inputs[f"raw_video/{person}.mp4"] = clips[f"raw_video/{person}"].input_sha256
        inputs |= crops[f"face_video/{person}"].companions
    return inputs


def make_fake(workspace: Workspace, path: str, fake: Fake) -> None:
    """Makes a fake of its target's decoded clip, with masks."""
    person = path[:-4].rpartition("/")[2].split("_")[0]
    track = track_of(workspace, person)
    mask = workspace.staging_path(f"masks/{path}")
    made = []
    with MaskWriter(mask, width=WIDTH, height=HEIGHT) as writer:
        for number, frame in enumerate(read_clip(workspace.path(f"raw_video/{person}.mp4"))):
            pasted = fake(number, frame, track.landmarks[number])
            made.append(pasted.frame)
            writer.write(pasted)
    parts = path.split("/")
    parameters: dict[str, Any] = {"attribute": parts[1], "factor": 2.0} if len(parts) == 3 else {}
    publish(workspace, path, made, companions={f"masks/{path}": mask}, **parameters)


def make_image(workspace: Workspace, number: int, image: Frame, **parameters: object) -> None:
    path = f"GAN_images/{number:06d}.png"
    staged = {path: workspace.staging_path(path)}
    Image.fromarray(image).save(staged[path])
    wanted = planned_record(path[:-4], path, {}, "test", {"prompt": "a face", "fold": 2, **parameters}, number)
    height, width = image.shape[:2]
    record = finished_record(wanted, staged, width=width, height=height, fps=None, num_frames=1)
    publish_marked(workspace, record, staged)


def replace_record(workspace: Workspace, record: FileRecord) -> None:
    """Puts a record in the place of that of its file."""
    subset = record.path.partition("/")[0]
    records = workspace.records(subset) | {record.sample_id: record}
    write_text(workspace.records_path(subset), "".join(format_record(one) + "\n" for one in records.values()))


def record_of(workspace: Workspace, path: str) -> FileRecord:
    return workspace.records(path.partition("/")[0])[path.rpartition(".")[0]]


def remake(workspace: Workspace, path: str, frames: Sequence[Frame]) -> None:
    """Another film in the place of a file: encoded, marked and recorded as the tooling does, so that only what it
    shows can tell."""
    publish(workspace, path, frames, record=record_of(workspace, path))
    workspace.finish(path.partition("/")[0])


def encode(path: Path, frames: Sequence[Frame], options: dict[str, str]) -> None:
    """Encodes with other options than the dataset's."""
    with VideoWriter(path, width=frames[0].shape[1], height=frames[0].shape[0], options=options) as writer:
        for frame in frames:
            writer.write(frame)
