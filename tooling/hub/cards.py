"""The YAML block of a dataset's README.md: found, parsed to values that JSON has, and known keys checked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date
from typing import Any

import yaml

from tooling.hub.fields import LARGEST_NUMBER, MOST_LEVELS

BLOCK = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t\r]*$", re.DOTALL | re.MULTILINE)

TEXT, TEXTS, MAPPING, RECORDS, FLAG = (
    "a string",
    "a string or a list of strings",
    "a mapping",
    "a list of mappings",
    "true or false",
)
KNOWN_KEYS = {
    "annotations_creators": TEXTS,
    "extra_gated_button_content": TEXT,
    "extra_gated_description": TEXT,
    "extra_gated_fields": MAPPING,
    "extra_gated_heading": TEXT,
    "extra_gated_prompt": TEXT,
    "language": TEXTS,
    "language_creators": TEXTS,
    "license": TEXTS,
    "license_link": TEXT,
    "license_name": TEXT,
    "multilinguality": TEXTS,
    "paperswithcode_id": TEXT,
    "pretty_name": TEXT,
    "size_categories": TEXTS,
    "source_datasets": TEXTS,
    "tags": TEXTS,
    "task_categories": TEXTS,
    "task_ids": TEXTS,
    "thumbnail": TEXT,
    "viewer": FLAG,
    "configs": RECORDS,
}
# https://huggingface.co/docs/hub/repositories-licenses
LICENSES = (
    "afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0 "
    "bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc- "
    "by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by- "
    "nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 "
    "cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 "
    "fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc "
    "lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa "
    "odbl odc-by ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib"
)
MOST_VALUES = 20_000
TAG_KEYS = ("task_categories", "task_ids", "language", "size_categories", "multilinguality", "annotations_creators")


class _Loader(yaml.CSafeLoader):
    """A SafeLoader, ten times as fast as the one in Python, that refuses a repeated key, as the Hub does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key_node.tag != "tag:yaml.org,2002:merge" and isinstance(key, str) and key in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicated key {key!r}", problem_mark=key_node.start_mark)
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_metadata(content: str) -> dict[str, Any] | None:
    """The metadata of a card; None without a block or with an empty one.

    Dates become ISO 8601 text and keys become text, so that everything in it can be sent as JSON.

    Raises:
        ValueError: the block is not YAML, not a mapping, or has a value that JSON has not.
    """
    block = BLOCK.match(content.removeprefix("\ufeff"))
    if block is None:
        return None
    try:
        metadata = yaml.load(block.group(1), Loader=_Loader)  # noqa: S506  a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 2}" if mark is not None else ""
        raise ValueError(f"YAML metadata{line}: {getattr(error, 'problem', None) or 'not readable'}") from error
    except (ValueError, TypeError, OverflowError, LookupError, AttributeError) as error:  # of a date, number or key
        raise ValueError(f"YAML metadata: {error}") from error
    except RecursionError as error:
        raise ValueError("YAML metadata: too many levels") from error
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError("YAML metadata must be a mapping of keys to values")
    return _to_json(metadata, "", _Budget()) if metadata else None


@dataclass
class _Budget:
    """How many values may still come; aliases can repeat a few lines without end."""

    left: int = MOST_VALUES


def _to_json(value: Any, where: str, budget: _Budget, level: int = 1) -> Any:
    budget.left -= 1
    if budget.left < 0 or level > MOST_LEVELS:
        raise ValueError(f"YAML metadata: more than {MOST_VALUES} values or {MOST_LEVELS} levels; is there an alias?")
    if isinstance(value, dict):
        parts = {_text(key, where): part for key, part in value.items()}
        return {
            key: _to_json(part, f"{where}.{key}" if where else key, budget, level + 1) for key, part in parts.items()
        }
    if isinstance(value, list | tuple):
        return [_to_json(part, f"{where}[{at}]", budget, level + 1) for at, part in enumerate(value)]
    return value if value is None or isinstance(value, bool) else _plain(value, where)


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, int) and abs(value) <= LARGEST_NUMBER:
        return value
    if isinstance(value, str | date):  # a datetime is a date
        return _text(value, where)
    kind = "that number" if isinstance(value, int | float) else f"a value of the kind {type(value).__name__}"
    raise ValueError(f"YAML metadata: {where}: JSON does not have {kind}; write it as text, in quotes")


def _text(value: Any, where: str) -> str:
    text = value.isoformat() if isinstance(value, date) else str(value)
    try:
        text.encode()
    except UnicodeError as error:
        raise ValueError(f"YAML metadata: {where or 'a key'}: has half of a character; write it whole") from error
    return text


def check_card(content: str) -> dict[str, list[dict[str, str]]]:
    """Errors and warnings of a card in the form of the Hub's validate-yaml answer."""
    try:
        metadata = read_metadata(content)
    except ValueError as error:
        return {"errors": [{"message": str(error)}], "warnings": []}
    if metadata is None:
        return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
    unknown = [one for one in _texts(metadata.get("license")) if one not in LICENSES.split()]
    problems = [f'"license" must be one of [{", ".join(LICENSES.split())}], got "{one}"' for one in unknown]
    problems += [
        f'"{key}" must be {kind}'
        for key, kind in KNOWN_KEYS.items()
        if key in metadata and not _fits(metadata[key], kind)
    ]
    problems = problems or _config_problems(metadata)
    return {"errors": [{"message": problem} for problem in problems], "warnings": []}


def card_tags(metadata: dict[str, Any]) -> list[str]:
    """The tags that a listing filters by: `task_categories:x`, `license:y`, and the card's own."""
    tags: list[str] = []
    for key in TAG_KEYS:
        tags.extend(f"{key}:{value}" for value in _texts(metadata.get(key)))
    tags.extend(f"license:{value}" for value in _texts(metadata.get("license")))
    return [*tags, *_texts(metadata.get("tags"))]


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(entry) for entry in values if isinstance(entry, str | int | float) and not isinstance(entry, bool)]


def _fits(value: Any, kind: str) -> bool:
    if value is None:
        return True
    if kind == FLAG:
        return isinstance(value, bool)
    if kind == MAPPING:
        return isinstance(value, dict)
    if kind == RECORDS:
        return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
    is_text = isinstance(value, str)
    if kind == TEXTS:
        # YAML reads an unquoted `no` (Norwegian) as false: the Hub takes it, so does this check.
        return is_text or isinstance(value, bool) or (isinstance(value, list) and all(_is_plain(one) for one in value))
    return is_text


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | bool | int | float)


def _config_problems(metadata: dict[str, Any]) -> list[str]:
    problems: list[str] = []
    for position, config in enumerate(metadata.get("configs") or []):
        if not isinstance(config.get("config_name"), str):
            problems.append(f'"configs[{position}].config_name" is required and must be a string')
        if not isinstance(config.get("data_files", ""), str | list | dict):
            problems.append(f'"configs[{position}].data_files" must be a string, a list or a mapping')
    info = metadata.get("dataset_info")
    if info is not None and not isinstance(info, dict) and not _fits(info, RECORDS):
        problems.append('"dataset_info" must be a mapping or a list of mappings')
    return problems
