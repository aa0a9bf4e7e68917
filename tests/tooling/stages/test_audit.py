"""A planted shortcut is found by its own probes and by no unrelated one; files made alike pass."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from generation.media.tags import write_tags
from generation.media.writer import X264_OPTIONS, VideoWriter
from generation.quality.traces import measure_frame
from tests.workspaces import publish_marked
from tooling.cli.app import app
from tooling.errors import InputError, VerificationError, WorkspaceError
from tooling.settings import ClipSettings, Settings
from tooling.stages import plan
from tooling.stages.audit import run as audit
from tooling.stages.audit.containers import measure_container, read_boxes
from tooling.stages.audit.probes import PROBES
from tooling.stages.audit.separability import ProbedFile, adjusted_by_holm, measure_separability
from tooling.stages.audit.tracks import measure_track
from tooling.work.tasks import finished_record, planned_record
from tooling.workspace.audit_file import MEASURED, Audit, ProbeResult, format_table, read_audit
from tooling.workspace.files import file_sha256, write_text
from tooling.workspace.identities import Identity, format_identities
from tooling.workspace.layout import Workspace, create_workspace, open_workspace
from tooling.workspace.path_kinds import unknown_paths
from tooling.workspace.records import FileRecord, format_record

pytestmark = pytest.mark.thorough

NUM_PEOPLE, NUM_FRAMES, WIDTH, HEIGHT = 20, 20, 64, 48
FAKE = "edit_video/age"
OF_SIZES = {"file_size", "bitrate"}

Plant = Callable[[Path, list[NDArray[np.uint8]]], None]


@cache
def scene(person: int, take: int) -> list[NDArray[np.uint8]]:
    """A person's own moving pattern, with other noise in each take: takes differ in nothing that is told apart."""
    own, noise = np.random.default_rng(person), np.random.default_rng((person, take))
    colour, waves = own.uniform(90, 150, 3), own.uniform(4, 12, 3)
    strength = own.uniform(4, 9)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frames = []
    for time in range(NUM_FRAMES):
        picture = (
            np.stack([np.sin((x + y * channel + time) / waves[channel]) for channel in range(3)], -1) * 40 + colour
        )
        frames.append(np.clip(picture + noise.normal(0, strength, picture.shape), 0, 255).astype(np.uint8))
    return frames


def write(path: Path, frames: list[NDArray[np.uint8]], **options: str) -> None:
    with VideoWriter(path, width=WIDTH, height=HEIGHT, options=X264_OPTIONS | options) as writer:
        for frame in frames:
            writer.write(frame)


def start(root: Path) -> Workspace:
    clip = ClipSettings(seconds=NUM_FRAMES / 30, width_px=WIDTH, height_px=HEIGHT)
    workspace = create_workspace(root, Settings(clip=clip))
    people = {str(n): Identity(str(n), "male" if n % 2 else "female", "granted") for n in range(1, NUM_PEOPLE + 1)}
    write_text(workspace.identities_path, format_identities(people))
    return workspace


def record_of(workspace: Workspace, path: str, staged: Path) -> FileRecord:
    parameters = {"attribute": "age", "factor": 2.0} if path.startswith(FAKE) else {}
    wanted = planned_record(path.rpartition(".")[0], path, {}, "test", parameters)
    return finished_record(wanted, {path: staged}, width=WIDTH, height=HEIGHT, fps=30.0, num_frames=NUM_FRAMES)


def write_records(workspace: Workspace, folder: str) -> None:
    """Records of the clips in a folder as they lie there."""
    names = [f"{folder}/{person}.mp4" for person in range(1, NUM_PEOPLE + 1)]
    lines = [format_record(record_of(workspace, name, workspace.path(name))) + "\n" for name in names]
    write_text(workspace.records_path(folder.partition("/")[0]), "".join(lines))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """20 clips and as many "fakes" that are other takes of the same scenes, audited."""
    workspace = start(tmp_path_factory.mktemp("audit") / "workspace")
    for take, folder in enumerate(("raw_video", FAKE)):
        workspace.path(folder).mkdir(parents=True)
        for person in range(1, NUM_PEOPLE + 1):
            write(workspace.path(f"{folder}/{person}.mp4"), scene(person, take))
        write_records(workspace, folder)
    plan.draw_plan(workspace)
    audit.audit_files(workspace, num_workers=1)
    return workspace


