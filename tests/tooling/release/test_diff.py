"""Differences between releases in folders and at a Hub, and the list of changes that they feed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.tooling.pushing import TARGET, Built, Watched, opened_build
from tests.workspaces import add_file, drop_masks, has_mask
from tooling.errors import InputError, UsageError
from tooling.release import changes
from tooling.release.diff import ChangedRow, compare, folder_rows, format_diff
from tooling.remote import RemoteError
from tooling.stages.card import run as card

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def changed_once(pristine: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workspace and release after a change of each kind, and in `before` the release until then. Only to be copied."""
    root = tmp_path_factory.mktemp("changed")
    shutil.copytree(pristine.out.parent, root, dirs_exist_ok=True)
    shutil.copytree(pristine.out, root / "before")
    newer = opened_build(root).with_version("1.1.0")
    add_file(newer.workspace, "GAN_images/000009.png", "weightfree-face", {"prompt": "new"}, seed=9)
    add_file(newer.workspace, "edit_video/age/1.mp4", "weightfree-age", {"attribute": "age", "factor": 3.0})
    newer.workspace.forget("GAN_images", ["GAN_images/000001"])
    newer.rebuild(str(root / "before"))
    return root


@pytest.fixture
def changed(changed_once: Path, tmp_path: Path) -> Built:
    """A copy that the test may change; the release before lies in tmp_path/before."""
    shutil.copytree(changed_once, tmp_path, dirs_exist_ok=True)
    return opened_build(tmp_path).with_version("1.1.0")


def test_every_kind_of_difference_is_told_by_subset(changed: Built, tmp_path: Path) -> None:
    found = compare(str(tmp_path / "before"), str(changed.out))
    assert list(found.subsets) == ["edit_video", "GAN_images"]
    images, edits = found.subsets["GAN_images"], found.subsets["edit_video"]
    assert (images.added, images.removed, images.changed) == (("GAN_images/000009",), ("GAN_images/000001",), ())
    assert edits.changed == (ChangedRow("edit_video/age/1", ("factor", "sha256")),)
    assert format_diff(found).splitlines() == [
        "edit_video: 1 changed",
        "  ~ edit_video/age/1 (factor, sha256)",
        "GAN_images: 1 added, 1 removed",
        "  + GAN_images/000009",
        "  - GAN_images/000001",
    ]
    assert format_diff(compare(str(changed.out), str(changed.out))) == "no row differs"
    back = compare(str(changed.out), str(tmp_path / "before")).subsets["GAN_images"]
    assert (back.added, back.removed) == (images.removed, images.added)


def test_masks_are_part_of_their_rows(built: Built, tmp_path: Path) -> None:
    before = shutil.copytree(built.out, tmp_path / "before")
    drop_masks(before)
    found = compare(str(before), str(built.out))
    masked = {name: has_mask(row["path"]) for name, row in folder_rows(built.out).items()}
    rows = [row for subset in found.subsets.values() for row in subset.changed]
    assert {row.sample_id for row in rows} == {name for name, has in masked.items() if has}
    assert {row.columns for row in rows} == {("mask_sha256",)}


def test_tags_revisions_and_folders_are_compared_alike(
    changed: Built, hub: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the upload here is the client's own
    before = Built(changed.workspace, tmp_path / "before")
    hub.api().create_repo(TARGET, repo_type="dataset", private=True)
    for release, tag in ((before, "1.0.0"), (changed, "1.1.0")):
        hub.api().upload_folder(repo_id=TARGET, repo_type="dataset", folder_path=release.out, delete_patterns="data/*")
        hub.api().create_tag(TARGET, tag=tag, repo_type="dataset")
    expected = compare(str(before.out), str(changed.out))
    hub.traffic.requests.clear()
    head = hub.tags()["1.1.0"]
    assert compare(f"{TARGET}@1.0.0", TARGET) == expected
    assert compare(f"{TARGET}@1.0.0", f"{TARGET}@{head}") == expected
    assert compare(str(before.out), f"{TARGET}@main") == expected
    fetched = {path for _, path, _ in hub.traffic.requests if "/resolve/" in path}
    assert fetched
    assert all("/data/metadata/" in path for path in fetched)  # no media
    with pytest.raises(RemoteError, match="no such revision"):
        compare(TARGET, f"{TARGET}@2.0.0")


def test_what_is_not_a_release_is_named(built: Built, hub: Watched, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="run `tooling build --out"):
        compare(str(built.out), str(tmp_path / "empty"))
    with pytest.raises(InputError, match="neither a folder nor REPO_ID@REVISION"):
        compare(str(built.out), "nowhere")
    hub.api().create_repo(TARGET, repo_type="dataset")
    with pytest.raises(InputError, match="no release with a config `metadata`"):
        compare(str(built.out), TARGET)


def test_card_lists_the_changes_of_every_version(changed: Built, tmp_path: Path) -> None:
    text = (changed.out / "README.md").read_text()
    section = text.partition("## Changes\n")[2].partition("\n## ")[0].strip()
    assert section == (
        "### 1.1.0\n\n- `edit_video`: 1 changed (`factor` of 1, `sha256` of 1)\n- `GAN_images`: 1 added, 1 removed\n\n"
        "### 1.0.0\n\nThe first release."
    )
    shutil.copytree(changed.out, tmp_path / "second")
    changed.with_version("1.2.0").rebuild(str(tmp_path / "second"))
    entries = changes.read_entries((changed.out / "README.md").read_text())
    assert list(entries) == ["1.2.0", "1.1.0", "1.0.0"]
    assert entries["1.2.0"] == "- No row differs from the version before."
    with pytest.raises(UsageError, match=r"has version 1.1.0 already; raise \[card\] version"):
        changed.rebuild(str(tmp_path / "second"))


def test_card_written_again_keeps_its_list(changed: Built) -> None:
    before = (changed.out / "README.md").read_bytes()
    changed.write_card()
    assert (changed.out / "README.md").read_bytes() == before
    for _ in range(2):
        card.make_card(changed.workspace, changed.out, notice="- 2026-11-24, taken out")
    text = (changed.out / "README.md").read_text()
    assert text.count("- 2026-11-24, taken out\n") == 1
    assert "1 added, 1 removed\n- 2026-11-24, taken out\n\n### 1.0.0\n" in text


def test_list_goes_on_from_the_release_at_the_hub_or_push_refuses(built: Built, hub: Watched) -> None:
    built.push()
    add_file(built.workspace, "GAN_images/000009.png", "weightfree-face", {"prompt": "new"}, seed=9)
    newer = built.with_version("1.1.0")
    newer.rebuild()
    with pytest.raises(InputError, match=f"does not go on from 1.0.0 .*run `tooling card --since {TARGET}@main`"):
        newer.push()
    with pytest.raises(InputError, match=r"ends with 1.1.0, \[card\] version is 1.2.0"):
        newer.with_version("1.2.0").push()
    newer.rebuild(f"{TARGET}@1.0.0")
    newer.push()
    card = hub.api().hf_hub_download(TARGET, "README.md", repo_type="dataset", revision="1.1.0")
    assert changes.read_entries(Path(card).read_text()) == {
        "1.1.0": "- `GAN_images`: 1 added",
        "1.0.0": "The first release.",
    }
