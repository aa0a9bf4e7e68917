"""Metrics are scikit-learn's, a bootstrap's weights are what drawing samples would give."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from detection.metrics import (
    accuracy,
    best_threshold,
    curve_metrics,
    frame_auc,
    frame_wins,
    resampled_weights,
)

Scores = tuple[NDArray[np.bool_], NDArray[np.float64]]


def scores_of(seed: int, num: int, decimals: int) -> Scores:
    drawn = np.random.default_rng(seed)
    is_fake = np.append([True, False], drawn.random(num - 2) < 0.7)
    return is_fake, np.round(drawn.normal(size=num) + is_fake, decimals)


def interpolated_eer(fpr: NDArray[np.float64], tpr: NDArray[np.float64]) -> float:
    """The crossing by bisection, not by formula."""
    low, high = 0.0, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        # where the curve rises straight up, any of its values will do
        if np.interp(middle, fpr, tpr) < 1 - middle:
            low = middle
        else:
            high = middle
    return high


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("num", "decimals"), [(2, 1), (9, 0), (40, 1), (300, 9)])
def test_metrics_are_those_of_scikit_learn(seed: int, num: int, decimals: int) -> None:
    is_fake, scores = scores_of(seed, num, decimals)
    found = {name: values[0] for name, values in curve_metrics(is_fake, scores, np.ones((1, num))).items()}
    fpr, tpr, _ = reference.roc_curve(is_fake, scores)
    all_fpr, all_tpr, _ = reference.roc_curve(is_fake, scores, drop_intermediate=False)
    expected = {
        "video_auc": reference.roc_auc_score(is_fake, scores),
        "ap": reference.average_precision_score(is_fake, scores),
        "eer_nearest": fpr[np.argmin(np.abs((1 - tpr) - fpr))],
        "eer": interpolated_eer(fpr, tpr),
        "tpr_at_fpr_1": all_tpr[all_fpr <= 0.01].max(),
        "tpr_at_fpr_5": all_tpr[all_fpr <= 0.05].max(),
    }
    assert found == pytest.approx(expected, abs=1e-12, rel=0)
    threshold = best_threshold(is_fake, scores)
    assert threshold is not None
    own = accuracy(is_fake, scores, threshold, np.ones((1, num)))[0]
    assert own == pytest.approx(reference.accuracy_score(is_fake, scores >= threshold), abs=1e-12)
    balanced = reference.balanced_accuracy_score(is_fake, scores >= threshold)
    assert balanced == pytest.approx(max((1 + all_tpr - all_fpr) / 2), abs=1e-12)


def test_weights_count_as_repeated_samples() -> None:
    is_fake, scores = scores_of(1, 60, 1)
    weights = np.random.default_rng(2).integers(0, 4, (5, 60)).astype(np.float64)
    found = curve_metrics(is_fake, scores, weights)
    for row, times in enumerate(weights.astype(int)):
        repeated = curve_metrics(np.repeat(is_fake, times), np.repeat(scores, times), np.ones((1, times.sum())))
        for name in found.keys() - {"eer_nearest"}:
            assert found[name][row] == pytest.approx(repeated[name][0], abs=1e-12), name


def test_frame_auc_is_that_of_all_frames() -> None:
    drawn = np.random.default_rng(3)
    is_fake, num_frames = np.array([0, 1, 1, 0, 1, 0], bool), np.array([3, 1, 7, 2, 4, 1])
    sample = np.repeat(np.arange(6), num_frames)
    scores = np.round(drawn.normal(size=len(sample)) + is_fake[sample], 1)
    wins = frame_wins(sample, scores, is_fake)
    weights = np.array([[1.0] * 6, [0, 2, 1, 1, 0, 3], [0, 1, 1, 0, 1, 0]])
    found = frame_auc(wins, num_frames, is_fake, weights)
    for row in (0, 1):
        expected = reference.roc_auc_score(is_fake[sample], scores, sample_weight=weights[row][sample])
        assert found[row] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(found[2])


def test_metrics_without_both_classes_are_not_numbers() -> None:
    is_fake, scores = np.array([True, False, True]), np.array([0.2, 0.1, 0.9])
    found = curve_metrics(is_fake, scores, np.array([[1.0, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]]))
    for values in found.values():
        assert np.isnan(values[:3]).all()
        assert np.isfinite(values[3])
    assert best_threshold(np.array([True]), np.array([0.5])) is None


def test_who_is_not_drawn_is_left_out_of_everything() -> None:
    sample_ids = [f"{subset}/{n}" for n in range(1, 9) for subset in ("raw_video", "edit_video/age")]
    sample_ids += ["swap_video/1_2", "GAN_images/000001", "GAN_images/000002"]
    folds = [n % 2 for n in range(1, 9) for _ in range(2)] + [None, 0, 0]
    chunks = list(resampled_weights(sample_ids, folds, 250, seed=4))
    assert [len(chunk) for chunk in chunks] == [100, 100, 50]
    weights = np.concatenate(chunks)
    assert (weights[:, 0:16:2] == weights[:, 1:16:2]).all()  # all clips of a person
    for parity in (0, 1):
        assert (weights[:, [2 * (n - 1) for n in range(1, 9) if n % 2 == parity]].sum(axis=1) == 4).all()  # each fold
    assert (weights[:, 16] == weights[:, 0] * weights[:, 2]).all()
    assert (weights[:, 17:].sum(axis=1) == 2).all()
    assert abs(weights[:, 0].mean() - 1) < 0.2
    assert (np.concatenate(list(resampled_weights(sample_ids, folds, 250, seed=4))) == weights).all()
