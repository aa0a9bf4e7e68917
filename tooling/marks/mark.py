"""Marking what a stage has made, as the last step before it is published.

Files are marked one by one in the worker that made them. `Workspace.publish` takes nothing else, so that no command
can leave an unmarked fake in a workspace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from homologous_deepfake import SUBSETS, people_of
from tooling.marks.manifest import Ingredient, Mark, mark_file
from tooling.workspace.files import file_sha256
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord
from tooling.workspace.signing_keys import read_signing_keys


def mark_made(workspace: Workspace, record: FileRecord, staged: Mapping[str, Path]) -> tuple[FileRecord, Path]:
    """Marks the media file of a finished record, writing under `workspace.staging_path`.

    Args:
        record: of the file before it is marked.
        staged: where its files lie now, by name.

    Returns:
        The record of the marked file, and where it lies now.

    Raises:
        WorkspaceError, InputError: no keys, or the file cannot be marked; see `read_signing_keys` and `mark_file`.
    """
    mark, target = mark_of(workspace, record), workspace.staging_path(record.path)
    keys = read_signing_keys(workspace.keys_path, workspace.settings.keys.timestamp_server)
    mark_file(staged[record.path], mark, keys, target=target)
    marked = replace(
        record,
        sha256=file_sha256(target),
        num_bytes=target.stat().st_size,
        unmarked_sha256=record.sha256,
        digital_source_type=mark.source_type,
    )
    return marked, target


def mark_of(workspace: Workspace, record: FileRecord) -> Mark:
    """The mark of a file: the target's clip is its parent, the source's a component.

    Clips that the workspace does not have (after an import of fakes alone) are not named.
    """
    method, people = SUBSETS[record.subset].method, people_of(record.sample_id)
    if method == "real" or not people:
        return Mark(record.path, method, record.generator)
    clips = workspace.records("raw_video")
    ingredients = tuple(
        Ingredient(clips[name].path, clips[name].sha256, "componentOf" if number else "parentOf")
        for number, name in enumerate(f"raw_video/{person}" for person in people)
        if name in clips
    )
    return Mark(record.path, method, record.generator, ingredients)
