"""One item worked on in a worker, wherever the worker is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """One ended item: its value, or the error that ended it."""

    item: Any
    value: Any = None
    error: Exception | None = None


def outcome_of(function: Callable[[Any], Any], item: Any) -> Outcome:
    """Calls a function on an item; its exception becomes the outcome's error."""
    try:
        return Outcome(item, value=function(item))
    except Exception as error:
        return Outcome(item, error=error)


def use_one_thread() -> None:
    """One thread for this process: libraries read this when they are first imported, which happens after it."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
