"""tooling.stages.push with the unmodified client against the embedded Hub: what it changes, refuses and reads
back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete

import homologous_deepfake
from tests.hub.served import check_store
from tests.tooling.pushing import TARGET, Built, Watched, child_environment, local_files
from tests.workspaces import add_file
from tooling.errors import ConsentError, InputError, UsageError, VerificationError, WorkspaceError
from tooling.release.folder import read_release
from tooling.remote import RemoteError, RemoteFile, connect
from tooling.stages.push import checks as push_checks
from tooling.stages.push import read_back
from tooling.stages.push.comparison import format_plan
from tooling.stages.push.prepare import PushOptions
from tooling.stages.push.run import publish, push_release
from tooling.stages.verify import run as verify
from tooling.workspace.files import write_text
from tooling.workspace.identities import format_identities
from tooling.workspace.records import format_record
from tooling.workspace.verification_file import KINDS, Finding, read_verification, write_verification

pytestmark = pytest.mark.thorough

DATASET: dict[str, Any] = {"repo_id": TARGET, "repo_type": "dataset"}
STREAM_FIRST_ROW = read_back.check_first_row  # before the fixture hub takes it away
SHARD = "data/swap_video/train-00000-of-00001.parquet"

# Loads, reads one row of one split, waits for a line on stdin, reads all that is left; then loads again.
READ = """
import json, sys
from datasets import load_dataset, Video
def load():
    return load_dataset("lab/homologous_deepfake", "GAN_images", streaming=True)
def say(rows):
    print(json.dumps({split: [row["sample_id"] for row in found] for split, found in rows.items()}), flush=True)
