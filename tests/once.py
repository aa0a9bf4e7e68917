"""What is slow to make, made once for all processes of a test run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder that all processes of this run share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` fills, given a path to create. Only to be read or copied."""
    return made_once_in(shared_folder(factory), name, make)


def made_once_in(shared: Path, name: str, make: Callable[[Path], object]) -> Path:
    """What `make` creates at the path it is given, as `name` in a folder that processes share."""
    root = shared / name
    with FileLock(shared / f"{name}.lock"):
        if not root.exists():
            unfinished = shared / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(root)
    return root
