"""Whether an unpacked file meets the contract of its subset, and encoding it again if it does not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from generation.faces.upright import NUM_PICTURES, SMALLEST_PX, turned_face
from generation.media.contract import Difference, VideoContract, differences
from generation.media.reader import main_stream, open_video, read_frames, stand_in, to_rgb
from generation.media.writer import VideoWriter
from tooling.errors import InputError
from tooling.work.tasks import Made, Task, finished_record
from tooling.workspace.layout import Workspace

KEPT_COLOURS, KEPT_RANGES = (1, 2), (0, 1)  # BT.709 or unspecified; limited range or unspecified
KEPT, REENCODED = "kept as encoded", "encoded anew"  # in records: results["media"]
MAX_PIXELS = 50_000_000  # of one image
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")


@dataclass(frozen=True)
class ImportWork:
    """One unpacked file: its path, its name in the archive, and what is recorded about it; an image has no contract."""

    path: Path
    name: str
    contract: VideoContract | None
    is_reencoding: bool
    results: dict[str, Any]


def take_file(workspace: Workspace, task: Task) -> Made:
    """Checks one unpacked file and takes its bytes, or encodes it again; runs in a worker.

    Raises:
        InputError: it does not meet the contract; the message has the differences. Or it is a clip whose face is not
            upright.
        VideoError: it does not decode.
    """
    work: ImportWork = task.work
    if work.contract is None:
        return _take_image(workspace, task, work)
    contract = work.contract
    found = differences(work.path, contract)
    _raise_if_unfit(work, found, task.planned.subset)
    if task.planned.subset == "raw_video":
        _refuse_turned(work, contract)
    width, height = contract.size
    staged, results = work.path, {**work.results, "media": KEPT}
    if found:
        staged = workspace.staging_path(task.planned.path)
        with VideoWriter(staged, width=width, height=height, fps=contract.fps) as writer:
            _encode_again(work.path, writer)
        results = _encoded_again(work, found)
    files = {task.planned.path: staged}
    shape = {"width": width, "height": height, "num_frames": contract.num_frames}
    return Made(finished_record(task.planned, files, fps=float(contract.fps), results=results, **shape), files)


def _refuse_turned(work: ImportWork, contract: VideoContract) -> None:
    if min(contract.size) < SMALLEST_PX:
        return
    step = max(contract.num_frames // NUM_PICTURES, 1)
    turned = turned_face(list(read_frames(work.path, step // 2, step=step)))
    if turned:
        raise InputError(f"{work.name}: shows its face {turned} and export it again")


def _encode_again(path: Path, writer: VideoWriter) -> None:
    """Encodes frame by frame; the values of frames in the writer's format, or of unspecified colour space, are kept."""
    with open_video(path) as container:
        stream = main_stream(container)
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            is_kept = frame.colorspace in KEPT_COLOURS and frame.color_range in KEPT_RANGES
            if frame.format.name == "yuv420p" and is_kept:
                writer.write_picture(frame)
            else:
                writer.write(to_rgb(frame))


def _take_image(workspace: Workspace, task: Task, work: ImportWork) -> Made:
    picture, found = _read_image(work)
    _raise_if_unfit(work, found, task.planned.subset)
    staged, results = work.path, {**work.results, "media": KEPT}
    if found:
        staged = workspace.staging_path(task.planned.path)
        with staged.open("wb") as file:
            picture.save(file, format="PNG")
            file.flush()
            os.fsync(file.fileno())
        results = _encoded_again(work, found)
    files = {task.planned.path: staged}
    width, height = picture.size
    record = finished_record(task.planned, files, width=width, height=height, fps=None, num_frames=1, results=results)
    return Made(record, files)


def _read_image(work: ImportWork) -> tuple[Image.Image, list[Difference]]:
    """The decoded picture as RGB, and how its file differs from the dataset's."""
    if problem := stand_in(work.path):
        raise InputError(f"{work.name}: {problem}")
    try:
        with Image.open(work.path, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{work.name}: has more than {MAX_PIXELS:,} pixels")
            image.load()
            found = (
                Difference("format", f"{image.format}", "PNG"),
                Difference("mode", image.mode, "RGB"),
                Difference("pictures", f"{getattr(image, 'n_frames', 1)}", "1"),
            )
            return image.convert("RGB"), [one for one in found if one.found != one.required]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{work.name}: does not decode as an image ({error}); copy or export it again") from error


def _raise_if_unfit(work: ImportWork, found: list[Difference], subset: str) -> None:
    listed = ", ".join(f"{one.name} {one}" for one in found)
    if any(one.is_lasting for one in found):
        raise InputError(
            f"{work.name}: does not fit {subset}: {listed}; encoding it again cannot correct that; export it again"
        )
    if found and not work.is_reencoding:
        raise InputError(f"{work.name}: does not fit {subset}: {listed}; export it again, or import with --reencode")


def _encoded_again(work: ImportWork, found: list[Difference]) -> dict[str, Any]:
    """Results for the record of a file that was encoded again."""
    return {**work.results, "media": REENCODED, "differed": {one.name: str(one) for one in found}}
