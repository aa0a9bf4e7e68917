"""Workspaces for tests: complete, tiny, made in a second or two without any model."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from datasets import Features
from numpy.typing import NDArray
from PIL import Image

from generation.crops.clip import PastedFrame
from generation.crops.masks import MaskWriter
from generation.media.writer import write_clip
from homologous_deepfake import mask_path
from tooling.marks.mark import mark_made
from tooling.release.folder import Release, arrow_schema, dataset_card_configs, read_release
from tooling.release.shards import open_writer, rewrite_checksums, write_group
from tooling.settings import ClipSettings, FaceSettings, Settings, ShardSettings
from tooling.stages import plan
from tooling.work.tasks import finished_record, planned_record
from tooling.workspace.files import file_sha256, write_text
from tooling.workspace.identities import Identity, format_identities
from tooling.workspace.layout import Workspace, create_workspace
from tooling.workspace.records import FileRecord
from tooling.workspace.verification_file import read_summary, read_verification

WIDTH, HEIGHT, CROP_SIDE, NUM_FRAMES = 96, 64, 32, 8
CROP_CORNER, CROP_RAW_SIDE = (20.0, 10.0), 40.0


def make_workspace(root: Path, num_men: int = 6, num_women: int = 6, num_images: int = 5) -> Workspace:
    """A workspace as the stages leave it: clips, crops, tracks, plan, every fake, records.

    All swaps and the driven clips of even numbers have masks; the other fakes have none, like imported ones.
    """
    clip = ClipSettings(seconds=NUM_FRAMES / 30, width_px=WIDTH, height_px=HEIGHT)
    workspace = create_workspace(root, Settings(clip=clip, faces=FaceSettings(size_px=CROP_SIDE)))
    genders = ["male"] * num_men + ["female"] * num_women
    people = {str(n): Identity(str(n), gender, "granted") for n, gender in enumerate(genders, 1)}  # type: ignore[arg-type]
    write_text(workspace.identities_path, format_identities(people))
    for identity in people:
        add_file(workspace, f"raw_video/{identity}.mp4", "ingest", {})
        track = {workspace.track_name(identity): _track_text(int(identity))}
        add_file(workspace, f"face_video/{identity}.mp4", "mtcnn", {}, companions=track)
    made = plan.draw_plan(workspace)
    for target, source in made.pairs["swap_video"]:
        add_file(workspace, f"swap_video/{target}_{source}.mp4", "weightfree-swap", {})
    for target, source in made.pairs["avatarify_video"]:
        add_file(workspace, f"avatarify_video/{target}_{source}.mp4", "weightfree-drive", {})
    for identity in made.folds:
        for attribute in ("age", "hair"):
            parameters = {"attribute": attribute, "factor": 2.0}
            add_file(workspace, f"edit_video/{attribute}/{identity}.mp4", f"weightfree-{attribute}", parameters)
    for number in range(1, num_images + 1):
        parameters = {"prompt": f"face {number}"}
        add_file(workspace, f"GAN_images/{number:06d}.png", "weightfree-face", parameters, seed=number)
    return workspace


def add_file(
    workspace: Workspace,
    path: str,
    generator: str,
    parameters: dict[str, Any],
    *,
    seed: int | None = None,
    companions: dict[str, str] | None = None,
) -> FileRecord:
    """Makes one media file with a picture of its own, publishes and records it, with text files and its mask."""
    subset, sample_id = path.partition("/")[0], path.rpartition(".")[0]
    width, height = (CROP_SIDE, CROP_SIDE) if subset == "face_video" else (WIDTH, HEIGHT)
    wanted = planned_record(sample_id, path, {}, generator, parameters, seed)
    staged = {path: workspace.staging_path(path)}
    frames = _scene(path, json.dumps([generator, parameters]))
    is_image = path.endswith(".png")
    if is_image:
        Image.fromarray(next(frames)).save(staged[path])
    else:
        write_clip(staged[path], frames)
    for name, text in (companions or {}).items():
        staged[name] = workspace.staging_path(name)
        staged[name].write_text(text, encoding="utf-8")
    if has_mask(path):
        staged[mask_path(path)] = workspace.staging_path(mask_path(path))
        write_mask(staged[mask_path(path)])
    fps, num_frames = (None, 1) if is_image else (30.0, NUM_FRAMES)
    record = finished_record(wanted, staged, width=width, height=height, fps=fps, num_frames=num_frames)
    return publish_marked(workspace, record, staged)


def _scene(path: str, detail: str) -> Iterator[NDArray[np.uint8]]:
    """What a file of the workspace shows: a fake has its target's background, a crop is cut out of its clip."""
    subset, _, name = path.partition("/")
    if subset == "GAN_images":
        yield from _waves(path + detail)
        return
    person = name.rpartition(".")[0].rpartition("/")[2].partition("_")[0]
    face = None if subset in ("raw_video", "face_video") else _waves(path + detail)
    for time, frame in enumerate(_waves(f"person {person}")):
        if face is not None:
            region = _replaced(time)
            frame[region] = next(face)[region]
        if subset == "face_video":
            x, y, side = (*map(int, CROP_CORNER), int(CROP_RAW_SIDE))
            square = Image.fromarray(frame[y : y + side, x : x + side])
            frame = np.asarray(square.resize((CROP_SIDE, CROP_SIDE), Image.Resampling.BOX))
        yield frame


