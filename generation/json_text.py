"""JSON of files that anybody may have written."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec


def parse_json(text: str | bytes, *, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """JSON text, UTF-8, as the values of `json.loads`, which describes the hook.

    Raises:
        ValueError: it is not JSON, or nested too deeply to be read.
    """
    try:
        if object_pairs_hook is None:
            with suppress(msgspec.DecodeError, UnicodeError):  # four times as fast; refuses NaN and lone surrogates
                return msgspec.json.decode(text)
        return json.loads(text, object_pairs_hook=object_pairs_hook)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
