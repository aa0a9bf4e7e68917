"""A swap's landmarks and, with an identity encoder, whose face it shows, by `generation.quality.swap_quality`."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from generation.crops.clip import FaceClip
from generation.faces.detector import load_detector
from generation.faces.identity import OnnxIdentity, clip_identity
from generation.faces.track import FaceTrack
from generation.media.reader import read_frames
from generation.quality.swap_quality import IdentityCheck, SwapMeter, find_problems
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.meter import DecodedFrame, Meter

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN


class SwappedFaceMeter(Meter):
    """Measures the landmarks of a swap and whose face it shows, in a few frames beside its target's.

    Args:
        check: of the swap.
        target: the track of its target, whose landmarks can be compared (`crops.has_landmarks`).
        source: clip and track of its source; None if one of them is missing.
        encoder: ONNX file; None leaves identities out.
        is_strict: whether what is wrong is an error; else a note.
    """

    def __init__(
        self,
        check: FileCheck,
        target: FaceTrack,
        source: tuple[Path, FaceTrack] | None,
        encoder: Path | None,
        *,
        is_strict: bool,
    ) -> None:
        self.check, self.is_strict = check, is_strict
        identity = None
        if encoder is not None and source is not None:
            identity = IdentityCheck(_encoder(encoder), _identity(encoder, source[0], source[1].to_json()))
        clip = FaceClip(check.path, lambda: iter(()), target.landmarks, target.is_detected)
        self._meter = SwapMeter(clip, identity, detector=_detector())

    def wants(self, number: int) -> bool:
        """The few frames that `SwapMeter` takes."""
        return number in self._meter.requested

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes one of these frames of the swap and of its target."""
        if clip is not None and clip.luma.shape == frame.luma.shape:  # another size is a finding already
            self._meter.add(frame.number, clip.rgb, frame.rgb)

    def finish(self) -> None:
        """Leaves similarities and findings."""
        quality = self._meter.results()
        for problem in find_problems(quality):
            (self.check.error if self.is_strict else self.check.note)("content", f"{problem}; make it again")
        for name in ("source_similarity", "target_similarity"):
            value = getattr(quality, name)
            if value is not None:
                self.check.measurements[name] = round(value, 4)


@lru_cache(maxsize=4)
def _identity(encoder: Path, clip: Path, track_text: str) -> NDArray[np.float32]:
    track = FaceTrack.from_json(track_text)
    return clip_identity(
        FaceClip(str(clip), lambda: read_frames(clip), track.landmarks, track.is_detected), _encoder(encoder)
    )


@lru_cache(maxsize=2)
def _encoder(path: Path) -> OnnxIdentity:
    return OnnxIdentity(path)


@cache
def _detector() -> MTCNN:
    return load_detector(min_face_px=40)
