"""Who sees and changes what on the embedded Hub: private and gated repositories, tokens, signed addresses, logs."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, get_session
from huggingface_hub.errors import DisabledRepoError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from tests.hub.served import ADMIN, DATASET, OTHER, OWNER, READER, REPO, Served
from tooling.errors import InputError
from tooling.hub.rights import add_token, add_user
from tooling.hub.root import Hub
from tooling.workspace.locks import LockedError


def test_private_repository_is_hidden(served: Served) -> None:
    served.api().update_repo_settings(private=True, **DATASET)
    for member in (OWNER, READER, ADMIN):
        assert served.api(member).dataset_info(REPO).private
        assert [one.id for one in served.api(member).list_datasets(author="lab")] == [REPO]
    token: str | bool
    for token, status in ((OTHER, 404), (False, 401)):
        with pytest.raises(RepositoryNotFoundError) as caught:
            served.api(token).dataset_info(REPO)
        assert caught.value.response.status_code == status
        assert list(served.api(token).list_datasets(author="lab")) == []
        with pytest.raises(RepositoryNotFoundError):
            served.api(token).hf_hub_download(filename=".gitattributes", **DATASET)


def test_invalid_token_is_said_to_be_one(served: Served) -> None:
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as caught:
        served.api("hf_nobody").dataset_info(REPO)
    assert caught.value.response.status_code == 401
    assert not isinstance(caught.value, RepositoryNotFoundError)


def test_read_token_cannot_write(served: Served) -> None:
    api = served.api(READER)
    assert api.whoami()["auth"]["accessToken"]["role"] == "read"
    for attempt in (
        lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", **DATASET),
        lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x.bin", create_pr=True, **DATASET),
        lambda: api.create_repo("lab/new", repo_type="dataset"),
        lambda: api.delete_repo(**DATASET),
        lambda: api.create_tag(tag="v1", **DATASET),
    ):
        with pytest.raises(HfHubHTTPError, match="role read") as caught:
            attempt()
        assert caught.value.response.status_code == 403
        assert READER not in str(caught.value)
    with pytest.raises(HfHubHTTPError) as caught:
        served.api(OTHER).upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", **DATASET)
    assert caught.value.response.status_code == 403
    assert served.api().list_repo_files(**DATASET) == [".gitattributes"]


def test_scoped_token(served: Served) -> None:
    token = add_token(served.hub.database, "owner", "write", scope="datasets/lab/other-*")
    with pytest.raises(HfHubHTTPError):
        served.api(token).upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", **DATASET)
    served.api(token).create_repo("lab/other-one", repo_type="dataset")
    with pytest.raises(HfHubHTTPError):
        served.api(token).create_repo("lab/third", repo_type="dataset")


def test_gate_and_requests(served: Served) -> None:
    authors, other = served.api(), served.api(OTHER)
    authors.update_repo_settings(gated="manual", **DATASET)
    download = {"filename": ".gitattributes", **DATASET}
    assert other.dataset_info(REPO).gated == "manual"
    for api, status in ((other, 403), (served.api(False), 401)):
        with pytest.raises(GatedRepoError) as caught:
            api.hf_hub_download(**download)
        assert caught.value.response.status_code == status
    ask = f"{served.endpoint}/datasets/{REPO}/ask-access"
    headers = {"authorization": f"Bearer {OTHER}"}
    assert get_session().post(ask, headers=headers, json={"affiliation": "a lab"}).json() == {"status": "pending"}
    (pending,) = authors.list_pending_access_requests(**DATASET)
    assert (pending.username, pending.email, pending.fields) == ("other", "other@example.org", {"affiliation": "a lab"})
    with pytest.raises(GatedRepoError, match="awaiting a review"):
        other.auth_check(**DATASET)
    authors.reject_access_request(user="other", rejection_reason="no plan given", **DATASET)
    with pytest.raises(GatedRepoError, match="rejected"):
        other.auth_check(**DATASET)
    authors.accept_access_request(user="other", **DATASET)
    other.auth_check(**DATASET)
    other.hf_hub_download(**download)
    with pytest.raises(HfHubHTTPError):
        authors.accept_access_request(user="other", **DATASET)
    with pytest.raises(HfHubHTTPError):
        list(other.list_accepted_access_requests(**DATASET))
    authors.cancel_access_request(user="other", **DATASET)
    with pytest.raises(GatedRepoError):
        other.auth_check(**DATASET)


def test_gate_hides_the_diff_of_a_pull_request(served: Served) -> None:
    served.api().update_repo_settings(gated="manual", **DATASET)
    served.api().upload_file(path_or_fileobj=b"gated words\n", path_in_repo="a.txt", create_pr=True, **DATASET)
    assert "gated words" in str(served.api().get_discussion_details(discussion_num=1, **DATASET).diff)
    assert served.api(OTHER).get_discussion_details(discussion_num=1, **DATASET).diff is None


def test_disabled_repository(served: Served) -> None:
    served.hub.database.execute("UPDATE repos SET is_disabled = 1")
    with pytest.raises(DisabledRepoError):
        served.api().auth_check(**DATASET)
    with pytest.raises(HfHubHTTPError, match="disabled"):
        served.api().upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", **DATASET)


def test_automatic_gate_lets_in_who_asks(served: Served) -> None:
    served.api().update_repo_settings(gated="auto", **DATASET)
    ask = f"{served.endpoint}/datasets/{REPO}/ask-access"
    assert get_session().post(ask, headers={"authorization": f"Bearer {OTHER}"}).json() == {"status": "accepted"}
    served.api(OTHER).hf_hub_download(filename=".gitattributes", **DATASET)


def test_upload_addresses_are_signed(served: Served) -> None:
    batch = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 3}]}
    url = f"{served.endpoint}/datasets/{REPO}.git/info/lfs/objects/batch"
    answer = get_session().post(url, headers={"authorization": f"Bearer {OWNER}"}, json=batch).json()
    href = answer["objects"][0]["actions"]["upload"]["href"]
    assert get_session().put(href, content=b"abc").status_code == 400  # another digest
    for forged in (href.replace("0" * 64, "1" * 64), href.replace("size=3", "size=4"), href.partition("?")[0]):
        assert get_session().put(forged, content=b"abc").status_code == 403
    assert list((served.hub.root / "uploads").iterdir()) == []


def test_large_file_of_another_repository_is_not_reachable_by_its_digest(served: Served) -> None:
    served.api().update_repo_settings(private=True, **DATASET)
    served.api().upload_file(path_or_fileobj=b"secret bytes", path_in_repo="s.bin", **DATASET)
    oid = hashlib.sha256(b"secret bytes").hexdigest()
    served.api(OTHER).create_repo("other/mine", repo_type="dataset")
    header = '{"key": "header", "value": {"summary": "steal"}}'
    line = f'{{"key": "lfsFile", "value": {{"path": "s.bin", "algo": "sha256", "oid": "{oid}"}}}}'
    url = f"{served.endpoint}/api/datasets/other/mine/commit/main"
    answer = get_session().post(
        url, headers={"authorization": f"Bearer {OTHER}"}, content=f"{header}\n{line}\n".encode()
    )
    assert answer.status_code == 400
    assert "not uploaded" in answer.json()["error"]


def test_tokens_and_signatures_are_in_no_log_and_no_file(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        served.api().create_commit(
            operations=[CommitOperationAdd("a.bin", b"large"), CommitOperationAdd("b.txt", b"regular")],
            commit_message="both",
            **DATASET,
        )
        served.api().whoami()
        with pytest.raises(HfHubHTTPError):
            served.api("hf_wrong_token").whoami()
    server_lines = [record.getMessage() for record in caplog.records if record.name.startswith(("tooling", "uvicorn"))]
    assert any("PUT /uploads/" in line for line in server_lines)
    text = "\n".join(server_lines)
    assert not [word for word in (OWNER, "hf_wrong_token", "Bearer", "signature") if word in text]
    for file in served.hub.root.glob("hub.sqlite3*"):
        assert OWNER.encode() not in file.read_bytes()


def test_repository_names_and_namespaces(served: Served) -> None:
    api = served.api()
    assert api.create_repo(REPO, repo_type="dataset", exist_ok=True).repo_id == REPO
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_repo(REPO.upper(), repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="under the namespace"):
        served.api(OTHER).create_repo("lab/x", repo_type="dataset")
    moved = "owner/renamed"
    api.move_repo(REPO, moved, repo_type="dataset")
    assert api.dataset_info(REPO).id == moved  # the former name still leads there
    with pytest.raises(RepositoryNotFoundError):  # but nothing is deleted by it
        api.delete_repo(REPO, repo_type="dataset")
    api.create_repo(REPO, repo_type="dataset")
    assert api.dataset_info(REPO).id == REPO  # until another takes it
    api.delete_repo(moved, repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info(moved)
    assert len(list((served.hub.root / "repos").iterdir())) == 1


def test_users_and_tokens_are_checked(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        add_token(hub.database, "nobody", "write")
    add_user(hub.database, "someone")
    with pytest.raises(InputError, match="role"):
        add_token(hub.database, "someone", "admin")
    with pytest.raises(InputError, match="name"):
        add_user(hub.database, "a/b")
    token = add_token(hub.database, "someone", "read")
    stored = sqlite3.connect(tmp_path / "hub.sqlite3").execute("SELECT * FROM tokens").fetchall()
    assert token not in str(stored)
    with pytest.raises(LockedError, match="another process"):
        Hub(tmp_path)
    hub.close()
    Hub(tmp_path).close()
