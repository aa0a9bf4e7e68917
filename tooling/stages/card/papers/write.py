"""The papers of a release: what is in it, what it may be used for, how to cite it, how to be removed from it.

    RELEASE/
      DATASHEET.md        the questions of Gebru et al., answered
      TERMS.md            terms of use
      TAKEDOWN.md         how a person is removed
      CITATION.cff        how to cite
      croissant.json      Croissant metadata with its RAI fields, for programs
      root.pem            root certificate of the marks, for those who check them

Facts of the workspace are filled in. What only the maintainers know is a question in WORKSPACE/answers.toml; until it
is answered, the papers say that the answer is missing. Nothing is made up.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2

from tooling.release.folder import PAPERS, Release
from tooling.stages.card.papers.answers import read_or_start_answers
from tooling.stages.card.papers.citation import format_citation
from tooling.stages.card.papers.croissant import make_croissant
from tooling.stages.card.papers.datasheet import answer_questions
from tooling.stages.card.papers.facts import gather_facts
from tooling.workspace.files import write_text
from tooling.workspace.layout import Workspace
from tooling.workspace.signing_keys import read_keys

LINKS = (
    "- [DATASHEET.md](DATASHEET.md): how the dataset was made, what is in it, what it is for and what not\n"
    "- [TERMS.md](TERMS.md): terms of use\n"
    "- [TAKEDOWN.md](TAKEDOWN.md): how a person is removed\n"
    "- [CITATION.cff](CITATION.cff): how to cite\n"
    "- [croissant.json](croissant.json): Croissant metadata, for programs\n"
    "- [root.pem](root.pem): the root certificate of the marks\n"
)


def write_papers(workspace: Workspace, out: Path, release: Release) -> None:
    """Writes all papers into a built release, and answers.toml into the workspace if it has none.

    Raises:
        InputError: answers.toml or the keys cannot be read.
        WorkspaceError: there are no keys.
    """
    answers = read_or_start_answers(workspace)
    facts = gather_facts(workspace, release)
    sections = answer_questions(answers, facts)
    num_missing = sum(entry.is_missing for section in sections for entry in section.entries)
    texts = {
        "DATASHEET.md": _render("datasheet", facts, sections=sections, num_missing=num_missing),
        "TERMS.md": _render(
            "terms",
            facts,
            approval=answers.given("terms", "approval"),
            **{key: answers.given_or_open("terms", key) for key in ("licensor", "governing_law", "liability", "term")},
        ),
        "TAKEDOWN.md": _render("takedown", facts, response_time=answers.given_or_open("takedown", "response_time")),
        "CITATION.cff": format_citation(workspace, answers),
        "croissant.json": json.dumps(make_croissant(workspace, release, answers, sections), indent=2) + "\n",
        "root.pem": read_keys(workspace.keys_path).root.decode("ascii"),
    }
    for name in PAPERS:
        write_text(out / name, texts[name])


def missing_answers(workspace: Workspace) -> list[str]:
    """Expected answers that are not in answers.toml, as "[section] name".

    Raises:
        InputError: answers.toml cannot be read.
    """
    return read_or_start_answers(workspace).missing()


def gate_texts(workspace: Workspace) -> dict[str, Any]:
    """The card's metadata for a gated repository: prompt, questions, button. See the Hub's manual on gated datasets."""
    settings: dict[str, Any] = json.loads(Path(__file__).with_name("gate.json").read_text(encoding="utf-8"))
    if contact := workspace.settings.card.contact:
        settings["extra_gated_description"] = f"Each request is read by a person. Questions: {contact}"
    return settings


def _render(name: str, facts: dict[str, Any], **values: Any) -> str:
    return _templates().get_template(f"{name}.md.jinja").render(**facts, **values)


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("tooling.stages.card.papers", ""),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Markdown
    )
