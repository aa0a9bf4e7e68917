"""Face swap by inpainting: the face is repainted, conditioned on the source's identity embedding.

FaceID variant of IP-Adapter: Ye et al. 2023, "IP-Adapter: Text Compatible Image Prompt Adapter for Text-to-Image
Diffusion Models". The identity comes from the source, light and position from the target; the expression is what the
network paints, so that this is a method for stills rather than for speech. Frames share their noise.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from generation.arrays import Floats, Frame
from generation.crops import blending
from generation.crops.align import AlignedFaces, Batching
from generation.crops.clip import FaceClip
from generation.errors import GenerationError, one_line
from generation.faces.identity import IdentityEncoder, OnnxIdentity, clip_identity
from generation.generators.base import CropsOutput, PairPipeline
from generation.generators.diffusers.wrapping import WrappedPipeline, as_pil, resized
from generation.generators.placement import quiet_libraries

ADAPTER, IDENTITY = "face_adapter.safetensors", "identity.onnx"
BROW_HEIGHT = 0.45  # above the eyes, in distances from eyes to mouth: brows are repainted too
PAINTED = 0.02  # weight of the outline from which a pixel is painted


class DiffusersInpaintSwap(WrappedPipeline, PairPipeline):
    """Repaints faces by inpainting; `attach` takes face adapter and identity network from folders.

    Attributes:
        identity_encoder: gives the embedding that the adapter was trained with; None until attached.
    """

    own_files: ClassVar[tuple[str, ...]] = (ADAPTER, IDENTITY)
    own_config: ClassVar[dict[str, Any]] = {"batch_frames": 8}
    identity_encoder: IdentityEncoder | None = None

    def attach(self, folders: list[Path]) -> None:
        """Loads the face adapter, and the identity network where there is one.

        Raises:
            GenerationError: there is no adapter, it is a pickle, it needs peft, or the identity network is not one.
        """
        super().attach(folders)
        self._load_adapter(self._attached[ADAPTER])
        if IDENTITY in self._attached:
            self.identity_encoder = OnnxIdentity(self._attached[IDENTITY])

    @classmethod
    def find_files(cls, folders: list[Path], origin: str) -> dict[str, Path]:
        """Face adapter and, where there is one, identity network; later folders come first.

        Raises:
            GenerationError: there is no adapter, or it is a pickle.
        """
        found = super().find_files(folders, origin)
        if ADAPTER not in found:
            pickled = [path for folder in folders for path in sorted(folder.glob("*faceid*.bin"))]
            if pickled:
                raise GenerationError(f"{pickled[0]}: is a pickle, which is never read; get it as {ADAPTER}")
            raise GenerationError(
                f"{origin}: has no face adapter; put a FaceID IP-Adapter as {ADAPTER} into the folder named with "
                "--weights"
            )
        return found

    def _load_adapter(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
        except (OSError, SafetensorError) as error:
            raise GenerationError(f"{path}: is not a safetensors file ({error}); get it again") from error
        if any("lora" in name for name in names) and importlib.util.find_spec("peft") is None:
            raise GenerationError(f"{path}: has LoRA weights, which need peft; run `pip install peft`")
        try:
            with quiet_libraries():
                self.inner.load_ip_adapter(
                    str(path.parent), subfolder="", weight_name=path.name, image_encoder_folder=None
                )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
            reason = one_line(error)
            raise GenerationError(f"{path}: does not fit {self.origin} ({reason}); get the one made for it") from error
        missing = [name for name, value in self.inner.unet.state_dict().items() if value.is_meta]
        if missing:
            raise GenerationError(f"{path}: weight for {missing[0]} is missing; get it again")
        self.inner.set_ip_adapter_scale(self.entry.adapter_scale)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Writes the pipeline without its adapter, which diffusers would lose, and the adapter beside it."""
        self.inner.unload_ip_adapter()
        try:
            super().save_pretrained(save_directory, **options)
        finally:
            self._load_adapter(self._attached[ADAPTER])

    @property
    def batching(self) -> Batching:
        """The batches that `replace` takes."""
        return Batching(self.entry.size_px, self.config["batch_frames"], template="face")

    def prepare(self, target: FaceClip, source: FaceClip) -> Floats:
        """The source's identity: float32 (D,), length 1.

        Raises:
            FaceError, VideoError: the source cannot be read.
            GenerationError: there is no identity encoder.
        """
        if self.identity_encoder is None:
            raise GenerationError(
                f"{self.origin}: has no identity encoder; put an ArcFace network as {IDENTITY} into the folder named "
                "with --weights"
            )
        return clip_identity(source, self.identity_encoder)

    def replace(self, faces: AlignedFaces, prepared: Floats, *, seed: int = 0) -> CropsOutput:
        """Paints the faces of a batch of aligned crops.

        Raises:
            GenerationError: see `WrappedPipeline.call`.
        """
        side = self.entry.size_px
        embedding = torch.from_numpy(prepared).to(self.device, self.dtype)[None, None]
        # one tensor for one adapter: (2, 1, D), without and with the identity
        embeddings = [torch.cat([torch.zeros_like(embedding), embedding])]
        if float(self.entry.arguments.get("guidance_scale", 7.5)) <= 1:
            embeddings = [embedding]
        frames, masks = [], []
        for crop, landmarks in zip(faces.crops[faces.requested], faces.landmarks[faces.requested], strict=True):
            mask = blending.enlarge(blending.face_outline(landmarks / np.float32(side), BROW_HEIGHT), side)
            frames.append(self._painted(crop, mask, embeddings, seed))
            masks.append(mask)
        return CropsOutput(np.stack(frames), np.stack(masks))

    def _painted(self, crop: Frame, mask: Floats, embeddings: list[torch.Tensor], seed: int) -> Frame:
        # float32 [0, 1] -> uint8 {0, 255}
        painted = ((mask > PAINTED) * 255).astype(np.uint8)
        made = self.call(
            self.entry.prompt,
            seed,
            image=as_pil(crop),
            mask_image=as_pil(painted),
            ip_adapter_image_embeds=embeddings,
        )
        return resized(made[0], len(crop))
