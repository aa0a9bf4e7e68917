"""benchmarks: what is measured is compared and written as it should be; nothing here is timed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.measuring import Line, alone, alternate, print_results, psnr_line, ratio_line


def test_ways_run_in_turn_and_the_first_round_warms_up() -> None:
    order: list[str] = []
    seconds, results = alternate({"peer": lambda: order.append("p"), "own": lambda: order.append("o")}, 3)
    assert "".join(order) == "po" * 4
    assert [len(values) for values in seconds.values()] == [3, 3]
    assert list(results) == ["peer", "own"]


def test_goals_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast = ratio_line("decode", {"peer": [4.0, 2.0, 9.0], "own": [1.0, 2.0, 1.5]}, 2, work=12, unit="frames/s")
    assert (round(fast.value, 3), fast.is_met) == (2.667, True)
    assert fast.detail == "peer 3 frames/s, own 8 frames/s"
    near = psnr_line("nets", [0.0, 1.0, 0.5], [0.0, 1.0, 0.4], 60)
    assert (round(near.value), near.is_met) == (25, False)
    lines = [fast, near, Line("push", 0, "bytes", at_most=0), Line("first frame", 0.4, "s")]
    print_results(lines, {"processor": "one"}, tmp_path / "results.json")
    table = capsys.readouterr().out
    assert "- processor: one\n" in table
    assert "| decode | 2.67 times as fast | at least 2 | yes | peer 3 frames/s, own 8 frames/s |\n" in table
    assert "| push | 0 bytes | at most 0 | yes |  |\n" in table
    found = json.loads((tmp_path / "results.json").read_text())["lines"]
    assert [line["is_met"] for line in found] == [True, False, True, None]
    assert found[0]["samples"]["peer"] == [4.0, 2.0, 9.0]


def test_a_process_of_its_own_has_its_own_peak() -> None:
    held = bytearray(os.urandom(1) * (300 << 20))  # of this process, not of the other
    found = alone(os.getpid)
    assert found.value != os.getpid()
    assert found.start_bytes <= found.peak_bytes < len(held)
