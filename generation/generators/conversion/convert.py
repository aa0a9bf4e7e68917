"""Conversion of published files into a folder for `from_pretrained`: once, as a whole, with its provenance."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from generation.errors import WeightsError
from generation.generators.conversion.check import check_folder
from generation.generators.conversion.provenance import (
    FileDigest,
    Provenance,
    digest_file,
    digest_folder,
    package_versions,
    read_provenance,
    write_provenance,
)
from generation.generators.registry import GENERATORS, GeneratorInfo, imported
from generation.weights import archive


def convert(name: str, files: Sequence[Path], out: Path, *, origin: str = "") -> bool:
    """Converts the published weights of a generator.

    Args:
        name: one of `GENERATORS` that has a converter.
        files: the published files, or a tar of them; under their published names their order does not matter, else it
            is that of `GENERATORS[name].weights`. A generator with `other_weights` recognises them by their content.
        out: the new folder; it appears when it is complete. If it holds these very files already, it is left as it is.
        origin: where the files are from; it goes into the provenance.

    Returns:
        Whether it was written; False where it was there already.

    Raises:
        WeightsError: no such generator; a file is missing, refused or does not fit; the folder is there with other
            content.
    """
    info = _info(name)
    digests = tuple(digest_file(path) for path in files)
    if out.exists() or out.is_symlink():
        _refuse_other(out, name, digests)
        return False
    beside, unpacked = out.with_name(f".{out.name}.new"), out.with_name(f".{out.name}.files")
    for folder in (beside, unpacked):
        shutil.rmtree(folder, ignore_errors=True)  # of a conversion that was killed
    try:
        beside.mkdir(parents=True)
        published = _in_order(name, info, _unpack_archives(info, files, unpacked))
        _write(beside, imported(info.converter)(published))
        if tuple(digest_file(path) for path in files) != digests:
            raise WeightsError(f"{', '.join(map(str, files))}: changed while being converted; convert again")
        written = digest_folder(beside)
        provenance = Provenance(name, info.licence, origin, info.converter, digests, written, package_versions())
        write_provenance(beside, provenance)
        problems = check_folder(beside, name=name)
        if problems:
            raise WeightsError(problems[0].replace(str(beside), str(out)))
        _sync(*beside.rglob("*"), beside)
        os.rename(beside, out)
        _sync(out.parent)
    except OSError as error:
        raise WeightsError(
            f"{out}: cannot be written ({error.strerror or error}); free space, convert again"
        ) from error
    finally:
        for folder in (beside, unpacked):
            shutil.rmtree(folder, ignore_errors=True)
    return True


def _info(name: str) -> GeneratorInfo:
    known = [one for one, info in GENERATORS.items() if info.converter]
    if name not in known:
        what = "needs no published weights" if name in GENERATORS else "no such generator"
        raise WeightsError(f"{name}: {what}; convert one of {', '.join(known) or '(none has weights)'}")
    return GENERATORS[name]


def _unpack_archives(info: GeneratorInfo, files: Sequence[Path], folder: Path) -> list[Path]:
    """The files, with each tar replaced by those of its members that the generator uses."""
    published: list[Path] = []
    for number, path in enumerate(files):
        if not archive.is_archive(path):
            published.append(path)
            continue
        used = (*info.weights, *info.other_weights)
        members = [one for one in archive.unpack(path, folder / str(number)) if one.name in used]
        published += members or archive.refuse(path)
    return published


def _in_order(name: str, info: GeneratorInfo, files: Sequence[Path]) -> list[Path]:
    least, most = len(info.weights), len(info.weights) + len(info.other_weights)
    if not least <= len(files) <= most:
        more = f"; may have {', '.join(info.other_weights)}" if info.other_weights else ""
        raise WeightsError(f"{name}: needs {least} files ({', '.join(info.weights)}{more}), got {len(files)}")
    by_name = {path.name: path for path in files}
    if set(by_name) == set(info.weights):
        return [by_name[one] for one in info.weights]
    return list(files)


def _refuse_other(out: Path, name: str, digests: tuple[FileDigest, ...]) -> None:
    """Lets an earlier conversion of the same files stand; nothing else is ever replaced."""
    advice = "remove it, or convert to another folder with --out"
    if not out.is_dir():
        raise WeightsError(f"{out}: is there already; {advice}")
    found = read_provenance(out) if (out / "provenance.json").is_file() else None
    if found is None or (found.generator, found.files) != (name, digests):
        raise WeightsError(f"{out}: is there already, and is not made of these files; {advice}")
    problems = check_folder(out, name=name)
    if problems:
        raise WeightsError(f"{problems[0]} ({advice})")


def _write(folder: Path, pipeline: Any) -> None:
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder, safe_serialization=True)


def _sync(*paths: Path) -> None:
    """Flushes files and folders to disk, so that a rename cannot outrun them."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
