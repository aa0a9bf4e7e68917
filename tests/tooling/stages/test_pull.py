"""A release that was pushed comes back as a workspace that verifies and builds the same bytes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from homologous_deepfake import MEDIA_COLUMNS, SUBSETS, complete_row, read_rows
from tests.hub.served import DATASET, OWNER, REPO, Served, patch_endpoint
from tests.tooling import children
from tests.tooling.marks.expiring import expiring_keys, outlive
from tests.workspaces import drop_masks, make_workspace, reproducible_state, write_card
from tooling.errors import InputError, WorkspaceError
from tooling.marks.manifest import mark_file
from tooling.marks.mark import mark_of
from tooling.remote import RemoteError
from tooling.settings import Settings
from tooling.stages import build as shards
from tooling.stages.pull import rows as pull_rows
from tooling.stages.pull import run as pull
from tooling.stages.verify import run as verify
from tooling.workspace.files import file_sha256, write_text
from tooling.workspace.identities import format_identities
from tooling.workspace.layout import Workspace, create_workspace, open_workspace
from tooling.workspace.path_kinds import unknown_paths
from tooling.workspace.signing_keys import read_keys

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """4 people with everything, one image in a fold of its own choice."""
    return make_workspace(tmp_path_factory.mktemp("original") / "workspace", num_men=2, num_women=2, num_images=3)


@pytest.fixture(scope="session")
def release(original: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("release") / "homologous_deepfake"
    write_card(out, shards.build_release(original, out))
    return out


@pytest.fixture
def hub(served: Served, release: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The served Hub with the release, and an environment that points to it."""
    patch_endpoint(monkeypatch, served.endpoint)
    monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
    monkeypatch.setenv("HF_TOKEN", OWNER)
    served.api().upload_folder(**DATASET, folder_path=release)
    return served


def all_rows(workspace: Workspace) -> dict[str, Any]:
    """Every row with all columns; the media as their digest."""
    root, found = str(workspace.root), {}
    for subset in SUBSETS:
        for split, rows in read_rows(root, subset).items():
            for row in rows:
                complete = complete_row(root, row)
                for column in MEDIA_COLUMNS:
                    if complete.get(column):
                        complete[column] = file_sha256(Path(complete[column]))
                found[f"{split} {row['sample_id']}"] = complete
    return found


def errors_of(workspace: Workspace) -> list[str]:
    return [str(finding) for finding in verify.verify_files(workspace, num_workers=1) if finding.severity == "error"]


def test_round_trip_gives_the_same_rows_and_the_same_release(
    hub: Served, original: Workspace, release: Path, tmp_path: Path
) -> None:
    root, seen = tmp_path / "pulled", []
    result = pull.pull_release(
        REPO,
        root,
        identities=original.identities_path,
        progress=lambda done, total, name: seen.append((done, total)),
    )
    pulled = open_workspace(root)
    assert not result.refused
    assert sorted(result.made) == sorted(row["sample_id"] for row in all_rows(original).values())
    assert seen[0] == (0, len(result.made))
    assert seen[-1] == (len(result.made), len(result.made))
    assert all_rows(pulled) == all_rows(original)
    assert errors_of(pulled) == []
    assert unknown_paths(pulled) == []
    out = tmp_path / "again" / "homologous_deepfake"
    shards.build_release(pulled, out)
    assert (out / "data/SHA256SUMS").read_bytes() == (release / "data/SHA256SUMS").read_bytes()
    assert pulled.plan() == original.plan()
    assert pulled.settings == original.settings
    assert not (root / ".pulling").exists()
    assert not any(line.startswith(("tracks/", "identities.csv")) for line in result.lacks)
    record = pulled.records("edit_video")["edit_video/age/1"]
    assert record.parameters == {"imported": True, "attribute": "age", "factor": 2.0}
    assert record.origin == "pulled"
    assert record.results["commit"] == result.commit == hub.api().dataset_info(REPO).sha


