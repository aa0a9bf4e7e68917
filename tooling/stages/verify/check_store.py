"""The checks of a verification while it runs: what files show waits on disk until they are compared with each other.

A check takes 30 kB, nearly all of it pictures and embeddings as text; memory holds the rest, a few hundred bytes.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from tooling.stages.verify.file_check import FileCheck
from tooling.workspace.files import naming_full_disk

ON_DISK = ("descriptors", "mean_picture", "face", "views", "identity", "mouth", "traces")


class CheckStore(Mapping[str, FileCheck]):
    """Path -> check, in order of the paths, whichever was checked first. What is changed in a check's findings and
    measurements is kept, what is changed in the rest is not.

    Args:
        folder: on whose disk the checks wait, in a file without a name, so that none is left.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  it is closed by `close`
        self._kept: dict[str, tuple[FileCheck, int, int]] = {}  # without what is on disk; where that begins and ends

    def close(self) -> None:
        """Gives the disk back."""
        self._file.close()

    def keep(self, check: FileCheck) -> None:
        """Takes a check, instead of an earlier one of its file.

        Raises:
            DiskFullError: the disk of the folder is full.
        """
        shown: dict[str, Any] = {name: getattr(check, name) for name in ON_DISK}
        with naming_full_disk(self._folder):
            start = self._file.seek(0, os.SEEK_END)
            self._file.write(msgspec.json.encode(shown))
            self._file.flush()
        nothing: dict[str, Any] = {name: {} if name == "traces" else "" for name in ON_DISK}
        self._kept[check.path] = replace(check, **nothing), start, self._file.tell()

    def __getitem__(self, path: str) -> FileCheck:
        check, start, end = self._kept[path]
        self._file.seek(start)
        whole = copy.copy(check)
        vars(whole).update(msgspec.json.decode(self._file.read(end - start)))
        return whole

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._kept))

    def __len__(self) -> int:
        return len(self._kept)
