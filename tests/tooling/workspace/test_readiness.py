"""What a release would lack, and the commands that the messages name: each is run, and ends the matter."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from tooling.cli.app import app
from tooling.errors import WorkspaceError
from tooling.stages.card.run import make_card
from tooling.stages.verify import run as verify
from tooling.views.report.checklist import check_lines
from tooling.views.report.overview import read_overview
from tooling.work.tasks import planned_record
from tooling.workspace.layout import Workspace
from tooling.workspace.readiness import find_missing, read_rejects, release_warnings, way_out_of

pytestmark = pytest.mark.thorough


def tooling(workspace: Workspace, line: str) -> None:
    done = CliRunner().invoke(app, [*line.split(), "--workspace", str(workspace.root)])
    assert done.exit_code == 0, done.output


def reject(workspace: Workspace, name: str) -> None:
    """What `generate` leaves of a fake that it could not make."""
    workspace.forget(name.partition("/")[0], [name])
    planned = planned_record(name, f"{name}.mp4", {}, "weightfree-swap", {})
    workspace.note_rejects(planned, [(1, f"{name}: rejected, it is frozen"), (2, f"{name}: rejected, it flickers")])


def test_build_warns_of_what_a_push_would_refuse_and_the_named_commands_end_it(workspace_copy: Workspace) -> None:
    assert release_warnings(workspace_copy) == [f"{workspace_copy.root}: not verified; run `tooling verify`"]
    verify.verify_files(workspace_copy, num_workers=1)
    assert release_warnings(workspace_copy) == []
    pair, edit = next(iter(workspace_copy.records("swap_video"))), "edit_video/hair/7"
    for name in (pair, edit):
        reject(workspace_copy, name)
    changed, *missing = release_warnings(workspace_copy)
    assert re.search(r"changed after the last verification; run `tooling verify`$", changed)
    assert [line.partition(": was rejected (it flickers); leave it out with ")[0] for line in missing] == [edit, pair]
    out = workspace_copy.root.parent / "release"
    built = CliRunner().invoke(app, ["build", "-w", str(workspace_copy.root), "-o", str(out)])
    assert (built.exit_code, built.stdout.strip()) == (0, str(out))
    assert [f"warning: {line}" for line in (changed, *missing)] == [
        line for line in built.stderr.splitlines() if line.startswith("warning")
    ]
    found = verify.verify_files(workspace_copy, num_workers=1)
    errors = [finding for finding in found if finding.severity == "error"]
    assert [finding.path for finding in errors] == [f"{pair}.mp4"]
    for line in (errors[0].message, missing[0]):
        named = re.findall(r"`tooling (plan --exclude [^`]+)`", line)
        tooling(workspace_copy, named[0])
    found = verify.verify_files(workspace_copy, num_workers=1)
    assert {finding.severity for finding in found} == {"note"}
    notes = [str(finding) for finding in found]
    assert "note: swap_video: 1 of 12 is left out: excluded by the maintainers" in notes
    assert "note: edit_video: 1 of 24 is left out: excluded by the maintainers" in notes
    assert release_warnings(workspace_copy) == []
    text = "1 of 12 is left out: excluded by the maintainers"
    assert f"- `swap_video`: {text}" in make_card(workspace_copy, out).read_text("utf-8")
    assert f"of `swap_video`, {text}" in (out / "DATASHEET.md").read_text("utf-8")


def test_report_says_what_is_missing_and_what_is_left_out(workspace_copy: Workspace) -> None:
    reject(workspace_copy, pair := next(iter(workspace_copy.records("swap_video"))))
    tooling(workspace_copy, "plan --exclude edit_video/hair/7 --reason blurred")
    lines = {line.title: (line.state, line.text) for line in check_lines(read_overview(workspace_copy, None))}
    assert lines["Left out"] == ("warn", "edit_video: 1 of 24 is left out: blurred")
    assert lines["Missing fakes"][0] == "bad"
    assert lines["Missing fakes"][1].startswith(f"{pair}: was rejected (it flickers); leave it out with `tooling plan")


def test_what_is_left_out_and_there_is_an_error_until_it_is_removed(workspace_copy: Workspace) -> None:
    name = "edit_video/age/3"
    plan = json.loads(workspace_copy.plan_path.read_text())
    workspace_copy.plan_path.write_text(json.dumps(plan | {"left_out": {name: "blurred"}}))
    found = verify.verify_files(workspace_copy, num_workers=1)
    (error,) = [finding for finding in found if finding.severity == "error"]
    assert error.message.startswith("is left out of the plan (blurred); ")
    commands = re.findall(r"`tooling ([^`]+)`", error.message)
    assert [command.rpartition(" ")[0] for command in commands] == ["plan --exclude", "plan --include"]
    tooling(workspace_copy, commands[0])
    assert not any(finding.severity == "error" for finding in verify.verify_files(workspace_copy, num_workers=1))
    assert not workspace_copy.path(f"{name}.mp4").exists()


def test_subsets_that_were_not_begun_are_not_missing(small_workspace: Workspace) -> None:
    plan = small_workspace.plan()
    assert plan is not None
    assert find_missing(small_workspace, plan, {}) == {}
    assert (
        len(
            find_missing(
                small_workspace, plan, {"swap_video": dict([*small_workspace.records("swap_video").items()][:1])}
            )
        )
        == 11
    )


def test_damaged_rejects_are_one_line(workspace_copy: Workspace) -> None:
    workspace_copy.rejects_path.write_text('{"sample_id": 1, "reason": ""}\n')
    with pytest.raises(WorkspaceError, match=r"rejects\.jsonl: damaged line .*; remove that line$"):
        read_rejects(workspace_copy)
    out = workspace_copy.root.parent / "release"
    done = CliRunner().invoke(app, ["build", "-w", str(workspace_copy.root), "-o", str(out)])
    assert isinstance(done.exception, WorkspaceError)
    assert not out.exists()  # and not written, and then a failure


def test_pairs_alone_can_be_redrawn() -> None:
    assert "--redraw swap_video/1_2" in way_out_of("swap_video/1_2")
    assert "--redraw" not in way_out_of("edit_video/age/1")
    assert "--seed" in way_out_of("GAN_images/000001")
