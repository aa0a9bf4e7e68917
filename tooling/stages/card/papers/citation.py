"""CITATION.cff of a release, Citation File Format 1.2.0."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tooling.errors import InputError
from tooling.stages.card.papers.answers import FILE, Answers
from tooling.workspace.layout import Workspace

TITLE = "Homologous_deepfake: a dataset of deepfakes and their real originals from the same faces"
MAINTAINERS = "The Homologous_deepfake maintainers"


def authors_of(answers: Answers) -> list[str]:
    """Names to be cited; the maintainers as a group if none are given."""
    return [name.strip() for name in answers.given("citation", "authors").split(";") if name.strip()] or [MAINTAINERS]


def release_date(answers: Answers) -> str:
    """The day of the release as YYYY-MM-DD, or "".

    Raises:
        InputError: the answer is not such a date.
    """
    day = answers.given("citation", "date_released")
    if day and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", day):
        raise InputError(f"{FILE}: [citation] date_released '{day}' is not a date; write it as YYYY-MM-DD")
    return day


def format_citation(workspace: Workspace, answers: Answers) -> str:
    """The YAML text; keys without an answer are left out.

    Raises:
        InputError: see `release_date`.
    """
    card = workspace.settings.card
    content: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use this dataset, please cite it.",
        "title": TITLE,
        "type": "dataset",
        "authors": [{"name": name} for name in authors_of(answers)],
        "version": card.version,
        "date-released": release_date(answers),
        "url": answers.given("citation", "url"),
        "doi": answers.given("citation", "doi"),
        "license": card.licence.upper() if card.licence.startswith("cc") else "",
        "license-url": card.licence_link,
    }
    filled = {key: value for key, value in content.items() if value}
    return yaml.safe_dump(filled, sort_keys=False, allow_unicode=True, width=120)
