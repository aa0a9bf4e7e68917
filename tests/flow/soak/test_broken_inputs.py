"""Broken inputs over every command: one line, no crash, no hang, nothing written elsewhere, nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.flow.soak.cases import draw_cases, faults, files_below, prepare
from tests.flow.soak.running import offer, run
from tests.flow.soak.scene import RELEASE
from tests.hub.served import Served

FEW, MANY = 16, 240


def test_broken_inputs_end_in_one_line(
    scene: Path, hub: Served, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = request.config.getoption("--soak")
    found = {}
    for case in draw_cases(scene, seed or 0, FEW if seed is None else MANY):
        folder = tmp_path / case.number / "job"
        way = prepare(case, scene, folder)
        arguments = case.command.line.split()
        if arguments[0] == "pull":
            offer(hub, folder / RELEASE, arguments[1])
        before = files_below(folder)
        ended = run(folder, arguments, hub)
        wrong = list(faults(case, folder, before, ended.code, ended.out, ended.err))
        if wrong:
            found[f"{case} ({way})"] = (wrong, ended.err[-4000:])
        if request.config.getoption("verbose") > 1:
            print(f"{case} ({way}): {ended.code} in {ended.seconds:.1f} s\n{ended.err[-600:]}", flush=True)
        shutil.rmtree(folder.parent)
    assert not found, "\n\n".join(f"{name}\n{'; '.join(wrong)}\n{err}" for name, (wrong, err) in found.items())