def copy_of(workspace: Workspace, root: Path) -> Workspace:
    shutil.copytree(workspace.root, root)
    return open_workspace(root)


def planted(workspace: Workspace, plant: Plant) -> Audit:
    for person in range(1, NUM_PEOPLE + 1):
        plant(workspace.path(f"{FAKE}/{person}.mp4"), scene(person, 1))
    write_records(workspace, FAKE)
    return audit.audit_files(workspace, num_workers=1)


def found_by(made: Audit, is_pixel: bool = False) -> set[str]:
    """Probes whose whole interval is above the limit."""
    return {
        one.probe for one in made.probes if one.is_pixel == is_pixel and one.low is not None and one.low > audit.LIMIT
    }


def short_gop(path: Path, frames: list[NDArray[np.uint8]]) -> None:
    write(path, frames, g="4", keyint_min="4")


def other_preset(path: Path, frames: list[NDArray[np.uint8]]) -> None:
    write(path, frames, preset="ultrafast", bf="2")


def coarser(path: Path, frames: list[NDArray[np.uint8]]) -> None:
    write(path, frames, crf="32")


def larger(path: Path, frames: list[NDArray[np.uint8]]) -> None:
    write(path, frames)
    with path.open("ab") as file:
        file.write((60_000).to_bytes(4, "big") + b"free" + bytes(59_992))


def index_last(path: Path, frames: list[NDArray[np.uint8]]) -> None:
    write(path, frames)
    kept = path.with_suffix(".kept.mp4")
    with av.open(str(path)) as given, av.open(str(kept), "w", options={"fflags": "+bitexact"}) as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    kept.replace(path)


def with_comment(path: Path, frames: list[NDArray[np.uint8]]) -> None:
    write(path, frames)
    kept = path.with_suffix(".kept.mp4")
    write_tags(path, kept, {"comment": "made by another program"})
    kept.replace(path)


def brighter(path: Path, frames: list[NDArray[np.uint8]]) -> None:
    write(path, [np.clip(frame.astype(int) + 70, 0, 255).astype(np.uint8) for frame in frames])


