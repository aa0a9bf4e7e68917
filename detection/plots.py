"""Plots of an evaluation: ROC, DET, calibration and histograms of the scores, one PNG each."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import roc_curve

from detection.predictions import Predictions, write_whole
from homologous_deepfake import METHODS

SIZE_INCHES, DOTS_PER_INCH = (5.2, 4.4), 150
NUM_BINS = 10
RATES = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)  # ticks of DET
COLOURS = dict(zip(METHODS, ("#4c78a8", "#e45756", "#f58518", "#54a24b", "#b279a2"), strict=True))


def write_plots(predictions: Predictions, folder: Path, *, split: str | None = "test") -> list[Path]:
    """Writes roc.png, det.png, histograms.png and, if the scores are in [0, 1], calibration.png; returns their paths.

    Args:
        predictions: each sample counts once, with the mean of its frames; each method is compared with all real ones.
        folder: exists; files of these names are replaced.
        split: of the samples; None for every split.
    """
    splits = predictions.column("split")
    members = np.ones(len(splits), bool) if split is None else splits == split
    methods, scores = predictions.column("method")[members], predictions.mean_score[members]
    is_fake = predictions.is_fake[members]
    drawn = {"histograms": _draw_histograms}
    if is_fake.any() and not is_fake.all():
        drawn |= {"roc": _draw_roc, "det": _draw_det}
        if scores.min() >= 0 and scores.max() <= 1:
            drawn["calibration"] = _draw_calibration
    written = []
    for name, draw in sorted(drawn.items()):
        figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
        axes = figure.add_subplot()
        draw(axes, methods, scores)
        axes.set_title(f"{predictions.name}, {split or 'all splits'}", fontsize=10)
        axes.legend(fontsize=8)
        written.append(folder / f"{name}.png")
        write_whole(written[-1], partial(figure.savefig, format="png", metadata={"Software": None}))
    return written


def _curves(methods: NDArray[np.object_], scores: NDArray[np.float64]) -> dict[str, tuple[NDArray[np.float64], ...]]:
    """False and true positive rates of all fakes, "all", and of each method, against all real samples."""
    is_real = methods == METHODS[0]
    parts = {"all": np.ones(len(methods), bool)}
    parts |= {name: is_real | (methods == name) for name in METHODS[1:] if (methods == name).any()}
    return {name: roc_curve(~is_real[part], scores[part])[:2] for name, part in parts.items()}


def _draw_roc(axes: Axes, methods: NDArray[np.object_], scores: NDArray[np.float64]) -> None:
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for name, (fpr, tpr) in _curves(methods, scores).items():
        axes.plot(fpr, tpr, color=COLOURS.get(name, "black"), label=name, linewidth=2 if name == "all" else 1.2)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")


def _draw_det(axes: Axes, methods: NDArray[np.object_], scores: NDArray[np.float64]) -> None:
    ends = float(norm.ppf(RATES[0])), float(norm.ppf(RATES[-1]))
    for name, (fpr, tpr) in _curves(methods, scores).items():
        # rate -> normal deviate, infinite for 0 and 1
        x, y = (np.clip(norm.ppf(rates), *ends) for rates in (fpr, 1 - tpr))
        axes.plot(x, y, color=COLOURS.get(name, "black"), label=name, linewidth=2 if name == "all" else 1.2)
    ticks, labels = norm.ppf(RATES), [f"{rate:.1%}" if rate < 0.01 else f"{rate:.0%}" for rate in RATES]
    axes.set_xticks(ticks, labels, fontsize=7)
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.grid(color="0.9")
    axes.set(xlabel="false positive rate", ylabel="false negative rate", xlim=ends, ylim=ends, aspect="equal")


def _draw_calibration(axes: Axes, methods: NDArray[np.object_], scores: NDArray[np.float64]) -> None:
    numbers = np.minimum((scores * NUM_BINS).astype(int), NUM_BINS - 1)
    used = np.unique(numbers)
    means = [scores[numbers == number].mean() for number in used]
    shares = [(methods[numbers == number] != METHODS[0]).mean() for number in used]
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    axes.plot(means, shares, "o-", color="black", label="samples in ten bins of the score")
    for number, x, y in zip(used, means, shares, strict=True):
        axes.annotate(str((numbers == number).sum()), (x, y), (4, -9), textcoords="offset points", fontsize=7)
    axes.set(xlabel="mean score", ylabel="share of fakes", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def _draw_histograms(axes: Axes, methods: NDArray[np.object_], scores: NDArray[np.float64]) -> None:
    edges = np.linspace(scores.min(), max(scores.max(), scores.min() + 1e-9), 21)
    for name in METHODS:
        if (methods == name).any():
            own = scores[methods == name]
            weights = np.full(len(own), 1 / len(own))
            shares, _ = np.histogram(own, edges, weights=weights)
            is_real = name == METHODS[0]
            axes.stairs(
                shares,
                edges,
                fill=is_real,
                alpha=0.5 if is_real else 1,
                color=COLOURS[name],
                linewidth=1.5,
                label=f"{name} ({len(own)})",
            )
    axes.set(xlabel="score", ylabel="share of the method's samples")
