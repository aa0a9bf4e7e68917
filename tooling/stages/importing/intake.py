"""Whether a file from outside is what its subset's files are, and encoding it anew where it is not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from generation.errors import VideoError
from generation.media.reader import open_video, probe_video, to_rgb
from generation.media.writer import VideoWriter
from tooling.errors import InputError
from tooling.work.tasks import Made, Task, finished_record
from tooling.workspace.layout import Workspace

KEY_FRAME_DISTANCE = 15
WANTED_COLOURS, WANTED_RANGES = (1, 2), (0, 1)  # BT.709 or unsaid, limited range or unsaid
MAX_RATE_ERROR = 0.01  # of the frame rate: beyond, equal frame numbers do not show equal moments
MAX_PIXELS = 50_000_000  # of one image
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
# Differences that encoding anew cannot take away without another picture, moment or number of frames.
LASTING = frozenset(("size", "rotation", "frames", "rate"))


@dataclass(frozen=True)
class Contract:
    """What the videos of a subset are: size is width and height in pixels."""

    subset: str
    size: tuple[int, int]
    num_frames: int
    fps: int


@dataclass(frozen=True)
class Work:
    """One unpacked file: where it lies, its name in the archive, and what is recorded of it; no contract: an image."""

    path: Path
    name: str
    contract: Contract | None
    is_reencoding: bool
    results: dict[str, Any]


def take_file(workspace: Workspace, task: Task) -> Made:
    """Checks one unpacked file and takes its bytes, or encodes it anew; runs in a worker.

    Raises:
        InputError: it does not fit; the message says in what.
        VideoError: it does not decode.
    """
    work: Work = task.work
    if work.contract is None:
        return _take_image(workspace, task, work)
    contract = work.contract
    differences = video_differences(work.path, contract)
    _raise_if_unfit(work, differences, contract.subset)
    width, height = contract.size
    staged, results = work.path, {**work.results, "media": "kept as encoded"}
    if differences:
        staged = workspace.staging_path(task.wanted.path)
        with VideoWriter(staged, width=width, height=height, fps=contract.fps) as writer:
            _encode_anew(work.path, writer)
        results = {**work.results, "media": "encoded anew", "differed": differences}
    files = {task.wanted.path: staged}
    shape = {"width": width, "height": height, "num_frames": contract.num_frames}
    return Made(finished_record(task.wanted, files, fps=float(contract.fps), results=results, **shape), files)


def _encode_anew(path: Path, writer: VideoWriter) -> None:
    """Frame for frame; pictures that are as the writer wants them, or do not say otherwise, keep their values."""
    with open_video(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            is_wanted = frame.colorspace in WANTED_COLOURS and frame.color_range in WANTED_RANGES
            if frame.format.name == "yuv420p" and is_wanted:
                writer.write_picture(frame)
            else:
                writer.write(to_rgb(frame))


def video_differences(path: Path, contract: Contract) -> dict[str, str]:
    """In what a video differs from its subset's contract, in words; empty where it fits. Decodes every frame.

    Raises:
        VideoError: it cannot be read as video, or is damaged.
    """
    info = probe_video(path)
    if (info.width, info.height) != contract.size:  # not decoded: its size may be what fills the memory
        return _unequal({"size": (_by(info.width, info.height), _by(*contract.size))})
    found: dict[str, tuple[Any, Any]] = {
        "codec": (info.codec, "h264"),
        "pixel format": (info.pixel_format, "yuv420p"),
        "audio": ("yes" if info.has_audio else "no", "no"),
    }
    with open_video(path) as container:
        found["container"] = ("mp4" if "mp4" in container.format.name.split(",") else container.format.name, "mp4")
        found["streams"] = (len(container.streams) - info.has_audio, 1)
    fps = Fraction(contract.fps)
    key = "rate" if abs(info.fps - fps) > fps * Fraction(MAX_RATE_ERROR) else "frames per second"
    found[key] = (f"{float(info.fps):.4g}", f"{contract.fps}")
    return _unequal({**found, **_frame_facts(path, contract)})


def _frame_facts(path: Path, contract: Contract) -> dict[str, tuple[Any, Any]]:
    times: list[Fraction] = []
    keys, rotation = [], 0
    with open_video(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": "explode"}  # damage is an error, not patched up
        for number, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt or (frame.width, frame.height) != contract.size:
                raise VideoError(f"{path}: frame {number} is damaged or of another size; copy or export it again")
            times.append((frame.pts or 0) * Fraction(frame.time_base or 0))
            keys += [number] if frame.key_frame else []
            rotation = rotation or frame.rotation
            if len(times) > 2 * contract.num_frames:
                break
    is_regular = keys == list(range(0, len(times), KEY_FRAME_DISTANCE))
    is_constant = times == [Fraction(number, contract.fps) for number in range(len(times))]
    return {
        "frames": (
            f"over {len(times) - 1}" if len(times) > 2 * contract.num_frames else len(times),
            contract.num_frames,
        ),
        "rotation": (rotation, 0),
        "frame times": ("constant" if is_constant else "uneven", "constant"),
        "key frames": ("every 15th" if is_regular else "otherwise", "every 15th"),
    }


def _take_image(workspace: Workspace, task: Task, work: Work) -> Made:
    picture, differences = _read_image(work)
    _raise_if_unfit(work, differences, task.wanted.path.partition("/")[0])
    staged, results = work.path, {**work.results, "media": "kept as encoded"}
    if differences:
        staged = workspace.staging_path(task.wanted.path)
        with staged.open("wb") as file:
            picture.save(file, format="PNG")
            file.flush()
            os.fsync(file.fileno())
        results = {**work.results, "media": "encoded anew", "differed": differences}
    files = {task.wanted.path: staged}
    width, height = picture.size
    record = finished_record(task.wanted, files, width=width, height=height, fps=None, num_frames=1, results=results)
    return Made(record, files)


def _read_image(work: Work) -> tuple[Image.Image, dict[str, str]]:
    """The decoded picture as RGB, and in what its file differs from the dataset's."""
    try:
        with Image.open(work.path, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{work.name}: has more than {MAX_PIXELS:,} pixels")
            image.load()
            found = {
                "format": (image.format, "PNG"),
                "mode": (image.mode, "RGB"),
                "pictures": (getattr(image, "n_frames", 1), 1),
            }
            return image.convert("RGB"), _unequal(found)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{work.name}: does not decode as an image ({error}); copy or export it again") from error


def _raise_if_unfit(work: Work, differences: dict[str, str], subset: str) -> None:
    told = ", ".join(f"{name} {difference}" for name, difference in differences.items())
    if LASTING & differences.keys():
        raise InputError(f"{work.name}: does not fit {subset}: {told}; encoding anew cannot mend that, export it again")
    if differences and not work.is_reencoding:
        raise InputError(f"{work.name}: does not fit {subset}: {told}; export it again, or import with --reencode")


def _unequal(found: dict[str, tuple[Any, Any]]) -> dict[str, str]:
    return {name: f"{got}, must be {must}" for name, (got, must) in found.items() if got != must}


def _by(width: int, height: int) -> str:
    return f"{width}x{height}"
