"""Age and hair colour by StyleGANEX: one published network for each attribute.

Yang et al. 2023, "StyleGANEX: StyleGAN-Based Manipulation Beyond Cropped Aligned Faces". The style comes from the
clip's best frame, once, with the published rules of crop and alignment; styles, edit and kernels are then constant.
Frames are cut around the upright head with the eyes 64 px apart, as the network expects. Its pictures are four times
as large; they are averaged down to what the clip's own face has, and pasted where hair and skin are: masks are cut out
without weights (`generation.head.segmentation`), averaged over time and soft.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from generation.arrays import Floats, Frame
from generation.crops.align import AlignedFaces, Batching, similarity
from generation.crops.clip import FaceClip, PastedFrame
from generation.crops.outline import inset, is_seen
from generation.crops.paste import paste
from generation.crops.templates import TEMPLATES
from generation.errors import GenerationError
from generation.faces.identity import good_crops
from generation.generators.base import Attribute, AttributePipeline, CropsOutput
from generation.generators.styleganex.alignment import EYES_PX, align_face, eye_crop, of_five_landmarks
from generation.generators.styleganex.frames import FrameNetwork
from generation.generators.styleganex.network import SIDE_MULTIPLE, StyleganexEditor
from generation.head.analysis import ANALYSIS_PX, disc
from generation.head.matting import Carrier, matte
from generation.head.segmentation import HeadModel, learn_head
from generation.motion.fields import hann_mean

ENLARGEMENT = 4  # of the network
SCALES = (1, 2, 4)  # of the pasted crops
MARGIN = 0.012  # by which masks are wider than hair and skin, share of the side: edited hair moves its edge
SOFTNESS = 0.008  # of a mask's edge, share of the side
SMALLEST_DISTANCE_PX = 1.0  # of the eyes, across


@dataclass(frozen=True)
class StyleganexSettings:
    """Settings of `StyleganexEdit`.

    Attributes:
        crop_px: side of the aligned crops, a multiple of 8; with the template "styleganex" and 512 px eyes are 64 px
            apart, as the network expects them.
        template: of the crops.
        batch_frames: frames at a time.
        context_frames: on either side, over which masks are averaged.
        is_compiled: whether torch.compile is used on a GPU.
    """

    crop_px: int = 512
    template: str = "styleganex"
    batch_frames: int = 4
    context_frames: int = 2
    is_compiled: bool = False

    def __post_init__(self) -> None:
        if self.crop_px <= 0 or self.crop_px % SIDE_MULTIPLE:
            raise GenerationError(f"crop_px {self.crop_px}: these networks take sides divisible by {SIDE_MULTIPLE}")


@dataclass(frozen=True)
class PreparedStyleganex:
    """What is constant for a clip.

    Attributes:
        network: for its frames; None where nothing is changed.
        model: hair and skin of its key frames.
        scale: side of the pasted crops over that of the aligned crops.
    """

    network: FrameNetwork | None
    model: HeadModel | None
    scale: int = 1


class StyleganexEdit(AttributePipeline):
    """Editing of age and hair with one network for each.

    Args:
        age, hair: the network of each attribute; either may be missing.
        settings: see `StyleganexSettings`.

    Raises:
        GenerationError: a side that the networks do not take.
    """

    revision: ClassVar[int] = 2
    settings_class = StyleganexSettings
    settings: StyleganexSettings
    draws: ClassVar[bool] = False
    cuda_dtype: ClassVar[torch.dtype] = torch.float16
    _optional_components: ClassVar[list[str]] = ["age", "hair"]

    def __init__(
        self,
        age: StyleganexEditor | None = None,
        hair: StyleganexEditor | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.register_modules(age=age, hair=hair)

    @property
    def batching(self) -> Batching:
        """The batches that `replace` takes."""
        config = self.config
        return Batching(
            config.crop_px, config.batch_frames, config.context_frames, config.template, paste=self._paste_large
        )

    @torch.inference_mode()
    def prepare(self, target: FaceClip, attribute: Attribute, factor: float) -> PreparedStyleganex:
        """The person's style from the best frame, the network for the clip, and the key frames' hair and skin.

        Raises:
            FaceError, VideoError: the clip cannot be read, or does not fit its track.
            GenerationError: there is no such attribute or no network for it, or the factor does not suit it.
        """
        if attribute not in get_args(Attribute):
            raise GenerationError(f"{attribute}: no such attribute; use one of {', '.join(get_args(Attribute))}")
        network: StyleganexEditor | None = getattr(self, attribute)
        if network is None:
            raise GenerationError(
                f"{attribute}: this pipeline has no network for it; convert styleganex_edit_{attribute}.pt too"
            )
        if not math.isfinite(factor) or (attribute == "hair" and factor < 0):
            allowed = "0 and more" if attribute == "hair" else "any number"
            raise GenerationError(f"{target.name}: factor {factor} does not suit {attribute}; use {allowed}")
        if factor == 0:
            return PreparedStyleganex(None, None)
        (face,) = good_crops(target, aligned_face, 1)
        latents = network.latents(self._crops_to_input(face[None]))[0]
        is_cpu = self.device.type == "cpu" and self.dtype == torch.float32
        frames = network.frame_network(latents, factor, is_tiled=is_cpu)
        if not is_cpu:
            frames = frames.to(memory_format=torch.channels_last)
            if self.config.is_compiled:
                frames.compile()
        return PreparedStyleganex(frames, learn_head(target), _scale_of(target))

    def replace(self, faces: AlignedFaces, prepared: PreparedStyleganex, *, seed: int = 0) -> CropsOutput:
        """Edits a batch of aligned crops; frames without a face get an empty mask.

        Returns:
            Crops and masks of `prepared.scale` times the aligned crops' side.
        """
        crops, scale = faces.crops[faces.requested], prepared.scale
        side = scale * crops.shape[1]
        masks = np.zeros((len(crops), side, side), np.float32)
        made = np.zeros((len(crops), side, side, 3), np.uint8)
        numbers = [number for number in range(*faces.requested.indices(len(faces.crops))) if is_seen(faces, number)]
        if prepared.network is None or prepared.model is None or not numbers:
            return CropsOutput(made, masks)
        areas = self._areas(faces, prepared.model)
        for number in numbers:
            at = number - faces.num_before
            mask = self._mask(faces.crops[number], hann_mean(areas, number, self.config.context_frames))
            masks[at] = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
        places = [number - faces.num_before for number in numbers]
        at_once = 1 if self.device.type == "cpu" else len(places)  # what is between two layers stays in a cache
        for start in range(0, len(places), at_once):
            part = places[start : start + at_once]
            made[part] = edit_crops(prepared.network, self._crops_to_input(crops[part]), scale)
        return CropsOutput(made, masks)

    def _crops_to_input(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        # NHWC uint8 -> NCHW float [-1, 1]
        pixels = torch.from_numpy(np.array(crops)).to(self.device).permute(0, 3, 1, 2)
        return (pixels.float() / 255 - 0.5).div_(0.5).to(self.dtype)

    def _areas(self, faces: AlignedFaces, model: HeadModel) -> Floats:
        """How much hair or skin is where: float32 (N, ANALYSIS_PX, ANALYSIS_PX, 2) in the crops' own places."""
        carrier, there = Carrier(model), self._to_head()
        found = []
        for at, crop in enumerate(faces.crops):
            head = cv2.warpAffine(
                crop, there, (ANALYSIS_PX,) * 2, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
            )
            areas = carrier.areas(np.asarray(head, np.uint8), faces.start - faces.num_before + at)
            back = cv2.invertAffineTransform(there)
            back *= ANALYSIS_PX / self.config.crop_px
            found.append(cv2.warpAffine(areas, back, (ANALYSIS_PX,) * 2, borderMode=cv2.BORDER_REPLICATE))
        return np.asarray(found, np.float32)

    def _to_head(self) -> Floats:
        """The map from an aligned crop to the head crop that segmentation works on."""
        return similarity(TEMPLATES[self.config.template] * self.config.crop_px, TEMPLATES["head"] * ANALYSIS_PX)

    def _mask(self, crop: Frame, areas: Floats) -> Floats:
        """The soft mask of hair and skin together, a little wider than they are."""
        side = self.config.crop_px
        rough = np.ascontiguousarray(np.minimum(areas.sum(-1), 1), np.float32)
        small = np.asarray(cv2.resize(crop, (ANALYSIS_PX, ANALYSIS_PX), interpolation=cv2.INTER_AREA), np.uint8)
        wide = cv2.dilate(matte(crop, small, rough), disc(MARGIN * side))
        return np.asarray(cv2.GaussianBlur(wide, (0, 0), SOFTNESS * side) * inset(side), np.float32)

    def _paste_large(self, frame: Frame, crop: Frame, mask: Floats, matrix: Floats) -> PastedFrame:
        """Pastes a crop that is a whole number of times as large as the aligned one."""
        scale = len(crop) / self.config.crop_px
        # Points count from the centres of pixels.
        larger = np.asarray(matrix * scale + np.array([0, 0, (scale - 1) / 2]), np.float32)
        return paste(frame, crop, mask, larger)


