"""Takedown: everything of the person goes, nothing else changes, nothing brings the person back, at any kill."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd, DatasetCard, HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile
from typer.testing import CliRunner

from tests.hub.served import OWNER, READER, add_people, check_store
from tests.tooling import children
from tests.tooling.pushing import TARGET, Traffic, use_hub
from tests.workspaces import drop_masks, make_workspace
from tooling.cli.app import app
from tooling.errors import ConsentError, InputError, ToolingError, UsageError, WorkspaceError
from tooling.hub.root import Hub
from tooling.hub.server import serve
from tooling.release.folder import PAPERS, read_release
from tooling.release.shards import read_checksums, rewrite_checksums, rewrite_shard
from tooling.remote import RemoteError
from tooling.settings import ShardSettings
from tooling.stages import ingest, plan
from tooling.stages.build import build_release
from tooling.stages.card import run as card
from tooling.stages.generate import run as generate
from tooling.stages.verify import run as verify
from tooling.takedown import recipients as access
from tooling.takedown import run as takedown
from tooling.takedown.receipt import Receipt, read_receipt
from tooling.takedown.run import TakedownRequest, plan_takedown
from tooling.workspace.files import file_sha256, write_text
from tooling.workspace.identities import format_identities
from tooling.workspace.layout import Workspace, open_workspace
from tooling.workspace.path_kinds import KINDS, kind_of, people_in, unknown_paths
from tooling.workspace.records import format_record
from tooling.workspace.signing_keys import init_keys

pytestmark = pytest.mark.thorough

PERSON, DATE = "7", "2026-11-24"
DATASET: dict[str, Any] = {"repo_id": TARGET, "repo_type": "dataset"}


@dataclasses.dataclass(frozen=True)
class Place:
    """A workspace with its release, and a Hub that has it."""

    workspace: Workspace
    out: Path
    hub: Hub
    endpoint: str
    traffic: Traffic

    @property
    def api(self) -> HfApi:
        return HfApi(endpoint=self.endpoint, token=OWNER)

    def count_served(self) -> int:
        """Rows that the Hub's main offers in all, by the shards' own count; the card states the same."""
        there = Path(snapshot_download(**DATASET, cache_dir=self.out.parent / "cache"))
        infos = DatasetCard.load(there / "README.md").data.dataset_info
        stated = {info["config_name"]: sum(split["num_examples"] for split in info["splits"]) for info in infos}
        counted: dict[str, int] = dict.fromkeys(stated, 0)
        for path in there.glob("data/*/*.parquet"):
            counted[path.parent.name] += pq.read_metadata(path).num_rows
        assert stated == counted
        return sum(counted.values())

    def take_down(self, *, purge: bool = False) -> Receipt:
        return takedown.take_down(self.workspace, TakedownRequest(PERSON, DATE, self.out, TARGET, purge))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workspace, release and a stopped Hub: main in two commits, tags, branches, a pull request."""
    root = tmp_path_factory.mktemp("template")
    workspace = make_workspace(root / "workspace")
    verify.verify_files(workspace, num_workers=1)
    build_release(with_shards(workspace, 3), root / "release")  # of one row, and of several
    card.make_card(workspace, root / "release")
    with pytest.MonkeyPatch.context() as patch, opened(root, patch) as place:
        api = place.api
        api.create_repo(**DATASET)
        api.create_branch(**DATASET, branch="script")
        api.upload_folder(folder_path=place.out, **DATASET)
        api.create_tag(**DATASET, tag="1.0.0")
        api.create_branch(**DATASET, branch="old")
        note = CommitOperationAdd("data/raw_video/extra.txt", b"a draft")
        api.create_commit(**DATASET, operations=[note], commit_message="A draft", create_pr=True)
        api.create_branch(**DATASET, branch="past")  # its tip is clean, its history is not
        api.delete_files(**DATASET, delete_patterns=["data/*", "pictures/*"], revision="past")
    return root


