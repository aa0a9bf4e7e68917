"""The check of a card's YAML, by itself and through RepoCard.validate."""

from __future__ import annotations

import pytest
from huggingface_hub import DatasetCard, HfApi

from tests.hub.served import OWNER, REPO, Served
from tooling.hub.cards import card_tags, check_card, read_metadata

GOOD = """---
license: other
license_name: research
language: [en, no]
pretty_name: Faces
size_categories:
- n<1K
configs:
- config_name: swap_video
  data_files:
  - split: train
    path: data/swap_video/train-*.parquet
dataset_info:
- config_name: swap_video
viewer: false
---
# Faces
---
more
"""


def problems(block: str) -> list[str]:
    return [one["message"] for one in check_card(f"---\n{block}\n---\ntext")["errors"]]


def test_good_card() -> None:
    assert check_card(GOOD) == {"errors": [], "warnings": []}
    metadata = read_metadata(GOOD.replace("\n", "\r\n"))
    assert metadata is not None
    assert metadata["configs"][0]["config_name"] == "swap_video"
    assert card_tags(metadata) == ["language:en", "size_categories:n<1K", "license:other"]


@pytest.mark.parametrize("content", ["", "no block", "---\n---\ntext", "text\n---\nlicense: mit\n---"])
def test_missing_block_is_a_warning(content: str) -> None:
    assert [one["message"] for one in check_card(content)["warnings"]] == [
        "empty or missing yaml metadata in repo card"
    ]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("license: [", "YAML metadata in line"),
        ("- a\n- b", "must be a mapping"),
        ("license: mit\nlicense: other", "duplicated key 'license'"),
        ("license: {a: b}", '"license" must be'),
        ("tags: [[a]]", '"tags" must be'),
        ("viewer: maybe", '"viewer" must be'),
        ("license: my-own", '"license" must be one of [afl-3.0, '),
        ("license: [mit, my-own]", 'got "my-own"'),
        ("configs: {a: b}", '"configs" must be'),
        ("configs: [{data_files: x}]", "config_name"),
        ("dataset_info: text", '"dataset_info" must be'),
        ("extra_gated_fields: [Name]", '"extra_gated_fields" must be'),
        ("x: !!python/object/apply:os.system [true]", "YAML metadata"),
    ],
)
def test_bad_cards(block: str, message: str) -> None:
    found = problems(block)
    assert len(found) == 1
    assert message in found[0]


def test_validation_and_refusal_through_the_client(served: Served) -> None:
    monkeyed: HfApi = served.api()
    with pytest.raises(ValueError, match="duplicated key"):
        monkeyed.upload_file(
            path_or_fileobj=b"---\nlicense: mit\nlicense: mit\n---\n",
            path_in_repo="README.md",
            repo_id=REPO,
            repo_type="dataset",
        )
    monkeyed.upload_file(path_or_fileobj=GOOD.encode(), path_in_repo="README.md", repo_id=REPO, repo_type="dataset")
    card = monkeyed.dataset_info(REPO).card_data
    assert card is not None
    assert card.get("license_name") == "research"
    assert OWNER not in DatasetCard(GOOD).content
    assert [one.id for one in monkeyed.list_datasets(filter="license:other")] == [REPO]
    assert list(monkeyed.list_datasets(filter="license:mit")) == []
