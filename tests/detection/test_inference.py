"""Detectors over a release: the same predictions in one run, in two, and from a Hub; what cannot be run is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi
from numpy.typing import NDArray

from detection.detectors import Detector, load_detector
from detection.inference import InferenceSettings, score_release
from detection.predictions import PredictionError, read_predictions, read_samples
from tests.detection.counting import CountedHub
from tests.detection.metadata import release_rows, write_release
from tests.hub.served import DATASET, OWNER

SETTINGS = InferenceSettings(subsets=("raw_video", "swap_video", "GAN_images"), num_frames=3, size_px=32)
FUNCTION = "import numpy as np\ndef brightness(frames):\n    return frames.mean(axis=(1, 2, 3)) / 255\n"


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    path = tmp_path / "detector.py"
    path.write_text(FUNCTION)
    return load_detector(f"python:{path}:brightness")


def table_of(path: Path) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return columns


def test_predictions_are_those_that_evaluate_reads(release: Path, detector: Detector, tmp_path: Path) -> None:
    samples, out = read_samples(release), tmp_path / "predictions.parquet"
    states: list[tuple[int, int]] = []
    progress = lambda done, total, name: states.append((done, total))  # noqa: E731
    num_scored = score_release(release, samples, detector, SETTINGS, out, progress=progress)
    found = read_predictions([out], samples, name="mine", subsets=SETTINGS.subsets)
    assert num_scored == len(found.rows) == states[-1][0] == states[-1][1]
    assert {row["split"] for row in found.rows} == {"test"}
    clips = found.column("subset") != "GAN_images"
    assert (np.bincount(found.sample) == np.where(clips, 3, 1)).all()
    assert set(found.frame[clips[found.sample]]) == {0, 4, 7}
    assert ((found.score > 0) & (found.score < 1)).all()
    # finished: nothing is run again
    assert score_release(release, samples, detector, SETTINGS, out) == 0
    assert [path.name for path in tmp_path.iterdir() if "predictions" in path.name] == [out.name]
    with pytest.raises(PredictionError, match="has predictions with another num_frames; name another file"):
        score_release(release, samples, detector, dataclasses.replace(SETTINGS, num_frames=2), out)
    # the same names are in another release, whose files are others
    others = read_samples(write_release(tmp_path / "other", release_rows(12, 5)))
    with pytest.raises(PredictionError, match="is of another release or version"):
        read_predictions([out], others, name="mine")


def test_a_run_that_stopped_goes_on(release: Path, detector: Detector, tmp_path: Path) -> None:
    samples = read_samples(release)
    score_release(release, samples, detector, SETTINGS, tmp_path / "whole.parquet")
    out, calls = tmp_path / "parts.parquet", 0

    def fail_later(frames: NDArray[np.uint8]) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise RuntimeError("out of\nmemory")
        return detector.function(frames)

    failing = dataclasses.replace(detector, function=fail_later)
    with pytest.raises(PredictionError, match=r"fails on \S+ \(RuntimeError: out of memory\); correct it"):
        score_release(release, samples, failing, SETTINGS, out)
    assert not out.exists()
    partial = out.with_name(f".{out.name}.partial")
    with partial.open("a") as file:
        file.write('["torn", [0')
    with pytest.raises(PredictionError, match="another crop"):
        score_release(release, samples, detector, dataclasses.replace(SETTINGS, crop=None), out)
    whole = table_of(tmp_path / "whole.parquet")
    assert score_release(release, samples, detector, SETTINGS, out) == len(set(whole["sample_id"])) - 3
    assert table_of(out) == whole
    assert not partial.exists()


def test_a_release_at_a_hub_gives_the_same(
    release: Path, detector: Detector, tmp_path: Path, counted_hub: CountedHub
) -> None:
    api = HfApi(endpoint=counted_hub.endpoint, token=OWNER)
    api.create_repo(**DATASET)
    api.upload_folder(folder_path=release, **DATASET)
    name = str(DATASET["repo_id"])
    for place, out in ((name, "hub.parquet"), (release, "folder.parquet")):
        score_release(place, read_samples(place), detector, SETTINGS, tmp_path / out)
    assert table_of(tmp_path / "hub.parquet") == table_of(tmp_path / "folder.parquet")


@pytest.mark.parametrize("name", ["c40", "noise"])
def test_degradations_reach_the_detector(name: str, release: Path, detector: Detector, tmp_path: Path) -> None:
    spread = dataclasses.replace(detector, function=lambda frames: frames.std(axis=(1, 2, 3)) / 255)
    samples, few = read_samples(release), dataclasses.replace(SETTINGS, subsets=("swap_video", "GAN_images"))
    score_release(release, samples, spread, few, tmp_path / "plain.parquet")
    degraded = dataclasses.replace(few, degradation=name)
    score_release(release, samples, spread, degraded, tmp_path / "degraded.parquet")
    before, after = (table_of(tmp_path / f"{part}.parquet") for part in ("plain", "degraded"))
    assert before["sample_id"] == after["sample_id"]
    assert all(one != other for one, other in zip(before["score"], after["score"], strict=True))


def test_what_is_no_detector_is_named(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "detector.py"
    for name, message in (
        ("nonsense", "not a detector; use transformers:"),
        ("python:nowhere.py:score", "nowhere.py: not found"),
        (f"python:{path}:score", "has no function score"),
    ):
        with pytest.raises(PredictionError, match=message):
            load_detector(name)
    path.write_text("1 / 0")
    with pytest.raises(PredictionError, match=r"fails \(ZeroDivisionError: division by zero\); correct it"):
        load_detector(f"python:{path}:score")
    frames = np.zeros((2, 3, 8, 8), np.uint8)
    for scores, message in (([1.0], r"gives \(1,\) scores for 2 frames of x"), ([0.0, np.nan], "is not finite")):
        constant = mock.Mock(return_value=scores)
        with pytest.raises(PredictionError, match=message):
            dataclasses.replace(detector, function=constant).score(frames, "x")


@pytest.mark.thorough
def test_a_checkpoint_of_transformers(release: Path, tmp_path: Path) -> None:
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    for folder, labels in (("named", ["Realism", "Deepfake"]), ("unclear", ["LABEL_0", "LABEL_1"])):
        config = ViTConfig(**sizes, image_size=16, patch_size=8, id2label=dict(enumerate(labels)))
        ViTForImageClassification(config).save_pretrained(tmp_path / folder)
        ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / folder)
    found = load_detector(f"transformers:{tmp_path / 'named'}", device="cpu")
    assert "the score is the probability of Deepfake" in found.note
    frames = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
    scores = found.score(frames, "x")
    turned = load_detector(f"transformers:{tmp_path / 'named'}", fake_label="Realism", device="cpu")
    assert scores + turned.score(frames, "x") == pytest.approx(1)
    assert found.digest != turned.digest
    with pytest.raises(PredictionError, match="pass --fake-label, one of LABEL_0, LABEL_1"):
        load_detector(f"transformers:{tmp_path / 'unclear'}")
    with pytest.raises(PredictionError, match="has no label fake; its labels are Realism, Deepfake"):
        load_detector(f"transformers:{tmp_path / 'named'}", fake_label="fake")
    with pytest.raises(PredictionError, match="cannot be loaded"):
        load_detector(f"transformers:{tmp_path}")
    few = dataclasses.replace(SETTINGS, subsets=("swap_video",))
    assert score_release(release, read_samples(release), found, few, tmp_path / "out.parquet") == 4
