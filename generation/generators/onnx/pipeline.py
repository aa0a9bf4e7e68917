"""Face swap by a network in ONNX, as today's swappers are published: two inputs, target and source, one output.

What a network takes and gives is data (`generation.generators.onnx.swapper`); files, not weights, are its components.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from generation.arrays import Floats
from generation.crops.align import AlignedFaces, Batching
from generation.crops.clip import FaceClip
from generation.crops.outline import is_seen, outline_mask
from generation.digests import file_sha256
from generation.errors import GenerationError
from generation.faces.identity import OnnxIdentity, align_by, clip_embedding, good_crops
from generation.generators.base import CropsOutput, PairPipeline
from generation.generators.onnx.swapper import OnnxSwapper, swapper_from
from generation.weights.onnx_file import read_onnx
from generation.weights.onnx_network import OnnxNetwork

NETWORK_FILE, PROJECTION_FILE = "network.onnx", "crossface.onnx"
IDENTITY_FILES = ("identity.onnx", "w600k_r50.onnx", "arcface_w600k_r50.onnx")


@dataclass(frozen=True)
class SwapperFiles:
    """The network, and for one that takes an embedding the identity network and, if it has one, its converter."""

    network: Path
    identity: Path | None = None
    projection: Path | None = None


class OnnxSwap(PairPipeline):
    """Swapping with networks in ONNX; `attach` opens their files.

    Args:
        contract: what the network takes and gives, from `OnnxSwapper.to_json`.
        batch_frames: frames at a time.
    """

    draws: ClassVar[bool] = False

    def __init__(self, contract: Mapping[str, Any] | None = None, batch_frames: int = 8) -> None:
        super().__init__()
        self.register_to_config(contract=dict(contract or {}), batch_frames=batch_frames)
        self._files: SwapperFiles | None = None

    @property
    def swapper(self) -> OnnxSwapper:
        """What the network takes and gives."""
        return swapper_from(self.config.contract)

    def attach(self, files: SwapperFiles, device: str = "cpu") -> None:
        """Opens the files.

        Raises:
            GenerationError: one of them is of another kind, or does not fit the description.
        """
        self._network = OnnxNetwork(files.network, device)
        self._check_inputs()
        self._encoder = OnnxIdentity(files.identity) if files.identity else None
        self._converter = OnnxNetwork(files.projection) if files.projection else None
        self._matrix = None
        if self.swapper.source_input.projection == "last-initializer":
            self._matrix = _last_matrix(files.network)
        self._files = files

    def _check_inputs(self) -> None:
        swapper, inputs = self.swapper, self._network.inputs
        path = self._network.path
        if set(inputs) != {swapper.target, swapper.source}:
            requested = f"{swapper.target} and {swapper.source}"
            raise GenerationError(f"{path}: has the inputs {', '.join(inputs)}, not {requested}; use another file")
        side = swapper.size_px
        shape = inputs[swapper.target]
        if len(shape) != 4 or any(
            own not in (None, want) for own, want in zip(shape[1:], (3, side, side), strict=True)
        ):
            raise GenerationError(f"{path}: takes a target of {list(shape)}, not (1, 3, {side}, {side}); use another")

    @property
    def parameters(self) -> dict[str, Any]:
        """The settings that decide the result, and the digests of the files."""
        return self.describe(self._attached())

    def describe(self, files: SwapperFiles) -> dict[str, Any]:
        """The `parameters` with these files, which are digested and not opened."""
        named = {"network": files.network, "identity": files.identity, "projection": files.projection}
        digests = {name: file_sha256(path) for name, path in named.items() if path is not None}
        return {**super().parameters, "sha256": digests}

    def _attached(self) -> SwapperFiles:
        if self._files is None:
            raise GenerationError("this pipeline has no network yet; call attach, or load it with onnx:FILE")
        return self._files

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Writes the description and the files, each with its data inside."""
        files, folder = self._attached(), Path(save_directory)
        super().save_pretrained(folder, **options)
        names = {NETWORK_FILE: files.network, IDENTITY_FILES[0]: files.identity, PROJECTION_FILE: files.projection}
        for name, path in names.items():
            if path is not None:
                onnx.save(onnx.load(str(path)), str(folder / name))

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> Self:
        """Loads what `save_pretrained` wrote."""
        pipeline: Self = super().from_pretrained(folder, **options)
        identity, projection = Path(folder) / IDENTITY_FILES[0], Path(folder) / PROJECTION_FILE
        pipeline.attach(
            SwapperFiles(
                Path(folder) / NETWORK_FILE,
                identity if identity.is_file() else None,
                projection if projection.is_file() else None,
            )
        )
        return pipeline

    @property
    def batching(self) -> Batching:
        """The batches that `replace` takes."""
        swapper = self.swapper
        return Batching(swapper.size_px, self.config.batch_frames, template=swapper.template)

    def prepare(self, target: FaceClip, source: FaceClip) -> Floats:
        """What the network takes of the source: an embedding float32 (1, D), or a picture (1, 3, S, S) RGB [0, 1].

        Raises:
            FaceError, VideoError: the source cannot be read.
            GenerationError: there is no identity network, or it gives no identity.
        """
        self._attached()
        requested = self.swapper.source_input
        if requested.kind == "image":
            (crop,) = good_crops(source, align_by(requested.template, requested.size_px), 1)
            # HWC uint8 -> 1CHW float32 [0, 1]
            return np.asarray(crop.transpose(2, 0, 1)[None].astype(np.float32) / 255, np.float32)
        if self._encoder is None:
            raise GenerationError(f"{self._network.path}: needs an identity network; put {IDENTITY_FILES[0]} beside it")
        return self.project(clip_embedding(source, self._encoder)[None])

    def project(self, embedding: Floats) -> Floats:
        """Brings embeddings (N, D) of the identity network into the swapper's own space.

        Raises:
            GenerationError: the result is not finite.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            projected = self._projected(embedding)
        if not np.isfinite(projected).all():
            raise GenerationError(f"{self._network.path}: gives values that are not finite; use another file")
        return projected

    def _projected(self, embedding: Floats) -> Floats:
        requested, length = self.swapper.source_input, np.linalg.norm(embedding, axis=1, keepdims=True)
        if requested.projection == "network" and self._converter is not None:
            projected = self._converter({next(iter(self._converter.inputs)): embedding})
        elif self._matrix is not None:
            projected = embedding @ self._matrix
        else:
            projected = embedding
        if requested.length == "raw":
            return np.asarray(projected, np.float32)
        divisor = length if requested.length == "divided" else np.linalg.norm(projected, axis=1, keepdims=True)
        return np.asarray(projected / np.maximum(divisor, 1e-12), np.float32)

    def replace(self, faces: AlignedFaces, prepared: Floats, *, seed: int = 0) -> CropsOutput:
        """Swaps a batch of aligned crops; frames without a face get an empty mask and keep their crop."""
        numbers = [number for number in range(*faces.requested.indices(len(faces.crops))) if is_seen(faces, number)]
        crops = faces.crops[faces.requested].copy()
        masks = np.zeros(crops.shape[:3], np.float32)
        for number in numbers:
            at = number - faces.num_before
            crops[at] = self.swap(faces.crops[number], prepared)
            masks[at] = outline_mask(faces.landmarks[number], self.swapper.size_px)
        return CropsOutput(crops, masks)

    def swap(self, crop: NDArray[np.uint8], source: Floats) -> NDArray[np.uint8]:
        """The source put into one crop: RGB uint8 (S, S, 3) -> the same. Published graphs take one at a time."""
        swapper = self.swapper
        mean, deviation = (np.array(values, np.float32) for values in (swapper.mean, swapper.deviation))
        # HWC uint8 -> 1CHW float32, normalised
        pixels = ((crop.astype(np.float32) / 255 - mean) / deviation).transpose(2, 0, 1)[None]
        given = self._network({swapper.target: pixels, swapper.source: source})
        if given.size != pixels.size:
            raise GenerationError(f"{self._network.path}: gives {list(given.shape)}; use another file")
        # 1CHW or CHW -> HWC
        made = given.reshape(pixels.shape[1:]).transpose(1, 2, 0)
        if swapper.is_denormalised:
            made = made * deviation + mean
        return np.clip(np.rint(made * 255), 0, 255).astype(np.uint8)


def _last_matrix(path: Path) -> Floats:
    """The last initializer of the graph, a square matrix."""
    file = read_onnx(path)
    name = list(file.initializers)[-1] if file.initializers else ""
    shape = file.initializers.get(name, ())
    if len(shape) != 2 or shape[0] != shape[1]:
        raise GenerationError(f"{path}: its last weight is {list(shape)}, not the matrix for embeddings; use another")
    return np.asarray(file.initializer(name).float().numpy(), np.float32)
