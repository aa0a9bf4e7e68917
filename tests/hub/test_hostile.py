"""Requests that no client of good will sends: each is refused with its reason, and the others are served as before."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import get_session

from tests.hub.served import DATASET, OTHER, OWNER, READER, REPO, Served, check_store
from tooling.errors import InputError
from tooling.hub.rights import add_token, add_user, authenticate
from tooling.hub.root import Hub, open_database
from tooling.hub.routes import API, ENDPOINTS
from tooling.hub.store.repository import NewCommit

pytestmark = pytest.mark.thorough

HEAD = {"key": "header", "value": {"summary": "x"}}
API_OF_REPO = f"/api/datasets/{REPO}"
DEEP = b"[" * 100_000 + b"]" * 100_000


def send(served: Served, path: str, body: Any, token: str = OWNER, method: str = "POST") -> httpx2.Response:
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    content = body if isinstance(body, bytes) else json.dumps(body)
    return get_session().request(method, f"{served.endpoint}{path}", headers=headers, content=content)


def commit(served: Served, *lines: Any) -> httpx2.Response:
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in (HEAD, *lines)]
    return send(served, f"{API_OF_REPO}/commit/main", b"\n".join(texts))


def file_line(path: str, content: str = "") -> dict[str, Any]:
    return {"key": "file", "value": {"path": path, "content": content}}


def is_refused(answer: httpx2.Response) -> bool:
    """Refused by this Hub, which says why in the body, in a header, and by a request id."""
    is_said = bool(answer.headers.get("x-error-message")) and "error" in answer.json()
    return 400 <= answer.status_code < 500 and is_said and "x-request-id" in answer.headers


# --- cards ---


@pytest.mark.parametrize(
    ("value", "shown"),
    [("2024-01-01", "2024-01-01"), ("2024-01-01 10:00:00", "2024-01-01T10:00:00"), ("{1: a}", {"1": "a"})],
)
def test_metadata_that_json_does_not_have_is_turned_into_it(served: Served, value: str, shown: object) -> None:
    card = f"---\nlicense: mit\nrelease_date: {value}\n---\n"
    served.api().upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", **DATASET)
    found = served.api().dataset_info(REPO).card_data
    assert found is not None
    assert found["release_date"] == shown
    assert [one.id for one in served.api().list_datasets(full=True)] == [REPO]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (".nan", "x: JSON does not have that number"),
        ("[1, {y: -.inf}]", r"x\[1\].y: JSON does not have that number"),
        ("0x" + "f" * 5000, "JSON does not have that number"),
        ("!!binary aGVsbG8=", "x: JSON does not have a value of the kind bytes"),
        ("!!set {a, b}", "x: JSON does not have a value of the kind set"),
        ("&a [*a]", "is there an alias"),
        ('"\\ud800"', "invalid Unicode"),
        ("2024-13-45", "month must be in 1..12"),
        ("{[a]: b}", "unhashable"),
        ("9" * 5000, "digits"),
    ],
)
def test_metadata_that_cannot_be_json_is_refused_with_the_reason(served: Served, value: str, reason: str) -> None:
    answer = commit(served, file_line("README.md", f"---\nx: {value}\n---\n"))
    assert is_refused(answer)
    assert re.search(f"README.md: YAML metadata.*{reason}", answer.json()["error"])
    assert served.api().dataset_info(REPO).sha == answer_of_head(served)


def answer_of_head(served: Served) -> str | None:
    return served.api().list_repo_refs(**DATASET).branches[0].target_commit


def test_aliases_that_multiply_are_refused(served: Served) -> None:
    lines = ["a0: &a0 [x]", *(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]" for at in range(1, 20))]
    answer = commit(served, file_line("README.md", "---\n" + "\n".join(lines) + "\n---\n"))
    assert "is there an alias" in answer.json()["error"]


def test_card_stored_by_an_earlier_version_disturbs_nobody(served: Served) -> None:
    repository = served.hub.repository(served.hub.visible(None)[0])
    head = repository.head("refs/heads/main")
    assert head is not None
    with repository.writing():
        blob = repository.add_blob(b"---\nx: .nan\n---\n")
        tree = repository.changed_tree(repository.commit(head).tree, {"README.md": blob})
        repository.set_ref("refs/heads/main", head, repository.add_commit(tree, [head], NewCommit("owner", "old")))
    assert not served.api().dataset_info(REPO).card_data
    assert [one.id for one in served.api().list_datasets(full=True)] == [REPO]


# --- large files ---


def test_sizes_of_large_files_are_limited_by_the_right_to_write(served: Served) -> None:
    def ask(token: str, *sizes: Any) -> httpx2.Response:
        objects = [{"oid": f"{at:064x}", "size": size} for at, size in enumerate(sizes)]
        body = {"operation": "upload", "objects": objects}
        return send(served, f"/datasets/{REPO}.git/info/lfs/objects/batch", body, token)

    assert ask(OWNER, 60 << 30).status_code == 200
    for token, sizes in (
        (OWNER, [10**13]),
        (OWNER, [10**18]),
        (OWNER, [60 << 30] * 5),
        (OWNER, [-1]),
        (OWNER, [True]),
        (OWNER, [1e300]),
        (OTHER, [2 << 30]),
        (OTHER, [300 << 20] * 4),
        (READER, [1]),
    ):
        answer = ask(token, *sizes)
        assert is_refused(answer)
        assert len(answer.content) < 2000
    assert ask(OTHER, 1 << 20).status_code == 200  # for a pull request
    served.api().update_repo_settings(private=True, **DATASET)
    assert ask(OTHER, 1 << 20).status_code == 404


# --- patterns ---


def test_patterns_that_backtrack_are_matched_at_once(served: Served) -> None:
    slow = "*a" * 30 + "b"
    ignored, large = f"{slow}\n*.tmp\n!kept.tmp\nbuild/\n", f"{slow} filter=lfs\n*.d filter=lfs\n"
    assert commit(served, file_line(".gitignore", ignored), file_line(".gitattributes", large)).status_code == 200
    names = ["a" * 900, "x.tmp", "kept.tmp", "build/deep/file", "x.d", "folder/y.d", "z.txt"]
    body = {"files": [{"path": name, "size": 1, "sample": "YQ=="} for name in names]}
    found = send(served, f"{API_OF_REPO}/preupload/main", body).json()["files"]
    assert [one["shouldIgnore"] for one in found] == [False, True, False, True, False, False, False]
    assert [one["uploadMode"] for one in found] == [*["regular"] * 4, "lfs", "lfs", "regular"]
    given = {**body, "gitIgnore": "*" * 3000 + "\n"}
    assert send(served, f"{API_OF_REPO}/preupload/main", given).status_code == 200
    many = {**body, "gitIgnore": "\n".join(f"*{at}*" for at in range(5000))}
    assert is_refused(send(served, f"{API_OF_REPO}/preupload/main", many))


# --- paths, numbers, JSON ---


def test_a_path_cannot_be_file_and_folder(served: Served) -> None:
    for lines in ([file_line("a", "1"), file_line("a/b", "2")], [file_line("a/b/c", "2"), file_line("a", "1")]):
        answer = commit(served, *lines)
        assert is_refused(answer)
        assert "is one in this commit" in answer.json()["error"]
    assert commit(served, file_line("a", "1"), file_line("ab/c", "2")).status_code == 200
    check_store(served.hub)


@pytest.mark.parametrize("code", ["%0D", "%0A", "%00", "%0D%0AX-Evil:%201", "%FF", "%ED%A0%80", "%25"])
def test_control_characters_in_addresses_are_answered(served: Served, code: str) -> None:
    for path in (
        f"/datasets/{REPO}/resolve/main/a{code}b",
        f"{API_OF_REPO}/tree/main/a{code}b",
        f"{API_OF_REPO}/revision/a{code}b",
        f"/api/datasets/lab/fa{code}ces",
        f"{API_OF_REPO}/tree/main?cursor={code}",
    ):
        answer = send(served, path, b"", method="GET")
        assert is_refused(answer)
        assert "x-evil" not in answer.headers


@pytest.mark.parametrize("number", ["9" * 30, "9" * 5000, "²", "-1", "1e9", "٣"])
def test_absurd_numbers_are_refused(served: Served, number: str) -> None:
    assert is_refused(send(served, f"{API_OF_REPO}/tree/main?limit={number}", b"", method="GET"))
    assert is_refused(send(served, f"{API_OF_REPO}/discussions/{number}", b"", method="GET"))
    assert send(served, f"{API_OF_REPO}/discussions?p={number}", b"", method="GET").status_code == 200
    whole = get_session().get(
        f"{served.endpoint}/datasets/{REPO}/resolve/main/.gitattributes", headers={"range": f"bytes=0-{'9' * 400}"}
    )
    assert whole.status_code == 200


WRONG: tuple[Any, ...] = (1, 1.5, True, "x", [], [1], [[]], ["x"], {}, {"x": 1}, None, 10**400, "\ud800")
WITHOUT_BODY = {"/uploads/{key}/{oid}", "/verify/{key}/{oid}"}
BODIES: dict[str, Any] = {
    "/api/repos/create": {
        "type": "dataset",
        "name": "new",
        "organization": "lab",
        "private": True,
        "visibility": "public",
    },
    "/api/repos/delete": {"type": "dataset", "name": "none", "organization": "lab"},
    "/api/repos/move": {"type": "dataset", "fromRepo": "lab/none", "toRepo": "lab/other"},
    "/api/validate-yaml": {"repoType": "dataset", "content": "x"},
    f"{API}/paths-info/{{revision}}": {"paths": ["x"], "expand": True},
    f"{API}/preupload/{{revision}}": {"files": [{"path": "x", "size": 1, "sample": "eA=="}], "gitIgnore": "x"},
    f"{API}/super-squash/{{branch}}": {"message": "x"},
    f"{API}/lfs-files/batch": {"deletions": {"sha": ["0" * 64], "rewriteHistory": True}},
    f"{API}/branch/{{branch}}": {"startingPoint": "main"},
    f"{API}/tag/{{revision}}": {"tag": "t", "message": "x"},
    f"{API}/settings": {"private": False, "visibility": "public", "gated": False},
    f"{API}/user-access-request/handle": {
        "status": "accepted",
        "user": "other",
        "requestId": "x",
        "rejectionReason": "x",
    },
    f"{API}/user-access-request/grant": {"user": "other"},
    f"{API}/discussions/{{number}}/status": {"status": "closed", "comment": "x"},
    f"{API}/discussions/{{number}}/merge": {"comment": "x"},
    "/datasets/{repo:hub_repo}.git/info/lfs/objects/batch": {
        "operation": "upload",
        "objects": [{"oid": "0" * 64, "size": 1}],
    },
    "/datasets/{repo:hub_repo}/ask-access": {"field": "x"},
}


def variants(body: Any) -> list[Any]:
    """A body with each of its values, at any depth, replaced by values of other types."""
    if isinstance(body, list):
        return [*WRONG, *([one] for part in body for one in variants(part))]
    if isinstance(body, dict):
        return [*WRONG, *({**body, key: one} for key, value in body.items() for one in variants(value))]
    return list(WRONG)


def test_values_of_other_types_never_break_an_endpoint(served: Served) -> None:
    served.api().upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", create_pr=True, **DATASET)
    taking = {one.path for one in ENDPOINTS if one.body == "object" and one.methods != "GET"}
    assert taking - WITHOUT_BODY == set(BODIES)
    methods = {one.path: one.methods for one in ENDPOINTS if one.body == "object" and one.methods != "GET"}
    known = {"{repo:hub_repo}": REPO, "{revision}": "main", "{branch}": "none", "{number}": "1"}
    for path, body in BODIES.items():
        address = path
        for part, value in known.items():
            address = address.replace(part, value)
        for wrong in variants(body):
            answer = send(served, address, wrong, method=methods[path])
            assert answer.status_code < 500, (address, wrong, answer.text)
            assert answer.status_code < 400 or answer.headers["x-error-message"]
    check_store(served.hub)


@pytest.mark.parametrize(
    "body", [DEEP, b'{"a":' + DEEP + b"}", b"NaN", b'{"a": Infinity}', b"\xff", b"[1, 2]", b'{"a": "\\ud800"}']
)
def test_bodies_that_are_no_object_of_json_are_refused(served: Served, body: bytes) -> None:
    assert is_refused(send(served, f"{API_OF_REPO}/preupload/main", body))
    assert is_refused(send(served, f"{API_OF_REPO}/commit/main", body))


@pytest.mark.parametrize(
    "line", [DEEP, b"1", b'{"key": 1, "value": {}}', b'{"key": "file", "value": [1]}', b'{"key": "file"}']
)
def test_lines_of_a_commit_that_are_none_are_refused(served: Served, line: bytes) -> None:
    assert is_refused(commit(served, line))


def test_values_of_other_types_never_break_a_commit(served: Served) -> None:
    operations = [
        file_line("x", "y"),
        {"key": "lfsFile", "value": {"path": "x", "algo": "sha256", "oid": "0" * 64, "size": 1}},
        {"key": "copyFile", "value": {"path": "x", "srcPath": ".gitattributes", "srcRevision": "main"}},
        {"key": "deletedFile", "value": {"path": "x"}},
        {"key": "header", "value": {"summary": "s", "description": "d", "parentCommit": "0" * 40}},
    ]
    for operation in operations:
        for wrong in variants(operation):
            answer = commit(served, wrong)
            assert answer.status_code < 500, (wrong, answer.text)
            alone = send(served, f"{API_OF_REPO}/commit/main", wrong)
            assert alone.status_code < 500, (wrong, alone.text)
    check_store(served.hub)


# --- tokens, and what others on the machine may read ---


def test_every_token_has_a_name_of_its_own(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    add_user(database, "alice")
    add_user(database, "bob")
    made = [("alice", "write"), ("alice", "write"), ("alice", "read"), ("bob", "write")]
    accounts = [authenticate(database, f"Bearer {add_token(database, user, role)}") for user, role in made]
    assert [one and one.token_name for one in accounts] == ["alice-write", "alice-write-2", "alice-read", "bob-write"]
    add_token(database, "bob", "read", name="laptop")
    with pytest.raises(InputError, match="'laptop': there is one of that name"):
        add_token(database, "alice", "read", name="laptop")


def test_root_and_database_are_for_their_owner_alone(tmp_path: Path) -> None:
    root = tmp_path / "new"
    open_database(root).execute("DELETE FROM tokens")
    assert {path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (root, *root.iterdir())}.keys() > {"new"}
    assert not any(stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (root, *root.glob("hub.sqlite3*")))
    (root / "hub.sqlite3").chmod(0o644)  # as an earlier version left it
    Hub(root).close()
    assert stat.S_IMODE((root / "hub.sqlite3").stat().st_mode) == 0o600
