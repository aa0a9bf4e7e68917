"""Users, organisations, storage and collections of the embedded Hub, through the unmodified client."""

from __future__ import annotations

import pytest
from hub_setup import ADMIN, DATASET, OTHER, OWNER, READER, REPO, Served, served
from huggingface_hub import get_session
from huggingface_hub.errors import HfHubHTTPError

from tooling.hub.rights import add_organisation

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


def test_collection_of_repositories(served: Served) -> None:
    api, other = served.api(), served.api(OTHER)
    made = api.create_collection("Faces & Voices!", namespace="lab", description="all", private=True)
    assert made.slug.startswith("lab/faces-voices-")
    with pytest.raises(HfHubHTTPError, match="Collection not found"):
        other.get_collection(made.slug)
    assert list(other.list_collections()) == []
    renamed = api.update_collection_metadata(made.slug, title="Faces", private=False, theme="pink")
    assert renamed.slug != made.slug
    assert other.get_collection(made.slug).title == "Faces"  # the id at its end finds it
    inner = api.create_collection("Inner")
    api.add_collection_item(made.slug, REPO, "dataset", note="the data")
    api.add_collection_item(made.slug, inner.slug, "collection")
    with pytest.raises(HfHubHTTPError, match="already in this collection"):
        api.add_collection_item(made.slug, REPO, "dataset")
    api.move_repo(REPO, "lab/renamed", repo_type="dataset")
    items = api.get_collection(made.slug).items
    assert [(item.item_id, item.note) for item in items] == [("lab/renamed", "the data"), (inner.slug, None)]
    assert [one.slug for one in other.list_collections(item="datasets/lab/renamed")] == [renamed.slug]
    api.update_collection_item(made.slug, items[1].item_object_id, position=0, note="first")
    assert [(item.note, item.position) for item in api.get_collection(made.slug).items] == [
        ("first", 0),
        ("the data", 1),
    ]
    api.delete_collection_item(made.slug, items[1].item_object_id)
    added = api.add_collection_item(made.slug, inner.slug, "collection")
    assert [(item.note, item.position) for item in added.items] == [("the data", 1), (None, 2)]
    api.update_repo_settings("lab/renamed", repo_type="dataset", private=True)
    assert [item.item_type for item in other.get_collection(made.slug).items] == ["collection"]
    api.delete_collection(inner.slug)
    api.delete_repo("lab/renamed", repo_type="dataset")
    assert api.get_collection(made.slug).items == []
    api.delete_collection(made.slug)
    with pytest.raises(HfHubHTTPError):
        api.delete_collection(made.slug)


def test_collections_are_changed_by_their_owners(served: Served) -> None:
    slug = served.api().create_collection("Faces", namespace="lab").slug
    served.api(ADMIN).update_collection_metadata(slug, description="by a fellow member")
    for token, message in ((OTHER, "collections of lab"), (READER, "role read")):
        with pytest.raises(HfHubHTTPError, match=message):
            served.api(token).update_collection_metadata(slug, title="Mine")
        with pytest.raises(HfHubHTTPError, match=message):
            served.api(token).create_collection("Mine", namespace="lab")
        with pytest.raises(HfHubHTTPError, match=message):
            served.api(token).delete_collection(slug)
    for change in ({"title": " "}, {"theme": "plaid"}, {"position": -1}, {"description": "x" * 501}):
        address = f"{served.endpoint}/api/collections/{slug}"
        answer = get_session().patch(address, headers={"authorization": f"Bearer {OWNER}"}, json=change)
        assert answer.status_code == 400, change
    shown = served.api().get_collection(slug)
    assert (shown.title, shown.description, shown.theme) == ("Faces", "by a fellow member", "blue")


def test_collections_in_their_owners_order(served: Served) -> None:
    add_organisation(served.hub.database, "club", ["owner"])
    api = served.api()
    first, second = (api.create_collection(title, namespace="club").slug for title in ("First", "Second"))
    api.create_collection("Elsewhere", namespace="lab")
    api.update_collection_metadata(second, position=1)
    assert [one.slug for one in api.list_collections(owner="club")] == [first, second]
    assert len(list(api.list_collections(limit=2))) == 2
    assert len(list(api.list_collections())) == 3
