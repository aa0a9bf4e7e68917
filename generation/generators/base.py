"""What the pipelines of a family share: clips in, a streamed clip of finished pictures out.

A pipeline is a `DiffusionPipeline`: its networks are components, its settings are config values, and
`save_pretrained` and `from_pretrained` of the very class bring it back. Every family has one interface:

- face swap and expression driving: `PairPipeline`, `pipe(target, source)`;
- attribute editing: `AttributePipeline`, `pipe(target, attribute="age", factor=2.0)`;
- full-face generation: `FaceImagePipeline`, `pipe("a face", num_images=4)`.

A pipeline of clips writes two methods: `prepare` reads the clips once, `replace` makes a batch of aligned crops.
Alignment, batches and the way back into the picture are `generation.crops.align`'s, the same for all.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from numpy.typing import NDArray
from PIL import Image

from generation.arrays import Floats
from generation.crops.align import AlignedFaces, Batching
from generation.crops.clip import FaceClip, PastedFrame
from generation.crops.paste import FaceOutput, replace_faces
from generation.errors import GenerationError
from generation.generators.prompts import ATTRIBUTES
from generation.generators.registry import NETWORK_MODULES
from generation.prefetch import prefetch

Attribute = Literal["age", "hair"]
OutputType = Literal["np", "pil"]

NOT_RECORDED = {"batch_frames"}  # config values that change no result
_STORED_NAMES = {module: name for name, module in NETWORK_MODULES.items()}


@dataclass
class ClipOutput(BaseOutput):  # type: ignore[misc]
    """A finished clip.

    Attributes:
        frames: RGB uint8 (T, H, W, 3), or T PIL images.
        masks: float32 (T, H, W): 0 where the target's pixel is kept exactly, 1 where it is replaced.
    """

    frames: NDArray[np.uint8] | list[Image.Image]
    masks: Floats


@dataclass
class FaceImages(BaseOutput):  # type: ignore[misc]
    """Generated faces: RGB uint8 (N, S, S, 3), or N PIL images."""

    images: NDArray[np.uint8] | list[Image.Image]


@dataclass(frozen=True)
class CropsOutput:
    """Aligned results: frames RGB uint8 (B, S, S, 3), masks float32 (B, S, S), 0 keeps the target, 1 replaces it."""

    frames: NDArray[np.uint8]
    masks: Floats


@dataclass(frozen=True)
class NoSettings:
    """The settings of a pipeline that has none."""


class RecordedPipeline(DiffusionPipeline):  # type: ignore[misc]
    """A pipeline that can say how it was set, for the record of what it makes.

    A subclass names the dataclass of its settings. Its fields, all with defaults, are keyword arguments of the pipeline
    and values of its config; an `__init__` of its own takes networks and hands on the rest as `**settings`.

    Attributes:
        settings_class: the dataclass of the settings.
        revision: raised when the same settings and weights give another result than before, so that `generate` makes
            what was made before again.
        draws: whether another seed gives another result.
        cuda_dtype: the dtype in which it keeps its accuracy on a GPU; on a CPU it is float32.
    """

    settings_class: ClassVar[type[Any]] = NoSettings
    revision: ClassVar[int] = 1
    draws: ClassVar[bool] = True
    cuda_dtype: ClassVar[torch.dtype] = torch.float32

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.register_to_config(**asdict(self.settings_class(**settings)))

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "settings_class" in vars(cls):
            cls.__init__ = _with_signature(cls.__init__, cls.settings_class)  # type: ignore[method-assign]

    @property
    def settings(self) -> Any:
        """The config values as `settings_class`."""
        return self.settings_class(**{field.name: self.config[field.name] for field in fields(self.settings_class)})

    @property
    def parameters(self) -> dict[str, Any]:
        """The settings that decide the result, and the revision after the first, as JSON values."""
        return self._revised({name: value for name, value in self.config.items() if name not in self.components})

    @classmethod
    def saved_parameters(cls, folder: Path) -> dict[str, Any]:
        """The `parameters` of a saved pipeline, from its model_index.json alone.

        Raises:
            OSError: the file is missing or damaged.
        """
        index = cls.load_config(folder)
        arguments = inspect.signature(cls.__init__).parameters.values()
        settings = [
            one for one in arguments if one.default is not one.empty and one.name not in cls._optional_components
        ]
        return cls._revised({one.name: index.get(one.name, one.default) for one in settings})

    @classmethod
    def _revised(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        return recorded(settings) | ({"revision": cls.revision} if cls.revision > 1 else {})

    def register_to_config(self, **values: Any) -> None:
        """As diffusers', but modules of networks get the names of `NETWORK_MODULES`."""
        super().register_to_config(**_with_modules(values, _STORED_NAMES))

    @classmethod
    def load_config(cls, folder: str | Path, **options: Any) -> dict[str, Any]:
        """As diffusers': the content of model_index.json, with each network's module where it is now."""
        return _with_modules(super().load_config(folder, **options), NETWORK_MODULES)