def _replaced(time: int) -> tuple[slice, slice]:
    """Where a fake shows something else than its target."""
    left = round(30.0 + time / 4)
    return slice(20, 40), slice(left, left + 20)


def has_mask(path: str) -> bool:
    """Whether a file of `make_workspace` has a mask."""
    subset, _, name = path.partition("/")
    return subset == "swap_video" or (subset == "avatarify_video" and int(name.partition("_")[0]) % 2 == 0)


def write_mask(path: Path, num_frames: int = NUM_FRAMES) -> None:
    """Writes the mask of a fake of `make_workspace`: its edge is soft to the left, its middle is 255."""
    target = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask = np.broadcast_to(np.minimum(np.arange(1, 21) / 5, 1).astype(np.float32), (20, 20))
    with MaskWriter(path, width=WIDTH, height=HEIGHT) as writer:
        for time in range(num_frames):
            writer.write(PastedFrame(target, target, _replaced(time), mask))


def _waves(name: str) -> Iterator[NDArray[np.uint8]]:
    """NUM_FRAMES frames, RGB uint8 (HEIGHT, WIDTH, 3): colours of its own for each name, and waves that move."""
    drawn = np.random.default_rng(list(name.encode()))
    field = Image.fromarray(drawn.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    colours = np.asarray(field.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float64)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for time in range(NUM_FRAMES):
        waves = np.sin((x + y + 4 * time) / 6)
        yield np.clip(colours * 0.7 + 38 + 30 * waves[..., None], 0, 255).astype(np.uint8)


def publish_marked(workspace: Workspace, record: FileRecord, staged: dict[str, Path]) -> FileRecord:
    """Marks and publishes a finished file, as the engine does."""
    marked, path = mark_made(workspace, record, staged)
    workspace.publish(record.path.partition("/")[0], marked, {**staged, record.path: path})
    return marked


def reproducible_state(workspace: Workspace) -> dict[str, Any]:
    """All of a workspace that every run ends with alike: everything but keys, locks, what signatures change, and the
    states of files on disk by which `verify` knows them again."""
    others = ("keys/", ".lock", "sources.json", "GAN_images/compared.txt", "models/described.json")
    state: dict[str, Any] = {}
    media = set()
    for path in workspace.root.glob("*/metadata.jsonl"):
        for name, record in workspace.records(path.parent.name).items():
            assert file_sha256(workspace.path(record.path)) == record.sha256, name
            media.add(workspace.path(record.path))
            state[name] = asdict(replace(record, sha256=""))
        media.add(path)
    for path in workspace.root.rglob("*"):
        relative = path.relative_to(workspace.root).as_posix()
        if path.is_file() and path not in media and not relative.startswith(others):
            state[relative] = path.read_bytes()
    if workspace.verification_path.is_file():
        rows = {name: replace(row, state="") for name, row in read_verification(workspace).items()}
        state[workspace.verification_path.name] = rows, read_summary(workspace)
    return state


def add_noise(workspace: Workspace, path: str, num_bytes: int, mask_bytes: int = 0) -> FileRecord:
    """Publishes bytes that no decoder reads, for tests that count bytes, with a mask of such bytes."""
    wanted = planned_record(path.rpartition(".")[0], path, {}, "noise", {})
    sizes = {path: num_bytes, mask_path(path): mask_bytes}
    staged = {name: workspace.staging_path(name) for name, size in sizes.items() if size}
    for name, target in staged.items():
        target.write_bytes(random.Random(name).randbytes(sizes[name]))
    record = finished_record(wanted, staged, width=WIDTH, height=HEIGHT, fps=30.0, num_frames=NUM_FRAMES)
    record = replace(record, digital_source_type="digitalCapture")  # which noise cannot say by itself
    workspace.publish(path.partition("/")[0], record, staged)
    return record


def make_noise_workspace(root: Path, num_people: int, num_bytes: int, shards: ShardSettings) -> Workspace:
    """A workspace of `num_people` raw clips of `num_bytes` noise each, planned."""
    workspace = create_workspace(root, Settings(shards=shards))
    people = {str(n): Identity(str(n), "male", "granted") for n in range(1, num_people + 1)}
    write_text(workspace.identities_path, format_identities(people))
    for identity in people:
        add_noise(workspace, f"raw_video/{identity}.mp4", num_bytes)
    plan.draw_plan(workspace)
    return workspace


def write_card(out: Path, release: Release) -> None:
    """The part of the dataset card that loading needs."""
    header = yaml.safe_dump(dataset_card_configs(release), sort_keys=False)
    (out / "README.md").write_text(f"---\n{header}---\n", encoding="utf-8")


def drop_masks(out: Path) -> None:
    """Makes a release one from before there were masks: without their columns, its checksums and card rewritten."""
    digests: dict[str, str | None] = {}
    for path in sorted(out.glob("data/*/*.parquet")):
        with pq.ParquetFile(path) as file:
            features = Features.from_arrow_schema(file.schema_arrow)
            groups = [file.read_row_group(group) for group in range(file.num_row_groups)]
        schema = arrow_schema(Features({name: one for name, one in features.items() if not name.startswith("mask")}))
        with open_writer(path, schema) as writer:
            for group in groups:
                write_group(writer, group.select(schema.names).cast(schema))
        digests[path.relative_to(out).as_posix()] = file_sha256(path)
    rewrite_checksums(out, digests)
    write_card(out, read_release(out))


def moving_pattern(width: int, height: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """NUM_FRAMES frames, RGB uint8 (H, W, 3): waves that move, other ones for each seed."""
    y, x = np.mgrid[:height, :width]
    for time in range(NUM_FRAMES):
        waves = [np.sin((x * (seed % 5 + 1) + y * (seed % 3 + 1) + 4 * time) / (6 + channel)) for channel in range(3)]
        yield (np.stack(waves, -1) * 100 + 128).astype(np.uint8)


def _track_text(identity: int) -> str:
    boxes = [[30.0 + time / 4, 20.0, 50.0 + time / 4, 40.25] for time in range(NUM_FRAMES)]
    landmarks = [[[32.0 + time / 4, 25.0 + point] for point in range(5)] for time in range(NUM_FRAMES)]
    track = {
        "format": 1,
        "width": WIDTH,
        "height": HEIGHT,
        "boxes": boxes,
        "landmarks": landmarks,
        "is_detected": [time != identity % NUM_FRAMES for time in range(NUM_FRAMES)],
        "crop": [[*CROP_CORNER, CROP_RAW_SIDE]] * NUM_FRAMES,
        "choice": {},
    }
    return json.dumps(track)
