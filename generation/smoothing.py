"""Smooth series over time without lag, filled gaps, and the smooth step between two values."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSED = 0.04, 0.10  # shares of the points' distance from their middle, from where quick motion is followed, and wholly


def smoothstep(
    low: float | NDArray[Any], high: float | NDArray[Any], value: float | NDArray[Any]
) -> NDArray[np.floating[Any]]:
    """0 up to `low`, 1 from `high` on, smooth between; the other way round where `high` is the smaller. Any shape."""
    share = np.asarray((value - low) / (high - low))
    np.clip(share, 0, 1, out=share)
    rest = 3 - 2 * share
    share *= share
    share *= rest
    return share


def smooth_over_time(values: NDArray[np.floating[Any]], window: int) -> NDArray[np.float64]:
    """Local linear regression with Hann weights: no lag, a Hann filter inside, a fitted line at both ends.

    Args:
        values: (T, ...), one row a frame.
        window: odd number of rows that count.
    """
    reach = window // 2
    steps = np.arange(-reach, reach + 1)
    weights = 0.5 + 0.5 * np.cos(np.pi * steps / (reach + 1))
    ones = np.ones(len(values))

    def moment(series: NDArray[np.float64], power: int) -> NDArray[np.float64]:
        padded = np.pad(series, reach)
        return np.correlate(padded, weights * steps**power, mode="valid")

    s0, s1, s2 = (moment(ones, power) for power in range(3))
    determinant = s0 * s2 - s1 * s1
    is_line = determinant > 1e-9 * s0 * s0  # else a single row
    columns = np.asarray(values, np.float64).reshape(len(values), -1)
    smooth = np.empty_like(columns)
    for at, column in enumerate(columns.T):
        t0, t1 = moment(column, 0), moment(column, 1)
        smooth[:, at] = np.where(is_line, s2 * t0 - s1 * t1, t0) / np.where(is_line, determinant, s0)
    return smooth.reshape(np.shape(values))


def smooth_points(points: NDArray[np.floating[Any]], window: int) -> NDArray[np.float64]:
    """`smooth_over_time`, but points that move quickly together are followed to where they were measured.

    A window that calms a face at rest cuts the corners of one that turns back and forth within it. How far the points
    as a whole lie beside the smooth path tells both apart: what each of them was measured wrong averages out.

    Args:
        points: (T, K, 2), one row a frame.
        window: odd number of rows that count.
    """
    smooth = smooth_over_time(points, window)
    size = float(np.median(np.sqrt(np.square(points - points.mean(1, keepdims=True)).sum(2).mean(1))))
    offset = (points - smooth).mean(1, keepdims=True)
    missed = np.linalg.norm(offset[:, 0], axis=1) / max(size, 1e-6)
    # A frame between two that are followed may cross the smooth path.
    missed = np.max([missed, np.append(missed[1:], 0), np.insert(missed[:-1], 0, 0)], axis=0)
    share = smooth_over_time(smoothstep(*MISSED, missed), 3)
    return np.asarray(smooth + share[:, None, None] * offset, np.float64)


def fill_gaps(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolates rows of NaN linearly over time; before the first and after the last measured row it is held.

    Args:
        values: float64 (T, K), at least one row without NaN.
    """
    times, known = np.arange(len(values)), np.flatnonzero(np.isfinite(values[:, 0]))
    return np.stack([np.interp(times, known, column[known]) for column in values.T], axis=1)


def fill_short_gaps(is_known: NDArray[np.bool_], longest: int) -> NDArray[np.bool_]:
    """Marks short gaps as known: those of at most `longest` rows that have a known row on both sides.

    Args:
        is_known: bool (T,), one for each row; not changed.
        longest: rows; 0 fills none.
    """
    filled, known = is_known.copy(), np.flatnonzero(is_known)
    for before, after in pairwise(known):
        if after - before - 1 <= longest:
            filled[before:after] = True
    return filled
