"""Where converted weights come from: `provenance.json` beside a pipeline's `model_index.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from generation.errors import WeightsError
from generation.json_text import parse_json

FILE_NAME = "provenance.json"
FORMAT = 1
PACKAGES = ("diffusers", "homologous-deepfake", "numpy", "safetensors", "torch")


@dataclass(frozen=True)
class FileDigest:
    """One file: its name (below its folder, with "/"), size and hex SHA-256."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """How a folder of weights was made.

    Attributes:
        generator: name in `GENERATORS`.
        licence: of the published weights, as `GENERATORS` had it.
        origin: where the files are from, in the words of who converted them; "" if they did not say.
        converter: "module:function".
        files: the published files.
        written: every file of the folder but this one.
        versions: of the packages that took part.
    """

    generator: str
    licence: str
    origin: str
    converter: str
    files: tuple[FileDigest, ...]
    written: tuple[FileDigest, ...]
    versions: dict[str, str]


def digest_file(path: Path, name: str = "") -> FileDigest:
    """Size and SHA-256 of a file.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return FileDigest(name or path.name, file.tell(), sha256)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); name the downloaded file") from error


def digest_folder(folder: Path) -> tuple[FileDigest, ...]:
    """Digests of every file below a folder but the provenance, in the order of their names."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path != folder / FILE_NAME)
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    return tuple(digest_file(folder / name, name) for name in names)


def package_versions() -> dict[str, str]:
    """Versions of the packages that convert."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Writes `provenance.json`; the same provenance gives the same bytes."""
    content = {"format": FORMAT, **asdict(provenance)}
    (folder / FILE_NAME).write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def read_provenance(folder: Path) -> Provenance:
    """Reads the provenance of a converted folder.

    Raises:
        WeightsError: it is missing, or not as `write_provenance` writes it.
    """
    path = folder / FILE_NAME
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        number = content.pop("format")
        content |= {key: tuple(_digests(content[key])) for key in ("files", "written")}
        provenance = Provenance(**content)
        if not all(isinstance(content[key], str) for key in ("generator", "licence", "origin", "converter")):
            raise TypeError("generator, licence, origin and converter are texts")
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path}: not found; convert the weights with `tooling weights convert NAME FILES`"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}); convert the weights again") from error
    if number != FORMAT:
        raise WeightsError(f"{path}: has format {number}, not {FORMAT}; convert the weights again")
    return provenance


def _digests(entries: Iterable[dict[str, Any]]) -> Iterable[FileDigest]:
    for entry in entries:
        digest = FileDigest(**entry)
        if not isinstance(digest.name, str) or not isinstance(digest.num_bytes, int):
            raise TypeError("a file without name or size")
        yield digest


def find_changes(folder: Path, provenance: Provenance) -> list[str]:
    """What is not as it was written: one line for each file, "NAME is missing", "was changed", "was added"."""
    expected = {digest.name: digest for digest in provenance.written}
    actual = {digest.name: digest for digest in digest_folder(folder)}
    lines = []
    for name in sorted(expected | actual):
        if name not in actual:
            lines.append(f"{name} is missing")
        elif name not in expected:
            lines.append(f"{name} was added after the conversion")
        elif actual[name] != expected[name]:
            lines.append(f"{name} was changed after the conversion")
    return lines
