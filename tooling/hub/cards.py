"""The YAML block of a dataset's README.md: found, parsed, and known keys checked for the types that the Hub expects."""

from __future__ import annotations

import re
from typing import Any

import yaml

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

    Raises:
        ValueError: the block is not YAML, or not a mapping.
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
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError("YAML metadata must be a mapping of keys to values")
    return metadata or None


def check_card(content: str) -> dict[str, list[dict[str, str]]]:
    """Errors and warnings of a card in the form of the Hub's validate-yaml answer."""
    try:
        metadata = read_metadata(content)
    except ValueError as error:
        return {"errors": [{"message": str(error)}], "warnings": []}
    if metadata is None:
        return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
    problems = [
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
