"""What stands between this workspace and a release, line by line, the worst first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from homologous_deepfake import SUBSETS
from tooling.views.report.audit_matrix import outcome_of
from tooling.views.report.overview import FileOverview, Overview
from tooling.workspace.records import format_bars

State = Literal["bad", "warn", "good"]
ORDER = ("bad", "warn", "good")
MAX_MISSING = 20


@dataclass(frozen=True)
class CheckLine:
    """One check: its state, what to do next, and the section of the page about it."""

    state: State
    title: str
    text: str
    anchor: str


def check_lines(overview: Overview) -> list[CheckLine]:
    """All lines, the worst first."""
    files = [file for found in overview.files.values() for file in found]
    lines = [
        _counts(overview),
        _rows(overview),
        _consent(overview),
        _bars(overview),
        _marks(files),
        _verified(overview, files),
        _missing(overview),
        _left_out(overview),
        _audit(overview),
    ]
    return sorted((line for line in lines if line), key=lambda line: ORDER.index(line.state))


def _counts(overview: Overview) -> CheckLine:
    short = [name for name, files in overview.files.items() if len(files) != SUBSETS[name].count]
    if not short:
        return CheckLine("good", "Catalogue", "every subset has its number of files", "catalogue")
    return CheckLine("warn", "Catalogue", f"{len(short)} of {len(SUBSETS)} subsets differ from the target", "catalogue")


def _rows(overview: Overview) -> CheckLine | None:
    if not overview.problems:
        return None
    subset, problem = next(iter(overview.problems.items()))
    return CheckLine("bad", "Rows", f"{subset}: {problem}", "catalogue")


def _missing(overview: Overview) -> CheckLine | None:
    """Planned fakes that are not there, each with what to do."""
    if not overview.missing:
        return None
    texts = [f"{name}: {text}" for name, text in overview.missing.items()]
    more = [f"{len(texts) - MAX_MISSING:,} more; `tooling verify` lists them"] if len(texts) > MAX_MISSING else []
    return CheckLine("bad", "Missing fakes", ". ".join([*texts[:MAX_MISSING], *more]), "catalogue")


def _left_out(overview: Overview) -> CheckLine | None:
    if not overview.left_out:
        return None
    text = ". ".join(f"{subset}: {text}" for subset, text in overview.left_out.items())
    return CheckLine("warn", "Left out", text, "catalogue")


def _consent(overview: Overview) -> CheckLine:
    counts = Counter(person.consent_status for person in overview.people.values())
    if not overview.people:
        return CheckLine("warn", "Consent", "no identities.csv here", "people")
    others = sum(counts.values()) - counts["granted"]
    if others:
        return CheckLine("bad", "Consent", f"{others} of {len(overview.people)} people have not granted it", "people")
    return CheckLine("good", "Consent", f"granted by all {len(overview.people)} people", "people")


def _bars(overview: Overview) -> CheckLine | None:
    clips = overview.files["raw_video"]
    padded = [file.record for file in clips if any(file.record.bar_shares)]
    if not padded:
        return None
    widest = max(padded, key=lambda record: record.bar_shares)
    text = f"in {len(padded):,} of {len(clips):,} clips, up to {format_bars(widest)}"
    return CheckLine("warn", "Black bars", text, "people")


def _marks(files: list[FileOverview]) -> CheckLine:
    unmarked = sum(not file.record.digital_source_type for file in files)
    if unmarked:
        text = f"{unmarked:,} of {len(files):,} files carry no mark; make them again"
        return CheckLine("bad", "Marks", text, "catalogue")
    return CheckLine("good", "Marks", f"all {len(files):,} files carry a mark", "catalogue")


def _verified(overview: Overview, files: list[FileOverview]) -> CheckLine:
    if overview.unverified:
        return CheckLine("bad", "Verification", overview.unverified, "findings")
    counts = Counter(file.outcome for file in files)
    if counts["error"]:
        kinds = Counter(finding.kind for finding in overview.findings if finding.severity == "error")
        text = f"{_files(counts['error'])} errors: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}"
        return CheckLine("bad", "Verification", text, "findings")
    unknown = counts["stale"] + counts["unverified"]
    if unknown:
        text = f"{unknown:,} files are new or changed since; run `tooling verify`"
        return CheckLine("bad", "Verification", text, "findings")
    return CheckLine("good", "Verification", f"all {len(files):,} files are without errors", "findings")


def _audit(overview: Overview) -> CheckLine:
    if overview.audit is None:
        text = "of files that have changed since" if overview.has_old_audit else "not audited"
        return CheckLine("warn", "Shortcut audit", f"{text}; run `tooling audit`", "audit")
    above = sum(not result.is_ok for result in overview.audit.probes)
    if above:
        return CheckLine("bad", "Shortcut audit", f"{above} probe{'s' * (above > 1)} above the limit", "audit")
    unclear = sum(outcome_of(result) in ("may be chance", "too few people") for result in overview.audit.probes)
    if unclear:
        text = f"no shortcut found; {unclear} of {len(overview.audit.probes)} probes need more people to be judged"
        return CheckLine("warn", "Shortcut audit", text, "audit")
    return CheckLine("good", "Shortcut audit", "no probe above its limit", "audit")


def _files(count: int) -> str:
    return "1 file has" if count == 1 else f"{count:,} files have"
