"""The pages of docs/ for researchers do what they say, on a small release in a folder and at a Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.detection.counting import CountedHub
from tests.pages import DOCS, RESEARCHERS, run_page

pytestmark = pytest.mark.thorough

REPO = "lab/homologous_deepfake"
MADE = {  # what a page leaves beside the release
    "score": ("predictions.parquet", "predictions_jpeg.parquet"),
    "evaluate": ("predictions.csv", "scores/evaluation.json"),
    "export": (
        "exported/dataset_json/Homologous_deepfake.json",
        "exported_ff/original_sequences/homologous/c40/videos/1.mp4",
    ),
}


@pytest.mark.parametrize("page", RESEARCHERS)
def test_page_does_what_it_says(
    page: str, release: Path, counted_hub: CountedHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / release.name).symlink_to(release)
    monkeypatch.setenv("HF_ENDPOINT", counted_hub.endpoint)
    if REPO in (DOCS / f"{page}.md").read_text(encoding="utf-8"):
        counted_hub.publish(release, REPO)
    run_page(page, folder)
    for name in MADE.get(page, ()):
        assert (folder / name).is_file(), name