def _with_signature(init: Callable[..., None], settings_class: type[Any]) -> Callable[..., None]:
    """The `__init__` with the fields in its signature, from which diffusers reads which config values it takes."""

    @functools.wraps(init)
    def with_signature(*arguments: Any, **settings: Any) -> None:
        init(*arguments, **settings)

    given = inspect.signature(init)
    own = [one for one in given.parameters.values() if one.kind is not one.VAR_KEYWORD]
    keywords = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(settings_class)
    ]
    with_signature.__signature__ = given.replace(parameters=[*own, *keywords])  # type: ignore[attr-defined]
    return with_signature


def recorded(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of config values those that decide a result, as JSON values."""
    names = sorted(name for name in config if not name.startswith("_") and name not in NOT_RECORDED)
    return {name: list(config[name]) if isinstance(config[name], tuple) else config[name] for name in names}


def _with_modules(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Config values in which the module of each (module, class) has the name that `names` gives it."""
    renamed = dict(values)
    for key, value in values.items():
        match value:
            case [str(module), str(name)] if module in names:
                renamed[key] = (names[module], name)
    return renamed


class ClipPipeline(RecordedPipeline):
    """Base of the families that change clips.

    A result is a pure function of the clips, the weights, the settings and the seed, however frames are batched.
    """

    @property
    @abstractmethod
    def batching(self) -> Batching:
        """Crop size, batch size and context that `replace` takes."""

    @abstractmethod
    def replace(self, faces: AlignedFaces, prepared: Any, *, seed: int) -> FaceOutput:
        """Makes the crops of a batch, context excluded.

        Args:
            faces: consecutive aligned crops of the target, with `batching.context_frames` neighbours.
            prepared: what `prepare` returned for these clips.
            seed: of whatever is drawn; draw for frame number n from `frame_generator(seed, n)`.
        """

    def _stream(self, target: FaceClip, prepared: Any, generator: torch.Generator | None) -> Iterator[PastedFrame]:
        seed = seed_of(generator)

        def replace(faces: AlignedFaces) -> FaceOutput:
            with torch.inference_mode():
                return self.replace(faces, prepared, seed=seed)

        if self.device.type == "cpu":
            yield from replace_faces(target, replace, self.batching)
            return
        # Decoding and pasting go on while the network works.
        decoded = replace_fields(target, frames=lambda: prefetch(target.frames()))
        yield from prefetch(replace_faces(decoded, replace, self.batching))

    def _collect(
        self, stream: Iterator[PastedFrame], num_frames: int, output_type: OutputType, return_dict: bool
    ) -> ClipOutput | tuple[Any, Floats]:
        frames, masks = [], []
        with self.progress_bar(total=num_frames) as bar:
            for pasted in stream:
                mask = np.zeros(pasted.frame.shape[:2], np.float32)
                mask[pasted.region] = pasted.mask
                frames.append(pasted.frame)
                masks.append(mask)
                bar.update()
        output = ClipOutput(frames=as_output(np.stack(frames), output_type), masks=np.stack(masks))
        return output if return_dict else (output.frames, output.masks)


class PairPipeline(ClipPipeline):
    """Face swap and expression driving: two clips in.

    Swap: the source gives the identity, the target gives expression, pose and background.
    Expression driving: the target is the face that is seen, the source gives the motion.

    Attributes:
        prepares_crops: whether `prepare` cuts the target's crops as `replace` needs them, so that they are kept for it.
    """

    prepares_crops: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, target: FaceClip, source: FaceClip) -> Any:
        """Reads both clips once, before the first frame is made; bounded memory.

        Raises:
            FaceError, VideoError: a clip cannot be read, or does not fit its track.
        """

    def stream(
        self, target: FaceClip, source: FaceClip, *, generator: torch.Generator | None = None
    ) -> Iterator[PastedFrame]:
        """Yields one finished picture for each target frame; memory does not grow with the clip's length."""
        if self.prepares_crops:
            target = target.keeping(self.batching.crop_px)
        yield from self._stream(target, self.prepare(target, source), generator)

    @torch.no_grad()
    def __call__(
        self,
        target: FaceClip,
        source: FaceClip,
        *,
        generator: torch.Generator | None = None,
        output_type: OutputType = "np",
        return_dict: bool = True,
    ) -> ClipOutput | tuple[Any, Floats]:
        """Makes a whole clip and returns it; for long clips use `stream`.

        Args:
            target, source: clips with their landmarks; a still is `FaceClip.still(...)`.
            generator: its seed is that of whatever the pipeline draws; None is seed 0.
            output_type: "np" or "pil".
            return_dict: False returns the tuple (frames, masks).
        """
        stream = self.stream(target, source, generator=generator)
        return self._collect(stream, len(target), output_type, return_dict)


