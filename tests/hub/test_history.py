"""Revisions of the embedded Hub: branches, tags, pull requests, squash and takedown of large files."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, get_session
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

from tests.hub.served import DATASET, OTHER, OWNER, REPO, Served, check_store


def status(served: Served, path: str) -> int:
    headers = {"authorization": f"Bearer {OWNER}"}
    return int(get_session().get(f"{served.endpoint}{path}", headers=headers).status_code)


def stored_bytes(served: Served) -> bytes:
    """All large files and all git objects of the only repository, unpacked."""
    (folder,) = (served.hub.root / "repos").iterdir()
    large = b"".join(path.read_bytes() for path in folder.glob("lfs/*/*/*"))
    repository = served.hub.repository_by_key(folder.name)
    return large + b"".join(repository.objects.get_raw(oid)[1] for oid in repository.objects)


def test_squash_removes_what_only_old_revisions_held(served: Served) -> None:
    api = served.api()
    operations = [CommitOperationAdd("person.bin", b"large secret"), CommitOperationAdd("person.txt", b"small secret")]
    old = api.create_commit(operations=operations, commit_message="add", **DATASET).oid
    api.create_tag(tag="v1", **DATASET)
    api.upload_file(path_or_fileobj=b"kept large", path_in_repo="kept.bin", **DATASET)
    api.delete_files(delete_patterns=["person.*"], **DATASET)
    address = f"/datasets/{REPO}/resolve/{old}/person.bin"
    assert status(served, address) == 200

    api.super_squash_history(**DATASET)
    assert status(served, address) == 200  # the tag still reaches it
    assert b"large secret" in stored_bytes(served)

    api.delete_tag(tag="v1", **DATASET)
    for revision in (old, old[:10], "v1"):
        assert status(served, f"/datasets/{REPO}/resolve/{revision}/person.bin") == 404
        assert status(served, f"/api/datasets/{REPO}/revision/{revision}") == 404
        assert status(served, f"/api/datasets/{REPO}/tree/{revision}") == 404
    left = stored_bytes(served)
    assert b"secret" not in left
    assert b"kept large" in left
    assert len(api.list_repo_commits(**DATASET)) == 1
    check_store(served.hub)
    with pytest.raises(HfHubHTTPError):  # a pointer to what is gone cannot come back without the bytes
        _commit_pointer(served, b"large secret")


def _commit_pointer(served: Served, content: bytes) -> None:
    import hashlib

    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(content).hexdigest()}\n"
    served.api().upload_file(
        path_or_fileobj=f"{pointer}size {len(content)}\n".encode(), path_in_repo="pointer.txt", **DATASET
    )


def test_shared_large_file_stays_until_its_last_name_goes(served: Served) -> None:
    api = served.api()
    api.upload_file(path_or_fileobj=b"shared bytes", path_in_repo="a.bin", **DATASET)
    api.create_branch(branch="side/one", **DATASET)
    api.delete_file("a.bin", **DATASET)
    api.super_squash_history(**DATASET)
    assert status(served, f"/datasets/{REPO}/resolve/side%2Fone/a.bin") == 200
    api.delete_branch(branch="side/one", **DATASET)
    assert b"shared bytes" not in stored_bytes(served)


def test_large_files_are_rewritten_out_of_every_revision(served: Served) -> None:
    api = served.api()
    api.upload_file(path_or_fileobj=b"goes", path_in_repo="person.bin", **DATASET)
    old = api.upload_file(path_or_fileobj=b"stays", path_in_repo="other.bin", **DATASET).oid
    api.create_tag(tag="v1", tag_message="first", **DATASET)
    (doomed,) = [one for one in api.list_lfs_files(**DATASET) if one.filename == "person.bin"]
    api.permanently_delete_lfs_files(lfs_files=[doomed], **DATASET)
    assert sorted(api.list_repo_files(revision="v1", **DATASET)) == [".gitattributes", "other.bin"]
    assert len(api.list_repo_commits(**DATASET)) == 3
    assert status(served, f"/api/datasets/{REPO}/revision/{old}") == 404
    assert b"goes" not in stored_bytes(served)
    check_store(served.hub)


def test_branches_and_tags(served: Served) -> None:
    api = served.api()
    first = api.dataset_info(REPO).sha
    api.create_branch(branch="script", **DATASET)
    api.upload_file(path_or_fileobj=b"x = 1", path_in_repo="homologous_deepfake.py", revision="script", **DATASET)
    api.create_tag(tag="v1.0", revision="script", tag_message="a release", **DATASET)
    refs = api.list_repo_refs(**DATASET)
    assert [ref.name for ref in refs.branches] == ["main", "script"]
    assert refs.branches[0].target_commit == first
    assert refs.tags[0].target_commit == refs.branches[1].target_commit
    assert api.list_repo_files(**DATASET) == [".gitattributes"]
    for attempt, message in (
        (lambda: api.create_branch(branch="script", **DATASET), "Reference refs/heads/script already exists"),
        (lambda: api.create_branch(branch="script/sub", **DATASET), "beside"),
        (lambda: api.create_branch(branch="refs/pr/9", **DATASET), "Invalid reference"),
        (lambda: api.create_tag(tag="v1.0", **DATASET), "already exists"),
        (lambda: api.create_tag(tag="a b", **DATASET), "Invalid reference"),
        (lambda: api.create_tag(tag="../../x", **DATASET), "Invalid reference"),
        (lambda: api.create_tag(tag="refs/heads/main", **DATASET), "Invalid reference"),
        (lambda: api.create_branch(branch="0" * 40, **DATASET), "Invalid reference"),
        (lambda: api.delete_branch(branch="main", **DATASET), "Cannot delete"),
    ):
        with pytest.raises(HfHubHTTPError, match=message):
            attempt()  # type: ignore[no-untyped-call]
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(tag="script", **DATASET)
    with pytest.raises(RevisionNotFoundError):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", revision="v1.0", **DATASET)


def test_pull_request_of_a_stranger(served: Served, tmp_path: Path) -> None:
    api, stranger = served.api(), served.api(OTHER)
    operations = [CommitOperationAdd("big.bin", b"large"), CommitOperationAdd("small.txt", b"regular\n")]
    made = stranger.create_commit(operations=operations, commit_message="Proposal", create_pr=True, **DATASET)
    assert (made.pr_num, made.pr_revision) == (1, "refs/pr/1")
    stranger.upload_file(path_or_fileobj=b"more\n", path_in_repo="more.txt", revision="refs/pr/1", **DATASET)
    assert api.list_repo_files(**DATASET) == [".gitattributes"]
    details = api.get_discussion_details(discussion_num=1, **DATASET)
    assert (details.author, details.status, details.target_branch) == ("other", "open", "refs/heads/main")
    assert "+regular" in (details.diff or "")
    assert details.conflicting_files == []
    assert [event.type for event in details.events] == ["comment", "commit", "commit"]
    with pytest.raises(HfHubHTTPError):
        stranger.merge_pull_request(discussion_num=1, **DATASET)
    api.upload_file(path_or_fileobj=b"meanwhile", path_in_repo="other.txt", **DATASET)
    api.merge_pull_request(discussion_num=1, **DATASET)
    assert sorted(api.list_repo_files(**DATASET)) == [".gitattributes", "big.bin", "more.txt", "other.txt", "small.txt"]
    assert api.get_discussion_details(discussion_num=1, **DATASET).status == "merged"
    check_store(served.hub)


def test_pull_request_is_closed_by_its_author_and_opened_again(served: Served) -> None:
    api, stranger, numbered = served.api(), served.api(OTHER), {"discussion_num": 1, **DATASET}
    for proposer in (stranger, api):
        proposer.upload_file(path_or_fileobj=b"p", path_in_repo="p.txt", create_pr=True, **DATASET)
    stranger.change_discussion_status(new_status="closed", comment="a mistake", **numbered)
    with pytest.raises(HfHubHTTPError, match="is closed, not open"):
        api.merge_pull_request(**numbered)
    assert [one.num for one in api.get_repo_discussions(discussion_status="open", **DATASET)] == [2]
    assert [one.num for one in api.get_repo_discussions(discussion_status="closed", **DATASET)] == [1]
    with pytest.raises(HfHubHTTPError, match="rights to change"):
        stranger.change_discussion_status(discussion_num=2, new_status="closed", **DATASET)
    api.change_discussion_status(new_status="open", **numbered)
    events = [event.type for event in api.get_discussion_details(**numbered).events]
    assert events == ["comment", "commit", "comment", "status-change", "status-change"]
    with pytest.raises(HfHubHTTPError, match="does not serve that address"):
        api.comment_discussion(comment="thanks", **numbered)


def test_conflicting_pull_request_is_not_merged(served: Served) -> None:
    api = served.api()
    api.upload_file(path_or_fileobj=b"one", path_in_repo="a.txt", create_pr=True, **DATASET)
    main = api.upload_file(path_or_fileobj=b"two", path_in_repo="a.txt", **DATASET).oid
    assert api.get_discussion_details(discussion_num=1, **DATASET).conflicting_files == ["a.txt"]
    with pytest.raises(HfHubHTTPError, match=r"a\.txt") as caught:
        api.merge_pull_request(discussion_num=1, **DATASET)
    assert caught.value.response.status_code == 409
    assert api.dataset_info(REPO).sha == main
