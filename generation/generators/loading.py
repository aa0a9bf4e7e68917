"""Loading a generator: imported by name, with its weights, on its device, without a gap."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from huggingface_hub import snapshot_download
from safetensors import safe_open

from generation.digests import file_sha256
from generation.errors import GenerationError
from generation.generators.placement import choose_device, choose_dtype, place_pipeline, quiet_diffusers
from generation.generators.registry import FAMILIES, SCHEMES, LoadOptions, imported, weights_folder

Pipeline = TypeVar("Pipeline")


def load_generator(name: str, options: LoadOptions | None = None, *, family: str = "") -> Any:
    """Imports a generator and makes it, with its weights, on its device.

    Args:
        name: one of `FAMILIES`, or "scheme:place" with one of `SCHEMES`.
        options: see there.
        family: which family is wanted; needed for a scheme that serves several.

    Raises:
        GenerationError: there is no such generator, its weights are missing or do not fit, or there is no such
            device or dtype.
    """
    options = options or LoadOptions()
    scheme, _, place = name.partition(":")
    if scheme in SCHEMES and place:
        return imported(SCHEMES[scheme])(place, options, family)
    if name not in FAMILIES:
        more = "".join(f", {scheme}:PLACE" for scheme in SCHEMES)
        raise GenerationError(f"{name}: no such generator; use one of {', '.join(FAMILIES)}{more}")
    info = FAMILIES[name]
    pipeline_class = imported(info.location)
    if not info.weights and options.weights is None:
        return place_pipeline(pipeline_class(), options)
    return load_pretrained(pipeline_class, options.weights or str(weights_folder(name)), options)


def load_pretrained(pipeline_class: Any, place: str, options: LoadOptions) -> Any:
    """A pipeline from a folder of `save_pretrained` or a repository, strictly: the very weights that it has.

    Raises:
        GenerationError: the folder is missing or of another pipeline; a weight is missing or too many.
    """
    folder = Path(place)
    if not folder.exists() and place.count("/") == 1:
        folder = _download(place)
    if not (folder / "model_index.json").is_file():
        raise GenerationError(
            f"{place}: no converted weights; run `tooling weights convert`, or name their folder with --weights"
        )
    try:
        with quiet_diffusers():
            pipeline = pipeline_class.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise GenerationError(f"{place}: cannot be loaded ({reason}); convert the weights again") from error
    for name, part in pipeline.components.items():
        if isinstance(part, ModelMixin):
            check_complete(folder / name, part)
    return place_pipeline(pipeline, options)


def describe_generator(name: str, options: LoadOptions, *, family: str = "") -> dict[str, Any]:
    """What decides the results of a generator besides its inputs: settings, dtype, digest of the weights; JSON values.

    Raises:
        GenerationError: see `load_generator`.
    """
    device = choose_device(options.device)
    pipeline = load_generator(name, replace(options, device="cpu", dtype="float32"), family=family)
    parameters: dict[str, Any] = dict(pipeline.parameters)
    if any(isinstance(part, torch.nn.Module) for part in pipeline.components.values()):
        dtype = choose_dtype(options.dtype, device, getattr(pipeline, "cuda_dtype", torch.float32))
        parameters["dtype"] = str(dtype).removeprefix("torch.")
    folder = pipeline.config.get("_name_or_path")
    if folder and Path(folder).is_dir():
        parameters["weights"] = folder_digest(Path(folder))
    return parameters


def folder_digest(folder: Path) -> str:
    """Hex SHA-256 over names and contents of a pipeline's weights and configurations."""
    total = hashlib.sha256()
    for path in sorted((*folder.rglob("*.safetensors"), *folder.rglob("*.json"))):
        if path.name == "provenance.json":
            continue
        total.update(f"{path.relative_to(folder)} {file_sha256(path)}\n".encode())
    return total.hexdigest()


def check_complete(folder: Path, model: Any) -> None:
    """diffusers only warns of weights that a folder lacks or has too many; the lacking ones stay without values.

    Raises:
        GenerationError: names the first weight that is missing or unknown.
    """
    stored: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            stored |= set(file.keys())
    wanted = set(model.state_dict())
    for name in sorted(stored ^ wanted):
        what = "is missing" if name in wanted else "is not one of this network"
        raise GenerationError(f"{folder}: weight {name} {what}; convert the weights again")


def _download(place: str) -> Path:
    try:
        return Path(snapshot_download(place))
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise GenerationError(f"{place}: neither a folder here nor a repository at the Hub ({reason})") from error
