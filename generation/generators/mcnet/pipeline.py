"""Expression driving with MCNET: one still of the target, moved by the source's keypoints.

Hong and Xu 2023, "Implicit Identity Representation Conditioned Memory Compensation Network for Talking Head Video
Generation".

1. `prepare` reads both clips once for pose and expression and once for keypoints, of which it keeps those alone. The
   still is the target's most neutral frame, the start the source's frame most like it.
2. The network moves the still's crop, the same one for the whole clip, by the source's movement since the start. So
   the target's own expression is gone, and no change of the picture that it starts from can flicker.
3. Both clips are aligned by their landmarks, so that head movement in the picture's plane and in size is the target
   frame's, by the way back. What is left, turns and nods, is the target's too unless `head` is "source".
4. Inside a soft outline the result is brought to the frame's light and pasted; all else is the frame itself.

The network draws noise where it was published; here it has none, unless `has_noise` asks for it: then it is drawn
for each frame from the seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generation.arrays import Floats, Frame
from generation.crops import blending
from generation.crops.align import AlignedFaces, Batching, aligned_batches
from generation.crops.clip import FaceClip
from generation.errors import GenerationError
from generation.generators.base import CropsOutput, PairPipeline, frame_generator
from generation.generators.mcnet.driving import MotionSettings, best_frame, driving_keypoints, neutral_frame
from generation.generators.mcnet.keypoints import Keypoints, McnetDetector
from generation.generators.mcnet.network import NUM_NOISES, McnetGenerator, Still
from generation.generators.mcnet.pictures import crops_to_input
from generation.motion.expression import comparable
from generation.motion.fields import hann_mean
from generation.motion.measure import measure_clip
from generation.motion.rigid import face_area

MEASURED_PX = 320  # side of the crops in which pose and expression are measured
GPU_FRAMES = 8  # the network's batch on a GPU, always filled up, so that no result depends on how clips are cut


@dataclass(frozen=True)
class McnetSettings(MotionSettings):
    """Settings of `McnetDrive`, besides those of the motion.

    Attributes:
        crop_px: side of the aligned crops; where it is not the network's they are resized for it.
        template: where the face lies in the crop; the network was trained on heads with shoulders.
        best_frame: number of the source's frame to start from; -1 searches for it.
        has_noise: whether the memory gets noise, as published.
        batch_frames: frames pasted at a time.
        context_frames: neighbours on either side over which the target's light is averaged.
    """

    crop_px: int = 256
    template: str = "portrait"
    best_frame: int = -1
    has_noise: bool = False
    batch_frames: int = 8
    context_frames: int = 2


@dataclass(frozen=True)
class PreparedMcnet:
    """What is known of a pair of clips before the first frame is made.

    Attributes:
        network: folded for inference.
        still: the target's still as the network sees it.
        driving: keypoints for each frame of the target, on the CPU.
        brow_height: of the target, above the eyes, in distances from eyes to mouth.
        still_number, start: frames of target and source that are alike.
    """

    network: McnetGenerator
    still: Still
    driving: Keypoints
    brow_height: float
    still_number: int
    start: int


class McnetDrive(PairPipeline):
    """Driving with MCNET's networks.

    Args:
        detector, animator: the two published networks.
        settings: see `McnetSettings`.
    """

    cuda_dtype = torch.float16

    settings_class = McnetSettings
    revision: ClassVar[int] = 2
    settings: McnetSettings

    def __init__(self, detector: McnetDetector, animator: McnetGenerator, **settings: Any) -> None:
        super().__init__(**settings)
        self.register_modules(detector=detector.requires_grad_(False), animator=animator.requires_grad_(False))

    @property
    def draws(self) -> bool:  # type: ignore[override]
        """Whether another seed gives another result."""
        return bool(self.config["has_noise"])

    @property
    def batching(self) -> Batching:
        """The batches that `replace` takes."""
        settings = self.settings
        return Batching(settings.crop_px, settings.batch_frames, settings.context_frames, settings.template)

    @torch.no_grad()
    def prepare(self, target: FaceClip, source: FaceClip) -> PreparedMcnet:
        """Reads both clips; memory is that of one crop, and some numbers for each frame.

        Raises:
            FaceError, VideoError: a clip cannot be read, or does not fit its track.
            GenerationError: the source has fewer frames than the target, or not the frame to start from.
        """
        settings = self.settings
        if len(source) < len(target):
            raise GenerationError(
                f"{source.name}: has {len(source)} frames and {target.name}, which it is to drive, has {len(target)}; "
                "take a source at least as long"
            )
        if settings.best_frame >= len(source):
            raise GenerationError(f"{source.name}: has {len(source)} frames; best_frame {settings.best_frame} is none")
        neutral, asked = measure_clip(target, Batching(MEASURED_PX, settings.batch_frames))
        shown = comparable(asked)
        still_number = neutral_frame(shown)
        start = settings.best_frame
        if start < 0:
            _, given = measure_clip(source, Batching(MEASURED_PX, settings.batch_frames))
            like = target.landmarks[still_number], shown[still_number]
            start = best_frame(like, (source.landmarks, comparable(given)))
        own, crop = self._look(target, still_number, is_whole=settings.head == "target")
        moves, _ = self._look(source, start, is_whole=True)
        in_own = still_number if settings.head == "target" else 0
        driving = driving_keypoints(moves, own, start, in_own, settings)
        network = self.animator.folded(is_tiled=self.device.type == "cpu")
        still = network.encode(self._crops_to_input(crop[None]), own[in_own : in_own + 1].to(self.device))
        return PreparedMcnet(network, still, driving, neutral.brow_height, still_number, start)

    def _look(self, clip: FaceClip, number: int, *, is_whole: bool) -> tuple[Keypoints, Frame]:
        """Keypoints of a clip's frames, or of one alone, and that one's crop."""
        settings, found, kept = self.settings, [], None
        batching = Batching(settings.crop_px, settings.batch_frames, template=settings.template)
        for faces in aligned_batches(clip, batching):
            is_here = 0 <= number - faces.start < len(faces.crops)
            if is_here:
                kept = faces.crops[number - faces.start].copy()
            if is_whole:
                # One at a time: the last bits of a place must not depend on how the clip is cut.
                found += [
                    self.detector(self._crops_to_input(crop[None])).to(torch.device("cpu")) for crop in faces.crops
                ]
            elif kept is not None:
                return self.detector(self._crops_to_input(kept[None])).to(torch.device("cpu")), kept
        if kept is None:
            raise GenerationError(
                f"{clip.name}: has fewer frames than its track; delete its track and run `tooling faces`"
            )
        return Keypoints.joined(found), kept

    def _crops_to_input(self, crops: NDArray[np.uint8]) -> Tensor:
        # THWC uint8 -> TCHW float32 [0, 1]
        values = crops_to_input(crops, self.animator.config["image_px"])
        return torch.from_numpy(values).permute(0, 3, 1, 2).contiguous().to(self.device)

    def replace(self, faces: AlignedFaces, prepared: PreparedMcnet, *, seed: int = 0) -> CropsOutput:
        """Drives a batch of aligned crops; the seed is that of the noise, where there is any."""
        side, numbers = self.settings.crop_px, range(*faces.requested.indices(len(faces.crops)))
        small = np.stack([blending.shrink_to_grid(crop) for crop in faces.crops])
        frames, masks = [], []
        for number, made in zip(numbers, self._made(faces.start, len(numbers), prepared, seed), strict=True):
            if made.shape[0] != side:
                made = np.clip(cv2.resize(made, (side, side), interpolation=cv2.INTER_CUBIC), 0, 1)
            landmarks = faces.landmarks[number] / np.float32(side)
            around = hann_mean(small, number, self.settings.context_frames)
            frame, mask = _fitted(made, around, landmarks, prepared.brow_height)
            frames.append(frame)
            masks.append(mask)
        return CropsOutput(np.stack(frames), np.stack(masks))

    def _made(self, start: int, num_frames: int, prepared: PreparedMcnet, seed: int) -> Iterator[Floats]:
        """The network's pictures, RGB float32 [0, 1] (S, S, 3)."""
        step = 1 if self.device.type == "cpu" else GPU_FRAMES
        for first in range(start, start + num_frames, step):
            requested = range(first, min(first + step, start + num_frames))
            filled = [requested[min(at, len(requested) - 1)] for at in range(step)]
            driving = Keypoints(prepared.driving.value[filled], prepared.driving.jacobian[filled]).to(self.device)
            noise = self._noise(filled, seed) if self.settings.has_noise else None
            pictures = prepared.network(prepared.still, driving, noise)[: len(requested)]
            # TCHW -> THWC
            yield from np.ascontiguousarray(pictures.permute(0, 2, 3, 1).float().cpu().numpy())

    def _noise(self, numbers: list[int], seed: int) -> Tensor:
        side = self.animator.config["memory_px"]
        drawn = [torch.randn((NUM_NOISES, 1, side, side), generator=frame_generator(seed, at)) for at in numbers]
        return torch.stack(drawn).to(self.device)


