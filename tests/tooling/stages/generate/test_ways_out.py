"""Where `generate` refuses, the command that it names leads on."""

from __future__ import annotations

import dataclasses
import re

import pytest
from typer.testing import CliRunner

from generation.quality import output as checks
from homologous_deepfake import FAKES
from tooling.cli.app import app
from tooling.errors import UsageError, WorkspaceError
from tooling.stages.generate import clips as generate_clips
from tooling.stages.generate import run as generate
from tooling.stages.verify.people import check_inputs, check_people
from tooling.workspace.files import write_text
from tooling.workspace.layout import Workspace
from tooling.workspace.records import StageResult, format_record


def run(workspace: Workspace, subset: str, **request: object) -> StageResult:
    return generate.generate_fakes(workspace, subset, generate.GenerateRequest(**request), num_workers=1)  # type: ignore[arg-type]


def make_stale(workspace: Workspace, person: str) -> None:
    """The person's track becomes one of an older clip."""
    crops = workspace.records("face_video")
    name = f"face_video/{person}"
    crops[name] = dataclasses.replace(crops[name], inputs={f"raw_video/{person}.mp4": "0" * 64})
    write_text(workspace.records_path("face_video"), "".join(format_record(one) + "\n" for one in crops.values()))


def test_a_rejected_fake_is_left_out_by_the_command_that_is_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(generate_clips, "limits_of", lambda *given: checks.OutputLimits(smallest_change=200.0))
        refused = run(workspace, "edit_video", only=["age/1"]).refused["edit_video/age/1"]
    (command,) = re.findall(r"`tooling ([^`]+)`", refused)
    assert command == "plan --exclude edit_video/age/1"
    root = str(workspace.root)
    done = CliRunner().invoke(app, [*command.split(), "--reason", "no hair", "-w", root])
    assert (done.exit_code, "1 left out" in done.stdout) == (0, True)
    with pytest.raises(
        UsageError, match=r"^age/1: is left out of the plan \(no hair\); `tooling plan --include edit_v"
    ):
        run(workspace, "edit_video", only=["age/1"])
    result = run(workspace, "edit_video", factor=0.0, limit=1)
    assert (result.made, result.refused) == (["edit_video/age/2"], {})
    plan, records = (
        workspace.plan(),
        {name: workspace.records(name) for name in ("edit_video", "raw_video", "face_video")},
    )
    assert plan is not None
    found = check_people(workspace, {**{name: {} for name in FAKES}, **records}, plan)
    assert [(one.severity, one.message) for one in found] == [("note", "1 of 4 is left out: no hair")]
    assert CliRunner().invoke(app, ["plan", "--include", "edit_video/age/1", "-w", root]).exit_code == 0
    assert run(workspace, "edit_video", factor=0.0, only=["age/1"]).made == ["edit_video/age/1"]


def test_a_pair_is_named_with_both_ways(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_clips, "limits_of", lambda *given: checks.OutputLimits(smallest_change=200.0))
    refused = run(workspace, "swap_video", limit=1).refused["swap_video/1_2"]
    commands = re.findall(r"`tooling ([^`]+)`", refused)
    assert commands == ["plan --exclude swap_video/1_2", "plan --redraw swap_video/1_2"]
    alone = CliRunner().invoke(app, [*commands[1].split(), "-w", str(workspace.root)])
    assert isinstance(alone.exception, UsageError)
    assert "nobody else of that gender; leave it out with `tooling plan --exclude swap_video/1_2`" in str(
        alone.exception
    )


def test_fakes_by_the_track_of_an_older_clip_are_refused_and_others_made(workspace: Workspace) -> None:
    assert run(workspace, "swap_video", limit=1).made == ["swap_video/1_2"]
    make_stale(workspace, "1")
    result = run(workspace, "edit_video", only=["age/1", "age/2"], factor=0.0)
    assert result.made == ["edit_video/age/2"]
    message = "tracks/1.json: was made from an older raw_video/1.mp4; run `tooling faces --only 1`"
    assert result.refused["edit_video/age/1"].startswith(message)
    with pytest.raises(WorkspaceError, match=r"^tracks/1\.json: was made from an older raw_video/1\.mp4"):
        run(workspace, "GAN_images", limit=1)
    errors = {
        one.path: one.message
        for one in check_inputs(
            {name: workspace.records(name) for name in ("raw_video", "face_video", "swap_video", "edit_video")}
        )
    }
    assert errors == {
        "face_video/1.mp4": "was made from an older raw_video/1.mp4; run `tooling faces` again",
        "swap_video/1_2.mp4": "was made by tracks/1.json, which is of an older raw_video/1.mp4; "
        "run `tooling faces`, then `tooling generate swap_video`",
    }
