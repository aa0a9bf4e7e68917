"""A clip whose face is known in every frame, and a frame with a new crop in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from generation.arrays import Frame, Grey, Landmarks, Mask
from generation.crops.kept import KeptCrops
from generation.errors import FaceError


@dataclass(frozen=True)
class FaceClip:
    """A clip whose face is known in every frame.

    Attributes:
        name: for error messages, such as the path of the file.
        frames: called for each pass over the clip; yields RGB uint8 (H, W, 3).
        landmarks: float32 (T, 5, 2), px of the frame: eyes, nose tip, mouth corners, each from left to right.
        is_detected: bool (T,), frames in which the face is seen; in others the landmarks are interpolated. None: all.
        wears_glasses: as was stated, never guessed from the pictures; None where nobody said.
        pick: yields some frames alone, by their numbers, from those of `frames`; None reads them one after the other.
        kept: takes the crops that are cut in one pass over the clip, and gives them in the next; None cuts them anew.

    Raises:
        FaceError: an array has another shape, or a frame has no landmarks.
    """

    name: str
    frames: Callable[[], Iterator[Frame]]
    landmarks: Landmarks
    is_detected: NDArray[np.bool_] | None = None
    wears_glasses: bool | None = None
    pick: Callable[[Collection[int]], dict[int, Frame]] | None = None
    kept: KeptCrops | None = None

    def __post_init__(self) -> None:
        if self.landmarks.ndim != 3 or self.landmarks.shape[1:] != (5, 2) or not len(self.landmarks):
            raise FaceError(f"{self.name}: landmarks have shape {self.landmarks.shape}, expected (T, 5, 2) with T > 0")
        if not np.isfinite(self.landmarks).all():
            raise FaceError(f"{self.name}: has frames without a face; delete its track and run `tooling faces`")
        if self.is_detected is not None and self.is_detected.shape != (len(self.landmarks),):
            raise FaceError(f"{self.name}: is_detected has shape {self.is_detected.shape}, expected one value a frame")

    def __len__(self) -> int:
        return len(self.landmarks)

    def keeping(self, crop_px: int) -> Self:
        """The same clip, whose aligned crops of this side are cut once; `kept` as it is where that is so already."""
        if self.kept is not None and self.kept.crop_px == crop_px:
            return self
        return replace(self, kept=KeptCrops(crop_px))

    def frames_at(self, numbers: Collection[int]) -> dict[int, Frame]:
        """Some frames by their numbers, in the order of the clip; fewer than are asked for if the clip is too short.

        Raises:
            VideoError: the clip cannot be read.
        """
        wanted = sorted(set(numbers))
        if self.pick is not None:
            return self.pick(wanted)
        frames = zip(range(wanted[-1] + 1), self.frames(), strict=False)
        return {number: frame for number, frame in frames if number in wanted}

    @classmethod
    def still(cls, name: str, image: Frame, landmarks: Landmarks, num_frames: int) -> Self:
        """A picture as a clip: RGB uint8 (H, W, 3) with landmarks (5, 2), shown `num_frames` times."""
        return cls(name, lambda: (image for _ in range(num_frames)), np.repeat(landmarks[None], num_frames, 0))


@dataclass(frozen=True)
class PastedFrame:
    """A frame with a new crop laid over the old one.

    Attributes:
        original, frame: RGB uint8 (H, W, 3), before and after; equal outside `region` and wherever `mask` is 0.
        region: rows and columns of the frame that the mask covers.
        mask: float32 (h, w) of the region, 0 to 1.
    """

    original: Frame
    frame: Frame
    region: tuple[slice, slice]
    mask: Mask

    @cached_property
    def stored_mask(self) -> Grey:
        """The mask of the whole frame as it is stored: uint8 (H, W), 0 kept, 255 replaced, at least 1 if changed."""
        whole = np.zeros(self.frame.shape[:2], np.uint8)
        # float32 [0, 1] -> uint8
        whole[self.region] = np.ceil(self.mask * 255).astype(np.uint8)
        return whole
