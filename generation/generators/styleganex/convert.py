"""The published checkpoints of StyleGANEX: one file for each attribute.

A file is a dict: `state_dict` with the names "encoder." and "decoder.", and beside it the mean latent, the editing
vector and the options of its training, which say how the network is put together. The options are checked against the
names; the rest is taken from the options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from generation.errors import WeightsError
from generation.generators.base import Attribute
from generation.generators.styleganex.network import StyleganexEditor
from generation.generators.styleganex.pipeline import StyleganexEdit
from generation.weights.mapped import printable
from generation.weights.pickle_stream import kind_of
from generation.weights.state import load_strict, state_dict, strip_prefix
from generation.weights.torch_file import read_torch

NEEDED = ("state_dict", "latent_avg", "editing_w", "opts")
IGNORED = ("discriminator",)
FIXED = ("decoder.*.kernel", "decoder.*.blur_weight", "decoder.noises.*")  # the network has its own
# Options that the network is not made for with any other value; None stands for absence too.
ONLY = {
    "encoder_type": ("GradualStyleEncoder",),
    "input_nc": (3, None),
    "learn_in_w": (False, None),
    "toonify_weights": (None,),
}
ADVICE = "use a published edit checkpoint, such as styleganex_edit_age.pt"


def convert_styleganex(files: Sequence[Path]) -> StyleganexEdit:
    """One or two checkpoints; the attribute of each is read from its file's name.

    Raises:
        WeightsError: a file name has no attribute or both have the same, or a file does not fit.
    """
    networks: dict[str, StyleganexEditor] = {}
    for path in files:
        attribute = _attribute_of(path)
        if attribute in networks:
            raise WeightsError(f"{path}: is a second checkpoint for {attribute}; name one for each attribute")
        networks[attribute] = read_editor(path)
    return StyleganexEdit(networks.get("age"), networks.get("hair"))


def _attribute_of(path: Path) -> str:
    words = re.split(r"[^a-z]+", path.stem.lower())
    found = [attribute for attribute in get_args(Attribute) if attribute in words]
    if len(found) != 1:
        raise WeightsError(
            f"{path}: its name does not say the attribute; call it styleganex_edit_age.pt or ..._hair.pt"
        )
    return str(found[0])


def read_editor(path: Path) -> StyleganexEditor:
    """The network of a checkpoint.

    Raises:
        WeightsError: it is another file, or its options, names and shapes do not fit each other.
    """
    file = str(path)
    parts = _checked(read_torch(path), file)
    state = strip_prefix(state_dict(parts["state_dict"], file=file))
    config = network_config({name: tuple(value.shape) for name, value in state.items()}, parts["opts"], file)
    try:
        network: StyleganexEditor = StyleganexEditor(**config)
    except (IndexError, ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"{file}: its options fit no network of this kind; {ADVICE}") from error
    state["latent_avg"] = _latents(parts["latent_avg"], network.latent_avg, f"{file}: latent_avg")
    state["editing_w"] = _latents(parts["editing_w"], network.editing_w, f"{file}: editing_w")
    load_strict(network, state, file=file, allow_missing=FIXED, allow_unexpected=FIXED)
    return network


def _checked(parts: Any, file: str) -> Mapping[str, Any]:
    if not isinstance(parts, Mapping):
        raise WeightsError(f"{file}: {kind_of(parts)} instead of a dict of parts; {ADVICE}")
    for name in NEEDED:
        if name not in parts:
            raise WeightsError(f"{file}: has no {name}; {ADVICE}")
    for name in parts:
        if name not in (*NEEDED, *IGNORED):
            raise WeightsError(f"{file}: holds {printable(str(name))}, which no published checkpoint does; {ADVICE}")
    if not isinstance(parts["opts"], Mapping):
        raise WeightsError(f"{file}: opts is {kind_of(parts['opts'])}, not a dict; {ADVICE}")
    return parts


def _latents(value: Any, own: Tensor, file: str) -> Tensor:
    """(S,), (styles, S) or (N, styles, S), of which the first counts, as (styles, S)."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or not 1 <= value.ndim <= 3:
        raise WeightsError(f"{file} is {kind_of(value)}, not latents; {ADVICE}")
    value = value[0] if value.ndim == 3 and len(value) else value
    if value.ndim == 2 and len(value) == 1:
        value = value[0]
    if value.shape not in (own.shape, own.shape[1:]):
        shape = "x".join(map(str, value.shape))
        raise WeightsError(f"{file} is {shape}, not {'x'.join(map(str, own.shape))}; {ADVICE}")
    return torch.broadcast_to(value, own.shape).clone()


