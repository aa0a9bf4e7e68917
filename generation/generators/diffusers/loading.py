"""Loading a pipeline of diffusers itself: no foreign code, no pickles, no weight missing, no surprise.

`load` serves `--generator diffusers:FOLDER_OR_REPO`. The class in model_index.json is looked up in
`generation.generators.diffusers.catalogue`; networks come from safetensors only, and each of their weights has to be
there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, ModelMixin
from huggingface_hub import snapshot_download

from generation.errors import GenerationError, one_line
from generation.generators.diffusers.catalogue import METHODS, CatalogueEntry, find_entry
from generation.generators.loading import describe_weights
from generation.generators.placement import choose_device, choose_dtype, place_pipeline, quiet_libraries
from generation.generators.registry import LoadOptions, imported
from generation.json_text import parse_json

INDEX = "model_index.json"
WANTED_FILES = (
    *("*/*.safetensors", "*/*.json", "*/*.txt", "*/*.model", "*/*.jinja", INDEX, "generator.json"),
    *("face_adapter.safetensors", "identity.onnx"),
)
VARIANTS = ("*.fp16.*", "*.bf16.*", "*.non_ema.*")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack")
FLOAT32 = torch.float32


def load(folder_or_repo: str, options: LoadOptions, family: str = "") -> Any:
    """Makes a generator of a pipeline that diffusers can load.

    Args:
        folder_or_repo: a folder of `save_pretrained`, or a repository at the Hub.
        options: `weights` names a folder with what the pipeline itself has not: generator.json, and for inpainting
            face_adapter.safetensors and identity.onnx.
        family: the requested one; may be "" where the class serves one only.

    Raises:
        GenerationError: the class is unknown or of another family, needs foreign code or pickles, or a weight is
            missing.
    """
    found = _found(folder_or_repo, options, family)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device, getattr(torch, found.entry.cuda_dtype))
    inner = load_inner(found.folder, found.index, found.entry, dtype)
    wrapper = found.wrapper_class(inner, entry=found.entry, family=found.family, origin=found.name)
    wrapper.attach(found.folders)
    wrapper.register_to_config(_name_or_path=str(found.folder))
    return place_pipeline(wrapper, options)


def describe(folder_or_repo: str, options: LoadOptions, family: str = "") -> dict[str, Any]:
    """The parameters, dtype and digest of the generator that `load` makes; no weights are loaded.

    Raises:
        GenerationError: the class is unknown or of another family, or a component needs foreign code.
    """
    found = _found(folder_or_repo, options, family)
    parts = [_component_class(*part, found.folder / name) for name, part in _components(found.index)]
    has_networks = any(isinstance(part, type) and issubclass(part, torch.nn.Module) for part in parts)
    class_name = found.entry.load_as or found.index["_class_name"]
    parameters: dict[str, Any] = found.wrapper_class.described(found.name, class_name, found.entry, found.folders)
    cuda_dtype = getattr(torch, found.entry.cuda_dtype) if has_networks else None
    return parameters | describe_weights(found.folder, options, cuda_dtype)


@dataclass(frozen=True)
class _Found:
    """A pipeline's folder, what its files say, and how it is called.

    Attributes:
        name: for records and errors: a repository's name, of a folder the last part only.
        folder, index: of the pipeline, and its model_index.json.
        folders: where the pipeline's other files are looked for; later ones come first.
        family, entry: see `find_entry`.
    """

    name: str
    folder: Path
    index: dict[str, Any]
    folders: list[Path]
    family: str
    entry: CatalogueEntry

    @property
    def wrapper_class(self) -> Any:
        return imported(METHODS[self.entry.method][0])


def _found(folder_or_repo: str, options: LoadOptions, family: str) -> _Found:
    folder = _find(folder_or_repo)
    index = _read_index(folder, folder_or_repo)
    folders = [folder] if options.weights is None else [folder, _extra_folder(options.weights)]
    family, entry = find_entry(index["_class_name"], family, folders, folder_or_repo)
    name = folder.resolve().name if Path(folder_or_repo).exists() else folder_or_repo
    return _Found(name, folder, index, folders, family, entry)


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
            requested = FLOAT32 if name in entry.float32_parts else dtype
            models[name] = _load_model(part_class, folder / name, requested)
    class_name = entry.load_as or index["_class_name"]
    pipeline_class: Any = getattr(diffusers, class_name, None)
    if pipeline_class is None or not issubclass(pipeline_class, DiffusionPipeline):
        raise GenerationError(f"{folder}: this diffusers ({diffusers.__version__}) has no {class_name}; update it")
    try:
        return pipeline_class.from_pretrained(folder, **models, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise GenerationError(f"{folder}: cannot be loaded ({one_line(error)}); get the folder again") from error


def _find(folder_or_repo: str) -> Path:
    folder = Path(folder_or_repo)
    if folder.exists():
        return folder
    if folder_or_repo.count("/") != 1 or folder_or_repo.startswith((".", "/", "~")):
        raise GenerationError(
            f"{folder_or_repo}: no such folder; name one that contains {INDEX}, or a repository OWNER/NAME"
        )
    try:
        return Path(
            snapshot_download(folder_or_repo, allow_patterns=list(WANTED_FILES), ignore_patterns=list(VARIANTS))
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise GenerationError(
            f"{folder_or_repo}: neither a folder here nor a repository at the Hub ({one_line(error)}); check the name"
        ) from error


def _extra_folder(path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise GenerationError(f"{path}: no such folder; --weights names one with what the pipeline itself has not")
    return folder


def _read_index(folder: Path, folder_or_repo: str) -> dict[str, Any]:
    try:
        index: Any = parse_json((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GenerationError(
            f"{folder_or_repo}: has no {INDEX} that can be read; name a folder of a diffusers pipeline"
        ) from error
    if not isinstance(index, dict):
        index = {}
    class_name = index.get("_class_name")
    if isinstance(class_name, list):
        raise GenerationError(
            f"{folder_or_repo}: needs code of its own ({'.'.join(map(str, class_name))}), which is never run"
        )
    if not isinstance(class_name, str):
        raise GenerationError(
            f"{folder_or_repo}: its {INDEX} names no pipeline class; name a folder of a diffusers pipeline"
        )
    return dict(index)


def _components(index: dict[str, Any]) -> list[tuple[str, tuple[str, str]]]:
    """Name, library and class of every component that is there."""
    pairs = [(name, value) for name, value in index.items() if isinstance(value, list) and len(value) == 2]
    return [(name, (value[0], value[1])) for name, value in pairs if isinstance(value[0], str)]


def _component_class(library: str, class_name: str, folder: Path) -> Any:
    """The class of a component, from diffusers or transformers and from nowhere else.

    Raises:
        GenerationError: it is elsewhere, or missing from the installed library.
    """
    source = {"diffusers": diffusers, "transformers": transformers}.get(library)
    if source is None:  # a class that belongs to one of diffusers' pipelines, such as the safety checker
        source = getattr(diffusers.pipelines, library, None)
    if source is None:
        raise GenerationError(f"{folder}: needs code of its own ({library}.{class_name}), which is never run")
    config = folder / "config.json"
    try:
        has_code = config.is_file() and "auto_map" in parse_json(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise GenerationError(f"{config}: is not JSON ({one_line(error)}); fetch it again") from error
    if has_code:
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
        raise GenerationError(f"{folder}: cannot be loaded ({one_line(error)}); get the folder again") from error
    problems = [("is missing", info["missing_keys"]), ("has another shape", info["mismatched_keys"])]
    if issubclass(model_class, ModelMixin):  # networks of transformers are often stored with parts of larger ones
        problems.append(("is not one of this network", info["unexpected_keys"]))
    for what, names in problems:
        for name in sorted(map(str, names)):
            raise GenerationError(f"{folder}: weight {name} {what}; get the folder again")
    return model.eval()
