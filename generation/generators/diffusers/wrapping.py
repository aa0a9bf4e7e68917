"""What generators over diffusers' own pipelines share: one pipeline inside, called with data, saved as its folder."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from generation.arrays import Floats, Frame
from generation.digests import file_sha256
from generation.errors import GenerationError, one_line
from generation.generators.base import RecordedPipeline, recorded
from generation.generators.diffusers.catalogue import SETTINGS_FILE, CatalogueEntry
from generation.generators.diffusers.loading import load
from generation.generators.placement import quiet_libraries
from generation.generators.registry import LoadOptions


class WrappedPipeline(RecordedPipeline):
    """A pipeline of diffusers behind the interface of a family.

    A subclass says in `own_config` what else is set, such as the number of frames at a time.

    `save_pretrained` writes the folder that diffusers itself would write, and generator.json; `from_pretrained` reads
    it. The networks are those of the pipeline inside.

    Args:
        inner: the pipeline of diffusers.
        entry: how it is called.
        family: one of `generation.generators.registry.Family`.
        origin: repository or folder name, for the record and for errors.

    Raises:
        GenerationError: the entry names an argument that the pipeline does not take.
    """

    own_files: ClassVar[tuple[str, ...]] = ()  # besides those of diffusers, attached after loading
    own_config: ClassVar[dict[str, Any]] = {}

    def __init__(self, inner: Any, *, entry: CatalogueEntry, family: str, origin: str) -> None:
        super().__init__()
        self.inner, self.entry, self.family, self.origin = inner, entry, family, origin
        self.cuda_dtype = getattr(torch, entry.cuda_dtype)  # type: ignore[misc]
        self._attached: dict[str, Path] = {}
        self.register_to_config(**self._config(origin, type(inner).__name__, entry))
        inner.set_progress_bar_config(disable=True)
        self._check_arguments(inner.__call__, [*entry.arguments, *self._call_names(), entry.prompt_argument])
        if entry.invert is not None:
            self._check_arguments(inner.invert, ["image", *entry.invert])

    @classmethod
    def _config(cls, origin: str, class_name: str, entry: CatalogueEntry) -> dict[str, Any]:
        return {"place": origin, "pipeline": class_name, "settings": entry.recorded, **cls.own_config}

    @classmethod
    def described(cls, origin: str, class_name: str, entry: CatalogueEntry, folders: list[Path]) -> dict[str, Any]:
        """The `parameters` of such a pipeline after `attach`, without it.

        Raises:
            GenerationError: a file is missing.
        """
        return recorded(cls._config(origin, class_name, entry) | _digests(cls.find_files(folders, origin)))

    def _call_names(self) -> list[str]:
        """Arguments that the entry's other values stand for."""
        entry = self.entry
        names = [entry.strength.argument] if entry.strength else []
        names += ["height", "width"] if entry.has_size_arguments else []
        return names + (["negative_prompt"] if entry.negative_prompt else [])

    def _check_arguments(self, function: Callable[..., Any], names: list[str]) -> None:
        """Many of diffusers' pipelines swallow arguments that they do not know."""
        known = inspect.signature(function).parameters
        for name in names:
            if name not in known:
                what = f"{type(self.inner).__name__} takes no argument {name}"
                raise GenerationError(f"{self.origin}: {what}; correct {SETTINGS_FILE}")

    @property
    def components(self) -> dict[str, Any]:
        """The components of the pipeline inside."""
        return dict(self.inner.components)

    @property
    def device(self) -> torch.device:
        """Where the pipeline inside runs."""
        return torch.device(self.inner.device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its first network."""
        networks = [part for part in self.components.values() if isinstance(part, torch.nn.Module)]
        return cast(torch.dtype, networks[0].dtype)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Self:
        """Moves it to a device. Its networks were loaded in the dtype they keep."""
        self.inner.to(device)
        return self

    def attach(self, folders: list[Path]) -> None:
        """Takes what the pipeline needs besides its own components; later folders come first.

        Raises:
            GenerationError: something is missing or does not fit.
        """
        self._attached = self.find_files(folders, self.origin)
        self.register_to_config(**_digests(self._attached))

    @classmethod
    def find_files(cls, folders: list[Path], origin: str) -> dict[str, Path]:
        """Which of `own_files` there are; later folders come first.

        Raises:
            GenerationError: one that is needed is missing.
        """
        found = {name: folder / name for folder in folders for name in cls.own_files if (folder / name).is_file()}
        return {name: found[name] for name in cls.own_files if name in found}

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Writes a folder that `from_pretrained` and `--generator diffusers:FOLDER` read."""
        folder = Path(save_directory)
        with quiet_libraries():
            self.inner.save_pretrained(folder, **options)
        settings = {self.family: self.entry.recorded | {"cuda_dtype": self.entry.cuda_dtype}}
        (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        for name, path in self._attached.items():
            if path.resolve() != (folder / name).resolve():
                shutil.copyfile(path, folder / name)

    @classmethod
    def from_pretrained(
        cls, folder_or_repo: str | Path, *, family: str = "", device: str = "cpu", dtype: str = "auto"
    ) -> Self:
        """Loads a folder of `save_pretrained`, or any other that `generation.generators.diffusers.loading.load` takes.

        Raises:
            GenerationError: see `load`; or the folder's pipeline is called in another way than this class does.
        """
        pipeline = load(str(folder_or_repo), LoadOptions(device=device, dtype=dtype), family)
        if not isinstance(pipeline, cls):
            raise GenerationError(f"{folder_or_repo}: is a {type(pipeline).__name__}; load it with that class")
        return pipeline

    def call(self, prompt: str, seed: int, **arguments: Any) -> NDArray[np.uint8]:
        """One call of the pipeline inside.

        Args:
            prompt: in full.
            seed: of all that is drawn.
            arguments: besides those of the entry.

        Returns:
            RGB uint8 (N, H, W, 3).

        Raises:
            GenerationError: it refused its arguments, its safety checker blanked a picture, or pixels are not numbers.
        """
        entry = self.entry
        given = dict(entry.arguments) | {entry.prompt_argument: prompt} | arguments
        if entry.negative_prompt:
            given["negative_prompt"] = entry.negative_prompt
        if entry.has_size_arguments:
            given |= {"height": entry.size_px, "width": entry.size_px}
        output = self.run(self.inner, given | {"output_type": "np"}, seed)
        if any(getattr(output, "nsfw_content_detected", None) or []):
            raise GenerationError(f"{self.origin}: the safety checker blanked a picture; use another seed or prompt")
        made = np.asarray(output.images if "images" in output else output.frames[0], np.float32)
        if not np.isfinite(made).all():
            raise GenerationError(f"{self.origin}: made pixels that are not numbers; use --dtype float32")
        # NHWC float32 [0, 1] -> uint8
        return np.rint(np.clip(made, 0, 1) * 255).astype(np.uint8)

    def run(self, function: Callable[..., Any], arguments: dict[str, Any], seed: int) -> Any:
        """Calls something of the pipeline inside with a seeded generator.

        Raises:
            GenerationError: it refused its arguments.
        """
        try:
            with quiet_libraries():
                return function(**arguments, generator=torch.Generator().manual_seed(seed))
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            reason = one_line(error)
            name = type(self.inner).__name__
            raise GenerationError(
                f"{self.origin}: {name} refused its arguments ({reason}); correct {SETTINGS_FILE} or its components"
            ) from error


def _digests(files: dict[str, Path]) -> dict[str, Any]:
    return {"files": {name: file_sha256(path) for name, path in files.items()}} if files else {}


def resized(picture: Frame, side_px: int) -> Frame:
    """RGB uint8 (H, W, 3) -> (side_px, side_px, 3)."""
    if picture.shape[:2] == (side_px, side_px):
        return picture
    way = cv2.INTER_AREA if picture.shape[0] > side_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (side_px, side_px), interpolation=way), np.uint8)


def as_pil(picture: Frame) -> Image.Image:
    """RGB uint8 (H, W, 3) or grey uint8 (H, W) -> PIL."""
    return Image.fromarray(picture)


def border_fade(side_px: int, share: float = 0.12) -> Floats:
    """float32 (S, S): 1 inside, falling to 0 at the crop's border over a share of its side."""
    distance = np.minimum(np.arange(side_px), np.arange(side_px)[::-1]) / (share * side_px)
    ramp = np.sin(np.clip(distance, 0, 1) * np.pi / 2) ** 2
    return np.asarray(np.outer(ramp, ramp), np.float32)