def opened(root: Path, patch: pytest.MonkeyPatch) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def serving() -> Iterator[Place]:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_CACHE", str(root / "cache"))
        hub, traffic = Hub(root / "hub"), []

        def wrap(app: Any) -> Any:
            traffic.append(Traffic(app))
            return traffic[0]

        try:
            if hub.database.row("SELECT 1 FROM namespaces") is None:
                add_people(hub)
            with serve(hub, wrap=wrap) as endpoint:
                use_hub(patch, endpoint)
                patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
                yield Place(open_workspace(root / "workspace"), root / "release", hub, endpoint, traffic[0])
        finally:
            hub.close()

    return serving()


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    with opened(tmp_path, monkeypatch) as running:
        yield running


def with_shards(workspace: Workspace, num_train_shards: int) -> Workspace:
    shards = ShardSettings(min_train_shards=num_train_shards)
    return dataclasses.replace(workspace, settings=dataclasses.replace(workspace.settings, shards=shards))


def files(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}


def holders(folder: Path) -> list[str]:
    """Files that hold a mark of the person, plain or inside a shard (media are stored as they are)."""
    marks = re.compile(rb"Homologous_deepfake:[a-z_/]+/(7|7_\d+|\d+_7)\.mp4")
    return [str(path) for path in sorted(folder.rglob("*")) if path.is_file() and marks.search(path.read_bytes())]


def test_plan_lists_everything_and_changes_nothing(place: Place) -> None:
    before = files(place.workspace.root), files(place.out), place.api.list_repo_refs(**DATASET)
    found = plan_takedown(place.workspace, PERSON, out=place.out, repo_id=TARGET)
    assert set(found.samples) == {
        *("raw_video/7", "face_video/7", "edit_video/age/7", "edit_video/hair/7"),
        *(name for name in all_samples(place.workspace) if PERSON in name.rpartition("/")[2].split("_")),
    }
    assert {"tracks/7.json", "raw_video/7.mp4"} <= set(found.files)
    assert {PERSON} == set.intersection(*(set(pair) for pairs in found.pairs.values() for pair in pairs)) & {PERSON}
    assert found.has_identity_row
    assert found.has_fold
    assert found.verification_paths
    assert found.shards
    assert found.hub is not None
    assert set(found.shards) <= set(found.hub.main_files)
    assert {"refs/tags/1.0.0", "refs/heads/old", "refs/pr/1"} == set(found.hub.refs)
    assert found.lines()
    assert not found.is_complete
    assert holders(place.workspace.root)
    assert holders(place.hub.root)
    assert before == (files(place.workspace.root), files(place.out), place.api.list_repo_refs(**DATASET))


def all_samples(workspace: Workspace) -> list[str]:
    return [
        name for path in sorted(workspace.root.glob("*/metadata.jsonl")) for name in workspace.records(path.parent.name)
    ]


def test_only_the_affected_shards_change_and_are_sent(place: Place) -> None:
    shard_before, sums = files(place.out / "data"), read_checksums(place.out)
    held = set(plan_takedown(place.workspace, PERSON, out=place.out).shards)
    kept_rows = {name: pq.read_table(place.out / name).num_rows for name in sums if name not in held}
    place.traffic.requests.clear()
    receipt = place.take_down()
    after = files(place.out / "data")
    changed = {f"data/{name}" for name in shard_before if after.get(name) != shard_before[name]}
    assert changed == held | {"data/SHA256SUMS"}
    assert read_checksums(place.out) == {f"data/{n}": d for n, d in after.items() if n != "SHA256SUMS"}
    assert {name: pq.read_table(place.out / name).num_rows for name in kept_rows} == kept_rows
    sent = [path.rpartition("/")[2] for method, path, _ in place.traffic.requests if method == "PUT"]
    wanted = [shard["after"] for shard in receipt.releases["release"]["shards"].values() if shard["after"]]
    assert set(wanted) <= set(sent)
    assert len(sent) <= len(wanted) + 1
    size = sum((place.out / name).stat().st_size for name in held if (place.out / name).exists())
    size += sum(path.stat().st_size for path in (place.out / "pictures").glob("*"))
    assert place.traffic.num_bytes_received < size + 200_000
    assert holders(place.workspace.root) == holders(place.out) == []
    siblings = place.api.dataset_info(TARGET, files_metadata=True).siblings or []
    remote = {f.rfilename: f.lfs.sha256 for f in siblings if f.lfs}
    assert {name: digest for name, digest in remote.items() if name.startswith("data/")} == read_checksums(place.out)
    for name in ("README.md", *PAPERS):  # counts of the release without the person
        there = hf_hub_download(TARGET, name, repo_type="dataset", cache_dir=place.out.parent / "cache")
        assert Path(there).read_bytes() == (place.out / name).read_bytes(), name
    assert len(place.api.list_repo_commits(**DATASET)) == 3