def network_config(shapes: Mapping[str, Sequence[int]], opts: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The configuration of `StyleganexEditor` that options and names agree on.

    Args:
        shapes: of the tensors, by name.
        opts: of the training.
        file: the file, for error lines.

    Raises:
        WeightsError: they do not agree, or an option has a value that this network is not made for.
    """
    for name, allowed in ONLY.items():
        value = opts.get(name, allowed[-1])
        if not any(value is one or (type(value) is type(one) and value == one) for one in allowed):
            shown = printable(str(value))
            raise WeightsError(f"{file}: was trained with {name} {shown}, not {allowed[0]}; {ADVICE}")
    first = shapes.get("encoder.input_layer.0.weight", (64,))
    options = {
        "output_size": _number(opts, "output_size", 1024, file),
        "skip_max_layer": _number(opts, "skip_max_layer", 7, file),
        "use_att": _number(opts, "use_att", 0, file),
        "use_skip": _flag(opts, "use_skip", file),
        "use_skip_torgb": _flag(opts, "use_skip_torgb", file),
        "max_pooling": _flag(opts, "max_pooling", file),
        "start_from_latent_avg": _flag(opts, "start_from_latent_avg", file, default=True),
    }
    config = {"width": int(first[0]), **options}
    for name, seen in _seen(shapes, bool(options["use_skip"])).items():
        if config[name] != seen:
            raise WeightsError(f"{file}: its options say {name} {config[name]}, its names {seen}; {ADVICE}")
    if not options["use_skip"]:
        config["skip_max_layer"] = _num_fusions(shapes)
    return config


def _seen(shapes: Mapping[str, Sequence[int]], use_skip: bool) -> dict[str, int | bool]:
    """The part of the configuration that names give; without fusions nothing about them."""
    num_styles = len({name.split(".")[2] for name in shapes if name.startswith("encoder.styles.")})
    seen: dict[str, int | bool] = {"output_size": 2 ** (num_styles // 2 + 1)}
    num_fusions = _num_fusions(shapes)
    if use_skip or num_fusions:
        hidden = {name for name in shapes if re.fullmatch(r"encoder\.fusion\.0\.linear\.\d+\.weight", name)}
        seen["use_att"] = max(len(hidden) - 1, 0)
        seen["use_skip_torgb"] = "encoder.fusion.0.fusion_skip.weight" in shapes
        seen["skip_max_layer"] = num_fusions
    return seen


def _num_fusions(shapes: Mapping[str, Sequence[int]]) -> int:
    return len({name.split(".")[2] for name in shapes if name.startswith("encoder.fusion.")})


def _number(opts: Mapping[str, Any], name: str, default: int, file: str) -> int:
    value = opts.get(name, default)
    if type(value) not in (int, bool) or not 0 <= value <= 1 << 12:
        raise WeightsError(f"{file}: option {name} is {printable(str(value))}, not a small number; {ADVICE}")
    return int(value)


def _flag(opts: Mapping[str, Any], name: str, file: str, *, default: bool = False) -> bool:
    value = opts.get(name, default)
    if type(value) is not bool and value not in (0, 1, None):
        raise WeightsError(f"{file}: option {name} is {printable(str(value))}, not true or false; {ADVICE}")
    return bool(value)
