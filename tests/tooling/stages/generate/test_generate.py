"""The generate stage: what it refuses beforehand, what it records, and the same bytes after a killed run."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generation.arrays import Floats
from generation.crops.clip import FaceClip, PastedFrame
from generation.crops.masks import read_masks
from generation.errors import FaceError, RejectedOutputError
from generation.generators.loading import load_generator
from generation.generators.registry import GENERATORS, LoadOptions, generators_of
from generation.media.reader import read_clip
from generation.quality import output as checks
from homologous_deepfake import SUBSETS
from tests.tooling.stages.generate.filmed import HEIGHT, NUM_FRAMES, WIDTH
from tests.workspaces import reproducible_state
from tooling.errors import ConsentError, UsageError, WorkspaceError
from tooling.stages.generate import clips as generate_clips
from tooling.stages.generate import run as generate
from tooling.stages.generate.request import GeneratorChoice, sample_seed
from tooling.workspace.files import file_sha256, write_text
from tooling.workspace.identities import format_identities
from tooling.workspace.layout import Workspace, open_workspace
from tooling.workspace.records import StageResult


def run(workspace: Workspace, subset: str = "swap_video", **request: Any) -> StageResult:
    return generate.generate_fakes(workspace, subset, generate.GenerateRequest(**request), num_workers=1)


def set_person(workspace: Workspace, identity: str, **values: Any) -> None:
    people = workspace.identities()
    people[identity] = dataclasses.replace(people[identity], **values)
    write_text(workspace.identities_path, format_identities(people))


def swap_state(workspace: Workspace) -> dict[str, Any]:
    """Records and files but for what signatures change."""
    return {name: state for name, state in reproducible_state(workspace).items() if "swap_video" in name}


def test_makes_and_records_every_planned_pair(workspace: Workspace) -> None:
    result = run(workspace)
    assert result.made == ["swap_video/1_2", "swap_video/2_1"]
    assert not result.refused
    record = workspace.records("swap_video")["swap_video/1_2"]
    assert record.sha256 == file_sha256(workspace.path("swap_video/1_2.mp4"))
    assert (record.width, record.height, record.fps, record.num_frames) == (WIDTH, HEIGHT, 30, NUM_FRAMES)
    inputs = ["raw_video/1.mp4", "raw_video/2.mp4", "tracks/1.json", "tracks/2.json"]
    assert sorted(record.inputs) == inputs
    assert all(workspace.matches_record(name, digest) for name, digest in record.inputs.items())
    assert record.generator == "weightfree-swap"
    assert record.seed == sample_seed(0, "swap_video/1_2")
    assert record.results[checks.CHANGE] > 1.2
    assert record.results["flicker"] < 1.8 * record.results["target_flicker"] + 1.5
    again = run(workspace)
    assert again.kept == result.made
    assert not again.made


def test_the_written_fake_is_the_target_with_another_face(workspace: Workspace) -> None:
    run(workspace, only=["1_2"])
    made, real = (read_clip(workspace.path(f"{name}.mp4")).astype(int) for name in ("swap_video/1_2", "raw_video/1"))
    assert made.shape == real.shape
    change = np.abs(made - real).mean(axis=(0, 3))
    points = np.array(json.loads(workspace.path("tracks/1.json").read_text())["landmarks"]).mean((0, 1)).astype(int)
    middle = change[points[1] - 15 : points[1] + 15, points[0] - 15 : points[0] + 15].mean()
    border = np.concatenate([change[:, :40].ravel(), change[:, -40:].ravel()]).mean()
    assert middle > 4 * border
    assert border < 2.0  # the encoder's second pass over the same picture


def test_masks_show_where_a_fake_was_changed(workspace: Workspace) -> None:
    run(workspace, only=["1_2"])
    record = workspace.records("swap_video")["swap_video/1_2"]
    assert record.companions == {"masks/swap_video/1_2.mp4": file_sha256(workspace.path("masks/swap_video/1_2.mp4"))}
    masks = np.stack(list(read_masks(workspace.path("masks/swap_video/1_2.mp4"))))
    assert masks.shape == (NUM_FRAMES, HEIGHT, WIDTH)
    made, real = (read_clip(workspace.path(f"{name}.mp4")).astype(int) for name in ("swap_video/1_2", "raw_video/1"))
    change = np.abs(made - real).mean(-1)
    assert change[masks > 200].mean() > 5 * change[masks == 0].mean()


def test_limit_and_only(workspace: Workspace) -> None:
    assert run(workspace, limit=1).made == ["swap_video/1_2"]
    assert run(workspace, only=["2_1"]).made == ["swap_video/2_1"]
    with pytest.raises(UsageError, match="1_3: is not planned; planned are 1_2, 2_1"):
        run(workspace, only=["1_3"])


def test_another_seed_makes_it_again(workspace: Workspace) -> None:
    run(workspace, limit=1)
    assert run(workspace, limit=1, seed=1).made == ["swap_video/1_2"]
    assert sample_seed(0, "a") != sample_seed(0, "b")


def test_who_wears_glasses_decides_how_swaps_of_them_are_made(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool | None, bool | None]] = []

    class Watch:
        draws = False

        def stream(self, target: FaceClip, source: FaceClip, **_: Any) -> Iterator[PastedFrame]:
            seen.append((target.wears_glasses, source.wears_glasses))
            raise FaceError("watched")

    def parameters(generator: str, subset: str = "swap_video") -> list[Any]:
        choice = GeneratorChoice(generator, SUBSETS[subset].method, LoadOptions())  # type: ignore[arg-type]
        tasks, _ = generate_clips.clip_tasks(workspace, subset, generate.GenerateRequest(), choice)
        return [task.planned.parameters for task in tasks]

    before, driven = parameters("weightfree-swap"), parameters("weightfree-drive", "avatarify_video")
    set_person(workspace, "2", glasses="no")
    assert parameters("weightfree-swap") == before  # what is known to be as before is not made again
    set_person(workspace, "1", glasses="yes")
    stated = [{"glasses": ["target"]}, {"glasses": ["source"]}]
    assert parameters("weightfree-swap") == [old | new for old, new in zip(before, stated, strict=True)]
    assert parameters("weightfree-drive", "avatarify_video") == driven
    monkeypatch.setattr(generate_clips, "loaded", lambda choice: Watch())
    assert len(run(workspace).refused) == 2
    assert seen == [(True, None), (None, True)]


def _run_and_kill(root: Path) -> None:
    def die(done: int, total: int, name: str) -> None:
        if done == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    generate.generate_fakes(open_workspace(root), "swap_video", num_workers=1, progress=die)


@pytest.mark.slow
def test_a_killed_run_continues_and_ends_with_the_same_bytes(workspace: Workspace, tmp_path: Path) -> None:
    shutil.copytree(workspace.root, tmp_path / "undisturbed")
    undisturbed = open_workspace(tmp_path / "undisturbed")
    generate.generate_fakes(undisturbed, "swap_video", num_workers=1)
    process = multiprocessing.get_context("spawn").Process(target=_run_and_kill, args=(workspace.root,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    result = run(workspace)
    assert (result.kept, result.made) == (["swap_video/1_2"], ["swap_video/2_1"])
    assert swap_state(workspace) == swap_state(undisturbed)


@pytest.mark.parametrize("status", ["refused", "withdrawn", "unknown"])
def test_without_consent_nothing_is_made(workspace: Workspace, status: str) -> None:
    set_person(workspace, "2", consent_status=status)
    with pytest.raises(ConsentError, match=rf"no consent for identity 2 \({status}\); nothing was made"):
        run(workspace)
    assert not workspace.path("swap_video").exists()


def test_missing_inputs_name_the_command(workspace: Workspace) -> None:
    workspace.path("tracks/2.json").unlink()
    with pytest.raises(WorkspaceError, match=r"2.json: not made yet; run `tooling faces` first"):
        run(workspace)
    workspace.path("raw_video/1.mp4").unlink()
    with pytest.raises(WorkspaceError, match=r"1.mp4: not made yet; run `tooling ingest SOURCES` first"):
        run(workspace)
    workspace.plan_path.unlink()
    with pytest.raises(WorkspaceError, match=r"plan.json: not found; run `tooling plan` first"):
        run(workspace)
    assert not workspace.path("swap_video").exists()


def test_a_damaged_plan_is_one_line(workspace: Workspace) -> None:
    write_text(workspace.plan_path, "{")
    with pytest.raises(WorkspaceError, match="damaged"):
        run(workspace)


def test_a_clip_that_differs_from_its_record_is_refused(workspace: Workspace) -> None:
    with workspace.path("raw_video/2.mp4").open("ab") as file:
        file.write(b"x")
    result = run(workspace)
    assert set(result.refused) == {"swap_video/1_2", "swap_video/2_1"}
    assert "2.mp4: differs from its record" in result.refused["swap_video/1_2"]


def test_unknown_subset_and_generator(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="raw_video: cannot be generated; generated are avatarify_video, edit_video"):
        run(workspace, "raw_video")
    with pytest.raises(UsageError, match="nonesuch: no such generator; for swap_video use weightfree-swap"):
        run(workspace, generator="nonesuch")


def test_a_fake_that_fails_its_checks_is_refused_and_leaves_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = checks.OutputLimits(smallest_change=200.0)
    monkeypatch.setattr(generate_clips, "limits_of", lambda *given: strict)
    result = run(workspace, limit=1)
    assert "differs from its target by" in result.refused["swap_video/1_2"]
    assert not workspace.path("swap_video/1_2.mp4").exists()
    assert not workspace.records("swap_video")
    rejects = [json.loads(line) for line in workspace.rejects_path.read_text().splitlines()]
    assert [reject["seed"] for reject in rejects] == [sample_seed(0, "swap_video/1_2") + n for n in (0, 1)]
    assert "differs from its target by" in rejects[1]["reason"]
    assert not list(workspace.root.rglob("masks/**/*.mp4"))


def test_every_generator_can_be_loaded() -> None:
    for name, info in GENERATORS.items():
        assert name in generators_of(info.family)
        if not info.weights:
            assert load_generator(name).parameters is not None


def pasted(before: int, after: int, mask: Floats | None = None) -> PastedFrame:
    region = (slice(10, 50), slice(10, 50))
    original = np.full((64, 64, 3), before, np.uint8)
    frame = original.copy()
    frame[region] = after
    return PastedFrame(original, frame, region, np.ones((40, 40), np.float32) if mask is None else mask)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([(100 + at % 3, 101 + at % 3) for at in range(9)], "differs from its target"),
        ([(100 + 5 * at, 150) for at in range(9)], "frozen"),
        ([(100 + at, 150 + at + 12 * (at % 2)) for at in range(9)], "flickers"),
        ([(60 + at, 100 + at + 40 * (at == 20)) for at in range(60)], "flashes"),
        ([(100 + at, 150 + at) for at in range(8)], "has 8 frames and its target 9"),
    ],
)
def test_bad_output_is_rejected_with_its_reason(values: list[tuple[int, int]], said: str) -> None:
    meter = checks.OutputMeter()
    for before, after in values:
        meter.add(pasted(before, after))
    with pytest.raises(RejectedOutputError, match=said):
        meter.raise_if_rejected("swap_video/1_2", max(len(values), 9))


def test_a_change_outside_the_mask_is_rejected() -> None:
    meter = checks.OutputMeter()
    for at in range(9):
        frame = pasted(100 + at, 150 + at)
        frame.frame[0, at] += 1
        meter.add(frame)
    with pytest.raises(RejectedOutputError, match="9 pixels outside the mask changed"):
        meter.raise_if_rejected("swap_video/1_2", 9)


def test_good_output_is_accepted() -> None:
    meter = checks.OutputMeter()
    for at in range(9):
        meter.add(pasted(100 + at, 150 + at))
    meter.raise_if_rejected("swap_video/1_2", 9)
    assert meter.results()[checks.CHANGE] == 43.0
