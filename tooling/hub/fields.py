"""JSON and forms that clients send, and the typed reading of their values: 400 for what is not of the expected kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from tooling.hub.responses import HubError

MOST_LEVELS = 64  # of lists and objects in each other
LARGEST_NUMBER = 2**53  # up to which numbers are exact in JSON


class Fields:
    """A JSON object, or a form, of which each value is the list of what was sent under its name.

    Every method raises HubError, 400, where a value is not of its kind; null counts as missing.
    """

    def __init__(self, values: Mapping[str, Any], where: str = "", *, is_form: bool = False) -> None:
        self.values, self._where, self._is_form = values, where, is_form

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value = self._value(name)
        if value is None:
            return default
        return value if isinstance(value, str) else self.refuse(name, "a string")

    def whole_number(self, name: str, default: int = 0) -> int:
        """0 or a positive whole number."""
        value = self._value(name)
        if value is None:
            return default
        is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_NUMBER
        return int(value) if is_number else self.refuse(name, f"a whole number up to {LARGEST_NUMBER}")

    def flag(self, name: str, *, default: bool = False) -> bool:
        """True or false; in a form, and from clients that send text, also "true", "1"."""
        value = self._value(name)
        if isinstance(value, str):
            return value.lower() in ("true", "1")
        if value is None:
            return default
        return value if isinstance(value, bool) else self.refuse(name, "true or false")

    def texts(self, name: str) -> list[str]:
        """A list of strings; a single one counts as such a list."""
        value = self.values.get(name)
        value = [] if value is None else [value] if isinstance(value, str) else value
        is_list = isinstance(value, list) and all(isinstance(one, str) for one in value)
        return value if is_list else self.refuse(name, "a list of strings")

    def records(self, name: str) -> list[Fields]:
        """A list of objects."""
        value = self.values.get(name)
        if not isinstance(value, list | None) or not all(isinstance(one, dict) for one in value or []):
            self.refuse(name, "a list of objects")
        return [Fields(one, f"{self._where}{name}[{at}].") for at, one in enumerate(value or [])]

    def fields(self, name: str) -> Fields:
        """An object."""
        value = self.values.get(name)
        if not isinstance(value, dict | None):
            self.refuse(name, "an object")
        return Fields(value or {}, f"{self._where}{name}.")

    def refuse(self, name: str, kind: str) -> NoReturn:
        """Raises the error of a value that is not what it must be."""
        raise HubError(400, f'"{self._where}{name}" must be {kind}')

    def _value(self, name: str) -> Any:
        value = self.values.get(name)
        return value[0] if self._is_form and isinstance(value, list) and value else value


def read_json(content: bytes) -> Any:
    """A JSON value whose strings can be written as UTF-8.

    Raises:
        HubError: 400, the content is not JSON, or has too many levels.
    """
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_no_number)
        _check(value)
    except (ValueError, RecursionError) as error:  # a lone surrogate cannot be encoded: a ValueError too
        raise HubError(400, f"The body is not JSON: {_reason(error)}") from error
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _check(value: Any) -> None:
    waiting = [(value, 1)]
    while waiting:
        one, level = waiting.pop()
        if isinstance(one, str):
            if not one.isascii():
                one.encode()
        elif isinstance(one, dict | list):
            if level > MOST_LEVELS:
                raise ValueError(f"more than {MOST_LEVELS} levels")
            parts = (*one.keys(), *one.values()) if isinstance(one, dict) else one
            waiting.extend((part, level + 1) for part in parts)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "a text is not UTF-8"
    return "too many levels" if isinstance(error, RecursionError) else str(error)
