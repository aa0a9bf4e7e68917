"""Loads and describes a generator: a name and options in, a pipeline on its device or its parameters out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from huggingface_hub import snapshot_download
from safetensors import safe_open

from generation.digests import file_sha256
from generation.errors import GenerationError, one_line
from generation.generators.placement import choose_device, choose_dtype, place_pipeline, quiet_libraries
from generation.generators.registry import GENERATORS, SCHEMES, LoadOptions, imported, weights_folder


def load_generator(name: str, options: LoadOptions | None = None, *, family: str = "") -> Any:
    """Imports a generator and loads it, with its weights, on its device.

    Args:
        name: one of `GENERATORS`, or "scheme:FOLDER_OR_FILE" with one of `SCHEMES`.
        options: weights, device, dtype and batch size.
        family: the requested family; needed for a scheme that serves several.

    Raises:
        GenerationError: there is no such generator, its weights are missing or do not fit, or there is no such
            device or dtype.
    """
    options = options or LoadOptions()
    scheme, path = _scheme(name)
    if scheme:
        return imported(f"{SCHEMES[scheme]}:load")(path, options, family)
    pipeline_class = imported(GENERATORS[name].location)
    weights = _weights(name, options)
    if weights is None:
        return place_pipeline(pipeline_class(), options)
    return load_pretrained(pipeline_class, weights, options)


def describe_generator(name: str, options: LoadOptions, *, family: str = "") -> dict[str, Any]:
    """What decides the results of a generator besides its inputs: settings, dtype, digest of the weights; JSON values.

    Weights are digested, not loaded.

    Raises:
        GenerationError: there is no such generator or device, or its weights are missing.
    """
    scheme, path = _scheme(name)
    if scheme:
        described: dict[str, Any] = imported(f"{SCHEMES[scheme]}:describe")(path, options, family)
        return described
    pipeline_class = imported(GENERATORS[name].location)
    weights = _weights(name, options)
    if weights is None:
        choose_device(options.device)
        return dict(pipeline_class().parameters)
    folder = find_folder(weights)
    try:
        parameters: dict[str, Any] = pipeline_class.saved_parameters(folder)
        parts = [part for part in pipeline_class.load_config(folder).values() if isinstance(part, tuple | list)]
        has_networks = any(_is_network(*part) for part in parts if len(part) == 2)
    except (OSError, ValueError, ImportError, AttributeError) as error:
        raise _not_loaded(weights, error) from error
    return parameters | describe_weights(folder, options, pipeline_class.cuda_dtype if has_networks else None)


def describe_weights(folder: Path, options: LoadOptions, cuda_dtype: torch.dtype | None) -> dict[str, str]:
    """The dtype in which a folder's networks run, and the digest of the folder.

    Args:
        folder: of a saved pipeline.
        options: device and dtype.
        cuda_dtype: that of the networks on a GPU; None where there are no networks.

    Raises:
        GenerationError: there is no such device or dtype.
    """
    device = choose_device(options.device)
    described = {}
    if cuda_dtype is not None:
        described["dtype"] = str(choose_dtype(options.dtype, device, cuda_dtype)).removeprefix("torch.")
    return described | {"weights": folder_digest(folder)}


def load_pretrained(pipeline_class: Any, folder_or_repo: str, options: LoadOptions) -> Any:
    """A pipeline from a folder of `save_pretrained` or a repository, with every weight that its networks have.

    Raises:
        GenerationError: the folder is missing or of another pipeline; a weight is missing or unknown.
    """
    folder = find_folder(folder_or_repo)
    try:
        with quiet_libraries():
            pipeline = pipeline_class.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise _not_loaded(folder_or_repo, error) from error
    for name, part in pipeline.components.items():
        if isinstance(part, ModelMixin):
            check_complete(folder / name, part)
    return place_pipeline(pipeline, options)


def find_folder(folder_or_repo: str) -> Path:
    """The folder of a saved pipeline, downloaded if a repository is named.

    Raises:
        GenerationError: there is neither, or no pipeline in it.
    """
    folder = Path(folder_or_repo)
    if not folder.exists() and folder_or_repo.count("/") == 1:
        try:
            folder = Path(snapshot_download(folder_or_repo))
        except (OSError, ValueError, RuntimeError) as error:
            reason = one_line(error)
            raise GenerationError(
                f"{folder_or_repo}: neither a folder here nor a repository at the Hub ({reason})"
            ) from error
    if not (folder / "model_index.json").is_file():
        raise GenerationError(
            f"{folder_or_repo}: no converted weights; run `tooling weights convert NAME FILES`, "
            "or name their folder with --weights"
        )
    return folder


def folder_digest(folder: Path) -> str:
    """Hex SHA-256 over names and contents of a pipeline's weights and configurations."""
    total = hashlib.sha256()
    for path in sorted((*folder.rglob("*.safetensors"), *folder.rglob("*.json"))):
        if path.name == "provenance.json":
            continue
        total.update(f"{path.relative_to(folder)} {file_sha256(path)}\n".encode())
    return total.hexdigest()


def check_complete(folder: Path, model: Any) -> None:
    """Compares the names of weights in a folder and in its network; diffusers itself only warns where they differ.

    Raises:
        GenerationError: names the first weight that is missing or unknown.
    """
    stored: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            stored |= set(file.keys())
    expected = set(model.state_dict())
    for name in sorted(stored ^ expected):
        what = "is missing" if name in expected else "is not one of this network"
        raise GenerationError(f"{folder}: weight {name} {what}; convert the weights again")


def _scheme(name: str) -> tuple[str, str]:
    """Scheme and path of a generator's name; two empty strings for a name of `GENERATORS`."""
    scheme, _, path = name.partition(":")
    if scheme in SCHEMES and path:
        return scheme, path
    if name not in GENERATORS:
        more = "".join(f", {scheme}:PATH" for scheme in SCHEMES)
        raise GenerationError(f"{name}: no such generator; use one of {', '.join(GENERATORS)}{more}")
    return "", ""


def _weights(name: str, options: LoadOptions) -> str | None:
    """Folder or repository of a generator's weights; None where it needs none."""
    if options.weights is None and GENERATORS[name].weights:
        return str(weights_folder(name))
    return options.weights


def _is_network(module: Any, class_name: Any) -> bool:
    if not (isinstance(module, str) and isinstance(class_name, str)):
        return False
    part = imported(f"{module}:{class_name}")
    return isinstance(part, type) and issubclass(part, torch.nn.Module)


def _not_loaded(folder_or_repo: str, error: Exception) -> GenerationError:
    reason = one_line(error)
    return GenerationError(f"{folder_or_repo}: cannot be loaded ({reason}); convert the weights again")
