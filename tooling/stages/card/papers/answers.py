"""answers.toml: what only the maintainers can say, by section and name. Texts; an empty one is not answered."""

from __future__ import annotations

import json
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
        "liability": "What is said about warranty and liability?",
        "term": "How long do the terms bind, and what happens when they are broken?",
    },
    "takedown": {"response_time": "Within which time is a request for removal answered?"},
    "citation": {
        "authors": "Who is to be cited? Names separated by semicolons.",
        "date_released": "On which day is this version released (YYYY-MM-DD)?",
        "url": "At which address is the dataset found?",
        "doi": "Which DOI does it have?",
    },
}
OPTIONAL = {("citation", "doi")}


@dataclass(frozen=True)
class Answers:
    """Section -> name -> text, with what is asked for."""

    texts: dict[str, dict[str, str]]

    def given(self, section: str, key: str) -> str:
        """The answer, empty where there is none."""
        return self.texts.get(section, {}).get(key, "").strip()

    def told(self, section: str, key: str) -> str:
        """The answer, or that it is to be given and by which name."""
        return self.given(section, key) or ask(section, key)

    def missing(self) -> list[str]:
        """Names of what is wanted and not answered, as they stand in the file."""
        wanted = [
            (section, name) for section, names in asked().items() for name, (_, is_wanted) in names.items() if is_wanted
        ]
        return [f"[{section}] {name}" for section, name in wanted if not self.given(section, name)]


def ask(section: str, key: str) -> str:
    """What stands in a paper in place of an answer."""
    return f"To be answered by the maintainers: `[{section}] {key}` in {FILE}."


@lru_cache(maxsize=1)
def read_questions() -> dict[str, list[dict[str, Any]]]:
    """The datasheet's questions by section, in their order: key, question, answer, is_wanted, is_optional."""
    return tomllib.loads(files("tooling.stages.card.papers").joinpath("questions.toml").read_text(encoding="utf-8"))


def asked() -> dict[str, dict[str, tuple[str, bool]]]:
    """Section -> name -> question, and whether an answer is wanted; the rest may be added to what is known."""
    found = {
        section: {
            entry["key"]: (
                entry["question"],
                not entry.get("is_optional") and ("answer" not in entry or "is_wanted" in entry),
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
    """Reads WORKSPACE/answers.toml; where there is none, writes it with every question and no answer.

    Raises:
        InputError: not TOML, an unknown section or name, or something else than a text.
    """
    path = workspace.root / FILE
    if not path.exists():
        write_text(path, _empty())
    return _read(path)


def _read(path: Path) -> Answers:
    tables = read_toml(path, InputError)
    known = asked()
    for section, table in tables.items():
        if section not in known or not isinstance(table, dict):
            raise InputError(f"{path}: unknown section '{section}'; known: {', '.join(known)}")
        for name, text in table.items():
            if name not in known[section]:
                raise InputError(f"{path}: [{section}] asks for no '{name}'; known: {', '.join(known[section])}")
            if not isinstance(text, str):
                raise InputError(f"{path}: [{section}] {name} must be a text in quotes, got {text!r}")
    return Answers(tables)


def _empty() -> str:
    lines = ["# What only the maintainers can say, for the papers of a release. Leave empty what is not known yet."]
    for section, names in asked().items():
        lines += ["", f"[{section}]"]
        for name, (question, is_wanted) in names.items():
            lines += [f"# {question}{'' if is_wanted else ' (may be left out)'}", f"{name} = {json.dumps('')}"]
    return "\n".join(lines) + "\n"
