"""Where a pipeline runs and in what precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
import transformers

from generation.errors import GenerationError
from generation.generators.registry import LoadOptions

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
    """Moves a pipeline to its device and dtype, and sets its batch size.

    Raises:
        GenerationError: no such device or dtype.
    """
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device, getattr(pipeline, "cuda_dtype", torch.float32))
    if options.batch_frames and "batch_frames" in pipeline.config:
        pipeline.register_to_config(batch_frames=options.batch_frames)
    pipeline.set_progress_bar_config(disable=True)
    if any(isinstance(part, torch.nn.Module) for part in pipeline.components.values()):
        with quiet_libraries():
            pipeline.to(device, dtype)
    return pipeline


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Without the progress bars and warnings of diffusers and transformers; errors are raised here in our own words."""
    libraries = (diffusers.utils.logging, transformers.utils.logging)
    shown = [library for library in libraries if library.is_progress_bar_enabled()]
    levels = [library.get_verbosity() for library in libraries]
    for library in shown:
        library.disable_progress_bar()
    for library in libraries:
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