def _fitted(made: Floats, around: Floats, landmarks: Floats, brow_height: float) -> tuple[Frame, Floats]:
    """The network's picture in the light of the frame, uint8, and where it is laid over the frame.

    Args:
        made: RGB float32 [0, 1] (S, S, 3).
        around: RGB float32 [0, 1] (GRID_PX, GRID_PX, 3), the target's crop, averaged over its neighbours.
        landmarks: of the target's crop, (5, 2) as shares of its side.
        brow_height: see `PreparedMcnet`.
    """
    less = blending.shrink(made)
    skin = np.minimum(blending.skin(around, landmarks), blending.skin(less, landmarks))
    light = skin * (1 - blending.feature_areas(landmarks)) * blending.face_outline(landmarks, brow_height)
    face = blending.relight(made, blending.low_band(less, light), blending.low_band(around, light), skin)
    mask = face_area(landmarks, brow_height, 0.88, 1.10)
    # At its edge only skin is laid over skin: no background over a cheek, no cheek over the background.
    core = face_area(landmarks, brow_height, 0.62, 0.90)
    mask = mask * (core + (1 - core) * blending.fill_thin(skin))
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.0), np.float32)
    # float32 [0, 1] -> uint8
    crop = np.clip(np.rint(face * 255), 0, 255).astype(np.uint8)
    return crop, np.ascontiguousarray(blending.enlarge(mask, len(made)))
