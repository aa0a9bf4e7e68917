"""Functions that worker processes of tests call; a light module, as each worker imports it again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
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


def sleep_long(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)
