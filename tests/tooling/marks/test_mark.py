"""Nothing unmarked gets into a workspace, whichever command makes it; what is marked can be made again alike."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from generation.media.reader import read_clip
from generation.media.tags import read_tags
from generation.media.writer import write_clip
from homologous_deepfake import METHODS, SUBSETS, read_rows
from tests.tooling.marks.expiring import expiring_keys, outlive
from tests.tooling.marks.time_stamps import serving_stamps
from tests.workspaces import HEIGHT, NUM_FRAMES, WIDTH, make_workspace, moving_pattern, publish_marked
from tooling.cli.app import app
from tooling.errors import WorkspaceError
from tooling.marks.manifest import LABEL_FIELD, NOTE_FIELD, mark_file, read_marks
from tooling.marks.mark import mark_of
from tooling.settings import KeySettings
from tooling.stages import build as shards
from tooling.stages.card import run as card
from tooling.stages.sign import sign_files
from tooling.work.tasks import Made, Task, finished_record, make_files, planned_record
from tooling.workspace.files import file_sha256, write_text
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord, format_record
from tooling.workspace.signing_keys import init_keys, read_keys

SOURCE_TYPES = {
    "real": "digitalCapture",
    "full_face_generation": "trainedAlgorithmicMedia",
    "expression_driven": "compositeWithTrainedAlgorithmicMedia",
    "attribute_editing": "compositeWithTrainedAlgorithmicMedia",
    "face_swap": "compositeWithTrainedAlgorithmicMedia",
}


def make_swap(workspace: Workspace, task: Task) -> Made:
    staged = workspace.staging_path(task.planned.path)
    write_clip(staged, moving_pattern(WIDTH, HEIGHT, 5))
    shape = {"width": WIDTH, "height": HEIGHT, "fps": 30.0, "num_frames": NUM_FRAMES}
    return Made(finished_record(task.planned, {task.planned.path: staged}, **shape), {task.planned.path: staged})  # type: ignore[arg-type]


def swap_task(seed: int = 1) -> Task:
    return Task(planned_record("swap_video/1_2", "swap_video/1_2.mp4", {}, "test", {}, seed))


def swap(workspace: Workspace) -> FileRecord:
    return workspace.records("swap_video")["swap_video/1_2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("marking") / "workspace", 2, 2, 1)


@pytest.fixture
def workspace(made: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(made.root, tmp_path / "workspace")
    return dataclasses.replace(made, root=tmp_path / "workspace")


def test_every_subset_says_how_it_came_to_be(made: Workspace) -> None:
    keys, costs = read_keys(made.keys_path), set()
    for subset, facts in SUBSETS.items():
        for record in made.records(subset).values():
            found = read_marks(made.path(record.path), keys)
            assert found.state == "trusted", record.path
            assert found.source_types == (SOURCE_TYPES[facts.method],)
            assert record.digital_source_type == SOURCE_TYPES[facts.method]
            assert len(found.labels) == (facts.method != "real")
            people = record.sample_id.rpartition("/")[2].split("_") if facts.media == "video" else []
            clips = tuple(f"raw_video/{person}.mp4" for person in people)
            assert found.ingredients == (() if facts.method == "real" else clips)
            if facts.media == "video":
                tags = [text for name, text in read_tags(made.path(record.path)) if name in (LABEL_FIELD, NOTE_FIELD)]
                costs.add((_box_bytes(made.path(record.path), b"uuid"), *map(len, tags)))
    assert len(costs) == 1  # whatever a file is


def _box_bytes(path: Path, name: bytes) -> int:
    """Size of a box of the outermost level."""
    content, at = path.read_bytes(), 0
    while content[at + 4 : at + 8] != name:
        at += int.from_bytes(content[at : at + 4], "big")
    return int.from_bytes(content[at : at + 4], "big")


def test_rows_say_it_too(made: Workspace) -> None:
    for subset in SUBSETS:
        for row in (row for rows in read_rows(str(made.root), subset).values() for row in rows):
            assert row["digital_source_type"] == SOURCE_TYPES[row["method"]]
    assert set(SOURCE_TYPES) == set(METHODS)


def test_a_researcher_checks_marks_with_what_the_release_holds(workspace: Workspace, tmp_path: Path) -> None:
    keys, own, fake = expiring_keys(tmp_path / "keys"), read_keys(workspace.keys_path), "swap_video/1_2"
    record = workspace.records("swap_video")[fake]
    mark_file(workspace.path(record.path), mark_of(workspace, record), keys)
    again = dataclasses.replace(record, sha256=file_sha256(workspace.path(record.path)))
    with workspace.records_path("swap_video").open("a") as file:
        file.write(format_record(again) + "\n")
    out = tmp_path / "homologous_deepfake"
    shards.build_release(workspace, out)
    card.make_card(workspace, out)
    assert (out / "root.pem").read_bytes() == own.root
    assert not any(b"PRIVATE" in path.read_bytes() for path in out.rglob("*") if path.is_file())
    text = (out / "README.md").read_text("utf-8")
    assert f"The certificate of the marks is valid until {own.expires:%Y-%m-%d}." in text
    outlive(keys)
    example = Path(__file__).parents[3] / "examples" / "check_marks.py"
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(example)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    state = "Invalid signingCredential.untrusted signingCredential.expired"
    assert done.stdout.splitlines() == [
        "raw_video/1.mp4 Trusted digitalCapture",
        f"{fake}.mp4 {state} compositeWithTrainedAlgorithmicMedia raw_video/1.mp4 raw_video/2.mp4",
    ]


def test_a_time_stamp_server_that_is_set_stamps_all_files_once(workspace: Workspace) -> None:
    workspace.forget("GAN_images", list(workspace.records("GAN_images")))
    with serving_stamps(datetime.now(UTC)) as stamps:
        settings = dataclasses.replace(workspace.settings, keys=KeySettings(stamps.url))
        stamping, root = dataclasses.replace(workspace, settings=settings), workspace.keys_path / "root.pem"
        root.write_bytes(root.read_bytes() + stamps.root)
        made = sign_files(stamping, num_workers=1).made
        assert len(made) == stamps.num_requests == sum(len(workspace.records(subset)) for subset in SUBSETS)
        assert sign_files(stamping, num_workers=1).made == []
    keys = read_keys(workspace.keys_path)
    assert read_marks(workspace.path("raw_video/1.mp4"), keys).has_time_stamp
    workspace.path("swap_video/1_2.mp4").unlink()
    result = make_files(stamping, "swap_video", [swap_task()], make_swap, num_workers=1)
    assert f"no time stamp from {stamps.url}" in result.refused["swap_video/1_2"]


def test_what_a_stage_makes_is_marked_before_it_is_there(workspace: Workspace) -> None:
    assert make_files(workspace, "swap_video", [swap_task()], make_swap, num_workers=1).made == ["swap_video/1_2"]
    path, record = workspace.path("swap_video/1_2.mp4"), swap(workspace)
    assert record.sha256 == file_sha256(path)
    assert record.num_bytes == path.stat().st_size
    found = read_marks(path, read_keys(workspace.keys_path))
    assert (found.state, found.ingredients) == ("trusted", ("raw_video/1.mp4", "raw_video/2.mp4"))
    alone = workspace.root.parent / "alone.mp4"
    write_clip(alone, moving_pattern(WIDTH, HEIGHT, 5))
    assert record.unmarked_sha256 == file_sha256(alone)
    assert np.array_equal(read_clip(path), read_clip(alone))


def test_made_again_it_differs_in_its_signature_alone(workspace: Workspace) -> None:
    make_files(workspace, "swap_video", [swap_task()], make_swap, num_workers=1)
    first = swap(workspace)
    workspace.path(first.path).unlink()
    make_files(workspace, "swap_video", [swap_task()], make_swap, num_workers=1)
    again = swap(workspace)
    assert again.sha256 != first.sha256
    assert dataclasses.replace(again, sha256=first.sha256) == first
    assert make_files(workspace, "swap_video", [swap_task()], make_swap, num_workers=1).kept == ["swap_video/1_2"]


def test_ingredients_are_named_by_the_very_files(workspace: Workspace) -> None:
    parent, component = mark_of(workspace, swap(workspace)).ingredients
    assert (parent.sha256, component.sha256) == tuple(file_sha256(workspace.path(f"raw_video/{n}.mp4")) for n in (1, 2))
    workspace.forget("raw_video", ["raw_video/2"])
    assert [part.title for part in mark_of(workspace, swap(workspace)).ingredients] == ["raw_video/1.mp4"]


def test_without_keys_nothing_is_made_and_one_line_names_the_command(workspace: Workspace) -> None:
    before = swap(workspace)
    shutil.rmtree(workspace.keys_path)
    with pytest.raises(WorkspaceError, match=r"keys: no signing certificate; run `tooling keys init`"):
        make_files(workspace, "swap_video", [swap_task(9)], make_swap, num_workers=1)
    assert swap(workspace) == before
    kept = [Task(dataclasses.replace(before, sha256="", num_bytes=0))]
    assert make_files(workspace, "swap_video", kept, make_swap, num_workers=1).kept == ["swap_video/1_2"]
    init_keys(workspace.keys_path)
    assert make_files(workspace, "swap_video", [swap_task(9)], make_swap, num_workers=1).made == ["swap_video/1_2"]


def test_what_is_not_marked_cannot_be_published(workspace: Workspace) -> None:
    unmarked = make_swap(workspace, swap_task())
    before = workspace.path("swap_video/1_2.mp4").read_bytes()
    with pytest.raises(WorkspaceError, match=r"swap_video/1_2\.mp4: carries no mark and stays out of the workspace"):
        workspace.publish("swap_video", unmarked.record, unmarked.staged)
    assert workspace.path("swap_video/1_2.mp4").read_bytes() == before
    publish_marked(workspace, unmarked.record, unmarked.staged)
    assert workspace.path("swap_video/1_2.mp4").read_bytes() != before


def test_files_from_before_marks_are_made_again(workspace: Workspace) -> None:
    make_files(workspace, "swap_video", [swap_task()], make_swap, num_workers=1)
    old = [
        {key: value for key, value in json.loads(format_record(record)).items() if key not in NEW_FIELDS}
        for record in workspace.records("swap_video").values()
    ]
    write_text(workspace.records_path("swap_video"), "".join(json.dumps(entry) + "\n" for entry in old))
    assert swap(workspace).digital_source_type == ""
    assert make_files(workspace, "swap_video", [swap_task()], make_swap, num_workers=1).made == ["swap_video/1_2"]


NEW_FIELDS = ("unmarked_sha256", "digital_source_type")


def test_replaced_keys_sign_everything_anew_without_making_it_again(workspace: Workspace) -> None:
    before = {r.path: r for subset in SUBSETS for r in workspace.records(subset).values()}
    init_keys(workspace.keys_path, is_replacing=True)
    damaged, pulled = workspace.path("edit_video/age/3.mp4"), workspace.records("raw_video")["raw_video/4"]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    pulled = dataclasses.replace(pulled, origin="pulled")
    write_text(
        workspace.records_path("raw_video"),
        workspace.records_path("raw_video").read_text() + format_record(pulled) + "\n",
    )
    result = sign_files(workspace, num_workers=1)
    assert list(result.refused) == ["edit_video/age/3"]
    assert result.kept == ["raw_video/4"]
    assert len(result.made) == len(before) - 2
    keys = read_keys(workspace.keys_path)
    for subset in SUBSETS:
        for name in workspace.records(subset).keys() & set(result.made):
            record = workspace.records(subset)[name]
            found, old = read_marks(workspace.path(record.path), keys), before[record.path]
            assert (found.state, len(found.labels)) == ("trusted", int(SUBSETS[subset].method != "real"))
            assert record.sha256 == file_sha256(workspace.path(record.path)) != old.sha256
            assert dataclasses.replace(record, sha256=old.sha256) == old
    parent = mark_of(workspace, swap(workspace)).ingredients[0]
    assert parent.sha256 == workspace.records("raw_video")["raw_video/1"].sha256
    assert not sign_files(workspace, num_workers=1).made


def test_keys_commands_show_and_replace(workspace: Workspace) -> None:
    call = CliRunner().invoke
    place = ["-w", str(workspace.root)]
    shown = call(app, ["keys", "show", *place, "--json"])
    assert json.loads(shown.stdout)["is_test"] is True
    with pytest.raises(WorkspaceError, match="has keys already; --force replaces them"):
        call(app, ["keys", "init", *place], catch_exceptions=False)
    old = (workspace.keys_path / "certificate.pem").read_bytes()
    assert call(app, ["keys", "init", *place, "--force"]).exit_code == 0
    assert (workspace.keys_path / "certificate.pem").read_bytes() != old
    state = read_marks(workspace.path("raw_video/1.mp4"), read_keys(workspace.keys_path)).state
    assert state == "untrusted"
