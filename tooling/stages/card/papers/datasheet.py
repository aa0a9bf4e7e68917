"""The datasheet's answers: what the workspace knows, what the maintainers answered, and what is still open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jinja2

from tooling.stages.card.papers.answers import Answers, ask, read_questions

TITLES = {
    "motivation": "Motivation",
    "composition": "Composition",
    "collection": "Collection process",
    "preprocessing": "Preprocessing, cleaning, labelling",
    "uses": "Uses",
    "distribution": "Distribution",
    "maintenance": "Maintenance",
}


@dataclass(frozen=True)
class Entry:
    """A question and its answer; `is_missing` if the maintainers still have to answer."""

    key: str
    question: str
    text: str
    is_missing: bool


@dataclass(frozen=True)
class Section:
    """One of the seven sections."""

    name: str
    title: str
    entries: tuple[Entry, ...]


def answer_questions(answers: Answers, facts: dict[str, Any]) -> list[Section]:
    """All questions in order. An answer is what the workspace knows, followed by what the maintainers wrote."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - Markdown
    sections = []
    for section, questions in read_questions().items():
        entries = []
        for question in questions:
            known = environment.from_string(question.get("answer", "")).render(**facts).strip()
            given = answers.given(section, question["key"])
            is_missing = not given and not question.get("is_optional") and (not known or "is_expected" in question)
            parts = [known, given, ask(section, question["key"]) if is_missing else ""]
            text = "\n\n".join(part for part in parts if part) or "None given."
            entries.append(Entry(question["key"], question["question"], text, is_missing))
        sections.append(Section(section, TITLES[section], tuple(entries)))
    return sections