def test_workspace_and_release_stay_whole(place: Place) -> None:
    plan_before, samples_before = place.workspace.plan(), all_samples(place.workspace)
    receipt = place.take_down()
    plan_after = place.workspace.plan()
    assert plan_before is not None
    assert plan_after is not None
    assert plan_after.folds == {name: fold for name, fold in plan_before.folds.items() if name != PERSON}
    assert plan_after.pairs == {s: [p for p in pairs if PERSON not in p] for s, pairs in plan_before.pairs.items()}
    assert all_samples(place.workspace) == [name for name in samples_before if name not in receipt.samples]
    assert PERSON not in place.workspace.identities()
    assert place.workspace.tombstones() == {PERSON: DATE}
    masks = [path.stem.split("_") for path in place.workspace.path("masks").rglob("*.mp4")]
    assert masks
    assert not [people for people in masks if PERSON in people]
    assert not [f for f in verify.verify_files(place.workspace, num_workers=1) if f.severity == "error"]
    release = read_release(place.out)
    assert sum(split.num_examples for split in release.configs["metadata"].splits.values()) == len(
        all_samples(place.workspace)
    )
    text = (place.out / "README.md").read_text("utf-8")
    assert f"- {DATE}, taken out at a person's request: 1 of `raw_video`, 1 of `face_video`, " in text
    assert text.count(", taken out at a person's request: ") == 1
    assert f"num_examples: {release.configs['swap_video'].splits['train'].num_examples}" in text


def test_purge_leaves_nothing_at_the_hub(place: Place) -> None:
    old = next(commit.commit_id for commit in place.api.list_repo_commits(**DATASET))
    name = next(iter(plan_takedown(place.workspace, PERSON, out=place.out).shards))
    hf_hub_download(TARGET, name, repo_type="dataset", revision="1.0.0", endpoint=place.endpoint, token=OWNER)
    receipt = place.take_down()
    assert holders(place.hub.root / "repos")
    receipt = place.take_down(purge=True)
    assert holders(place.hub.root) == []
    gone = {*receipt.samples.values(), *(s["before"] for s in receipt.releases["release"]["shards"].values())}
    assert not gone & set(files(place.hub.root).values())
    for revision in (old, old[:12], "1.0.0", "old"):
        with pytest.raises(HfHubHTTPError):
            hf_hub_download(
                TARGET, name, repo_type="dataset", revision=revision, endpoint=place.endpoint, token=OWNER,
                force_download=True,
            )  # fmt: skip
    refs = place.api.list_repo_refs(**DATASET, include_pull_requests=True)
    assert [branch.name for branch in refs.branches] == ["main", "past", "script"]
    assert refs.tags == []
    assert place.api.get_discussion_details(TARGET, 1, repo_type="dataset").status == "closed"
    assert len(place.api.list_repo_commits(**DATASET)) == 1
    assert receipt.hubs[TARGET]["purge"]["is_done"]
    done = plan_takedown(place.workspace, PERSON, out=place.out, repo_id=TARGET)
    assert done.is_complete
    assert done.hub is not None
    assert not done.hub.needs_purge
    check_store(place.hub)


