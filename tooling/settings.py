"""Every default, once: frozen dataclasses, overridden by the workspace's `workspace.toml`."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tooling.errors import WorkspaceError


@dataclass(frozen=True)
class ClipSettings:
    """Shape of a `raw_video` clip."""

    seconds: float = 15.0
    fps: int = 30
    width_px: int = 1280
    height_px: int = 720

    @property
    def num_frames(self) -> int:
        """Frames of one clip: 450 in the catalogue."""
        return round(self.seconds * self.fps)


@dataclass(frozen=True)
class FaceSettings:
    """Face detection and cropping."""

    size_px: int = 350
    detect_every_frames: int = 5
    detect_scale: float = 0.5
    margin: float = 0.4


@dataclass(frozen=True)
class PlanSettings:
    """Folds and pairs."""

    seed: int = 0


@dataclass(frozen=True)
class ShardSettings:
    """Parquet layout; HF's readers fetch whole row groups, so these bound a reader's memory too."""

    row_group_bytes: int = 20_000_000
    max_shard_bytes: int = 500_000_000
    min_train_shards: int = 8


@dataclass(frozen=True)
class CardSettings:
    """What only the maintainers can say on the dataset card; empty values are asked for by name.

    Attributes:
        licence: identifier of a licence that the Hub knows, or "other".
        licence_name, licence_link: needed with "other".
        contact: address for questions and removal.
        version: of the release.
    """

    licence: str = "other"
    licence_name: str = ""
    licence_link: str = ""
    contact: str = ""
    version: str = "1.0.0"


@dataclass(frozen=True)
class Settings:
    """All settings of one workspace."""

    clip: ClipSettings = field(default_factory=ClipSettings)
    faces: FaceSettings = field(default_factory=FaceSettings)
    plan: PlanSettings = field(default_factory=PlanSettings)
    shards: ShardSettings = field(default_factory=ShardSettings)
    card: CardSettings = field(default_factory=CardSettings)


def read_settings(path: Path) -> Settings:
    """Reads the tables of a TOML file over the defaults.

    Raises:
        WorkspaceError: the file is not TOML, or names a table, key or type that is not known.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise WorkspaceError(f"{path}: not readable as TOML ({error}); restore or correct it") from error
    tables.pop("format", None)
    parts: dict[str, Any] = {}
    for name, default in vars(Settings()).items():
        parts[name] = _read_table(path, name, default, tables.pop(name, {}))
    if tables:
        known = ", ".join(parts)
        raise WorkspaceError(f"{path}: unknown entry '{sorted(tables)[0]}'; known tables: {known}")
    return Settings(**parts)


def _read_table(path: Path, name: str, default: Any, table: Any) -> Any:
    if not isinstance(table, dict):
        raise WorkspaceError(f"{path}: '{name}' must be a table, [{name}]")
    known = vars(default)
    for key, value in table.items():
        if key not in known:
            raise WorkspaceError(f"{path}: [{name}] has no setting '{key}'; known: {', '.join(known)}")
        wanted = (int, float) if isinstance(known[key], float) else (type(known[key]),)
        is_number = isinstance(value, int | float)
        if not isinstance(value, wanted) or isinstance(value, bool) or (is_number and value < 0):
            kind = {"int": "a whole number", "float": "a number", "str": "a text in quotes"}[wanted[-1].__name__]
            raise WorkspaceError(f"{path}: [{name}] {key} must be {kind}{' from 0 up' * is_number}, got {value!r}")
    return dataclasses.replace(default, **table)


def format_settings(settings: Settings, format_version: int) -> str:
    """The TOML text of a new workspace: its format version and every value that differs from the default."""
    lines = [f"format = {format_version}"]
    for name, default in vars(Settings()).items():
        changed = {key: value for key, value in vars(getattr(settings, name)).items() if value != vars(default)[key]}
        if changed:
            lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in changed.items())]
    return "\n".join(lines) + "\n"