class AttributePipeline(ClipPipeline):
    """Attribute editing: one clip, an attribute and a factor in.

    Factor 0 changes nothing, 1 is the usual strength, 2 the catalogue's; age with a negative factor is younger.
    """

    @abstractmethod
    def prepare(self, target: FaceClip, attribute: Attribute, factor: float) -> Any:
        """Reads the clip once, before the first frame is made; bounded memory.

        Raises:
            FaceError, VideoError: the clip cannot be read, or does not fit its track.
            GenerationError: this pipeline cannot edit the attribute.
        """

    def stream(
        self, target: FaceClip, *, attribute: Attribute, factor: float = 2.0, generator: torch.Generator | None = None
    ) -> Iterator[PastedFrame]:
        """Yields one finished picture for each frame; memory does not grow with the clip's length."""
        yield from self._stream(target, self.prepare(target, attribute, factor), generator)

    @torch.no_grad()
    def __call__(
        self,
        target: FaceClip,
        *,
        attribute: Attribute,
        factor: float = 2.0,
        generator: torch.Generator | None = None,
        output_type: OutputType = "np",
        return_dict: bool = True,
    ) -> ClipOutput | tuple[Any, Floats]:
        """Edits a whole clip and returns it; for long clips use `stream`. Arguments as `PairPipeline.__call__`."""
        stream = self.stream(target, attribute=attribute, factor=factor, generator=generator)
        return self._collect(stream, len(target), output_type, return_dict)


class FaceImagePipeline(RecordedPipeline):
    """Full-face generation: prompts and seeds in, images out."""

    @abstractmethod
    def make_images(self, prompts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """One image for each prompt and seed: RGB uint8 (N, S, S, 3); an image depends on its own two only.

        A pipeline that takes no prompt (an unconditional one) leaves it unread.
        """

    @classmethod
    def followed_attributes(cls, genders: Collection[str] = ()) -> frozenset[str]:
        """Which of `prompts.ATTRIBUTES` its images follow: what may be said of them. All, unless a pipeline says less.

        Args:
            genders: of the people that it is fitted to.
        """
        return ATTRIBUTES

    @property
    def images_at_once(self) -> int:
        """How many images a call of `make_images` is given."""
        return 1

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] = "",
        *,
        num_images: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
    ) -> FaceImages | tuple[Any]:
        """Generates faces.

        Args:
            prompt: one for all images, or one for each.
            num_images: of a single prompt.
            generator: one, whose seed counts up from image to image, or one for each image; None is seed 0.
            output_type: "np" or "pil".
            return_dict: False returns the tuple (images,).

        Raises:
            GenerationError: there is another number of generators than of images.
        """
        prompts = [prompt] * num_images if isinstance(prompt, str) else list(prompt)
        if isinstance(generator, Sequence):
            seeds = [one.initial_seed() for one in generator]
        else:
            seeds = [seed_of(generator) + number for number in range(len(prompts))]
        if len(seeds) != len(prompts):
            raise GenerationError(f"{len(seeds)} generators for {len(prompts)} images; pass one, or one for each")
        images, step = [], self.images_at_once
        with self.progress_bar(total=len(prompts)) as bar:
            for at in range(0, len(prompts), step):
                images.append(self.make_images(prompts[at : at + step], seeds[at : at + step]))
                bar.update(len(images[-1]))
        output = FaceImages(images=as_output(np.concatenate(images), output_type))
        return output if return_dict else (output.images,)


def as_output(frames: NDArray[np.uint8], output_type: OutputType) -> NDArray[np.uint8] | list[Image.Image]:
    """RGB uint8 (N, H, W, 3) as it is, or as PIL images.

    Raises:
        GenerationError: `output_type` is neither "np" nor "pil".
    """
    if output_type == "np":
        return frames
    if output_type == "pil":
        return [Image.fromarray(frame) for frame in frames]
    raise GenerationError(f"output_type {output_type!r}; use 'np' or 'pil'")


def seed_of(generator: torch.Generator | None) -> int:
    """The seed that a generator was made with; 0 without one."""
    return 0 if generator is None else generator.initial_seed()


def frame_generator(seed: int, number: int) -> torch.Generator:
    """The random numbers of one frame, the same on every device and for every batch."""
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
