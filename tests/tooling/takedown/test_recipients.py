"""Access to a gated release: requests listed and decided with the unmodified client, and the recipients' log."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest

from tests.hub.served import OTHER, REPO, Served
from tests.tooling.pushing import use_hub
from tests.workspaces import make_noise_workspace
from tooling.errors import ToolingError, UsageError, WorkspaceError
from tooling.remote import Remote, connect
from tooling.settings import ShardSettings
from tooling.takedown import recipients as access
from tooling.workspace.layout import Workspace
from tooling.workspace.path_kinds import unknown_paths


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_noise_workspace(tmp_path / "workspace", 2, 10, ShardSettings())


@pytest.fixture
def remote(served: Served, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A repository gated by hand, at which `other` has asked."""
    use_hub(monkeypatch, served.endpoint)
    served.api().update_repo_settings(REPO, repo_type="dataset", gated="manual")
    ask(served.endpoint)
    return connect(REPO)


def ask(endpoint: str) -> None:
    answer = httpx2.post(
        f"{endpoint}/datasets/{REPO}/ask-access",
        headers={"Authorization": f"Bearer {OTHER}"},
        json={"purpose": "detection"},
    )
    assert answer.status_code == 200


def test_requests_are_listed_with_their_answers(remote: Remote) -> None:
    (request,) = access.list_requests(remote)
    assert (request.user, request.status, request.fields) == ("other", "pending", {"purpose": "detection"})
    assert access.list_requests(remote, "accepted") == []
    with pytest.raises(UsageError, match="pending, accepted, rejected"):
        access.list_requests(remote, "lost")  # type: ignore[arg-type]


def test_accepting_lets_in_and_is_logged_once(remote: Remote, workspace: Workspace) -> None:
    entry = access.accept_request(workspace, remote, "other", date="2026-11-24")
    assert (entry.user, entry.repo, entry.action, entry.version) == ("other", REPO, "accepted", "1.0.0")
    assert [request.user for request in access.list_requests(remote, "accepted")] == ["other"]
    access.accept_request(workspace, remote, "other", date="2026-11-25")
    assert access.read_log(workspace) == [entry]
    assert unknown_paths(workspace) == []


def test_log_lost_by_a_kill_is_completed_by_a_rerun(remote: Remote, workspace: Workspace) -> None:
    remote.api.accept_access_request(REPO, "other", repo_type="dataset")
    access.accept_request(workspace, remote, "other", date="2026-11-24")
    assert list(access.recipients(workspace)) == ["other"]


def test_rejection_needs_a_reason_and_who_had_access_stays_a_recipient(remote: Remote, workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="reason"):
        access.reject_request(workspace, remote, "other", " ", date="2026-11-24")
    access.accept_request(workspace, remote, "other", date="2026-11-24")
    access.reject_request(workspace, remote, "other", "no institution", date="2026-11-25")
    assert [request.user for request in access.list_requests(remote, "rejected")] == ["other"]
    assert [(entry.action, entry.reason) for entry in access.read_log(workspace)] == [
        ("accepted", ""),
        ("rejected", "no institution"),
    ]
    assert list(access.recipients(workspace)) == ["other"]


def test_unknown_user_and_open_repository_are_one_line(remote: Remote, workspace: Workspace) -> None:
    with pytest.raises(ToolingError) as caught:
        access.accept_request(workspace, remote, "nobody", date="2026-11-24")
    assert REPO in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not access.log_path(workspace).exists()
    remote.api.update_repo_settings(REPO, repo_type="dataset", gated=False)
    with pytest.raises(ToolingError, match=REPO):
        access.list_requests(remote)


def test_prune_keeps_half_a_year(workspace: Workspace) -> None:
    dates = ("2026-01-01", "2026-05-25", "2026-11-24")  # the second is 183 days before the third
    entries = [access.LogEntry(date, REPO, f"user{date}", "accepted", "", "1.0.0") for date in dates]
    access.log_path(workspace).write_text("".join(json.dumps(vars(entry)) + "\n" for entry in entries))
    with pytest.raises(UsageError, match="at least 183"):
        access.prune_log(workspace, today="2026-11-24", retention_days=30)
    assert access.prune_log(workspace, today="2026-11-24") == entries[:1]
    assert access.read_log(workspace) == entries[1:]
    assert access.prune_log(workspace, today="2026-11-24") == []
    with pytest.raises(UsageError, match="not a day"):
        access.prune_log(workspace, today="today")


def test_torn_line_is_overwritten_and_damage_is_named(workspace: Workspace) -> None:
    path, entry = access.log_path(workspace), access.LogEntry("2026-11-24", REPO, "other", "accepted", "", "1.0.0")
    path.write_text(json.dumps(vars(entry)) + '\n{"date": "20')
    assert access.read_log(workspace) == [entry]
    path.write_text("{}\n")
    with pytest.raises(WorkspaceError, match="damaged line"):
        access.read_log(workspace)
    path.write_text(json.dumps(vars(entry) | {"date": "2026-13-24"}) + "\n")
    with pytest.raises(WorkspaceError, match=r"recipients\.jsonl.*damaged line.*month"):
        access.read_log(workspace)
