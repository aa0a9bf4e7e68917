"""Users, organisations and storage of the embedded Hub, through the unmodified client."""

from __future__ import annotations

import pytest
from hub_setup import DATASET, OTHER, OWNER, REPO, Served, served
from huggingface_hub import get_session
from huggingface_hub.errors import HfHubHTTPError

__all__ = ["served"]


def test_overviews_and_members(served: Served) -> None:
    served.api().create_repo("lab/hidden", private=True)
    like = f"{served.endpoint}/api/datasets/{REPO}/like"  # the client only takes likes back
    assert get_session().post(like, headers={"authorization": f"Bearer {OTHER}"}).status_code == 200
    user, other = served.api().get_user_overview("owner"), served.api().get_user_overview("other")
    assert (user.username, user.fullname, [org.name for org in user.orgs]) == ("owner", "Owner", ["lab"])
    assert (other.num_likes, other.orgs) == (1, [])
    seen_by = {token: served.api(token).get_organization_overview("lab") for token in (OWNER, OTHER)}
    assert {token: (org.num_users, org.num_datasets, org.num_models) for token, org in seen_by.items()} == {
        OWNER: (2, 1, 1),
        OTHER: (2, 1, 0),
    }
    assert [member.username for member in served.api().list_organization_members("lab")] == ["admin", "owner"]
    for missing in (served.api().get_user_overview, served.api().get_organization_overview):
        with pytest.raises(HfHubHTTPError, match="There is no"):
            missing("nobody")
    with pytest.raises(HfHubHTTPError, match="There is no user lab"):
        served.api().get_user_overview("lab")


def test_storage_counts_the_whole_history(served: Served) -> None:
    api = served.api()
    api.create_repo("lab/small", private=True)
    api.upload_file(path_or_fileobj=b"s" * 100, path_in_repo="a.bin", repo_id="lab/small")
    for content in (b"a" * 200, b"b" * 100):
        api.upload_file(path_or_fileobj=content, path_in_repo="a.bin", **DATASET)
    listed = [
        (one.id, one.type, one.visibility, one.storage, one.storage_percent) for one in api.list_user_repos("lab")
    ]
    assert listed == [(REPO, "dataset", "public", 300, 75), ("lab/small", "model", "private", 100, 25)]
    assert list(api.list_user_repos()) == []
    with pytest.raises(HfHubHTTPError, match="rights to see the storage"):
        list(served.api(OTHER).list_user_repos("lab"))
    with pytest.raises(HfHubHTTPError):
        list(served.api(False).list_user_repos())