def test_what_generators_and_killed_runs_left_of_the_person_goes(place: Place) -> None:
    root, clips = place.workspace.root, ["raw_video/7.mp4", "masters/7.mp4", "masters/8.mp4"]
    for fold, inputs in (("fold0", clips[::2]), ("fold2", clips[1:]), ("fold1", clips[2:])):
        folder = root / "models/fitted" / fold
        (folder / "net").mkdir(parents=True)
        (folder / "inputs.json").write_text(json.dumps(dict.fromkeys(inputs, "0" * 64)))
        (folder / "net/weights.safetensors").write_bytes(b"weights")
    left = ["models/fitted/.fold0/half", "masks/swap_video/7_9.mp4", ".pulling/frames/7.json", ".importing/1"]
    left += ["masters/7.mp4", "audit_measured.jsonl", "sources.json"]
    kept = ["masks/swap_video/9_10.mp4", "masters/8.mp4", "models/fitted/fold1/net/weights.safetensors"]
    for name in (*left, *kept[:2]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"left by a kill")
    lines = [json.dumps({"sample_id": f"swap_video/{pair}", "reason": "x"}) for pair in ("7_9", "9_10", "17_18", "8_7")]
    place.workspace.rejects_path.write_text("\n".join(lines) + '\n{"sample_id": true}\n{"torn')
    found = plan_takedown(place.workspace, PERSON)
    fitted = {f"models/fitted/{fold}/net/weights.safetensors" for fold in ("fold0", "fold2")}
    assert {*fitted, "masks/swap_video/7_9.mp4", "masters/7.mp4"} <= found.files.keys()
    assert not found.files.keys() & set(kept)
    assert "rejects.jsonl: 4 rows" in found.lines()
    takedown.take_down(place.workspace, TakedownRequest(PERSON, DATE))
    assert place.workspace.rejects_path.read_text() == "".join(line + "\n" for line in lines[1:3])
    assert not [name for name in [*left, *found.files] if (root / name).exists()]
    assert all((root / name).is_file() for name in kept)


def example(pattern: str, target: str, source: str) -> str:
    """A path of a kind that names one or two people."""
    people = {"{identity}": target, "{target}": target, "{source}": source, "**/": "tracks/", "**": "deep/file"}
    others = {"{attribute}": "age", "{number}": f"{target:0>6}", "{name}": f"{target}.x", "{generator}": "fitted"}
    for part, text in (people | others | {"{fold}": target}).items():
        pattern = pattern.replace(part, text)
    return pattern


