"""JSON, JSON lines and TOML read into typed values; content from disk is checked here and nowhere else.

Errors are one line: the file, the entry, the expected type and the value found, what to do.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from generation.json_text import parse_json
from tooling.errors import ToolingError, WorkspaceError
from tooling.workspace.files import whole_lines

Kind = TypeVar("Kind")


def decode(content: Any, kind: type[Kind], *, ignores_unknown: bool = False) -> Kind:
    """Checks JSON values and turns them into a type: a dataclass, or containers of plain types.

    Args:
        content: as `json.loads` returns it.
        kind: what to make of it; "1" is not a number, nor is true, and 1.0 is not an int.
        ignores_unknown: whether fields that a dataclass does not have are left out, rather than refused.

    Raises:
        ValueError: one line that names the entry, "num_bytes: expected int, got 'x'".
    """
    if not ignores_unknown:
        _refuse_unknown(content, kind, "")
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_sentence(str(error), content)) from error


def decode_json(text: str, kind: type[Kind], *, ignores_unknown: bool = False) -> Kind:
    """`decode` of JSON text.

    Raises:
        ValueError: also where the text is not JSON.
    """
    return decode(parse_json(text), kind, ignores_unknown=ignores_unknown)


def read_json(
    path: Path,
    kind: type[Kind],
    way_out: str,
    *,
    newest_format: int | None = None,
    given: Mapping[str, Any] | None = None,
    ignores_unknown: bool = False,
) -> Kind:
    """Reads a JSON file.

    Args:
        path: the file.
        kind: see `decode`.
        way_out: what to do with a damaged file, for the message.
        newest_format: the newest value of the entry `format` that can be read; None where the file has no such entry.
        given: fields of the dataclass that are not in the file.
        ignores_unknown: see `decode`.

    Raises:
        WorkspaceError: the file is damaged or of a newer format.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
        if newest_format is not None:
            check_format(path, content, newest_format)
        return decode({**content, **given} if given else content, kind, ignores_unknown=ignores_unknown)
    except ValueError as error:
        raise WorkspaceError(f"{path}: damaged ({error}); {way_out}") from error


def read_json_lines(path: Path, parse: Callable[[str], Kind], way_out: str) -> list[Kind]:
    """Reads a file that `append_line` wrote, without a torn last line.

    Args:
        path: the file; without it there are no lines.
        parse: line -> value; raises ValueError.
        way_out: what to do with a damaged line, for the message.

    Raises:
        WorkspaceError: a line is damaged; names it.
    """
    found = []
    for number, line in enumerate(whole_lines(path) if path.exists() else (), start=1):
        try:
            found.append(parse(line))
        except ValueError as error:
            raise WorkspaceError(f"{path}: damaged line '{line[:60]}' (line {number}: {error}); {way_out}") from error
    return found


def read_toml(path: Path, error_type: type[ToolingError] = WorkspaceError) -> dict[str, Any]:
    """Reads the tables of a TOML file, for `decode`.

    Raises:
        ToolingError: of the given type: the file cannot be read as TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError, others are of values
        raise error_type(f"{path}: not readable as TOML ({error}); restore or correct it") from error


def check_format(path: Path, content: Any, newest: int) -> None:
    """Takes the entry `format` out of a file's content.

    Raises:
        ValueError: there is none.
        WorkspaceError: it is newer than `newest`.
    """
    version = content.pop("format", None) if isinstance(content, dict) else None
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"no format version, as in format = {newest}")
    if version > newest:
        way_out = "upgrade homologous-deepfake"
        raise WorkspaceError(f"{path}: format {version} is newer than this program's {newest}; {way_out}")


@lru_cache(maxsize=32)
def _fields(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _has_fields(kind: Any) -> bool:
    """Whether a type is a dataclass, or contains one."""
    return dataclasses.is_dataclass(kind) or any(_has_fields(part) for part in get_args(kind))


@lru_cache(maxsize=32)
def _parts(kind: Any) -> dict[str, Any]:
    """The fields of a dataclass whose types are dataclasses, or contain some."""
    return {name: part for name, part in _fields(kind).items() if _has_fields(part)}


def _refuse_unknown(content: Any, kind: Any, where: str) -> None:
    if isinstance(content, dict) and isinstance(kind, type) and dataclasses.is_dataclass(kind):
        fields, parts = _fields(kind), _parts(kind)
        if unknown := [key for key in content if key not in fields]:
            raise ValueError(f"{where}{unknown[0]}: unknown; known: {', '.join(fields)}")
        for key in parts.keys() & content.keys():
            _refuse_unknown(content[key], parts[key], f"{where}{key}.")
    elif isinstance(content, list) and get_args(kind) and _has_fields(kind):
        for value in content:
            _refuse_unknown(value, get_args(kind)[0], where)


def _sentence(message: str, content: Any) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.num_bytes`" as our own words, with the value found."""
    message, _, path = message.replace("`", "").partition(" - at $")
    # msgspec does not name the key of a mapping: it writes [...].
    where, message = path.lstrip("."), message[0].lower() + message[1:]
    if message.startswith("object missing required field "):
        return f"{where}.{message.rpartition(' ')[2]} is missing".lstrip(".")
    for key, number in re.findall(r"\.(\w+)|\[(\d+)\]", path.partition("[...]")[0]):
        content = content[key or int(number)]
    if "[...]" not in path and message.startswith("expected"):
        message = f"{message.partition(', got ')[0]}, got {repr(content)[:60]}"
    return f"{where}: {message}".lstrip(": ")
