"""One face through a clip, as a track file stores it. Loads no detector."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from generation.arrays import Boxes, Floats, Landmarks
from generation.errors import FaceError
from generation.json_text import parse_json

TRACK_FORMAT = 1
TRACK_SHAPES = {"boxes": (4,), "landmarks": (5, 2), "crop": (3,)}


@dataclass(frozen=True)
class FaceTrack:
    """One face through a clip of T frames, in px of the clip, rounded to 0.01.

    Attributes:
        boxes: float32 (T, 4), x0, y0, x1, y1, smoothed over time.
        landmarks: float32 (T, 5, 2), smoothed over time.
        is_detected: bool (T,), whether MTCNN accepts the face in this frame: the whole cascade on sampled frames, its
            last network at the expected box on those between; elsewhere box and landmarks are interpolated.
        crop: float32 (T, 3), x, y, side of the square that becomes the crop; may reach beyond the picture.
        width, height: of the clip, px.
        choice: why this face: JSON values only.
    """

    boxes: Boxes
    landmarks: Landmarks
    is_detected: NDArray[np.bool_]
    crop: Floats
    width: int
    height: int
    choice: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.boxes)

    def to_json(self) -> str:
        """The text of a track file; the same track gives the same text."""
        content: dict[str, Any] = {"format": TRACK_FORMAT, "width": self.width, "height": self.height}
        for name in ("boxes", "landmarks", "crop"):
            content[name] = round_px(getattr(self, name)).tolist()
        content["is_detected"] = self.is_detected.tolist()
        content["choice"] = self.choice
        lines = (f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in content.items())
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, name: str = "track") -> Self:
        """Reads the text of a track file.

        Args:
            text: as `to_json` writes it; bytes are UTF-8.
            name: of the file, for the error message.

        Raises:
            FaceError: not JSON, another format, or a part is missing or has a wrong shape, length or value.
        """
        try:
            content = parse_json(text)
            return cls._from_content(content)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise FaceError(f"{name}: no usable face track ({reason}); delete it and run `tooling faces`") from error

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Self:
        if content["format"] != TRACK_FORMAT:
            raise ValueError(f"format {content['format']}, expected {TRACK_FORMAT}")
        width, height, is_detected = content["width"], content["height"], content["is_detected"]
        if not all(isinstance(size, int) and size > 0 for size in (width, height)):
            raise ValueError("width and height must be whole numbers of px")
        if not is_detected or not all(isinstance(value, bool) for value in is_detected):
            raise ValueError("is_detected must be true or false for each frame")
        arrays = {}
        for name, shape in TRACK_SHAPES.items():
            with np.errstate(over="ignore"):
                array = np.array(content[name], dtype=np.float64).astype(np.float32)
            if array.shape != (len(is_detected), *shape) or not np.isfinite(array).all():
                raise ValueError(f"{name} must be {(len(is_detected), *shape)} finite numbers")
            arrays[name] = array
        if (arrays["crop"][:, 2] <= 0).any() or (arrays["boxes"][:, 2:] <= arrays["boxes"][:, :2]).any():
            raise ValueError("a box or crop without area")
        if not isinstance(content["choice"], dict):
            raise ValueError("choice must be an object")
        return cls(**arrays, is_detected=np.array(is_detected), width=width, height=height, choice=content["choice"])


def round_px(values: NDArray[Any]) -> NDArray[np.float64]:
    """Rounds coordinates to 0.01 px; no negative zeros."""
    return np.asarray(np.round(values.astype(np.float64), 2) + 0.0)