def test_every_kind_of_file_is_rid_of_the_person_and_of_nobody_else(workspace_copy: Workspace) -> None:
    workspace, root = workspace_copy, workspace_copy.root
    for kind in KINDS:
        if kind.owner == "rows" or "GAN_images/{" in kind.pattern:  # they are there
            continue
        for target, source in ((PERSON, "8"), ("9", "10")):
            path = root / example(kind.pattern, target, source)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = f"face of {target}" if kind.owner != "nobody" else "nobody"
            if not (kind.owner == "nobody" and path.exists()):
                path.write_text(text)
    for fold in (PERSON, "9"):
        (root / f"models/fitted/fold{fold}/inputs.json").write_text(json.dumps({f"masters/{fold}.mp4": "0" * 64}))
    (root / f"takedowns/{PERSON}.json").unlink()  # somebody else's is there
    (root / "tombstones.jsonl").write_text('{"identity": "99", "date": "2026-01-01"}\n')
    (root / "recipients.jsonl").unlink()
    (root / "raw_video/.7.mp4.part").write_text("face of 7")
    image = workspace.records("GAN_images")["GAN_images/000001"]
    made_from = dataclasses.replace(image, inputs={f"masters/{PERSON}.mp4": "0" * 64})
    with workspace.records_path("GAN_images").open("a") as file:
        file.write(format_record(made_from) + '\n{"sample_id": "face of 7')
    people = workspace.identities()
    people[PERSON] = dataclasses.replace(people[PERSON], consent_evidence="face of 7")
    write_text(workspace.identities_path, format_identities(people))
    lines = [json.dumps({"sample_id": f"swap_video/{pair}", "reason": f"face of {pair}"}) for pair in ("7_9", "9_10")]
    workspace.rejects_path.write_text("\n".join(lines) + "\n")
    paths = ["raw_video/7.mp4", "swap_video/9_10.mp4", "avatarify_video/9_7.mp4"]
    pq.write_table(
        pa.table({"path": paths, "findings": ["face of 7", "face of 9", "face of 7"]}), root / "verification.parquet"
    )
    assert {kind_of(name) for name in workspace.files()} >= set(KINDS) - {kind_of("recipients.jsonl")}
    before = files(root)
    takedown.take_down(workspace, TakedownRequest(PERSON, DATE))
    after = files(root)
    assert not [name for name in after if b"face of 7" in (root / name).read_bytes()]
    assert holders(root) == []
    assert [name for name in after if re.search(r"\b7\b", name.replace("_", " "))] == [
        *(name for name in before if kind_of(name) and kind_of(name).owner == "nobody" and "/7." in name),  # type: ignore[union-attr]
        f"takedowns/{PERSON}.json",
    ]
    gone = {"GAN_images/000001.png", "models/fitted/fold7/deep/file", "models/fitted/fold7/inputs.json"}
    tables = {kind.pattern for kind in KINDS if kind.owner == "rows"} | {"tombstones.jsonl"}
    for name in before.keys() - gone - tables:
        found = kind_of(name)
        is_kept = PERSON not in people_in(name) and (found is None or found.owner != "leftover")
        assert (after.get(name) == before[name]) == is_kept, name
    assert not gone & after.keys()
    assert workspace.identities().keys() == people.keys() - {PERSON}
    assert pq.read_table(root / "verification.parquet")["path"].to_pylist() == ["swap_video/9_10.mp4"]
    assert workspace.rejects_path.read_text() == lines[1] + "\n"
    assert set(workspace.tombstones()) == {"99", PERSON}
    samples = [name for name in all_samples(workspace_copy) if PERSON in name.rpartition("/")[2].split("_")]
    assert samples == []


def test_tables_and_paths_that_takedown_does_not_know_are_found(workspace_copy: Workspace) -> None:
    assert takedown.TABLES.keys() == {kind.pattern for kind in KINDS if kind.owner == "rows"}
    workspace, root = workspace_copy, workspace_copy.root
    assert unknown_paths(workspace) == []
    for folder in ("notes/of", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("notes/of/7.txt", "notes/a", "masks/x", "7.txt"):
        (root / name).write_text("?")
    assert unknown_paths(workspace) == ["7.txt", "masks/x", "notes/"]
    found = [f for f in verify.verify_files(workspace, num_workers=1) if "is not a file of a workspace" in f.message]
    assert [str(f).partition(": is not")[0] for f in found] == ["note: 7.txt", "note: notes/"]
    lines = plan_takedown(workspace, PERSON).lines()
    assert "notes/: not a file of a workspace, stays; check yourself whether it shows the person" in lines


def test_command_lists_first_and_says_what_is_left_to_do(place: Place) -> None:
    def call(*options: str) -> str:
        arguments = ["takedown", PERSON, "-w", str(place.workspace.root), "-o", str(place.out), *options]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        return done.output

    before = files(place.workspace.root)
    listed = call()
    assert "raw_video/7.mp4\n" in listed
    assert "note: no Hub was searched; name the release's repository with --repo" in listed
    assert "nothing was removed; run it with --yes" in listed
    assert files(place.workspace.root) == before
    done = call("--repo", TARGET, "--yes")
    assert f"identity {PERSON} is taken down; receipt: " in done
    assert f"old revisions of {TARGET} still serve the person; add --purge-history" in done
    assert "nothing is left to do" in call("--repo", TARGET)
    assert "still serve" not in call("--repo", TARGET, "--yes", "--purge-history")
    assert "nothing is left to do" in call("--repo", TARGET, "--yes", "--purge-history")
    assert holders(place.hub.root) == []


def test_nothing_brings_the_person_back(place: Place, tmp_path: Path) -> None:
    people = place.workspace.identities()
    takedown.take_down(place.workspace, TakedownRequest(PERSON, DATE))
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "7.mp4").write_bytes(b"film")
    write_text(sources / "identities.csv", format_identities(people))
    result = ingest.ingest_clips(place.workspace, sources, num_workers=1)
    assert "identity 7 was taken down on 2026-11-24" in result.refused["7.mp4"]
    assert PERSON not in place.workspace.identities()
    write_text(place.workspace.identities_path, format_identities(people))
    with pytest.raises(ConsentError, match="identity 7 was taken down"):
        plan.draw_plan(place.workspace)
    planned = json.loads(place.workspace.plan_path.read_text())
    planned["pairs"]["swap_video"] = [[PERSON, "8"]]
    place.workspace.plan_path.write_text(json.dumps(planned))
    with pytest.raises(ConsentError, match="identity 7 was taken down"):
        generate.generate_fakes(place.workspace, "swap_video", num_workers=1)