def test_consent_is_unknown_until_it_is_brought(hub: Served, original: Workspace, tmp_path: Path) -> None:
    result = pull.pull_release(REPO, tmp_path / "pulled")
    pulled = open_workspace(tmp_path / "pulled")
    people = pulled.identities()
    assert {row.consent_status for row in people.values()} == {"unknown"}
    assert {name: row.gender for name, row in people.items()} == {
        name: row.gender for name, row in original.identities().items()
    }
    assert (
        result.lacks[0]
        == "identities.csv: consent of 1, 2, 3, 4 is unknown; bring the consent records of the old machine"
    )
    assert any("consent of identity 1 is 'unknown'" in line for line in errors_of(pulled))
    assert all_rows(pulled) == all_rows(original)
    people["2"] = dataclasses.replace(people["2"], consent_status="withdrawn")
    write_text(pulled.identities_path, format_identities(people))
    later = pull.pull_release(REPO, pulled.root, identities=original.identities_path)
    status = {name: row.consent_status for name, row in pulled.identities().items()}
    assert status == {"1": "granted", "2": "withdrawn", "3": "granted", "4": "granted"}
    assert later.notes == [
        f"{original.identities_path}: the workspace's own rows of identity 2 stay; change them in its identities.csv"
    ]


def fetched(hub: Served, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes the shards that are fetched from now on."""
    names: list[str] = []
    real = pull._fetch_shard

    def noting(remote: Any, origin: Any, shard: Any, folder: Path) -> Path:
        names.append(shard.path)
        return real(remote, origin, shard, folder)

    monkeypatch.setattr(pull, "_fetch_shard", noting)
    return names


def test_rerun_fetches_only_what_is_missing(
    hub: Served, original: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull.pull_release(REPO, tmp_path / "pulled")
    pulled = open_workspace(tmp_path / "pulled")
    names = fetched(hub, monkeypatch)
    again = pull.pull_release(REPO, tmp_path / "pulled")
    assert again.made == []
    assert len(again.kept) == len(all_rows(original))
    assert all("/metadata/" in name for name in names)
    names.clear()
    pulled.path("GAN_images/000002.png").unlink()
    pulled.path("tracks/3.json").unlink()
    mask = next(pulled.path("masks/avatarify_video").iterdir())
    mask.unlink()
    third = pull.pull_release(REPO, tmp_path / "pulled")
    assert sorted(third.made) == ["GAN_images/000002", f"avatarify_video/{mask.stem}", "face_video/3"]
    assert {name.split("/")[1] for name in names} == {
        "GAN_images", "avatarify_video", "face_video", "raw_video", "metadata",
    }  # fmt: skip
    assert all_rows(pulled) == all_rows(original)


def test_releases_from_before_there_were_masks_are_pulled(
    hub: Served, original: Workspace, release: Path, tmp_path: Path
) -> None:
    hub.api().create_tag(**DATASET, tag="2.0.0")
    before = shutil.copytree(release, tmp_path / "before")
    drop_masks(before)
    hub.api().upload_folder(**DATASET, folder_path=before)
    assert not pull.pull_release(REPO, tmp_path / "pulled").refused
    pulled = open_workspace(tmp_path / "pulled")
    assert not pulled.path("masks").exists()
    masked = [row["sample_id"] for row in all_rows(original).values() if row["mask_sha256"]]
    assert sorted(pull.pull_release(REPO, pulled.root, revision="2.0.0").made) == sorted(masked)
    assert all_rows(pulled) == all_rows(original)


@pytest.mark.parametrize("after", ["raw_video", pytest.param("swap_video", marks=pytest.mark.slow)])
def test_killed_pull_goes_on_and_ends_alike(after: str, hub: Served, tmp_path: Path) -> None:
    pull.pull_release(REPO, tmp_path / "undisturbed")
    undisturbed, root = open_workspace(tmp_path / "undisturbed"), tmp_path / "killed"
    context = children.forking_context()
    child = context.Process(target=children.pull_in_child, args=(str(root), REPO, hub.endpoint, OWNER))
    child.start()
    while child.is_alive() and not (root / after / "metadata.jsonl").exists():
        time.sleep(0.005)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert unknown_paths(open_workspace(root)) == []
    pull.pull_release(REPO, root)
    assert reproducible_state(open_workspace(root)) == reproducible_state(undisturbed)


def damage(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_shard_that_is_damaged_on_the_way_is_refused(
    hub: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HfApi.hf_hub_download

    def damaging(self: HfApi, *arguments: Any, **named: Any) -> str:
        path = str(real(self, *arguments, **named))
        if "swap_video" in path:
            damage(Path(path), 5000)
        return path

    with monkeypatch.context() as patch:
        patch.setattr(HfApi, "hf_hub_download", damaging)
        with pytest.raises(InputError, match=r"data/swap_video/.*differs from data/SHA256SUMS"):
            pull.pull_release(REPO, tmp_path / "pulled")
    pulled = open_workspace(tmp_path / "pulled")
    assert pulled.records("raw_video")
    assert not pulled.records("swap_video")
    assert not pull.pull_release(REPO, tmp_path / "pulled").refused
    assert len(pulled.records("swap_video")) == 4


def push_changed(hub: Served, release: Path, tmp_path: Path, change: Any, subset: str = "swap_video") -> None:
    """Pushes a release of which one shard's rows were changed, with digests that fit."""
    shard = sorted((release / "data" / subset).glob("*.parquet"))[0]
    table = pq.read_table(shard)
    rows = table.to_pylist()
    change(rows[0])
    changed = tmp_path / "changed" / "data" / subset / shard.name
    changed.parent.mkdir(parents=True)
    pq.write_table(table.from_pylist(rows, schema=table.schema), changed)
    sums = (release / "data/SHA256SUMS").read_text().replace(file_sha256(shard), file_sha256(changed))
    (tmp_path / "changed/data/SHA256SUMS").write_text(sums)
    hub.api().upload_folder(**DATASET, folder_path=tmp_path / "changed")


def test_a_certificate_that_has_expired_refuses_no_file_and_a_change_does(
    hub: Served, original: Workspace, release: Path, tmp_path: Path
) -> None:
    row = pq.read_table(next((release / "data/swap_video").glob("*.parquet"))).to_pylist()[0]
    record = original.records("swap_video")[row["sample_id"]]
    keys, signed = expiring_keys(tmp_path / "keys"), tmp_path / "signed.mp4"
    mark_file(original.path(record.path), mark_of(original, record), keys, target=signed)
    content = signed.read_bytes()
    changed = content[:-200] + bytes((content[-200] ^ 1,)) + content[-199:]
    outlive(keys)
    workspace = create_workspace(tmp_path / "workspace", original.settings)
    found = pull_rows.read_source_type(signed, "shard", row, read_keys(workspace.keys_path))
    assert found == "compositeWithTrainedAlgorithmicMedia"
    signed.write_bytes(changed)
    with pytest.raises(InputError, match=f"shard: {record.path} was changed after it was marked"):
        pull_rows.read_source_type(signed, "shard", row, read_keys(workspace.keys_path))
    shutil.copytree(tmp_path / "keys", workspace.keys_path, dirs_exist_ok=True)
    assert not pull.pull_release(REPO, workspace.root).refused


@pytest.mark.parametrize(("column", "folder"), [("video", ""), ("mask", "masks/")])
def test_media_that_differ_from_their_digest_are_refused(
    column: str, folder: str, hub: Served, release: Path, tmp_path: Path
) -> None:
    push_changed(hub, release, tmp_path, lambda row: row[column].update(bytes=b"other"))
    with pytest.raises(InputError, match=rf": {folder}swap_video/\S+\.mp4 differs from its sha256"):
        pull.pull_release(REPO, tmp_path / "pulled")
    staged = open_workspace(tmp_path / "pulled").path(".staging/swap_video")
    assert [path for path in staged.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("path", ["../../escaped.mp4", "/tmp/escaped.mp4", "raw_video/../../1.mp4", "raw_video/1.sh"])
def test_path_that_leads_elsewhere_is_refused(path: str, hub: Served, release: Path, tmp_path: Path) -> None:
    def change(row: dict[str, Any]) -> None:
        row.update(path=path, sample_id=path.rpartition(".")[0])

    push_changed(hub, release, tmp_path, change, subset="metadata")
    with pytest.raises(InputError, match="not a path of the dataset"):
        pull.pull_release(REPO, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_release_that_disagrees_with_itself_is_refused(hub: Served, release: Path, tmp_path: Path) -> None:
    push_changed(hub, release, tmp_path, lambda row: row.update(factor=9.0))
    with pytest.raises(InputError, match="differs from the config metadata"):
        pull.pull_release(REPO, tmp_path / "pulled")
    hub.api().upload_file(**DATASET, path_or_fileobj=b"PAR1", path_in_repo="data/swap_video/stray-0.parquet")
    with pytest.raises(InputError, match=r"stray-0.parquet is not in data/SHA256SUMS"):
        pull.pull_release(REPO, tmp_path / "pulled")
    name = sorted((release / "data/raw_video").glob("*"))[0].name
    hub.api().delete_files(**DATASET, delete_patterns=[f"data/raw_video/{name}"])
    with pytest.raises(InputError, match=f"{name} is missing"):
        pull.pull_release(REPO, tmp_path / "pulled")


def test_what_is_no_release_is_refused(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch_endpoint(monkeypatch, served.endpoint)
    monkeypatch.setenv("HF_TOKEN", OWNER)
    with pytest.raises(InputError, match="it is not a release of this tooling"):
        pull.pull_release(REPO, tmp_path / "pulled")
    with pytest.raises(RemoteError, match="no such dataset"):
        pull.pull_release("lab/nothing", tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_tag_is_pulled_as_it_was(hub: Served, original: Workspace, release: Path, tmp_path: Path) -> None:
    hub.api().create_tag(**DATASET, tag="1.0.0")
    push_changed(hub, release, tmp_path, lambda row: row["video"].update(bytes=b"other"))
    pull.pull_release(REPO, tmp_path / "pulled", revision="1.0.0")
    assert all_rows(open_workspace(tmp_path / "pulled")) == all_rows(original)
    with pytest.raises(RemoteError, match="revision"):
        pull.pull_release(REPO, tmp_path / "other", revision="2.0.0")


def test_workspace_keeps_what_is_its_own(hub: Served, original: Workspace, tmp_path: Path) -> None:
    own = make_workspace(tmp_path / "own", num_men=2, num_women=2, num_images=3)
    people = own.identities()
    people["2"] = dataclasses.replace(people["2"], consent_status="withdrawn")
    write_text(own.identities_path, format_identities(people))
    write_text(own.tombstones_path, json.dumps({"identity": "4", "date": "2026-01-02"}) + "\n")
    own.forget("raw_video", ["raw_video/1"])
    own.forget("face_video", ["face_video/4"])
    result = pull.pull_release(REPO, own.root)
    assert result.made == ["raw_video/1"]
    assert "taken down on 2026-01-02" in result.refused["face_video/4"]
    assert own.identities()["2"].consent_status == "withdrawn"
    assert "4" not in own.identities()
    other = create_workspace(tmp_path / "other", Settings())
    with pytest.raises(WorkspaceError, match="pull into a new workspace"):
        pull.pull_release(REPO, other.root)


def test_file_of_other_content_is_refused_and_stays(hub: Served, tmp_path: Path) -> None:
    pull.pull_release(REPO, tmp_path / "pulled")
    pulled = open_workspace(tmp_path / "pulled")
    record = pulled.records("raw_video")["raw_video/1"]
    pulled.path(record.path).write_bytes(b"mine")
    path = pulled.records_path("raw_video")
    path.write_text(path.read_text().replace(record.sha256, file_sha256(pulled.path(record.path))))
    assert "the workspace has another raw_video/1.mp4" in pull.pull_release(REPO, pulled.root).refused["raw_video/1"]
    assert pulled.path(record.path).read_bytes() == b"mine"


def test_squares_come_back_exactly_at_real_size() -> None:
    """Crops of a moving, resized square in a 1280x720 clip, as the release stores them: float32 px of both."""
    random = np.random.default_rng(0)
    num_frames, size = 450, 350
    squares = np.round(np.stack([random.uniform(-50, 700, (num_frames, 2))[:, axis] for axis in (0, 1)], -1), 2)
    sides = np.round(random.uniform(150, 600, num_frames), 2)
    points = np.round(squares[:, None] + random.uniform(0.2, 0.8, (num_frames, 7, 2)) * sides[:, None, None], 2)
    points[:, 1] = points[:, 0] + sides[:, None] / 2
    points = np.round(points, 2)
    crops = (points - squares[:, None]) * (size / sides)[:, None, None]

    def row(values: np.ndarray, width: int, height: int) -> dict[str, Any]:
        columns = values.astype(np.float32).astype(np.float64)
        return {
            "path": "face_video/1.mp4",
            "boxes": columns[:, :2].reshape(-1, 4).tolist(),
            "landmarks": columns[:, 2:].tolist(),
            "is_detected": [True] * num_frames,
            "width": width,
            "height": height,
        }

    track, num_inexact = pull_rows.restore_track(row(points, 1280, 720), row(crops, size, size))
    assert num_inexact == 0
    found = np.array(json.loads(track.to_json())["crop"])
    assert np.array_equal(found, np.column_stack([squares, sides]))
    with pytest.raises(InputError, match="do not fit"):
        pull_rows.restore_track(row(points[:-1], 1280, 720), row(crops, size, size))
