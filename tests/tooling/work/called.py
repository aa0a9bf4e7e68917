"""Functions that worker processes of tests call; a light module, as each worker imports it again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from functools import lru_cache
from pathlib import Path

_held: list[object] = []


def square(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number * number


def die_once(item: tuple[str, int]) -> int:
    folder, number = item
    marker = Path(folder) / f"died{number}"
    if number in (2, 5) and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def hold_lock(number: int) -> int:
    _held.append(multiprocessing.RLock())  # as progress bars of libraries do
    return number


@lru_cache
def _load(folder: str) -> str:
    with (Path(folder) / "loads").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return str(os.getpid())


def where_loaded(folder: str) -> str:
    """The process that loaded what this item is worked on with; each load is a line of the file `loads`."""
    time.sleep(0.1)
    return _load(folder)


def visible_gpus(number: int) -> str:
    time.sleep(0.1)
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all")


def sleep_long(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)
