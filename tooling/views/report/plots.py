"""Geometry of the page's plots, in percent of their area; the template draws it as inline SVG.

Plotting libraries draw text at one size, so that it is illegible on a phone, or need scripts of a megabyte. These few
shapes are bars and dots at percentages: labels stay text of the page, in its size and colours.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from homologous_deepfake import GENDERS, METHODS, SPLIT_FOLDS, SUBSETS
from tooling.views.report.overview import Overview
from tooling.workspace.plan_file import NUM_FOLDS

NUM_BINS = 32
# name in verification.parquet -> title, unit
HISTOGRAMS = {
    "face_px": ("Face size", "px"),
    "sharpness": ("Sharpness", "variance of the Laplacian of luma"),
    "brightness": ("Brightness", "mean luma, 0 to 255"),
    "target_distance": ("How far the face is from the target's", "distance of identities"),
    "source_distance": ("How far the face is from the source's", "distance of identities"),
}
DISTANCES = ("target_distance", "source_distance")


@dataclass(frozen=True)
class Tick:
    """A tick of an axis: position in percent, and its number."""

    at: float
    text: str


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram, in percent, and its tooltip."""

    x: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class HistogramRow:
    """One subset's values."""

    subset: str
    is_fake: bool
    bars: tuple[Bar, ...]
    median_at: float
    values: tuple[str, str, str, str]  # number of files, lowest, median, highest


@dataclass(frozen=True)
class Histogram:
    """Values of all subsets over one axis."""

    name: str
    title: str
    unit: str
    ticks: tuple[Tick, ...]
    rows: tuple[HistogramRow, ...]
    is_log: bool


@dataclass(frozen=True)
class Dot:
    """A point in percent from the left and from the top, and the file that it stands for."""

    x: float
    y: float
    name: str
    subset: str


@dataclass(frozen=True)
class Scatter:
    """Distance from the source's face over that from the target's, of swaps and driven videos."""

    ticks: tuple[Tick, ...]
    dots: tuple[Dot, ...]
    subsets: tuple[tuple[str, int], ...]
    below: tuple[tuple[str, int, int], ...]  # subset, nearer to the source, of how many


@dataclass(frozen=True)
class _Point:
    name: str
    subset: str
    to_target: float
    to_source: float

    def __str__(self) -> str:
        return f"{self.name}: target {self.to_target:.2f}, source {self.to_source:.2f}"


@dataclass(frozen=True)
class FoldRow:
    """People of one fold by gender."""

    fold: int
    split: str
    counts: tuple[tuple[str, int, float, float], ...]  # gender, people, start and width in percent


def histograms(overview: Overview) -> list[Histogram]:
    """One for each measurement; without rows if nothing was measured."""
    return [_histogram(overview, name, title, unit) for name, (title, unit) in HISTOGRAMS.items()]


def _histogram(overview: Overview, name: str, title: str, unit: str) -> Histogram:
    values = {
        subset: [file.measurements[name] for file in files if name in file.measurements]
        for subset, files in overview.files.items()
    }
    values = {subset: found for subset, found in values.items() if found}
    if not values:
        return Histogram(name, title, unit, (), (), False)
    every = [value for found in values.values() for value in found]
    low, high = min(every), max(every)
    is_log = low > 0 and high / low > 50
    scale: Callable[[float], float] = math.log10 if is_log else float
    ticks = _log_ticks(low, high) if is_log else _nice_ticks(low, high)
    low, span = scale(min(ticks[0], low)), max(scale(max(ticks[-1], high)) - scale(min(ticks[0], low)), 1e-9)

    def position(value: float) -> float:
        return 100 * (scale(value) - low) / span

    rows = tuple(_row(subset, found, [position(value) for value in found]) for subset, found in values.items())
    return Histogram(name, title, unit, tuple(Tick(round(position(t), 2), _number(t)) for t in ticks), rows, is_log)


def _row(subset: str, values: Sequence[float], positions: Sequence[float]) -> HistogramRow:
    counts = [0] * NUM_BINS
    for position in positions:
        counts[min(int(position / 100 * NUM_BINS), NUM_BINS - 1)] += 1
    width, most = 100 / NUM_BINS, max(counts)
    bars = tuple(
        Bar(round(at * width, 3), round(width, 3), round(100 * count / most, 1), f"{count} files")
        for at, count in enumerate(counts)
        if count
    )
    numbers = (str(len(values)), *(_number(v) for v in (min(values), statistics.median(values), max(values))))
    is_fake = SUBSETS[subset].method != METHODS[0]
    return HistogramRow(subset, is_fake, bars, round(statistics.median(positions), 2), numbers)  # type: ignore[arg-type]


def scatter(overview: Overview) -> Scatter | None:
    """None if no file has both distances."""
    points = [
        _Point(file.record.sample_id, subset, *(file.measurements[name] for name in DISTANCES))
        for subset, files in overview.files.items()
        for file in files
        if all(name in file.measurements for name in DISTANCES)
    ]
    if not points:
        return None
    every = [value for point in points for value in (point.to_target, point.to_source)]
    ticks = _nice_ticks(min(*every, 0.0), max(*every, 1.0))
    low, span = min(ticks[0], *every), max(ticks[-1], *every) - min(ticks[0], *every)

    def position(value: float) -> float:
        return round(100 * (value - low) / span, 2)

    dots = tuple(
        Dot(position(point.to_target), 100 - position(point.to_source), str(point), point.subset) for point in points
    )
    subsets = _counted(point.subset for point in points)
    nearer = dict(_counted(point.subset for point in points if point.to_source < point.to_target))
    below = tuple((subset, nearer.get(subset, 0), count) for subset, count in subsets)
    return Scatter(tuple(Tick(position(t), _number(t)) for t in ticks), dots, subsets, below)


def fold_rows(overview: Overview) -> list[FoldRow]:
    """People by fold and gender; empty before folds are drawn."""
    people = [(fold, overview.people[name].gender) for name, fold in overview.folds.items() if name in overview.people]
    if not people:
        return []
    most = max(sum(fold == other for other, _ in people) for fold in range(NUM_FOLDS)) or 1
    rows = []
    for fold in range(NUM_FOLDS):
        start, counts = 0.0, []
        for gender in GENDERS:
            count = people.count((fold, gender))  # type: ignore[arg-type]
            counts.append((gender, count, round(start, 2), round(100 * count / most, 2)))
            start += 100 * count / most
        split = next((name for name, folds in SPLIT_FOLDS.items() if fold in folds), "")
        rows.append(FoldRow(fold, split, tuple(counts)))
    return rows


def area_at(value: float) -> float:
    """Position in percent of an area under the ROC curve, 0 to 1, on the audit's axis."""
    return round(100 * min(max(value, 0.0), 1.0), 2)


def _counted(names: Iterable[str]) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return tuple(counts.items())


def _nice_ticks(low: float, high: float) -> list[float]:
    """About five round numbers that enclose the values."""
    span = high - low or abs(high) or 1.0
    raw = span / 4
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    first = math.floor(low / step)
    return [number * step for number in range(first, math.ceil(high / step) + 1)] or [low, high]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that enclose the values."""
    return [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"
