"""tooling.stages.verify.check_store: checks come back whole, memory does not hold what files show."""

from __future__ import annotations

import tracemalloc
from contextlib import closing
from pathlib import Path

from tooling.stages.verify.check_store import CheckStore
from tooling.stages.verify.file_check import FileCheck


def check_of(number: int) -> FileCheck:
    path = f"raw_video/{number}.mp4"
    check = FileCheck(path, content="c" * 64, views=f"{number}" * 30_000, traces={"dct": {"first": 0.5 + number}})
    check.note("content", "looks odd")
    return check


def test_checks_come_back_and_wait_on_disk(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        with closing(CheckStore(tmp_path / "staging")) as store:
            for number in reversed(range(100, 200)):
                store.keep(check_of(number))
            assert tracemalloc.get_traced_memory()[0] < 100 * 3_000
            assert list(store.values()) == [check_of(number) for number in range(100, 200)]
            assert list((tmp_path / "staging").iterdir()) == []  # a kill leaves nothing

            other = FileCheck("raw_video/107.mp4", views="another")
            store.keep(other)
            store["raw_video/108.mp4"].measurements["target_distance"] = 0.5
            assert (len(store), store["raw_video/107.mp4"]) == (100, other)
            assert store["raw_video/108.mp4"].measurements == {"target_distance": 0.5}
    finally:
        tracemalloc.stop()