def test_refusals_are_one_line_and_change_nothing(place: Place) -> None:
    before = files(place.workspace.root)
    for identity, error in (("99", InputError), ("x", UsageError)):
        with pytest.raises(error) as caught:
            takedown.take_down(place.workspace, TakedownRequest(identity, DATE))
        assert identity in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="not a day"):
        takedown.take_down(place.workspace, TakedownRequest(PERSON, "yesterday"))
    with pytest.raises(UsageError, match="--out"):
        takedown.take_down(place.workspace, TakedownRequest(PERSON, DATE, None, TARGET))
    name = next(iter(plan_takedown(place.workspace, PERSON, out=place.out).shards))
    content = (place.out / name).read_bytes()
    (place.out / name).write_bytes(content.replace(b"Homologous_deepfake:", b"Homologous_DEEPFAKE:"))
    with pytest.raises(InputError, match="differs from SHA256SUMS"):
        place.take_down()
    (place.out / name).write_bytes(content)
    place.api.delete_files(**DATASET, delete_patterns=[name])
    with pytest.raises(InputError, match=r"it is missing from main of .*; run `tooling push REPO_ID` first"):
        place.take_down()
    assert files(place.workspace.root) == before


def spoil_answers(workspace: Workspace) -> None:
    (workspace.root / "answers.toml").write_text("[terms\nlicensor = us")


def spoil_clip(workspace: Workspace) -> None:
    """The contact sheet in the card reads it."""
    path = next(iter(workspace.records("swap_video").values())).path
    workspace.path(path).write_bytes(b"no video")


