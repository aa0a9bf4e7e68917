"""Where a pipeline runs and in what precision, and loading its weights without a gap."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from diffusers.utils import logging
from huggingface_hub import snapshot_download
from safetensors import safe_open

from generation.digests import file_sha256
from generation.errors import GenerationError
from generation.families import LoadOptions, load_generator

Pipeline = TypeVar("Pipeline")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(name: str) -> torch.device:
    """A torch device by name; "auto" is the first GPU, or the CPU where there is none.

    Raises:
        GenerationError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise GenerationError(f"{name}: no such device here ({reason}); use --device cpu") from error
    return device


def choose_dtype(name: str, device: torch.device, on_gpu: torch.dtype) -> torch.dtype:
    """A torch dtype by name; "auto" is float32 on a CPU and `on_gpu` elsewhere.

    Raises:
        GenerationError: no such dtype.
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" else on_gpu
    if name not in DTYPES:
        raise GenerationError(f"{name}: no such dtype; use auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def place_pipeline(pipeline: Any, options: LoadOptions) -> Any:
    """Moves a pipeline to its device and dtype and sets its batch size.

    Raises:
        GenerationError: no such device or dtype.
    """
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device, getattr(pipeline, "cuda_dtype", torch.float32))
    if options.batch_frames and "batch_frames" in pipeline.config:
        pipeline.register_to_config(batch_frames=options.batch_frames)
    pipeline.set_progress_bar_config(disable=True)
    if any(isinstance(part, torch.nn.Module) for part in pipeline.components.values()):
        with _quiet():
            pipeline.to(device, dtype)
    return pipeline


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
        with _quiet():
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars and warnings of diffusers: what is wrong is found and told here."""
    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def _download(place: str) -> Path:
    try:
        return Path(snapshot_download(place))
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise GenerationError(f"{place}: neither a folder here nor a repository at the Hub ({reason})") from error