def blurred(path: Path, frames: list[NDArray[np.uint8]]) -> None:
    write(path, [((frame.astype(int) + np.roll(frame, 1, 1)) // 2).astype(np.uint8) for frame in frames])


@pytest.fixture(scope="module")
def late_index(clean: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """`clean` with the index of every fake after its pictures, audited."""
    workspace = copy_of(clean, tmp_path_factory.mktemp("late_index") / "workspace")
    planted(workspace, index_last)
    return workspace


@pytest.mark.parametrize(
    ("plant", "must", "may"),
    [
        (short_gop, {"gop"}, {"codec", "atoms", *OF_SIZES}),
        (other_preset, {"codec"}, {"gop", "atoms", *OF_SIZES}),
        (coarser, {*OF_SIZES}, {"codec", "atoms"}),
        (larger, {"file_size", "atoms"}, set()),
        (with_comment, {"metadata"}, {"atoms", "headers", "file_size"}),
        (blurred, set(), OF_SIZES),
    ],
)
def test_shortcut_is_found_by_its_probes(
    clean: Workspace, tmp_path: Path, plant: Plant, must: set[str], may: set[str]
) -> None:
    made = planted(copy_of(clean, tmp_path / "workspace"), plant)
    found = found_by(made)
    assert must <= found <= must | may
    assert {line.split(":")[1].split()[0] for line in audit.failures(made)} >= must
    if must:
        with pytest.raises(VerificationError, match=r"separates real from fake, AUC [01]\.\d\d .*at most 0.55"):
            audit.raise_for_failures(made)


def test_index_after_the_pictures_is_seen_by_one_probe(late_index: Workspace) -> None:
    made = read_audit(late_index)
    assert made is not None
    assert found_by(made) == {"atoms"}
    assert {line.split(":")[1].split()[0] for line in audit.failures(made)} >= {"atoms"}


def test_brightness_is_seen_by_probes_of_pixels_alone(clean: Workspace, tmp_path: Path) -> None:
    made = planted(copy_of(clean, tmp_path / "workspace"), brighter)
    assert {"mean_colour", "border_pixels"} <= found_by(made, is_pixel=True)
    assert not audit.failures(made)
    assert all(one.limit is None and one.is_ok for one in made.probes if one.is_pixel)


def test_takes_of_one_scene_pass(clean: Workspace) -> None:
    made = read_audit(clean)
    assert made is not None
    assert not audit.failures(made)
    audit.raise_for_failures(made)
    assert [one.probe for one in made.probes] == [probe.name for probe in PROBES]
    for one in made.probes:
        assert (one.num_real, one.num_fake, one.subset) == (NUM_PEOPLE, NUM_PEOPLE, "edit_video")
        assert one.is_pixel or one.auc == 0.5


def test_marks_are_no_shortcut(tmp_path: Path) -> None:
    workspace = start(tmp_path / "workspace")
    for take, folder in enumerate(("raw_video", FAKE)):
        for person in range(1, NUM_PEOPLE + 1):
            name = f"{folder}/{person}.mp4"
            staged = workspace.staging_path(name)
            write(staged, scene(person, take))
            publish_marked(workspace, record_of(workspace, name, staged), {name: staged})
    plan.draw_plan(workspace)
    made = audit.audit_files(workspace, num_workers=1)
    assert not found_by(made)
    assert not audit.failures(made)


def test_rerun_gives_the_same_bytes_and_measures_nothing_again(clean: Workspace, tmp_path: Path) -> None:
    workspace, told = copy_of(clean, tmp_path / "workspace"), []
    before, num_files = workspace.audit_path.read_bytes(), 2 * NUM_PEOPLE
    workspace.audit_path.unlink()
    audit.audit_files(workspace, num_workers=1, progress=lambda *step: told.append(step[:2]))
    assert workspace.audit_path.read_bytes() == before
    assert told == [(num_files, num_files)] * 2
    assert unknown_paths(workspace) == []
    (workspace.root / MEASURED).unlink()
    workspace.audit_path.write_text("{}")
    audit.audit_files(workspace, num_workers=2, progress=lambda *step: told.append(step[:2]))
    assert workspace.audit_path.read_bytes() == before
    assert told[2] == (0, num_files)
    assert told[-1] == (num_files, num_files)


def test_results_are_kept_until_files_folds_or_tracks_change(
    clean: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = copy_of(clean, tmp_path / "workspace")
    tested: list[Any] = []
    monkeypatch.setattr(audit, "measure_separability", tested.append)
    assert audit.audit_files(workspace, num_workers=1) == read_audit(workspace)
    assert not tested
    content = json.loads(workspace.plan_path.read_text())
    content["folds"] = {person: 4 - fold for person, fold in content["folds"].items()}
    workspace.plan_path.write_text(json.dumps(content))
    audit.audit_files(workspace, num_workers=1)
    assert tested
    track = workspace.path(workspace.track_name("1"))
    track.parent.mkdir()
    track.write_text("{}")
    with pytest.raises(WorkspaceError, match=r"1\.json"):
        audit.audit_files(workspace, num_workers=1)


def test_audit_of_changed_files_does_not_count(clean: Workspace, tmp_path: Path) -> None:
    workspace = copy_of(clean, tmp_path / "workspace")
    short_gop(workspace.path(f"{FAKE}/1.mp4"), scene(1, 1))
    write_records(workspace, FAKE)
    assert read_audit(workspace) is None
    workspace.audit_path.write_text("{}")
    with pytest.raises(WorkspaceError, match="run `tooling audit` again"):
        read_audit(workspace)


def test_table_names_what_is_above_the_limit(late_index: Workspace) -> None:
    made = read_audit(late_index)
    assert made is not None
    rows = {line.split("|")[1].strip(): line for line in format_table(made).splitlines()}
    assert "**1.00 (1.00 to 1.00), p < 0.001**" in rows["atoms"]
    assert "0.50 (0.50 to 0.50)" in rows["gop"]
    assert "**" not in rows["mean colour (pixels)"]


def test_p_values_are_adjusted_by_holm() -> None:
    adjusted = adjusted_by_holm([0.01, 0.04, 0.03, 0.005, 0.9])
    assert adjusted == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.9])
    assert adjusted_by_holm([0.4, 0.5]) == pytest.approx([0.8, 0.8])
    assert adjusted_by_holm([]) == []


def test_chance_lifts_some_of_forty_probes_above_the_limit_and_none_fails() -> None:
    """100 people; a probe that sees a real difference of one standard deviation fails among them."""
    rng = np.random.default_rng(0)

    def result(shift: float) -> ProbeResult:
        files = [
            ProbedFile({"value": float(rng.normal() + shift * is_fake)}, is_fake, person % 5, str(person))
            for person in range(100)
            for is_fake in (False, True)
        ]
        found = measure_separability(files)
        assert found
        area = (round(found.auc, 4), round(found.low, 4), round(found.high, 4))
        return ProbeResult("swap_video", "gop", False, *area, 100, 100, audit.LIMIT, True, found.p_value)

    judged = audit.judged([result(0.0) for _ in range(40)] + [result(1.0)])
    assert sum((one.auc or 0) > audit.LIMIT for one in judged[:40]) >= 2
    assert [one.is_ok for one in judged] == [True] * 40 + [False]


def test_command_exits_with_1_and_names_each_shortcut(clean: Workspace, late_index: Workspace, tmp_path: Path) -> None:
    options = ["--workers", "1", "--json"]
    workspace = copy_of(clean, tmp_path / "clean")
    done = CliRunner().invoke(app, ["audit", "--workspace", str(workspace.root), *options])
    assert done.exit_code == 0
    assert len(json.loads(done.stdout)["probes"]) == len(PROBES)
    workspace = copy_of(late_index, tmp_path / "late_index")
    done = CliRunner().invoke(app, ["audit", "--workspace", str(workspace.root), *options])
    assert isinstance(done.exception, VerificationError)
    assert "edit_video: atoms separates real from fake" in done.stderr


def test_too_few_people_give_no_number(clean: Workspace, tmp_path: Path) -> None:
    workspace = copy_of(clean, tmp_path / "workspace")
    records = list(workspace.records("edit_video").values())[:3]
    write_text(workspace.records_path("edit_video"), "".join(format_record(record) + "\n" for record in records))
    made = audit.audit_files(workspace, num_workers=1)
    assert {one.auc for one in made.probes} == {None}
    assert "too few people" in format_table(made)
    write_text(workspace.records_path("edit_video"), "")
    with pytest.raises(InputError, match="no fakes to compare"):
        audit.audit_files(workspace, num_workers=1)


def test_one_fold_is_divided_between_people(late_index: Workspace, tmp_path: Path) -> None:
    workspace = copy_of(late_index, tmp_path / "workspace")
    made_plan = workspace.plan()
    assert made_plan is not None
    content = json.loads(workspace.plan_path.read_text()) | {"folds": dict.fromkeys(made_plan.folds, 2)}
    workspace.plan_path.write_text(json.dumps(content))
    areas = {one.probe: one.auc for one in audit.audit_files(workspace, num_workers=1).probes}
    assert areas["atoms"] == 1.0
    assert areas["gop"] == 0.5


def test_unreadable_file_is_named(clean: Workspace, tmp_path: Path) -> None:
    workspace = copy_of(clean, tmp_path / "workspace")
    path = workspace.path("raw_video/3.mp4")
    path.write_bytes(path.read_bytes()[:900])
    records = workspace.records("raw_video")
    records["raw_video/3"] = dataclasses.replace(records["raw_video/3"], sha256=file_sha256(path))
    lines = "".join(format_record(record) + "\n" for record in records.values())
    write_text(workspace.records_path("raw_video"), lines)
    with pytest.raises(WorkspaceError, match=r"raw_video/3.mp4: cannot be measured"):
        audit.audit_files(workspace, num_workers=1)


def samples(separation: float, num_people: int = 60, seed: int = 1) -> list[ProbedFile]:
    rng = np.random.default_rng(seed)
    return [
        ProbedFile({"x": float(rng.normal(separation * is_fake))}, is_fake, person % 5, str(person))
        for person in range(num_people)
        for is_fake in (False, True)
    ]


def test_area_is_that_of_known_distributions() -> None:
    # Two normal distributions one deviation apart: area = Phi(1 / sqrt 2) = 0.760.
    found = measure_separability(samples(1.0, num_people=1_000))
    assert found is not None
    assert found.auc == pytest.approx(0.760, abs=0.02)
    assert found.low < 0.76 < found.high
    nothing = measure_separability(samples(0.0, num_people=1_000))
    assert nothing is not None
    assert nothing.auc == pytest.approx(0.5, abs=0.05)


def test_intervals_of_what_tells_nothing_hold_one_half() -> None:
    found = [measure_separability(samples(0.0, num_people=100, seed=seed)) for seed in range(40)]
    held = [one is not None and one.low <= 0.5 <= one.high for one in found]
    above = [one is not None and one.low > 0.5 for one in found]
    assert sum(held) >= 30
    assert sum(above) <= 3


def test_band_between_two_sides_is_told() -> None:
    rng = np.random.default_rng(2)
    two_sided = [
        ProbedFile({"x": float(rng.normal(0, 0.1 if is_fake else 3))}, is_fake, person % 5, str(person))
        for person in range(60)
        for is_fake in (False, True)
    ]
    found = measure_separability(two_sided)
    assert found is not None
    assert found.auc > 0.9


def test_direction_is_learned_in_training() -> None:
    # In one half larger numbers are fake, in the other smaller ones: each half misleads about the other.
    flipped = [
        ProbedFile({"x": float(is_fake == (fold == 0)) + person / 100}, is_fake, fold, f"{fold}/{person}")
        for fold in (0, 1)
        for person in range(10)
        for is_fake in (False, True)
    ]
    found = measure_separability(flipped)
    assert found is not None
    assert found.auc < 0.05


def test_one_fold_or_one_kind_cannot_be_tested() -> None:
    assert measure_separability([dataclasses.replace(one, fold=0) for one in samples(1.0)]) is None
    assert measure_separability([one for one in samples(1.0) if one.is_fake]) is None


def test_container_says_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write(path, scene(1, 0))
    measured = measure_container(path)
    assert measured["gop"]["key_frames"] == "0 15"
    assert measured["num_frames"] == {"num_packets": NUM_FRAMES}
    assert measured["duration"]["stream_seconds"] == pytest.approx(NUM_FRAMES / 30, abs=0.001)
    assert "x264 - core" in str(measured["codec"]["texts"])
    assert measured["dimensions"] == {"width": WIDTH, "height": HEIGHT}
    names = [box.path for box in read_boxes(path)]
    assert names[:3] == ["ftyp", "moov", "moov/mvhd"]
    assert names[-1] == "mdat"
    assert sum(box.size for box in read_boxes(path) if "/" not in box.path) == path.stat().st_size


def test_block_grid_is_seen_at_its_own_step() -> None:
    rng = np.random.default_rng(3)
    blocks = np.kron(rng.integers(60, 190, (8, 8)), np.ones((8, 8)))  # 8x8 blocks of one value each
    grid = measure_frame(np.repeat(blocks[..., None], 3, -1).astype(np.uint8))["jpeg_grid"]["columns_8"]
    noise = measure_frame(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))["jpeg_grid"]["columns_8"]
    assert float(grid) > 1.5
    assert abs(float(noise)) < 0.1


def test_noise_and_colour_are_measured_in_their_units() -> None:
    rng = np.random.default_rng(4)
    grey = np.clip(rng.normal(128, 6, (200, 200, 1)), 0, 255).astype(np.uint8)
    measured = measure_frame(np.repeat(grey, 3, -1))
    assert measured["noise"]["sigma"] == pytest.approx(6, rel=0.1)
    assert measured["mean_colour"]["g_mean"] == pytest.approx(128, abs=1)


def test_trembling_boxes_are_measured() -> None:
    steady = [[float(at), 0.0, at + 50.0, 50.0] for at in range(20)]
    trembling = [[x + 2.0 * (at % 2), *rest] for at, (x, *rest) in enumerate(steady)]
    row = {"boxes": steady, "is_detected": [True] * 20}
    assert measure_track(row)["centre_jitter"] == pytest.approx(0)
    assert float(measure_track(row | {"boxes": trembling})["centre_jitter"]) > 0.01
    assert measure_track({"boxes": None}) == {"has_boxes": 0.0}