FAULTS: dict[str, tuple[Callable[[Workspace], object], str]] = {
    "no keys": (lambda workspace: shutil.rmtree(workspace.keys_path), "no signing certificate; run"),
    "typo in answers.toml": (spoil_answers, "answers.toml: not readable as TOML"),
    "damaged clip": (spoil_clip, "cannot be read as video"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_only_the_card_needs_keeps_nobody_at_the_hub(fault: str, place: Place) -> None:
    inject, message = FAULTS[fault]
    before = place.count_served()
    assert before > 0
    inject(place.workspace)
    receipt = place.take_down()
    assert holders(place.out) == holders(place.workspace.root) == []
    assert not receipt.is_complete
    assert len(receipt.notes) == 1
    assert message in receipt.notes[0]
    assert receipt.notes[0].startswith(f"{place.out / 'README.md'}: only its counts were corrected")
    assert read_receipt(place.workspace, PERSON) == receipt
    served = place.count_served()
    assert served == before - 2 * len(receipt.samples)  # in their subsets, and in the config of all
    text = (place.out / "README.md").read_text("utf-8")
    assert f"\n> {DATE}, taken out at a person's request: 1 of `raw_video`, " in text
    assert f"\n- {DATE}, taken out at a person's request: 1 of `raw_video`, " in text
    assert "](pictures/" not in text
    if fault != "typo in answers.toml":
        return
    place.workspace.path("answers.toml").unlink()
    again = place.take_down()
    assert again.is_complete
    assert again.notes == []
    assert place.count_served() == served
    text = (place.out / "README.md").read_text("utf-8")
    assert "\n> " not in text
    assert text.count(", taken out at a person's request: ") == 1
    assert "](pictures/" in text


def test_a_certificate_that_has_expired_does_not_touch_a_takedown(place: Place) -> None:
    old = datetime.now(UTC) - timedelta(days=900)
    init_keys(place.workspace.keys_path, is_replacing=True, begins=old)
    entry = '{"date": "2026-10-01"}\n'
    access.log_path(place.workspace).write_text(entry)
    receipt = place.take_down(purge=True)
    assert holders(place.hub.root) == []
    assert [note.partition(" (line")[0] for note in receipt.notes] == [
        f"{access.log_path(place.workspace)}: damaged line '{entry.strip()}'"
    ]


def test_what_cannot_be_removed_here_is_removed_at_the_hub(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, unlink = place.workspace.path("raw_video/7.mp4"), os.unlink

    def refuse(path: Any, *arguments: Any, **options: Any) -> None:
        if Path(path) == stuck:
            raise PermissionError(13, "Permission denied", "7.mp4")
        unlink(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(
            WorkspaceError, match=r"^7\.mp4: Permission denied; everything else of identity 7"
        ) as caught:
            place.take_down(purge=True)
    assert "\n" not in str(caught.value)
    assert holders(place.hub.root) == holders(place.out) == []
    assert holders(place.workspace.root) == [str(stuck)]
    assert not plan_takedown(place.workspace, PERSON, out=place.out, repo_id=TARGET).is_complete
    assert place.take_down().is_complete
    assert holders(place.workspace.root) == []


def test_a_token_that_may_only_read_is_refused_before_anything_is_removed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(place.workspace.root), files(place.out)
    monkeypatch.setenv("HF_TOKEN", READER)
    with pytest.raises(RemoteError, match="this token may not do that"):
        place.take_down()
    assert before == (files(place.workspace.root), files(place.out))


def test_recipients_are_in_the_receipt_and_stay_at_home(place: Place) -> None:
    entry = access.LogEntry("2026-10-01", TARGET, "reader-of-faces", "accepted", "", "1.0.0")
    access.log_path(place.workspace).write_text(json.dumps(vars(entry)) + "\n")
    receipt = place.take_down()
    assert receipt.recipients == {"reader-of-faces": TARGET}
    everywhere = [*place.out.rglob("*"), *(place.hub.root / "repos").rglob("*")]
    assert not [path for path in everywhere if path.is_file() and b"reader-of-faces" in path.read_bytes()]


def test_emptied_shards_and_splits_still_load(place: Place, datasets_cache: Path) -> None:
    import datasets

    for identity in ("7", "8"):
        takedown.take_down(place.workspace, TakedownRequest(identity, DATE, place.out))
    release = read_release(place.out)
    for name, config in release.configs.items():
        loaded = datasets.load_dataset(str(place.out), name)
        assert {split: found.num_rows for split, found in loaded.items()} == {
            split: found.num_examples for split, found in config.splits.items()
        }
        assert all(found.num_examples for found in config.splits.values())


def test_damaged_shard_is_named_before_anything_is_removed(place: Place, tmp_path: Path) -> None:
    name = next(name for name in plan_takedown(place.workspace, PERSON, out=place.out).shards if "/raw_video/" in name)
    pq.write_table(pq.read_table(place.out / name).drop_columns("num_frames"), place.out / name)
    rewrite_checksums(place.out, {name: file_sha256(place.out / name)})
    before = files(place.out), files(place.workspace.root)
    with pytest.raises(InputError, match=r"train-.*: has no column num_frames; run `tooling build` again"):
        takedown.take_down(place.workspace, TakedownRequest(PERSON, DATE, place.out))
    assert (files(place.out), files(place.workspace.root)) == before
    with pytest.raises(InputError, match=r"train-.*: damaged \(.*num_frames.*; run `tooling build` again"):
        rewrite_shard(place.out / name, tmp_path / "new", (), place.workspace.settings.shards)
    assert not (tmp_path / "new").exists()


def test_rewriting_without_removing_gives_the_same_bytes(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "before"
    shutil.copytree(place.out, out)
    drop_masks(out)  # a shard from before there were masks stays one
    for release in (place.out, out):
        for name, digest in read_checksums(release).items():
            rewrite_shard(release / name, tmp_path / "new", (), place.workspace.settings.shards)
            assert file_sha256(tmp_path / "new") == digest, name


def test_a_mask_goes_with_its_row(place: Place, tmp_path: Path) -> None:
    build_release(with_shards(place.workspace, 1), tmp_path / "one")
    path = next(tmp_path.glob("one/data/swap_video/test-*"))
    before = pq.read_table(path).to_pylist()
    rewrite_shard(path, tmp_path / "new", [before[0]["sample_id"]], place.workspace.settings.shards)
    after = pq.read_table(tmp_path / "new").to_pylist()
    assert after == before[1:]
    content = after[0]["mask"]["bytes"]
    assert (path.read_bytes().count(content), (tmp_path / "new").read_bytes().count(content)) == (4, 3)


def blobs(api: HfApi, revision: str) -> dict[str, str]:
    tree = api.list_repo_tree(**DATASET, revision=revision, recursive=True)
    return {entry.path: entry.blob_id for entry in tree if isinstance(entry, RepoFile)}


def state(place: Place, receipt: Receipt) -> Any:
    """What has to be equal whatever was killed; ids of commits depend on the clock."""
    workspace = files(place.workspace.root)
    workspace.pop(f"takedowns/{PERSON}.json")
    text = re.sub(r'"[0-9a-f]{40}"', '"commit"', receipt.path.read_text("utf-8"))
    refs = place.api.list_repo_refs(**DATASET, include_pull_requests=True)
    heads = {ref.ref: ref.target_commit for ref in (*refs.branches, *refs.tags, *(refs.pull_requests or ()))}
    content = {name: blobs(place.api, head) for name, head in heads.items()}
    return workspace, files(place.out), text, content, [str(path) for path in place.out.parent.glob(".*")]


def check_kills(template: Path, folder: Path, patch: pytest.MonkeyPatch, seed: int, rounds: int) -> None:
    context = children.forking_context()
    wanted, num_steps, chance = None, 0, random.Random(seed)
    for number in range(rounds + 1):
        root = folder / str(number) / "x"
        shutil.copytree(template, root)
        with opened(root, patch) as place:
            counter = context.Value("i", 0)
            kill_at = chance.randint(1, num_steps) if number else -1
            request = TakedownRequest(PERSON, DATE, place.out, TARGET, True)
            process = context.Process(
                target=children.take_down_in_child,
                args=(str(place.workspace.root), request, place.endpoint, OWNER, kill_at, counter),
            )
            process.start()
            process.join()
            assert process.exitcode == (-signal.SIGKILL if number else 0)
            if number == 0:
                num_steps = counter.value
                receipt = read_receipt(place.workspace, PERSON)
                assert receipt is not None
                wanted = state(place, receipt)
            else:
                assert state(place, place.take_down(purge=True)) == wanted, f"killed at {kill_at} of {num_steps}"
            assert holders(root) == []
            assert num_steps > 20
            check_store(place.hub)


def test_killed_and_run_again_ends_alike(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_kills(template, tmp_path, monkeypatch, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_killed_at_many_moments(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    check_kills(template, tmp_path, monkeypatch, seed, 15)


def test_hub_in_trouble_is_gone_on_with(place: Place) -> None:
    from starlette.responses import Response

    place.traffic.fault = lambda method, path: Response("", 507) if "/commit/" in path else None
    with pytest.raises(ToolingError, match="no space left"):
        place.take_down()
    assert place.workspace.tombstones() == {PERSON: DATE}
    assert holders(place.out) == []
    place.traffic.fault = lambda method, path: None
    assert place.take_down(purge=True).is_complete
    assert holders(place.hub.root) == []
