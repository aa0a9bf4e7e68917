"""Numbers to trust: metrics of predictions against a release, overall and by group, with intervals over people.

    samples = read_samples("OWNER/NAME")
    predictions = read_predictions([Path("predictions.csv")], samples, name="my detector")
    evaluation = evaluate(predictions)
    evaluation.overall["video_auc"], evaluation.by["method"]["face_swap"]["video_auc_low"]

`frame_auc` counts frames; every other number counts samples, each with the mean of its frames, so that a long clip
counts no more than a short one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index
from numpy.typing import NDArray

from detection.metrics import (
    accuracy,
    best_threshold,
    curve_metrics,
    frame_auc,
    frame_wins,
    resampled_weights,
)
from detection.predictions import Predictions
from homologous_deepfake import ATTRIBUTES, FAKES, GENDERS, METHODS, SUBSETS

METRICS = (
    "frame_auc",
    "video_auc",
    "eer",
    "eer_nearest",
    "ap",
    "tpr_at_fpr_1",
    "tpr_at_fpr_5",
    "accuracy",
)
TUNED_ON = "validation"
INTERVAL = (2.5, 97.5)  # percentiles

Numbers = dict[str, float | int | None]
Group = tuple[str, str]  # kind and name: ("method", "face_swap")


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one detector.

    Attributes:
        name: of the predictions.
        split: what `overall` and all groups but the folds are of; None for every split.
        overall: METRICS, each also with `_low` and `_high`, the ends of its 95 % interval; `prevalence`, the share of
            fakes; `threshold`; `num_real` and `num_fake`, samples. None where a number is not defined.
        by: the same by kind of group (subset, method, attribute, gender, fold) and name.
        notes: what a reader of the numbers must know.
    """

    name: str
    split: str | None
    overall: Numbers
    by: dict[str, dict[str, Numbers]]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For programs: the attributes by name."""
        return {
            "name": self.name,
            "split": self.split or "all",
            "overall": self.overall,
            "by": self.by,
            "notes": list(self.notes),
        }


def evaluate(
    predictions: Predictions, *, split: str | None = "test", num_resamples: int = 1000, seed: int = 0
) -> Evaluation:
    """Metrics of predictions, overall and by group.

    A group that has no real sample is compared with all real samples of the split, one that has no fake with all fakes.
    Folds are taken from every split that has predictions. The threshold is the one with the highest balanced accuracy
    on the split `validation`, whose samples never count in `accuracy`. Intervals: see `metrics.resampled_weights`.

    Args:
        predictions: of at least the rows of `split`.
        split: see `Evaluation`.
        num_resamples: of the bootstrap; 0 for no intervals.
        seed: of the bootstrap.
    """
    scorer = _Scorer(predictions)
    groups = {("", ""): scorer.of_split(split), **_groups(predictions, scorer.of_split(split))}
    alike = {members.tobytes(): members for members in groups.values()}  # as a method with one subset
    ones = np.ones((1, len(predictions.rows)))
    measured: dict[bytes, Numbers] = {}
    for key, members in alike.items():
        values = {name: _number(found[0]) for name, found in scorer.measure(members, ones).items()}
        measured[key] = scorer.describe(members) | values
    if num_resamples:
        resampled: dict[bytes, dict[str, list[NDArray[np.float64]]]] = {key: defaultdict(list) for key in alike}
        sample_ids, folds = ([row[key] for row in predictions.rows] for key in ("sample_id", "fold"))
        for weights in resampled_weights(sample_ids, folds, num_resamples, seed):
            for key, members in alike.items():
                for name, found in scorer.measure(members, weights).items():
                    resampled[key][name].append(found)
        for key, parts in resampled.items():
            measured[key] |= _intervals({name: np.concatenate(part) for name, part in parts.items()})
    numbers = {group: dict(measured[members.tobytes()]) for group, members in groups.items()}
    overall = numbers.pop(("", ""))
    by: dict[str, dict[str, Numbers]] = {kind: {} for kind in ("subset", "method", "attribute", "gender", "fold")}
    for (kind, name), own in numbers.items():
        by[kind][name] = own
    return Evaluation(predictions.name, split, overall, by, scorer.notes(split))


class _Scorer:
    """Measures groups of samples; members are bool (rows,)."""

    def __init__(self, predictions: Predictions) -> None:
        self._is_fake, self._scores = predictions.is_fake, predictions.mean_score
        self._splits = predictions.column("split")
        self._num_frames = np.bincount(predictions.sample)
        self._wins = frame_wins(predictions.sample, predictions.score, self._is_fake)
        is_tuned_on = self._splits == TUNED_ON
        self.threshold = None
        if is_tuned_on.any():
            self.threshold = best_threshold(self._is_fake[is_tuned_on], self._scores[is_tuned_on])

    def of_split(self, split: str | None) -> NDArray[np.bool_]:
        """Members of a split, of every split for None."""
        return np.ones(len(self._splits), bool) if split is None else self._splits == split

    def describe(self, members: NDArray[np.bool_]) -> Numbers:
        """What has no interval, in the order in which all numbers are given."""
        num_fake = int(self._is_fake[members].sum())
        num_real = int(members.sum()) - num_fake
        counts = {"num_real": num_real, "num_fake": num_fake}
        prevalence = num_fake / (num_real + num_fake) if num_real + num_fake else None
        return {**dict.fromkeys(METRICS), "prevalence": prevalence, "threshold": self.threshold, **counts}

    def measure(self, members: NDArray[np.bool_], weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """METRICS of a group for each weighting (R, rows): (R,) each."""
        is_fake, own = self._is_fake[members], weights[:, members]
        if is_fake.all() or not is_fake.any():
            found = {name: np.full(len(weights), np.nan) for name in METRICS}
        else:
            wins = self._wins[np.ix_(members[~self._is_fake], members[self._is_fake])]
            found = curve_metrics(is_fake, self._scores[members], own)
            found["frame_auc"] = frame_auc(wins, self._num_frames[members], is_fake, own)
        judged = members & (self._splits != TUNED_ON)
        found["accuracy"] = np.full(len(weights), np.nan)
        if self.threshold is not None and judged.any():
            judged_weights = weights[:, judged]
            found["accuracy"] = accuracy(self._is_fake[judged], self._scores[judged], self.threshold, judged_weights)
        return found

    def notes(self, split: str | None) -> tuple[str, ...]:
        """What a reader must know: where numbers are missing, and which samples they are not of."""
        found = []
        labels = set(self._is_fake[self.of_split(split)].tolist())
        if len(labels) < 2:
            missing = "fake" if labels == {False} else "real"
            found.append(f"no AUC, EER, AP and TPR: {split or 'the release'} has no {missing} samples")
        if self.threshold is None:
            found.append(f"no threshold and no accuracy: {TUNED_ON} has no predictions of both real and fake samples")
        elif split == TUNED_ON:
            found.append(f"no accuracy: the threshold was chosen on these very samples, {TUNED_ON}")
        elif split is None:
            found.append(f"accuracy is of the samples outside {TUNED_ON}, on which the threshold was chosen")
        others = sorted({*self._splits} - {split}) if split is not None else []
        if others:
            found.append(f"predictions of {' and '.join(others)} count by fold only, and {TUNED_ON} for the threshold")
        return tuple(found)


def _groups(predictions: Predictions, base: NDArray[np.bool_]) -> dict[Group, NDArray[np.bool_]]:
    """Members of each group that has any, in the order of the catalogue."""
    is_fake = predictions.is_fake
    catalogue: dict[str, Sequence[str]] = {
        "subset": tuple(SUBSETS),
        "method": METHODS[1:],
        "attribute": ATTRIBUTES,
        "gender": GENDERS,
    }
    found: dict[Group, NDArray[np.bool_]] = {}
    for kind, names in catalogue.items():
        values = predictions.column(kind)
        for name in names:
            members = base & (values == name)
            if members.any():
                has_real, has_fake = (members & ~is_fake).any(), (members & is_fake).any()
                found[kind, name] = members | (base & ((~is_fake & ~has_real) | (is_fake & ~has_fake)))
    folds = predictions.column("fold")
    for fold in sorted({fold for fold in folds if fold is not None}):
        found["fold", str(fold)] = folds == fold
    return found


def _intervals(resampled: dict[str, NDArray[np.float64]]) -> Numbers:
    """`_low` and `_high` of each metric; None where most resamples have no number."""
    found: Numbers = {}
    for name in METRICS:
        values = resampled[name][np.isfinite(resampled[name])]
        is_defined = 2 * len(values) > len(resampled[name])
        low, high = np.percentile(values, INTERVAL) if is_defined else (np.nan, np.nan)
        found |= {f"{name}_low": _number(low), f"{name}_high": _number(high)}
    return found


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def method_matrix(evaluations: Sequence[Evaluation]) -> dict[str, dict[str, Numbers]]:
    """Video AUC with its interval by what was trained on, the predictions' name, and by the method tested on."""
    keys = ("video_auc", "video_auc_low", "video_auc_high")
    return {
        one.name: {method: {key: numbers.get(key) for key in keys} for method, numbers in one.by["method"].items()}
        for one in evaluations
    }


