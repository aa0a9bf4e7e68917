"""Commands that are killed end like undisturbed ones when they are run again; broken inputs end in one line.

Few of both run with the fast tests, in the same ways each time; `make soak` runs all of them.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.flow.soak.cases import draw_cases, faults, files_below, prepare
from tests.flow.soak.kills import JOBS, Kills
from tests.flow.soak.running import offer, run
from tests.flow.soak.scene import RELEASE
from tests.hub.served import Served

NUM_KILLS, NUM_INPUTS = 100, 240
FAST_JOBS, NUM_FAST_INPUTS = ("plan", "ingest"), 8


def test_killed_commands_end_alike(scene: Path, hub: Served, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("--soak")
    kills = Kills(scene, hub, tmp_path, random.Random(seed or 0))
    names, num_kills = (FAST_JOBS, len(FAST_JOBS)) if seed is None else (tuple(JOBS), NUM_KILLS)
    found = []
    for number in range(num_kills):
        wrong = kills.kill(name := names[number % len(names)])
        if seed is not None:
            print(f"kill {number + 1} of {num_kills}: {name}: {wrong or 'alike'}", flush=True)
        found += [wrong] if wrong else []
    assert not found, "\n".join(found)


def test_broken_inputs_end_in_one_line(
    scene: Path, hub: Served, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """No traceback, no crash, no hang, nothing written elsewhere or by half, whatever a command is given to read."""
    seed = request.config.getoption("--soak")
    found = {}
    for case in draw_cases(scene, seed or 0, NUM_FAST_INPUTS if seed is None else NUM_INPUTS):
        folder = tmp_path / case.number / "job"
        way = prepare(case, scene, folder)
        arguments = case.command.line.split()
        if arguments[0] == "pull":
            offer(hub, folder / RELEASE, arguments[1])
        before = files_below(folder)
        ended = run(folder, arguments, hub)
        wrong = list(faults(case, folder, before, ended.code, ended.out, ended.err))
        if wrong:
            found[f"{case} ({way})"] = f"{'; '.join(wrong)}\n{ended.err[-4000:]}"
        if seed is not None:
            print(f"{case} ({way}): {'; '.join(wrong) or f'ends with {ended.code}'}", flush=True)
        shutil.rmtree(folder.parent)
    assert not found, "\n\n".join(f"{name}\n{text}" for name, text in found.items())
