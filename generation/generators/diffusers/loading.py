"""Loading a pipeline of diffusers itself: no foreign code, no pickles, no weight missing, no surprise.

`load` serves `--generator diffusers:FOLDER_OR_REPO`. The class in model_index.json is looked up in
`generation.generators.diffusers.catalogue`; networks come from safetensors only, and each of their weights has to be
there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, ModelMixin
from huggingface_hub import snapshot_download

from generation.errors import GenerationError
from generation.generators.diffusers.catalogue import METHODS, CatalogueEntry, find_entry
from generation.generators.placement import choose_device, choose_dtype, place_pipeline
from generation.generators.registry import LoadOptions, imported

INDEX = "model_index.json"
WANTED_FILES = (
    *("*/*.safetensors", "*/*.json", "*/*.txt", "*/*.model", "*/*.jinja", INDEX, "generator.json"),
    *("face_adapter.safetensors", "identity.onnx"),
)
VARIANTS = ("*.fp16.*", "*.bf16.*", "*.non_ema.*")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack")
FLOAT32 = torch.float32


def load(place: str, options: LoadOptions, family: str = "") -> Any:
    """Makes a generator of a pipeline that diffusers can load.

    Args:
        place: a folder of `save_pretrained`, or a repository at the Hub.
        options: `weights` names a folder with what the pipeline itself has not: generator.json, and for inpainting
            face_adapter.safetensors and identity.onnx.
        family: the one wanted; may be "" where the class serves one only.

    Raises:
        GenerationError: the class is unknown or of another family, needs foreign code or pickles, or lacks a weight.
    """
    folder = _find(place)
    index = _read_index(folder, place)
    folders = [folder] if options.weights is None else [folder, _extra_folder(options.weights)]
    class_name = index["_class_name"]
    family, entry = find_entry(class_name, family, folders, place)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device, getattr(torch, entry.cuda_dtype))
    inner = load_inner(folder, index, entry, dtype)
    wrapper = imported(METHODS[entry.method][0])(inner, entry=entry, family=family, place=_name_of(place, folder))
    wrapper.attach(folders)
    wrapper.register_to_config(_name_or_path=str(folder))
    return place_pipeline(wrapper, options)


def load_inner(folder: Path, index: dict[str, Any], entry: CatalogueEntry, dtype: torch.dtype) -> Any:
    """The pipeline of diffusers in a folder, its networks strictly from safetensors.

    Raises:
        GenerationError: see `load`.
    """
    with quiet_libraries():
        return _load_inner(folder, index, entry, dtype)


def _load_inner(folder: Path, index: dict[str, Any], entry: CatalogueEntry, dtype: torch.dtype) -> Any:
    models = {}
    for name, (library, part_name) in _components(index):
        part_class = _component_class(library, part_name, folder / name)
        if isinstance(part_class, type) and issubclass(part_class, torch.nn.Module):
            wanted = FLOAT32 if name in entry.float32_parts else dtype
            models[name] = _load_model(part_class, folder / name, wanted)
    class_name = entry.load_as or index["_class_name"]
    pipeline_class: Any = getattr(diffusers, class_name, None)
    if pipeline_class is None or not issubclass(pipeline_class, DiffusionPipeline):
        raise GenerationError(f"{folder}: this diffusers ({diffusers.__version__}) has no {class_name}; update it")
    try:
        return pipeline_class.from_pretrained(folder, **models, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise GenerationError(f"{folder}: cannot be loaded ({_reason(error)}); get the folder again") from error


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Both libraries draw a bar for each part that they load, and repeat their advice for each picture."""
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


def _find(place: str) -> Path:
    folder = Path(place)
    if folder.exists():
        return folder
    if place.count("/") != 1 or place.startswith((".", "/", "~")):
        raise GenerationError(f"{place}: no such folder; name one that holds {INDEX}, or a repository OWNER/NAME")
    try:
        return Path(snapshot_download(place, allow_patterns=list(WANTED_FILES), ignore_patterns=list(VARIANTS)))
    except (OSError, ValueError, RuntimeError) as error:
        raise GenerationError(
            f"{place}: neither a folder here nor a repository at the Hub ({_reason(error)}); check the name"
        ) from error


def _name_of(place: str, folder: Path) -> str:
    """What is recorded: a repository's name, of a folder the last part only."""
    return folder.resolve().name if Path(place).exists() else place


def _extra_folder(place: str) -> Path:
    folder = Path(place)
    if not folder.is_dir():
        raise GenerationError(f"{place}: no such folder; --weights names one with what the pipeline itself has not")
    return folder


def _read_index(folder: Path, place: str) -> dict[str, Any]:
    try:
        index: Any = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GenerationError(
            f"{place}: has no {INDEX} that can be read; name a folder of a diffusers pipeline"
        ) from error
    if not isinstance(index, dict):
        index = {}
    class_name = index.get("_class_name")
    if isinstance(class_name, list):
        raise GenerationError(f"{place}: needs code of its own ({'.'.join(map(str, class_name))}), which is never run")
    if not isinstance(class_name, str):
        raise GenerationError(f"{place}: its {INDEX} names no pipeline class; name a folder of a diffusers pipeline")
    return dict(index)


def _components(index: dict[str, Any]) -> list[tuple[str, tuple[str, str]]]:
    """Name, library and class of every component that is there."""
    pairs = [(name, value) for name, value in index.items() if isinstance(value, list) and len(value) == 2]
    return [(name, (value[0], value[1])) for name, value in pairs if isinstance(value[0], str)]


def _component_class(library: str, class_name: str, folder: Path) -> Any:
    """The class of a component, from diffusers or transformers and from nowhere else.

    Raises:
        GenerationError: it is elsewhere, or the installed library lacks it.
    """
    source = {"diffusers": diffusers, "transformers": transformers}.get(library)
    if source is None:  # a class that belongs to one of diffusers' pipelines, such as the safety checker
        source = getattr(diffusers.pipelines, library, None)
    if source is None:
        raise GenerationError(f"{folder}: needs code of its own ({library}.{class_name}), which is never run")
    config = folder / "config.json"
    if config.is_file() and "auto_map" in json.loads(config.read_text(encoding="utf-8")):
        raise GenerationError(f"{folder}: needs code of its own (auto_map in config.json), which is never run")
    found = getattr(source, class_name, None)
    if found is None:
        raise GenerationError(f"{folder}: the installed {library} has no {class_name}; update it")
    return found


def _load_model(model_class: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A network, complete.

    Raises:
        GenerationError: it has pickled weights only, or a weight is missing, unknown or of another shape.
    """
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        if pickled:
            raise GenerationError(f"{folder / pickled[0]}: is a pickle, which is never read; get it as safetensors")
        raise GenerationError(f"{folder}: has no weights as safetensors; get the folder again")
    try:
        model, info = model_class.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise GenerationError(f"{folder}: cannot be loaded ({_reason(error)}); get the folder again") from error
    problems = [("is missing", info["missing_keys"]), ("has another shape", info["mismatched_keys"])]
    if issubclass(model_class, ModelMixin):  # networks of transformers are often stored with parts of larger ones
        problems.append(("is not one of this network", info["unexpected_keys"]))
    for what, names in problems:
        for name in sorted(map(str, names)):
            raise GenerationError(f"{folder}: weight {name} {what}; get the folder again")
    return model.eval()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
