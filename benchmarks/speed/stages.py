"""Stages beside the plainest program that handles the same files: copying, FFmpeg, decoding.

build    a copy of the files it embeds, synced to disk as a release is; the libraries' own writer beside it
ingest   FFmpeg, which cuts, scales and encodes the same frames with the same settings of x264: master, then clip
verify   the same file decoded by PyAV

One worker each, wall time for what waits for the disk, else processor seconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measuring import Line, Setup, alone, alternate, ratio_line

START_SECONDS = 0.2
CLIP_BYTES = 7_768_000  # of `raw_video`, 15 s of 720p


def measure(setup: Setup) -> Iterator[Line]:
    """One ratio for each stage, in a process of its own."""
    num_frames = 8 if setup.is_small else 45
    seconds = alone(time_build, setup.folder, 8 if setup.is_small else 32, CLIP_BYTES, setup.repeats).value
    yield ratio_line("build, beside copying the files", seconds["copy"], 0.7)
    yield ratio_line("build, beside the libraries' writer", seconds["writer"])
    seconds = alone(time_ingest, setup.folder, num_frames if setup.is_small else 450, setup.repeats).value
    yield ratio_line("ingest, beside FFmpeg with the same cut, scale and settings", seconds, 0.8)
    seconds = alone(time_verify, setup.folder, num_frames if setup.is_small else 450, setup.repeats).value
    name = "verify of a clip of full length, beside plain decoding"
    yield ratio_line(name, {way: seconds[way] for way in ("decode", "verify")}, 0.5)
    yield ratio_line(f"{name} to RGB", {way: seconds[way] for way in ("decode to RGB", "verify")})


def time_build(folder: Path, num_clips: int, num_bytes: int, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Clips of noise with tracks of 450 frames: "copy" -> seconds of both ways; "writer" -> of both."""
    import datasets

    from benchmarks.speed.noise import make_workspace
    from homologous_deepfake import HomologousDeepfake
    from tooling.stages.build import build_release
    from tooling.workspace.layout import open_workspace

    datasets.disable_progress_bars()
    root = folder / f"noise-{num_clips}"
    workspace = open_workspace(root) if (root / "plan.json").exists() else make_workspace(root, num_clips, num_bytes)

    def copy() -> None:
        shutil.rmtree(folder / "copied", ignore_errors=True)
        (folder / "copied").mkdir()
        for path in (root / "raw_video").glob("*.mp4"):
            with path.open("rb") as source, (folder / "copied" / path.name).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                os.fsync(target.fileno())

    def write() -> None:
        out = folder / "written"
        shutil.rmtree(out, ignore_errors=True)
        builder = HomologousDeepfake(config_name="raw_video", data_dir=str(root), cache_dir=str(out / "cache"))
        builder.download_and_prepare(str(out / "data" / "raw_video"), file_format="parquet")

    ways = {"libraries": write, "copy": copy, "build": lambda: build_release(workspace, folder / "built") and None}
    seconds, _ = alternate(ways, repeats, "wall")
    for name in ("copied", "written", "built"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return {
        "copy": {name: seconds[name] for name in ("copy", "build")},
        "writer": {name: seconds[name] for name in ("libraries", "build")},
    }


def time_ingest(folder: Path, num_frames: int, repeats: int) -> dict[str, list[float]]:
    """Seconds for one clip of so many frames with a given start: cut, scaled and encoded twice."""
    import cv2
    import torch

    from benchmarks.speed.inputs import FPS, source_clip
    from tooling.settings import ClipSettings, Settings
    from tooling.stages.ingest import ingest_clips
    from tooling.workspace.layout import create_workspace

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    sources, cut = folder / "sources", num_frames / FPS
    sources.mkdir(exist_ok=True)
    shutil.copyfile(source_clip(folder, num_frames + 8), sources / "1.mp4")
    table = f"id,gender,consent_status,start_seconds\n1,male,granted,{START_SECONDS}\n"
    (sources / "identities.csv").write_text(table)
    settings = Settings(clip=ClipSettings(seconds=cut))
    master, clip, root = folder / "plain-master.mp4", folder / "plain.mp4", folder / "ingested"

    def plain() -> None:
        scaled = ["-vf", "scale=1280:720:flags=bicubic,format=yuv420p", "-t", f"{cut}"]
        cut_out = ["-ss", f"{START_SECONDS}", "-i", str(sources / "1.mp4"), *scaled]
        run_ffmpeg(*cut_out, *encoded("-crf", "8", "-coder", "vlc"), str(master))
        run_ffmpeg("-i", str(master), *encoded("-b:v", "4M", "-maxrate", "4M", "-bufsize", "2M"), str(clip))

    def ingest() -> None:
        shutil.rmtree(root, ignore_errors=True)
        result = ingest_clips(create_workspace(root, settings), sources, num_workers=1)
        assert not result.refused, result.refused

    seconds, _ = alternate({"FFmpeg": plain, "ingest": ingest}, repeats)
    shutil.rmtree(root)
    return seconds


def encoded(*rate: str) -> list[str]:
    """Options of FFmpeg that are those of the project's writer."""
    from generation.media.writer import X264_OPTIONS

    settings = [text for name, value in X264_OPTIONS.items() for text in (f"-{name}", value)]
    return ["-c:v", "libx264", "-threads", "1", *settings, *rate, "-movflags", "+faststart"]


def run_ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-y", "-v", "error", "-threads", "1", *arguments], check=True)


def time_verify(folder: Path, num_frames: int, repeats: int) -> dict[str, list[float]]:
    """Seconds for a raw clip with its track: digests, decoding and every measurement of a clip."""
    import av
    import cv2
    import torch

    from benchmarks.speed.inputs import clips_workspace
    from generation.media.reader import read_frames
    from tooling.stages.verify.run import VerifyOptions, verify_files

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    workspace = clips_workspace(folder, 1, num_frames)
    path = workspace.path("raw_video/1.mp4")

    def decode() -> None:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_count = 1
            deque(container.decode(video=0), maxlen=0)

    verify = partial(verify_files, workspace, VerifyOptions(recheck_all=True), num_workers=1)
    seconds, _ = alternate(
        {
            "decode": decode,
            "decode to RGB": lambda: deque(read_frames(path), maxlen=0),
            "verify": lambda: verify() and None,
        },
        repeats,
    )
    return seconds
