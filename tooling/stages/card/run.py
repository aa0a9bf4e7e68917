"""card: a release's README.md, the dataset card, from the repository's README.md and the contents of the shards.

The repository's README.md is the only source of the text. Its blocks `<!-- repository only -->` ... `<!-- end -->` are
left out of the card; its blocks `<!-- release: NAME -->` ... `<!-- end -->` are replaced by facts of this release.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

import homologous_deepfake
from generation.generators.registry import GENERATORS
from homologous_deepfake import SUBSETS, Subset
from tooling.errors import InputError
from tooling.release import changes
from tooling.release.folder import Release, dataset_card_configs, format_bytes, read_release
from tooling.stages.card.papers import write as papers
from tooling.views import contact_sheet
from tooling.workspace.audit_file import format_table, read_audit
from tooling.workspace.files import write_text
from tooling.workspace.layout import Workspace
from tooling.workspace.readiness import describe_left_out
from tooling.workspace.signing_keys import read_keys

BLOCK = re.compile(r"<!-- (repository only|release: (\w+)) -->\n(.*?)<!-- end -->\n", re.DOTALL)
FRONT_MATTER = re.compile(r"\A---\n(.*?)^---\n", re.DOTALL | re.MULTILINE)
IMAGE = re.compile(r"^!\[[^\]]*\]\(pictures/[^)]*\)\n?", re.MULTILINE)
PICTURE = "pictures/swap_video.jpg"
EARLIER_PICTURE = "pictures/swap_video.png"
SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


def make_card(workspace: Workspace, out: Path, *, since: str | None = None, notice: str = "") -> Path:
    """Writes README.md, a picture of the fakes and the papers into a built release.

    Args:
        since: the previous release, for the list of changes: a folder, `REPO_ID` or `REPO_ID@REVISION`. None keeps the
            list of the existing card, or says that this is the first release.
        notice: a further line for the list of changes, about what happened after the release was built.

    Returns:
        Path of the card.

    Raises:
        InputError: `out` or `since` is not a built release, or answers.toml cannot be read.
        UsageError: `since` has the same version.
        RemoteError: `since` cannot be fetched.
    """
    release, version = read_release(out), workspace.settings.card.version
    entries = changes.entries_since(since, out, version) if since else changes.own_entries(out, version)
    blocks = {
        "changes": changes.format_entries(changes.with_notice(entries, notice) if notice else entries),
        "catalogue": _catalogue(release),
        "generators": _generators(workspace) + _left_out(workspace),
        "pictures": _pictures(workspace, out),
        "audit": _audit(workspace),
        "marks": _marks(workspace),
        "papers": papers.LINKS,
        "contact": _contact(workspace),
    }
    papers.write_papers(workspace, out, release)  # before the card, which makes the release complete

    def replace(match: re.Match[str]) -> str:
        return "" if match[2] is None else blocks[match[2]]

    body = re.sub(r"\n{3,}", "\n\n", BLOCK.sub(replace, _source_text()))
    header = yaml.safe_dump(_metadata(workspace, release), sort_keys=False, allow_unicode=True, width=120)
    write_text(out / "README.md", f"---\n{header}---\n\n{body}")
    return out / "README.md"


def amend_card(out: Path, notice: str) -> None:
    """Corrects a card where no new one can be made: counts and files in its header; no pictures; a line on top.

    Text and papers stay as they are. Needs nothing but the shards.

    Args:
        out: a built release.
        notice: as for `make_card`; in the list of changes and in the line on top.

    Raises:
        InputError: `out` is not a built release.
    """
    path = out / "README.md"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    head = FRONT_MATTER.match(text)
    try:
        header = yaml.safe_load(head[1]) if head else {}
    except yaml.YAMLError:
        header = {}
    header = (header if isinstance(header, dict) else {}) | dataset_card_configs(read_release(out))
    body = IMAGE.sub("", text[head.end() :] if head else text).strip()
    line = f"> {notice.removeprefix('- ')}. The numbers in the text below, and in the papers, are from before that."
    if line not in body:
        body = f"{line}\n\n{changes.add_notice(body, notice)}".strip()
    dumped = yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=120)
    write_text(path, f"---\n{dumped}---\n\n{body}\n")


def missing_answers(workspace: Workspace) -> list[str]:
    """What only the maintainers can fill in and have not, as "FILE: [TABLE] NAME"."""
    card = workspace.settings.card
    expected = ["contact"] + (["licence_name", "licence_link"] if card.licence == "other" else [])
    settings = [f"workspace.toml: [card] {name}" for name in expected if not getattr(card, name)]
    return settings + [f"answers.toml: {name}" for name in papers.missing_answers(workspace)]


def _source_text() -> str:
    beside = Path(homologous_deepfake.__file__).with_name("README.md")
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    text = importlib.metadata.metadata("homologous-deepfake").json.get("description")
    if not isinstance(text, str):
        raise InputError(f"{beside}: not found; run from a clone of the repository, or reinstall")
    return text


def _metadata(workspace: Workspace, release: Release) -> dict[str, Any]:
    card = workspace.settings.card
    total = sum(split.num_examples for config in release.configs.values() for split in config.splits.values())
    licence = {"license": card.licence}
    if card.licence == "other":
        licence |= {"license_name": card.licence_name or "not-stated"}
        licence |= {"license_link": card.licence_link} if card.licence_link else {}
    return {
        "pretty_name": "Homologous_deepfake",
        **licence,
        "language": ["zh"],
        "size_categories": [next((name for limit, name in SIZE_CATEGORIES if total < limit), "100K<n<1M")],
        "task_categories": ["video-classification", "image-classification"],
        "tags": ["deepfake-detection", "face-swap", "face-reenactment", "face-editing", "video", "image"],
        **papers.gate_texts(workspace),
        **dataset_card_configs(release),
    }


def _catalogue(release: Release) -> str:
    lines = [
        "| config | kind | content | files | files in a full release | bytes | splits |",
        "|---|---|---|---|---|---|---|",
    ]
    everything = Subset("", "both", "", 0, "", "The columns of all subsets, without media.")
    for name, config in release.configs.items():
        splits = ", ".join(f"{split} {facts.num_examples}" for split, facts in config.splits.items())
        files = sum(facts.num_examples for facts in config.splits.values())
        size = format_bytes(sum(facts.num_bytes for facts in config.splits.values()))
        subset = SUBSETS.get(name, everything)
        kind = {"real": "real", "both": "both"}.get(subset.method, "fake")
        count = subset.count or ""
        lines.append(f"| `{name}` | {kind} | {subset.description} | {files} | {count} | {size} | {splits} |")
    return "\n".join(lines) + "\n"


def _generators(workspace: Workspace) -> str:
    lines = ["The fakes of this release:", ""]
    for subset, facts in SUBSETS.items():
        if facts.method == "real":
            continue
        made_by = Counter(record.generator for record in workspace.records(subset).values())
        for generator, count in sorted(made_by.items()):
            licence = f" ({GENERATORS[generator].licence})" if generator in GENERATORS else ""
            lines.append(f"- `{subset}`: {count} by `{generator}`{licence}")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def _left_out(workspace: Workspace) -> str:
    plan = workspace.plan()
    texts = describe_left_out(plan) if plan else {}
    lines = ["", "Left out of this release:", "", *(f"- `{subset}`: {text}" for subset, text in texts.items())]
    return "\n".join(lines) + "\n" if texts else ""


def _pictures(workspace: Workspace, out: Path) -> str:
    (out / EARLIER_PICTURE).unlink(missing_ok=True)
    if not workspace.records("swap_video"):
        return ""
    (out / PICTURE).parent.mkdir(exist_ok=True)
    contact_sheet.write_contact_sheet(workspace, out / PICTURE, ("swap_video",), max_rows=4)
    return f"![Frames of targets, sources and face swaps side by side]({PICTURE})\n"


def _audit(workspace: Workspace) -> str:
    audit = read_audit(workspace)
    if audit is None:
        return "The files of this release were not audited.\n"
    return f"{format_table(audit)}\n{audit.note} Probes above their limit are in bold.\n"


def _marks(workspace: Workspace) -> str:
    expires = read_keys(workspace.keys_path).expires
    return (
        f"The certificate of the marks is valid until {expires:%Y-%m-%d}. Marks with a time stamp can be checked after "
        "that day as before.\n"
    )


def _contact(workspace: Workspace) -> str:
    card = workspace.settings.card
    if not card.contact:
        return "This release states no contact.\n"
    return f"Questions and requests for removal: {card.contact}\n"
