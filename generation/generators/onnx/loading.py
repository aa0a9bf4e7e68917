"""`--generator onnx:FILE`: a face swap network in ONNX, with what it needs of the source beside it or in --weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from generation.errors import GenerationError
from generation.generators.onnx.pipeline import IDENTITY_FILES, OnnxSwap, SwapperFiles
from generation.generators.onnx.swapper import find_swapper
from generation.generators.placement import choose_device, place_pipeline
from generation.generators.registry import LoadOptions


def load(file: str, options: LoadOptions, family: str = "") -> Any:
    """Makes a generator of a network in ONNX.

    Args:
        file: the network; what it takes and gives is found by its name, see `generation.generators.onnx.swapper`.
        options: `weights` names the folder with the identity network (identity.onnx or w600k_r50.onnx) and, where the
            network has one, its converter of embeddings (crossface_NAME.onnx); None looks beside the file.
        family: "face_swap" or "".

    Raises:
        GenerationError: another family; the file, or one that it needs, is missing or is of another kind.
    """
    pipeline, files = _found(file, options, family)
    pipeline.attach(files, device=choose_device(options.device).type)
    return place_pipeline(pipeline, options)


def describe(file: str, options: LoadOptions, family: str = "") -> dict[str, Any]:
    """The settings that `load` gives a generator, and the digests of its files; the files are not opened.

    Raises:
        GenerationError: another family; a file is missing, or its network is unknown; there is no such device.
    """
    choose_device(options.device)
    pipeline, files = _found(file, options, family)
    return pipeline.describe(files)


def _found(file: str, options: LoadOptions, family: str) -> tuple[OnnxSwap, SwapperFiles]:
    if family not in ("", "face_swap"):
        raise GenerationError(f"onnx:{file}: swaps faces, and cannot do {family}; use another generator")
    path = Path(file)
    if not path.is_file():
        raise GenerationError(f"{file}: no such file; name a network in ONNX")
    swapper = find_swapper(path)
    folder = Path(options.weights) if options.weights is not None else path.parent
    identity = projection = None
    if swapper.source_input.kind == "embedding":
        identity = _find(folder, IDENTITY_FILES, path)
        if swapper.source_input.projection == "network":
            projection = _find(folder, swapper.source_input.projection_files, path)
    return OnnxSwap(swapper.to_json()), SwapperFiles(path, identity, projection)


def _find(folder: Path, names: tuple[str, ...], network: Path) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise GenerationError(
        f"{network}: needs {' or '.join(names)}; put it into {folder}, or name its folder with --weights"
    )