def aligned_face(frame: Frame, landmarks: Floats) -> Frame:
    """The aligned face of 256 px that gives the style, by the published rules: RGB uint8 (256, 256, 3)."""
    face = of_five_landmarks(landmarks)
    if face.right_eye[0] - face.left_eye[0] < SMALLEST_DISTANCE_PX:  # lies on its side: as it is in the frame
        return align_face(frame, face).image
    crop = eye_crop(face, *frame.shape[:2])
    return align_face(crop.cut(frame), face.moved(crop.scale, (crop.left, crop.top))).image


def edit_crops(network: FrameNetwork, images: torch.Tensor, scale: int) -> NDArray[np.uint8]:
    """The network's pictures of frames [-1, 1] (B, 3, S, S), averaged down: RGB uint8 (B, scale S, scale S, 3)."""
    made = network(images).float().clamp_(-1, 1)
    times = ENLARGEMENT // scale
    made = functional.avg_pool2d(made, times) if times > 1 else made
    # NCHW float [-1, 1] -> NHWC uint8
    levels = ((made + 1) * 127.5).round_().to(torch.uint8)
    return np.asarray(levels.permute(0, 2, 3, 1).cpu().numpy(), np.uint8)


def _scale_of(clip: FaceClip) -> int:
    """The smallest enlargement that has about the detail of the clip's face."""
    across = clip.landmarks[:, 1] - clip.landmarks[:, 0]
    distance = float(np.median(np.hypot(across[:, 0], across[:, 1])))
    return next((scale for scale in SCALES if scale * EYES_PX >= 0.9 * distance), SCALES[-1])