def format_matrix(matrix: dict[str, dict[str, Numbers]]) -> list[str]:
    """A `method_matrix` as lines of text: what was trained on down, the methods tested on across."""
    methods = list(dict.fromkeys(method for row in matrix.values() for method in row))
    lines = ["video AUC, trained on \\ tested on", f"{'':<24}" + "".join(f"{method:>22}" for method in methods)]
    for name, row in matrix.items():
        cells = (with_interval(row[method], "video_auc") if method in row else "-" for method in methods)
        lines.append(f"{name:<24}" + "".join(f"{cell:>22}" for cell in cells))
    return lines


def with_interval(numbers: Numbers, metric: str) -> str:
    """A metric and its interval as text: "0.9312 0.88-0.97"; "-" where it is not defined."""
    value, low, high = (numbers.get(f"{metric}{end}") for end in ("", "_low", "_high"))
    interval = "" if low is None or high is None else f" {low:.2f}-{high:.2f}"
    return ("-" if value is None else f"{value:.4f}") + interval


def model_index(evaluation: Evaluation, *, dataset: str) -> list[dict[str, Any]]:
    """The `model-index` of a model card at the Hub: METRICS overall and by subset of fakes.

    Args:
        evaluation: its name is the model's.
        dataset: id of the release at the Hub, or its folder's name.
    """
    fakes = {name: numbers for name, numbers in evaluation.by["subset"].items() if name in FAKES}
    repo_id, _, revision = dataset.partition("@")
    results = [
        EvalResult(
            task_type="video-classification",
            task_name="Deepfake detection",
            dataset_type=repo_id,
            dataset_name=f"Homologous_deepfake ({config})",
            dataset_config=config,
            dataset_split=evaluation.split or "all",
            dataset_revision=revision or None,
            metric_type="roc_auc" if metric.endswith("auc") else metric,
            metric_name=metric,
            metric_value=numbers[metric],
        )
        for config, numbers in {"all": evaluation.overall, **fakes}.items()
        for metric in METRICS
        if numbers[metric] is not None
    ]
    index: list[dict[str, Any]] = eval_results_to_model_index(evaluation.name, results)
    return index


