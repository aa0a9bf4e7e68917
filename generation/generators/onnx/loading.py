"""`--generator onnx:FILE`: a face swap network in ONNX, with what it needs of the source beside it or in --weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from generation.errors import GenerationError
from generation.generators.onnx.pipeline import IDENTITY_FILES, OnnxSwap, SwapperFiles
from generation.generators.onnx.swapper import find_swapper
from generation.generators.placement import choose_device, place_pipeline
from generation.generators.registry import LoadOptions


def load(place: str, options: LoadOptions, family: str = "") -> Any:
    """Makes a generator of a network in ONNX.

    Args:
        place: its file; what it takes and gives is found by the file's name, see `generation.generators.onnx.swapper`.
        options: `weights` names the folder with the identity network (identity.onnx or w600k_r50.onnx) and, where the
            network has one, its converter of embeddings (crossface_NAME.onnx); None looks beside the file.
        family: "face_swap" or "".

    Raises:
        GenerationError: another family; the file, or one that it needs, is missing or is none of its kind.
    """
    if family not in ("", "face_swap"):
        raise GenerationError(f"onnx:{place}: swaps faces, and cannot do {family}; use another generator")
    path = Path(place)
    if not path.is_file():
        raise GenerationError(f"{place}: no such file; name a network in ONNX")
    swapper = find_swapper(path)
    folder = Path(options.weights) if options.weights is not None else path.parent
    identity = projection = None
    if swapper.source_input.kind == "embedding":
        identity = _find(folder, IDENTITY_FILES, path)
        if swapper.source_input.projection == "network":
            projection = _find(folder, swapper.source_input.projection_files, path)
    pipeline = OnnxSwap(swapper.to_json())
    pipeline.attach(SwapperFiles(path, identity, projection), device=choose_device(options.device).type)
    return place_pipeline(pipeline, options)


def _find(folder: Path, names: tuple[str, ...], network: Path) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise GenerationError(
        f"{network}: needs {' or '.join(names)}; put it into {folder}, or name its folder with --weights"
    )
