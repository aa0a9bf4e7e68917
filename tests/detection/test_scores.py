"""Evaluations: groups, intervals, thresholds, comparison with a benchmark, what a model card gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from detection import plots
from detection.predictions import Predictions, Row, read_samples
from detection.scores import METRICS, as_deepfakebench, evaluate, method_matrix, model_index
from tests.detection.metadata import release_rows, write_release

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    return read_samples(write_release(tmp_path_factory.mktemp("release"), release_rows()))


def predictions_of(rows: list[Row], *, name: str = "mine", num_frames: int = 3, skill: float = 1.0) -> Predictions:
    """Scores in [0, 1]; images have one frame, clips `num_frames`."""
    drawn = np.random.default_rng(5)
    counts = [1 if row["subset"] == "GAN_images" else num_frames for row in rows]
    sample = np.repeat(np.arange(len(rows)), counts)
    frame = np.concatenate([np.arange(count) for count in counts])
    is_fake = np.array([row["label"] == "fake" for row in rows])
    logits = skill * (2.0 * is_fake[sample] - 1) + drawn.normal(size=len(rows))[sample] + drawn.normal(size=len(sample))
    return Predictions(name, tuple(rows), sample, frame, 1 / (1 + np.exp(-logits)))


@pytest.fixture(scope="module")
def everything(samples: dict[str, Row]) -> Predictions:
    return predictions_of(list(samples.values()))


def test_groups_are_compared_with_their_counterparts(everything: Predictions) -> None:
    found = evaluate(everything, num_resamples=0)
    scores, column = everything.mean_score, everything.column
    is_test, is_fake = column("split") == "test", everything.is_fake
    reals = is_test & ~is_fake
    members = {
        ("subset", "swap_video"): reals | (is_test & (column("subset") == "swap_video")),
        ("subset", "raw_video"): is_test & (is_fake | (column("subset") == "raw_video")),
        ("method", "attribute_editing"): reals | (is_test & (column("method") == "attribute_editing")),
        ("attribute", "age"): reals | (is_test & (column("attribute") == "age")),
        ("gender", "male"): is_test & (column("gender") == "male"),
        ("fold", "0"): is_test,
        ("fold", "1"): column("split") == "validation",
        ("fold", "3"): column("fold") == 3,
    }
    assert list(found.by) == ["subset", "method", "attribute", "gender", "fold"]
    assert list(found.by["fold"]) == ["0", "1", "2", "3", "4"]
    assert len(found.by["subset"]) == 6
    for (kind, name), chosen in members.items():
        numbers = found.by[kind][name]
        frames = chosen[everything.sample]
        expected = {
            "video_auc": roc_auc_score(is_fake[chosen], scores[chosen]),
            "frame_auc": roc_auc_score(is_fake[everything.sample][frames], everything.score[frames]),
            "ap": average_precision_score(is_fake[chosen], scores[chosen]),
            "prevalence": is_fake[chosen].mean(),
        }
        assert {key: numbers[key] for key in expected} == pytest.approx(expected, abs=1e-12, rel=0), name
        assert (numbers["num_real"], numbers["num_fake"]) == ((~is_fake)[chosen].sum(), is_fake[chosen].sum())
    assert found.overall == found.by["fold"]["0"]


def test_the_threshold_never_sees_the_test_split(everything: Predictions) -> None:
    found = evaluate(everything, num_resamples=0)
    threshold = found.overall["threshold"]
    assert threshold is not None
    is_test = everything.column("split") == "test"
    right = (everything.mean_score >= threshold) == everything.is_fake
    assert found.overall["accuracy"] == pytest.approx(right[is_test].mean(), abs=1e-12)
    turned = replace(everything, score=np.where(is_test[everything.sample], 1 - everything.score, everything.score))
    assert evaluate(turned, num_resamples=0).overall["threshold"] == threshold
    # its own samples never count
    assert found.by["fold"]["1"]["accuracy"] is None
    outside = everything.column("split") != "validation"
    whole = evaluate(everything, split=None, num_resamples=0)
    assert whole.overall["accuracy"] == pytest.approx(right[outside].mean(), abs=1e-12)
    assert whole.overall["num_fake"] == everything.is_fake.sum()


def test_without_validation_there_is_no_threshold(samples: dict[str, Row]) -> None:
    found = evaluate(predictions_of([row for row in samples.values() if row["split"] == "test"]), num_resamples=5)
    assert found.overall["threshold"] is found.overall["accuracy"] is found.overall["accuracy_low"] is None
    assert found.notes == ("no threshold and no accuracy: validation has no predictions of both real and fake samples",)


def test_intervals_are_of_people_and_repeatable(everything: Predictions) -> None:
    found = evaluate(everything, num_resamples=150)
    assert evaluate(everything, num_resamples=150) == found
    assert evaluate(everything, num_resamples=150, seed=1) != found
    for metric in METRICS:
        low, value, high = (found.overall[f"{metric}{end}"] for end in ("_low", "", "_high"))
        assert low is not None
        assert low <= value <= high, metric  # type: ignore[operator]
    assert found.overall["video_auc_high"] - found.overall["video_auc_low"] > 0.02  # type: ignore[operator]
    # frames more or less do not make people more
    single = evaluate(replace(predictions_of(list(everything.rows), num_frames=1)), num_resamples=150)
    assert single.overall["frame_auc"] == pytest.approx(single.overall["video_auc"], abs=1e-12)
    assert single.overall["frame_auc_low"] == pytest.approx(single.overall["video_auc_low"], abs=1e-12)


def test_groups_of_one_class_have_no_numbers(samples: dict[str, Row]) -> None:
    rows = [row for row in samples.values() if row["split"] == "test" and row["label"] == "fake"]
    found = evaluate(predictions_of(rows), num_resamples=3)
    assert all(found.overall[f"{metric}{end}"] is None for metric in METRICS for end in ("", "_low", "_high"))
    assert found.overall["num_real"] == 0
    assert found.notes[0] == "no AUC, EER, AP and TPR: test has no real samples"
    assert as_deepfakebench(predictions_of(rows))["video_auc"] is None


def test_matrix_has_a_row_for_each_detector(everything: Predictions) -> None:
    rows = list(everything.rows)
    names = ("face_swap", "expression_driven")
    evaluations = [evaluate(predictions_of(rows, name=name), num_resamples=3) for name in names]
    matrix = method_matrix(evaluations)
    assert list(matrix) == list(names)
    assert list(matrix["face_swap"]) == ["full_face_generation", "expression_driven", "attribute_editing", "face_swap"]
    cell = matrix["face_swap"]["attribute_editing"]
    assert cell["video_auc"] == evaluations[0].by["method"]["attribute_editing"]["video_auc"]
    assert set(cell) == {"video_auc", "video_auc_low", "video_auc_high"}


def test_model_index_is_one_that_the_hub_reads(everything: Predictions) -> None:
    from huggingface_hub import ModelCardData
    from huggingface_hub.repocard_data import model_index_to_eval_results

    found = evaluate(everything, num_resamples=0)
    index = model_index(found, dataset="lab/faces@v1")
    name, results = model_index_to_eval_results(index)
    assert name == "mine"
    assert {result.dataset_config for result in results} == {
        "all", "avatarify_video", "edit_video", "swap_video", "GAN_images",
    }  # fmt: skip
    values = {result.metric_name: result for result in results if result.dataset_config == "swap_video"}
    assert values["video_auc"].metric_value == found.by["subset"]["swap_video"]["video_auc"]
    assert (values["video_auc"].dataset_type, values["video_auc"].dataset_revision) == ("lab/faces", "v1")
    ModelCardData(model_name=name, eval_results=results).to_yaml()


def test_deepfakebench_merges_clips_of_one_name(everything: Predictions) -> None:
    found = as_deepfakebench(everything)
    is_test = (everything.column("split") == "test")[everything.sample]
    label, score = everything.is_fake[everything.sample][is_test], everything.score[is_test]
    assert found["frame_auc"] == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    assert found["ap"] == pytest.approx(average_precision_score(label, score), abs=1e-12)
    # its own way: the folder that a frame lies in, whatever lies above it
    folders: dict[str, list[Any]] = {}
    for number in everything.sample[is_test]:
        folders.setdefault(f"x/{everything.rows[number]['sample_id']}/000.png".split("/")[-2], [])
    for number, one, value in zip(everything.sample[is_test], label, score, strict=True):
        folders[everything.rows[number]["sample_id"].split("/")[-1]].append((one, value))
    labels = [int(sum(one for one, _ in frames) / len(frames)) for frames in folders.values()]
    means = [np.mean([value for _, value in frames]) for frames in folders.values()]
    assert found["video_auc"] == pytest.approx(roc_auc_score(labels, means), abs=1e-12)
    assert found["num_videos"] == len(folders) < found["num_samples"]
    # of the 4 people of the test split: raw, face, age and hair; swap and driven
    assert "so 24 samples become 8; 4 of these hold real and fake clips" in found["wrong"][0]


def test_plots_are_written(everything: Predictions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "DOTS_PER_INCH", 40)
    paths = plots.write_plots(everything, tmp_path)
    assert [path.name for path in paths] == ["calibration.png", "det.png", "histograms.png", "roc.png"]
    for path in paths:
        assert np.asarray(Image.open(path)).std() > 10
    fakes = predictions_of([row for row in everything.rows if row["label"] == "fake"])
    logits = plots.write_plots(replace(fakes, score=fakes.score * 8 - 4), tmp_path, split=None)
    assert [path.name for path in logits] == ["histograms.png"]
