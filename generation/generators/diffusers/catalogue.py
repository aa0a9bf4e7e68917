"""Which of diffusers' own pipelines are generators, as data: how a class is called, for which family.

`catalogue.toml` beside this file lists the classes. A generator.json beside a pipeline's model_index.json
(or in the folder named with --weights) changes values for those weights, by family:
`{"full_face_generation": {"arguments": {"num_inference_steps": 4, "guidance_scale": 0.0}}}`. It may also describe
a class that is not listed; then it has to give the `method`.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from generation.errors import GenerationError, one_line
from generation.json_text import parse_json

Method = Literal["text_to_image", "edit", "inpaint", "animate"]

SETTINGS_FILE = "generator.json"
MULTIPLE_PX = 16  # of the sizes that every pipeline takes
# What serves a method, as "module:Class", and the families that it can serve.
METHODS: dict[str, tuple[str, tuple[str, ...]]] = {
    "text_to_image": ("generation.generators.diffusers.images:DiffusersImages", ("full_face_generation",)),
    "edit": ("generation.generators.diffusers.edit:DiffusersEdit", ("attribute_editing",)),
    "inpaint": ("generation.generators.diffusers.swap:DiffusersInpaintSwap", ("face_swap",)),
    "animate": ("generation.generators.diffusers.animate:DiffusersAnimate", ("expression_driven", "face_swap")),
}


@dataclass(frozen=True)
class Strength:
    """How an edit's factor becomes an argument: usual at factor 1 or less, `per_factor` more for each 1 beyond."""

    argument: str
    usual: float
    per_factor: float
    most: float

    def value(self, factor: float) -> float:
        """The argument's value for a factor of either sign."""
        return min(self.usual + self.per_factor * max(abs(factor) - 1, 0.0), self.most)


@dataclass(frozen=True)
class CatalogueEntry:
    """How a pipeline class is called.

    Attributes:
        method: which of `METHODS` calls it.
        load_as: another class of diffusers that takes the same components; "" is the folder's own.
        size_px: side of the square pictures it is given and makes; a multiple of 16.
        has_size_arguments: whether it takes `height` and `width`.
        arguments: keyword arguments of every call.
        prompt, negative_prompt: "{prompt}" stands for the requested prompt; an empty negative one is not passed.
        prompt_argument, image_argument: what the call names its prompt and its picture; "" passes no picture.
        invert: keyword arguments of `invert`, called with the picture before each call; None where there is none.
        prompts: of an edit, for each attribute those of a negative and of a positive factor.
        strength: what an edit's factor changes.
        template: of `generation.crops.templates.TEMPLATES`.
        smoothing_frames: over how many frames an edit of single frames is averaged; odd.
        adapter_scale: weight of the identity against the prompt, 0 to 1.
        mode: "animate" or "replace", of Wan-Animate.
        segment_frames: frames made at a time, 4 k + 1.
        previous_frames: of them, those taken from the segment before; 1 or 5.
        cuda_dtype: torch's name of the dtype for a GPU.
        float32_parts: components that stay in float32.
        licence, checked: as in `generation.generators.registry.GeneratorInfo`.
    """

    method: Method
    load_as: str = ""
    size_px: int = 512
    has_size_arguments: bool = True
    arguments: dict[str, Any] = field(default_factory=dict)
    prompt: str = "{prompt}"
    negative_prompt: str = ""
    prompt_argument: str = "prompt"
    image_argument: str = "image"
    invert: dict[str, Any] | None = None
    prompts: dict[str, list[str]] = field(default_factory=dict)
    strength: Strength | None = None
    template: str = "head"
    smoothing_frames: int = 5
    adapter_scale: float = 0.8
    mode: str = ""
    segment_frames: int = 77
    previous_frames: int = 1
    cuda_dtype: str = "float32"
    float32_parts: list[str] = field(default_factory=list)
    licence: str = "the publisher's"
    checked: str = ""

    @property
    def recorded(self) -> dict[str, Any]:
        """The values that decide a result, as JSON values."""
        values = dataclasses.asdict(self)
        return {name: values[name] for name in values if name not in ("licence", "checked", "cuda_dtype")}


