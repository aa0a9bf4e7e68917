"""audit.json: how well simple probes tell real from fake. Written by `tooling audit`, read by card and report."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from homologous_deepfake import SUBSETS
from tooling.workspace.decoding import read_json
from tooling.workspace.files import write_text
from tooling.workspace.layout import Workspace

FORMAT = 1
MEASURED = "audit_measured.jsonl"  # what was measured of each file, in the workspace; it may be deleted


@dataclass(frozen=True)
class ProbeResult:
    """One probe on one subset of fakes.

    Attributes:
        subset: of the fakes.
        probe: its name.
        is_pixel: whether it measures decoded pixels.
        auc: cross-validated area under the ROC curve, 0 to 1; None where fakes and real files are not comparable by
            it, or are of too few people.
        low, high: its 95 % interval.
        num_real, num_fake: files compared.
        limit: the largest area allowed; None for probes of pixels.
        is_ok: whether it is within the limit, or may be above it by chance.
        p_value: of an area that is at most 0.5, adjusted for all probes with a limit; None where nothing was tested,
            and in files of before.
    """

    subset: str
    probe: str
    is_pixel: bool
    auc: float | None
    low: float | None
    high: float | None
    num_real: int
    num_fake: int
    limit: float | None
    is_ok: bool
    p_value: float | None = None


@dataclass(frozen=True)
class Audit:
    """All results.

    Attributes:
        probes: in the order of catalogue and probes.
        note: how to read them.
        records_sha256: of `records_digest`.
        inputs_sha256: of all that the results follow from: files, folds, pairs, tracks and method; empty in files of
            before.
    """

    probes: tuple[ProbeResult, ...]
    note: str
    records_sha256: str
    inputs_sha256: str = ""


def records_digest(workspace: Workspace, subsets: Iterable[str] = SUBSETS) -> str:
    """Hex SHA-256 over path and digest of every recorded file of some subsets, in the catalogue's order."""
    digest = hashlib.sha256()
    for subset in subsets:
        for record in workspace.records(subset).values():
            digest.update(f"{record.path} {record.sha256}\n".encode())
    return digest.hexdigest()


def write_audit(workspace: Workspace, audit: Audit) -> None:
    """Writes audit.json."""
    content = {"format": FORMAT, **dataclasses.asdict(audit)}
    write_text(workspace.audit_path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def read_audit(workspace: Workspace) -> Audit | None:
    """The last audit if it is of the files as they are now; None where there is none, or files changed since.

    Raises:
        WorkspaceError: audit.json is damaged.
    """
    path = workspace.audit_path
    if not path.is_file():
        return None
    audit = read_json(path, Audit, "run `tooling audit` again", newest_format=FORMAT)
    return audit if audit.records_sha256 == records_digest(workspace) else None


def format_area(result: ProbeResult) -> str:
    """The area and its interval, above its limit with the p-value; or why there is none."""
    if result.auc is None:
        return "not comparable" if SUBSETS[result.subset].media == "image" else "too few people"
    area = f"{result.auc:.2f} ({result.low:.2f} to {result.high:.2f})"
    if result.p_value is None or result.limit is None or result.auc <= result.limit:
        return area
    return f"{area}, p {'< 0.001' if result.p_value < 0.001 else f'{result.p_value:.3f}'}"


def format_table(audit: Audit) -> str:
    """Markdown: one row a probe, one column a subset of fakes, those above their limit in bold."""
    subsets = list(dict.fromkeys(result.subset for result in audit.probes))
    cells = {(result.probe, result.subset): result for result in audit.probes}
    lines = [f"| probe | {' | '.join(f'`{subset}`' for subset in subsets)} |", "|---" * (len(subsets) + 1) + "|"]
    for is_pixel in (False, True):
        for probe in dict.fromkeys(result.probe for result in audit.probes if result.is_pixel == is_pixel):
            row = [_cell(cells.get((probe, subset))) for subset in subsets]
            lines.append(f"| {probe.replace('_', ' ')}{' (pixels)' if is_pixel else ''} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _cell(result: ProbeResult | None) -> str:
    if result is None:
        return ""
    is_above = None not in (result.auc, result.limit) and not result.is_ok
    return f"**{format_area(result)}**" if is_above else format_area(result)