running = {split: iter(rows.select_columns(["sample_id"])) for split, rows in load().items()}
say({"train": [next(running["train"])]})
sys.stdin.readline()
say(running)
say({split: rows.select_columns(["sample_id"]) for split, rows in load().items()})
"""


def set_consent(built: Built, identity: str, status: str) -> None:
    people = built.workspace.identities()
    people[identity] = replace(people[identity], consent_status=status)  # type: ignore[arg-type]
    write_text(built.workspace.identities_path, format_identities(people))


def forget_marks(built: Built) -> None:
    for subset in homologous_deepfake.SUBSETS:
        records = built.workspace.records(subset).values()
        unmarked = [replace(record, digital_source_type="") for record in records]
        write_text(built.workspace.records_path(subset), "".join(format_record(record) + "\n" for record in unmarked))


def test_first_push_makes_one_commit_a_tag_and_the_script_branch(built: Built, hub: Watched) -> None:
    seen: list[tuple[int, int, str]] = []
    result = push_release(built.workspace, built.out, TARGET, PushOptions(), progress=lambda *state: seen.append(state))
    api, sent = hub.api(), local_files(built.out)
    assert hub.files() == {*sent, ".gitattributes"}
    assert set(result.plan.added) == set(sent)
    assert result.plan.num_bytes_to_send == result.plan.num_bytes == sum(sent.values())
    assert seen[-1][0] == seen[-1][1] == sum(sent.values())
    assert hub.num_commits() == 2  # the Hub's own first one, and the release
    assert hub.tags() == {"1.0.0": result.commit}
    assert result.is_committed
    info = api.dataset_info(TARGET)
    assert info.private is True
    assert hub.files("script") == {".gitattributes", "homologous_deepfake.py"}
    script = api.hf_hub_download(**DATASET, filename="homologous_deepfake.py", revision="script")
    assert Path(script).read_bytes() == Path(homologous_deepfake.__file__).read_bytes()
    assert not any("mark" in note for note in built.prepare().notes)
    check_store(hub.hub)


def samples_of(out: Path, config: str) -> dict[str, list[str]]:
    """Split -> sample ids in reading order."""
    splits = read_release(out).configs[config].splits.items()
    tables = {split: [pq.read_table(out / shard.path) for shard in found.shards] for split, found in splits}
    return {
        split: [name for table in found for name in table["sample_id"].to_pylist()] for split, found in tables.items()
    }


@pytest.mark.slow
def test_who_streams_with_datasets_meanwhile_gets_the_old_release_to_its_end(
    built: Built, hub: Watched, tmp_path: Path
) -> None:
    for number in range(3, 13):  # more than one row in each split
        add_file(built.workspace, f"GAN_images/{number:06d}.png", "weightfree-face", {"prompt": "x"}, seed=number)
    built.rebuild()
    built.push()
    old = samples_of(built.out, "GAN_images")
    environment = child_environment(hub.endpoint, tmp_path / "home") | {"HF_HUB_DISABLE_XET": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", READ], env=environment, cwd=tmp_path, text=True, stdin=PIPE, stdout=PIPE, stderr=PIPE
    ) as reader:
        assert reader.stdout is not None
        first = json.loads(reader.stdout.readline())
        built.workspace.forget("GAN_images", [rows[-1] for rows in old.values()])
        add_file(built.workspace, "GAN_images/000099.png", "weightfree-face", {"prompt": "x"}, seed=99)
        built.renewed("1.1.0").push()
        output, errors = reader.communicate("go on\n", timeout=300)
    assert reader.returncode == 0, errors[-2000:]
    rest, again = map(json.loads, output.splitlines())
    assert {split: first.get(split, []) + rest[split] for split in old} == old
    assert again == samples_of(built.out, "GAN_images") != old


def test_unchanged_release_sends_nothing(built: Built, hub: Watched) -> None:
    first = built.push()
    hub.traffic.requests.clear()
    again = built.push()
    assert again.plan.is_empty
    assert again.plan.num_bytes_to_send == 0
    assert (again.commit, again.is_committed) == (first.commit, False)
    assert hub.traffic.num_bytes_received == 0
    assert {method for method, _, _ in hub.traffic.requests} <= {"GET", "HEAD"}
    assert (hub.num_commits(), hub.num_commits("script")) == (2, 2)


def test_only_changed_shards_are_sent(built: Built, hub: Watched) -> None:
    built.push()
    parameters = {"attribute": "age", "factor": 3.0}
    add_file(built.workspace, "edit_video/age/1.mp4", "weightfree-age", parameters)
    newer = built.renewed("1.1.0")
    hub.traffic.requests.clear()
    result = newer.push()
    shards = {path for path in result.plan.changed if path.endswith(".parquet")}
    assert {path.split("/")[1] for path in shards} == {"edit_video", "metadata"}
    assert not result.plan.added
    assert not result.plan.removed
    sent = sum(local_files(built.out)[path] for path in result.plan.changed)
    assert result.plan.num_bytes_to_send == sent
    assert hub.traffic.num_bytes_received < sent * 1.5 + 20_000  # JSON, and base64 of the regular files
    assert set(hub.tags()) == {"1.0.0", "1.1.0"}
    line = format_plan(result.plan).splitlines()[-1]
    assert line.startswith(f"0 added, {len(result.plan.changed)} changed")


def test_removed_config_goes_and_foreign_files_stay(built: Built, hub: Watched) -> None:
    built.push()
    foreign = [CommitOperationAdd(name, b"mine") for name in ("NOTES.md", "docs/a.txt", "homologous_deepfake.py")]
    hub.api().create_commit(**DATASET, operations=foreign, commit_message="notes")
    built.workspace.forget("GAN_images", list(built.workspace.records("GAN_images")))
    result = built.renewed("1.1.0").push()
    names = {path for path in result.plan.removed if "GAN_images" in path}
    assert len(names) == 2
    assert "homologous_deepfake.py" in result.plan.removed  # datasets refuses a repository with a script
    assert hub.files() == {*local_files(built.out), ".gitattributes", "NOTES.md", "docs/a.txt"}


def test_preparing_writes_nothing(built: Built, hub: Watched) -> None:
    plan = built.prepare().plan
    assert set(plan.added) == set(local_files(built.out))
    assert {method for method, _, _ in hub.traffic.requests} <= {"GET", "HEAD"}
    built.push()
    newer = built.renewed("1.1.0")
    hub.traffic.requests.clear()
    changed = newer.prepare().plan.changed
    assert "README.md" in changed
    assert not any(name.startswith("data/") for name in changed)  # the card and the papers name the version
    assert {method for method, _, _ in hub.traffic.requests} <= {"GET", "HEAD"}


def test_pull_request_is_made_once_and_leaves_main(built: Built, hub: Watched) -> None:
    with pytest.raises(InputError, match="needs a repository"):
        built.push(create_pr=True)
    hub.api().create_repo(TARGET, repo_type="dataset", private=True)
    result = built.push(create_pr=True)
    assert result.pull_request.endswith("/discussions/1")
    assert hub.files() == {".gitattributes"}
    assert hub.files("refs/pr/1") == {*local_files(built.out), ".gitattributes"}
    assert hub.tags() == {}
    assert built.push(create_pr=True).pull_request == result.pull_request
    requests = list(hub.api().get_repo_discussions(TARGET, repo_type="dataset"))
    assert len(requests) == 1


def test_other_branch_is_made_and_not_tagged(built: Built, hub: Watched) -> None:
    hub.api().create_repo(TARGET, repo_type="dataset", private=True)
    result = built.push(revision="rehearsal")
    assert (result.tag, hub.tags()) == ("", {})
    assert hub.files() == {".gitattributes"}
    assert hub.files("rehearsal") == {*local_files(built.out), ".gitattributes"}
    assert built.push(revision="rehearsal").plan.is_empty


def test_public_gated_and_private_are_set(built: Built, hub: Watched) -> None:
    built.push(gated="manual", private=False)  # gated: unmarked fakes may go there
    info = hub.api().dataset_info(TARGET)
    assert (info.private, info.gated) == (False, "manual")
    built.push(private=True)
    assert hub.api().dataset_info(TARGET).private is True
    built.push("lab/open", private=False)
    assert hub.api().dataset_info("lab/open").private is False


def test_public_push_of_unmarked_fakes_is_refused(built: Built, hub: Watched) -> None:
    assert any("test certificate" in note for note in built.prepare(private=False).notes)
    forget_marks(built)
    with pytest.raises(WorkspaceError, match=r"\d+ fakes carry no mark"):
        built.push(private=False)
    assert hub.api().repo_exists(TARGET, repo_type="dataset") is False


def test_missing_consent_is_refused_by_name(built: Built, hub: Watched) -> None:
    set_consent(built, "3", "withdrawn")
    with pytest.raises(ConsentError, match=r"identity 3 .*\(3: withdrawn\)"):
        built.push(private=False)
    with pytest.raises(ConsentError, match="identity 3"):
        built.push(allow_unconsented=("3",))  # private, but not gated
    with pytest.raises(UsageError, match="4: consent is granted"):
        built.push(private=True, gated="manual", allow_unconsented=("3", "4"))
    built.rebuild()  # verification now finds it too
    prepared = built.prepare(private=True, gated="manual", allow_unconsented=("3",))
    assert "allowed by name: 3" in prepared.notes[0]
    publish(prepared)
    (newest, _) = hub.api().list_repo_commits(TARGET, repo_type="dataset")
    assert "allowed by name: 3" in newest.message


def replace_finding(built: Built, finding: Finding) -> None:
    """The last verification with this finding instead of the others of its file."""
    rows = read_verification(built.workspace)
    rows[finding.path] = replace(rows[finding.path], findings=(finding,))
    write_verification(built.workspace, rows.values())


def test_kind_of_a_finding_decides_and_not_its_words(built: Built, hub: Watched) -> None:
    """Only findings about consent are set aside for people who are allowed by name."""
    set_consent(built, "3", "withdrawn")
    built.rebuild()
    allowed: dict[str, Any] = {"private": True, "gated": "manual", "allow_unconsented": ("3",)}
    message = "its tag says: consent of identity 3 is granted"
    for kind in KINDS:
        replace_finding(built, Finding("error", kind, "raw_video/3.mp4", message))
        if kind == "consent":
            assert built.prepare(**allowed)
            continue
        with pytest.raises(VerificationError, match=rf"^raw_video/3\.mp4: {message}; correct that"):
            built.prepare(**allowed)
    replace_finding(built, Finding("error", "consent", "raw_video/1.mp4", "whatever it says"))
    with pytest.raises(VerificationError, match=r"raw_video/1\.mp4: whatever it says"):
        built.prepare(**allowed)  # of somebody who is not allowed by name


def test_error_of_a_companion_of_an_unconsented_person_is_refused(built: Built, hub: Watched) -> None:
    set_consent(built, "3", "withdrawn")
    built.rebuild()
    rows = read_verification(built.workspace)
    error = Finding("error", "record", "tracks/3.json", "is missing; run its stage again")
    rows["face_video/3.mp4"] = replace(rows["face_video/3.mp4"], findings=(error,))
    write_verification(built.workspace, rows.values())
    with pytest.raises(VerificationError, match=r"^tracks/3\.json: is missing"):
        built.prepare(private=True, gated="manual", allow_unconsented=("3",))


def test_verification_of_an_older_format_is_refused_in_one_line(built: Built, hub: Watched) -> None:
    table = pq.read_table(built.workspace.verification_path)
    old = table.set_column(table.column_names.index("findings"), "findings", pa.array([[""]] * len(table)))
    pq.write_table(old.replace_schema_metadata(None), built.workspace.verification_path)
    with pytest.raises(VerificationError, match=r"^[^\n]*: not verified any more, [^\n]*; run `tooling verify`$"):
        built.push()


def test_unverified_workspace_is_refused(built: Built, hub: Watched) -> None:
    built.workspace.verification_path.unlink()
    with pytest.raises(VerificationError, match="not verified"):
        built.push()
    first = next(iter(built.workspace.records("swap_video").values())).path
    with built.workspace.path(first).open("ab") as file:
        file.write(b"x")
    verify.verify_files(built.workspace, num_workers=1)
    for private in (None, False):
        with pytest.raises(VerificationError, match=f"{first}: differs from its record"):
            built.push(private=private)
    assert hub.traffic.num_bytes_received == 0


def test_release_of_other_files_is_refused(built: Built, hub: Watched) -> None:
    add_file(built.workspace, "GAN_images/000009.png", "weightfree-face", {"prompt": "new"}, seed=9)
    verify.verify_files(built.workspace, num_workers=1)
    with pytest.raises(InputError, match="GAN_images/000009"):
        built.push()


def test_shard_changed_after_the_build_is_refused(built: Built, hub: Watched) -> None:
    path = built.out / SHARD
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"train-00000-of-00001.parquet: differs from SHA256SUMS"):
        built.push()
    (built.out / "README.md").unlink()
    with pytest.raises(InputError, match="run `tooling card"):
        built.push()
    assert hub.traffic.num_bytes_received == 0


def test_shard_changed_while_it_is_sent_is_refused(built: Built, hub: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def then_changes(*arguments: Any, **named: Any) -> list[str]:
        notes = push_checks.check_release(*arguments, **named)
        path = built.out / SHARD
        path.write_bytes(path.read_bytes()[::-1])
        return notes

    monkeypatch.setattr("tooling.stages.push.prepare.check_release", then_changes)
    with pytest.raises(InputError, match="changed while it was being sent"):
        built.push()
    assert hub.files() == {".gitattributes"}


@pytest.mark.parametrize("version", ["1.0 rc", "", "v1..2", "1.0.lock", "-1", "refs/heads/x", "0123456789abcdef", "一"])
def test_version_that_cannot_be_a_tag_stops_before_anything_is_sent(built: Built, version: str) -> None:
    with pytest.raises(UsageError, match=r"\[card\] version '.*' cannot be a tag"):
        built.with_version(version).prepare()


def test_version_names_one_release(built: Built, hub: Watched) -> None:
    first = built.push()
    (built.out / "README.md").write_text((built.out / "README.md").read_text() + "\nmore\n")
    way_out = rf"raise \[card\] version .* and run `tooling card --since {TARGET}@main`"
    with pytest.raises(InputError, match=rf"version 1.0.0 is already another release there; {way_out}"):
        built.push()
    assert hub.tags() == {"1.0.0": first.commit}
    assert hub.num_commits() == 2


def test_repository_of_something_else_is_left_alone(built: Built, hub: Watched) -> None:
    hub.api().create_repo(TARGET, repo_type="dataset", private=True)
    hub.api().upload_file(path_or_fileobj=b"a,b\n1,2\n", path_in_repo="data/table.csv", **DATASET)
    with pytest.raises(InputError, match=r"data/table.csv.*name another repository"):
        built.push()
    assert "data/table.csv" in hub.files()


def test_script_branch_remembers_no_shards_of_a_squashed_history(built: Built, hub: Watched) -> None:
    built.push()
    hub.api().super_squash_history(**DATASET)
    hub.api().delete_branch(**DATASET, branch="script")
    built.push()
    assert hub.files("script") == {".gitattributes", "homologous_deepfake.py"}
    assert hub.num_commits("script") == 1


def test_other_rows_than_were_built_are_noticed(built: Built, hub: Watched) -> None:
    commit = built.push().commit
    assert commit is not None
    remote, release = connect(TARGET), read_release(built.out)
    first, others = next(iter(release.configs)), list(release.configs)[1:]
    shard = built.out / release.configs[first].splits["train"].shards[0].path
    shard.write_bytes((built.out / release.configs[others[0]].splits["train"].shards[0].path).read_bytes())
    with pytest.raises(RemoteError, match=f"the first row of {first}/train is not .* as built"):
        STREAM_FIRST_ROW(remote, commit, release, built.out)
    config = release.configs[first]
    config.splits["train"] = replace(config.splits["train"], num_examples=99)
    with pytest.raises(RemoteError, match=f"{first}/train has [0-9]+ rows, not 99"):
        read_back.check_row_counts(remote, commit, release)


def test_what_aborts_while_python_ends_is_no_fault_of_a_release(tmp_path: Path) -> None:
    """A thread of datasets that was still fetching ahead did so once, after a push of 7 GB."""
    rows = [{"sample_id": "raw_video/1", "sha256": "0"}]
    fake = (
        f"import atexit, os\natexit.register(os.abort)\nImage = Video = None\nload_dataset = lambda *_, **__: {rows}\n"
    )
    (tmp_path / "datasets.py").write_text(fake)
    command = [sys.executable, "-c", read_back.STREAM, TARGET, "main", "raw_video", "train", ""]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, check=False)
    assert (done.returncode, json.loads(done.stdout)) == (0, ["raw_video/1", "0", "0"])


def test_lost_file_is_noticed(built: Built, hub: Watched) -> None:
    built.push()
    remote = connect(TARGET)
    lost = hub.api().create_commit(**DATASET, operations=[CommitOperationDelete(SHARD)], commit_message="oops").oid
    release, files = push_checks.read_files(built.out, lambda *state: None)
    with pytest.raises(RemoteError, match=f"{SHARD} is missing or differs"):
        read_back.read_back(remote, lost, files, release, built.out)


def test_main_is_one_release_at_every_moment_of_a_push(built: Built, hub: Watched) -> None:
    """Lists main again and again, from before a push to behind it."""
    built.push()
    add_file(built.workspace, "GAN_images/000009.png", "weightfree-face", {"prompt": "new"}, seed=9)
    newer = built.renewed("1.1.0")
    remote, stop, seen = connect(TARGET), threading.Event(), list[dict[str, RemoteFile]]()

    def read() -> None:
        while not stop.is_set():
            seen.append(remote.files())

    seen.append(remote.files())
    reader = threading.Thread(target=read)
    reader.start()
    try:
        newer.push()
    finally:
        stop.set()
        reader.join()
    seen.append(remote.files())
    assert len(seen) > 4
    assert seen[0] != seen[-1]
    assert all(files in (seen[0], seen[-1]) for files in seen)
    changes = [number for number in range(1, len(seen)) if seen[number] != seen[number - 1]]
    assert len(changes) == 1  # and never back
