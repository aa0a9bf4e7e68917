"""workspace.toml: the format version of a workspace, and its settings where they differ from the defaults."""

from __future__ import annotations

import json
from pathlib import Path

from tooling.errors import WorkspaceError
from tooling.settings import Settings
from tooling.workspace.decoding import check_format, decode, read_toml

FORMAT = 1


def read_settings(path: Path) -> Settings:
    """Reads the tables of workspace.toml over the defaults.

    Raises:
        WorkspaceError: the file is not TOML, of a newer format, or has an entry that is unknown or of another type.
    """
    tables = read_toml(path)
    try:
        check_format(path, tables, FORMAT)
        return decode(tables, Settings)
    except ValueError as error:
        raise WorkspaceError(f"{path}: {error}; restore or correct it") from error


def format_settings(settings: Settings) -> str:
    """The TOML text of a new workspace: its format version and every value that differs from the default."""
    lines = [f"format = {FORMAT}"]
    for name, default in vars(Settings()).items():
        changed = {key: value for key, value in vars(getattr(settings, name)).items() if value != vars(default)[key]}
        if changed:
            lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in changed.items())]
    return "\n".join(lines) + "\n"
