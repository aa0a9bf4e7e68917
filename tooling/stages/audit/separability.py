"""How well a few features separate real from fake: area under the ROC curve, cross-validated between people.

A logistic regression on the features and their squares is trained on all folds but one, and its scores order the real
and fake files of that one; nobody is in two folds. The direction is learned in training, too: an area below 0.5 is not
turned round. The areas of the folds are averaged, weighted by their fakes: two models' scores have different scales.

The interval is the middle 95 % over resampled people (a percentile bootstrap of whole people with all of their files;
Efron and Tibshirani, 1993), with the models as they are. The p-value is that of an area of at most 0.5, from a normal
distribution with the bootstrap's standard error. Of many probes, some are above any limit by chance: their p-values are
adjusted together (Holm, A simple sequentially rejective multiple test procedure, 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from tooling.stages.audit.probes import Measured

NUM_RESAMPLES = 1_000
SCORE_DIGITS, ROUNDING = 9, 1e-9  # smaller differences are rounding errors

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ProbedFile:
    """One file.

    Attributes:
        measured: the features of one probe.
        is_fake: its label.
        fold: files of one fold are all in training, or all in the test.
        person: all files of a person are resampled together.
    """

    measured: Measured
    is_fake: bool
    fold: int
    person: str


@dataclass(frozen=True)
class Separability:
    """Area under the ROC curve, 0 to 1 (0.5 is chance), its 95 % interval, and the p-value of an area by chance."""

    auc: float
    low: float
    high: float
    p_value: float


def measure_separability(samples: Sequence[ProbedFile], seed: int = 0) -> Separability | None:
    """Cross-validated separability; None unless two folds have both real and fake files."""
    is_fake = np.array([sample.is_fake for sample in samples], bool)
    folds = np.array([sample.fold for sample in samples])
    usable = [fold for fold in np.unique(folds) if is_fake[folds == fold].any() and not is_fake[folds == fold].all()]
    if len(usable) < 2:
        return None
    people, owner = np.unique([sample.person for sample in samples], return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(people), np.full(len(people), 1 / len(people)), NUM_RESAMPLES)
    # First row: everyone once, the estimate itself.
    weights = np.vstack([np.ones(len(people)), draws])[:, owner]
    total, weight = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in usable:
        test = folds == fold
        scores = _scores(samples, is_fake, test)
        areas, num_fakes = _weighted_areas(scores, is_fake[test], weights[:, test])
        total += areas * num_fakes
        weight += num_fakes
    found = total / np.maximum(weight, 1e-12)
    resampled = found[1:][weight[1:] > 0]
    low, high = np.quantile(resampled, [0.025, 0.975])
    # Resamples of a handful of people repeat some, which moves the area to one side: the interval reaches the estimate.
    p_value = float(ndtr((0.5 - found[0]) / max(float(resampled.std()), ROUNDING)))
    return Separability(float(found[0]), float(min(low, found[0])), float(max(high, found[0])), p_value)


def adjusted_by_holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, each corrected for the number of tests: at most 1, in the order of the input."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min((len(p_values) - rank) * p_values[at], 1.0))
        adjusted[at] = largest
    return adjusted


def _scores(samples: Sequence[ProbedFile], is_fake: NDArray[np.bool_], test: NDArray[np.bool_]) -> Floats:
    """Scores of the files under `test` by a model of all others; constant if the features do not vary."""
    # Imported here: an audit that is kept needs nothing of it, and it takes a second.
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    vectorizer = DictVectorizer(sparse=False)
    train_table = vectorizer.fit_transform(
        [s.measured for s, is_test in zip(samples, test, strict=True) if not is_test]
    )
    test_table = vectorizer.transform([s.measured for s, is_test in zip(samples, test, strict=True) if is_test])
    varied = np.ptp(train_table, axis=0) > ROUNDING * np.maximum(np.abs(train_table).max(axis=0), 1)
    if not varied.any():
        return np.zeros(len(test_table))
    scaler = StandardScaler().fit(train_table[:, varied])
    train_table, test_table = (scaler.transform(table[:, varied]) for table in (train_table, test_table))
    model = LogisticRegression(class_weight="balanced", max_iter=1_000)
    model.fit(np.hstack([train_table, train_table**2]), is_fake[~test])
    scores: Floats = model.decision_function(np.hstack([test_table, test_table**2]))
    return np.round(scores, SCORE_DIGITS)


def _weighted_areas(scores: Floats, is_fake: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """Area and weight of fakes for each row of weights (resamples, files); weight 0 without real or fake files."""
    fake, real = scores[is_fake], scores[~is_fake]
    wins = (fake[:, None] > real) + 0.5 * (fake[:, None] == real)
    of_fake, of_real = weights[:, is_fake], weights[:, ~is_fake]
    compared = of_fake.sum(axis=1) * of_real.sum(axis=1)
    areas = ((of_fake @ wins) * of_real).sum(axis=1) / np.maximum(compared, 1e-12)
    return areas, np.where(compared > 0, of_fake.sum(axis=1), 0.0)
