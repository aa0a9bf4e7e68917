"""What a video shows: descriptors for near-duplicates, its mean picture, brightness and sharpness of its face."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Frame, Grey
from generation.faces.appearance import inside_box, sharpness_of
from generation.faces.track import FaceTrack
from generation.quality.change import Luma
from generation.quality.descriptor import COLOUR_PX, CUTS, HASH_FREQUENCIES, PATTERN_PX, Descriptor, describe_image
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.meter import DecodedFrame, Meter
from tooling.stages.verify.meters.views import spread

NUM_DESCRIBED = 5  # frames of a clip that are described
DESCRIBED_PX = 320  # longer side in which they are
MEAN_SIZE = (64, 36)  # of the mean picture
NUM_MEASURED = 16  # frames of a clip in which the face is measured
FACE_PX = 160  # side to which it is scaled for its sharpness
BLACK, WHITE = 16, 235  # levels of luma


class ContentMeter(Meter):
    """Measures what a video shows: digest, descriptors, mean picture, and its face's size, sharpness and brightness.

    Args:
        check: takes all of these.
        num_frames: that the video should have.
        boxes: float32 (T, 4), the face in px of the video; None without a track.
    """

    needs_whole_file: ClassVar[bool] = False

    def __init__(self, check: FileCheck, num_frames: int, boxes: NDArray[np.float32] | None) -> None:
        self.check = check
        self._described = set(spread(num_frames, NUM_DESCRIBED))
        self._measured = set(spread(num_frames, NUM_MEASURED))
        self._boxes = boxes
        self._digest = hashlib.sha256()
        self._descriptors: list[Descriptor] = []
        self._sum: NDArray[np.float64] | None = None
        self._num = 0
        self._values: list[tuple[float, float, float]] = []

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes the next frame."""
        cells, number = frame.cells, frame.number
        self._digest.update(cells.tobytes())
        self._sum = cells.astype(np.float64) if self._sum is None else self._sum + cells
        self._num += 1
        if number in self._measured and self._boxes is not None and number < len(self._boxes):
            measured = measure_face(frame.luma, self._boxes[number])
            self._values += [measured] if measured else []
        if number in self._described:
            self._descriptors.append(describe(frame.rgb))

    def finish(self) -> None:
        """Leaves what was measured; of a file that does not decode to its end, of the frames before."""
        self.check.descriptors = pack(self._descriptors)
        if self._sum is not None:
            self.check.content = self._digest.hexdigest()
            self.check.mean_picture = pack_mean_picture(self._sum / self._num)
        if self._values:
            self.check.measurements.update(named(*np.median(self._values, axis=0).tolist()))


def named(face_px: float, sharpness: float, brightness: float) -> dict[str, float]:
    """The measurements of a face by their names, rounded."""
    return {"face_px": round(face_px, 1), "sharpness": round(sharpness, 2), "brightness": round(brightness, 1)}


def measure_face(luma: Luma, box: NDArray[np.floating]) -> tuple[float, float, float] | None:
    """Longer side of the face in px; sharpness; mean level, black 0, white 255. None if the box lies outside."""
    face = inside_box(luma, box)
    if min(face.shape) < 2:
        return None
    brightness = (float(face.mean()) - BLACK) / (WHITE - BLACK) * 255
    return float(max(box[2] - box[0], box[3] - box[1])), sharpness_of(face, FACE_PX), brightness


def describe(picture: Frame) -> Descriptor:
    """Describes a picture, RGB uint8 (H, W, 3), scaled to at most DESCRIBED_PX."""
    scale = DESCRIBED_PX / max(picture.shape[:2])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    return describe_image(np.asarray(small, np.uint8))


def pack(descriptors: Sequence[Descriptor]) -> str:
    """Descriptors as text."""
    parts = (one.bits.tobytes() + one.patterns.tobytes() + one.colours.tobytes() for one in descriptors)
    return _text(b"".join(parts))


def unpack(text: str) -> list[Descriptor]:
    """The reverse of `pack`."""
    content, found = base64.b64decode(text), []
    sizes = (HASH_FREQUENCIES**2 // 8, 2 * len(CUTS) * PATTERN_PX**2, 2 * COLOUR_PX**2)
    for at in range(0, len(content), sum(sizes)):
        ends = np.cumsum((at, *sizes)).tolist()
        bits, patterns, colours = (content[start:end] for start, end in itertools.pairwise(ends))
        found.append(
            Descriptor(
                np.frombuffer(bits, np.uint8),
                np.frombuffer(patterns, np.float16).reshape(len(CUTS), -1),
                np.frombuffer(colours, np.uint8).reshape(-1, 2),
            )
        )
    return found


def pack_mean_picture(levels: NDArray[np.floating]) -> str:
    """A grey picture (H, W), scaled to MEAN_SIZE, as text."""
    small = cv2.resize(levels.astype(np.float32), MEAN_SIZE, interpolation=cv2.INTER_AREA)
    return _text(np.rint(small).astype(np.uint8).tobytes())


def unpack_mean_picture(text: str) -> Grey:
    """The reverse of `pack_mean_picture`."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(MEAN_SIZE[::-1])


def mean_picture_distance(first: str, second: str) -> float:
    """Mean difference of two mean pictures as text, in levels."""
    one, other = (unpack_mean_picture(text).astype(np.float32) for text in (first, second))
    return float(np.abs(one - other).mean())


def boxes_of(track: FaceTrack | None, crop_px: int | None) -> NDArray[np.float32] | None:
    """The face's boxes in px of the clip, or of a crop of `crop_px`."""
    if track is None or crop_px is None:
        return None if track is None else track.boxes
    corners, sides = np.tile(track.crop[:, :2], 2), track.crop[:, 2:]
    return np.asarray((track.boxes - corners) * (crop_px / sides), np.float32)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
