"""The GPU side: video -> faces -> crops -> generator -> pasted frame -> checked.

    media       files of any kind become frames, and frames become files of one kind
    faces       one face is detected and followed through a clip: boxes, landmarks, identity
    crops       square crops around that face, and the way back into the frame
    motion      pose, expression and motion of a face; head: where its hair and skin are
    generators  crops in, other crops out: swapped, driven, edited, or made from nothing
    quality     what came out is measured, and rejected if it is broken
    weights     published checkpoints, read without running anything in them

Five forms of a picture, on either side of the arrows:

    frame           a picture of a video: RGB uint8 (H, W, 3)
    crop            a square of a frame around the face: RGB uint8 (S, S, 3), with landmarks in its px
    network input   what a network takes: float (N, C, S, S), mostly RGB in [-1, 1], on its device
    network output  what it returns, in the form of its input
    pasted frame    a frame with a new crop laid over the old: RGB uint8 (H, W, 3), its mask, and the frame before

A face swap from end to end:

    def clip_of(path: Path) -> FaceClip:
        track = follow_face(load_detectors(), read_frames(path), name=str(path))
        return FaceClip(str(path), lambda: read_frames(path), track.landmarks, track.is_detected)

    target, meter = clip_of(target_path), OutputMeter()
    with VideoWriter(fake_path, width=1280, height=720) as writer:
        for pasted in load_generator("weightfree-swap").stream(target, clip_of(source_path)):
            meter.add(pasted)
            writer.write(pasted.frame)
    meter.raise_if_rejected(str(fake_path), len(target))

The names of `__all__` are imported when they are first used: neither torch nor FFmpeg is loaded before.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generation.crops.clip import FaceClip, PastedFrame
    from generation.faces.follow import follow_face, load_detectors
    from generation.faces.track import FaceTrack
    from generation.generators.loading import load_generator
    from generation.generators.registry import GENERATORS
    from generation.media.reader import read_frames
    from generation.media.writer import VideoWriter
    from generation.quality.output import OutputMeter

__all__ = [
    "GENERATORS",
    "FaceClip",
    "FaceTrack",
    "OutputMeter",
    "PastedFrame",
    "VideoWriter",
    "follow_face",
    "load_detectors",
    "load_generator",
    "read_frames",
]

_HOMES = {
    "GENERATORS": "generators.registry",
    "FaceClip": "crops.clip",
    "FaceTrack": "faces.track",
    "OutputMeter": "quality.output",
    "PastedFrame": "crops.clip",
    "VideoWriter": "media.writer",
    "follow_face": "faces.follow",
    "load_detectors": "faces.follow",
    "load_generator": "generators.loading",
    "read_frames": "media.reader",
}


# onnxruntime, which diffusers imports wherever it is installed, else reports to its makers from its import on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'generation' has no attribute '{name}'")
    return getattr(importlib.import_module(f"generation.{_HOMES[name]}"), name)
