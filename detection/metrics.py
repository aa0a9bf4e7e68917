"""Metrics of binary scores for many weightings of the samples at once, as a bootstrap needs them.

Weights are float64 (R, N): R weightings of N samples; all ones is the plain metric. Every result is float64 (R,), nan
where a weighting has no real or no fake sample. Equal to scikit-learn's where it has the metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homologous_deepfake import people_of

Floats64 = NDArray[np.float64]

CHUNK = 100  # resamples at once: bounds the memory
MAX_FPR = {"tpr_at_fpr_1": 0.01, "tpr_at_fpr_5": 0.05}


def curve_metrics(is_fake: NDArray[np.bool_], scores: Floats64, weights: Floats64) -> dict[str, Floats64]:
    """Metrics that follow from the ROC curve.

    - `video_auc`: area under the ROC curve.
    - `eer`: where its linear interpolation has as many false alarms as misses; `eer_nearest`: the false alarms at the
      point where the two are nearest, of the points that scikit-learn's `roc_curve` keeps, as benchmarks compute it.
    - `ap`: average precision, the sum of precision times gain in recall.
    - `tpr_at_fpr_1`, `tpr_at_fpr_5`: the highest TPR of a threshold whose FPR is at most 1 % or 5 %; no interpolation.

    Args:
        is_fake, scores: (N,); higher scores mean fake.
        weights: (R, N), see the module.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of runs of equal scores
    ordered, fakes = weights[:, order], is_fake[order]
    true_positives = np.cumsum(ordered * fakes, axis=1)[:, ends]
    false_positives = np.cumsum(ordered * ~fakes, axis=1)[:, ends]
    is_kink = np.ones(true_positives.shape, bool)
    is_kink[:, 1:-1] = (np.diff(true_positives, 2) != 0) | (np.diff(false_positives, 2) != 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        tpr = _from_zero(true_positives / true_positives[:, -1:])
        fpr = _from_zero(false_positives / false_positives[:, -1:])
        precision = true_positives / np.maximum(true_positives + false_positives, 1e-300)
    rows = np.arange(len(weights))
    is_defined = (true_positives[:, -1] > 0) & (false_positives[:, -1] > 0)
    excess = fpr - (1 - tpr)  # from -1 up to 1
    after = np.maximum(np.argmax(excess >= 0, axis=1), 1)
    low, high = excess[rows, after - 1], excess[rows, after]
    share = -low / np.where(high > low, high - low, 1)
    distance = np.where(_from_zero(is_kink, True), np.abs((1 - tpr) - fpr), np.inf)
    nearest = np.argmin(np.where(np.isnan(distance), np.inf, distance), axis=1)
    found = {
        "video_auc": (np.diff(fpr) * (tpr[:, 1:] + tpr[:, :-1])).sum(axis=1) / 2,
        "eer": fpr[rows, after - 1] + share * (fpr[rows, after] - fpr[rows, after - 1]),
        "eer_nearest": fpr[rows, nearest],
        "ap": (np.diff(tpr) * precision).sum(axis=1),
    }
    for name, most in MAX_FPR.items():
        found[name] = tpr[rows, np.maximum((fpr <= most).sum(axis=1) - 1, 0)]
    return {name: np.where(is_defined, values, np.nan) for name, values in found.items()}


def _from_zero(values: NDArray[Any], start: float = 0) -> NDArray[Any]:
    """Puts the point before the first in front: no sample is called fake."""
    return np.concatenate([np.full((len(values), 1), start, values.dtype), values], axis=1)


def frame_wins(sample: NDArray[np.int64], scores: Floats64, is_fake: NDArray[np.bool_]) -> Floats64:
    """(real samples, fake samples): pairs of frames in which the fake's score is higher, a tie counts half.

    Args:
        sample: (F,), the sample of each frame, ascending, each of 0 to N - 1 at least once.
        scores: (F,).
        is_fake: (N,), of each sample.
    """
    starts = np.searchsorted(sample, np.arange(len(is_fake) + 1))
    of_fakes = is_fake[sample]
    fake_scores = scores[of_fakes]
    fake_starts = np.searchsorted(sample[of_fakes], np.flatnonzero(is_fake))
    reals = np.flatnonzero(~is_fake)
    wins = np.zeros((len(reals), len(fake_starts)))
    if len(fake_starts):
        for at, number in enumerate(reals):
            own = np.sort(scores[starts[number] : starts[number + 1]])
            below = np.searchsorted(own, fake_scores, "left") + np.searchsorted(own, fake_scores, "right")
            wins[at] = np.add.reduceat(below, fake_starts) / 2
    return wins


def frame_auc(wins: Floats64, num_frames: NDArray[np.int64], is_fake: NDArray[np.bool_], weights: Floats64) -> Floats64:
    """Area under the ROC curve of all frames, each with the weight of its sample.

    Args:
        wins: from `frame_wins`, of the same samples.
        num_frames, is_fake: (N,) of each sample.
        weights: (R, N), see the module.
    """
    frames = weights * num_frames
    num_pairs = frames[:, ~is_fake].sum(axis=1) * frames[:, is_fake].sum(axis=1)
    won = ((weights[:, ~is_fake] @ wins) * weights[:, is_fake]).sum(axis=1)
    return np.where(num_pairs > 0, won / np.where(num_pairs > 0, num_pairs, 1), np.nan)


def accuracy(is_fake: NDArray[np.bool_], scores: Floats64, threshold: float, weights: Floats64) -> Floats64:
    """Share of samples on the right side; a score at the threshold or above means fake."""
    is_right = (scores >= threshold) == is_fake
    total = weights.sum(axis=1)
    return np.where(total > 0, (weights * is_right).sum(axis=1) / np.where(total > 0, total, 1), np.nan)


def best_threshold(is_fake: NDArray[np.bool_], scores: Floats64) -> float | None:
    """The threshold with the highest balanced accuracy; None without both classes.

    Halfway between two scores. Accuracy itself would call everything fake where most samples are.
    """
    if is_fake.all() or not is_fake.any():
        return None
    values = np.unique(scores)
    between = np.append(values[0], (values[1:] + values[:-1]) / 2)  # a score at the threshold is fake
    real, fake = np.sort(scores[~is_fake]), np.sort(scores[is_fake])
    is_below = np.searchsorted(real, between) / len(real) - np.searchsorted(fake, between) / len(fake)
    return float(between[np.argmax(is_below)])


def resampled_weights(
    sample_ids: Sequence[str], folds: Sequence[int | None], num_resamples: int, seed: int
) -> Iterator[Floats64]:
    """Weights of bootstrap resamples over identities, in chunks (R, N).

    People are drawn with replacement, each fold for itself. A sample counts as often as its person was drawn, a fake of
    two people as the product of both: whoever is left out is left out of everything. Generated images have nobody: each
    is drawn by itself.

    Args:
        sample_ids, folds: of the N samples.
        num_resamples: how many weightings in all.
        seed: the same one gives the same weights.
    """
    people = [people_of(sample_id) or (sample_id,) for sample_id in sample_ids]
    drawn = sorted({person for pair in people for person in pair})
    number_of = {person: number for number, person in enumerate(drawn)}
    fold_of = {person: fold for pair, fold in zip(people, folds, strict=True) if fold is not None for person in pair}
    strata: dict[tuple[bool, Any], list[int]] = {}
    for person, number in number_of.items():
        strata.setdefault(("/" in person, fold_of.get(person)), []).append(number)
    first = np.array([number_of[pair[0]] for pair in people])
    second = np.array([number_of[pair[-1]] if len(pair) > 1 else len(drawn) for pair in people])
    generator = np.random.default_rng(seed)
    for start in range(0, num_resamples, CHUNK):
        count = min(CHUNK, num_resamples - start)
        times = np.ones((count, len(drawn) + 1))  # the last stands for nobody
        for members in strata.values():
            chosen = generator.integers(0, len(members), (count, len(members)))
            chosen += np.arange(count)[:, None] * len(members)
            counted = np.bincount(chosen.ravel(), minlength=count * len(members))
            times[:, members] = counted.reshape(count, len(members))
        yield times[:, first] * times[:, second]
