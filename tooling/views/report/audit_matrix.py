"""The shortcut audit as a matrix: a row for each probe, a column for each subset of fakes."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Literal

from homologous_deepfake import SUBSETS
from tooling.workspace.audit_file import Audit, ProbeResult, format_area

DISTANCES = (0.05, 0.1, 0.2, 0.35)  # of an area from 0.5, at which the next shade begins
Outcome = Literal["shortcut", "within limit", "may be chance", "too few people", "no limit", "not comparable"]


@dataclass(frozen=True)
class MatrixCell:
    """One probe on one subset.

    Attributes:
        result: of the probe.
        outcome: in words.
        shade: 0 for an area near 0.5, up to len(DISTANCES) for the farthest.
        area: ".71", or why there is none.
        interval: ".60–.80"; empty if it is no wider than the area as written.
    """

    result: ProbeResult
    outcome: Outcome
    shade: int
    area: str
    interval: str


@dataclass(frozen=True)
class MatrixRow:
    """One probe, with a cell for each subset; None where it was not tested."""

    probe: str
    cells: tuple[MatrixCell | None, ...]


@dataclass(frozen=True)
class Matrix:
    """The subsets of the columns, and the rows of probes that have a limit and of those of pixels."""

    subsets: tuple[str, ...]
    limited: tuple[MatrixRow, ...]
    pixels: tuple[MatrixRow, ...]


def lay_out_audit(audit: Audit) -> Matrix:
    """The results of an audit by probe and subset, in the audit's order."""
    subsets = tuple(dict.fromkeys(result.subset for result in audit.probes))
    results = {(result.probe, result.subset): result for result in audit.probes}

    def rows(*, is_pixel: bool) -> tuple[MatrixRow, ...]:
        probes = dict.fromkeys(result.probe for result in audit.probes if result.is_pixel == is_pixel)
        return tuple(
            MatrixRow(probe, tuple(_cell(results.get((probe, subset))) for subset in subsets)) for probe in probes
        )

    return Matrix(subsets, rows(is_pixel=False), rows(is_pixel=True))


def outcome_of(result: ProbeResult) -> Outcome:
    """What a result means for a release; "may be chance": an area above the limit that so many probes may have."""
    if not result.is_ok:
        return "shortcut"
    if result.limit is None:
        return "no limit"
    if result.auc is None:  # images have no real counterparts
        return "not comparable" if SUBSETS[result.subset].media == "image" else "too few people"
    return "may be chance" if result.auc > result.limit else "within limit"


def _cell(result: ProbeResult | None) -> MatrixCell | None:
    if result is None:
        return None
    outcome = outcome_of(result)
    if result.auc is None or result.low is None or result.high is None:
        return MatrixCell(result, outcome, 0, format_area(result), "")
    shade = bisect.bisect(DISTANCES, abs(round(result.auc, 2) - 0.5) + 1e-9)
    low, high = _short(result.low), _short(result.high)
    return MatrixCell(result, outcome, shade, _short(result.auc), "" if low == high else f"{low}–{high}")


def _short(area: float) -> str:
    return f"{area:.2f}".removeprefix("0")
