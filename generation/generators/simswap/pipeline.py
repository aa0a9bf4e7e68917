"""Face swap by SimSwap: one network for all faces, the identity from its own encoder.

Chen et al. 2020, "SimSwap: An Efficient Framework For High Fidelity Face Swapping". The source's identity is the mean
over several good frames and becomes the scales and shifts of the network once for a clip; the target's frames then go
through it in batches. What may flicker is averaged over time: landmarks, the choice among pose templates, masks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from generation.arrays import Floats
from generation.crops.align import AlignedFaces, Batching
from generation.crops.clip import FaceClip
from generation.crops.outline import inset, is_seen, outline_mask
from generation.errors import GenerationError
from generation.faces.identity import align_by, clip_identity
from generation.generators.base import CropsOutput, PairPipeline
from generation.generators.simswap import published_paste as simswap_paste
from generation.generators.simswap.fused import FusedSwapGenerator
from generation.generators.simswap.identity_encoder import SwapIdentity, shrink_for_identity
from generation.generators.simswap.network import SwapGenerator, denormalise, normalise
from generation.generators.simswap.parsing import SIDE_PX as PARSING_PX
from generation.generators.simswap.parsing import FaceParsing

Pasting = Literal["soft", "published"]

LARGEST_SHIFT = 0.04  # of the landmarks, share of the side, between crops whose masks are averaged


@dataclass(frozen=True)
class SimswapSettings:
    """Settings of `SimSwap`.

    Attributes:
        crop_px: side of the crops, that of the network's training.
        template: of the crops, that of the network's training: "poses" for 224 px, "ffhq" for 512 px.
        batch_frames: frames at a time.
        context_frames: on either side, over which parsed masks are averaged.
        pasting: "soft" is this project's, "published" that of the published program with its seam and rounding.
        is_compiled: whether torch.compile is used on a GPU.
    """

    crop_px: int = 224
    template: str = "poses"
    batch_frames: int = 8
    context_frames: int = 2
    pasting: Pasting = "soft"
    is_compiled: bool = False

    def __post_init__(self) -> None:
        if self.pasting not in get_args(Pasting):
            raise GenerationError(f"pasting {self.pasting!r}; use one of {', '.join(get_args(Pasting))}")


@dataclass
class PreparedSimswap:
    """A source's identity, and the parsed masks of the target's last frames.

    Attributes:
        styles: (2 x blocks, 2, C), from `FusedSwapGenerator.styles`.
        masks: by the frame's number, float32 (S, S); those that are still needed.
    """

    styles: Tensor
    masks: dict[int, Floats] = field(default_factory=dict)


class SimSwap(PairPipeline):
    """Swapping with SimSwap's networks.

    Args:
        network: puts an identity into aligned crops.
        identity: embeds the source.
        parsing: names the parts of the target's face; without it the mask is drawn around the landmarks.
        settings: see `SimswapSettings`.

    Raises:
        GenerationError: no such pasting, or a side that the network does not take.
    """

    settings_class = SimswapSettings
    settings: SimswapSettings
    draws: ClassVar[bool] = False
    cuda_dtype: ClassVar[torch.dtype] = torch.float16
    _optional_components: ClassVar[list[str]] = ["parsing"]

    def __init__(
        self,
        network: SwapGenerator,
        identity: SwapIdentity,
        parsing: FaceParsing | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        crop_px = self.settings.crop_px
        if crop_px % network.side_multiple:
            raise GenerationError(f"crop_px {crop_px}: this network takes sides divisible by {network.side_multiple}")
        self.register_modules(network=network, identity=identity, parsing=parsing)
        self._fused: tuple[object, FusedSwapGenerator] | None = None

    @property
    def batching(self) -> Batching:
        """The batches that `replace` takes."""
        config = self.config
        context = config.context_frames if self.parsing is not None else 0
        paste = simswap_paste.paste_back if config.pasting == "published" else None
        return Batching(config.crop_px, config.batch_frames, context, template=config.template, paste=paste)

    @torch.inference_mode()
    def prepare(self, target: FaceClip, source: FaceClip) -> PreparedSimswap:
        """The source's identity; reads the source once.

        Raises:
            FaceError, VideoError: the source cannot be read, or does not fit its track.
            GenerationError: its frames give no identity.
        """
        crop = align_by(self.config.template, self.config.crop_px)
        latent = torch.from_numpy(clip_identity(source, self.embed, crop)).to(self.device, self.dtype)
        return PreparedSimswap(self.fused.styles(latent[None]))

    @torch.inference_mode()
    def embed(self, crops: NDArray[np.uint8]) -> Floats:
        """Identities of aligned crops, RGB uint8 (N, S, S, 3): float32 (N, L), not of length 1."""
        # Published networks were trained with the first way of shrinking, the published trainer uses the second.
        mode = "nearest" if self.network.config.head == "tanh01" else "bicubic"
        found = []
        for one in crops:
            images = normalise(self._crops_to_input(one[None]))
            small = shrink_for_identity(images, self.identity.config.side_px, mode=mode)
            found.append(self.identity(small).float().cpu().numpy()[0])
        return np.asarray(np.stack(found), np.float32)

    def replace(self, faces: AlignedFaces, prepared: PreparedSimswap, *, seed: int = 0) -> CropsOutput:
        """Swaps a batch of aligned crops; frames without a face get an empty mask and keep their crop."""
        numbers = [number for number in range(*faces.requested.indices(len(faces.crops))) if is_seen(faces, number)]
        crops = faces.crops[faces.requested].copy()
        masks = np.zeros(crops.shape[:3], np.float32)
        if numbers:
            places = [number - faces.num_before for number in numbers]
            crops[places] = self.swap(faces.crops[numbers], prepared.styles)
            masks[places] = self._masks(faces, numbers, prepared)
        return CropsOutput(crops, masks)

    def swap(self, crops: NDArray[np.uint8], styles: Tensor) -> NDArray[np.uint8]:
        """The identity put into crops: RGB uint8 (N, S, S, 3) -> the same."""
        images, head = self._crops_to_input(crops), self.network.config.head
        if head == "imagenet":
            images = normalise(images)
        images = self.fused(images, styles).float()
        if head == "imagenet":
            images = denormalise(images)
        return _output_to_crops(images)

    @property
    def fused(self) -> FusedSwapGenerator:
        """The network in its fast form, made again when its weights have changed or moved."""
        state = tuple((value.data_ptr(), value._version) for value in self.network.parameters())
        key = (self.device, self.dtype, self.config.is_compiled, state)
        if self._fused is None or self._fused[0] != key:
            is_tiled = self.device.type == "cpu" and self.dtype == torch.float32
            fused = FusedSwapGenerator(self.network, is_tiled=is_tiled).eval()
            if self.config.is_compiled and self.device.type == "cuda":
                fused.compile()
            self._fused = key, fused
        return self._fused[1]

    def _crops_to_input(self, crops: NDArray[np.uint8]) -> Tensor:
        # NHWC uint8 -> NCHW float [0, 1]
        pixels = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device)
        return pixels.permute(0, 3, 1, 2).to(self.dtype).contiguous() / 255

    def _masks(self, faces: AlignedFaces, numbers: list[int], prepared: PreparedSimswap) -> Floats:
        if self.parsing is None:
            if self.config.pasting == "published":
                return np.ones((len(numbers), *faces.crops.shape[1:3]), np.float32)
            return np.stack([outline_mask(faces.landmarks[number], self.config.crop_px) for number in numbers])
        known = self._parsed(faces, prepared)
        if self.config.pasting == "published":
            return np.stack([known[number] for number in numbers])
        return np.stack(
            [self._smoothed(known, faces.landmarks / np.float32(self.config.crop_px), number) for number in numbers]
        )

    def _parsed(self, faces: AlignedFaces, prepared: PreparedSimswap) -> dict[int, Floats]:
        """Masks of all crops in which the face is seen, by their place in the batch; each is made once."""
        first = faces.start - faces.num_before
        for number in [number for number in prepared.masks if number < first]:
            del prepared.masks[number]
        seen = [number for number in range(len(faces.crops)) if is_seen(faces, number)]
        for number in seen:
            if first + number not in prepared.masks:
                prepared.masks[first + number] = self.parse(faces.crops[number])
        return {number: prepared.masks[first + number] for number in seen}

    def parse(self, crop: NDArray[np.uint8]) -> Floats:
        """The mask of one crop, RGB uint8 (S, S, 3): float32 (S, S); all 1 where hardly a face is found."""
        if self.parsing is None:
            raise GenerationError("this pipeline has no parsing network; convert the weights with it")
        images = functional.interpolate(normalise(self._crops_to_input(crop[None])), size=(PARSING_PX, PARSING_PX))
        labels = self.parsing(images)[0].argmax(0).cpu().numpy()
        mask = simswap_paste.face_mask(labels, len(crop))
        return np.ones(crop.shape[:2], np.float32) if mask is None else mask

    def _smoothed(self, masks: dict[int, Floats], landmarks: Floats, number: int) -> Floats:
        """The mask averaged over neighbours that show the face at the same place of the crop."""
        reach = self.config.context_frames
        total, weight = np.zeros_like(masks[number]), 0.0
        for other in range(number - reach, number + reach + 1):
            share = 0.5 + 0.5 * float(np.cos(np.pi * (other - number) / (reach + 1)))
            if other in masks and np.abs(landmarks[other] - landmarks[number]).mean() < LARGEST_SHIFT:
                total, weight = total + np.float32(share) * masks[other], weight + share
        return np.asarray(inset(len(total)) * total / np.float32(weight), np.float32)


def _output_to_crops(images: Tensor) -> NDArray[np.uint8]:
    # NCHW float [0, 1] -> NHWC uint8
    levels = (images * 255).round_().clamp_(0, 255).to(torch.uint8)
    return np.asarray(levels.permute(0, 2, 3, 1).cpu().numpy(), np.uint8)
