"""Small pictures that tell a copy from another film: the mean of the aligned face, and the head in a few frames.

People of one set are filmed before one background; what tells them apart is the face, aligned by its track.
"""

from __future__ import annotations

import base64
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Grey, Landmarks
from generation.crops.align import align
from generation.faces.track import FaceTrack
from generation.quality.change import Luma
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.crops import has_landmarks
from tooling.stages.verify.meters.meter import DecodedFrame, Meter

VIEW_PX = 48
NUM_VIEWS = 5  # frames of a video that are kept
NUM_FACES = 40  # frames of which the mean of the face is taken


class ViewMeter(Meter):
    """Keeps small pictures of a video: aligned by its track, or whole ones without a track.

    Args:
        check: takes them.
        num_frames: that the video should have.
        landmarks: float32 (T, 5, 2), of the face in px of the video; None without a track.
    """

    needs_whole_file: ClassVar[bool] = False

    def __init__(self, check: FileCheck, num_frames: int, landmarks: Landmarks | None) -> None:
        self.check, self._landmarks = check, landmarks
        self._numbers = frozenset(spread(num_frames, NUM_VIEWS))
        self._face_numbers = frozenset(spread(num_frames, NUM_FACES) if landmarks is not None else ())
        self._views: list[Grey] = []
        self._faces: list[Grey] = []

    def wants(self, number: int) -> bool:
        """Those frames that are kept, and those of the face's mean."""
        return number in self._numbers or number in self._face_numbers

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes one of these frames."""
        number = frame.number
        if self._landmarks is None:
            self._views.append(_shrunk(frame.luma))
        elif number < len(self._landmarks):
            if number in self._numbers:
                self._views.append(_aligned(frame.luma, self._landmarks[number], "portrait"))
            if number in self._face_numbers:
                self._faces.append(_aligned(frame.luma, self._landmarks[number], "face"))

    def finish(self) -> None:
        """Leaves the pictures; of a file that does not decode to its end, of the frames before."""
        self.check.views = pack_views(self._views)
        if self._faces:
            mean = np.mean(self._faces, axis=0, dtype=np.float64)
            self.check.face = pack_views([np.rint(mean).astype(np.uint8)])


def landmarks_of(track: FaceTrack | None, crop_px: int | None) -> Landmarks | None:
    """The face's landmarks in px of the clip, or of a crop of `crop_px`; None if the face is too small to have any."""
    if track is None or not has_landmarks(track):
        return None
    if crop_px is None:
        return track.landmarks
    corners, sides = track.crop[:, None, :2], track.crop[:, None, 2:]
    return np.asarray((track.landmarks - corners) * (crop_px / sides), np.float32)


def pack_views(views: list[Grey]) -> str:
    """Pictures, uint8 (VIEW_PX, VIEW_PX), as text."""
    return base64.b64encode(b"".join(view.tobytes() for view in views)).decode("ascii")


def unpack_views(text: str) -> Grey:
    """The reverse of `pack_views`: uint8 (N, VIEW_PX, VIEW_PX)."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, VIEW_PX, VIEW_PX)


def spread(num_frames: int, num: int) -> list[int]:
    """Numbers of frames, evenly spread over a clip."""
    return np.unique(((np.arange(num) + 0.5) * num_frames / num).astype(int)).tolist()  # type: ignore[no-any-return]


def _aligned(luma: Luma, landmarks: Floats, template: str) -> Grey:
    crop, _, _ = align(luma, landmarks, 2 * VIEW_PX, template)
    return _shrunk(crop)


def _shrunk(picture: NDArray[np.uint8]) -> Grey:
    return np.asarray(cv2.resize(picture, (VIEW_PX, VIEW_PX), interpolation=cv2.INTER_AREA), np.uint8)
