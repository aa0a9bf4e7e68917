"""What a workspace knows about its release, in words and numbers for the papers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from generation.generators.registry import GENERATORS
from homologous_deepfake import METADATA, SUBSETS, people_of
from tooling import __version__
from tooling.release.folder import Release, format_bytes
from tooling.workspace.audit_file import read_audit
from tooling.workspace.layout import Workspace
from tooling.workspace.readiness import describe_left_out


def gather_facts(workspace: Workspace, release: Release) -> dict[str, Any]:
    """Facts by name, for the templates. Counts of files are the release's, everything else is the workspace's."""
    settings, identities = workspace.settings, workspace.identities()
    records = [record for subset in SUBSETS for record in workspace.records(subset).values()]
    shown = {person for record in records for person in people_of(record.sample_id)}
    people = [identity for name, identity in identities.items() if name in shown]
    plan = workspace.plan()
    folds = Counter(fold for name, fold in plan.folds.items() if name in shown) if plan else Counter()
    configs = [_config(name, config) for name, config in release.configs.items() if name != METADATA]
    return {
        "version": settings.card.version,
        "program_version": __version__,
        "clip": settings.clip,
        "face_px": settings.faces.size_px,
        "configs": configs,
        "num_files": sum(config["num_files"] for config in configs),
        "num_people": len(people),
        "kinds": "; ".join(
            f"`{name}`: {SUBSETS[name].description[0].lower()}{SUBSETS[name].description[1:].rstrip('.')}"
            for name in release.configs
            if name in SUBSETS
        ),
        "genders": _counts(Counter(person.gender for person in people)),
        "consent": _counts(Counter(person.consent_status for person in people)),
        "is_synthetic": bool(people) and all(person.is_synthetic for person in people),
        "folds": ", ".join(f"fold {fold}: {folds[fold]}" for fold in sorted(folds)) or "none drawn",
        "num_crossing": sum(
            found.num_examples
            for name, config in release.configs.items()
            for split, found in config.splits.items()
            if split == "crossing" and name != METADATA
        ),
        "num_imported": sum(record.origin != "made" for record in records),
        "num_taken_down": len(workspace.tombstones()),
        "is_marked": bool(records) and all(record.digital_source_type for record in records),
        "generators": _generators(workspace),
        "left_out": "; ".join(
            f"of `{name}`, {text}" for name, text in (describe_left_out(plan) if plan else {}).items()
        ),
        "audit_text": _audit(workspace),
        "licence": licence_text(workspace),
        "contact_text": _contact(workspace),
    }


def licence_text(workspace: Workspace) -> str:
    """A sentence with the licence, or one that asks the maintainers for it."""
    card = workspace.settings.card
    if card.licence != "other":
        return f"Licence: `{card.licence}`."
    if not card.licence_name:
        return "To be answered by the maintainers: `[card] licence_name` in workspace.toml."
    return f"Licence: {card.licence_name}{f' ({card.licence_link})' if card.licence_link else ''}."


def _config(name: str, config: Any) -> dict[str, Any]:
    num_bytes = sum(found.num_bytes for found in config.splits.values())
    return {
        "name": name,
        "num_files": sum(found.num_examples for found in config.splits.values()),
        "num_bytes": format_bytes(num_bytes),
        "splits": ", ".join(f"{split} {found.num_examples}" for split, found in config.splits.items()),
    }


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in sorted(counts)) or "nobody"


def _generators(workspace: Workspace) -> str:
    parts = []
    for subset, facts in SUBSETS.items():
        if facts.method == "real":
            continue
        made_by = sorted({record.generator for record in workspace.records(subset).values()})
        named = [f"`{name}`{f' ({GENERATORS[name].licence})' if name in GENERATORS else ''}" for name in made_by]
        parts += [f"`{subset}` by {', '.join(named)}"] if named else []
    return "; ".join(parts) or "there are none yet"


def _audit(workspace: Workspace) -> str:
    audit = read_audit(workspace)
    if audit is None:
        return "These files were not audited for shortcuts that separate real from fake."
    found = [f"{result.probe} in `{result.subset}`" for result in audit.probes if not result.is_ok]
    if not found:
        return "The audit on the dataset card found no shortcut that separates real from fake."
    return f"According to the audit on the dataset card, simple probes separate real from fake: {', '.join(found)}."


def _contact(workspace: Workspace) -> str:
    contact = workspace.settings.card.contact
    return (
        f"Write to {contact}." if contact else "To be answered by the maintainers: `[card] contact` in workspace.toml."
    )
