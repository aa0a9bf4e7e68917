"""Archives of publishers: plain regular files are taken out of a tar, everything else is refused.

A file named .tar is often one of `torch.save`; `torch_file` reads those. The format of torch before 0.2, a real tar of
pickles, is refused.
"""

from __future__ import annotations

import tarfile
import unicodedata
import zlib
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import NoReturn

from generation.errors import WeightsError
from generation.weights.mapped import printable

MAX_MEMBERS = 1000
MAX_RATIO = 20  # of unpacked to packed bytes; weights hardly compress
SLACK_BYTES = 16 << 20
BLOCK_BYTES = 1 << 20
OLD_TORCH = {"pickle", "storages", "tensors"}
BROKEN = (tarfile.TarError, zlib.error, LZMAError, EOFError, OSError, ValueError)


def is_archive(path: Path) -> bool:
    """Whether a file is a real tar, compressed or not."""
    try:
        with tarfile.open(path) as tar:
            return tar.next() is not None
    except BROKEN:
        return False


def unpack(path: Path, folder: Path) -> list[Path]:
    """Writes the members of a tar below a new folder.

    Returns:
        The files, in the order of the archive.

    Raises:
        WeightsError: a member is a link or device, or its name leads out of the folder; the archive is damaged, or
            unpacks to far more than its size. Members before the refused one stay in the folder.
    """
    left = MAX_RATIO * path.stat().st_size + SLACK_BYTES
    files: list[Path] = []
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                _check_member(path, member, len(files))
                left -= member.size
                if left < 0:
                    raise WeightsError(f"{path}: unpacks to more than {MAX_RATIO} times its size; do not use this file")
                target = folder / member.name
                if member.isdir():
                    continue
                if target in files:
                    raise WeightsError(f"{path}: contains {printable(member.name)} twice; do not use this file")
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(tar, member, target)
                files.append(target)
    except BROKEN as error:
        raise WeightsError(f"{path}: damaged archive ({printable(str(error))}); fetch it again") from error
    return files


def refuse(path: Path) -> NoReturn:
    """Refuses an archive where a file of weights is expected.

    Raises:
        WeightsError: always; names a dangerous member, if there is one.
    """
    names: list[str] = []
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                _check_member(path, member, len(names))
                names.append(member.name)
    except BROKEN as error:
        raise WeightsError(f"{path}: damaged archive ({printable(str(error))}); fetch it again") from error
    if set(names) >= OLD_TORCH:
        raise WeightsError(f"{path}: is of a torch before 0.2 (tar format), which is not read; fetch a later file")
    shown = printable(", ".join(names[:3]))
    raise WeightsError(f"{path}: is an archive ({shown}), not a file of weights; unpack it and name the file in it")


def unsafe_name(name: str) -> str:
    """Why the name of a member cannot be trusted, or ""."""
    parts = name.replace("\\", "/").split("/")
    if not name.strip("/\\ "):
        return "has no name"
    if parts[0] == "" or parts[0][1:2] == ":":
        return "has an absolute name"
    if ".." in (part.strip() for part in parts):
        return "leads out of the archive ('..' in its name)"
    if "\\" in name or any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in name):
        return "has control characters in its name"
    return ""


def _check_member(path: Path, member: tarfile.TarInfo, number: int) -> None:
    problem = unsafe_name(member.name)
    if member.issym() or member.islnk():
        problem = f"is a link to {printable(member.linkname)}"
    elif not (member.isreg() or member.isdir()) or member.issparse():
        problem = "is a device, pipe or sparse file"
    elif number >= MAX_MEMBERS:
        problem = f"is one of more than {MAX_MEMBERS}"
    if problem:
        raise WeightsError(f"{path}: the member {printable(member.name)} {problem}; do not use this file")


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"{PurePosixPath(member.name).name} has no content")
    with content, target.open("xb") as file:
        while block := content.read(BLOCK_BYTES):
            file.write(block)
