"""Checks a folder of converted weights: complete, unchanged, and without anything that can be run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from generation.errors import GenerationError, one_line
from generation.generators.conversion.provenance import find_changes, read_provenance
from generation.generators.loading import load_pretrained
from generation.generators.registry import GENERATORS, LoadOptions, imported

ENDINGS = {".json", ".safetensors", ".txt", ".md"}


def check_folder(folder: Path, *, name: str = "") -> list[str]:
    """Everything that is wrong with a folder; empty where nothing is.

    Args:
        folder: of `convert`.
        name: which generator it should be for; "" takes the one that the folder names.
    """
    if not folder.is_dir():
        return [f"{folder}: not found; convert the weights with `tooling weights convert NAME FILES`"]
    problems = [f"{folder}: {line}" for line in _foreign_files(folder)]
    if problems:
        return problems  # nothing of such a folder is loaded, nor of one that was changed
    try:
        provenance = read_provenance(folder)
        problems += [f"{folder}: {line}; convert the weights again" for line in find_changes(folder, provenance)]
        problems = problems or _problems_of_generator(folder, provenance.generator, name)
    except GenerationError as error:
        problems.append(str(error))
    return problems


def _foreign_files(folder: Path) -> Iterator[str]:
    """Links, and files that are not data: pickles and programs, whatever their names."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            yield f"{name} is a link or not a regular file; remove it"
        elif path.is_file() and path.suffix not in ENDINGS:
            yield f"{name} is neither weights nor a description of them and may hold code; remove it"
        elif path.suffix == ".safetensors" and (reason := _unsafe(path)):
            yield f"{name} is not a safetensors file ({reason}); convert the weights again"


def _unsafe(path: Path) -> str:
    try:
        with safe_open(path, framework="pt") as file:
            return "" if list(file.keys()) else "it is empty"
    except (SafetensorError, OSError, ValueError) as error:
        return one_line(error, 100)


def _problems_of_generator(folder: Path, stored: str, expected: str) -> list[str]:
    if expected and stored != expected:
        return [f"{folder}: has the weights of {stored}, not of {expected}; name another folder"]
    if stored not in GENERATORS:
        return [f"{folder}: is for the generator {stored}, which is not known here; update this program"]
    load_pretrained(imported(GENERATORS[stored].location), str(folder), LoadOptions(device="cpu", dtype="float32"))
    return []