def as_deepfakebench(predictions: Predictions, *, split: str | None = "test") -> dict[str, Any]:
    """Frame AUC, EER, AP and video AUC as DeepfakeBench (Yan et al., NeurIPS 2023) computes them, and what is wrong.

    All but the video AUC are of frames. For that, the benchmark groups frames by the name of their folder, that of the
    clip without its subset, and calls a group fake if all its frames are: clips of one name become one, and a fake that
    shares its name with a real clip counts as real.

    Returns:
        `frame_auc`, `eer`, `ap`, `video_auc`, None without both classes; `num_videos` groups that it sees of
        `num_samples`; `wrong`, a list of sentences.
    """
    from sklearn.metrics import auc, average_precision_score, roc_curve

    splits = predictions.column("split")
    members = np.ones(len(splits), bool) if split is None else splits == split
    is_used = members[predictions.sample]
    sample, scores = predictions.sample[is_used], predictions.score[is_used]
    is_fake = predictions.is_fake[sample]
    found: dict[str, Any] = dict.fromkeys(("frame_auc", "eer", "ap", "video_auc"))
    if not is_fake.all() and is_fake.any():
        fpr, tpr, _ = roc_curve(is_fake, scores)
        nearest = np.argmin(np.abs((1 - tpr) - fpr))
        found |= {"frame_auc": float(auc(fpr, tpr)), "eer": float(fpr[nearest])}
        found["ap"] = float(average_precision_score(is_fake, scores))
    names = [predictions.rows[number]["sample_id"].rpartition("/")[2] for number in sample]
    groups: dict[str, list[int]] = defaultdict(list)
    for at, name in enumerate(names):
        groups[name].append(at)
    labels = [bool(is_fake[at].all()) for at in groups.values()]
    if len(set(labels)) == 2:
        fpr, tpr, _ = roc_curve(labels, [sum(scores[at].tolist()) / len(at) for at in groups.values()])
        found["video_auc"] = float(auc(fpr, tpr))
    merged = {name: {int(sample[at]) for at in ats} for name, ats in groups.items()}
    doubled = {name: numbers for name, numbers in merged.items() if len(numbers) > 1}
    mixed = sum(len({bool(predictions.is_fake[number]) for number in numbers}) > 1 for numbers in doubled.values())
    found |= {"num_videos": len(groups), "num_samples": int(members.sum()), "wrong": []}
    if doubled:
        count = sum(map(len, doubled.values()))
        found["wrong"].append(
            f"video_auc: frames are grouped by the name of their folder, so {count} samples become {len(doubled)}; "
            f"{mixed} of these hold real and fake clips of one name and count as real"
        )
    found["wrong"].append("frame_auc, eer, ap: each frame counts alike, so a long clip counts more than a short one")
    found["wrong"].append("eer: the false alarms at the nearest point of the curve, not where both errors are equal")
    return found