@cache
def read_catalogue() -> dict[str, dict[str, dict[str, Any]]]:
    """The listed classes: for each class and family the values of an entry."""
    path = Path(__file__).with_suffix(".toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def find_entry(class_name: str, family: str, folders: list[Path], origin: str) -> tuple[str, CatalogueEntry]:
    """The entry of a class for a family, with what the folders' own settings change.

    Args:
        class_name: of model_index.json.
        family: the requested one; "" takes the only one that the folders' settings are for, or that the class serves.
        folders: that may have a generator.json; later ones come first.
        origin: for error messages.

    Returns:
        The family and the entry.

    Raises:
        GenerationError: the class is unknown or serves another family, or a value is wrong.
    """
    known = {name: dict(values) for name, values in read_catalogue().get(class_name, {}).items()}
    described: set[str] = set()
    for folder in folders:
        for name, values in _read_settings(folder / SETTINGS_FILE).items():
            known[name] = _merged(known.get(name, {}), values)
            described.add(name)
    if not known:
        listed = ", ".join(sorted(read_catalogue()))
        raise GenerationError(
            f"{origin}: {class_name} is not a known pipeline; use one of {listed}, or describe it in {SETTINGS_FILE}"
        )
    if not family and len(described) == 1:
        family = next(iter(described))
    if not family and len(known) > 1:
        raise GenerationError(f"{origin}: {class_name} serves {' and '.join(sorted(known))}; say which family to use")
    family = family or next(iter(known))
    if family not in known:
        fitting = [name for name, families in read_catalogue().items() if family in families]
        raise GenerationError(
            f"{origin}: {class_name} serves {' and '.join(sorted(known))}, not {family}; for that use one of "
            + ", ".join(sorted(fitting))
        )
    return family, _checked(known[family], family, f"{origin}: {class_name}")


def _read_settings(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GenerationError(f"{path}: is not JSON ({one_line(error)}); correct or remove it") from error
    if not isinstance(values, dict) or not all(isinstance(entry, dict) for entry in values.values()):
        raise GenerationError(f"{path}: has no settings by family; see generation/generators/diffusers/catalogue.py")
    return values


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(values)
    for name, value in changes.items():
        has_both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = _merged(result[name], value) if has_both else value
    return result


def _checked(values: dict[str, Any], family: str, what: str) -> CatalogueEntry:
    known = {item.name for item in dataclasses.fields(CatalogueEntry)}
    for name in values:
        if name not in known:
            raise GenerationError(f"{what}: no such setting: {name}; use {', '.join(sorted(known))}")
    method = str(values.get("method", ""))
    if method not in get_args(Method) or family not in METHODS[method][1]:
        fitting = [name for name, (_, families) in METHODS.items() if family in families]
        raise GenerationError(f"{what}: method is {method!r}; for {family} use {' or '.join(fitting) or 'no method'}")
    try:
        strength = values.get("strength")
        entry = CatalogueEntry(**{**values, "strength": Strength(**strength) if strength else None})
    except TypeError as error:
        raise GenerationError(f"{what}: strength needs argument, usual, per_factor and most") from error
    problems = (
        (entry.size_px < MULTIPLE_PX or entry.size_px % MULTIPLE_PX > 0, f"size_px is {entry.size_px}; use 16 n"),
        (entry.smoothing_frames % 2 != 1, f"smoothing_frames is {entry.smoothing_frames}; use an odd number"),
        (entry.segment_frames % 4 != 1, f"segment_frames is {entry.segment_frames}; use 4 k + 1"),
        (entry.previous_frames not in (1, 5), f"previous_frames is {entry.previous_frames}; use 1 or 5"),
        (2 * entry.previous_frames >= entry.segment_frames, "segment_frames is too small for previous_frames"),
        (method == "edit" and entry.strength is None, "an edit needs a strength"),
        (method == "animate" and entry.mode not in ("animate", "replace"), "mode is animate or replace"),
    )
    for is_wrong, reason in problems:
        if is_wrong:
            raise GenerationError(f"{what}: {reason}")
    return entry
