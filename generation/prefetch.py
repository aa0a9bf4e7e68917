"""Work on the next item while the last one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


def prefetch(items: Iterator[Item], depth: int = 8) -> Iterator[Item]:
    """Draws from an iterator in a thread, at most `depth` items before they are taken; order and errors are kept.

    Worth it where the work on both sides leaves Python's lock: decoding, encoding, resampling, a GPU.
    """
    waiting: queue.Queue[object] = queue.Queue(depth)
    is_open = True

    def draw() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:
            put(_Failure(error))

    def put(item: object) -> bool:
        while is_open:
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        is_open = False
        thread.join()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error
