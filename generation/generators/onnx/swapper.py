"""What face swap networks in ONNX take and give: one small file for each family of them, NAME.toml.

A network is known by its file's name; NAME.toml beside NAME.onnx, in the same form, comes first. Keys:

    files               patterns of the published files' names
    licence             in the words of the publisher
    size_px             side of the target's crop
    template            of the target's crop, one of `generation.crops.templates.TEMPLATES`
    mean, deviation     (x / 255 - mean) / deviation is what goes in; one number, or one for each of R, G, B
    is_denormalised     whether what comes out is brought back by deviation and mean; else it is [0, 1]
    [inputs]            names in the graph: target, source
    [source]            what the network takes of the source:
      kind              "embedding" of the identity network (ArcFace trained on WebFace600K, raw, 512
                        values), or "image"
      projection        "none"; "network", another ONNX file, one of `projection_files`; "last-initializer", the matrix
                        that lies last among the weights of the graph
      length            "unit": the vector that goes in has length 1. "divided": projected, then divided by the length
                        before. "raw": as it comes
      size_px, template of the source's crop, for "image"
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from generation.crops.templates import TEMPLATES
from generation.errors import GenerationError, one_line

Kind = Literal["embedding", "image"]
Projection = Literal["none", "network", "last-initializer"]
Length = Literal["unit", "divided", "raw"]


@dataclass(frozen=True)
class SourceInput:
    """See the table above."""

    kind: Kind = "embedding"
    projection: Projection = "none"
    length: Length = "unit"
    projection_files: tuple[str, ...] = ()
    size_px: int = 112
    template: str = "arcface-112"


@dataclass(frozen=True)
class OnnxSwapper:
    """See the table above."""

    files: tuple[str, ...]
    licence: str
    size_px: int
    template: str
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    is_denormalised: bool = False
    target: str = "target"
    source: str = "source"
    source_input: SourceInput = field(default_factory=SourceInput)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for a pipeline's configuration and for records: lists, no tuples."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


def find_swapper(path: Path) -> OnnxSwapper:
    """What a network takes and gives, by its file's name.

    Raises:
        GenerationError: nothing is known of it, or its own description is wrong.
    """
    own = path.with_suffix(".toml")
    if own.is_file():
        return _read(str(own), own.read_bytes())
    names: list[str] = []
    for entry in sorted(resources.files("generation.generators.onnx.swappers").iterdir(), key=lambda one: one.name):
        if not entry.name.endswith(".toml"):
            continue
        swapper = _read(entry.name, entry.read_bytes())
        if any(fnmatch(path.name, pattern) for pattern in swapper.files):
            return swapper
        names += swapper.files
    raise GenerationError(
        f"{path}: no description of this network; known are {', '.join(names)}; for another one write {own.name} "
        "beside it (keys: generation/generators/onnx/swapper.py)"
    )


def swapper_from(values: Mapping[str, Any]) -> OnnxSwapper:
    """The way back from `OnnxSwapper.to_json`."""
    content = dict(values)
    source = {name: _tuple(value) for name, value in dict(content.pop("source_input")).items()}
    return OnnxSwapper(**{name: _tuple(value) for name, value in content.items()}, source_input=SourceInput(**source))


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def _read(name: str, text: bytes) -> OnnxSwapper:
    try:
        content = tomllib.loads(text.decode())
        inputs, source = dict(content.pop("inputs", {})), dict(content.pop("source", {}))
        for key in ("mean", "deviation"):
            if key in content:
                content[key] = _three(content[key])
        known = {one.name for one in fields(OnnxSwapper)} - {"target", "source", "source_input"}
        _refuse_unknown(content, known)
        _refuse_unknown(inputs, {"target", "source"})
        _refuse_unknown(source, {one.name for one in fields(SourceInput)})
        swapper = swapper_from({**content, **inputs, "source_input": source})
        _check(swapper)
    except (TypeError, ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise GenerationError(f"{name}: {one_line(error)}; see generation/generators/onnx/swapper.py") from error
    return swapper


def _three(value: Any) -> list[float]:
    numbers = value if isinstance(value, list) else [value] * 3
    if len(numbers) != 3:
        raise ValueError("mean and deviation are one number, or three")
    return [float(number) for number in numbers]


def _refuse_unknown(content: Mapping[str, Any], known: set[str]) -> None:
    for key in content:
        if key not in known:
            raise ValueError(f"unknown key {key}; known are {', '.join(sorted(known))}")


def _check(swapper: OnnxSwapper) -> None:
    source = swapper.source_input
    choices = (
        ("kind", source.kind, get_args(Kind)),
        ("projection", source.projection, get_args(Projection)),
        ("length", source.length, get_args(Length)),
        ("template", swapper.template, tuple(TEMPLATES)),
        ("template", source.template, tuple(TEMPLATES)),
    )
    for key, value, allowed in choices:
        if value not in allowed:
            raise ValueError(f"{key} {value!r}; use one of {', '.join(allowed)}")
    if swapper.size_px < 1 or source.size_px < 1 or min(swapper.deviation) <= 0:
        raise ValueError("sizes and deviation must be positive")
