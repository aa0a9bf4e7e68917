"""What generators say of themselves, remembered from run to run: a run with nothing to make imports no torch.

Settings, digests of weights and the like follow from the code, the files of weights and the machine. All of these are
in the key under which a value is kept, so that whatever changes is asked for again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import generation
from tooling.errors import WorkspaceError
from tooling.workspace.decoding import read_json
from tooling.workspace.files import file_state, wait_for_clock, write_text
from tooling.workspace.layout import Workspace

GPU_NODES = ("nvidia[0-9]*", "dxg", "kfd")  # in /dev, where CUDA or ROCm may find a GPU
LIBRARIES = ("torch", "diffusers", "transformers")


def remembered(workspace: Workspace, about: Sequence[Any], find: Callable[[], Any]) -> Any:
    """What `find` returns, JSON values; it is called only if it was not before, with the same code.

    Args:
        workspace: held by the caller's lock; keeps the values.
        about: JSON values, all that the result depends on beside the code.
        find: takes the time that is saved.
    """
    path, key = workspace.models_path / "described.json", json.dumps([_code_digest(), *about], sort_keys=True)
    known: dict[str, Any] = {}
    with suppress(WorkspaceError):  # it is written again
        known = read_json(path, dict[str, Any], "delete it") if path.is_file() else {}
    if key not in known:
        found = find()
        kept = {key: value for key, value in known.items() if json.loads(key)[0] == _code_digest()}
        write_text(path, json.dumps(kept | {key: found}, indent=1) + "\n")
        return found
    return known[key]


def states_of(paths: Iterable[Path]) -> list[list[str]]:
    """Files, also those in folders, with their states on disk: JSON values for `remembered`."""
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    wait_for_clock(files)
    return [[str(file), file_state(file)] for file in files if file.is_file()]


def may_have_gpu() -> bool:
    """Whether torch has to be asked if there is a GPU."""
    return any(True for pattern in GPU_NODES for _ in Path("/dev").glob(pattern))


@lru_cache(maxsize=1)
def _code_digest() -> str:
    """Of all code of `generation`, and the versions of what it is built on."""
    root, digest = Path(generation.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    digest.update(" ".join(f"{name} {version(name)}" for name in LIBRARIES).encode())
    return digest.hexdigest()
