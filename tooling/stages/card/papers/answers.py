"""answers.toml: what only the maintainers know, a string for each section and name. An empty string is no answer."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tooling.errors import InputError
from tooling.workspace.decoding import read_toml
from tooling.workspace.files import write_text
from tooling.workspace.layout import Workspace

FILE = "answers.toml"
FURTHER = {
    "terms": {
        "approval": "Who approved TERMS.md, and when?",
        "licensor": "Who grants the licence?",
        "governing_law": "Which law governs the terms?",
        "liability": "What are the terms on warranty and liability?",
        "term": "For how long are the terms binding, and what happens if they are broken?",
    },
    "takedown": {"response_time": "How soon is a request for removal answered?"},
    "citation": {
        "authors": "Who should be cited? Names separated by semicolons.",
        "date_released": "On which day is this version released (YYYY-MM-DD)?",
        "url": "What is the dataset's URL?",
        "doi": "What is the dataset's DOI?",
    },
}
OPTIONAL = {("citation", "doi")}


@dataclass(frozen=True)
class Answers:
    """The maintainers' answers: section -> name -> text."""

    texts: dict[str, dict[str, str]]

    def given(self, section: str, key: str) -> str:
        """The answer, or "" if there is none."""
        return self.texts.get(section, {}).get(key, "").strip()

    def given_or_open(self, section: str, key: str) -> str:
        """The answer, or a sentence that asks the maintainers for it."""
        return self.given(section, key) or ask(section, key)

    def missing(self) -> list[str]:
        """Expected answers that are not given, as "[section] name"."""
        return [
            f"[{section}] {name}"
            for section, names in known_questions().items()
            for name, (_, is_expected) in names.items()
            if is_expected and not self.given(section, name)
        ]


def ask(section: str, key: str) -> str:
    """The sentence in a paper where an answer is missing."""
    return f"To be answered by the maintainers: `[{section}] {key}` in {FILE}."


@lru_cache(maxsize=1)
def read_questions() -> dict[str, list[dict[str, Any]]]:
    """The datasheet's questions by section, in order: key, question, answer, is_expected, is_optional."""
    return tomllib.loads(files("tooling.stages.card.papers").joinpath("questions.toml").read_text(encoding="utf-8"))


def known_questions() -> dict[str, dict[str, tuple[str, bool]]]:
    """Section -> name -> question, and whether the maintainers are expected to answer it; the others are optional."""
    found = {
        section: {
            entry["key"]: (
                entry["question"],
                not entry.get("is_optional") and ("answer" not in entry or "is_expected" in entry),
            )
            for entry in entries
        }
        for section, entries in read_questions().items()
    }
    further = {
        section: {name: (question, (section, name) not in OPTIONAL) for name, question in names.items()}
        for section, names in FURTHER.items()
    }
    return found | further


def read_or_start_answers(workspace: Workspace) -> Answers:
    """Reads WORKSPACE/answers.toml; if it does not exist, writes it with every question and no answers.

    Raises:
        InputError: not TOML, an unknown section or name, or a value that is not a string.
    """
    path = workspace.root / FILE
    if not path.exists():
        write_text(path, _empty())
    return _read(path)


def _read(path: Path) -> Answers:
    tables = read_toml(path, InputError)
    known = known_questions()
    for section, table in tables.items():
        if section not in known or not isinstance(table, dict):
            raise InputError(f"{path}: unknown section '{section}'; known: {', '.join(known)}")
        for name, text in table.items():
            if name not in known[section]:
                raise InputError(f"{path}: [{section}] has no question '{name}'; known: {', '.join(known[section])}")
            if not isinstance(text, str):
                raise InputError(f"{path}: [{section}] {name} must be a string in quotes, got {text!r}")
    return Answers(tables)


def _empty() -> str:
    lines = ["# What only the maintainers know, for the papers of a release. Leave empty what is not known yet."]
    for section, names in known_questions().items():
        lines += ["", f"[{section}]"]
        for name, (question, is_expected) in names.items():
            lines += [f"# {question}{'' if is_expected else ' (optional)'}", f'{name} = ""']
    return "\n".join(lines) + "\n"
