from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from generation.generators.registry import LoadOptions
from tooling.settings import Settings
from tooling.stages.generate import described, request
from tooling.stages.generate.request import GeneratorChoice, parameters_of
from tooling.work.engine import LOCAL
from tooling.workspace.layout import Workspace


@pytest.fixture
def empty(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, Settings())


def test_values_are_found_once_for_one_state_of_the_code(empty: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def find() -> int:
        calls.append(1)
        return len(calls)

    assert [described.remembered(empty, ["a"], find) for _ in range(2)] == [1, 1]
    assert described.remembered(empty, ["b"], find) == 2
    monkeypatch.setattr(described, "_code_digest", lambda: "other")
    assert [described.remembered(empty, ["a"], find) for _ in range(2)] == [3, 3]
    path = empty.models_path / "described.json"
    assert len(json.loads(path.read_text())) == 1  # what other code said is gone
    path.write_text("{")
    assert described.remembered(empty, ["a"], find) == 4


@pytest.mark.parametrize("is_clock_ahead", [False, True])
def test_states_tell_files_that_were_replaced(is_clock_ahead: bool, tmp_path: Path) -> None:
    file = tmp_path / "folder" / "weights"
    file.parent.mkdir()
    file.write_bytes(b"one")
    if is_clock_ahead:  # that of another machine, whose disk it is
        os.utime(file, ns=(2**62, 2**62))
    before = described.states_of([file.parent])
    assert before == described.states_of([file])
    other = file.with_name("other")
    other.write_bytes(b"two")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    assert described.states_of([file.parent]) != before


def test_parameters_are_remembered_unless_weights_or_a_gpu_are_elsewhere(
    empty: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def parameters(choice: GeneratorChoice) -> dict[str, int]:
        calls.append(choice.name)
        return {"calls": len(calls)}

    monkeypatch.setattr(GeneratorChoice, "parameters", parameters)
    monkeypatch.setattr(request, "may_have_gpu", lambda: False)
    plain = GeneratorChoice("weightfree-swap", "face_swap", LoadOptions())
    assert parameters_of(empty, [plain, plain], LOCAL) == [{"calls": 1}] * 2
    remote = GeneratorChoice("diffusers:someone/pipeline", "face_swap", LoadOptions())
    assert parameters_of(empty, [remote, remote], LOCAL) == [{"calls": 2}, {"calls": 3}]
    monkeypatch.setattr(request, "may_have_gpu", lambda: True)
    on_cpu = GeneratorChoice("weightfree-swap", "face_swap", LoadOptions(device="cpu"))
    assert parameters_of(empty, [plain, on_cpu, on_cpu], LOCAL) == [{"calls": 4}, {"calls": 5}, {"calls": 5}]
